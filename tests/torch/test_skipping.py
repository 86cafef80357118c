import warnings

import pytest
import torch

import ratewise as rw
from ratewise.errors import ScheduleDetached
from ratewise.torch import Scheduler

LR = rw.time_based(0.1, decay=1.0)  # 0.1, 0.05, 0.0333...


def overflowing(optimizer, scaler, overflows):
    """One update per flag, under the scaler; returns the rates applied, 0 where the update was skipped."""
    (p,) = optimizer.param_groups[0]["params"]
    used = []
    for overflow in overflows:
        p.data.zero_()
        optimizer.zero_grad()
        scaler.scale((p * (float("inf") if overflow else 1.0)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        used.append(-p.item())
    return used


def scaler(**settings):
    return torch.amp.GradScaler("cpu", init_scale=1024.0, **settings)


def test_updates_that_the_scaler_skips_do_not_count(sgd):
    optimizer, amp = sgd(), scaler()
    scheduler = Scheduler(optimizer, LR, scaler=amp)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert overflowing(optimizer, amp, [True, True, False, False]) == [0.0, 0.0, 0.1, 0.05]
    assert (scheduler.position, scheduler.skipped) == (2, 2)
    assert scheduler.next_lr["0"] == 0.1 / 3


def test_without_a_scaler_the_position_is_right_and_skips_are_unknown(sgd):
    optimizer, amp = sgd(), scaler()
    scheduler = Scheduler(optimizer, LR)
    overflowing(optimizer, amp, [True, False])
    assert (scheduler.position, scheduler.skipped) == (1, None)


@pytest.mark.parametrize("growth_interval", [1, 2, 2000])
def test_backoffs_are_counted_with_growth_in_between(growth_interval, sgd):
    optimizer, amp = sgd(), scaler(growth_interval=growth_interval)
    scheduler = Scheduler(optimizer, LR, scaler=amp)
    overflowing(optimizer, amp, [False, True, False, False, True, True, False, True, False])
    assert (scheduler.position, scheduler.skipped) == (5, 4)


def test_skips_are_kept_by_checkpoints(sgd):
    optimizer, amp = sgd(), scaler()
    scheduler = Scheduler(optimizer, LR, scaler=amp)
    overflowing(optimizer, amp, [True, False])
    state, amp_state = scheduler.state_dict(), amp.state_dict()
    optimizer, amp = sgd(), scaler()
    scheduler = Scheduler(optimizer, LR, scaler=amp)
    scheduler.load_state_dict(state)
    amp.load_state_dict(amp_state)
    overflowing(optimizer, amp, [False, True, False])
    assert (scheduler.position, scheduler.skipped) == (3, 2)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("given", [False, True])
def test_updates_that_a_fused_kernel_skips_do_not_count(kind, given, weight):
    optimizer, amp = kind([weight()], lr=0.1, fused=True), scaler()
    scheduler = Scheduler(optimizer, LR, scaler=amp if given else None)
    used = overflowing(optimizer, amp, [True, True, False, False])
    assert used[:2] == [0.0, 0.0]
    if kind is torch.optim.SGD:
        assert used[2:] == [0.1, 0.05]
    assert (scheduler.position, scheduler.skipped) == (2, 2)
    assert scheduler.next_lr["0"] == 0.1 / 3


def test_micro_batches_do_not_count(sgd):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    (p,) = optimizer.param_groups[0]["params"]
    used = []
    for _ in range(3):
        p.data.zero_()
        optimizer.zero_grad()
        for _ in range(4):
            (p / 4).sum().backward()
        optimizer.step()
        used.append(-p.item())
    assert used == LR.values(0, 3)
    assert scheduler.position == 3


def test_a_step_with_a_closure_is_one_update(sgd):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    (p,) = optimizer.param_groups[0]["params"]

    def closure():
        p.data.zero_()
        p.grad = torch.ones_like(p)
        return p.sum()

    optimizer.step(closure)
    assert -p.item() == 0.1
    assert scheduler.position == 1


def test_a_closure_that_raises_is_no_update(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)

    def closure():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert scheduler.position == 0
    assert applied(optimizer, 2) == [0.1, 0.05]


def test_a_step_of_lbfgs_is_one_update_however_often_it_asks(weight):
    p = weight()
    optimizer = torch.optim.LBFGS([p], lr=0.1, max_iter=5)
    scheduler = Scheduler(optimizer, LR)
    calls = []

    def closure():
        calls.append(optimizer.param_groups[0]["lr"])
        optimizer.zero_grad()
        loss = ((p - 3) ** 4).sum()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    assert len(calls) > 3
    assert sorted(set(calls), reverse=True) == LR.values(0, 3)
    assert scheduler.position == 3


def test_a_step_without_gradients_is_one_update(sgd):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    optimizer.step()
    assert scheduler.position == 1


@pytest.mark.parametrize("tensor", [False, True])
def test_a_rate_written_inside_the_closure_is_caught_and_counts_as_the_update_it_was(tensor, weight, applied):
    optimizer = torch.optim.SGD([weight()], lr=torch.tensor(0.1, dtype=torch.float64) if tensor else 0.1)
    scheduler = Scheduler(optimizer, LR)

    def closure():
        if tensor:
            optimizer.param_groups[0]["lr"].fill_(0.7)
        else:
            optimizer.param_groups[0]["lr"] = 0.7

    with pytest.raises(ScheduleDetached, match="written during update 0, by the closure") as caught:
        optimizer.step(closure)
    assert (caught.value.intended, caught.value.found) == (0.1, 0.7)
    assert scheduler.position == 1
    assert applied(optimizer) == [0.05]


def test_a_closure_that_steers_the_scheduler_is_fine(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, rw.fixed(0.1) * rw.Plateau(0.5, patience=1))
    for _ in range(3):
        optimizer.step(lambda: scheduler.observe(1.0))
    assert scheduler.next_lr == {"0": 0.025}
    assert scheduler.position == 3


def test_a_group_added_inside_the_closure_is_warned_of(sgd, weight, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    with pytest.warns(UserWarning, match="a parameter group was added during update 0"):
        optimizer.step(lambda: optimizer.add_param_group({"params": [weight()]}))
    assert applied(optimizer) == [[LR(1), LR(1)]]
    assert scheduler.position == 2


class Calling(torch.optim.SGD):
    """Does something of its own and lets its base do the rest; torch hooks both."""

    def step(self, closure=None):
        return super().step(closure)


@pytest.mark.parametrize("tensor", [False, True])
def test_a_subclass_that_calls_the_step_of_its_base_makes_one_update(tensor, weight, applied):
    torch.optim.SGD([weight()], lr=0.1)  # hooks the base
    optimizer = Calling([weight()], lr=torch.tensor(0.1, dtype=torch.float64) if tensor else 0.1)
    scheduler = Scheduler(optimizer, LR)
    assert applied(optimizer, 3) == LR.values(0, 3)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    assert applied(optimizer, 2, step=lambda: optimizer.step(lambda: None)) == LR.values(3, 5)
    assert scheduler.position == 5
    assert applied(Calling([weight()], lr=0.3)) == [0.3]


def test_a_run_that_overflows_for_ever_can_still_be_saved(sgd):
    optimizer, amp = sgd(), scaler()
    scheduler = Scheduler(optimizer, LR, scaler=amp)
    overflowing(optimizer, amp, [False] + [True] * 200)
    assert scheduler.skipped > 150
    scheduler.load_state_dict(scheduler.state_dict())
    assert scheduler.position == 1
