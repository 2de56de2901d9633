# Which part of the address space is for what. No provider.

variable "address_space" {
  description = "The virtual network, /20 or larger, that no other network which it is to be joined with uses"
  type        = string

  validation {
    condition     = can(cidrhost(var.address_space, 0)) && try(cidrhost(var.address_space, 0) == split("/", var.address_space)[0], false)
    error_message = "address_space is a network such as 10.40.0.0/20, without host bits."
  }

  validation {
    condition     = try(tonumber(split("/", var.address_space)[1]) <= 20, false)
    error_message = "address_space is /20 or larger: the apps alone take a /23."
  }

  # RFC 1918. Container Apps keeps parts of 100.64.0.0/10 for itself.
  validation {
    condition     = anytrue([for net in ["10.", "192.168.", "172.16.", "172.17.", "172.18.", "172.19.", "172.20.", "172.21.", "172.22.", "172.23.", "172.24.", "172.25.", "172.26.", "172.27.", "172.28.", "172.29.", "172.30.", "172.31."] : startswith(var.address_space, net)])
    error_message = "address_space is a private network of RFC 1918."
  }
}

locals {
  bits = tonumber(split("/", var.address_space)[1])
}

output "subnets" {
  description = "Its parts: apps (Container Apps environment, a /23), edge (Application Gateway, a /24), endpoints (private endpoints, a /26), api_management (a /27)"
  value = {
    apps           = cidrsubnet(var.address_space, 23 - local.bits, 0)
    edge           = cidrsubnet(var.address_space, 24 - local.bits, 2)
    endpoints      = cidrsubnet(var.address_space, 26 - local.bits, 12)
    api_management = cidrsubnet(var.address_space, 27 - local.bits, 26)
  }
}

output "platform" {
  description = "Networks that the platform's own proxies have within a Container Apps environment with workload profiles"
  value       = ["100.100.0.0/17", "100.100.128.0/19", "100.100.160.0/19", "100.100.192.0/19"]
}
