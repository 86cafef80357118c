import io
import json

import pytest
import torch

import ratewise as rw
from ratewise.errors import AdapterError, ScheduleChanged, ScheduleError
from ratewise.torch import Scheduler

LR = rw.warmup_cosine(0.4, warmup=3, steps=9)
ORDERS = [["make", "optimizer", "scheduler"], ["make", "scheduler", "optimizer"], ["optimizer", "make", "scheduler"]]


def saved(optimizer, scheduler):
    """Both states after a trip through JSON and through torch.save."""
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert json.loads(json.dumps(state["scheduler"])) == state["scheduler"]
    return state


def test_the_state_is_plain_and_says_what_it_is(sgd, applied):
    optimizer = sgd({"name": "body"})
    scheduler = Scheduler(optimizer, factor=LR)
    applied(optimizer, 2)
    state = scheduler.state_dict()
    assert state["format"] == 2
    assert state["position"] == 2
    assert rw.from_dict(json.loads(state["spec"])["factor"]["*"]) == LR
    assert json.loads(state["base"]) == {"body": 0.1}
    assert len(state["hash"]) == 64
    assert (state["history"], state["rules"]) == ("[]", "{}")
    assert json.loads(json.dumps(state)) == state


@pytest.mark.parametrize("k", [0, 1, 5, 11])
@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
@pytest.mark.parametrize("tensor", [False, True])
def test_stopping_at_k_and_loading_in_any_order_gives_the_same_tail(k, order, tensor, weight, applied):
    def fresh():
        rates = [torch.tensor(x, dtype=torch.float64) if tensor else x for x in (0.1, 0.3)]
        return torch.optim.SGD([{"params": [weight()], "lr": rate} for rate in rates], momentum=0.9)

    optimizer = fresh()
    scheduler = Scheduler(optimizer, factor=LR, momentum=rw.Linear(0.9, 0.5, 12))
    applied(optimizer, k)
    state = saved(optimizer, scheduler)
    expected, last = applied(optimizer, 12 - k), scheduler.get_last_lr()

    optimizer = fresh()
    for what in order:
        if what == "make":
            scheduler = Scheduler(optimizer, factor=LR, momentum=rw.Linear(0.9, 0.5, 12))
        elif what == "optimizer":
            optimizer.load_state_dict(state["optimizer"])
        else:
            scheduler.load_state_dict(state["scheduler"])
    assert scheduler.position == k
    assert applied(optimizer, 12 - k) == expected
    assert scheduler.get_last_lr() == last


def test_loading_twice_is_loading_once(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    applied(optimizer, 4)
    state = scheduler.state_dict()
    scheduler.load_state_dict(state)
    scheduler.load_state_dict(state)
    assert scheduler.state_dict() == state
    assert scheduler.last_lr == {"0": LR(3)}
    assert applied(optimizer, 3) == LR.values(4, 7)


def test_loading_an_earlier_state_goes_back(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    state = scheduler.state_dict()
    applied(optimizer, 4)
    scheduler.load_state_dict(state)
    assert applied(optimizer, 3) == LR.values(0, 3)


def test_a_rate_tensor_keeps_its_identity_through_loading(weight, applied):
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = torch.optim.SGD([weight()], lr=rate)
    scheduler = Scheduler(optimizer, LR)
    applied(optimizer, 4)
    state = saved(optimizer, scheduler)
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    assert optimizer.param_groups[0]["lr"] is rate
    assert applied(optimizer, 3) == LR.values(4, 7)


def test_names_and_scales_survive_a_checkpoint_without_them(sgd, applied):
    optimizer = sgd({"name": "a", "lr_scale": 0.5}, {"name": "b"})
    Scheduler(optimizer, LR)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        for key in ("name", "lr_scale", "ratewise_base"):
            group.pop(key, None)
    optimizer.load_state_dict(state)
    assert [group["name"] for group in optimizer.param_groups] == ["a", "b"]
    assert applied(optimizer) == [[0.5 * LR(0), LR(0)]]


def test_loading_only_the_optimizer_warns_once_with_both_rates(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    applied(optimizer, 5)
    state = optimizer.state_dict()
    scheduler.detach()
    for loaded_first in (True, False):
        optimizer = sgd()
        if loaded_first:
            optimizer.load_state_dict(state)
        Scheduler(optimizer, LR)
        if not loaded_first:
            optimizer.load_state_dict(state)
        with pytest.warns(
            UserWarning, match=rf"held the rate {LR(5)}.*gives {LR(0)} at update 0. Load the Sched"
        ) as seen:
            assert applied(optimizer, 3) == LR.values(0, 3)
        assert len(seen) == 1


def test_an_optimizer_loaded_before_the_scheduler_is_made_keeps_its_base_rate(sgd, applied):
    optimizer = sgd(lr=0.5)
    scheduler = Scheduler(optimizer, factor=LR)
    applied(optimizer, 5)
    state = saved(optimizer, scheduler)
    optimizer = sgd(lr=0.5)
    optimizer.load_state_dict(state["optimizer"])
    scheduler = Scheduler(optimizer, factor=LR)
    assert scheduler.base_lrs == [0.5]
    scheduler.load_state_dict(state["scheduler"])
    assert applied(optimizer) == [0.5 * LR(5)]


def extended():
    """Scenario: 60,000 of a cosine of 100,000, then 150,000 are wanted."""
    lr = rw.cosine(3e-4, end=3e-5).warmup(2000)
    return lr.over(100_000), lr.over(150_000)


def resumed(sgd, lr, **settings):
    old, new = extended()
    first = Scheduler(sgd(), old)
    state = first.state_dict() | {"position": 60_000}
    optimizer = sgd()
    return optimizer, Scheduler(optimizer, lr or new, **settings), state


def test_another_schedule_without_a_policy_shows_both_rates_and_touches_nothing(sgd, applied):
    optimizer, scheduler, state = resumed(sgd, None)
    with pytest.raises(ScheduleChanged) as caught:
        scheduler.load_state_dict(state)
    for part in (
        "60000",
        "1.265888e-04",
        "100000 updates",
        "2.099739e-04",
        "150000 updates",
        "1.6587",
        "'keep'",
        "'switch'",
    ):
        assert part in str(caught.value)
    assert scheduler.position == 0
    assert applied(optimizer) == [extended()[1](0)]


def test_keep_goes_on_with_the_saved_schedule(sgd, applied):
    optimizer, scheduler, state = resumed(sgd, None)
    scheduler.load_state_dict(state, on_change="keep")
    assert applied(optimizer, 3) == extended()[0].values(60_000, 60_003)


def test_switch_follows_the_new_schedule_from_here(sgd, applied):
    optimizer, scheduler, state = resumed(sgd, None)
    scheduler.load_state_dict(state, on_change="switch")
    assert applied(optimizer, 3) == extended()[1].values(60_000, 60_003)
    (change,) = scheduler.history
    assert change["at"] == 60_000
    assert "switch" in change["what"]
    assert change["new"]["0"] == pytest.approx(2.099739e-4, rel=1e-6)


def test_the_constructors_policy_serves_trainers_that_pass_none(sgd, applied):
    optimizer, scheduler, state = resumed(sgd, None, on_change="keep")
    scheduler.load_state_dict(state)
    assert applied(optimizer) == [extended()[0](60_000)]
    again = Scheduler(sgd(), extended()[1])
    again.load_state_dict(json.loads(json.dumps(scheduler.state_dict())))  # answered once, it is not asked again
    assert again.next_lr == {"0": extended()[0](60_001)}


def test_an_unknown_policy_names_the_nearest(sgd):
    _, scheduler, state = resumed(sgd, None)
    with pytest.raises(
        AdapterError, match=r"on_change must be one of keep, switch, stretch, replan, rewarm\(n\), got 'swap'"
    ):
        scheduler.load_state_dict(state, on_change="swap")


def test_a_changed_base_rate_is_a_changed_schedule_under_factor(sgd, applied):
    first = Scheduler(sgd(lr=1.0), factor=LR)
    state = first.state_dict() | {"position": 5}
    optimizer = sgd(lr=0.1)
    scheduler = Scheduler(optimizer, factor=LR)
    with pytest.raises(ScheduleChanged, match=r"(?s)saved .*base 1.0,.*here .*base 0.1,.* 0.1\n"):
        scheduler.load_state_dict(state)
    scheduler.load_state_dict(state, on_change="switch")
    assert applied(optimizer) == [0.1 * LR(5)]
    kept = sgd(lr=0.1)
    scheduler = Scheduler(kept, factor=LR)
    scheduler.load_state_dict(state, on_change="keep")
    assert applied(kept) == [LR(5)]


def test_a_changed_momentum_is_named(sgd):
    first = Scheduler(sgd(momentum=0.9), LR, momentum=0.8)
    scheduler = Scheduler(sgd(momentum=0.9), LR)
    with pytest.raises(ScheduleChanged, match=r"group '0', momentum: saved Constant\(0.8\) .*here not driven"):
        scheduler.load_state_dict(first.state_dict())


def test_groups_are_matched_by_name(sgd, applied):
    optimizer = sgd({"name": "head", "lr": 1e-3}, {"name": "body", "lr": 1e-5})
    scheduler = Scheduler(optimizer, factor=LR)
    applied(optimizer, 4)
    state = scheduler.state_dict()
    optimizer = sgd({"name": "body", "lr": 1e-5}, {"name": "head", "lr": 1e-3})
    scheduler = Scheduler(optimizer, factor=LR)
    scheduler.load_state_dict(state)
    assert applied(optimizer) == [[1e-5 * LR(4), 1e-3 * LR(4)]]
    other = Scheduler(sgd({"name": "head"}, {"name": "embed"}), factor=LR)
    with pytest.raises(
        AdapterError, match=r"saved groups are \['body', 'head'\], the optimizer has \['embed', 'head'\]"
    ):
        other.load_state_dict(state)


def test_a_group_added_before_saving_may_be_there_from_the_start_when_resuming(sgd, weight, applied):
    optimizer = sgd({"name": "head"})
    scheduler = Scheduler(optimizer, factor=LR)
    applied(optimizer, 2)
    optimizer.add_param_group({"params": [weight()], "lr": 1e-4, "name": "mid"})
    applied(optimizer, 2)
    state = scheduler.state_dict()
    optimizer = sgd({"name": "head"}, {"name": "mid", "lr": 1e-4})
    scheduler = Scheduler(optimizer, factor=LR)
    scheduler.load_state_dict(state)
    assert applied(optimizer) == [[0.1 * LR(4), 1e-4 * LR(4)]]


@pytest.mark.parametrize("state", [{"last_epoch": 3}, {"format": "2"}, {"format": True}, [], None])
def test_the_state_of_something_else_is_refused(state, sgd):
    with pytest.raises(AdapterError, match=r"needs a state_dict\(\) of ratewise.torch.Scheduler, got"):
        Scheduler(sgd(), LR).load_state_dict(state)


@pytest.mark.parametrize("version", [1, 2])
def test_half_a_state_names_what_is_missing(version, sgd):
    with pytest.raises(AdapterError, match="damaged at 'position': it is missing"):
        Scheduler(sgd(), LR).load_state_dict({"format": version})


def test_the_state_of_a_newer_version_says_so(sgd):
    scheduler = Scheduler(sgd(), LR)
    with pytest.raises(AdapterError, match="by a newer Ratewise, in format 3; this one reads up to format 2"):
        scheduler.load_state_dict(scheduler.state_dict() | {"format": 3})


def test_a_state_without_rules_of_the_first_format_is_read(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    state = scheduler.state_dict()
    parts = {key: json.loads(state[key]) for key in ("spec", "base", "lr_scale", "history", "last_lr", "next_lr")}
    del state["rules"], state["scale"]
    scheduler.load_state_dict(state | parts | {"format": 1, "position": 4})
    assert applied(optimizer) == [LR(4)]


def unregistered(t):
    return 0.5 / (t + 1)


def test_an_unregistered_function_resumes_in_the_same_script(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, rw.Custom(unregistered))
    applied(optimizer, 3)
    state = json.loads(json.dumps(scheduler.state_dict()))
    optimizer = sgd()
    scheduler = Scheduler(optimizer, rw.Custom(unregistered))
    scheduler.load_state_dict(state)
    assert applied(optimizer) == [0.125]
    with pytest.raises(ScheduleChanged, match="cannot be read here"):
        Scheduler(sgd(), LR).load_state_dict(state)
    with pytest.raises(ScheduleError, match="is not registered"):
        Scheduler(sgd(), LR).load_state_dict(state, on_change="keep")


@pytest.mark.parametrize("position", [-5, 1.5, "x", None, True])
def test_a_state_whose_position_is_no_count_is_refused(sgd, position):
    scheduler = Scheduler(sgd(), rw.Linear(0.1, 0.0, 10))
    state = {**scheduler.state_dict(), "position": position}
    with pytest.raises(AdapterError, match="position must be an integer of at least 0"):
        scheduler.load_state_dict(state)
