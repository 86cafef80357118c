"""How fast the JAX engine trains many runs, with and without compilation, beside PyTorch one by one.

    python benchmarks/lab_speed_jax.py [digits] [digits-cnn] [stdlib-chars] [stdlib-transformer] [many]

The runs are those of ``lab_speed.py``: strategies of five optimizers, seven rates, five seeds, measured on the
validation split ten times along the way. Each engine runs in this one process on one thread, in turn; times are CPU
seconds of the process, and ratios are of the same round, so a busy machine changes little. ``many``: 1,900 runs of 600
updates on digits, compilation counted, wall seconds beside CPU seconds.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["NPROC"] = "1"  # XLA's own number of threads, read when JAX is first used

from lab_speed import members

from ratewise.lab.loading import load
from ratewise.lab.runs import engine_of

RUNS, STEPS, ROUNDS = 128, 300, 3
TASKS = ("digits", "digits-cnn", "stdlib-chars", "stdlib-transformer")
ALONE = {"digits": 16}
"""Of the runs, how many are trained one by one in a round (4 of the larger models); time is proportional to them."""
TOGETHER = {"digits": 128}
"""Of the runs, how many JAX trains in a round: 16 of the larger models, as its time per run does not depend on it."""


def spent(work: Callable[[], Any]) -> float:
    """CPU seconds of this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def compared(task: str, optimizers: tuple[str, ...]) -> None:
    """Print the ratio of the times per run, without compilation and with that of 128 runs."""
    runs = [member for member in members(10_000, STEPS) if member.strategy.optimizer in optimizers]
    runs = runs[:: len(runs) // RUNS][:RUNS]
    together, alone = runs[:: RUNS // TOGETHER.get(task, 16)], runs[:: RUNS // ALONE.get(task, 4)]
    loaded = load(task)
    torch, jax = engine_of(loaded, "one-by-one"), engine_of(loaded, "jax")
    torch.cohort(runs[:1])
    first = spent(lambda: jax.cohort(together))
    each, ratios = [], []
    for _ in range(ROUNDS):
        ours = spent(lambda: jax.cohort(together)) / len(together)
        theirs = spent(lambda: torch.cohort(alone)) / len(alone)
        each.append(ours)
        ratios.append(theirs / ours)
    ours, ratio = statistics.median(each), statistics.median(ratios)
    compiling = first - ours * len(together)
    low, high, with_it = min(ratios), max(ratios), ratio * ours * RUNS / (ours * RUNS + compiling)
    print(
        f"{task} ({', '.join(optimizers)}): {1000 * ours / STEPS:.4f} ms per update of a run, one by one takes "
        f"{ratio:.1f} times as long ({low:.1f} to {high:.1f}); with compilation ({compiling:.1f} s) {with_it:.1f} times"
    )


def many() -> None:
    """1,900 runs of 600 updates: wall and CPU seconds, compilation included."""
    runs = members(1900, 600)
    jax = engine_of(load("digits"), "jax")
    started = time.perf_counter()
    cpu = spent(lambda: [jax.cohort(runs[i : i + 128]) for i in range(0, len(runs), 128)])
    print(f"1,900 runs of 600 updates on digits: {cpu:.1f} s CPU, {time.perf_counter() - started:.1f} s wall")


if __name__ == "__main__":
    for name in sys.argv[1:] or [*TASKS, "many"]:
        if name == "many":
            many()
        else:
            compared(name, ("sgd",))
            if name == "digits":
                compared(name, ("sgd", "adagrad", "rmsprop", "adam", "adamw"))
