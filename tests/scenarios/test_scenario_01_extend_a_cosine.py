"""A cosine of 100,000 updates is resumed at 60,000, and is to end at 150,000 instead.

Peak 3e-4, floor 3e-5, a warm-up of 2,000. Each policy gives another curve, and without one nothing goes on.
"""

import itertools
import math

import pytest
import torch

import ratewise as rw
from ratewise.errors import ScheduleChanged
from ratewise.torch import Scheduler

PLAN = rw.cosine(3e-4, end=3e-5).warmup(2000)
OLD, NEW = PLAN.over(100_000), PLAN.over(150_000)
OLD_RATE, NEW_RATE = 1.265888e-4, 2.099739e-4  # of update 60,000
SEVEN = {"rel": 5e-7, "abs": 0}  # the figures above have seven digits


def by_hand(t, total):
    p = (t - 2000) / (total - 2000)
    return 3e-5 + 2.7e-4 * (1 + math.cos(math.pi * p)) / 2


@pytest.fixture
def state(sgd, at, on_disk):
    scheduler = Scheduler(sgd(), OLD)
    assert at(scheduler, 59_999) == pytest.approx(by_hand(59_999, 100_000), rel=1e-12)
    assert scheduler.position == 60_000
    return on_disk(scheduler.state_dict())


@pytest.fixture
def resumed(sgd, state):
    def resume(policy):
        scheduler = Scheduler(sgd(), NEW)
        scheduler.load_state_dict(state, on_change=policy)
        return scheduler

    return resume


def test_without_a_policy_it_is_an_error_that_shows_both_and_touches_nothing(sgd, state, applied):
    scheduler = Scheduler(sgd(), NEW)
    with pytest.raises(ScheduleChanged) as error:
        scheduler.load_state_dict(state)
    for part in ("60000", "100000", "150000", "1.265888e-04", "2.099739e-04", "1.6587"):
        assert part in str(error.value)
    assert scheduler.position == 0
    assert scheduler.history == []
    assert applied(scheduler.optimizer, 3) == NEW.values(0, 3)


def test_keep_holds_the_old_curve_and_then_its_floor(resumed, applied, at):
    scheduler = resumed("keep")
    assert applied(scheduler.optimizer, 1) == pytest.approx([OLD_RATE], **SEVEN)
    for t in (60_001, 82_500, 99_999):
        assert at(scheduler, t) == OLD(t) == pytest.approx(by_hand(t, 100_000), rel=1e-9)
    for t in (100_000, 120_000, 149_999):
        assert at(scheduler, t) == 3e-5


def test_switch_follows_the_new_curve_and_records_the_jump(resumed, applied, at):
    scheduler = resumed("switch")
    assert applied(scheduler.optimizer, 1) == pytest.approx([NEW_RATE], **SEVEN)
    for t in (60_001, 105_000, 149_999):
        assert at(scheduler, t) == pytest.approx(by_hand(t, 150_000), rel=1e-12)
    assert at(scheduler, 149_999) < 3.0001e-5
    (entry,) = scheduler.history
    assert (entry["at"], entry["old"]["0"], entry["new"]["0"]) == (60_000, OLD(60_000), NEW(60_000))
    assert entry["new"]["0"] / entry["old"]["0"] == pytest.approx(1.6587, abs=5e-5)


def test_replan_comes_down_from_here_to_the_new_end(resumed, applied, at):
    scheduler = resumed("replan")
    assert applied(scheduler.optimizer, 1) == pytest.approx([OLD_RATE], **SEVEN)
    assert at(scheduler, 82_500) == pytest.approx(1.124437e-4, **SEVEN)
    assert at(scheduler, 105_000) == pytest.approx(7.829439e-5, **SEVEN)
    assert at(scheduler, 149_999) >= 3e-5
    rates = scheduler.schedules()["0"].values(60_000, 150_001)
    assert all(a >= b for a, b in itertools.pairwise(rates))
    assert min(rates) >= 3e-5
    assert rates[-1] == 3e-5


def test_stretch_slows_down_what_remains(resumed, applied, at):
    scheduler = resumed("stretch")
    first, second = applied(scheduler.optimizer, 2)
    assert first == pytest.approx(OLD_RATE, **SEVEN)
    assert (second - first) / (OLD(60_001) - OLD(60_000)) == pytest.approx(0.444, abs=5e-4)
    assert at(scheduler, 105_000) == pytest.approx(5.680916e-5, **SEVEN)
    rates = scheduler.schedules()["0"].values(60_000, 150_001)
    assert all(a >= b for a, b in itertools.pairwise(rates))
    assert rates[-1] == pytest.approx(3e-5, rel=1e-12)


def test_rewarm_climbs_to_the_new_curve(resumed, applied, at):
    scheduler = resumed("rewarm(1000)")
    assert at(scheduler, 60_999) == pytest.approx(by_hand(61_000, 150_000), rel=1e-9)
    assert at(scheduler, 61_000) == pytest.approx(by_hand(61_000, 150_000), rel=1e-9)
    assert OLD_RATE < at(scheduler, 60_500) < NEW_RATE


@pytest.mark.parametrize("policy", ["keep", "switch", "replan", "stretch", "rewarm(1000)"])
def test_whatever_is_chosen_survives_the_next_interruption(resumed, sgd, applied, at, on_disk, policy):
    scheduler = resumed(policy)
    at(scheduler, 70_000)
    state = on_disk(scheduler.state_dict())
    expected = applied(scheduler.optimizer, 5)
    again = Scheduler(sgd(), NEW)  # the same program once more: no policy is asked for again
    again.load_state_dict(state, on_change=policy if policy == "keep" else None)
    assert again.position == 70_001
    assert applied(again.optimizer, 5) == expected


def test_today_torch_takes_the_old_length_back_and_climbs_after_it(peers):
    def resumed(optimizer):
        old = torch.optim.lr_scheduler.CosineAnnealingLR(
            torch.optim.SGD(optimizer.param_groups[0]["params"], lr=1.0), 100
        )
        new = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
        new.load_state_dict(old.state_dict())
        return new

    rates = peers(resumed, 150)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert rates[149] == pytest.approx(0.48, abs=0.005)
    assert by_hand(149_999, 100_000) == pytest.approx(1.69e-4, abs=5e-7)  # the same at full size
