"""DeepSpeed's schedulers, the living peer, stepped as its engine does: once after each update."""

import logging
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from parity.cases import Case, check, covers, lengths, rates
from parity.living import living

from ratewise.errors import ScheduleError
from ratewise.interop import from_deepspeed

deepspeed = living("deepspeed.runtime.lr_schedules", {"deepspeed.utils": {"logger": logging.getLogger("deepspeed")}})
logging.getLogger("deepspeed").setLevel(logging.ERROR)

ROWS = ["LRRangeTest", "OneCycle", "WarmupLR", "WarmupDecayLR", "WarmupCosineLR"]
REFUSED: dict[str, str] = {}


def split(settings: dict[str, Any]) -> tuple[str, dict[str, Any], float]:
    """The scheduler's name, its params, and the optimizer's rate."""
    params = dict(settings)
    return params.pop("type"), params, params.pop("lr", 0.1)


def ours(settings: dict[str, Any]) -> Any:
    name, params, lr = split(settings)
    parameter = params.pop("parameter", "lr")
    config = {"optimizer": {"type": "AdamW", "params": {"lr": lr}}, "scheduler": {"type": name, "params": params}}
    return from_deepspeed(config, parameter=parameter)


def theirs(settings: dict[str, Any], n: int) -> list[float]:
    """What the engine leaves in the optimizer for updates 0 ... n - 1."""
    name, params, lr = split(settings)
    parameter = params.pop("parameter", "lr")
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = getattr(deepspeed, name)(optimizer, **params)
    group, values = optimizer.param_groups[0], []
    for _ in range(n):
        values.append(group["lr"] if parameter == "lr" else group["betas"][0])
        scheduler.step()
    return values


def options(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the params; the others have their defaults."""
    return st.fixed_dictionaries({}, optional=optional)


def scheduler(name: str, some: st.SearchStrategy[dict[str, Any]], **always: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Settings of the scheduler ``name``: all of ``always`` and some of ``some``."""
    fixed = st.fixed_dictionaries({"type": st.just(name), **always})
    return st.tuples(fixed, some).map(lambda pair: {**pair[0], **pair[1]})


WARMUP = {
    "warmup_num_steps": st.sampled_from([1, 2, 3, 7, 20, 60]),
    "warmup_type": st.sampled_from(["log", "linear", "unknown"]),
}
RATES = options(warmup_min_lr=rates(1e-4, 0.5))
CYCLE = options(
    cycle_second_step_size=st.integers(0, 40), cycle_first_stair_count=st.integers(0, 12),
    cycle_second_stair_count=st.integers(0, 50), decay_step_size=st.sampled_from([0, 1, 3.5, 10]),
    decay_lr_rate=rates(), decay_mom_rate=rates(-0.01, 0.1), cycle_min_mom=rates(0.5, 0.85),
    cycle_max_mom=rates(0.85, 0.99),
)  # fmt: skip


def cycle(parameter: str) -> st.SearchStrategy[dict[str, Any]]:
    return scheduler(
        "OneCycle", CYCLE, cycle_min_lr=rates(1e-3, 0.1), cycle_max_lr=rates(0.1, 1.0),
        cycle_first_step_size=lengths(1, 40), parameter=st.just(parameter),
    )  # fmt: skip


CASES = [
    Case(
        "deepspeed", "LRRangeTest",
        scheduler(
            "LRRangeTest",
            options(lr_range_test_step_rate=rates(-0.1, 5.0), lr_range_test_staircase=st.booleans()),
            lr_range_test_min_lr=rates(), lr_range_test_step_size=lengths(),
        ),
        ours, theirs, says="InverseTime(min, rate, every=size, power=-1)", length=lambda s: 100,
        note="grows for ever; with the staircase: .stairs(size)",
    ),
    Case(
        "deepspeed", "OneCycle", cycle("lr"), ours, theirs, length=lambda s: 80,
        says="Linear(min, max, n) >> Linear(max, min, m) >> InverseTime(min, rate, every=size)",
    ),
    Case(
        "deepspeed", "OneCycle (momentum)", cycle("momentum"), ours, theirs, length=lambda s: 80,
        says="Constant(min, 1) >> (Linear(max, min, n) >> Linear(min, max, m) >> InverseTime(..., power=-1)).after(1)",
        note="D1: update 0 uses the minimum, and the decay multiplies the momentum, past 1",
    ),
    Case(
        "deepspeed", "WarmupLR", scheduler("WarmupLR", RATES, lr=rates(), **WARMUP), ours, theirs,
        says='Constant(min, 1) >> Ramp(min, max, n - 1, ease="log")',
        note="D2: the first two updates use the minimum",
    ),
    Case(
        "deepspeed", "WarmupDecayLR",
        scheduler("WarmupDecayLR", RATES, warmup_max_lr=rates(), total_num_steps=lengths(1, 120), **WARMUP),
        ours, theirs, length=lambda s: max(s["total_num_steps"], s["warmup_num_steps"]),
        says='Constant(min, 1) >> Ramp(min, max, n - 1, ease="log") >> Constant(max, 1) >> Linear(max, min, T - n)',
        note="D2: the first two updates use the minimum",
    ),
    Case(
        "deepspeed", "WarmupCosineLR",
        scheduler(
            "WarmupCosineLR", options(warmup_min_ratio=rates(0.0, 1.5), cos_min_ratio=rates(-0.5, 1.0)),
            lr=rates(), total_num_steps=lengths(1, 120), **WARMUP,
        ),
        ours, theirs, length=lambda s: max(s["total_num_steps"], s["warmup_num_steps"]),
        says='Constant(0, 1) >> Ramp(low, lr, n - 1, ease="log") >> Constant(lr, 1) >> Cosine(lr, end, m, ends="(]")',
        note="D2: update 0 uses 0, and the linear warm-up never gets to its peak",
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case, examples=40)


def test_d1_the_momentum_starts_at_its_minimum_and_passes_one() -> None:
    momentum = from_deepspeed(
        "OneCycle", cycle_min_lr=0.1, cycle_max_lr=1.0, cycle_first_step_size=4, decay_step_size=1, decay_mom_rate=0.1,
        parameter="momentum",
    )  # fmt: skip
    assert momentum(0) == 0.8
    assert momentum(4) == pytest.approx(0.8)
    assert momentum(10) == pytest.approx(0.9 * 1.2)


def test_d2_two_updates_are_lost_and_the_cosine_misses_its_peak() -> None:
    lr = from_deepspeed("WarmupCosineLR", lr=1.0, total_num_steps=6, warmup_num_steps=2, warmup_type="linear")
    assert lr.values(0, 3) == [0.0, 0.0, 0.5]
    assert max(lr.values(0, 20)) == pytest.approx(0.8535680, abs=1e-6)


def test_the_scheduler_part_the_whole_configuration_and_a_name_are_one() -> None:
    part = {"type": "WarmupLR", "params": {"warmup_num_steps": 4, "warmup_type": "linear"}}
    whole = {"optimizer": {"type": "Adam", "params": {"lr": 0.5}}, "scheduler": part, "train_batch_size": 8}
    expected = from_deepspeed("WarmupLR", lr=0.5, warmup_num_steps=4, warmup_type="linear")
    assert expected == from_deepspeed(whole) == from_deepspeed(part, lr=0.5) == from_deepspeed({"scheduler": part}, 0.5)


def test_a_list_has_a_value_for_each_group() -> None:
    params = {"warmup_max_lr": [0.1, 0.2], "warmup_num_steps": 4}
    assert from_deepspeed({"type": "WarmupLR", "params": params}, group=1)(100) == 0.2
    with pytest.raises(ScheduleError, match="there is no group 2"):
        from_deepspeed({"type": "WarmupLR", "params": params}, group=2)


def test_a_scheduler_of_torch_is_read_as_the_engine_does() -> None:
    expected = [0.1, 0.1, 0.05, 0.05, 0.025]
    lr = from_deepspeed({"type": "StepLR", "params": {"step_size": 2, "gamma": 0.5}}, lr=0.1)
    assert lr.values(0, 5) == pytest.approx(expected)


REFUSALS: list[tuple[Any, dict[str, Any], str]] = [
    ({"type": "WarmupLR", "params": {"warmup_max_lr": "auto"}}, {}, 'warmup_max_lr is "auto"'),
    ({"scheduler": {"type": "WarmupLR"}, "optimizer": {"params": {"lr": "auto"}}}, {}, 'the optimizer\'s lr is "auto"'),
    ({"train_batch_size": 8}, {}, "names no scheduler type"),
    (7, {}, "needs a configuration"),
    ({"type": "WarmupLR", "params": 3}, {}, "params must be a dictionary"),
    ({"type": "WarmpLR", "params": {}}, {}, "WarmupLR"),
    ("WarmupLR", {"warmup_num_steps": 10}, "needs the optimizer's rate"),
    ("WarmupLR", {"lr": 0.1, "warmup_num_steps": 0}, "warmup_num_steps"),
    ("WarmupLR", {"lr": 0.1, "parameter": "momentum"}, "only OneCycle has"),
    ("WarmupLR", {"lr": 0.1, "warmup_steps": 4}, "it takes"),
    ("WarmupDecayLR", {"total_num_steps": 10.5}, "total_num_steps"),
    ("LRRangeTest", {"lr_range_test_step_size": 0}, "lr_range_test_step_size"),
    ("OneCycle", {"cycle_min_lr": 0.1, "cycle_max_lr": 1.0, "cycle_first_step_size": 0}, "cycle_first_step_size"),
    (
        "OneCycle",
        {"cycle_min_lr": 0.1, "cycle_max_lr": 1.0, "cycle_momentum": False, "parameter": "momentum"},
        "cycle_momentum is off",
    ),
]


@pytest.mark.parametrize(("config", "arguments", "sentence"), REFUSALS)
def test_what_cannot_be_read_is_refused_with_a_sentence(config: Any, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ScheduleError, match=sentence):
        from_deepspeed(config, **arguments)
