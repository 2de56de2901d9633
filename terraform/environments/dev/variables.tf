variable "subscription_id" {
  description = "Azure subscription"
  type        = string
}

variable "tenant_id" {
  description = "Its tenant"
  type        = string
}

variable "stage" {
  description = "foundation, secrets or services: a first deployment goes through all three"
  type        = string
  default     = "services"
}

variable "images" {
  description = "Images in the registry by service and operator: NAME@sha256:…"
  type        = map(string)
  default     = {}
}

variable "alert_addresses" {
  description = "Mail addresses of who is on call"
  type        = list(string)
}

variable "client_networks" {
  description = "Networks that may reach the gateway; none for all"
  type        = list(string)
  default     = []
}
