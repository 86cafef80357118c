"""Expressions as text: what needs brackets gets them, and what is a number already is computed at once."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CONDITION, COMPARISON, SUM, PRODUCT, POWER, ATOM = range(6)
"""How tightly the outermost operator of an expression binds."""


@dataclass(frozen=True)
class Term:
    """A piece of source text.

    Args:
        text: The expression.
        level: How tightly its outermost operator binds.
        value: The number that it is, if it is one.
    """

    text: str
    level: int = ATOM
    value: int | float | None = None

    def inside(self, level: int) -> str:
        """The text, in brackets where an operator that binds as ``level`` says would tear it apart."""
        return self.text if self.level >= level else f"({self.text})"

    @property
    def factor(self) -> str:
        """The text, fit to be the first factor of a product."""
        return self.text if self.value is not None else self.inside(PRODUCT)


def number(x: int | float) -> Term:
    """A number as it would be written."""
    return Term(repr(x), ATOM if x >= 0 else SUM, x)


def tidy(x: float) -> float:
    """``x`` to 15 digits: what a division by the base rate left in the last one is not shown."""
    return float(f"{x:.15g}")


def add(a: Term, b: Term) -> Term:
    """``a + b``."""
    if a.value is not None and b.value is not None:
        return number(a.value + b.value)
    if a.value == 0:
        return b
    if b.value is not None and b.value <= 0:
        return a if b.value == 0 else Term(f"{a.inside(SUM)} - {number(-b.value).text}", SUM)
    if b.level == PRODUCT and b.text.startswith("-") and not any(x in b.text for x in ("//", "%")):
        return Term(f"{a.inside(SUM)} - {b.text[1:]}", SUM)
    return Term(f"{a.inside(SUM)} + {b.inside(PRODUCT)}", SUM)


def subtract(a: Term, b: Term) -> Term:
    """``a - b``."""
    if b.value is not None:
        return add(a, number(-b.value))
    return Term(f"{a.inside(SUM)} - {b.inside(PRODUCT)}", SUM)


def multiply(a: Term, b: Term) -> Term:
    """``a * b``."""
    if a.value is not None and b.value is not None:
        return number(a.value * b.value)
    for one, other in ((a, b), (b, a)):
        if one.value == 1:
            return other
        if one.value == 0:
            return number(0.0)
    return Term(f"{a.factor} * {b.inside(POWER)}", PRODUCT)


def divide(a: Term, b: Term) -> Term:
    """``a / b``."""
    if a.value is not None and b.value is not None:
        return number(a.value / b.value)
    return a if b.value == 1 else Term(f"{a.factor} / {b.inside(POWER)}", PRODUCT)


def whole_parts(a: Term, b: Term) -> Term:
    """``a // b``."""
    return Term(f"{a.inside(PRODUCT)} // {b.inside(POWER)}", PRODUCT)


def remainder(a: Term, b: Term) -> Term:
    """``a % b``."""
    return Term(f"{a.inside(PRODUCT)} % {b.inside(POWER)}", PRODUCT)


def power(a: Term, b: Term) -> Term:
    """``a ** b``."""
    if a.value is not None and b.value is not None:
        return number(float(a.value**b.value))
    return a if b.value == 1 else Term(f"{a.inside(ATOM)} ** {b.inside(POWER)}", POWER)


def compared(a: Term, operator: str, b: Term) -> Term:
    """A comparison."""
    return Term(f"{a.inside(SUM)} {operator} {b.inside(SUM)}", COMPARISON)


_KNOWN: dict[str, Callable[..., Any]] = {
    **{name: getattr(math, name) for name in ("sqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "floor")},
    "abs": abs,
    "min": min,
    "max": max,
}


def computed(name: str, terms: tuple[Term, ...]) -> Term | None:
    """The value of a function of numbers."""
    values = [term.value for term in terms]
    return None if None in values else number(_KNOWN[name](*values))
