"""Restarts: where each cycle begins when every cycle lasts ``stretch`` times as long as the one before."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from ratewise.core.checks import FAR
from ratewise.core.rounding import tidy
from ratewise.errors import ScheduleError

MOST = 10_000
"""Cycles of different length; more would only be a slow table."""

_UNIT = 2**256
"""Joints are summed in this many parts of an update: exact fractions would need a digit more for every cycle."""


@dataclass(frozen=True)
class Cycles:
    """``times`` cycles (None: for ever), the first ``size`` updates long.

    Args:
        size: Length of the first cycle.
        times: How many.
        joints: Where the second, third, ... cycle starts; empty if all are of one length.
        scales: How much longer each cycle is than the first; empty if all are of one length.
        steps: Length of all together, None if endless.
    """

    size: int | float
    times: int | None
    joints: tuple[int | float, ...] = ()
    scales: tuple[float, ...] = ()
    steps: int | float | None = None

    @classmethod
    def of(cls, size: int | float, times: int | None, stretch: float) -> "Cycles":
        """Lay the cycles out; ``stretch`` counts as the decimal that was written.

        Raises:
            ScheduleError: A cycle would last less than one update, or there are too many.
        """
        if stretch == 1:
            return cls(size, times, steps=None if times is None else size * times)
        if (times or 0) > MOST:
            raise ScheduleError(f"repeat: at most {MOST} cycles of different length, got times={times}.")
        factor = Fraction(str(stretch))
        first = span = joint = int(Fraction(size) * _UNIT)
        joints: list[int | float] = []
        scales = [1.0]
        while len(scales) != times and joint < FAR * _UNIT:
            if len(scales) == MOST:
                raise ScheduleError(f"repeat: stretch={stretch!r} makes more than {MOST} cycles; give times.")
            span = span * factor.numerator // factor.denominator
            if span < _UNIT:
                raise ScheduleError(f"repeat: cycle {len(scales)} would last less than one update; use fewer times.")
            joints.append(_updates(joint))
            scales.append(span / first)
            joint += span
        return cls(size, times, tuple(joints), tuple(scales), None if times is None else _updates(joint))

    def split(self, t: Any, xp: Any) -> tuple[Any, Any]:
        """Return the cycle that ``t`` lies in, and the position inside it at the pace of the first cycle."""
        if not self.scales:
            cycle = self._count(t, xp)
            cycle = cycle if self.times is None else xp.minimum(cycle, self.times - 1)
            return cycle, t - cycle * self.size
        whole, rest = self._starts
        local = t - xp.lookup(t, self.joints, whole)  # as integers, of which float32 holds few
        if any(rest):
            local = xp.real(local) - xp.lookup(t, self.joints, rest)
        cycle = xp.lookup(t, self.joints, tuple(range(len(self.scales))))
        return cycle, local / xp.lookup(t, self.joints, self.scales)

    @cached_property
    def written(self) -> tuple[int, int] | None:
        """A length such as 1.1, between updates, as the short fraction that was written; None for others."""
        exact = Fraction(str(self.size))
        return None if exact.denominator == 1 or exact.denominator > 10**6 else exact.as_integer_ratio()

    def _count(self, t: Any, xp: Any) -> Any:
        """How many cycles of equal length are over."""
        if self.written is None or not xp.double:
            return xp.floor_divide(t, self.size)
        up, down = self.written
        return xp.floor_divide(t * down, up)

    @cached_property
    def _starts(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Where the cycles start, split into whole updates and parts of one."""
        starts = (0, *self.joints)
        return tuple(map(math.floor, starts)), tuple(start - math.floor(start) for start in starts)


def _updates(parts: int) -> int | float:
    """A sum of parts as updates; what differs from a whole number by rounding alone is whole."""
    nearest = (parts + _UNIT // 2) // _UNIT
    return nearest if abs(parts - nearest * _UNIT) < 2**128 else tidy(Fraction(parts, _UNIT))
