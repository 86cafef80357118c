"""How fast schedules are: python benchmarks/core.py (the best of several runs; numpy for the array rows)."""

import math
import sys
import time
from collections.abc import Callable

import numpy as np

import ratewise as rw


def best(function: Callable[[], object], runs: int = 7) -> float:
    """The shortest processor time of several runs, in seconds."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def bare(t: np.ndarray) -> np.ndarray:
    """Warm-up and cosine as one would write them for this array alone."""
    falling = 0.05 * (1 + np.cos(np.pi * (t - 1000) / 999_000))
    return np.where(t < 1000, 0.1 * (t + 1) / 1000, falling)


def main() -> int:
    a = rw.Cosine(0.1, 0.0, 999_000).warmup(1000)
    n = 100_000
    t = np.arange(10**6)
    pieces = [rw.Linear(1.0, 0.0, 100)] * 10_000

    def chain() -> rw.Schedule:
        result: rw.Schedule = pieces[0]
        for piece in pieces[1:]:
            result = result >> piece
        return result

    long = rw.sequence(*pieces)
    text = repr(long)
    ours, plain = best(lambda: a(t)), best(lambda: bare(t))
    rows = [
        ("one value, us", best(lambda: [a(t) for t in range(n)]) / n * 1e6, 0.8),
        ("values(), us per value", best(lambda: a.values(0, n)) / n * 1e6, 0.4),
        ("10**6 values by numpy, ms", ours * 1e3, math.inf),
        ("  as a multiple of the bare formula", ours / plain, 3.0),
        ("10,000 pieces with >>, s", best(chain, 3), 1.5),
        ("10,000 pieces with sequence(), s", best(lambda: rw.sequence(*pieces), 3), 0.2),
        ("10,000 pieces over 10**6 positions, s", best(lambda: long(t), 3), 0.5),
        ("10,000 pieces, one value, us", best(lambda: [long(t) for t in range(0, 10**6, 50)]) / 20_000 * 1e6, 2.0),
        ("10,000 pieces parsed, s", best(lambda: rw.parse(text), 3), 1.0),
    ]
    for name, value, demand in rows:
        print(f"{name:<40}{value:9.3f}   demand {demand:g}{'' if value <= demand else '   MISSED'}")
    return 0 if all(value <= demand for _, value, demand in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
