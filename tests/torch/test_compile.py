from functools import cache

import pytest
import torch

import ratewise as rw
from ratewise.torch import Scheduler

LR = rw.linear_decay(0.5, steps=8)

# torch's compiler still imports its own script_method
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


class Plain(torch.optim.Optimizer):
    """SGD without the graph breaks that torch's own optimizers ask for."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(group["lr"] * p.grad)


@pytest.fixture(autouse=True)
def fresh_compiler():
    import torch._dynamo

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("tensor", [False, True])
def test_a_compiled_step_uses_the_scheduled_rates(tensor, weight, applied):
    rate = torch.tensor(0.1, dtype=torch.float64) if tensor else 0.1
    optimizer = torch.optim.SGD([weight()], lr=rate)
    scheduler = Scheduler(optimizer, LR)
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(optimizer.step, backend=backend)
    assert applied(optimizer, 6, step=compiled) == LR.values(0, 6)
    assert scheduler.position == 6
    assert len(graphs) <= (1 if tensor else 2)


def test_a_full_graph_needs_clock_step(weight, applied):
    optimizer = Plain([weight()], lr=torch.tensor(0.1, dtype=torch.float64))
    scheduler = Scheduler(optimizer, LR, clock="step")
    compiled = torch.compile(optimizer.step, backend="eager", fullgraph=True)
    assert applied(optimizer, 4, step=lambda: (compiled(), scheduler.step())) == LR.values(0, 4)


def test_the_compiled_step_of_another_optimizer_is_not_broken(sgd, weight, applied):
    Scheduler(sgd(), LR)
    other = Plain([weight()], lr=torch.tensor(0.7, dtype=torch.float64))
    assert applied(other, 2, step=torch.compile(other.step, backend="eager", fullgraph=True)) == [0.7, 0.7]


UPDATES = 20
LONG = rw.linear_decay(0.5, steps=40)
KINDS = {"SGD": {"momentum": 0.9}, "Adam": {"capturable": True}}  # Adam's counters are tensors: nothing else changes


def graphs_and_weight(kind, tensor, whole, follow, settings=None):
    """Compile 20 updates; returns how many graphs that took and the weight at the end."""
    import torch._dynamo
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    p = torch.nn.Parameter(torch.linspace(1.0, 2.0, 3, dtype=torch.float64))
    rate = torch.tensor(1.0, dtype=torch.float64) if tensor else 1.0
    optimizer = getattr(torch.optim, kind)([p], lr=rate, **{**KINDS[kind], **(settings or {})})
    scheduler = follow(optimizer)

    def update():
        if whole:
            (p**2).sum().backward()
        optimizer.step()
        if whole:
            optimizer.zero_grad()

    compiled = torch.compile(update if whole else optimizer.step, backend=(counter := CompileCounter()))
    for _ in range(UPDATES):
        if not whole:
            p.grad = 2 * p.detach()
        compiled()
        if scheduler is not None:
            scheduler.step()
    return counter.frame_count, p.detach()


@cache
def under_torchs_own(kind, tensor, whole):
    return graphs_and_weight(kind, tensor, whole, lambda o: torch.optim.lr_scheduler.LambdaLR(o, LONG))


@cache
def unscheduled(kind, tensor, whole):
    return graphs_and_weight(kind, tensor, whole, lambda _: None)[0]


@pytest.mark.parametrize(
    ("kind", "tensor", "whole", "clock"),
    [
        ("SGD", False, False, "hooks"),
        ("SGD", False, True, "step"),
        ("SGD", True, True, "hooks"),
        ("SGD", True, True, "step"),
        ("Adam", False, True, "hooks"),
        ("Adam", True, False, "hooks"),
        ("Adam", True, True, "hooks"),
    ],
)
def test_compiling_takes_no_more_graphs_than_under_torchs_own_scheduler(kind, tensor, whole, clock):
    graphs, weight = graphs_and_weight(kind, tensor, whole, lambda o: Scheduler(o, LONG, clock=clock))
    theirs, expected = under_torchs_own(kind, tensor, whole)
    assert graphs <= theirs
    assert torch.equal(weight, expected)
    if tensor:
        assert graphs == unscheduled(kind, tensor, whole)


def with_momentum(optimizer):
    return Scheduler(optimizer, LONG, momentum=rw.Linear(0.9, 0.5, 40))


def test_a_moving_momentum_costs_no_further_graph():
    assert graphs_and_weight("SGD", True, True, with_momentum)[0] == unscheduled("SGD", True, True)


def test_a_moving_beta_costs_one_graph_and_none_as_a_tensor():
    tensors = {"betas": (torch.tensor(0.9), torch.tensor(0.999))}
    assert graphs_and_weight("Adam", True, True, with_momentum)[0] == unscheduled("Adam", True, True) + 1
    assert graphs_and_weight("Adam", True, True, with_momentum, tensors)[0] == unscheduled("Adam", True, True)
