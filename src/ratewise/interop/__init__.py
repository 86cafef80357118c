"""Importers: the schedules of every peer as schedules of ours; and exporters.

Each ``from_...`` gives what the peer's own object returns for every update t >= 0, whatever the peer does past its
nominal end; where the peer raises, ours holds. The names are loaded when they are first asked for, and no framework
is imported to read its objects.
"""

from importlib import import_module
from typing import Any

_WHERE = {
    "from_torch": "torch",
    "from_keras": "keras",
    "from_hf": "hf",
    "from_optax": "optax",
    "from_timm": "timm",
    "from_fvcore": "fvcore",
    "from_ignite": "ignite",
    "from_kozistr": "kozistr",
    "from_deepspeed": "deepspeed",
    "from_composer": "composer",
    "from_mmengine": "mmengine",
    "from_paddle": "paddle",
    "from_megatron": "megatron",
    "from_nemo": "nemo",
    "from_fastai": "fastai",
    "from_pytorch_warmup": "pytorch_warmup",
    "from_torchtitan": "torchtitan",
    "from_chainer": "chainer",
    "export": "exporters",  # not "export": the module would take the place of the function
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    """Load an importer when it is first asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module 'ratewise.interop' has no attribute {name!r}")
    return getattr(import_module(f"ratewise.interop.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
