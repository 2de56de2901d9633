output "public_ip" {
  description = "The Application Gateway's address, for the public name's DNS record; null where there is none"
  value       = one(azurerm_public_ip.edge[*].ip_address)
}

output "front_door_host" {
  description = "The Front Door's own name, for the public name's CNAME; null where there is none"
  value       = one(azurerm_cdn_frontdoor_endpoint.this[*].host_name)
}

output "diagnosed" {
  description = "Resources whose logs are to be kept, by names known before they are made"
  value = merge(
    local.is_application_gateway ? {
      "${var.base}-edge"     = azurerm_application_gateway.this[0].id
      "${var.base}-edge-nsg" = azurerm_network_security_group.edge[0].id
      "${var.base}-edge-ip"  = azurerm_public_ip.edge[0].id
    } : {},
    local.is_front_door ? { "${var.base}-front-door" = azurerm_cdn_frontdoor_profile.this[0].id } : {},
    var.api_management == null ? {} : { "${var.base}-api" = azurerm_api_management.this[0].id },
  )
}
