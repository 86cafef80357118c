"""A schedule as one run uses it: its length settled, its joints known, its values looked at.

Every value is looked at in runs of up to ``ALL`` updates. Longer ones are looked at every so many updates, and at
each joint and the updates beside it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from ratewise.core.horizon import Horizon
from ratewise.core.schedule import (
    After,
    Clip,
    Product,
    Ramp,
    Repeat,
    Schedule,
    Sequence,
    Stairs,
    Stretch,
    Sum,
    Until,
)
from ratewise.core.shapes import Piecewise
from ratewise.errors import ScheduleError

ALL = 20_000
MOST_JOINTS = 1_000
_ASSUMED = (10_000, 1_000_000, 100_000_000)


@dataclass(frozen=True)
class Run:
    """A schedule over a run.

    Args:
        given: The schedule as it was given.
        horizon: The run.
        schedule: The schedule with its lengths settled; None if it does not fit the run and has no length of its own.
        error: Why it does not fit, if it does not.
        assumed: Whether the length of the run is a guess.
    """

    given: Schedule
    horizon: Horizon
    schedule: Schedule | None
    error: str = ""
    assumed: bool = False

    @classmethod
    def of(cls, schedule: Schedule, horizon: Horizon | int | None) -> "Run":
        """Settle ``schedule``; without a horizon the run is as long as the schedule.

        Raises:
            ScheduleError: The horizon lacks a unit that the schedule speaks in.
        """
        if horizon is not None:
            return cls._over(schedule, Horizon.of(horizon))
        if not any(schedule._missing()):
            return cls(schedule, Horizon(total_steps=math.ceil(schedule.steps or _ASSUMED[0])), schedule)
        for total in _ASSUMED:
            run = cls._over(schedule, Horizon(total_steps=total), assumed=True)
            if not run.error:
                break
        return run

    @classmethod
    def _over(cls, schedule: Schedule, horizon: Horizon, assumed: bool = False) -> "Run":
        try:
            return cls(schedule, horizon, schedule.over(horizon), assumed=assumed)
        except ScheduleError as error:
            if str(error).startswith("Horizon"):  # a unit is missing: nothing can be said
                raise
            own = None if any(schedule._missing()) else schedule
            return cls(schedule, horizon, own, str(error).partition(": ")[2], assumed)

    @property
    def total(self) -> int:
        """Updates of the run."""
        return self.horizon.total_steps

    @property
    def parts(self) -> tuple[Schedule, ...]:
        """The pieces of the schedule as it was given."""
        return self.given.pieces if isinstance(self.given, Sequence) else (self.given,)

    @cached_property
    def warmup(self) -> int | float:
        """Length of the rising ramp that the schedule begins with and something follows; 0 if there is none."""
        first = self.parts[0]
        if len(self.parts) < 2 or not isinstance(first, Ramp) or first.end <= first.start or first.steps is None:
            return 0
        return self.horizon.whole(first.steps)

    @cached_property
    def joints(self) -> tuple[tuple[float, str], ...]:
        """Where pieces meet inside the run, and what meets there: ``joint``, ``step`` or ``restart``."""
        if self.schedule is None:
            return ()
        inside = (joint for joint in joints(self.schedule) if 0 < joint[0] < self.total)
        return tuple(sorted(set(islice(inside, MOST_JOINTS))))

    @cached_property
    def positions(self) -> list[int]:
        """The updates that are looked at."""
        if self.total <= ALL:
            return list(range(self.total))
        spread = {i * (self.total - 1) // (ALL // 2) for i in range(ALL // 2 + 1)}
        beside = {math.ceil(joint) + i for joint, _ in self.joints for i in (-2, -1, 0, 1)}
        ends = {0, 1, 2, self.total - 3, self.total - 2}
        return sorted(t for t in spread | beside | ends if 0 <= t < self.total)

    @cached_property
    def values(self) -> list[float]:
        """The rates of those updates."""
        return [self.schedule(t) for t in self.positions] if self.schedule else []

    @cached_property
    def peak(self) -> float:
        """The highest rate that an update uses."""
        return max(self.values)

    @property
    def cycles(self) -> bool:
        """Whether it is declared to start again."""
        return any(isinstance(node, Repeat) for node in nodes(self.given))


def children(schedule: Schedule) -> tuple[Schedule, ...]:
    """The schedules that ``schedule`` is made of."""
    if isinstance(schedule, Sequence):
        return schedule.pieces
    if isinstance(schedule, (Product, Sum)):
        return schedule.terms
    inside = (getattr(schedule, name, None) for name in ("base", "clock"))
    return tuple(child for child in inside if isinstance(child, Schedule))


def nodes(schedule: Schedule) -> Iterator[Schedule]:
    """The schedule and all that it is made of."""
    yield schedule
    for child in children(schedule):
        yield from nodes(child)


def joints(schedule: Schedule) -> Iterator[tuple[float, str]]:
    """Where a settled schedule changes its formula: position and kind; endless ones for ever."""
    if isinstance(schedule, Sequence):
        for piece, start in zip(schedule.pieces, schedule._starts, strict=True):
            if start:
                yield start, "joint"
            inner = (j for j in joints(piece) if piece.steps is None or j[0] < piece.steps)
            yield from ((start + t, kind) for t, kind in islice(inner, MOST_JOINTS))
    elif isinstance(schedule, Repeat):
        yield from _restarts(schedule)
    elif isinstance(schedule, Piecewise):
        yield from ((m, "step") for m in schedule.milestones if isinstance(m, (int, float)))
    elif isinstance(schedule, Stairs) and isinstance(schedule.every, (int, float)):
        yield from ((i * schedule.every, "step") for i in range(1, MOST_JOINTS))
    elif isinstance(schedule, (Stretch, After)):
        factor = schedule.factor if isinstance(schedule, Stretch) else 1
        skip: Any = schedule.skip if isinstance(schedule, After) else 0  # settled: a plain number
        yield from ((t * factor - skip, kind) for t, kind in joints(schedule.base))
    elif isinstance(schedule, (Until, Clip, Product, Sum)):
        for child in children(schedule):
            yield from islice(joints(child), MOST_JOINTS)


def _restarts(schedule: Repeat) -> Iterator[tuple[float, str]]:
    """The joints of the first cycle, then where each further cycle starts."""
    yield from islice(joints(schedule.base), MOST_JOINTS)
    cycles = schedule._cycles
    starts = cycles.joints or (i * cycles.size for i in range(1, min(schedule.times or MOST_JOINTS, MOST_JOINTS)))
    yield from ((start, "restart") for start in islice(starts, MOST_JOINTS))
