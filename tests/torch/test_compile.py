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
