# Names of everything, within the length and letters that each kind of resource allows. No provider.
#
# Names that are unique in all of Azure end with six digits of a hash of the subscription, so that two deployments
# of one project never want the same.

variable "project" {
  description = "Short name of the deployment, such as vitalog"
  type        = string
  default     = "vitalog"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,7}$", var.project))
    error_message = "project takes 2 to 8 lower-case letters and digits, a letter first: a key vault's name has 24 in all."
  }
}

variable "environment" {
  description = "dev, prod, …"
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,3}$", var.environment))
    error_message = "environment takes 2 to 4 lower-case letters and digits, a letter first."
  }
}

variable "region" {
  description = "Short name of the region's part: a for the first, b for the second"
  type        = string
  default     = "a"

  validation {
    condition     = can(regex("^[a-z]$", var.region))
    error_message = "region is one lower-case letter."
  }
}

variable "subscription_id" {
  description = "The subscription; only its hash shows"
  type        = string
}

locals {
  base   = "${var.project}-${var.environment}-${var.region}"
  plain  = "${var.project}${var.environment}${var.region}"
  unique = substr(sha256(lower(var.subscription_id)), 0, 6)

  # What the data is in: ledger, read models, key ring, the gateway's subscriptions.
  stores = toset(["ledger", "patients", "keys", "gateway"])
}

output "base" {
  description = "Prefix of names that need to be unique in their resource group alone"
  value       = local.base
}

output "key_vault" {
  description = "3 to 24 letters, digits and dashes; unique in Azure"
  value       = "${local.base}-${local.unique}"
}

output "storage" {
  description = "Storage account of the anchor: 3 to 24 lower-case letters and digits; unique in Azure"
  value       = "${local.plain}${local.unique}"
}

output "registry" {
  description = "5 to 50 letters and digits; unique in Azure"
  value       = "${local.plain}${local.unique}"
}

output "stores" {
  description = "Databases by what is in them: 3 to 40 lower-case letters, digits and dashes; unique in Azure"
  value       = { for store in local.stores : store => "${local.base}-${store}-${local.unique}" }
}

output "apps" {
  description = "Container apps by service: 2 to 32 lower-case letters, digits and dashes. Unique in their environment, which is the deployment's own"
  value       = { for service in ["gateway", "patient-service", "audit-service", "projections"] : service => service }
}
