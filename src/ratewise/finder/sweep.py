"""The range test: one run whose rate rises from update to update, until the loss diverges.

Nothing here knows a framework. A framework gives a ``Trainable``, which the sweep starts, steps and always restores.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ratewise.errors import FinderError, nearest
from ratewise.finder.rules import debiased

FEWEST = 20
"""Points that a curve needs, so that its start, fall and rise can be told apart."""

SPACINGS = ("geometric", "linear")


class Trainable(Protocol):
    """A model in training, as the finder drives it: what each framework provides."""

    @property
    def planned(self) -> "tuple[Any, int, int] | None":
        """What it follows now: schedule, updates of the whole run, updates made; None if that is not known."""

    @property
    def epoch(self) -> float | None:
        """Updates in one pass over the data; None if that is not known, or the data does not end."""

    @property
    def cost(self) -> Mapping[str, int]:
        """``updates`` and ``batches`` so far, of candidates that train together each, and Hessian ``products``."""

    @property
    def valid_for(self) -> Mapping[str, Any]:
        """Optimizer, weight decay, batch size, and whatever else the rate hangs on."""

    def prepare(self, updates: int) -> None:
        """Get ready to score: keep held-out batches aside, and have batches for runs of so many updates."""

    def start(self, seed: int) -> None:
        """Go to the state that was found, fix everything random by ``seed``, and begin the batches anew."""

    def step(self, rate: float) -> float:
        """Make one update at ``rate`` and return the loss before it."""

    def score(self) -> float:
        """Return the mean held-out loss, without a trace of it in the training."""

    def scores(self, rows: Sequence[Sequence[float]], seed: int) -> Sequence[float]:
        """Train one candidate per row of rates and return its score, as ``one_by_one`` does; all at once if it can."""

    def ceiling(self, seed: int) -> float | None:
        """Return the rate at which the curvature at the state that was found makes training unstable, if known."""

    def restore(self) -> None:
        """Put back everything as it was found; may be called more than once."""


def one_by_one(trainable: Trainable, rows: Sequence[Sequence[float]], seed: int) -> list[float]:
    """Train and score one candidate after the other; nan for one whose training loss is not finite."""
    scores = []
    for row in rows:
        trainable.start(seed)
        finite = all(math.isfinite(trainable.step(rate)) for rate in row)
        scores.append(trainable.score() if finite else math.nan)
    return scores


@dataclass(frozen=True)
class Curve:
    """What a sweep measured.

    Args:
        rates: The rate of each update.
        losses: The loss before each update, so it does not know that update's own rate; the last may be nan.
        planned: How many updates there were to be.
        stopped: Why there were fewer: ``"not finite"``, ``"diverged"``, or ``""``.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    planned: int
    stopped: str = ""

    @property
    def finite(self) -> list[float]:
        """The losses up to the first that is not finite."""
        n = next((i for i, loss in enumerate(self.losses) if not math.isfinite(loss)), len(self.losses))
        return list(self.losses[:n])

    @property
    def smoothed(self) -> list[float]:
        """The debiased running mean of the finite losses."""
        return debiased(self.finite)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; a loss that is not finite becomes None."""
        return {
            "rates": list(self.rates),
            "losses": [loss if math.isfinite(loss) else None for loss in self.losses],
            "smoothed": self.smoothed,
            "planned": self.planned,
            "stopped": self.stopped,
        }


def ramp(low: float, high: float, steps: int, spacing: str = "geometric") -> list[float]:
    """Return the rates of a sweep, both ends included.

    Args:
        low: First rate, above 0.
        high: Last rate, above ``low``.
        steps: How many, at least 20.
        spacing: ``"geometric"`` or ``"linear"`` (Smith's own).

    Raises:
        FinderError: The range is upside down or too short, or the spacing unknown.

    Example:
        >>> ramp(1e-4, 1.0, 21)[::5]
        [0.0001, 0.001, 0.01, 0.1, 1.0]

    References:
        Smith, 2015, Cyclical Learning Rates for Training Neural Networks, section 3.3.
        https://arxiv.org/abs/1506.01186
    """
    if not all(isinstance(x, (int, float)) and 0 < x < math.inf for x in (low, high)) or low >= high:
        raise FinderError(
            f"finder: low must be above 0 and below high, both finite, got low={low!r:.40}, high={high!r:.40}. "
            "For example low=1e-7, high=10."
        )
    if type(steps) is not int or steps < FEWEST:
        raise FinderError(f"finder: steps must be an integer of at least {FEWEST}, got {steps!r:.40}. 100 is usual.")
    if spacing not in SPACINGS:
        raise FinderError(
            f"finder: spacing must be 'geometric' or 'linear', got {spacing!r:.40}.{nearest(spacing, SPACINGS)}"
        )
    parts = [i / (steps - 1) for i in range(1, steps - 1)]
    if spacing == "linear":
        inner = [low + (high - low) * p for p in parts]
    else:
        a, b = math.log10(low), math.log10(high)  # high / low may overflow
        inner = [10 ** (a + (b - a) * p) for p in parts]
    return [float(low), *inner, float(high)]


def sweep(trainable: Trainable, rates: Sequence[float], seed: int = 0, stop: float = 4.0) -> Curve:
    """Train one update at every rate, and restore.

    It stops at a loss that is not finite, or once the smoothed loss s has diverged: with b its lowest value so far,

        s - b > (stop - 1) * max(|b|, s[0] - b)

    which is fastai's s > stop * b while the loss has fallen by less than half; losses may be negative.

    Args:
        trainable: What is trained.
        rates: Increasing, as ``ramp`` makes them.
        seed: Fixes what is random in the model and in the order of batches.
        stop: How many times the lowest loss counts as diverged, above 1.
    """
    check_stop(stop)
    try:
        return swept(trainable, rates, seed, stop)
    finally:
        trainable.restore()


def check_stop(stop: float) -> None:
    """Refuse a threshold that every loss exceeds."""
    if not (isinstance(stop, (int, float)) and stop > 1):
        raise FinderError(f"finder: stop must be above 1, got {stop!r:.40}. 4 is usual.")


def swept(trainable: Trainable, rates: Sequence[float], seed: int, stop: float) -> Curve:
    """``sweep`` without restoring."""
    losses: list[float] = []
    stopped = ""
    trainable.start(seed)
    for rate in rates:
        losses.append(float(trainable.step(rate)))
        stopped = _verdict(losses, stop)
        if stopped:
            break
    return Curve(tuple(rates[: len(losses)]), tuple(losses), len(rates), stopped)


def _verdict(losses: list[float], stop: float) -> str:
    """Why to stop behind the last of ``losses``; empty to go on."""
    if not math.isfinite(losses[-1]):
        return "not finite"
    smoothed = debiased(losses)  # of all again: a sweep has some hundred points, and training costs more
    best = min(smoothed)
    return "diverged" if smoothed[-1] - best > (stop - 1) * max(abs(best), smoothed[0] - best) else ""
