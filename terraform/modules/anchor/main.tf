# Where checkpoints are kept that nobody can take back: a container with a locked retention policy. Best in a
# subscription of compliance; wherever it is, not even its owner can delete or overwrite within the period.

resource "azurerm_storage_account" "this" {
  #checkov:skip=CKV_AZURE_33:there are no queues; the queue service is not reachable
  #checkov:skip=CKV2_AZURE_1:checkpoints are public by their nature, hashes and signatures; a key of one's own protects nothing more
  #checkov:skip=CKV_AZURE_36:no service of Azure needs it; the audit service comes through the private endpoint
  #checkov:skip=CKV_AZURE_206:dev has one zone and one copy; prod has ZRS, or GZRS with a second region
  #checkov:skip=CKV2_AZURE_33:the private endpoint is below; checkov does not see the resource's for_each
  name                              = var.name
  location                          = var.location
  resource_group_name               = var.resource_group
  account_tier                      = "Standard"
  account_kind                      = "StorageV2"
  account_replication_type          = var.replication
  min_tls_version                   = "TLS1_2"
  https_traffic_only_enabled        = true
  public_network_access_enabled     = false
  allow_nested_items_to_be_public   = false
  shared_access_key_enabled         = false
  local_user_enabled                = false
  default_to_oauth_authentication   = true
  cross_tenant_replication_enabled  = false
  infrastructure_encryption_enabled = true
  allowed_copy_scope                = "AAD"
  tags                              = var.tags

  blob_properties {
    versioning_enabled = true
    delete_retention_policy {
      days = 90
    }
    container_delete_retention_policy {
      days = 90
    }
  }

  network_rules {
    default_action = "Deny"
    bypass         = ["None"]
  }

  sas_policy {
    expiration_period = "00.01:00:00"
    expiration_action = "Block"
  }
}

resource "azurerm_storage_container" "checkpoints" {
  #checkov:skip=CKV2_AZURE_21:every read is in the diagnostic setting's StorageRead log, which checkov does not know
  name                  = "checkpoints"
  storage_account_id    = azurerm_storage_account.this.id
  container_access_type = "private"
}

# Locking cannot be undone, only the period prolonged.
resource "azurerm_storage_container_immutability_policy" "checkpoints" {
  storage_container_resource_manager_id = azurerm_storage_container.checkpoints.id
  immutability_period_in_days           = var.retention_days
  locked                                = var.locked
  protected_append_writes_all_enabled   = false
  protected_append_writes_enabled       = false
}

resource "azurerm_private_endpoint" "this" {
  for_each = var.endpoints

  name                = "${each.value.base}-anchor"
  location            = each.value.location
  resource_group_name = each.value.resource_group
  subnet_id           = each.value.subnet_id
  tags                = var.tags

  private_service_connection {
    name                           = "blob"
    private_connection_resource_id = azurerm_storage_account.this.id
    subresource_names              = ["blob"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "blob"
    private_dns_zone_ids = [each.value.zone_id]
  }
}

# Create, read and list; no delete, no overwrite, no policy (terraform/bootstrap makes the role).
data "azurerm_role_definition" "keep" {
  name  = "${var.roles}-keeps-checkpoints"
  scope = var.subscription
}

resource "azurerm_role_assignment" "keep" {
  scope              = azurerm_storage_container.checkpoints.id
  role_definition_id = data.azurerm_role_definition.keep.id
  principal_id       = var.keeper_principal_id
  principal_type     = "ServicePrincipal"
}

# Compliance reads what is there with roles of its own.
resource "azurerm_role_assignment" "read" {
  for_each = var.reader_principal_ids

  scope                = azurerm_storage_container.checkpoints.id
  role_definition_name = "Storage Blob Data Reader"
  principal_id         = each.value
}
