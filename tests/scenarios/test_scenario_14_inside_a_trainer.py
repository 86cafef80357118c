"""Dropped into Hugging Face's Trainer, Lightning and an engine like DeepSpeed's, across a restart of the cosine.

The log must show the rate that the update used, also where the rate jumps; and the first update must use the
warm-up, not the peak.
"""

import sys

import pytest
import torch

import ratewise as rw
from ratewise.errors import AdapterError
from ratewise.torch import Scheduler

RESTARTS = rw.Cosine(1.0, 0.0, 4).repeat(2)
RATES = RESTARTS.values(0, 8)


def test_the_restart_lies_between_updates_3_and_4():
    assert RATES[3] == pytest.approx(0.146447, abs=5e-7)
    assert RATES[4] == 1.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the trainer itself
def test_hugging_face_logs_the_rate_that_was_used(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setitem(sys.modules, "deepspeed", None)  # Accelerate imports it where it is there; it is not to run
    from trainers import hug

    trainer = hug.train(tmp_path, model := hug.Model(), RESTARTS)
    assert model.probe.used == RATES
    assert hug.logged(trainer) == [(t + 1, rate) for t, rate in enumerate(RATES)]  # its index counts from 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the trainer itself
def test_lightning_logs_the_rate_that_was_used(tmp_path):
    pytest.importorskip("lightning")
    from trainers import lit

    module = lit.Module(RESTARTS)
    lit.fit(tmp_path, module, **lit.monitored(tmp_path))
    assert module.probe.used == RATES
    assert lit.logged(tmp_path, "lr-SGD") == list(enumerate(RATES))


class Engine:
    """The part of DeepSpeed that matters here: it steps its optimizer when it is made, and then once per group."""

    def __init__(self, optimizer, scheduler):
        self.optimizer, self.scheduler, self.groups = optimizer, scheduler, optimizer.param_groups
        optimizer.step()  # before there are gradients

    def step(self):
        for group in self.groups:
            self.optimizer.param_groups = [group]
            self.optimizer.step()
        self.optimizer.param_groups = self.groups
        self.scheduler.step()


def engine_rates(optimizer, scheduler, updates):
    engine, used = Engine(optimizer, scheduler), []
    for _ in range(updates):
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        for p in weights:
            p.data.zero_()
            p.grad = torch.ones_like(p)
        engine.step()
        used.append([-p.item() for p in weights])
    return used


def test_an_engine_like_deepspeeds_begins_with_the_warmup(sgd):
    lr = rw.Cosine(1.0, 0.0, 8).warmup(4)
    optimizer = sgd({}, {})
    scheduler = Scheduler(optimizer, lr, clock="step")
    rates = engine_rates(optimizer, scheduler, 12)
    assert rates == [[rate, rate] for rate in lr.values(0, 12)]
    assert rates[0] == [0.25, 0.25]
    assert scheduler.position == 12


def test_by_its_hooks_a_scheduler_notices_that_such_an_engine_is_not_for_it(sgd):
    optimizer = sgd({}, {})
    scheduler = Scheduler(optimizer, RESTARTS)
    with pytest.raises(AdapterError, match=r"param_groups|parameter groups"):
        engine_rates(optimizer, scheduler, 1)
