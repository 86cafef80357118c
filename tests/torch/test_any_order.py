"""Anything a training loop may do, in any order: every update uses the rate that a plain model of the run says.

The model is a position, a schedule, the state of its rule and the multipliers of the groups; it knows nothing of
hooks, knobs or states.
"""

import copy
import io
import json

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import ratewise as rw
from ratewise.errors import AdapterError, ScheduleDetached, ScheduleError
from ratewise.torch import Scheduler

LR = rw.warmup_cosine(0.4, warmup=3, steps=40, end=0.04)
RULED = LR * rw.Plateau(0.5, patience=2)
OTHERS = [rw.Constant(0.25), rw.time_based(0.3, decay=0.1), rw.linear_decay(0.5, steps=30).warmup(2)]


def weight():
    return torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))


def saved(state):
    """A state after a trip through a file; the Scheduler's also through JSON."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Overflow(Exception):
    """What a closure raises."""


class Run(RuleBasedStateMachine):
    """One run, and its model."""

    @initialize(
        tensor=st.booleans(),
        ruled=st.booleans(),
        kind=st.sampled_from(["lr", "factor"]),
        clock=st.sampled_from(["hooks", "step"]),
        scales=st.lists(st.sampled_from([1.0, 0.5, 3.0]), min_size=1, max_size=3),
    )
    def start(self, tensor, ruled, kind, clock, scales):
        self.tensor, self.kind, self.clock = tensor, kind, clock
        self.planned = RULED if ruled else LR
        self.scales, self.kept = list(scales), []
        self.begin()
        self.make()

    def begin(self):
        """The model at update 0."""
        self.position, self.lr, self.last = 0, self.planned, None
        self.state = self.lr.init() if self.lr is RULED else None

    def make(self):
        """Optimizer and Scheduler as the script makes them."""
        base = torch.tensor(0.1, dtype=torch.float64) if self.tensor else 0.1
        groups = [{"params": [weight()], "lr_scale": scale} for scale in self.scales]
        self.optimizer = torch.optim.SGD(groups, lr=base, weight_decay=0.0)
        self.scheduler = Scheduler(self.optimizer, **{self.kind: self.planned}, clock=self.clock)

    def expected(self, t):
        multipliers = self.scales if self.kind == "lr" else [scale * 0.1 for scale in self.scales]
        rate = self.lr(t) if self.state is None else self.lr.at(t, self.lr.factor(self.state))
        return [rate * x for x in multipliers]

    def gradients(self):
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        for p in weights:
            p.data.zero_()
            p.grad = torch.ones_like(p)
        return weights

    # -- updates and what is none ----------------------------------------------------------------------------

    @rule(updates=st.integers(1, 6))
    def update(self, updates):
        for _ in range(updates):
            weights = self.gradients()
            self.optimizer.step()
            self.scheduler.step()
            assert [-p.item() for p in weights] == self.expected(self.position)
            self.last = self.expected(self.position)
            self.position += 1

    @rule()
    def update_that_fails(self):
        def closure():
            raise Overflow

        with pytest.raises(Overflow):
            self.optimizer.step(closure)

    @precondition(lambda self: self.clock == "hooks")
    @rule(calls=st.integers(1, 3))
    def call_step_for_nothing(self, calls):
        for _ in range(calls):
            self.scheduler.step()

    @rule()
    def dry_step(self):
        """As distributed checkpoints make one."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["params"][0].grad = torch.zeros(1, dtype=torch.float64)
            group["lr"] = torch.tensor(0.0) if self.tensor else 0.0
        self.optimizer.step()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    @rule(overflow=st.booleans())
    def update_under_a_scaler(self, overflow):
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        self.optimizer.zero_grad()
        weights = [group["params"][0] for group in self.optimizer.param_groups]
        for p in weights:
            p.data.zero_()
        scaler.scale(sum((p * (float("inf") if overflow else 1.0)).sum() for p in weights)).backward()
        scaler.step(self.optimizer)
        if overflow:
            assert [p.item() for p in weights] == [0.0] * len(weights)
            return
        self.scheduler.step()
        assert [-p.item() for p in weights] == self.expected(self.position)
        self.last = self.expected(self.position)
        self.position += 1

    # -- mistakes, which are caught and put right ------------------------------------------------------------

    @rule(which=st.integers(0, 9), found=st.sampled_from([0.7, 0.123]))
    def edit_a_rate(self, which, found):
        group = self.optimizer.param_groups[which % len(self.scheduler.next_lr)]  # not one added just before
        held, value = group["lr"], float(group["lr"])
        if self.tensor:
            held.fill_(found)
        else:
            group["lr"] = found
        weights = self.gradients()
        with pytest.raises(ScheduleDetached) as caught:
            (self.optimizer if self.clock == "hooks" else self.scheduler).step()
        assert (caught.value.intended, caught.value.found) == (value, found)
        assert [p.item() for p in weights] == [0.0] * len(weights)
        if self.tensor:
            held.fill_(value)
        else:
            group["lr"] = value

    @rule()
    def schedule_it_twice(self):
        with pytest.raises(AdapterError, match="already follows"):
            Scheduler(self.optimizer, LR, clock=self.clock)

    # -- metrics and changes of plan -------------------------------------------------------------------------

    @precondition(lambda self: self.planned is RULED)
    @rule(metric=st.sampled_from([1.0, 0.9, 0.8]), by_step=st.booleans())
    def observe(self, metric, by_step):
        (self.scheduler.step if by_step else self.scheduler.observe)(metric)
        self.state = self.lr.observe(self.state, metric, self.position)

    @precondition(lambda self: self.planned is LR)
    @rule(factor=st.sampled_from([0.5, 2.0, 1.0]))
    def scale(self, factor):
        self.scheduler.scaled_from(factor)
        self.lr = self.lr.scaled_from(self.position, factor)

    @precondition(lambda self: self.planned is LR)
    @rule(steps=st.integers(1, 12), end=st.sampled_from([0.0, 0.01]))
    def decay(self, steps, end):
        self.scheduler.decay_now(steps, end=end)
        self.lr = self.lr.decay_from(self.position, steps, end, "1-sqrt")

    @precondition(lambda self: self.planned is LR)
    @rule(new=st.sampled_from(OTHERS), policy=st.sampled_from(["switch", "stretch", "replan", "rewarm(3)"]))
    def change(self, new, policy):
        if new == self.lr:
            return
        try:
            joined = rw.extend(self.lr, new, self.position, policy)
        except ScheduleError:  # the new plan has ended before, or has no end to stretch to
            with pytest.raises(ScheduleError):
                self.scheduler.change(new, policy)
        else:
            self.scheduler.change(new, policy)
            self.lr = joined

    @rule(scale=st.sampled_from([1.0, 0.25]))
    def add_a_group(self, scale):
        if len(self.scales) < 5:
            self.optimizer.add_param_group({"params": [weight()], "lr_scale": scale})
            self.scales.append(scale)
            if self.last is not None:
                self.last = None  # which rate the last update used in a group that it did not have: not asked here

    @rule()
    def restart(self):
        self.scheduler = Scheduler(self.optimizer, **{self.kind: self.planned}, clock=self.clock, restart=True)
        self.begin()
        self.kept = []

    # -- checkpoints and copies ------------------------------------------------------------------------------

    @rule()
    def save(self):
        states = {"optimizer": saved(self.optimizer.state_dict()), "scheduler": saved(self.scheduler.state_dict())}
        states["scheduler"] = json.loads(json.dumps(states["scheduler"]))
        self.kept.append((states, self.position, self.lr, self.state, self.last, list(self.scales)))

    @precondition(lambda self: self.kept)
    @rule(
        data=st.data(),
        order=st.permutations(["optimizer", "scheduler"]),
        again=st.sampled_from([[], ["optimizer"], ["scheduler"]]),
        fresh=st.booleans(),
    )
    def load(self, data, order, again, fresh):
        states, position, lr, state, last, scales = data.draw(st.sampled_from(self.kept))
        if fresh or scales != self.scales:
            self.scales = list(scales)
            self.make()
        for name in [*order, *again]:
            {"optimizer": self.optimizer, "scheduler": self.scheduler}[name].load_state_dict(states[name])
        self.position, self.lr, self.state, self.last = position, lr, state, last

    @rule()
    def copy_and_forget_the_original(self):
        self.optimizer, self.scheduler = copy.deepcopy((self.optimizer, self.scheduler))

    # -- what always holds -----------------------------------------------------------------------------------

    @invariant()
    def reading_agrees(self):
        if not hasattr(self, "scheduler"):
            return
        assert self.scheduler.position == self.scheduler.last_epoch == self.position
        coming = self.scheduler.next_lr  # takes in a group that was added since
        held = [group["lr"] for group in self.optimizer.param_groups]
        assert [isinstance(rate, torch.Tensor) for rate in held] == [self.tensor] * len(held)
        assert list(map(float, held)) == list(coming.values()) == self.expected(self.position)
        if self.last is not None:
            assert self.scheduler.get_last_lr()[: len(self.last)] == self.last


Run.TestCase.settings = settings(
    max_examples=50,
    report_multiple_bugs=False,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
test_every_update_uses_the_rate_of_the_model = pytest.mark.slow(
    pytest.mark.filterwarnings("ignore:torch adapter. the schedule ends")(Run.TestCase)
)
