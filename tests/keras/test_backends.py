"""Every Keras test passes on every Keras backend; and what a missing Keras says."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import pytest

OTHERS = sorted({"tensorflow", "jax", "torch"} - {keras.backend.backend()})


@pytest.mark.slow
@pytest.mark.skipif("RATEWISE_INNER" in os.environ, reason="this is the run on another backend")
@pytest.mark.parametrize("backend", OTHERS)
def test_every_keras_test_passes_on_the_other_backends(backend):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent)]
    environment = os.environ | {"KERAS_BACKEND": backend, "RATEWISE_INNER": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-5000:]


def imported(prepare):
    script = f"import sys\n{prepare}\nimport ratewise.keras"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stderr


def test_a_missing_keras_says_what_to_install():
    stderr = imported("sys.modules['keras'] = None")
    assert 'MissingDependency: keras adapter: Keras 3 is not installed. Run: pip install "ratewise[keras]".' in stderr


def test_an_old_keras_says_what_to_install():
    stderr = imported("import types; sys.modules['keras'] = types.SimpleNamespace(__version__='2.15.0')")
    assert 'MissingDependency: keras adapter: Keras 3 is not installed. Run: pip install "ratewise[keras]".' in stderr


def test_a_missing_backend_keeps_kerass_own_message():
    stderr = imported("sys.modules['tensorflow'] = sys.modules['jax'] = sys.modules['torch'] = None")
    assert "MissingDependency" not in stderr
    assert "ModuleNotFoundError" in stderr
