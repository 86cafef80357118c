"""How fast many runs of a task are trained, by engine, side by side; and how much memory 10,000 runs need.

    OMP_NUM_THREADS=1 python benchmarks/lab_speed.py [digits] [digits-cnn] [stdlib-transformer] [memory]

Every engine trains the same 128 runs (the strategies of PyTorch's own optimizers, rates and seeds) of 300 updates,
measured on the validation split ten times along the way. One process of one thread; "two processes" shares the runs
between two. Rounds alternate, and ratios are of the same round: the machine's speed drops out.
"""

import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from ratewise import Schedule
from ratewise.lab.catalogue import CATALOGUE
from ratewise.lab.loading import load
from ratewise.lab.runs import Member, engine_of

RUNS, STEPS, ROUNDS = 128, 300, 3
ONE_BY_ONE = 32
"""Of the runs, how many the one-by-one engine trains in a round: its time is proportional to their number."""
TASKS = ("digits", "digits-cnn", "stdlib-transformer")
OPTIMIZERS = ("sgd", "adagrad", "rmsprop", "adam", "adamw")


def members(count: int, steps: int) -> list[Member]:
    """Evenly drawn from all strategies, seven rates and five seeds."""
    every = [
        Member(s.with_peak(s.peak(steps) * 2.0**octave, steps), seed, steps, "tune")
        for s in CATALOGUE.values()
        if isinstance(s.lr, Schedule) and s.optimizer in OPTIMIZERS
        for octave in range(-3, 4)
        for seed in range(5)
    ]
    return [every[i * len(every) // count] for i in range(count)]


_ENGINES: dict[tuple[str, str], Any] = {}


def train(task: str, engine: str, runs: list[Member]) -> tuple[float, set[str]]:
    """Train in this process; return the seconds, and how they were trained."""
    key = task, engine
    if key not in _ENGINES:
        _ENGINES[key] = engine_of(load(task), engine)
        _ENGINES[key].cohort(runs[:2])  # first use is not counted
    started = time.perf_counter()
    outcomes = _ENGINES[key].cohort(runs)
    return time.perf_counter() - started, {outcome.trained for outcome in outcomes}


def compared(task: str) -> None:
    """Print the time of each engine, and its ratio to population's."""
    runs = members(RUNS, STEPS)
    few = runs[:: RUNS // ONE_BY_ONE]
    halves = few[0::2], few[1::2]
    ratios: dict[str, list[float]] = {"one by one": [], "one by one, two processes": []}
    seconds: list[float] = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(train, [task] * 2, ["one-by-one"] * 2, [half[:2] for half in halves]))
        for _ in range(ROUNDS):
            together, how = train(task, "population", runs)
            alone, _ = train(task, "one-by-one", few)
            started = time.perf_counter()
            list(pool.map(train, [task] * 2, ["one-by-one"] * 2, halves))
            two = time.perf_counter() - started
            seconds.append(together)
            for name, spent in zip(ratios, (alone, two), strict=True):
                ratios[name].append(spent * RUNS / len(few) / together)
    print(f"{task}: {RUNS} runs of {STEPS} updates, trained: {', '.join(sorted(how))}")
    each = 1000 * statistics.median(seconds) / RUNS / STEPS
    print(f"  population                    {each:8.4f} ms per update of a run")
    for name, found in ratios.items():
        low, middle, high = min(found), statistics.median(found), max(found)
        print(f"  {name:<28}  {middle:8.1f} times as long ({low:.1f} to {high:.1f})")


def memory(runs: int = 10_000, steps: int = 20) -> None:
    """Train many runs of wine in cohorts, keep what a study keeps of them, and print the largest resident size."""
    engine, kept = engine_of(load("wine"), "population"), []
    every = members(RUNS, steps)
    for start in range(0, runs, RUNS):
        kept += engine.cohort(every[: min(RUNS, runs - start)])
        if start == 0:
            first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"memory: {len(kept)} runs of wine, {steps} updates each, in cohorts of {RUNS}")
    print(f"  largest resident size         {peak / 2**20:8.2f} GiB ({first / 2**20:.2f} after the first cohort)")


def main() -> None:
    """Measure what the command line names, each in a process of its own."""
    if sys.argv[1:2] == ["--here"]:
        memory() if sys.argv[2] == "memory" else compared(sys.argv[2])
        return
    for what in sys.argv[1:] or (*TASKS, "memory"):
        subprocess.run([sys.executable, __file__, "--here", what], check=True)


if __name__ == "__main__":
    main()
