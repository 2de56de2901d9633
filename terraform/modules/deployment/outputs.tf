output "gateway_url" {
  description = "Where clients reach the gateway"
  value = "https://${
    local.serving == "secondary" ? "${module.naming_secondary[0].apps["gateway"]}.${module.apps_secondary[0].domain}" :
    var.edge == "none" ? "${module.naming.apps["gateway"]}.${module.apps.domain}" : var.host_name
  }"
}

output "edge_public_ip" {
  description = "For the public name's A record, with an Application Gateway"
  value       = module.edge.public_ip
}

output "front_door_host" {
  description = "For the public name's CNAME record, with a Front Door"
  value       = module.edge.front_door_host
}

output "resource_group" {
  description = "The resource group"
  value       = azurerm_resource_group.this.name
}

output "registry" {
  description = "Where images are imported to"
  value       = module.registry.server
}

output "vault" {
  description = "Name of the key vault"
  value       = module.secrets.name
}

output "secrets" {
  description = "Names of the secrets that the job makes"
  value       = module.settings.all_secrets
}

output "anchor" {
  description = "Where compliance finds the checkpoints"
  value       = module.anchor.url
}

output "databases" {
  description = "The databases by what is in them"
  value       = module.data.ids
}

output "unreachable" {
  description = "What the smoke test must not reach from outside. Vault, anchor, registry and accounts are not among it: they take connections, and refuse requests"
  value = concat(
    [for service in ["patient-service", "audit-service"] : "https://${module.naming.apps[service]}.internal.${module.apps.domain}"],
    [for host in values(module.data.hosts) : "mongodb+srv://${host}"],
  )
}
