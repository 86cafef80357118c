"""GradScaler on real overflows beyond the plain case of test_skipping: who else takes part in an update."""

import pytest
import torch

import ratewise as rw
from ratewise.torch import Scheduler

LR = rw.time_based(0.1, decay=1.0)  # 0.1, 0.05, 0.0333...
HALF = rw.linear_decay(0.5, steps=16)


def scaler(**settings):
    return torch.amp.GradScaler("cpu", **{"init_scale": 1024.0, **settings})


def backward(optimizer, amp, overflow, parts=1):
    """Zero every weight and give it a gradient of 1, in ``parts`` micro-batches; the last one may overflow."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad()
    for p in weights:
        p.data.zero_()
    for part in range(parts):
        size = float("inf") if overflow and part == parts - 1 else 1.0 / parts
        amp.scale(sum((p * size).sum() for p in weights)).backward()
    return weights


def updates(optimizer, amp, overflows, parts=1, between=lambda weights: None):
    used = []
    for overflow in overflows:
        weights = backward(optimizer, amp, overflow, parts)
        between(weights)
        amp.step(optimizer)
        amp.update()
        used.append(-weights[0].item())
    return used


@pytest.mark.parametrize("settings", [{"foreach": True}, {"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.parametrize("parts", [1, 4])
def test_accumulated_updates_that_overflow_do_not_count(settings, parts, weight):
    optimizer, amp = torch.optim.SGD([weight(), weight()], lr=0.1, **settings), scaler()
    scheduler = Scheduler(optimizer, LR, scaler=amp)
    assert updates(optimizer, amp, [True, True, False, False], parts) == [0.0, 0.0, 0.1, 0.05]
    assert (scheduler.position, scheduler.skipped) == (2, 2)
    assert scheduler.next_lr["0"] == 0.1 / 3


@pytest.mark.parametrize("settings", [{"foreach": True}, {"fused": True}], ids=str)
def test_unscaling_and_clipping_before_the_step_change_nothing(settings, weight):
    optimizer, amp = torch.optim.SGD([weight()], lr=0.1, **settings), scaler()
    scheduler = Scheduler(optimizer, LR, scaler=amp)

    def between(weights):
        amp.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(weights, 0.5)

    used = updates(optimizer, amp, [False, True, False], between=between)
    assert used == pytest.approx([0.05, 0.0, 0.025], rel=1e-5)  # clipped to 0.5
    assert (scheduler.position, scheduler.skipped) == (2, 1)


@pytest.mark.parametrize("fused", [False, True])
def test_optimizers_that_share_a_scaler_keep_their_own_positions(fused, weight):
    first, second = (torch.optim.SGD([weight()], lr=0.1, fused=fused) for _ in range(2))
    amp = scaler()
    schedulers = Scheduler(first, LR, scaler=amp), Scheduler(second, HALF, scaler=amp)
    used = []
    for overflows in [(False, False), (True, False), (False, True), (True, True), (False, False), (True, False)]:
        row = [backward(o, amp, over) for o, over in zip((first, second), overflows, strict=True)]
        amp.step(first)
        amp.step(second)
        amp.update()
        used.append([-weights[0].item() for weights in row])
    assert [a for a, _ in used if a] == LR.values(0, 3)
    assert [b for _, b in used if b] == HALF.values(0, 4)
    assert [s.position for s in schedulers] == [3, 4]
    if fused:  # each kernel tells what it skipped itself
        assert [s.skipped for s in schedulers] == [3, 2]


@pytest.mark.parametrize("growth_interval", [2, 3, 2000])
@pytest.mark.parametrize("stop", range(1, 9))
def test_resuming_between_overflows_gives_the_same_rates_and_count(stop, growth_interval, weight):
    overflows = [True, False, False, True, True, False, True, False, False]

    def start():
        optimizer, amp = torch.optim.SGD([weight()], lr=0.1), scaler(growth_interval=growth_interval)
        return optimizer, amp, Scheduler(optimizer, LR, scaler=amp)

    optimizer, amp, scheduler = start()
    expected = updates(optimizer, amp, overflows)
    assert [rate for rate in expected if rate] == LR.values(0, 5)

    optimizer, amp, scheduler = start()
    used = updates(optimizer, amp, overflows[:stop])
    parts = {"optimizer": optimizer, "amp": amp, "scheduler": scheduler}
    state = {name: part.state_dict() for name, part in parts.items()}
    optimizer, amp, scheduler = start()
    for name, part in {"amp": amp, "scheduler": scheduler, "optimizer": optimizer}.items():
        part.load_state_dict(state[name])
    assert used + updates(optimizer, amp, overflows[stop:]) == expected
    assert (scheduler.position, scheduler.skipped) == (5, 4)


def test_a_disabled_scaler_skips_nothing(weight):
    optimizer, amp = torch.optim.SGD([weight()], lr=0.1), torch.amp.GradScaler("cpu", enabled=False)
    scheduler = Scheduler(optimizer, LR, scaler=amp)
    assert updates(optimizer, amp, [False] * 3) == LR.values(0, 3)
    assert (scheduler.position, scheduler.skipped) == (3, 0)
