"""Ours against the frameworks' own schedulers, where both mean the same."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest

import ratewise as rw
from ratewise.core.schedule import Schedule


def torch_rates(make: Callable[[Any, Any], Any], steps: int, lr: float) -> list[float]:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler.step()
    return rates


TORCH: dict[str, tuple[Callable[[Any, Any], Any], Schedule, int]] = {
    "LinearLR": (lambda m, o: m.LinearLR(o, 0.25, 1.0, 8), rw.Linear(0.025, 0.1, 8), 20),
    "ConstantLR": (lambda m, o: m.ConstantLR(o, 0.5, 4), rw.Constant(0.05, 4) >> rw.Constant(0.1), 20),
    "StepLR": (lambda m, o: m.StepLR(o, 10, 0.5), rw.step_decay(0.1, 0.5, every=10), 55),
    "MultiStepLR": (lambda m, o: m.MultiStepLR(o, [3, 7], 0.1), rw.multi_step(0.1, [3, 7]), 20),
    "ExponentialLR": (lambda m, o: m.ExponentialLR(o, 0.9), rw.Exponential(0.1, 0.9), 60),
    "PolynomialLR": (lambda m, o: m.PolynomialLR(o, 20, 2.0), rw.Polynomial(0.1, 0.0, 20, power=2.0), 40),
    "CosineAnnealingLR": (lambda m, o: m.CosineAnnealingLR(o, 30, 0.01), rw.Cosine(0.1, 0.01, 30), 31),
    "warm restarts": (lambda m, o: m.CosineAnnealingWarmRestarts(o, 5, 2), rw.sgdr(0.1, 5), 60),
    "triangular": (lambda m, o: m.CyclicLR(o, 0.01, 0.1, 5), rw.cyclical(0.01, 0.1, 5), 60),
    "triangular2": (
        lambda m, o: m.CyclicLR(o, 0.01, 0.1, 5, mode="triangular2"),
        rw.cyclical(0.01, 0.1, 5, mode="triangular2"), 60,
    ),
    "exp_range": (
        lambda m, o: m.CyclicLR(o, 0.01, 0.1, 5, mode="exp_range", gamma=0.99),
        rw.cyclical(0.01, 0.1, 5, mode="exp_range", gamma=0.99), 60,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_torch_gives_the_same_rates(name: str) -> None:
    make, ours, steps = TORCH[name]
    theirs = torch_rates(make, steps, lr=0.1)
    assert max(abs(x - y) for x, y in zip(ours.values(0, steps), theirs, strict=True)) <= 1e-12 * 0.1


def test_keras_gives_the_same_rates() -> None:
    schedules = pytest.importorskip("keras").optimizers.schedules
    for theirs, ours in [
        (schedules.InverseTimeDecay(0.1, 10, 0.5), rw.time_based(0.1, 0.5, every=10)),
        (schedules.InverseTimeDecay(0.1, 10, 0.5, staircase=True), rw.time_based(0.1, 0.5, every=10).stairs(10)),
        (schedules.ExponentialDecay(0.1, 10, 0.5), rw.exponential_decay(0.1, 0.5, every=10)),
        (schedules.PolynomialDecay(0.1, 20, 0.01, 2.0), rw.polynomial_decay(0.1, 0.01, 20, power=2.0)),
        (schedules.CosineDecay(0.1, 20), rw.cosine(0.1, steps=20)),
        (schedules.CosineDecay(0.0, 20, warmup_target=0.1, warmup_steps=5), rw.cosine(0.1, 0.0, 20).warmup(5, 0.0)),
    ]:
        assert max(abs(float(theirs(t)) - ours(t)) for t in range(60)) <= 3e-7 * 0.1


def test_optax_gives_the_same_rates() -> None:
    optax = pytest.importorskip("optax")
    for theirs, ours in [
        (optax.linear_schedule(0.1, 0.01, 20), rw.Linear(0.1, 0.01, 20)),
        (optax.cosine_decay_schedule(0.1, 20), rw.Cosine(0.1, 0.0, 20)),
        (optax.polynomial_schedule(0.1, 0.01, 2, 20), rw.Polynomial(0.1, 0.01, 20, power=2.0)),
        (optax.exponential_decay(0.1, 10, 0.5), rw.Exponential(0.1, 0.5, 10)),
        (optax.warmup_cosine_decay_schedule(0.0, 0.1, 5, 25, 0.01), rw.Cosine(0.1, 0.01, 20).warmup(5, start=0.0)),
        (optax.piecewise_constant_schedule(0.1, {5: 0.5, 9: 0.5}), rw.multi_step(0.1, [5, 9], gamma=0.5)),
    ]:
        assert max(abs(float(theirs(t)) - ours(t)) for t in range(60)) <= 3e-7 * 0.1


def test_time_based_decay_is_its_formula_exactly() -> None:
    for lr0, decay in ((0.1, 0.01), (0.01, 1e-6), (1.0, 0.5)):
        a = rw.time_based(lr0, decay)
        assert a.values(0, 1000) == [lr0 / (1 + decay * t) for t in range(1000)]
        assert a(10**9) == lr0 / (1 + decay * 10**9)


def test_timm_without_prefix_is_a_cut_cosine() -> None:
    ours = rw.Linear(0.0, 1.0, 5) >> rw.Cosine(1.0, 0.0, 20).after(5)
    assert ours.steps == 20
    assert ours(5) == rw.Cosine(1.0, 0.0, 20)(5)


def test_an_open_cosine_after_a_cut_fills_the_run() -> None:
    ours = (rw.Linear(0.0, 1.0, 5) >> rw.Cosine(1.0, 0.0).after(5)).over(20)
    assert ours == rw.Linear(0.0, 1.0, 5) >> rw.Cosine(1.0, 0.0, 20).after(5)


def test_climbing_back_can_be_said() -> None:
    theirs = torch_rates(lambda m, o: m.CosineAnnealingLR(o, 10, 0.01), 60, lr=0.1)
    ours = (rw.Cosine(0.1, 0.01, 10) >> rw.Cosine(0.01, 0.1, 10)).repeat()
    assert max(abs(x - y) for x, y in zip(ours.values(0, 60), theirs, strict=True)) <= 1e-12 * 0.1
