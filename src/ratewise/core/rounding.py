"""Whole updates from exact lengths: the only place where a length is rounded.

Joints are rounded, half up and counted from the start, never the lengths between them: so the pieces of a run always
add up to the run, and no error grows with their number.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

# A length inside the algebra is an int or float, a Fraction as long as it still has to be rounded, or None if it is
# open: it takes what the run has left.
Exact: TypeAlias = int | float | Fraction | None


def half_up(x: Fraction) -> int:
    """Round to the nearest integer, halves up."""
    return math.floor(x + Fraction(1, 2))


def tidy(n: float | Fraction) -> int | float:
    """A length that came out whole as an int, else as a float."""
    return int(n) if n == int(n) else float(n)


def rounded(exact: Exact) -> int | float | None:
    """A typed length in whole updates, at least one; numbers and None as they are."""
    return max(1, half_up(exact)) if isinstance(exact, Fraction) else exact


def joint(end: Fraction, run: Fraction) -> Fraction:
    """``end`` rounded half up; where the run itself ends between two updates, no joint lies past that."""
    near = Fraction(half_up(end))
    if run.denominator > 1 and (abs(end - run) * 2**52 <= run or end < run < near):
        return run
    return near


def shares(lengths: Sequence[Exact], n: int | float) -> list[int | float]:
    """Return the length of each piece in a run of ``n`` updates.

    Plain lengths stay as they are, a Fraction is rounded at its joint and has at least one update, None (at most one)
    takes what is left.

    Example:
        >>> shares([Fraction(5, 2), Fraction(5, 2), None, Fraction(5, 2)], 20)
        [3, 2, 13, 2]
    """
    run = Fraction(n)
    rest = run - sum(Fraction(x) for x in lengths if x is not None)
    end, last = Fraction(0), Fraction(0)  # where a piece ends, before and after rounding
    sizes: list[Fraction] = []
    for x in lengths:
        end += rest if x is None else Fraction(x)
        size = Fraction(x) if isinstance(x, (int, float)) else joint(end, run) - last
        sizes.append(max(size, Fraction(1)) if isinstance(x, Fraction) else size)
        last += sizes[-1]
    if None in lengths:
        sizes[lengths.index(None)] += run - last
    return [x if isinstance(x, (int, float)) else tidy(size) for x, size in zip(lengths, sizes, strict=True)]
