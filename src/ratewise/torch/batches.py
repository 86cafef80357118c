"""Batches for the finder: begun anew without moving the loader that training uses, and copied to a device."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ratewise.errors import FinderError
from ratewise.finder.batches import Lookahead, apart
from ratewise.torch.snapshot import is_array


def source(batches: Any, name: str = "batches") -> Callable[[], Iterator[Any]]:
    """What begins the batches anew, without moving the loader or stream that training uses."""
    if isinstance(batches, tuple) and batches and all(isinstance(part, Tensor) for part in batches):
        raise FinderError(
            f"find_lr: {name} is a tuple of tensors, which may be one batch or several. Give a list of batches: "
            "[(x, y), ...]."
        )
    if isinstance(batches, Lookahead):
        return batches.coming
    if isinstance(batches, DataLoader):
        return lambda: iter(apart(batches))
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


def fresh(batch: Any, device: torch.device | None = None) -> Any:
    """A copy of the batch on the device, or where it is: a model may write into its input."""
    if isinstance(batch, Tensor):
        return batch.detach().to(device=device, copy=True).requires_grad_(batch.requires_grad)
    if is_array(batch):
        return batch.copy()
    if isinstance(batch, Mapping):
        moved = {key: fresh(value, device) for key, value in batch.items()}
        return moved if type(batch) is dict else _alike(batch, moved)
    if callable(getattr(batch, "to", None)):  # after a copy: some move in place, and where it is, many do not copy
        other = copy.deepcopy(batch)
        return other if device is None else other.to(device)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(fresh(part, device) for part in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(fresh(part, device) for part in batch)
    if hasattr(batch, "__dict__") and not callable(batch):
        other = copy.copy(batch)
        vars(other).update({name: fresh(value, device) for name, value in vars(batch).items()})
        return other
    return batch


def _alike(batch: Any, moved: dict[str, Any]) -> Any:
    """A mapping of the same kind, for example transformers' BatchEncoding."""
    try:
        other = copy.copy(batch)
        other.update(moved)
    except (AttributeError, TypeError):
        return moved
    return other


def examples(batch: Any) -> int:
    """How many examples the batch has, from its first tensor; 0 if that is not seen."""
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.ndim else 0
    if isinstance(batch, (tuple, list)):
        parts: Iterable[Any] = batch
    elif isinstance(batch, Mapping):
        parts = batch.values()
    else:
        parts = vars(batch).values() if hasattr(batch, "__dict__") and not callable(batch) else ()
    return next((n for part in parts if (n := examples(part))), 0)
