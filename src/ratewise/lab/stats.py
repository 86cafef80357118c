"""The statistics of a comparison: paired differences on fresh seeds against a reference that was fixed before.

Verdicts, in this order: *tie* if the 95% interval of the paired difference lies inside ±delta; else *better* or
*worse* if the exact sign-flip test, corrected by Holm for the number of rivals, gives p <= 0.05; else *unresolved*,
with the number of seeds that would resolve it.

The interval that is shown is the one that decides, Student's t: of paired differences it holds what it promises at
10 to 20 seeds (95 to 96% of simulated intervals cover the truth, normal or skewed losses; BCa 86 to 93%). The BCa
interval stands beside it for those who do not want to assume a shape.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from ratewise.errors import LabError

ALPHA = 0.05
POWER = 0.8
CLEAR_WINS = 0.75
"""Share of seeds that a rival should win before its lead means something (Bouthillier et al., 2021, section 4)."""
BCA_SEEDS = 10
EXACT = 20
"""Seeds up to which the sign-flip test looks at every pattern."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% t-interval; the limits are None below two values, all None without values."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """A rival against the reference, over paired seeds.

    Args:
        mean: Mean of rival minus reference; below 0 the rival's loss is lower.
        low: Lower limit of the 95% t-interval.
        high: Upper limit.
        p: Two-sided sign-flip p value, exact up to 20 seeds.
        adjusted: The same, corrected by Holm for the number of rivals.
        wins: Share of seeds in which the rival's loss is lower.
        verdict: ``"tie"``, ``"better"``, ``"worse"`` or ``"unresolved"``.
        seeds_needed: If unresolved: seeds at which a difference of this size, or a tie, should show (80% power);
            else None.
        interval: Which interval ``low`` and ``high`` are.
        bca: Bootstrap interval (bias-corrected and accelerated) of the mean; None below 10 seeds.
    """

    mean: float
    low: float
    high: float
    p: float
    adjusted: float
    wins: float
    verdict: str
    seeds_needed: int | None
    interval: str = "t"
    bca: tuple[float, float] | None = None


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of the values with its 95% t-interval."""
    data = np.asarray(values, dtype=float)
    if not len(data):
        return Interval(None, None, None, 0)
    mean = float(data.mean())
    if len(data) < 2:
        return Interval(mean, None, None, 1)
    half = _half_width(data)
    return Interval(mean, mean - half, mean + half, len(data))


def _half_width(data: NDArray[np.float64]) -> float:
    t = special.stdtrit(len(data) - 1, 1 - ALPHA / 2)
    return float(t * data.std(ddof=1) / math.sqrt(len(data)))


def sign_flip(differences: Sequence[float]) -> float:
    """Return the two-sided p value of the paired sign-flip test on the mean.

    Under the hypothesis that neither is better each difference could as well have the other sign; p is the share of
    all 2**n sign patterns whose mean is at least as far from 0. Exact up to n = 20, sampled (100,000) beyond.

    References:
        Fisher, 1935, The Design of Experiments, section 21.
    """
    return float(sign_flips(np.asarray([differences], dtype=float))[0])


def sign_flips(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the p value of ``sign_flip`` for each row of ``(m, n)`` differences, n at least 1.

    A pattern and its opposite have the same distance from 0, so half of the patterns is enough: the last sign is
    always +. The sum of a pattern is that of its first half and that of its second, so few products are made.
    """
    count = differences.shape[1]
    rounding = 1e-12 * np.abs(differences).sum(axis=1)  # must not hide a tie
    observed = np.abs(differences.sum(axis=1)) - rounding
    if count > EXACT:
        return _sampled(differences, observed)
    half, found = count // 2, np.empty(len(differences))
    heads = differences[:, :half] @ _signs(half).T
    tails = differences[:, half:] @ _signs(count - half)[: 2 ** (count - half - 1)].T
    many = max(1, 2 ** (22 - count))  # rows at once: 16 MB
    for i in range(0, len(differences), many):
        rows = slice(i, i + many)
        sums = heads[rows, :, None] + tails[rows, None, :]
        found[rows] = (np.abs(sums) >= observed[rows, None, None]).mean(axis=(1, 2))
    return found


def _signs(count: int) -> NDArray[np.float64]:
    """All patterns of so many signs, as rows; the last sign of the first half of them is +."""
    return np.where(np.arange(2**count)[:, None] >> np.arange(count) & 1, -1.0, 1.0)


def _sampled(differences: NDArray[np.float64], observed: NDArray[np.float64]) -> NDArray[np.float64]:
    """The p values from 100,000 random patterns, what was seen being one more, so that none is 0."""
    rng, extreme = np.random.default_rng(0), np.ones(len(differences))
    for _ in range(100):
        signs = rng.choice((-1.0, 1.0), (1000, differences.shape[1]))
        extreme += (np.abs(differences @ signs.T) >= observed[:, None]).sum(axis=1)
    return extreme / 100_001


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values corrected for their number.

    References:
        Holm, 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def seeds_for(rivals: int) -> int:
    """Return the least number of seeds with which any verdict against ``rivals`` rivals is possible."""
    n = 1
    while 2 * max(rivals, 1) / 2**n > ALPHA:
        n += 1
    return n


def require_seeds(seeds: int, rivals: int) -> None:
    """Refuse a plan in which nothing could ever be told apart.

    Raises:
        LabError: 2k / 2**n > 0.05 for k rivals and n seeds.
    """
    if rivals and seeds < seeds_for(rivals):
        raise LabError(
            f"with {seeds} fresh seeds and {rivals} rivals no difference could ever be significant "
            f"(the smallest p value is 2/2^{seeds}, times {rivals}). Use at least {seeds_for(rivals)} fresh seeds."
        )


def compared(reference: Sequence[float], rivals: Sequence[Sequence[float]], delta: float) -> list[Difference]:
    """Compare each rival with the reference.

    Args:
        reference: The reference's loss on each fresh seed.
        rivals: For each rival its loss on the same seeds.
        delta: Smallest difference worth having, in units of the loss.
    """
    differences = [np.asarray(rival, dtype=float) - np.asarray(reference, dtype=float) for rival in rivals]
    found = judged(differences, [sign_flip(d) for d in differences], delta)
    return [replace(one, bca=bca(d)) for one, d in zip(found, differences, strict=True)]


def judged(
    differences: Sequence[NDArray[np.float64]], p_values: Sequence[float], delta: float
) -> list[Difference]:  # fmt: skip
    """Judge rivals by their paired differences and the sign-flip p value of each; the rest of ``compared``."""
    return [
        _judged(d, p, adjusted, delta)
        for d, p, adjusted in zip(differences, p_values, holm(p_values), strict=True)
    ]  # fmt: skip


def bca(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the 95% BCa bootstrap interval of the mean; None below 10 values.

    References:
        Efron, 1987, Better Bootstrap Confidence Intervals, https://doi.org/10.1080/01621459.1987.10478410
    """
    data = np.asarray(values, dtype=float)
    if len(data) < BCA_SEEDS:
        return None
    if np.ptp(data) <= 1e-12 * np.abs(data).max():  # all the same but for rounding: there is nothing to resample
        return float(data[0]), float(data[0])
    found = stats.bootstrap((data,), np.mean, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    return float(found.low), float(found.high)


def _judged(d: NDArray[np.float64], p: float, adjusted: float, delta: float) -> Difference:
    mean, half = float(d.mean()), _half_width(d)
    if -delta <= mean - half and mean + half <= delta:
        verdict = "tie"
    elif adjusted <= ALPHA:
        verdict = "better" if mean < 0 else "worse"
    else:
        verdict = "unresolved"
    needed = _seeds_needed(d, delta, adjusted / p) if verdict == "unresolved" else None
    wins = float((d < 0).mean())
    return Difference(mean, mean - half, mean + half, p, adjusted, wins, verdict, needed)


def _seeds_needed(d: NDArray[np.float64], delta: float, factor: float) -> int | None:
    """Seeds at which a verdict is to be expected, if the mean and the deviation stay as they were seen.

    A difference shows with 80% power at the level that Holm's correction leaves (``factor`` times stricter); a tie
    shows when the interval is narrow enough to lie inside ±delta. The nearer of the two counts; None if neither can.
    """
    mean, deviation = abs(float(d.mean())), float(d.std(ddof=1))
    quantile = special.ndtri
    apart = mean / (quantile(1 - ALPHA / 2 / max(factor, 1.0)) + quantile(POWER))
    inside = (delta - mean) / (quantile(1 - ALPHA / 2) + quantile((1 + POWER) / 2))  # it may leave on either side
    reach = max(apart, inside)
    return None if reach <= 0 else max(len(d) + 1, math.ceil((deviation / reach) ** 2) + 2)  # + 2: t, not normal
