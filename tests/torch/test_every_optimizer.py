import pytest
import torch

import ratewise as rw
from ratewise.torch import Scheduler

NEEDS_MORE = {
    "LBFGS": "needs a closure (tried in test_skipping)",
    "SparseAdam": "needs sparse gradients",
}
NOT_PROPORTIONAL = {
    "ASGD": "computes its step size from the rate of the update before",
    "Adafactor": "caps the rate by its relative step",
    "Rprop": "uses the rate at its first update only",
}
KINDS = [
    kind
    for name, kind in sorted(vars(torch.optim).items())
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in {"Optimizer", *NEEDS_MORE}
]
LR = rw.linear_decay(0.5, steps=8)


def moved(optimizer, p, updates):
    """How far each update moves the weight, from the same place, with the same gradient."""
    start, distances = p.detach().clone(), []
    for _ in range(updates):
        p.data.copy_(start)
        p.grad = torch.ones_like(p)
        optimizer.step()
        distances.append((start - p.detach()).flatten()[0].item())
    return distances


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_optimizer_of_torch_uses_the_scheduled_rates(kind):
    p, q = (torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64)) for _ in range(2))
    scheduled, constant = kind([p], lr=0.1), kind([q], lr=1.0)
    scheduler = Scheduler(scheduled, LR)
    used = moved(scheduled, p, 8)
    assert scheduler.position == 8
    assert scheduler.get_last_lr() == [LR(7)]
    if kind.__name__ not in NOT_PROPORTIONAL:
        unit = moved(constant, q, 8)
        assert used == pytest.approx([LR(t) * unit[t] for t in range(8)], rel=1e-9)


def test_sparse_gradients_follow_too():
    table = torch.nn.Embedding(3, 1, sparse=True, dtype=torch.float64)
    optimizer = torch.optim.SparseAdam(list(table.parameters()), lr=0.1)
    scheduler = Scheduler(optimizer, LR)
    before = table.weight.detach().clone()
    table(torch.tensor([1])).sum().backward()
    optimizer.step()
    assert (before - table.weight.detach())[1].item() == pytest.approx(0.5, rel=1e-6)
    assert scheduler.position == 1
