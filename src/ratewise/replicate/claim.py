"""A claim, what must be seen for it to hold, and what was seen.

Each gate is seen, not seen, or left open by the seeds; and so a claim *holds*, *does not hold here* (one gate is
against it), or is *unresolved*.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from ratewise.lab import stats

if TYPE_CHECKING:
    from ratewise.replicate.bench import Bench

HOLDS, FAILS, OPEN = "holds", "does not hold here", "unresolved"
DELTA = 0.05
"""Smallest difference of a loss worth having, as a part of it: the lab's default."""


@dataclass(frozen=True)
class Gate:
    """One thing that must be seen.

    Args:
        what: The sentence.
        measured: What was seen.
        seen: Whether it was; None if the seeds cannot tell.
        band: For a comparison: below which part of the loss a difference counts as a tie.
    """

    what: str
    measured: str
    seen: bool | None
    band: float | None = None


@dataclass(frozen=True)
class Figure:
    """Lines to draw.

    Args:
        x: Title of the axis across.
        y: Title of the axis upwards.
        lines: For each name the values across and upwards; a value upwards that is not finite leaves a gap.
        log: Which axes are logarithmic: ``""``, ``"x"``, ``"y"`` or ``"xy"``.
    """

    x: str
    y: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    log: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values, points that are not finite left out, numbers to five digits."""
        kept = {
            name: [[_short(a), _short(b)] for a, b in zip(*pair, strict=True) if math.isfinite(a) and math.isfinite(b)]
            for name, pair in self.lines.items()
        }
        return {"x": self.x, "y": self.y, "log": self.log, "lines": kept}


@dataclass(frozen=True)
class Evidence:
    """What was measured for a claim.

    Args:
        gates: All must be seen for the claim to hold.
        header: Titles of the table's columns.
        rows: Its cells.
        figure: What is drawn.
        note: What else a reader should know.
    """

    gates: Sequence[Gate]
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    figure: Figure | None = None
    note: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim that people repeat.

    Args:
        name: By which the command line knows it.
        sentence: What is said.
        source: Who says it.
        setting: Where it is measured, and what was chosen.
        measure: Measures it.
        quick: Whether it can be told at small sizes: whether ``--quick`` measures it.
    """

    name: str
    sentence: str
    source: str
    setting: str
    measure: "Callable[[Bench], Evidence]" = field(repr=False)
    quick: bool = False


CLAIMS: dict[str, Claim] = {}
"""Every claim by name; the modules of this package add theirs."""


def claim(
    name: str, sentence: str, *, source: str, setting: str, quick: bool = False
) -> "Callable[[Callable[[Bench], Evidence]], Callable[[Bench], Evidence]]":
    """Make a function that measures a claim known under a name."""

    def known(measure: "Callable[[Bench], Evidence]") -> "Callable[[Bench], Evidence]":
        CLAIMS[name] = Claim(name, sentence, source, setting, measure, quick)
        return measure

    return known


def verdict(gates: Sequence[Gate]) -> str:
    """Return what the gates say together.

    Example:
        >>> verdict([Gate("a", "", True), Gate("b", "", None)])
        'unresolved'
        >>> verdict([Gate("a", "", False), Gate("b", "", None)])
        'does not hold here'
    >>> verdict([])
    'unresolved'
    """
    if any(gate.seen is False for gate in gates):
        return FAILS
    return HOLDS if gates and all(gate.seen for gate in gates) else OPEN


def lies(
    what: str, value: float, low: float = -math.inf, high: float = math.inf, *,
    limits: tuple[float, float] | None = None,
) -> Gate:  # fmt: skip
    """A gate on a number: seen if it lies between low and high.

    Args:
        what: The sentence.
        value: The number.
        low: From here,
        high: to here.
        limits: The number's 95% interval, if it is not exact: all of it must lie inside to be seen, and all of it
            outside to be not seen.

    Example:
        >>> lies("about 1", 1.01, 0.95, 1.1).seen, lies("about 1", 1.01, 0.95, 1.1, limits=(0.9, 1.1)).seen
        (True, None)
    """
    if limits is None:
        return Gate(what, number(value), bool(low <= value <= high))
    measured = f"{number(value)} ({number(limits[0])} to {number(limits[1])})"
    if not all(map(math.isfinite, (value, *limits))):
        return Gate(what, measured, None)
    inside, outside = low <= limits[0] and limits[1] <= high, limits[1] < low or limits[0] > high
    return Gate(what, measured, True if inside else False if outside else None)


def lower(
    losses: Mapping[str, ArrayLike],
    than: ArrayLike,
    other: str,
    *,
    where: str = "",
    delta: float = DELTA,
    of: str = "seeds",
    measure: str = "loss",
) -> list[Gate]:
    """Gates on paired losses: each must be lower than another's, by the lab's own verdict, corrected for their number.

    Args:
        losses: For each name its loss on every seed.
        than: The loss of the other on the same seeds.
        other: The other's name.
        where: In which setting.
        delta: Below which part of the other's loss a difference counts as a tie, and so as not seen.
        of: What the pairs are.
        measure: What is compared.

    Example:
        >>> good, bad = [1.0, 1.1, 0.9, 1.0, 1.2, 1.0], [1.5, 1.7, 1.4, 1.6, 1.8, 1.5]
        >>> lower({"a": good}, bad, "b")[0].measured
        '-35% (-38% to -31%), p = 0.031, lower on 6 of 6 seeds: better'
    """
    return _compared(
        f"has a lower {measure} than", {"better": True, "unresolved": None}, losses, than, other, where, delta, of
    )


def not_higher(
    losses: Mapping[str, ArrayLike],
    than: ArrayLike,
    other: str,
    *,
    where: str = "",
    delta: float = DELTA,
    of: str = "seeds",
) -> list[Gate]:
    """Like ``lower``, but a tie is enough."""
    seen = {"better": True, "tie": True, "unresolved": None}
    return _compared("has no higher loss than", seen, losses, than, other, where, delta, of)


def higher(
    losses: Mapping[str, ArrayLike],
    than: ArrayLike,
    other: str,
    *,
    where: str = "",
    delta: float = DELTA,
    of: str = "seeds",
) -> list[Gate]:
    """Like ``lower``, the other way round."""
    return _compared(
        "has a higher loss than", {"worse": True, "unresolved": None}, losses, than, other, where, delta, of
    )


def _compared(
    wanted: str, seen: Mapping[str, bool | None], losses: Mapping[str, ArrayLike], than: ArrayLike, other: str,
    where: str, delta: float, of: str,
) -> list[Gate]:  # fmt: skip
    reference = np.asarray(than, dtype=float)
    scale = float(reference.mean())
    found = stats.compared(
        reference.tolist(), [np.asarray(x, dtype=float).tolist() for x in losses.values()], delta * scale
    )
    return [
        Gate(
            f"{name} {wanted} {other}{f' on {where}' if where else ''}",
            f"{_percent(d.mean / scale)} ({_percent(d.low / scale)} to {_percent(d.high / scale)}), "
            f"p = {d.adjusted:.2g}, "
            f"lower on {round(d.wins * len(reference))} of {len(reference)} {of}: {d.verdict}"
            f"{_small(d, delta, len(reference), of)}",
            seen.get(d.verdict, False),
            delta,
        )
        for name, d in zip(losses, found, strict=True)
    ]


def _small(d: stats.Difference, delta: float, count: int, of: str) -> str:
    """What a tie hides: a difference that is there, but small."""
    if d.verdict != "tie" or d.adjusted > stats.ALPHA:
        return ""
    worse, most = d.wins < 0.5, max(d.wins, 1 - d.wins)
    where = "all" if most == 1 else f"{round(most * count)} of {count}"
    return f" ({'higher' if worse else 'lower'} by less than {number(100 * delta)}%, but on {where} {of})"


def _percent(x: float) -> str:
    return f"{x:+.0%}" if abs(x) >= 0.1 else f"{x:+.1%}" if abs(x) >= 0.01 else f"{x:+.2%}"


def share(what: str, hits: int, of: int, above: float = 0.5) -> Gate:
    """A gate on a share of runs: seen if it is above a bound, by the exact (Clopper and Pearson's) 95% interval.

    Example:
        >>> share("most diverge", 10, 10)
        Gate(what='most diverge', measured='10 of 10', seen=True, band=None)
        >>> share("most diverge", 4, 6).seen is None
        True
    """
    interval = binomtest(hits, of).proportion_ci()
    return Gate(what, f"{hits} of {of}", True if interval.low > above else False if interval.high < above else None)


def estimated(
    what: str, statistic: Callable[[NDArray[np.int64]], float], count: int, low: float = -math.inf,
    high: float = math.inf, times: int = 1000,
) -> Gate:  # fmt: skip
    """Like ``lies``, for a statistic of paired seeds, with its bootstrap interval.

    Args:
        what: The sentence.
        statistic: Takes the numbers of the seeds that are in a sample, with repeats.
        count: How many seeds there are.
        low: From here,
        high: to here.
        times: Samples.

    Example:
        >>> values = np.array([1.0, 1.1, 0.9, 1.0])
        >>> estimated("about 1", lambda of: float(values[of].mean()), 4, 0.9, 1.1).measured
        '1 (0.925 to 1.08)'
    """
    limits = resampled(statistic, count, times)
    return lies(what, statistic(np.arange(count)), low, high, limits=limits)


def resampled(statistic: Callable[[NDArray[np.int64]], float], count: int, times: int = 1000) -> tuple[float, float]:
    """Return the 95% bootstrap interval (percentiles) of a statistic, as for ``estimated``."""
    rng = np.random.default_rng(0)
    values = [statistic(rng.integers(0, count, count)) for _ in range(times)]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def number(x: float) -> str:
    """Three digits, as a person writes them.

    Example:
        >>> number(0.00012345), number(1234.5), number(float("inf"))
        ('0.000123', '1234', '∞')
    """
    if not math.isfinite(x):
        return "–" if math.isnan(x) else "∞" if x > 0 else "-∞"
    return f"{x:.0f}" if 1000 <= abs(x) < 1e6 else f"{x:.3g}"


def mean(values: ArrayLike) -> str:
    """The mean of the values and half its 95% interval, for a table.

    Example:
        >>> mean([1.0, 1.1, 0.9, 1.0])
        '1 ± 0.13'
    """
    found = stats.interval(np.asarray(values, dtype=float).tolist())
    if found.mean is None or found.high is None or not math.isfinite(found.mean):
        return number(math.inf if found.mean is None else found.mean)
    return f"{found.mean:.3g} ± {found.high - found.mean:.2g}"


def _short(x: float) -> float:
    return float(f"{x:.5g}")


def as_dict(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """The gates as plain JSON values."""
    return [asdict(gate) for gate in gates]
