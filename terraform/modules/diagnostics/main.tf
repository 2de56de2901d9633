# Logs and metrics of resources go to the workspace: all categories of logs, or for kinds that have none, metrics.

variable "workspace_id" {
  description = "Log Analytics workspace"
  type        = string
}

variable "resources" {
  description = "Resources by a name of one's own, that is known before they are made"
  type        = map(string)
}

variable "metrics_only" {
  description = "Those that have metrics and no logs"
  type        = map(string)
  default     = {}
}

resource "azurerm_monitor_diagnostic_setting" "logs" {
  for_each = var.resources

  name                       = "to-workspace"
  target_resource_id         = each.value
  log_analytics_workspace_id = var.workspace_id

  enabled_log {
    category_group = "allLogs"
  }
}

resource "azurerm_monitor_diagnostic_setting" "metrics" {
  for_each = var.metrics_only

  name                       = "to-workspace"
  target_resource_id         = each.value
  log_analytics_workspace_id = var.workspace_id

  enabled_metric {
    category = "AllMetrics"
  }
}
