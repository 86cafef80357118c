"""Exported code is run in its framework and compared with ours over the whole curve and past its end."""

import math
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
from ratewise.errors import ScheduleError
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
    if n > 2 or (start > end) == (i % 4 < 2)  # pieces of one or two updates: falling or rising
]
FALLS = [Ramp(0.1, 0.0, 9, ease=ease) for ease in EASES] + [Ramp(0.0, 0.1, 9, ease=ease) for ease in EASES]

STEPS, MULTI = rw.step_decay(0.1, 0.5, 7), rw.multi_step(0.1, [3, 9, 12], 0.3)
RECIPES = [
    rw.fixed(0.1),
    rw.trapezoidal(0.1, 3, 4).over(20),
    rw.wsd_s(0.1, 5, 3, 0.01, warmup=4),
    rw.flat_cosine(0.1).over(20),
    rw.tri_stage(0.1).over(20),
    rw.slanted_triangular(0.1).over(20),
    rw.power_decay(0.1, 5, warmup=2).over(20),
    rw.range_test(1e-4, 1.0, 20),
    rw.time_based(0.1, 0.05),
    STEPS,
    rw.step_decay(0.1, 0.3).over(30),
    MULTI,
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


LISTS = {"torch": ALL, "hf": RECIPES + NODES, **dict.fromkeys(("keras", "optax"), RECIPES + NODES + RAMPS[::2] + FALLS)}
CASES = [(schedule, to) for to in RUN for schedule in LISTS[to]]


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


def refused_for_its_joints(schedule: Schedule) -> bool:
    """Whether it has stairs or cycles that float32 cannot place."""
    try:
        export(schedule, to="keras")
    except ScheduleError as error:
        return "joints between updates that float32 cannot tell" in str(error)
    return False


@pytest.mark.parametrize("schedule", [rw.Cosine(0.1, 0.0, 100).stairs(10 / 3), rw.Linear(0.1, 0.0, 10 / 3).repeat()])
def test_joints_that_float32_cannot_place_are_refused(schedule: Schedule):
    for to in ("keras", "optax"):
        with pytest.raises(ScheduleError, match="has joints between updates that float32 cannot tell from whole ones"):
            export(schedule, to=to)
    assert worst(schedule, "torch") <= TOLERANCE["torch"]


@quiet
@hypothesis.given(laws.schedules, st.sampled_from(["torch", "hf"]))
def test_random_trees_step_as_ours_in_torch(schedule: Schedule, to: str):
    assert worst(schedule, to) <= TOLERANCE[to]


@settings(quiet, max_examples=25)
@hypothesis.given(laws.schedules)
def test_random_trees_give_our_curve_in_keras(schedule: Schedule):
    hypothesis.assume(not refused_for_its_joints(schedule))
    assert worst(schedule, "keras") <= TOLERANCE["keras"]


whole = st.recursive(
    st.one_of(
        laws.ramps(st.integers(2, 200), ("linear", "cosine", "1-sqrt", "polynomial(2.0)", "rex")),
        st.builds(rw.Constant, laws.rates, st.integers(1, 50)),
        st.builds(rw.Exponential, laws.rates, st.floats(0.5, 1.0), st.integers(1, 50), st.integers(1, 100)),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda x: x[0] >> x[1]),
        st.tuples(inner, inner).map(lambda x: x[0] + x[1]),
        st.tuples(inner, laws.rates).map(lambda x: x[1] * x[0]),
        st.tuples(inner, st.integers(1, 30)).map(lambda x: x[0].stairs(x[1])),
        st.tuples(inner, st.integers(1, 30)).map(lambda x: x[0].until(x[1])),
        st.tuples(inner, st.integers(1, 4), st.sampled_from([1.0, 2.0])).map(lambda x: x[0].repeat(x[1], x[2])),
        st.tuples(inner, laws.rates, laws.rates).map(lambda x: x[0].clip(min(x[1:]), max(x[1:]))),
    ),
    max_leaves=4,
)


@settings(quiet, max_examples=25)
@hypothesis.given(whole)
def test_random_trees_give_our_curve_in_optax(schedule: Schedule):
    assert worst(schedule, "optax") <= TOLERANCE["optax"]


# -- inside the frameworks ---------------------------------------------------------------------------------------

SOME = [
    rw.warmup_cosine(0.1, 5, 0.0, 20),
    rw.noam(0.1, 8),
    rw.sgdr(0.1, 5),
    bump.repeat(4, gamma=0.5),
    rw.rex(0.1, steps=20),
]


@pytest.mark.parametrize("schedule", SOME, ids=repr)
def test_optax_code_traces_and_updates_use_our_rates(schedule):
    import jax
    import jax.numpy as jnp

    made = run(export(schedule, "optax"))
    at = jax.jit(made["schedule"])
    assert [float(at(t)) for t in range(30)] == pytest.approx(schedule.values(0, 30), rel=1e-6, abs=3e-8)
    optimizer, weight = made["optimizer"], jnp.zeros(())
    state = optimizer.init(weight)
    for t in range(3):
        update, state = optimizer.update(jnp.ones(()), state)
        assert -float(update) == pytest.approx(schedule(t), rel=1e-6)


def test_optax_code_is_right_where_float32_cannot_count():
    import jax.numpy as jnp

    schedule = rw.Linear(0.0, 0.1, 1000) >> rw.Constant(0.1, 2**30) >> rw.Ramp(0.1, 0.0, 100, ease="rex")
    at = run(export(schedule, "optax"))["schedule"]
    late = [2**30 + 1000 + i for i in range(0, 101, 10)]
    assert [float(at(jnp.int32(t))) for t in late] == pytest.approx([schedule(t) for t in late], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("schedule", SOME, ids=repr)
def test_keras_code_drives_an_optimizer_and_is_saved(schedule):
    import keras
    import tensorflow as tf

    made = run(export(schedule, "keras"))
    at = tf.function(made["learning_rate"])
    steps = [tf.constant(t, tf.int64) for t in range(30)]
    assert [float(at(t)) for t in steps] == pytest.approx(schedule.values(0, 30), rel=1e-6, abs=3e-8)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made["optimizer"]))
    assert float(again.learning_rate) == pytest.approx(schedule(0), rel=1e-6)


def test_keras_code_counts_updates_where_batches_are_accumulated():
    made = run(export(rw.noam(0.1, 8), "keras"))
    rate = made["LearningRate"](accumulation=4)
    assert float(rate(11)) == pytest.approx(rw.noam(0.1, 8)(2), rel=1e-6)


def test_the_frameworks_own_schedulers_are_used_where_they_are_the_same():
    native = {
        "torch": {"StepLR": STEPS, "MultiStepLR": MULTI, "ExponentialLR": rw.Exponential(0.1, 0.9)}
        | {"LinearLR": rw.Linear(0.1, 0.0, 9), "SequentialLR": rw.Constant(0.1).warmup(5)}
        | {"PolynomialLR": rw.Polynomial(0.1, 0.0, 9, power=2.0), "CyclicLR": rw.cyclical(0.01, 0.1, 4)}
        | {"CosineAnnealingWarmRestarts": rw.sgdr(0.1, 5), "LambdaLR": rw.cosine(0.1, steps=9)},
        "hf": {
            '"linear"': rw.Linear(0.0, 0.1, 5) >> rw.Linear(0.1, 0.0, 20),
            '"cosine_with_restarts"': rw.cosine(0.1, steps=9),
            '"constant"': rw.fixed(0.1),
        }
        | {'"polynomial"': rw.Linear(0.1, 0.01, 9), '"inverse_sqrt"': rw.inverse_sqrt(0.1, 10)}
        | {'"warmup_stable_decay"': rw.Constant(0.1, 7) >> rw.Cosine(0.1, 0.0, 9), "LambdaLR": rw.sgdr(0.1, 5)},
        "keras": {"CosineDecay": rw.cosine(0.1, steps=9), "ExponentialDecay": STEPS}
        | {"PolynomialDecay": rw.linear_decay(0.1, steps=9), "PiecewiseConstantDecay": MULTI},
        "optax": {"join_schedules": rw.warmup_cosine(0.1, 5, steps=9), "def schedule": rw.sgdr(0.1, 5)},
    }
    for to, expected in native.items():
        for name, schedule in expected.items():
            assert name in export(schedule, to), (to, name)


# -- rules -------------------------------------------------------------------------------------------------------

METRICS = [1.0, 0.9, 0.91, 0.92, 0.9, 0.95, math.nan, 0.8, 0.81, 0.82, 0.83, 0.84, 0.85, 0.79995, 0.9, 0.9, 0.9, 0.9]
TORCH_RULES = [
    rw.Plateau(0.5, 2, like="torch"),
    rw.Plateau(0.5, 2, cooldown=2, min_scale=0.2, like="torch"),
    rw.Plateau(0.3, 3),
    rw.Plateau(0.3, 1, atol=0.01, eps=0.05),
    rw.Plateau(0.5, 2, mode="max", rtol=0.05),
]


@pytest.mark.parametrize("to", ["torch", "hf"])
@pytest.mark.parametrize("rule", TORCH_RULES, ids=repr)
def test_torch_reduces_on_a_plateau_as_the_rule_does(rule, to):
    made = run(export(0.1 * rule, to), model=torch.nn.Linear(1, 1))
    rates = []
    for metric in METRICS:
        made["scheduler"].step(metric)
        rates.append(made["optimizer"].param_groups[0]["lr"])
    assert rates == pytest.approx([0.1 * scale for scale in rule.scales(METRICS)], rel=1e-12)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # within Keras
@pytest.mark.parametrize(
    "rule", [rw.Plateau(0.5, 2, like="keras"), rw.Plateau(0.5, 2, atol=0.01, cooldown=2, min_scale=0.2)], ids=repr
)
def test_keras_reduces_on_a_plateau_as_the_rule_does(rule):
    import keras

    made = run(export(0.1 * rule, "keras"))
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(optimizer=made["optimizer"], loss="mse")
    callback, rates = made["callback"], []
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, metric in enumerate(METRICS):
        callback.on_epoch_end(epoch, {"val_loss": metric})
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([0.1 * scale for scale in rule.scales(METRICS)], rel=1e-6)


@pytest.mark.parametrize("rule", [rw.Plateau(0.5, 2, like="optax"), rw.Plateau(0.5, 3, window=2, cooldown=1)], ids=repr)
def test_optax_reduces_any_schedule_on_a_plateau_as_the_rule_does(rule):
    import jax
    import jax.numpy as jnp

    schedule = rw.cosine(0.1, steps=20)
    optimizer = run(export(schedule * rule, "optax"))["optimizer"]
    step = jax.jit(lambda state, metric: optimizer.update(jnp.ones(()), state, value=metric))
    state, rates = optimizer.init(jnp.zeros(())), []
    for metric in METRICS:
        update, state = step(state, metric)
        rates.append(-float(update))
    scales = rule.scales(METRICS)
    assert rates == pytest.approx([schedule(t) * scale for t, scale in enumerate(scales)], rel=1e-5)


@pytest.mark.parametrize(
    ("ruled", "to", "message"),
    [
        (0.1 * rw.NewBob(), "torch", "has nothing that does what NewBob"),
        (0.1 * rw.Greedy(), "optax", "has nothing that does what Greedy"),
        (0.1 * rw.Plateau() * rw.Plateau(), "keras", "has nothing that does what"),
        (rw.Linear(0.1, 0.0, 9) * rw.Plateau(), "hf", "cannot multiply another schedule"),
        ((0.1 * rw.Plateau(start=5)), "optax", "does not pass over the metrics before update 5"),
        (0.1 * rw.Plateau(), "keras", "knows no relative margin"),
        (0.1 * rw.Plateau(window=3), "torch", "knows no window of metrics"),
        (0.1 * rw.Plateau(like="paddle"), "torch", "does not decide as 'paddle' does"),
        (0.1 * rw.Plateau(mode="max"), "optax", "knows mode='min' alone"),
    ],
)
def test_a_rule_that_the_framework_lacks_is_refused_in_a_sentence(ruled, to, message):
    with pytest.raises(ScheduleError, match=message) as error:
        export(ruled, to)
    assert len(str(error.value).splitlines()) == 1


# -- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", RUN)
@pytest.mark.parametrize("schedule", [rw.one_cycle(0.1), rw.Linear(0.1, 0.0, rw.epochs(3)), rw.wsd(0.1)], ids=repr)
def test_a_schedule_without_a_length_is_refused_by_frameworks_alone(schedule, to):
    with pytest.raises(ScheduleError, match=r"its length is not known yet .*\.over\(1000\)"):
        export(schedule, to)
    assert export(schedule, "json")


def test_unknown_targets_and_other_things_are_named():
    with pytest.raises(ScheduleError, match="Did you mean 'torch'"):
        export(rw.fixed(0.1), "troch")
    with pytest.raises(ScheduleError, match=r"export: needs a schedule, got 0\.1"):
        export(0.1, "torch")


def test_a_function_of_ones_own_is_imported_by_the_code():
    code = export(rw.Custom(math.sqrt, steps=20), "torch")
    assert "from math import sqrt" in code
    assert worst(rw.Custom(math.sqrt, steps=20), "torch") <= 1e-12
    with pytest.raises(ScheduleError, match="no other program can import"):
        export(rw.Custom(lambda t: 0.1), "torch")


def test_a_long_chain_runs_in_torch():
    schedule = rw.sequence(*(rw.Linear(0.1 / i, 0.05 / i, 3) for i in range(1, 5001)))
    at = run(export(schedule, "torch"), model=torch.nn.Linear(1, 1))["factor"]
    assert [0.1 * at(t) for t in range(0, 15_100, 7)] == pytest.approx(
        [schedule(t) for t in range(0, 15_100, 7)], abs=1e-13
    )
