"""The suggestion rules that people know, as pure functions of (rates, losses).

A rule looks at the points up to the first loss that is not finite, and returns a rate or None: that nothing was found
is its only way to decline. The functions take the curve as their authors' functions do, already smoothed and trimmed;
``suggestions`` takes raw losses and prepares them for each rule as its library does.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from ratewise.errors import FinderError

Rule: TypeAlias = Callable[[Sequence[float], Sequence[float]], float | None]


def valley(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate in the middle of the longest valley: fastai's default.

    The valley is the longest strictly decreasing subsequence; its start is taken to be its end minus its length, as
    fastai does, which is not where it starts if points are skipped. Half of a third from there on lies the rate.
    """
    rates, losses = usable(rates, losses)
    lengths, end = [1] * len(losses), 0
    for i, loss in enumerate(losses):
        lengths[i] += max((lengths[j] for j in range(i) if loss < losses[j]), default=0)
        end = i if lengths[i] > lengths[end] else end
    if not end:
        return None
    third = lengths[end] / 3
    return rates[end - lengths[end] + int(third) + int(third / 2)]


def slide(rates: Sequence[float], losses: Sequence[float], width: int = 15, threshold: float = 0.005) -> float | None:
    """Return the rate left of the rise: fastai's ``slide``.

    A window of ``width`` points goes left from the end while the slopes at its two ends differ by more than
    ``threshold``; slopes are per point of the grid.
    """
    rates, losses = usable(rates, losses)
    if len(losses) <= width:
        return None
    slopes = slope([math.log(rate) for rate in rates], losses)
    point = math.log(rates[-1] / rates[0]) / (len(rates) - 1)
    left = len(losses) - 1 - width
    found = rates[left]
    while left >= 0 and abs(slopes[left + width] - slopes[left]) * point > threshold:
        found = rates[left]
        left -= 1
    return found


def minimum(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return a tenth of the rate with the lowest loss."""
    rates, losses = usable(rates, losses)
    return rates[losses.index(min(losses))] / 10 if losses else None


def steep(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate from which the loss falls most to the next point, per log(rate): fastai's ``steep``."""
    rates, losses = usable(rates, losses)
    falls = [(b - a) / math.log(s / r) for (a, b), (r, s) in zip(pairwise(losses), pairwise(rates), strict=True)]
    return rates[falls.index(min(falls))] if falls else None


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate with the steepest fall per log(rate), by central differences.

    torch-lr-finder and Lightning (before 2.5.3) mean this rule; they differentiate by the index of the point, which
    is the same on a geometric grid.
    """
    return _steepest(rates, losses, math.log)


def lightning_as_shipped(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return what Lightning 2.5.3 and later suggest: the steepest fall per rate, not per log(rate).

    Here to be compared with: on a geometric grid the first points lie so close together that their noise decides, and
    the rate is many octaves too low.
    """
    return _steepest(rates, losses, float)


def _steepest(rates: Sequence[float], losses: Sequence[float], axis: Callable[[float], float]) -> float | None:
    rates, losses = usable(rates, losses)
    if len(losses) < 2:
        return None
    slopes = slope([axis(rate) for rate in rates], losses)
    return rates[slopes.index(min(slopes))]


def usable(rates: Sequence[float], losses: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the points before the first loss that is not finite.

    Raises:
        FinderError: The two differ in length, or the rates are not positive and increasing.
    """
    if len(rates) != len(losses):
        raise FinderError(f"finder: every rate needs one loss, got {len(rates)} rates and {len(losses)} losses.")
    if any(not 0 < rate < math.inf for rate in rates) or any(a >= b for a, b in pairwise(rates)):
        raise FinderError("finder: rates must be above 0, finite and increasing. Sort the points by rate.")
    n = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    return list(map(float, rates[:n])), list(map(float, losses[:n]))


def slope(x: Sequence[float], y: Sequence[float]) -> list[float]:
    """Return dy/dx by central differences of second order, also where the points are unevenly spaced.

    With h = x[i] - x[i-1] and k = x[i+1] - x[i],

        dy/dx = (h² y[i+1] + (k² - h²) y[i] - k² y[i-1]) / (h k (h + k))

    and one-sided differences at both ends, as ``numpy.gradient`` and ``torch.gradient`` take them.
    """
    gaps = [b - a for a, b in pairwise(x)]
    rises = [b - a for a, b in pairwise(y)]
    sides = [rise / gap for rise, gap in zip(rises, gaps, strict=True)]
    inner = [
        (h * right + k * left) / (h + k) for (h, k), (left, right) in zip(pairwise(gaps), pairwise(sides), strict=True)
    ]
    return [sides[0], *inner, sides[-1]]


def debiased(losses: Sequence[float], beta: float = 0.98) -> list[float]:
    """Return the running mean of fastai and Lightning.

    m[i] = beta m[i-1] + (1 - beta) loss[i]        s[i] = m[i] / (1 - beta^(i+1))
    """
    return list(_debiased(losses, beta))


def _debiased(losses: Sequence[float], beta: float) -> Iterator[float]:
    mean = 0.0
    for i, loss in enumerate(losses):
        mean = beta * mean + (1 - beta) * loss
        yield mean / (1 - beta ** (i + 1))


def running(losses: Sequence[float], weight: float = 0.05) -> list[float]:
    """Return the running mean of torch-lr-finder, which starts at the first loss and is not debiased."""
    found = list(losses[:1])
    for loss in losses[1:]:
        found.append(weight * loss + (1 - weight) * found[-1])
    return found


@dataclass(frozen=True)
class Preset:
    """A rule together with what its library does to the losses before.

    Args:
        rule: The rule.
        smooth: From raw losses to those that are looked at.
        begin: How many points are left out at the start; a float is a part of the points that were planned.
        end: How many are left out at the end.
    """

    rule: Rule
    smooth: Callable[[Sequence[float]], list[float]] = debiased
    begin: float = 10
    end: int = 1

    def __call__(self, rates: Sequence[float], losses: Sequence[float], planned: int | None = None) -> float | None:
        """Return the suggestion for raw losses, None if too few points are left."""
        n = planned or len(losses)
        kept = slice(int(n * self.begin) if isinstance(self.begin, float) else self.begin, len(losses) - self.end)
        rates, losses = list(rates[kept]), self.smooth(losses)[kept]
        return self.rule(rates, losses) if len(losses) > 1 else None


PRESETS = {
    "valley": Preset(valley, begin=0.1, end=5),
    "slide": Preset(slide, begin=0.1, end=5),
    "minimum": Preset(minimum, begin=0.1, end=5),
    "steep": Preset(steep, begin=0.1, end=5),
    "torch-lr-finder": Preset(steepest, running, end=5),
    "lightning": Preset(steepest),
    "lightning-as-shipped": Preset(lightning_as_shipped),
}
"""The rules by name, as their libraries use them."""


def suggestions(rates: Sequence[float], losses: Sequence[float], planned: int | None = None) -> dict[str, float | None]:
    """Return what every rule of ``PRESETS`` suggests for a curve of raw losses.

    Args:
        rates: Increasing, above 0.
        losses: The loss before the update at each rate; may end in losses that are not finite.
        planned: How many points the sweep was to have, if it stopped before.

    Returns:
        A rate for each rule; None where it finds nothing.

    Example:
        >>> rates = [10 ** (-6 + i / 12) for i in range(84)]
        >>> losses = [2 / (1 + 40 * r) + r * r for r in rates]
        >>> found = suggestions(rates, losses)
        >>> round(found["minimum"], 3), round(found["steep"], 3), round(found["torch-lr-finder"], 3)
        (0.1, 0.121, 0.1)
    """
    rates, losses = usable(rates, losses)
    return {name: preset(rates, losses, planned) for name, preset in PRESETS.items()}
