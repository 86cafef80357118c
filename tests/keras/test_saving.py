"""A saved model loads in a fresh process after ``import ratewise.keras`` and goes on with the right rates."""

import json
import subprocess
import sys

import keras
import pytest

import ratewise as rw
import ratewise.keras as rk

LR = rw.Cosine(1.0, 0.0).warmup(3).over(12)
MOMENTUM = rw.Linear(0.0, 0.9, 12)

LOAD = """
import json, sys
import numpy as np
import keras
{imports}

@keras.saving.register_keras_serializable(package="tests")
def total(y_true, y_pred):
    return keras.ops.sum(y_pred, axis=-1)

model = keras.models.load_model(sys.argv[1], compile={compile})
if {compile}:
    rows = np.eye(12, dtype="float32")[6:]
    data = ((row[None], np.zeros((1, 1), "float32")) for row in rows)
    model.fit(data, steps_per_epoch=6, verbose=0, shuffle=False)
print(json.dumps(model.get_weights()[0][:, 0].tolist()))
"""


def in_a_fresh_process(path, imports="import ratewise.keras", compiled=True):
    script = LOAD.format(imports=imports, compile=compiled)
    return subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "callbacks"),
    [
        (lambda: keras.optimizers.SGD(rk.Schedule(LR)), []),
        (lambda: rk.SGD(LR, momentum=MOMENTUM), []),
        (lambda: rk.AdamW(LR, beta_1=MOMENTUM, weight_decay=0.1 * LR), []),
        (lambda: keras.optimizers.SGD(0.3), [rk.Follow(LR, momentum=MOMENTUM)]),
        (lambda: keras.optimizers.Adam(rk.Schedule(LR, 2), gradient_accumulation_steps=2), []),
    ],
    ids=["schedule", "momentum", "adamw", "followed", "accumulated"],
)
def test_a_saved_model_goes_on_in_a_fresh_process(make, callbacks, probe, train, near, tmp_path):
    whole = probe(12, make())
    expected, _ = train(whole, 12, callbacks=callbacks)
    half = probe(12, make())
    train(half, 6, callbacks=callbacks)
    half.save(tmp_path / "half.keras")
    fresh = in_a_fresh_process(tmp_path / "half.keras")
    assert fresh.returncode == 0, fresh.stderr
    assert near(expected) == json.loads(fresh.stdout)


@pytest.mark.slow
def test_without_ratewise_a_model_loads_for_inference_only(probe, train, tmp_path):
    model = probe(12, rk.SGD(LR, momentum=MOMENTUM))
    expected, _ = train(model, 6)
    model.save(tmp_path / "model.keras")
    assert expected == json.loads(in_a_fresh_process(tmp_path / "model.keras", "", compiled=False).stdout)
    assert in_a_fresh_process(tmp_path / "model.keras", "").returncode != 0


def test_a_followed_model_loads_as_it_stands(probe, train, near, tmp_path, weights):
    model = probe(12, keras.optimizers.Adam(0.3))
    train(model, 4, epochs=2, initial_epoch=1, callbacks=[rk.Follow(LR, momentum=MOMENTUM)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, rk.Adam)
    assert {"beta_1": MOMENTUM.after(4)} == loaded.optimizer.now()
    train(model, 4, start=4)
    train(loaded, 4, start=4)
    assert weights(model) == weights(loaded)


def test_a_checkpoint_restored_during_fit_finds_the_followed_optimizer(probe, train, near, tmp_path):
    backup = {"backup_dir": tmp_path, "delete_checkpoint": False}
    first = probe(9, keras.optimizers.SGD(0.3))
    train(first, 3, epochs=2, callbacks=[rk.Follow(LR, momentum=MOMENTUM), keras.callbacks.BackupAndRestore(**backup)])
    second = probe(9, keras.optimizers.SGD(0.3))
    callbacks = [rk.Follow(LR, momentum=MOMENTUM), keras.callbacks.BackupAndRestore(**backup)]
    resumed, _ = train(second, 3, start=6, epochs=3, callbacks=callbacks)
    whole, _ = train(probe(9, keras.optimizers.SGD(0.3)), 9, callbacks=[rk.Follow(LR, momentum=MOMENTUM)])
    assert near(whole) == resumed


RULED = rw.Linear(1.0, 0.0, 12) * rw.Plateau(0.5, patience=1)
METRICS = [1.0, 1.0, 0.5, 0.6, 0.6, 0.6]
RULED_RATES = [RULED(t) * [1.0, 1.0, 0.5, 0.5, 0.25, 0.125][t // 2] for t in range(12)]


@pytest.mark.slow
def test_a_model_saved_after_a_cut_goes_on_at_the_cut_rate_in_a_fresh_process(probe, train, near, fed, tmp_path):
    model = probe(12, keras.optimizers.SGD(0.3))
    train(model, 2, epochs=3, callbacks=[fed(METRICS), rk.Follow(RULED, momentum=0.0)])
    model.save(tmp_path / "cut.keras")
    fresh = in_a_fresh_process(tmp_path / "cut.keras")
    assert fresh.returncode == 0, fresh.stderr
    expected = RULED_RATES[:6] + [RULED(t) / 2 for t in range(6, 12)]  # no metric is observed there
    assert near(expected) == [-w for w in json.loads(fresh.stdout)]


@pytest.mark.parametrize("killed", [1, 5, 7])
def test_a_run_killed_within_an_epoch_goes_on_from_the_model_saved_there(probe, train, near, fed, killed, tmp_path):
    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == killed:
                self.model.save(tmp_path / "model.keras")
                raise KeyboardInterrupt

    model = probe(12, keras.optimizers.SGD(0.3), run_eagerly=True)
    with pytest.raises(KeyboardInterrupt):
        train(model, 2, epochs=6, callbacks=[fed(METRICS), rk.Follow(RULED, momentum=0.0), Kill()])
    loaded, epoch = keras.models.load_model(tmp_path / "model.keras"), killed // 2
    loaded.compile(loaded.optimizer, loaded.loss, run_eagerly=True)  # the same optimizer: nothing of it is reset
    callbacks = [fed(METRICS), rk.Follow(RULED, momentum=0.0)]
    train(loaded, 1, start=killed, epochs=epoch + 1, initial_epoch=epoch, callbacks=callbacks)
    weights, _ = train(loaded, 2, start=2 * epoch + 2, epochs=6, initial_epoch=epoch + 1, callbacks=callbacks)
    assert near(RULED_RATES) == [-w for w in weights]
