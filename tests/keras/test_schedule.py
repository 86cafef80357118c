"""The rate that an update applies is the rate that the schedule says, however Keras runs it."""

import json

import keras
import pytest

import ratewise as rw
import ratewise.keras as rk
from ratewise.core.recipes import RECIPES
from ratewise.errors import ScheduleError

BACKEND = keras.backend.backend()

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


def applied(optimizer, updates, at=0):
    """The change that each of ``updates`` applied to a weight with gradient 1, the counter starting at ``at``."""
    weight = keras.Variable(0.0)
    optimizer.build([weight])
    optimizer.iterations.assign(at)
    rates = []
    for _ in range(updates):
        weight.assign(0.0)
        optimizer.apply([keras.ops.ones(())], [weight])
        rates.append(-float(keras.ops.convert_to_numpy(weight)))
    return rates


@pytest.mark.every_mode
def test_fit_applies_every_rate(probe, train, near, mode):
    lr = rw.Cosine(0.1, 0.0).warmup(3).over(12)
    model = probe(15, keras.optimizers.SGD(rk.Schedule(lr)), **mode)
    weights, _ = train(model, 15)
    assert near(lr.values(0, 15)) == [-w for w in weights]


@pytest.mark.skipif(BACKEND == "torch", reason="the next test does not compile there")
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_applied_as_it_is_written(name, near):
    lr = RECIPES[name](*RECIPE_ARGUMENTS.get(name, (0.1,))).over(12)
    assert near(lr.values(0, 14)) == applied(keras.optimizers.SGD(rk.Schedule(lr)), 14)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_runs_in_a_compiled_step(name, near, probe, train):
    lr = RECIPES[name](*RECIPE_ARGUMENTS.get(name, (0.1,))).over(12)
    xla = BACKEND != "torch"  # torch compiles for seconds, and has compiled test_fit_applies_every_rate
    weights, _ = train(probe(14, keras.optimizers.SGD(rk.Schedule(lr)), jit_compile=xla), 14)
    assert near(lr.values(0, 14)) == [-w for w in weights]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.function is TensorFlow's")
@pytest.mark.parametrize("jit", [False, True])
def test_a_custom_tf_function_loop_applies_every_rate(near, jit):
    import tensorflow as tf

    lr = rw.one_cycle(0.1).over(10)
    optimizer = keras.optimizers.SGD(rk.Schedule(lr))
    weight = tf.Variable(0.0)
    optimizer.build([weight])

    @tf.function(jit_compile=jit)
    def step():
        weight.assign(0.0)
        with tf.GradientTape() as tape:
            loss = 1.0 * weight
        optimizer.apply_gradients([(tape.gradient(loss, weight), weight)])
        return weight.read_value()

    assert near(lr.values(0, 12)) == [-float(step()) for _ in range(12)]


@pytest.mark.parametrize("at", [2**24 - 2, 2**31 - 4])
def test_the_counter_stays_exact_where_float32_stops_counting(at, near):
    lr = rw.Piecewise([0.5, 0.25, 0.125], [at + 1, at + 2])
    assert near([0.5, 0.25, 0.125]) == applied(keras.optimizers.SGD(rk.Schedule(lr)), 3, at)


@pytest.mark.parametrize("at", [2**24 - 2, 2**31 - 4])
def test_a_ramp_that_starts_late_is_exact_there(at, near):
    lr = rw.Constant(1.0, at) >> rw.Linear(1.0, 0.0, 4)
    assert near([1.0, 0.75, 0.5]) == applied(keras.optimizers.SGD(rk.Schedule(lr)), 3, at)


@pytest.mark.parametrize("steps", [2, 3])
def test_accumulation_counts_updates_and_not_batches(probe, train, near, mode, steps):
    lr = rw.Linear(0.5, 0.0, 4)
    optimizer = keras.optimizers.SGD(rk.Schedule(lr, accumulation=steps), gradient_accumulation_steps=steps)
    weights, _ = train(probe(12, optimizer, **mode), 12)
    expected = [rate / steps for rate in lr.values(0, 12 // steps) for _ in range(steps)]
    assert near(expected) == [-w for w in weights]


def test_a_number_is_a_constant_rate(near):
    assert near([0.1, 0.1]) == applied(keras.optimizers.SGD(rk.Schedule(0.1)), 2)


def test_a_horizon_settles_open_and_typed_lengths():
    run = rw.Horizon(epochs=2, dataset_size=40, batch_size=8)
    assert rw.Cosine(0.1, 0.0, 8).warmup(2) == rk.Schedule(rw.Cosine(0.1, 0.0).warmup(rw.fraction(0.2)), horizon=run).lr


@pytest.mark.parametrize("step", [3, 3.0])
def test_it_can_be_asked_for_any_rate(step):
    rate = rk.Schedule(rw.Linear(1.0, 0.0, 4))(step)
    assert keras.backend.standardize_dtype(rate.dtype) == "float32"
    assert float(rate) == 0.25


def test_the_rate_has_kerass_float_type():
    keras.config.set_floatx("float16")
    try:
        assert keras.backend.standardize_dtype(rk.Schedule(0.1)(0).dtype) == "float16"
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_its_configuration_is_plain_json(name):
    schedule = rk.Schedule(RECIPES[name](*RECIPE_ARGUMENTS.get(name, (0.1,))).over(12), accumulation=2)
    read = json.loads(json.dumps(keras.optimizers.schedules.serialize(schedule)))
    again = keras.optimizers.schedules.deserialize(read)
    assert (schedule.lr, 2) == (again.lr, again.accumulation)
    assert repr(schedule) == repr(again)


def test_every_keras_optimizer_takes_it():
    optimizer = keras.optimizers.Lion(rk.Schedule(rw.Linear(0.5, 0.0, 4)))
    assert applied(optimizer, 3) == [0.5, 0.375, 0.25]


def test_an_unknown_length_is_refused():
    with pytest.raises(ScheduleError, match=r"Cosine\(0.1, 0.0\): its length is not known yet .* \.over\(1000\)"):
        rk.Schedule(rw.Cosine(0.1, 0.0))


def test_a_negative_rate_is_refused():
    with pytest.raises(ScheduleError, match=r"lr must be at least 0 .* got -0\.0199.* at update 6\. .* \.clip\(0\)"):
        rk.Schedule(rw.Linear(0.1, -0.1, 10))


def test_a_negative_rate_far_into_an_endless_schedule_is_refused():
    with pytest.raises(ScheduleError, match="lr must be at least 0"):
        rk.Schedule(rw.Piecewise([0.1, -0.1], [1_000_000]))


def test_what_is_no_schedule_is_refused():
    with pytest.raises(ScheduleError, match=r"lr must be a Ratewise schedule such as .* or a number, got 'cosine'"):
        rk.Schedule("cosine")


@pytest.mark.parametrize("accumulation", [0, 1.5, None])
def test_accumulation_must_be_a_whole_number(accumulation):
    with pytest.raises(ScheduleError, match="accumulation must be an integer of at least 1"):
        rk.Schedule(0.1, accumulation=accumulation)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"accumulation": 1}, "needs lr"),
        ({"lr": rw.Linear(1.0, 0.0, 5).to_dict(), "accumulation": 0}, "accumulation must be"),
    ],
)
def test_a_configuration_that_is_not_one_is_refused(config, message):
    with pytest.raises(ScheduleError, match=message):
        rk.Schedule.from_config(config)


def test_a_function_that_cannot_be_loaded_is_warned_of_when_it_is_saved():
    with pytest.warns(UserWarning, match=r"cannot be loaded. Custom: .* is not registered"):
        rk.Schedule(rw.Custom(lambda t: 0.1 + 0 * t)).get_config()
