run "parts_have_the_sizes_that_azure_wants" {
  command = plan

  variables {
    address_space = "10.40.0.0/20"
  }

  assert {
    condition     = output.subnets.apps == "10.40.0.0/23"
    error_message = output.subnets.apps
  }
  assert {
    condition     = output.subnets.edge == "10.40.2.0/24"
    error_message = output.subnets.edge
  }
  assert {
    condition     = output.subnets.endpoints == "10.40.3.0/26"
    error_message = output.subnets.endpoints
  }
  assert {
    condition     = output.subnets.api_management == "10.40.3.64/27"
    error_message = output.subnets.api_management
  }
}

run "parts_do_not_overlap_in_a_larger_network" {
  command = plan

  variables {
    address_space = "172.20.0.0/16"
  }

  # First and last address as numbers, in ascending order of the parts.
  assert {
    condition = alltrue([
      cidrhost(output.subnets.apps, -1) == "172.20.1.255",
      cidrhost(output.subnets.edge, 0) == "172.20.2.0",
      cidrhost(output.subnets.edge, -1) == "172.20.2.255",
      cidrhost(output.subnets.endpoints, 0) == "172.20.3.0",
      cidrhost(output.subnets.endpoints, -1) == "172.20.3.63",
      cidrhost(output.subnets.api_management, 0) == "172.20.3.64",
    ])
    error_message = "parts overlap"
  }
}

run "too_small_a_network_is_refused" {
  command = plan

  variables {
    address_space = "10.40.0.0/21"
  }

  expect_failures = [var.address_space]
}

run "host_bits_are_refused" {
  command = plan

  variables {
    address_space = "10.40.1.0/20"
  }

  expect_failures = [var.address_space]
}

run "what_is_no_network_is_refused" {
  command = plan

  variables {
    address_space = "everything"
  }

  expect_failures = [var.address_space]
}

run "public_and_shared_networks_are_refused" {
  command = plan

  variables {
    address_space = "100.64.0.0/16"
  }

  expect_failures = [var.address_space]
}
