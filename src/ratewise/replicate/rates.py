"""How high and how low a rate may be, and how the best one moves with the batch."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ratewise.replicate.bench import Bench, Runs, fresh_seeds
from ratewise.replicate.claim import Evidence, Figure, claim, estimated, higher, mean, number, share
from ratewise.replicate.schedules import catalogue

_SETTING = (
    "SGD with momentum at a constant rate, from a 256th of the best rate (tuned on the validation split) to 256 times "
    "it in factors of 4, fresh seeds, held-out loss at the end. A run's loss counts as at most that before training. "
    "Tasks: digits-clean, diabetes (squared error), stdlib-chars."
)


@claim(
    "too-high",
    "Too high a rate overshoots or diverges.",
    source="Strategy card of a constant rate; Robbins and Monro, 1951",
    setting=_SETTING,
    quick=True,
)
def too_high(bench: Bench) -> Evidence:
    """Sweep the rate upwards."""
    gates, rows = [], []
    for name, runs in _sweeps(bench).items():
        best = runs.learned[4]
        gates += higher({"16 times the best rate": runs.learned[6]}, best, "the best rate", where=name)
        lost = runs.capped >= runs.first
        what = f"256 times the best rate ends no lower than it began, or diverges, on {name}"
        gates.append(share(what, int(lost[8].sum()), lost.shape[1]))
        cells = [f"{mean(runs.learned[i])}{_lost(runs, i)}" for i in range(4, 9)]
        rows.append((name, number(float(runs.rates[4])), *cells))
    header = ("task", "best rate", *(f"loss at {4**i} times it" for i in range(5)))
    note = (
        "In brackets: runs that ended with no lower loss than they began with, and those among them whose loss was no "
        "number at the end."
    )
    return Evidence(gates, header, rows, _figure(bench), note)


@claim(
    "too-low",
    "Too low a rate crawls.",
    source="Strategy card of a constant rate",
    setting=_SETTING,
    quick=True,
)
def too_low(bench: Bench) -> Evidence:
    """Sweep the rate downwards."""
    gates, rows = [], []
    for name, runs in _sweeps(bench).items():
        gates += higher({"a 64th of the best rate": runs.learned[1]}, runs.learned[4], "the best rate", where=name)
        slower = runs.learned[1] > runs.test[4, :, 0]
        what = f"a 64th of the best rate ends behind what the best has after a tenth of the updates, on {name}"
        gates.append(share(what, int(slower.sum()), len(slower)))
        rows.append((name, number(float(runs.rates[4])), *(mean(runs.learned[i]) for i in range(4, -1, -1))))
    header = ("task", "best rate", "loss at it", *(f"at 1/{4**i}" for i in range(1, 5)))
    return Evidence(gates, header, rows, _figure(bench))


def _sweeps(bench: Bench) -> dict[str, Runs]:
    """Constant rates from a 256th of the best to 256 times it."""
    names = ["digits-clean", "diabetes", "stdlib-chars"] if not bench.quick else ["digits-clean"]
    sweeps = {}
    for name in names:
        task, fixed = bench.task(name), catalogue("fixed")
        best = bench.tuned(task, fixed, seeds=bench.size(5, 2))["fixed"].rate
        rates = best * 4.0 ** np.arange(-4, 5)
        sweeps[name] = bench.runs(task, {"fixed": (fixed["fixed"], rates.tolist())}, fresh_seeds(12))["fixed"]
    return sweeps


def _figure(bench: Bench) -> Figure:
    lines = {
        name: ((runs.rates / runs.rates[4]).tolist(), (runs.learned / runs.first).mean(axis=1).tolist())
        for name, runs in _sweeps(bench).items()
    }
    return Figure("rate, as a multiple of the best", "held-out loss, as a part of that before training", lines, "x")


def _lost(runs: Runs, i: int) -> str:
    over, infinite = int((runs.capped[i] >= runs.first[i]).sum()), int((~np.isfinite(runs.loss[i])).sum())
    return f" ({over}, {infinite})" if over else ""


@claim(
    "linear-scaling",
    "When the batch grows k times, the rate must grow k times (the linear scaling rule).",
    source="Goyal et al., 2017, https://arxiv.org/abs/1706.02677",
    setting="digits-clean, SGD with momentum at a constant rate, 20 epochs at every batch size from 8 to 128. The best "
    "rate from a parabola through the three best of a grid in factors of 2, by validation loss, on six tuning seeds: "
    "there is nothing to judge on fresh ones. The interval is from resampled seeds.",
)
def linear_scaling(bench: Bench) -> Evidence:
    """Fit the exponent of the best rate over batch sizes."""
    sizes, count = (8, 16, 32, 64, 128), 6
    tables, lines = [], {}
    for size in sizes:
        task = replace(bench.task("digits-clean"), batch_size=size)
        steps = 20 * len(task.splits["train"][0]) // size
        tuned = bench.tuned(task, catalogue("fixed"), steps=steps, seeds=count)["fixed"]
        wanted = {"fixed": (tuned.strategy, tuned.rates.tolist())}
        runs = bench.runs(task, wanted, range(count), steps=steps, phase="tune")["fixed"]
        tables.append((np.log2(runs.rates), runs.learned))
        lines[f"batch {size}"] = (runs.rates.tolist(), runs.learned.mean(axis=1).tolist())

    def places(of: NDArray[np.int64]) -> list[float]:
        return [lowest(rates, losses[:, of].mean(axis=1)) for rates, losses in tables]

    gate = estimated(
        "the exponent of the best rate over the batch lies in 0.8 to 1.2",
        lambda of: float(np.polyfit(np.log2(sizes), places(of), 1)[0]), count, 0.8, 1.2, times=300,
    )  # fmt: skip
    rows = [(str(size), number(2.0**place)) for size, place in zip(sizes, places(np.arange(count)), strict=True)]
    return Evidence([gate], ("batch", "best rate"), rows, Figure("rate", "validation loss", lines, "xy"))


def lowest(log_rates: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """Return where a parabola in log(rate) through the lowest point and its neighbours is lowest, as log2(rate).

    Example:
        >>> lowest(np.array([-2.0, -1.0, 0.0]), np.array([2.0, 1.0, 2.0]))
        -1.0
    """
    i = int(np.clip(np.argmin(losses), 1, len(losses) - 2))
    a, b, c = np.log(losses[i - 1 : i + 2])
    curved = float(a - 2 * b + c)
    if not math.isfinite(curved) or curved <= 0:
        return float(log_rates[int(np.argmin(losses))])
    shift = float(np.clip((a - c) / (2 * curved), -1, 1))
    return float(log_rates[i] + shift * (log_rates[1] - log_rates[0]))
