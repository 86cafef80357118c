"""The loader promises 625 batches in an epoch and yields 640: 57,600 updates instead of 56,250, cosine 0.1 to 0."""

import math
import warnings

import pytest
import torch

import ratewise as rw
from ratewise.errors import AdapterError
from ratewise.torch import Scheduler

PLANNED, REAL = 90 * 625, 90 * 640
LR = rw.Cosine(0.1, 0.0, PLANNED)


def test_the_floor_is_held_with_one_warning_and_the_surplus_is_counted(sgd, applied, at):
    scheduler = Scheduler(sgd(), LR)
    with warnings.catch_warnings(action="error"):
        assert at(scheduler, PLANNED - 1) == pytest.approx(LR(PLANNED - 1), rel=1e-12)
    assert (scheduler.position, scheduler.overrun) == (PLANNED, 0)
    with pytest.warns(UserWarning, match="ends after 56250 updates, and update 56250 is about to be made") as told:
        rates = applied(scheduler.optimizer, REAL - PLANNED)
    assert rates == [0.0] * 1350
    assert len(told) == 1
    assert (scheduler.position, scheduler.overrun) == (REAL, 1350)


def test_the_whole_run_at_a_hundredth_of_its_size(sgd, applied):
    scheduler = Scheduler(sgd(), rw.Cosine(0.1, 0.0, 562))
    with pytest.warns(UserWarning, match="update 562 is about to be made") as told:
        rates = applied(scheduler.optimizer, 576)
    assert rates[:562] == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 562)) for t in range(562)], rel=1e-9)
    assert rates[562:] == [0.0] * 14
    assert len(told) == 1


def test_it_may_be_an_error_instead(sgd, applied, at):
    scheduler = Scheduler(sgd(), LR, on_overrun="error")
    at(scheduler, PLANNED - 1)
    for _ in range(2):
        with pytest.raises(AdapterError, match="ends after 56250 updates, and update 56250 is about to be made"):
            applied(scheduler.optimizer, 1)
    assert scheduler.position == PLANNED
    assert scheduler.optimizer.param_groups[0]["params"][0].item() == 0.0


def test_today_the_rate_rises_again(peers):
    rates = peers(lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10), 16)
    assert rates[10] == pytest.approx(0.0, abs=1e-15)
    assert rates[15] == pytest.approx(0.5)  # 16 of 10: half the peak again
    assert 0.05 * (1 + math.cos(math.pi * (REAL - 1) / PLANNED)) == pytest.approx(1.42e-4, abs=5e-7)
