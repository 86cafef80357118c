"""Every update's rate at its own index in our logs, and what Keras' own loggers show."""

import csv
import os

import keras
import pytest

import ratewise as rw
import ratewise.keras as rk
from ratewise.logs import CSVLog

LR = rw.Linear(1.0, 0.0, 8)
EAGER = {"run_eagerly": True}

once = pytest.mark.skipif("RATEWISE_INNER" in os.environ, reason="no backend has a part in it")


class Rows(list):
    def __call__(self, t, values):
        self.append((t, values))


def test_a_log_gets_what_each_update_used(probe, train, near, fed):
    lr, momentum, rows = LR * rw.Plateau(0.5, patience=1), rw.Linear(0.0, 0.8, 8), Rows()
    model = probe(8, keras.optimizers.SGD(0.3, gradient_accumulation_steps=2), **EAGER)
    follow = rk.Follow(lr, momentum=momentum, log=rows)
    train(model, 4, epochs=2, callbacks=[fed([1.0, 1.0]), follow])
    follow.log_to(second := Rows())
    train(model, 4, start=0, epochs=1, callbacks=[fed([0.5]), follow])
    rates = [*LR.values(0, 4), *(0.5 * rate for rate in LR.values(4, 6))]
    assert [(t, {"learning_rate": rates[t], "momentum": momentum(t)}) for t in range(6)] == rows
    assert rows[4:] == second


def test_a_log_is_what_the_parameters_say(probe, train, near):
    rows = Rows()
    weights, _ = train(probe(8, keras.optimizers.SGD(0.3)), 4, epochs=2, callbacks=[rk.Follow(LR, log=rows)])
    assert near([values["learning_rate"] for _, values in rows]) == [-w for w in weights]


@once
def test_a_log_that_raises_once_loses_no_other_row(probe, train):
    rows = []

    def log(t, values):
        rows.append(t)
        if t == 1:
            raise OSError("disk full")

    model, follow = probe(8, keras.optimizers.SGD(0.3)), rk.Follow(LR, log=log)
    with pytest.raises(OSError, match="disk full"):
        train(model, 4, callbacks=[follow])
    train(model, 4, start=4, callbacks=[follow])
    assert rows == list(range(8))


@once
def test_changes_kills_and_other_rates_leave_no_hole(probe, train):
    rows, model = Rows(), probe(8, keras.optimizers.AdamW(0.3), **EAGER)
    follow = rk.Follow(LR, momentum=0.8, weight_decay=0.1, log=rows)
    train(model, 2, callbacks=[follow])
    follow.scaled_from(0.5)

    class Killed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, 5, start=2, callbacks=[follow, Killed()])
    follow.scaled_from(0.5)
    train(model, 3, start=5, callbacks=[follow])
    expected = LR.values(0, 2) + [LR(t) / 2 for t in (2, 3, 4)] + [LR(t) / 4 for t in (5, 6, 7)]
    assert [
        (t, {"learning_rate": rate, "momentum": 0.8, "weight_decay": 0.1}) for t, rate in enumerate(expected)
    ] == rows
    own = probe(3, keras.optimizers.SGD(keras.optimizers.schedules.PolynomialDecay(1.0, 4, 0.0)), **EAGER)
    train(own, 3, callbacks=[rk.Follow(log=(rows := Rows()))])
    assert [values["learning_rate"] for _, values in rows] == [1.0, 0.75, 0.5]


@once
def test_our_csv_log_shows_the_used_rates_and_goes_on_after_a_restart(probe, train, tmp_path):
    model = probe(6, keras.optimizers.SGD(0.3), **EAGER)
    with CSVLog(tmp_path / "lr.csv") as log:
        train(model, 4, callbacks=[rk.Follow(LR, log=log)])
    model.optimizer.iterations.assign(2)  # as a restored checkpoint does
    with CSVLog(tmp_path / "lr.csv") as log:
        train(model, 3, callbacks=[rk.Follow(LR, log=log)])
    rows = list(csv.DictReader((tmp_path / "lr.csv").read_text().splitlines()))
    assert [(t, LR(t)) for t in range(5)] == [(int(row["update"]), float(row["learning_rate"])) for row in rows]


@once
def test_kerass_csv_logger_shows_the_rate_that_was_used_if_it_comes_after_follow(probe, train, tmp_path):
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    train(probe(6, keras.optimizers.SGD(0.3), **EAGER), 2, epochs=3, callbacks=[rk.Follow(LR), logger])
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [LR(1), LR(3), LR(5)] == [float(row["learning_rate"]) for row in rows]


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="read back with TensorFlow; the callback is the same"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_kerass_tensorboard_shows_the_coming_rate(probe, train, tmp_path):
    import tensorflow as tf

    board = keras.callbacks.TensorBoard(tmp_path, write_graph=False)
    train(probe(6, keras.optimizers.SGD(0.3), **EAGER), 2, epochs=3, callbacks=[rk.Follow(LR), board])
    (file,) = (tmp_path / "train").iterdir()
    shown = {}
    for record in tf.data.TFRecordDataset(str(file)):
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
            if value.tag == "epoch_learning_rate":
                shown[len(shown)] = float(tf.make_ndarray(value.tensor))
    assert shown == {0: LR(2), 1: LR(4), 2: LR(6)}
