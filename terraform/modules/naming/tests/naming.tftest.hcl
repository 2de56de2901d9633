variables {
  project         = "vitalogx"
  environment     = "prod"
  subscription_id = "00000000-0000-0000-0000-000000000001"
}

run "the_longest_names_are_within_their_limits" {
  command = plan

  assert {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", output.key_vault))
    error_message = "key vault: ${output.key_vault}"
  }
  assert {
    condition     = can(regex("^[a-z0-9]{3,24}$", output.storage))
    error_message = "storage account: ${output.storage}"
  }
  assert {
    condition     = can(regex("^[a-z0-9]{5,50}$", output.registry))
    error_message = "registry: ${output.registry}"
  }
  assert {
    condition     = alltrue([for name in values(output.stores) : can(regex("^[a-z0-9][a-z0-9-]{1,38}[a-z0-9]$", name))])
    error_message = "a store: ${jsonencode(output.stores)}"
  }
  assert {
    condition     = alltrue([for name in values(output.apps) : can(regex("^[a-z][a-z0-9-]{0,30}[a-z0-9]$", name))])
    error_message = "an app: ${jsonencode(output.apps)}"
  }
}

run "stores_have_names_of_their_own" {
  command = plan

  assert {
    condition     = length(distinct(values(output.stores))) == 4
    error_message = jsonencode(output.stores)
  }
}

run "another_subscription_has_other_names_that_are_unique_in_azure" {
  command = plan

  variables {
    subscription_id = "00000000-0000-0000-0000-000000000002"
  }

  assert {
    condition     = output.key_vault != run.the_longest_names_are_within_their_limits.key_vault
    error_message = "both are called ${output.key_vault}"
  }
}

run "a_project_that_does_not_fit_is_refused" {
  command = plan

  variables {
    project = "vitalog-long"
  }

  expect_failures = [var.project]
}

run "an_environment_that_does_not_fit_is_refused" {
  command = plan

  variables {
    environment = "production"
  }

  expect_failures = [var.environment]
}
