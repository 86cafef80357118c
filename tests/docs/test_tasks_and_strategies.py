"""docs/tasks.md and docs/strategies.md name everything that there is, and nothing else."""

import re
from pathlib import Path

from ratewise.lab.catalogue import CATALOGUE
from ratewise.lab.tasks import TASKS

ROOT = Path(__file__).parents[2]
TASKS_PAGE = (ROOT / "docs" / "tasks.md").read_text()
STRATEGIES_PAGE = (ROOT / "docs" / "strategies.md").read_text()


def names_in(text):
    return re.findall(r"`([\w-]+(?:\.py)?)`", text)


def test_every_built_in_task_is_on_the_page_with_its_character():
    rows = re.findall(r"^\| `([\w-]+)` \| (.*?) \|", TASKS_PAGE[TASKS_PAGE.index("| task | character") :], re.MULTILINE)
    assert dict(rows) == {name: make().character for name, make in TASKS.items()}


def test_every_example_is_on_the_page():
    table = TASKS_PAGE[TASKS_PAGE.index("| file |") : TASKS_PAGE.index("## What a task says")]
    listed = {name for name in names_in(table) if name.endswith(".py")}
    assert listed == {path.name for path in (ROOT / "examples").glob("*.py")}


def test_every_strategy_of_the_catalogue_is_on_the_page_once():
    table = STRATEGIES_PAGE[STRATEGIES_PAGE.index("| name |") : STRATEGIES_PAGE.index("Those that train one by one")]
    first = [cell for line in table.splitlines()[2:] if line for cell in names_in(line.split("|")[1])]
    assert sorted(first) == sorted(CATALOGUE)


def test_every_optimizer_that_the_page_names_exists():
    from ratewise.torch import OPTIMIZERS

    named = re.search(r"for PyTorch also `([\w ]+)`", STRATEGIES_PAGE)
    assert named is not None
    assert set(named[1].split()) <= set(OPTIMIZERS)
    assert set(named[1].split()).isdisjoint(strategy.optimizer for strategy in CATALOGUE.values())
