"""Every optimizer of torch in every variant that runs on a CPU, against a twin whose rate is set by hand.

Scheduler and twin must end at the same bits, so no optimizer is an exception: neither those that scale, cap or
forget the rate, nor those that ask a closure several times.
"""

import inspect

import pytest
import torch

import ratewise as rw
from ratewise.torch import Scheduler

LR = rw.warmup_cosine(0.05, warmup=3, steps=8)
UPDATES = 10
OPTIMIZERS = {
    name: kind
    for name, kind in sorted(vars(torch.optim).items())
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name != "Optimizer"
}
VARIANTS = {
    "plain": {},
    "foreach": {"foreach": True},
    "one by one": {"foreach": False},
    "fused": {"fused": True},
    "capturable": {"capturable": True},
    "differentiable": {"differentiable": True},
    "maximize": {"maximize": True},
    "amsgrad": {"amsgrad": True},
    "centered": {"centered": True},
    "nesterov": {"nesterov": True, "momentum": 0.9},
    "strong Wolfe": {"line_search_fn": "strong_wolfe"},
}
NOT_ON_A_CPU = {"capturable"}  # outside the compiler torch asks for an accelerator; tried in test_compile


def accepted(kind, settings):
    return set(settings) <= set(inspect.signature(kind).parameters)


CASES = [
    pytest.param(name, settings, tensor, id=f"{name} {variant}{' tensor' if tensor else ''}")
    for name, kind in OPTIMIZERS.items()
    for variant, settings in VARIANTS.items()
    for tensor in (False, True)
    if accepted(kind, settings) and variant not in NOT_ON_A_CPU
]


def parameters(name, settings):
    """A matrix, since Muon takes nothing else, and a vector for all others.

    What is to be differentiated through is no leaf, as in learning to learn.
    """
    matrix = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(3, 2))
    params = [matrix] if name == "Muon" else [matrix, torch.nn.Parameter(torch.ones(3, dtype=torch.float64))]
    return [p.clone() for p in params] if "differentiable" in settings else params


def loss_of(params):
    return sum(((p - i) ** 2).sum() + p.sin().sum() for i, p in enumerate(params))


def train(optimizer, params, before=lambda t: None, updates=UPDATES):
    """Make updates; ``before`` is told the index of each."""
    sparse = isinstance(optimizer, torch.optim.SparseAdam)

    def closure():
        loss = loss_of(params)
        for p, gradient in zip(params, torch.autograd.grad(loss, params), strict=True):
            p.grad = gradient.to_sparse() if sparse else gradient
        return loss

    for t in range(updates):
        before(t)
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


def set_by_hand(optimizer, tensor):
    def before(t):
        for group in optimizer.param_groups:
            if tensor:
                group["lr"].fill_(LR(t))
            else:
                group["lr"] = LR(t)

    return before


def rate(tensor):
    return torch.tensor(0.1, dtype=torch.float64) if tensor else 0.1


def refused(kind, params, settings, tensor):
    """Why torch does not run this variant; found without a Scheduler."""
    try:
        train(kind(params, lr=rate(tensor), **settings), params, updates=1)
    except (ValueError, RuntimeError, TypeError, AssertionError) as error:
        return str(error)
    return None


@pytest.mark.parametrize(("name", "settings", "tensor"), CASES)
def test_every_variant_ends_at_the_bits_of_a_twin_set_by_hand(name, settings, tensor):
    kind = OPTIMIZERS[name]
    if why := refused(kind, parameters(name, settings), settings, tensor):
        pytest.skip(f"torch does not run it: {why:.60}")
    ours, theirs = parameters(name, settings), parameters(name, settings)
    held = rate(tensor)
    scheduled, twin = kind(ours, lr=held, **settings), kind(theirs, lr=rate(tensor), **settings)
    scheduler = Scheduler(scheduled, LR)
    place = held.data_ptr() if tensor else None
    train(scheduled, ours)
    train(twin, theirs, set_by_hand(twin, tensor))
    for p, q in zip(ours, theirs, strict=True):
        assert torch.equal(p, q)
    assert scheduler.position == UPDATES
    assert scheduler.last_lr == {"0": LR(UPDATES - 1)}
    if tensor:
        assert scheduled.param_groups[0]["lr"] is held
        assert held.data_ptr() == place
