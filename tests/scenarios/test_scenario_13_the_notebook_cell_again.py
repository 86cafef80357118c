"""After 8 of 10 updates of a cosine the notebook cell that makes the scheduler is executed once more."""

import pytest
import torch

import ratewise as rw
from ratewise.errors import AdapterError
from ratewise.torch import Scheduler

LR = rw.Cosine(1.0, 0.0, 10)


@pytest.mark.parametrize("way", ["lr", "factor"])
def test_it_is_an_error_and_the_run_goes_on(sgd, applied, way):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, **{way: LR})
    applied(optimizer, 8)
    with pytest.raises(AdapterError, match=r"already follows a schedule \(at update 8\).*restart=True"):
        Scheduler(optimizer, **{way: LR})
    assert applied(optimizer, 2) == pytest.approx(LR.values(8, 10), rel=1e-12)
    assert scheduler.position == 10


@pytest.mark.parametrize("way", ["lr", "factor"])
def test_restart_begins_again_at_the_peak(sgd, applied, way):
    optimizer = sgd()
    Scheduler(optimizer, **{way: LR})
    applied(optimizer, 8)
    scheduler = Scheduler(optimizer, **{way: LR}, restart=True)
    assert scheduler.position == 0
    assert applied(optimizer, 10) == LR.values(0, 10)


def test_today_it_goes_on_low_and_never_sees_the_peak_again(sgd, applied):
    optimizer = sgd()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    applied(optimizer, 8, scheduler.step)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    assert applied(optimizer, 1) == pytest.approx([0.0955], abs=5e-5)
    assert max(applied(optimizer, 9, scheduler.step)) < 0.1
