"""What ``import ratewise.optax`` loads and says; and what depends on dtypes with 64 bits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ratewise.optax as ro


def fresh(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_it_loads_no_other_framework():
    code = (
        "import sys, ratewise.optax; print([m for m in ('torch', 'keras', 'tensorflow', 'flax') if m in sys.modules])"
    )
    assert fresh(code) == "[]\n"


@pytest.mark.parametrize(("missing", "name"), [("optax", "optax"), ("jax", "JAX")])
def test_a_missing_package_says_what_to_install(missing, name):
    told = fresh(f"import sys; sys.modules[{missing!r}] = None; import ratewise.optax")
    assert f'MissingDependency: optax adapter: {name} is not installed. Run: pip install "ratewise[jax]".' in told


def test_all_names_are_there_and_documented():
    for name in ro.__all__:
        assert len(getattr(ro, name).__doc__) > 40


@pytest.mark.slow
def test_types_and_rates_are_right_with_64_bits_too():
    tests = [str(Path(__file__).with_name(f"test_{name}.py")) for name in ("schedule", "inject", "rules")]
    kinds = "adamw or adafactor or scenario_7 or width or dtype or types or shown or digits or cond"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", kinds]
    environment = os.environ | {"JAX_ENABLE_X64": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-5000:]
    assert "skipped" not in result.stdout
