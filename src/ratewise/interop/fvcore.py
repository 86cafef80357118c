"""fvcore's parameter schedulers, and detectron2's use of them, as schedules of ours.

fvcore's schedulers are functions of ``where``, the part of training that is done: ``t / total_steps`` here, as in
detectron2's LRMultiplier. They are meant for where < 1. At and beyond it some go on, and so does ours; some raise, and
there ours holds (F1).
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from itertools import accumulate, pairwise, zip_longest
from typing import Any, TypeAlias

from ratewise.core import checks
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Constant, Cosine, Linear, Piecewise, Polynomial
from ratewise.errors import ScheduleError
from ratewise.interop.peer import Peer, chain, formula, levels, line, powers, wave

PEER = Peer("from_fvcore")

_EARLY = 1e-6  # how much of the run before its place a step or a part begins


def from_fvcore(
    scheduler: Any, /, total_steps: int | None = None, lr: float | None = None, group: int = 0, **arguments: Any
) -> Schedule:
    """Return the schedule of a scheduler of fvcore's or detectron2's.

    Args:
        scheduler: The scheduler; or the name of its class, with the class's own ``arguments``. Schedulers inside it may
            be objects too, or mappings as in a lazy configuration:
            ``{"_target_": "fvcore.common.param_scheduler.ConstantParamScheduler", "value": 0.1}``.
        total_steps: Updates from where = 0 to where = 1; detectron2's LRMultiplier knows them.
        lr: What the values are multiplied by: 1, or the base rate that detectron2's object holds.
        group: Parameter group of an object that holds an optimizer, counted from 0.
        arguments: The peer's own, where ``scheduler`` is a name.

    Raises:
        ScheduleError: The scheduler is not known, or an argument is wrong.

    Example:
        >>> steps = {"_target_": "MultiStepParamScheduler", "values": [1.0, 0.1], "milestones": [60, 90]}
        >>> from_fvcore("WarmupParamScheduler", 90, lr=0.02, scheduler=steps, warmup_factor=0.001, warmup_length=0.1)
        0.02 * (Linear(0.001, 1.0, 9) >> Piecewise([1.0, 0.1], [51]))
    """
    made = PEER.build(scheduler, arguments) if isinstance(scheduler, str) else _read(scheduler)
    if not isinstance(made, Schedule):
        made = _over_run(made, checks.whole("from_fvcore", "total_steps", total_steps))
    bases = getattr(scheduler, "base_lrs", [1.0])
    lr = bases[group] if lr is None else lr
    return made if lr == 1 else lr * made


@dataclass(frozen=True)
class _Span:
    """Updates from ``first`` to ``stop``, and where they are: ``where(t)`` is ``(t - origin) / length``, rounded."""

    where: Callable[[int], float]  # with the peer's own roundings: they decide at which update a step comes
    origin: float
    length: float
    first: int = 0
    stop: int = checks.FAR

    @property
    def updates(self) -> int:
        return self.stop - self.first

    @property
    def endless(self) -> bool:
        return self.stop == checks.FAR

    @property
    def gone(self) -> float:
        """Updates from where = 0 to the first."""
        exact = self.first - self.origin
        return round(exact) if abs(exact - round(exact)) <= 1e-15 * (self.first + self.length) else exact

    def first_that(self, holds: Callable[[float], bool]) -> int:
        """The first update where the condition, once true always true, holds; ``stop`` if there is none."""
        updates = range(self.first, self.stop)
        return self.first + bisect_left(updates, True, key=lambda t: holds(self.where(t)))

    def part(self, first: int, stop: int, begin: float = 0.0, size: float = 1.0) -> "_Span":
        """Its updates from ``first`` to ``stop``, seen as if ``begin`` were 0 and ``begin + size`` were 1."""
        span = replace(self, first=first, stop=stop)
        if (begin, size) == (0, 1):
            return span
        length = self.length * size
        length = round(length) if abs(length - round(length)) <= 1e-15 * length else length
        return replace(
            span,
            where=lambda t: (self.where(t) - begin) / size,
            origin=self.origin + begin * self.length,
            length=length,
        )


_Curve: TypeAlias = Callable[[_Span], Schedule | None]
"""A scheduler: the schedule of a span, from its first update on; None where the peer raises at once."""


def _over_run(curve: _Curve, steps: int) -> Schedule:
    return _begun(curve(_Span(lambda t: t / steps, 0, steps)))


def _begun(schedule: Schedule | None) -> Schedule:
    if schedule is None:
        raise ScheduleError("from_fvcore: the scheduler raises an error at its very first update.")
    return schedule


def _value(curve: _Curve, where: float) -> float:
    """What the scheduler returns for ``where``."""
    return float(_begun(curve(_Span(lambda t: where + t, -where, 1, stop=1)))(0))


def _read(scheduler: Any) -> Any:
    """The entry's answer for an object, or for a mapping that describes one."""
    if isinstance(scheduler, Mapping) and "_target_" in scheduler:
        target = scheduler["_target_"]
        name = target.rpartition(".")[2] if isinstance(target, str) else getattr(target, "__name__", target)
        return PEER.build(name, {str(key): value for key, value in scheduler.items() if key != "_target_"})
    name = type(scheduler).__name__
    if name == "WarmupParamScheduler":
        name = "CompositeParamScheduler"  # of which it is a subclass that keeps nothing of its own
    if name not in PEER.entries:
        return PEER.read(scheduler)  # which says that it is not known
    named = {parameter: (f"_{parameter}", parameter) for parameter in signature(PEER.entries[name]).parameters}
    if "values" in named:
        named["values"] = ("_param_schedule", "values")
    kept = {name: [a for a in attributes if hasattr(scheduler, a)] for name, attributes in named.items()}
    return PEER.build(name, {name: getattr(scheduler, found[0]) for name, found in kept.items() if found})


def _inner(scheduler: Any) -> _Curve:
    """A scheduler inside another one."""
    made = _read(scheduler)
    if isinstance(made, Schedule):
        raise ScheduleError(f"a scheduler of fvcore is needed here, got {checks.shown(scheduler, 60)}.")
    curve: _Curve = made
    return curve


@PEER.entry
def ConstantParamScheduler(value: float) -> _Curve:
    """``value``; the peer raises from where = 1 on."""
    return _steps([value], lambda where: 0, lambda where: where >= 1)


@PEER.entry
def CosineParamScheduler(start_value: float, end_value: float) -> _Curve:
    """``end_value + (start_value - end_value) * (1 + cos(pi where)) / 2``, and back up beyond 1."""

    def curve(span: _Span) -> Schedule:
        n, gone = span.length, span.gone
        if gone >= 0 and gone + span.updates <= n:
            cosine: Schedule = Cosine(start_value, end_value, n)
        else:
            cosine, gone = wave(start_value, end_value, n), gone % (2 * n)
        return cosine.after(gone) if gone else cosine

    return curve


@PEER.entry
def ExponentialParamScheduler(start_value: float, decay: float) -> _Curve:
    """``start_value * decay**where``."""
    return lambda span: powers(start_value * decay ** (span.gone / span.length), decay, every=span.length)


@PEER.entry
def LinearParamScheduler(start_value: float, end_value: float) -> _Curve:
    """``start_value + (end_value - start_value) * where``, also beyond 1."""

    def at(p: float) -> float:
        return end_value * p + start_value * (1 - p)

    def curve(span: _Span) -> Schedule:
        first, last = span.gone / span.length, (span.gone + span.updates) / span.length
        if span.endless:
            return line(at(first), at(first + 1), span.length)
        return Linear(at(first), at(last), span.updates)

    return curve


@PEER.entry
def PolynomialDecayParamScheduler(base_value: float, power: float) -> _Curve:
    """``base_value * (1 - where)**power``; beyond 1 only a whole power gives a real number, elsewhere ours holds."""
    if checks.number("PolynomialDecayParamScheduler", "power", power) < 0:
        raise ScheduleError(f"power must be at least 0, got {power!r}.")
    if power == 0:
        return lambda span: Constant(base_value)

    def curve(span: _Span) -> Schedule | None:
        n, left = span.length, span.length - span.gone
        fall = Polynomial(base_value * (left / n) ** power, 0.0, left, power=power) if left > 0 else None
        if float(power).is_integer():
            return fall if fall and span.updates <= left else chain(fall, _rising_again(base_value, power, n, left))
        stop = span.first_that(lambda where: where > 1)
        if stop == span.first:
            return None
        if fall is None:  # it begins where it ends
            return Constant(0.0)
        return fall if left <= stop - 1 - span.first else _held(fall, stop - 1 - span.first)

    return curve


def _rising_again(base: float, power: float, n: float, left: float) -> Schedule:
    """``base * (1 - where)**power`` from where = 1 on, or from ``-left`` updates beyond it; up to 1e300."""
    room = int(min(n * 10 ** min((300 - math.log10(max(abs(base), 1.0))) / power, 20), checks.FAR))
    text = "{base} * (t / {n})**{power}" if left >= 0 else "{base} * ((t + {late}) / {n})**{power}"
    steps = None if room == checks.FAR else max(room, 1)
    return formula(text, steps=steps, base=base * (-1) ** int(power), late=-left, n=n, power=power)


def _held(schedule: Schedule, updates: int) -> Schedule:
    """The schedule, held from its update ``updates`` on."""
    return schedule.until(updates) if updates else Constant(schedule(0))


@PEER.entry
def MultiStepParamScheduler(
    values: Sequence[float], num_updates: int | None = None, milestones: Sequence[int] | None = None
) -> _Curve:
    """The value after the last milestone m with ``m <= int((where + 1e-6) * num_updates)``; raises beyond 1."""
    values = checks.items("MultiStepParamScheduler", "values", values)
    if milestones is None:
        width = math.ceil(checks.whole("MultiStepParamScheduler", "num_updates", num_updates) / len(values))
        milestones = [width * (i + 1) for i in range(len(values) - 1)]
    joints = list(checks.items("MultiStepParamScheduler", "milestones", milestones))
    if num_updates is None:
        *joints, num_updates = joints or [0]
    total = checks.whole("MultiStepParamScheduler", "num_updates", num_updates)
    if len(joints) != len(values) - 1 or any(a >= b for a, b in pairwise((0, *joints, total))):
        raise ScheduleError(
            f"milestones must rise from above 0 to below num_updates and be one fewer than values, got "
            f"{checks.shown(joints, 60)} of {total} updates for {len(values)} values. Without num_updates the last "
            "milestone is the end."
        )
    return _steps(values, lambda where: bisect_right(joints, int((where + _EARLY) * total)), lambda where: where > 1)


@PEER.entry
def StepParamScheduler(values: Sequence[float], num_updates: float | None = None) -> _Curve:
    """``values[int((where + 1e-6) * len(values))]``; raises beyond the last. The peer does not use ``num_updates``."""
    values = checks.items("StepParamScheduler", "values", values)
    n = checks.whole("StepParamScheduler", "the number of values", len(values))

    def index(where: float) -> int:
        return int((where + _EARLY) * n)

    return _steps(values, index, lambda where: index(where) >= n)


@PEER.entry
def StepWithFixedGammaParamScheduler(
    base_value: float, num_decays: int, gamma: float, num_updates: int | None = None
) -> _Curve:
    """``base_value * gamma**k``, k from 0 to ``num_decays`` in equal parts of the run; raises at its end."""
    decays = checks.whole("StepWithFixedGammaParamScheduler", "num_decays", num_decays)
    return StepParamScheduler(list(accumulate([gamma] * decays, lambda value, g: value * g, initial=base_value)))


def _steps(
    values: Sequence[float], index: Callable[[float], int], raises: Callable[[float], bool]
) -> _Curve:  # fmt: skip
    """``values[index(where)]`` as long as the peer does not raise."""

    def curve(span: _Span) -> Schedule | None:
        last = span.first_that(raises) - span.first
        joints = [span.first_that(lambda where, k=k: index(where) >= k) for k in range(1, len(values))]  # type: ignore[misc]
        begin = {0: values[0]} | {
            joint - span.first: value
            for joint, value in zip(joints, values[1:], strict=True)
            if joint - span.first < last
        }
        if last == 0:
            return None
        return Piecewise(list(begin.values()), list(begin)[1:]) if len(begin) > 1 else Constant(begin[0])

    return curve


@PEER.entry
def CompositeParamScheduler(
    schedulers: Sequence[Any], lengths: Sequence[float], interval_scaling: Sequence[str]
) -> _Curve:  # fmt: skip
    """Each scheduler for its part of the run: as a run of its own (rescaled), or as a part of the whole (fixed)."""
    curves = [_inner(scheduler) for scheduler in checks.items("CompositeParamScheduler", "schedulers", schedulers)]
    sizes = [checks.number("CompositeParamScheduler", "a length", x) for x in lengths]
    if len(curves) != len(sizes) or not sizes or abs(sum(sizes) - 1) >= 1e-3:
        raise ScheduleError(
            f"lengths must be one part of the run for each of {len(curves)} schedulers and have the sum 1, got "
            f"{checks.shown(lengths, 60)}."
        )
    if sum(sizes) != 1:
        sizes[-1] = 1 - sum(sizes[:-1])
    scaling = [checks.choice("Composite", "interval_scaling", s, ("rescaled", "fixed")) for s in interval_scaling]
    if any(size < 0 and scale == "rescaled" for size, scale in zip(sizes, scaling, strict=False)):
        raise ScheduleError(f"a rescaled part of the run must be at least 0, got {checks.shown(lengths, 60)}.")
    ends = list(accumulate(sizes))

    def curve(span: _Span) -> Schedule | None:
        joints = accumulate((span.first_that(lambda w, end=end: w + _EARLY > end) for end in ends[:-1]), max)  # type: ignore[misc]
        bounds = [span.first, *joints, span.stop]
        pieces: list[tuple[Schedule | None, _Span]] = []
        for part, scale, size, end, (first, stop) in zip_longest(curves, scaling, sizes, ends, pairwise(bounds)):
            if first < stop:
                inside = span.part(first, stop, end - size, size) if scale == "rescaled" and size else None
                inside = span.part(first, stop) if scale == "fixed" else inside
                pieces.append((part(inside) if inside else None, span.part(first, stop)))
        return _joined(pieces)

    return curve


def _joined(pieces: list[tuple[Schedule | None, _Span]]) -> Schedule | None:
    """The schedules of the spans one after the other; where there is none, the last value is held."""
    result: list[Schedule] = []
    for schedule, span in pieces:
        if schedule is None and not result:
            return None
        piece = schedule or Constant(result[-1](result[-1].steps - 1))
        result.append(piece if span.endless or piece.steps == span.updates else piece.until(span.updates))
    return result[0] if len(result) == 1 else chain(*result)


@PEER.entry
def WarmupParamScheduler(
    scheduler: Any, warmup_factor: float, warmup_length: float, warmup_method: str = "linear",
    rescale_interval: bool = False,
) -> _Curve:  # fmt: skip
    """detectron2's: up to where the scheduler stands by then, or to its start if it is moved behind the warm-up."""
    curve = _inner(scheduler)
    start, end = warmup_factor * _value(curve, 0.0), _value(curve, 0.0 if rescale_interval else warmup_length)
    if checks.choice("WarmupParamScheduler", "warmup_method", warmup_method, ("linear", "constant")) == "constant":
        warmup = {"_target_": "ConstantParamScheduler", "value": start}
    else:
        warmup = {"_target_": "LinearParamScheduler", "start_value": start, "end_value": end}
    scaling = ("rescaled", "rescaled" if rescale_interval else "fixed")
    return CompositeParamScheduler([warmup, scheduler], [warmup_length, 1 - warmup_length], scaling)


@PEER.entry
def LRMultiplier(multiplier: Any, max_iter: int) -> Schedule:
    """detectron2's: the multiplier at ``t / max_iter``."""
    return _over_run(_inner(multiplier), checks.whole("LRMultiplier", "max_iter", max_iter))


@PEER.entry
def WarmupMultiStepLR(
    milestones: Sequence[int], gamma: float = 0.1, warmup_factor: float = 0.001, warmup_iters: int = 1000,
    warmup_method: str = "linear",
) -> Schedule:  # fmt: skip
    """detectron2's older one: ``gamma**k`` after k milestones, times the warm-up."""
    joints = checks.items("WarmupMultiStepLR", "milestones", milestones)
    if list(joints) != sorted(joints):
        raise ScheduleError(f"milestones must rise, got {checks.shown(milestones, 60)}.")
    steps = levels(lambda t: gamma ** bisect_right(joints, t), joints)
    return _warmed(steps, warmup_factor, warmup_iters, warmup_method)


@PEER.entry
def WarmupCosineLR(
    max_iters: int, warmup_factor: float = 0.001, warmup_iters: int = 1000, warmup_method: str = "linear"
) -> Schedule:
    """detectron2's older one: a cosine over the whole run, and back up, times the warm-up."""
    return _warmed(wave(1.0, 0.0, max_iters), warmup_factor, warmup_iters, warmup_method)


def _warmed(schedule: Schedule, factor: float, steps: int, method: str) -> Schedule:
    """Times a factor that rises to 1, or jumps there, within ``steps`` updates."""
    constant = checks.choice("from_fvcore", "warmup_method", method, ("linear", "constant")) == "constant"
    if steps <= 0:
        return schedule
    return (Constant(factor, steps) >> Constant(1.0) if constant else Linear(factor, 1.0, steps)) * schedule
