"""Running the suite on our own adapters: what one of them does not offer must be declared, with the reason."""

import pytest

from ratewise.testing import NotOffered, adapter_checks, examples

FEW = {name: examples()[name] for name in ("recipe one_cycle", "Repeat", "with a joint between updates")}
"""For variants of a form that has followed every schedule."""


CLASSES = {name: lr for name, lr in examples().items() if not name.startswith(("recipe", "ease", "ends"))}
"""For frameworks that compile for every schedule; recipes, all made of these, are tried in the adapter's own tests."""


def cases(harnesses, variants, schedules=None):
    """Every harness with every check; variants with few schedules, or with the checks that they are there for."""
    full = [(name, harness, check) for name, harness in harnesses.items() for check in adapter_checks(schedules)]
    few = [
        (name, harness, check)
        for name, (harness, about) in variants.items()
        for check in adapter_checks(FEW)
        if not about or check.name in about
    ]
    return pytest.mark.parametrize(
        ("harness", "check"), [pytest.param(h, c, id=f"{name}: {c}") for name, h, c in full + few]
    )


def hold(harness, check):
    missing = ""
    try:
        check(harness)
    except NotOffered as error:
        missing = str(error)
    assert missing == getattr(harness, "lacks", {}).get(check.name, "")
