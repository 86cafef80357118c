"""What the Keras tests share. They run on the backend that KERAS_BACKEND names; a slow test runs them on the others.

A rate is measured, never asked for: weight i gets gradient 1 at batch i and 0 at every other, starting from 0.
After plain SGD weight i is therefore minus the rate that batch i applied, free of the rounding that sums have.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("keras") is None:
    collect_ignore_glob = ["test_*.py"]
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

MODES = EAGER, UNCOMPILED, COMPILED, SEVERAL = (
    {"run_eagerly": True},
    {"jit_compile": False},
    {"jit_compile": True},
    {"steps_per_execution": 3},
)
USUAL = {"tensorflow": MODES, "jax": (COMPILED, SEVERAL), "torch": (UNCOMPILED,)}
EVERY = {"tensorflow": MODES, "jax": (UNCOMPILED, COMPILED, SEVERAL), "torch": (UNCOMPILED, COMPILED)}
"""Uncompiled is eager on JAX and torch; torch compiles for ten seconds and has no steps_per_execution."""


THIRD_PARTY = (
    "ignore:__array__ implementation:DeprecationWarning",  # Keras 3.15 hands numpy 2 tensors of an older protocol
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning",  # torch 2.13's own compiler uses it
)


def pytest_configure(config):
    config.addinivalue_line("markers", "every_backend: of the tests of find_lr, one that runs on each")
    config.addinivalue_line("markers", "every_mode: runs each way that its backend has, not the usual ones only")


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            elsewhere = "RATEWISE_INNER" in os.environ and item.path.name == "test_find.py"
            if elsewhere and item.get_closest_marker("every_backend") is None:
                item.add_marker(pytest.mark.skip(reason="runs on one backend; those that tell backends apart on each"))
            for line in THIRD_PARTY:
                item.add_marker(pytest.mark.filterwarnings(line))


@pytest.fixture(params=MODES, ids=lambda mode: "=".join(map(str, *mode.items())))
def mode(request):
    """How the train step runs: eagerly, compiled, through XLA, several batches at a time."""
    import keras

    modes = EVERY if request.node.get_closest_marker("every_mode") else USUAL
    if request.param not in modes[keras.backend.backend()]:
        pytest.skip("this backend runs so in the tests of every mode, if it can")
    return request.param


@pytest.fixture(scope="session")
def probe():
    """Return a function that compiles a model of ``n`` weights; its loss at batch i has gradient 1 in weight i."""
    import keras

    def make(n, optimizer, **compile_arguments):
        layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        model = keras.Sequential([keras.Input((n,)), layer])
        model.compile(optimizer, loss=total, **compile_arguments)
        return model

    @keras.saving.register_keras_serializable(package="tests")
    def total(y_true, y_pred):
        return keras.ops.sum(y_pred, axis=-1)

    return make


@pytest.fixture(scope="session")
def train():
    """Return a function that fits a probe on one batch after the other and returns its weights and the history."""
    import numpy as np

    def run(model, batches, start=0, epochs=1, **fit_arguments):
        rows = np.eye(model.input_shape[-1], dtype="float32")
        left = epochs - fit_arguments.get("initial_epoch", 0)
        data = ((rows[i][None], np.zeros((1, 1), "float32")) for i in range(start, start + batches * left))
        history = model.fit(
            data, steps_per_epoch=batches, epochs=epochs, verbose=0, shuffle=False, **fit_arguments
        ).history
        return _weights(model), history

    return run


@pytest.fixture(scope="session")
def run_on_another_backend():
    """Return a function that runs the Keras tests, and scenario 7, on the first or second of the other backends."""
    import keras

    others = sorted({"tensorflow", "jax", "torch"} - {keras.backend.backend()})

    def run(i):
        if find_spec(others[i]) is None:
            pytest.skip(f"{others[i]} is not installed")
        here = Path(__file__).parent
        scenario = here.parent / "scenarios" / "test_scenario_07_one_plan_in_three_frameworks.py::test_keras"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(here), str(scenario)]
        environment = os.environ | {"KERAS_BACKEND": others[i], "RATEWISE_INNER": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def weights():
    """Return a function that gives a probe's weights as a list of Python floats."""
    return _weights


def _weights(model):
    return [float(w) for w in model.get_weights()[0][:, 0]]


@pytest.fixture(scope="session")
def near():
    """Compare with a float64 reference: 1e-6 relative; JAX, which computes in float32, also 3e-7 of the peak."""
    import keras

    def approx(reference, rel=1e-6):
        peak = max(map(abs, reference))
        return pytest.approx(list(reference), rel=rel, abs=3e-7 * peak if keras.backend.backend() == "jax" else 1e-12)

    return approx


@pytest.fixture(scope="session")
def fed():
    """Return a function that makes a callback which writes the given metrics into the logs, one an epoch."""
    import keras

    class Fed(keras.callbacks.Callback):
        def __init__(self, values, name):
            super().__init__()
            self.values, self.name = values, name

        def on_epoch_end(self, epoch, logs=None):
            logs[self.name] = self.values[epoch]

    return lambda values, name="val_loss": Fed(values, name)


@pytest.fixture(scope="session")
def applied_at():
    """Return a function that gives the rate which a probe's compiled step applies at each of ``updates``."""
    import numpy as np

    def measure(model, updates):
        n = model.input_shape[-1]
        rows, rates = np.eye(n, dtype="float32"), []
        for i, t in enumerate(updates):
            model.set_weights([np.zeros((n, 1), "float32")])
            model.optimizer.iterations.assign(t)
            model.train_on_batch(rows[i % n][None], np.zeros((1, 1), "float32"))
            rates.append(-_weights(model)[i % n])
        return rates

    return measure
