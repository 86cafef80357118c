"""Axes: from values to a share of the axis, and the round numbers to write on it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """An axis from ``low`` to ``high``, linear or logarithmic.

    Example:
        >>> Scale(0.0, 300.0)(75)
        0.25
        >>> Scale(0.001, 10.0, log=True)(0.1)
        0.5
    """

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Iterable[float], log: bool = False, pad: float = 0.04) -> "Scale":
        """Return an axis that shows all ``values`` with a little room; without values it is 0 to 1, or 1 to 10."""
        found = [v for v in values if v > 0] if log else list(values)
        if not found:
            return cls(1.0, 10.0, True) if log else cls(0.0, 1.0)
        low, high = (math.log(min(found)), math.log(max(found))) if log else (min(found), max(found))
        room = pad * (high - low) or pad * abs(high) or pad
        low, high = low - room, high + room
        return cls(math.exp(low), math.exp(high), True) if log else cls(low, high)

    def __call__(self, value: float) -> float:
        """Return where ``value`` lies: 0 at ``low``, 1 at ``high``, beyond them outside."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        value = max(value, self.low * 1e-3)  # zero and below have no logarithm: far outside is all that matters
        return math.log(value / self.low) / math.log(self.high / self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Return at most ``most`` round values within the axis."""
        found = _powers(self.low, self.high, most) if self.log else []
        return found if len(found) > 1 else _round_steps(self.low, self.high, most)


def _round_steps(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    for step in (unit, 2 * unit, 5 * unit, 10 * unit):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [float(f"{i * step:.12g}") for i in range(first, last + 1)]
    return []


def _powers(low: float, high: float, most: int) -> list[float]:
    """As many round values per decade as there is room for; then decades; then every second or third decade."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [float(f"{d}e{e}") if isinstance(d, int) else d * 10.0**e for e in decades for d in digits]
        found = [x for x in found if low <= x <= high]
        if len(found) <= most:
            return found
    every = math.ceil(len(found) / most)
    return found[::every]
