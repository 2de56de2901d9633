# For patients: three zones, a web application firewall before the gateway, databases with standbys, an anchor that nobody can
# unlock.

module "vitalog" {
  source = "../../modules/deployment"

  project         = "vitalog"
  environment     = "prod"
  subscription_id = var.subscription_id
  tenant_id       = var.tenant_id
  location        = "westeurope"
  address_space   = "10.50.0.0/20"
  stage           = var.stage
  images          = var.images
  ledger_origin   = var.ledger_origin
  zone_redundant  = true

  store_kind = var.store_kind
  clusters = {
    ledger   = { tier = "M40", storage_gb = 256 }
    patients = { tier = "M30", storage_gb = 128 }
    keys     = { tier = "M30", storage_gb = 32 }
    gateway  = { tier = "M30", storage_gb = 32 }
  }
  restore = var.restore

  scale = {
    gateway         = { min = 2, max = 10, cpu = 0.5 }
    patient-service = { min = 2, max = 10, cpu = 1 }
    # Any number may append; more of them meet at the fence more often.
    audit-service = { min = 2, max = 4, cpu = 1, requests = 200 }
    # One follows, the other stands by.
    projections = { min = 2, max = 2, cpu = 0.5 }
  }

  edge                    = var.edge
  edge_networks           = var.edge_networks
  host_name               = var.host_name
  client_networks         = var.client_networks
  ddos_protection_plan_id = var.ddos_protection_plan_id
  api_management          = var.api_management
  secondary               = var.secondary

  # Ten years.
  anchor_retention_days    = 3653
  anchor_locked            = true
  further_anchors          = var.further_anchors
  compliance_principal_ids = var.compliance_principal_ids
  witnesses                = var.witnesses
  keys                     = var.keys
  oidc                     = var.oidc
  otlp_endpoint            = var.otlp_endpoint
  egress                   = var.egress

  log_retention_days = 90
  alert_addresses    = var.alert_addresses
}
