"""The paired probe: every candidate rate runs a complete, compressed copy of the schedule that will be used.

All candidates begin at the same state, see the same batches, and are scored on the same held-out batches, so that
their differences are those of the rate. A range test sees one update per rate and neither schedule nor horizon.
Nothing here knows a framework: a function trains candidates and returns their scores.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pvariance, variance
from typing import Any, TypeAlias

from ratewise.core.horizon import Horizon
from ratewise.core.ruled import Ruled, unruled
from ratewise.core.schedule import Schedule
from ratewise.errors import FinderError

Scores: TypeAlias = Callable[[Sequence[Sequence[float]], int], Sequence[float]]
"""``scores(rows, seed)``: train one candidate per row of absolute rates, each from the state that was found and on the
same batches, which ``seed`` fixes; return each one's held-out loss, nan if its training loss was not finite."""

SHORTEST, LONGEST = 50, 2000
"""Updates of a candidate, at least and at most, as long as nobody says another number."""

PART = 8
"""A candidate takes this part of the horizon: an eighth."""

WORSE = 0.05
"""Part of the loss without training by which the coarse grid lets it rise before it stops going up: noise does that."""

COARSE, FINE = 3, 1
"""Octaves between candidates at first, and around the best of those."""


@dataclass(frozen=True)
class Trials:
    """What a probe measured.

    Args:
        rates: Peak rates, increasing.
        scores: For each rate the held-out loss at the end, one per seed; nan where training diverged. Rates of the
            coarse grid have one.
        untrained: The held-out loss after updates at the rate 0, one per seed: statistics of BatchNorm have settled.
        updates: How many updates each candidate made.
        horizon: How many the training will have.
        stopped: ``""``, or at which end of the range the best rate lay: ``"low"`` or ``"high"``.
        epochs: How often each example comes in the horizon; None if that is not known.
    """

    rates: tuple[float, ...]
    scores: tuple[tuple[float, ...], ...]
    untrained: tuple[float, ...]
    updates: int
    horizon: int
    stopped: str = ""
    epochs: float | None = None

    @property
    def seeds(self) -> int:
        """How many seeds a rate near the best has."""
        return len(self.untrained)

    @property
    def start(self) -> float:
        """The held-out loss without training."""
        return fmean(self.untrained)

    @property
    def losses(self) -> tuple[float, ...]:
        """The mean score of each rate; nan where any of its candidates diverged."""
        return tuple(fmean(scores) for scores in self.scores)

    @property
    def stable(self) -> float | None:
        """The largest rate from the best upwards before one diverged; None if the best is no better than no training.

        Diverged is what is not finite, or above the start by more than the best rate lies below it.
        """
        finite = [loss if math.isfinite(loss) else math.inf for loss in self.losses]
        lowest = min(finite, default=math.inf)
        if not lowest < self.start:
            return None
        best, most = finite.index(lowest), 2 * self.start - lowest
        good = [all(score <= most for score in scores) for scores in self.scores[best:]]
        count = good.index(False) if False in good else len(good)
        return self.rates[best + count - 1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; a score that is not finite becomes None."""
        scores = [[score if math.isfinite(score) else None for score in row] for row in self.scores]
        return {
            "rates": list(self.rates),
            "scores": scores,
            "losses": [loss if math.isfinite(loss) else None for loss in self.losses],
            "untrained": [score if math.isfinite(score) else None for score in self.untrained],
            "start": self.start if math.isfinite(self.start) else None,
            "updates": self.updates,
            "horizon": self.horizon,
            "seeds": self.seeds,
            "stopped": self.stopped,
            "epochs": self.epochs,
        }


def length(horizon: int, steps: int | None = None) -> int:
    """Return how many updates a candidate makes: an eighth of the horizon, from 50 to 2,000, and not more than it has.

    >>> length(4000), length(300), length(30), length(10**9)
    (500, 50, 30, 2000)
    """
    return min(horizon, min(max(SHORTEST, horizon // PART), LONGEST) if steps is None else steps)


def compressed(
    schedule: Schedule | Ruled | float | None, horizon: Horizon | int, updates: int, begin: int = 0
) -> list[float]:
    """Return the shape of a schedule in fewer updates, as multiples of its highest rate.

    Update i of n takes the mean over the updates from begin + i (horizon - begin) / n to the next such position, so
    that every warm-up, step and decay is there in proportion. Cycles shorter than that are their mean.

    Args:
        schedule: What the training will follow; its rules are left out. None is a constant rate.
        horizon: The whole training, or its updates; settles open and typed lengths.
        updates: How many the copy has.
        begin: Where the training stands.

    Raises:
        FinderError: It is no schedule, or gives a rate that is negative, not finite, or never above 0.

    Example:
        >>> from ratewise import linear_decay
        >>> [round(part, 4) for part in compressed(linear_decay(0.2), horizon=8, updates=4)]
        [0.9375, 0.6875, 0.4375, 0.1875]
    """
    if isinstance(schedule, (int, float)) and not isinstance(schedule, bool) and 0 < schedule < math.inf:
        schedule = None
    if schedule is None:
        return [1.0] * updates
    if not isinstance(schedule, Schedule | Ruled):
        raise FinderError(
            f"find_lr: schedule must be a ratewise schedule, for example linear_decay(0.1), got {schedule!r:.60}."
        )
    settled, total = unruled(schedule).over(horizon), Horizon.of(horizon).total_steps
    stretches = [_positions(begin, total, i, updates) for i in range(updates)]
    values = [[float(settled(t)) for t in stretch] for stretch in stretches]
    low, top = min(map(min, values)), max(map(max, values))
    if not (0 < top < math.inf and low >= 0):
        raise FinderError(
            f"find_lr: the rates of {schedule!r:.60} must be finite, at least 0 and somewhere above 0, but over "
            f"{total} updates they go from {low:g} to {top:g}."
        )
    return [fmean(stretch) / top for stretch in values]


def _positions(begin: int, total: int, i: int, updates: int) -> Sequence[int]:
    """The updates that update ``i`` of the copy stands for, at most 32 of them, evenly spread."""
    first, last = begin + -(-i * (total - begin) // updates), begin + -(-(i + 1) * (total - begin) // updates)
    return range(first, last, max(1, (last - first) // 32))


def probe(
    scores: Scores, shape: Sequence[float], horizon: int, low: float, high: float, *,
    centre: float | None = None, seeds: int = 3, seed: int = 0, epochs: float | None = None,
) -> Trials:  # fmt: skip
    """Train candidates over a geometric grid, first coarse with one seed, then fine with all.

    Three rates, three octaves apart, are tried, and more upwards until one diverges, and downwards as long as the best
    lies at the lower end; then five rates an octave apart around the best, and more as long as the best lies at an end.

    Args:
        scores: Trains candidates.
        shape: Rates of each update as multiples of the peak, as ``compressed`` makes them.
        horizon: Updates of the whole training.
        low: Lowest peak rate that may be tried, above 0.
        high: Highest.
        centre: Where to begin, for example what a range test found; the middle of the range by default.
        seeds: How many orders of the batches the fine grid is trained on.
        seed: The first of them.
        epochs: How often each example comes in the horizon; None if that is not known.
    """
    octave = (math.log2(low) + math.log2(high)) / 2
    octave = octave if centre is None else min(max(math.log2(centre), math.log2(low)), math.log2(high))
    bottom, top = math.ceil(math.log2(low) - octave - 1e-9), math.floor(math.log2(high) - octave + 1e-9)
    known: dict[tuple[int, int], float] = {}

    def tried(octaves: Sequence[int], count: int) -> None:
        for s in range(seed, seed + count):
            new = [k for k in octaves if (k, s) not in known and bottom <= k <= top]
            rows = [[2.0 ** (octave + k) * part for part in shape] for k in new]
            for k, score in zip(new, scores(rows, s) if new else (), strict=True):
                known[k, s] = float(score)

    def means(count: int) -> dict[int, float]:
        """The mean score of every octave that has ``count`` seeds; infinite where one diverged."""
        found = {}
        for k in sorted({k for k, _ in known}):
            row = [known[k, s] for s in range(seed, seed + count) if (k, s) in known]
            if len(row) == count:
                found[k] = fmean(row) if all(map(math.isfinite, row)) else math.inf
        return found

    idle = [0.0] * min(len(shape), SHORTEST)
    untrained = tuple(float(scores([idle], s)[0]) for s in range(seed, seed + seeds))
    start = untrained[0]
    if not all(map(math.isfinite, untrained)):
        return Trials((), (), untrained, len(shape), horizon, "", epochs)
    for gap, count, reach in ((COARSE, 1, 1), (FINE, seeds, 2)):
        around = _lowest(means(1)) if known else 0
        tried(sorted({min(max(around + gap * i, bottom), top) for i in range(-reach, reach + 1)}), count)
        while True:
            found = means(count)
            k, highest = _lowest(found), max(found)
            if gap == COARSE and found[highest] <= start + max(start - found[k], WORSE * abs(start)):
                wanted = highest + gap
            else:
                wanted = k + (-gap if k == min(found) else gap if k == highest else 0)
            wanted = min(max(wanted, bottom), top)
            if wanted in found:
                break
            tried([wanted], count)
    k = _lowest(means(seeds))
    octaves = sorted({k for k, _ in known})
    return Trials(
        tuple(2.0 ** (octave + k) for k in octaves),
        tuple(tuple(known[k, s] for s in range(seed, seed + seeds) if (k, s) in known) for k in octaves),
        untrained, len(shape), horizon, "low" if k == bottom else "high" if k == top else "", epochs,
    )  # fmt: skip


def _lowest(means: Mapping[int, float]) -> int:
    """The best octave: of equals the highest, as rates far too low leave the loss as it is; of diverged the lowest."""
    return min(means, key=lambda k: (means[k], k if math.isinf(means[k]) else -k))


@dataclass(frozen=True)
class Best:
    """Where the scores are lowest.

    Args:
        rate: The vertex of the parabola in log(rate) through the best three.
        low: Lower end of the interval that one standard error over the seeds does not tell from it: of the place of the
            vertex (by leaving one seed out), and of the paired difference to the best rate that was tried. With one
            seed an octave lower.
        high: Upper end.
        gain: By how much the best rate's mean score lies below the loss without training.
        error: Standard error of that gain, pooled over the rates near the best.
        disagreement: Standard error of the place of the vertex, in octaves.
    """

    rate: float
    low: float
    high: float
    gain: float
    error: float
    disagreement: float


def located(trials: Trials) -> Best | None:
    """Return the best rate of the probe and how well it is known; None if no rate trained with every seed."""
    full = [
        (math.log2(rate), scores)
        for rate, scores in zip(trials.rates, trials.scores, strict=True)
        if len(scores) == trials.seeds and all(map(math.isfinite, scores))
    ]
    if not full:
        return None
    octaves, rows = [x for x, _ in full], [scores for _, scores in full]
    means = [fmean(scores) for scores in rows]
    i = means.index(min(means))
    rate = vertex(octaves, means)
    trained = [abs(x - octaves[i]) <= 2 * FINE and y < trials.start for x, y in zip(octaves, means, strict=True)]
    near = [row for row, counts in zip(rows, trained, strict=True) if counts]  # one at the edge is noise alone
    gains = [[a - b for a, b in zip(trials.untrained, row, strict=True)] for row in near]
    differences = [[a - b for a, b in zip(row, rows[i], strict=True)] for row in rows]
    pooled = _pooled([d for j, d in enumerate(differences) if trained[j] and j != i])
    beyond = [fmean(d) - max(_pooled([d]), pooled) for d in differences]
    place = _jackknifed(octaves, rows) if trials.seeds > 1 else float(FINE)
    low = min(_crossing(octaves, beyond, i, -1), rate - place)
    high = max(_crossing(octaves, beyond, i, 1), rate + place)
    return Best(2.0**rate, 2.0**low, 2.0**high, trials.start - means[i], _pooled(gains), place)


def vertex(x: Sequence[float], y: Sequence[float]) -> float:
    """Return where the parabola through the lowest point and its neighbours is lowest.

    Of the logarithm of y where all are above 0. At an end, or where it does not curve, the lowest point itself.

    >>> vertex([0.0, 1.0, 2.0], [2.0, 1.0, 2.0])
    1.0
    """
    i = min(range(len(y)), key=y.__getitem__)
    if not 0 < i < len(y) - 1:
        return x[i]
    a, b, c = map(math.log, y[i - 1 : i + 2]) if min(y) > 0 else y[i - 1 : i + 2]
    left, right = (a - b) / (x[i] - x[i - 1]), (c - b) / (x[i + 1] - x[i])
    if left + right <= 0:
        return x[i]
    width_left, width_right = x[i] - x[i - 1], x[i + 1] - x[i]
    shift = (left * width_right - right * width_left) / (left + right) / 2
    return x[i] + min(max(shift, -width_left / 2), width_right / 2)


def _pooled(rows: Sequence[Sequence[float]]) -> float:
    """Standard error of the mean of a row, from the variance within all of them; 0 where rows have one value."""
    if not rows or len(rows[0]) < 2:
        return 0.0
    return math.sqrt(fmean(variance(row) for row in rows) / len(rows[0]))


def _jackknifed(octaves: Sequence[float], rows: Sequence[Sequence[float]]) -> float:
    """Standard error of the place of the vertex, from leaving out one seed at a time."""
    n = len(rows[0])
    places = [vertex(octaves, [fmean([*row[:s], *row[s + 1 :]]) for row in rows]) for s in range(n)]
    return math.sqrt((n - 1) * pvariance(places))


def _crossing(x: Sequence[float], y: Sequence[float], i: int, step: int) -> float:
    """Where, from point i on in the direction ``step``, y first rises above 0; linear between points."""
    while 0 <= i + step < len(x):
        if y[i + step] > 0:
            part = max(-y[i], 0.0) / (y[i + step] - min(y[i], 0.0))
            return x[i] + part * (x[i + step] - x[i])
        i += step
    return x[i]
