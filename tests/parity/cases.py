"""How a peer's schedule is held against ours: whole curves, well past the end, at many random settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings, strategies as st

DOUBLE, SINGLE = 1e-12, 3e-7  # of the peak: for peers that compute in float64, and in float32

WORST: dict[str, float] = {}
"""The largest difference that a run of the tests has seen, by row, as a part of the peak."""


@dataclass(frozen=True)
class Case:
    """One row of the tables of peers.

    Args:
        peer: Whose schedule it is, as the tables name it, e.g. ``"torch"``.
        row: Its name there, e.g. ``"StepLR"``.
        arguments: Draws settings: a dictionary.
        ours: From the settings to our schedule (the importer under test).
        theirs: From the settings and a number n to the peer's values for updates 0 ... n - 1.
        says: The schedule in our algebra, for the table in the docs, e.g. ``"Exponential(...).stairs(n)"``.
        living: Whether ``theirs`` runs the peer itself; otherwise it is a transcription of its formula.
        length: From the settings to the nominal length; curves are compared to twice that and 20 more.
        tolerance: Largest difference allowed, as a part of the peak.
        note: What a reader should know, e.g. that the peer raises past its end and ours holds.
    """

    peer: str
    row: str
    arguments: st.SearchStrategy[dict[str, Any]]
    ours: Callable[[dict[str, Any]], Any]
    theirs: Callable[[dict[str, Any], int], Sequence[float]]
    says: str = ""
    living: bool = True
    length: Callable[[Mapping[str, Any]], float] = lambda settings: 40
    tolerance: float = DOUBLE
    note: str = ""

    @property
    def name(self) -> str:
        return f"{self.peer} {self.row}"


@dataclass(frozen=True)
class Watched:
    """A schedule with a rule, which sees ``metrics[t]`` after update t: what a rule makes of a whole run."""

    ruled: Any
    metrics: Sequence[float]

    def values(self, start: int, stop: int) -> list[float]:
        state, rates = self.ruled.init(), []
        for t in range(stop):
            rates.append(self.ruled.at(t, self.ruled.factor(state)))
            state = self.ruled.observe(state, self.metrics[t % len(self.metrics)], t + 1)
        return rates[start:]


def curves(case: Case, settings: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Our curve and the peer's; ``theirs`` may stop early where the peer raises: there ours must hold its last."""
    n = 2 * int(case.length(settings)) + 20
    theirs = np.asarray(case.theirs(settings, n), dtype=float)[:n]
    theirs = np.concatenate([theirs, np.full(n - len(theirs), theirs[-1])])
    return np.asarray(case.ours(settings).values(0, n)), theirs


def difference(case: Case, settings: dict[str, Any]) -> float:
    """The largest difference between the curves, as a part of the peak."""
    ours, theirs = curves(case, settings)
    peak = float(np.max(np.abs(theirs)))
    return float(np.max(np.abs(ours - theirs))) / (peak if peak > 1e-290 else 1.0)  # below, floats have fewer digits


def check(case: Case, examples: int = 25) -> None:
    """Compare at ``examples`` random settings, and remember the worst difference."""

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case.arguments)
    def compare(drawn: dict[str, Any]) -> None:
        seen = difference(case, drawn)
        WORST[case.name] = max(seen, WORST.get(case.name, 0.0))
        assert seen <= case.tolerance, (case.name, drawn, seen)

    compare()


def rates(low: float = 1e-4, high: float = 1.0) -> st.SearchStrategy[float]:
    """Learning rates."""
    return st.floats(low, high, allow_subnormal=False)


def lengths(low: int = 1, high: int = 60) -> st.SearchStrategy[int]:
    """Whole numbers of updates."""
    return st.integers(low, high)


def covers(rows: Sequence[str], cases: Sequence[Case], refused: Mapping[str, str]) -> None:
    """Hold that every row is compared, or refused with a reason, and none is both."""
    compared = {case.row.split(" (")[0] for case in cases}
    assert set(rows) == compared | set(refused)
    assert not compared & set(refused)
