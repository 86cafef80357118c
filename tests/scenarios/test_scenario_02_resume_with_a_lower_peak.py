"""A checkpoint of update 5 of 10 (cosine, peak 1.0) is resumed with a peak of 0.1.

Whoever asks for another peak must get it or be told, whatever is loaded first; and the optimizer's moments are not
to notice.
"""

import math

import pytest
import torch

import ratewise as rw
from ratewise.errors import ScheduleChanged
from ratewise.torch import Scheduler

ORDERS = [["make", "optimizer", "scheduler"], ["make", "scheduler", "optimizer"], ["optimizer", "make", "scheduler"]]
WAYS = {  # how the peak is given, in which order things can then be loaded
    "lr": (lambda adam, peak, **more: Scheduler(adam, rw.Cosine(peak, 0.0, 10), **more), ORDERS),
    "factor": (lambda adam, peak, **more: Scheduler(adam, factor=rw.Cosine(1.0, 0.0, 10), **more), ORDERS[:2]),
}
CASES = [(way, order) for way, (_, orders) in WAYS.items() for order in orders]


def by_hand(t, peak):
    return peak * (1 + math.cos(math.pi * t / 10)) / 2


def adam(weight, peak):
    """Adam that moves a weight by the rate, if every gradient is 1."""
    return torch.optim.Adam([weight()], lr=peak, eps=0.0)


@pytest.fixture
def saved(weight, applied, on_disk):
    def at_five(way):
        optimizer = adam(weight, 1.0)
        scheduler = WAYS[way][0](optimizer, 1.0)
        rates = applied(optimizer, 5)
        assert rates == pytest.approx([by_hand(t, 1.0) for t in range(5)], rel=1e-12)
        assert scheduler.next_lr["0"] == pytest.approx(0.5, rel=1e-12)
        return on_disk({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()})

    return at_five


@pytest.fixture
def resumed(weight, saved):
    def resume(way, order, **more):
        state, optimizer = saved(way), adam(weight, 0.1)
        for what in order:
            if what == "make":
                scheduler = WAYS[way][0](optimizer, 0.1, **more)
            elif what == "optimizer":
                optimizer.load_state_dict(state["optimizer"])
            else:
                scheduler.load_state_dict(state["scheduler"])
        return optimizer, state["optimizer"]["state"][0]

    return resume


@pytest.mark.parametrize(("way", "order"), CASES, ids=str)
def test_without_a_policy_it_is_an_error(resumed, way, order):
    with pytest.raises(ScheduleChanged, match=r"5\.0+e-01(.|\n)*5\.0+e-02"):
        resumed(way, order)


@pytest.mark.parametrize(("way", "order"), CASES, ids=str)
def test_switch_uses_a_tenth_from_the_next_update_on(resumed, applied, way, order):
    optimizer, moments = resumed(way, order, on_change="switch")
    assert torch.equal(optimizer.state[optimizer.param_groups[0]["params"][0]]["exp_avg"], moments["exp_avg"])
    assert torch.equal(optimizer.state[optimizer.param_groups[0]["params"][0]]["exp_avg_sq"], moments["exp_avg_sq"])
    rates = applied(optimizer, 5)
    assert rates[0] == pytest.approx(0.05, rel=1e-12)
    assert rates == pytest.approx([0.1 * by_hand(t, 1.0) for t in range(5, 10)], rel=1e-12)


@pytest.mark.parametrize(("way", "order"), CASES, ids=str)
def test_keep_goes_on_at_the_old_peak(resumed, applied, way, order):
    optimizer, _ = resumed(way, order, on_change="keep")
    assert applied(optimizer, 5) == pytest.approx([by_hand(t, 1.0) for t in range(5, 10)], rel=1e-12)


def test_today_the_old_rate_goes_on_in_silence(peers):
    def resumed(optimizer):
        old = torch.optim.SGD(optimizer.param_groups[0]["params"], lr=1.0)
        before = torch.optim.lr_scheduler.CosineAnnealingLR(old, 10)
        for _ in range(5):
            old.step()
            before.step()
        after = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        optimizer.load_state_dict(old.state_dict())
        after.load_state_dict(before.state_dict())
        return after

    assert peers(resumed, 1, lr=0.1) == pytest.approx([0.5])
