"""When each strategy reached the target loss, as plain plot data."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ratewise.report.figures import Result, control, name, part, real, strategies, verdict

WORST = 4.0
"""A strategy that needs this many times the updates of the fastest scores nothing (AlgoPerf's ``r_max``)."""


@dataclass(frozen=True)
class Reached:
    """One strategy's way to the target.

    ``counts`` are pairs of a number of updates and how many fresh seeds were first at the target there; ``seeds`` of
    them ran, ``arrived`` got there; ``median`` is the median number of updates, None if half of the seeds never
    arrived; ``score`` lies between 0 (never within ``WORST`` times the fastest) and 1 (the fastest on every seed).
    """

    name: str
    verdict: str
    counts: tuple[tuple[float, int], ...]
    seeds: int
    arrived: int
    median: float | None
    score: float | None
    control: bool = False


@dataclass(frozen=True)
class Targets:
    """Every strategy's way to the loss ``loss``; ``rule`` says where that loss comes from."""

    loss: float | None
    rule: str
    steps: float
    rows: tuple[Reached, ...]


def targets(result: Result) -> Targets | None:
    """Return when the strategies reached the target, the best score first; None if nothing was measured."""
    found = {name(s): (s, _updates(s)) for s in strategies(result) if _updates(s)}
    if not found:
        return None
    scores = profile({who: updates for who, (_, updates) in found.items()})
    rows = [_reached(strategy, updates, scores.get(who)) for who, (strategy, updates) in found.items()]
    rows.sort(key=lambda row: (-(row.score or 0.0), -row.arrived, row.median or 0.0))
    target = part(result, "target")
    ends = [at for row in rows for at, _ in row.counts]
    steps = real(part(result, "budget").get("steps")) or max(ends, default=1.0)
    return Targets(real(target.get("loss")), str(target.get("rule") or ""), steps, tuple(rows))


def profile(updates: dict[str, Sequence[float | None]]) -> dict[str, float]:
    """Return each strategy's score: the normalised area under its performance profile over the paired seeds.

    A strategy that takes ``r`` times the updates of the fastest on that seed has ``(4 - r) / 3`` of it, 0 from 4 on
    or where it never arrives; the score is the mean over seeds. Empty if the strategies have no seeds in common.

    Example:
        >>> profile({"a": [100, 50], "b": [200, None]})
        {'a': 1.0, 'b': 0.3333333333333333}

    References:
        Dahl et al., 2023, Benchmarking Neural Network Training Algorithms (AlgoPerf; there over workloads, here over
        seeds).
    """
    if len({len(row) for row in updates.values()}) != 1:
        return {}
    fastest = [min((t for t in column if t), default=None) for column in zip(*updates.values(), strict=True)]

    def worth(t: float | None, best: float | None) -> float:
        return max(0.0, (WORST - t / best) / (WORST - 1)) if t and best else 0.0

    return {
        who: sum(worth(t, best) for t, best in zip(row, fastest, strict=True)) / len(row)
        for who, row in updates.items()
    }


def _updates(strategy: Result) -> list[float | None]:
    given = part(strategy, "target").get("updates")
    return [real(t) for t in given] if isinstance(given, Iterable) and not isinstance(given, str) else []


def _reached(strategy: Result, updates: list[float | None], score: float | None) -> Reached:
    arrived = sorted(t for t in updates if t is not None)
    return Reached(
        name(strategy), verdict(strategy), tuple(sorted(Counter(arrived).items())), len(updates), len(arrived),
        real(part(strategy, "target").get("median")), score, control(strategy),
    )  # fmt: skip
