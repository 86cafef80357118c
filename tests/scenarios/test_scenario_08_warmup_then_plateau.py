"""A warm-up of 5 updates, then a plateau rule (patience 2, factor 0.5), killed while it is being patient.

Evaluations after the warm-up, one after each 3 updates: 1.0, 0.9, 0.91, 0.92, 0.90, nan.
"""

import math
import signal
import subprocess
import sys
import warnings

import pytest
import torch

import ratewise as rw
from ratewise.torch import Scheduler

METRICS = [1.0, 0.9, 0.91, 0.92, 0.90, math.nan]
WARMUP = [0.2, 0.4, 0.6, 0.8, 1.0]
HALVED_TWICE = [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]  # during evaluation i, and after the last


def plan(**settings):
    return (rw.Constant(1.0) * rw.Plateau(0.5, patience=2, **settings)).warmup(5)


@pytest.fixture
def evaluated(applied):
    """Runs the updates and evaluations from one evaluation on; the rate of each stretch between them."""

    def run(scheduler, metrics):
        rates = []
        for metric in metrics:
            (rate,) = set(applied(scheduler.optimizer, 3))
            rates.append(rate)
            scheduler.observe(metric)
        return rates

    return run


@pytest.mark.filterwarnings("ignore:.*nan")
def test_it_is_cut_at_the_second_evaluation_in_a_row_without_improvement(sgd, applied, evaluated):
    scheduler = Scheduler(sgd(), plan())
    assert applied(scheduler.optimizer, 5) == pytest.approx(WARMUP, rel=1e-12)
    rates = evaluated(scheduler, METRICS)
    assert rates + applied(scheduler.optimizer, 1) == HALVED_TWICE
    cuts = [(entry["at"], entry["old"]["0"], entry["new"]["0"]) for entry in scheduler.history]
    assert cuts == [(5 + 4 * 3, 1.0, 0.5), (5 + 6 * 3, 0.5, 0.25)]


def test_metrics_of_the_warmup_do_not_count(sgd, applied, evaluated):
    scheduler = Scheduler(sgd(), plan())
    for _ in range(5):
        scheduler.observe(0.0)  # never to be reached again
        applied(scheduler.optimizer, 1)
    assert evaluated(scheduler, METRICS[:5]) == HALVED_TWICE[:5]


def test_a_nan_is_said_once(sgd, applied, evaluated):
    scheduler = Scheduler(sgd(), plan())
    applied(scheduler.optimizer, 5)
    with warnings.catch_warnings(action="error"):
        evaluated(scheduler, METRICS[:5])
    with pytest.warns(UserWarning, match="nan") as told:
        evaluated(scheduler, [math.nan, math.nan])
    assert len(told) == 1


@pytest.mark.filterwarnings("ignore:.*nan")
@pytest.mark.parametrize("killed", range(7))
def test_a_kill_between_two_evaluations_changes_nothing(sgd, applied, evaluated, on_disk, killed):
    scheduler = Scheduler(sgd(), plan())
    applied(scheduler.optimizer, 5)
    rates = evaluated(scheduler, METRICS[:killed])
    state = on_disk({"scheduler": scheduler.state_dict(), "optimizer": scheduler.optimizer.state_dict()})
    again = Scheduler(sgd(), plan())
    again.load_state_dict(state["scheduler"])
    again.optimizer.load_state_dict(state["optimizer"])
    rates += evaluated(again, METRICS[killed:])
    assert rates + applied(again.optimizer, 1) == HALVED_TWICE


PROGRAM = """
import os, signal
import torch
import ratewise as rw
from ratewise.torch import Scheduler

w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
optimizer = torch.optim.SGD([w], lr=1.0)
scheduler = Scheduler(optimizer, (rw.Constant(1.0) * rw.Plateau(0.5, patience=2)).warmup(5))
w.grad = torch.ones_like(w)
for metric in [None, 1.0, 0.9, 0.91]:
    for _ in range(5 if metric is None else 3):
        optimizer.step()
    if metric is not None:
        scheduler.observe(metric)
    torch.save({"scheduler": scheduler.state_dict()}, "new.pt")
    os.replace("new.pt", "last.pt")
print("written", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_process_that_was_really_killed_is_gone_on_with(tmp_path, sgd, applied, evaluated):
    killed = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "written\n"), killed.stderr
    scheduler = Scheduler(sgd(), plan())
    scheduler.load_state_dict(torch.load(tmp_path / "last.pt", weights_only=True)["scheduler"])
    assert scheduler.position == 5 + 3 * 3
    assert evaluated(scheduler, METRICS[3:5]) == [1.0, 0.5]


def torchs_own(metrics):
    """The rate after each evaluation under torch's ReduceLROnPlateau with patience 2."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2), []
    for metric in metrics:
        optimizer.step()
        scheduler.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.filterwarnings("ignore:.*nan")
def test_like_torch_patience_2_needs_three(sgd, applied, evaluated):
    scheduler = Scheduler(sgd(), plan(like="torch"))
    applied(scheduler.optimizer, 5)
    rates = evaluated(scheduler, METRICS) + applied(scheduler.optimizer, 1)
    assert rates == [1.0] * 5 + [0.5, 0.5]  # cut right after evaluation 4
    assert rates[1:] == torchs_own(METRICS)


def test_today_torch_refuses_to_put_a_plateau_after_a_warmup(sgd):
    optimizer = sgd()
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=5)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(ValueError, match="does not support `ReduceLROnPlateau`"):
        torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, plateau], milestones=[5])
