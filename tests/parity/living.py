"""Loading one module of an installed peer without the rest of its package.

Many peers need heavy or unrelated packages (vision, audio, fused kernels) before their few lines of schedule code can
be imported. The code under test is the peer's own file, unchanged; only the ``__init__`` of its parents is left out.
"""

import importlib
import importlib.util
import sys
import types
import warnings
from typing import Any


def living(module: str) -> Any:
    """Import ``module`` (dotted) from the installed peer, with its parent packages empty where they fail to load."""
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
            sys.modules[name] = package
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)
