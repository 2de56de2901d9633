variable "vault_uri" {
  description = "https://NAME.vault.azure.net, without a slash at the end"
  type        = string

  validation {
    condition     = can(regex("^https://[a-z0-9-]{3,24}[.]vault[.]azure[.]net$", var.vault_uri))
    error_message = "vault_uri looks like https://NAME.vault.azure.net."
  }
}

variable "domain" {
  description = "The Container Apps environment's default domain"
  type        = string
}

variable "apps" {
  description = "Names of the container apps by service"
  type        = map(string)
}

variable "client_ids" {
  description = "Client ids of the managed identities: one for each service, and secrets for the job"
  type        = map(string)
}

variable "networks" {
  description = "Networks whose connections the services take: the apps' own and the platform's"
  type        = list(string)

  validation {
    condition     = length(var.networks) > 0 && alltrue([for net in var.networks : can(cidrhost(net, 0)) && !endswith(net, "/0")])
    error_message = "networks are networks such as 10.40.0.0/23, and not all of the world."
  }
}

variable "proxies" {
  description = "Networks of the proxies between the client and the gateway; their X-Forwarded-For is believed"
  type        = list(string)

  validation {
    condition     = length(var.proxies) > 0 && alltrue([for net in var.proxies : can(cidrhost(net, 0)) && !endswith(net, "/0")])
    error_message = "proxies are networks such as 10.40.0.0/23, and not all of the world."
  }
}

variable "store_kind" {
  description = "vcore (Azure DocumentDB cluster) or ru (Cosmos DB account with request units)"
  type        = string

  validation {
    condition     = contains(["vcore", "ru"], var.store_kind)
    error_message = "store_kind is vcore or ru."
  }
}

variable "store_ids" {
  description = "Resource ids of the databases by what is in them: ledger, patients, keys, gateway"
  type        = map(string)
}

variable "store_suffix" {
  description = "What the names of secrets with database URIs end with: empty for the first region, -b for the second, whose databases are copies"
  type        = string
  default     = ""
}

variable "replica_ids" {
  description = "Resource ids of the second region's copies"
  type        = map(string)
  default     = {}
}

variable "ledger_origin" {
  description = "The ledger's name: stands in each record and in its keys, for ever"
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{1,64}$", var.ledger_origin))
    error_message = "ledger_origin is a name of 1 to 64 letters, digits, dots, underscores and dashes."
  }
}

variable "anchors" {
  description = "Containers that checkpoints are anchored in, by URL"
  type        = list(string)

  validation {
    condition     = length(var.anchors) > 0 && alltrue([for url in var.anchors : startswith(url, "https://")])
    error_message = "at least one anchor, by its https URL: a container has no disk that would remember what was signed."
  }
}

variable "application_insights" {
  description = "Connection string of Application Insights: an address and a key that may only send"
  type        = string
}

variable "trace_ratio" {
  description = "Share of traces that are sampled"
  type        = number
  default     = 0.1

  validation {
    condition     = var.trace_ratio >= 0 && var.trace_ratio <= 1
    error_message = "trace_ratio is 0 to 1."
  }
}

variable "otlp_endpoint" {
  description = "A collector inside the network that takes metrics and traces by OTLP; empty for none"
  type        = string
  default     = ""
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

  validation {
    condition     = alltrue([for use in [var.keys.signing, var.keys.encryption, var.keys.command, var.keys.pepper] : contains([1, 2], length(use))])
    error_message = "each of keys is one secret, or two while it is rotated."
  }

  validation {
    condition     = length(var.keys.seal) > 0 && alltrue([for place, it in var.keys.seal : can(regex(place == 0 ? "^[a-z0-9-]+$" : "^[a-z0-9-]+(@[0-9]+)?$", it))])
    error_message = "keys.seal is the seal key in use, then those before it, as NAME@SIZE."
  }
}

variable "witnesses" {
  description = "Witnesses that cosign checkpoints, as URL,VKEY"
  type        = list(string)
  default     = []
}

variable "oidc" {
  description = "Issuer, audiences and scope map (FROM=TO) of bearer tokens; null for none"
  type = object({
    issuer    = string
    audiences = list(string)
    scope_map = optional(list(string), [])
  })
  default = null
}

variable "cors_origins" {
  description = "Origins whose pages may call the API"
  type        = list(string)
  default     = []
}
