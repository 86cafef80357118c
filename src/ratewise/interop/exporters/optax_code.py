"""Code for optax: its own schedules, joined, where they give the same curve, else a function of the count.

The function stays right under ``jit``: the count remains an integer until pieces have been subtracted from it.
"""

import textwrap
from typing import Any

from ratewise.core import schedule as core, shapes
from ratewise.core.schedule import ENDS, Schedule
from ratewise.interop.exporters.expressions import tidy
from ratewise.interop.exporters.singles import kept, power_of, rational
from ratewise.interop.exporters.targets import JAX
from ratewise.interop.exporters.texts import about, call, joined
from ratewise.interop.exporters.writer import Writer

OPTIMIZER = "optimizer = optax.sgd(schedule)"


def write(schedule: Schedule) -> str:
    """Return code that makes ``schedule``, and an optimizer with it."""
    return joined(definition(schedule), OPTIMIZER)


def definition(schedule: Schedule) -> str:
    """Return code that makes ``schedule``."""
    native = _native(schedule)
    return joined("import optax", "", f"schedule = {native}") if native else of_function(schedule)


def of_function(schedule: Schedule) -> str:
    """Return the schedule as a function of the count."""
    writer = Writer(JAX)
    writer.define(
        "schedule", schedule, about("The rate of the update after count updates:", schedule), argument="count"
    )
    code = writer.source()
    math = ["import math", ""] if "math." in code else []
    head = joined(*math, "import jax.numpy as jnp", "import optax", *sorted(writer.imports))
    return f"{head}\n\n\n{code}\n\n"


def _native(schedule: Schedule) -> str | None:
    if not isinstance(schedule, core.Sequence):
        found = _piece(schedule, last=True)
        return f"optax.{found}" if found else None
    last = len(schedule.pieces) - 1
    calls = [_piece(piece, i == last) for i, piece in enumerate(schedule.pieces)]
    if last > 5 or None in calls or not all(isinstance(x, int) and x < 2**31 for x in schedule._starts):
        return None
    inner = "".join(textwrap.indent(f"optax.{text},\n", " " * 8) for text in calls)
    return f"optax.join_schedules(\n    [\n{inner}    ],\n    boundaries={list(schedule._starts[1:])!r},\n)"


def _piece(schedule: Any, last: bool) -> str | None:
    if isinstance(schedule, shapes.Constant):
        return call("constant_schedule", repr(schedule.value))
    if isinstance(schedule, core.Ramp):
        return _cosine(schedule) or _line(schedule) or _polynomial(schedule)
    stairs = isinstance(schedule, core.Stairs)
    decay = schedule.base if stairs else schedule
    if not isinstance(decay, shapes.Exponential) or (decay.steps is not None and last) or not kept(decay.gamma):
        return None
    if not isinstance(decay.every, int) or (stairs and schedule.every != decay.every):
        return None
    options = {"staircase": True} if stairs else {}
    return call("exponential_decay", repr(decay.start), transition_steps=decay.every, decay_rate=decay.gamma, **options)


def _cosine(ramp: core.Ramp) -> str | None:
    if not rational(ramp, "cosine") or not 0 <= ramp.end < ramp.start:
        return None
    alpha = {"alpha": tidy(ramp.end / ramp.start)} if ramp.end else {}
    return call("cosine_decay_schedule", repr(ramp.start), decay_steps=ramp.steps, **alpha)


def _line(ramp: core.Ramp) -> str | None:
    """A straight line; one that does not start at its start is a shorter one from its first value."""
    d, e = ENDS[ramp.ends]
    if ramp.ease != "linear" or not isinstance(ramp.steps, int) or not 1 <= (n := ramp.steps + e - d) < 2**24:
        return None
    return call("linear_schedule", repr(tidy(ramp(0))), repr(ramp.end), transition_steps=n)


def _polynomial(ramp: core.Ramp) -> str | None:
    power = power_of(ramp)
    if power is None:
        return None
    return call(
        "polynomial_schedule", repr(ramp.start), repr(ramp.end), power=power, transition_steps=ramp.steps
    )  # fmt: skip
