"""Loading one module of an installed peer without the rest of its package.

Many peers need heavy or unrelated packages (vision, audio, fused kernels) before their few lines of schedule code can
be imported. The code under test is the peer's own file, unchanged; only the ``__init__`` of its parents is left out.
"""

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from typing import Any


def living(module: str, supplied: Mapping[str, Mapping[str, Any]] | None = None) -> Any:
    """Import ``module`` (dotted) from the installed peer, with its parent packages empty where they fail to load.

    ``supplied`` are modules that it imports and that are not installed, or too heavy, with the names it takes from
    them: stand-ins for what its schedules do not use. They are there while it is imported, and gone afterwards;
    names for a parent left empty stay in it.
    """
    parents = module.split(".")[:-1]
    spec = importlib.util.find_spec(parents[0])
    assert spec is not None, f"{parents[0]} is not installed: see the README's second command"
    assert spec.submodule_search_locations
    path = next(iter(spec.submodule_search_locations))
    for i, parent in enumerate(parents):
        name = ".".join(parents[: i + 1])
        path = path if i == 0 else f"{path}/{parent}"
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [path]
            package.__spec__ = ModuleSpec(name, None, is_package=True)
            package.__spec__.submodule_search_locations = package.__path__
            sys.modules[name] = package
    absent = {name: types.ModuleType(name) for name in supplied or {} if name not in sys.modules}
    sys.modules.update(absent)
    for name, names in (supplied or {}).items():
        if not hasattr(sys.modules[name], "__file__"):
            vars(sys.modules[name]).update(names)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    finally:
        for name in absent:
            del sys.modules[name]
