variable "project" {
  description = "Short name of the deployment: 2 to 8 letters and digits"
  type        = string
}

variable "environment" {
  description = "dev, prod, …: 2 to 4 letters and digits"
  type        = string
}

variable "subscription_id" {
  description = "Azure subscription"
  type        = string
}

variable "tenant_id" {
  description = "Its tenant"
  type        = string
}

variable "location" {
  description = "Azure region"
  type        = string
}

variable "address_space" {
  description = "The virtual network: private, /20 or larger"
  type        = string
}

variable "stage" {
  description = "foundation: everything but apps; secrets: also the job that makes secrets; services: everything. A first deployment goes through all three"
  type        = string
  default     = "services"

  validation {
    condition     = contains(["foundation", "secrets", "services"], var.stage)
    error_message = "stage is foundation, secrets or services."
  }
}

variable "images" {
  description = "Images in the registry by service (gateway, patient-service, audit-service, projections, operator): NAME@sha256:…"
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for image in values(var.images) : can(regex("^[a-z0-9/._-]+@sha256:[0-9a-f]{64}$", image))])
    error_message = "images are named by digest: NAME@sha256:…"
  }
}

variable "ledger_origin" {
  description = "The ledger's name: stands in each record and in its keys, for ever. A restored ledger gets another"
  type        = string
}

variable "locked" {
  description = "Whether the databases are locked against deletion"
  type        = bool
  default     = true
}

variable "zone_redundant" {
  description = "Whether apps, databases and registry survive the loss of a zone"
  type        = bool
}

variable "scale" {
  description = "By service: replicas at least and at most, cores, and requests under way for which another replica is added"
  type        = map(object({ min = number, max = number, cpu = number, requests = optional(number, 100) }))
}

variable "store_kind" {
  description = "vcore: Azure DocumentDB clusters; ru: Cosmos DB accounts with request units"
  type        = string
  default     = "vcore"
}

variable "clusters" {
  description = "vcore: tier, storage and shards by what is in the database: ledger, patients, keys, gateway"
  type        = map(object({ tier = string, storage_gb = number, shards = optional(number, 1) }))
  default     = {}
}

variable "serverless" {
  description = "ru: pay by request; for one region, and for trying things out"
  type        = bool
  default     = false
}

variable "max_throughput" {
  description = "ru: the ledger's request units a second at most"
  type        = number
  default     = 4000
}

variable "restore" {
  description = "vcore: databases that are made from another's backup. Read terraform/README.md first"
  type        = map(object({ source_id = string, point_in_time = string }))
  default     = {}
}

variable "edge" {
  description = "What stands before the gateway: none, application_gateway or front_door"
  type        = string

  validation {
    condition     = contains(["none", "application_gateway", "front_door"], var.edge)
    error_message = "edge is none, application_gateway or front_door."
  }
}

variable "edge_networks" {
  description = "Networks of proxies before the gateway that are not in this virtual network, such as a Front Door's or an API Management's; their X-Forwarded-For is believed"
  type        = list(string)
  default     = []
}

variable "host_name" {
  description = "The public name of the edge; empty without one"
  type        = string
  default     = ""
}

variable "certificate_name" {
  description = "Name of that name's certificate in the vault"
  type        = string
  default     = "public-certificate"
}

variable "client_networks" {
  description = "Networks that may reach the public address; none for all"
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for net in var.client_networks : can(cidrhost(net, 0))])
    error_message = "client_networks are networks such as 203.0.113.0/24."
  }
}

variable "rate_per_minute" {
  description = "Edge: requests of one address in a minute, before the gateway's own limits"
  type        = number
  default     = 6000
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
  description = "A second region with copies of the databases: where it is, its virtual network, and whether it serves instead of the first; null for none"
  type        = object({ location = string, address_space = string, serves = bool })
  default     = null
}

variable "anchor_retention_days" {
  description = "Days for which a checkpoint can be neither deleted nor overwritten"
  type        = number
}

variable "anchor_locked" {
  description = "Whether that policy is locked, for ever"
  type        = bool
}

variable "further_anchors" {
  description = "Further containers for checkpoints, by URL, such as one in a subscription of compliance"
  type        = list(string)
  default     = []
}

variable "compliance_principal_ids" {
  description = "Principals of compliance, who may read the anchor, by a name of one's own"
  type        = map(string)
  default     = {}
}

variable "witnesses" {
  description = "Witnesses that cosign checkpoints, as URL,VKEY"
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

variable "oidc" {
  description = "Issuer, audiences and scope map (FROM=TO) of bearer tokens; null for none"
  type        = object({ issuer = string, audiences = list(string), scope_map = optional(list(string), []) })
  default     = null
}

variable "cors_origins" {
  description = "Origins whose pages may call the API"
  type        = list(string)
  default     = []
}

variable "trace_ratio" {
  description = "Share of traces that are sampled"
  type        = number
  default     = 0.1
}

variable "otlp_endpoint" {
  description = "A collector inside the network that takes metrics and traces by OTLP; empty for none"
  type        = string
  default     = ""
}

variable "log_retention_days" {
  description = "Days for which logs and traces are kept"
  type        = number
}

variable "log_daily_quota_gb" {
  description = "GB of logs a day, after which they are dropped; -1 for no bound"
  type        = number
  default     = -1
}

variable "alert_addresses" {
  description = "Mail addresses of who is on call"
  type        = list(string)
}

variable "alert_webhooks" {
  description = "Webhooks of who is on call, by name"
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "Further tags of everything"
  type        = map(string)
  default     = {}
}

variable "egress" {
  description = "What the services may reach besides Azure's own: networks or service tags, and ports. Witnesses, further anchors, a provider of tokens other than Entra ID and a collector need theirs here"
  type        = list(object({ to = string, port = optional(number, 443) }))
  default     = []

  validation {
    condition     = alltrue([for it in var.egress : !contains(["*", "0.0.0.0/0", "::/0", "Internet"], it.to)])
    error_message = "egress names networks or service tags, and not all of the world."
  }

  validation {
    condition     = length(var.egress) > 0 || length(var.witnesses) + length(var.further_anchors) == 0 && var.otlp_endpoint == ""
    error_message = "witnesses, further_anchors and otlp_endpoint are not to be reached without egress."
  }
}
