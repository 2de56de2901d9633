# A Front Door reaches the environment through a private link, which somebody approves once (terraform/README.md).

resource "azurerm_cdn_frontdoor_profile" "this" {
  count = local.is_front_door ? 1 : 0

  name                     = "${var.base}-edge"
  resource_group_name      = var.resource_group
  sku_name                 = "Premium_AzureFrontDoor"
  response_timeout_seconds = 75
  tags                     = var.tags
}

resource "azurerm_cdn_frontdoor_endpoint" "this" {
  count = local.is_front_door ? 1 : 0

  name                     = var.base
  cdn_frontdoor_profile_id = azurerm_cdn_frontdoor_profile.this[0].id
  tags                     = var.tags
}

resource "azurerm_cdn_frontdoor_origin_group" "this" {
  count = local.is_front_door ? 1 : 0

  name                     = "gateway"
  cdn_frontdoor_profile_id = azurerm_cdn_frontdoor_profile.this[0].id
  session_affinity_enabled = false

  load_balancing {
    sample_size                 = 4
    successful_samples_required = 3
  }

  health_probe {
    protocol            = "Https"
    path                = "/readyz"
    request_type        = "GET"
    interval_in_seconds = 30
  }
}

resource "azurerm_cdn_frontdoor_origin" "this" {
  count = local.is_front_door ? 1 : 0

  name                           = "gateway"
  cdn_frontdoor_origin_group_id  = azurerm_cdn_frontdoor_origin_group.this[0].id
  enabled                        = true
  host_name                      = var.gateway_fqdn
  origin_host_header             = var.gateway_fqdn
  certificate_name_check_enabled = true
  https_port                     = 443

  private_link {
    location               = var.location
    private_link_target_id = var.apps_environment_id
    target_type            = "managedEnvironments"
    request_message        = "Front Door of ${var.base}"
  }
}

resource "azurerm_cdn_frontdoor_route" "this" {
  count = local.is_front_door ? 1 : 0

  name                          = "all"
  cdn_frontdoor_endpoint_id     = azurerm_cdn_frontdoor_endpoint.this[0].id
  cdn_frontdoor_origin_group_id = azurerm_cdn_frontdoor_origin_group.this[0].id
  cdn_frontdoor_origin_ids      = [azurerm_cdn_frontdoor_origin.this[0].id]
  patterns_to_match             = ["/*"]
  supported_protocols           = ["Http", "Https"]
  # Plain requests are sent on to TLS; what is behind it is never cached.
  https_redirect_enabled = true
  forwarding_protocol    = "HttpsOnly"
  link_to_default_domain = true
}

resource "azurerm_cdn_frontdoor_firewall_policy" "this" {
  count = local.is_front_door ? 1 : 0

  name                              = replace("${var.base}waf", "-", "")
  resource_group_name               = var.resource_group
  sku_name                          = "Premium_AzureFrontDoor"
  mode                              = "Prevention"
  enabled                           = true
  request_body_check_enabled        = true
  custom_block_response_status_code = 403
  tags                              = var.tags

  managed_rule {
    type    = "Microsoft_DefaultRuleSet"
    version = "2.1"
    action  = "Block"
  }

  managed_rule {
    type    = "Microsoft_BotManagerRuleSet"
    version = "1.1"
    action  = "Block"
  }

  custom_rule {
    name                           = "RatePerAddress"
    priority                       = 10
    enabled                        = true
    type                           = "RateLimitRule"
    action                         = "Block"
    rate_limit_duration_in_minutes = 1
    rate_limit_threshold           = var.rate_per_minute

    match_condition {
      match_variable     = "SocketAddr"
      operator           = "IPMatch"
      negation_condition = false
      match_values       = ["0.0.0.0/0", "::/0"]
    }
  }

  dynamic "custom_rule" {
    for_each = length(var.client_networks) == 0 ? [] : [var.client_networks]
    content {
      name     = "ClientsAlone"
      priority = 5
      enabled  = true
      type     = "MatchRule"
      action   = "Block"

      match_condition {
        match_variable     = "SocketAddr"
        operator           = "IPMatch"
        negation_condition = true
        match_values       = custom_rule.value
      }
    }
  }

  # What a rule matched is not written to its log: it may be a patient's name, or a key.
  log_scrubbing {
    enabled = true
    scrubbing_rule {
      enabled        = true
      match_variable = "RequestBodyJsonArgNames"
      operator       = "EqualsAny"
    }
    scrubbing_rule {
      enabled        = true
      match_variable = "RequestHeaderNames"
      operator       = "EqualsAny"
    }
    scrubbing_rule {
      enabled        = true
      match_variable = "QueryStringArgNames"
      operator       = "EqualsAny"
    }
  }
}

resource "azurerm_cdn_frontdoor_security_policy" "this" {
  count = local.is_front_door ? 1 : 0

  name                     = "waf"
  cdn_frontdoor_profile_id = azurerm_cdn_frontdoor_profile.this[0].id

  security_policies {
    firewall {
      cdn_frontdoor_firewall_policy_id = azurerm_cdn_frontdoor_firewall_policy.this[0].id

      association {
        patterns_to_match = ["/*"]

        domain {
          cdn_frontdoor_domain_id = azurerm_cdn_frontdoor_endpoint.this[0].id
        }
      }
    }
  }
}
