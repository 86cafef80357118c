"""The plan is changed between epochs or fits, is saved with the model, and no other plan slips in."""

import json
import os

import keras
import numpy as np
import pytest

import ratewise as rw
import ratewise.keras as rk
from ratewise.errors import AdapterError, ScheduleChanged, ScheduleError

LR = rw.Linear(1.0, 0.0, 8)
EAGER = {"run_eagerly": True}

once = pytest.mark.skipif("RATEWISE_INNER" in os.environ, reason="no backend has a part in it")


def sgd(probe, n, **compile_arguments):
    return probe(n, keras.optimizers.SGD(0.3), **(compile_arguments or EAGER))


class At(keras.callbacks.Callback):
    """Calls a function in the midst of one epoch, or at its end."""

    def __init__(self, moment, epoch, action):
        super().__init__()
        self.moment, self.epoch, self.action = moment, epoch, action

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.moment, self.epoch, batch) == ("batch", self.now, 0):
            self.action()

    def on_epoch_end(self, epoch, logs=None):
        if (self.moment, self.epoch) == ("end", epoch):
            self.action()


LONGER = rw.Linear(1.0, 0.0, 16)
CHANGES = [
    (lambda follow: follow.scaled_from(0.5), LR.scaled_from(4, 0.5)),
    (lambda follow: follow.decay_now(4, end=0.1, shape="linear"), LR.decay_from(4, 4, 0.1, "linear")),
    (lambda follow: follow.change(LONGER, "keep"), LR),
    *(
        (lambda follow, policy=policy: follow.change(LONGER, policy), rw.extend(LR, LONGER, 4, policy))
        for policy in ("switch", "stretch", "replan", "rewarm(2)")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_a_change_between_fits(probe, train, near, change, expected):
    model, follow = sgd(probe, 8), rk.Follow(LR)
    train(model, 4, callbacks=[follow])
    change(follow)
    weights, history = train(model, 4, start=4, callbacks=[follow])
    assert near(LR.values(0, 4) + expected.values(4, 8)) == [-w for w in weights]
    assert history["learning_rate"] == [expected(7)]
    (entry,) = follow.history
    assert (entry["at"], entry["old"]["learning_rate"], entry["new"]["learning_rate"]) == (4, LR(4), expected(4))
    assert entry["end"] == expected.steps or entry["end"] == 16
    assert rw.from_dict(entry["was"]) == LR


@pytest.mark.parametrize("moment", ["end", "batch"])
@pytest.mark.parametrize("first", [True, False])
def test_a_change_during_a_fit_holds_from_the_end_of_the_epoch(probe, train, near, moment, first):
    model, follow = sgd(probe, 8, jit_compile=False), rk.Follow(LR)
    change = At(moment, 1, lambda: follow.scaled_from(0.5))
    weights, _ = train(model, 2, epochs=4, callbacks=[change, follow] if first else [follow, change])
    assert near(LR.scaled_from(4, 0.5).values(0, 8)) == [-w for w in weights]
    assert [entry["at"] for entry in follow.history] == [4]


@once
def test_an_optimizers_own_rate_is_changed_too(probe, train, near):
    model, follow = probe(4, keras.optimizers.SGD(0.5), **EAGER), rk.Follow()
    train(model, 2, callbacks=[follow])
    follow.decay_now(2, shape="linear")
    weights, _ = train(model, 2, start=2, callbacks=[follow])
    assert near([0.5, 0.5, 0.5, 0.25]) == [-w for w in weights]
    other = probe(1, keras.optimizers.SGD(keras.optimizers.schedules.PolynomialDecay(0.1, 5)), **EAGER)
    train(other, 1, callbacks=[follow])
    with pytest.raises(AdapterError, match=r"the plan of PolynomialDecay cannot be changed"):
        follow.scaled_from(0.5)


def test_rules_keep_what_they_know_through_a_change(probe, train, near, fed):
    rule = rw.Plateau(0.5, patience=1)
    model, follow = sgd(probe, 6), rk.Follow(LR * rule)
    train(model, 1, epochs=3, callbacks=[fed([1.0, 1.0, 0.9]), follow])
    follow.change(rw.Linear(1.0, 0.0, 16) * rule, "switch")
    follow.scaled_from(0.5)
    train(model, 1, start=3, epochs=2, callbacks=[fed([0.95, 0.8]), follow])
    follow.decay_now(2, end=0.1, shape="linear")
    weights, _ = train(model, 1, start=5, callbacks=[fed([0.7]), follow])
    new = rw.Linear(1.0, 0.0, 16)
    assert near([LR(0), LR(1), 0.5 * LR(2), new(3) / 4, new(4) / 8, new(5) / 8]) == [-w for w in weights]
    assert follow.history[-1]["what"] == "decay_now(2, end=0.1, shape='linear')"
    assert float(model.optimizer.learning_rate) == pytest.approx((new(5) / 8 + 0.1) / 2)


@once
def test_other_rules_start_anew_from_the_rate_that_was_reached(probe, train, near, fed):
    model, follow = sgd(probe, 5), rk.Follow(1.0 * rw.Plateau(0.5, patience=1))
    train(model, 1, epochs=2, callbacks=[fed([1.0, 1.0]), follow])
    follow.change(rw.Linear(1.0, 0.0, 10), "replan")
    weights, _ = train(model, 3, start=2, callbacks=[follow])
    assert near([1.0, 1.0, *rw.Linear(0.5, 0.0, 8).values(0, 3)]) == [-w for w in weights]


def test_the_record_of_changes_is_saved_and_the_same_script_goes_on(probe, train, near, tmp_path):
    model, follow = sgd(probe, 8), rk.Follow(LR, momentum=0.0)
    train(model, 2, callbacks=[follow])
    follow.change(rw.Linear(1.0, 0.0, 16), "replan")
    follow.scaled_from(0.5)
    train(model, 2, start=2, callbacks=[follow])
    model.save(tmp_path / "model.keras")
    loaded, again = keras.models.load_model(tmp_path / "model.keras"), rk.Follow(LR, momentum=0.0)
    weights, _ = train(loaded, 4, start=4, callbacks=[again])
    expected = rw.extend(LR, rw.Linear(1.0, 0.0, 16), 2, "replan").scaled_from(2, 0.5)
    assert near(expected.values(0, 8)) == [-w for w in weights]
    assert again.history == follow.history
    assert [entry["what"] for entry in again.history] == ["change(..., 'replan')", "scaled_from(0.5)"]
    json.dumps(again.history)


@once
def test_another_plan_after_the_first_update_needs_a_policy_once(probe, train, near):
    model, other = sgd(probe, 10), rw.Linear(1.0, 0.0, 20)
    train(model, 4, callbacks=[rk.Follow(LR)])
    with pytest.raises(ScheduleChanged, match=r"made 4 updates under another lr schedule .*8 updates and 20 updates"):
        train(model, 1, start=4, callbacks=[rk.Follow(other)])
    follow = rk.Follow(other, on_change="replan")
    train(model, 2, start=4, callbacks=[follow])
    train(model, 2, start=6, callbacks=[rk.Follow(other)])  # that plan is the model's now
    weights, _ = train(model, 2, start=8, callbacks=[rk.Follow(other, on_change="replan")])
    assert near(rw.extend(LR, other, 4, "replan").values(0, 10)) == [-w for w in weights]
    assert len(follow.history) == 1


@once
def test_the_plan_of_momentum_is_kept_as_well(probe, train, tmp_path):
    old, new = rw.Linear(0.0, 0.8, 8), rw.Linear(0.0, 0.4, 16)
    model = sgd(probe, 2)
    train(model, 2, callbacks=[rk.Follow(momentum=old)])
    with pytest.raises(ScheduleChanged, match="another momentum schedule"):
        train(model, 2, callbacks=[rk.Follow(0.1, momentum=new)])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.3)  # nothing was changed
    train(model, 2, callbacks=[rk.Follow(momentum=new, on_change="replan")])
    held = model.optimizer.schedules["momentum"]
    assert held == rw.extend(old, new, 2, "replan")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    train(loaded, 2, callbacks=[rk.Follow(momentum=new, on_change="replan")])
    assert loaded.optimizer.schedules["momentum"] == held  # and not planned again from update 4


@once
def test_before_the_first_update_the_given_plan_is_taken(probe, train, near):
    model = probe(2, keras.optimizers.SGD(rk.Schedule(LR)), **EAGER)
    weights, _ = train(model, 2, callbacks=[rk.Follow(rw.Linear(0.5, 0.0, 2))])
    assert near([0.5, 0.25]) == [-w for w in weights]


@once
def test_a_new_plan_takes_the_horizon(probe, train, near):
    model, follow = sgd(probe, 8), rk.Follow(rw.Linear(1.0, 0.0), horizon=8)
    train(model, 4, callbacks=[follow])
    follow.change(rw.Linear(0.5, 0.0), "switch")
    follow.decay_now(rw.fraction(0.5), shape="linear")
    weights, _ = train(model, 4, start=4, callbacks=[follow])
    assert near([1.0, 0.875, 0.75, 0.625, 0.25, 0.1875, 0.125, 0.0625]) == [-w for w in weights]


@once
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda follow: follow.change(LR, "stretched"), ScheduleError, "change: policy must be one of keep, switch"),
        (lambda follow: follow.change(rw.Cosine(0.1, 0.0), "switch"), ScheduleError, "its length is not known yet"),
        (lambda follow: follow.change(LR.until(2), "replan"), ScheduleError, "must lie inside the new length"),
        (lambda follow: follow.scaled_from(-1.0), ScheduleError, "lr must be at least 0"),
        (lambda follow: follow.decay_now(rw.epochs(1)), ScheduleError, "length"),
    ],
)  # fmt: skip
def test_a_change_that_cannot_be_made_changes_nothing(probe, train, near, change, error, message):
    model, follow = sgd(probe, 8), rk.Follow(LR)
    train(model, 4, callbacks=[follow])
    with pytest.raises(error, match=message):
        change(follow)
    weights, _ = train(model, 4, start=4, callbacks=[follow])
    assert near(LR.values(0, 8)) == [-w for w in weights]
    assert follow.history == []


@once
def test_without_a_model_there_is_nothing_to_change():
    follow = rk.Follow(LR)
    with pytest.raises(AdapterError, match=r"scaled_from: this Follow has no model yet"):
        follow.scaled_from(0.5)
    with pytest.raises(ScheduleError, match="Follow: on_change must be one of keep"):
        rk.Follow(LR, on_change="swap")


# what weights do not keep

RULED = rw.Linear(1.0, 0.0, 12) * rw.Plateau(0.5, patience=2)
METRICS = [1.0, 0.9, 0.95, 0.96, 0.97, 0.98]
CUTS = [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]


def restored(probe, train, fed, folder, epochs, start, killed=None, **follow):
    """Run or resume the same script with BackupAndRestore; return the weights."""
    model = sgd(probe, 12)
    following = rk.Follow(RULED, **follow)
    callbacks = [fed(METRICS), following, keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)]
    if killed is not None:
        callbacks.append(At("end", killed, _interrupt))
    try:
        return train(model, 2, start=start, epochs=epochs, callbacks=callbacks)[0]
    except KeyboardInterrupt:
        return None


def _interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("killed", [2, 3, 4])
def test_backup_and_restore_goes_on_with_the_rule_where_it_was(probe, train, near, fed, tmp_path, killed):
    backup = {"backup": tmp_path / "run" / "ratewise.json"}
    assert restored(probe, train, fed, tmp_path / "run", 6, 0, killed, **backup) is None
    weights = restored(probe, train, fed, tmp_path / "run", 6, 2 * killed + 2, **backup)
    expected = [RULED.schedule(t) * CUTS[t // 2] for t in range(12)]
    assert near(expected) == [-w for w in weights]


@once
def test_without_a_backup_the_rule_starts_anew_and_says_so(probe, train, fed, tmp_path):
    restored(probe, train, fed, tmp_path, 6, 0, killed=3)
    with pytest.warns(UserWarning, match=r"weights saved at update 8 were restored, and .* Follow\(..., backup=file\)"):
        restored(probe, train, fed, tmp_path, 5, 8)


def test_weights_that_were_loaded_before_fit_find_their_backup(probe, train, near, fed, tmp_path):
    backup = tmp_path / "ratewise.json"
    model = sgd(probe, 12)
    train(model, 2, epochs=5, callbacks=[fed(METRICS), rk.Follow(RULED, backup=backup)])
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = probe(12, keras.optimizers.SGD(rk.Schedule(RULED.schedule)), **EAGER)
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(tmp_path / "model.weights.h5")
    callbacks = [fed(METRICS), rk.Follow(RULED, backup=backup)]
    with pytest.warns(UserWarning, match=r"at update 10 before fit; there the backup gives the rate 0\.083.* 0\.166"):
        weights, _ = train(fresh, 2, start=10, epochs=6, initial_epoch=5, callbacks=callbacks)
    assert near([RULED.schedule(t) * CUTS[t // 2] for t in range(12)]) == [-w for w in weights]


@once
def test_a_backup_keeps_changes_of_plan_and_belongs_to_one_run(probe, train, near, tmp_path):
    backup = tmp_path / "ratewise.json"
    model, follow = sgd(probe, 4), rk.Follow(LR, backup=backup)
    train(model, 2, callbacks=[follow])
    follow.scaled_from(0.5)
    saved = json.loads(backup.read_text())
    assert [entry["at"] for entry in saved["schedules"]] == [2]
    assert saved["schedules"][0]["schedule"]["history"][0]["what"] == "scaled_from(0.5)"
    train(sgd(probe, 4), 3, callbacks=[rk.Follow(LR, backup=backup)])
    assert [entry["at"] for entry in json.loads(backup.read_text())["schedules"]] == [3]


@once
@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 9, "schedules": []}', '{"a": '])
def test_a_backup_that_cannot_be_read_is_refused(probe, train, content, tmp_path):
    (tmp_path / "ratewise.json").write_text(content)
    model = sgd(probe, 2)
    train(model, 1)
    with pytest.raises(AdapterError, match=r"ratewise.json' must be a file that Follow wrote; it cannot be read"):
        train(model, 1, callbacks=[rk.Follow(LR, backup=tmp_path / "ratewise.json")])


@once
def test_early_stopping_that_restores_weights_leaves_the_schedule_alone():
    x = np.linspace(-1, 1, 32, dtype="float32")[:, None]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.3), loss="mse", **EAGER)
    stop = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    follow = rk.Follow(rw.Linear(3.0, 0.0, 40), monitor="loss")
    history = model.fit(x, 2 * x, epochs=10, verbose=0, callbacks=[follow, stop]).history
    assert history["learning_rate"] == [follow.lr(t) for t in range(len(history["loss"]))]


# after initial_epoch: the plan counts from the start of the run, the optimizer's counter from 0

LONG = rw.Linear(1.0, 0.0, 16)
LATER = {"epochs": 3, "initial_epoch": 2}  # two batches an epoch: updates 4 and 5 of the run
POLICIES = ["keep", "switch", "stretch", "replan", "rewarm(2)"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("new", [LONG, LR])
def test_every_policy_after_initial_epoch_counts_from_the_start_of_the_run(probe, train, near, policy, new):
    model, follow = sgd(probe, 4), rk.Follow(LR.until(12))
    train(model, 2, callbacks=[follow], **LATER)
    follow.change(new.until(12), policy)
    weights, _ = train(model, 2, start=2, epochs=4, initial_epoch=3, callbacks=[follow])
    assert near(rw.extend(LR.until(12), new.until(12), 6, policy).values(4, 8)) == [-w for w in weights]
    assert [entry["at"] for entry in follow.history] == [2]
    assert follow.history[0]["end"] == 12 - 4  # of the optimizer's counter, as "at" is


@pytest.mark.parametrize("policy", POLICIES)
def test_another_script_after_initial_epoch_counts_from_the_start_too(probe, train, near, tmp_path, policy):
    old, new = rw.Linear(0.0, 0.8, 16), rw.Linear(0.0, 0.4, 16)
    model = sgd(probe, 4)
    train(model, 2, callbacks=[rk.Follow(LR.until(16), momentum=old)], **LATER)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again = {"start": 2, "epochs": 4, "initial_epoch": 3}
    with pytest.raises(ScheduleChanged, match=r"made 2 updates, the first of them update 4 of the run, under"):
        train(loaded, 2, callbacks=[rk.Follow(LONG)], **again)
    follow = rk.Follow(LONG, momentum=new, on_change=policy)
    _, history = train(loaded, 2, callbacks=[follow], **again)
    assert history["learning_rate"] == [rw.extend(LR.until(16), LONG, 6, policy)(7)]
    driven = loaded.optimizer.now()["momentum"].values(0, 4)
    assert driven == pytest.approx(rw.extend(old, new, 6, policy).values(4, 8))


def test_decay_now_and_scaled_from_after_initial_epoch(probe, train, near):
    model, follow = sgd(probe, 6), rk.Follow(LONG)
    train(model, 2, callbacks=[follow], **LATER)
    follow.scaled_from(0.5)
    train(model, 2, start=2, epochs=4, initial_epoch=3, callbacks=[follow])
    follow.decay_now(4, shape="linear")
    weights, _ = train(model, 2, start=4, epochs=5, initial_epoch=4, callbacks=[follow])
    expected = LONG.scaled_from(6, 0.5).decay_from(8, 4, 0.0, "linear")
    assert near(expected.values(4, 10)) == [-w for w in weights]
    assert [(entry["at"], entry["end"]) for entry in follow.history] == [(2, 12), (4, 8)]


@once
def test_rules_with_a_start_are_the_same_rules_after_initial_epoch(probe, train, near, fed):
    rule = rw.Plateau(0.5, patience=1, start=6)
    model, follow = sgd(probe, 6), rk.Follow(LR * rule)
    callbacks = [fed([1.0] * 5), follow]
    train(model, 2, epochs=4, initial_epoch=2, callbacks=callbacks)
    assert [entry["at"] for entry in follow.history] == [4]  # metrics count from update 6 of the run on
    follow.change(LONG * rule, "switch")
    weights, _ = train(model, 2, start=4, epochs=5, initial_epoch=4, callbacks=callbacks)
    assert near([LR(4), LR(5), LR(6), LR(7), LONG(8) / 2, LONG(9) / 2]) == [-w for w in weights]


def killed_and_resumed(probe, train, folder, backup):
    """Begin with epoch 2 under BackupAndRestore, kill in epoch 3, run the same script again; return the weights."""
    for killed in (True, False):
        model = probe(6, keras.optimizers.SGD(rk.Schedule(LONG)), **EAGER)
        callbacks = [
            rk.Follow(LONG, momentum=rw.Constant(0.0, 16), backup=backup),
            keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False),
        ]
        try:
            killer = [At("batch", 3, _interrupt)] if killed else []
            train(model, 2, epochs=5, initial_epoch=2, start=0 if killed else 2, callbacks=callbacks + killer)
        except KeyboardInterrupt:
            pass
    return model


def test_a_backup_knows_where_the_run_began(probe, train, near, weights, tmp_path):
    model = killed_and_resumed(probe, train, tmp_path, tmp_path / "ratewise.json")
    assert near(LONG.values(4, 10)) == [-w for w in weights(model)]
    assert model.optimizer.start == 4


@once
def test_without_a_backup_nobody_knows_where_it_began_and_both_rates_are_named(probe, train, tmp_path):
    message = r"epoch 3 begins with update 6 .* have made 2, .* rate is 0\.875, at update 6 it is 0\.625.*backup=file"
    with pytest.warns(UserWarning, match=message):
        killed_and_resumed(probe, train, tmp_path, None)


@once
def test_the_backup_of_another_run_is_not_followed_silently(probe, train, fed, tmp_path):
    backup = tmp_path / "ratewise.json"
    train(sgd(probe, 12), 2, epochs=6, callbacks=[fed(METRICS), rk.Follow(RULED, backup=backup)])
    other = sgd(probe, 12)
    train(other, 2, epochs=5)
    with pytest.warns(UserWarning, match="delete the file if it belongs to another run"):
        train(other, 2, start=10, callbacks=[fed(METRICS), rk.Follow(RULED, backup=backup)])


def test_a_change_after_an_interrupt_is_made_at_once_and_saved(probe, train, tmp_path):
    model, follow = sgd(probe, 8), rk.Follow(LR)
    train(model, 2, callbacks=[follow])
    with pytest.raises(KeyboardInterrupt):
        train(model, 2, start=2, epochs=2, initial_epoch=1, callbacks=[follow, At("batch", 1, _interrupt)])
    follow.scaled_from(0.5)
    (entry,) = follow.history
    assert entry["what"] == "scaled_from(0.5)"
    assert entry["new"]["learning_rate"] == entry["old"]["learning_rate"] / 2
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again = rk.Follow(LR)
    train(loaded, 2, start=3, callbacks=[again])
    assert again.history == [entry]


@once
def test_rules_that_differ_are_named_where_the_curves_agree(probe, train, fed):
    model = sgd(probe, 4)
    train(model, 2, callbacks=[fed([1.0]), rk.Follow(LR * rw.Plateau(0.5, patience=3))])
    message = r"Their rules differ:\n  followed: Plateau\(.*patience=3.*\n  given: Plateau\(.*patience=7"
    with pytest.raises(ScheduleChanged, match=message):
        train(model, 2, callbacks=[fed([1.0]), rk.Follow(LR * rw.Plateau(0.5, patience=7))])
