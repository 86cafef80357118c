"""Batches of JAX for the finder: begun anew without moving the loader that training uses.

JAX has no global state, but loaders have: generators of Python and numpy, often PyTorch's, and counters of their own.
``Memory`` puts those back.
"""

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np

from ratewise.errors import FinderError
from ratewise.finder.batches import Lookahead, apart
from ratewise.finder.interrupts import uninterrupted

_DEEPEST = 4
"""How far below a loader its generators are looked for: loader, batch sampler, sampler, generator."""


def source(batches: Any, name: str = "batches") -> Callable[[], Iterator[Any]]:
    """What begins the batches anew, without moving the loader or stream that training uses."""
    if isinstance(batches, Lookahead):
        return batches.coming
    if isinstance(batches, Iterator):
        raise FinderError(
            f"find_lr: {name} is an iterator, and what the finder takes would be missing in training. Give the loader "
            "or a list; or write stream = ratewise.finder.Lookahead(iterator), train from stream and give it here."
        )
    if isinstance(batches, tuple) and not hasattr(batches, "_fields") and any(hasattr(x, "shape") for x in batches):
        raise FinderError(
            f"find_lr: {name} is a tuple of arrays, which reads as one batch after the other. Give a list of batches: "
            "[(x, y)]."
        )
    if callable(batches) and not isinstance(batches, Iterable):
        return lambda: iter(batches())
    if not isinstance(batches, Iterable) or isinstance(batches, (str, Mapping)) or hasattr(batches, "shape"):
        raise FinderError(
            f"find_lr: {name} must be a loader, a list of batches, another iterable or a function that returns one, "
            f"got {type(batches).__name__}. One batch alone goes into a list, with others."
        )
    return lambda: iter(apart(batches))


def fresh(batch: Any) -> Any:
    """The batch with arrays of its own, as a loader may write the next one into the same memory."""
    return jax.tree.map(_array, batch)


def _array(leaf: Any) -> Any:
    if isinstance(leaf, (jax.Array, bool, int, float, complex)):
        return leaf
    try:
        array = np.array(np.asarray(leaf))
    except (TypeError, ValueError, RuntimeError):
        array = np.array(None)
    if array.dtype.kind in "OUSMm":
        raise FinderError(
            f"find_lr: batches must hold arrays and numbers, got {type(leaf).__name__}. Turn it into an array of numpy."
        )
    return array


def examples(batch: Any) -> int:
    """How many examples the batch has, from its first array; 0 if that is not seen."""
    return next((leaf.shape[0] for leaf in jax.tree.leaves(batch) if getattr(leaf, "shape", ())), 0)


class Memory:
    """The global random generators, and the attributes and generators of loaders; ``restore()`` puts all back.

    Args:
        feeders: What batches come from. A ``Lookahead`` is left alone: what it has read stays read.
    """

    def __init__(self, feeders: Sequence[Any]) -> None:
        self._undo: list[Callable[[], object]] = [partial(random.setstate, random.getstate())]
        self._undo.append(partial(np.random.set_state, np.random.get_state()))
        if (torch := _default_generator()) is not None:
            self._undo.append(partial(torch.set_state, torch.get_state()))
        self._seen: dict[int, Any] = {}  # by identity; holds the objects, so that no identity is given twice
        for feeder in feeders:
            self._walk(feeder, _DEEPEST)

    def restore(self) -> None:
        """Put everything back; may be called more than once."""
        with uninterrupted():
            for undo in self._undo:
                undo()

    def _walk(self, thing: Any, depth: int) -> None:
        if id(thing) in self._seen or isinstance(thing, (Lookahead, type, FunctionType, MethodType, ModuleType)):
            return
        self._seen[id(thing)] = thing
        if (states := _state_of(thing)) is not None:
            self._undo.append(states)
        elif isinstance(thing, list) and depth < _DEEPEST:
            self._undo.append(partial(_refill, thing, list(thing)))
        elif isinstance(thing, np.ndarray) and thing.ndim == 1 and thing.dtype.kind in "iu":  # an order, shuffled
            self._undo.append(partial(_rewrite, thing, thing.copy()))
        elif depth and isinstance(getattr(thing, "__dict__", None), dict) and not _standard(thing):
            held = vars(thing)
            self._undo.append(partial(_refill_dict, held, dict(held)))
            for member in list(held.values()):
                self._walk(member, depth - 1)


def seed_all(seed: int) -> None:
    """Seed every global generator that ``Memory`` puts back."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if (torch := _default_generator()) is not None:
        torch.manual_seed(seed)


def _default_generator() -> Any:
    """PyTorch's, which its ``DataLoader`` draws from, if it is loaded."""
    return getattr(sys.modules.get("torch"), "default_generator", None)


def _state_of(generator: Any) -> Callable[[], object] | None:
    """What puts a random generator of Python, numpy or PyTorch back; None for anything else."""
    if isinstance(generator, random.Random):
        return partial(generator.setstate, generator.getstate())
    if isinstance(generator, np.random.Generator):
        generator = generator.bit_generator
    if isinstance(generator, np.random.BitGenerator):
        return partial(setattr, generator, "state", generator.state)
    if isinstance(generator, np.random.RandomState):
        return partial(generator.set_state, generator.get_state())
    if isinstance(generator, getattr(sys.modules.get("torch"), "Generator", ())):
        torchs: Any = generator
        return partial(torchs.set_state, torchs.get_state())
    return None


def _standard(thing: Any) -> bool:
    """Whether it is of the standard library: queues, locks and threads must keep what they count."""
    return type(thing).__module__.partition(".")[0] in sys.stdlib_module_names


def _refill(held: list[Any], items: list[Any]) -> None:
    held[:] = items


def _refill_dict(held: dict[str, Any], items: dict[str, Any]) -> None:
    if held.keys() != items.keys() or any(held[name] is not items[name] for name in items):
        held.clear()
        held.update(items)


def _rewrite(array: Any, kept: Any) -> None:
    if not np.array_equal(array, kept):  # what did not change may be read-only
        array[...] = kept
