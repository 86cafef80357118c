"""The same plan on one device, on two processes, with accumulation, and with mixed precision that overflows.

Linear 1 to 0 over 8 updates. What counts is the updates that happened, so nothing of this may move the curve.
"""

import itertools
import json
import os
import socket
import subprocess
import sys
import warnings
from importlib.util import find_spec

import pytest
import torch

import ratewise as rw
from ratewise.torch import Scheduler

LR = rw.Linear(1.0, 0.0, 8)
EXPECTED = [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]


def accumulated(weight, optimizer, micro, updates):
    """Updates of ``micro`` batches each, as loops do it; the rate of each."""
    used = []
    for _ in range(updates):
        weight.data.zero_()
        optimizer.zero_grad()
        for _ in range(micro):
            (weight.sum() / micro).backward()
        optimizer.step()
        used.append(-weight.item())
    return used


@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize("calls", [0, 1, 3])
def test_one_device_with_and_without_accumulation(weight, micro, calls):
    w = weight()
    optimizer = torch.optim.SGD([w], lr=1.0)
    scheduler, used = Scheduler(optimizer, LR), []
    for _ in range(8):
        used += accumulated(w, optimizer, micro, 1)
        for _ in range(calls):  # however often a trainer calls it
            scheduler.step()
    assert used == EXPECTED
    assert scheduler.position == 8


ACCELERATE = """
import json, sys
import torch
sys.modules["deepspeed"] = None  # Accelerate imports it where it is installed; here it is not to run
from accelerate import Accelerator
from ratewise import Linear
from ratewise.torch import Scheduler


class Weight(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self):
        return self.w.sum()


def run(make):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
    model, used = Weight(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, make(optimizer))
    for _ in range(8):
        for _ in range(accumulation):
            with accelerator.accumulate(model):
                accelerator.backward(model())
                before = sum(p.item() for p in model.parameters())
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
        used.append(before - sum(p.item() for p in model.parameters()))
    return used


def linear(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: max(0.0, 1 - t / 8))


found = {}
for accumulation in (1, 4):
    found[f"ours {accumulation}"] = run(lambda optimizer: Scheduler(optimizer, Linear(1.0, 0.0, 8)))
found["peer"] = []
accumulation = 1
found["peer"] = run(linear)
print("FOUND", json.dumps(found))
torch.distributed.destroy_process_group()
"""


def on_two_processes(script):
    """What each of two gloo processes found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
        )
        for rank in "01"
    ]  # fmt: skip
    found = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err[-3000:]
        found.append(json.loads(out.partition("FOUND")[2]))
    return found


@pytest.mark.slow
@pytest.mark.skipif(find_spec("accelerate") is None, reason="Accelerate is not installed")
def test_two_processes_under_accelerate_with_and_without_accumulation():
    for rank in on_two_processes(ACCELERATE):
        assert rank["ours 1"] == EXPECTED
        assert rank["ours 4"] == EXPECTED
        assert rank["peer"] == [1, 0.75, 0.5, 0.25, 0, 0, 0, 0]  # today: dead at half time


def keras_rates(rate):
    """The rate of each of 8 updates of 4 batches, gradient 1, on the backend in use."""
    import keras
    import numpy as np

    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(
        keras.optimizers.SGD(rate, gradient_accumulation_steps=4), loss=lambda y, out: keras.ops.sum(out, axis=-1)
    )
    one, weights = np.ones((1, 1), "float32"), [0.0]
    for _ in range(8):
        for _ in range(4):
            model.train_on_batch(one, one)
        weights.append(layer.get_weights()[0].item())
    return [a - b for a, b in itertools.pairwise(weights)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15 under numpy 2
def test_accumulation_in_keras():
    keras = pytest.importorskip("keras")
    from ratewise.keras import Schedule

    assert keras_rates(Schedule(LR, accumulation=4)) == EXPECTED
    peer = keras.optimizers.schedules.PolynomialDecay(1.0, 8, 0.0)
    assert keras_rates(peer) == [0.625, 0.125, 0, 0, 0, 0, 0, 0]  # today: four times too fast


def with_overflows(optimizer, overflows, after):
    """An update under a GradScaler for each flag; the rates of those that happened."""
    (p,) = optimizer.param_groups[0]["params"]
    scaler, used = torch.amp.GradScaler("cpu", init_scale=1024.0), []
    after = after(scaler)
    for overflow in overflows:
        p.data.zero_()
        optimizer.zero_grad()
        scaler.scale((p * (float("inf") if overflow else 1.0)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        after()
        used += [] if overflow else [-p.item()]
    return used


@pytest.mark.parametrize("overflows", [(True, True, False, False), (False, True, True, False)], ids=str)
def test_overflows_under_mixed_precision_do_not_count(sgd, overflows):
    schedulers = []

    def follow(scaler):
        schedulers.append(Scheduler(optimizer, rw.time_based(0.1, decay=1.0), scaler=scaler))
        return schedulers[0].step

    optimizer = sgd()
    with warnings.catch_warnings(action="error"):
        assert with_overflows(optimizer, overflows, follow) == [0.1, 0.05]
    assert (schedulers[0].position, schedulers[0].skipped) == (2, 2)
    assert schedulers[0].next_lr["0"] == 0.1 / 3


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # today's warning, about legal code
def test_today_overflows_count(sgd):
    optimizer = sgd(lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (t + 1))
    used = with_overflows(optimizer, (True, True, False, False), lambda scaler: scheduler.step)
    assert used == pytest.approx([0.1 / 3, 0.025])
    assert scheduler.last_epoch == 4
    assert scheduler.get_last_lr() == pytest.approx([0.02])
