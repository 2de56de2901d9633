# The virtual network: subnets, what may pass between them, and the private DNS zones of private endpoints.
#
# Nothing here has a public address. What may come in from the internet comes through the platform's load balancer
# (the gateway's ingress) or through module edge, never both.

locals {
  # Private endpoints by kind of resource: the zone in which their names are.
  zones = {
    vault    = "privatelink.vaultcore.azure.net"
    blob     = "privatelink.blob.core.windows.net"
    registry = "privatelink.azurecr.io"
    vcore    = "privatelink.mongocluster.cosmos.azure.com"
    ru       = "privatelink.mongo.cosmos.azure.com"
  }

  # Who may reach the apps' subnet from outside of it.
  sources = var.edge == "none" ? (length(var.client_networks) == 0 ? ["Internet"] : var.client_networks) : (
    var.edge == "application_gateway" ? [var.subnets.edge] : []
  )

  # Destinations that the apps need, by service tag. Data is in private endpoints, so no store is among them.
  destinations = {
    AzureActiveDirectory        = 120
    AzureMonitor                = 130
    MicrosoftContainerRegistry  = 140
    "AzureFrontDoor.FirstParty" = 150
    AzureResourceManager        = 160
  }
}

resource "azurerm_virtual_network" "this" {
  name                = "${var.base}-vnet"
  location            = var.location
  resource_group_name = var.resource_group
  address_space       = [var.address_space]
  tags                = var.tags

  dynamic "ddos_protection_plan" {
    for_each = var.ddos_protection_plan_id == "" ? [] : [var.ddos_protection_plan_id]
    content {
      id     = ddos_protection_plan.value
      enable = true
    }
  }
}

resource "azurerm_subnet" "apps" {
  name                 = "apps"
  resource_group_name  = var.resource_group
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [var.subnets.apps]

  delegation {
    name = "container-apps"
    service_delegation {
      name    = "Microsoft.App/environments"
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}

resource "azurerm_subnet" "endpoints" {
  name                 = "endpoints"
  resource_group_name  = var.resource_group
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [var.subnets.endpoints]
  # Without this the rules below would not hold for private endpoints.
  private_endpoint_network_policies = "Enabled"
  default_outbound_access_enabled   = false
}

resource "azurerm_network_security_group" "apps" {
  name                = "${var.base}-apps"
  location            = var.location
  resource_group_name = var.resource_group
  tags                = var.tags
}

resource "azurerm_network_security_rule" "apps_in" {
  count = length(local.sources) == 0 ? 0 : 1

  name                        = "clients"
  description                 = "HTTPS to the gateway's ingress, from the door in front of it or from clients' networks"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.apps.name
  priority                    = 100
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  source_address_prefix       = length(local.sources) == 1 ? local.sources[0] : null
  source_address_prefixes     = length(local.sources) == 1 ? null : local.sources
  # Behind the platform's load balancer the ingress listens on 31443.
  destination_port_ranges    = ["443", "31443"]
  destination_address_prefix = var.subnets.apps
}

resource "azurerm_network_security_rule" "apps_probes" {
  name                        = "platform"
  description                 = "The platform's load balancer asks whether the ingress is there"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.apps.name
  priority                    = 110
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  source_address_prefix       = "AzureLoadBalancer"
  destination_port_range      = "30000-32767"
  destination_address_prefix  = var.subnets.apps
}

resource "azurerm_network_security_rule" "apps_among_themselves" {
  for_each = { Inbound = 120, Outbound = 100 }

  name                        = "apps-${lower(each.key)}"
  description                 = "Apps among themselves; the services check whose key it is"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.apps.name
  priority                    = each.value
  direction                   = each.key
  access                      = "Allow"
  protocol                    = "*"
  source_port_range           = "*"
  source_address_prefix       = var.subnets.apps
  destination_port_range      = "*"
  destination_address_prefix  = var.subnets.apps
}

resource "azurerm_network_security_rule" "apps_to_endpoints" {
  name                        = "endpoints"
  description                 = "Vault, registry, anchor (443) and databases (cluster 10260, account 10255)"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.apps.name
  priority                    = 110
  direction                   = "Outbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  source_address_prefix       = var.subnets.apps
  destination_port_ranges     = ["443", "10255", "10260"]
  destination_address_prefix  = var.subnets.endpoints
}

resource "azurerm_network_security_rule" "apps_to_platform" {
  for_each = local.destinations

  name                        = replace(lower(each.key), ".", "-")
  description                 = "What Container Apps, managed identities and telemetry need of Azure"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.apps.name
  priority                    = each.value
  direction                   = "Outbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  source_address_prefix       = var.subnets.apps
  destination_port_range      = "443"
  destination_address_prefix  = each.key
}

# Witnesses, further anchors, a provider of tokens, a collector: whatever else the services are told to reach.
resource "azurerm_network_security_rule" "apps_to_others" {
  for_each = { for place, it in var.egress : place => it }

  name                        = "other-${each.key}"
  description                 = "What the services were told to reach beyond Azure's own"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.apps.name
  priority                    = 200 + tonumber(each.key)
  direction                   = "Outbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  source_address_prefix       = var.subnets.apps
  destination_port_range      = tostring(each.value.port)
  destination_address_prefix  = each.value.to
}

resource "azurerm_network_security_rule" "apps_to_dns" {
  name                        = "dns"
  description                 = "Azure's resolver, which knows the private zones"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.apps.name
  priority                    = 170
  direction                   = "Outbound"
  access                      = "Allow"
  protocol                    = "*"
  source_port_range           = "*"
  source_address_prefix       = var.subnets.apps
  destination_port_range      = "53"
  destination_address_prefix  = "168.63.129.16"
}

resource "azurerm_network_security_rule" "apps_nothing_else" {
  for_each = { Inbound = 4000, Outbound = 4000 }

  name                        = "nothing-else-${lower(each.key)}"
  description                 = "The defaults would let the whole virtual network in, and everything out"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.apps.name
  priority                    = each.value
  direction                   = each.key
  access                      = "Deny"
  protocol                    = "*"
  source_port_range           = "*"
  source_address_prefix       = "*"
  destination_port_range      = "*"
  destination_address_prefix  = "*"
}

resource "azurerm_network_security_group" "endpoints" {
  name                = "${var.base}-endpoints"
  location            = var.location
  resource_group_name = var.resource_group
  tags                = var.tags
}

resource "azurerm_network_security_rule" "endpoints_in" {
  name                        = "apps"
  description                 = "The apps, and the edge, which reads its certificate from the vault"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.endpoints.name
  priority                    = 100
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  source_address_prefixes     = [var.subnets.apps, var.subnets.edge]
  destination_port_ranges     = ["443", "10255", "10260"]
  destination_address_prefix  = var.subnets.endpoints
}

resource "azurerm_network_security_rule" "endpoints_nothing_else" {
  for_each = { Inbound = 4000, Outbound = 4000 }

  name                        = "nothing-else-${lower(each.key)}"
  description                 = "The defaults would let the whole virtual network in"
  resource_group_name         = var.resource_group
  network_security_group_name = azurerm_network_security_group.endpoints.name
  priority                    = each.value
  direction                   = each.key
  access                      = "Deny"
  protocol                    = "*"
  source_port_range           = "*"
  source_address_prefix       = "*"
  destination_port_range      = "*"
  destination_address_prefix  = "*"
}

resource "azurerm_subnet_network_security_group_association" "apps" {
  subnet_id                 = azurerm_subnet.apps.id
  network_security_group_id = azurerm_network_security_group.apps.id
}

resource "azurerm_subnet_network_security_group_association" "endpoints" {
  subnet_id                 = azurerm_subnet.endpoints.id
  network_security_group_id = azurerm_network_security_group.endpoints.id
}

resource "azurerm_private_dns_zone" "this" {
  for_each = local.zones

  name                = each.value
  resource_group_name = var.resource_group
  tags                = var.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  for_each = local.zones

  name                  = "${var.base}-${each.key}"
  resource_group_name   = var.resource_group
  private_dns_zone_name = azurerm_private_dns_zone.this[each.key].name
  virtual_network_id    = azurerm_virtual_network.this.id
  tags                  = var.tags
}
