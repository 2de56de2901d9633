# One managed identity for each service, and one for the job that makes secrets. What each may do is granted where
# the thing is that it may touch: single secrets in module secrets, images in registry, blobs in anchor, databases in data.

variable "base" {
  description = "Prefix of names"
  type        = string
}

variable "location" {
  description = "Azure region"
  type        = string
}

variable "resource_group" {
  description = "Name of the resource group"
  type        = string
}

variable "tags" {
  description = "Tags of everything"
  type        = map(string)
}

locals {
  names = toset(["gateway", "patient-service", "audit-service", "projections", "secrets"])
}

resource "azurerm_user_assigned_identity" "this" {
  for_each = local.names

  name                = "${var.base}-${each.key}"
  location            = var.location
  resource_group_name = var.resource_group
  tags                = var.tags
}

output "ids" {
  description = "Resource ids by service"
  value       = { for name, identity in azurerm_user_assigned_identity.this : name => identity.id }
}

output "client_ids" {
  description = "Client ids by service"
  value       = { for name, identity in azurerm_user_assigned_identity.this : name => identity.client_id }
}

output "principal_ids" {
  description = "Principals by service"
  value       = { for name, identity in azurerm_user_assigned_identity.this : name => identity.principal_id }
}
