output "environment_id" {
  description = "The Container Apps environment"
  value       = azurerm_container_app_environment.this.id
}

output "domain" {
  description = "Its default domain"
  value       = azurerm_container_app_environment.this.default_domain
}

output "static_ip" {
  description = "The address of its ingress: public, or inside the network"
  value       = azurerm_container_app_environment.this.static_ip_address
}

output "app_ids" {
  description = "The apps by service"
  value       = { for service, app in azurerm_container_app.this : service => app.id }
}
