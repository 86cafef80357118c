"""Batches for a finder: looked at without taking them from a stream, begun anew, some kept aside."""

import copy
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ratewise.errors import FinderError

_TOO_FEW = (
    "find_lr: batches is empty. Give at least two batches.",
    "find_lr: batches has one batch only, so every update would see the same examples. Give at least two; to train on "
    "the whole data at once, give [batch, batch] and held_out=.",
)


class Lookahead(Iterator[Any]):
    """An iterator whose coming batches can be looked at; they still come.

    Train from it and give it to the finder: what the finder looked at stays in memory until training takes it.
    The source is asked earlier than training would have, so if it makes its batches with a global random generator,
    they are others than without the finder; a source with a generator of its own, or of stored data, is not affected.

    Args:
        source: Any iterable, also without length or end.

    Example:
        >>> stream = Lookahead(iter(range(4)))
        >>> next(stream), [batch for batch, _ in zip(stream.coming(), range(2))], next(stream)
        (0, [1, 2], 1)
    """

    def __init__(self, source: Iterable[Any]) -> None:
        self._source = iter(source)
        self._ahead: deque[Any] = deque()

    def __next__(self) -> Any:
        return self._ahead.popleft() if self._ahead else next(self._source)

    def coming(self) -> Iterator[Any]:
        """Yield the batches to come, up to the end of the source, without taking them."""
        seen = 0
        while True:
            if seen == len(self._ahead):
                try:
                    self._ahead.append(next(self._source))
                except StopIteration:
                    return
            yield self._ahead[seen]
            seen += 1


def apart(loader: Any) -> Any:
    """Return the loader, or a copy where a DataLoader keeps its iterator: beginning anew would end the epoch in use."""
    if getattr(loader, "_iterator", None) is None:
        return loader
    other = copy.copy(loader)
    vars(other)["_iterator"] = None
    return other


def counted(batches: Any) -> int | None:
    """Return how many batches there are; None where that is not known."""
    try:
        return len(batches) or None
    except (TypeError, NotImplementedError):
        return None


def endless(begin: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Yield epoch after epoch.

    Raises:
        FinderError: There is no batch, or only one.
    """
    while True:
        count = 0
        for batch in begin():
            count += 1
            yield batch
        if count < len(_TOO_FEW):
            raise FinderError(_TOO_FEW[count])


def shuffled(pool: Sequence[Any], seed: int) -> Iterator[Any]:
    """Yield epochs of ``pool``, each in an order of its own that ``seed`` fixes; no global generator is used."""
    generator = random.Random(seed)
    while True:
        yield from generator.sample(pool, len(pool))


def parted(begin: Callable[[], Iterator[Any]], needed: int) -> tuple[list[Any], list[Any]]:
    """Return batches to train on and held-out ones, every tenth, from one pass.

    The pass ends once it has ``needed`` batches to train on, as a loader may be too long for the memory.

    Raises:
        FinderError: There is no batch, or only one.
    """
    taken: list[Any] = []
    for batch in begin():
        taken.append(batch)
        if len(taken) - aside(len(taken)) >= max(needed, 1):
            break
    if len(taken) < len(_TOO_FEW):
        raise FinderError(_TOO_FEW[len(taken)])
    count = aside(len(taken))
    kept = {(2 * i + 1) * len(taken) // (2 * count) for i in range(count)}  # evenly: the batches may be sorted
    return [x for i, x in enumerate(taken) if i not in kept], [taken[i] for i in sorted(kept)]


def aside(count: int) -> int:
    """Return how many of so many batches are kept aside: a tenth, at least one.

    >>> aside(2), aside(50), aside(149)
    (1, 5, 15)
    """
    return max(1, round(count / 10))
