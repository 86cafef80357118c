"""The public names: complete, sorted, documented."""

import ast
import inspect
from pathlib import Path

import pytest

import ratewise
from ratewise.core import horizon, parse, recipes, schedule, shapes

SOURCE = Path(ratewise.__file__)
EXPORTED = {
    alias.asname: node.module
    for node in ast.walk(ast.parse(SOURCE.read_text()))
    if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ratewise.")
    for alias in node.names
    if alias.asname
}


def public(module: object) -> set[str]:
    """The functions and classes that a module defines for its users."""
    return {
        name
        for name, value in vars(module).items()
        if name[0] != "_" and callable(value) and getattr(value, "__module__", "") == module.__name__  # type: ignore[attr-defined]
    }


def test_every_recipe_is_exported() -> None:
    assert set(recipes.RECIPES) <= set(EXPORTED)
    assert {name for name in public(recipes) if name != "recipe"} == set(recipes.RECIPES)


def test_every_name_that_a_repr_or_parse_may_use_is_exported() -> None:
    assert set(parse.FUNCTIONS) <= set(EXPORTED)


def test_every_shape_and_reader_is_exported() -> None:
    assert public(shapes) - {"Decay", "registered"} <= set(EXPORTED)
    assert {"Horizon", "Length", "epochs", "samples", "tokens", "fraction"} <= public(horizon) & set(EXPORTED)
    assert {"Ramp", "Schedule", "sequence"} <= public(schedule) & set(EXPORTED)
    assert {"parse", "from_dict"} <= public(parse) & set(EXPORTED)


def test_names_are_imported_in_sorted_order_under_their_own_names() -> None:
    for node in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ratewise."):
            names = [alias.name for alias in node.names]
            assert names == sorted(names, key=lambda n: (not n.isupper(), n[0].islower(), n))
            assert names == [alias.asname for alias in node.names]


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'cosin'"):
        _ = ratewise.cosin


CORE = [name for name, module in EXPORTED.items() if module.startswith("ratewise.core")]


@pytest.mark.parametrize("name", CORE)
def test_every_public_name_and_method_is_documented(name: str) -> None:
    value = getattr(ratewise, name)
    assert len(inspect.getdoc(value) or "") > 20
    if inspect.isclass(value):
        for method_name, method in vars(value).items():
            if method_name[0] != "_" and (inspect.isfunction(method) or isinstance(method, property)):
                assert inspect.getdoc(getattr(value, method_name)), f"{name}.{method_name}"


@pytest.mark.parametrize("module", [horizon, parse, recipes, schedule, shapes], ids=lambda m: m.__name__)
def test_every_module_says_what_it_is_for(module: object) -> None:
    assert inspect.getdoc(module)
