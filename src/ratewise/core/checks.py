"""What the constructors check: numbers, whole numbers and nesting, with one form of error sentence."""

import math
from typing import Any

from ratewise.errors import ScheduleError

MAX_DEPTH = 64


def number(where: str, name: str, value: Any, requirement: str = "a finite number") -> float:
    """Return ``value`` as a float, or raise a ScheduleError that names it.

    Python numbers and numpy scalars are accepted; bool, complex, text, nan and infinity are not.
    """
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise ScheduleError(f"{where}: {name} must be {requirement}, got {_shown(value)}.")
    try:
        result = float(plain)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ScheduleError(f"{where}: {name} must be {requirement}, got {_shown(value)}.")
    return result


def positive(where: str, name: str, value: Any) -> float:
    """Return ``value`` as a float above zero, or raise a ScheduleError that names it."""
    result = number(where, name, value, "a finite number above 0")
    if result <= 0:
        raise ScheduleError(f"{where}: {name} must be above 0, got {result!r}.")
    return result


def whole(where: str, name: str, value: Any, hint: str = "") -> int:
    """Return ``value`` as an int of at least 1, or raise a ScheduleError that names it."""
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, int) or plain < 1:
        raise ScheduleError(f"{where}: {name} must be an integer of at least 1, got {_shown(value)}.{hint}")
    return plain


def shallow(where: str, depth: int) -> int:
    """Return ``depth``, or raise if schedules are nested deeper than ``MAX_DEPTH``."""
    if depth > MAX_DEPTH:
        raise ScheduleError(f"{where}: schedules may be nested {MAX_DEPTH} deep, got {depth}. Join pieces with >>.")
    return depth


def _plain(value: Any) -> Any:
    """A numpy scalar as the Python number it holds; anything else as it is."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def _shown(value: Any) -> str:
    """``repr``, but never longer than an error line should be, even for integers that Python will not print."""
    try:
        text = repr(value)
    except ValueError:  # an int of more than 4300 digits
        return f"an integer of {value.bit_length()} bits"
    return text if len(text) <= 80 else text[:77] + "..."
