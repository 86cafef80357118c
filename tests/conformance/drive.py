"""Running the suite on our own adapters: what one of them does not offer must be declared, with the reason."""

import pytest

from ratewise.testing import NotOffered, adapter_checks, examples

CHECKS = adapter_checks()

FEW = {name: lr for name, lr in examples().items() if not name.startswith(("recipe", "ease", "ends"))}
"""One schedule of every class, and the unusual ones: for variants of a form that has followed them all."""


def cases(harnesses, variants):
    """Every harness with every check; variants with fewer schedules."""
    full = [(harness, check, name) for name, harness in harnesses.items() for check in CHECKS]
    few = [(harness, check, name) for name, harness in variants.items() for check in adapter_checks(FEW)]
    return pytest.mark.parametrize(
        ("harness", "check"), [pytest.param(h, c, id=f"{name}: {c}") for h, c, name in full + few]
    )


def hold(harness, check):
    try:
        check(harness)
    except NotOffered as error:
        assert harness.lacks.get(check.name) == str(error)
