"""The azurerm provider's schema, from its published typings (npm `@cdktf/provider-azurerm`).

The typings are generated from the provider, one folder a resource. Their code says of each attribute its name, its
type and whether it is a block, their declarations whether it is required. Which optional arguments the provider fills
in by itself is not told: none is taken for one but `id`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

SIMPLE = {"string": "string", "number": "number", "boolean": "bool"}
ATTRIBUTE = re.compile(
    r"^ +(\w+): \{\n +value: (.*),\n +isBlock: (true|false),\n +type: \"(\w+)\",\n +storageClassType: \"(\w+)\",\n",
    re.MULTILINE,
)
PROPERTY = re.compile(r"^    readonly (\w+)(\??):", re.MULTILINE)
FLAGS = re.compile(r"// (\w+) - computed: (true|false), optional: (true|false), required: (true|false)")
COMPUTED = re.compile(r"this\.get(String|Number|Boolean|List|NumberList)Attribute\('(\w+)'\)")
READ = {"String": "string", "Number": "number", "Boolean": "bool", "List": ["list", "string"], "NumberList": ["list", "number"]}


@dataclass
class Attribute:
    """One argument or computed value. `type` is Terraform's JSON form of a type."""

    type: object
    required: bool
    optional: bool
    computed: bool


@dataclass
class Nested:
    """A nested block; `nesting` is list or set."""

    block: "Block"
    nesting: str
    required: bool
    single: bool


@dataclass
class Block:
    """A resource, a data source, the provider's configuration, or a block in one."""

    attributes: dict[str, Attribute] = field(default_factory=dict)
    blocks: dict[str, Nested] = field(default_factory=dict)


class Typings:
    """The unpacked package."""

    def __init__(self, package: Path):
        self.lib = package / "lib"

    def resource(self, kind: str) -> Block:
        """The schema of `azurerm_…`; KeyError where there is no such resource."""
        return self._read(kind.removeprefix("azurerm_").replace("_", "-"), "TerraformResource")

    def data_source(self, kind: str) -> Block:
        """The schema of a data source."""
        return self._read("data-azurerm-" + kind.removeprefix("azurerm_").replace("_", "-"), "TerraformDataSource")

    def provider(self) -> Block:
        """The schema of the provider's own configuration."""
        return self._read("provider", "TerraformProvider")

    def _read(self, folder: str, base: str) -> Block:
        file = self.lib / folder / "index.js"
        if not file.is_file():
            raise KeyError(folder)
        source = file.read_text()
        declared = (self.lib / folder / "index.d.ts").read_text()
        for more in sorted((self.lib / folder).glob("*structs*")):
            if more.suffix == ".js":
                source += more.read_text()
            else:
                declared += more.read_text()
        classes = {}
        for part in re.split(r"^(?=class \w+ extends )", source, flags=re.MULTILINE)[1:]:
            classes[part.split(" ", 2)[1]] = part
        functions = {
            name: body
            for name, body in re.findall(r"^function (\w+)ToHclTerraform\(struct\) \{\n(.*?)^\}", source, re.MULTILINE | re.DOTALL)
        }
        interfaces = dict(re.findall(r"^export interface (\w+) [^{]*\{\n(.*?)^\}", declared, re.MULTILINE | re.DOTALL))
        required = {
            of: {snake(name) for name, mark in PROPERTY.findall(body) if not mark} for of, body in interfaces.items()
        }
        name, main = next(it for it in classes.items() if f"extends cdktf.{base}" in it[1].split("\n", 1)[0])
        return self._block(main, main, required[name + "Config"], (functions, classes, required))

    def _block(self, attrs: str, described: str, needed: set[str], rest: tuple) -> Block:
        functions, classes, required_of = rest
        block = Block()
        for name, value, is_block, shape, storage in ATTRIBUTE.findall(attrs):
            required = name in needed
            if is_block == "true" and "ToHclTerraform" in value:
                function = re.search(r"(?<!cdktf\.)\b(\w+)ToHclTerraform", value).group(1)
                name_of_class = function[0].upper() + function[1:]
                inner = classes.get(name_of_class + "OutputReference", "")
                nested = self._block(functions[function], inner, required_of[name_of_class], rest)
                single = "listMapper" not in value
                nesting = "single" if shape == "struct" else "set" if shape == "set" else "list"
                block.blocks[name] = Nested(nested, nesting, required, single)
            else:
                block.attributes[name] = Attribute(type_of(shape, storage), required, not required, name == "id" and not required)
        for how, name in COMPUTED.findall(described):
            if name not in block.attributes and name not in block.blocks:
                block.attributes[name] = Attribute(READ[how], False, False, True)
        for name, *flags in FLAGS.findall(described):
            if name not in block.attributes and name not in block.blocks and flags == ["true", "false", "false"]:
                # Something nested that can only be read.
                block.attributes[name] = Attribute("dynamic", False, False, True)
        return block


def snake(name: str) -> str:
    """A name as Terraform writes it: `minTlsVersion` is min_tls_version, `nfsv3Enabled` nfsv3_enabled."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def type_of(shape: str, storage: str) -> object:
    """Terraform's type of an attribute, by the typings' words for it."""
    if storage in SIMPLE:
        return SIMPLE[storage]
    element, collection = re.fullmatch(r"(string|number|boolean|any)(List|Map)", storage).groups()
    element = SIMPLE.get(element, "dynamic")
    if collection == "Map":
        return ["map", element]
    return ["set" if shape == "set" else "list", element]
