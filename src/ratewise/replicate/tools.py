"""Claims about the tools: what the finder's rules are worth, and what training many runs at once saves."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from ratewise.core import recipes
from ratewise.lab.find import find
from ratewise.lab.runs import Member, engine_of
from ratewise.replicate.bench import Bench
from ratewise.replicate.claim import Evidence, claim, estimated, lies, number
from ratewise.replicate.rates import lowest
from ratewise.replicate.schedules import adam, sgd

_PAIRS = [
    (task, optimizer) for task in ("wine", "breast-cancer", "diabetes", "digits") for optimizer in ("sgd", "adam")
]
_RULES = ("valley", "slide", "minimum", "steep")
_NONE = 100.0
"""Octaves by which a search that suggests nothing is off: further than any rate that was tried."""


@claim(
    "finder-rules",
    "Short complete runs find the best rate within an octave; the usual rule of the range test lies far too low.",
    source="Smith, 2017, https://arxiv.org/abs/1506.01186, and fastai for the rules; pilot of this project",
    setting="Four tasks with SGD (momentum 0.9) and Adam, linear decay over 400 updates. The truth: the lowest of a "
    "parabola through validation losses at the end of full runs, rates in factors of 2. One search each; errors in "
    "octaves, intervals from resampled pairs; no suggestion counts as a hundred octaves off. docs/finder.md has "
    "sixteen pairs and two lengths.",
)
def finder_rules(bench: Bench) -> Evidence:
    """Compare suggestions with the grid truth."""
    steps, errors, rows = 400, [], []
    for task, optimizer in _PAIRS:
        make = sgd if optimizer == "sgd" else adam
        strategy = make(optimizer, recipes.linear_decay(0.1 if optimizer == "sgd" else 0.01))
        tuned = bench.tuned(bench.task(task), {optimizer: strategy}, steps=steps, engine="population")[optimizer]
        truth = lowest(np.log2(tuned.rates), np.minimum(tuned.scores, 1e9))
        probe = find(bench.task(task), strategy, steps)
        ranged = find(bench.task(task), strategy, method="range")
        bench.updates += int(probe.cost["updates"]) + int(ranged.cost["updates"])
        found = {"probe": probe.suggestion, **{rule: ranged.rules.get(rule) for rule in _RULES}}
        errors.append([_NONE if rate is None else np.log2(rate) - truth for rate in found.values()])
        rows.append(
            (f"{task}, {optimizer}", number(2.0**truth), *("–" if e == _NONE else number(e) for e in errors[-1]))
        )
    table = np.array(errors)
    count = len(table)
    gates = [
        estimated(
            "the probe's median error is below one octave",
            lambda of: float(np.median(np.abs(table[of, 0]))), count, high=1.0,
        ),
        estimated(
            "fastai's valley is, as a median, more than two octaves too low",
            lambda of: float(np.median(table[of, 1])), count, high=-2.0,
        ),
    ]  # fmt: skip
    medians = [number(float(np.median(np.abs(column)))) for column in table.T]
    rows.append(("median of the sizes", "", *medians))
    return Evidence(gates, ("pair", "best rate", "probe: octaves off", *_RULES), rows)


@claim(
    "vmap-speed",
    "Training many runs in one vectorised program is many times faster than one after the other.",
    source="Whitney, 2021, https://willwhitney.com/parallel-training-jax.html (10 to 100 times, on an accelerator)",
    setting="digits, 32 runs of 300 updates, wall time without compilation, best of three, on a processor. JAX, eight "
    "runs side by side, against the same engine that trains one run after the other, with no other beside it, and "
    "against PyTorch's loop; PyTorch's population against that loop.",
)
def vmap_speed(bench: Bench) -> Evidence:
    """Time cohorts against single runs."""
    steps, count = 300, 32
    strategy = sgd("linear", recipes.linear_decay(0.1)).with_peak(0.1, steps)
    members = [Member(strategy, seed, steps, "tune") for seed in range(count)]
    measured: dict[str, list[float]] = {}
    for _ in range(3):
        for name, train in _ways(bench, members).items():
            started = time.perf_counter()
            train()
            measured.setdefault(name, []).append(time.perf_counter() - started)
    bench.updates += 3 * 4 * count * steps
    best = {name: min(values) for name, values in measured.items()}
    loop, single = best["PyTorch, one by one"], best["JAX, one by one"]
    gates = [
        lies(f"JAX, at once: at least 5 times faster than {other}", seconds / best["JAX, at once"], 5)
        for other, seconds in (("PyTorch's loop", loop), ("one by one in JAX", single))
    ]
    rows = [(name, f"{1e3 * s / count / steps:.3f}", number(loop / s)) for name, s in best.items()]
    header = ("how", "milliseconds per update and run", "times faster than PyTorch's loop")
    note = (
        f"Of the factor of {number(loop / best['JAX, at once'])} over PyTorch's loop, {number(loop / single)} are "
        f"there one by one already: they come from compiling, and {number(single / best['JAX, at once'])} from "
        "training runs side by side."
    )
    return Evidence(gates, header, rows, note=note)


def _ways(bench: Bench, members: Sequence[Member]) -> dict[str, Callable[[], object]]:
    """The ways to train the same runs, compiled."""
    task = bench.task("digits")
    jax, population, loop = (engine_of(task, name) for name in ("jax", "population", "one-by-one"))
    single = type(jax)(task, lanes=1)  # else a run alone would be trained eightfold
    jax.cohort(members[:8])
    single.cohort(members[:1])
    return {
        "PyTorch, one by one": lambda: loop.cohort(members),
        "PyTorch, population": lambda: population.cohort(members),
        "JAX, one by one": lambda: [single.cohort([member]) for member in members],
        "JAX, at once": lambda: jax.cohort(members),
    }
