variables {
  vault_uri            = "https://v-dev-a-1234.vault.azure.net"
  domain               = "calm.westeurope.azurecontainerapps.io"
  apps                 = { gateway = "gateway", patient-service = "patient-service", audit-service = "audit-service", projections = "projections" }
  client_ids           = { gateway = "id-g", patient-service = "id-p", audit-service = "id-a", projections = "id-r", secrets = "id-s" }
  networks             = ["10.40.0.0/23", "100.100.0.0/17"]
  proxies              = ["10.40.2.0/24", "100.100.0.0/17"]
  store_kind           = "vcore"
  store_ids            = { ledger = "/l", patients = "/p", keys = "/k", gateway = "/g" }
  ledger_origin        = "clinic-prod"
  anchors              = ["https://a.blob.core.windows.net/checkpoints"]
  application_insights = "InstrumentationKey=0"
}

run "the_gateway_alone_is_external" {
  command = plan

  assert {
    condition     = [for name, it in output.services : name if it.ingress == "external"] == ["gateway"]
    error_message = "another service has external ingress"
  }
}

run "no_two_services_share_a_port" {
  command = plan

  assert {
    condition     = length(distinct([for it in values(output.services) : it.port])) == 4
    error_message = "ports are shared"
  }
}

run "each_service_is_told_of_the_secrets_that_it_may_read_and_of_no_others" {
  command = plan

  assert {
    condition = alltrue([for name, it in output.services :
      toset(flatten([for value in values(it.env) : [for found in regexall("/secrets/([a-z-]+)", value) : found[0]]])) == toset(output.secrets[name])
    ])
    error_message = "secrets and references differ"
  }
}

run "the_ledgers_keys_are_the_audit_services_alone" {
  command = plan

  assert {
    condition = alltrue([for secret in ["ledger-key", "seal-key", "ledger-store"] :
      [for name, secrets in output.secrets : name if contains(secrets, secret)] == ["audit-service"]
    ])
    error_message = "somebody else may read a key of the ledger"
  }
  assert {
    condition     = !contains(output.secrets["audit-service"], "kek") && !contains(output.secrets["gateway"], "kek")
    error_message = "only who needs patients' content may unwrap their keys"
  }
}

run "no_secret_of_a_callee_is_what_a_caller_shows" {
  command = plan

  assert {
    condition     = length(setintersection(toset(output.secrets["audit-service"]), toset(concat(output.secrets["gateway"], output.secrets["patient-service"], output.secrets["projections"])))) == 0
    error_message = "audit-service shares a secret with a caller"
  }
}

run "a_cosmos_account_is_declared_strong_and_a_cluster_is_not" {
  command = plan

  variables {
    store_kind = "ru"
  }

  assert {
    condition     = output.services["audit-service"].env.VITALOG_COSMOS_CONSISTENCY == "strong"
    error_message = "not declared"
  }
  assert {
    condition     = !contains(keys(run.the_gateway_alone_is_external.services["audit-service"].env), "VITALOG_COSMOS_CONSISTENCY")
    error_message = "declared for a cluster"
  }
}

run "two_keys_are_named_while_one_is_rotated" {
  command = plan

  variables {
    keys = {
      encryption = ["kek-next", "kek"]
      signing    = ["ledger-key", "ledger-key-next"]
      seal       = ["seal-key-2", "seal-key@1234"]
      command    = ["command-key-2", "command-key"]
      pepper     = ["pepper-2", "pepper"]
    }
  }

  assert {
    condition     = output.services["projections"].env.VITALOG_KEK == "keyvault:https://v-dev-a-1234.vault.azure.net/secrets/kek-next,keyvault:https://v-dev-a-1234.vault.azure.net/secrets/kek"
    error_message = output.services["projections"].env.VITALOG_KEK
  }
  assert {
    condition     = contains(output.secrets["audit-service"], "ledger-key-next") && contains(output.secrets["patient-service"], "kek-next")
    error_message = "the next key may not be read"
  }
  assert {
    condition     = output.services["audit-service"].env.VITALOG_SEAL_KEY == "keyvault:https://v-dev-a-1234.vault.azure.net/secrets/seal-key-2,keyvault:https://v-dev-a-1234.vault.azure.net/secrets/seal-key@1234"
    error_message = output.services["audit-service"].env.VITALOG_SEAL_KEY
  }
  assert {
    condition     = contains(output.secrets["audit-service"], "seal-key") && contains(output.secrets["audit-service"], "seal-key-2")
    error_message = "a seal key may not be read"
  }
  assert {
    condition     = endswith(output.services["patient-service"].env.VITALOG_COMMAND_KEY, ",keyvault:https://v-dev-a-1234.vault.azure.net/secrets/command-key")
    error_message = output.services["patient-service"].env.VITALOG_COMMAND_KEY
  }
  assert {
    condition     = output.jobs["subscriptions"].env.VITALOG_PEPPER == output.services["gateway"].env.VITALOG_PEPPER && contains(output.secrets["gateway"], "pepper-2")
    error_message = "gateway and job have other peppers"
  }
}

run "a_seal_key_in_use_has_no_end" {
  command = plan

  variables {
    keys = { seal = ["seal-key@1234"] }
  }

  expect_failures = [var.keys]
}

run "users_with_tokens_are_optional" {
  command = plan

  variables {
    oidc = { issuer = "https://login.microsoftonline.com/t/v2.0", audiences = ["api"], scope_map = ["Patient.Read=patient:read"] }
  }

  assert {
    condition     = output.services["gateway"].env.VITALOG_OIDC_SCOPE_MAP == "Patient.Read=patient:read"
    error_message = "the scope map is not there"
  }
  assert {
    condition     = !contains(keys(run.the_gateway_alone_is_external.services["gateway"].env), "VITALOG_OIDC_ISSUER")
    error_message = "an issuer where there is none"
  }
}

run "all_of_the_world_is_no_network" {
  command = plan

  variables {
    networks = ["0.0.0.0/0"]
    proxies  = ["0.0.0.0/0"]
  }

  expect_failures = [var.networks, var.proxies]
}

run "a_ledger_without_an_anchor_is_refused" {
  command = plan

  variables {
    anchors = []
  }

  expect_failures = [var.anchors]
}
