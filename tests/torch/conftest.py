"""Measuring the rate that an optimizer really used: SGD, gradient 1, from a weight of 0 in float64."""

from importlib.util import find_spec

import pytest

if find_spec("torch") is None:  # the core and the other adapters are tested without it too
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def weight():
    """Makes a float64 weight of 0, whose change under SGD and gradient 1 is the rate, exactly."""
    import torch

    return lambda: torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))


@pytest.fixture
def sgd(weight):
    """Makes an SGD over one weight for each of the given groups."""
    import torch

    def make(*groups, lr=0.1, **settings):
        return torch.optim.SGD([{"params": [weight()], **group} for group in groups or ({},)], lr=lr, **settings)

    return make


@pytest.fixture
def applied():
    """Runs updates and returns the rate that each used; a list of rates where there are several groups."""
    import torch

    def run(optimizer, updates=1, step=None):
        used = []
        for _ in range(updates):
            weights = [p for group in optimizer.param_groups for p in group["params"]]
            for p in weights:
                p.data.zero_()
                p.grad = torch.ones_like(p)
            (step or optimizer.step)()
            used.append([-p.item() for p in weights])
        return [row[0] if len(row) == 1 else row for row in used]

    return run
