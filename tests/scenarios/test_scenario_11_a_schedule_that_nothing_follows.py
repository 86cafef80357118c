"""After 6 of 10 updates of a cosine the optimizer is rebuilt, wrapped or re-pointed, and goes on at 1.0.

The log would go on showing a cosine. It has to be an error at the next update, before a parameter has moved.
"""

import copy

import pytest
import torch

import ratewise as rw
from ratewise.errors import ScheduleDetached, ScheduleError, UnknownName
from ratewise.lab.catalogue import strategy
from ratewise.torch import Scheduler, build


@pytest.fixture
def started(sgd, applied):
    scheduler = Scheduler(sgd(), rw.Cosine(1.0, 0.0, 10))
    applied(scheduler.optimizer, 6)
    return scheduler


def rebuilt(optimizer):
    return torch.optim.SGD(optimizer.param_groups[0]["params"], lr=1.0)


def replaced(optimizer):
    optimizer.param_groups = [{**group, "lr": 1.0} for group in optimizer.param_groups]
    return optimizer


def emptied_and_filled(optimizer):
    groups = [{**group, "lr": 1.0} for group in optimizer.param_groups]
    optimizer.param_groups.clear()
    optimizer.param_groups.extend(groups)
    return optimizer


def written(optimizer):
    optimizer.param_groups[0]["lr"] = 1.0
    return optimizer


class Sharded(torch.optim.Optimizer):
    """A wrapper that makes an optimizer of its own over the same parameters, as sharding and SAM do."""

    def __init__(self, wrapped):
        super().__init__([p for group in wrapped.param_groups for p in group["params"]], {"lr": 1.0})
        self.inner = torch.optim.SGD([p for group in self.param_groups for p in group["params"]], lr=1.0)

    def step(self, closure=None):
        self.inner.step()


WAYS = {
    "rebuilt": rebuilt,
    "wrapped": Sharded,
    "replaced": replaced,
    "refilled": emptied_and_filled,
    "written": written,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_next_update_says_what_was_meant_and_what_was_found(started, applied, way):
    optimizer = WAYS[way](started.optimizer)
    with pytest.raises(ScheduleDetached) as error:
        applied(optimizer, 1)
    assert (round(error.value.intended, 4), error.value.found, error.value.group) == (0.3455, 1.0, "0")
    assert optimizer.param_groups[0]["params"][0].item() == 0.0


def test_whoever_lets_go_may_go_on(started, applied):
    started.detach()
    assert applied(rebuilt(started.optimizer), 2) == [1.0, 1.0]


def test_a_copy_of_the_scheduler_follows_its_own_optimizer(started, applied):
    twin = copy.deepcopy(started)
    assert applied(twin.optimizer, 1) == applied(started.optimizer, 1) == pytest.approx([0.3455], abs=5e-5)


@pytest.mark.parametrize(
    ("typo", "error", "nearest"),
    [
        (lambda: rw.parse("Cosin(0.1, 0.0, 10)"), ScheduleError, "Did you mean 'Cosine'"),
        (lambda: rw.parse("warmup_cosin(0.1)"), ScheduleError, "Did you mean 'warmup_cosine'"),
        (lambda: strategy("one_cicle"), UnknownName, "Did you mean 'one_cycle'"),
        (lambda: rw.Linear(0.1, 0.0, 10, ease="linaer"), (ScheduleError, TypeError), "ease"),
        (lambda: build("sgdd", [torch.nn.Parameter(torch.zeros(1))], lr=0.1, horizon=10), Exception, "sgd"),
    ],
    ids=["shape", "recipe", "strategy", "argument", "optimizer"],
)
def test_a_typo_is_an_error_with_the_nearest_name(typo, error, nearest):
    with pytest.raises(error, match=nearest):
        typo()


def test_today_a_rebuilt_optimizer_runs_on_at_its_peak_and_the_log_shows_a_cosine(sgd, applied):
    optimizer = sgd()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    applied(optimizer, 6, scheduler.step)
    optimizer = rebuilt(optimizer)
    assert applied(optimizer, 1) == [1.0]
    assert scheduler.get_last_lr() == pytest.approx([0.3455], abs=5e-5)
