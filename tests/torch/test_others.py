"""Optimizers of other people, and code that takes an optimizer apart: right, or a clear error."""

import copy
import gc
import pickle
import subprocess
import sys
import threading

import pytest
import torch

import ratewise as rw
from ratewise.errors import AdapterError, ScheduleDetached
from ratewise.torch import Scheduler

LR = rw.linear_decay(0.4, steps=8)


# -- optimizers of other packages ----------------------------------------------------------------------------


def schedulefree_optimizer(p, lr):
    from schedulefree import SGDScheduleFree

    optimizer = SGDScheduleFree([p], lr=lr, momentum=0.9)
    optimizer.train()
    return optimizer


def prodigy_optimizer(p, lr):
    from prodigyopt import Prodigy

    return Prodigy([p], lr=lr)


def descend(optimizer, p, before=lambda t: None, updates=8):
    for t in range(updates):
        before(t)
        optimizer.zero_grad()
        ((p - 3) ** 2).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("make", [schedulefree_optimizer, prodigy_optimizer])
@pytest.mark.parametrize("clock", ["hooks", "step"])
def test_optimizers_that_scale_the_rate_end_at_the_bits_of_a_twin_set_by_hand(make, clock, weight):
    ours, theirs = weight(), weight()
    optimizer, twin = make(ours, 1.0), make(theirs, 1.0)
    scheduler = Scheduler(optimizer, LR, clock=clock)

    def advance(t):
        if t:
            scheduler.step()

    def by_hand(t):
        twin.param_groups[0]["lr"] = LR(t)

    descend(optimizer, ours, advance)
    descend(twin, theirs, by_hand)
    scheduler.step()
    assert torch.equal(ours, theirs)
    assert scheduler.position == 8
    assert scheduler.last_lr == {"0": LR(7)}


def test_the_wrapper_of_schedulefree_follows_through_its_base_or_by_clock_step(weight):
    from schedulefree import ScheduleFreeWrapper

    ends = []
    for kind in ("inner", "step", "by hand"):
        p = weight()
        base = torch.optim.SGD([p], lr=1.0)
        optimizer = ScheduleFreeWrapper(base, momentum=0.9)
        optimizer.train()
        scheduler = None
        if kind == "by hand":
            descend(optimizer, p, lambda t, base=base: base.param_groups[0].update(lr=LR(t)))
        else:
            scheduler = Scheduler(base, LR) if kind == "inner" else Scheduler(optimizer, LR, clock="step")
            descend(optimizer, p, lambda t, s=scheduler: s.step() if t else None)
            scheduler.step()
            assert scheduler.position == 8
        ends.append(p.detach())
    assert torch.equal(ends[0], ends[2])
    assert torch.equal(ends[1], ends[2])


def test_the_wrapper_of_schedulefree_has_no_hooks_and_says_so(weight):
    from schedulefree import ScheduleFreeWrapper

    optimizer = ScheduleFreeWrapper(torch.optim.SGD([weight()], lr=1.0), momentum=0.9)
    with pytest.raises(AdapterError, match=r"ScheduleFreeWrapper .*step hooks.*clock=.step"):
        Scheduler(optimizer, LR)


class Sam(torch.optim.Optimizer):
    """Sharpness-aware: climbs by hand, then lets its inner optimizer descend; the two share their groups."""

    def __init__(self, params, inner, **settings):
        super().__init__(params, settings)
        self.inner = inner(self.param_groups, **settings)
        self.param_groups = self.inner.param_groups

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            closure()
        params = [p for group in self.param_groups for p in group["params"]]
        for p in params:
            p.add_(p.grad.sign(), alpha=0.01)
        climbed = [p.grad.sign() for p in params]
        with torch.enable_grad():
            closure()
        for p, direction in zip(params, climbed, strict=True):
            p.sub_(direction, alpha=0.01)
        self.inner.step()


class Twice(Sam):
    """Steps its inner optimizer at each end of one update."""

    def step(self, closure):
        closure()
        self.inner.step()
        closure()
        self.inner.step()


def gradient_of_one(optimizer):
    (p,) = optimizer.param_groups[0]["params"]

    def closure():
        p.grad = torch.ones_like(p)

    p.data.zero_()
    return p, closure


@pytest.mark.parametrize("kind", [Sam, Twice])
def test_a_wrapper_that_steps_an_inner_optimizer_is_one_update_where_the_loop_steps(kind, weight):
    optimizer = kind([weight()], torch.optim.SGD, lr=0.1)
    scheduler = Scheduler(optimizer, LR)
    used = []
    for _ in range(4):
        p, closure = gradient_of_one(optimizer)
        optimizer.step(closure)
        used.append(-p.item())
    times = 2 if kind is Twice else 1
    assert used == pytest.approx([times * LR(t) for t in range(4)], rel=1e-9)
    assert scheduler.position == 4


def test_attached_to_the_inner_optimizer_every_inner_step_is_an_update(weight):
    optimizer = Twice([weight()], torch.optim.SGD, lr=0.1)
    scheduler = Scheduler(optimizer.inner, LR)
    p, closure = gradient_of_one(optimizer)
    optimizer.step(closure)
    assert -p.item() == pytest.approx(LR(0) + LR(1), rel=1e-12)
    assert scheduler.position == 2


def test_an_optimizer_that_took_the_groups_over_is_caught_when_it_goes_on(sgd):
    optimizer = sgd()
    Scheduler(optimizer, LR)
    other = torch.optim.SGD(optimizer.param_groups, lr=1.0)  # the very groups: their rate stands still from here on
    p, _ = gradient_of_one(other)
    p.grad = torch.ones_like(p)
    other.step()
    other.step()  # might be a second try after an error in the first
    with pytest.raises(ScheduleDetached, match="SGD steps parameters that follow a schedule"):
        other.step()


class Lookahead:
    """Slow weights around any optimizer; only looks like one."""

    def __init__(self, optimizer, every=3):
        self.optimizer, self.every, self.count = optimizer, every, 0
        self.slow = [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    def zero_grad(self):
        self.optimizer.zero_grad()

    def step(self):
        self.optimizer.step()
        self.count += 1
        if self.count % self.every == 0:
            fast = [p for group in self.param_groups for p in group["params"]]
            for slow, p in zip(self.slow, fast, strict=True):
                slow.lerp_(p.detach(), 0.5)
                p.data.copy_(slow)


@pytest.mark.parametrize("clock", ["hooks", "step"])
def test_slow_weights_around_an_optimizer_do_not_matter(clock, weight):
    p, q = weight(), weight()
    optimizer, twin = (Lookahead(torch.optim.SGD([x], lr=1.0, momentum=0.9)) for x in (p, q))
    scheduler = Scheduler(optimizer if clock == "step" else optimizer.optimizer, LR, clock=clock)
    descend(optimizer, p, lambda t: scheduler.step() if t else None)
    descend(twin, q, lambda t: twin.param_groups[0].update(lr=LR(t)))
    assert torch.equal(p, q)


class ShardingEngine:
    """Steps an optimizer as DeepSpeed's first stages do: group by group, each put there in place of all."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    def step(self):
        every = self.optimizer.param_groups
        for group in every:
            self.optimizer.param_groups = [group]
            self.optimizer.step()
        self.optimizer.param_groups = every


def test_an_engine_that_swaps_groups_is_right_under_clock_step(sgd, applied):
    engine = ShardingEngine(sgd({"lr": 0.5}, {"lr": 1.0}))
    scheduler = Scheduler(engine, factor=LR, clock="step")
    used = applied(engine, 4, step=lambda: (engine.step(), scheduler.step()))
    assert used == [[0.5 * LR(t), LR(t)] for t in range(4)]
    assert scheduler.position == 4


@pytest.mark.parametrize("groups", [1, 2])
def test_an_engine_that_swaps_groups_is_caught_under_the_hook_clock(groups, sgd):
    optimizer = sgd(*[{}] * groups)
    Scheduler(optimizer, LR)
    copied = [{**group, "lr": 0.1} for group in optimizer.param_groups]  # of flat, partitioned parameters
    optimizer.param_groups = copied
    with pytest.raises(ScheduleDetached, match=r"intended 0.4, the optimizer holds 0.1.*clock=.step.*DeepSpeed"):
        optimizer.step()


def test_groups_taken_one_by_one_are_an_error_that_touches_nothing(sgd, applied):
    optimizer = sgd({}, {})
    scheduler = Scheduler(optimizer, LR)
    every = optimizer.param_groups
    with pytest.raises(AdapterError, match=r"has 1 parameter groups, the Scheduler follows 2"):
        ShardingEngine(optimizer).step()
    optimizer.param_groups = every
    assert applied(optimizer, 2) == [[LR(t)] * 2 for t in range(2)]
    assert scheduler.position == 2


# -- averages, other schedulers ------------------------------------------------------------------------------


@pytest.mark.parametrize("ema", [False, True])
def test_averaged_models_do_not_matter(ema, sgd, applied):
    model = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Scheduler(optimizer, LR)
    settings = {"multi_avg_fn": torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)} if ema else {}
    averaged = torch.optim.swa_utils.AveragedModel(model, **settings)
    used = applied(optimizer, 4, step=lambda: (optimizer.step(), averaged.update_parameters(model)))
    assert used == LR.values(0, 4)
    assert averaged.n_averaged == 4


def test_the_scheduler_of_weight_averaging_on_a_live_one_is_caught(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    averaging = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.05, anneal_epochs=1)
    assert applied(optimizer) == [0.4]  # it is made early and wrote what was there
    averaging.step()
    with pytest.raises(ScheduleDetached, match=r"intended 0.35\d*, the optimizer holds 0.05.*another scheduler"):
        applied(optimizer)
    scheduler.detach()
    averaging.step()
    assert applied(optimizer) == [0.05]


# -- several optimizers --------------------------------------------------------------------------------------


def test_the_optimizers_of_a_gan_keep_their_own_clocks(weight, applied):
    generator = torch.optim.Adam([weight()], lr=1.0)
    critic = torch.optim.SGD([weight()], lr=1.0)
    schedulers = Scheduler(generator, LR), Scheduler(critic, rw.linear_decay(1.0, steps=100))
    used = []
    for _ in range(5):
        used += applied(critic, 3)
        applied(generator)
        for scheduler in schedulers:
            scheduler.step()
    assert used == rw.linear_decay(1.0, steps=100).values(0, 15)
    assert [s.position for s in schedulers] == [5, 15]
    assert schedulers[0].last_lr == {"0": LR(4)}


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon")
def test_muon_for_matrices_and_adamw_for_the_rest_follow_their_own_schedules():
    def start():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
        matrices = [p for p in model.parameters() if p.ndim == 2]
        rest = [p for p in model.parameters() if p.ndim != 2]
        return model, torch.optim.Muon(matrices, lr=1.0), torch.optim.AdamW(rest, lr=1.0)

    def train(model, optimizers, before):
        for t in range(6):
            before(t)
            for optimizer in optimizers:
                optimizer.zero_grad()
            (model(torch.eye(3)) ** 2).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    small = LR * 0.1
    ours, theirs = start(), start()
    schedulers = Scheduler(ours[1], LR), Scheduler(ours[2], small)

    def by_hand(t):
        for optimizer, lr in zip(theirs[1:], (LR, small), strict=True):
            optimizer.param_groups[0]["lr"] = lr(t)

    assert torch.equal(train(ours[0], ours[1:], lambda t: None), train(theirs[0], theirs[1:], by_hand))
    assert [s.position for s in schedulers] == [6, 6]


def test_optimizers_that_step_inside_backward_follow_each_for_itself():
    model = torch.nn.Sequential(*(torch.nn.Linear(1, 1, bias=False, dtype=torch.float64) for _ in range(2)))
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}
    schedulers = [Scheduler(optimizer, LR) for optimizer in optimizers.values()]
    used = []

    def step(p):
        before, gradient = p.item(), p.grad.item()
        optimizers[p].step()
        optimizers[p].zero_grad()
        used.append((before - p.item()) / gradient)

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(step)
    for _ in range(3):
        model(torch.ones(1, 1, dtype=torch.float64)).sum().backward()
    assert used == pytest.approx([LR(t) for t in range(3) for _ in range(2)], rel=1e-9)
    assert [s.position for s in schedulers] == [3, 3]


# -- optimizers taken apart ----------------------------------------------------------------------------------


def test_a_pickled_optimizer_without_its_scheduler_is_known_as_scheduled(sgd, applied):
    optimizer = sgd(lr=0.5)
    Scheduler(optimizer, factor=LR)
    applied(optimizer, 3)
    for alone in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        assert applied(alone, 2) == [0.5 * LR(3)] * 2  # torch drops all hooks: the rate stands still
        scheduler = Scheduler(alone, factor=LR)
        assert scheduler.base_lrs == [0.5]  # that came along; it is not the rate it stood at
        with pytest.warns(UserWarning, match=r"held the rate .*Load the Scheduler's state too"):
            assert applied(alone) == [0.5 * LR(0)]


def test_an_optimizer_pointed_at_other_parameters_follows_with_them(sgd, weight, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    applied(optimizer, 2)
    optimizer.param_groups[0]["params"] = [weight()]  # as sharding wrappers do
    assert applied(optimizer, 2) == LR.values(2, 4)
    assert scheduler.position == 4


def test_running_the_cell_again_is_an_error_until_restart_is_said(sgd, applied):
    peak = rw.cosine(1.0, steps=10)
    optimizer = sgd(lr=1.0)
    scheduler = Scheduler(optimizer, factor=peak)
    assert applied(optimizer, 8) == peak.values(0, 8)
    with pytest.raises(AdapterError, match="at update 8"):
        scheduler = Scheduler(optimizer, factor=peak)
    del scheduler
    gc.collect()
    with pytest.raises(AdapterError, match="at update 8"):  # the optimizer still follows it
        scheduler = Scheduler(optimizer, factor=peak)
    scheduler = Scheduler(optimizer, factor=peak, restart=True)
    assert applied(optimizer, 10) == peak.values(0, 10)
    assert scheduler.base_lrs == [1.0]


def test_many_runs_in_one_process_leave_nothing_behind(sgd, applied):
    def alive():
        gc.collect()
        return sum(type(x) is Scheduler for x in gc.get_objects())

    before = alive()
    for _ in range(20):
        optimizer = sgd()
        Scheduler(optimizer, LR)
        assert applied(optimizer, 2) == LR.values(0, 2)
    del optimizer
    assert alive() == before


# -- threads and processes -----------------------------------------------------------------------------------


def test_training_loops_in_several_threads_do_not_meet(sgd, applied):
    lr = rw.linear_decay(0.4, steps=400)
    results, start = {}, threading.Barrier(3)

    def loop(name):
        start.wait()
        for _ in range(4):
            optimizer = sgd()
            scheduler = Scheduler(optimizer, lr)
            results.setdefault(name, []).append(applied(optimizer, 100))
            scheduler.detach()

    threads = [threading.Thread(target=loop, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {name: [lr.values(0, 100)] * 4 for name in range(3)}


def test_schedulers_come_and_go_in_one_thread_while_others_train(sgd, applied):
    errors, usual = [], sys.getswitchinterval()

    def loop():
        try:
            for _ in range(20):
                pairs = [(optimizer, Scheduler(optimizer, LR)) for optimizer in (sgd(), sgd(), sgd())]
                for optimizer, _ in pairs:
                    assert applied(optimizer, 2) == LR.values(0, 2)
                assert applied(sgd(lr=0.7)) == [0.7]
                pairs[0][1].detach()
        except Exception as error:
            errors.append(error)

    sys.setswitchinterval(1e-6)  # as unfriendly as possible
    try:
        threads = [threading.Thread(target=loop) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    assert errors == []


FORKING = """
import torch
from ratewise import warmup_cosine
from ratewise.torch import Scheduler

p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
optimizer = torch.optim.SGD([p], lr=0.1)
scheduler = Scheduler(optimizer, warmup_cosine(0.4, warmup=3, steps=9))
data = torch.utils.data.TensorDataset(torch.ones(4, 1, dtype=torch.float64))
loader = torch.utils.data.DataLoader(data, num_workers=1, multiprocessing_context="fork")
for _ in range(2):
    for (batch,) in loader:
        p.data.zero_()
        optimizer.zero_grad()
        (p * batch).sum().backward()
        optimizer.step()
        print(-p.item())
assert scheduler.position == 8
"""


@pytest.mark.slow
def test_worker_processes_that_are_forked_in_mid_run_do_not_matter():
    # in a process of its own: others in this one may have threads that a fork would break
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True)
    assert [float(line) for line in done.stdout.split()] == rw.warmup_cosine(0.4, warmup=3, steps=9).values(0, 8)


def test_a_wrapper_that_was_interrupted_goes_on(weight):
    optimizer = Sam([weight()], torch.optim.SGD, lr=0.1)
    scheduler = Scheduler(optimizer.inner, LR)
    p, closure = gradient_of_one(optimizer)

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(interrupted)
    optimizer.step(closure)
    optimizer.step(closure)
    assert -p.item() == pytest.approx(LR(0) + LR(1), rel=1e-12)
    assert scheduler.position == 2
