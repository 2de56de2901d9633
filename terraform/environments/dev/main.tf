# For trying things out: one zone, small, paid by use; the platform's own certificate and name. Never for real patients: its anchor is
# not locked, so that it can be taken down again.

module "vitalog" {
  source = "../../modules/deployment"

  project         = "vitalog"
  environment     = "dev"
  subscription_id = var.subscription_id
  tenant_id       = var.tenant_id
  location        = "westeurope"
  address_space   = "10.40.0.0/20"
  stage           = var.stage
  images          = var.images
  ledger_origin   = "vitalog-dev"
  keys            = var.keys
  locked          = false
  zone_redundant  = false

  store_kind = "ru"
  serverless = true

  scale = {
    gateway         = { min = 1, max = 2, cpu = 0.25 }
    patient-service = { min = 1, max = 2, cpu = 0.25 }
    audit-service   = { min = 1, max = 2, cpu = 0.25 }
    projections     = { min = 1, max = 1, cpu = 0.25 }
  }

  edge            = "none"
  client_networks = var.client_networks

  anchor_retention_days = 1
  anchor_locked         = false

  log_retention_days = 30
  log_daily_quota_gb = 1
  alert_addresses    = var.alert_addresses
}
