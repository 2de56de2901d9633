# The Container Apps environment and the four services in it. The gateway alone has external ingress.

resource "azurerm_container_app_environment" "this" {
  name                     = "${var.base}-apps"
  location                 = var.location
  resource_group_name      = var.resource_group
  infrastructure_subnet_id = var.subnet_id
  logs_destination         = "azure-monitor"
  zone_redundancy_enabled  = var.zone_redundant
  # With an edge nothing here has a public address: the edge reaches the gateway inside the network.
  internal_load_balancer_enabled = var.internal
  public_network_access          = var.internal ? "Disabled" : "Enabled"
  # The platform's proxies show one another certificates: what is plain HTTP to a service is encrypted on every wire.
  mutual_tls_enabled = true
  tags               = var.tags

  workload_profile {
    name                  = "Consumption"
    workload_profile_type = "Consumption"
  }

  lifecycle {
    ignore_changes = [infrastructure_resource_group_name]
  }
}

locals {
  # Images first, then the job that makes secrets, then who reads them.
  services = var.stage == "services" ? var.services : {}
  jobs = var.stage == "foundation" ? {} : {
    for name, job in var.jobs : name => job if var.stage == "services" || name == "secrets"
  }
}

resource "azurerm_container_app" "this" {
  for_each = toset(keys(local.services))

  name                         = var.names[each.key]
  resource_group_name          = var.resource_group
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  # A new revision takes over when it is ready; until then, and if it never is, the old one serves.
  revision_mode          = "Single"
  max_inactive_revisions = 5
  tags                   = var.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [var.identity_ids[each.key]]
  }

  registry {
    server   = var.registry_server
    identity = var.identity_ids[each.key]
  }

  dynamic "ingress" {
    for_each = local.services[each.key].ingress == "none" ? [] : [local.services[each.key]]
    content {
      external_enabled           = ingress.value.ingress == "external"
      target_port                = ingress.value.port
      transport                  = "auto"
      allow_insecure_connections = false

      traffic_weight {
        latest_revision = true
        percentage      = 100
      }

      dynamic "ip_security_restriction" {
        for_each = ingress.value.ingress == "external" ? var.client_networks : []
        content {
          name             = "client-${ip_security_restriction.key}"
          description      = "A network of clients"
          action           = "Allow"
          ip_address_range = ip_security_restriction.value
        }
      }
    }
  }

  template {
    min_replicas                     = var.scale[each.key].min
    max_replicas                     = var.scale[each.key].max
    termination_grace_period_seconds = 60

    dynamic "volume" {
      for_each = local.services[each.key].folders
      content {
        name         = replace(trimprefix(volume.value, "/"), "/", "-")
        storage_type = "EmptyDir"
      }
    }

    container {
      name   = each.key
      image  = "${var.registry_server}/${var.images[each.key]}"
      args   = local.services[each.key].args
      cpu    = var.scale[each.key].cpu
      memory = "${var.scale[each.key].cpu * 2}Gi"

      dynamic "volume_mounts" {
        for_each = local.services[each.key].folders
        content {
          name = replace(trimprefix(volume_mounts.value, "/"), "/", "-")
          path = volume_mounts.value
        }
      }

      dynamic "env" {
        for_each = local.services[each.key].env
        content {
          name  = env.key
          value = env.value
        }
      }

      # A service that waits for a vault or a store is alive and says so; the read of a long ledger takes minutes.
      startup_probe {
        transport               = "HTTP"
        port                    = local.services[each.key].port
        path                    = local.services[each.key].probes.startup
        interval_seconds        = 5
        timeout                 = 3
        failure_count_threshold = 10
      }

      liveness_probe {
        transport               = "HTTP"
        port                    = local.services[each.key].port
        path                    = local.services[each.key].probes.liveness
        interval_seconds        = 10
        timeout                 = 5
        failure_count_threshold = 3
      }

      readiness_probe {
        transport               = "HTTP"
        port                    = local.services[each.key].port
        path                    = local.services[each.key].probes.readiness
        interval_seconds        = 5
        timeout                 = 5
        failure_count_threshold = 2
        success_count_threshold = 1
      }
    }

    dynamic "http_scale_rule" {
      for_each = local.services[each.key].ingress == "none" ? [] : [var.scale[each.key].requests]
      content {
        name                = "requests"
        concurrent_requests = tostring(http_scale_rule.value)
      }
    }
  }

  lifecycle {
    precondition {
      condition     = can(regex("@sha256:[0-9a-f]{64}$", var.images[each.key]))
      error_message = "Images are named by digest (NAME@sha256:…), so that what was scanned is what runs."
    }
    # Also makes it wait for them.
    precondition {
      condition     = length(var.ready) > 0
      error_message = "Roles, endpoints and databases come before the services."
    }
  }
}

# Started by hand: az containerapp job start. What they do with which arguments: terraform/README.md.
resource "azurerm_container_app_job" "this" {
  for_each = toset(keys(local.jobs))

  name                         = each.key
  location                     = var.location
  resource_group_name          = var.resource_group
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  replica_timeout_in_seconds   = 3600
  # Whoever started it decides whether to start it again.
  replica_retry_limit = 0
  tags                = var.tags

  manual_trigger_config {
    parallelism              = 1
    replica_completion_count = 1
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [var.identity_ids[local.jobs[each.key].identity]]
  }

  registry {
    server   = var.registry_server
    identity = var.identity_ids[local.jobs[each.key].identity]
  }

  template {
    container {
      name    = each.key
      image   = "${var.registry_server}/${var.images["operator"]}"
      command = local.jobs[each.key].command
      cpu     = 0.5
      memory  = "1Gi"

      dynamic "env" {
        for_each = local.jobs[each.key].env
        content {
          name  = env.key
          value = env.value
        }
      }
    }
  }

  lifecycle {
    precondition {
      condition     = can(regex("@sha256:[0-9a-f]{64}$", var.images["operator"]))
      error_message = "Images are named by digest (NAME@sha256:…), so that what was scanned is what runs."
    }
    # Also makes it wait for them.
    precondition {
      condition     = length(var.ready) > 0
      error_message = "Roles, endpoints and databases come before the jobs."
    }
  }
}
