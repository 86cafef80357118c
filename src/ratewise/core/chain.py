"""Long chains of ramps as one table: each position gathers the numbers of its own piece.

Traced frameworks evaluate every branch of a ``where``, so a chain of n pieces would cost n times one piece, and as
much again to compile. Gathered, ten thousand ramps cost what one costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ratewise.core.ease import Weight

SHORTEST = 8
"""Chains of fewer pieces are left to ``where``: tables would not pay."""


class Row(NamedTuple):
    """One ramp as numbers: see ``Ramp.at``. Without ``weight`` it holds ``high``."""

    d: int
    top: int | float
    m: int | float
    low: float
    rise: float
    high: float
    falling: bool
    weight: Weight | None
    constants: tuple[float, ...]
    full: bool = True  # whether the weight of all m updates comes to 1 exactly, and not nearly

    @classmethod
    def held(cls, value: float) -> "Row":
        """The same value at every position."""
        return cls(0, 0, 0, value, 0.0, value, False, None, ())


@dataclass(frozen=True)
class Table:
    """Ramps one after the other.

    Args:
        starts: Where each begins.
        rows: What each is.
    """

    starts: tuple[int | float, ...]
    rows: tuple[Row, ...]

    @property
    def whole(self) -> bool:
        """Whether all positions in it are integers, so that they can be subtracted before they become floats."""
        return all(isinstance(x, int) for row in self.rows for x in (row.top, row.m)) and all(
            isinstance(start, int) for start in self.starts
        )

    def at(self, t: Any, xp: Any) -> Any:
        """Return the value at ``t``, for every library but plain numbers."""
        i = xp.index(t, self.starts[1:])

        def column(values: Sequence[Any]) -> Any:
            return xp.take(values, i)

        local = t - column(self.starts)
        top, m, d = (column([getattr(row, name) for row in self.rows]) for name in ("top", "m", "d"))
        j = xp.minimum(xp.maximum(local, 0), top) + d
        falling = column([int(row.falling) for row in self.rows]) > 0
        k, q = xp.where(falling, m - j, j), xp.where(falling, j, m - j)
        low, rise, high = (column([getattr(row, name) for row in self.rows]) for name in ("low", "rise", "high"))
        value = xp.minimum(low + rise * self._weights(k, q, column, xp), high)
        full = xp.double and all(row.full for row in self.rows)
        return value if full else xp.where(k < m, value, high)

    def _weights(self, k: Any, q: Any, column: Any, xp: Any) -> Any:
        """The weight of each position by its own ramp's function; a ramp without one has rise 0."""
        weights = list(dict.fromkeys(row.weight for row in self.rows if row.weight is not None))
        result = xp.real(k)
        which = column([weights.index(row.weight) if row.weight else -1 for row in self.rows])
        for number, weight in enumerate(weights):
            anyone = next(row.constants for row in self.rows if row.weight is weight)
            own = [row.constants if row.weight is weight else anyone for row in self.rows]
            constants = tuple(map(column, zip(*own, strict=True)))
            result = xp.where(which == number, weight(k, q, constants, xp), result)
        return result
