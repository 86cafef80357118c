"""optax's schedules as schedules of ours, by the names and arguments of their factories.

An optax schedule is a closure that shows nothing of what it was made from; hence by name. It computes in float32
unless JAX is told otherwise; ours is the formula in float64. Compiled, XLA divides by multiplying with the reciprocal,
so that a stair of optax (of 41 updates, say) may come one update late; ours come where they do uncompiled.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from operator import mul
from typing import Any

from ratewise.core import checks
from ratewise.core.rules import Plateau
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant
from ratewise.errors import ScheduleError
from ratewise.interop.peer import Peer, chain, hold, levels, powers, ramp

PEER = Peer("from_optax")

REFUSED = dict.fromkeys(
    ("inject_hyperparams", "inject_stateful_hyperparams"),
    "it wraps a whole optimizer and is no schedule. Import the schedules given to it one by one; ratewise.optax.inject "
    "does the same for schedules of ours.",
)
"""What is no schedule, and why."""


def from_optax(name: str, **arguments: Any) -> Any:
    """Return the schedule that a function of optax makes.

    Args:
        name: The function, e.g. ``"cosine_decay_schedule"``; also ``"reduce_on_plateau"`` of optax.contrib.
        arguments: Its own arguments. ``join_schedules`` takes schedules of ours, imported ones as any others;
            ``reduce_on_plateau`` also ``lr``, the rate (or schedule) whose updates it scales.

    Returns:
        Schedule: In optimizer updates; with a rule for ``"reduce_on_plateau"``.

    Raises:
        ScheduleError: There is no such schedule, or its arguments are wrong.

    Example:
        >>> from_optax("warmup_constant_schedule", init_value=0.0, peak_value=0.1, warmup_steps=10)
        Linear(0.0, 0.1, 10)
    """
    if name in REFUSED:
        raise ScheduleError(f"from_optax: {name} cannot be imported: {REFUSED[name]}")
    return PEER.build(name, arguments)


@PEER.entry
def constant_schedule(value: float) -> Schedule:
    """``value``."""
    return Constant(value)


@PEER.entry
def polynomial_schedule(
    init_value: float, end_value: float, power: float, transition_steps: float, transition_begin: float = 0
) -> Schedule:  # fmt: skip
    """From init to end after ``transition_begin``; without steps it stays at init (O1)."""
    if checks.number("from_optax", "power", power) < 0:
        raise ScheduleError(f"from_optax: power must be at least 0 (the end is infinite otherwise), got {power!r}.")
    if _number("transition_steps", transition_steps) <= 0 or power == 0:
        return Constant(init_value)
    begin = _number("transition_begin", transition_begin)
    ease = "linear" if power == 1 else f"polynomial({float(power)!r})"
    return chain(hold(init_value, begin), Ramp(init_value, end_value, transition_steps, ease=ease))


@PEER.entry
def linear_schedule(
    init_value: float, end_value: float, transition_steps: float, transition_begin: float = 0
) -> Schedule:  # fmt: skip
    """A straight line from init to end after ``transition_begin``; without steps it stays at init (O1)."""
    return polynomial_schedule(init_value, end_value, 1.0, transition_steps, transition_begin)


@PEER.entry
def piecewise_constant_schedule(
    init_value: float, boundaries_and_scales: Mapping[float, float] | None = None
) -> Schedule:  # fmt: skip
    """``init_value`` times the scales of all boundaries at or before t."""
    scales = _scales(boundaries_and_scales)
    return levels(lambda t: init_value * math.prod(scale for b, scale in scales if t >= b), [b for b, _ in scales])


@PEER.entry
def exponential_decay(
    init_value: float, transition_steps: float, decay_rate: float, transition_begin: float = 0,
    staircase: bool = False, end_value: float | None = None,
) -> Schedule:  # fmt: skip
    """``init_value * decay_rate**(t / steps)`` after ``transition_begin``; a rate of 0 changes nothing (O7)."""
    if _number("transition_steps", transition_steps) <= 0 or decay_rate == 0:
        return Constant(init_value)
    curve = Constant(init_value) if decay_rate == 1 else powers(init_value, decay_rate, transition_steps)
    curve = curve.stairs(transition_steps) if staircase else curve
    curve = chain(hold(init_value, _number("transition_begin", transition_begin)), curve)
    if end_value is None:
        return curve
    return curve.clip(low=end_value) if decay_rate < 1 else curve.clip(high=end_value)


@PEER.entry
def cosine_decay_schedule(
    init_value: float, decay_steps: float, alpha: float = 0.0, exponent: float = 1.0
) -> Schedule:  # fmt: skip
    """Half a wave (to the power ``exponent``) from ``init_value`` to ``alpha * init_value``."""
    if _number("decay_steps", decay_steps) <= 0:
        raise ScheduleError(f"from_optax: decay_steps must be above 0, got {decay_steps!r}.")
    if checks.number("from_optax", "exponent", exponent) < 0:
        raise ScheduleError(f"from_optax: exponent must be at least 0, got {exponent!r}.")
    if exponent == 0:
        return Constant(init_value)
    return Ramp(init_value, init_value * alpha, decay_steps, ease=f"cosine({float(exponent)!r})")


@PEER.entry
def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:  # fmt: skip
    """Ramps between the products of the scales; they are reached at the boundaries."""
    checks.choice("from_optax", "interpolate_type", interpolate_type, ("linear", "cosine"))
    scales = _scales(boundaries_and_scales)
    bounds = [0, *(b for b, _ in scales)]
    values = list(accumulate((scale for _, scale in scales), mul, initial=float(init_value)))
    pieces = []
    for (start, stop), (low, high) in zip(pairwise(bounds), pairwise(values), strict=True):
        piece = ramp(low, high, stop - start, interpolate_type) if stop > 0 else None
        pieces.append(piece.after(-start) if piece and start < 0 else piece)
    return chain(*pieces) if any(pieces) else Constant(values[-1])


@PEER.entry
def linear_onecycle_schedule(
    transition_steps: int, peak_value: float, pct_start: float = 0.3, pct_final: float = 0.85,
    div_factor: float = 25.0, final_div_factor: float = 1e4,
) -> Schedule:  # fmt: skip
    """Up to the peak, back to the start, down to the end; of boundaries that coincide the last one wins (O2)."""
    steps = checks.whole("from_optax", "transition_steps", transition_steps)
    scales = {int(pct_start * steps): div_factor, int(pct_final * steps): 1 / div_factor, steps: 1 / final_div_factor}
    return piecewise_interpolate_schedule("linear", peak_value / div_factor, scales)


@PEER.entry
def cosine_onecycle_schedule(
    transition_steps: int, peak_value: float, pct_start: float = 0.3, div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:  # fmt: skip
    """Up to the peak at ``int(pct_start * steps)``, down to the end at ``steps`` (O11)."""
    steps = checks.whole("from_optax", "transition_steps", transition_steps)
    scales = {int(pct_start * steps): div_factor, steps: 1 / (div_factor * final_div_factor)}
    return piecewise_interpolate_schedule("cosine", peak_value / div_factor, scales)


@PEER.entry
def warmup_constant_schedule(init_value: float, peak_value: float, warmup_steps: float) -> Schedule:
    """A straight line to the peak; without steps it stays at ``init_value`` (O1)."""
    return linear_schedule(init_value, peak_value, warmup_steps)


@PEER.entry
def warmup_cosine_decay_schedule(
    init_value: float, peak_value: float, warmup_steps: float, decay_steps: float, end_value: float = 0.0,
    exponent: float = 1.0,
) -> Schedule:  # fmt: skip
    """A straight line to the peak, then half a wave; ``decay_steps`` is the length of both. A peak of 0 stays (O6)."""
    alpha = end_value / peak_value if peak_value else 0.0
    decay = cosine_decay_schedule(peak_value, decay_steps - warmup_steps, alpha, exponent)
    return join_schedules([linear_schedule(init_value, peak_value, warmup_steps), decay], [warmup_steps])


@PEER.entry
def warmup_exponential_decay_schedule(
    init_value: float, peak_value: float, warmup_steps: float, transition_steps: float, decay_rate: float,
    transition_begin: float = 0, staircase: bool = False, end_value: float | None = None,
) -> Schedule:  # fmt: skip
    """A straight line to the peak, then an exponential decay."""
    decay = exponential_decay(peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value)
    return join_schedules([linear_schedule(init_value, peak_value, warmup_steps), decay], [warmup_steps])


@PEER.entry
def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """Cycles of ``warmup_cosine_decay_schedule``, each with its own arguments; their ``decay_steps`` hold a warm-up."""
    given = [dict(kwargs) for kwargs in cosine_kwargs]
    if not given:
        raise ScheduleError("from_optax: sgdr_schedule needs the arguments of at least one cycle.")
    cycles = [PEER.build("warmup_cosine_decay_schedule", kwargs) for kwargs in given]
    return join_schedules(cycles, list(accumulate(kwargs["decay_steps"] for kwargs in given))[:-1])


@PEER.entry
def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[float]) -> Schedule:
    """Schedule i + 1 from boundary i on, which is its 0; what has no partner in the other list is dropped (O5)."""
    schedules = checks.items("from_optax", "schedules", schedules)
    wrong = [schedule for schedule in schedules if not isinstance(schedule, Schedule)]
    if wrong or not schedules:
        shown = checks.shown(wrong[0] if wrong else schedules, 60)
        raise ScheduleError(f"from_optax: schedules must be schedules of ours, at least one, got {shown}.")
    joints = [_number("boundaries", b) for b in checks.items("from_optax", "boundaries", boundaries)]
    joined = [(0, schedules[0]), *zip(joints, schedules[1:], strict=False)]
    pieces: list[Schedule] = []
    stop = math.inf
    for boundary, schedule in reversed(joined):  # a later boundary that lies before an earlier one overrules it
        start = max(boundary, 0)
        if start < stop:
            piece = schedule.after(start - boundary) if start > boundary else schedule
            pieces.append(piece if stop in (math.inf, start + (piece.steps or 0)) else piece.until(stop - start))
            stop = start
    return chain(*reversed(pieces))


@PEER.entry
def reduce_on_plateau(
    factor: float = 0.1, patience: int = 10, rtol: float = 1e-4, atol: float = 0.0, cooldown: int = 0,
    accumulation_size: int = 1, min_scale: float = 0.0, lr: Any = 1.0,
) -> Any:  # fmt: skip
    """Of optax.contrib: a scale of the updates. With patience 0 it cuts at every improvement (O8)."""
    if not (rtol or atol):
        raise ScheduleError("from_optax: reduce_on_plateau needs rtol or atol above 0.")
    rule = Plateau(
        factor, patience, rtol=rtol, atol=atol, cooldown=cooldown, min_scale=min_scale, window=accumulation_size,
        like="optax",
    )  # fmt: skip
    return lr * rule


PEER.alias(**{"contrib.reduce_on_plateau": "reduce_on_plateau"})


def _number(name: str, value: Any) -> float:
    """A finite number, an int as it is."""
    plain = checks.plain_number(value)
    return plain if type(plain) is int else checks.number("from_optax", name, plain)


def _scales(given: Any) -> list[tuple[float, float]]:
    """Boundaries and their scales in order."""
    if not isinstance(given, Mapping) and given is not None:
        raise ScheduleError(f"from_optax: boundaries_and_scales must be a dictionary, got {checks.shown(given, 60)}.")
    scales = [(_number("a boundary", b), checks.number("from_optax", "a scale", s)) for b, s in (given or {}).items()]
    if any(scale < 0 for _, scale in scales):
        raise ScheduleError("from_optax: the scales of boundaries_and_scales must be at least 0.")
    return sorted(scales)
