"""The schedulers of MosaicML's Composer and llm-foundry as schedules of ours.

Composer writes times as strings (``"10ep"``, ``"500ba"``, ``"0.1dur"``) and cuts what it converts to a whole number of
batches, samples or tokens. A batch is an update here, and every batch is a full one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ratewise.core import checks
from ratewise.core.formula import Formula
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Constant, Cosine, InverseTime, Linear, Polynomial
from ratewise.errors import ScheduleError
from ratewise.interop.peer import Peer, chain, hold, levels, powers, ramp, truncated

PEER = Peer("from_composer")

_FOUNDRY = {
    "constant_with_warmup": "ConstantWithWarmupScheduler",
    "cosine_with_warmup": "CosineAnnealingWithWarmupScheduler",
    "linear_decay_with_warmup": "LinearWithWarmupScheduler",
    "inv_sqrt_with_warmup": "InverseSquareRootWithWarmupScheduler",
}
_TIME = re.compile(r"(.+?)(ep|ba|sp|tok|dur)", re.IGNORECASE)


def from_composer(
    scheduler: Any, lr: float = 1.0, *, max_duration: Any = None, batches_per_epoch: int | None = None,
    samples_per_batch: int | None = None, tokens_per_batch: int | None = None, scale_schedule_ratio: float = 1.0,
    several: str = "last", **arguments: Any,
) -> Schedule:  # fmt: skip
    """Return the schedule that Composer's trainer applies.

    Args:
        scheduler: The scheduler; the name of its class, or llm-foundry's name for it, with its own ``arguments``; a
            configuration (``{"name": ..., ...}``); or a list of these.
        lr: The optimizer's rate; 1.0 gives the multiplier.
        max_duration: How long the trainer runs, e.g. ``"10ep"``, before ``scale_schedule_ratio``; a number is epochs.
        batches_per_epoch: Needed where a time is in epochs.
        samples_per_batch: Needed where a time is in samples.
        tokens_per_batch: Needed where a time is in tokens.
        scale_schedule_ratio: The trainer's.
        several: What a list comes to. ``"last"``: the last of them, as in the trainer, where each sets the rate anew;
            ``"product"``: all multiplied, as Composer's documentation says.
        arguments: The scheduler's own, where ``scheduler`` is a name.

    Raises:
        ScheduleError: The scheduler is not known, an argument is wrong, or the trainer would refuse it.

    Example:
        >>> from_composer("cosine_with_warmup", 0.1, max_duration="3ep", batches_per_epoch=100, t_warmup="20ba")
        Linear(0.0, 0.1, 20) >> Cosine(0.1, 0.0, 280)
    """
    checks.choice("from_composer", "several", several, ("last", "product"))
    lr = checks.number("from_composer", "lr", lr)
    ratio = checks.positive("from_composer", "scale_schedule_ratio", scale_schedule_ratio)
    if max_duration is None:
        raise ScheduleError("from_composer: needs max_duration, how long the trainer runs, such as '10ep'.")
    clock = _Clock.of(max_duration, batches_per_epoch, samples_per_batch, tokens_per_batch, ratio)
    given = list(scheduler) if isinstance(scheduler, (list, tuple)) else [scheduler]
    if not given:
        raise ScheduleError("from_composer: the list of schedulers is empty, so the rate stays. Use Constant(lr).")
    if several == "last":
        return _applied(given[-1], lr, clock, arguments)
    schedule = _applied(given[0], lr, clock, arguments)
    for other in given[1:]:
        schedule = schedule * _applied(other, 1.0, clock, arguments)
    return schedule


def _applied(scheduler: Any, lr: float, clock: "_Clock", arguments: Mapping[str, Any]) -> Schedule:
    """What the trainer makes of one scheduler: update 0 comes before the duration is scaled."""
    schedule: Schedule = _read(scheduler, lr, clock.scaled, arguments)
    if clock.ratio == 1:
        return schedule
    first = _read(scheduler, lr, clock, arguments)(0)
    return schedule if first == schedule(0) else Constant(first, 1) >> schedule.after(1)


def _read(scheduler: Any, lr: float, clock: "_Clock", arguments: Mapping[str, Any]) -> Any:
    if isinstance(scheduler, Mapping):
        arguments = {**scheduler, **arguments}
        scheduler = arguments.pop("name", None)
    if scheduler is None or isinstance(scheduler, str):
        name = _FOUNDRY.get(str(scheduler), scheduler)
        return PEER.build(name, {"clock": clock, "lr": lr, **arguments})
    return PEER.read(scheduler, clock=clock, lr=lr)


class _Span(NamedTuple):
    """A converted time: so many batches, samples or tokens, of which each update takes ``per``."""

    value: int
    unit: str
    per: int

    @property
    def updates(self) -> int | float:
        """Its length."""
        return self.value / self.per if self.value % self.per else self.value // self.per

    @property
    def first(self) -> int:
        """The first update at or after it."""
        return -(-self.value // self.per)

    def seen(self, schedule: Schedule) -> Schedule:
        """A schedule over its own unit, as the updates come to it."""
        return schedule if self.per == 1 else schedule.along(Formula(f"{self.per} * t"))


@dataclass(frozen=True)
class _Clock:
    """What a time is measured by.

    Args:
        amount: How long the run is,
        unit: in ``"ep"``, ``"ba"``, ``"sp"`` or ``"tok"``.
        sizes: Batches of an epoch, and what a batch has of each unit, as far as they are known.
        ratio: The scale schedule ratio.
    """

    amount: int
    unit: str
    sizes: Mapping[str, int | None]
    ratio: float

    @classmethod
    def of(cls, duration: Any, batches: Any, samples: Any, tokens: Any, ratio: float) -> "_Clock":
        number = checks.plain_number(duration)
        amount, unit = _parsed(f"{number}ep" if isinstance(number, int) else duration)
        if unit == "dur" or amount < 1:
            raise ScheduleError(
                f"from_composer: max_duration must be a length such as '10ep', got {checks.shown(duration)}."
            )
        given = {"batches_per_epoch": batches, "samples_per_batch": samples, "tokens_per_batch": tokens}
        known = [None if n is None else checks.whole("from_composer", name, n) for name, n in given.items()]
        return cls(int(amount), unit, {**dict(zip(("ep", "sp", "tok"), known, strict=True)), "ba": 1}, ratio)

    @property
    def scaled(self) -> "_Clock":
        """The clock of the run as it is stretched."""
        amount = _cut(self.amount * self.ratio)
        if amount == 0:
            raise ScheduleError(f"from_composer: the ratio {self.ratio!r} leaves nothing of {self.amount}{self.unit}.")
        return replace(self, amount=amount)

    def size(self, unit: str) -> int:
        """Batches of an epoch, or what a batch has of ``unit``."""
        size = self.sizes[unit]
        if size is None:
            name = {"ep": "batches_per_epoch", "sp": "samples_per_batch", "tok": "tokens_per_batch"}[unit]
            raise ScheduleError(f"from_composer: a time is in {unit!r}, so {name} must be given.")
        return size

    def span(self, time: Any, ratio: float | None = None) -> _Span:
        """Convert as Composer does: epochs and parts of the run to whole batches; a part is not scaled again."""
        amount, unit = _parsed(time)
        if unit == "dur":
            amount, unit = (amount * self.size("ep") if self.unit == "ep" else amount), self.unit
            value, unit = _cut(amount * self.amount), "ba" if unit == "ep" else unit
        else:
            amount, unit = (amount * self.size("ep"), "ba") if unit == "ep" else (amount, unit)
            value = _cut(amount * (self.ratio if ratio is None else ratio))
        return _Span(value, unit, self.size(unit))

    def warmup(self, time: Any) -> _Span:
        """A warm-up: not scaled."""
        return self.span(time, 1.0)


def _cut(amount: float) -> int:
    """The whole number below, and no longer than the longest length."""
    return int(min(amount, checks.FAR))


def _parsed(time: Any) -> tuple[int | float, str]:
    """The amount and the unit of a time string, or of a Time of Composer's."""
    match = _TIME.fullmatch(str(time))
    try:
        amount, unit = float(match[1]), match[2].lower()  # type: ignore[index]
        if amount < 0 or amount > checks.FAR or not (unit == "dur" or amount.is_integer()):
            raise ValueError
    except (TypeError, ValueError):
        raise ScheduleError(
            f"from_composer: a time is a whole number of 'ep', 'ba', 'sp' or 'tok', or a part of the run such as "
            f"'0.1dur', got {checks.shown(time)}."
        ) from None
    return (amount if unit == "dur" else int(amount)), unit


@PEER.entry
def StepScheduler(clock: _Clock, lr: float, step_size: Any, gamma: float = 0.1) -> Schedule:
    """``gamma**int(t / step)``."""
    span = clock.span(step_size)
    return span.seen(powers(lr, gamma, every=span.value).stairs(span.value))


@PEER.entry
def MultiStepScheduler(clock: _Clock, lr: float, milestones: Sequence[Any], gamma: float = 0.1) -> Schedule:
    """Times ``gamma`` at each milestone, each in its own unit."""
    joints = [clock.span(time).first for time in checks.items("MultiStepScheduler", "milestones", milestones)]
    return levels(lambda t: lr * gamma ** sum(joint <= t for joint in joints), joints)


@PEER.entry
def ConstantScheduler(clock: _Clock, lr: float, alpha: float = 1.0, t_max: Any = "1dur") -> Schedule:
    """``alpha`` up to ``t_max``, then 1 (C1)."""
    return chain(hold(lr * alpha, clock.span(t_max).first), Constant(lr))


@PEER.entry
def LinearScheduler(
    clock: _Clock, lr: float, alpha_i: float = 1.0, alpha_f: float = 0.0, t_max: Any = "1dur"
) -> Schedule:  # fmt: skip
    """A line from ``alpha_i`` to ``alpha_f``."""
    return Linear(lr * alpha_i, lr * alpha_f, clock.span(t_max).updates)


@PEER.entry
def ExponentialScheduler(clock: _Clock, lr: float, gamma: float, decay_period: Any = "1ep") -> Schedule:
    """``gamma**(t / period)``."""
    return powers(lr, gamma, every=clock.span(decay_period).updates)


@PEER.entry
def CosineAnnealingScheduler(clock: _Clock, lr: float, t_max: Any = "1dur", alpha_f: float = 0.0) -> Schedule:
    """Half a cosine from 1 to ``alpha_f``."""
    return Cosine(lr, lr * alpha_f, clock.span(t_max).updates)


@PEER.entry
def CosineAnnealingWarmRestartsScheduler(
    clock: _Clock, lr: float, t_0: Any, t_mult: float = 1.0, alpha_f: float = 0.0
) -> Schedule:  # fmt: skip
    """Cosines, each ``int(t_mult * length)`` of the one before; where that comes to 0 the peer raises."""
    span, low = clock.span(t_0), lr * alpha_f
    if t_mult < 0 or span.value < 1:
        raise ScheduleError(f"t_0 must be at least 1 and t_mult at least 0, got {t_0!s} and {t_mult!r}.")
    if t_mult >= 1 and float(t_mult).is_integer():
        return span.seen(Cosine(lr, low, span.value).repeat(stretch=t_mult))
    cycles, forever = truncated((span.value,), t_mult)
    pieces: list[Schedule] = [Cosine(lr, low, size) for (size,) in cycles]
    if forever:
        return span.seen(chain(*pieces[:-1], pieces[-1].repeat()))
    end = sum(size for (size,) in cycles)
    last = (-(-end // span.per) - 1) * span.per  # where the last update stands before the end
    return span.seen(chain(*pieces).until(last)) if last else Constant(lr)


@PEER.entry
def PolynomialScheduler(
    clock: _Clock, lr: float, power: float, t_max: Any = "1dur", alpha_f: float = 0.0
) -> Schedule:  # fmt: skip
    """``alpha_f + (1 - alpha_f) * (1 - t / t_max)**power``."""
    return _polynomial(lr, lr * alpha_f, clock.span(t_max).updates, power)


def _polynomial(start: float, end: float, steps: float, power: float) -> Schedule:
    return Constant(start) if power == 0 else Polynomial(start, end, steps, power=power)


def _rise(clock: _Clock, peak: float, t_warmup: Any, scale_warmup: bool) -> Schedule | None:
    """A line to the peak; a scaled one is still left where the unscaled one would end (C1)."""
    span = clock.warmup(t_warmup)
    if not scale_warmup or span.value == 0:
        return ramp(0.0, peak, span.updates)
    slope = clock.span(t_warmup)
    line = Linear(0.0, peak, slope.updates)
    return line if slope == span else line.until(span.updates)


def _left(clock: _Clock, t_warmup: Any, t_max: Any) -> int | float:
    """The length of what follows a warm-up.

    Raises:
        ScheduleError: The units differ, or the run is longer than ``t_max``: Composer refuses both.
    """
    warm, end = clock.warmup(t_warmup), clock.span(t_max)
    if warm.unit != end.unit:
        raise ScheduleError(f"t_warmup and t_max must have the same unit, got {t_warmup!s} and {t_max!s}.")
    batches = clock.unit == "ep" and end.unit == "ba"
    run = clock.amount * (clock.size("ep") if batches else 1)
    if (batches or end.unit == clock.unit) and end.value < run:
        raise ScheduleError(
            f"t_max ({end.value}{end.unit}) must be at least the length of the run ({run}{end.unit}), or Composer "
            "refuses the scheduler."
        )
    return _Span(max(end.value - warm.value, 0), end.unit, end.per).updates


@PEER.entry
def MultiStepWithWarmupScheduler(
    clock: _Clock, lr: float, t_warmup: Any, milestones: Sequence[Any], gamma: float = 0.1, scale_warmup: bool = False
) -> Schedule:  # fmt: skip
    """The warm-up, then the milestones counted from the start of the run."""
    steps = MultiStepScheduler(clock, lr, milestones, gamma)
    rise, first = _rise(clock, lr, t_warmup, scale_warmup), clock.warmup(t_warmup).first
    return steps if rise is None else rise.until(first) >> steps.after(first)


@PEER.entry
def ConstantWithWarmupScheduler(
    clock: _Clock, lr: float, t_warmup: Any, alpha: float = 1.0, t_max: Any = "1dur", scale_warmup: bool = False
) -> Schedule:  # fmt: skip
    """The warm-up to ``alpha``, and then that, also after ``t_max``."""
    _ = _left(clock, t_warmup, t_max)
    return chain(_rise(clock, lr * alpha, t_warmup, scale_warmup), Constant(lr * alpha))


@PEER.entry
def LinearWithWarmupScheduler(
    clock: _Clock, lr: float, t_warmup: Any, alpha_i: float = 1.0, alpha_f: float = 0.0, t_max: Any = "1dur",
    scale_warmup: bool = False,
) -> Schedule:  # fmt: skip
    """The warm-up to ``alpha_i``, then a line to ``alpha_f`` in what is left of ``t_max``."""
    start, left = lr * alpha_i, _left(clock, t_warmup, t_max)
    return chain(_rise(clock, start, t_warmup, scale_warmup), ramp(start, lr * alpha_f, left) or Constant(start))


@PEER.entry
def CosineAnnealingWithWarmupScheduler(
    clock: _Clock, lr: float, t_warmup: Any, t_max: Any = "1dur", alpha_f: float = 0.0, scale_warmup: bool = False
) -> Schedule:  # fmt: skip
    """The warm-up, then half a cosine to ``alpha_f`` in what is left of ``t_max``."""
    fall = ramp(lr, lr * alpha_f, _left(clock, t_warmup, t_max), ease="cosine")
    return chain(_rise(clock, lr, t_warmup, scale_warmup), fall or Constant(lr))


@PEER.entry
def PolynomialWithWarmupScheduler(
    clock: _Clock, lr: float, t_warmup: Any, power: float = 2.0, t_max: Any = "1dur", alpha_f: float = 0.0,
    scale_warmup: bool = False,
) -> Schedule:  # fmt: skip
    """The warm-up, then the polynomial to ``alpha_f`` in what is left of ``t_max``."""
    left = _left(clock, t_warmup, t_max)
    fall = _polynomial(lr, lr * alpha_f, left, power) if left else Constant(lr)
    return chain(_rise(clock, lr, t_warmup, scale_warmup), fall)


@PEER.entry
def InverseSquareRootWithWarmupScheduler(
    clock: _Clock, lr: float, t_warmup: Any, t_scale: Any, t_cooldown: Any, t_max: Any = "1dur",
    alpha_f_decay: float = 0.0, alpha_f_cooldown: float = 0.0,
) -> Schedule:  # fmt: skip
    """Of llm-foundry: the warm-up, ``f + (1 - f) / sqrt(1 + s / scale)``, and a line to ``alpha_f_cooldown``.

    The warm-up is never scaled, and the line is where ``t_max`` ends, or after the warm-up if there is no room.
    """
    if alpha_f_decay < alpha_f_cooldown:
        raise ScheduleError(
            f"alpha_f_decay must be at least alpha_f_cooldown, got {alpha_f_decay!r} and {alpha_f_cooldown!r}."
        )
    for time in (t_warmup, t_scale, t_cooldown):
        if _parsed(time)[1] != clock.unit:
            raise ScheduleError(f"times must be in the unit of max_duration ({clock.unit!r}), got {time!s}.")
    warm, scale, cool, end = clock.warmup(t_warmup), *map(clock.span, (t_scale, t_cooldown, t_max))
    if end.unit != cool.unit:
        raise ScheduleError(f"t_cooldown and t_max must have the same unit, got {t_cooldown!s} and {t_max!s}.")
    body = InverseTime(lr * (1 - alpha_f_decay), 1.0, every=scale.updates, power=0.5) + lr * alpha_f_decay
    held = _Span(max(end.value - cool.value - warm.value, 0), warm.unit, warm.per).updates
    top = body(held)
    return chain(
        ramp(0.0, lr, warm.updates),
        body.until(held) if held else None,
        ramp(top, lr * alpha_f_cooldown, cool.updates) or Constant(top),
    )
