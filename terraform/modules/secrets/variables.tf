variable "name" {
  description = "Name of the vault"
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

variable "tenant_id" {
  description = "Tenant whose identities the vault knows"
  type        = string
}

variable "trusted_services" {
  description = "Whether Azure's own services may come in, which an Application Gateway needs for its certificate"
  type        = bool
}

variable "endpoints" {
  description = "Private endpoints by region: where they are"
  type        = map(object({ base = string, location = string, resource_group = string, subnet_id = string, zone_id = string }))
}

variable "readable" {
  description = "Which service may read which secret; empty until the job has made them"
  type        = map(object({ service = string, secret = string }))
}

variable "principal_ids" {
  description = "Principals by service"
  type        = map(string)
}

variable "job_principal_id" {
  description = "Principal of the job that makes secrets"
  type        = string
}

variable "workspace_id" {
  description = "Log Analytics workspace"
  type        = string
}

variable "action_group_id" {
  description = "Who is woken"
  type        = string
}

variable "tags" {
  description = "Tags of everything"
  type        = map(string)
}
