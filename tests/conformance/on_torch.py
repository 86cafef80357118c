"""Runs of the torch adapter: SGD over one float64 weight that starts every update at 0, with a gradient of 1."""

import json

import torch

from ratewise.torch import Scheduler


class Run:
    def __init__(self, lr, accumulation=1, horizon=None, clock="hooks", rate=float, fused=None):
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.accumulation, self.clock, self.fused = accumulation, clock, fused
        base = torch.tensor(1.0, dtype=torch.float64) if rate is torch.Tensor else 1.0
        self.optimizer = torch.optim.SGD([self.weight], lr=base, fused=fused)
        self.scheduler = Scheduler(self.optimizer, lr, horizon=horizon, clock=clock)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)

    def update(self):
        self.weight.data.zero_()
        self.optimizer.zero_grad()
        for _ in range(self.accumulation):
            (self.weight / self.accumulation).sum().backward()
            if self.clock == "hooks":
                self.scheduler.step()  # as trainers do, at every micro batch
        self.weight.grad.fill_(1.0)  # thirds do not add up to 1
        self.optimizer.step()
        if self.clock == "step":
            self.scheduler.step()
        return -self.weight.item()

    def skip(self):
        self.optimizer.zero_grad()
        self.scaler.scale((self.weight * float("inf")).sum()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

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
