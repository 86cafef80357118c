"""What may be given as a schedule: checked once, before anything is traced."""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ratewise.core import checks
from ratewise.core.horizon import Horizon
from ratewise.core.ruled import Rule, Ruled, unruled
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Constant
from ratewise.errors import AdapterError, ScheduleError

Followed = Schedule | Ruled
"""What a rate follows; other hyperparameters follow plain schedules."""

MOMENTA = ("b1", "b2", "b3", "momentum", "decay")
"""Hyperparameters of optax that lie between 0 and 1."""

RATES = ("lr", "learning_rate", "weight_decay")
"""Hyperparameters that are at least 0; any other may have any value."""

_CHECKED = 2000  # positions looked at before training; a longer schedule is sampled evenly


def settled(where: str, name: str, value: Any, horizon: Horizon | int | None = None) -> Followed:
    """Return ``value`` as a schedule that can be called, its values found to be within their bounds.

    All of a short schedule are looked at, a longer one is sampled evenly. With a function of the user's own they are
    what JAX computes, and where the schedule is endless the first 2000 are looked at.

    Args:
        where: The function that was called, for messages.
        name: The hyperparameter.
        value: A schedule, with rules or without, or a number.
        horizon: The run that settles its length.

    Raises:
        ScheduleError: It is neither, its length is not known, or a value lies outside.
        AdapterError: It is a rule without a schedule, a value on a device, or a function that JAX cannot trace.
    """
    if isinstance(value, Rule):
        raise AdapterError(f"{where}: {name} must be a schedule times a rule, for example 0.1 * {value!r:.60}.")
    followed = value if isinstance(value, (Schedule, Ruled)) else Constant(_number(where, name, value))
    if horizon is not None:
        followed = followed.over(horizon)
    try:
        unruled(followed).values(0, 0)
        if isinstance(followed, Ruled):
            followed.observe(followed.init(), 0.0, 0)
    except ScheduleError as error:
        raise ScheduleError(f"{where}: {name}: {error} Or give {where}(..., horizon=1000).") from None
    _check(where, name, unruled(followed))
    return followed


def _number(where: str, name: str, value: Any) -> float:
    if isinstance(value, jax.Array):
        raise AdapterError(
            f"{where}: {name} must be known before anything is compiled, got {checks.shown(value)}. Give a Python "
            "number; to sweep over peak rates in one compiled program use scaled(state, ...)."
        )
    hint = f" A function of the update is written Custom({name})." if callable(value) else ""
    requirement = "a Ratewise schedule such as Cosine(0.1, 0.0, 1000) or a number"
    try:
        return checks.number(where, name, value, requirement)
    except ScheduleError as error:
        raise ScheduleError(f"{error}{hint}") from None


def check_number(where: str, name: str, value: Any) -> None:
    """Raise if ``value`` is a number outside the bounds of the hyperparameter ``name``."""
    value = checks.plain_number(value)
    if type(value) in (int, float):
        _within(where, name, [(None, value)])


def _check(where: str, name: str, schedule: Schedule) -> None:
    last = _CHECKED if schedule.steps is None else math.ceil(schedule.steps)
    positions = list(range(0, last + 1, max(1, last // _CHECKED)))
    if "Custom(" in repr(schedule):
        values = _traced(where, name, schedule, positions)
        _within(where, name, values, slack=1e-6 * max(abs(value) for _, value in values))
        return
    if schedule.steps is None:
        positions += [2**k for k in range(_CHECKED.bit_length(), 31)]
    _within(where, name, ((t, schedule(t)) for t in positions))


def _within(where: str, name: str, values: Iterable[tuple[int | None, float]], slack: float = 0.0) -> None:
    """Check each value, in float32 computed ones except for a rounding of ``slack``."""
    low, high = (0.0, 1.0) if name in MOMENTA else (0.0, math.inf) if name in RATES else (-math.inf, math.inf)
    for t, value in values:
        if math.isfinite(value) and low - slack <= value <= high + slack:
            continue
        bounds = "finite" if low < 0 else f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        if t is None:
            raise ScheduleError(f"{where}: {name} must be {bounds}, got {value!r}.")
        raise ScheduleError(
            f"{where}: {name} must be {bounds} at every update, got {value!r} at update {t}. "
            f"To cut it off there, write .clip({low:g}{'' if high == math.inf else f', {high:g}'})."
        )


def _traced(where: str, name: str, schedule: Schedule, positions: list[int]) -> list[tuple[int, float]]:
    """What a schedule with a function of the user's own is at the positions that fit into 32 bits."""
    positions = [t for t in positions if t < 2**31]
    try:
        with jax.ensure_compile_time_eval():  # also where a program is being traced
            values = jax.jit(partial(jax.lax.map, schedule))(jnp.asarray(positions, jnp.int32))
    except (TypeError, ScheduleError) as error:
        raise AdapterError(
            f"{where}: {name}: JAX cannot trace the function in {schedule!r:.60} ({type(error).__name__}). Write it "
            "with operators and jax.numpy, without math, int, float or if."
        ) from error
    return list(zip(positions, values.tolist(), strict=True))
