# What each service is told: its port, probes, environment variables, and the secrets that it may read. No provider.
#
# Here alone stands which secret is whose: the environment names them, and the role assignments of module secrets
# are made from the same list. A test compares all of it with what the programs read.

locals {
  service_keys = {
    # caller-to-callee. Each stands in three secrets: what the caller shows, and the two that the callee takes, so
    # that it can be replaced without a refused request.
    gateway-to-patient   = { callee = "patient-service", caller = "gateway" }
    gateway-to-audit     = { callee = "audit-service", caller = "gateway" }
    patient-to-audit     = { callee = "audit-service", caller = "patient-service" }
    projections-to-audit = { callee = "audit-service", caller = "projections" }
    operator-to-audit    = { callee = "audit-service", caller = "operator" }
  }

  store = { for what in ["ledger", "patients", "keys", "gateway"] : what => "${what}-store${var.store_suffix}" }

  shown = { for who in ["gateway", "patient-service", "projections", "operator"] :
    who => [for key, it in local.service_keys : key if it.caller == who]
  }
  taken = { for who in ["patient-service", "audit-service"] :
    who => flatten([for key, it in local.service_keys : ["${key}-current", "${key}-next"] if it.callee == who])
  }

  # By name; a name ends where its size begins.
  seals   = { for it in var.keys.seal : split("@", it)[0] => it }
  peppers = join(",", [for name in var.keys.pepper : local.ref[name]])

  secrets = {
    gateway         = concat([local.store["gateway"]], var.keys.pepper, local.shown["gateway"])
    patient-service = concat([local.store["patients"], local.store["keys"]], var.keys.command, var.keys.encryption, local.shown["patient-service"], local.taken["patient-service"])
    audit-service   = concat([local.store["ledger"]], keys(local.seals), var.keys.signing, local.taken["audit-service"])
    projections     = concat([local.store["patients"], local.store["keys"]], var.keys.encryption, local.shown["projections"])
  }

  # Every secret that there has to be before a service starts.
  all_secrets = distinct(concat(flatten(values(local.secrets)), local.shown["operator"]))

  ref = { for name in concat(local.all_secrets, ["ledger-pub"]) : name => "keyvault:${var.vault_uri}/secrets/${name}" }

  callers = { for callee in ["patient-service", "audit-service"] :
    callee => join(" ", [for key, it in local.service_keys :
      "${it.caller}=${local.ref["${key}-current"]},${local.ref["${key}-next"]}" if it.callee == callee
    ])
  }

  # Ingress between the apps ends TLS with a certificate of the platform.
  url = { for service in ["patient-service", "audit-service"] : service => "https://${var.apps[service]}.internal.${var.domain}" }

  telemetry = merge(
    {
      # Not a secret: it may send, and nothing else.
      APPLICATIONINSIGHTS_CONNECTION_STRING = var.application_insights
      VITALOG_APPLICATION_INSIGHTS          = "env:APPLICATIONINSIGHTS_CONNECTION_STRING"
      OTEL_TRACES_SAMPLER_ARG               = tostring(var.trace_ratio)
      RUST_LOG                              = "info"
    },
    var.otlp_endpoint == "" ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT = var.otlp_endpoint },
  )

  inside = { VITALOG_ALLOW_NETWORK = join(" ", var.networks) }

  read_models = {
    VITALOG_PATIENTS_STORE = local.ref[local.store["patients"]]
    VITALOG_KEYS_STORE     = local.ref[local.store["keys"]]
    VITALOG_KEK            = join(",", [for name in var.keys.encryption : local.ref[name]])
    VITALOG_AUDIT_URL      = local.url["audit-service"]
  }

  environments = {
    gateway = merge(
      {
        VITALOG_GATEWAY_LISTEN         = "0.0.0.0:8080"
        VITALOG_GATEWAY_METRICS_LISTEN = "0.0.0.0:7070"
        VITALOG_TRUSTED_PROXIES        = join(",", var.proxies)
        # The platform's proxy keeps connections for 240 s, and stops sending after it has noticed twice.
        VITALOG_IDLE_TIMEOUT  = "250"
        VITALOG_DRAIN_DELAY   = "10"
        VITALOG_SUBSCRIPTIONS = local.ref[local.store["gateway"]]
        VITALOG_PEPPER        = local.peppers
        VITALOG_PATIENT_URL   = local.url["patient-service"]
        VITALOG_PATIENT_KEY   = local.ref["gateway-to-patient"]
        VITALOG_AUDIT_URL     = local.url["audit-service"]
        VITALOG_AUDIT_KEY     = local.ref["gateway-to-audit"]
      },
      var.oidc == null ? {} : merge(
        {
          VITALOG_OIDC_ISSUER   = var.oidc.issuer
          VITALOG_OIDC_AUDIENCE = join(",", var.oidc.audiences)
        },
        length(var.oidc.scope_map) == 0 ? {} : { VITALOG_OIDC_SCOPE_MAP = join(",", var.oidc.scope_map) },
      ),
      length(var.cors_origins) == 0 ? {} : { VITALOG_CORS_ORIGINS = join(",", var.cors_origins) },
    )

    patient-service = merge(local.read_models, {
      VITALOG_PATIENT_LISTEN  = "0.0.0.0:7071"
      VITALOG_AUDIT_KEY       = local.ref["patient-to-audit"]
      VITALOG_PATIENT_CALLERS = local.callers["patient-service"]
      VITALOG_COMMAND_KEY     = join(",", [for name in var.keys.command : local.ref[name]])
    })

    audit-service = merge(
      {
        VITALOG_AUDIT_LISTEN  = "0.0.0.0:7072"
        VITALOG_LEDGER_STORE  = local.ref[local.store["ledger"]]
        VITALOG_LEDGER_KEY    = join(",", [for name in var.keys.signing : local.ref[name]])
        VITALOG_SEAL_KEY      = join(",", [for it in var.keys.seal : replace(it, "/^[a-z0-9-]+/", local.ref[split("@", it)[0]])])
        VITALOG_AUDIT_CALLERS = local.callers["audit-service"]
        # Lasts as long as the replica: a new one asks the anchors what was signed before.
        VITALOG_CHECKPOINT_FILE = "/state/ledger.checkpoint"
        VITALOG_ANCHORS         = join(" ", [for url in var.anchors : "azblob:${url}"])
        # What was signed since the last anchored checkpoint a new replica cannot miss.
        VITALOG_ANCHOR_EVERY = "15"
      },
      length(var.witnesses) == 0 ? {} : { VITALOG_WITNESSES = join(" ", var.witnesses) },
      # An account's consistency cannot be seen over the wire: module data sets it, and this says so.
      var.store_kind == "ru" ? { VITALOG_COSMOS_CONSISTENCY = "strong" } : {},
    )

    projections = merge(local.read_models, {
      VITALOG_PROJECTIONS_LISTEN = "0.0.0.0:7073"
      VITALOG_AUDIT_KEY          = local.ref["projections-to-audit"]
    })
  }

  shapes = {
    gateway         = { port = 8080, ingress = "external", args = [], folders = [] }
    patient-service = { port = 7071, ingress = "internal", args = [], folders = [] }
    audit-service   = { port = 7072, ingress = "internal", args = ["serve"], folders = ["/state"] }
    projections     = { port = 7073, ingress = "none", args = ["follow"], folders = [] }
  }
}

output "services" {
  description = "By service: port, ingress (external, internal, none), arguments of its program, folders that it writes to, probes by path, environment"
  value = { for service, shape in local.shapes : service => merge(shape, {
    probes = { startup = "/healthz", liveness = "/healthz", readiness = "/readyz" }
    env    = merge(local.telemetry, local.inside, local.environments[service], { AZURE_CLIENT_ID = var.client_ids[service] })
  }) }
}

output "secrets" {
  description = "By service: names of the secrets that it may read, and no others"
  value       = local.secrets
}

output "all_secrets" {
  description = "Names of all secrets that the job makes"
  value       = concat(local.all_secrets, ["ledger-pub"])
}

output "jobs" {
  description = "By job: the identity that it has, arguments, environment. Each is started by hand"
  value = {
    # Makes the secrets that are missing, and with other arguments rotates one.
    secrets = {
      identity = "secrets"
      command  = ["azure-secrets", "ensure"]
      env = merge(
        {
          AZURE_CLIENT_ID       = var.client_ids["secrets"]
          VITALOG_VAULT         = var.vault_uri
          VITALOG_LEDGER_ORIGIN = var.ledger_origin
          VITALOG_STORE_KIND    = var.store_kind
          VITALOG_STORES        = join(" ", [for store in sort(keys(var.store_ids)) : "${store}=${var.store_ids[store]}"])
        },
        # The copies have their originals' passwords.
        length(var.replica_ids) == 0 ? {} : {
          VITALOG_REPLICAS = join(" ", [for store in sort(keys(var.replica_ids)) : "${store}=${var.replica_ids[store]}"])
        },
      )
    }
    # Adds and changes clients; puts the keys that it makes into the vault.
    subscriptions = {
      identity = "secrets"
      command  = ["gateway", "subscriptions", "list"]
      env = {
        AZURE_CLIENT_ID       = var.client_ids["secrets"]
        VITALOG_VAULT         = var.vault_uri
        VITALOG_SUBSCRIPTIONS = local.ref[local.store["gateway"]]
        VITALOG_PEPPER        = local.peppers
        VITALOG_AUDIT_URL     = local.url["audit-service"]
        VITALOG_OPERATOR_KEY  = local.ref["operator-to-audit"]
      }
    }
    # What the read models' keeper does by hand: status, digest, rebuild.
    read-models = {
      identity = "projections"
      command  = ["projections", "status"]
      env = merge(local.read_models, {
        AZURE_CLIENT_ID   = var.client_ids["projections"]
        VITALOG_AUDIT_KEY = local.ref["projections-to-audit"]
      })
    }
    # Wraps the key ring anew while the key-encryption key is rotated.
    key-ring = {
      identity = "patient-service"
      command  = ["patient-service", "keys", "status"]
      env = {
        AZURE_CLIENT_ID    = var.client_ids["patient-service"]
        VITALOG_KEYS_STORE = local.ref[local.store["keys"]]
        VITALOG_KEK        = local.read_models.VITALOG_KEK
      }
    }
  }
}
