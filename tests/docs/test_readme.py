"""Every Python block of the README runs, and prints what it says it prints."""

import json
import re
from pathlib import Path

import pytest
from docs.blocks import check, printed

from ratewise.cli.main import run

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.strip().splitlines()[-1][:40])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3 under numpy 2
def test_the_block_runs_and_prints_what_its_comments_say(code):
    check(code, "README.md")


def test_the_first_block_is_a_schedule_and_its_picture():
    assert "\n".join(printed(BLOCKS[0], "README.md")[2:]) in README


def test_the_task_file_of_the_readme_can_be_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = [code for code in BLOCKS if "task = Task(" in code]
    Path("my_task.py").write_text(block)
    quick = ["--steps", "60", "--rates", "3", "--tuning-seeds", "1", "--fresh-seeds", "7", "--json"]
    mine = "mine=Cosine(0.1, 0.001).warmup(20)"
    assert run(["compare", "my_task.py:task", "-s", "cosine", "-s", "one_cycle", "-s", mine, *quick]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["strategies"]] == ["cosine", "one_cycle", "mine", "adamw"]
    assert all(row["test"]["mean"] > 0.8 for row in found["strategies"])
    assert len(block.splitlines()) <= 20


def test_every_command_of_the_readme_exists():
    known = {"compare", "explain", "find", "list", "report", "show"}
    for command in set(re.findall(r"ratewise (\w+) ", README)) & known:
        assert run([command, "--help"]) == 0


def test_the_first_screen_names_the_two_commands():
    first = "\n".join(README.splitlines()[:12])
    assert "make compare" in first
    assert "make test" in first
