import json

import pytest

import ratewise as rw
from ratewise.errors import AdapterError, ScheduleError
from ratewise.torch import Scheduler

OPEN = rw.fixed(1.0).warmup(10)


def test_decay_now_comes_down_from_the_coming_rate(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, OPEN)
    applied(optimizer, 50)
    scheduler.decay_now(100, shape="1-sqrt")
    used = applied(optimizer, 100)
    assert used[0] == 1.0
    assert used[50] == pytest.approx(0.2928932188134524)
    assert scheduler.next_lr == {"0": 0.0}
    assert [entry["at"] for entry in scheduler.history] == [50]
    with pytest.warns(UserWarning, match="ends after 150 updates"):
        assert applied(optimizer, 5) == [0.0] * 5


def test_a_decay_survives_a_restart_of_the_same_script(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, OPEN)
    applied(optimizer, 20)
    branch = scheduler.state_dict()
    scheduler.decay_now(10)
    applied(optimizer, 4)
    state = json.loads(json.dumps(scheduler.state_dict()))
    expected = applied(optimizer, 6)

    optimizer = sgd()
    scheduler = Scheduler(optimizer, OPEN)
    scheduler.load_state_dict(state)
    assert applied(optimizer, 6) == expected
    assert scheduler.history[0]["what"] == "decay_now(10, end=0.0, shape='1-sqrt')"
    scheduler.load_state_dict(branch)
    assert applied(optimizer, 6) == [1.0] * 6


def test_decay_now_at_the_start_and_in_typed_lengths(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, factor=rw.fixed(1.0), horizon=100)
    scheduler.decay_now(rw.fraction(0.04), end=0.5, shape="linear")
    assert applied(optimizer, 5) == pytest.approx([0.1, 0.0875, 0.075, 0.0625, 0.05])
    with pytest.raises(ScheduleError, match="length is not known"):
        Scheduler(sgd(), 0.1).decay_now(rw.epochs(1))


def test_scaled_from_multiplies_from_here_on_and_keeps_the_length(sgd, applied):
    optimizer = sgd({"lr": 0.1}, {"lr": 0.2})
    lr = rw.linear_decay(1.0, steps=8)
    scheduler = Scheduler(optimizer, factor=lr)
    applied(optimizer, 2)
    scheduler.scaled_from(0.5)
    assert scheduler.next_lr == {"0": 0.05 * lr(2), "1": 0.1 * lr(2)}
    assert applied(optimizer) == [[0.05 * lr(2), 0.1 * lr(2)]]
    assert scheduler.history[0]["old"] == {"0": 0.1 * lr(2), "1": 0.2 * lr(2)}


def test_change_switches_to_another_plan(sgd, applied):
    optimizer = sgd()
    old, new = rw.linear_decay(0.1, steps=8), rw.cosine(0.5, steps=16)
    scheduler = Scheduler(optimizer, old, horizon=8)
    applied(optimizer, 4)
    scheduler.change(new, "switch")
    assert scheduler.last_lr == {"0": old(3)}
    assert applied(optimizer, 12) == new.values(4, 16)
    (entry,) = scheduler.history
    assert (entry["old"], entry["new"]) == ({"0": old(4)}, {"0": new(4)})
    assert rw.from_dict(entry["was"]["lr"]["*"]) == old


def test_change_keep_keeps_and_an_open_plan_takes_the_horizon(sgd, applied):
    optimizer = sgd()
    lr = rw.linear_decay(0.1).over(8)
    scheduler = Scheduler(optimizer, lr, horizon=8)
    scheduler.change(rw.cosine(0.5), "keep")
    assert applied(optimizer, 2) == lr.values(0, 2)
    assert scheduler.history == []
    scheduler.change(rw.cosine(0.5), "switch")
    assert applied(optimizer, 2) == rw.cosine(0.5).over(8).values(2, 4)


def test_change_takes_schedules_by_name(sgd, applied):
    optimizer = sgd({"name": "a"}, {"name": "b"})
    scheduler = Scheduler(optimizer, 0.1)
    scheduler.change({"a": 0.2, "b": rw.fixed(0.3)}, "switch")
    assert applied(optimizer) == [[0.2, 0.3]]
    with pytest.raises(AdapterError, match="Missing: 'b'"):
        scheduler.change({"a": 0.2}, "switch")


@pytest.mark.parametrize(
    ("new", "policy", "error", "message"),
    [
        (0.2, "swich", AdapterError, "policy must be one of .*, got 'swich'. Did you mean 'switch'"),
        (-0.2, "switch", AdapterError, "lr must be at least 0 and finite, but .* gives -0.2 at update 0"),
        ("cosine", "switch", AdapterError, "lr must be a Schedule"),
        (rw.cosine(0.1), "switch", ScheduleError, "length is not known"),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(new, policy, error, message, sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, 0.1)
    with pytest.raises(error, match=message):
        scheduler.change(new, policy)
    assert scheduler.history == []
    assert applied(optimizer) == [0.1]


def test_a_change_also_reaches_a_group_added_just_before(sgd, weight, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, factor=1.0)
    optimizer.add_param_group({"params": [weight()], "lr": 0.4})
    scheduler.scaled_from(0.5)
    assert applied(optimizer) == [[0.05, 0.2]]
