"""Exported code is run in its framework and compared with ours over the whole curve and past its end."""

from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, settings, strategies as st
from properties import test_laws as laws

import ratewise as rw
from ratewise.core.parse import KINDS
from ratewise.core.schedule import Ramp, Schedule
from ratewise.interop.exporters import export

torch = pytest.importorskip("torch")

EASES = (
    *("linear", "cosine", "cosine(0.3)", "cosine(2.5)", "sine", "half-cosine", "polynomial", "polynomial(0.4)"),
    *("polynomial(2.0)", "polynomial(3.5)", "power(0.5)", "power(2.0)", "1-sqrt", "exponential(0.001)"),
    *("exponential(50.0)", "exponential(1.0)", "exponential(1.0000001)", "exponential(1e+200)", "rex", "rex(0.99)"),
    *("circle", "circle(0.5)", "log", "tanh(-6.0, 3.0)", "tanh(0.5, 4.0)", "tanh(-20.0, -15.0)", "tanh(-299.0, 299.0)"),
)
RAMPS = [
    Ramp(start, end, n, ease=ease, ends=ends)
    for i, ease in enumerate((*EASES, "geometric"))
    for start, end in ((0.1, 0.001), (0.02, 0.5))
    for n, ends in [((7, "[)"), (12, "(]"), (9, "()"), (11, "[]"))[i % 4], (1 + i % 2, ("[]", "()")[i % 2])]
]
FALLS = [Ramp(0.1, 0.0, 9, ease=ease) for ease in EASES] + [Ramp(0.0, 0.1, 9, ease=ease) for ease in EASES]

RECIPES = [
    rw.fixed(0.1),
    rw.time_based(0.1, 0.05),
    rw.step_decay(0.1, 0.5, 7),
    rw.step_decay(0.1, 0.3).over(30),
    rw.multi_step(0.1, [3, 9, 12], 0.3),
    rw.exponential_decay(0.1, 0.5, 10),
    rw.exponential_decay(0.1).over(50),
    rw.polynomial_decay(0.1, 0.01, 20, power=1.5),
    rw.polynomial_decay(0.1, 0.0, 20, power=2.0),
    rw.linear_decay(0.1, steps=20),
    rw.cosine(0.1, 0.01, 20),
    rw.warmup_cosine(0.1, 5, 0.0, 20),
    rw.cyclical(0.01, 0.1, 4),
    rw.cyclical(0.01, 0.1, 4, "triangular2"),
    rw.cyclical(0.01, 0.1, 4, "exp_range", 0.97),
    rw.one_cycle(0.1).over(40),
    rw.one_cycle_momentum().over(40),
    rw.sgdr(0.1, 5),
    rw.sgdr(0.1, 5, stretch=1.3, end=0.01, gamma=0.7),
    rw.wsd(0.1).over(40),
    rw.noam(0.1, 8),
    rw.inverse_sqrt(0.1, 10, 5),
    rw.rex(0.1, steps=20),
]
line, bump = rw.Linear(0.1, 0.02, 10), rw.Linear(0.01, 0.1, 4) >> rw.Cosine(0.1, 0.02, 6)
NODES = [
    rw.Constant(0.0),
    rw.Constant(0.1, 5) >> rw.Constant(0.05),
    rw.Constant(0.1, 5) >> rw.Exponential(0.1, 0.9),
    rw.Exponential(0.1, 1.05, steps=30),
    rw.Exponential(0.1, 0.97, every=3, steps=12),
    rw.Exponential(0.1, 0.5, every=2.5).stairs(2.5),
    rw.InverseTime(0.1, 0.3, every=4, power=0.5),
    rw.InverseTime(0.1, 0.3, power=-0.5, steps=20),
    rw.InverseTime(0.1, 0.3, power=1.7, steps=20),
    rw.Piecewise([0.1, 0.05, 0.2], [3, 7]),
    rw.Piecewise([0.1, 0.02, 0.004], [4, 9]).until(6),
    rw.Piecewise([0.1 / i for i in range(1, 9)], [2, 3, 5, 8, 13, 21, 34]),
    rw.Piecewise([0.1, 0.3], [2.5]),
    rw.Formula("0.1 / (1 + floor(t / 10))"),
    rw.Formula("where(t < 7, 0.01 * t, max(0.07 - 0.001 * (t - 7), 0.01, exp(-t)))", 50),
    rw.Formula("0.1 * abs(sin(t / 30)) ** 2 + ceil(t / 4) % 5 * 0.01 - -t // 7 * 1e-4", 60),
    rw.Formula("0.1 * exp(0.5 * log(t)) / sqrt(1 + t) * tanh(cos(pi * t) + 2)", 30),
    bump,
    2.0 * bump * line + 0.01,
    bump + line * rw.Exponential(1.0, 0.9) + 0.1,
    (0.5 * (2.0 + line)).clip(1.02, 1.05),
    -0.5 * line + 0.06,
    line.stairs(3),
    bump.stairs(4),
    rw.Exponential(0.1, 0.8).stairs(5),
    line.stairs(2.5),
    bump.stretch(2.0),
    bump.stretch(0.5),
    bump.stretch(1.3),
    bump.until(7),
    bump.until(20),
    bump.until(7).after(3) >> line,
    line.after(4),
    rw.Exponential(0.1, 0.9).after(4).until(9) >> bump,
    rw.Linear(1.0, 0.1, 480).along(rw.Linear(0, 160, 20) >> rw.Linear(0, 320, 20) + 160),
    bump.along(rw.Linear(10, 0, 20)),
    bump.repeat(),
    bump.repeat(3),
    bump.repeat(3, gamma=0.5),
    bump.repeat(3, gamma=1.5),
    bump.repeat(4, stretch=2.0, gamma=0.9),
    bump.repeat(stretch=1.5),
    rw.Linear(0.1, 0.0, 10).repeat(3, stretch=0.5),
    rw.Linear(0.1, 0.0, 2.5).repeat(4),
    rw.Linear(0.1, 0.0, 2.5).repeat(stretch=1.3),
    rw.Cosine(0.1, 0.01, 8).repeat(),
    rw.Cosine(0.1, 0.01, 8).repeat(stretch=3.0),
    rw.Linear(0.1, 0.05, 2.5) >> rw.Cosine(0.05, 0.0, 7.25) >> rw.Constant(0.02),
    rw.InverseTime(0.1, 0.2).warmup(5).cooldown(10).over(60),
    rw.Linear(0.0, 0.1, 5) >> rw.Cosine(0.1, 0.01, 20),
    rw.Linear(0.0, 0.1, 5) >> rw.Linear(0.1, 0.0, 20),
    rw.Linear(0.0, 0.1, 5) >> rw.Constant(0.1),
    rw.Linear(0.0, 0.1, 5) >> rw.Polynomial(0.1, 0.01, 9, power=3.0),
    rw.Linear(0.0, 0.1, 5) >> rw.InverseTime(0.1, 0.2, power=0.5),
    rw.Linear(0.01, 0.1, 5) >> rw.Constant(0.1, 7) >> Ramp(0.1, 0.01, 9, ease="1-sqrt"),
    rw.Constant(0.1, 7) >> rw.Cosine(0.1, 0.0, 9),
    rw.Linear(0.05, 0.1, 5, ends="()") >> rw.Cosine(0.1, 0.02, 9) >> rw.Exponential(0.02, 0.9),
    rw.sequence(*(rw.Linear(0.1 / i, 0.05 / i, 3) for i in range(1, 31))),
    rw.sequence(*(Ramp(0.1 / i, 0.05, 1 + i % 3, ease="rex", ends="(]") for i in range(1, 31)), rw.Constant(0.01)),
    rw.sequence(*(Ramp(0.1 / i, 0.05, 3, ease="1-sqrt") >> rw.Exponential(0.1, 0.5, steps=2) for i in range(1, 9))),
    rw.sequence(*(rw.Linear(0.1, 0.05 / i, 2.5) for i in range(1, 15))),
]
ALL = RECIPES + NODES + RAMPS + FALLS


# -- running the code --------------------------------------------------------------------------------------------


def run(code: str, **given: Any) -> dict[str, Any]:
    assert "ratewise" not in code
    namespace: dict[str, Any] = {"__name__": "pasted", **given}
    exec(compile(code, "pasted", "exec"), namespace)
    return namespace


def torch_rates(code: str, n: int) -> list[float]:
    made = run(code, model=torch.nn.Linear(1, 1))
    optimizer, scheduler, rates = made["optimizer"], made["scheduler"], []
    for _ in range(n):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def keras_rates(code: str, n: int) -> Any:
    rate = run(code)["learning_rate"]
    if isinstance(rate, float):
        return np.full(n, rate)
    if "warmup_steps" in code:  # this one takes a single step, not an array of them
        return [float(rate(t)) for t in range(n)]
    return np.broadcast_to(np.asarray(rate(np.arange(n)), dtype=float), n)


def optax_rates(code: str, n: int) -> Any:
    import jax.numpy as jnp

    return np.broadcast_to(np.asarray(run(code)["schedule"](jnp.arange(n)), dtype=float), n)


RUN: dict[str, Callable[[str, int], Any]] = {
    "torch": torch_rates,
    "hf": torch_rates,
    "keras": keras_rates,
    "optax": optax_rates,
}
TOLERANCE = {"torch": 1e-12, "hf": 1e-12, "keras": 3e-7, "optax": 3e-7}


def worst(schedule: Schedule, to: str, n: int = 150) -> float:
    """The largest difference, as a part of the peak."""
    ours = np.asarray(schedule.values(0, n))
    theirs = np.asarray(RUN[to](export(schedule, to), n), dtype=float)
    peak = float(np.max(np.abs(ours))) or 1.0
    assert np.isfinite(theirs).all()
    return float(np.max(np.abs(ours - theirs))) / peak


CASES = [(s, to) for to in RUN for s in (RECIPES + NODES if to == "hf" else ALL)]


@pytest.mark.parametrize(("schedule", "to"), CASES, ids=lambda x: repr(x)[:70])
def test_exported_code_gives_the_same_curve_and_past_its_end(schedule, to):
    assert worst(schedule, to) <= TOLERANCE[to]


def test_every_kind_of_schedule_is_in_the_list():
    def kinds(schedule: Schedule) -> set[str]:
        inner = [*getattr(schedule, "pieces", ()), *getattr(schedule, "terms", ())]
        inner += [getattr(schedule, name) for name in ("base", "clock") if hasattr(schedule, name)]
        return {type(schedule).__name__}.union(*map(kinds, inner))

    assert set().union(*map(kinds, ALL)) == set(KINDS) - {"Custom", "Cooldown"}


# Random trees. In float32 every factor and every position between updates brings its own rounding: optax, which has
# no float64, is held to whole positions, and to the peak of what is added and multiplied.

quiet = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@quiet
@hypothesis.given(laws.schedules, st.sampled_from(["torch", "hf"]))
def test_random_trees_step_as_ours_in_torch(schedule: Schedule, to: str):
    assert worst(schedule, to) <= TOLERANCE[to]


@quiet
@hypothesis.given(laws.schedules)
def test_random_trees_give_our_curve_in_keras(schedule: Schedule):
    assert worst(schedule, "keras") <= TOLERANCE["keras"]
