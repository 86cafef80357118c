"""Keras tests pass on every backend (the last one: test_second_backend), of find_lr some; what a missing Keras says."""

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.skipif("RATEWISE_INNER" in os.environ, reason="this is the run on another backend")
def test_the_keras_tests_pass_on_another_backend(run_on_another_backend):
    result = run_on_another_backend(0)
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
