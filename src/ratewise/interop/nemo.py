"""NVIDIA NeMo's schedules (``nemo.core.optim.lr_scheduler``) as schedules of ours."""

from inspect import signature
from typing import Any

from ratewise.core import checks
from ratewise.core.formula import Formula
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant, Cosine, InverseTime, Linear, Polynomial
from ratewise.errors import ScheduleError
from ratewise.interop import torch
from ratewise.interop.peer import Peer, chain, formula, hold, ramp

PEER = Peer("from_nemo")


def from_nemo(given: Any, group: int = 0, **arguments: Any) -> Any:
    """Return one of NeMo's schedules; a plateau of torch's gives a schedule with a rule.

    Args:
        given: A scheduler, or the name of one and its own ``arguments``, with ``lr`` for the base rate.
        group: Which parameter group of a scheduler given as an object.
        arguments: The peer's own, where ``given`` is a name.

    Raises:
        ScheduleError: There is no such schedule, its arguments are wrong, or NeMo raises at once.

    Example:
        >>> from_nemo("InverseSquareRootAnnealing", lr=1.0, max_steps=100)
        InverseTime(1.0, 1.0, power=0.5, steps=101) >> Constant(0.0)
    """
    if isinstance(given, str):
        return PEER.build(given, arguments)
    if type(given).__module__.startswith("torch"):
        return torch.from_torch(given, group=group)
    return _read(given, group)


def _read(given: Any, group: int) -> Schedule:
    """The schedule of a scheduler; lengths given as ratios have become steps in it, and holds count the warm-up."""
    name = type(given).__name__
    known: dict[str, Any] = {"warmup_ratio": None, "hold_ratio": None, "constant_ratio": None}
    rates = getattr(given, "base_lrs", [])
    if rates:
        first = name == "CosineAnnealing" and given.constant_steps  # then every group has the rate of the first
        known |= {"lr": rates[0 if first else group], "first_lr": rates[0]}
    if hasattr(given, "hold_steps"):
        known["hold_steps"] = given.hold_steps - given.warmup_steps if given.hold_steps else None
    if name == "NoamAnnealing":
        known["d_model"] = given._normalize**-2
    takes = signature(PEER.entries[name]).parameters if name in PEER.entries else known
    schedule: Schedule = PEER.read(given, **{key: value for key, value in known.items() if key in takes})
    return schedule


def _steps(name: str, steps: int | None, ratio: float | None, max_steps: int | None) -> int:
    """A length given in updates or as a part of the run, of which NeMo takes one."""
    if steps is not None and ratio is not None:
        raise ScheduleError(f"give {name}_steps or {name}_ratio, not both.")
    if ratio is None:
        return steps or 0
    if max_steps is None:
        raise ScheduleError(f"{name}_ratio needs max_steps.")
    return int(ratio * max_steps)


def _policy(
    lr: float, warmup: int, body: Schedule, begin: int, max_steps: int | None, min_lr: float, hold_until: int = 0
) -> Schedule:  # fmt: skip
    """``lr * (t + 1) / (w + 1)`` through update w; held; ``body``, which counts from ``begin``; ``min_lr`` at last.

    ``body`` is used through update ``max_steps``.
    """
    risen = warmup + 1 if warmup > 0 else 0
    start = max(risen, hold_until)
    skip = 0 if isinstance(body, Constant) else start - begin
    body = body.after(skip) if skip > 0 else body
    pieces = [ramp(0.0, lr, risen, ends="(]"), hold(lr, hold_until - risen)]
    if max_steps is None:
        return chain(*pieces, body)
    left = max_steps + 1 - start
    return chain(*pieces, body.until(left) if left > 0 else None, Constant(min_lr))


def _whole(max_steps: Any) -> int:
    return checks.whole("from_nemo", "max_steps", max_steps)


@PEER.entry
def WarmupPolicy(
    lr: float, warmup_steps: int | None = None, warmup_ratio: float | None = None,
    max_steps: int | None = None, min_lr: float = 0.0,
) -> Schedule:  # fmt: skip
    """``lr`` after the warm-up, ``min_lr`` after ``max_steps``."""
    w = _steps("warmup", warmup_steps, warmup_ratio, max_steps)
    return _policy(lr, w, Constant(lr), w, max_steps, min_lr)


def _spans(
    max_steps: int, warmup_steps: int | None, warmup_ratio: float | None,
    hold_steps: int | None, hold_ratio: float | None,
) -> tuple[int, int]:  # fmt: skip
    """The end of the warm-up, and that of the hold: 0 if there is none."""
    w = _steps("warmup", warmup_steps, warmup_ratio, _whole(max_steps))
    held = _steps("hold", hold_steps, hold_ratio, max_steps)
    return w, 0 if hold_steps is None and hold_ratio is None else held + w


@PEER.entry
def WarmupHoldPolicy(
    lr: float, max_steps: int, warmup_steps: int | None = None, warmup_ratio: float | None = None,
    hold_steps: int | None = None, hold_ratio: float | None = None, min_lr: float = 0.0,
) -> Schedule:  # fmt: skip
    """``lr`` after the warm-up and during the hold, which may outlast ``max_steps``."""
    w, h = _spans(max_steps, warmup_steps, warmup_ratio, hold_steps, hold_ratio)
    return _policy(lr, w, Constant(lr), h, max_steps, min_lr, h)


def _annealed(ease: str, low: float | None, lr: float, max_steps: int, min_lr: float, **spans: Any) -> Schedule:
    """A ramp from the end of the hold to ``low`` at ``max_steps``."""
    w, h = _spans(max_steps, **spans)
    if h == max_steps and (h > w or w == 0):  # NeMo divides by the length of the ramp
        return _policy(lr, w, Constant(lr), h, None, min_lr, h)
    if h >= max_steps:
        return _policy(lr, w, Constant(lr), h, max_steps, min_lr, h)
    fall: Schedule = Ramp(lr, min_lr if low is None else low, max_steps - h, ease=ease)
    return _policy(lr, w, fall if low is None else fall.clip(low=min_lr), h, max_steps, min_lr, h)


@PEER.entry
def WarmupHoldAnnealLinear(
    lr: float, max_steps: int, warmup_steps: int | None = None, warmup_ratio: float | None = None,
    hold_steps: int | None = None, hold_ratio: float | None = None, min_lr: float = 0.0,
) -> Schedule:  # fmt: skip
    """From the hold straight to ``min_lr``; without a hold the line starts at update 0, and the rate jumps onto it."""
    return _annealed(
        "linear", None, lr, max_steps, min_lr, warmup_steps=warmup_steps, warmup_ratio=warmup_ratio,
        hold_steps=hold_steps, hold_ratio=hold_ratio,
    )  # fmt: skip


@PEER.entry
def WarmupHoldAnnealOneMinusSquareRoot(
    lr: float, max_steps: int, warmup_steps: int | None = None, warmup_ratio: float | None = None,
    hold_steps: int | None = None, hold_ratio: float | None = None, min_lr: float = 0.0,
) -> Schedule:  # fmt: skip
    """``lr * (1 - sqrt(p))`` after the hold, not below ``min_lr``."""
    return _annealed(
        "1-sqrt", 0.0, lr, max_steps, min_lr, warmup_steps=warmup_steps, warmup_ratio=warmup_ratio,
        hold_steps=hold_steps, hold_ratio=hold_ratio,
    )  # fmt: skip


@PEER.entry
def NoamHoldAnnealing(
    lr: float, max_steps: int, warmup_steps: int | None = None, warmup_ratio: float | None = None,
    hold_steps: int | None = None, hold_ratio: float | None = None, decay_rate: float = 0.5, min_lr: float = 0.0,
) -> Schedule:  # fmt: skip
    """``lr * (w / (w + s))**decay_rate``, s counted from the end of the hold, not below ``min_lr``."""
    w, h = _spans(max_steps, warmup_steps, warmup_ratio, hold_steps, hold_ratio)
    if w == 0 and h == 0:
        raise ScheduleError("warmup_steps must be at least 1, as NeMo has it.")
    if w == 0:  # NeMo raises at the end of the hold, unless the run is over by then
        return _policy(lr, w, Constant(lr), h, max_steps if h > max_steps else None, min_lr, h)
    fall = InverseTime(lr, 1 / w, power=max(decay_rate, 0.0)).clip(low=min_lr)
    return _policy(lr, w, fall, max(w, h), max_steps, min_lr, h)


def _shifted(lr: float, max_steps: int, warmup: int, body: Any, min_lr: float) -> Schedule:
    """``body(n)`` over the n updates between warm-up and ``max_steps``, if there are any."""
    left = _whole(max_steps) - warmup
    return _policy(lr, warmup, body(left) if left > 0 else Constant(lr), warmup, max_steps, min_lr)


@PEER.entry
def SquareAnnealing(
    lr: float, max_steps: int, warmup_steps: int | None = None, warmup_ratio: float | None = None, min_lr: float = 1e-5
) -> Schedule:  # fmt: skip
    """``lr * ((T - t) / (T - w))**2``, not below ``min_lr``."""
    w = _steps("warmup", warmup_steps, warmup_ratio, max_steps)
    return _shifted(lr, max_steps, w, lambda n: Polynomial(lr, 0.0, n, power=2).clip(low=min_lr), min_lr)


@PEER.entry
def SquareRootAnnealing(
    lr: float, max_steps: int, warmup_steps: int | None = None, warmup_ratio: float | None = None, min_lr: float = 0.0
) -> Schedule:  # fmt: skip
    """``lr * sqrt((T - t) / T)``, not below ``min_lr``; not moved by the warm-up, after which the rate jumps."""
    w = _steps("warmup", warmup_steps, warmup_ratio, _whole(max_steps))
    fall = Polynomial(lr, 0.0, max_steps, power=0.5).clip(low=min_lr)
    return _policy(lr, w, fall, 0, max_steps, min_lr)


@PEER.entry
def WarmupAnnealing(
    lr: float, max_steps: int, warmup_steps: int | None = None, warmup_ratio: float | None = None, min_lr: float = 0.0,
    first_lr: float | None = None,
) -> Schedule:  # fmt: skip
    """A straight line to ``min_lr``; after the warm-up NeMo takes the first group's rate for every group."""
    w = _steps("warmup", warmup_steps, warmup_ratio, max_steps)
    peak = lr if first_lr is None else first_lr
    return _shifted(lr, max_steps, w, lambda n: Linear(peak, min_lr, n), min_lr)


@PEER.entry
def InverseSquareRootAnnealing(
    lr: float, max_steps: int, warmup_steps: int | None = None, warmup_ratio: float | None = None, min_lr: float = 0.0
) -> Schedule:  # fmt: skip
    """``lr * sqrt((w + 1) / (t + 1))``."""
    w = _steps("warmup", warmup_steps, warmup_ratio, max_steps)
    return _policy(lr, w, InverseTime(lr, 1 / (w + 1), power=0.5), w, _whole(max_steps), min_lr)


@PEER.entry
def CosineAnnealing(
    lr: float, max_steps: int, warmup_steps: int | None = None, warmup_ratio: float | None = None,
    constant_steps: int | None = None, constant_ratio: float | None = None, min_lr: float = 0.0,
) -> Schedule:  # fmt: skip
    """A cosine to ``min_lr``; with ``constant_steps`` the warm-up is t / w, and ``min_lr`` comes that much earlier.

    With ``constant_steps`` NeMo takes the first group's rate for every group.
    """
    w = _steps("warmup", warmup_steps, warmup_ratio, _whole(max_steps))
    constant = _steps("constant", constant_steps, constant_ratio, max_steps)
    if (lr < min_lr and (constant or w == 0)) or (constant and lr == min_lr):
        raise ScheduleError(f"min_lr must be below lr, got {min_lr!r} and {lr!r}.")
    if lr < min_lr and w < max_steps:  # NeMo raises when the warm-up is over
        return _policy(lr, w, Constant(lr), w, None, min_lr)
    if not constant:
        return _shifted(lr, max_steps, w, lambda n: Cosine(lr, min_lr, n), min_lr)
    left = max_steps - constant - w
    fall = Cosine(lr, min_lr, left) if left > 0 else hold(lr, 1 if w else 0)
    return chain(ramp(0.0, lr, w), fall, Constant(min_lr))


@PEER.entry
def NoamAnnealing(
    lr: float, d_model: float, warmup_steps: int | None = None, warmup_ratio: float | None = None,
    max_steps: int | None = None, min_lr: float = 0.0,
) -> Schedule:  # fmt: skip
    """``lr / sqrt(d) * min(1 / sqrt(n), n / w**1.5)`` with n = max(t, 1), after the warm-up not below ``min_lr``."""
    w = _steps("warmup", warmup_steps, warmup_ratio, max_steps)
    if lr < min_lr:
        raise ScheduleError(f"min_lr must be at most lr, got {min_lr!r} and {lr!r}.")
    peak = lr * d_model**-0.5 * max(w, 1) ** -0.5
    fall = InverseTime(peak, 1 / max(w, 1), power=0.5).clip(low=min_lr)
    noam = chain(ramp(0.0, peak, w), hold(peak, 1), fall.after(1)) if w else chain(hold(0.0, 1), fall)
    return noam.along(Formula("max(t, 1)"))


@PEER.entry
def T5InverseSquareRootAnnealing(
    max_steps: int, constant_steps: int, constant_ratio: float | None = None, min_lr: float = 0.0,
    lr: float | None = None,
) -> Schedule:  # fmt: skip
    """``1 / sqrt(max(t, c))``, whatever ``lr`` is."""
    flat = checks.whole("from_nemo", "constant_steps", constant_steps)
    fall = InverseTime(flat**-0.5, 1 / flat, power=0.5).after(1)
    left = _whole(max_steps) - flat
    return chain(Constant(flat**-0.5, flat + 1), fall.until(left) if left > 0 else None, Constant(min_lr))


def _poly(lr: float, low: float, steps: int, power: float, cycle: bool) -> Schedule:
    """A polynomial decay, or one whose length grows by ``steps`` whenever it has passed."""
    if not cycle:
        return Polynomial(lr, low, steps, power=power)
    text = "({lr} - {low}) * (1 - t / ({n} * max(ceil(t / {n}), 1)))**{power} + {low}"
    return formula(text, lr=lr, low=low, n=steps, power=power)


@PEER.entry
def PolynomialDecayAnnealing(
    lr: float, max_steps: int, warmup_steps: int | None = None, warmup_ratio: float | None = None,
    power: float = 1.0, cycle: bool = False, min_lr: float = 0.0,
) -> Schedule:  # fmt: skip
    """``min_lr + (lr - min_lr) * (1 - p)**power``; a cycle is never passed before ``max_steps``."""
    w = _steps("warmup", warmup_steps, warmup_ratio, max_steps)
    return _shifted(lr, max_steps, w, lambda n: _poly(lr, min_lr, n, power, False), min_lr)


@PEER.entry
def PolynomialHoldDecayAnnealing(
    lr: float, max_steps: int, warmup_steps: int | None = None, warmup_ratio: float | None = None,
    hold_steps: int | None = None, hold_ratio: float | None = None,
    power: float = 1.0, cycle: bool = False, min_lr: float = 0.0,
) -> Schedule:  # fmt: skip
    """The same from the end of the hold; without a hold it counts from update 0, but over T - w, and the rate jumps."""
    w, h = _spans(max_steps, warmup_steps, warmup_ratio, hold_steps, hold_ratio)
    steps = max_steps - max(w, h)
    if steps == 0 and h > w:  # NeMo divides by it
        return _policy(lr, w, Constant(lr), h, None, min_lr, h)
    fall = _poly(lr, min_lr, steps, power, cycle) if steps > 0 else Constant(lr)
    return _policy(lr, w, fall, h, max_steps, min_lr, h)


for _name in ("StepLR", "ExponentialLR", "ReduceLROnPlateau", "CyclicLR"):
    if _name in torch.PEER.entries:
        PEER.entries[_name] = torch.PEER.entries[_name]
