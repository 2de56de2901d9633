# The only public address of the deployment where it is used.

resource "azurerm_subnet" "edge" {
  count = local.is_application_gateway ? 1 : 0

  name                 = "edge"
  resource_group_name  = var.resource_group
  virtual_network_name = var.network_name
  address_prefixes     = [var.subnets.edge]
}

resource "azurerm_network_security_group" "edge" {
  count = local.is_application_gateway ? 1 : 0

  name                = "${var.base}-edge"
  location            = var.location
  resource_group_name = var.resource_group
  tags                = var.tags
}

resource "azurerm_network_security_rule" "edge_clients" {
  count = local.is_application_gateway ? 1 : 0

  name                        = "clients"
  description                 = "Clients, by TLS alone"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.edge[0].name
  priority                    = 100
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  source_address_prefix       = length(var.client_networks) == 0 ? "Internet" : null
  source_address_prefixes     = length(var.client_networks) == 0 ? null : var.client_networks
  destination_port_range      = "443"
  destination_address_prefix  = "*"
}

resource "azurerm_network_security_rule" "edge_manager" {
  for_each = local.is_application_gateway ? {
    manager  = { priority = 110, source = "GatewayManager", ports = "65200-65535" }
    balancer = { priority = 120, source = "AzureLoadBalancer", ports = "*" }
  } : {}

  name                        = each.key
  description                 = "The platform runs Application Gateways from outside of the network"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.edge[0].name
  priority                    = each.value.priority
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  source_address_prefix       = each.value.source
  destination_port_range      = each.value.ports
  destination_address_prefix  = "*"
}

resource "azurerm_network_security_rule" "edge_nothing_else" {
  count = local.is_application_gateway ? 1 : 0

  name                        = "nothing-else"
  description                 = "The defaults would let the whole virtual network in"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.edge[0].name
  priority                    = 4000
  direction                   = "Inbound"
  access                      = "Deny"
  protocol                    = "*"
  source_port_range           = "*"
  source_address_prefix       = "*"
  destination_port_range      = "*"
  destination_address_prefix  = "*"
}

resource "azurerm_subnet_network_security_group_association" "edge" {
  count = local.is_application_gateway ? 1 : 0

  subnet_id                 = azurerm_subnet.edge[0].id
  network_security_group_id = azurerm_network_security_group.edge[0].id
}

resource "azurerm_public_ip" "edge" {
  count = local.is_application_gateway ? 1 : 0

  name                 = "${var.base}-edge"
  location             = var.location
  resource_group_name  = var.resource_group
  allocation_method    = "Static"
  sku                  = "Standard"
  zones                = ["1", "2", "3"]
  ddos_protection_mode = var.ddos_protection_plan_id == "" ? "VirtualNetworkInherited" : "Enabled"

  ddos_protection_plan_id = var.ddos_protection_plan_id == "" ? null : var.ddos_protection_plan_id
  tags                    = var.tags
}

# Reads the certificate of the public name from the vault, and nothing else.
resource "azurerm_user_assigned_identity" "edge" {
  count = local.is_application_gateway ? 1 : 0

  name                = "${var.base}-edge"
  location            = var.location
  resource_group_name = var.resource_group
  tags                = var.tags
}

resource "azurerm_role_assignment" "certificate" {
  count = local.is_application_gateway ? 1 : 0

  scope                = "${var.vault_id}/secrets/${var.certificate_name}"
  role_definition_name = "Key Vault Secrets User"
  principal_id         = azurerm_user_assigned_identity.edge[0].principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_web_application_firewall_policy" "this" {
  count = local.is_application_gateway ? 1 : 0

  name                = "${var.base}-waf"
  location            = var.location
  resource_group_name = var.resource_group
  tags                = var.tags

  policy_settings {
    enabled            = true
    mode               = "Prevention"
    request_body_check = true
    # As the gateway's own bound.
    max_request_body_size_in_kb = 1024
    file_upload_enforcement     = false

    # What a rule matched is not written to its log: it may be a patient's name, or a key.
    log_scrubbing {
      enabled = true
      dynamic "rule" {
        for_each = ["RequestHeaderNames", "RequestCookieNames", "RequestArgNames", "RequestPostArgNames", "RequestJSONArgNames"]
        content {
          enabled                 = true
          match_variable          = rule.value
          selector_match_operator = "EqualsAny"
        }
      }
    }
  }

  managed_rules {
    managed_rule_set {
      type    = "OWASP"
      version = "3.2"
    }
    managed_rule_set {
      type    = "Microsoft_BotManagerRuleSet"
      version = "1.1"
    }
  }

  custom_rules {
    name                 = "RatePerAddress"
    priority             = 10
    rule_type            = "RateLimitRule"
    action               = "Block"
    rate_limit_duration  = "OneMin"
    rate_limit_threshold = var.rate_per_minute
    group_rate_limit_by  = "ClientAddr"

    match_conditions {
      operator           = "IPMatch"
      negation_condition = false
      match_values       = ["0.0.0.0/0", "::/0"]
      match_variables {
        variable_name = "RemoteAddr"
      }
    }
  }
}

resource "azurerm_application_gateway" "this" {
  count = local.is_application_gateway ? 1 : 0

  #checkov:skip=CKV_AZURE_217:the only listener is HTTPS; checkov cannot see it behind count
  name                = "${var.base}-edge"
  location            = var.location
  resource_group_name = var.resource_group
  firewall_policy_id  = azurerm_web_application_firewall_policy.this[0].id
  enable_http2        = true
  zones               = ["1", "2", "3"]
  tags                = var.tags

  sku {
    name = "WAF_v2"
    tier = "WAF_v2"
  }

  autoscale_configuration {
    min_capacity = 1
    max_capacity = 10
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.edge[0].id]
  }

  gateway_ip_configuration {
    name      = "edge"
    subnet_id = azurerm_subnet.edge[0].id
  }

  frontend_ip_configuration {
    name                 = "public"
    public_ip_address_id = azurerm_public_ip.edge[0].id
  }

  frontend_port {
    name = "https"
    port = 443
  }

  ssl_certificate {
    name                = "public"
    key_vault_secret_id = "${var.vault_uri}/secrets/${var.certificate_name}"
  }

  ssl_policy {
    policy_type = "Predefined"
    policy_name = "AppGwSslPolicy20220101S"
  }

  http_listener {
    name                           = "https"
    frontend_ip_configuration_name = "public"
    frontend_port_name             = "https"
    protocol                       = "Https"
    ssl_certificate_name           = "public"
    host_names                     = [var.host_name]
  }

  backend_address_pool {
    name  = "gateway"
    fqdns = [var.gateway_fqdn]
  }

  probe {
    name                                      = "ready"
    protocol                                  = "Https"
    path                                      = "/readyz"
    interval                                  = 5
    timeout                                   = 5
    unhealthy_threshold                       = 2
    pick_host_name_from_backend_http_settings = true
  }

  backend_http_settings {
    name                                = "gateway"
    cookie_based_affinity               = "Disabled"
    port                                = 443
    protocol                            = "Https"
    request_timeout                     = 75
    pick_host_name_from_backend_address = true
    probe_name                          = "ready"

    connection_draining {
      enabled           = true
      drain_timeout_sec = 60
    }
  }

  request_routing_rule {
    name                       = "gateway"
    priority                   = 100
    rule_type                  = "Basic"
    http_listener_name         = "https"
    backend_address_pool_name  = "gateway"
    backend_http_settings_name = "gateway"
  }

  depends_on = [azurerm_role_assignment.certificate, azurerm_subnet_network_security_group_association.edge]
}
