"""``schedule`` applies every rate as it is written, however the update is compiled and counted."""

import inspect
import math
import pickle
from operator import attrgetter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ratewise as rw
import ratewise.optax as ro
from ratewise.core.recipes import RECIPES
from ratewise.errors import AdapterError, ScheduleError

RECIPE_ARGUMENTS = {
    "time_based": (0.1, 0.3),
    "multi_step": (0.1, [3, 7]),
    "cyclical": (0.01, 0.1),
    "sgdr": (0.1, 4),
    "noam": (0.1, 4),
    "wsd_s": (0.1, 3, 2),
    "power_decay": (0.1, 4),
    "range_test": (0.01, 0.1),
    "inverse_sqrt": (0.1, 5, 3),
}
LR = rw.Cosine(0.1, 0.0).warmup(3).over(12)
FLOAT = jnp.result_type(float)  # float64 when these tests run with 64 bits


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_applied_as_it_is_written(name, applied, near):
    lr = RECIPES[name](*RECIPE_ARGUMENTS.get(name, (0.1,))).over(12)
    assert near(lr.values(0, 14)) == applied(optax.sgd(ro.schedule(lr)), 14)


SCENARIO_7 = rw.warmup_cosine(1.0, 10).over(100)
UPDATES = [0, 1, 9, 10, 11, 55, 98, 99, 100, 199]
SEVENTH = {
    "schedule": lambda lr: optax.sgd(ro.schedule(lr)),
    "inject": lambda lr: ro.inject(optax.sgd, learning_rate=lr),
    "chain": lambda lr: optax.chain(optax.clip(2.0), ro.inject(optax.sgd, learning_rate=lr), optax.scale(1.0)),
    "masked": lambda lr: optax.masked(ro.inject(optax.sgd, learning_rate=lr), True),
    "multi_transform": lambda lr: optax.multi_transform(
        {"a": ro.inject(optax.sgd, learning_rate=lr), "b": optax.set_to_zero()}, "a"
    ),
    "apply_if_finite": lambda lr: optax.apply_if_finite(ro.inject(optax.sgd, learning_rate=lr), 3),
    "MultiSteps(4)": lambda lr: optax.MultiSteps(ro.inject(optax.sgd, learning_rate=lr), 4),
    "MultiSteps(4) of schedule": lambda lr: optax.MultiSteps(optax.sgd(ro.schedule(lr)), 4),
}


@pytest.mark.parametrize("name", SEVENTH)
def test_scenario_7_one_schedule_in_optax(name, applied):
    every = 4 if "MultiSteps" in name else 1
    rates = applied(SEVENTH[name](SCENARIO_7), 200 * every)
    assert [0.0] * (200 * (every - 1)) == [rate for t, rate in enumerate(rates) if (t + 1) % every]
    used = rates[every - 1 :: every]
    assert pytest.approx([SCENARIO_7(t) for t in UPDATES], rel=1e-6, abs=1e-9) == [used[t] for t in UPDATES]


def test_five_peak_rates_are_one_trace(near):
    traces = []

    @jax.jit
    def step(scale, count):
        traces.append(1)
        return scale * ro.schedule(SCENARIO_7)(count)

    peaks = [0.1, 0.2, 0.4, 0.8, 1.6]
    assert near([peak * SCENARIO_7(5) for peak in peaks]) == [float(step(p, jnp.int32(5))) for p in peaks]
    assert len(traces) == 1


WIDTHS = ["int8", "int16", "int32", "uint8", "uint16", "uint32"] + (["int64", "uint64"] if FLOAT == "float64" else [])


@pytest.mark.parametrize("width", WIDTHS)
def test_the_counter_may_have_any_width(width, near):
    counts = jnp.arange(14, dtype=width)
    rates = jax.jit(jax.vmap(ro.schedule(LR)))(counts)
    assert rates.dtype == FLOAT
    assert near(LR.values(0, 14)) == rates.tolist()
    assert float(ro.schedule(LR)(jnp.iinfo(width).max)) == 0.0


@pytest.mark.parametrize("step", [2, 2.0, np.int64(2), np.uint8(2), np.float32(2), jnp.int32(2), jnp.float32(2)])
def test_it_can_be_asked_for_any_rate(step):
    assert float(ro.schedule(rw.Linear(1.0, 0.0, 4))(step)) == 0.5


def test_it_can_be_asked_for_a_rate_beyond_32_bits():
    lr = ro.schedule(rw.Linear(1.0, 0.0, 2**40))
    assert float(lr(2**39)) == 0.5
    assert float(lr(np.int64(2**39))) == 0.5


@pytest.mark.parametrize("at", [2**24 - 2, 10**8, 2**31 - 4])
def test_the_counter_stays_exact_where_float32_stops_counting(at, applied):
    lr = rw.Constant(1.0, at) >> rw.Linear(1.0, 0.0, 4)
    state = (optax.EmptyState(), optax.ScaleByScheduleState(jnp.int32(at)))
    assert applied(optax.sgd(ro.schedule(lr)), 3, state) == [1.0, 0.75, 0.5]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_rate_leaves_the_dtype_of_the_updates_as_it_is(dtype, applied):
    assert applied(optax.sgd(ro.schedule(rw.Linear(1.0, 0.0, 4))), 3, dtype=dtype) == [1.0, 0.75, 0.5]


def test_it_is_a_value():
    lr = ro.schedule(LR)
    assert repr(lr) == 'schedule(Linear(0.0, 0.1, 3, ends="(]") >> Cosine(0.1, 0.0, 9))'
    assert lr == ro.schedule(LR) == pickle.loads(pickle.dumps(lr))
    assert hash(lr) == hash(ro.schedule(LR))
    assert lr != ro.schedule(0.5 * LR)


def test_it_may_be_a_static_argument():
    step = jax.jit(lambda lr, count: lr(count), static_argnums=0)
    assert pytest.approx([LR(5), LR(5) / 2]) == [float(step(ro.schedule(k * LR), 5)) for k in (1, 0.5)]


def test_a_number_is_a_constant_rate(applied, near):
    assert near([0.1, 0.1]) == applied(optax.sgd(ro.schedule(0.1)), 2)


def test_a_horizon_settles_open_and_typed_lengths():
    run = rw.Horizon(epochs=2, dataset_size=40, batch_size=8)
    assert ro.schedule(rw.Cosine(0.1, 0.0).warmup(rw.fraction(0.2)), run).lr == rw.Cosine(0.1, 0.0, 8).warmup(2)


def test_a_function_of_ones_own_is_followed(applied, near):
    lr = rw.Custom(lambda t: 0.1 * jnp.exp(-0.1 * t), steps=20)
    assert near(0.1 * np.exp(-0.1 * np.arange(5))) == applied(optax.sgd(ro.schedule(lr)), 5)


def test_a_function_may_be_off_by_a_rounding():
    lr = rw.Custom(lambda t: 0.1 * jnp.where(t < 10, 1.0, -1e-8), steps=10)
    assert -2e-9 < float(ro.schedule(lr)(jnp.int32(10))) < 0.0


def test_a_function_that_gives_no_number_is_refused():
    with pytest.raises(ScheduleError, match=r"schedule: lr must be at least 0 at every update, got nan at update 3"):
        ro.schedule(rw.Custom(lambda t: jnp.where(t == 3, jnp.nan, 0.1)))


def test_a_function_may_be_checked_within_a_traced_program():
    lr = rw.Custom(lambda t: 0.1 * jnp.exp(-0.1 * t))
    assert float(jax.jit(lambda t: 1.0 * ro.schedule(lr)(t))(0)) == pytest.approx(0.1)


@pytest.mark.parametrize("f", [lambda t: 0.1 * math.exp(-t), lambda t: 0.1 if t < 5 else 0.01, float])
@pytest.mark.parametrize("follow", [ro.schedule, lambda lr: ro.inject(optax.sgd, learning_rate=lr)])
def test_a_function_that_jax_cannot_trace_is_refused(f, follow):
    with pytest.raises(
        AdapterError, match=r": JAX cannot trace the function in Custom\(.* with operators and jax.numpy"
    ):
        follow(rw.Custom(f))


PARAMETERS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.25, -1.0])}
GRADIENTS = {"w": jnp.array([[0.5, -0.25], [1.0, 2.0]]), "b": jnp.array([-1.0, 0.125])}
SPECIAL = {"adafactor": {"min_dim_size_to_factor": 2}}
LEFT_OUT = (
    "_deprecated_dpsgd",
    "optimistic_adam",
    "scale_by_rprop",
    "lbfgs",
    "noisy_sgd",
)  # old; a part; slow to compile
NUMBERS_ALONE = ("rprop", "sm3")  # optax gives these no schedules; inject can
OPTIMIZERS = [
    name
    for name, value in vars(optax).items()
    if inspect.isfunction(value) and "learning_rate" in inspect.signature(value).parameters and name not in LEFT_OUT
]
OPTIMIZERS += ["contrib.prodigy", "contrib.schedule_free_adamw"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_optax_follows(name):
    factory, settings, lr = attrgetter(name)(optax), SPECIAL.get(name, {}), rw.Linear(0.1, 0.02, 4)

    def train(optimizer_at):
        parameters, state = PARAMETERS, optimizer_at(0).init(PARAMETERS)
        for t in range(3):
            updates, state = optimizer_at(t).update(GRADIENTS, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
        return parameters

    rebuilt = [factory(learning_rate=lr(t), **settings) for t in range(3)]
    ours = [ro.inject(factory, learning_rate=lr, **settings)]
    if name not in NUMBERS_ALONE:
        ours.append(factory(learning_rate=ro.schedule(lr), **settings))
    optimizers = [lambda t: rebuilt[t], *(lambda _, optimizer=optimizer: optimizer for optimizer in ours)]
    expected, *found = jax.jit(lambda: list(map(train, optimizers)))()
    for parameters in found:
        for key, value in expected.items():
            assert parameters[key].dtype == value.dtype
            assert pytest.approx(np.asarray(value), rel=1e-5) == np.asarray(parameters[key])


def test_an_unknown_length_is_refused():
    with pytest.raises(ScheduleError, match=r"schedule: lr: Cosine\(0.1, 0.0\): its length is .* \.over\(1000\)"):
        ro.schedule(rw.Cosine(0.1, 0.0))


NEGATIVE = {
    "short": rw.Linear(0.1, -0.1, 10),
    "late": rw.Piecewise([0.1, -0.1], [1_000_000]),
    "a function": rw.Custom(lambda t: -0.1 + 0.0 * t),
    "beside a function": rw.Linear(0.1, -0.1, 4) >> rw.Custom(lambda t: 0.1 + 0.0 * t),
    "a function of known length": rw.Custom(lambda t: 0.1 - 0.001 * t, steps=5000),
}


@pytest.mark.parametrize("lr", NEGATIVE.values(), ids=NEGATIVE)
def test_a_negative_rate_is_refused(lr):
    with pytest.raises(
        ScheduleError, match=r"schedule: lr must be at least 0 at every update, got -0\.\d+ .*\.clip\(0\)"
    ):
        ro.schedule(lr)


@pytest.mark.parametrize("lr", ["cosine", None, True, [0.1], float("nan")])
def test_what_is_no_schedule_is_refused(lr):
    with pytest.raises(ScheduleError, match=r"schedule: lr must be a Ratewise schedule such as .* or a number, got"):
        ro.schedule(lr)


def test_a_schedule_of_optax_is_told_how_to_be_written():
    with pytest.raises(ScheduleError, match=r"A function of the update is written Custom\(lr\)\."):
        ro.schedule(optax.linear_schedule(0.1, 0.0, 10))


def test_a_rule_is_told_where_it_can_be():
    with pytest.raises(
        AdapterError, match=r"cannot hold what a rule has seen.* inject\(optax.adamw, learning_rate=lr\)"
    ):
        ro.schedule(0.1 * rw.Plateau())
    with pytest.raises(AdapterError, match=r"lr must be a schedule times a rule, for example 0.1 \* Plateau\("):
        ro.schedule(rw.Plateau())


def test_a_value_on_a_device_is_told_to_be_a_scale():
    with pytest.raises(
        AdapterError, match=r"lr must be known before anything is compiled.* use scaled\(state, \.\.\.\)"
    ):
        jax.jit(lambda peak: ro.schedule(peak)(0))(0.1)
