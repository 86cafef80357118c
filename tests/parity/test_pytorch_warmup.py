"""pytorch_warmup, the living peer: alone, and dampening a scheduler of torch."""

from typing import Any

import pytest
import pytorch_warmup
import torch
from hypothesis import strategies as st
from parity.cases import Case, check, covers, lengths, rates

from ratewise import Constant, Cosine, Plateau
from ratewise.errors import ScheduleError
from ratewise.interop import from_pytorch_warmup

ROWS = ["LinearWarmup", "ExponentialWarmup", "UntunedLinearWarmup", "UntunedExponentialWarmup", "RAdamWarmup"]
REFUSED: dict[str, str] = {}


def optimizer(beta2: float = 0.999, lr: float = 1.0) -> Any:
    return torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=lr, betas=(0.9, beta2))


def made(name: str, settings: dict[str, Any]) -> Any:
    """The peer's own warm-up."""
    arguments = {key: value for key, value in settings.items() if key == "warmup_period"}
    return getattr(pytorch_warmup, name)(optimizer(settings.get("beta2", 0.999)), **arguments)


def dampened(warmup: Any, n: int, scheduler: Any = None) -> list[float]:
    """The rates that updates 0 ... n - 1 use."""
    values = []
    for _ in range(n):
        values.append(warmup.optimizer.param_groups[0]["lr"])
        warmup.optimizer.step()
        with warmup.dampening():
            if scheduler is not None:
                scheduler.step()
    return values


def scheduled(settings: dict[str, Any], n: int) -> list[float]:
    """A cosine of torch under a linear warm-up, up to the end of the cosine."""
    under = optimizer(lr=settings["lr"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(under, settings["steps"])
    return dampened(pytorch_warmup.LinearWarmup(under, settings["period"]), min(n, settings["steps"] + 1), scheduler)


def case(name: str, says: str, note: str = "", **arguments: st.SearchStrategy[Any]) -> Case:
    return Case(
        "pytorch_warmup", name, st.fixed_dictionaries(arguments),
        lambda settings: from_pytorch_warmup(name, **settings),
        lambda settings, n: dampened(made(name, settings), n),
        says=says, length=lambda settings: settings.get("warmup_period", 60), note=note,
    )  # fmt: skip


BETAS = st.one_of(st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 0.999]), st.floats(0.0, 0.9999))
CASES = [
    case("LinearWarmup", 'Linear(0, 1, n, ends="(]")', warmup_period=lengths()),
    case("ExponentialWarmup", "Formula('1 - exp(-(t + 1) / n)')", warmup_period=lengths()),
    case("UntunedLinearWarmup", 'Linear(0, 1, n, ends="(]")', "L3: n = int(2 / (1 - beta2))", beta2=BETAS),
    case("UntunedExponentialWarmup", "Formula('1 - exp(-(t + 1) / n)')", "n = int(1 / (1 - beta2))", beta2=BETAS),
    case("RAdamWarmup", "Formula('sqrt(...)')", beta2=st.floats(0.61, 0.9999)),
    Case(
        "pytorch_warmup", "LinearWarmup (over a scheduler)",
        st.fixed_dictionaries({"lr": rates(), "steps": lengths(), "period": lengths()}),
        lambda s: from_pytorch_warmup("LinearWarmup", Cosine(s["lr"], 0.0, s["steps"]), warmup_period=s["period"]),
        scheduled, says='schedule * Linear(0, 1, n, ends="(]")', length=lambda s: s["steps"],
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("name", ROWS)
def test_the_peers_object_gives_what_its_name_gives(name: str) -> None:
    settings = {"warmup_period": 7} if name in ("LinearWarmup", "ExponentialWarmup") else {"beta2": 0.97}
    assert from_pytorch_warmup(name, **settings) == from_pytorch_warmup(made(name, settings))


def test_each_group_has_its_own_warm_up() -> None:
    groups = [{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(2)]
    warmup = pytorch_warmup.LinearWarmup(torch.optim.SGD(groups, lr=1.0), [2, 5])
    assert [from_pytorch_warmup(warmup, group=group).steps for group in (1, 0)] == [5, 2]
    with pytest.raises(ScheduleError, match="one of the 2 groups"):
        from_pytorch_warmup(warmup, group=2)


def test_l3_the_untuned_period_is_cut_by_a_rounding() -> None:
    assert from_pytorch_warmup("UntunedLinearWarmup", beta2=0.999).steps == 1999


def test_a_rule_is_dampened_too() -> None:
    ruled = from_pytorch_warmup("LinearWarmup", Constant(0.1) * Plateau(0.5, patience=1), warmup_period=2)
    assert ruled(0) == pytest.approx(0.05)
    assert len(ruled.rules) == 1


@pytest.mark.parametrize(
    ("warmup", "arguments", "sentence"),
    [
        ("LinearWarmup", {"warmup_period": 0}, "warmup_period"),
        ("LinearWarmpu", {"warmup_period": 2}, "LinearWarmup"),
        ("RAdamWarmup", {"beta2": 0.6}, "above 0.6"),
        ("UntunedLinearWarmup", {"beta2": 1.0}, "below 1"),
        (object(), {}, "cannot read"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(warmup: Any, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ScheduleError, match=sentence):
        from_pytorch_warmup(warmup, **arguments)
