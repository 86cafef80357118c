"""What a probe or a range test says: a rate and a range, or why there is none. Pure functions of what was measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from ratewise.finder.drawn import text
from ratewise.finder.rules import suggestions
from ratewise.finder.sweep import FEWEST, Curve
from ratewise.finder.trials import Best, Trials, located

BROKEN = "lightning-as-shipped"
"""Left out where rules are compared with each other: it differentiates on the wrong axis."""


@dataclass(frozen=True)
class Finding:
    """The result of a finder.

    Args:
        low: Lowest rate of the range: of a probe, what one standard error does not tell from the best; of a range test,
            what trains. None where the finder declines, as are ``high`` and ``suggestion``.
        high: Highest rate of that range.
        suggestion: The highest rate of the schedule to use, in the range.
        ceiling: The rate at which curvature makes the first updates unstable; None if that could not be computed.
        reason: Why this rate, or why none.
        curve: What was measured: the ``Trials`` of a probe, the ``Curve`` of a range test.
        rules: What each known rule suggests for a range test, None where it finds nothing.
        cost: ``updates`` and ``batches`` that it took, and ``products`` of the Hessian with a vector for the ceiling,
            each at two to three times the price of the gradients of eight batches.
        valid_for: The circumstances: with others the rate may be another.
        stable: The largest rate that was seen to train; None if none was.
    """

    low: float | None
    high: float | None
    suggestion: float | None
    ceiling: float | None
    reason: str
    curve: Curve | Trials
    rules: Mapping[str, float | None]
    cost: Mapping[str, int]
    valid_for: Mapping[str, Any] = field(default_factory=dict)
    stable: float | None = None

    @property
    def range(self) -> tuple[float, float] | None:
        """``(low, high)``, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def spread(self) -> float | None:
        """How many octaves the rules lie apart; None if fewer than two found anything."""
        return spread(self.rules)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values; a loss that is not finite becomes None."""
        names = ("low", "high", "suggestion", "ceiling", "stable", "reason")
        return {
            **{name: getattr(self, name) for name in names},
            "curve": self.curve.to_dict(),
            "rules": dict(self.rules),
            "cost": dict(self.cost),
            "valid_for": dict(self.valid_for),
        }

    def plot(self, width: int = 64, height: int = 12) -> str:
        """Return the loss over log(rate) as text, suggestion, range and ceiling marked and named, the reason below.

        Of a probe the held-out loss of each candidate, of a range test the smoothed loss. What rises far above the
        start is cut off, so that the fall can be seen.

        Args:
            width: Columns of the curve, at least 16.
            height: Lines of the curve, at least 2.
        """
        return text(self, width, height)

    def __str__(self) -> str:
        if self.suggestion is None:
            return f"no suggestion: {self.reason}"
        return f"{self.suggestion:.3g} ({self.low:.3g} to {self.high:.3g}): {self.reason}"


def judged(
    curve: Curve, cost: Mapping[str, int], valid_for: Mapping[str, Any], ceiling: float | None = None
) -> Finding:
    """Return what the curve of a range test says.

    The suggestion is a tenth of the rate of the lowest smoothed loss, which does not hang on slopes, as noise decides
    those. It never lies in the last tenth before divergence: if the loss diverges at update d of the sweep, it is at
    most the rate of update d - 1 - ceil(d / 10).
    """
    rules = suggestions(curve.rates, curve.losses, curve.planned)
    d = diverged_at(curve)
    stable = curve.rates[d - 1] if d else None
    refusal = refused(curve, d)
    suggestion = rules["minimum"]
    if refusal or suggestion is None:
        return Finding(None, None, None, ceiling, refusal or _TOO_SHORT, curve, rules, cost, valid_for, stable)
    losses = curve.finite[:d]
    means, width = _means(losses)
    start, best = _start(curve), min(means)
    n = len(losses)
    limit = curve.rates[n - 1 - math.ceil(n / 10)] if d is not None else curve.rates[-1]
    bottom = means.index(best)
    begun = next(i for i, mean in enumerate(means) if mean <= start - 0.1 * (start - best))
    capped = suggestion > limit
    suggestion = max(min(suggestion, limit), curve.rates[0])
    low = min(curve.rates[begun + width // 2], suggestion)
    high = max(min(curve.rates[bottom + width // 2], limit), suggestion)
    reason = _praise(curve, d, (start, best), capped, rules)
    return Finding(low, high, suggestion, ceiling, reason, curve, rules, cost, valid_for, stable)


BASE, PER_DOUBLING = 0.06, 0.13
"""Of the horizon correction, fitted on measured data by ``benchmarks/finder.py``; see docs/finder.md."""


def exponent(epochs: float | None, base: float = BASE, per_doubling: float = PER_DOUBLING) -> float:
    """Return k in: the best rate of a longer run goes with (updates)^-k, for held-out loss.

        k = base + per_doubling * log2(epochs), from 0 to 1

    The more often the same examples come, the more a high rate overfits them. It is never above 1: far below the best
    rate the loss depends on rate * updates alone.

    Args:
        epochs: How often each example comes in the longer run; below 1 counts as 1, as does None, not known.
        base: For a single pass.
        per_doubling: For every doubling of that.

    >>> exponent(1), round(exponent(8), 2), exponent(1000)
    (0.06, 0.45, 1.0)
    """
    return min(max(base + per_doubling * math.log2(max(epochs or 1.0, 1.0)), 0.0), 1.0)


def weighed(
    trials: Trials, rules: Mapping[str, float | None], cost: Mapping[str, int], valid_for: Mapping[str, Any],
    ceiling: float | None = None,
) -> Finding:  # fmt: skip
    """Return what a probe says.

    The suggestion is the best rate of the short runs times (updates of a short run / horizon)^k, as is its range, with
    the ``exponent`` k. It is at most nine tenths of the largest rate that trained, if a larger one did not.
    """
    best = located(trials)
    refusal = undecided(trials, best)
    if refusal or best is None:
        return Finding(None, None, None, ceiling, refusal, trials, rules, cost, valid_for, trials.stable)
    factor = (trials.updates / trials.horizon) ** exponent(trials.epochs)
    limit = math.inf if trials.stable is None or trials.stable == trials.rates[-1] else 0.9 * trials.stable
    suggestion, low, high = (min(rate * factor, limit) for rate in (best.rate, best.low, best.high))
    return Finding(
        low, high, suggestion, ceiling, _account(trials, best, factor), trials, rules, cost, valid_for, trials.stable
    )  # fmt: skip


NOISE = 3.0
"""Standard errors that the best rate must lower the held-out loss by: it is the best of several."""


def undecided(trials: Trials, best: Best | None) -> str:
    """Return why a probe suggests nothing; empty if it can."""
    if not math.isfinite(trials.start):
        return (
            f"The held-out loss is {trials.start} before any training, so no rate can be suggested. "
            "Check the data and the loss first."
        )
    low, high = trials.rates[0], trials.rates[-1]
    if best is None or (trials.stable is None and trials.stopped == "low"):
        worst = "diverged" if best is None else f"left the held-out loss above the {trials.start:.4g} of before"
        return (
            f"Every rate from {low:.3g} to {high:.3g} {worst} within {trials.updates} updates. Begin lower, for "
            f"example low={low / 1000:.3g}; if it is the same there, check the data and the loss."
        )
    if best.gain <= max(NOISE * best.error, 1e-6 * abs(trials.start)):
        return (
            f"No signal: of the rates from {low:.3g} to {high:.3g}, none lowered the held-out loss of "
            f"{trials.start:.4g} in {trials.updates} updates by more than its noise (the best by {best.gain:.2g} +- "
            f"{best.error:.2g}). Near the end of a training, or when fine-tuning, that is usual: give longer probes "
            "with steps=, or more held_out= batches."
        )
    if trials.stopped:
        further = f"low={low / 1000:.3g}" if trials.stopped == "low" else f"high={high * 1000:.3g}"
        return (
            f"The held-out loss was lowest at the {trials.stopped}est rate that may be tried "
            f"({low if trials.stopped == 'low' else high:.3g}), so where it is best is not seen. Give {further}."
        )
    if best.disagreement > 1.5:
        return (
            f"Too noisy: the seeds disagree on the best rate by {best.disagreement:.1f} octaves (standard error). Use "
            "more seeds=, more held_out= batches, or longer probes with steps=."
        )
    return ""


def _account(trials: Trials, best: Best, factor: float) -> str:
    """How the suggestion of a probe came about."""
    lowest = min(loss for loss in trials.losses if math.isfinite(loss))
    runs = sum(map(len, trials.scores))
    if trials.epochs is None and trials.horizon > trials.updates:
        shift = (
            f". It is not known how often the examples come in {trials.horizon} updates, so nothing is corrected for it"
        )
    else:
        shift = f", times {factor:.2f} for {trials.horizon} updates, {trials.epochs:.3g} epochs" if factor != 1 else ""
    return (
        f"{runs} runs of the whole schedule in {trials.updates} updates: the held-out loss, {trials.start:.4g} before, "
        f"was lowest ({lowest:.4g}) near {best.rate:.3g}{shift}."
    )


def diverged_at(curve: Curve) -> int | None:
    """Return the first update of the divergence at the end of the sweep, None if it did not diverge.

    It is the first of the last updates whose losses, without a gap, are above the loss at the start: the smoothed
    loss, by which the sweep stops, notices later. A sweep that ran to its end diverged if its last loss lies above the
    start by more than the loss had fallen.
    """
    losses = curve.finite
    if not losses:
        return 0
    start = _start(curve)
    if not curve.stopped and losses[-1] <= start + max(start - min(losses), 0.0):
        return None
    d = len(losses) if curve.stopped == "not finite" else len(losses) - 1
    while d and losses[d - 1] > start:
        d -= 1
    return d


def refused(curve: Curve, d: int | None) -> str:
    """Return why no rate can be suggested; empty if one can."""
    losses, low, high = curve.finite, curve.rates[0], curve.rates[-1]
    if not losses:
        return (
            f"The loss was already {curve.losses[0]} at the first rate ({low:g}), so no rate can be suggested. "
            "Check the data and the loss first."
        )
    if d is not None and d < FEWEST // 2:
        return (
            f"The loss diverged after {d} updates, at the rate {curve.rates[d]:.3g}: there is no range that trains. "
            f"Begin lower, for example low={low / 1000:.3g}; if it diverges there too, check the data and the loss."
        )
    losses = losses[:d]
    means, width = _means(losses)
    start = _start(curve)
    fall, noise = start - min(means), _noise(losses[: means.index(min(means)) + width])
    seen = noise * math.sqrt(1 / width)
    if fall <= 6 * seen or fall <= 1e-6 * abs(start):
        if noise <= 0.01 * abs(start):
            return (
                f"The loss is flat: from {low:g} to {curve.rates[len(losses) - 1]:.3g} it stayed near {start:.4g}, so "
                "nothing is seen of the rate. Near the end of a training, or when fine-tuning, that is usual: "
                "compare short runs instead. Else check that the optimizer has the model's parameters."
            )
        return (
            f"The loss is too noisy: it fell by {max(fall, 0.0):.3g} at most, single batches differ by {noise:.3g}. "
            "Use larger batches, accumulation= or more steps=."
        )
    if d is None and means.index(min(means)) >= len(means) - width:
        return (
            f"The loss was still falling at the highest rate ({high:g}), so nothing is seen of where it stops. "
            f"Go further up, for example high={high * 1000:g}."
        )
    return ""


_TOO_SHORT = "Too few updates came before the divergence for a suggestion. Begin lower, or use more steps=."


def _praise(
    curve: Curve, d: int | None, fall: tuple[float, float], capped: bool, rules: Mapping[str, float | None]
) -> str:
    """Why the suggestion can be used, and how far."""
    ended = f"diverged at {curve.rates[min(d, len(curve.rates) - 1)]:.3g}" if d is not None else "rose again"
    which = (
        "the highest rate that is not in the last tenth before it"
        if capped
        else "a tenth of the rate with the lowest smoothed loss"
    )
    octaves = spread(rules)
    agreement = "" if octaves is None else f" The known rules lie {octaves:.1f} octaves apart."
    return (
        f"The loss fell from {fall[0]:.4g} to {fall[1]:.4g} and {ended}; suggested is {which}.{agreement} "
        "A range test sees one update per rate: confirm with short runs, above all when fine-tuning."
    )


def spread(rules: Mapping[str, float | None]) -> float | None:
    """Return how many octaves the rules lie apart, the broken one left out; None if fewer than two found anything."""
    found = [rate for name, rate in rules.items() if rate and name != BROKEN]
    return math.log2(max(found) / min(found)) if len(found) > 1 else None


def _start(curve: Curve) -> float:
    """The loss at rates too low to matter: the median of the first tenth, at least of three."""
    return median(curve.finite[: max(3, curve.planned // 10)])


def _means(losses: Sequence[float]) -> tuple[list[float], int]:
    """Centred running means of a tenth of the points, at least of 5, and that width."""
    width = min(max(5, len(losses) // 10), len(losses))
    return [fmean(losses[i : i + width]) for i in range(len(losses) - width + 1)], width


def _noise(losses: Sequence[float]) -> float:
    """Standard deviation of single losses, from neighbours, so that a trend does not count."""
    if len(losses) < 2:
        return 0.0
    return median(abs(b - a) for a, b in pairwise(losses)) / (0.6745 * math.sqrt(2))
