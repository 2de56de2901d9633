# Run once, by hand, by an owner of the subscription: where Terraform keeps its state, and the identity with which the
# pipeline signs in by OpenID Connect. After it nobody needs a credential that lasts.

terraform {
  required_version = ">= 1.11.0"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "= 4.55.0"
    }
  }
}

provider "azurerm" {
  subscription_id     = var.subscription_id
  tenant_id           = var.tenant_id
  storage_use_azuread = true
  features {}
}

variable "subscription_id" {
  description = "Azure subscription"
  type        = string
}

variable "tenant_id" {
  description = "Its tenant"
  type        = string
}

variable "location" {
  description = "Azure region"
  type        = string
  default     = "westeurope"
}

variable "environment" {
  description = "dev or prod: each has its own state and its own identity"
  type        = string
}

variable "repository" {
  description = "OWNER/NAME on GitHub; its environment of the same name may sign in, and nothing else"
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.repository))
    error_message = "repository is OWNER/NAME."
  }
}

variable "operator_principal_ids" {
  description = "People who may read and write the state, by a name of one's own"
  type        = map(string)
  default     = {}
}

locals {
  name   = "vitalog-${var.environment}-tf"
  unique = substr(sha256(lower(var.subscription_id)), 0, 6)
  tags   = { project = "vitalog", environment = var.environment, managed-by = "terraform" }

  deployer     = azurerm_user_assigned_identity.deployer.principal_id
  subscription = "/subscriptions/${var.subscription_id}"

  # What a deployment may grant: built-in roles by their ids, and the two below.
  grantable = join(", ", [
    "4633458b-17de-408a-b874-0445c86b69e6", # Key Vault Secrets User
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7", # Key Vault Secrets Officer
    "7f951dda-4ed3-4680-a7ca-43fe172d538d", # AcrPull
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1", # Storage Blob Data Reader
    local.role_ids["database-credentials"],
    local.role_ids["keeps-checkpoints"],
  ])

  # The same ones each time, and of this subscription alone.
  role_ids = { for role in ["database-credentials", "keeps-checkpoints", "locks"] :
    role => uuidv5("url", "https://management.azure.com${local.subscription}/vitalog/${var.environment}/${role}")
  }
}

resource "azurerm_resource_group" "this" {
  name     = local.name
  location = var.location
  tags     = local.tags
}

resource "azurerm_storage_account" "state" {
  #checkov:skip=CKV_AZURE_33:there are no queues in this account
  #checkov:skip=CKV_AZURE_59:hosted runners and people read the state from outside the network; it takes tokens of named principals alone, no keys, and holds no secret of the services
  #checkov:skip=CKV_AZURE_35:as above; put runners into the network and deny the rest where you have such runners
  #checkov:skip=CKV2_AZURE_1:state holds no secret of the services; a key of one's own can be added
  #checkov:skip=CKV2_AZURE_33:as above, a private endpoint is for runners in the network
  name                             = "vitalog${var.environment}tf${local.unique}"
  location                         = azurerm_resource_group.this.location
  resource_group_name              = azurerm_resource_group.this.name
  account_tier                     = "Standard"
  account_replication_type         = "GZRS"
  min_tls_version                  = "TLS1_2"
  https_traffic_only_enabled       = true
  allow_nested_items_to_be_public  = false
  shared_access_key_enabled        = false
  local_user_enabled               = false
  default_to_oauth_authentication  = true
  cross_tenant_replication_enabled = false
  tags                             = local.tags

  blob_properties {
    versioning_enabled = true
    delete_retention_policy {
      days = 90
    }
    container_delete_retention_policy {
      days = 90
    }
  }

  sas_policy {
    expiration_period = "00.01:00:00"
    expiration_action = "Block"
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_storage_container" "state" {
  #checkov:skip=CKV2_AZURE_21:every read is in the diagnostic setting's StorageRead log, which checkov does not know
  name                  = "state"
  storage_account_id    = azurerm_storage_account.state.id
  container_access_type = "private"
}

resource "azurerm_log_analytics_workspace" "state" {
  name                         = "${local.name}-logs"
  location                     = azurerm_resource_group.this.location
  resource_group_name          = azurerm_resource_group.this.name
  sku                          = "PerGB2018"
  retention_in_days            = 90
  local_authentication_enabled = false
  tags                         = local.tags
}

resource "azurerm_monitor_diagnostic_setting" "state" {
  name                       = "to-workspace"
  target_resource_id         = "${azurerm_storage_account.state.id}/blobServices/default"
  log_analytics_workspace_id = azurerm_log_analytics_workspace.state.id

  enabled_log {
    category_group = "allLogs"
  }
}

resource "azurerm_user_assigned_identity" "deployer" {
  name                = local.name
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  tags                = local.tags
}

# Jobs in this environment of this repository, which approvals guard; no branch, no pull request.
resource "azurerm_federated_identity_credential" "deployer" {
  name                = "github-${var.environment}"
  resource_group_name = azurerm_resource_group.this.name
  parent_id           = azurerm_user_assigned_identity.deployer.id
  issuer              = "https://token.actions.githubusercontent.com"
  audience            = ["api://AzureADTokenExchange"]
  subject             = "repo:${var.repository}:environment:${var.environment}"
}

# Roles of Vitalog's own. The owner makes them here: whoever may change what a role allows may do everything.
resource "azurerm_role_definition" "credentials" {
  role_definition_id = local.role_ids["database-credentials"]
  name               = "vitalog-${var.environment}-database-credentials"
  scope              = local.subscription
  description        = "Sets and reads the credentials of Vitalog's databases, where it is granted"
  assignable_scopes  = [local.subscription]

  permissions {
    actions = [
      "Microsoft.DocumentDB/mongoClusters/read",
      "Microsoft.DocumentDB/mongoClusters/write",
      "Microsoft.DocumentDB/databaseAccounts/read",
      "Microsoft.DocumentDB/databaseAccounts/listConnectionStrings/action",
      "Microsoft.DocumentDB/databaseAccounts/regenerateKey/action",
    ]
    not_actions = []
  }
}

# A built-in role that writes may also delete.
resource "azurerm_role_definition" "checkpoints" {
  role_definition_id = local.role_ids["keeps-checkpoints"]
  name               = "vitalog-${var.environment}-keeps-checkpoints"
  scope              = local.subscription
  description        = "Adds checkpoints to the anchor and reads them"
  assignable_scopes  = [local.subscription]

  permissions {
    data_actions = [
      "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
      "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action",
    ]
    actions = ["Microsoft.Storage/storageAccounts/blobServices/containers/read"]
  }
}

# The pipeline locks databases; it cannot unlock them.
resource "azurerm_role_definition" "locks" {
  role_definition_id = local.role_ids["locks"]
  name               = "vitalog-${var.environment}-locks"
  scope              = local.subscription
  description        = "Locks resources against deletion"
  assignable_scopes  = [local.subscription]

  permissions {
    actions     = ["Microsoft.Authorization/locks/read", "Microsoft.Authorization/locks/write"]
    not_actions = []
  }
}

resource "azurerm_role_assignment" "deploys" {
  scope                = local.subscription
  role_definition_name = "Contributor"
  principal_id         = local.deployer
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "locks" {
  scope              = local.subscription
  role_definition_id = azurerm_role_definition.locks.role_definition_resource_id
  principal_id       = local.deployer
  principal_type     = "ServicePrincipal"
}

# It grants those roles and no others, and none to itself.
resource "azurerm_role_assignment" "grants" {
  scope                = local.subscription
  role_definition_name = "Role Based Access Control Administrator"
  principal_id         = local.deployer
  principal_type       = "ServicePrincipal"
  condition_version    = "2.0"
  condition            = <<-EOT
    (
      (!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'}))
      OR
      (
        @Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {${local.grantable}}
        AND
        @Request[Microsoft.Authorization/roleAssignments:PrincipalId] ForAnyOfAllValues:GuidNotEquals {${local.deployer}}
      )
    )
    AND
    (
      (!(ActionMatches{'Microsoft.Authorization/roleAssignments/delete'}))
      OR
      (@Resource[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {${local.grantable}})
    )
  EOT
}

resource "azurerm_role_assignment" "state" {
  for_each = merge(var.operator_principal_ids, { deployer = local.deployer })

  scope                = azurerm_storage_container.state.id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id         = each.value
}

output "backend" {
  description = "Arguments of terraform init: -backend-config=NAME=VALUE for each"
  value = {
    resource_group_name  = azurerm_resource_group.this.name
    storage_account_name = azurerm_storage_account.state.name
    container_name       = azurerm_storage_container.state.name
    key                  = "${var.environment}.tfstate"
  }
}

output "deployer" {
  description = "Client id of the pipeline's identity: variable AZURE_CLIENT_ID of the GitHub environment"
  value       = azurerm_user_assigned_identity.deployer.client_id
}
