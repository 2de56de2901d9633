output "id" {
  description = "The storage account"
  value       = azurerm_storage_account.this.id
}

output "url" {
  description = "The container: https://ACCOUNT.blob.core.windows.net/checkpoints"
  value       = "${trimsuffix(azurerm_storage_account.this.primary_blob_endpoint, "/")}/${azurerm_storage_container.checkpoints.name}"
}

output "ready" {
  description = "Known when checkpoints can be kept"
  value = concat(
    [azurerm_role_assignment.keep.id, azurerm_storage_container_immutability_policy.checkpoints.id],
    [for endpoint in azurerm_private_endpoint.this : endpoint.id],
  )
}
