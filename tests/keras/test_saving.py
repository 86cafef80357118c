"""A saved model loads in a fresh process after ``import ratewise.keras`` and goes on with the right rates."""

import json
import os
import subprocess
import sys

import keras
import pytest

import ratewise as rw
import ratewise.keras as rk

LR = rw.Cosine(1.0, 0.0).warmup(3).over(12)
MOMENTUM = rw.Linear(0.0, 0.9, 12)

RULED = rw.Linear(1.0, 0.0, 12) * rw.Plateau(0.5, patience=1)
METRICS = [1.0, 1.0, 0.5, 0.6, 0.6, 0.6]
RULED_RATES = [RULED(t) * [1.0, 1.0, 0.5, 0.5, 0.25, 0.125][t // 2] for t in range(12)]

START = """
import json, sys
from pathlib import Path
import numpy as np
import keras

@keras.saving.register_keras_serializable(package="tests")
def total(y_true, y_pred):
    return keras.ops.sum(y_pred, axis=-1)

def weights(model):
    return model.get_weights()[0][:, 0].tolist()
"""
GO_ON = """
import ratewise.keras
after = {}
for path in Path(sys.argv[1]).iterdir():
    model = keras.models.load_model(path)
    data = ((row[None], np.zeros((1, 1), "float32")) for row in np.eye(12, dtype="float32")[6:])
    model.fit(data, steps_per_epoch=6, verbose=0, shuffle=False)
    after[path.stem] = weights(model)
print(json.dumps(after))
"""
INFER = """
print(json.dumps(weights(keras.models.load_model(sys.argv[1], compile=False))), flush=True)
keras.models.load_model(sys.argv[1])
"""


def in_a_fresh_process(script, path):
    command = [sys.executable, "-c", START + script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


MODELS = {
    "schedule": (lambda: keras.optimizers.SGD(rk.Schedule(LR)), list),
    "momentum": (lambda: rk.SGD(LR, momentum=MOMENTUM), list),
    "adamw": (lambda: rk.AdamW(LR, beta_1=MOMENTUM, weight_decay=0.1 * LR), list),
    "followed": (lambda: keras.optimizers.SGD(0.3), lambda: [rk.Follow(LR, momentum=MOMENTUM)]),
    "accumulated": (lambda: keras.optimizers.Adam(rk.Schedule(LR, 2), gradient_accumulation_steps=2), list),
}


@pytest.fixture(scope="module")
def gone_on(probe, train, fed, tmp_path_factory):
    """Save models after 6 of 12 updates; return the weights that each ends with in a fresh process, by name."""
    folder = tmp_path_factory.mktemp("halves")
    for name, (make, callbacks) in MODELS.items():
        half = probe(12, make())
        train(half, 6, callbacks=callbacks())
        half.save(folder / f"{name}.keras")
    cut = probe(12, keras.optimizers.SGD(0.3))
    train(cut, 2, epochs=3, callbacks=[fed(METRICS), rk.Follow(RULED, momentum=0.0)])
    cut.save(folder / "cut.keras")
    fresh = in_a_fresh_process(GO_ON, folder)
    assert fresh.returncode == 0, fresh.stderr
    return json.loads(fresh.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_goes_on_in_a_fresh_process(name, gone_on, probe, train, near):
    make, callbacks = MODELS[name]
    expected, _ = train(probe(12, make()), 12, callbacks=callbacks())
    assert near(expected) == gone_on[name]


@pytest.mark.slow
def test_a_model_saved_after_a_cut_goes_on_at_the_cut_rate_in_a_fresh_process(gone_on, near):
    expected = RULED_RATES[:6] + [RULED(t) / 2 for t in range(6, 12)]  # no metric is observed there
    assert near(expected) == [-w for w in gone_on["cut"]]


@pytest.mark.slow
@pytest.mark.skipif("RATEWISE_INNER" in os.environ, reason="no backend has a part in it")
def test_without_ratewise_a_model_loads_for_inference_only(probe, train, tmp_path):
    model = probe(12, rk.SGD(LR, momentum=MOMENTUM))
    expected, _ = train(model, 6)
    model.save(tmp_path / "model.keras")
    fresh = in_a_fresh_process(INFER, tmp_path / "model.keras")
    assert expected == json.loads(fresh.stdout)
    assert fresh.returncode != 0
    assert "ratewise" in fresh.stderr


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
