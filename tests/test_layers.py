"""Who may import whom: read from the source with ``ast``, imports inside functions included."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "ratewise"

ADAPTERS = {"torch", "keras", "optax"}
EVERYTHING = {"errors", "core", "interop", "doctor", "finder", "lab", "report", "replicate", "cli", *ADAPTERS}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "core": {"errors"},
    "outcome": set(),
    **{key: {"errors", "core", "finder", "outcome"} for key in ADAPTERS},  # the finder knows no framework
    "interop": {"errors", "core"},
    "doctor": {"errors", "core", "interop"},
    "finder": {"errors", "core"},
    "testing": {"errors", "core"},
    "logs": {"errors", "core"},
    "lab": {"errors", "core", "finder", "interop", "outcome", *ADAPTERS},
    "report": {"errors", "core", "finder", "lab"},
    "replicate": {"errors", "core", "finder", "lab", "report", "outcome", *ADAPTERS},
    "cli": EVERYTHING,
    "": {"errors", "core", "interop", "lab"},  # the package itself: its names
}
"""The layers, and which others each may import; every layer may import itself."""

ONLY_INSIDE_FUNCTIONS = {("lab", adapter) for adapter in ADAPTERS}

FRONT_DOORS = {
    ("ratewise.core.schedule", "ratewise.core.resolve"),  # Schedule.over
    ("ratewise.core.horizon", "ratewise.core.resolve"),  # Horizon.table
}
"""Methods whose work is done in a module above their own, which they import when they are called."""

FRAMEWORKS = {
    **dict.fromkeys(("torch", "torchvision"), "torch"),
    **dict.fromkeys(("keras", "tensorflow"), "keras"),
    **dict.fromkeys(("optax", "jax", "jaxlib", "flax"), "optax"),
}
"""Which adapter a framework belongs to; nobody else imports it, except, inside functions, ``interop``, ``keras``, which
runs on three of them, and ``replicate``, which has a model of its own."""


@dataclass(frozen=True)
class Import:
    """One imported module, where, and how."""

    importer: str
    imported: str
    line: int
    inside: bool
    for_types: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def modules() -> dict[str, Path]:
    names = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = modules()


def layer(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports_of(module: str) -> Iterator[Import]:
    def visit(node: ast.AST, inside: bool, for_types: bool) -> Iterator[Import]:
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for_types = True
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, inside, for_types)
        if isinstance(node, ast.ImportFrom):
            package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], *base.split(".")])
            for alias in node.names:
                name = f"{base.rstrip('.')}.{alias.name}"
                yield Import(module, name if name in MODULES else base.rstrip("."), node.lineno, inside, for_types)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside, for_types)

    yield from visit(ast.parse(MODULES[module].read_text()), inside=False, for_types=False)


IMPORTS = [found for module in MODULES for found in imports_of(module)]
OURS = [i for i in IMPORTS if i.imported.split(".")[0] == "ratewise"]


def test_every_layer_is_known() -> None:
    assert {layer(module) for module in MODULES} <= set(MAY_IMPORT)


def test_a_layer_imports_only_to_its_right() -> None:
    wrong = [i for i in OURS if layer(i.imported) not in {layer(i.importer), *MAY_IMPORT[layer(i.importer)]}]
    assert [str(i) for i in wrong if not (layer(i.imported) == "" and layer(i.importer) in ("cli", "report"))] == []


def test_lab_imports_adapters_only_inside_functions() -> None:
    pairs = [i for i in OURS if (layer(i.importer), layer(i.imported)) in ONLY_INSIDE_FUNCTIONS]
    assert [str(i) for i in pairs if not (i.inside or i.for_types)] == []


def test_nobody_imports_the_command_line() -> None:
    assert [str(i) for i in OURS if layer(i.imported) == "cli" and layer(i.importer) != "cli"] == []


def test_core_and_errors_import_the_standard_library_alone() -> None:
    own = [i for i in IMPORTS if layer(i.importer) in ("", "core", "errors")]
    foreign = [i for i in own if i.imported.split(".")[0] not in {*sys.stdlib_module_names, "ratewise"}]
    assert [str(i) for i in foreign] == []


def test_core_imports_its_own_modules_at_the_top() -> None:
    inside = [i for i in OURS if layer(i.importer) in ("core", "errors") and i.inside]
    assert [str(i) for i in inside if (i.importer, i.imported) not in FRONT_DOORS] == []


def test_a_framework_is_imported_by_its_own_adapter_alone() -> None:
    wrong = [
        i
        for i in IMPORTS
        if (owner := FRAMEWORKS.get(i.imported.split(".")[0]))
        and layer(i.importer) != owner
        and not i.for_types
        and not (layer(i.importer) in ("interop", "keras", "replicate") and i.inside)
    ]
    assert [str(i) for i in wrong] == []


@pytest.mark.parametrize("name", sorted({layer(module) for module in MODULES} - {""}))
def test_a_layer_has_no_import_cycle(name: str) -> None:
    graph = {
        module: {
            i.imported
            for i in OURS
            if i.importer == module != i.imported and not i.for_types and (module, i.imported) not in FRONT_DOORS
        }
        for module in MODULES
        if layer(module) == name
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")
