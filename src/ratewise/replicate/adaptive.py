"""Adagrad's shrinking rate, and how much tuning adaptive methods need."""

import math

import numpy as np
from numpy.typing import NDArray

from ratewise.lab import stats
from ratewise.replicate.bench import Bench, Runs
from ratewise.replicate.claim import Evidence, Figure, claim, estimated, lies, lower, mean, number
from ratewise.replicate.regression import BATCH, DIMENSIONS, SPECTRUM
from ratewise.replicate.schedules import catalogue


@claim(
    "adagrad-stops",
    "Adagrad's rate shrinks until learning stops.",
    source="Strategy card of Adagrad; Zeiler, 2012, https://arxiv.org/abs/1212.5701",
    setting="Shrinks: the mean of rate / sqrt(sum of squared gradients) while Adagrad learns a noisy linear regression "
    "of 100 dimensions, 10,000 updates; its power of time over the last 90%. Stops: stdlib-chars, 1,200 updates, the "
    "rate tuned for them, 8 fresh seeds; by how much the test loss falls in the last half.",
)
def adagrad_stops(bench: Bench) -> Evidence:
    """Follow Adagrad's own rate, and what it still learns late."""
    steps = 10_000
    slopes = np.array([_power(seed, steps) for seed in range(10)])
    bench.updates += steps * len(slopes)
    what = "its rate shrinks as time to a power between -0.6 and -0.4"
    gates = [estimated(what, lambda of: float(slopes[of].mean()), len(slopes), -0.6, -0.4)]
    task, length = bench.task("stdlib-chars"), 1200
    tuned, runs = bench.judged(task, catalogue("adagrad", "rmsprop", "adam"), 8, steps=length, tuning_seeds=2)
    rows = []
    for name, run in runs.items():
        falls = 1 - run.test[0, :, 9] / run.test[0, :, 4]
        found = stats.interval(falls.tolist())
        if name == "adagrad" and found.mean is not None and found.low is not None and found.high is not None:
            what = "its test loss falls by less than 1% in the last half of the run"
            gates.append(lies(what, found.mean, high=0.01, limits=(found.low, found.high)))
        rows.append((name, number(tuned[name].rate), mean(run.test[0, :, 4]), mean(run.test[0, :, 9]), mean(falls)))
    lines = {
        name: ([(i + 1) * length / 10 for i in range(10)], run.test[0].mean(axis=0).tolist())
        for name, run in runs.items()
    }
    header = ("strategy", "best rate", "test loss at half", "at the end", "fall, as a part")
    return Evidence(gates, header, rows, Figure("optimizer updates", "test loss", lines, "y"))


def _power(seed: int, steps: int) -> float:
    """The exponent with which Adagrad's own rate falls over the last nine tenths of a run."""
    rng, root = np.random.default_rng(seed), np.sqrt(SPECTRUM)
    w, total = -rng.normal(size=DIMENSIONS), np.zeros(DIMENSIONS)
    times, sizes = [], []
    for t in range(steps):
        x = rng.normal(size=(BATCH, DIMENSIONS)) * root
        g = (x @ w - rng.normal(size=BATCH)) @ x / BATCH
        total += g * g
        w = w - 0.1 * g / (np.sqrt(total) + 1e-10)
        if t >= steps // 10 and t % (steps // 50) == 0:
            times.append(math.log(t + 1))
            sizes.append(math.log(float((0.1 / np.sqrt(total)).mean())))
    return float(np.polyfit(times, sizes, 1)[0])


_TASKS = ("wine", "breast-cancer", "diabetes", "digits", "digits-clean", "digits-cnn", "stdlib-chars")
_SEVEN = (
    f"Tasks: {', '.join(_TASKS)}. fixed is SGD with momentum 0.9. This can hardly reach a verdict: of seven pairs the "
    "smallest p is 0.016, for three rivals 0.047, so that a method must be better on all seven tasks."
)


@claim(
    "adaptive-tuning",
    "Adaptive methods need less tuning than SGD.",
    source="Strategy cards; Sivaprasad et al., 2020, https://arxiv.org/abs/1910.11758",
    setting="Constant rates in factors of 2, five octaves to either side of each method's centre, on seven tasks, "
    "validation loss (at most that before training). One rate for all: on each task the rate that is best, by the mean "
    "log loss, on the six others; how much higher the loss is than at the task's own best rate. Sensitivity: mean loss "
    "three octaves to either side of the best, over the loss at the best. Paired over tasks; the same "
    "three seeds choose and judge.",
)
def adaptive_tuning(bench: Bench) -> Evidence:
    """Compare how transferable and how broad best rates are."""
    strategies = catalogue("fixed", "adagrad", "rmsprop", "adam")
    reach = range(-5, 6)
    tables: dict[str, list[NDArray[np.float64]]] = {name: [] for name in strategies}
    for task_name in _TASKS:
        task = bench.task(task_name)
        steps = min(task.steps, 300)
        wanted = {k: (s, [s.peak(steps) * 2.0**i for i in reach]) for k, s in strategies.items()}
        runs: dict[str, Runs] = bench.runs(task, wanted, range(3), steps=steps, phase="tune")
        for name, run in runs.items():
            tables[name].append(np.log(run.learned.mean(axis=1)))
    logs = {name: np.array(rows) for name, rows in tables.items()}  # (tasks, rates)
    regret = {name: np.array([_regret(table, i) for i in range(len(_TASKS))]) for name, table in logs.items()}
    broad = {name: np.array([_sensitivity(row) for row in table]) for name, table in logs.items()}
    rivals = ("adagrad", "rmsprop", "adam")
    gates = lower(
        {k: regret[k] for k in rivals}, regret["fixed"], "SGD", of="tasks", measure="regret of one rate for all tasks"
    )
    gates += lower({k: broad[k] for k in rivals}, broad["fixed"], "SGD", of="tasks", measure="sensitivity")
    rows = [
        (k, ", ".join(number(2.0 ** (int(i) - 5)) for i in logs[k].argmin(axis=1)), mean(regret[k]), mean(broad[k]))
        for k in strategies
    ]
    header = ("method", "best rates, as multiples of its centre", "loss lost with one rate for all", "sensitivity")
    lines = {
        k: ([2.0**i for i in reach], np.exp(t - t.min(axis=1, keepdims=True)).mean(axis=0).tolist())
        for k, t in logs.items()
    }
    figure = Figure("rate, as a multiple of the method's centre", "loss over the lowest, mean over tasks", lines, "xy")
    return Evidence(gates, header, rows, figure, _SEVEN)


def _regret(logs: NDArray[np.float64], task: int) -> float:
    """By which part the loss of a task is higher at the rate that suits the others than at its own best."""
    others = np.delete(logs, task, axis=0).mean(axis=0)
    return float(np.expm1(logs[task, int(others.argmin())] - logs[task].min()))


def _sensitivity(logs: NDArray[np.float64]) -> float:
    """By which part the mean loss of the rates around the best is higher than at the best."""
    best = int(logs.argmin())
    around = logs[max(0, best - 3) : best + 4]
    return float(np.expm1(around - logs[best]).mean())
