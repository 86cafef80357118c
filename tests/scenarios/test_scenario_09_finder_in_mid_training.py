"""Scenario 9: a finder between updates 500 and 501 of a training; what follows is as if it had never run."""

import math
import os
import random
import signal
from importlib.util import find_spec

import pytest

if find_spec("torch") is None:
    pytest.skip("needs PyTorch", allow_module_level=True)

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from ratewise import linear_decay
from ratewise.errors import FinderError
from ratewise.finder import compressed
from ratewise.torch import Scheduler, find_lr


class Training:
    """Adam, BatchNorm, dropout, noise of Python and numpy, two groups, a scaler, a schedule and a shuffled loader."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        random.seed(2)
        np.random.seed(3)
        body = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.BatchNorm1d(16))
        self.model = nn.Sequential(body, nn.Linear(16, 3))
        body[4].eval()  # a frozen BatchNorm
        body[4].requires_grad_(False)
        groups = [{"params": body.parameters(), "name": "body", "lr": 0.002}]
        self.optimizer = torch.optim.Adam([*groups, {"params": self.model[1].parameters(), "name": "head"}], lr=0.02)
        self.scheduler = Scheduler(self.optimizer, factor=linear_decay(1.0), horizon=700)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=37)
        inputs = torch.randn(400, 12)
        data = TensorDataset(inputs, (inputs[:, :3] + 0.3 * torch.randn(400, 3)).argmax(1))
        self.loader = DataLoader(data, 16, shuffle=True, generator=torch.Generator().manual_seed(4))
        self.batches = self.forever()
        self.losses: list[float] = []

    def forever(self):
        while True:
            yield from self.loader

    def train(self, updates: int) -> None:
        for _ in range(updates):
            self.losses.append(self.update(next(self.batches)).item())

    def update(self, batch):
        x, y = batch
        x = x + 0.01 * random.random() + 0.01 * float(np.random.rand())
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.model(x), y)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def find(self, **settings):
        settings = {"method": "range", "step": self.update, **settings}
        return find_lr(self.model, self.optimizer, batches=self.loader, scaler=self.scaler, **settings)


def everything(run: Training) -> dict[str, object]:
    """All that must be bit-identical; tensors as bytes with their address."""
    modules = list(run.model.modules())
    tensors = {**dict(run.model.named_parameters()), **dict(run.model.named_buffers())}
    return {
        "tensors": {n: (id(t), t.data_ptr(), t.detach().numpy().tobytes()) for n, t in tensors.items()},
        "grads": {n: None if p.grad is None else (id(p.grad), p.grad.numpy().tobytes()) for n, p in tensors.items()},
        "requires_grad": [p.requires_grad for p in run.model.parameters()],
        "modes": [m.training for m in modules],
        "hooks": [list(m._forward_hooks) for m in modules] + [list(run.optimizer._optimizer_step_post_hooks)],
        "optimizer": {
            (i, k): (id(v), v.numpy().tobytes())
            for i, s in enumerate(run.optimizer.state.values())
            for k, v in s.items()
        },
        "rates": [(g["lr"], g["betas"], g["eps"], g["ratewise_base"]) for g in run.optimizer.param_groups],
        "scaler": run.scaler.state_dict(),
        "schedule": run.scheduler.state_dict(),
        "random": (random.getstate(), str(np.random.get_state()), torch.get_rng_state().numpy().tobytes()),
        "loader": run.loader.generator.get_state().numpy().tobytes(),
    }


def undisturbed() -> list[float]:
    run = Training()
    run.train(600)
    return run.losses


@pytest.fixture(scope="module")
def expected() -> list[float]:
    return undisturbed()


METHODS = {"range": {}, "probe": {"method": "probe", "steps": 20, "seeds": 2}}


def into_nan(run: Training, settings) -> None:
    losses = []

    def update(batch):
        loss = run.update(batch)
        losses.append(loss.item())
        return loss

    finding = run.find(step=update, high=1e38, stop=math.inf, **settings)
    assert any(map(math.isnan, losses))
    assert settings or (finding.curve.stopped == "not finite" and math.isnan(finding.curve.losses[-1]))


def raising_inside_the_step(run: Training, settings) -> None:
    calls = 0

    def update(batch):
        nonlocal calls
        calls += 1
        if calls == (131 if settings else 31):
            run.model.eval()
            run.optimizer.param_groups[0]["betas"] = (0.5, 0.5)
            raise ValueError("a broken pipe")
        return run.update(batch)

    with pytest.raises(FinderError, match=r"update \d+, at the rate .*, raised ValueError: a broken pipe"):
        run.find(step=update, **settings)


def interrupted(run: Training, settings) -> None:
    calls = 0

    def update(batch):
        nonlocal calls
        calls += 1
        loss = run.update(batch)
        if calls == (131 if settings else 31):
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    with pytest.raises(KeyboardInterrupt):
        run.find(step=update, **settings)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sweep", [into_nan, raising_inside_the_step, interrupted], ids=lambda f: f.__name__)
def test_the_losses_after_it_are_those_of_a_run_without_it(sweep, method, expected, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run = Training()
    run.train(500)
    before = everything(run)

    sweep(run, METHODS[method])

    assert everything(run) == before
    assert list(tmp_path.iterdir()) == []
    run.train(100)
    assert run.losses == expected
    assert run.scheduler.position == 600


def test_it_gives_a_range_and_a_suggestion_or_a_reason_and_the_same_answer_twice() -> None:
    run = Training()
    found = [run.find(seed=5), run.find(seed=5), run.find(seed=6)]
    assert found[0] == found[1] != found[2]
    finding = found[0]
    assert finding.suggestion is not None
    assert finding.range == (finding.low, finding.high)
    assert finding.low <= finding.suggestion <= finding.high < finding.stable
    assert finding.valid_for["ratios"] == {"body": 0.1, "head": 1.0}
    run.train(500)
    late = run.find(seed=5)  # trained, so the loss hardly falls any more
    assert late.suggestion is None
    assert len(late.reason) > 20


def test_the_probe_copies_what_the_schedule_still_has_before_it_and_answers_the_same_twice() -> None:
    run = Training()
    run.train(20)
    before = everything(run)
    seen = []

    def update(batch):
        seen.append([group["lr"] for group in run.optimizer.param_groups])
        return run.update(batch)

    found = [run.find(step=update, seed=seed, **METHODS["probe"]) for seed in (0, 0, 6)]
    assert everything(run) == before
    assert found[0] == found[1] != found[2]
    assert found[0].suggestion is not None
    assert (found[0].curve.updates, found[0].curve.horizon) == (20, 680)
    first = [rates for rates in seen[sweep_length(seen) :] if rates[1]][:20]
    shape = compressed(linear_decay(1.0), 700, 20, begin=20)
    assert [head / first[0][1] for _, head in first] == pytest.approx([part / shape[0] for part in shape])
    assert all(math.isclose(body, head / 10, rel_tol=1e-15) for body, head in seen if head)


def sweep_length(seen) -> int:
    """How many updates the range test made that comes first: its rates rise."""
    return next(i for i in range(1, len(seen)) if seen[i][1] < seen[i - 1][1])


def test_the_suggestion_is_never_in_the_last_tenth_before_divergence() -> None:
    run = Training()
    for seed in range(4):
        finding = run.find(seed=seed, high=1e3)
        first = finding.curve.rates.index(finding.stable) + 1
        assert finding.curve.losses[first] > finding.curve.losses[0]
        assert finding.suggestion <= finding.curve.rates[first - 1 - math.ceil(first / 10)]


def test_groups_keep_their_ratios_during_the_sweep() -> None:
    run = Training()
    seen = []

    def update(batch):
        seen.append([group["lr"] for group in run.optimizer.param_groups])
        return run.update(batch)

    finding = run.find(step=update)
    assert [head for _, head in seen] == list(finding.curve.rates)
    assert all(math.isclose(body, head / 10, rel_tol=1e-15) for body, head in seen)
