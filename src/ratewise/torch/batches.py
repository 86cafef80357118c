"""Batches for the finder: begun anew without moving the loader that training uses, and copied to a device."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ratewise.errors import FinderError
from ratewise.finder.batches import Lookahead


def source(batches: Any, name: str = "batches") -> Callable[[], Iterator[Any]]:
    """What begins the batches anew, without moving the loader or stream that training uses."""
    if isinstance(batches, Lookahead):
        return batches.coming
    if isinstance(batches, DataLoader):
        return lambda: iter(_apart(batches))
    if isinstance(batches, Iterator):
        raise FinderError(
            f"find_lr: {name} is an iterator, and what the finder takes would be missing in training. Give the loader "
            "or a list; or write stream = ratewise.finder.Lookahead(iterator), train from stream and give it here."
        )
    if not isinstance(batches, Iterable) or isinstance(batches, (str, Tensor, Mapping)):
        raise FinderError(
            f"find_lr: {name} must be a loader, a list of batches or another iterable, got {type(batches).__name__}. "
            "One batch alone goes into a list, with others."
        )
    return lambda: iter(batches)


def _apart(loader: Any) -> Any:
    """The loader, or a copy of it where its iterator is kept: beginning anew would end the epoch in progress."""
    if getattr(loader, "_iterator", None) is None:
        return loader
    other = copy.copy(loader)
    vars(other)["_iterator"] = None
    return other


def fresh(batch: Any, device: torch.device) -> Any:
    """A copy of the batch on the device: a model may write into its input."""
    if isinstance(batch, Tensor):
        return batch.to(device, copy=True)
    if isinstance(batch, Mapping):
        moved = {key: fresh(value, device) for key, value in batch.items()}
        return moved if type(batch) is dict else _alike(batch, moved)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(fresh(part, device) for part in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(fresh(part, device) for part in batch)
    return batch


def _alike(batch: Any, moved: dict[str, Any]) -> Any:
    """A mapping of the same kind, for example transformers' BatchEncoding."""
    other = copy.copy(batch)
    try:
        other.update(moved)
    except (AttributeError, TypeError):
        return moved
    return other


def examples(batch: Any) -> int:
    """How many examples the batch has, from its first tensor; 0 if that is not seen."""
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.ndim else 0
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (tuple, list)) else ()
    return next((n for part in parts if (n := examples(part))), 0)
