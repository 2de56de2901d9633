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

variable "subnet_id" {
  description = "Subnet of the environment"
  type        = string
}

variable "internal" {
  description = "Whether the environment has an address inside the network alone, because something stands before it"
  type        = bool
}

variable "zone_redundant" {
  description = "Whether replicas are spread over zones"
  type        = bool
}

variable "stage" {
  description = "foundation: no apps; secrets: the job that makes secrets; services: everything"
  type        = string
}

variable "names" {
  description = "Names of the apps by service"
  type        = map(string)
}

variable "services" {
  description = "What each service is told, as module settings makes it"
  type = map(object({
    port    = number
    ingress = string
    args    = list(string)
    folders = list(string)
    probes  = object({ startup = string, liveness = string, readiness = string })
    env     = map(string)
  }))
}

variable "jobs" {
  description = "Jobs that are started by hand, as module settings makes them"
  type        = map(object({ identity = string, command = list(string), env = map(string) }))
}

variable "scale" {
  description = "By service: replicas at least and at most, cores of each (memory is twice that in GiB), and requests under way for which another is added"
  type        = map(object({ min = number, max = number, cpu = number, requests = optional(number, 100) }))

  validation {
    condition     = alltrue([for service in ["gateway", "patient-service", "audit-service", "projections"] : contains(keys(var.scale), service)])
    error_message = "scale says it for each of gateway, patient-service, audit-service, projections."
  }

  validation {
    condition     = alltrue([for it in values(var.scale) : it.min >= 1 && it.max >= it.min])
    error_message = "at least one replica of each service, and max is not below min."
  }
}

variable "images" {
  description = "Images by service, and operator: NAME@sha256:… within the registry"
  type        = map(string)
}

variable "registry_server" {
  description = "The registry's address"
  type        = string
}

variable "identity_ids" {
  description = "Managed identities by service"
  type        = map(string)
}

variable "client_networks" {
  description = "Networks that may reach the gateway; none for all"
  type        = list(string)
}

variable "ready" {
  description = "Known when roles, endpoints and databases are there"
  type        = list(string)
}

variable "tags" {
  description = "Tags of everything"
  type        = map(string)
}
