"""The schedulers of kozistr's pytorch_optimizer as schedules of ours.

Most of them set the rate of their first step only when they are stepped for the first time, which a training loop does
after its first update: that update uses ``min_lr``, and the curve comes one update late (P1, P2). What the optimizer
uses is what is given here; ``.after(1)`` is the curve without the delay.
"""

import math
from collections.abc import Sequence
from typing import Any

from ratewise.core import checks
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant, Piecewise
from ratewise.errors import ScheduleError
from ratewise.interop.peer import Peer, chain, cycled, formula, hold, line, ramp, truncated, wave

PEER = Peer("from_kozistr")

_LINEAR_WARMUP = ("LinearScheduler", "CosineScheduler", "PolyScheduler")
_FACTORS = {"get_wsd_scheduler_lambda": "get_wsd_schedule", "get_chebyshev_lr_lambda": "get_chebyshev_schedule"}
_TORCH = {
    "constant": "ConstantLR", "step": "StepLR", "multi_step": "MultiStepLR", "cyclic": "CyclicLR",
    "one_cycle": "OneCycleLR", "cosine_annealing": "CosineAnnealingLR",
    "cosine_annealing_with_warm_restart": "CosineAnnealingWarmRestarts",
}  # fmt: skip


def from_kozistr(scheduler: Any, /, group: int = 0, **arguments: Any) -> Schedule:
    """Return what an optimizer uses under a scheduler of pytorch_optimizer.

    Args:
        scheduler: The scheduler, whatever it has done so far; or its name, or its name in the package's registry, with
            its own ``arguments``. Those that scale the rate of the optimizer (``get_wsd_schedule``,
            ``get_chebyshev_schedule`` and torch's) also take it, as ``lr``.
        group: Parameter group of a scheduler that scales each group's rate, counted from 0.
        arguments: The peer's own, without ``optimizer``.

    Raises:
        ScheduleError: There is no such scheduler, or its arguments are wrong.

    Example:
        >>> from_kozistr("LinearScheduler", t_max=10, max_lr=1.0, warmup_steps=4).values(0, 8)
        [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 0.8333333333333334, 0.6666666666666667]
    """
    if not isinstance(scheduler, str):
        return _read(scheduler, group)
    if scheduler in _TORCH:
        from ratewise.interop.torch import from_torch

        return _schedule(from_torch(_TORCH[scheduler], **arguments))
    return _built(scheduler, **arguments)


def _read(scheduler: Any, group: int) -> Schedule:
    """The schedule of an object, from what it keeps of its arguments."""
    name = type(scheduler).__name__
    partial = scheduler.lr_lambdas[group] if name == "LambdaLR" else None
    factor = getattr(getattr(partial, "func", None), "__name__", "")
    if factor in _FACTORS:
        return _built(_FACTORS[factor], lr=scheduler.base_lrs[group], **partial.keywords)  # type: ignore[union-attr]
    if name in _LINEAR_WARMUP:
        return _schedule(PEER.read(scheduler, t_max=scheduler.total_steps))
    if name == "CosineAnnealingWarmupRestarts":
        return _schedule(PEER.read(scheduler, max_lr=scheduler.base_max_lr))
    if name in PEER.entries:
        return _schedule(PEER.read(scheduler))
    if hasattr(scheduler, "base_lrs"):
        from ratewise.interop.torch import from_torch

        return _schedule(from_torch(scheduler, group))
    return _schedule(PEER.read(scheduler))  # which says that it is not known


def _schedule(made: Any) -> Schedule:
    schedule: Schedule = made
    return schedule


def _built(name: str, **arguments: Any) -> Schedule:
    return _schedule(PEER.build(name, arguments))


def _warmed(decay: Schedule | None, min_lr: float, max_lr: float, init_lr: float, warmup_steps: int) -> Schedule:
    """The first update at ``min_lr``, a straight line, and the decay, or ``max_lr`` where the peer divides by 0."""
    return chain(Constant(min_lr, 1), ramp(init_lr, max_lr, warmup_steps), decay or Constant(max_lr))


@PEER.entry
def LinearScheduler(
    t_max: int, max_lr: float, min_lr: float = 0.0, init_lr: float = 0.0, warmup_steps: int = 0
) -> Schedule:  # fmt: skip
    """A straight line through ``min_lr`` at ``t_max``, which does not stop there (P2)."""
    n = t_max - warmup_steps
    return _warmed(line(max_lr, min_lr, n) if n else None, min_lr, max_lr, init_lr, warmup_steps)


@PEER.entry
def CosineScheduler(
    t_max: int, max_lr: float, min_lr: float = 0.0, init_lr: float = 0.0, warmup_steps: int = 0
) -> Schedule:  # fmt: skip
    """A cosine to ``min_lr`` at ``t_max``, and back up (P2)."""
    n = abs(t_max - warmup_steps)
    return _warmed(wave(max_lr, min_lr, n) if n else None, min_lr, max_lr, init_lr, warmup_steps)


@PEER.entry
def PolyScheduler(
    t_max: int, max_lr: float, poly_order: float = 0.5, min_lr: float = 0.0, init_lr: float = 0.0, warmup_steps: int = 0
) -> Schedule:
    """``min_lr + (max_lr - min_lr) * t**poly_order`` after the warm-up: it grows (P3)."""
    if checks.number("PolyScheduler", "poly_order", poly_order) <= 0:
        raise ScheduleError(f"poly_order must be above 0, got {poly_order!r}.")
    room = int(10 ** min(290 / poly_order, 15.9))
    growth = formula(
        "{low} + {rise} * (t + 1)**{order}", low=min_lr, rise=max_lr - min_lr, order=poly_order, steps=max(room, 1)
    )
    return _warmed(Constant(max_lr, 1) >> growth, min_lr, max_lr, init_lr, warmup_steps)


@PEER.entry
def CosineAnnealingWarmupRestarts(
    first_cycle_steps: int, cycle_mult: float = 1.0, max_lr: float = 1e-4, min_lr: float = 1e-6, warmup_steps: int = 0,
    gamma: float = 0.9,
) -> Schedule:  # fmt: skip
    """In each cycle a line from ``min_lr`` to ``max_lr * gamma**i`` and a cosine back; update 0 is at ``min_lr``."""
    if not 0 <= warmup_steps < first_cycle_steps:
        raise ScheduleError(f"warmup_steps must be below first_cycle_steps, got {warmup_steps!r}.")
    sizes, repeats = truncated((first_cycle_steps - warmup_steps,), cycle_mult)
    if not repeats and sum(map(sum, sizes)) < checks.FAR // 4 and cycle_mult < 1:
        sizes, repeats = [*sizes, *([(1,)] if sizes[-1] != (1,) else [])], True  # a cosine is one update at least

    def cycle(i: int, n: int) -> Schedule:
        peak = max_lr * gamma**i
        return chain(ramp(min_lr, peak, warmup_steps), ramp(peak, min_lr, n, "cosine"))

    cycles = [cycle(i, n) for i, (n,) in enumerate(sizes[:-1])]
    last, (n,) = len(sizes) - 1, sizes[-1]
    final = _for_ever(max_lr * gamma**last, min_lr, warmup_steps, n, gamma) if repeats else cycle(last, n)
    whole = chain(*cycles, final)
    return whole if warmup_steps else Constant(min_lr, 1) >> whole.after(1)


def _for_ever(high: float, low: float, warmup: int, n: int, gamma: float) -> Schedule:
    """Cycles of one length; only ``high`` is scaled."""

    def cycle(high: float, low: float) -> Schedule:
        return chain(ramp(low, high, warmup), ramp(high, low, n, "cosine"))

    if gamma == 1 or low == 0:
        return cycled(cycle(high, low), gamma)
    return high * cycled(cycle(1.0, 0.0), gamma) + low * cycled(cycle(0.0, 1.0))


@PEER.entry
def REXScheduler(total_steps: int, max_lr: float = 1.0, min_lr: float = 0.0) -> Schedule:
    """``min_lr + (max_lr - min_lr) * (1 - p) / (1 - p/2)``; but update 0 is at ``min_lr`` (P1)."""
    if total_steps <= 0:
        return Constant(min_lr)
    return Constant(min_lr, 1) >> Ramp(max_lr, min_lr, total_steps, ease="rex(0.5)").after(1)


@PEER.entry
def get_wsd_schedule(
    lr: float, num_warmup_steps: int, num_stable_steps: int, num_decay_steps: int, min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5, cooldown_type: str = "1-sqrt",
) -> Schedule:  # fmt: skip
    """Up, level, down; the floor counts during a cosine alone, and after every decay (P4)."""
    floor, n = min_lr_ratio * lr, num_decay_steps
    decay: Schedule | None = None
    if n > 0 and cooldown_type == "cosine" and abs(num_cycles) > 1e-9:
        decay = wave(lr, floor, n / abs(2 * num_cycles)).until(n)
    elif n > 0 and cooldown_type == "cosine":
        decay = hold(lr, n)
    elif cooldown_type in ("1-sqrt", "linear", "1-square"):
        decay = ramp(lr, 0.0, n, {"1-square": "power(2)"}.get(cooldown_type, cooldown_type))
    return chain(ramp(0.0, lr, num_warmup_steps), hold(lr, num_stable_steps), decay, Constant(floor))


@PEER.entry
def get_chebyshev_schedule(lr: float, num_epochs: int, is_warmup: bool = False) -> Schedule:
    """Reciprocal Chebyshev nodes in fractal order, two epochs late: the first one three times (P5)."""
    if is_warmup:
        return Constant(lr)
    nodes = 2 ** (int(math.log2(num_epochs - 1)) + 1) if num_epochs > 1 else 1
    order = [0]
    while len(order) < nodes - 2:
        order = [place for i in order for place in (i, 2 * len(order) - 1 - i)]
    values = [lr / (0.525 - 0.475 * math.cos((i + 0.5) * math.pi / nodes)) for i in order]
    return _steps(values)


def _steps(values: Sequence[float]) -> Schedule:
    """The first value for updates 0, 1 and 2, then each for one update; the last is held."""
    return Piecewise(values, range(3, len(values) + 2)) if len(values) > 1 else Constant(values[0])


@PEER.entry
def ProportionScheduler(
    lr_scheduler: Any, max_lr: float, min_lr: float = 0.0, max_value: float = 2.0, min_value: float = 2.0
) -> Schedule:  # fmt: skip
    """The rate of another scheduler, mapped from ``min_lr ... max_lr`` to ``min_value ... max_value`` (P6).

    It reads what a scheduler of this package says that it set, not what the optimizer holds: the first value differs.
    """
    if max_lr <= min_lr or max_value == min_value:
        return Constant(max_value)
    rate = lr_scheduler if isinstance(lr_scheduler, Schedule) else _said(lr_scheduler)
    scaled = (max_value - min_value) / (max_lr - min_lr) * (rate if min_lr == 0 else rate + -min_lr)
    return scaled if min_value == 0 else scaled + min_value


def _said(scheduler: Any) -> Schedule:
    """What a scheduler says that it set, update for update."""
    name, schedule = type(scheduler).__name__, from_kozistr(scheduler)
    if name not in (*_LINEAR_WARMUP, "REXScheduler"):
        return schedule
    return Constant(scheduler.max_lr if name == "REXScheduler" else scheduler.init_lr, 1) >> schedule.after(1)


PEER.alias(
    linear="LinearScheduler", cosine="CosineScheduler", poly="PolyScheduler", rex="REXScheduler",
    cosine_annealing_with_warmup="CosineAnnealingWarmupRestarts", warmup_stable_decay="get_wsd_schedule",
    chebyshev="get_chebyshev_schedule", proportion="ProportionScheduler",
)  # fmt: skip
