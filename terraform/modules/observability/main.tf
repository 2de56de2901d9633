# Where logs, traces and metrics go, and who is woken.

resource "azurerm_log_analytics_workspace" "this" {
  name                = "${var.base}-logs"
  location            = var.location
  resource_group_name = var.resource_group
  sku                 = "PerGB2018"
  retention_in_days   = var.retention_days
  daily_quota_gb      = var.daily_quota_gb
  # Whoever sends or reads shows who they are; there is no shared key.
  local_authentication_enabled = false
  tags                         = var.tags
}

resource "azurerm_application_insights" "this" {
  name                = "${var.base}-traces"
  location            = var.location
  resource_group_name = var.resource_group
  workspace_id        = azurerm_log_analytics_workspace.this.id
  application_type    = "other"
  retention_in_days   = var.retention_days
  # The services sample already.
  sampling_percentage = 100
  tags                = var.tags
}

resource "azurerm_monitor_action_group" "this" {
  name                = "${var.base}-on-call"
  resource_group_name = var.resource_group
  short_name          = "on-call"
  tags                = var.tags

  dynamic "email_receiver" {
    for_each = var.alert_addresses
    content {
      name                    = replace(email_receiver.value, "@", "-at-")
      email_address           = email_receiver.value
      use_common_alert_schema = true
    }
  }

  dynamic "webhook_receiver" {
    for_each = var.alert_webhooks
    content {
      name                    = webhook_receiver.key
      service_uri             = webhook_receiver.value
      use_common_alert_schema = true
    }
  }
}
