"""How long the run will be is not known: warm-up of 100, then 1.0, until somebody decides at 5,000 to come down."""

import math

import pytest

import ratewise as rw
from ratewise.torch import Scheduler

OPEN = rw.Constant(1.0).warmup(100)
REST = [1 - math.sqrt(t / 1000) for t in range(1000)]


@pytest.fixture
def stable(sgd, applied):
    """A run at 5,000, and the rates that brought it there."""
    scheduler = Scheduler(sgd(), OPEN)
    return scheduler, applied(scheduler.optimizer, 5000)


def test_the_preview_shows_an_open_end():
    assert OPEN.steps is None
    assert OPEN.values(4999, 5001) == [1.0, 1.0]
    assert OPEN.plot().count("\n") > 5


def test_the_decay_starts_when_it_is_called_and_the_floor_is_held(stable, applied):
    scheduler, rates = stable
    assert rates[:100] == pytest.approx([(t + 1) / 100 for t in range(100)], rel=1e-12)
    assert set(rates[100:]) == {1.0}
    scheduler.decay_now(1000, shape="1-sqrt")
    rates += applied(scheduler.optimizer, 1000)
    assert rates[4999] == rates[5000] == 1.0
    assert rates[5500] == pytest.approx(0.292893, abs=5e-7)
    assert rates[5000:] == pytest.approx(REST, rel=1e-12)
    with pytest.warns(UserWarning, match="ends after 6000 updates"):
        assert applied(scheduler.optimizer, 3) == [0.0] * 3
    assert [entry["at"] for entry in scheduler.history] == [5000]


def test_a_kill_in_the_decay_changes_nothing(stable, sgd, applied, on_disk):
    scheduler, _ = stable
    scheduler.decay_now(1000, shape="1-sqrt")
    applied(scheduler.optimizer, 500)
    state = on_disk({"scheduler": scheduler.state_dict(), "optimizer": scheduler.optimizer.state_dict()})
    expected = applied(scheduler.optimizer, 500)
    assert expected == pytest.approx(REST[500:], rel=1e-12)
    again = Scheduler(sgd(), OPEN)  # the program knows only the open plan
    again.optimizer.load_state_dict(state["optimizer"])
    again.load_state_dict(state["scheduler"])
    assert applied(again.optimizer, 500) == expected
    assert again.history == scheduler.history


def test_a_second_branch_leaves_the_first_alone(stable, sgd, applied, on_disk):
    first, _ = stable
    state = on_disk(first.state_dict())
    first.decay_now(1000, shape="1-sqrt")
    second = Scheduler(sgd(), OPEN)
    second.load_state_dict(state)
    second.decay_now(2000, shape="1-sqrt")
    assert applied(second.optimizer, 2000) == pytest.approx([1 - math.sqrt(t / 2000) for t in range(2000)], rel=1e-12)
    assert applied(first.optimizer, 1000) == pytest.approx(REST, rel=1e-12)
    assert OPEN.steps is None
