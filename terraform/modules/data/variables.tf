variable "base" {
  description = "Prefix of names"
  type        = string
}

variable "names" {
  description = "Names by what is in the database: ledger, patients, keys, gateway"
  type        = map(string)
}

variable "location" {
  description = "Azure region"
  type        = string
}

variable "resource_group" {
  description = "Name of the resource group"
  type        = string
}

variable "subscription" {
  description = "The subscription, as /subscriptions/ID"
  type        = string
}

variable "roles" {
  description = "What the names of the roles begin with that terraform/bootstrap has made"
  type        = string
}

variable "locked" {
  description = "Whether the databases are locked against deletion"
  type        = bool
}

variable "kind" {
  description = "vcore: an Azure DocumentDB (Cosmos DB for MongoDB vCore) cluster each; ru: a Cosmos DB account with request units each"
  type        = string
}

variable "clusters" {
  description = "vcore: by what is in the database, its tier (M10, M20, M25, M30, M40, …), storage in GiB and shards"
  type        = map(object({ tier = string, storage_gb = number, shards = optional(number, 1) }))
}

variable "high_availability" {
  description = "vcore: a standby in another zone, where the tier has it (M30 and larger); ru: zone redundancy and 30 days of backups"
  type        = bool
}

variable "serverless" {
  description = "ru: pay by request; for one region, and for trying things out"
  type        = bool
}

variable "max_throughput" {
  description = "ru: the ledger's request units a second at most; a tenth of it is always paid"
  type        = number
}

variable "endpoints_subnet_id" {
  description = "Subnet of private endpoints"
  type        = string
}

variable "zone_id" {
  description = "Private DNS zone of this kind"
  type        = string
}

variable "replica" {
  description = "A second region that has copies; null for none"
  type        = object({ location = string, resource_group = string, endpoints_subnet_id = string, zone_id = string })
}

variable "restore" {
  description = "vcore: databases that are made from another's backup: its id, and the time (RFC 3339, UTC). Read terraform/README.md first: never the ledger alone"
  type        = map(object({ source_id = string, point_in_time = string }))
}

variable "job_principal_id" {
  description = "Principal of the job that sets credentials"
  type        = string
}

variable "tags" {
  description = "Tags of everything"
  type        = map(string)
}
