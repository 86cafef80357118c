"""Hugging Face's schedules: the names of transformers' ``get_scheduler`` as schedules of ours, and diffusers' one more.

They all multiply the rate of the optimizer. Four ways to warm up live side by side there (H3), and the three cosines
climb again past their end (H1); both are kept.
"""

from fractions import Fraction
from functools import partial
from inspect import signature
from typing import Any

from ratewise.core import checks
from ratewise.core.horizon import is_zero
from ratewise.core.rounding import tidy
from ratewise.core.rules import Greedy
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant, Cosine, InverseTime, Piecewise, Polynomial
from ratewise.errors import ScheduleError
from ratewise.interop.peer import Peer, chain, hold, plateau, ramp, wave

PEER = Peer("from_hf")

REFUSED = {
    "AdafactorSchedule": "it only shows what the optimizer Adafactor decides from the size of its parameters, which is "
    "no function of position.",
}
"""What is no schedule, and why."""

LAMBDAS = {
    "_get_constant_schedule_with_warmup_lr_lambda": "constant_with_warmup",
    "_get_linear_schedule_with_warmup_lr_lambda": "linear",
    "_get_cosine_schedule_with_warmup_lr_lambda": "cosine_with_min_lr",
    "_get_cosine_with_hard_restarts_schedule_with_warmup_lr_lambda": "cosine_with_restarts",
    "_get_polynomial_decay_schedule_with_warmup_lr_lambda": "polynomial",
    "_get_inverse_sqrt_schedule_lr_lambda": "inverse_sqrt",
    "_get_cosine_with_min_lr_schedule_with_warmup_lr_rate_lambda": "cosine_warmup_with_min_lr",
    "_get_wsd_scheduler_lambda": "warmup_stable_decay",
}
"""The functions inside transformers' scheduler objects, and whose they are."""

MOST_RESTARTS = 10_000


def from_hf(
    name: Any, lr: float | None = None, num_warmup_steps: int | None = None, num_training_steps: int | None = None,
    group: int = 0, **arguments: Any,
) -> Any:  # fmt: skip
    """Return the schedule that ``get_scheduler`` of transformers makes.

    Args:
        name: As ``get_scheduler`` has it, e.g. ``"cosine"``; or a scheduler that it made.
        lr: Rate of the parameter group; a scheduler knows its own.
        num_warmup_steps: Length of the warm-up, where the schedule has one.
        num_training_steps: Length of the run, warm-up included, where the schedule asks for it.
        group: Parameter group of a scheduler object, counted from 0.
        arguments: The ``scheduler_specific_kwargs`` (``lr_scheduler_kwargs`` of ``TrainingArguments``), or diffusers'
            ``step_rules``. Where groups have rates of their own, ``lr_init`` is the optimizer's own ``lr``, which
            ``lr_end`` and ``min_lr`` are measured by (H2).

    Returns:
        Schedule: In optimizer updates; with a rule for ``"reduce_lr_on_plateau"`` and ``"greedy"``.

    Raises:
        ScheduleError: There is no such schedule, or an argument is missing or wrong.

    Example:
        >>> from_hf("linear", lr=0.1, num_warmup_steps=10, num_training_steps=100)
        Linear(0.0, 0.1, 10) >> Linear(0.1, 0.0, 90)
    """
    if not isinstance(name, str):
        return _read(name, group)
    name = getattr(name, "value", name)  # a SchedulerType is text, too
    if name in REFUSED:
        raise ScheduleError(f"from_hf: {name} cannot be imported: {REFUSED[name]}")
    checks.choice("from_hf", "schedule", name, PEER.entries)
    if lr is None or checks.number("from_hf", "lr", lr) < 0:
        raise ScheduleError(f"from_hf: lr, the rate of the optimizer, must be a number of at least 0, got {lr!r}.")
    known = signature(PEER.entries[name]).parameters
    common = {"num_warmup_steps": num_warmup_steps, "num_training_steps": num_training_steps}
    given = {key: value for key, value in common.items() if value is not None and key in known}
    return PEER.build(name, {"lr": lr, **given, **arguments})


def _read(scheduler: Any, group: int) -> Any:
    """The schedule of a scheduler object, as it was made, whatever it has done since."""
    kind = type(scheduler).__name__
    if kind in REFUSED:
        raise ScheduleError(f"from_hf: {kind} cannot be imported: {REFUSED[kind]}")
    try:
        if kind == "GreedyLR":
            return PEER.build("greedy", _greedy_arguments(scheduler, group))
        if kind == "ReduceLROnPlateau":
            return PEER.build("reduce_lr_on_plateau", _plateau_arguments(scheduler, group))
        function, lr = scheduler.lr_lambdas[group], scheduler.base_lrs[group]
    except (AttributeError, LookupError, TypeError):
        raise ScheduleError(
            f"from_hf: needs a name of get_scheduler, or a scheduler that it made and one of its groups, got "
            f"{checks.shown(scheduler, 60)} and {checks.shown(group)}."
        ) from None
    if getattr(function, "__name__", "") == "_get_constant_lambda":
        return PEER.build("constant", {"lr": lr})
    source = function.func.__name__ if isinstance(function, partial) else ""
    if source not in LAMBDAS:
        raise ScheduleError(
            f"from_hf: {checks.shown(function, 60)} is none of transformers' own functions. Give the schedule by name."
        )
    name, arguments = LAMBDAS[source], dict(function.keywords)
    if name == "cosine_with_min_lr":  # the same function serves "cosine"
        arguments.setdefault("min_lr_rate", 0.0)
    return PEER.build(name, {"lr": lr, **arguments})


def _greedy_arguments(scheduler: Any, group: int) -> dict[str, Any]:
    same = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "warmup", "eps", "smooth")
    return {
        **{name: getattr(scheduler, name) for name in (*same, "window_size")},
        "lr": scheduler._init_lrs[group], "min_lr": scheduler.min_lrs[group], "max_lr": scheduler.max_lrs[group],
        "reset_start": scheduler.reset_start_original,
    }  # fmt: skip


def _plateau_arguments(scheduler: Any, group: int) -> dict[str, Any]:
    same = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "eps")
    parameters = scheduler.optimizer.param_groups[group]
    return {
        **{name: getattr(scheduler, name) for name in same},
        "lr": parameters.get("initial_lr", parameters["lr"]), "min_lr": scheduler.min_lrs[group],
    }  # fmt: skip


# -- the names of get_scheduler --------------------------------------------------------------------------------


@PEER.entry
def constant(lr: float) -> Schedule:
    """``lr``."""
    return Constant(lr)


@PEER.entry
def constant_with_warmup(lr: float, num_warmup_steps: int) -> Schedule:
    """A straight line from 0, then ``lr``."""
    return _warmed(lr, num_warmup_steps, Constant(lr))


@PEER.entry
def linear(lr: float, num_warmup_steps: int, num_training_steps: int) -> Schedule:
    """A straight line from 0, then one to 0; without room for that one 0 at once."""
    length = _count("num_training_steps", num_training_steps) - _count("num_warmup_steps", num_warmup_steps)
    return _warmed(lr, num_warmup_steps, ramp(lr, 0.0, length) or Constant(0.0))


@PEER.entry
def cosine(lr: float, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5) -> Schedule:
    """``num_cycles`` waves from ``lr`` to 0 and back, which go on past the end (H1)."""
    return _warmed(lr, num_warmup_steps, _waves(lr, 0.0, _rest(num_warmup_steps, num_training_steps), num_cycles))


@PEER.entry
def cosine_with_restarts(lr: float, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 1) -> Schedule:
    """``num_cycles`` times half a wave from ``lr`` to 0, then 0."""
    rest = _rest(num_warmup_steps, num_training_steps)
    if checks.number("from_hf", "num_cycles", num_cycles) < 0:
        raise ScheduleError(f"from_hf: num_cycles must be at least 0, got {num_cycles!r}.")
    cycles = _restarts(lr, rest, num_cycles) if num_cycles else Constant(lr, rest)
    return _warmed(lr, num_warmup_steps, cycles >> Constant(0.0))


@PEER.entry
def polynomial(
    lr: float, num_warmup_steps: int, num_training_steps: int, lr_end: float = 1e-7, power: float = 1.0,
    lr_init: float | None = None,
) -> Schedule:  # fmt: skip
    """A polynomial from ``lr`` to ``lr_end``; with no update between warm-up and end the peer raises there (H2)."""
    w, length = _count("num_warmup_steps", num_warmup_steps), num_training_steps - num_warmup_steps
    lr_init = lr if lr_init is None else lr_init
    if not lr_init > lr_end:
        raise ScheduleError(f"from_hf: lr_end ({lr_end!r}) must be below the optimizer's lr ({lr_init!r}).")
    if checks.number("from_hf", "power", power) < 0:
        raise ScheduleError(f"from_hf: power must be at least 0, got {power!r}.")
    end = lr * (lr_end / lr_init)
    if length == 0 == w:
        raise ScheduleError(
            "from_hf: polynomial needs at least one update after the warm-up, got num_training_steps=0."
        )
    if length < 0:
        return _warmed(lr, w, Constant(end))
    if length == 0:
        return _warmed(lr, w, None).until(w - 1) if w > 1 else Constant(0.0)
    return _warmed(
        lr, w, Polynomial(lr, end, length, power=power) if power else Constant(lr, length + 1) >> Constant(end)
    )


@PEER.entry
def inverse_sqrt(lr: float, num_warmup_steps: int, timescale: float | None = None) -> Schedule:
    """``lr / sqrt(1 + t / timescale)`` behind the warm-up; the timescale is its length, or 10,000 without one."""
    timescale = num_warmup_steps or 10_000 if timescale is None else timescale
    return _warmed(lr, num_warmup_steps, InverseTime(lr, 1.0, every=timescale, power=0.5))


@PEER.entry
def cosine_with_min_lr(
    lr: float, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5, min_lr: float | None = None,
    min_lr_rate: float | None = None, lr_init: float | None = None,
) -> Schedule:  # fmt: skip
    """As ``cosine``, down to ``min_lr`` (a rate) or ``min_lr_rate`` (its share of ``lr``)."""
    low = _least(lr, min_lr, min_lr_rate, lr_init)
    rest = _rest(num_warmup_steps, num_training_steps)
    return _warmed(lr, num_warmup_steps, _floored(_waves(lr, low, rest, num_cycles), low))


@PEER.entry
def cosine_warmup_with_min_lr(
    lr: float, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5, min_lr: float | None = None,
    min_lr_rate: float | None = None, warmup_lr_rate: float | None = None, lr_init: float | None = None,
) -> Schedule:  # fmt: skip
    """As ``cosine_with_min_lr`` one update sooner: the warm-up ends on the peak, the decay begins below it."""
    low, w = _least(lr, min_lr, min_lr_rate, lr_init), _count("num_warmup_steps", num_warmup_steps)
    waves = _waves(lr, low, _rest(num_warmup_steps, num_training_steps), num_cycles).after(1)
    if warmup_lr_rate is None:
        warm = ramp(0.0, lr, w, ends="(]")
    else:
        start = warmup_lr_rate * lr
        warm = hold(start, w) if w < 2 else Ramp(start, lr, w, ends="[]")
    return chain(warm, _floored(waves, low))


@PEER.entry
def warmup_stable_decay(
    lr: float, num_warmup_steps: int, num_decay_steps: int, num_training_steps: int | None = None,
    num_stable_steps: int | None = None, warmup_type: str = "linear", decay_type: str = "cosine",
    min_lr_ratio: float = 0.0, num_cycles: float = 0.5,
) -> Schedule:  # fmt: skip
    """Warm-up from ``min_lr_ratio * lr``, plateau, decay back to it; a decay without room starts on its way (H4)."""
    checks.choice("from_hf", "decay_type", decay_type, ("linear", "cosine", "1-sqrt"))
    warmups = {"linear": "linear", "cosine": "cosine", "1-sqrt": "polynomial(0.5)"}
    ease = warmups[checks.choice("from_hf", "warmup_type", warmup_type, warmups)]
    w, d = _count("num_warmup_steps", num_warmup_steps), _count("num_decay_steps", num_decay_steps)
    if num_stable_steps is None:
        if num_training_steps is None:
            raise ScheduleError("from_hf: warmup_stable_decay needs num_training_steps or num_stable_steps.")
        num_stable_steps = num_training_steps - w - d
    low, late, room = min_lr_ratio * lr, max(-num_stable_steps, 0), d + min(num_stable_steps, 0)
    warm, decay = ramp(low, lr, w, ease), None
    if room > 0:
        falling = _waves(lr, low, d, num_cycles) if decay_type == "cosine" else Ramp(lr, low, d, ease=decay_type)
        falling = falling.after(late) if late else falling
        decay = _floored(falling if falling.steps == room else falling.until(room), low)
    return chain(warm and _floored(warm, low), hold(lr, num_stable_steps), decay, Constant(low))


@PEER.entry
def reduce_lr_on_plateau(
    lr: float, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
    threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0, eps: float = 1e-8,
) -> Any:  # fmt: skip
    """ReduceLROnPlateau of torch."""
    rule = plateau(
        lr, "torch", mode=mode, factor=factor, patience=patience, threshold=threshold, threshold_mode=threshold_mode,
        cooldown=cooldown, min_lr=min_lr, eps=eps,
    )  # fmt: skip
    return Constant(lr) * rule


@PEER.entry
def greedy(
    lr: float, mode: str = "min", factor: float = 0.95, patience: int = 10, threshold: float = 1e-6,
    threshold_mode: str = "abs", cooldown: int = 0, warmup: int = 0, min_lr: float = 1e-3, max_lr: float = 1.0,
    eps: float = 1e-8, smooth: bool = False, window_size: int = 50, reset_start: int = 500, verbose: bool = False,
) -> Any:  # fmt: skip
    """GreedyLR: up while the metric improves, down while it does not; the floor is 1e-3 whatever ``lr`` (H5)."""
    checks.positive("from_hf", "lr", lr)
    checks.choice("from_hf", "threshold_mode", threshold_mode, ("rel", "abs"))
    rtol, atol = (threshold, None) if threshold_mode == "rel" else (None, threshold)
    rule = Greedy(
        factor, patience, mode=mode, rtol=rtol, atol=atol, cooldown=cooldown, warmup=warmup, min_scale=min_lr / lr,
        max_scale=max_lr / lr, eps=eps / lr, window=window_size if smooth else 1, reset=max(reset_start, 1), like="hf",
    )  # fmt: skip
    return Constant(lr) * rule


@PEER.entry
def piecewise_constant(lr: float, step_rules: str) -> Schedule:
    """The schedule that diffusers adds: ``"1:10,0.1:20,0.01"`` is 1 below update 10, 0.1 below 20, then 0.01 (H8)."""
    try:
        *rules, last = step_rules.split(",")
        pairs = [rule.split(":") for rule in rules]
        until = {int(step): float(factor) for factor, step in pairs}
        final = float(last)
    except (ValueError, AttributeError):
        raise ScheduleError(
            f'from_hf: step_rules must be text such as "1:10,0.1:20,0.01", got {checks.shown(step_rules, 60)}.'
        ) from None
    steps = sorted(step for step in until if step > 0)
    factors = [*(until[step] for step in steps), final]
    return Piecewise([lr * factor for factor in factors], steps) if steps else Constant(lr * final)


# -- their parts -----------------------------------------------------------------------------------------------


def _count(name: str, value: Any) -> int:
    """A number of updates, 0 included."""
    return 0 if is_zero(value) else checks.whole("from_hf", name, value)


def _rest(num_warmup_steps: Any, num_training_steps: Any) -> int:
    """Updates of the run behind its warm-up; 1 where there is none."""
    return max(_count("num_training_steps", num_training_steps) - _count("num_warmup_steps", num_warmup_steps), 1)


def _warmed(lr: float, num_warmup_steps: Any, body: Schedule | None) -> Schedule:
    """The schedule behind a straight line from 0, whose first update is spent at 0 (H6)."""
    return chain(ramp(0.0, lr, _count("num_warmup_steps", num_warmup_steps)), body)


def _waves(high: float, low: float, steps: float, cycles: float) -> Schedule:
    """``cycles`` cosine waves in ``steps`` updates, and so on for ever."""
    cycles = abs(checks.number("from_hf", "num_cycles", cycles))
    return wave(high, low, steps / (2 * cycles)) if cycles else Constant(high)


def _floored(schedule: Schedule, low: float) -> Schedule:
    """The factor is never below 0, not even on the way to a negative end."""
    return schedule if low >= 0 else schedule.clip(low=0.0)


def _least(lr: float, min_lr: float | None, min_lr_rate: float | None, lr_init: float | None) -> float:
    """The rate at the bottom of the wave."""
    if (min_lr is None) == (min_lr_rate is None):
        raise ScheduleError("from_hf: give min_lr (a rate) or min_lr_rate (its share of lr), and only one of them.")
    if min_lr_rate is not None:
        return lr * checks.number("from_hf", "min_lr_rate", min_lr_rate)
    return lr * (checks.number("from_hf", "min_lr", min_lr) / checks.positive("from_hf", "lr_init", lr_init or lr))


def _restarts(lr: float, steps: int, cycles: float) -> Schedule:
    """Half waves; one more update at 0 wherever the peer's product of floats falls short of a whole number."""
    size = steps / Fraction(str(cycles))
    together = size.numerator  # the first restart that falls on an update
    curve = Cosine(lr, 0.0, tidy(size)).repeat()
    if together < steps:
        curve = curve if size == together else curve.until(together).repeat()
        if steps // together > MOST_RESTARTS:
            raise ScheduleError(f"from_hf: at most {MOST_RESTARTS} restarts, got num_cycles={cycles!r}.")
    pieces: list[Schedule | None] = []
    last = 0
    for t in range(together, steps, together):
        if float(cycles) * (t / steps) % 1.0 > 0.5:
            pieces += [_between(curve, last, t), Constant(0.0, 1)]
            last = t + 1
    return chain(*pieces, _between(curve, last, steps))


def _between(curve: Schedule, start: int, stop: int) -> Schedule | None:
    return (curve.after(start) if start else curve).until(stop - start) if stop > start else None
