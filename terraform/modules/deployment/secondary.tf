# The second region, where there is one: copies of the databases that can be read and promoted, and an environment
# whose services start when it serves. One region serves at a time, because one ledger has one database that takes
# writes. Failing over: terraform/README.md.

module "naming_secondary" {
  source = "../naming"
  count  = var.secondary == null ? 0 : 1

  project         = var.project
  environment     = var.environment
  region          = "b"
  subscription_id = var.subscription_id
}

module "addresses_secondary" {
  source = "../addresses"
  count  = var.secondary == null ? 0 : 1

  address_space = var.secondary.address_space
}

resource "azurerm_resource_group" "secondary" {
  count = var.secondary == null ? 0 : 1

  name     = module.naming_secondary[0].base
  location = var.secondary.location
  tags     = local.tags
}

module "network_secondary" {
  source = "../network"
  count  = var.secondary == null ? 0 : 1

  base                    = module.naming_secondary[0].base
  location                = azurerm_resource_group.secondary[0].location
  resource_group          = azurerm_resource_group.secondary[0].name
  address_space           = var.secondary.address_space
  subnets                 = module.addresses_secondary[0].subnets
  edge                    = "none"
  client_networks         = var.client_networks
  egress                  = var.egress
  ddos_protection_plan_id = var.ddos_protection_plan_id
  tags                    = local.tags
}

module "settings_secondary" {
  source = "../settings"
  count  = var.secondary == null ? 0 : 1

  vault_uri            = local.vault_uri
  domain               = module.apps_secondary[0].domain
  apps                 = module.naming_secondary[0].apps
  client_ids           = module.identity.client_ids
  networks             = concat([module.addresses_secondary[0].subnets.apps], module.addresses_secondary[0].platform)
  proxies              = concat([module.addresses_secondary[0].subnets.apps], module.addresses_secondary[0].platform, var.edge_networks)
  store_kind           = var.store_kind
  store_ids            = module.data.replica_ids
  store_suffix         = "-b"
  ledger_origin        = var.ledger_origin
  anchors              = concat([module.anchor.url], var.further_anchors)
  application_insights = nonsensitive(module.observability.connection_string)
  trace_ratio          = var.trace_ratio
  otlp_endpoint        = var.otlp_endpoint
  keys                 = var.keys
  witnesses            = var.witnesses
  oidc                 = var.oidc
  cors_origins         = var.cors_origins
}

# Without an edge of its own: its gateway has the platform's public address while it serves.
module "apps_secondary" {
  source = "../apps"
  count  = var.secondary == null ? 0 : 1

  base            = module.naming_secondary[0].base
  location        = azurerm_resource_group.secondary[0].location
  resource_group  = azurerm_resource_group.secondary[0].name
  subnet_id       = module.network_secondary[0].apps_subnet_id
  internal        = false
  zone_redundant  = var.zone_redundant
  stage           = local.serving == "secondary" ? var.stage : "foundation"
  names           = module.naming_secondary[0].apps
  services        = module.settings_secondary[0].services
  jobs            = module.settings_secondary[0].jobs
  scale           = var.scale
  images          = var.images
  registry_server = module.registry.server
  identity_ids    = module.identity.ids
  client_networks = var.client_networks
  ready           = concat(module.secrets.ready, module.data.ready, module.anchor.ready, module.registry.ready)
  tags            = local.tags
}
