"""A comparison as plain plot data: what to draw, not how.

Each function takes the result dict and returns small frozen values that the page, the figures and the tests share.
The one decision behind it: every question about a half-finished or diverged study is answered here, so that whatever
draws sees finite numbers and may be simple.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Result: TypeAlias = Mapping[str, Any]
"""The object that ``ratewise compare --json`` prints, or one entry of its ``strategies``."""

PENDING = "pending"
"""What stands in for the verdict of a strategy that has none yet."""

_REACH = 8  # the forest shows effects up to this many margins; further ones become arrows at its edge


@dataclass(frozen=True)
class Effect:
    """A strategy's paired difference from the reference, with its 95% interval; the control is marked."""

    name: str
    verdict: str
    mean: float
    low: float
    high: float
    control: bool = False


@dataclass(frozen=True)
class Forest:
    """Every strategy's difference from the reference.

    ``unit`` is what the numbers count, ``margin`` the half width of the tie band (None if unknown), ``better`` the
    side on which a strategy beats the reference, ``window`` the part of the axis worth showing, and ``absent`` names
    the strategies that have no difference (they diverged or did not run yet).
    """

    reference: str
    unit: str
    margin: float | None
    better: str
    window: tuple[float, float]
    effects: tuple[Effect, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One strategy's curve over optimizer updates."""

    name: str
    verdict: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """Schedules and training losses over the same updates; schedules as a share of their own highest value."""

    steps: float
    schedules: tuple[Line, ...]
    losses: tuple[Line, ...]


@dataclass(frozen=True)
class Divergence:
    """How many of the runs at a rate diverged."""

    rate: float
    count: int
    runs: int


@dataclass(frozen=True)
class Sweep:
    """One strategy's validation loss over the rates that were tried; ``best`` is the rate that was chosen.

    ``edge`` is -1 if a better rate may lie below those tried, 1 if above, 0 if neither; ``ceiling`` is the
    lowest rate above the chosen one at which a run diverged or ended no better than it began, None if none did.
    """

    name: str
    verdict: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    best: tuple[float, float] | None
    diverged: tuple[Divergence, ...]
    edge: int
    ceiling: float | None = None


@dataclass(frozen=True)
class Fan:
    """Every strategy's sensitivity to the rate."""

    sweeps: tuple[Sweep, ...]


def real(value: Any) -> float | None:
    """Return ``value`` as a float if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def part(result: Result, key: str) -> Result:
    """Return the object under ``key``, empty if it is missing or null."""
    found = result.get(key)
    return found if isinstance(found, Mapping) else {}


def name(strategy: Result) -> str:
    """Return the strategy's name."""
    return str(strategy.get("name") or "unnamed")


def verdict(strategy: Result) -> str:
    """Return the strategy's verdict, ``PENDING`` if it has none yet."""
    return str(strategy.get("verdict") or PENDING)


def control(strategy: Result) -> bool:
    """Return whether the strategy is the calibrated one that every comparison contains."""
    return strategy.get("control") is True


def loss(strategy: Result) -> Result:
    """Return mean, low and high of the test loss."""
    test = part(strategy, "test")
    return test if test.get("metric") == "loss" else part(test, "loss")


def strategies(result: Result) -> list[Result]:
    """Return the strategies as they are shown: recommended, reference, then by ``rank``."""
    found = [s for s in result.get("strategies") or () if isinstance(s, Mapping)]

    def key(strategy: Result) -> tuple[bool, bool, float, float, float]:
        metric = real(part(strategy, "test").get("mean"))
        shown, (share, middle) = name(strategy), rank(strategy)
        first = shown != result.get("recommended"), shown != result.get("reference")
        return *first, share, middle, math.inf if metric is None else -metric

    return sorted(found, key=key)


def rank(strategy: Result) -> tuple[float, float]:
    """Return what strategies are ranked by: the share of fresh runs that diverged, then the median test loss.

    A run that diverged counts as the worst in the median, and a strategy without any test loss is last. Where the
    median is not known the mean stands in for it.
    """
    gone, runs = diverged(strategy)
    mean, middle = real(loss(strategy).get("mean")), real(strategy.get("median"))
    if mean is None:
        return 1.0, math.inf
    return gone / runs if runs else 0.0, middle if middle is not None else math.inf if runs else mean


def diverged(strategy: Result) -> tuple[int, int]:
    """Return how many of the fresh runs diverged, and how many there are; both 0 if that is not known."""
    losses = strategy.get("losses")
    found = losses if isinstance(losses, (list, tuple)) else ()
    return sum(real(loss) is None for loss in found), len(found)


def progress(result: Result) -> tuple[int, int]:
    """Return how many strategies are finished, and how many there are."""
    found = strategies(result)
    return sum(bool(s.get("verdict")) or _tested(s) for s in found), len(found)


def unfinished(result: Result) -> str:
    """Return ``"unfinished: 12 of 13 strategies"``, empty if nothing is missing."""
    done, everything = progress(result)
    if result.get("finished") is True or (done == everything and result.get("finished") is None):
        return ""
    return f"unfinished: {done} of {everything} strategies" if done < everything else "unfinished: runs are missing"


def _tested(strategy: Result) -> bool:
    return any(real(found.get("mean")) is not None for found in (part(strategy, "test"), loss(strategy)))


def decides_on(result: Result) -> str:
    """Return what the verdicts are about: ``"loss"``, or the task's metric."""
    return str(result.get("decides_on") or "loss")


def _scale(result: Result) -> tuple[float, str] | None:
    """What turns a difference into the number shown, and its unit: points for an accuracy, a share for a loss.

    A share of a loss that is not above 0 says nothing, so there the difference is shown as it is.
    """
    if decides_on(result) == "accuracy":
        return 100.0, "percentage points"
    if decides_on(result) != "loss":
        return 1.0, decides_on(result)
    base = _base(result)
    if base is None:
        return None
    return (100.0 / base, "% of the reference's loss") if base > 0 else (1.0, "units of the loss")


def short_unit(result: Result) -> str:
    """Return the unit of a difference as it stands behind a number: ``"%"``, ``" pp"``, or nothing."""
    scale = _scale(result)
    if scale is None:  # a share of a loss, as long as that is not known
        return "%" if decides_on(result) == "loss" else ""
    return "%" if scale[1].startswith("%") else " pp" if scale[1] == "percentage points" else ""


def _base(result: Result) -> float | None:
    """The reference's mean test loss."""
    return next((real(loss(s).get("mean")) for s in strategies(result) if name(s) == result.get("reference")), None)


def margin(result: Result) -> float | None:
    """Return the half width of the tie band in the unit of ``forest``.

    ``budget.delta`` is a share of the reference's loss, or an absolute difference of any other metric.
    """
    scale, delta = _scale(result), real(part(result, "budget").get("delta"))
    if scale is None or delta is None:
        return None
    if decides_on(result) == "loss":
        delta *= abs(_base(result) or 0.0)
    return delta * scale[0]


def effect(result: Result, strategy: Result) -> Effect | None:
    """Return the strategy's difference from the reference in the unit of ``forest``, None if it has none."""
    scale, difference = _scale(result), part(strategy, "difference")
    mean = real(difference.get("mean"))
    if scale is None or mean is None:
        return None
    low, high = (real(difference.get(side)) for side in ("low", "high"))
    low, high = mean if low is None else low, mean if high is None else high
    mean, low, high = (x * scale[0] for x in (mean, low, high))
    return Effect(name(strategy), verdict(strategy), mean, low, high, control(strategy))


def forest(result: Result) -> Forest | None:
    """Return the differences from the reference, smallest loss first; None if nothing was compared."""
    scale = _scale(result)
    others = [s for s in strategies(result) if name(s) != result.get("reference")]
    effects = [e for s in others if (e := effect(result, s))]
    if scale is None or not effects:
        return None
    better = "left" if decides_on(result) == "loss" else "right"
    effects.sort(key=lambda e: e.mean if better == "left" else -e.mean)
    shown = {e.name for e in effects}
    return Forest(
        str(result.get("reference")), scale[1], margin(result), better, _window(effects, margin(result)),
        tuple(effects), tuple(name(s) for s in others if name(s) not in shown),
    )  # fmt: skip


def _window(effects: Iterable[Effect], band: float | None) -> tuple[float, float]:
    """The axis: the band with room around it, and all intervals unless they would make the band too small to see."""
    ends = [x for e in effects for x in (e.low, e.high)]
    if not band:
        low, high = min(0.0, *ends), max(0.0, *ends)
        return (low, high) if low < high else (-1.0, 1.0)
    return max(-_REACH * band, min(-1.6 * band, *ends)), min(_REACH * band, max(1.6 * band, *ends))


def curves(result: Result) -> Curves:
    """Return schedules and training losses; a strategy without them is left out."""
    found = strategies(result)
    schedules = [line for s in found if (line := _line(s, "schedule", "values"))]
    losses = [line for s in found if (line := _line(s, "curve", "loss"))]
    ends = [line.x[-1] for line in (*schedules, *losses)]
    steps = real(part(result, "budget").get("steps")) or max(ends, default=1.0)
    return Curves(steps, tuple(map(_relative, schedules)), tuple(losses))


def _line(strategy: Result, key: str, values: str) -> Line | None:
    """The finite points of a curve, None if there are none."""
    given = part(strategy, key)
    pairs = zip(given.get("updates") or (), given.get(values) or (), strict=False)
    points = [(x, y) for a, b in pairs if (x := real(a)) is not None and (y := real(b)) is not None]
    if not points:
        return None
    return Line(name(strategy), verdict(strategy), tuple(x for x, _ in points), tuple(y for _, y in points))


def _relative(line: Line) -> Line:
    """The line as a share of its own highest value, so that rates of 0.001 and of 0.1 can be laid over each other."""
    peak = max(map(abs, line.y)) or 1.0
    return Line(line.name, line.verdict, line.x, tuple(y / peak for y in line.y))


def fan(result: Result) -> Fan:
    """Return the validation loss over the rates tried.

    Left out are strategies without a tried rate, and those that a race dropped: their runs were shorter.
    """
    return Fan(tuple(sweep for s in strategies(result) if (sweep := _sweep(s))))


def _sweep(strategy: Result) -> Sweep | None:
    tried = [(rate, row) for row in strategy.get("fan") or () if (rate := real(row.get("rate"))) and rate > 0]
    if not tried or verdict(strategy) == "dropped":
        return None
    tried.sort(key=lambda pair: pair[0])
    points = [(rate, y) for rate, row in tried if (y := real(row.get("loss"))) is not None]
    best, ceiling = _best(points, real(strategy.get("peak_lr"))), real(strategy.get("ceiling"))
    middle = math.sqrt(tried[0][0] * tried[-1][0])
    return Sweep(
        name(strategy), verdict(strategy),
        tuple(rate for rate, _ in points), tuple(y for _, y in points), best,
        tuple(found for rate, row in tried if (found := _divergence(rate, row)).count),
        (-1 if best[0] < middle else 1) if best and strategy.get("edge") else 0,
        ceiling if ceiling and ceiling > 0 else None,
    )  # fmt: skip


def _best(points: list[tuple[float, float]], chosen: float | None) -> tuple[float, float] | None:
    """The chosen rate, with the loss of the nearest rate tried; the lowest point if none lies within half an octave."""
    if chosen and points:
        rate, loss = min(points, key=lambda point: abs(math.log(point[0] / chosen)))
        if abs(math.log2(rate / chosen)) < 0.51:
            return chosen, loss
    return min(points, key=lambda point: point[1], default=None)


def _divergence(rate: float, row: Result) -> Divergence:
    """A rate without a loss counts as diverged even if nobody counted."""
    runs = int(real(row.get("n")) or 0)
    count = int(real(row.get("diverged")) or 0)
    return Divergence(rate, count or (max(runs, 1) if real(row.get("loss")) is None else 0), runs)
