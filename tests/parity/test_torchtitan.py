"""torchtitan's and torchtune's schedules, the living peers."""

import logging
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from parity.cases import Case, check, covers, lengths, rates
from parity.living import living

from ratewise.errors import ScheduleError
from ratewise.interop import from_torchtitan


class Configurable:
    """What torchtitan's configurations are derived from, without the command line that it brings."""

    @dataclass(kw_only=True, slots=True)
    class Config:
        pass


titan = living(
    "torchtitan.components.optimizer.lr_scheduler",
    {
        "torchtitan.config": {"Configurable": Configurable},
        "torchtitan.components.optimizer.optimizer": {"OptimizersContainer": list},
        "torchtitan.tools.logging": {"logger": logging.getLogger("torchtitan")},
    },
).LRSchedulersContainer
tune = living("torchtune.training.lr_schedulers", {"torchtune.training.memory": {"OptimizerInBackwardWrapper": object}})

ROWS = ["LRSchedulersContainer", "get_cosine_schedule_with_warmup"]
REFUSED: dict[str, str] = {}


def optimizer(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def config(settings: dict[str, Any]) -> Any:
    return titan.Config(**{name: x for name, x in settings.items() if name not in ("lr", "training_steps")})


def stepped(scheduler: Any, optimizer: torch.optim.Optimizer, n: int) -> list[float]:
    """The rates of n updates; up to where the peer raises."""
    values = []
    for _ in range(n):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        try:
            scheduler.step()
        except AssertionError:
            break
    return values


def titans(settings: dict[str, Any], n: int) -> list[float]:
    used = optimizer(settings["lr"])
    return stepped(config(settings).build(optimizers=[used], training_steps=settings["training_steps"]), used, n)


def tunes(settings: dict[str, Any], n: int) -> list[float]:
    used = optimizer(settings["lr"])
    arguments = {name: x for name, x in settings.items() if name != "lr"}
    return stepped(tune.get_cosine_schedule_with_warmup(used, **arguments), used, n)


CASES = [
    Case(
        "torchtitan", "LRSchedulersContainer",
        st.fixed_dictionaries({
            "lr": rates(), "training_steps": lengths(), "warmup_steps": st.integers(0, 40),
            "total_steps": st.one_of(st.none(), lengths()),
            "decay_ratio": st.one_of(st.none(), st.floats(0.0, 1.0)),
            "decay_type": st.sampled_from(["linear", "sqrt", "cosine"]),
            "min_lr_factor": st.one_of(st.just(0.0), st.floats(0.0, 1.0)),
        }),
        lambda s: from_torchtitan(config(s), lr=s["lr"], training_steps=s["training_steps"]),
        titans,
        says='Linear(0, lr, w, ends="(]") >> Constant(lr, n + 1 - w - d) >> (linear, sqrt or cosine, without an end)',
        length=lambda s: s["total_steps"] or s["training_steps"],
        note="past its end a cosine climbs again, the others fall below 0 (L7b); without a decay it raises there",
    ),
    Case(
        "torchtitan", "get_cosine_schedule_with_warmup",
        st.fixed_dictionaries({
            "lr": rates(), "num_warmup_steps": st.integers(0, 40), "num_training_steps": lengths(),
            "num_cycles": st.one_of(st.just(0.5), st.floats(0.0, 3.0)),
        }),
        lambda s: from_torchtitan("get_cosine_schedule_with_warmup", **s),
        tunes,
        says="Linear(0, lr, w) >> (Cosine(lr, 0, half) >> Cosine(0, lr, half)).repeat()",
        length=lambda s: s["num_training_steps"],
        note="torchtune's: climbs again after num_training_steps; half = (n - w) / (2 * num_cycles)",
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case, 100)


def test_a_name_and_a_configuration_give_the_same() -> None:
    settings = {"lr": 0.1, "training_steps": 50, "warmup_steps": 5, "decay_ratio": 0.4, "min_lr_factor": 0.1}
    assert from_torchtitan(**settings) == from_torchtitan(config(settings), lr=0.1, training_steps=50)


def test_wrong_input_is_named() -> None:
    with pytest.raises(ScheduleError, match="total_steps"):
        from_torchtitan(lr=0.1)
    with pytest.raises(ScheduleError, match="decay_type"):
        from_torchtitan(lr=0.1, training_steps=10, decay_type="sqr")
    with pytest.raises(ScheduleError, match="LRSchedulersContainer"):
        from_torchtitan("LRScheduler", lr=0.1)
