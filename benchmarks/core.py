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


def stepped(n: int) -> None:
    """The same curve from torch's own scheduler, one step after the other."""
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=1000)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 999_000)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], [1000])
    optimizer.step()
    for _ in range(n):
        scheduler.step()


def compiled(a: rw.Schedule) -> float:
    """Seconds until jax.jit, the slower of the two that compile, has traced, compiled and run ``a`` once."""
    import jax

    t = jax.numpy.arange(8)
    jax.jit(lambda t: t * 2.0)(t).block_until_ready()
    start = time.perf_counter()
    jax.jit(a)(t).block_until_ready()
    return time.perf_counter() - start


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

    long, short = rw.sequence(*pieces), rw.sequence(*pieces[:10])
    text, spec = repr(long), long.to_dict()
    ours, plain = best(lambda: a(t)), best(lambda: bare(t))

    def one(schedule: rw.Schedule, total: int) -> float:
        return best(lambda: [schedule(t) for t in range(0, total, total // 20_000 or 1)], 3) / 20_000 * 1e6

    rows = [
        ("one value, us", best(lambda: [a(t) for t in range(n)]) / n * 1e6, 0.8),
        ("values(), us per value", best(lambda: a.values(0, n)) / n * 1e6, 0.4),
        ("10**6 values by numpy, ms", ours * 1e3, math.inf),
        ("  as a multiple of the bare formula", ours / plain, 2.0),
        ("  as a part of stepping torch", ours / (best(lambda: stepped(20_000), 3) * 50), 0.01),
        ("10,000 pieces with >>, s", best(chain, 3), 0.3),
        ("10,000 pieces with sequence(), s", best(lambda: rw.sequence(*pieces), 3), 0.3),
        ("10,000 pieces over 10**6 positions, s", best(lambda: long(t), 3), 0.2),
        ("10,000 pieces, one value, us", one(long, 10**6), math.inf),
        ("  as a multiple of 10 pieces", one(long, 10**6) / one(short, 20_000), 2.0),
        ("10,000 pieces printed, s", best(lambda: repr(long), 3), 1.0),
        ("10,000 pieces parsed, s", best(lambda: rw.parse(text), 3), 1.0),
        ("10,000 pieces from a dictionary, s", best(lambda: rw.from_dict(spec), 3), 1.0),
        ("10,000 pieces traced by jax.jit, s", compiled(long), 1.0),
        ("warm-up + cosine traced by jax.jit, s", compiled(a), 1.0),
    ]
    for name, value, demand in rows:
        print(f"{name:<40}{value:9.4f}   demand {demand:g}{'' if value <= demand else '   MISSED'}")
    return 0 if all(value <= demand for _, value, demand in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
