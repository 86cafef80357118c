"""The adapters are examined where their framework is installed."""

import os
from importlib.util import find_spec

import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

NEEDED = {"on_torch.py": "torch", "on_keras.py": "keras", "on_optax.py": "optax"}
missing = [file for file, framework in NEEDED.items() if find_spec(framework) is None]
collect_ignore = [*missing, *(file.replace("on_", "test_") for file in missing)]
if not all(map(find_spec, ("jax", "tensorflow", "torch"))):
    collect_ignore += ["test_rules.py", "test_schedules.py"]  # they try the arrays of all


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name == "test_keras.py" and item.path.parent.name == "conformance":
            # Keras 3.15 hands numpy 2 tensors of an older protocol
            item.add_marker(pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"))
