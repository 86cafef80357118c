"""Reading the data of a checkpoint that torch wrote, for people who want to know what is in it.

It is not for resuming. Nothing in the file is executed and no tensor is read: only what is plain data can be said.
"""

import re
import warnings
import zipfile
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ratewise.errors import AdapterError


def read(path: str | PathLike[str]) -> Any:
    """Return what ``torch.save`` wrote to ``path``; tensors stay on the disk.

    Raises:
        AdapterError: The file is another's or cut off, or holds Python objects, which are never loaded here.
        OSError: It cannot be opened.
    """
    path = Path(path)
    with path.open("rb"):  # so that a missing file is named as such
        pass
    try:
        with warnings.catch_warnings(action="ignore"):  # old files make torch warn about itself
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise AdapterError(f"{path.name}: {_reason(str(error))}") from None


def _reason(message: str) -> str:
    if found := re.search(r"GLOBAL ([\w.]+)", message):
        return (
            f"holds a Python object ({found[1]:.80}), and loading it would run code. "
            "Save plain data: scheduler.state_dict() and optimizer.state_dict()."
        )
    return "is not a file of torch.save, or is cut off."
