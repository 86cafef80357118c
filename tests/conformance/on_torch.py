"""Runs of the torch adapter: SGD over one float64 weight that starts every update at 0, with a gradient of 1."""

import json

import torch

from ratewise.torch import Scheduler


class Run:
    def __init__(self, lr, accumulation=1, horizon=None, clock="hooks", rate=float, fused=None):
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.accumulation, self.clock, self.batches = accumulation, clock, 0
        base = torch.tensor(1.0, dtype=torch.float64) if rate is torch.Tensor else 1.0
        self.optimizer = torch.optim.SGD([self.weight], lr=base, fused=fused)
        self.scheduler = Scheduler(self.optimizer, lr, horizon=horizon, clock=clock)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)

    def update(self):
        return [self.batch() for _ in range(self.accumulation)][-1]

    def batch(self):
        self.batches += 1
        self.weight.data.zero_()
        (self.weight / self.accumulation).sum().backward()
        completes = self.batches % self.accumulation == 0
        if completes:
            self.weight.grad.fill_(1.0)  # thirds do not add up to 1
            self.optimizer.step()
            self.optimizer.zero_grad()
        if completes or self.clock == "hooks":
            self.scheduler.step()  # trainers do so at every micro batch
        return -self.weight.item()

    def attempt(self, fails):
        self.weight.data.zero_()
        self.scaler.scale((self.weight * float("inf" if fails else 1.0)).sum()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update(1.0)
        self.optimizer.zero_grad()
        if not (self.clock == "step" and fails):
            self.scheduler.step()
        return -self.weight.item()

    def used(self):
        return float(self.scheduler.get_last_lr()[0])

    def coming(self):
        return float(self.scheduler.get_lr()[0])

    def save(self):
        return json.dumps(self.scheduler.state_dict()), self.optimizer.state_dict()

    def load(self, state, policy=None):
        scheduler, optimizer = state
        self.scheduler.load_state_dict(json.loads(scheduler), on_change=policy)
        self.optimizer.load_state_dict(optimizer)

    def seek(self, t):
        self.scheduler.load_state_dict({**self.scheduler.state_dict(), "position": t})

    def change(self, new, policy):
        self.scheduler.change(new, policy)

    def observe(self, metric):
        self.scheduler.observe(metric)


class Torch:
    """The adapter with some settings; rates are exact."""

    def __init__(self, **settings):
        self.settings = settings

    def start(self, lr, accumulation=1, horizon=None):
        return Run(lr, accumulation, horizon, **self.settings)


HARNESSES = {"float rates": Torch()}
VARIANTS = {
    "tensor rates": (Torch(rate=torch.Tensor), ()),
    "clock='step'": (Torch(clock="step"), ()),
    "a fused kernel": (Torch(fused=True), ()),
    "a fused kernel, tensor rates": (Torch(rate=torch.Tensor, fused=True), ()),
}
