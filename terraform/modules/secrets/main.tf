# The key vault: private, by roles alone, purge-protected. Terraform knows the names of the secrets and never a value:
# a job inside the network makes them (operator/azure-secrets).

resource "azurerm_key_vault" "this" {
  #checkov:skip=CKV_AZURE_189:checkov looks for the older argument; public_network_access_enabled is false here, which terraform/checks proves on the plan
  name                          = var.name
  location                      = var.location
  resource_group_name           = var.resource_group
  tenant_id                     = var.tenant_id
  sku_name                      = "standard"
  rbac_authorization_enabled    = true
  purge_protection_enabled      = true
  soft_delete_retention_days    = 90
  public_network_access_enabled = false
  tags                          = var.tags

  network_acls {
    # Application Gateway reads its certificate as a trusted service.
    bypass         = var.trusted_services ? "AzureServices" : "None"
    default_action = "Deny"
  }
}

resource "azurerm_private_endpoint" "this" {
  for_each = var.endpoints

  name                = "${each.value.base}-vault"
  location            = each.value.location
  resource_group_name = each.value.resource_group
  subnet_id           = each.value.subnet_id
  tags                = var.tags

  private_service_connection {
    name                           = "vault"
    private_connection_resource_id = azurerm_key_vault.this.id
    subresource_names              = ["vault"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "vault"
    private_dns_zone_ids = [each.value.zone_id]
  }
}

# The job makes and rotates secrets, so it needs the vault. It runs when somebody starts it, and takes no requests.
resource "azurerm_role_assignment" "job" {
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Secrets Officer"
  principal_id         = var.job_principal_id
  principal_type       = "ServicePrincipal"
}

# Each service reads its own secrets, one by one. A scope needs the secret to be there: first the job, then this.
resource "azurerm_role_assignment" "read" {
  for_each = var.readable

  scope                = "${azurerm_key_vault.this.id}/secrets/${each.value.secret}"
  role_definition_name = "Key Vault Secrets User"
  principal_id         = var.principal_ids[each.value.service]
  principal_type       = "ServicePrincipal"
}

# The vault writes to its log 30 days before a secret expires; the job gives each a year. Expired ones work on: this is
# what reminds of rotating them.
resource "azurerm_monitor_scheduled_query_rules_alert_v2" "expiry" {
  name                  = "${var.name}-secret-expires"
  description           = "A secret expires within 30 days: rotate it (terraform/README.md, Rotating keys)"
  location              = var.location
  resource_group_name   = var.resource_group
  scopes                = [var.workspace_id]
  severity              = 2
  evaluation_frequency  = "P1D"
  window_duration       = "P1D"
  skip_query_validation = true
  tags                  = var.tags

  criteria {
    query                   = <<-KQL
      AzureDiagnostics
      | where ResourceProvider == "MICROSOFT.KEYVAULT"
      | where OperationName in ("SecretNearExpiryEventGridNotification", "SecretExpiredEventGridNotification")
    KQL
    operator                = "GreaterThan"
    threshold               = 0
    time_aggregation_method = "Count"
  }

  action {
    action_groups = [var.action_group_id]
  }
}

# Somebody reads or changes secrets who is no service.
resource "azurerm_monitor_scheduled_query_rules_alert_v2" "refused" {
  name                  = "${var.name}-refused"
  description           = "The vault refused somebody: a role is missing, or somebody tries secrets that are not theirs"
  location              = var.location
  resource_group_name   = var.resource_group
  scopes                = [var.workspace_id]
  severity              = 1
  evaluation_frequency  = "PT5M"
  window_duration       = "PT5M"
  skip_query_validation = true
  tags                  = var.tags

  criteria {
    query                   = <<-KQL
      AzureDiagnostics
      | where ResourceProvider == "MICROSOFT.KEYVAULT"
      | where httpStatusCode_d == 403
    KQL
    operator                = "GreaterThan"
    threshold               = 0
    time_aggregation_method = "Count"
  }

  action {
    action_groups = [var.action_group_id]
  }
}
