"""The program as a person types it: output, exit status, and one line for every mistake."""

import json
import os
import subprocess
import sys

import pytest

from ratewise.cli.main import run
from ratewise.lab.catalogue import CATALOGUE


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def typed(capsys):
    """Run a command line; return its exit status, stdout and stderr."""

    def typed(*arguments):
        status = run(list(arguments))
        found = capsys.readouterr()
        return status, found.out, found.err

    return typed


QUICK = ("--steps", "30", "--rates", "3", "--tuning-seeds", "1", "--fresh-seeds", "7", "--workers", "1")


def test_list_names_every_strategy_task_and_recipe(typed):
    status, out, _ = typed("list")
    assert status == 0
    for name in (*CATALOGUE, "digits", "digits-clean", "wine", "stdlib-chars", "step_decay", "one_cycle"):
        assert name in out


def test_list_as_json(typed):
    _, out, err = typed("list", "--json")
    found = json.loads(out)
    assert [entry["name"] for entry in found["strategies"]] == list(CATALOGUE)
    assert err == ""


@pytest.mark.parametrize("name", CATALOGUE)
def test_explain_prints_the_card_and_the_curve(typed, name):
    status, out, _ = typed("explain", name)
    card = CATALOGUE[name].card
    words = " ".join(out.split())
    assert status == 0
    assert card.what.split()[-1] in words
    assert "┤" in out
    assert f'ratewise.strategy("{name}").torch(' in out


def test_explain_as_json_has_the_values(typed):
    found = json.loads(typed("explain", "linear", "--steps", "4", "--json")[1])
    assert found["values"] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert found["formula"] == "lr(t) = lr0 * (1 - t / T)"


def test_show_draws_and_tabulates(typed):
    status, out, err = typed("show", "Linear(0.1, 0.0, 10)")
    assert status == 0
    assert "┤" in out
    assert out.splitlines()[-1].split() == ["10", "0"]
    assert err == ""


def test_show_as_json_has_the_three_fields(typed):
    _, out, _ = typed("show", "Linear(1.0, 0.0).warmup(2)", "--steps", "6", "--json")
    assert json.loads(out) == {
        "spec": 'Linear(0.0, 1.0, 2, ends="(]") >> Linear(1.0, 0.0, 4)',
        "steps": 6,
        "values": [0.5, 1.0, 1.0, 0.75, 0.5, 0.25],
    }


def test_show_says_when_it_chose_the_length(typed):
    _, out, err = typed("show", "one_cycle(0.1)", "--json")
    assert json.loads(out)["steps"] == 1000
    assert "drawn over 1000 updates" in err


def test_show_writes_a_picture(typed, tmp_path):
    status, _, err = typed("show", "Cosine(0.1, 0.0, 100)", "--png", "curve.png")
    assert status == 0
    assert "picture: curve.png" in err
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_compare_prints_table_verdict_and_code_and_writes_the_page(typed, tmp_path):
    status, out, err = typed("compare", "wine", "-s", "cosine", "-s", "fixed", *QUICK)
    assert status == 0
    assert "On wine (30 updates) use" in out
    assert "import ratewise.torch" in out
    assert "report: ratewise-results/wine.html" in err.replace("\n", "")
    assert "<html" in (tmp_path / "ratewise-results" / "wine.html").read_text()


def test_the_code_that_compare_prints_trains(typed):
    import torch

    _, out, _ = typed("compare", "wine", "-s", "one_cycle", "-s", "cosine", *QUICK, "--json")
    model = torch.nn.Linear(3, 1)
    namespace = {"model": model}
    exec(json.loads(out)["code"], namespace)
    model(torch.ones(2, 3)).sum().backward()
    namespace["optimizer"].step()
    assert namespace["scheduler"].position == 1


def test_compare_as_json_is_one_object_on_stdout(typed):
    _, out, _ = typed("compare", "wine", "-s", "cosine", "-s", "mine=Linear(0.1, 0.0).warmup(5)", *QUICK, "--json")
    found = json.loads(out)
    assert [row["name"] for row in found["strategies"]] == ["cosine", "mine", "adamw"]
    assert (
        found["strategies"][1]["spec"].endswith("Linear(0.1, 0.0, 25)") or "Linear(" in found["strategies"][1]["spec"]
    )


def test_a_strategy_of_ones_own_may_name_its_optimizer(typed):
    _, out, _ = typed("compare", "wine", "-s", "cosine", "-s", "mine=adam:Linear(0.01, 0.0)", *QUICK, "--json")
    assert json.loads(out)["strategies"][1]["optimizer"] == "adam"


def test_report_shows_what_compare_found(typed):
    _, compared, _ = typed("compare", "wine", "-s", "cosine", "-s", "fixed", *QUICK, "--json")
    status, reported, _ = typed("report", "wine", "--json")
    assert status == 0
    assert json.loads(reported) == json.loads(compared)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["lst"], 2, "no such command: lst. Did you mean 'list'?"),
        (["list", "--jsn"], 2, "no such option: --jsn. Did you mean '--json'?"),
        (["explain", "cosin"], 2, "unknown strategy 'cosin'. Did you mean 'cosine'?"),
        (["explain"], 2, "Missing argument 'name'"),
        (["compare", "digit"], 2, "unknown task 'digit'. Did you mean 'digits'?"),
        (["compare", "digits", "--stpes", "3"], 2, "no such option: --stpes. Did you mean '--steps'?"),
        (["compare", "digits", "--steps", "-3"], 2, "steps must be an integer of at least 1, got -3"),
        (["compare", "digits", "--steps", "x"], 2, "Invalid value for '--steps'"),
        (["compare", "digits", "--engine", "troch"], 2, "Did you mean 'torch'?"),
        (["compare", "digits", "--fresh-seeds", "3"], 2, "Use at least 9 fresh seeds"),
        (["compare", "digits", "-s", "cosine", "-s", "fixd"], 2, "Did you mean 'fixed'?"),
        (["compare", "digits", "-s", "cosine", "-s", "a=sgdd:Constant(0.1)"], 2, "Did you mean 'sgd'?"),
        (["compare", "digits", "-s", "cosine", "-s", "a=Cosine(0.1, 0, 400)"], 2, "400 updates"),
        (["compare", "digits", "-s", "a=Constant(nan)", "-s", "cosine"], 2, "nan"),
        (["compare", "none.py:task"], 1, "none.py: there is no such file."),
        (["show", "Cosin(0.1, 0.0)"], 2, "Did you mean 'Cosine'?"),
        (["show", "Cosine(0.1, 0.0, -5)"], 2, "Cosine: steps must be an integer of at least 1"),
        (["show", "Cosine(0.1, 0.0, 100).warmup(50)", "--steps", "100"], 2, "need 50 + 100 = 150 updates"),
        (["show", "__import__('os').system('true')"], 2, "parse:"),
        (["show", "Constant(1e999)"], 2, "Constant: value must be a finite number, got inf"),
        (["show", "Constant(0.1, 9)", "--png", "/proc/no/curve.png"], 1, "/proc/no/curve.png: No such file"),
        (["show", "Constant(0.1, 9)", "--png", "curve.jpg"], 2, "it writes PNG, got curve.jpg. Write curve.png."),
        (["report", "digits"], 1, "no such file. Run `ratewise compare` first."),
        (["compare", "wine", "-s", "cosine", "-s", "fixed", *QUICK, "--store", "."], 1, "is a folder"),
    ],
)
def test_a_mistake_is_one_line_on_stderr(typed, arguments, status, message):
    found, out, err = typed(*arguments)
    assert message in err
    assert (found, out, err.count("\n")) == (status, "", 1)


def test_a_store_that_is_something_else_is_left_alone(typed, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear reader,\n")
    status, _, err = typed("compare", "wine", "-s", "cosine", "-s", "fixed", *QUICK, "--store", "letter.txt")
    assert (status, err.count("\n")) == (1, 1)
    assert "is not a store of Ratewise" in err
    assert (tmp_path / "letter.txt").read_text() == "Dear reader,\n"


def test_a_task_file_that_raises_says_where(typed, tmp_path):
    (tmp_path / "broken.py").write_text("x = 1\nraise RuntimeError('two\\nlines')\n")
    status, _, err = typed("compare", "broken.py:task")
    assert (status, err) == (1, "ratewise: broken.py: line 2: RuntimeError: two lines\n")


def test_help_of_every_command_shows_an_example(typed):
    for command in ("list", "explain", "show", "compare", "report"):
        status, out, _ = typed(command, "--help")
        assert status == 0
        assert f"Example: ratewise {command}" in out


def test_without_arguments_the_help_is_shown(typed):
    status, out, _ = typed()
    assert status == 0
    assert "compare" in out


def test_the_version_is_that_of_the_package(typed):
    import ratewise

    assert typed("--version")[1] == f"ratewise {ratewise.__version__}\n"


def test_a_reader_that_stops_early_is_no_error():
    command = f"{sys.executable} -c 'from ratewise.cli.main import main; main()' list | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_that_cannot_take_every_character_gets_plain_ones(encoding):
    command = [sys.executable, "-c", "from ratewise.cli.main import main; main()", "show", "Cosine(0.1, 0.0, 300)"]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode(encoding)
    corner, stroke = ("└", "⠤") if encoding == "utf-8" else ("+", "'")
    assert corner in shown
    assert stroke in shown
    assert "?" not in shown


def test_a_plain_character_is_as_wide_as_the_one_that_it_stands_for():
    from ratewise.cli import plain
    from ratewise.finder.drawn import MARKS

    for character in (*MARKS.values(), *"│┊─└┬●×≥–−", *map(chr, range(0x2801, 0x2900))):
        (one,) = plain._ascii(character)
        assert one.isascii()
        assert one not in "? "


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stdout_or_stderr_is_no_error(closed):
    command = f"{sys.executable} -c 'from ratewise.cli.main import main; main()' list {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_loads_no_framework():
    code = (
        "import sys; from ratewise.cli.main import run; run(['--help']); "
        "print([m for m in ('numpy', 'torch', 'keras', 'optuna', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_a_task_file_prints_does_not_spoil_the_json(typed, tmp_path):
    (tmp_path / "loud.py").write_text(
        "import numpy as np, torch\nfrom ratewise import Task\nprint('hello')\n"
        "def model():\n    print('model')\n    return torch.nn.Linear(2, 2)\n"
        "task = Task('loud', data=(np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2), model=model)\n"
    )
    status, out, err = typed("compare", "loud.py:task", "-s", "cosine", "-s", "fixed", *QUICK, "--json")
    assert status == 0
    assert json.loads(out)["task"] == "loud"
    assert "hello" in err


def test_a_link_stays_a_link_and_a_device_a_device(typed, tmp_path):
    (tmp_path / "target.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to(tmp_path / "target.png")
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)
    for name in ("link.png", "pipe"):
        assert typed("show", "Constant(0.1, 9)", "--png", name)[0] == 0
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "target.png").read_bytes().startswith(b"\x89PNG")
    assert reader.communicate(timeout=20)[0].startswith(b"\x89PNG")


def test_show_has_as_many_values_as_asked_for(typed):
    _, out, _ = typed("show", "Linear(1.0, 0.0, 2)", "--steps", "4", "--json")
    assert json.loads(out)["values"] == [1.0, 0.5, 0.0, 0.0]
    _, out, _ = typed("show", "Linear(1.0, 0.0, 2.5)", "--json")
    assert len(json.loads(out)["values"]) == 3


@pytest.mark.parametrize("module", ["numpy", "optuna", "scipy", "loky", "filelock", "sklearn"])
def test_a_missing_package_is_one_line_that_says_what_to_install(module):
    code = (
        f"import sys; sys.modules[{module!r}] = None; from ratewise.cli.main import run; "
        "sys.exit(run(['compare', 'wine', '-s', 'cosine', '-s', 'fixed', '--steps', '5']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert 'pip install "ratewise[lab]"' in done.stderr


def test_list_works_with_the_command_line_alone():
    code = "import sys; sys.modules['numpy'] = None; from ratewise.cli.main import run; sys.exit(run(['list']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "one_cycle" in done.stdout
