"""timm's schedulers as schedules of ours, from their objects or by the names and arguments of timm's factory.

timm gives a value for every index t that it is stepped with, and restarts, holds and warms up as that index says.
The index counts epochs, or updates where the scheduler was made with ``t_in_epochs=False``; so does ours.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ratewise.core import checks
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant, Cosine, Custom, InverseTime, Linear, Polynomial
from ratewise.errors import ScheduleError
from ratewise.interop.peer import Peer, chain, hold, late, levels, plateau, powers

PEER = Peer("from_timm")

FACTORY = ("cosine", "tanh", "step", "multistep", "poly", "wsd", "rsqrt", "constant", "plateau", "none")


def from_timm(scheduler: Any, group: int = 0, **arguments: Any) -> Any:
    """Return the schedule of a timm scheduler.

    Args:
        scheduler: The scheduler; or the name of its class, or the factory's name for it (``"cosine"``, ``"wsd"``, ...),
            with ``lr``, the base rate, and the class's or the factory's own arguments.
        group: Parameter group of a scheduler, counted from 0; its ``lr_scale`` is kept.
        arguments: The peer's own, where ``scheduler`` is a name.

    Returns:
        Schedule: In the scheduler's own unit; ``.stretch(n).stairs(n)`` turns epochs of n updates into updates.
        A plateau scheduler gives a schedule with a rule.

    Raises:
        ScheduleError: The scheduler is not known, has noise, or an argument is wrong.

    Example:
        >>> from_timm("cosine", lr=0.1, num_epochs=100, warmup_epochs=5, warmup_prefix=True)
        Linear(1e-05, 0.1, 5) >> Cosine(0.1, 0.0, 100)
    """
    if not isinstance(scheduler, str):
        return _read(scheduler, group)
    if scheduler in FACTORY:
        return PEER.build("create_scheduler_v2", {"sched": scheduler, **arguments})
    return PEER.build(scheduler, arguments)


def _read(scheduler: Any, group: int) -> Any:
    """The schedule of a scheduler object, as it was built: from the base rates, whatever it has done since."""
    bases = getattr(scheduler, "base_values", None)
    if bases is None:
        return PEER.read(scheduler)  # which says that it is none of timm's
    if not isinstance(group, int) or not 0 <= group < len(bases):
        raise ScheduleError(f"from_timm: group must be one of the {len(bases)} groups, got {checks.shown(group)}.")
    scale = scheduler.optimizer.param_groups[group].get("lr_scale", 1.0)
    if type(scheduler).__name__ == "PlateauLRScheduler":
        known = {**_torch(scheduler.lr_scheduler, group), "warmup_lr_init": scale * scheduler.warmup_lr_init}
        return PEER.read(scheduler, lr=scale * bases[group], **known)
    schedule = PEER.read(scheduler, lr=bases[group])
    return schedule if scale == 1 else scale * schedule


def _torch(inner: Any, group: int) -> dict[str, Any]:
    """The arguments of a plateau scheduler, from the torch scheduler that it steps."""
    return {
        "decay_rate": inner.factor, "patience_t": inner.patience, "threshold": inner.threshold,
        "cooldown_t": inner.cooldown, "mode": inner.mode, "lr_min": inner.min_lrs[group],
    }  # fmt: skip


@PEER.entry
def CosineLRScheduler(
    lr: float, t_initial: int, lr_min: float = 0.0, cycle_mul: float = 1.0, cycle_decay: float = 1.0,
    cycle_limit: int = 1, warmup_t: int = 0, warmup_lr_init: float = 0.0, warmup_prefix: bool = False,
    t_in_epochs: bool = True, noise_range_t: Any = None, k_decay: float = 1.0,
) -> Schedule:  # fmt: skip
    """``lr_min + (lr * decay**i - lr_min) * (1 + cos(pi p**k)) / 2`` in cycle i, at place p in it."""
    _refuse_noise(noise_range_t)

    def cycle(start: float, end: float, steps: float) -> Schedule:
        return _clocked(Cosine(start, end, steps), steps, k_decay)

    cycles = _Restarts(cycle, lr, lr_min, t_initial, cycle_mul, cycle_decay, cycle_limit)
    return _warmed(cycles.schedule(), lr, warmup_t, warmup_lr_init, prefix=warmup_prefix, last=cycles.last)


@PEER.entry
def PolyLRScheduler(
    lr: float, t_initial: int, power: float = 0.5, lr_min: float = 0.0, cycle_mul: float = 1.0,
    cycle_decay: float = 1.0, cycle_limit: int = 1, warmup_t: int = 0, warmup_lr_init: float = 0.0,
    warmup_prefix: bool = False, t_in_epochs: bool = True, noise_range_t: Any = None, k_decay: float = 1.0,
) -> Schedule:  # fmt: skip
    """``lr_min + (lr * decay**i - lr_min) * (1 - p**k)**power`` in cycle i; power 0 holds the peak of the cycle."""
    _refuse_noise(noise_range_t)

    def cycle(start: float, end: float, steps: float) -> Schedule:
        if power == 0:
            return Constant(start, steps)
        return _clocked(Polynomial(start, end, steps, power=power), steps, k_decay)

    cycles = _Restarts(cycle, lr, lr_min, t_initial, cycle_mul, cycle_decay, cycle_limit)
    return _warmed(cycles.schedule(), lr, warmup_t, warmup_lr_init, prefix=warmup_prefix, last=cycles.last)


@PEER.entry
def TanhLRScheduler(
    lr: float, t_initial: int, lb: float = -7.0, ub: float = 3.0, lr_min: float = 0.0, cycle_mul: float = 1.0,
    cycle_decay: float = 1.0, cycle_limit: int = 1, warmup_t: int = 0, warmup_lr_init: float = 0.0,
    warmup_prefix: bool = False, t_in_epochs: bool = True, noise_range_t: Any = None,
) -> Schedule:  # fmt: skip
    """``lr_min + (lr * decay**i - lr_min) * (1 - tanh(lb (1 - p) + ub p)) / 2``, which misses both ends (M4)."""
    _refuse_noise(noise_range_t)
    first, last = ((1 - math.tanh(bound)) / 2 for bound in (lb, ub))

    def cycle(start: float, end: float, steps: float) -> Schedule:
        high, low = (end + (start - end) * weight for weight in (first, last))
        return Ramp(high, low, steps, ease=f"tanh({float(lb)!r}, {float(ub)!r})")

    cycles = _Restarts(cycle, lr, lr_min, t_initial, cycle_mul, cycle_decay, cycle_limit)
    peak = lr if warmup_prefix or not warmup_t else cycles.schedule()(warmup_t)
    return _warmed(cycles.schedule(), peak, warmup_t, warmup_lr_init, prefix=warmup_prefix)


@PEER.entry
def StepLRScheduler(
    lr: float, decay_t: float, decay_rate: float = 1.0, warmup_t: int = 0, warmup_lr_init: float = 0.0,
    warmup_prefix: bool = True, t_in_epochs: bool = True, noise_range_t: Any = None,
) -> Schedule:  # fmt: skip
    """``lr * decay_rate**(t // decay_t)``."""
    _refuse_noise(noise_range_t)
    steps = Constant(lr) if decay_rate == 1 else powers(lr, decay_rate, decay_t).stairs(decay_t)
    return _warmed(steps, lr, warmup_t, warmup_lr_init, prefix=warmup_prefix)


@PEER.entry
def MultiStepLRScheduler(
    lr: float, decay_t: Sequence[int], decay_rate: float = 1.0, warmup_t: int = 0, warmup_lr_init: float = 0.0,
    warmup_prefix: bool = True, t_in_epochs: bool = True, noise_range_t: Any = None,
) -> Schedule:  # fmt: skip
    """``lr * decay_rate**k`` with k milestones at or before t + 1: one index sooner than in torch (M2)."""
    _refuse_noise(noise_range_t)
    milestones = checks.items("from_timm", "decay_t", decay_t)
    steps = levels(lambda t: lr * decay_rate ** bisect_right(milestones, t + 1), [m - 1 for m in milestones])
    return _warmed(steps, lr, warmup_t, warmup_lr_init, prefix=warmup_prefix)


@PEER.entry
def WSDLRScheduler(
    lr: float, t_initial: int, decay_t: int, lr_min: float = 0.0, stable_fn: str = "constant",
    stable_timescale: float | None = None, stable_power: float = 0.5, decay_fn: Any = "1-sqrt",
    decay_power: float = 0.5, decay_ratio: float = 0.1, warmup_t: int = 0, warmup_lr_init: float = 0.0,
    t_in_epochs: bool = True, noise_range_t: Any = None,
) -> Schedule:  # fmt: skip
    """``lr_min + (S - lr_min) * D``: S = ``max(lr * (1 + t/timescale)**-power, lr_min)``, D from 1 to 0 at the end."""
    _refuse_noise(noise_range_t)
    if not 0 < decay_t <= t_initial:
        raise ScheduleError(f"decay_t must be above 0 and at most t_initial, got {decay_t!r}.")
    checks.choice("WSDLRScheduler", "stable_fn", stable_fn, ("constant", "rsqrt", "power"))
    flat, top = t_initial - decay_t, max(lr, lr_min)
    if stable_fn == "constant" and not callable(decay_fn):
        body = chain(hold(top, flat), Ramp(top, lr_min, decay_t, ease=_ease(decay_fn, decay_power, decay_ratio)))
    else:
        timescale = warmup_t if stable_timescale is None else stable_timescale
        power = checks.positive("WSDLRScheduler", "stable_power", 0.5 if stable_fn == "rsqrt" else stable_power)
        falling = stable_fn != "constant"
        stable = InverseTime(lr, 1.0, every=timescale, power=power).clip(lr_min) if falling else Constant(top)
        body = (stable + -lr_min) * _decaying(decay_fn, flat, decay_t, decay_power, decay_ratio) + lr_min
    return _warmed(body, lr, warmup_t, warmup_lr_init, prefix=True)


def _decaying(decay_fn: Any, flat: float, decay_t: float, power: float, ratio: float) -> Schedule:
    """The factor of the decay phase; the user's own function is first asked one index after the phase begins."""
    if not callable(decay_fn):
        return chain(hold(1.0, flat), Ramp(1.0, 0.0, decay_t, ease=_ease(decay_fn, power, ratio)))
    return Constant(1.0, flat + 1) >> Custom(decay_fn).along(Linear(0.0, 1.0, decay_t)).after(1)


def _ease(decay_fn: str, power: float, ratio: float) -> str:
    eases = {
        "1-sqrt": "1-sqrt", "linear": "linear", "cosine": "cosine",
        "power": f"power({float(power)!r})", "exp": f"exponential({float(ratio)!r})",
    }  # fmt: skip
    return eases[checks.choice("WSDLRScheduler", "decay_fn", decay_fn, eases)]


@PEER.entry
def PlateauLRScheduler(
    lr: float, decay_rate: float = 0.1, patience_t: int = 10, threshold: float = 1e-4, cooldown_t: int = 0,
    warmup_t: int = 0, warmup_lr_init: float = 0.0, lr_min: float = 0.0, mode: str = "max", noise_range_t: Any = None,
) -> Any:  # fmt: skip
    """ReduceLROnPlateau of torch; metrics up to index ``warmup_t`` itself are passed over."""
    _refuse_noise(noise_range_t)
    rule = plateau(
        lr, "timm", mode=mode, factor=decay_rate, patience=patience_t, threshold=threshold, cooldown=cooldown_t,
        min_lr=lr_min, start=warmup_t + 1 if warmup_t else 0,
    )  # fmt: skip
    return _warmed(Constant(lr), lr, warmup_t, warmup_lr_init, prefix=True) * rule


@PEER.entry
def create_scheduler_v2(
    lr: float, sched: str = "cosine", num_epochs: int = 300, decay_epochs: float | None = None,
    decay_milestones: Sequence[int] = (90, 180, 270), cooldown_epochs: int = 0, patience_epochs: int = 10,
    decay_rate: float = 0.1, min_lr: float = 0.0, warmup_lr: float = 1e-5, warmup_epochs: int = 0,
    warmup_prefix: bool = False, noise: Any = None, cycle_mul: float = 1.0, cycle_decay: float = 0.1,
    cycle_limit: int = 1, k_decay: float = 1.0, decay_fn: str | None = None, stable_timescale: float | None = None,
    plateau_mode: str = "max", step_on_epochs: bool = True, updates_per_epoch: int = 0,
) -> Any:  # fmt: skip
    """The factory: lengths are epochs, times ``updates_per_epoch`` without ``step_on_epochs``.

    The power of ``"poly"`` is ``decay_rate``.
    """
    checks.choice("from_timm", "sched", sched, FACTORY)
    unit = 1 if step_on_epochs else checks.whole("from_timm", "updates_per_epoch", updates_per_epoch)
    total, warmup_t = num_epochs * unit, warmup_epochs * unit
    warm: dict[str, Any] = {"warmup_t": warmup_t, "warmup_lr_init": warmup_lr, "noise_range_t": noise}
    prefix = {**warm, "warmup_prefix": warmup_prefix}
    cycles = {
        "lr_min": min_lr,
        "cycle_mul": cycle_mul,
        "cycle_decay": cycle_decay,
        "cycle_limit": cycle_limit,
        **prefix,
    }
    match sched:
        case "cosine":
            return CosineLRScheduler(lr, total, k_decay=k_decay, **cycles)
        case "tanh":
            return TanhLRScheduler(lr, total, **cycles)
        case "poly":
            return PolyLRScheduler(lr, total, power=decay_rate, k_decay=k_decay, **cycles)
        case "step":
            return StepLRScheduler(lr, (90 if decay_epochs is None else decay_epochs) * unit, decay_rate, **prefix)
        case "multistep":
            return MultiStepLRScheduler(lr, [m * unit for m in decay_milestones], decay_rate, **prefix)
        case "constant":
            return StepLRScheduler(lr, 1, 1.0, **prefix)
        case "plateau":
            return PlateauLRScheduler(lr, decay_rate, patience_epochs, lr_min=min_lr, mode=plateau_mode, **warm)
        case "none":
            return Constant(lr)
    body = total if warmup_prefix else total - warmup_t
    share = 0.2 if decay_epochs is None else decay_epochs
    decay_t = round(share * body if 0 < share < 1 else share * unit)
    if sched == "wsd":
        return WSDLRScheduler(lr, body, decay_t, min_lr, decay_fn=decay_fn or "1-sqrt", **warm)
    timescale = None if stable_timescale is None else stable_timescale * unit
    return WSDLRScheduler(lr, body, decay_t, min_lr, "rsqrt", timescale, decay_fn=decay_fn or "linear", **warm)


def _refuse_noise(noise: Any) -> None:
    if noise is not None:
        raise ScheduleError(
            "from_timm: noise is made of torch's random numbers, which no schedule here can say. "
            "Import the scheduler without noise_range_t (in the factory: noise)."
        )


def _warmed(
    schedule: Schedule, lr: float, warmup_t: int, warmup_lr_init: float, *, prefix: bool, last: int | None = None
) -> Schedule:  # fmt: skip
    """A warm-up to ``lr``; then the schedule from its start, or from where it stands by then (M1).

    ``last`` is the index past which the peer's schedule raises, if it does.
    """
    if checks.number("from_timm", "warmup_t", warmup_t) < 0:
        raise ScheduleError(f"from_timm: warmup_t must be at least 0, got {warmup_t!r}.")
    if not warmup_t:
        return schedule
    rise = Linear(warmup_lr_init, lr, warmup_t)
    if last is not None and warmup_t > last and not prefix:
        return rise.until(warmup_t - 1) if warmup_t > 1 else Constant(warmup_lr_init)
    return rise >> (schedule if prefix else schedule.after(warmup_t))


def _clocked(shape: Schedule, steps: float, k: float) -> Schedule:
    """The shape read at ``steps * (t / steps)**k``: k-decay."""
    return shape if k == 1 else shape.along(Ramp(0.0, steps, steps, ease=f"power({float(k)!r})"))


@dataclass(frozen=True)
class _Restarts:
    """``limit`` cycles, the i-th ``t_initial * mul**i`` long and from ``lr * decay**i`` to ``low``; then ``low``."""

    cycle: Callable[[float, float, float], Schedule]  # from a start to an end in so many updates
    lr: float
    low: float
    t_initial: float
    mul: float
    decay: float
    limit: int

    def schedule(self) -> Schedule:
        if checks.number("from_timm", "cycle_mul", self.mul) <= 0:
            raise ScheduleError(f"from_timm: cycle_mul must be above 0, got {self.mul!r}.")
        if self.limit < 1:
            return Constant(self.low)
        cycles = late(self._cycles(), self._seen_late())
        cycles = cycles if cycles._end_value() == self.low else cycles >> Constant(self.low)
        return cycles if self.last is None else cycles.until(self.last)

    @property
    def last(self) -> int | None:
        """The index past which the peer raises: cycles that shrink fill no more than that."""
        return None if self.mul >= 1 else max(math.ceil(self.t_initial / (1 - self.mul)) - 1, 1)

    def _cycles(self) -> Schedule:
        first = self._cycle(0)
        if self.limit == 1:
            return first
        if self.mul < 1:  # down to cycles that are too short to hold an update
            n = max(min(self.limit, math.ceil(math.log(1e-6 / self.t_initial, self.mul))), 1)
            return chain(*(self._cycle(i) for i in range(n)))
        if self.decay == 1:
            return first.repeat(self.limit, stretch=self.mul)
        high = self.cycle(self.lr, 0.0, self.t_initial)
        high = high.repeat(self.limit, stretch=self.mul, gamma=self.decay) if self.decay else high
        low = self.cycle(0.0, self.low, self.t_initial)
        return low.repeat(self.limit, stretch=self.mul) + high if self.low else high

    def _cycle(self, i: int) -> Schedule:
        return self.cycle(self.lr * self.decay**i, self.low, self.t_initial * self.mul**i)

    def _seen_late(self) -> Iterator[tuple[int, float]]:
        """Restarts at which the peer's logarithm is late by a rounding, and what the old cycle ends at (M3)."""
        length, end = Fraction(self.t_initial), Fraction(0)
        for i in range(self.limit if self.mul != 1 else 0):
            end, length = end + length, length * Fraction(str(self.mul))
            if end > checks.FAR or length < 1e-6:
                return
            if end.denominator == 1:
                argument = 1 - int(end) / self.t_initial * (1 - self.mul)
                value = float(self._cycle(i)._end_value() or 0.0)
                if math.floor(math.log(argument, self.mul)) <= i and (i + 1 < self.limit or value != self.low):
                    yield int(end), value
