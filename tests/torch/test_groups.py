import json
import math

import pytest
import torch

import ratewise as rw
from ratewise.errors import AdapterError
from ratewise.torch import Scheduler

CYCLE = rw.one_cycle(1.0)


def test_factor_keeps_the_ratio_of_groups_at_every_update(sgd, applied):
    optimizer = sgd({"lr": 1e-3}, {"lr": 1e-5})
    Scheduler(optimizer, factor=CYCLE, horizon=100)
    used = applied(optimizer, 100)
    shape = CYCLE.over(100)
    assert used == [[1e-3 * shape(t), 1e-5 * shape(t)] for t in range(100)]
    assert all(math.isclose(head / body, 100, rel_tol=1e-12) for head, body in used)


def test_lr_scale_multiplies_an_absolute_rate(sgd, applied):
    optimizer = sgd({"lr_scale": 0.5}, {})
    Scheduler(optimizer, rw.linear_decay(0.4, steps=4))
    assert applied(optimizer, 2) == [[0.2, 0.4], [pytest.approx(0.15), pytest.approx(0.3)]]


def test_lr_scale_multiplies_a_factor_too(sgd, applied):
    optimizer = sgd({"lr": 0.1, "lr_scale": 0.5}, {"lr": 0.2})
    Scheduler(optimizer, factor=rw.fixed(0.5))
    assert applied(optimizer) == [[0.025, 0.1]]


def test_each_group_may_have_a_schedule_by_name(sgd, applied):
    optimizer = sgd({"name": "body", "lr": 1.0}, {"name": "head"})
    scheduler = Scheduler(optimizer, {"head": rw.fixed(0.1), "body": rw.linear_decay(0.4, steps=4)})
    assert applied(optimizer, 2) == [[0.4, 0.1], [pytest.approx(0.3), 0.1]]
    assert scheduler.last_lr == {"body": pytest.approx(0.3), "head": 0.1}
    assert scheduler.schedules() == {"body": rw.linear_decay(0.4, steps=4), "head": rw.fixed(0.1)}


def test_groups_without_a_name_are_called_by_their_index(sgd, applied):
    optimizer = sgd({}, {})
    Scheduler(optimizer, {"0": 0.4, "1": 0.2})
    assert applied(optimizer) == [[0.4, 0.2]]


def test_one_absolute_rate_for_groups_that_differ_is_an_error_that_names_the_cure(sgd):
    with pytest.raises(AdapterError, match=r"base rates differ \('0': 0.001, '1': 1e-05\).*factor= to keep the ratios"):
        Scheduler(sgd({"lr": 1e-3}, {"lr": 1e-5}), 0.1)


def test_missing_and_unknown_group_names_are_named(sgd):
    optimizer = sgd({"name": "body"}, {"name": "head"}, {"name": "embed"})
    with pytest.raises(AdapterError, match=r"has 3 parameter groups but lr= has schedules for 2 .*Missing: 'embed'"):
        Scheduler(optimizer, {"body": 0.1, "head": 0.1})
    with pytest.raises(AdapterError, match=r"unknown group 'embedd'. Did you mean 'embed'"):
        Scheduler(optimizer, {"body": 0.1, "head": 0.1, "embedd": 0.1})
    with pytest.raises(AdapterError, match="group names must differ, got 'a' twice"):
        Scheduler(sgd({"name": "a"}, {"name": "a"}), 0.1)


def test_a_group_that_a_torch_scheduler_moved_has_no_clear_base(sgd):
    optimizer = sgd()
    optimizer.param_groups[0]["initial_lr"] = 0.5
    with pytest.raises(AdapterError, match=r"holds lr=0.1 but initial_lr=0.5"):
        Scheduler(optimizer, factor=0.5)


@pytest.mark.parametrize(("key", "value"), [("lr_scale", -1.0), ("lr_scale", math.nan), ("lr", math.inf)])
def test_a_group_must_hold_usable_numbers(key, value, sgd):
    with pytest.raises(AdapterError, match="group '0' must be at least 0 and finite"):
        Scheduler(sgd({key: value}), factor=0.5)


def test_a_group_added_later_uses_its_scheduled_rate_at_its_first_update(sgd, weight, applied):
    optimizer = sgd({"name": "head", "lr": 1e-3}, {"name": "body", "lr": 1e-5})
    scheduler = Scheduler(optimizer, factor=CYCLE, horizon=1000)
    applied(optimizer, 300)
    optimizer.add_param_group({"params": [weight()], "lr": 1e-4, "name": "mid"})
    shape = CYCLE.over(1000)
    assert applied(optimizer, 3) == [[1e-3 * shape(t), 1e-5 * shape(t), 1e-4 * shape(t)] for t in (300, 301, 302)]
    assert scheduler.next_lr["mid"] == 1e-4 * shape(303)


def test_a_group_added_later_follows_an_absolute_rate(sgd, weight, applied):
    optimizer = sgd()
    lr = rw.linear_decay(0.4, steps=4)
    Scheduler(optimizer, lr)
    applied(optimizer)
    optimizer.add_param_group({"params": [weight()], "lr_scale": 0.5})
    assert applied(optimizer, 2) == [[lr(1), lr(1) * 0.5], [lr(2), lr(2) * 0.5]]


def test_a_group_added_with_another_rate_is_refused_under_one_absolute_rate(sgd, weight, applied):
    optimizer = sgd()
    Scheduler(optimizer, 0.4)
    optimizer.add_param_group({"params": [weight()], "lr": 0.033})
    with pytest.raises(AdapterError, match=r"base rates differ \('0': 0.1, '1': 0.033\)"):
        applied(optimizer)


def test_a_group_added_to_schedules_by_name_is_named(sgd, weight, applied):
    optimizer = sgd({"name": "body"})
    Scheduler(optimizer, {"body": 0.4})
    optimizer.add_param_group({"params": [weight()], "name": "mid"})
    with pytest.raises(AdapterError, match="group 'mid' was added, but lr= has schedules for 'body' only"):
        applied(optimizer)


def test_a_removed_group_is_an_error(sgd, applied):
    optimizer = sgd({}, {})
    Scheduler(optimizer, 0.4)
    del optimizer.param_groups[1]
    with pytest.raises(AdapterError, match="has 1 parameter groups, the Scheduler follows 2"):
        applied(optimizer)


def test_rates_held_as_tensors_are_filled_in_place(weight, applied):
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = torch.optim.SGD([weight()], lr=rate)
    lr = rw.cosine(0.4, steps=10)
    Scheduler(optimizer, lr)
    address = rate.data_ptr()
    assert applied(optimizer, 10) == lr.values(0, 10)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.data_ptr() == address


def test_groups_that_share_one_rate_tensor_get_their_own(weight, applied):
    optimizer = torch.optim.SGD([{"params": [weight()]}, {"params": [weight()], "lr_scale": 0.5}], lr=torch.tensor(0.5))
    Scheduler(optimizer, factor=rw.linear_decay(1.0, steps=4))
    assert applied(optimizer, 2) == [[0.5, 0.25], [0.375, 0.1875]]
    optimizer.add_param_group({"params": [weight()]})
    assert applied(optimizer) == [[0.25, 0.125, 0.25]]


def test_a_float32_rate_tensor_rounds_and_is_not_taken_for_an_edit(weight, applied):
    optimizer = torch.optim.SGD([weight()], lr=torch.tensor(0.1))
    Scheduler(optimizer, 0.3)
    optimizer.param_groups[0]["lr"] = torch.tensor(0.3)  # equal, but another object
    assert applied(optimizer, 2) == [pytest.approx(0.3, rel=1e-7)] * 2


def test_many_groups_with_their_own_schedules(sgd, applied):
    optimizer = sgd(*({"name": f"layer{i}"} for i in range(40)))
    schedules = {f"layer{i}": rw.linear_decay(0.1 * (i + 1), steps=400) for i in range(40)}
    Scheduler(optimizer, schedules)
    used = applied(optimizer, 300)
    assert used == [[lr(t) for lr in schedules.values()] for t in range(300)]


def test_a_group_added_after_updates_can_be_saved_before_its_first_one(sgd, weight, applied):
    optimizer = sgd({"name": "a"}, lr=1.0)
    scheduler = Scheduler(optimizer, factor=rw.Linear(1.0, 0.0, 10))
    applied(optimizer, 3)
    optimizer.add_param_group({"params": [weight()], "name": "b", "lr": 0.5})
    state = json.loads(json.dumps(scheduler.state_dict()))
    assert set(json.loads(state["base"])) == {"a", "b"}
    assert len(scheduler.get_last_lr()) == 2
    again = sgd({"name": "a", "lr": 1.0}, {"name": "b", "lr": 0.5})
    resumed = Scheduler(again, factor=rw.Linear(1.0, 0.0, 10))
    resumed.load_state_dict(state)
    assert applied(again, 2) == applied(optimizer, 2) == [[0.7, 0.35], [0.6, 0.3]]


def test_a_change_of_plan_with_a_group_that_made_no_update_yet_can_be_saved(sgd, weight, applied):
    optimizer = sgd({"name": "a"}, lr=1.0)
    scheduler = Scheduler(optimizer, factor=rw.Linear(1.0, 0.0, 10))
    applied(optimizer, 3)
    optimizer.add_param_group({"params": [weight()], "name": "b", "lr": 0.5})
    scheduler.change(rw.Linear(1.0, 0.0, 20), "switch")
    scheduler.load_state_dict(scheduler.state_dict())
    assert applied(optimizer, 1) == [[0.85, 0.425]]


def test_under_clock_step_an_added_group_is_taken_in_by_reading_or_warned_of(sgd, weight, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, rw.linear_decay(0.4, steps=8), clock="step")
    both = lambda: (optimizer.step(), scheduler.step())  # noqa: E731
    applied(optimizer, 2, step=both)
    optimizer.add_param_group({"params": [weight()]})
    lr = rw.linear_decay(0.4, steps=8)
    assert scheduler.next_lr == {"0": lr(2), "1": lr(2)}
    assert applied(optimizer, step=both) == [[lr(2), lr(2)]]
    optimizer.add_param_group({"params": [weight()]})
    with pytest.warns(UserWarning, match=r"group '2' was added and made update 3 at the rate 0.1, not 0.25"):
        assert applied(optimizer, step=both) == [[0.25, 0.25, 0.1]]
    assert applied(optimizer, step=both) == [[0.2, 0.2, 0.2]]


def test_a_float32_rate_is_the_decimal_it_stands_for(weight, applied):
    base = Scheduler(torch.optim.SGD([weight()], lr=torch.tensor(0.1)), factor=1.0)
    other = Scheduler(torch.optim.SGD([weight()], lr=0.1), factor=1.0)
    other.load_state_dict(base.state_dict())
    assert applied(other.optimizer) == [0.1]


def test_one_schedule_under_different_rules_is_cut_where_the_rule_is(sgd, applied):
    shared = rw.fixed(0.1)
    for plan in (
        {"a": shared * rw.Plateau(0.5, patience=1), "b": shared},
        {"b": shared, "a": shared * rw.Plateau(0.5, 1)},
    ):
        optimizer = sgd({"name": "a"}, {"name": "b"})
        scheduler = Scheduler(optimizer, plan)
        scheduler.observe(1.0)
        scheduler.observe(1.0)
        assert applied(optimizer) == [[0.05, 0.1]]


@pytest.mark.parametrize("driven", [{}, {"weight_decay": 0.0}])
def test_a_group_added_just_before_loading_is_taken_in(driven, sgd, weight, applied):
    lr = rw.linear_decay(1.0, steps=8)
    optimizer = sgd()
    scheduler = Scheduler(optimizer, lr, **driven)
    applied(optimizer)
    optimizer.add_param_group({"params": [weight()]})
    applied(optimizer)
    states = optimizer.state_dict(), scheduler.state_dict()
    for order in ("optimizer first", "scheduler first"):
        optimizer = sgd()
        scheduler = Scheduler(optimizer, lr, **driven)
        optimizer.add_param_group({"params": [weight()]})
        if order == "optimizer first":
            optimizer.load_state_dict(states[0])
        scheduler.load_state_dict(states[1])
        optimizer.load_state_dict(states[0])
        assert applied(optimizer, 2) == [[lr(2), lr(2)], [lr(3), lr(3)]]


def test_a_typo_beside_the_schedule_for_all_groups_is_named(sgd):
    with pytest.raises(AdapterError, match="lr= names an unknown group 'bdoy'"):
        Scheduler(sgd({"name": "body"}), {"*": 0.1, "bdoy": 0.2})


def test_groups_without_weight_decay_are_not_given_any_unasked(sgd, weight):
    groups = [{"params": [weight()], "weight_decay": 0.1}, {"params": [weight()], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    with pytest.raises(AdapterError, match=r"weight_decay= would give every group the same value.*'0': 0.1, '1': 0"):
        Scheduler(optimizer, 0.1, weight_decay=rw.Linear(0.1, 0.0, 8))
    Scheduler(optimizer, 0.1, weight_decay={"0": rw.Linear(0.1, 0.0, 8), "1": 0.0})
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
