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

variable "host_name" {
  description = "The public name"
  type        = string
}

variable "edge" {
  description = "application_gateway or front_door"
  type        = string
  default     = "application_gateway"
}

variable "edge_networks" {
  description = "Networks of proxies that are not in the virtual network"
  type        = list(string)
  default     = []
}

variable "client_networks" {
  description = "Networks that may reach the public address; none for all"
  type        = list(string)
  default     = []
}

variable "ddos_protection_plan_id" {
  description = "A DDoS protection plan; empty for the platform's basic protection"
  type        = string
  default     = ""
}

variable "api_management" {
  description = "An API Management before the edge; null for none"
  type        = object({ publisher_name = string, publisher_email = string, sku_name = string })
  default     = null
}

variable "secondary" {
  description = "A second region; null for none"
  type        = object({ location = string, address_space = string, serves = bool })
  default     = null
}

variable "store_kind" {
  description = "vcore or ru"
  type        = string
  default     = "vcore"
}

variable "restore" {
  description = "Databases that are made from another's backup"
  type        = map(object({ source_id = string, point_in_time = string }))
  default     = {}
}

variable "ledger_origin" {
  description = "The ledger's name, for ever"
  type        = string
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

variable "witnesses" {
  description = "Witnesses that cosign checkpoints, as URL,VKEY"
  type        = list(string)
  default     = []
}

variable "further_anchors" {
  description = "Further containers for checkpoints, by URL"
  type        = list(string)
  default     = []
}

variable "compliance_principal_ids" {
  description = "Principals of compliance, who may read the anchor, by a name of one's own"
  type        = map(string)
  default     = {}
}

variable "oidc" {
  description = "Issuer, audiences and scope map of bearer tokens; null for none"
  type        = object({ issuer = string, audiences = list(string), scope_map = optional(list(string), []) })
  default     = null
}

variable "otlp_endpoint" {
  description = "A collector inside the network that takes metrics by OTLP; empty for none"
  type        = string
  default     = ""
}

variable "egress" {
  description = "What the services may reach besides Azure's own: networks or service tags, and ports. Witnesses, further anchors, a provider of tokens other than Entra ID and a collector need theirs here"
  type        = list(object({ to = string, port = optional(number, 443) }))
  default     = []
}
