"""What the constructors check: numbers, names and nesting, with one form of error sentence."""

import math
from collections.abc import Iterable
from typing import Any

from ratewise.errors import ScheduleError, nearest

MAX_DEPTH = 64

FAR = 2**53
"""The longest length in updates, and the furthest position that is told apart from infinity."""


def number(where: str, name: str, value: Any, requirement: str = "a finite number") -> float:
    """Return ``value`` as a float, or raise a ScheduleError that names it.

    Python numbers and numpy scalars are accepted; bool, complex, text, nan and infinity are not.
    """
    plain = plain_number(value)
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise ScheduleError(f"{where}: {name} must be {requirement}, got {shown(value)}.")
    try:
        result = float(plain)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ScheduleError(f"{where}: {name} must be {requirement}, got {shown(value)}.")
    return result


def positive(where: str, name: str, value: Any) -> float:
    """Return ``value`` as a float above zero, or raise a ScheduleError that names it."""
    result = number(where, name, value, "a finite number above 0")
    if result <= 0:
        raise ScheduleError(f"{where}: {name} must be above 0, got {result!r}.")
    return result


def whole(where: str, name: str, value: Any, hint: str = "") -> int:
    """Return ``value`` as an int of at least 1, or raise a ScheduleError that names it."""
    plain = plain_number(value)
    if isinstance(plain, bool) or not isinstance(plain, int) or plain < 1:
        raise ScheduleError(f"{where}: {name} must be an integer of at least 1, got {shown(value)}.{hint}")
    if plain > FAR:
        raise ScheduleError(f"{where}: {name} must be at most 2**53, got {shown(value)}.")
    return plain


def choice(where: str, name: str, value: Any, known: Iterable[str]) -> str:
    """Return ``value`` if it is one of the ``known`` names, or raise a ScheduleError that suggests the nearest."""
    known = tuple(known)
    if not isinstance(value, str) or value not in known:
        raise ScheduleError(f"{where}: unknown {name} {shown(value)}.{nearest(value, known)}")
    return value


def items(where: str, name: str, values: Any) -> tuple[Any, ...]:
    """Return ``values`` as a tuple, or raise a ScheduleError if they are not a list of something."""
    try:
        if isinstance(values, (str, bytes, dict)):
            raise TypeError
        return tuple(values)
    except TypeError:
        raise ScheduleError(f"{where}: {name} must be a list, got {shown(values)}.") from None


def shallow(where: str, depth: int) -> int:
    """Return ``depth``, or raise if schedules are nested deeper than ``MAX_DEPTH``."""
    if depth > MAX_DEPTH:
        raise ScheduleError(f"{where}: schedules may be nested {MAX_DEPTH} deep, got {depth}. Join pieces with >>.")
    return depth


def plain_number(value: Any) -> Any:
    """A numpy scalar (or array of no dimension) as the Python number it holds; anything else as it is."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return {"i": int, "u": int, "f": float}.get(value.dtype.kind, lambda value: value)(value)
    return value


def shown(value: Any, most: int = 80) -> str:
    """``repr`` on one line of at most ``most`` characters, even for integers that Python will not print."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an int of more than 4300 digits
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= most else text[: most - 3] + "..."
