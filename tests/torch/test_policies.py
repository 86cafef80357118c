"""Going on under another schedule: every policy, on loading and in mid-run, by the rates that are applied."""

import logging

import pytest

import ratewise as rw
from ratewise.errors import AdapterError, ScheduleChanged, ScheduleError
from ratewise.torch import Scheduler

OLD, NEW, AT = rw.Cosine(1.0, 0.1, 18).warmup(2), rw.Linear(0.8, 0.2, 40), 7
POLICIES = ["keep", "switch", "stretch", "replan", "rewarm(4)"]


def stopped(sgd, applied, **settings):
    optimizer = sgd(**settings)
    scheduler = Scheduler(optimizer, OLD)
    applied(optimizer, AT)
    return scheduler


@pytest.mark.parametrize("policy", POLICIES)
def test_loading_under_a_policy_does_what_extend_says(policy, sgd, applied):
    state = stopped(sgd, applied).state_dict()
    optimizer = sgd()
    scheduler = Scheduler(optimizer, NEW, on_change=policy)
    scheduler.load_state_dict(state)
    wanted = rw.extend(OLD, NEW, AT, policy)
    assert applied(optimizer, 30) == wanted.values(AT, AT + 30)
    (entry,) = scheduler.history
    assert entry["at"] == AT
    assert policy in entry["what"]
    assert entry["old"] == {"0": OLD(AT)}
    assert entry["new"] == {"0": wanted(AT)}
    assert entry["end"] == wanted.steps
    assert rw.from_dict(entry["was"]["lr"]["*"]) == OLD


@pytest.mark.parametrize("policy", POLICIES)
def test_changing_in_mid_run_is_the_same(policy, sgd, applied):
    scheduler = stopped(sgd, applied)
    scheduler.change(NEW, policy)
    assert applied(scheduler.optimizer, 30) == rw.extend(OLD, NEW, AT, policy).values(AT, AT + 30)
    state = scheduler.state_dict()
    again = Scheduler(sgd(), OLD)
    again.load_state_dict(state)
    assert applied(again.optimizer, 2) == rw.extend(OLD, NEW, AT, policy).values(AT + 30, AT + 32)


@pytest.mark.parametrize("policy", POLICIES)
def test_base_rates_that_changed_follow_the_policy_too(policy, sgd, applied):
    old = sgd({"name": "a", "lr": 1.0}, {"name": "b", "lr": 0.01})
    scheduler = Scheduler(old, factor=OLD)
    applied(old, AT)
    new = sgd({"name": "b", "lr": 0.04}, {"name": "a", "lr": 0.5})
    resumed = Scheduler(new, factor=NEW, on_change=policy)
    resumed.load_state_dict(scheduler.state_dict())
    used = applied(new, 30)
    wanted = [
        rw.extend(was * OLD, is_ * NEW, AT, policy).values(AT, AT + 30) for was, is_ in ((0.01, 0.04), (1.0, 0.5))
    ]
    assert [row[0] for row in used] == pytest.approx(wanted[0], rel=1e-12)
    assert [row[1] for row in used] == pytest.approx(wanted[1], rel=1e-12)


def test_every_driven_hyperparameter_is_joined(sgd, applied):
    old = sgd(momentum=0.9)
    scheduler = Scheduler(old, OLD, momentum=rw.Linear(0.5, 0.9, 20), weight_decay=0.1)
    applied(old, AT)
    new = sgd(momentum=0.9)
    resumed = Scheduler(new, NEW, momentum=rw.Linear(0.5, 0.9, 40), eps=None, on_change="stretch")
    resumed.load_state_dict(scheduler.state_dict())
    wanted = rw.extend(rw.Linear(0.5, 0.9, 20), rw.Linear(0.5, 0.9, 40), AT, "stretch")
    applied(new, 3)
    assert new.param_groups[0]["momentum"] == wanted(AT + 3)
    assert resumed.schedules("weight_decay") == {}


def test_past_the_end_of_the_new_schedule_keep_and_switch_still_go_on(sgd, applied):
    state = stopped(sgd, applied).state_dict()
    short = rw.Linear(0.5, 0.25, 5)
    for policy, wanted in (("keep", OLD), ("switch", short)):
        optimizer = sgd()
        scheduler = Scheduler(optimizer, short, on_change=policy)
        scheduler.load_state_dict(state)
        assert scheduler.next_lr == {"0": wanted(AT)}
    with pytest.raises(ScheduleError, match="must lie inside the new length"):
        Scheduler(sgd(), short, on_change="replan").load_state_dict(state)


def test_lr_and_factor_are_joined_by_keep_and_switch_alone(sgd, applied):
    state = stopped(sgd, applied).state_dict()
    for policy, wanted in (("keep", OLD(AT)), ("switch", 0.1 * NEW(AT))):
        scheduler = Scheduler(sgd(), factor=NEW, on_change=policy)
        scheduler.load_state_dict(state)
        assert scheduler.next_lr == {"0": wanted}
    with pytest.raises(AdapterError, match="'stretch' cannot join lr= with factor="):
        Scheduler(sgd(), factor=NEW, on_change="stretch").load_state_dict(state)


def test_a_policy_is_asked_once(sgd, applied):
    state = stopped(sgd, applied).state_dict()
    first = Scheduler(sgd(), NEW, on_change="rewarm(4)")
    first.load_state_dict(state)
    applied(first.optimizer, 2)
    second = Scheduler(sgd(), NEW, on_change="rewarm(4)")
    second.load_state_dict(first.state_dict())
    assert len(second.history) == 1
    assert second.next_lr == first.next_lr


def test_the_error_shows_both_curves_to_the_later_end(sgd, applied):
    state = stopped(sgd, applied).state_dict()
    scheduler = Scheduler(sgd(), NEW)
    with pytest.raises(ScheduleChanged) as caught:
        scheduler.load_state_dict(state)
    lines = str(caught.value).splitlines()
    assert lines[1].split() == ["update", "saved", "here", "ratio"]
    rows = [line.split() for line in lines[2:-1]]
    assert [int(row[0]) for row in rows] == [7, 18, 20, 29, 40]
    for t, saved, here, _ in rows:
        assert float(saved) == pytest.approx(OLD(int(t)), rel=1e-6)
        assert float(here) == pytest.approx(NEW(int(t)), rel=1e-6)
    assert scheduler.history == []


def test_a_change_of_plan_is_logged_with_rate_ratio_and_end(sgd, applied, caplog):
    scheduler = stopped(sgd, applied)
    with caplog.at_level(logging.INFO, logger="ratewise"):
        scheduler.change(NEW, "switch")
    (record,) = caplog.records
    text = record.getMessage()
    assert f"{OLD(AT):.6e} -> {NEW(AT):.6e}" in text
    assert f"x{NEW(AT) / OLD(AT):.5g}" in text
    assert "ends at 40" in text


def test_a_log_gets_the_rate_used_at_its_own_index(sgd, applied, weight):
    optimizer = sgd({"name": "a", "lr": 0.1}, {"name": "b", "lr": 0.2})
    scheduler, rows = Scheduler(optimizer, factor=OLD), []
    applied(optimizer, 2)
    scheduler.log_to(lambda t, rates: rows.append((t, rates)))
    used = applied(optimizer, 2)
    optimizer.add_param_group({"params": [weight()], "lr": 0.3, "name": "c"})
    used += applied(optimizer)
    assert [t for t, _ in rows] == [2, 3, 4]
    assert [list(rates.values()) for _, rates in rows] == used
    assert list(rows[-1][1]) == ["a", "b", "c"]
    with pytest.raises(AdapterError, match="log must be a function"):
        scheduler.log_to("rates.csv")


def test_a_log_that_fails_does_not_lose_an_update(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, OLD)
    scheduler.log_to(lambda t, rates: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        applied(optimizer)
    assert scheduler.position == 1
    assert scheduler.next_lr == {"0": OLD(1)}


def test_a_log_under_clock_step(sgd, applied):
    optimizer, rows = sgd(), []
    scheduler = Scheduler(optimizer, OLD, clock="step")
    scheduler.log_to(lambda t, rates: rows.append((t, rates["0"])))
    applied(optimizer, 3, step=lambda: (optimizer.step(), scheduler.step()))
    assert rows == list(enumerate(OLD.values(0, 3)))


@pytest.mark.parametrize("policy", ["switch", "stretch", "replan"])
@pytest.mark.parametrize("order", [("optimizer", "scheduler"), ("scheduler", "optimizer")], ids=" ".join)
def test_a_momentum_that_is_driven_no_more_is_given_back(policy, order, sgd, applied):
    old = sgd(momentum=0.9)
    scheduler = Scheduler(old, OLD, momentum=rw.Linear(0.9, 0.5, 10))
    applied(old, AT)
    states = {"optimizer": old.state_dict(), "scheduler": scheduler.state_dict()}
    new = sgd(momentum=0.9)
    parts = {"optimizer": new, "scheduler": Scheduler(new, NEW, on_change=policy)}
    for name in order:
        parts[name].load_state_dict(states[name])
    assert new.param_groups[0]["momentum"] == 0.9
    applied(new, 2)
    assert new.param_groups[0]["momentum"] == 0.9


def test_one_log_that_fails_leaves_the_others_their_row(sgd, applied):
    optimizer, rows = sgd(), []
    scheduler = Scheduler(optimizer, OLD)
    scheduler.log_to(lambda t, rates: 1 / 0)
    scheduler.log_to(lambda t, rates: rows.append(t))
    with pytest.raises(ZeroDivisionError):
        applied(optimizer)
    assert rows == [0]
