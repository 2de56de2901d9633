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

variable "keys" {
  description = "Secrets by what they are for; more than one while a key is rotated (terraform/README.md): the one in use first, for signing the current one first. A seal key that was rotated is NAME@SIZE, with the ledger's size then"
  type = object({
    signing    = optional(list(string), ["ledger-key"])
    encryption = optional(list(string), ["kek"])
    seal       = optional(list(string), ["seal-key"])
    command    = optional(list(string), ["command-key"])
    pepper     = optional(list(string), ["pepper"])
  })
  default  = {}
  nullable = false
}
