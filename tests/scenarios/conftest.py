"""Situations out of people's training runs, each with its exact numbers. A rate is measured, never asked for: plain
SGD, gradient 1, so that the change of a weight is the rate."""

from importlib.util import find_spec

import pytest

if find_spec("torch") is None:
    collect_ignore_glob = ["test_scenario_*.py"]


@pytest.fixture
def weight():
    """Makes a float64 weight of 0."""
    import torch

    return lambda: torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))


@pytest.fixture
def sgd(weight):
    """Makes an SGD over one weight for each of the given groups."""
    import torch

    def make(*groups, lr=1.0):
        return torch.optim.SGD([{"params": [weight()], **group} for group in groups or ({},)], lr=lr)

    return make


@pytest.fixture
def applied():
    """Runs updates and returns the rate that each used; a dictionary of rates where groups have names."""
    import torch

    def run(optimizer, updates, after=lambda: None):
        used = []
        for _ in range(updates):
            for group in optimizer.param_groups:
                for p in group["params"]:
                    p.data.zero_()
                    p.grad = torch.ones_like(p)
            optimizer.step()
            after()
            rates = {group.get("name"): -group["params"][0].item() for group in optimizer.param_groups}
            used.append(rates.get(None, rates))
        return used

    return run


@pytest.fixture
def at(applied):
    """Goes to a position, as if a checkpoint of it were loaded, and returns the rate that this update uses."""

    def rate(scheduler, position):
        scheduler.load_state_dict({**scheduler.state_dict(), "position": position})
        return applied(scheduler.optimizer, 1)[0]

    return rate


@pytest.fixture
def on_disk(tmp_path):
    """Writes something with torch.save and reads it back, as a new process would."""
    import torch

    def there_and_back(data):
        torch.save(data, tmp_path / "checkpoint.pt")
        return torch.load(tmp_path / "checkpoint.pt", weights_only=True)

    return there_and_back


@pytest.fixture
def peers(weight):
    """Runs a scheduler of torch's own over SGD and returns the rates that were applied."""
    import torch

    def run(make, updates, lr=1.0):
        w = weight()
        optimizer = torch.optim.SGD([w], lr=lr)
        scheduler, used = make(optimizer), []
        for _ in range(updates):
            w.data.zero_()
            w.grad = torch.ones_like(w)
            optimizer.step()
            scheduler.step()
            used.append(-w.item())
        return used

    return run
