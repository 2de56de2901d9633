variable "name" {
  description = "Name of the storage account"
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

variable "subscription" {
  description = "The subscription, as /subscriptions/ID"
  type        = string
}

variable "roles" {
  description = "What the names of the roles begin with that terraform/bootstrap has made"
  type        = string
}

variable "replication" {
  description = "LRS, ZRS, GRS, GZRS"
  type        = string
}

variable "retention_days" {
  description = "Days for which a checkpoint can be neither deleted nor overwritten"
  type        = number

  validation {
    condition     = var.retention_days >= 1 && var.retention_days <= 146000
    error_message = "retention_days is 1 to 146000."
  }
}

variable "locked" {
  description = "Whether the policy is locked, which cannot be undone: the account cannot be deleted while a checkpoint is within its period"
  type        = bool
}

variable "endpoints" {
  description = "Private endpoints by region: where they are"
  type        = map(object({ base = string, location = string, resource_group = string, subnet_id = string, zone_id = string }))
}

variable "keeper_principal_id" {
  description = "Principal of audit-service"
  type        = string
}

variable "reader_principal_ids" {
  description = "Principals of compliance, by a name of one's own"
  type        = map(string)
}

variable "tags" {
  description = "Tags of everything"
  type        = map(string)
}
