"""How the rules of other libraries decide, as one table: what differs between them, and nothing else.

Metrics are to fall here: those that are to rise arrive negated, with a negative ``rtol``, which changes no comparison.
Facts are from the sources of torch 2.13, Keras 3.15, optax 0.2.8, paddle 3.3, transformers 5.23 and speechbrain.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

Pick: TypeAlias = Callable[[Any, Any, Any], Any]
"""``where`` of whatever holds the numbers: ``pick(condition, a, b)``."""

WORST = 2.0**126
"""The best metric while there is none: worse than any, yet finite, so that JSON and float32 can hold it."""


class Dialect(NamedTuple):
    """How one library decides; the defaults are ours, the comparison apart."""

    better: Callable[[Any, Any, float, float, Pick], Any]  # (metric, best, rtol, atol, pick)
    rtol: float = 1e-4  # margins where neither is given
    atol: float = 0.0
    patience: int = 10
    later: int = 0  # it acts that many evaluations after the patience-th
    least: int = 1  # it waits at least that many
    unheeded: int = 0  # it passes over that many evaluations more than `cooldown` says
    frozen: bool = False  # a cooldown leaves the best metric as it is
    first: bool = False  # the first metric is the best whatever it is, nan too
    in_a_row: bool = True  # an improvement starts the count anew


def _signed(m: Any, best: Any, rtol: float, atol: float, pick: Pick) -> Any:
    return (m < best - (abs(rtol) * abs(best) + atol)) & (abs(m) < math.inf)


def _torch(m: Any, best: Any, rtol: float, atol: float, pick: Pick) -> Any:
    return m < best * (1.0 - rtol) - atol


def _keras(m: Any, best: Any, rtol: float, atol: float, pick: Pick) -> Any:
    return m + atol < best


def _optax(m: Any, best: Any, rtol: float, atol: float, pick: Pick) -> Any:
    return m < (1.0 - abs(rtol)) * best - atol


def _paddle(m: Any, best: Any, rtol: float, atol: float, pick: Pick) -> Any:
    return m < (best - best * rtol if rtol else best) - atol  # an infinite best times 0 would be nan


def _speechbrain(m: Any, last: Any, rtol: float, atol: float, pick: Pick) -> Any:
    share = pick(last == 0, 0.0, (last - m) / pick(last == 0, 1.0, last))
    return (share >= rtol) | (share != share)


OURS = Dialect(_signed)
TORCH = Dialect(_torch, later=1)

PLATEAU: dict[str | None, Dialect] = {
    None: OURS,
    **dict.fromkeys(("torch", "mmengine", "timm", "ignite", "fairseq", "tinygrad"), TORCH),
    "keras": Dialect(_keras, rtol=0.0, atol=1e-4, unheeded=-1, first=True),
    "optax": Dialect(_optax, least=0),
    "paddle": Dialect(_paddle, later=1, frozen=True, first=True),
}
GREEDY: dict[str | None, Dialect] = {
    None: OURS,
    "hf": Dialect(_torch, rtol=0.0, atol=1e-6, later=1, frozen=True),
}
NEWBOB: dict[str | None, Dialect] = {
    None: OURS._replace(rtol=0.0025, patience=1),
    "speechbrain": Dialect(_speechbrain, rtol=0.0025, patience=0, later=1, first=True, in_a_row=False),
}
