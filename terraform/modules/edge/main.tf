# What stands before the gateway, where something does: an Application Gateway in the network, or a Front Door that
# reaches it through a private link, each with a web application firewall; and on wish an API Management, which checks
# subscriptions first and passes everything through.

locals {
  is_application_gateway = var.kind == "application_gateway"
  is_front_door          = var.kind == "front_door"
}

# The apps' domain is not known outside; inside its names lead to the environment's one address.
resource "azurerm_private_dns_zone" "apps" {
  count = var.kind == "none" ? 0 : 1

  name                = var.apps_domain
  resource_group_name = var.resource_group
  tags                = var.tags
}

resource "azurerm_private_dns_a_record" "apps" {
  for_each = var.kind == "none" ? toset([]) : toset(["*", "*.internal", "@"])

  name                = each.key
  zone_name           = azurerm_private_dns_zone.apps[0].name
  resource_group_name = var.resource_group
  ttl                 = 300
  records             = [var.apps_static_ip]
  tags                = var.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "apps" {
  count = var.kind == "none" ? 0 : 1

  name                  = "${var.base}-apps"
  resource_group_name   = var.resource_group
  private_dns_zone_name = azurerm_private_dns_zone.apps[0].name
  virtual_network_id    = var.network_id
  tags                  = var.tags
}
