"""docs/frameworks.md: its blocks run as they stand, and every test that its tables name exists."""

import ast
import re
import sys
from pathlib import Path

import pytest
from docs.blocks import check
from trainers.launch import outputs

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "frameworks.md").read_text()
BLOCKS = re.findall(r"^## (.*?)$|^```python( torchrun| not-run)?\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
LINES = re.findall(r"^\|(.*)\|$", PAGE[PAGE.index("## What was tested") :], re.MULTILINE)
ROWS = [[cell.strip() for cell in line.split("|")] for line in LINES]


def blocks(kind):
    """The blocks of a kind, each with the heading above it."""
    heading, found = "", []
    for title, said, code in BLOCKS:
        heading = title or heading
        if not title and said.strip() == kind:
            found.append(pytest.param(code, id=heading))
    return found


@pytest.fixture(autouse=True)
def _apart(monkeypatch, tmp_path):
    """Files go into a folder of their own; DeepSpeed may be here for its schedules, not to run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "deepspeed", None)


@pytest.mark.parametrize("code", blocks(""))
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3 under numpy 2
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")  # Lightning
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval")
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_the_block_runs_and_prints_what_its_comments_say(code):
    check(code, "frameworks.md")


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("torchrun"))
def test_the_block_runs_in_two_processes(code, tmp_path):
    (tmp_path / "train.py").write_text(code)
    promised = re.findall(r"^print\(.*\)\s+# (.*)", code, re.MULTILINE)
    assert [said.splitlines() for said in outputs(tmp_path / "train.py", 2)] == [promised] * 2


def test_only_what_cannot_run_here_is_not_run():
    assert [block.id for block in blocks("not-run")] == ["DeepSpeed"]


def test_every_test_that_the_page_names_exists():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 50
    for file in {file for file, _ in named}:
        tree = ast.parse((TESTS / file).read_text())
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {name for other, name in named if other == file} <= there, file


def test_the_marks_of_the_first_table_are_the_rows_of_the_second():
    (_, *trainers), *marked = (row for row in ROWS if len(row) > 3)
    marks = {
        (trainer, row[0]) for row in marked for trainer, cell in zip(trainers, row[1:], strict=True) if cell == "●"
    }
    assert {(trainer, feature) for trainer, feature, tests in (row for row in ROWS if "::" in row[-1])} == marks
