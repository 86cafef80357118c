import copy
import gc
import pickle

import pytest
import torch

import ratewise as rw
from ratewise.errors import AdapterError, ScheduleDetached
from ratewise.torch import Scheduler

LR = rw.linear_decay(0.4, steps=4)


def test_an_edited_rate_is_caught_before_the_next_update(sgd, applied):
    optimizer = sgd()
    Scheduler(optimizer, LR)
    applied(optimizer)
    optimizer.param_groups[0]["lr"] = 1.0
    with pytest.raises(
        ScheduleDetached, match=r"group '0': the schedule intended 0.3.*holds 1.0.*use change"
    ) as caught:
        applied(optimizer)
    assert (caught.value.intended, caught.value.found, caught.value.group) == (LR(1), 1.0, "0")
    assert optimizer.param_groups[0]["params"][0].item() == 0.0


def test_an_edit_of_a_rate_tensor_in_place_is_caught(weight, applied):
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = torch.optim.SGD([{"params": [weight()], "name": "body"}], lr=rate)
    Scheduler(optimizer, LR)
    rate.mul_(0.5)
    with pytest.raises(ScheduleDetached, match=r"group 'body': the schedule intended 0.4, the optimizer holds 0.2"):
        applied(optimizer)


def test_an_edit_to_the_same_value_is_no_edit(sgd, applied):
    optimizer = sgd()
    Scheduler(optimizer, LR)
    optimizer.param_groups[0]["lr"] = float("0.4")
    assert applied(optimizer, 4) == LR.values(0, 4)


def test_an_edit_is_caught_under_clock_step(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR, clock="step")
    optimizer.param_groups[0]["lr"] = 1.0
    applied(optimizer)
    with pytest.raises(ScheduleDetached, match=r"intended 0.4, the optimizer holds 1.0"):
        scheduler.step()


def test_a_torch_scheduler_on_the_same_optimizer_is_caught(sgd, applied):
    optimizer = sgd()
    Scheduler(optimizer, LR)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5)
    with pytest.raises(ScheduleDetached, match=r"intended 0.4, the optimizer holds 0.2"):
        applied(optimizer)


def test_replaced_param_groups_are_caught(sgd, applied):
    optimizer = sgd(lr=1.0)
    Scheduler(optimizer, LR)
    optimizer.param_groups = [{**group, "lr": 1.0} for group in optimizer.param_groups]
    with pytest.raises(ScheduleDetached, match=r"intended 0.4, the optimizer holds 1.0. optimizer.param_groups was"):
        applied(optimizer)


def test_another_list_of_the_same_groups_is_accepted(sgd, applied):
    optimizer = sgd()
    Scheduler(optimizer, LR)
    optimizer.param_groups = list(optimizer.param_groups)
    assert applied(optimizer, 2) == LR.values(0, 2)


def test_an_optimizer_built_again_over_the_same_parameters_is_caught(sgd, applied):
    optimizer = sgd({"name": "body"})
    scheduler = Scheduler(optimizer, LR)
    applied(optimizer)
    again = torch.optim.AdamW(optimizer.param_groups[0]["params"], lr=1.0)
    with pytest.raises(ScheduleDetached, match=r"group 'body': .*intended 0.3.*holds 1.0. AdamW steps parameters"):
        again.step()
    scheduler.detach()
    again.step()


def test_optimizers_of_other_parameters_are_left_alone(sgd, applied):
    optimizer, other = sgd(), sgd(lr=0.7)
    Scheduler(optimizer, LR)
    assert applied(other, 3) == [0.7] * 3
    assert applied(optimizer) == [0.4]


def test_making_optimizer_and_scheduler_again_starts_a_new_run(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    applied(optimizer, 3)
    parameters = optimizer.param_groups[0]["params"]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    scheduler = Scheduler(optimizer, LR)
    assert applied(optimizer, 2) == LR.values(0, 2)
    assert scheduler.position == 2


def test_an_optimizer_that_was_dropped_with_its_scheduler_is_forgotten(sgd, applied):
    def first_phase():
        optimizer = sgd()
        Scheduler(optimizer, LR)
        applied(optimizer)
        return optimizer.param_groups[0]["params"]

    gc.disable()  # the dropped pair refers to itself and may be there still
    try:
        assert applied(torch.optim.SGD(first_phase(), lr=0.7)) == [0.7]
    finally:
        gc.enable()


def test_an_optimizer_stepped_inside_the_scheduled_one_belongs_to_it(weight, applied):
    class Wrapper(torch.optim.SGD):
        def step(self, closure=None):
            inner = torch.optim.SGD(self.param_groups[0]["params"], lr=self.param_groups[0]["lr"])
            inner.step()

    optimizer = Wrapper([weight()], lr=0.1)
    scheduler = Scheduler(optimizer, LR)
    assert applied(optimizer, 2) == LR.values(0, 2)
    assert scheduler.position == 2


def test_the_global_hook_goes_with_the_last_scheduler(sgd):
    from torch.optim.optimizer import _global_optimizer_pre_hooks as hooks

    gc.collect()
    before = len(hooks)
    first, second = Scheduler(sgd(), LR), Scheduler(sgd(), LR)
    assert len(hooks) == max(before, 1)
    first.detach()
    second.detach()
    assert len(hooks) == before
    _ = Scheduler(sgd(), LR)
    del _
    gc.collect()
    assert len(hooks) == before
    Scheduler(sgd(), LR, clock="step")
    assert len(hooks) == before


def test_a_second_scheduler_is_an_error(sgd, applied):
    optimizer = sgd()
    Scheduler(optimizer, LR)
    applied(optimizer)
    with pytest.raises(AdapterError, match=r"already follows a schedule \(at update 1\).*restart=True"):
        Scheduler(optimizer, LR)
    assert applied(optimizer) == [LR(1)]


def test_restart_begins_again_at_the_base_rate(sgd, applied):
    optimizer = sgd(lr=0.5)
    first = Scheduler(optimizer, factor=LR)
    applied(optimizer, 3)
    second = Scheduler(optimizer, factor=LR, restart=True)
    assert applied(optimizer, 2) == [0.5 * LR(0), 0.5 * LR(1)]
    assert (first.position, second.position) == (3, 2)


def test_a_restart_that_fails_leaves_the_first_scheduler_in_place(sgd, applied):
    optimizer = sgd()
    Scheduler(optimizer, LR)
    with pytest.raises(AdapterError, match="momentum must be at least 0"):
        Scheduler(optimizer, LR, momentum=-1.0, restart=True)
    assert applied(optimizer, 2) == LR.values(0, 2)


def test_detach_lets_go_completely(sgd, applied):
    optimizer = sgd({"lr": 0.25}, {"lr": 0.5})
    scheduler = Scheduler(optimizer, factor=LR)
    applied(optimizer, 2)
    scheduler.detach()
    scheduler.detach()
    assert all("ratewise_base" not in group for group in optimizer.param_groups)
    assert applied(optimizer, 2) == [[0.25, 0.5]] * 2
    scheduler.step()
    assert scheduler.position == 2
    with pytest.raises(AdapterError, match="change: this Scheduler has let go"):
        scheduler.change(LR, "switch")
    averaged = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.05, anneal_epochs=1)
    optimizer.step()
    averaged.step()


def test_a_dropped_scheduler_is_still_followed(sgd, applied):
    optimizer = sgd()
    Scheduler(optimizer, LR)
    gc.collect()
    assert applied(optimizer, 4) == LR.values(0, 4)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_alone_from_the_same_position(copied, sgd, applied):
    optimizer = sgd({"lr": 0.5}, {"lr": 1.0})
    scheduler = Scheduler(optimizer, factor=LR, weight_decay=rw.Linear(0.9, 0.5, 8))
    applied(optimizer, 2)
    other_optimizer, other = copied((optimizer, scheduler))
    assert other.optimizer is other_optimizer
    assert other.last_lr == scheduler.last_lr
    assert applied(other_optimizer, 2) == [[0.5 * LR(t), LR(t)] for t in (2, 3)]
    assert (scheduler.position, other.position) == (2, 4)
    assert applied(optimizer) == [[0.5 * LR(2), LR(2)]]
    other_optimizer.param_groups[0]["lr"] = 0.123
    with pytest.raises(ScheduleDetached), pytest.warns(UserWarning, match="ends after 4"):
        applied(other_optimizer)


def test_a_copy_keeps_rates_in_its_own_tensors(weight, applied):
    optimizer = torch.optim.SGD([weight()], lr=torch.tensor(0.1, dtype=torch.float64))
    scheduler = Scheduler(optimizer, LR)
    applied(optimizer)
    other = copy.deepcopy(scheduler)
    assert applied(other.optimizer, 3) == LR.values(1, 4)
    assert optimizer.param_groups[0]["lr"].item() == LR(1)


def test_a_copy_of_a_detached_scheduler_stays_detached(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    scheduler.detach()
    other = copy.deepcopy(scheduler)
    assert applied(other.optimizer) == [0.1]
    assert other.next_lr == {"0": 0.4}


def dry_step(optimizer, gradient=0.0):
    """As torch.distributed.checkpoint makes one to create optimizer state."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.full_like(p, gradient)
        group["lr"] = torch.tensor(0.0) if isinstance(group["lr"], torch.Tensor) else 0.0
    optimizer.step(closure=None)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("clock", ["hooks", "step"])
@pytest.mark.parametrize("start", [0.4, 0.0])
def test_dry_steps_of_checkpointing_do_not_count(clock, start, sgd, applied):
    optimizer = sgd()
    lr = LR.warmup(2, start=start)
    scheduler = Scheduler(optimizer, lr, clock=clock)
    for _ in range(3):
        dry_step(optimizer)
        if clock == "step":
            continue
        assert scheduler.position == 0
    used = applied(optimizer, 3, step=lambda: (optimizer.step(), scheduler.step()))
    assert used == lr.values(0, 3)


def test_dry_steps_pass_with_a_rate_tensor(weight, applied):
    optimizer = torch.optim.Adam([weight()], lr=torch.tensor(0.1))
    scheduler = Scheduler(optimizer, LR)
    dry_step(optimizer)
    assert scheduler.position == 0
    assert optimizer.state
    applied(optimizer)
    assert scheduler.position == 1


def test_a_rate_set_to_zero_by_hand_raises_at_the_second_update(sgd, applied):
    optimizer = sgd()
    Scheduler(optimizer, LR)
    optimizer.param_groups[0]["lr"] = 0.0
    assert applied(optimizer) == [0.0]
    with pytest.raises(ScheduleDetached, match=r"intended 0.4, the optimizer holds 0.0"):
        applied(optimizer)


def test_the_state_functions_of_distributed_checkpoint_work(sgd, applied):
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    model = torch.nn.Linear(2, 2)
    for kind in (torch.optim.SGD, torch.optim.Adam):
        optimizer = kind(model.parameters(), lr=0.1)
        scheduler = Scheduler(optimizer, LR)
        state = get_optimizer_state_dict(model, optimizer)
        set_optimizer_state_dict(model, optimizer, state)
        assert scheduler.position == 0
        assert optimizer.param_groups[0]["lr"] == 0.4
        scheduler.detach()


def test_after_an_update_that_failed_a_rebuilt_optimizer_is_still_caught(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    rebuilt = torch.optim.SGD(optimizer.param_groups[0]["params"], lr=1.0)
    with pytest.raises(ScheduleDetached) as caught:
        applied(rebuilt)
    assert (caught.value.intended, caught.value.found) == (LR(0), 1.0)
    assert scheduler.position == 0


def test_an_optimizer_that_is_given_our_parameters_later_is_caught(sgd, weight, applied):
    optimizer, other = sgd(), torch.optim.SGD([weight()], lr=1.0)
    Scheduler(optimizer, LR)
    applied(other)
    other.add_param_group({"params": optimizer.param_groups[0]["params"]})
    with pytest.raises(ScheduleDetached):
        applied(other)


def test_it_cannot_be_joined_by_torch(sgd):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    with pytest.raises(AdapterError, match="Join schedules with >> rather than with SequentialLR"):
        scheduler.last_epoch = 3
