"""Batches from a user's own loader: epoch after epoch, everything random in them fixed by a seed.

The loader keeps its shuffling, sampling and augmentation. What they draw, from torch, numpy, ``random`` or a
generator of the loader, is drawn apart: it depends on the seed alone, not on the model that is trained in between,
so every strategy sees the same batches.
"""

import copy
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np

from ratewise.errors import TaskError

AT_ONCE = 32
"""Batches taken in one go: changing the state of three random generators costs as much as a small update."""

_STATES: tuple[tuple[str, str, str], ...] = (
    ("random", "getstate", "setstate"),
    ("numpy.random", "get_state", "set_state"),
    ("torch.random", "get_rng_state", "set_rng_state"),
)


def is_loader(data: Any) -> bool:
    """Whether it is iterated over for batches, and not a pair of arrays."""
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    array = hasattr(data, "__array__") or isinstance(data, (str, bytes, Mapping))
    return isinstance(data, Iterable) and not (pair or array)


def stream(loader: Any, seed: int, steps: int) -> Iterator[tuple[Any, Any]]:
    """Yield ``steps`` batches ``(inputs, targets)``, epoch after epoch, as the loader gives them.

    Args:
        loader: What gives an epoch each time it is begun.
        seed: Fixes everything random in the batches.
        steps: How many batches.

    Raises:
        TaskError: The loader ends for good, is empty, or gives something else than pairs.
    """
    coming = islice(_endless(_own(loader, seed)), steps)
    states: list[Any] | None = None
    while True:
        with _apart(seed, states) as keep:
            batches = [_pair(batch) for batch in islice(coming, AT_ONCE)]
            states = keep()
        yield from batches
        if len(batches) < AT_ONCE:
            return


def gathered(loader: Any, limit: int | None, *, seed: int = 0, epochs: int = 1) -> tuple[list[Any], list[Any]]:
    """Return the inputs and the targets of an epoch's batches under a seed, of at most ``limit``.

    With ``epochs=2`` it is the second epoch, begun when ``limit`` batches of the first were read.
    """
    with _apart(seed, None):
        own = _own(loader, seed)
        for _ in range(epochs):
            batches = [_pair(batch) for batch in islice(_epoch(own), limit)]
    return [inputs for inputs, _ in batches], [targets for _, targets in batches]


@contextmanager
def _apart(seed: int, states: list[Any] | None) -> Iterator[Callable[[], list[Any]]]:
    """Let the global generators be those of a stream: seeded at its begin, later in the states where it left them."""
    loaded = [(sys.modules[name], get, put) for name, get, put in _STATES if name in sys.modules]
    before = [getattr(module, get)() for module, get, _ in loaded]
    try:
        if states is None:
            random.seed(seed)
            np.random.seed(seed)
            if "torch" in sys.modules:
                sys.modules["torch"].manual_seed(seed)
        else:
            for (module, _, put), state in zip(loaded, states, strict=False):
                getattr(module, put)(state)
        yield lambda: [getattr(module, get)() for module, get, _ in loaded]
    finally:
        for (module, _, put), state in zip(loaded, before, strict=True):
            getattr(module, put)(state)


def _own(loader: Any, seed: int) -> Any:
    """A copy of a torch DataLoader with generators of its own, seeded; it shares the dataset. Others as they are."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(loader, torch.utils.data.DataLoader):
        return loader
    samplers = [loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]
    shared: dict[int, Any] = {id(loader.dataset): loader.dataset}
    for part in (loader, *samplers):
        for value in vars(part).values() if hasattr(part, "__dict__") else ():
            if isinstance(value, torch.Generator):
                shared[id(value)] = torch.Generator(value.device).manual_seed(seed)
            elif isinstance(value, np.random.Generator):
                shared[id(value)] = np.random.Generator(type(value.bit_generator)(seed))
            elif isinstance(value, np.random.RandomState):
                shared[id(value)] = np.random.RandomState(seed)
            elif isinstance(value, random.Random):
                shared[id(value)] = random.Random(seed)
            elif isinstance(value, torch.Tensor):  # the weights of a sampler
                shared[id(value)] = value
    twin = copy.copy(loader)
    vars(twin).update({name: copy.deepcopy(value, shared) for name, value in vars(loader).items() if name in _RANDOM})
    vars(twin)["_iterator"] = None  # its workers stay the original's
    return twin


_RANDOM = ("sampler", "batch_sampler", "generator")
"""The parts of a DataLoader that draw."""


def _epoch(loader: Any) -> Iterator[Any]:
    if isinstance(loader, Iterator):
        raise TaskError("its batches come from an iterator, which ends after one run. Give the loader itself.")
    return iter(loader)


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        empty = True
        for batch in _epoch(loader):
            empty = False
            yield batch
        if empty:
            raise TaskError(
                "its loader gave no batch. Give it at least one batch per epoch (drop_last=True drops it?)."
            )


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TaskError(
            f"its loader must give batches (inputs, targets), it gave {type(batch).__name__}"
            f"{f' of {len(batch)} parts' if isinstance(batch, (tuple, list)) else ''}."
        )
    return batch[0], batch[1]
