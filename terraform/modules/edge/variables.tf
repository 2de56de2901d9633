variable "kind" {
  description = "none, application_gateway or front_door"
  type        = string

  validation {
    condition     = contains(["none", "application_gateway", "front_door"], var.kind)
    error_message = "kind is none, application_gateway or front_door."
  }
}

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

variable "network_id" {
  description = "The virtual network"
  type        = string
}

variable "network_name" {
  description = "Its name"
  type        = string
}

variable "subnets" {
  description = "Its parts, as module addresses makes them"
  type        = object({ apps = string, edge = string, endpoints = string, api_management = string })
}

variable "apps_environment_id" {
  description = "The Container Apps environment"
  type        = string
}

variable "apps_domain" {
  description = "Its default domain"
  type        = string
}

variable "apps_static_ip" {
  description = "Its address in the network"
  type        = string
}

variable "gateway_fqdn" {
  description = "The gateway's name in it"
  type        = string
}

variable "host_name" {
  description = "The public name, whose certificate is in the vault"
  type        = string
}

variable "vault_id" {
  description = "The key vault"
  type        = string
}

variable "vault_uri" {
  description = "Its address, without a slash at the end"
  type        = string
}

variable "certificate_name" {
  description = "Name of the public name's certificate in the vault"
  type        = string
}

variable "client_networks" {
  description = "Networks that may come in; none for all"
  type        = list(string)
}

variable "rate_per_minute" {
  description = "Requests of one address in a minute, before the gateway's own limits"
  type        = number
}

variable "ddos_protection_plan_id" {
  description = "A DDoS protection plan; empty for the platform's basic protection"
  type        = string
}

variable "api_management" {
  description = "An API Management before the public name: who publishes it, and its tier, such as StandardV2_1; null for none"
  type        = object({ publisher_name = string, publisher_email = string, sku_name = string })
}

variable "tags" {
  description = "Tags of everything"
  type        = map(string)
}
