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

variable "address_space" {
  description = "The virtual network"
  type        = string
}

variable "subnets" {
  description = "Its parts, as module addresses makes them"
  type        = object({ apps = string, edge = string, endpoints = string, api_management = string })
}

variable "edge" {
  description = "What stands before the gateway: none, application_gateway or front_door"
  type        = string
}

variable "client_networks" {
  description = "Without an edge: networks that may reach the gateway; none for the internet"
  type        = list(string)
}

variable "ddos_protection_plan_id" {
  description = "A DDoS protection plan for the network's public addresses; empty for the platform's basic protection"
  type        = string
}

variable "tags" {
  description = "Tags of everything"
  type        = map(string)
}

variable "egress" {
  description = "What the services may reach besides Azure's own: networks or service tags, and ports. Witnesses, further anchors, a provider of tokens other than Entra ID and a collector need theirs here"
  type        = list(object({ to = string, port = optional(number, 443) }))
  default     = []

  validation {
    condition     = alltrue([for it in var.egress : !contains(["*", "0.0.0.0/0", "::/0", "Internet"], it.to)])
    error_message = "egress names networks or service tags, and not all of the world."
  }
}
