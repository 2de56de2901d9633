"""A provider that has azurerm's schema and nothing behind it.

It speaks Terraform's plugin protocol on a local socket, so that the real Terraform evaluates every expression, and checks
every argument, block and type against the published schema. What Azure would compute it makes up: ids, addresses and
names, the same ones each time, so that a plan shows what would be set where. Nothing reaches Azure.

    provider.py PACKAGE SOURCES…   prints the value of TF_REATTACH_PROVIDERS and serves until its input ends
"""

import json
import re
import sys
import tempfile
from concurrent import futures
from pathlib import Path

import grpc
import grpc_tools.protoc
import msgpack

from schema import Block, Typings

NESTING = {"single": 1, "list": 2, "set": 3}
UNKNOWN = msgpack.ExtType(0, b"\x00")
SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000000"


def protocol():
    """The messages, compiled from the description beside this file."""
    out = tempfile.mkdtemp()
    here = Path(__file__).parent
    done = grpc_tools.protoc.main(["protoc", f"-I{here}", f"--python_out={out}", str(here / "tfplugin6.proto")])
    if done != 0:
        raise RuntimeError("the protocol could not be compiled")
    sys.path.insert(0, out)
    import tfplugin6_pb2

    return tfplugin6_pb2


def made_up(kind: str, attribute: str, state: dict) -> object:
    """What Azure would answer, or None where nothing here needs it."""
    name = state.get("name")
    name = name if isinstance(name, str) else "unnamed"
    group = state.get("resource_group_name")
    group = group if isinstance(group, str) else "none"
    parent = next((state[it] for it in ("storage_account_id", "cdn_frontdoor_profile_id", "scope") if isinstance(state.get(it), str)), None)
    path = kind.removeprefix("azurerm_")
    known = {
        "id": f"{parent}/{path}/{name}" if parent else f"{SUBSCRIPTION}/resourceGroups/{group}/providers/{path}/{name}",
        "role_definition_resource_id": f"{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/{name}",
        "principal_id": f"principal-of-{name}",
        "client_id": f"client-of-{name}",
        "default_domain": "calm.westeurope.azurecontainerapps.io",
        "static_ip_address": "10.0.0.10",
        "primary_blob_endpoint": f"https://{name}.blob.core.windows.net/",
        "login_server": f"{name}.azurecr.io",
        "connection_string": "InstrumentationKey=00000000-0000-0000-0000-000000000000",
        "ip_address": "203.0.113.10",
        "host_name": f"{name}.azurefd.net",
    }
    return known.get(attribute)


class Provider:
    """The calls that Terraform makes."""

    def __init__(self, package: Path, sources: str):
        self.pb = protocol()
        typings = Typings(package)
        self.missing = []
        self.resources = self._found(typings.resource, r'^resource "(azurerm_\w+)"', sources)
        self.data = self._found(typings.data_source, r'^data "(azurerm_\w+)"', sources)
        self.provider = typings.provider()

    def _found(self, look_up, pattern: str, sources: str) -> dict[str, Block]:
        found = {}
        for kind in sorted(set(re.findall(pattern, sources, re.MULTILINE))):
            try:
                found[kind] = look_up(kind)
            except KeyError:
                # Terraform says of it that the provider has none such.
                self.missing.append(kind)
        return found

    def block(self, block: Block):
        """A block as the protocol has it."""
        answer = self.pb.Block()
        for name, it in block.attributes.items():
            answer.attributes.add(
                name=name, type=json.dumps(it.type).encode(), required=it.required, optional=it.optional, computed=it.computed
            )
        for name, it in block.blocks.items():
            bounds = {} if it.nesting == "single" else {"min_items": int(it.required), "max_items": int(it.single)}
            answer.block_types.add(type_name=name, block=self.block(it.block), nesting=NESTING[it.nesting], **bounds)
        return answer

    def schema(self, _request):
        """Everything that the sources use."""
        wrap = lambda block: self.pb.Schema(version=0, block=self.block(block))
        return self.pb.SchemaAnswer(
            provider=wrap(self.provider),
            provider_meta=self.pb.Schema(block=self.pb.Block()),
            resource_schemas={kind: wrap(block) for kind, block in self.resources.items()},
            data_source_schemas={kind: wrap(block) for kind, block in self.data.items()},
        )

    def plan(self, request):
        """The proposed state, and in it what Azure would compute."""
        question = self.pb.PlanQuestion.FromString(request)
        state = msgpack.unpackb(question.proposed_new_state.msgpack, strict_map_key=False)
        if state is not None:
            for name, attribute in self.resources[question.type_name].attributes.items():
                if attribute.computed and state.get(name) is None:
                    value = made_up(question.type_name, name, state)
                    state[name] = UNKNOWN if value is None else value
        planned = self.pb.DynamicValue(msgpack=msgpack.packb(state))
        return self.pb.PlanAnswer(planned_state=planned, legacy_type_system=True)

    def read(self, request):
        """What is looked up is there."""
        question = self.pb.ReadQuestion.FromString(request)
        state = msgpack.unpackb(question.config.msgpack, strict_map_key=False)
        for name, attribute in self.data[question.type_name].attributes.items():
            if attribute.computed and state.get(name) is None:
                state[name] = made_up(question.type_name, name, state)
        return self.pb.ReadAnswer(state=self.pb.DynamicValue(msgpack=msgpack.packb(state)))

    def handler(self):
        """The service, by the names of its calls."""
        nothing = lambda _request: self.pb.Diagnostics()
        calls = {
            "GetProviderSchema": self.schema,
            "ValidateProviderConfig": nothing,
            "ValidateResourceConfig": nothing,
            "ValidateDataResourceConfig": nothing,
            "ConfigureProvider": nothing,
            "StopProvider": nothing,
            "PlanResourceChange": self.plan,
            "ReadDataSource": self.read,
        }
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                lambda request, _context, call=call: call(request), response_serializer=lambda answer: answer.SerializeToString()
            )
            for name, call in calls.items()
        }
        return grpc.method_handlers_generic_handler("tfplugin6.Provider", methods)


def main() -> None:
    package, *folders = sys.argv[1:]
    sources = "\n".join(file.read_text() for folder in folders for file in sorted(Path(folder).rglob("*.tf")))
    provider = Provider(Path(package), sources)
    server = grpc.server(
        futures.ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    )
    server.add_generic_rpc_handlers((provider.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address = {"Network": "tcp", "String": f"127.0.0.1:{port}"}
    attach = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": 1, "Test": True, "Addr": address}
    print(json.dumps({"registry.terraform.io/hashicorp/azurerm": attach}), flush=True)
    # Whoever started it is gone when this ends.
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
