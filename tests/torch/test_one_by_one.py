"""The one-by-one engine gives every optimizer what it needs: modes, closures, metrics."""

import math
from typing import ClassVar

import pytest
import torch
from toys import Toy, mlp

from ratewise import Constant, Plateau, Strategy
from ratewise.lab.runs import Member
from ratewise.outcome import marks
from ratewise.torch import cohorts, engine

STEPS = 30


def trained(strategy, kind=engine, **task):
    return kind.Engine(Toy(mlp, **task)).cohort([Member(strategy, 0, STEPS, "tune")])[0]


class Moody(torch.optim.SGD):
    """An optimizer that notes in which mode it was stepped and measured."""

    seen: ClassVar[list[str]] = []

    def train(self) -> None:
        Moody.seen.append("train")

    def eval(self) -> None:
        Moody.seen.append("eval")

    def step(self, closure=None):
        Moody.seen.append("step")
        return super().step(closure)


def test_an_optimizer_with_modes_trains_in_one_and_is_measured_in_the_other():
    Moody.seen.clear()
    trained(Strategy("moody", Moody, Constant(0.1)))
    part = ["train", *["step"] * (STEPS // 10), "eval"]
    assert Moody.seen == part * len(marks(STEPS)) + ["train"]


def test_schedule_free_is_measured_at_its_average_not_where_it_takes_gradients():
    pytest.importorskip("schedulefree")
    outcome = trained(Strategy("free", "schedule_free_sgd", Constant(1.0)))
    assert outcome.loss < 0.75 * outcome.losses[0]


def test_lbfgs_gets_its_closure():
    outcome = trained(Strategy("lbfgs", "lbfgs", Constant(0.1), settings=(("max_iter", 4),)), batch_size=100)
    assert len(outcome.losses) == outcome.updates == STEPS
    assert outcome.losses[-1] < 0.5 * outcome.losses[0]


def test_rules_observe_the_validation_loss_at_every_mark():
    wild = Constant(1e-9)  # nothing improves by a thousandth, so the rate is halved at every mark but the first
    rule = Plateau(0.5, patience=1, rtol=1e-3)
    made = []
    strategy = Strategy("plateau", "sgd", wild * rule)

    class Watched:
        lr = strategy.lr

        def torch(self, params, steps):
            made.append(strategy.torch(params, steps))
            return made[-1]

    outcome = trained(Watched())
    (_, scheduler), cuts = made[0], len(marks(STEPS)) - 1
    assert scheduler.next_lr["0"] == pytest.approx(1e-9 * 0.5**cuts)
    assert len(outcome.held["valid"]) == cuts + 1


class Half(torch.nn.Module):
    """Trained in bfloat16, which numpy does not have, with a buffer of every other kind."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(torch.bfloat16)
        for kind in (torch.bool, torch.int8, torch.float16, torch.complex64):
            self.register_buffer(str(kind).partition(".")[2], torch.ones((), dtype=kind))
        self.register_buffer("none", torch.zeros(3, 0))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    def forward(self, x):
        return self.net(x.bfloat16())


@pytest.mark.parametrize("kind", [engine, cohorts], ids=["one by one", "population"])
def test_a_model_in_bfloat16_is_examined_and_trained(kind):
    found = kind.Engine(Toy(Half))
    assert found.examine() == kind.Engine(Toy(Half)).examine()
    assert found.examine() != kind.Engine(Toy(lambda: mlp(torch.float64))).examine()
    (outcome,) = found.cohort([Member(Strategy("s", "sgd", Constant(0.1)), 0, STEPS, "tune")])
    assert outcome.loss < outcome.losses[0]
    assert outcome.trained == ("one by one" if kind is engine else "population")


def test_a_rate_that_follows_a_metric_goes_one_by_one_and_says_so():
    strategy = Strategy("plateau", "sgd", Constant(0.1) * Plateau(0.5, patience=1))
    outcome = trained(strategy, cohorts)
    assert outcome.trained == "one by one: its rate follows a metric"
    assert math.isfinite(outcome.loss)
