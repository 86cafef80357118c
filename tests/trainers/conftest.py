"""The trainers that the torch adapter is run in: each is used as its own users would, on a tiny model."""

import sys
from importlib.util import find_spec

import pytest

NEEDED = {
    "accelerate": ["test_accelerate.py", "test_find_in_trainers.py", "test_hf.py"],
    "lightning": ["test_find_in_lightning.py", "test_lightning.py"],
    "torch": ["test_accelerate.py", "test_ddp.py", "test_hf.py", "test_lightning.py"],
    "transformers": ["test_find_in_trainers.py", "test_hf.py"],
}

collect_ignore_glob = ["hug.py", "lit*.py", "ranks_*.py"]  # no tests; importing them takes seconds
collect_ignore = [file for module, files in NEEDED.items() if find_spec(module) is None for file in files]


@pytest.fixture(autouse=True)
def _no_deepspeed(monkeypatch):
    """Accelerate imports DeepSpeed where it is installed; here it may be, for its schedules, but not to run."""
    monkeypatch.setitem(sys.modules, "deepspeed", None)
