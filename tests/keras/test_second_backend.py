"""The Keras tests pass on the second other backend too; a file of its own, so that both run side by side."""

import os

import pytest


@pytest.mark.slow
@pytest.mark.skipif("RATEWISE_INNER" in os.environ, reason="this is the run on another backend")
def test_the_keras_tests_pass_on_the_second_other_backend(run_on_another_backend):
    result = run_on_another_backend(1)
    assert result.returncode == 0, result.stdout[-5000:]
