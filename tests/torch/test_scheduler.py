import math
import re
import warnings

import pytest
import torch

import ratewise as rw
from ratewise.errors import AdapterError, ScheduleError
from ratewise.torch import Scheduler

RUN = 40

RECIPES = {
    "fixed": rw.fixed(0.1),
    "time_based": rw.time_based(0.1, decay=0.5),
    "step_decay": rw.step_decay(0.1),
    "multi_step": rw.multi_step(0.1, [10, 20]),
    "exponential_decay": rw.exponential_decay(0.1),
    "polynomial_decay": rw.polynomial_decay(0.1, power=2.0),
    "linear_decay": rw.linear_decay(0.1),
    "cosine": rw.cosine(0.1),
    "warmup_cosine": rw.warmup_cosine(0.1),
    "cyclical": rw.cyclical(0.01, 0.1),
    "one_cycle": rw.one_cycle(0.1),
    "sgdr": rw.sgdr(0.1, first=5),
    "wsd": rw.wsd(0.1),
    "noam": rw.noam(0.1, warmup=4),
    "inverse_sqrt": rw.inverse_sqrt(0.1, timescale=5, warmup=3),
    "rex": rw.rex(0.1),
    "trapezoidal": rw.trapezoidal(0.1),
    "wsd_s": rw.wsd_s(0.1, hold=6, cooldown=4, warmup=3),
    "flat_cosine": rw.flat_cosine(0.1),
    "tri_stage": rw.tri_stage(0.1),
    "slanted_triangular": rw.slanted_triangular(0.1),
    "power_decay": rw.power_decay(0.1, knee=6, warmup=3),
    "range_test": rw.range_test(1e-3, 0.1),
}


def test_every_recipe_is_tried_here():
    from ratewise.core import recipes

    assert set(recipes.RECIPES) - {"one_cycle_momentum"} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_applied_rates_are_those_of_the_schedule(name, sgd, applied):
    optimizer = sgd()
    Scheduler(optimizer, RECIPES[name], horizon=RUN)
    lr = RECIPES[name].over(RUN)
    assert applied(optimizer, RUN) == [lr(t) for t in range(RUN)]


def test_the_applied_rates_are_exact_over_many_blocks_of_values(sgd, applied):
    optimizer = sgd()
    lr = rw.warmup_cosine(0.3, warmup=300).over(1000)
    Scheduler(optimizer, lr)
    assert applied(optimizer, 1000) == [lr(t) for t in range(1000)]


def test_the_first_rate_is_in_the_group_before_the_first_update(sgd):
    optimizer = sgd(lr=7.0)
    scheduler = Scheduler(optimizer, rw.linear_decay(0.4, steps=4))
    assert optimizer.param_groups[0]["lr"] == 0.4
    assert scheduler.position == 0
    assert scheduler.get_last_lr() == [0.4]
    assert scheduler.next_lr == {"0": 0.4}


def test_last_is_what_was_used_and_next_is_what_the_group_holds(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, rw.linear_decay(0.4, steps=4))
    (used,) = applied(optimizer)
    assert scheduler.get_last_lr() == scheduler._last_lr == [used] == [0.4]
    assert scheduler.last_lr == {"0": 0.4}
    assert scheduler.next_lr == {"0": optimizer.param_groups[0]["lr"]} == {"0": pytest.approx(0.3)}
    assert scheduler.last_epoch == scheduler.position == 1
    assert scheduler.base_lrs == [0.1]


def test_it_is_a_torch_scheduler_that_leaves_the_optimizers_step_alone(sgd):
    optimizer = sgd()
    before = optimizer.step
    scheduler = Scheduler(optimizer, 0.1)
    assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
    assert optimizer.step == before
    assert not hasattr(scheduler, "total_steps")


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_calling_step_in_a_normal_loop_changes_nothing(calls, sgd, applied):
    optimizer = sgd()
    lr = rw.cosine(0.1, steps=8)
    scheduler = Scheduler(optimizer, lr)
    used = []
    for _ in range(8):
        used += applied(optimizer)
        for _ in range(calls):
            scheduler.step()
    assert used == lr.values(0, 8)
    assert scheduler.position == 8


def test_past_the_end_the_end_value_is_held_and_one_warning_says_so(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, rw.linear_decay(0.1, end=0.02), horizon=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        applied(optimizer, 4)
    with pytest.warns(UserWarning, match="ends after 4 updates, and update 4 is about to be made") as seen:
        assert applied(optimizer, 300) == [0.02] * 300
    assert len(seen) == 1
    assert seen[0].filename.endswith("conftest.py")  # the line that called optimizer.step()
    assert scheduler.overrun == 300


def test_on_overrun_error_raises_before_the_first_update_past_the_end(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, rw.linear_decay(0.1), horizon=4, on_overrun="error")
    applied(optimizer, 4)
    with pytest.raises(AdapterError, match="ends after 4 updates, and update 4 is about to be made"):
        applied(optimizer)
    assert optimizer.param_groups[0]["params"][0].item() == 0.0
    assert scheduler.position == 4


def test_an_endless_schedule_never_overruns(sgd, applied):
    optimizer = sgd()
    Scheduler(optimizer, rw.fixed(0.1), on_overrun="error")
    assert applied(optimizer, 600) == [0.1] * 600


def test_a_schedule_shorter_than_the_horizon_holds_without_a_warning(sgd, applied):
    optimizer = sgd()
    Scheduler(optimizer, rw.linear_decay(0.1, steps=4), horizon=8)
    assert applied(optimizer, 8)[4:] == [0.0] * 4


def test_clock_step_counts_calls_of_step(sgd, applied):
    optimizer = sgd()
    lr = rw.linear_decay(0.4, steps=4)
    scheduler = Scheduler(optimizer, lr, clock="step")
    assert applied(optimizer, 2) == [0.4, 0.4]
    scheduler.step()
    assert scheduler.position == 1
    assert applied(optimizer) == [lr(1)]
    assert scheduler._step_count == 2


def test_clock_step_follows_an_object_that_only_has_groups():
    class Wrapper:
        param_groups = ({"params": [], "lr": 0.1},)

    scheduler = Scheduler(Wrapper(), rw.linear_decay(0.4, steps=4), clock="step")
    scheduler.step()
    assert Wrapper.param_groups[0]["lr"] == pytest.approx(0.3)


def test_an_object_without_step_hooks_is_refused_under_the_hook_clock():
    class Wrapper:
        param_groups = ({"params": [], "lr": 0.1},)

    with pytest.raises(AdapterError, match="Wrapper has no step hooks"):
        Scheduler(Wrapper(), 0.1)
    assert Wrapper.param_groups == ({"params": [], "lr": 0.1},)


def test_wrappers_of_accelerate_and_lightning_are_opened(sgd, applied):
    class AcceleratedOptimizer(torch.optim.Optimizer):
        def __init__(self, optimizer):
            self.optimizer = optimizer

    inner = sgd()
    scheduler = Scheduler(AcceleratedOptimizer(inner), rw.linear_decay(0.4, steps=4))
    assert scheduler.optimizer is inner
    assert applied(inner, 2) == [0.4, pytest.approx(0.3)]


def test_two_optimizers_follow_their_own_clocks(sgd, applied):
    first, second = sgd(), sgd()
    a = Scheduler(first, rw.linear_decay(0.4, steps=4))
    b = Scheduler(second, rw.linear_decay(0.8, steps=8))
    assert applied(first, 3) == rw.linear_decay(0.4, steps=4).values(0, 3)
    assert applied(second, 1) == [0.8]
    assert (a.position, b.position) == (3, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs lr= .* or factor="),
        ({"lr": 0.1, "factor": 0.1}, "got both. Give one"),
        ({"lr": "cosine"}, "lr must be a Schedule, a number, .* got 'cosine'"),
        ({"lr": True}, "lr must be a Schedule, a number, .* got True"),
        ({"lr": 0.1, "clock": "hook"}, "clock must be 'hooks' or 'step', got 'hook'. Did you mean 'hooks'"),
        ({"lr": 0.1, "on_overrun": "holds"}, "on_overrun must be .* Did you mean 'hold'"),
        (
            {"lr": 0.1, "on_change": "swich"},
            "on_change must be one of keep, switch, stretch, replan, rewarm\\(n\\), got 'swich'. Did you mean 'switch'",
        ),
        ({"lr": rw.Linear(-0.1, 0.1, 4)}, "lr must be at least 0 and finite, but .* gives -0.1 at update 0"),
        ({"lr": {}}, "lr= is an empty dictionary"),
    ],
)
def test_a_wrong_argument_says_what_is_wanted_and_touches_nothing(arguments, message, sgd):
    optimizer = sgd()
    with pytest.raises(AdapterError, match=message):
        Scheduler(optimizer, **arguments)
    assert "ratewise_base" not in optimizer.param_groups[0]
    assert optimizer.param_groups[0]["lr"] == 0.1
    Scheduler(optimizer, 0.1)


def test_an_open_schedule_without_a_horizon_is_an_error_that_names_it(sgd):
    with pytest.raises(ScheduleError, match=r"Scheduler: lr: .*its length is not known yet.*horizon=1000"):
        Scheduler(sgd(), rw.cosine(0.1))


def test_something_that_is_no_optimizer_is_refused():
    with pytest.raises(AdapterError, match="needs a torch optimizer, got Linear"):
        Scheduler(torch.nn.Linear(1, 1), 0.1)


@pytest.mark.parametrize("argument", [0.5, 3])
def test_step_refuses_a_metric(argument, sgd):
    with pytest.raises(AdapterError, match=re.escape(f"follows no rule that reads a metric, got {argument}")):
        Scheduler(sgd(), 0.1).step(argument)


def test_a_rate_that_turns_negative_is_refused_before_training(sgd):
    with pytest.raises(AdapterError, match=r"lr must be at least 0 and finite, but .* gives -0\.1 at update 4"):
        Scheduler(sgd(), rw.Piecewise([0.1, -0.1], [4]).until(9))


def table(t):
    return [0.4, 0.3, 0.2][t]


def test_a_function_may_fail_past_the_end_of_the_run(sgd, applied):
    optimizer = sgd()
    Scheduler(optimizer, rw.Custom(table))
    assert applied(optimizer, 3) == [0.4, 0.3, 0.2]
    with pytest.raises(IndexError):
        applied(optimizer)


def test_a_horizon_in_epochs_settles_typed_lengths(sgd, applied):
    optimizer = sgd()
    run = rw.Horizon(epochs=2, dataset_size=20, batch_size=5)
    lr = rw.cosine(0.1).warmup(rw.epochs(0.5))
    Scheduler(optimizer, lr, horizon=run)
    assert applied(optimizer, 8) == lr.over(run).values(0, 8)


def test_its_repr_shows_the_optimizer_the_schedule_and_the_position(sgd):
    assert repr(Scheduler(sgd(), rw.fixed(0.1))) == "<Scheduler of SGD at update 0: lr=Constant(0.1)>"


def test_a_run_far_past_float32_integers_stays_exact(sgd, applied):
    optimizer = sgd()
    lr = rw.linear_decay(1.0, steps=2**25)
    scheduler = Scheduler(optimizer, lr)
    state = scheduler.state_dict() | {"position": 2**24 + 1}
    scheduler.load_state_dict(state)
    assert applied(optimizer, 3) == [lr(2**24 + i) for i in (1, 2, 3)]
    assert math.isclose(lr(2**24 + 1), 0.5, rel_tol=1e-6)
