"""What one rank of plain DistributedDataParallel does; ``test_ddp.py`` starts two and looks at what they found.

The ranks have the gradients 0.5 and 1.5 everywhere: the mean is 1, so a rank that did not hear of the other would show.
"""

import sys

import torch
import torch.distributed as dist
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from trainers.launch import run, write
from trainers.probe import LR, METRICS, RULED, Probe, sgd

from ratewise.torch import Scheduler


def probe(**settings):
    """The probe of this rank."""
    return Probe(gradient=0.5 + dist.get_rank(), **settings)


def step(model, optimizer):
    """One update."""
    optimizer.zero_grad()
    model().backward()
    optimizer.step()


def plain():
    """Every update."""
    model = probe()
    ddp = DistributedDataParallel(model)
    optimizer = sgd(ddp)
    scheduler = Scheduler(optimizer, LR)
    for _ in range(8):
        step(ddp, optimizer)
    return model.used, scheduler.position


def accumulated():
    """Two micro batches make one update; only the second is synchronised."""
    model = probe(micro=2)
    ddp = DistributedDataParallel(model)
    optimizer = sgd(ddp)
    scheduler = Scheduler(optimizer, LR)
    for _ in range(8):
        with ddp.no_sync():
            (ddp() / 2).backward()
        (ddp() / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.used, scheduler.position


def sharded_optimizer():
    """Each rank has one of two probes in its optimizer, and hears of the other."""
    models = torch.nn.ModuleList([probe(), probe()])
    pair = DistributedDataParallel(Both(models))
    optimizer = ZeroRedundancyOptimizer(pair.parameters(), torch.optim.SGD, lr=0.7)
    scheduler = Scheduler(optimizer, LR)
    for _ in range(8):
        step(pair, optimizer)
    return [model.used for model in models], scheduler.position


def ruled(reduced):
    """Each rank has a metric of its own; only on rank 0 it improves. The rule gets the mean, or that."""
    model = probe()
    ddp = DistributedDataParallel(model)
    optimizer = sgd(ddp)
    scheduler = Scheduler(optimizer, RULED)
    for t, metric in enumerate(METRICS):
        step(ddp, optimizer)
        mine = torch.tensor(metric - t if dist.get_rank() == 0 else metric + t)
        if reduced:
            dist.all_reduce(mine)
            mine /= dist.get_world_size()
        scheduler.observe(mine)
    return [entry["at"] for entry in scheduler.history], scheduler.next_lr["0"], model.used


class Both(torch.nn.Module):
    """Two models whose losses are added."""

    def __init__(self, models):
        super().__init__()
        self.models = models

    def forward(self):
        return sum(model() for model in self.models)


def saved_and_loaded(folder, wrap, optimizer_first):
    """Killed after three updates, saved by torch.distributed.checkpoint, loaded by new objects."""

    def made():
        model = wrap(probe())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.7, momentum=0.0)
        return model, optimizer, Scheduler(optimizer, LR)

    def state(model, optimizer, scheduler):
        return {
            "model": model.state_dict(),
            "optimizer": get_optimizer_state_dict(model, optimizer),
            "scheduler": scheduler.state_dict(),
        }

    model, optimizer, scheduler = made()
    for _ in range(3):
        step(model, optimizer)
    checkpoint.save(state(model, optimizer, scheduler), checkpoint_id=folder)
    model, optimizer, scheduler = made()
    loaded = state(model, optimizer, scheduler)
    checkpoint.load(loaded, checkpoint_id=folder)
    model.load_state_dict(loaded["model"])
    if optimizer_first:
        set_optimizer_state_dict(model, optimizer, loaded["optimizer"])
    scheduler.load_state_dict(loaded["scheduler"])
    if not optimizer_first:
        set_optimizer_state_dict(model, optimizer, loaded["optimizer"])
    for _ in range(5):
        step(model, optimizer)
    return whole(model), scheduler.position


def whole(model):
    """The rates, also where every rank has but a part of the weights."""
    weight = next(model.parameters())
    weight = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
    return [-w for w in weight.tolist()]


CHECKS = {
    "plain": lambda folder: plain(),
    "accumulated": lambda folder: accumulated(),
    "sharded optimizer": lambda folder: sharded_optimizer(),
    "mean metric": lambda folder: ruled(True),
    "own metrics": lambda folder: ruled(False),
    "optimizer first": lambda folder: saved_and_loaded(f"{folder}/a", DistributedDataParallel, True),
    "scheduler first": lambda folder: saved_and_loaded(f"{folder}/b", DistributedDataParallel, False),
    "fully sharded": lambda folder: saved_and_loaded(f"{folder}/c", fully_shard, True),
}


if __name__ == "__main__":
    dist.init_process_group("gloo")
    write(sys.argv[1], run(CHECKS, sys.argv[1]))
    dist.destroy_process_group()
