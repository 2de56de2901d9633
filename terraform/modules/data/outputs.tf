output "ids" {
  description = "Resource ids by what is in the database"
  value       = local.ids
}

output "replica_ids" {
  description = "Resource ids of the copies in the second region"
  value       = { for store, cluster in azurerm_mongo_cluster.replica : store => cluster.id }
}

# No service starts before it can reach its database, nor the job before it may set its password.
output "ready" {
  description = "Known when the databases can be reached"
  value = concat(
    [for endpoint in azurerm_private_endpoint.this : endpoint.id],
    [for assignment in azurerm_role_assignment.credentials : assignment.id],
  )
}

output "hosts" {
  description = "Names that clusters are reached at inside the network, by what is in them; their SRV records are public"
  value = { for store, cluster in azurerm_mongo_cluster.this :
    store => try(nonsensitive(regex("@([^/?]+)", cluster.connection_strings[0].value)[0]), "${cluster.name}.mongocluster.cosmos.azure.com")
  }
}
