"""Megatron-LM's OptimizerParamScheduler and gpt-neox's AnnealingLR as schedules of ours.

Megatron counts samples: a schedule is written over samples here and read at ``batch_size * t``.
"""

from typing import Any

from ratewise.core import checks
from ratewise.core.formula import Formula
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant, InverseTime
from ratewise.errors import ScheduleError
from ratewise.interop.peer import Peer, chain, formula, hold, ramp

PEER = Peer("from_megatron")

_ANNEALS = {"linear": "linear", "cosine": "cosine", "exponential": "exponential(0.5)", "minus_sqrt": "1-sqrt"}
_STYLES = ("constant", "linear", "cosine", "inverse-square-root", "WSD")
_OVERRIDES = ("max_lr", "min_lr", "start_wd", "end_wd", "wd_mult")


def from_megatron(
    given: Any = "OptimizerParamScheduler", *, batch_size: int = 1, parameter: str = "lr", group: int = 0, **config: Any
) -> Schedule:
    """Return the schedule of Megatron-LM's OptimizerParamScheduler, or of gpt-neox's AnnealingLR.

    Args:
        given: The scheduler itself, or a name and its arguments in ``config``.
        batch_size: Samples per update, by which OptimizerParamScheduler counts; 1 if its steps are updates.
        parameter: ``"lr"``, or ``"weight_decay"`` of OptimizerParamScheduler.
        group: Which parameter group of a scheduler given as an object; its overrides count.
        config: The peer's own arguments.

    Raises:
        ScheduleError: There is no such schedule, or the peer would not accept its arguments.

    Example:
        >>> from_megatron(
        ...     init_lr=0.0, max_lr=1.0, min_lr=0.0, lr_warmup_steps=2, lr_decay_steps=6, lr_decay_style="cosine"
        ... )
        Linear(0.0, 1.0, 2) >> Cosine(1.0, 0.0, 4)
    """
    checks.choice("from_megatron", "parameter", parameter, ("lr", "weight_decay"))
    if given == "AnnealingLR" or type(given).__name__ == "AnnealingLR":
        given, config = _annealing(given, config)
        annealing: Schedule = PEER.build(given, config)
        return annealing
    config = {"parameter": parameter, **config}
    if isinstance(given, str):
        schedule: Schedule = PEER.build(given, config)
    else:
        groups = getattr(getattr(given, "optimizer", None), "param_groups", [{}])
        overrides = {name: groups[group][name] for name in _OVERRIDES if name in groups[group]}
        schedule = PEER.read(given, **overrides, **config)
    batch = checks.whole("from_megatron", "batch_size", batch_size)
    return schedule if batch == 1 else schedule.along(Formula(f"{batch} * t"))


def _annealing(given: Any, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of gpt-neox's scheduler, which keeps one of them under another name."""
    if isinstance(given, str):
        return given, config
    names = {"start_lr": "start_lr", "warmup_iter": "warmup_iter", "total_iters": "end_iter"}
    names |= {"decay_style": "decay_style", "min_lr": "min_lr"}
    return "AnnealingLR", {name: getattr(given, attribute) for name, attribute in names.items()}


@PEER.entry
def OptimizerParamScheduler(
    init_lr: float = 0.0, max_lr: float = 0.0, min_lr: float = 0.0, lr_warmup_steps: int = 0, lr_decay_steps: int = 1,
    lr_decay_style: str = "linear", start_wd: float = 0.0, end_wd: float = 0.0, wd_incr_steps: int = 1,
    wd_incr_style: str = "constant", wsd_decay_steps: int | None = None, lr_wsd_decay_style: str | None = None,
    parameter: str = "lr", wd_mult: float = 1.0,
) -> Schedule:  # fmt: skip
    """A rise from ``init_lr`` to ``max_lr``, then by style down to ``min_lr``, which follows ``lr_decay_steps``.

    The inverse square root jumps to ``min_lr`` there; ``constant`` stays.
    """
    if parameter == "weight_decay":
        decay = _weight_decay(start_wd, end_wd, wd_incr_steps, wd_incr_style)
        return decay if wd_mult == 1 else wd_mult * decay
    if not (0 <= min_lr <= max_lr and init_lr <= max_lr):
        raise ScheduleError(f"min_lr and init_lr must be at most max_lr, got {min_lr!r}, {init_lr!r} and {max_lr!r}.")
    if not 0 <= lr_warmup_steps < lr_decay_steps:
        raise ScheduleError(
            f"lr_warmup_steps must be below lr_decay_steps, got {lr_warmup_steps} and {lr_decay_steps}."
        )
    checks.choice("from_megatron", "lr_decay_style", lr_decay_style, _STYLES)
    rise = ramp(init_lr, max_lr, lr_warmup_steps)
    left = lr_decay_steps - lr_warmup_steps
    if lr_decay_style == "constant":
        return chain(rise, Constant(max_lr))
    if lr_decay_style == "inverse-square-root":
        return chain(rise, *_inverse_sqrt(max_lr, min_lr, lr_warmup_steps, left))
    if lr_decay_style == "WSD":
        return chain(rise, *_wsd(max_lr, min_lr, lr_warmup_steps, left, wsd_decay_steps, lr_wsd_decay_style))
    return chain(rise, Ramp(max_lr, min_lr, left, ease=lr_decay_style))


def _inverse_sqrt(peak: float, low: float, warmup: int, left: int) -> tuple[Schedule | None, ...]:
    """``peak * sqrt(w / n)`` with w at least 1 and n at least 1, through the last step of ``left``."""
    flat = 0 if warmup else 1
    fall = InverseTime(peak, 1 / max(warmup, 1), power=0.5).clip(low=low)
    return hold(peak, flat), fall.until(left + 1 - flat), Constant(low)


def _wsd(
    peak: float, low: float, warmup: int, left: int, steps: int | None, style: str | None
) -> tuple[Schedule | None, ...]:
    """Stable, then the last ``steps`` down; a decay longer than what is left has begun before the warm-up ends."""
    ease = _ANNEALS[checks.choice("from_megatron", "lr_wsd_decay_style", style, _ANNEALS)]
    if steps is None or steps <= 0:
        if steps is None:
            raise ScheduleError("wsd_decay_steps must be given with lr_decay_style='WSD'.")
        return hold(peak, left + 1), Constant(low)
    stable, fall = left - steps, Ramp(peak, low, steps, ease=ease)
    if stable >= 0:
        return hold(peak, stable), fall
    peak_used = 1 if warmup else 0
    return hold(peak, peak_used), fall.after(peak_used - stable)


def _weight_decay(start: float, end: float, steps: int, style: str) -> Schedule:
    """A rise from ``start`` to ``end`` in ``steps``: Megatron's weight decay cannot fall."""
    checks.choice("from_megatron", "wd_incr_style", style, ("constant", "linear", "cosine"))
    if not 0 <= start <= end or (style == "constant" and start != end):
        equal = "equal to" if style == "constant" else "at most"
        raise ScheduleError(f"start_wd must be at least 0 and {equal} end_wd, got {start!r} and {end!r}.")
    return Constant(end) if style == "constant" else Ramp(start, end, steps, ease=style)


_NEOX = {
    "linear": "{lr} * ({end} - {n}) / {end}",
    "cosine": "{lr} / 2 * (cos(pi * {n} / {end}) + 1)",
    "exponential": "{lr} * exp(-0.693 * {n} / {end})",
}


@PEER.entry
def AnnealingLR(
    start_lr: float, warmup_iter: int, total_iters: int, decay_style: str = "linear", min_lr: float = 0.0
) -> Schedule:  # fmt: skip
    """gpt-neox: n = min(t, T - w) - w, but the decay is divided by all of T: it never gets to ``min_lr``.

    With a warm-up longer than half of T the rate stops below its peak, then jumps above it.
    """
    checks.whole("AnnealingLR", "total_iters", total_iters)
    n = "(min(t, {room}) - {w})"
    fall = "max(" + _NEOX.get(decay_style, "{lr}").replace("{n}", n) + ", {low})"
    rise = "where(t <= {w}, {lr} * min(t, {room}) / {w}, " + fall + ")"
    return formula(
        rise if warmup_iter > 0 else fall,
        lr=start_lr, w=warmup_iter, end=total_iters, room=total_iters - warmup_iter, low=min_lr,
    )  # fmt: skip
