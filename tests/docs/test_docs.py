"""The pages in docs/ say what is: their blocks run, and their tables are complete."""

import re
from pathlib import Path

import pytest
from docs.blocks import check

from ratewise.core import ease, recipes, schedule

DOCS = Path(__file__).parents[2] / "docs"
ALGEBRA = (DOCS / "algebra.md").read_text()


BLOCKS = [
    (path.name, code)
    for path in sorted(DOCS.glob("*.md"))
    if path.name != "frameworks.md"  # test_frameworks.py
    for code in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
]


@pytest.mark.parametrize(("page", "code"), BLOCKS)
def test_the_block_runs_and_prints_what_its_comments_say(page: str, code: str) -> None:
    check(code, page)


def test_every_ease_recipe_and_operator_is_on_the_page() -> None:
    table = ALGEBRA[ALGEBRA.index("| ease |") : ALGEBRA.index("Without an end of their own")]
    assert {name.partition("(")[0] for name in re.findall(r"`([^`]+)`", table)} - {
        "Linear",
        "Cosine",
        "Polynomial",
    } == set(ease.EASES)
    listed = ALGEBRA[ALGEBRA.index("| recipe |") : ALGEBRA.index("## What it does not say")]
    assert set(re.findall(r"`(\w+)`", listed)) == set(recipes.RECIPES)
    for operator in ("until", "after", "warmup", "cooldown", "repeat", "stretch", "along", "stairs", "clip"):
        assert f"`a.{operator}(" in ALGEBRA
        assert hasattr(schedule.Schedule, operator)
