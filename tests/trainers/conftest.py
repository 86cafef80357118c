"""The trainers that the torch adapter is run in; each is used as its own users would, on a tiny model."""

from importlib.util import find_spec

collect_ignore = [
    file
    for module, file in {
        "accelerate": "test_accelerate.py",
        "lightning": "test_lightning.py",
        "torch": "test_ddp.py",
        "transformers": "test_hf.py",
    }.items()
    if find_spec(module) is None
]
