"""``docs/parity.md`` shows the cases as they are now; only its numbers are those of the day it was made."""

from parity import page

SHOWN = page.PAGE.read_text()
NUMBERS = page.numbers(SHOWN)
CASES = [(name, case) for name, module in page.modules().items() for case in module.CASES]


def test_the_page_is_made_from_the_cases_of_today() -> None:
    """If it is not: ``make parity`` makes it again."""
    again = page.text(lambda name, case: NUMBERS.get((name, case.row), "not measured"), page.versions(SHOWN))
    assert again.splitlines() == SHOWN.splitlines()


def test_every_row_was_measured_within_what_is_allowed() -> None:
    assert [case.name for name, case in CASES if not 0 <= float(NUMBERS[name, case.row]) <= case.tolerance] == []


def test_rows_have_names_of_their_own_and_say_what_they_are() -> None:
    names = [(name, case.row) for name, case in CASES]
    assert len(set(names)) == len(names)
    assert [case.name for _, case in CASES if not case.says] == []


def test_a_larger_allowance_has_a_reason() -> None:
    assert [case.name for _, case in CASES if not page.allowed(case)] == []


def test_a_row_that_changed_is_noticed() -> None:
    stale = SHOWN.replace("itself", "formula", 1)
    assert page.numbers(stale) == NUMBERS
    again = page.text(lambda name, case: NUMBERS.get((name, case.row), ""), page.versions(SHOWN))
    assert again != stale
