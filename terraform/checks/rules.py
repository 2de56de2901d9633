"""What must hold of every deployment, on Terraform's plan of it: after all variables, modules and loops.

    rules.py PLAN.json                  names what breaks a rule; exit code 1 where something does
    rules.py --expect RULE PLAN.json    the same plan must break this rule and no other: for the bad fixtures
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

# Databases, vaults, storage and registries: the argument that opens them to the internet, and its closed value.
CLOSED = {
    "azurerm_mongo_cluster": ("public_network_access", "Disabled"),
    "azurerm_cosmosdb_account": ("public_network_access_enabled", False),
    "azurerm_key_vault": ("public_network_access_enabled", False),
    "azurerm_storage_account": ("public_network_access_enabled", False),
    "azurerm_container_registry": ("public_network_access_enabled", False),
}

# Kinds of resources that write logs of their own, or metrics.
DIAGNOSED = {
    "azurerm_api_management", "azurerm_application_gateway", "azurerm_application_insights", "azurerm_cdn_frontdoor_profile",
    "azurerm_container_app_environment", "azurerm_container_registry", "azurerm_cosmosdb_account", "azurerm_key_vault",
    "azurerm_log_analytics_workspace", "azurerm_mongo_cluster", "azurerm_network_security_group", "azurerm_public_ip",
    "azurerm_storage_account", "azurerm_virtual_network",
}

FORBIDDEN_ROLES = {"Owner", "Contributor", "User Access Administrator", "Role Based Access Control Administrator"}
VAULT_ROLES = re.compile(r"^Key Vault ")
SECRET_NAMES = re.compile(r"PASSWORD|SECRET|PEPPER|TOKEN|_KEY$|_KEK$|_STORE$|SUBSCRIPTIONS$|CALLERS$")
REFERENCES = re.compile(r"^([a-z-]+=)?(keyvault|env):")


def planned(plan: dict) -> Iterator[dict]:
    """Every resource that would be made: address, type and values."""
    for change in plan.get("resource_changes", []):
        if change["mode"] == "managed" and change["change"]["after"] is not None:
            yield {"address": change["address"], "type": change["type"], **{"values": change["change"]["after"]}}


def exposed(plan: dict) -> Iterator[str]:
    """Only the gateway has external ingress, and nothing takes plain HTTP."""
    for it in planned(plan):
        if it["type"] != "azurerm_container_app":
            continue
        for ingress in it["values"].get("ingress") or []:
            if ingress.get("external_enabled") and it["values"]["name"] != "gateway":
                yield f"{it['address']} has external ingress"
            if ingress.get("allow_insecure_connections"):
                yield f"{it['address']} takes plain HTTP"


def public(plan: dict) -> Iterator[str]:
    """Databases, vaults, storage and registries are reached through private endpoints alone."""
    for it in planned(plan):
        argument, closed = CLOSED.get(it["type"], (None, None))
        if argument and it["values"].get(argument) != closed:
            yield f"{it['address']}: {argument} is not {closed}"


def roles(plan: dict) -> Iterator[str]:
    """Each identity has its roles on the smallest scope that does."""
    for it in planned(plan):
        if it["type"] != "azurerm_role_assignment":
            continue
        scope, role = it["values"].get("scope") or "", it["values"].get("role_definition_name") or ""
        if role in FORBIDDEN_ROLES:
            yield f"{it['address']} grants {role}"
        if re.fullmatch(r"/subscriptions/[^/]+(/resourceGroups/[^/]+)?(/providers/resource_group/[^/]+)?", scope):
            yield f"{it['address']} grants {role} on {scope}"
        on_one_secret = re.search(r"/secrets/[^/]+$", scope)
        is_the_job = role == "Key Vault Secrets Officer" and str(it["values"].get("principal_id")).endswith("-secrets")
        if VAULT_ROLES.match(role) and not on_one_secret and not is_the_job:
            yield f"{it['address']} grants {role} on more than a secret"


def own_roles(plan: dict) -> Iterator[str]:
    """A deployment makes no roles: who may change what a role allows may do everything."""
    for it in planned(plan):
        if it["type"] == "azurerm_role_definition":
            yield f"{it['address']} makes a role"


def diagnosed(plan: dict) -> Iterator[str]:
    """Whatever writes logs or metrics sends them to the workspace."""
    targets = {
        it["values"].get("target_resource_id") for it in planned(plan) if it["type"] == "azurerm_monitor_diagnostic_setting"
    }
    for it in planned(plan):
        identity = it["values"].get("id")
        if it["type"] in DIAGNOSED and not targets & {identity, f"{identity}/blobServices/default"}:
            yield f"{it['address']} has no diagnostic setting"


def secret(plan: dict) -> Iterator[str]:
    """No value of a secret stands in the configuration: the services are told where it is."""
    for it in planned(plan):
        values = it["values"]
        if it["type"] == "azurerm_key_vault_secret" and values.get("value") is not None:
            yield f"{it['address']} has a value"
        if it["type"] == "azurerm_mongo_cluster" and isinstance(values.get("administrator_password"), str):
            yield f"{it['address']} has a password that is known when it is planned"
        if it["type"] in ("azurerm_container_app", "azurerm_container_app_job"):
            for template in values.get("template") or []:
                for container in template.get("container") or []:
                    yield from told(it["address"], container.get("env") or [])


def told(address: str, variables: list[dict]) -> Iterator[str]:
    """Variables that are called like a secret and are no reference to one."""
    for variable in variables:
        parts = re.split(r"[ ,]", variable.get("value") or "")
        if SECRET_NAMES.search(variable["name"]) and not all(REFERENCES.match(part) for part in parts):
            yield f"{address} is told {variable['name']}, which is no reference"


RULES = {rule.__name__: rule for rule in (exposed, public, roles, own_roles, diagnosed, secret)}


def main() -> int:
    *expected, file = sys.argv[1:]
    plan = json.loads(Path(file).read_text())
    if not list(planned(plan)):
        print(f"{file}: nothing is planned")
        return 1
    broken = {name: found for name, rule in RULES.items() if (found := list(rule(plan)))}
    if expected:
        if set(broken) == {expected[1]}:
            return 0
        print(f"{file} should break {expected[1]}, and breaks {sorted(broken)}")
        return 1
    for name, found in broken.items():
        for what in found:
            print(f"{name}: {what}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
