"""Megatron-LM's OptimizerParamScheduler, the living peer; gpt-neox's AnnealingLR, transcribed."""

import math
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from parity.cases import Case, check, covers, lengths, rates
from parity.living import living

from ratewise.errors import ScheduleError
from ratewise.interop import from_megatron

megatron = living(
    "megatron.core.optimizer_param_scheduler", {"megatron.core.utils": {"log_single_rank": lambda *_: None}}
)

ROWS = ["warm-up", "constant", "inverse-square-root", "linear", "cosine", "WSD", "weight decay", "AnnealingLR"]
REFUSED: dict[str, str] = {}

OVERRIDES = ("max_lr", "min_lr", "start_wd", "end_wd", "wd_mult")
DEFAULTS = {
    "init_lr": 0.0, "max_lr": 1.0, "min_lr": 0.0, "lr_warmup_steps": 0, "lr_decay_steps": 10,
    "lr_decay_style": "linear", "start_wd": 0.0, "end_wd": 0.0, "wd_incr_steps": 1, "wd_incr_style": "constant",
}  # fmt: skip


def made(settings: dict[str, Any]) -> Any:
    """Megatron's own scheduler; ``group`` are overrides that the parameter group carries."""
    arguments = {**DEFAULTS, **settings}
    group = {"params": [torch.zeros(1, requires_grad=True)], **arguments.pop("group", {})}
    for name in ("batch_size", "parameter"):
        arguments.pop(name, None)
    return megatron.OptimizerParamScheduler(torch.optim.SGD([group], lr=1.0), **arguments)


def ours(settings: dict[str, Any]) -> Any:
    asked = {name: settings[name] for name in ("batch_size", "parameter") if name in settings}
    return from_megatron(made(settings), **asked)


def stepped(settings: dict[str, Any], n: int) -> list[float]:
    """The values of n updates, each of ``batch_size`` samples."""
    scheduler, parameter = made(settings), settings.get("parameter", "lr")
    values = []
    for _ in range(n):
        values.append(scheduler.optimizer.param_groups[0][parameter])
        scheduler.step(increment=settings.get("batch_size", 1))
    return values


@st.composite
def settings_of(draw: Any, style: str, rises: bool = False, **more: Any) -> dict[str, Any]:
    """Settings that Megatron accepts."""
    peak, batch = draw(rates()), draw(st.sampled_from([1, 1, 4]))
    below = st.floats(0.0, 1.0).map(lambda share: share * peak)
    warmup = draw(lengths(1, 40) if rises else st.one_of(st.just(0), lengths(1, 20)))
    settings = {
        "init_lr": draw(below), "max_lr": peak, "min_lr": draw(st.one_of(st.just(0.0), below)),
        "lr_warmup_steps": warmup, "lr_decay_steps": warmup + draw(lengths()), "lr_decay_style": style,
        "batch_size": batch,
    }  # fmt: skip
    if draw(st.booleans()):
        settings["group"] = {"max_lr": 2 * peak}
    return {**settings, **{name: draw(value) for name, value in more.items()}}


@st.composite
def weight_decay(draw: Any) -> dict[str, Any]:
    start, style = draw(rates(0.0, 0.5)), draw(st.sampled_from(["constant", "linear", "cosine"]))
    end = start if style == "constant" else start + draw(rates(0.0, 0.5))
    return {
        "start_wd": start, "end_wd": end, "wd_incr_style": style, "wd_incr_steps": draw(lengths()),
        "parameter": "weight_decay", "group": {"wd_mult": draw(st.sampled_from([1.0, 0.0, 2.5]))},
    }  # fmt: skip


def annealing(settings: dict[str, Any], n: int) -> list[float]:
    """gpt-neox: the iteration stops at what is left of the run, and is then measured by all of it."""
    start, w, total = settings["start_lr"], settings["warmup_iter"], settings["total_iters"]
    values = []
    for t in range(n):
        i = min(t, total - w)
        if w > 0 and t <= w:
            values.append(start * i / w)
            continue
        i -= w
        if settings["decay_style"] == "linear":
            rate = start * (total - i) / total
        elif settings["decay_style"] == "cosine":
            rate = start / 2 * (math.cos(math.pi * i / total) + 1)
        elif settings["decay_style"] == "exponential":
            rate = start * math.exp(-0.693 * i / total)
        else:
            rate = start
        values.append(max(rate, settings["min_lr"]))
    return values


def case(row: str, says: str, arguments: Any, note: str = "") -> Case:
    def length(settings: Any) -> float:
        steps = settings.get("wd_incr_steps", settings.get("lr_decay_steps", 1))
        return float(steps / settings.get("batch_size", 1) + 1)

    return Case("megatron", row, arguments, ours, stepped, says=says, length=length, note=note)


COUNTS = "counts samples: read along Formula('batch_size * t')"
ANNEALS = ("linear", "cosine", "exponential", "minus_sqrt")

CASES = [
    case("warm-up", "Linear(init_lr, max_lr, w) >> ...", settings_of("constant", rises=True), COUNTS),
    case("constant", "Linear(init_lr, max_lr, w) >> Constant(max_lr)", settings_of("constant")),
    case(
        "inverse-square-root",
        "InverseTime(max_lr, 1 / w, power=0.5).clip(low=min_lr).until(n) >> Constant(min_lr)",
        settings_of("inverse-square-root"), "jumps to min_lr after lr_decay_steps (G1)",
    ),
    case("linear", "Linear(init_lr, max_lr, w) >> Linear(max_lr, min_lr, n - w)", settings_of("linear")),
    case("cosine", "Linear(init_lr, max_lr, w) >> Cosine(max_lr, min_lr, n - w)", settings_of("cosine")),
    case(
        "WSD", "Linear(init_lr, max_lr, w) >> Constant(max_lr, n - w - d) >> Ramp(max_lr, min_lr, d, ease=...)",
        settings_of("WSD", lr_wsd_decay_style=st.sampled_from(ANNEALS), wsd_decay_steps=lengths(0, 50)),
        "a decay longer than what the warm-up leaves has begun when the warm-up ends",
    ),
    case("weight decay", "Ramp(start_wd, end_wd, n, ease=...)", weight_decay(), "can only increase (G1)"),
    Case(
        "megatron", "AnnealingLR",
        st.fixed_dictionaries({
            "start_lr": rates(), "warmup_iter": st.integers(0, 40), "total_iters": lengths(41, 90),
            "decay_style": st.sampled_from(["linear", "cosine", "exponential", "constant"]),
            "min_lr": st.one_of(st.just(0.0), rates(1e-6, 1e-2)),
        }),
        lambda s: from_megatron("AnnealingLR", **s),
        annealing,
        says='Formula("where(t <= w, lr * min(t, T - w) / w, max(lr * (T - (min(t, T - w) - w)) / T, min_lr))")',
        living=False, length=lambda s: s["total_iters"],
        note="gpt-neox: stops above min_lr, and with w > T / 2 jumps above its peak (G2)",
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case)


def test_a_name_and_an_object_give_the_same() -> None:
    settings = {"max_lr": 0.1, "lr_warmup_steps": 3, "lr_decay_steps": 9, "lr_decay_style": "cosine"}
    assert from_megatron(**settings) == from_megatron(made(settings))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_lr": 0.1, "min_lr": 0.2}, "min_lr and init_lr must be at most max_lr"),
        ({"lr_warmup_steps": 10}, "lr_warmup_steps must be below lr_decay_steps"),
        ({"lr_decay_style": "WSD", "lr_wsd_decay_style": "linear"}, "wsd_decay_steps must be given"),
        ({"parameter": "weight_decay", "start_wd": 0.2}, "start_wd must be at least 0 and equal to end_wd"),
    ],
)
def test_what_the_peer_does_not_accept_is_an_error(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError):
        made(wrong)
    with pytest.raises(ScheduleError, match=message):
        from_megatron(**{**DEFAULTS, **wrong})
