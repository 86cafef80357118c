"""A head at 1e-3 and a backbone at 1e-5 on a one-cycle of 1,000; at 300 a middle part is unfrozen, base 1e-4.

The ratio between groups is what was tuned: no schedule, checkpoint or order of groups may change it.
"""

import pytest
import torch

import ratewise as rw
from ratewise.errors import AdapterError
from ratewise.torch import Scheduler

BASE = {"head": 1e-3, "backbone": 1e-5, "mid": 1e-4}
CYCLE = rw.one_cycle(1.0).over(1000)


@pytest.fixture
def built(sgd):
    def build(*names):
        optimizer = sgd(*({"name": name, "lr": BASE[name]} for name in names))
        return Scheduler(optimizer, factor=CYCLE)

    return build


@pytest.fixture
def unfrozen(built, weight, applied):
    """The run up to 400, "mid" added at 300; and its rates."""
    scheduler = built("head", "backbone")
    rates = applied(scheduler.optimizer, 300)
    scheduler.optimizer.add_param_group({"params": [weight()], "name": "mid", "lr": BASE["mid"]})
    return scheduler, rates + applied(scheduler.optimizer, 100)


def test_the_ratio_stays_100_and_a_new_group_joins_in(unfrozen, applied):
    scheduler, rates = unfrozen
    rates += applied(scheduler.optimizer, 600)
    assert len(rates) == 1000
    for t, row in enumerate(rates):
        assert row["head"] / row["backbone"] == pytest.approx(100, rel=1e-12)
        assert row["head"] == pytest.approx(1e-3 * CYCLE(t), rel=1e-12)
    assert [("mid" in row) for row in rates] == [t >= 300 for t in range(1000)]
    assert [row["mid"] for row in rates[300:]] == pytest.approx([1e-4 * m for m in CYCLE.values(300, 1000)], rel=1e-12)


def test_a_checkpoint_is_matched_by_name_whatever_the_order(unfrozen, built, applied, on_disk):
    scheduler, _ = unfrozen
    state = on_disk(scheduler.state_dict())
    expected = applied(scheduler.optimizer, 10)
    again = built("mid", "backbone", "head")
    again.load_state_dict(state)
    assert again.position == 400
    assert applied(again.optimizer, 10) == expected


def test_a_missing_name_is_an_error_that_lists_both(unfrozen, built):
    scheduler, _ = unfrozen
    again = built("head", "backbone")
    with pytest.raises(
        AdapterError, match=r"saved groups are .*'backbone', 'head', 'mid'.* has \['backbone', 'head'\]"
    ):
        again.load_state_dict(scheduler.state_dict())
    assert again.position == 0


def test_today_one_cycle_makes_both_equal_and_adding_a_group_fails(sgd, weight):
    optimizer = sgd({"lr": 1e-3}, {"lr": 1e-5})
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=1000)
    for _ in range(400):
        optimizer.step()
        scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([9.50e-4, 9.50e-4], abs=5e-7)
    optimizer.add_param_group({"params": [weight()], "lr": 1e-4})
    with pytest.raises(KeyError, match="max_lr"):
        scheduler.step()
