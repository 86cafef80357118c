"""What makes one rate better than another on the built-in tasks: the figures behind ``docs/tasks.md``.

    OMP_NUM_THREADS=1 python benchmarks/tasks.py [TASK ...]

For each task and each of four strategies it trains at seven rates, a factor of two apart, with three seeds, and prints
at the best rate: the validation loss (``fixed``, ``linear``, ``adam``, ``adamw``), how far it had risen above its
lowest point at the end under ``fixed`` (``rise``), ``fixed`` relative to ``linear`` (``decay``), the loss at four times
the best rate of ``linear`` relative to the best (``x4``), and the standard deviation over seeds under ``linear``.
"""

import math
import sys
from statistics import fmean, stdev

from ratewise.lab.catalogue import strategy
from ratewise.lab.loading import load
from ratewise.lab.runs import Member, engine_of
from ratewise.lab.tasks import TASKS
from ratewise.outcome import Outcome

NAMES = ("fixed", "linear", "adam", "adamw")
SEEDS = range(3)


def measured(name: str) -> dict[str, dict[float, list[Outcome]]]:
    """Every run of a task, by strategy and rate."""
    task = load(name)
    scale = 0.25 if task.batch_size < 8 else 1.0  # the noise of small batches asks for lower rates
    rates = {n: [scale * strategy(n).peak(task.steps) * 2.0**k for k in range(-3, 4)] for n in NAMES}
    wanted = [(n, rate, seed) for n in NAMES for rate in rates[n] for seed in SEEDS]
    members = [Member(strategy(n).with_peak(rate, task.steps), seed, task.steps, "tune") for n, rate, seed in wanted]
    found: dict[str, dict[float, list[Outcome]]] = {n: {rate: [] for rate in rates[n]} for n in NAMES}
    for (n, rate, _), outcome in zip(wanted, engine_of(task, "population").cohort(members), strict=True):
        found[n][rate].append(outcome)
    return found


def mean(outcomes: list[Outcome]) -> float:
    """Mean final validation loss; infinite if one run diverged."""
    return fmean(math.inf if o.loss is None else o.loss for o in outcomes)


def row(name: str) -> str:
    """One line of the table."""
    found = measured(name)
    best = {n: min(rates, key=lambda rate: mean(rates[rate])) for n, rates in found.items()}
    loss = {n: mean(found[n][best[n]]) for n in NAMES}
    rise = fmean(o.held["valid"][-1] / min(o.held["valid"]) for o in found["fixed"][best["fixed"]])
    linear = found["linear"]
    high = mean(linear[best["linear"] * 4]) / loss["linear"] if best["linear"] * 4 in linear else math.nan
    spread = stdev(o.loss or math.inf for o in linear[best["linear"]])
    cells = [f"{loss[n]:.4f} at {best[n]:.4g}" for n in NAMES]
    more = [f"{rise:.2f}", f"{loss['fixed'] / loss['linear']:.2f}", f"{high:.2f}", f"{spread:.4f}"]
    return " | ".join([f"| {name}", *cells, *more]) + " |"


if __name__ == "__main__":
    print("| task | " + " | ".join([*NAMES, "rise", "decay", "x4", "sd"]) + " |", flush=True)
    print("|" + "---|" * 9, flush=True)
    for task_name in sys.argv[1:] or TASKS:
        print(row(task_name), flush=True)
