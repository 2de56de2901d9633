# The private registry from which the apps take their images. Images come into it by import, by digest.

resource "azurerm_container_registry" "this" {
  #checkov:skip=CKV_AZURE_164:trust policies are Docker Content Trust, which the service retires; images are named by digest and carry provenance attestations
  #checkov:skip=CKV_AZURE_165:one region serves; the second region's variable replicates it where there is one
  #checkov:skip=CKV_AZURE_166:quarantine is a preview that needs a scanner to release images; the pipeline scans before it imports
  #checkov:skip=CKV_AZURE_233:dev has one zone; prod sets zone_redundant, which checkov does not see
  name                          = var.name
  location                      = var.location
  resource_group_name           = var.resource_group
  sku                           = "Premium"
  admin_enabled                 = false
  anonymous_pull_enabled        = false
  public_network_access_enabled = false
  # So that `az acr import`, a trusted service's work, reaches it.
  network_rule_bypass_option = "AzureServices"
  data_endpoint_enabled      = true
  zone_redundancy_enabled    = var.zone_redundant
  retention_policy_in_days   = 30
  tags                       = var.tags

  dynamic "georeplications" {
    for_each = var.replica_locations
    content {
      location                = georeplications.value
      zone_redundancy_enabled = var.zone_redundant
      tags                    = var.tags
    }
  }
}

resource "azurerm_private_endpoint" "this" {
  for_each = var.endpoints

  name                = "${each.value.base}-registry"
  location            = each.value.location
  resource_group_name = each.value.resource_group
  subnet_id           = each.value.subnet_id
  tags                = var.tags

  private_service_connection {
    name                           = "registry"
    private_connection_resource_id = azurerm_container_registry.this.id
    subresource_names              = ["registry"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "registry"
    private_dns_zone_ids = [each.value.zone_id]
  }
}

# Each service may take images, and nobody may push with a key.
resource "azurerm_role_assignment" "pull" {
  for_each = var.pullers

  scope                = azurerm_container_registry.this.id
  role_definition_name = "AcrPull"
  principal_id         = each.value
  principal_type       = "ServicePrincipal"
}
