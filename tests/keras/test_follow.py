"""A compiled model follows schedules, and its history holds the rates that were used."""

import math

import keras
import numpy as np
import pytest

import ratewise as rw
import ratewise.keras as rk
from ratewise.errors import AdapterError, ScheduleError

LR = rw.Linear(1.0, 0.0, 10)
MOMENTUM = rw.Linear(0.0, 0.8, 4) >> rw.Constant(0.8, 6)


def pulses(rates, momenta):
    """What each weight ends at under v = momentum v - rate g, w = w + v, when weight i has gradient 1 at i."""
    result = []
    for i in range(len(rates)):
        v = w = 0.0
        for t in range(i, len(rates)):
            v = momenta[t] * v - rates[t] * (t == i)
            w += v
        result.append(w)
    return result


def test_a_plain_optimizer_follows_the_rate(probe, train, near, mode):
    weights, _ = train(probe(10, keras.optimizers.SGD(0.3), **mode), 10, callbacks=[rk.Follow(LR)])
    assert near(LR.values(0, 10)) == [-w for w in weights]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_plain_sgd_follows_momentum(probe, train, near, mode, momentum):
    model = probe(10, keras.optimizers.SGD(0.3, momentum=momentum), **mode)
    weights, _ = train(model, 10, callbacks=[rk.Follow(LR, momentum=MOMENTUM)])
    assert near(pulses(LR.values(0, 10), MOMENTUM.values(0, 10))) == weights


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_a_plain_adam_does_what_ours_does(probe, train, near, name):
    beta, decay = rw.Linear(0.95, 0.85, 10), rw.Linear(0.5, 0.1, 10)
    followed = probe(10, getattr(keras.optimizers, name)(0.3))
    weights, _ = train(followed, 10, callbacks=[rk.Follow(LR, momentum=beta, weight_decay=decay)])
    built = probe(10, getattr(rk, name)(LR, beta_1=beta, weight_decay=decay))
    assert train(built, 10)[0] == weights


def test_the_optimizer_stays_the_same_object_with_its_settings():
    followed = _with_bias(keras.optimizers.Adam(0.3, beta_2=0.98, clipvalue=0.5))
    optimizer = followed.optimizer
    followed.fit(*ONES, verbose=0, callbacks=[rk.Follow(LR, momentum=0.8, weight_decay=0.5)])
    reference = _with_bias(keras.optimizers.Adam(rk.Schedule(LR), 0.8, 0.98, clipvalue=0.5, weight_decay=0.5))
    reference.fit(*ONES, verbose=0)
    assert followed.optimizer is optimizer
    assert isinstance(optimizer, rk.Adam)
    assert (int(optimizer.iterations), optimizer.beta_2, optimizer.clipvalue) == (3, 0.98, 0.5)
    for expected, weight in zip(reference.get_weights(), followed.get_weights(), strict=True):
        assert pytest.approx(expected, rel=1e-5) == weight


ONES = np.ones((96, 2), "float32"), np.zeros((96, 1), "float32")  # three batches


def _with_bias(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    layer = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones")
    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile(optimizer, loss="mse")
    return model


def test_momentum_alone_leaves_the_rate_as_it_is(probe, train, near):
    weights, history = train(probe(4, keras.optimizers.SGD(0.5)), 4, callbacks=[rk.Follow(momentum=MOMENTUM)])
    assert near(pulses([0.5] * 4, MOMENTUM.values(0, 4))) == weights
    assert history["learning_rate"] == [0.5]


def test_following_goes_on_in_the_next_fit(probe, train, near):
    model, follow = probe(10, keras.optimizers.SGD(0.3)), rk.Follow(LR, momentum=MOMENTUM)
    train(model, 4, callbacks=[follow])
    step = model.train_function
    weights, _ = train(model, 6, start=4, callbacks=[follow])
    assert near(pulses(LR.values(0, 10), MOMENTUM.values(0, 10))) == weights
    assert model.train_function is step  # what is followed already costs no second trace


def test_a_trained_optimizer_keeps_its_state_when_it_begins_to_follow(probe, train, near):
    model = probe(10, keras.optimizers.SGD(0.5, momentum=0.5))
    train(model, 4)
    weights, _ = train(model, 6, start=4, callbacks=[rk.Follow(LR, momentum=MOMENTUM)])
    rates, momenta = [0.5] * 4 + LR.values(4, 10), [0.5] * 4 + MOMENTUM.values(4, 10)
    assert near(pulses(rates, momenta)) == weights


def test_history_holds_the_rate_of_the_last_update_of_each_epoch(probe, train):
    _, history = train(probe(9, keras.optimizers.SGD(0.3)), 3, epochs=3, callbacks=[rk.Follow(LR)])
    assert [LR(2), LR(5), LR(8)] == history["learning_rate"]


def test_history_counts_updates_under_accumulation(probe, train, near):
    model = probe(12, keras.optimizers.SGD(0.3, gradient_accumulation_steps=2))
    weights, history = train(model, 4, epochs=3, callbacks=[rk.Follow(LR, momentum=MOMENTUM)])
    updates = pulses(LR.values(0, 6), MOMENTUM.values(0, 6))
    assert near([w / 2 for w in updates for _ in range(2)]) == weights
    assert [LR(1), LR(3), LR(5)] == history["learning_rate"]


def test_history_holds_the_used_rate_of_a_keras_schedule_too(probe, train):
    decay = keras.optimizers.schedules.PolynomialDecay(1.0, 4, 0.0)
    model = probe(3, keras.optimizers.SGD(decay))
    assert train(model, 3, callbacks=[rk.Follow(momentum=0.5)])[1]["learning_rate"] == [0.5]


def test_a_callable_rate_is_left_out_of_history(probe, train):
    model = probe(2, keras.optimizers.SGD(_half))
    assert "learning_rate" not in train(model, 2, callbacks=[rk.Follow()])[1]


def _half():
    return 0.5


def test_initial_epoch_starts_the_schedules_there(probe, train, near, mode):
    optimizer = keras.optimizers.SGD(0.3)
    weights, history = train(
        probe(6, optimizer, **mode), 3, epochs=3, initial_epoch=1, callbacks=[rk.Follow(LR, momentum=MOMENTUM)]
    )
    assert near(pulses(LR.values(3, 9), MOMENTUM.values(3, 9))) == weights
    assert [LR(5), LR(8)] == history["learning_rate"]
    assert int(optimizer.iterations) == 6


def test_initial_epoch_shifts_the_optimizers_own_schedule(probe, train, near):
    model = probe(6, keras.optimizers.SGD(rk.Schedule(LR)))
    weights, _ = train(model, 2, epochs=5, initial_epoch=2, callbacks=[rk.Follow()])
    assert near(LR.values(4, 10)) == [-w for w in weights]


def test_initial_epoch_of_a_trained_optimizer_shifts_nothing(probe, train, near):
    model, follow = probe(6, keras.optimizers.SGD(0.3)), rk.Follow(LR)
    train(model, 2, callbacks=[follow])
    weights, _ = train(model, 2, start=2, epochs=3, initial_epoch=1, callbacks=[follow])
    assert near(LR.values(0, 6)) == [-w for w in weights]


def test_a_shifted_schedule_goes_on_in_the_next_fit(probe, train, near):
    model = probe(6, keras.optimizers.SGD(0.3))
    train(model, 2, epochs=3, initial_epoch=2, callbacks=[rk.Follow(LR, momentum=MOMENTUM)])
    weights, _ = train(model, 2, start=2, epochs=5, initial_epoch=3, callbacks=[rk.Follow(LR, momentum=MOMENTUM)])
    assert near(pulses(LR.values(4, 10), MOMENTUM.values(4, 10))) == weights


@pytest.mark.parametrize(("given", "again"), [(LR, 2), (LR, 1), (None, 2)])
def test_an_attempt_that_failed_before_its_first_update_shifts_nothing_twice(probe, train, near, given, again):
    model = probe(4, keras.optimizers.SGD(rk.Schedule(LR)))

    class Failing(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            raise KeyboardInterrupt

    follow = [rk.Follow(given)]
    with pytest.raises(KeyboardInterrupt):
        train(model, 2, epochs=5, initial_epoch=2, callbacks=[*follow, Failing()])
    weights, _ = train(model, 2, epochs=again + 2, initial_epoch=again, callbacks=follow)
    assert near(LR.values(2 * again, 2 * again + 4)) == [-w for w in weights]


def test_a_schedule_that_is_cut_off_itself_is_shifted_like_any_other(probe, train, near):
    lr = rw.Linear(1.0, 0.0, 20).after(4)
    weights, _ = train(probe(4, keras.optimizers.SGD(0.3)), 2, epochs=4, initial_epoch=2, callbacks=[rk.Follow(lr)])
    assert near(lr.values(4, 8)) == [-w for w in weights]


@pytest.mark.parametrize("again", [0, 3])
def test_an_attempt_at_another_epoch_leaves_no_shift_behind(probe, train, near, again):
    model = probe(2, keras.optimizers.SGD(rk.Schedule(LR)))

    class Failing(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, 2, epochs=3, initial_epoch=2, callbacks=[rk.Follow(), Failing()])
    weights, _ = train(model, 2, epochs=again + 1, initial_epoch=again, callbacks=[rk.Follow()])
    assert near(LR.values(2 * again, 2 * again + 2)) == [-w for w in weights]


class Assigns(keras.callbacks.Callback):
    """Gives the optimizer another rate, by hand."""

    def __init__(self, **rates):
        super().__init__()
        self.rates = rates

    def on_epoch_begin(self, epoch, logs=None):
        self._assign("begin", epoch)

    def on_epoch_end(self, epoch, logs=None):
        self._assign("end", epoch)

    def _assign(self, moment, epoch):
        if moment in self.rates:
            self.model.optimizer.learning_rate = self.rates[moment](epoch)


def test_a_rate_that_was_assigned_after_compiling_is_applied_and_not_only_reported(probe, train, near):
    model = probe(4, keras.optimizers.SGD(rk.Schedule(LR)))
    train(model, 2)
    model.optimizer.learning_rate = rk.Schedule(0.01)  # the compiled step does not see it
    weights, history = train(model, 2, start=2, callbacks=[rk.Follow(0.01)])
    assert near([LR(0), LR(1), 0.01, 0.01]) == [-w for w in weights]
    assert history["learning_rate"] == [0.01]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "rates",
    [
        {"end": lambda epoch: rk.Schedule(0.5 / (epoch + 1))},
        {"begin": lambda epoch: rk.Schedule(0.5 / (epoch + 1))},
        {"begin": lambda epoch: 0.5 / (epoch + 1), "end": lambda epoch: 99.0},
    ],
)
def test_history_and_logs_are_what_was_applied_whatever_is_assigned_between_epochs(probe, train, rates, first):
    rows, assigns = [], Assigns(**rates)
    follow = rk.Follow(log=lambda t, values: rows.append(values["learning_rate"]))
    model = probe(6, keras.optimizers.SGD(0.25 if "end" in rates and "begin" in rates else rk.Schedule(LR)))
    callbacks = [follow, assigns] if first else [assigns, follow]
    weights, history = train(model, 2, epochs=3, callbacks=callbacks)
    assert pytest.approx(rows) == [-w for w in weights]
    assert pytest.approx(history["learning_rate"]) == [-weights[i] for i in (1, 3, 5)]
    assert -weights[5] == pytest.approx(0.25 if rates.keys() == {"end"} else 0.5 / 3)


def test_an_epoch_without_an_update_has_no_rate(probe, train):
    model = probe(4, keras.optimizers.SGD(0.3, gradient_accumulation_steps=2))
    _, history = train(model, 1, epochs=2, callbacks=[rk.Follow(LR)])
    assert history["learning_rate"] == [pytest.approx(math.nan, nan_ok=True), LR(0)]


def test_a_schedule_that_does_not_fit_the_horizon_is_refused_whatever_holds_it():
    with pytest.raises(ScheduleError, match="needs 10 updates, the run has 4"):
        rk.Follow(rk.Schedule(LR), horizon=4)


def test_two_follows_in_one_fit_are_refused(probe, train):
    with pytest.raises(AdapterError, match="fit got two Follow callbacks"):
        train(probe(2, keras.optimizers.SGD(0.3)), 1, callbacks=[rk.Follow(LR), rk.Follow(0.5)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation_freq": 0}, "validation_freq must be at least 1"),
        ({"log": 3}, "log must be callable"),
        ({"monitor": None}, "monitor must be a name"),
    ],
)
def test_bad_arguments_are_refused_before_training(arguments, message):
    with pytest.raises(AdapterError, match=message):
        rk.Follow(LR, **arguments)


def test_initial_epoch_counts_updates_under_accumulation(probe, train, near):
    model = probe(4, keras.optimizers.SGD(0.3, gradient_accumulation_steps=2))
    weights, _ = train(model, 4, epochs=3, initial_epoch=2, callbacks=[rk.Follow(LR)])
    assert near([LR(4) / 2] * 2 + [LR(5) / 2] * 2) == [-w for w in weights]


def test_mixed_precision_is_followed_inside_the_loss_scaling(probe, train):
    model = probe(4, keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.3), initial_scale=1.0))
    weights, history = train(model, 4, callbacks=[rk.Follow(LR, momentum=MOMENTUM)])
    assert pytest.approx(pulses(LR.values(0, 4), MOMENTUM.values(0, 4))) == weights
    assert [LR(3)] == history["learning_rate"]


def test_a_horizon_settles_open_schedules(probe, train, near):
    follow = rk.Follow(rw.Linear(1.0, 0.0), momentum=rw.Linear(0.0, 1.0), horizon=8)
    weights, _ = train(probe(8, keras.optimizers.SGD(0.3)), 8, callbacks=[follow])
    assert near(pulses(rw.Linear(1.0, 0.0, 8).values(0, 8), rw.Linear(0.0, 1.0, 8).values(0, 8))) == weights


def test_evaluating_with_the_callback_changes_nothing(probe):
    model = probe(2, keras.optimizers.SGD(0.5))
    model.evaluate(np.eye(2), np.zeros((2, 1)), verbose=0, callbacks=[rk.Follow(LR)])
    assert float(model.optimizer.learning_rate) == 0.5


def test_a_run_past_the_end_is_told_once(probe, train, recwarn):
    model = probe(9, keras.optimizers.SGD(0.3))
    train(model, 3, epochs=3, callbacks=[rk.Follow(rw.Linear(1.0, 0.25, 4))])
    (warning,) = [w for w in recwarn if "the run is" in str(w.message)]
    assert "the run is at update 6, the schedule ended at 4 and holds 0.25" in str(warning.message)


@pytest.mark.parametrize(
    ("optimizer", "follow", "message"),
    [
        (keras.optimizers.RMSprop, {"momentum": 0.5}, "momentum can follow a schedule in Keras' SGD, .* got RMSprop"),
        (keras.optimizers.Adagrad, {"weight_decay": 0.5}, "weight_decay can follow .* got Adagrad"),
        (type("SGD", (keras.optimizers.SGD,), {}), {"momentum": 0.5}, "got SGD. Compile with one of these"),
    ],
)
def test_optimizers_that_cannot_be_driven_are_refused(probe, train, optimizer, follow, message):
    with pytest.raises(AdapterError, match=message):
        train(probe(2, optimizer()), 2, callbacks=[rk.Follow(**follow)])


def test_several_optimizers_at_once_are_refused(probe, train):
    model = probe(2, "sgd")
    model.optimizer.optimizers = []
    with pytest.raises(AdapterError, match="Follow drives one optimizer, got a MultiOptimizer"):
        train(model, 2, callbacks=[rk.Follow(LR)])


@pytest.mark.parametrize("own", [True, False])
def test_a_schedule_of_another_accumulation_is_refused(probe, train, own):
    schedule = rk.Schedule(LR, accumulation=2)
    model = probe(2, keras.optimizers.SGD(schedule if own else 0.1, gradient_accumulation_steps=4))
    with pytest.raises(AdapterError, match=r"accumulation \(2\) .* gradient_accumulation_steps \(4\) differ"):
        train(model, 2, callbacks=[rk.Follow(None if own else schedule)])


def test_an_sgd_trained_without_momentum_has_no_velocity_to_follow(probe, train):
    model = probe(4, keras.optimizers.SGD(0.3))
    train(model, 2)
    with pytest.raises(AdapterError, match=r"trained with momentum=0 and has no velocities. Compile again"):
        train(model, 2, start=2, callbacks=[rk.Follow(LR, momentum=MOMENTUM)])


def test_initial_epoch_past_the_end_is_refused(probe, train):
    model = probe(4, keras.optimizers.SGD(0.3))
    with pytest.raises(AdapterError, match="initial_epoch=5 begins with update 10, the schedule ends at 10"):
        train(model, 2, epochs=7, initial_epoch=5, callbacks=[rk.Follow(LR)])


def test_initial_epoch_needs_the_length_of_an_epoch(probe):
    follow, model = rk.Follow(LR), probe(4, keras.optimizers.SGD(0.3))
    follow.set_model(model)
    follow.set_params({"steps": None})
    follow.on_train_begin()
    with pytest.raises(AdapterError, match=r"initial_epoch=2 the number of batches .* steps_per_epoch"):
        follow.on_epoch_begin(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": rw.Cosine(0.1, 0.0)}, "its length is not known yet"),
        ({"lr": -0.1}, "lr must be at least 0"),
        ({"momentum": 1.5}, "momentum must be between 0 and 1"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
    ],
)
def test_impossible_schedules_are_refused_before_training(arguments, message):
    with pytest.raises(ScheduleError, match=message):
        rk.Follow(**arguments)
