# Copy to terraform.tfvars (which git ignores) and fill in. Nothing here is a secret.
subscription_id = "00000000-0000-0000-0000-000000000000"
tenant_id       = "00000000-0000-0000-0000-000000000000"
alert_addresses = ["on-call@clinic.example"]

# By digest, as the pipeline's images workflow prints them.
images = {
  gateway         = "vitalog/gateway@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  patient-service = "vitalog/patient-service@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  audit-service   = "vitalog/audit-service@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  projections     = "vitalog/projections@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  operator        = "vitalog/operator@sha256:0000000000000000000000000000000000000000000000000000000000000000"
}

host_name     = "records.clinic.example"
ledger_origin = "clinic-records"

# secondary = { location = "northeurope", address_space = "10.51.0.0/20", serves = false }
# oidc      = { issuer = "https://login.microsoftonline.com/TENANT/v2.0", audiences = ["CLIENT-ID"] }
