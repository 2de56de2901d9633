output "id" {
  description = "The virtual network"
  value       = azurerm_virtual_network.this.id
}

output "name" {
  description = "Its name"
  value       = azurerm_virtual_network.this.name
}

output "apps_subnet_id" {
  description = "Container Apps environment"
  value       = azurerm_subnet.apps.id
  # Whoever is put there is behind its rules.
  depends_on = [azurerm_subnet_network_security_group_association.apps]
}

output "endpoints_subnet_id" {
  description = "Private endpoints"
  value       = azurerm_subnet.endpoints.id
  depends_on  = [azurerm_subnet_network_security_group_association.endpoints]
}

output "zone_ids" {
  description = "Private DNS zones by kind: vault, blob, registry, vcore, ru"
  value       = { for kind, zone in azurerm_private_dns_zone.this : kind => zone.id }
  depends_on  = [azurerm_private_dns_zone_virtual_network_link.this]
}

output "diagnosed" {
  description = "Resources whose logs are to be kept"
  value = {
    network   = azurerm_virtual_network.this.id
    apps      = azurerm_network_security_group.apps.id
    endpoints = azurerm_network_security_group.endpoints.id
  }
}
