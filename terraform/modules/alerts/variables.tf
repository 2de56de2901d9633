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

variable "app_ids" {
  description = "The apps by service"
  type        = map(string)
}

variable "cluster_ids" {
  description = "Database clusters by what is in them; none where they are accounts"
  type        = map(string)
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
