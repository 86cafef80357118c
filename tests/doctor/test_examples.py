"""Every row of the table of defects: an example that it finds, and a near miss that it lets pass."""

import re
from inspect import signature

import pytest
from doctor.examples import EXAMPLES, Example

from ratewise.core.parse import FUNCTIONS
from ratewise.doctor import Finding, examine_file
from ratewise.doctor.defects import DEFECTS, Defect

OBJECTS = {"T26", "T29", "T30", "K10"}  # seen in the state of living objects alone: test_objects.py
IN_GROUPS = "groups with the rates"


def findings(text: str, example: Example, folder) -> list[Finding]:  # type: ignore[no-untyped-def]
    path = folder / example.file
    path.write_text(text)
    return [f for f in examine_file(path) if f.code == example.code and example.says in f.what]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.code}-{e.says}")
def test_the_example_is_found_and_the_near_miss_is_not(example: Example, tmp_path) -> None:  # type: ignore[no-untyped-def]
    found = findings(example.bad, example, tmp_path)
    assert len(found) == 1
    assert found[0].where.startswith(example.file)
    assert all((found[0].what, found[0].why, found[0].instead))
    assert findings(example.good, example, tmp_path) == []


def says(defect: Defect, example: Example) -> bool:
    """Whether an example is of this row."""
    pattern = re.sub(r"\\{.*?\\}", ".*", re.escape(defect.what))
    return defect.id == example.code and any(
        re.fullmatch(pattern, f.what) for f in FOUND[example] if f.code == example.code and example.says in f.what
    )


def test_what_is_recommended_can_be_called() -> None:
    for row in DEFECTS:
        for name, given in re.findall(r"(?<![\w.])(\w+)\(([^()]*)", row.instead):
            if name in FUNCTIONS:
                takes = signature(FUNCTIONS[name]).parameters
                assert set(re.findall(r"(\w+)=", given)) <= set(takes), row


FOUND: dict[Example, list[Finding]] = {}


def test_every_row_has_an_example(tmp_path) -> None:  # type: ignore[no-untyped-def]
    FOUND.update({example: findings(example.bad, example, tmp_path) for example in EXAMPLES})
    rows = [row for row in DEFECTS if row.id not in OBJECTS and not row.what.startswith(IN_GROUPS)]
    assert [row for row in rows if not any(says(row, example) for example in EXAMPLES)] == []
