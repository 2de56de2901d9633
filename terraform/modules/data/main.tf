# Four independent databases: ledger, read models, key ring, the gateway's subscriptions. Each is a cluster (or an
# account) of its own, with its own credentials and its own backups, so that whoever holds one holds nothing else,
# and so that one can be restored without another.
#
# No password is here: the one that a cluster is made with is thrown away by the job of module secrets, which sets
# another one and writes it to the vault.

locals {
  vcore = var.kind == "vcore" ? var.names : {}
  ru    = var.kind == "ru" ? var.names : {}

  ids = merge(
    { for store, cluster in azurerm_mongo_cluster.this : store => cluster.id },
    { for store, account in azurerm_cosmosdb_account.this : store => account.id },
  )
}

resource "azurerm_mongo_cluster" "this" {
  for_each = local.vcore

  name                   = each.value
  location               = var.location
  resource_group_name    = var.resource_group
  create_mode            = contains(keys(var.restore), each.key) ? "PointInTimeRestore" : "Default"
  administrator_username = "vitalog"
  # 128 random bits that nobody is told. The job replaces it within minutes.
  administrator_password = "V1-${uuid()}"
  compute_tier           = var.clusters[each.key].tier
  storage_size_in_gb     = var.clusters[each.key].storage_gb
  shard_count            = var.clusters[each.key].shards
  high_availability_mode = var.high_availability ? "ZoneRedundantPreferred" : "Disabled"
  public_network_access  = "Disabled"
  version                = "8.0"
  tags                   = merge(var.tags, { holds = each.key })

  dynamic "restore" {
    for_each = contains(keys(var.restore), each.key) ? [var.restore[each.key]] : []
    content {
      source_id         = restore.value.source_id
      point_in_time_utc = restore.value.point_in_time
    }
  }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [administrator_password]
  }
}

# A copy in another region that can be read, and promoted when the first is lost.
resource "azurerm_mongo_cluster" "replica" {
  for_each = var.replica == null ? {} : local.vcore

  name                  = "${each.value}-r"
  location              = var.replica.location
  resource_group_name   = var.replica.resource_group
  create_mode           = "GeoReplica"
  source_server_id      = azurerm_mongo_cluster.this[each.key].id
  source_location       = var.location
  public_network_access = "Disabled"
  tags                  = merge(var.tags, { holds = each.key, role = "replica" })

  lifecycle {
    # A promoted replica is no replica any more.
    ignore_changes = [administrator_username, administrator_password, create_mode, source_server_id, source_location]
  }
}

resource "azurerm_cosmosdb_account" "this" {
  #checkov:skip=CKV_AZURE_100:the ledger is tamper-evident and its content encrypted under keys of its own; customer-managed keys of the account are the subscription's decision
  #checkov:skip=CKV_AZURE_132:a service makes its collections and indexes with the account's key; each account is one service's alone
  #checkov:skip=CKV_AZURE_140:accounts of the MongoDB kind know local authentication alone; its keys are in the vault
  for_each = local.ru

  name                = each.value
  location            = var.location
  resource_group_name = var.resource_group
  kind                = "MongoDB"
  offer_type          = "Standard"
  # Appends need conditional single-document writes and majority reads.
  mongo_server_version              = "7.0"
  minimal_tls_version               = "Tls12"
  public_network_access_enabled     = false
  is_virtual_network_filter_enabled = true
  # One region writes: two would be two ledgers.
  multiple_write_locations_enabled = false
  automatic_failover_enabled       = false
  tags                             = merge(var.tags, { holds = each.key })

  # What audit-service is told with --cosmos-consistency=strong.
  consistency_policy {
    consistency_level = "Strong"
  }

  capabilities {
    name = "EnableMongo"
  }

  dynamic "capabilities" {
    for_each = var.serverless ? ["EnableServerless"] : []
    content {
      name = capabilities.value
    }
  }

  geo_location {
    location          = var.location
    failover_priority = 0
    zone_redundant    = var.high_availability
  }

  dynamic "geo_location" {
    for_each = var.replica == null || var.serverless ? [] : [var.replica.location]
    content {
      location          = geo_location.value
      failover_priority = 1
    }
  }

  backup {
    type = "Continuous"
    tier = var.high_availability ? "Continuous30Days" : "Continuous7Days"
  }

  lifecycle {
    prevent_destroy = true
  }
}

# The one collection whose shard key has to be there from the beginning. The services make the others.
resource "azurerm_cosmosdb_mongo_database" "ledger" {
  for_each = { for store, name in local.ru : store => name if store == "ledger" }

  name                = "vitalog_ledger"
  resource_group_name = var.resource_group
  account_name        = azurerm_cosmosdb_account.this[each.key].name

  dynamic "autoscale_settings" {
    for_each = var.serverless ? [] : [var.max_throughput]
    content {
      max_throughput = autoscale_settings.value
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_cosmosdb_mongo_collection" "blocks" {
  for_each = azurerm_cosmosdb_mongo_database.ledger

  name                = "blocks"
  resource_group_name = var.resource_group
  account_name        = azurerm_cosmosdb_account.this[each.key].name
  database_name       = each.value.name
  shard_key           = "segment"

  # The provider wants this one named. The others go by directions that it cannot say: the service makes them while the
  # collection is empty.
  index {
    keys   = ["_id"]
    unique = true
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_private_endpoint" "this" {
  for_each = var.names

  name                = "${each.value}-endpoint"
  location            = var.location
  resource_group_name = var.resource_group
  subnet_id           = var.endpoints_subnet_id
  tags                = var.tags

  private_service_connection {
    name                           = each.key
    private_connection_resource_id = local.ids[each.key]
    subresource_names              = [var.kind == "vcore" ? "MongoCluster" : "MongoDB"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = each.key
    private_dns_zone_ids = [var.zone_id]
  }
}

resource "azurerm_private_endpoint" "replica" {
  for_each = var.replica == null ? {} : local.vcore

  name                = "${each.value}-r-endpoint"
  location            = var.replica.location
  resource_group_name = var.replica.resource_group
  subnet_id           = var.replica.endpoints_subnet_id
  tags                = var.tags

  private_service_connection {
    name                           = each.key
    private_connection_resource_id = azurerm_mongo_cluster.replica[each.key].id
    subresource_names              = ["MongoCluster"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = each.key
    private_dns_zone_ids = [var.replica.zone_id]
  }
}

# Nobody deletes a ledger, or a key ring without which every patient is lost. Locks are on these alone: on the resource group
# one would also keep roles from being taken away.
resource "azurerm_management_lock" "this" {
  for_each = var.locked ? local.ids : {}

  name       = "holds-patient-records"
  scope      = each.value
  lock_level = "CanNotDelete"
  notes      = "Database of Vitalog: ${each.key}."
}

# What the job of module secrets may do with the databases: set a password, or read and change keys. On these alone
# (terraform/bootstrap makes the role).
data "azurerm_role_definition" "credentials" {
  name  = "${var.roles}-database-credentials"
  scope = var.subscription
}

resource "azurerm_role_assignment" "credentials" {
  for_each = var.names

  scope              = local.ids[each.key]
  role_definition_id = data.azurerm_role_definition.credentials.id
  principal_id       = var.job_principal_id
  principal_type     = "ServicePrincipal"
}
