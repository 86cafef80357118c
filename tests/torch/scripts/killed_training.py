"""Trains in a process that is killed again and again, at random moments: see test_kills.

Usage: killed_training.py FOLDER UPDATES KILLS SEED

For each variant one folder of an undisturbed run and one of a killed run, in which the file ``applied`` has a line
"index rates" for every update, measured from the weights; an update that was made but not yet in a checkpoint is made
again after a kill, and is then written twice. A checkpoint is written to another file and put in place in one move,
so there is always a whole one.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import ratewise as rw
from ratewise.torch import Scheduler

VARIANTS = ("float", "tensor", "decay")


def train(folder, updates, variant):
    """Go on from the last checkpoint."""
    weights = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
    rates = [torch.tensor(rate, dtype=torch.float64) if variant == "tensor" else rate for rate in (0.1, 0.3)]
    optimizer = torch.optim.SGD([{"params": [p], "lr": rate} for p, rate in zip(weights, rates, strict=True)])
    scheduler = Scheduler(optimizer, factor=rw.warmup_cosine(1.0, warmup=7, steps=updates))
    parts = {"scheduler": scheduler, "optimizer": optimizer}
    if (folder / "checkpoint").exists():
        state = torch.load(folder / "checkpoint", weights_only=True)
        for name in parts if variant == "tensor" else reversed(parts):
            parts[name].load_state_dict(state[name])
    while scheduler.position < updates:
        t = scheduler.position
        if variant == "decay" and t == updates // 2:
            scheduler.decay_now(updates)
        for p in weights:
            p.data.zero_()
            p.grad = torch.ones_like(p)
        optimizer.step()
        with (folder / "applied").open("a") as file:
            file.write(f"{t} {' '.join((-p.item()).hex() for p in weights)}\n")
        torch.save({name: part.state_dict() for name, part in parts.items()}, folder / "unfinished")
        os.replace(folder / "unfinished", folder / "checkpoint")


def lines(folder):
    log = folder / "applied"
    return log.read_text().count("\n") if log.exists() else 0


def in_a_process(*arguments):
    """Start training in a process of its own; returns its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        train(*arguments)
        status = 0
    finally:
        os._exit(status)


def killed_on_the_way(folder, updates, variant, chance):
    """Train, and kill some updates later, anywhere within one: the step, the log, or the writing of a checkpoint."""
    wanted, end = lines(folder) + chance.randint(1, 5), 0
    child = in_a_process(folder, updates, variant)
    while lines(folder) < wanted and not end:
        time.sleep(0.0005)
        end = os.waitpid(child, os.WNOHANG)[0]
    if end:
        return False
    time.sleep(chance.uniform(0.0, 0.004))
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main(folder, updates, kills, seed):
    chance = random.Random(seed)
    for variant in VARIANTS:
        undisturbed, killed = folder / variant / "undisturbed", folder / variant / "killed"
        undisturbed.mkdir(parents=True)
        killed.mkdir()
        train(undisturbed, updates, variant)
        died = sum(killed_on_the_way(killed, updates, variant, chance) for _ in range(kills))
        assert os.waitpid(in_a_process(killed, updates, variant), 0)[1] == 0
        print(variant, died)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
