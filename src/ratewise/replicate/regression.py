"""Streaming linear regression with noise: every batch is new, and the excess risk is known exactly.

The inputs are Gaussian with a spectrum i^-1.5 in 100 dimensions, the noise has deviation 1, a batch four examples. The
excess risk of weights w is (w - w*)' S (w - w*) / 2 with S the covariance of the inputs.
"""

import math
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.core import recipes
from ratewise.core.horizon import fraction
from ratewise.core.schedule import Schedule
from ratewise.replicate.bench import Bench
from ratewise.replicate.claim import Evidence, Figure, Gate, claim, estimated, lower, number

DIMENSIONS, BATCH = 100, 4
SPECTRUM = np.arange(1, DIMENSIONS + 1) ** -1.5
SCHEDULES: dict[str, Schedule] = {
    "constant": recipes.fixed(1.0),
    "inverse root": recipes.inverse_sqrt(1.0, timescale=fraction(0.01)),
    "step": recipes.step_decay(1.0, gamma=0.1, every=fraction(1 / 3)),
    "wsd": recipes.trapezoidal(1.0, warmup=0, cooldown=fraction(0.2)),
    "cosine": recipes.cosine(1.0),
    "linear": recipes.linear_decay(1.0),
    "quadratic": recipes.polynomial_decay(1.0, power=2.0),
}
GRID = 2.0 ** np.arange(-9, 3)
"""Peak rates; the highest diverges, the lowest is too low for every schedule at both lengths."""

_SETTING = (
    "Linear regression on a stream of new examples, 100 dimensions, spectrum i^-1.5, noise 1, batches of 4; excess "
    "risk exactly; rates in factors of 2."
)


@claim(
    "decay-to-zero",
    "Decay to zero beats a constant rate, and the longer the run, the more.",
    source="Li et al., 2020, https://arxiv.org/abs/1905.04753; Defazio et al., 2023, https://arxiv.org/abs/2310.07831",
    setting=f"{_SETTING} Every schedule at its own best rate, by five tuning seeds, judged on twelve fresh ones. Runs "
    "of 2,000 and 20,000 updates.",
    quick=True,
)
def decay_to_zero(bench: Bench) -> Evidence:
    """Compare tuned schedules at two lengths."""
    least = {2000: 1.5, 20_000: 3.0} if not bench.quick else {500: 1.0, 2000: 1.5}
    gates: list[Gate] = []
    rows = {name: [name] for name in SCHEDULES}
    lines: dict[str, Any] = {}
    for steps, factor in least.items():
        risks, best = _tuned(steps, *_seeds(bench))
        bench.updates += _updates(steps, bench)
        high, low = risks["constant"], risks["linear"]
        what = f"{steps} updates: constant has at least {factor} times the risk of linear"
        gates.append(estimated(what, partial(_ratio, high, low), len(low), factor))
        gates += lower({"linear": low}, high, "constant", where=f"{steps} updates")
        for name, risk in risks.items():
            rows[name] += [number(risk.mean()), number(best[name])]
            line = lines.setdefault(name, ([], []))
            line[0].append(float(steps))
            line[1].append(float(risk.mean()))
    header = ["schedule", *(f"{what}, {steps} updates" for steps in least for what in ("excess risk", "best rate"))]
    return Evidence(gates, header, list(rows.values()), Figure("optimizer updates", "excess risk", lines, "xy"))


@claim(
    "rate-falls-with-horizon",
    "The longer the run, the lower the best rate: by a power of the length between -0.2 and -0.7.",
    source="Bjorck et al., 2024, https://arxiv.org/abs/2409.19913",
    setting=f"{_SETTING} The exponent between the two lengths, from parabolas through the three best rates of each "
    "seed's curve of risk against rate; seventeen seeds, those that tune in decay-to-zero too: nothing is chosen here.",
)
def rate_falls_with_horizon(bench: Bench) -> Evidence:
    """Fit the exponent of the best rate."""
    lengths = (2000, 20_000)
    gates, rows = [], []
    lines = {}
    for name in ("constant", "linear", "cosine"):
        places = []
        for steps in lengths:
            risks = _risks(steps, name, *_seeds(bench))
            places.append(np.array([_lowest(risk) for risk in risks.T]))
            lines[f"{name}, {steps}"] = (GRID.tolist(), risks.mean(axis=1).tolist())
        slopes = (places[1] - places[0]) / math.log2(lengths[1] / lengths[0])
        what = f"{name}: the exponent lies in -0.7 to -0.2"
        gates.append(estimated(what, partial(_mean, slopes), len(slopes), -0.7, -0.2))
        rows.append((name, *(number(2.0 ** float(place.mean())) for place in places), number(float(slopes.mean()))))
    header = ("schedule", *(f"best rate, {steps} updates" for steps in lengths), "exponent")
    return Evidence(gates, header, rows, Figure("peak rate", "excess risk", lines, "xy"))


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64], of: NDArray[np.int64]) -> float:
    return float(a[of].mean() / b[of].mean())


def _mean(values: NDArray[np.float64], of: NDArray[np.int64]) -> float:
    return float(values[of].mean())


def _seeds(bench: Bench) -> tuple[int, int]:
    """How many seeds tune, and how many judge."""
    return bench.size(5, 3), bench.size(12, 8)


def _updates(steps: int, bench: Bench) -> int:
    return steps * sum(_seeds(bench)) * len(SCHEDULES) * len(GRID)


def _tuned(steps: int, tuning: int, fresh: int) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Each schedule's risk on the fresh seeds at the rate that is best on the tuning seeds, and that rate."""
    risks, best = {}, {}
    for name in SCHEDULES:
        found = _risks(steps, name, tuning, fresh)
        i = int(np.argmin(found[:, :tuning].mean(axis=1)))
        risks[name], best[name] = found[i, tuning:], float(GRID[i])
    return risks, best


def _risks(steps: int, name: str, tuning: int, fresh: int) -> NDArray[np.float64]:
    """The final risk of a schedule, ``(rates, seeds)``."""
    return _streamed(steps, tuning + fresh)[name]


@lru_cache(maxsize=4)
def _streamed(steps: int, seeds: int) -> Mapping[str, NDArray[np.float64]]:
    """Train every schedule at every rate of the grid on every seed's stream; runs of a seed see the same examples."""
    shapes = np.array([schedule.over(steps).values(0, steps) for schedule in SCHEDULES.values()])
    rates = (shapes[:, None, :] * GRID[None, :, None]).reshape(-1, steps)  # (schedules * rates, steps)
    generators = [np.random.default_rng(seed) for seed in range(seeds)]
    w = np.zeros((seeds, len(rates), DIMENSIONS))
    w -= np.stack([rng.normal(size=DIMENSIONS) for rng in generators])[:, None, :]  # w - w*, from w = 0
    root, chunk = np.sqrt(SPECTRUM), 500
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, steps, chunk):
            count = min(chunk, steps - first)
            x = np.stack([rng.normal(size=(count, BATCH, DIMENSIONS)) for rng in generators], axis=1) * root
            noise = np.stack([rng.normal(size=(count, 1, BATCH)) for rng in generators], axis=1)
            for t in range(count):
                error = w @ x[t].transpose(0, 2, 1) - noise[t]
                w -= (rates[:, first + t] / BATCH)[None, :, None] * (error @ x[t])
        risk = (w * w * SPECTRUM).sum(axis=2) / 2
    risk = np.where(risk < 1e6, risk, np.inf)
    return dict(zip(SCHEDULES, risk.T.reshape(len(SCHEDULES), len(GRID), seeds), strict=True))


def _lowest(risks: NDArray[np.float64]) -> float:
    """Where a parabola through the lowest point and its neighbours is lowest, as log2 of the rate."""
    i = int(np.clip(np.argmin(risks), 1, len(risks) - 2))
    a, b, c = np.log(risks[i - 1 : i + 2])
    curved = a - 2 * b + c
    shift = float(np.clip((a - c) / (2 * curved), -1, 1)) if np.isfinite(curved) and curved > 0 else 0.0
    return math.log2(GRID[i]) + shift
