output "id" {
  description = "The registry"
  value       = azurerm_container_registry.this.id
}

output "server" {
  description = "Its address, with which names of images begin"
  value       = azurerm_container_registry.this.login_server
}

# Nobody pulls before they may.
output "ready" {
  description = "Known when identities may take images"
  value       = [for assignment in azurerm_role_assignment.pull : assignment.id]
}
