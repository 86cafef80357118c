"""``ratewise export``: code on stdout, one line for a mistake."""

import json

import pytest

import ratewise
from ratewise.cli.main import run


@pytest.fixture
def typed(capsys):
    """Run a command line; return its exit status, stdout and stderr."""

    def typed(*arguments):
        status = run(["export", *arguments])
        found = capsys.readouterr()
        return status, found.out, found.err

    return typed


def test_code_goes_to_stdout(typed):
    status, out, err = typed("step_decay(0.1, gamma=0.5, every=30)", "--to", "torch")
    assert status == 0
    assert "StepLR(optimizer, step_size=30, gamma=0.5)" in out
    assert err == ""


@pytest.mark.parametrize("to", ["torch", "keras", "optax", "hf", "yaml", "json", "python"])
def test_every_target_prints_the_text_that_python_gives(typed, to):
    status, out, _ = typed("warmup_cosine(0.1)", "--steps", "100", "--to", to)
    assert status == 0
    assert out == ratewise.export(ratewise.warmup_cosine(0.1).over(100), to) + "\n"


def test_json_has_the_code_and_what_it_is_of(typed):
    _, out, _ = typed("Linear(0.1, 0.0)", "--steps", "5", "--to", "optax", "--json")
    found = json.loads(out)
    assert found["spec"] == "Linear(0.1, 0.0, 5)"
    assert found["to"] == "optax"
    assert "optax.linear_schedule(0.1, 0.0, transition_steps=5)" in found["code"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["Linear(0.1, 0.0)", "--to", "torch"],
            "its length is not known yet (it has no steps), and torch needs it. Add --steps",
        ),
        (["Linear(0.1, 0.0, 5)", "--to", "troch"], "Did you mean 'torch'?"),
        (["Linear(0.1, 0.0, 5)"], "Missing option '--to'"),
        (["Liner(0.1, 0.0, 5)", "--to", "torch"], "Did you mean 'Linear'?"),
        (["Linear(0.1, 0.0, 5)", "--to", "torch", "--steps", "0"], "Invalid value for '--steps'"),
        (["Constant(0.1) * NewBob()", "--to", "torch"], "torch has nothing that does what NewBob() does"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(typed, arguments, message):
    status, out, err = typed(*arguments)
    assert status == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
