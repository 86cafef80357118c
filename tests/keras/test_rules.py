"""Rules act on the rate at the end of an epoch, together with schedules, and go on where a saved model left them."""

import json
import math
import os

import keras
import numpy as np
import pytest

import ratewise as rw
import ratewise.keras as rk
from ratewise.errors import AdapterError, ScheduleError

PLATEAU = rw.Plateau(0.5, patience=2)
METRICS = [1.0, 0.9, 0.91, 0.92, 0.90, math.nan]  # halved after the fourth and after the last
WARMED = (rw.Constant(1.0) * PLATEAU).warmup(5)
SCENARIO_8 = [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
EVALUATIONS = [9.0, 9.1, 9.2, 9.3, *METRICS, 0.0, 0.0]  # those before the warm-up is over do not count

once = pytest.mark.skipif("RATEWISE_INNER" in os.environ, reason="no backend has a part in it")


@pytest.mark.filterwarnings("ignore:keras adapter. val_loss is nan")
def test_scenario_8_a_warm_up_and_then_a_plateau(probe, train, near, fed):
    callbacks = [fed(EVALUATIONS), rk.Follow(WARMED)]
    weights, history = train(probe(12, keras.optimizers.SGD(0.3)), 1, epochs=12, callbacks=callbacks)
    assert near(SCENARIO_8) == [-w for w in weights]
    assert history["learning_rate"] == SCENARIO_8
    assert [cut["at"] for cut in callbacks[1].history] == [8, 10]
    assert callbacks[1].history[0]["what"] == "Plateau(factor=0.5, patience=2, start=5) after val_loss=0.92"
    assert callbacks[1].history[0]["new"] == {"learning_rate": 0.5}


@pytest.mark.filterwarnings("ignore:keras adapter. val_loss is nan")
@pytest.mark.parametrize("killed", [3, 7, 8, 9])
def test_scenario_8_killed_at_any_epoch_goes_on_from_the_saved_model(
    probe, train, near, fed, killed, tmp_path, weights
):
    model = probe(12, keras.optimizers.SGD(0.3))
    train(model, 1, epochs=killed, callbacks=[fed(EVALUATIONS), rk.Follow(WARMED)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    callbacks = [fed(EVALUATIONS), rk.Follow(WARMED)]
    train(loaded, 1, start=killed, epochs=12, initial_epoch=killed, callbacks=callbacks)
    assert near(SCENARIO_8) == [-w for w in weights(loaded)]
    assert [cut["at"] for cut in callbacks[1].history] == [8, 10]


def test_a_rule_a_schedule_momentum_and_accumulation_work_together(probe, train, near, fed, mode):
    lr, momentum = rw.Linear(1.0, 0.0, 9), rw.Linear(0.0, 0.8, 9)
    model = probe(18, keras.optimizers.SGD(0.3, gradient_accumulation_steps=2), **mode)
    follow = rk.Follow(lr * rw.Plateau(0.5, patience=1), momentum=momentum)
    weights, history = train(model, 6, epochs=3, callbacks=[fed([1.0, 2.0, 3.0]), follow])
    rates = [a * b for a, b in zip(lr.values(0, 9), [1.0] * 6 + [0.5] * 3, strict=True)]
    expected = []
    for i in range(18):  # v = momentum v - rate g, w = w + v
        v = w = 0.0
        for t in range(i // 2, 9):
            v = momentum(t) * v - rates[t] * (t == i // 2) / 2
            w += v
        expected.append(w)
    assert near(expected) == weights
    assert history["learning_rate"] == rates[2::3]


def test_a_cut_and_a_momentum_reach_a_step_that_torch_has_compiled(probe, train, near, fed):
    model = probe(3, keras.optimizers.SGD(0.3), jit_compile=True)
    follow = rk.Follow(1.0 * rw.Plateau(0.5, 1), momentum=rw.Linear(0.0, 0.5, 2))
    weights, _ = train(model, 1, epochs=3, callbacks=[fed([1.0, 1.0, 0.5]), follow])
    assert near([1.0 + 0.25 + 0.125, 1.0 + 0.5, 0.5]) == [-w for w in weights]


@once
def test_many_cuts_add_up_no_rounding(probe, train, fed):
    rule = rw.Plateau(0.9, patience=1, min_scale=0.25)
    callbacks = [fed([0.0] * 20), rk.Follow(0.1 * rule)]
    _, history = train(probe(20, keras.optimizers.SGD(0.3), run_eagerly=True), 1, epochs=20, callbacks=callbacks)
    assert history["learning_rate"] == [0.1, *(0.1 * scale for scale in rule.scales([0.0] * 19))]


def test_the_next_fit_goes_on_and_a_rule_needs_one_trace_a_cut(probe, train, near, fed):
    model = probe(6, keras.optimizers.SGD(0.3))
    follow = rk.Follow(rw.Constant(1.0) * PLATEAU)
    train(model, 1, epochs=2, callbacks=[fed([1.0, 1.0]), follow])
    step = model.train_function
    train(model, 1, start=2, epochs=1, callbacks=[fed([1.0]), follow])
    assert model.train_function is not step  # the second evaluation in a row without improvement is in this fit
    step = model.train_function
    weights, history = train(model, 1, start=3, epochs=3, callbacks=[fed([1.0, 0.5, 0.4]), follow])
    assert model.train_function is step
    assert near([1.0, 1.0, 1.0, 0.5, 0.5, 0.5]) == [-w for w in weights]
    assert history["learning_rate"] == [0.5] * 3


@once
def test_like_keras_it_does_what_reduce_lr_on_plateau_does():
    x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    data = {"x": x, "y": np.sign(x), "validation_data": (x[::3], np.sign(x[::3])), "epochs": 14, "verbose": 0}
    settings = {"factor": 0.5, "patience": 1, "cooldown": 2}
    theirs = keras.callbacks.ReduceLROnPlateau(**settings, min_delta=0.01)
    ours = rk.Follow(rw.Constant(0.5) * rw.Plateau(**settings, atol=0.01, like="keras"))
    expected, found = (_fitted(data, callback) for callback in (theirs, ours))
    assert len(set(expected.history["learning_rate"])) > 2
    assert expected.history["learning_rate"] == found.history["learning_rate"]
    assert pytest.approx(expected.history["val_loss"], rel=1e-5) == found.history["val_loss"]


def _fitted(data, callback):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.5, momentum=0.5), loss="mse")
    return model.fit(batch_size=16, shuffle=False, callbacks=[callback], **data)


@once
def test_a_rule_of_a_metric_that_rises(probe, train, fed):
    rule = rw.NewBob(0.5, mode="max", start=2)
    callbacks = [fed([9.0, 0.1, 0.1, 0.1], "accuracy"), rk.Follow(1.0 * rule, monitor="accuracy")]
    _, history = train(probe(4, keras.optimizers.SGD(0.3), run_eagerly=True), 1, epochs=4, callbacks=callbacks)
    assert history["learning_rate"] == [1.0, 1.0, 1.0, 0.5]


@once
def test_a_horizon_settles_the_start_of_a_rule_and_initial_epoch_moves_it(probe, train, fed):
    lr = (rw.Linear(1.0, 0.0) * rw.Plateau(0.5, patience=1)).warmup(rw.fraction(0.5))
    callbacks = [fed([1.0] * 8), rk.Follow(lr, horizon=8)]
    model = probe(6, keras.optimizers.SGD(0.3), run_eagerly=True)
    _, history = train(model, 1, epochs=8, initial_epoch=2, callbacks=callbacks)
    assert history["learning_rate"] == [0.75, 1.0, 1.0, 0.375, 0.125, 0.03125]  # the first metric counts after update 4


@once
def test_a_metric_that_is_not_finite_is_no_improvement_and_told_once(probe, train, fed, recwarn):
    callbacks = [fed([math.nan, math.inf, math.nan, 1.0]), rk.Follow(rw.Constant(1.0) * PLATEAU)]
    _, history = train(probe(4, keras.optimizers.SGD(0.3), run_eagerly=True), 1, epochs=4, callbacks=callbacks)
    (warning,) = [w for w in recwarn if "keras adapter" in str(w.message)]
    assert "val_loss is nan after 1 updates. A rule takes that for an evaluation without" in str(warning.message)
    assert history["learning_rate"] == [1.0, 1.0, 0.5, 0.5]


def test_validation_that_comes_only_every_other_epoch(probe):
    model = probe(2, keras.optimizers.SGD(0.3), run_eagerly=True)
    x, y = np.zeros((2, 2), "float32"), np.zeros((2, 1), "float32")  # the loss stays 0: no improvement, ever
    follow = rk.Follow(rw.Constant(1.0) * rw.Plateau(0.5, patience=1), validation_freq=2)
    history = model.fit(
        x, y, validation_data=(x, y), validation_freq=2, epochs=6, verbose=0, callbacks=[follow]
    ).history
    assert history["learning_rate"] == [1.0] * 4 + [0.5] * 2


@once
@pytest.mark.parametrize(
    ("follow", "message"),
    [
        ({}, r"monitor='val_loss', the logs of epoch 0 have 'loss'\. .* give fit\(\.\.\.\) validation data"),
        (
            {"monitor": "los"},
            r"monitor='los', the logs of epoch 0 have 'loss'\. Write Follow\(\.\.\., monitor=\.\.\.\)",
        ),
        ({"validation_freq": [2]}, "the logs of epoch 1 have 'loss'"),
    ],
)
def test_a_metric_that_is_missing_is_named(probe, train, follow, message):
    model = probe(2, keras.optimizers.SGD(0.3), run_eagerly=True)
    with pytest.raises(AdapterError, match=message):
        train(model, 1, epochs=2, callbacks=[rk.Follow(0.1 * PLATEAU, **follow)])


@once
def test_a_schedule_with_rules_keeps_their_state_in_its_configuration():
    lr = rw.Cosine(0.1, 0.0, 8) * rw.Greedy(0.5, patience=1)
    schedule = rk.Schedule(lr, 2, state=lr.observe(lr.init(), 1.0, 3))
    read = keras.optimizers.schedules.deserialize(
        json.loads(json.dumps(keras.optimizers.schedules.serialize(schedule)))
    )
    assert (schedule.lr, schedule.state, schedule.accumulation) == (read.lr, read.state, read.accumulation)
    assert repr(schedule) == repr(read)
    assert float(read(5)) == pytest.approx(2 * lr(2))  # it improved, so the rate is doubled


@once
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rk.Schedule(0.1 * PLATEAU), r"needs metrics, .* callbacks=\[Follow\(lr, monitor='val_loss'\)\]"),
        (lambda: rk.Schedule(0.1, state=()), r"state= belongs to a schedule with rules, got it with Constant\(0.1\)"),
        (lambda: rk.Schedule(0.1 * PLATEAU, state=(1.0,)), "the state must have the 5 numbers"),
        (lambda: rk.SGD(0.1, momentum=0.9 * PLATEAU), "rules multiply lr alone, momentum takes a plain"),
        (lambda: rk.Follow(momentum=0.9 * PLATEAU), "rules multiply lr alone, momentum takes a plain schedule"),
        (lambda: rk.Follow(0.1 * rw.Plateau(start=rw.epochs(1))), "its start epochs.1. is not resolved"),
    ],
)
def test_rules_where_they_cannot_work_are_refused(make, message):
    with pytest.raises(ScheduleError, match=message):
        make()
