"""What a Scheduler adds to ``optimizer.step()``, as a ratio to torch's CosineAnnealingLR with its ``step()``.

Run with: OMP_NUM_THREADS=1 python benchmarks/torch_step.py
Targets: at most 0.5 at 1 group, at most 0.25 at 100 groups and with rates held as tensors.
"""

import gc
import time
from collections.abc import Callable

import torch

from ratewise import cosine
from ratewise.torch import Scheduler

STEPS, ROUNDS = 1000, 30


class Idle(torch.optim.Optimizer):
    """An optimizer whose step does nothing, so that what is added to it can be seen."""

    def __init__(self, groups: list[dict[str, object]], lr: float) -> None:
        """Hold the groups."""
        super().__init__(groups, {"lr": lr})

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Do nothing."""


def optimizer(groups: int, tensors: bool) -> Idle:
    rates = [torch.tensor(0.1) if tensors else 0.1 for _ in range(groups)]
    return Idle([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates], lr=0.1)


def bare(groups: int, tensors: bool) -> Callable[[], None]:
    return optimizer(groups, tensors).step


def ours(groups: int, tensors: bool) -> Callable[[], None]:
    made = optimizer(groups, tensors)
    Scheduler(made, cosine(0.1), horizon=STEPS)
    return made.step


def factors(groups: int, tensors: bool) -> Callable[[], None]:
    made = optimizer(groups, tensors)
    for i, group in enumerate(made.param_groups):
        group["lr"] *= 1 + i
    Scheduler(made, factor=cosine(1.0), horizon=STEPS)
    return made.step


def torchs(groups: int, tensors: bool) -> Callable[[], None]:
    made = optimizer(groups, tensors)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(made, T_max=STEPS)

    def step() -> None:
        made.step()
        scheduler.step()

    return step


def microseconds(step: Callable[[], None]) -> float:
    start = time.thread_time()
    for _ in range(STEPS):
        step()
    return (time.thread_time() - start) / STEPS * 1e6


def main() -> None:
    print(f"torch {torch.__version__}; microseconds added per update, best of {ROUNDS} rounds of {STEPS}")
    print(f"{'groups':>6} {'rates':>7} {'torch':>8} {'lr=':>8} {'ratio':>6} {'factor=':>8} {'ratio':>6}")
    for groups, tensors in ((1, False), (10, False), (100, False), (1, True), (10, True)):
        kinds = (bare, torchs, ours, factors)
        best = dict.fromkeys(kinds, float("inf"))
        for kind in kinds * ROUNDS:  # in turn, so that a busy machine is busy for all of them
            step = kind(groups, tensors)
            best[kind] = min(best[kind], microseconds(step))
            del step
            gc.collect()  # one at a time: the hook that all optimizers share is a cost of ours alone
        peer, lr, factor = (best[kind] - best[bare] for kind in kinds[1:])
        kind_of_rate = "tensor" if tensors else "float"
        print(f"{groups:>6} {kind_of_rate:>7} {peer:>8.2f} {lr:>8.2f} {lr / peer:>6.2f}"
              f" {factor:>8.2f} {factor / peer:>6.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
