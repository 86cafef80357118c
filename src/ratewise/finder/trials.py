"""The paired probe: every candidate rate runs a complete, compressed copy of the schedule that will be used.

All candidates begin at the same state, see the same batches, and are scored on the same held-out batches, so that
their differences are those of the rate. A range test sees one update per rate and neither schedule nor horizon.
Nothing here knows a framework: a function trains candidates and returns their scores.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, TypeAlias

from ratewise.core.horizon import Horizon
from ratewise.core.ruled import Ruled, unruled
from ratewise.core.schedule import Schedule
from ratewise.errors import FinderError

Scores: TypeAlias = Callable[[Sequence[Sequence[float]], int], Sequence[float]]
"""``scores(rows, seed)``: train one candidate per row of absolute rates, each from the state that was found and on the
same batches, which ``seed`` fixes; return each one's held-out loss, nan if its training loss was not finite."""

SHORTEST = 50
"""Updates of a candidate, at least."""

PART = 8
"""A candidate takes this part of the horizon: an eighth."""

COARSE, FINE = 3, 1
"""Octaves between candidates at first, and around the best of those."""


@dataclass(frozen=True)
class Trials:
    """What a probe measured.

    Args:
        rates: Peak rates, increasing.
        scores: For each rate the held-out loss at the end, one per seed; nan where training diverged. Rates of the
            coarse grid have one.
        start: The held-out loss before training.
        updates: How many updates each candidate made.
        horizon: How many the training will have.
        seeds: How many seeds a rate near the best has.
        stopped: ``""``, or at which end of the range the best rate lay: ``"low"`` or ``"high"``.
        epochs: How often each example comes in the horizon.
    """

    rates: tuple[float, ...]
    scores: tuple[tuple[float, ...], ...]
    start: float
    updates: int
    horizon: int
    seeds: int
    stopped: str = ""
    epochs: float = 1.0

    @property
    def losses(self) -> tuple[float, ...]:
        """The mean score of each rate; nan where any of its candidates diverged."""
        return tuple(fmean(scores) for scores in self.scores)

    @property
    def stable(self) -> float | None:
        """The largest rate up to which nothing diverged; None if all did.

        Diverged is what is not finite, or above the start by more than the best rate lies below it.
        """
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        most = self.start + max(self.start - min(finite, default=self.start), 0.0)
        good = [all(score <= most for score in scores) for scores in self.scores]
        count = good.index(False) if False in good else len(good)
        return self.rates[count - 1] if count else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; a score that is not finite becomes None."""
        scores = [[score if math.isfinite(score) else None for score in row] for row in self.scores]
        return {
            "rates": list(self.rates),
            "scores": scores,
            "losses": [loss if math.isfinite(loss) else None for loss in self.losses],
            "start": self.start if math.isfinite(self.start) else None,
            "updates": self.updates,
            "horizon": self.horizon,
            "seeds": self.seeds,
            "stopped": self.stopped,
            "epochs": self.epochs,
        }


def length(horizon: int, steps: int | None = None) -> int:
    """Return how many updates a candidate makes: an eighth of the horizon, at least 50, never more than the horizon.

    >>> length(4000), length(300), length(30)
    (500, 50, 30)
    """
    return min(horizon, max(SHORTEST, horizon // PART) if steps is None else steps)


def compressed(
    schedule: Schedule | Ruled | float | None, horizon: Horizon | int, updates: int, begin: int = 0
) -> list[float]:
    """Return the shape of a schedule in fewer updates, as multiples of its highest rate.

    Update i of n takes the value at position begin + i (horizon - begin) / n, so that every warm-up, step, cycle and
    decay is there in proportion; updates that lie between are left out.

    Args:
        schedule: What the training will follow; its rules are left out. None is a constant rate.
        horizon: The whole training, or its updates; settles open and typed lengths.
        updates: How many the copy has.
        begin: Where the training stands.

    Raises:
        FinderError: It is no schedule, or gives a rate that is negative, not finite, or never above 0.

    Example:
        >>> from ratewise import linear_decay
        >>> compressed(linear_decay(0.2), horizon=400, updates=4)
        [1.0, 0.75, 0.5, 0.25]
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
    values = [float(settled(begin + i * (total - begin) / updates)) for i in range(updates)]
    top = max(values)
    if not (0 < top < math.inf and min(values) >= 0):
        raise FinderError(
            f"find_lr: the rates of {schedule!r:.60} must be finite, at least 0 and somewhere above 0, but over "
            f"{total} updates they go from {min(values):g} to {top:g}."
        )
    return [value / top for value in values]


def probe(
    scores: Scores, shape: Sequence[float], horizon: int, low: float, high: float, *,
    centre: float | None = None, seeds: int = 3, seed: int = 0, epochs: float = 1.0,
) -> Trials:  # fmt: skip
    """Train candidates over a geometric grid, first coarse with one seed, then fine with all.

    Three rates, three octaves apart, are tried, and more as long as the best lies at an end; then five rates an octave
    apart around the best, and more as long as the best lies at an end.

    Args:
        scores: Trains candidates.
        shape: Rates of each update as multiples of the peak, as ``compressed`` makes them.
        horizon: Updates of the whole training.
        low: Lowest peak rate that may be tried, above 0.
        high: Highest.
        centre: Where to begin, for example what a range test found; the middle of the range by default.
        seeds: How many orders of the batches the fine grid is trained on.
        seed: The first of them.
        epochs: How often each example comes in the horizon.
    """
    anchor = math.sqrt(low) * math.sqrt(high) if centre is None else min(max(centre, low), high)
    bottom, top = math.ceil(math.log2(low / anchor) - 1e-9), math.floor(math.log2(high / anchor) + 1e-9)
    known: dict[tuple[int, int], float] = {}

    def tried(octaves: Sequence[int], count: int) -> None:
        for s in range(seed, seed + count):
            new = [k for k in octaves if (k, s) not in known and bottom <= k <= top]
            rows = [[anchor * 2.0**k * part for part in shape] for k in new]
            for k, score in zip(new, scores(rows, s) if new else (), strict=True):
                known[k, s] = float(score)

    def best(count: int) -> tuple[int, list[int]]:
        """The best octave among those that have ``count`` seeds, and those octaves.

        Of equals the highest: rates far too low all leave the loss as it is. Where all diverged, the lowest.
        """
        means: dict[int, float] = {}
        for k in sorted({k for k, _ in known}):
            found = [known[k, s] for s in range(seed, seed + count) if (k, s) in known]
            if len(found) == count:
                means[k] = fmean(found) if all(map(math.isfinite, found)) else math.inf
        return min(means, key=lambda k: (means[k], k if math.isinf(means[k]) else -k)), list(means)

    start = float(scores([[]], seed)[0])
    for gap, count, reach in ((COARSE, 1, 1), (FINE, seeds, 2)):
        if not math.isfinite(start):
            break
        around = best(1)[0] if known else 0
        tried([around + gap * i for i in range(-reach, reach + 1)], count)
        while True:
            k, octaves = best(count)
            step = -gap if k == octaves[0] else gap if k == octaves[-1] else 0
            wanted = min(max(k + step, bottom), top)
            if wanted == k:
                break
            tried([wanted], count)
    by_octave = {k: tuple(known[k, s] for s in range(seed, seed + seeds) if (k, s) in known) for k, _ in sorted(known)}
    k = best(seeds)[0] if known else 0
    stopped = "low" if k == bottom else "high" if k == top else ""
    return Trials(
        tuple(anchor * 2.0**k for k in by_octave), tuple(by_octave.values()), start, len(shape), horizon, seeds,
        stopped if by_octave else "", epochs,
    )  # fmt: skip


@dataclass(frozen=True)
class Best:
    """Where the scores are lowest.

    Args:
        rate: The vertex of the parabola in log(rate) through the best three.
        low: Lower end of the interval that one standard error over the seeds does not tell from it: of the place of the
            vertex, and of the paired difference to the best rate that was tried.
        high: Upper end.
        gain: By how much the best rate's mean score lies below the start.
        error: Standard error of that gain.
        disagreement: Standard error of the best rate over the seeds, in octaves.
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
    gains = [trials.start - score for score in rows[i]]
    seeded = [vertex(octaves, [scores[s] for scores in rows]) for s in range(trials.seeds)]
    beyond = [_error_of_difference(scores, rows[i]) for scores in rows]
    rate, spread = vertex(octaves, means), _error(seeded)
    low = min(_crossing(octaves, beyond, i, -1), rate - spread)
    high = max(_crossing(octaves, beyond, i, 1), rate + spread)
    return Best(2.0**rate, 2.0**low, 2.0**high, fmean(gains), _error(gains), spread)


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


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean; 0 of a single value."""
    if len(values) < 2:
        return 0.0
    return stdev(values) / math.sqrt(len(values)) if all(map(math.isfinite, values)) else math.inf


def _error_of_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """By how much the mean paired difference exceeds its standard error."""
    differences = [a - b for a, b in zip(one, other, strict=True)]
    return fmean(differences) - _error(differences)


def _crossing(x: Sequence[float], y: Sequence[float], i: int, step: int) -> float:
    """Where, from point i on in the direction ``step``, y first rises above 0; linear between points."""
    while 0 <= i + step < len(x):
        if y[i + step] > 0:
            part = max(-y[i], 0.0) / (y[i + step] - min(y[i], 0.0))
            return x[i] + part * (x[i + step] - x[i])
        i += step
    return x[i]
