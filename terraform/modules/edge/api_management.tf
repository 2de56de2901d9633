# For who keeps API Management: it checks the subscription's key and passes the request through as it is, key included,
# so the gateway checks it again and knows the client. What was a function app's route stays the same.

resource "azurerm_api_management" "this" {
  count = var.api_management == null ? 0 : 1

  #checkov:skip=CKV_AZURE_107:it calls one back end, whose certificate the platform issues; no client certificates are used
  #checkov:skip=CKV_AZURE_173:the tiers' defaults since 2024 have no weak ciphers, and security below turns off the old protocols
  #checkov:skip=CKV_AZURE_174:it is a public door where it is used; the gateway behind it is not reachable by others
  name                 = "${var.base}-api"
  location             = var.location
  resource_group_name  = var.resource_group
  publisher_name       = var.api_management.publisher_name
  publisher_email      = var.api_management.publisher_email
  sku_name             = var.api_management.sku_name
  min_api_version      = "2021-08-01"
  virtual_network_type = "None"
  tags                 = var.tags

  identity {
    type = "SystemAssigned"
  }

  security {
    backend_ssl30_enabled      = false
    backend_tls10_enabled      = false
    backend_tls11_enabled      = false
    frontend_ssl30_enabled     = false
    frontend_tls10_enabled     = false
    frontend_tls11_enabled     = false
    triple_des_ciphers_enabled = false
  }
}

resource "azurerm_api_management_api" "this" {
  count = var.api_management == null ? 0 : 1

  name                  = "vitalog"
  resource_group_name   = var.resource_group
  api_management_name   = azurerm_api_management.this[0].name
  revision              = "1"
  display_name          = "Vitalog"
  path                  = ""
  protocols             = ["https"]
  service_url           = "https://${var.host_name}"
  subscription_required = true

  subscription_key_parameter_names {
    header = "Ocp-Apim-Subscription-Key"
    query  = "subscription-key"
  }
}

resource "azurerm_api_management_api_operation" "all" {
  for_each = var.api_management == null ? toset([]) : toset(["GET", "POST", "PUT", "DELETE"])

  operation_id        = lower(each.key)
  api_name            = azurerm_api_management_api.this[0].name
  api_management_name = azurerm_api_management.this[0].name
  resource_group_name = var.resource_group
  display_name        = each.key
  method              = each.key
  url_template        = "/*"
}

resource "azurerm_api_management_api_policy" "this" {
  count = var.api_management == null ? 0 : 1

  api_name            = azurerm_api_management_api.this[0].name
  api_management_name = azurerm_api_management.this[0].name
  resource_group_name = var.resource_group
  xml_content         = file("${path.module}/pass_through.xml")
}
