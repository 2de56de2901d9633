# A whole deployment: what environments/dev and environments/prod are made of.

locals {
  tags = merge({
    project     = var.project
    environment = var.environment
    managed-by  = "terraform"
    data        = "patient-records"
  }, var.tags)

  vault_uri = "https://${module.naming.key_vault}.vault.azure.net"
  internal  = var.edge != "none"
  serving   = var.secondary == null ? "primary" : var.secondary.serves ? "secondary" : "primary"

  endpoints = { for kind in ["vault", "blob", "registry"] : kind => merge(
    { primary = {
      base           = module.naming.base
      location       = azurerm_resource_group.this.location
      resource_group = azurerm_resource_group.this.name
      subnet_id      = module.network.endpoints_subnet_id
      zone_id        = module.network.zone_ids[kind]
    } },
    var.secondary == null ? {} : { secondary = {
      base           = module.naming_secondary[0].base
      location       = azurerm_resource_group.secondary[0].location
      resource_group = azurerm_resource_group.secondary[0].name
      subnet_id      = module.network_secondary[0].endpoints_subnet_id
      zone_id        = module.network_secondary[0].zone_ids[kind]
    } },
  ) }

  # Which service may read which secret, once the secrets are there.
  readable = var.stage != "services" ? {} : { for it in flatten([
    for settings in concat([module.settings], module.settings_secondary[*]) : [
      for service, secrets in settings.secrets : [for secret in secrets : { service = service, secret = secret }]
    ]
  ]) : "${it.service}/${it.secret}" => it... }
}

resource "azurerm_resource_group" "this" {
  name     = module.naming.base
  location = var.location
  tags     = local.tags
}

module "naming" {
  source = "../naming"

  project         = var.project
  environment     = var.environment
  subscription_id = var.subscription_id
}

module "addresses" {
  source = "../addresses"

  address_space = var.address_space
}

module "network" {
  source = "../network"

  base                    = module.naming.base
  location                = azurerm_resource_group.this.location
  resource_group          = azurerm_resource_group.this.name
  address_space           = var.address_space
  subnets                 = module.addresses.subnets
  edge                    = var.edge
  client_networks         = var.client_networks
  egress                  = var.egress
  ddos_protection_plan_id = var.ddos_protection_plan_id
  tags                    = local.tags
}

module "observability" {
  source = "../observability"

  base            = module.naming.base
  location        = azurerm_resource_group.this.location
  resource_group  = azurerm_resource_group.this.name
  retention_days  = var.log_retention_days
  daily_quota_gb  = var.log_daily_quota_gb
  alert_addresses = var.alert_addresses
  alert_webhooks  = var.alert_webhooks
  tags            = local.tags
}

module "identity" {
  source = "../identity"

  base           = module.naming.base
  location       = azurerm_resource_group.this.location
  resource_group = azurerm_resource_group.this.name
  tags           = local.tags
}

module "registry" {
  source = "../registry"

  name              = module.naming.registry
  location          = azurerm_resource_group.this.location
  resource_group    = azurerm_resource_group.this.name
  zone_redundant    = var.zone_redundant
  replica_locations = var.secondary == null ? [] : [var.secondary.location]
  endpoints         = local.endpoints["registry"]
  pullers           = module.identity.principal_ids
  tags              = local.tags
}

module "secrets" {
  source = "../secrets"

  name             = module.naming.key_vault
  location         = azurerm_resource_group.this.location
  resource_group   = azurerm_resource_group.this.name
  tenant_id        = var.tenant_id
  trusted_services = var.edge == "application_gateway"
  endpoints        = local.endpoints["vault"]
  readable         = { for place, same in local.readable : place => same[0] }
  principal_ids    = module.identity.principal_ids
  job_principal_id = module.identity.principal_ids["secrets"]
  workspace_id     = module.observability.workspace_id
  action_group_id  = module.observability.action_group_id
  tags             = local.tags
}

module "data" {
  source = "../data"

  base                = module.naming.base
  names               = module.naming.stores
  location            = azurerm_resource_group.this.location
  resource_group      = azurerm_resource_group.this.name
  subscription        = "/subscriptions/${var.subscription_id}"
  roles               = "${var.project}-${var.environment}"
  locked              = var.locked
  kind                = var.store_kind
  clusters            = var.clusters
  high_availability   = var.zone_redundant
  serverless          = var.serverless
  max_throughput      = var.max_throughput
  endpoints_subnet_id = module.network.endpoints_subnet_id
  zone_id             = module.network.zone_ids[var.store_kind]
  restore             = var.restore
  job_principal_id    = module.identity.principal_ids["secrets"]
  tags                = local.tags

  replica = var.secondary == null ? null : {
    location            = azurerm_resource_group.secondary[0].location
    resource_group      = azurerm_resource_group.secondary[0].name
    endpoints_subnet_id = module.network_secondary[0].endpoints_subnet_id
    zone_id             = module.network_secondary[0].zone_ids[var.store_kind]
  }
}

module "anchor" {
  source = "../anchor"

  name                 = module.naming.storage
  location             = azurerm_resource_group.this.location
  resource_group       = azurerm_resource_group.this.name
  subscription         = "/subscriptions/${var.subscription_id}"
  roles                = "${var.project}-${var.environment}"
  replication          = var.secondary == null ? (var.zone_redundant ? "ZRS" : "LRS") : "GZRS"
  retention_days       = var.anchor_retention_days
  locked               = var.anchor_locked
  endpoints            = local.endpoints["blob"]
  keeper_principal_id  = module.identity.principal_ids["audit-service"]
  reader_principal_ids = var.compliance_principal_ids
  tags                 = local.tags
}

module "settings" {
  source = "../settings"

  vault_uri            = local.vault_uri
  domain               = module.apps.domain
  apps                 = module.naming.apps
  client_ids           = module.identity.client_ids
  networks             = concat([module.addresses.subnets.apps], module.addresses.platform)
  proxies              = concat([module.addresses.subnets.apps, module.addresses.subnets.edge], module.addresses.platform, var.edge_networks)
  store_kind           = var.store_kind
  store_ids            = module.data.ids
  replica_ids          = module.data.replica_ids
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

module "apps" {
  source = "../apps"

  base            = module.naming.base
  location        = azurerm_resource_group.this.location
  resource_group  = azurerm_resource_group.this.name
  subnet_id       = module.network.apps_subnet_id
  internal        = local.internal
  zone_redundant  = var.zone_redundant
  stage           = local.serving == "primary" ? var.stage : "foundation"
  names           = module.naming.apps
  services        = module.settings.services
  jobs            = module.settings.jobs
  scale           = var.scale
  images          = var.images
  registry_server = module.registry.server
  identity_ids    = module.identity.ids
  client_networks = local.internal ? [] : var.client_networks
  ready           = concat(module.secrets.ready, module.data.ready, module.anchor.ready, module.registry.ready)
  tags            = local.tags
}

module "edge" {
  source = "../edge"

  # An Application Gateway cannot be made before the certificate is in the vault, nor what it leads to.
  kind                    = var.stage == "services" ? var.edge : "none"
  base                    = module.naming.base
  location                = azurerm_resource_group.this.location
  resource_group          = azurerm_resource_group.this.name
  network_id              = module.network.id
  network_name            = module.network.name
  subnets                 = module.addresses.subnets
  apps_environment_id     = module.apps.environment_id
  apps_domain             = module.apps.domain
  apps_static_ip          = module.apps.static_ip
  gateway_fqdn            = "${module.naming.apps["gateway"]}.${module.apps.domain}"
  host_name               = var.host_name
  vault_id                = module.secrets.id
  vault_uri               = local.vault_uri
  certificate_name        = var.certificate_name
  client_networks         = var.client_networks
  rate_per_minute         = var.rate_per_minute
  ddos_protection_plan_id = var.ddos_protection_plan_id
  api_management          = var.api_management
  tags                    = local.tags
}

module "alerts" {
  source = "../alerts"

  base            = module.naming.base
  location        = azurerm_resource_group.this.location
  resource_group  = azurerm_resource_group.this.name
  app_ids         = local.serving == "primary" ? module.apps.app_ids : module.apps_secondary[0].app_ids
  cluster_ids     = var.store_kind == "vcore" ? module.data.ids : {}
  workspace_id    = module.observability.workspace_id
  action_group_id = module.observability.action_group_id
  tags            = local.tags
}

module "diagnostics" {
  source = "../diagnostics"

  workspace_id = module.observability.workspace_id
  resources = merge(
    {
      vault           = module.secrets.id
      registry        = module.registry.id
      anchor          = "${module.anchor.id}/blobServices/default"
      apps            = module.apps.environment_id
      traces          = module.observability.application_insights_id
      logs            = module.observability.workspace_id
      ledger          = module.data.ids["ledger"]
      patients        = module.data.ids["patients"]
      keys            = module.data.ids["keys"]
      gateway         = module.data.ids["gateway"]
      network         = module.network.diagnosed.network
      apps-rules      = module.network.diagnosed.apps
      endpoints-rules = module.network.diagnosed.endpoints
    },
    module.edge.diagnosed,
    var.secondary == null ? {} : {
      apps-b            = module.apps_secondary[0].environment_id
      network-b         = module.network_secondary[0].diagnosed.network
      apps-rules-b      = module.network_secondary[0].diagnosed.apps
      endpoints-rules-b = module.network_secondary[0].diagnosed.endpoints
    },
    var.secondary == null || var.store_kind != "vcore" ? {} : {
      ledger-b   = module.data.replica_ids["ledger"]
      patients-b = module.data.replica_ids["patients"]
      keys-b     = module.data.replica_ids["keys"]
      gateway-b  = module.data.replica_ids["gateway"]
    },
  )
  metrics_only = { anchor-account = module.anchor.id }
}
