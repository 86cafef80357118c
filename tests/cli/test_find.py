"""``ratewise find``: a drawing, a table and code on stdout; one line for a mistake."""

import json
import math
import os
import re
from pathlib import Path

import pytest

from ratewise.cli import screens
from ratewise.cli.main import run
from ratewise.core.shapes import Constant
from ratewise.finder import Curve, Finding, Trials, drawn, judged, ramp, weighed
from ratewise.lab.strategy import Strategy


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
def gone(): raise KeyError("gone")
lost = Task("lost", data=gone, model=model)
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
    status, out, err = typed(*QUICK, "--high", "1e-5")
    assert (status, err) == (1, "")
    assert "suggestion" not in out.split("rule  ")[0]
    assert "import ratewise" not in out
    status, out, err = typed(*QUICK, "--high", "1e-5", "--json")
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
        (["mine.py:keras"], 1, "needs model=, a function"),
        (["mine.py:lost"], 1, "Task 'lost': its data raised KeyError: 'gone'"),
        (["wine", "--steps", "1000000000"], 2, "Invalid value for '--steps'"),
        (["wine", "--method", "range", "--steps", "1000000000"], 2, "Invalid value for '--steps'"),
        (["wine", "--png", "wine.jpg"], 2, "it writes PNG, got wine.jpg. Write wine.png."),
    ],
)
def test_a_mistake_is_one_line_on_stderr(typed, mine, arguments, status, message):
    found, out, err = typed(*arguments)
    lines = [line for line in err.splitlines() if line != "hello"]
    assert message in lines[-1]
    assert (found, out, len(lines)) == (status, "", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--png", "/proc/no/find.png"], "ratewise: /proc/no/find.png: No such file or directory."),
        (["--png", "mine.py/find.png"], "ratewise: mine.py/find.png: Not a directory."),
        (["--method", "prob"], "Did you mean 'probe'?"),
        (["--low", "1", "--high", "0.1"], "low must be above 0 and below high"),
        (["--method", "range", "--steps", "3"], "steps must be an integer of at least 20, got 3"),
    ],
)
def test_what_needs_no_task_is_checked_before_one_is_loaded(typed, mine, monkeypatch, arguments, message):
    monkeypatch.setattr("ratewise.lab.find.load", lambda _: pytest.fail("a task was loaded"))
    status, out, err = typed("wine", *arguments)
    assert status in (1, 2)
    assert message in err
    assert (out, len(err.splitlines())) == ("", 1)


def _probed(scores: list[tuple[float, ...]], untrained: tuple[float, ...], stopped: str = "") -> Finding:
    rates = tuple(0.01 * 2.0**k for k in range(len(scores)))
    return weighed(Trials(rates, tuple(scores), untrained, 50, 400, stopped), {}, {"updates": 9}, {"horizon": 400})


def _swept(losses: list[float], stopped: str = "") -> Finding:
    return judged(Curve(tuple(ramp(1e-6, 1.0, 60)[: len(losses)]), tuple(losses), 60, stopped), {"updates": 9}, {})


NAN = math.nan
REFUSALS = {
    "nan": _probed([], (NAN, NAN)),
    "all diverged": _probed([(NAN, NAN)] * 4, (1.0, 1.0), "low"),
    "no signal": _probed([(1.0, 1.1)] * 4, (1.0, 1.0)),
    "at the end": _probed([(0.1 * k, 0.1 * k) for k in range(1, 5)], (1.0, 1.0), "low"),
    "seeds disagree": _probed([(0.1, 0.5), *[(0.5, 0.5)] * 6, (0.5, 0.1)], (9.0, 9.0)),
    "range: nan": _swept([NAN], "not finite"),
    "range: at once": _swept([1.0, 9.0, 99.0], "diverged"),
    "range: flat": _swept([1.0] * 60),
    "range: noisy": _swept([1.0, 2.0] * 30),
    "range: still falling": _swept([1.0 - 0.01 * i for i in range(60)]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_reason_advises_only_what_the_command_has(name):
    finding = REFUSALS[name]
    assert finding.suggestion is None
    method = "range" if name.startswith("range") else "probe"
    reason = screens.told(finding, method).reason
    known = {"low", "high", "seeds", "steps"}
    assert {*re.findall(r"--([a-z_]+)", reason)} <= known
    assert not re.search(r"\w=", reason)
    assert reason[:40] == finding.reason[:40]  # what was measured stays
    assert reason.endswith(".")


def test_an_option_that_the_command_lacks_is_left_out_with_its_clause():
    finding = REFUSALS["nan"]
    for reason, expected in (
        ("Bad. Use other= things. Give low=0.1.", "Bad. Give --low 0.1."),
        ("Usual: give other=. More seeds= help.", "Usual. More --seeds help."),
    ):
        changed = Finding(None, None, None, None, reason, finding.curve, {}, {}, {})
        assert screens.told(changed, "probe").reason == expected


def test_where_nothing_was_measured_there_is_neither_table_nor_share(capsys):
    finding = weighed(
        Trials((), (), (NAN,), 50, 400), {"valley": None, "slide": None}, {"updates": 4}, {"horizon": 400}
    )
    screens.show_finding(finding, Strategy("a", "sgd", Constant(1.0)), "torch")
    out = capsys.readouterr().out
    assert "valley" not in out
    assert "cost: 4 updates\n" in out


def test_an_interruption_promises_nothing(typed, monkeypatch):
    from ratewise.torch import engine

    def interrupted(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "find_lr", interrupted)
    assert typed("wine") == (1, "", "ratewise: interrupted.\n")


def test_the_help_shows_an_example(typed):
    status, out, _ = typed("--help")
    assert status == 0
    examples = [line.strip() for line in out.splitlines() if "Example: " in line]
    assert examples[0] == "Example: ratewise find digits --optimizer adam"
    assert examples[1].endswith("--png a.png")


def test_a_narrow_terminal_gets_narrow_lines_and_a_word_while_it_waits(typed, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take a stream for a terminal
    monkeypatch.setenv("COLUMNS", "40")
    status, out, err = typed(*QUICK)
    shown = out.split("import ratewise.torch")[0].splitlines()
    assert status == 0
    assert any(line.split() == ["rule", "rate", "octaves"] for line in shown)
    assert "\x1b" not in out
    assert all(len(line) <= 40 for line in shown)
    assert (err.count("\n"), err.split(",")[0]) == (1, "trying rates on wine")


def _form(shown: str) -> list[str]:
    """What every finding is printed with, in order and without its numbers: marks, rules, cost, circumstances."""
    known = (*"▲▽◆●┃", "├─┤ ", "rule ", *drawn.SOURCES, "cost:", "valid for:")
    lines = [line for line in shown.splitlines() if line.startswith(known)]
    return [re.sub(r"\d[\d.]*", "N", line) if line[0] in "▲▽├◆●┃" else line.split(" ")[0] for line in lines]


@pytest.mark.parametrize("page", ["README.md", "docs/finder.md"])
def test_what_the_pages_show_has_the_form_of_what_is_printed(typed, page):
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    shown = text.split("ratewise find digits\n```\n\n```\n")[1].split("\n```")[0]
    form = _form(typed(*QUICK)[1])
    assert len(form) == 6 + 1 + 7 + 2
    assert _form(shown) == form
