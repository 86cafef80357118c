"""torchtitan's and torchtune's schedules as schedules of ours."""

import math
from typing import Any

from ratewise.core import checks
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Constant
from ratewise.interop.peer import Peer, chain, formula, hold, line, ramp, wave

PEER = Peer("from_torchtitan")


def from_torchtitan(given: Any = "LRSchedulersContainer", **config: Any) -> Schedule:
    """Return torchtitan's schedule, or torchtune's cosine.

    Args:
        given: The configuration (``LRSchedulersContainer.Config``), or a name: ``"LRSchedulersContainer"`` or
            ``"get_cosine_schedule_with_warmup"``.
        config: The fields of the configuration, with ``lr`` for the base rate and ``training_steps`` for the run.

    Raises:
        ScheduleError: There is no such schedule, or its arguments are wrong.

    Example:
        >>> lr = from_torchtitan(lr=1.0, training_steps=100, warmup_steps=10, decay_ratio=0.5)
        >>> [lr(t) for t in (0, 9, 75, 99)]
        [0.1, 1.0, 0.5, 0.020000000000000018]
    """
    name = given
    if not isinstance(given, str):
        fields = ("warmup_steps", "total_steps", "decay_ratio", "decay_type", "min_lr_factor")
        name, config = (
            "LRSchedulersContainer",
            {**{f: getattr(given, f) for f in fields if hasattr(given, f)}, **config},
        )
    schedule: Schedule = PEER.build(name, config)
    return schedule


@PEER.entry
def LRSchedulersContainer(
    lr: float, training_steps: int | None = None, warmup_steps: int = 200, total_steps: int | None = None,
    decay_ratio: float | None = None, decay_type: str = "linear", min_lr_factor: float = 0.0,
) -> Schedule:  # fmt: skip
    """(t + 1) / w, one, then a decay that would reach the floor at update ``total_steps`` and does not stop there.

    Past its end a cosine climbs again, a straight line and a square root fall below 0. Without a decay the peer
    raises there.
    """
    total = checks.whole("from_torchtitan", "total_steps", training_steps if total_steps is None else total_steps)
    warmup = min(int(warmup_steps), total)
    decay = total - warmup if decay_ratio is None else min(round(total * decay_ratio), total - warmup)
    checks.choice("from_torchtitan", "decay_type", decay_type, ("linear", "sqrt", "cosine"))
    return chain(
        ramp(0.0, lr, warmup, ends="(]"),
        hold(lr, total + 1 - warmup - decay),
        _decay(lr, min_lr_factor * lr, decay, decay_type) if decay > 0 else Constant(lr),
    )


def _decay(lr: float, low: float, steps: int, kind: str) -> Schedule:
    """From ``lr`` to ``low`` and on, without an end; the first update is one step down."""
    if kind == "cosine":
        return wave(lr, low, steps).after(1)
    if kind == "linear":
        return line(lr, low, steps).after(1)
    return formula("{lr} - {fall} * sqrt((t + 1) / {n})", lr=lr, fall=lr - low, n=steps)


@PEER.entry
def get_cosine_schedule_with_warmup(
    lr: float, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5
) -> Schedule:  # fmt: skip
    """torchtune's: t / w, then ``num_cycles`` cosine waves that do not stop at ``num_training_steps``."""
    rise = ramp(0.0, lr, num_warmup_steps)
    left = max(1, num_training_steps - num_warmup_steps)
    half = left / (2 * abs(num_cycles)) if num_cycles else math.inf
    return chain(rise, wave(lr, 0.0, half))
