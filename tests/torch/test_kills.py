"""Runs that stop anywhere, also by SIGKILL while a checkpoint is written, and go on with the same rates, to the bit."""

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, settings, strategies as st

import ratewise as rw
from ratewise.errors import AdapterError
from ratewise.torch import Scheduler

SCRIPT = Path(__file__).parent / "scripts" / "killed_training.py"
LR = rw.warmup_cosine(0.4, warmup=3, steps=30)

quiet = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


# -- one process after another -------------------------------------------------------------------------------


def applied_in(folder):
    """The (index, rates as hexadecimal text) of every update, in the order in which they were made."""
    return [tuple(line.split(" ", 1)) for line in (folder / "applied").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_runs_killed_at_random_moments_use_the_rates_of_undisturbed_ones(tmp_path):
    command = [sys.executable, "-W", "error", str(SCRIPT), str(tmp_path), "60", "16", "0"]
    report = subprocess.run(command, check=True, timeout=300, capture_output=True, text=True).stdout
    for variant, killed in (line.split() for line in report.splitlines()):
        assert int(killed) >= 5
        expected = applied_in(tmp_path / variant / "undisturbed")
        assert [int(t) for t, _ in expected] == list(range(60))
        found = applied_in(tmp_path / variant / "killed")
        assert set(found) == set(expected)  # what was made twice was made with the same rate
    assert len(report.splitlines()) == 3


# -- in one process, at any point, in any order ---------------------------------------------------------------


def start(tensor):
    rates = [torch.tensor(x, dtype=torch.float64) if tensor else x for x in (0.1, 0.3)]
    weights = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in rates]
    return torch.optim.SGD([{"params": [p], "lr": r} for p, r in zip(weights, rates, strict=True)], momentum=0.9)


def follow(optimizer):
    return Scheduler(optimizer, factor=LR, momentum=rw.Linear(0.9, 0.5, 30))


def update(optimizer, updates):
    """The gradient of each update is 1; returns how it moved the weights."""
    moves = []
    for _ in range(updates):
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        before = [p.item() for p in weights]
        for p in weights:
            p.grad = torch.ones_like(p)
        optimizer.step()
        moves.append(tuple(p.item() - b for p, b in zip(weights, before, strict=True)))
    return moves


def through_json(state):
    return json.loads(json.dumps(state, allow_nan=False))


def through_torch(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def through_pickle(state):
    return pickle.loads(pickle.dumps(state))


LOADINGS = st.lists(st.sampled_from(["optimizer", "scheduler"]), min_size=2, max_size=5).filter(
    lambda order: {"optimizer", "scheduler"} <= set(order)
)
STOPS = st.tuples(
    st.integers(0, 5), LOADINGS, st.booleans(), st.sampled_from([through_json, through_torch, through_pickle])
)


@quiet
@hypothesis.given(st.lists(STOPS, min_size=1, max_size=4), st.booleans())
def test_stopping_anywhere_and_loading_in_any_order_gives_the_same_run(stops, tensor):
    optimizer = start(tensor)
    follow(optimizer)
    expected = update(optimizer, 25)

    optimizer = start(tensor)
    scheduler = follow(optimizer)
    moves = []
    for updates, order, tensor_again, through in stops:
        moves += update(optimizer, updates)
        states = {"optimizer": through_torch(optimizer.state_dict()), "scheduler": through(scheduler.state_dict())}
        values = [p.detach() for group in optimizer.param_groups for p in group["params"]]
        optimizer = start(tensor_again)
        for group, value in zip(optimizer.param_groups, values, strict=True):
            group["params"][0].data.copy_(value)
        scheduler = follow(optimizer)
        for name in order:
            {"optimizer": optimizer, "scheduler": scheduler}[name].load_state_dict(states[name])
        assert scheduler.position == len(moves)
        assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor) == tensor_again
    moves += update(optimizer, 25 - len(moves))
    assert moves == expected


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dtype_again", [None, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("clock_again", ["hooks", "step"])
def test_a_run_may_go_on_with_rates_held_otherwise_and_on_another_clock(dtype, dtype_again, clock_again):
    def made(dtype, clock="hooks"):
        rate = 0.1 if dtype is None else torch.tensor(0.1, dtype=dtype)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=rate)
        return optimizer, Scheduler(optimizer, LR, clock=clock)

    def rounded(value, dtype):
        return value if dtype is None else torch.tensor(value, dtype=dtype).item()

    optimizer, scheduler = made(dtype)
    used = update(optimizer, 3)
    states = through_torch(optimizer.state_dict()), through_json(scheduler.state_dict())
    optimizer, scheduler = made(dtype_again, clock_again)
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    (p,) = optimizer.param_groups[0]["params"]
    for t in range(3, 6):
        p.data.zero_()
        p.grad = torch.ones_like(p)
        optimizer.step()
        scheduler.step()
        assert -p.item() == rounded(LR(t), dtype_again)
    assert scheduler.position == 6
    assert -sum(move for (move,) in used) == pytest.approx(sum(LR.values(0, 3)), rel=1e-6)


# -- checkpoints that are not whole --------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 50, 0.5, -1])
def test_a_file_that_was_cut_short_is_an_error_of_whoever_reads_it(kept, tmp_path):
    optimizer = start(tensor=False)
    scheduler = follow(optimizer)
    update(optimizer, 3)
    torch.save(scheduler.state_dict(), tmp_path / "state.pt")
    (tmp_path / "state.json").write_text(json.dumps(scheduler.state_dict()))
    for name in ("state.pt", "state.json"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises((RuntimeError, EOFError, pickle.UnpicklingError)):
        torch.load(tmp_path / "state.pt", weights_only=True)
    with pytest.raises(json.JSONDecodeError):
        json.loads((tmp_path / "state.json").read_text())


def test_a_state_that_lacks_any_part_is_refused_and_nothing_changes():
    optimizer = start(tensor=False)
    scheduler = follow(optimizer)
    update(optimizer, 3)
    whole = scheduler.state_dict()
    optimizer = start(tensor=False)
    scheduler = follow(optimizer)
    before = scheduler.state_dict()
    for key in whole:
        part = {name: value for name, value in whole.items() if name != key}
        with pytest.raises(AdapterError, match=r"load_state_dict: .*"):
            scheduler.load_state_dict(part)
        assert scheduler.state_dict() == before


# -- far along -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("far", [10, 10**8, 2**53])
def test_restoring_far_along_reads_no_more_of_the_schedule_than_near_the_start(far):
    asked = []

    def counted(t):
        asked.append(t)
        return 0.5 / (1.0 + t)

    lr = rw.Custom(counted)
    state = {**Scheduler(start(tensor=False), factor=lr).state_dict(), "position": far}
    optimizer = start(tensor=False)
    scheduler = Scheduler(optimizer, factor=lr)
    asked.clear()
    scheduler.load_state_dict(state)
    update(optimizer, 3)
    assert scheduler.position == far + 3
    assert scheduler.last_lr == {"0": 0.1 * (0.5 / (3.0 + far)), "1": 0.3 * (0.5 / (3.0 + far))}
    assert min(asked) >= far
    assert len(asked) <= 1100  # a block of values at a time
