output "id" {
  description = "The vault"
  value       = azurerm_key_vault.this.id
}

output "name" {
  description = "Its name"
  value       = azurerm_key_vault.this.name
}

# No service starts before it may read, nor the job before it may write.
output "ready" {
  description = "Known when the vault can be used"
  value = concat(
    [for assignment in azurerm_role_assignment.read : assignment.id],
    [for endpoint in azurerm_private_endpoint.this : endpoint.id],
    [azurerm_role_assignment.job.id],
  )
}
