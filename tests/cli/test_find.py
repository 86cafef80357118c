"""``ratewise find``: a drawing, a table and code on stdout; one line for a mistake."""

import json
import os

import pytest

from ratewise.cli.main import run


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def typed(capsys):
    """Run a command line; return its exit status, stdout and stderr."""

    def typed(*arguments):
        status = run(["find", *arguments])
        found = capsys.readouterr()
        return status, found.out, found.err

    return typed


QUICK = ("wine", "--seeds", "1")

TASK = """
import numpy as np, torch
from ratewise import Task
rng = np.random.default_rng(0)
print("hello")
def model(): return torch.nn.Linear(2, 2)
def cold(): return torch.nn.Linear(2, 2).requires_grad_(False)
class Breaks(torch.nn.Linear):
    def forward(self, x):
        if self.training and len(x) == 16 and x.shape[-1] == 2:
            raise RuntimeError("out of\\norder")
        return super().forward(x)
task = Task("loud", data=(rng.normal(size=(200, 2)), rng.integers(0, 2, 200)), model=model)
breaks = Task("breaks", data=(rng.normal(size=(200, 2)), rng.integers(0, 2, 200)), model=lambda: Breaks(2, 2))
frozen = Task("frozen", data=(rng.normal(size=(200, 2)), rng.integers(0, 2, 200)), model=cold)
tiny = Task("tiny", data=(rng.normal(size=(10, 2)), rng.integers(0, 2, 10)), model=model)
keras = Task("keras", data=(rng.normal(size=(10, 2)), rng.integers(0, 2, 10)), model=None)
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(TASK)
    return "mine.py:"


def test_it_prints_the_drawing_the_rules_the_cost_and_the_code(typed):
    status, out, err = typed(*QUICK)
    assert (status, err) == (0, "")
    for mark in ("▲   suggestion 0.", "├─┤ range      0.", "◆   stable", "●   candidate", "┊", "└"):
        assert mark in out
    for rule in ("valley                fastai's default", "lightning-as-shipped  Lightning since 2.5.3"):
        assert rule in out
    assert "runs of the whole schedule in 50 updates" in " ".join(out.split())
    assert "cost: " in out
    assert "valid for: optimizer SGD, weight decay 0, " in out
    assert all(len(line) <= 80 for line in out.split("import ratewise.torch")[0].splitlines())


def test_the_code_trains_at_the_suggested_rate(typed):
    import torch

    _, out, _ = typed(*QUICK, "--optimizer", "adamw")
    suggestion = float(out.split("suggestion ")[1].split()[0])
    model = torch.nn.Linear(3, 1)
    namespace = {"model": model}
    exec(out[out.index("import ratewise.torch") :], namespace)
    assert isinstance(namespace["optimizer"], torch.optim.AdamW)
    assert namespace["optimizer"].param_groups[0]["lr"] == suggestion
    model(torch.ones(2, 3)).sum().backward()
    namespace["optimizer"].step()
    assert namespace["scheduler"].position == 1


def test_json_is_the_finding_alone(typed):
    from ratewise import linear_decay
    from ratewise.lab.find import find
    from ratewise.lab.strategy import Strategy

    status, out, err = typed(*QUICK, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == find("wine", Strategy("a", "sgd", linear_decay(1.0), momentum=0.9), seeds=1).to_dict()


def test_json_has_every_field(typed):
    found = json.loads(typed(*QUICK, "--json")[1])
    assert set(found) >= {
        "low",
        "high",
        "suggestion",
        "ceiling",
        "stable",
        "reason",
        "curve",
        "rules",
        "cost",
        "valid_for",
    }
    assert found["low"] <= found["suggestion"] <= found["high"]
    assert found["valid_for"]["horizon"] == 150
    assert found["valid_for"]["examples_per_update"] == 16
    assert found["curve"]["updates"] == 50
    assert len(found["curve"]["rates"]) == len(found["curve"]["scores"])


def test_schedule_and_steps_are_those_of_the_run(typed):
    found = json.loads(
        typed(*QUICK, "--schedule", "cosine(5.0).warmup(epochs(2))", "--steps", "200", "--json")[1]
    )  # fmt: skip
    assert found["valid_for"]["schedule"] == 'Linear(0.0, 5.0, 12, ends="(]") >> Cosine(5.0, 0.0, 188)'
    assert found["valid_for"]["horizon"] == 200
    assert found["suggestion"] < 1.0  # whatever peak the expression had


def test_a_range_test_takes_its_own_number_of_updates(typed):
    status, out, _ = typed("wine", "--method", "range", "--steps", "60", "--high", "1000", "--json")
    found = json.loads(out)
    assert found["curve"]["planned"] == 60
    assert found["cost"]["updates"] <= 60
    assert status == (1 if found["suggestion"] is None else 0)


def test_a_finding_that_declines_has_status_1_and_its_reason_as_data(typed):
    status, out, err = typed(*QUICK, "--high", "1e-6")
    assert (status, err) == (1, "")
    assert "suggestion" not in out.split("rule  ")[0]
    assert "import ratewise" not in out
    status, out, err = typed(*QUICK, "--high", "1e-6", "--json")
    found = json.loads(out)
    assert (status, err, found["suggestion"]) == (1, "", None)
    assert found["reason"]


def test_pictures_are_pictures_and_differ_between_findings(typed, tmp_path):
    pytest.importorskip("matplotlib")
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        status, out, err = typed(*QUICK, "--seed", seed, "--png", f"{name}.png")
        assert (status, err) == (0, f"picture: {name}.png\n")
        assert "suggestion" in out
    one, same, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert one.startswith(b"\x89PNG")
    assert one == same != other
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png", "c.png"]


def test_what_a_task_file_prints_does_not_spoil_the_json(typed, mine):
    status, out, err = typed(mine + "task", "--seeds", "1", "--json")
    assert status in (0, 1)
    assert json.loads(out)["valid_for"]["optimizer"] == "SGD"
    assert err == "hello\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["win"], 2, "unknown task 'win'. Did you mean 'wine'?"),
        (["wine", "--optimizer", "adm"], 2, "unknown optimizer 'adm'. Did you mean 'adam'?"),
        (["wine", "--method", "prob"], 2, "Did you mean 'probe'?"),
        (["wine", "--schedule", "Cosin(1.0)"], 2, "Did you mean 'Cosine'?"),
        (["wine", "--schedule", "Constant(0.1) * Plateau(0.5)"], 2, "must have no rules, which wait for a metric"),
        (["wine", "--schedule", "Constant(0.0)"], 2, "somewhere above 0"),
        (["wine", "--schedule", "Linear(1.0, -1.0)"], 2, "at least 0"),
        (["wine", "--schedule", "cosine(1.0)", "--method", "range"], 2, "a range test knows no schedule"),
        (["wine", "--low", "1", "--high", "0.1"], 2, "low must be above 0 and below high"),
        (["wine", "--low", "nan"], 2, "low must be above 0 and below high"),
        (["wine", "--seeds", "0"], 2, "Invalid value for '--seeds'"),
        (["wine", "--steps", "0"], 2, "Invalid value for '--steps'"),
        (["wine", "--method", "range", "--steps", "3"], 2, "steps must be an integer of at least 20, got 3"),
        (["wine", "--sede", "3"], 2, "no such option: --sede. Did you mean '--seed'?"),
        ([], 2, "Missing argument 'task'"),
        (["none.py:task"], 1, "none.py: there is no such file."),
        (["mine.py:breaks"], 1, "Task 'breaks': find_lr: update 0, at the rate"),
        (["mine.py:frozen"], 1, "Task 'frozen': the model has no parameters to train"),
        (["mine.py:tiny"], 2, "has one batch only"),
        (["mine.py:keras"], 1, "engine 'torch' needs model="),
    ],
)
def test_a_mistake_is_one_line_on_stderr(typed, mine, arguments, status, message):
    found, out, err = typed(*arguments)
    lines = [line for line in err.splitlines() if line != "hello"]
    assert message in lines[-1]
    assert (found, out, len(lines)) == (status, "", 1)


def test_a_picture_that_cannot_be_written_is_one_line(typed):
    status, _, err = typed(*QUICK, "--png", "/proc/no/find.png")
    assert (status, err) == (1, "ratewise: /proc/no: No such file or directory.\n")


def test_an_interruption_promises_nothing(typed, monkeypatch):
    from ratewise.torch import engine

    def interrupted(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "find_lr", interrupted)
    assert typed("wine") == (1, "", "ratewise: interrupted.\n")


def test_the_help_shows_an_example(typed):
    status, out, _ = typed("--help")
    assert status == 0
    assert "Example: ratewise find digits" in out


def test_a_narrow_terminal_gets_narrow_lines(typed, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take a stream for a terminal
    monkeypatch.setenv("COLUMNS", "50")
    status, out, _ = typed(*QUICK)
    shown = out.split("import ratewise.torch")[0].splitlines()
    assert status == 0
    assert any(line.split() == ["rule", "rate", "octaves", "away"] for line in shown)
    assert "\x1b" not in out
    assert all(len(line) <= 50 for line in shown if line[:1] not in tuple("▲├◆┃●×"))
