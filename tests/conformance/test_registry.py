"""Nothing can be forgotten: every adapter has a harness, every kind of schedule an example, every feature a reason."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ratewise
from ratewise.core.ease import EASES
from ratewise.core.parse import KINDS
from ratewise.core.recipes import RECIPES
from ratewise.core.schedule import ENDS
from ratewise.errors import ScheduleError
from ratewise.testing import adapter_checks, examples
from ratewise.testing.examples import SHAPES

HERE = Path(__file__).parent
NO_ADAPTERS = {"cli", "core", "doctor", "finder", "interop", "lab", "replicate", "report", "testing"}
"""What a package of Ratewise may be that applies no rates to an optimizer."""


def test_every_adapter_has_a_harness_and_is_held_to_the_suite():
    packages = {path.parent.name for path in Path(ratewise.__file__).parent.glob("*/__init__.py")} - NO_ADAPTERS
    assert packages == {path.stem.removeprefix("on_") for path in HERE.glob("on_*.py")}
    assert {f"test_{name}.py" for name in packages} <= {path.name for path in HERE.glob("test_*.py")}


def test_every_recipe_ease_and_interval_is_among_the_examples():
    wanted = {f"recipe {name}" for name in RECIPES} | {f"ends {ends}" for ends in ENDS}
    wanted |= {f"ease {name}, {way}" for name in EASES for way in ("falling", "rising")}
    assert wanted <= set(examples())


def test_every_class_of_the_algebra_is_among_the_examples():
    assert set(KINDS) == set(SHAPES)
    for name, make in SHAPES.items():
        assert f'"type": "{name}"' in json.dumps(make().to_dict())


@pytest.mark.parametrize("steps", [20, 100])
def test_the_examples_are_rates_of_known_length(steps):
    for name, lr in examples(steps).items():
        assert all(0 <= rate <= 0.13 for rate in lr.values(0, 120)), name


def test_open_examples_stay_open_if_asked():
    open_ones = examples(None)
    with pytest.raises(ScheduleError, match="length is not known yet"):
        open_ones["recipe cosine"](0)
    assert open_ones["recipe cosine"].over(20) == examples()["recipe cosine"]


def test_a_recipe_with_a_parameter_that_is_not_known_here_says_so(monkeypatch):
    monkeypatch.setitem(RECIPES, "new", lambda lr, bend: ratewise.fixed(lr))
    with pytest.raises(ScheduleError, match="recipe 'new' needs 'bend'; say in ARGUMENTS"):
        examples()


def test_a_new_recipe_is_an_example_at_once(monkeypatch):
    monkeypatch.setitem(RECIPES, "new", lambda peak, warmup: ratewise.fixed(peak).warmup(warmup))
    assert examples()["recipe new"] == ratewise.fixed(0.1).warmup(3)


def test_the_names_of_checks_are_different_sentences():
    names = [str(check) for check in adapter_checks()]
    assert len(set(names)) == len(names)


def test_the_suite_imports_no_framework_and_no_test_runner():
    heavy = ("numpy", "torch", "tensorflow", "keras", "jax", "optax", "pytest")
    use = "import sys, ratewise.testing as t; t.check_schedule(t.examples()['Ramp'])"
    code = f"{use}; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
