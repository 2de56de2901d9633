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

variable "retention_days" {
  description = "Days for which logs and traces are kept"
  type        = number
}

variable "daily_quota_gb" {
  description = "GB of logs a day, after which they are dropped; -1 for no bound"
  type        = number
}

variable "alert_addresses" {
  description = "Mail addresses of who is on call"
  type        = list(string)
}

variable "alert_webhooks" {
  description = "Webhooks of who is on call, by name"
  type        = map(string)
}

variable "tags" {
  description = "Tags of everything"
  type        = map(string)
}
