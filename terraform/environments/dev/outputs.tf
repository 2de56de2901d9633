output "gateway_url" {
  description = "Where clients reach the gateway"
  value       = module.vitalog.gateway_url
}

output "public_records" {
  description = "For the public name's DNS: an address (Application Gateway) or a name (Front Door)"
  value       = { address = module.vitalog.edge_public_ip, name = module.vitalog.front_door_host }
}

output "resource_group" {
  description = "The resource group"
  value       = module.vitalog.resource_group
}

output "registry" {
  description = "Where images are imported to"
  value       = module.vitalog.registry
}

output "vault" {
  description = "Name of the key vault"
  value       = module.vitalog.vault
}

output "secrets" {
  description = "Names of the secrets that the job makes"
  value       = module.vitalog.secrets
}

output "anchor" {
  description = "Where compliance finds the checkpoints"
  value       = module.vitalog.anchor
}

output "databases" {
  description = "The databases by what is in them"
  value       = module.vitalog.databases
}

output "unreachable" {
  description = "What the smoke test must not reach from outside, HOST:PORT"
  value       = module.vitalog.unreachable
}
