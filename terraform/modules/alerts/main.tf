# Who is woken by what. What to do: docs/operations.md, whose alerts these are as far as the platform's own metrics and
# the logs tell them.

locals {
  # The gateway's door, and whether replicas stay up.
  metrics = merge(
    { for service, id in var.app_ids : "${service}-restarts" => {
      scope       = id, namespace = "Microsoft.App/containerApps", metric = "RestartCount", aggregation = "Total", operator = "GreaterThan", threshold = 3, severity = 1
      description = "${service} is restarted again and again", dimension = null
    } },
    { for service, id in var.app_ids : "${service}-replicas" => {
      scope       = id, namespace = "Microsoft.App/containerApps", metric = "Replicas", aggregation = "Minimum", operator = "LessThan", threshold = 1, severity = 0
      description = "${service} has no replica", dimension = null
    } },
    { for service, id in var.app_ids : "${service}-errors" => {
      scope       = id, namespace = "Microsoft.App/containerApps", metric = "Requests", aggregation = "Total", operator = "GreaterThan", threshold = 20, severity = 1
      description = "The gateway answers with 5xx: ServerErrors in docs/operations.md", dimension = { name = "statusCodeCategory", values = ["5xx"] }
    } if service == "gateway" },
    { for service, id in var.app_ids : "${service}-slow" => {
      scope       = id, namespace = "Microsoft.App/containerApps", metric = "ResponseTime", aggregation = "Average", operator = "GreaterThan", threshold = 1000, severity = 2
      description = "The gateway takes more than a second: LatencyBudgetBurnsFast in docs/operations.md", dimension = null
    } if service == "gateway" },
    { for store, id in var.cluster_ids : "${store}-storage" => {
      scope       = id, namespace = "Microsoft.DocumentDB/mongoClusters", metric = "StoragePercent", aggregation = "Average", operator = "GreaterThan", threshold = 80, severity = 1
      description = "The database ${store} is 80 % full: enlarge storage_gb", dimension = null
    } },
    { for store, id in var.cluster_ids : "${store}-cpu" => {
      scope       = id, namespace = "Microsoft.DocumentDB/mongoClusters", metric = "CpuPercent", aggregation = "Average", operator = "GreaterThan", threshold = 85, severity = 2
      description = "The database ${store} is busy: a larger tier", dimension = null
    } },
  )

  # Words of the services' logs that nobody may sleep through. A test looks each up in the code.
  words = {
    fork              = { text = "FORK", severity = 0, description = "Two histories of this ledger: stop, keep everything, call compliance" }
    not-anchored      = { text = "a checkpoint could not be anchored", severity = 1, description = "Checkpoints are not kept outside" }
    unrecorded-change = { text = "THE LEDGER HAS NO RECORD OF THIS CHANGE", severity = 1, description = "A subscription was changed without a record" }
  }
}

resource "azurerm_monitor_metric_alert" "this" {
  for_each = local.metrics

  name                = "${var.base}-${each.key}"
  resource_group_name = var.resource_group
  scopes              = [each.value.scope]
  description         = each.value.description
  severity            = each.value.severity
  frequency           = "PT1M"
  window_size         = "PT5M"
  tags                = var.tags

  criteria {
    metric_namespace       = each.value.namespace
    metric_name            = each.value.metric
    aggregation            = each.value.aggregation
    operator               = each.value.operator
    threshold              = each.value.threshold
    skip_metric_validation = true

    dynamic "dimension" {
      for_each = each.value.dimension == null ? [] : [each.value.dimension]
      content {
        name     = dimension.value.name
        operator = "Include"
        values   = dimension.value.values
      }
    }
  }

  action {
    action_group_id = var.action_group_id
  }
}

resource "azurerm_monitor_scheduled_query_rules_alert_v2" "words" {
  for_each = local.words

  name                  = "${var.base}-${each.key}"
  description           = each.value.description
  location              = var.location
  resource_group_name   = var.resource_group
  scopes                = [var.workspace_id]
  severity              = each.value.severity
  evaluation_frequency  = "PT5M"
  window_duration       = "PT5M"
  skip_query_validation = true
  tags                  = var.tags

  criteria {
    query                   = <<-KQL
      ContainerAppConsoleLogs
      | where Log has "${each.value.text}"
    KQL
    operator                = "GreaterThan"
    threshold               = 0
    time_aggregation_method = "Count"
  }

  action {
    action_groups = [var.action_group_id]
  }
}
