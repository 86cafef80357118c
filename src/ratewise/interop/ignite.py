"""The parameter schedulers of pytorch-ignite as schedules of ours; ``t`` counts the calls of the handler.

Those of an optimizer's parameter give their value for index 0 at their first call; those of the engine's state count
first, so theirs begins at index 1. What a call is depends on the event that the handler is attached to.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from inspect import signature
from itertools import pairwise
from typing import Any

from ratewise.core import checks
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Constant, Cosine, Custom, Linear
from ratewise.errors import ScheduleError
from ratewise.interop.peer import Peer, chain, cycled, hold, levels, plateau, powers, ramp, truncated

PEER = Peer("from_ignite")

_ELSEWHERE = ("optimizer", "param_name", "save_history", "param_group_index", "create_new", "trainer", "metric_name")
_CYCLIC = ("LinearCyclicalScheduler", "CosineAnnealingScheduler")
_PIECEWISE = ("PiecewiseLinear", "PiecewiseLinearStateScheduler")


def from_ignite(scheduler: Any, /, group: int = 0, **arguments: Any) -> Any:
    """Return the schedule of a parameter scheduler of ignite.

    Args:
        scheduler: The scheduler, whatever it has done so far; or its name, with its own ``arguments``. Schedulers
            inside it may be schedules of ours too.
        group: Parameter group, counted from 0, where the scheduler tells them apart.
        arguments: The peer's own; those that are not about the values (``optimizer``, ``param_name``, ...) are passed
            over. ReduceLROnPlateauScheduler also takes ``lr``.

    Returns:
        Schedule: ReduceLROnPlateauScheduler gives a schedule with a rule.

    Raises:
        ScheduleError: The scheduler is not known or has lost what it started from, or an argument is wrong.

    Example:
        >>> from_ignite("CosineAnnealingScheduler", start_value=1.0, end_value=0.0, cycle_size=10, cycle_mult=2)
        Cosine(1.0, 0.0, 10).repeat(stretch=2.0)
    """
    if not isinstance(scheduler, str):
        return _read(scheduler, group)
    known = signature(PEER.entries[scheduler]).parameters if scheduler in PEER.entries else ()
    return PEER.build(scheduler, {k: v for k, v in arguments.items() if k in known or k not in _ELSEWHERE})


def _read(scheduler: Any, group: int, before: float | None = None) -> Any:
    """The schedule of an object from its first call on; ``before`` is the rate that it finds there."""
    if isinstance(scheduler, Schedule):
        return scheduler
    name = type(scheduler).__name__
    if name in _CYCLIC:
        return PEER.read(scheduler, **_first_cycle(scheduler))
    if name in _PIECEWISE:
        return PEER.read(scheduler, milestones_values=list(zip(scheduler.milestones, scheduler.values, strict=True)))
    if name == "ParamGroupScheduler":
        return _read(_of_group(scheduler.schedulers, group), group, before)
    if name == "ConcatScheduler":
        parts = [lambda before, part=part: _read(part, group, before) for part in scheduler.schedulers]
        return _one_by_one(parts, scheduler.durations)
    if name == "LRScheduler":
        return _wrapped(scheduler, group, before)
    if name == "ReduceLROnPlateauScheduler":
        return _plateau(scheduler, group)
    return PEER.build(name, {}) if name == "BatchSizeScheduler" else PEER.read(scheduler)


# -- cycles ----------------------------------------------------------------------------------------------------


def _first_cycle(scheduler: Any) -> dict[str, Any]:
    """The settings of the first cycle: the peer overwrites them with those of the cycle that it is in (I1)."""
    cycle, mult = scheduler.cycle, scheduler.cycle_mult
    risen = cycle + (scheduler.event_index > scheduler.cycle_size)  # a warm-up already leads to the next start
    size, warmup = scheduler.cycle_size, scheduler.warmup_duration
    for _ in range(cycle if mult != 1 else 0):
        size, warmup = _shorter(size, mult), _shorter(warmup, mult)
    return {
        "start_value": _unscaled(scheduler.start_value, scheduler.start_value_mult, risen),
        "end_value": _unscaled(scheduler.end_value, scheduler.end_value_mult, cycle),
        "cycle_size": size,
        "warmup_duration": warmup,
    }


def _shorter(size: int, mult: float) -> int:
    """The whole number that ``mult`` made ``size``."""
    near = range(max(math.floor(size / mult) - 1, 0), math.ceil(size / mult) + 3) if mult >= 1 else range(0)
    found = [n for n in near if int(n * mult) == size]
    if len(found) != 1:
        raise _lost(f"cycle_mult={mult!r}")
    return found[0]


def _unscaled(value: float, mult: float, times: int) -> float:
    if mult == 0 and times:
        raise _lost("a multiplier of 0")
    return value / mult**times if times else value


def _lost(what: str) -> ScheduleError:
    return ScheduleError(
        f"from_ignite: the scheduler is past its first cycle, and {what} cannot be undone. Read it before it is used, "
        "or give its name and arguments."
    )


_Shape = Callable[[float, float, float], Schedule]


def _triangle(start: float, end: float, steps: float) -> Schedule:
    return Linear(start, end, steps / 2) >> Linear(end, start, steps / 2)


@PEER.entry
def LinearCyclicalScheduler(
    start_value: float, end_value: float, cycle_size: int, cycle_mult: float = 1.0, start_value_mult: float = 1.0,
    end_value_mult: float = 1.0, warmup_duration: int = 0, monotonic: bool = False,
) -> Schedule:  # fmt: skip
    """From ``start_value`` to ``end_value`` at half of each cycle, and back; if ``monotonic``, over the whole cycle."""
    if warmup_duration > 0 and not monotonic:
        raise ScheduleError(f"warmup_duration ({warmup_duration!r}) needs monotonic=True.")
    shape = Linear if monotonic else _triangle
    return _cycles(
        shape, start_value, end_value, cycle_size, cycle_mult, start_value_mult, end_value_mult, warmup_duration
    )


@PEER.entry
def CosineAnnealingScheduler(
    start_value: float, end_value: float, cycle_size: int, cycle_mult: float = 1.0, start_value_mult: float = 1.0,
    end_value_mult: float = 1.0, warmup_duration: int = 0,
) -> Schedule:  # fmt: skip
    """A cosine from ``start_value`` to ``end_value`` in each cycle; warm-ups lie between the cycles."""
    return _cycles(
        Cosine, start_value, end_value, cycle_size, cycle_mult, start_value_mult, end_value_mult, warmup_duration
    )


def _cycles(
    shape: _Shape, start: float, end: float, size: int, mult: float, start_mult: float, end_mult: float, warmup: int
) -> Schedule:
    """Cycle i is ``int(mult * ...)`` long; held where the peer raises because a cycle comes to nothing."""
    if checks.whole("from_ignite", "cycle_size", size) < 2:
        raise ScheduleError(f"cycle_size must be at least 2, got {size!r}.")
    alike = float(mult).is_integer() and (mult == 1 or (mult > 1 and min(start_mult, end_mult) > 0))
    sizes, repeats = ([(size, warmup)], True) if alike else truncated((size, warmup), mult)
    cycles: list[Schedule] = []
    for n, w in sizes[:-1] if repeats else sizes:
        cycles.append(_cycle(shape, start, end, start * start_mult, n, w))
        start, end = start * start_mult, end * end_mult
        if not math.isfinite(start + end):
            return chain(*cycles)
    if repeats:
        n, w = sizes[-1]
        return chain(*cycles, _for_ever(shape, start, end, n, w, start_mult, end_mult, mult if alike else 1))
    return chain(*cycles).until(sum(map(sum, sizes)) - 1)


def _cycle(shape: _Shape, start: float, end: float, following: float, size: int, warmup: int) -> Schedule:
    return chain(shape(start, end, size), ramp(end, following, warmup))


def _for_ever(
    shape: _Shape, start: float, end: float, size: int, warmup: int, start_mult: float, end_mult: float, stretch: float
) -> Schedule:
    """Cycles with starts and ends that are scaled each by its own factor."""
    if start_mult == end_mult:
        return cycled(_cycle(shape, start, end, start * start_mult, size, warmup), start_mult, stretch)
    starts = start * cycled(_cycle(shape, 1.0, 0.0, start_mult, size, warmup), start_mult, stretch)
    ends = end * cycled(_cycle(shape, 0.0, 1.0, 0.0, size, warmup), end_mult, stretch)
    return ends if start == 0 else starts if end == 0 else starts + ends


# -- pieces ----------------------------------------------------------------------------------------------------


@PEER.entry
def PiecewiseLinear(milestones_values: Sequence[tuple[int, float]]) -> Schedule:
    """Straight lines through (index, value); two values for one index are a jump."""
    return _lines(milestones_values, 0)


def _lines(milestones_values: Any, index: int) -> Schedule:
    """Lines through the points, from ``index`` on; constant before the first and after the last."""
    points = [(place - index, float(value)) for place, value in milestones_values]
    if not points or any(a > b for (a, _), (b, _) in pairwise(points)):
        raise ScheduleError(f"milestones must rise, at least one, got {checks.shown(milestones_values, 60)}.")
    lines = [ramp(v, w, b - a) for (a, v), (b, w) in pairwise(points)]
    first = points[0][0]
    curve = chain(hold(points[0][1], first), *lines, Constant(points[-1][1]))
    return curve.after(-first) if first < 0 else curve


@PEER.entry
def ConcatScheduler(schedulers: Sequence[Any], durations: Sequence[int], group: int = 0) -> Schedule:
    """Each for its duration, from its own zero; the last for ever."""
    parts = [lambda before, part=part: _read(part, group, before) for part in schedulers]
    if len(parts) != len(durations) + 1 or len(parts) < 2:
        raise ScheduleError(
            f"durations must be one fewer than schedulers, got {len(durations)} for {len(parts)} schedulers."
        )
    return _one_by_one(parts, durations)


def _one_by_one(parts: Sequence[Callable[[float | None], Schedule]], durations: Sequence[int]) -> Schedule:
    """The peer skips a first duration of 0; a later one, and any below 0, never ends."""
    spans = [*durations, 0]
    pieces: list[Schedule] = []
    before = None
    for i, (part, span) in enumerate(zip(parts, spans, strict=True)):
        if i == 0 and span == 0:
            continue
        piece = part(before)
        if span <= 0:
            return chain(*pieces, piece)
        pieces.append(piece if piece.steps == span else piece.until(span))
        before = piece(span - 1)
    raise AssertionError("the last part has no end")


@PEER.entry
def ParamGroupScheduler(schedulers: Sequence[Any], names: Any = None, group: int = 0) -> Any:
    """One scheduler for each group."""
    return _read(_of_group(schedulers, group), group)


def _of_group(schedulers: Sequence[Any], group: int) -> Any:
    """The scheduler that sets the group; each is for the group it names, else for the one of its own place."""
    named = [getattr(scheduler, "param_group_index", None) for scheduler in schedulers]
    everywhere = [s for s, index in zip(schedulers, named, strict=True) if index in (group, None)]
    if all(index is None for index in named) and 0 <= group < len(schedulers):
        return schedulers[group]
    if not everywhere:
        raise ScheduleError(f"from_ignite: no scheduler is for group {group!r}.")
    return everywhere[-1]  # the last one has the last word


@PEER.entry
def create_lr_scheduler_with_warmup(
    lr_scheduler: Any, warmup_start_value: float, warmup_duration: int, warmup_end_value: float | None = None,
    lr: float | None = None,
) -> Schedule:  # fmt: skip
    """A line that reaches its end at call ``warmup_duration - 1``, which the schedule begins with or follows.

    Without ``warmup_end_value`` the end is ``lr``, the rate that the optimizer has.
    """
    if checks.whole("create_lr_scheduler_with_warmup", "warmup_duration", warmup_duration) < 2:
        raise ScheduleError(f"warmup_duration must be at least 2, got {warmup_duration!r}.")
    if lr is None and hasattr(lr_scheduler, "optimizer"):
        lr = lr_scheduler.optimizer.param_groups[0]["lr"]
    end = lr if warmup_end_value is None else warmup_end_value
    if end is None:
        raise ScheduleError("give warmup_end_value, or lr, the rate of the optimizer.")
    body = _from_torch_behind(lr_scheduler, lr) if hasattr(lr_scheduler, "last_epoch") else _read(lr_scheduler, 0)
    apart = not math.isclose(body(0), end, rel_tol=1e-12)  # the peer's own value may differ from ours by a rounding
    return chain(Linear(warmup_start_value, end, warmup_duration - 1), hold(end, int(apart)), body)


# -- torch's schedulers ----------------------------------------------------------------------------------------


def _from_torch_behind(scheduler: Any, lr: float | None) -> Schedule:
    """What a warm-up is followed by: the rate of the optimizer, and torch's curve from index 1 on."""
    base = scheduler.optimizer.param_groups[0]["lr"] if lr is None else lr
    return chain(Constant(base, 1), _stepped(scheduler, 0, scheduler.last_epoch + 1, base))


def _wrapped(scheduler: Any, group: int, before: float | None) -> Schedule:
    """The wrapper of a torch scheduler, which asks it for ``get_lr`` alone, once for each index."""
    inner = scheduler.lr_scheduler
    if type(inner).__name__ == "_CosineAnnealingWarmRestarts":
        return _restarting(inner._lr_scheduler, group, scheduler.event_index)
    return _stepped(inner, group, inner.last_epoch - scheduler.event_index, before)


@PEER.entry
def LRScheduler(lr_scheduler: Any, use_legacy: bool = False, group: int = 0) -> Schedule:
    """Torch's scheduler by its ``get_lr``; one index further with ``use_legacy``."""
    if type(lr_scheduler).__name__ == "CosineAnnealingWarmRestarts":
        return _restarting(lr_scheduler, group, 0)
    return _stepped(lr_scheduler, group, lr_scheduler.last_epoch + use_legacy, None)


def _restarting(inner: Any, group: int, calls: int) -> Schedule:
    """Ignite counts before it asks: torch's curve from one index further on."""
    from ratewise.interop.torch import from_torch

    done, size = inner.T_cur, inner.T_0
    while size < inner.T_i and inner.T_mult > 1:
        done, size = done + size, size * inner.T_mult
    first = done - calls if inner.T_mult > 1 else (done - calls) % inner.T_0
    curve: Schedule = from_torch(inner, group).after(first + 1)
    return curve


_CLOSED = ("LambdaLR", "CyclicLR", "OneCycleLR")  # what they give does not depend on the rate that is set
_FIRST: dict[str, Callable[[Any], float]] = {  # by what index 0 multiplies the rate, once the scheduler is made
    "StepLR": lambda s: 1.0,
    "MultiStepLR": lambda s: s.gamma ** s.milestones[0] if 0 in s.milestones else 1.0,
    "ConstantLR": lambda s: s.factor,
    "LinearLR": lambda s: s.start_factor,
    "ExponentialLR": lambda s: s.gamma,
    "PolynomialLR": lambda s: (s.total_iters / (s.total_iters + 1)) ** s.power,
}


def _stepped(scheduler: Any, group: int, index: int, before: float | None) -> Schedule:
    """Torch's ``get_lr`` from ``index`` on: most of torch's scale the rate that they find, so that it matters."""
    from ratewise.interop.torch import from_torch

    name = type(scheduler).__name__
    curve: Schedule = from_torch(scheduler, group)
    if name in _CLOSED:
        return curve.after(index) if index else curve
    if name == "CosineAnnealingLR" and scheduler._step_count == 1:
        return curve.after(index) if index else _cosine(scheduler, curve, before)
    if name not in _FIRST:
        raise ScheduleError(f"from_ignite: {name} inside LRScheduler depends on more than its index; import it itself.")
    found = curve(max(index - 1, 0))
    rest = curve.after(index) if index else curve
    factor = (1.0 if before is None else before / found) * (1.0 if index else _FIRST[name](scheduler))
    return rest if factor == 1 else factor * rest


def _cosine(scheduler: Any, curve: Schedule, before: float | None) -> Schedule:
    """The first call scales what is above the floor by torch's step from index -1 to 0, which is above 1."""
    found, low, n = curve(0) if before is None else before, scheduler.eta_min, scheduler.T_max
    rise = (found - low) * 2 / (1 + math.cos(math.pi / n)) + low if n > 1 else found + curve(0) - low
    return Constant(rise, 1) >> curve.after(1)


# -- metrics, and the engine's state ---------------------------------------------------------------------------


def _plateau(scheduler: Any, group: int) -> Any:
    """From the wrapped scheduler of torch; the base rate is what the group began with, where another one left it."""
    inner = scheduler.scheduler
    index = scheduler.param_group_index
    place = group if index is None else index
    known = scheduler.optimizer.param_groups[place]
    names = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "eps")
    return PEER.build(
        "ReduceLROnPlateauScheduler",
        {
            **{name: getattr(inner, name) for name in names},
            "lr": known.get("initial_lr", known["lr"]),
            "min_lr": inner.min_lrs[place if index is None else 0],
            "param_group_index": 0,
        },
    )


@PEER.entry
def ReduceLROnPlateauScheduler(
    lr: float, param_group_index: int | None = None, mode: str = "min", factor: float = 0.1, patience: int = 10,
    threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0, eps: float = 1e-8,
) -> Ruled:  # fmt: skip
    """torch's; the peer heeds ``min_lr`` only with ``param_group_index=0``."""
    rule = plateau(
        lr, "ignite", mode=mode, factor=factor, patience=patience, threshold=threshold, threshold_mode=threshold_mode,
        cooldown=cooldown, min_lr=min_lr if param_group_index == 0 else 0.0, eps=eps,
    )  # fmt: skip
    return Constant(lr) * rule


@PEER.entry
def BatchSizeScheduler(**arguments: Any) -> Schedule:
    """No rate: refused."""
    raise ScheduleError(
        "BatchSizeScheduler sets a batch size, which is no rate. A run whose batch grows is a "
        "Horizon(batch_size=[(0, 8), (20, 16)], ...)."
    )


@PEER.entry
def LambdaStateScheduler(lambda_obj: Callable[[int], float]) -> Schedule:
    """The function, asked for 1, 2, ..."""
    return Custom(lambda_obj).after(1)


@PEER.entry
def PiecewiseLinearStateScheduler(milestones_values: Sequence[tuple[int, float]]) -> Schedule:
    """As PiecewiseLinear, from index 1 on."""
    return _lines(milestones_values, 1)


@PEER.entry
def ExpStateScheduler(initial_value: float, gamma: float) -> Schedule:
    """``initial_value * gamma**(t + 1)``."""
    return powers(initial_value * gamma, gamma)


@PEER.entry
def StepStateScheduler(initial_value: float, gamma: float, step_size: int) -> Schedule:
    """``initial_value * gamma**((t + 1) // step_size)``."""
    return powers(initial_value, gamma, step_size).stairs(step_size).after(1)


@PEER.entry
def MultiStepStateScheduler(initial_value: float, gamma: float, milestones: Sequence[int]) -> Schedule:
    """``initial_value * gamma**k`` with k milestones at or before t + 1."""
    joints = checks.items("MultiStepStateScheduler", "milestones", milestones)
    return levels(lambda t: initial_value * gamma ** bisect_right(joints, t + 1), [m - 1 for m in joints])
