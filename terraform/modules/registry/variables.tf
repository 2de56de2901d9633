variable "name" {
  description = "Name of the registry"
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

variable "zone_redundant" {
  description = "Whether it survives the loss of a zone"
  type        = bool
}

variable "replica_locations" {
  description = "Further regions that have the images"
  type        = list(string)
}

variable "endpoints" {
  description = "Private endpoints by region: where they are"
  type        = map(object({ base = string, location = string, resource_group = string, subnet_id = string, zone_id = string }))
}

variable "pullers" {
  description = "Principals that may take images, by service"
  type        = map(string)
}

variable "tags" {
  description = "Tags of everything"
  type        = map(string)
}
