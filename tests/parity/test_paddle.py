"""Paddle's schedules (``paddle.optimizer.lr``), transcribed: value by value, as its ``step()`` comes to them.

Paddle itself is too large to install for this. The classes compute in Python floats, the functions of a static graph
in float32.
"""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, strategies as st
from parity.cases import DOUBLE, SINGLE, Case, Watched, check, covers, lengths, rates

from ratewise.errors import ScheduleError
from ratewise.interop import from_paddle

ROWS = [
    "NoamDecay", "PiecewiseDecay", "NaturalExpDecay", "InverseTimeDecay", "PolynomialDecay", "LinearWarmup",
    "ExponentialDecay", "StepDecay", "MultiStepDecay", "LambdaDecay", "MultiplicativeDecay", "CosineAnnealingDecay",
    "CosineAnnealingWarmRestarts", "LinearLR", "OneCycleLR", "CyclicLR", "ReduceOnPlateau",
    "exponential_decay", "natural_exp_decay", "inverse_time_decay", "polynomial_decay", "noam_decay",
    "piecewise_decay", "cosine_decay", "linear_lr_warmup",
]  # fmt: skip
REFUSED: dict[str, str] = {}


# -- what a class makes of epoch t ----------------------------------------------------------------------------


def noam(t: int, d_model: float, warmup_steps: int, learning_rate: float) -> float:
    a = 1.0 if t == 0 else t**-0.5
    b = warmup_steps**-1.5 * t
    return learning_rate * d_model**-0.5 * min(a, b)


def piecewise(t: int, boundaries: list[int], values: list[float]) -> float:
    for boundary, value in zip(boundaries, values, strict=False):
        if t < boundary:
            return value
    return values[-1]


def polynomial(t: int, learning_rate: float, decay_steps: int, end_lr: float, power: float, cycle: bool) -> float:
    steps: float = decay_steps
    if cycle:
        steps *= math.ceil(t / decay_steps) if t else 1
    else:
        t = min(t, decay_steps)
    return (learning_rate - end_lr) * (1 - t / steps) ** power + end_lr


def warmup(t: int, learning_rate: Any, warmup_steps: int, start_lr: float, end_lr: float) -> float:
    if t < warmup_steps:
        return (end_lr - start_lr) * t / warmup_steps + start_lr
    return learning_rate(t - warmup_steps) if callable(learning_rate) else learning_rate


def multi_step(t: int, learning_rate: float, milestones: list[int], gamma: float) -> float:
    for i, milestone in enumerate(milestones):
        if t < milestone:
            return learning_rate * gamma**i
    return learning_rate * gamma ** len(milestones)


def cyclic(
    t: int, base_learning_rate: float, max_learning_rate: float, step_size_up: int, step_size_down: int | None = None,
    mode: str = "triangular", exp_gamma: float = 1.0, scale_fn: Any = None, scale_mode: str = "cycle",
) -> float:  # fmt: skip
    up = float(step_size_up)
    size = up + (step_size_down or up)
    cycle = 1 + t // size
    position = 1.0 + t / size - cycle
    height = position / (up / size) if position <= up / size else (1 - position) / (1 - up / size)
    if scale_fn is not None:
        scale = scale_fn(cycle if scale_mode == "cycle" else t)
    else:
        scale = {"triangular": 1.0, "triangular2": 2.0 ** (1 - cycle), "exp_range": exp_gamma**t}[mode]
    return float(base_learning_rate + (max_learning_rate - base_learning_rate) * height * scale)


# -- what a class makes of its own last value ------------------------------------------------------------------


def waving(n: int, learning_rate: float, T_max: int, eta_min: float) -> list[float]:
    values = [learning_rate]
    for t in range(1, n):
        last = values[-1]
        if (t - 1 - T_max) % (2 * T_max) == 0:
            values.append(last + (learning_rate - eta_min) * (1 - math.cos(math.pi / T_max)) / 2)
        else:
            ratio = (1 + math.cos(math.pi * t / T_max)) / (1 + math.cos(math.pi * (t - 1) / T_max))
            values.append(ratio * (last - eta_min) + eta_min)
    return values


def restarting(n: int, learning_rate: float, T_0: int, T_mult: int, eta_min: float) -> list[float]:
    values, place, size = [], 0, T_0
    for _ in range(n):
        values.append(eta_min + (learning_rate - eta_min) * (1 + math.cos(math.pi * place / size)) / 2)
        place += 1
        if place >= size:
            place, size = place - size, size * T_mult
    return values


def linear(n: int, learning_rate: float, total_steps: int, start_factor: float, end_factor: float) -> list[float]:
    values, rise = [learning_rate * start_factor], end_factor - start_factor
    for t in range(1, n):
        grown = 1.0 + rise / (total_steps * start_factor + (t - 1) * rise) if t <= total_steps else 1.0
        values.append(values[-1] * grown)
    return values


def one_cycle(
    n: int, max_learning_rate: float, total_steps: int, divide_factor: float, end_learning_rate: float,
    phase_pct: float, anneal_strategy: str, three_phase: bool,
) -> list[float]:  # fmt: skip
    """Until it raises: past ``total_steps``, or where a phase of no length is divided by."""
    first = phase_pct * total_steps - 1
    joints = [0, first, 2 * first, total_steps - 1] if three_phase else [0, first, total_steps - 1]
    low = max_learning_rate / divide_factor
    values = [low, max_learning_rate, *([low] if three_phase else []), end_learning_rate]
    rates = []
    for t in range(min(n, total_steps + 1)):
        i = next((i for i in range(len(joints) - 1) if t <= joints[i + 1]), len(joints) - 2)
        if joints[i + 1] == joints[i]:
            break
        part = (t - joints[i]) / (joints[i + 1] - joints[i])
        a, b = values[i], values[i + 1]
        rates.append(
            b + (a - b) / 2 * (math.cos(math.pi * part) + 1) if anneal_strategy == "cos" else (b - a) * part + a
        )
    assume(rates)  # it raises at once
    return rates


def plateau(settings: dict[str, Any], n: int) -> list[float]:
    """The rates of n epochs, each of which ends with ``step(metric)``."""
    lr, best, bad, rest = settings["learning_rate"], None, 0, 0
    values = []
    for t in range(n):
        values.append(lr)
        metric = settings["metrics"][t % len(settings["metrics"])]
        if rest > 0:
            rest -= 1
            continue
        sign = 1 if settings["mode"] == "min" else -1
        margin = settings["threshold"] * (best or 0.0 if settings["threshold_mode"] == "rel" else 1.0)
        if best is None or (metric < best - margin if sign == 1 else metric > best + margin):
            best, bad = metric, 0
        else:
            bad += 1
        if bad > settings["patience"]:
            rest, bad = settings["cooldown"], 0
            lower = max(lr * settings["factor"], settings["min_lr"])
            if lr - lower > settings["epsilon"]:
                lr = lower
    return values


# -- what a static graph makes of its counter, in float32 ------------------------------------------------------


def graph(name: str, settings: dict[str, Any], n: int) -> list[float]:
    f = np.float32
    s = {key: f(x) if isinstance(x, float) else x for key, x in settings.items()}
    values = []
    for step in range(n):
        t = f(step)
        if name == "noam_decay":
            t += f(1)
            peak = f(settings["learning_rate"] * settings["d_model"] ** -0.5)
            values.append(peak * min(t ** f(-0.5), f(settings["warmup_steps"] ** -1.5) * t))
        elif name == "cosine_decay":
            epoch = np.floor(t / f(s["step_each_epoch"]))
            values.append(s["learning_rate"] * f(0.5) * (np.cos(epoch * f(math.pi) / f(s["epochs"])) + f(1)))
        elif name == "piecewise_decay":
            values.append(f(piecewise(step, s["boundaries"], s["values"])))
        elif name == "polynomial_decay":
            passed = max(np.ceil(t / f(s["decay_steps"])), f(1)) if s["cycle"] else f(1)
            part = (t if s["cycle"] else min(t, f(s["decay_steps"]))) / (f(s["decay_steps"]) * passed)
            low = s["end_learning_rate"]
            values.append((s["learning_rate"] - low) * (f(1) - part) ** s["power"] + low)
        elif name == "linear_lr_warmup":
            w = f(s["warmup_steps"])
            falling = s["learning_rate"] * f(0.875) ** t
            values.append(s["start_lr"] + (s["end_lr"] - s["start_lr"]) * (t / w) if t < w else falling)
        else:
            part = t / f(s["decay_steps"])
            part = np.floor(part) if s["staircase"] else part
            rate = s["decay_rate"]
            factors = {
                "exponential_decay": rate**part,
                "natural_exp_decay": np.exp(-rate * part),
                "inverse_time_decay": f(1) / (f(1) + rate * part),
            }
            values.append(s["learning_rate"] * factors[name])
    return [float(value) for value in values]


# -- cases -----------------------------------------------------------------------------------------------------


def case(
    row: str, says: str, arguments: dict[str, Any], theirs: Any, note: str = "", length: Any = lambda s: 40,
    tolerance: float = DOUBLE, ours: Any = None,
) -> Case:  # fmt: skip
    name = row.split(" (", 1)[0]
    return Case(
        "paddle", row, st.fixed_dictionaries(arguments), ours or (lambda s: from_paddle(name, **s)), theirs,
        says=says, living=False, length=length, tolerance=tolerance, note=note,
    )  # fmt: skip


def at(function: Any) -> Any:
    return lambda s, n: [function(t, **s) for t in range(n)]


def running(function: Any) -> Any:
    return lambda s, n: function(n, **s)


def static(
    name: str, says: str, arguments: dict[str, Any], note: str = "", ours: Any = None, tolerance: float = SINGLE
) -> Case:
    def length(settings: Any) -> float:
        return float(settings["step_each_epoch"] * settings["epochs"] if "epochs" in settings else 40)

    return case(name, says, arguments, lambda s, n: graph(name, s, n), note, length, tolerance, ours)


def factor(t: Any) -> float:
    return 1 / (1 + 0.1 * float(t))


def driven(settings: dict[str, Any]) -> Watched:
    arguments = {name: x for name, x in settings.items() if name != "metrics"}
    return Watched(from_paddle("ReduceOnPlateau", **arguments), settings["metrics"])


LR = {"learning_rate": rates()}
GAMMA = {"gamma": rates(0.1, 0.99)}
BOUNDARIES = st.lists(st.integers(1, 80), min_size=4, max_size=4, unique=True).map(sorted)
VALUES = st.lists(rates(), min_size=5, max_size=5)
POLYNOMIAL = {**LR, "decay_steps": lengths(), "power": rates(0.2, 3.0), "cycle": st.booleans()}
CYCLE = {
    "base_learning_rate": rates(1e-3, 0.1), "max_learning_rate": rates(0.1, 1.0), "step_size_up": lengths(1, 30),
    "step_size_down": st.one_of(st.none(), lengths(1, 30)),
}  # fmt: skip
GRAPH = {**LR, "decay_steps": lengths(), "decay_rate": st.floats(0.125, 0.96875, width=32), "staircase": st.booleans()}
IN_SINGLE = "in a static graph; called eagerly it is the class, without decay_steps and staircase (L4)"

CASES = [
    case(
        "NoamDecay", "Linear(0, peak, w) >> InverseTime(peak, 1 / w, power=0.5)",
        {**LR, "d_model": lengths(1, 512), "warmup_steps": lengths()}, at(noam), "0 at update 0 (L4)",
        lambda s: s["warmup_steps"],
    ),
    case(
        "PiecewiseDecay", "Piecewise(values, boundaries)", {"boundaries": BOUNDARIES, "values": VALUES}, at(piecewise)
    ),
    case(
        "NaturalExpDecay", "Exponential(lr, exp(-gamma))", {**LR, **GAMMA},
        at(lambda t, learning_rate, gamma: learning_rate * math.exp(-gamma * t)),
    ),
    case(
        "InverseTimeDecay", "InverseTime(lr, gamma)", {**LR, **GAMMA},
        at(lambda t, learning_rate, gamma: learning_rate / (1 + gamma * t)),
    ),
    case(
        "PolynomialDecay", "Polynomial(lr, end_lr, n, power=power); with cycle a Formula",
        {**POLYNOMIAL, "end_lr": rates(1e-6, 1e-2)}, at(polynomial), "a cycle grows with each that has passed (K7)",
        lambda s: s["decay_steps"],
    ),
    case(
        "LinearWarmup", "Linear(start_lr, end_lr, w) >> Constant(lr)",
        {**LR, "warmup_steps": lengths(), "start_lr": rates(), "end_lr": rates()}, at(warmup), "",
        lambda s: s["warmup_steps"],
    ),
    case(
        "LinearWarmup (of a schedule)", "Linear(start_lr, end_lr, w) >> schedule",
        {**LR, "warmup_steps": lengths(), "start_lr": rates(), "end_lr": rates()},
        lambda s, n: [warmup(t, **{**s, "learning_rate": lambda u: s["learning_rate"] * 0.9**u}) for t in range(n)],
        length=lambda s: s["warmup_steps"],
        ours=lambda s: from_paddle("LinearWarmup", **{
            **s, "learning_rate": from_paddle("ExponentialDecay", learning_rate=s["learning_rate"], gamma=0.9),
        }),
    ),
    case(
        "ExponentialDecay", "Exponential(lr, gamma)", {**LR, **GAMMA},
        at(lambda t, learning_rate, gamma: learning_rate * gamma**t),
    ),
    case(
        "StepDecay", "Exponential(lr, gamma, every=n).stairs(n)", {**LR, **GAMMA, "step_size": lengths()},
        at(lambda t, learning_rate, gamma, step_size: learning_rate * gamma ** (t // step_size)),
    ),
    case(
        "MultiStepDecay", "Piecewise([lr, lr * gamma, ...], milestones)", {**LR, **GAMMA, "milestones": BOUNDARIES},
        at(multi_step),
    ),
    case(
        "LambdaDecay", "lr * Custom(lr_lambda)", {**LR, "lr_lambda": st.just(factor)},
        at(lambda t, learning_rate, lr_lambda: learning_rate * lr_lambda(t)),
    ),
    case(
        "MultiplicativeDecay", "Custom(...)", {**LR, "lr_lambda": st.just(factor)},
        at(lambda t, learning_rate, lr_lambda: learning_rate * math.prod(lr_lambda(i) for i in range(1, t + 1))),
        "a product of t factors",
    ),
    case(
        "CosineAnnealingDecay", "(Cosine(lr, eta_min, n) >> Cosine(eta_min, lr, n)).repeat()",
        {**LR, "T_max": lengths(), "eta_min": rates(1e-6, 1e-2)}, running(waving),
        "climbs again after T_max (T12); each value is made from the last, and drifts (T31)", lambda s: s["T_max"],
    ),
    case(
        "CosineAnnealingWarmRestarts", "Cosine(lr, eta_min, n).repeat(stretch=T_mult)",
        {**LR, "T_0": lengths(1, 30), "T_mult": lengths(1, 3), "eta_min": rates(1e-6, 1e-2)}, running(restarting),
    ),
    case(
        "LinearLR", "Linear(lr * start_factor, lr * end_factor, n)",
        {**LR, "total_steps": lengths(), "start_factor": rates(0.01, 1.0), "end_factor": st.floats(0.0, 1.0)},
        running(linear), length=lambda s: s["total_steps"],
    ),
    case(
        "OneCycleLR", "Cosine(lr / div, lr, p * n - 1) >> (Cosine(lr, end, ...) >> ...), to one step past its end",
        {
            "max_learning_rate": rates(0.01, 1.0), "total_steps": lengths(), "divide_factor": rates(1.0, 50.0),
            "end_learning_rate": rates(1e-6, 1e-3),
            "phase_pct": st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.3, 1.0])),
            "anneal_strategy": st.sampled_from(["cos", "linear"]), "three_phase": st.just(False),
        },
        running(one_cycle), "raises past total_steps, ours holds what it has there (T3, T4, T5, T6)",
        lambda s: s["total_steps"],
    ),
    case(
        "OneCycleLR (three phases)",
        "Cosine(lr / div, lr, m) >> Cosine(lr, lr / div, m) >> (Cosine(lr / div, end, ...) >> ...)",
        {
            "max_learning_rate": rates(0.01, 1.0), "total_steps": lengths(), "divide_factor": rates(1.0, 50.0),
            "end_learning_rate": rates(1e-6, 1e-3), "phase_pct": st.floats(0.0, 0.49),
            "anneal_strategy": st.sampled_from(["cos", "linear"]), "three_phase": st.just(True),
        },
        running(one_cycle), "", lambda s: s["total_steps"],
    ),
    case(
        "CyclicLR", "base + (Linear(0, rise, up) >> Linear(rise, 0, down)).repeat(gamma=...)",
        {**CYCLE, "mode": st.sampled_from(["triangular", "triangular2", "exp_range"]), "exp_gamma": rates(0.9, 1.0)},
        at(cyclic),
    ),
    case(
        "CyclicLR (a function)", "base + (Linear(0, rise, up) >> Linear(rise, 0, down)).repeat() * Custom(scale_fn)",
        {**CYCLE, "scale_fn": st.just(factor), "scale_mode": st.sampled_from(["cycle", "iterations"])}, at(cyclic),
    ),
    case(
        "ReduceOnPlateau", 'Constant(lr) * Plateau(factor, patience, like="paddle")',
        {
            "learning_rate": rates(1e-2, 1.0), "mode": st.sampled_from(["min", "max"]), "factor": rates(0.1, 0.9),
            "patience": st.integers(0, 4), "threshold": st.sampled_from([0.0, 1e-4, 0.1]),
            "threshold_mode": st.sampled_from(["rel", "abs"]), "cooldown": st.integers(0, 3),
            "min_lr": rates(1e-4, 1e-2), "epsilon": st.sampled_from([1e-8, 1e-3]),
            "metrics": st.lists(st.floats(-2.0, 2.0), min_size=30, max_size=60),
        },
        plateau, "compared under random metrics", ours=driven,
    ),
    static("exponential_decay", "Exponential(lr, rate, every=n), or .stairs(n)", GRAPH, IN_SINGLE),
    static("natural_exp_decay", "Exponential(lr, exp(-rate), every=n), or .stairs(n)", GRAPH, IN_SINGLE),
    static("inverse_time_decay", "InverseTime(lr, rate, every=n), or .stairs(n)", GRAPH, IN_SINGLE),
    static(
        "polynomial_decay", "Polynomial(lr, end, n, power=power); with cycle a Formula",
        {**POLYNOMIAL, "power": rates(1.0, 3.0), "end_learning_rate": rates(1e-6, 1e-2)},
    ),
    static(
        "noam_decay", "(Linear(0, peak, w) >> InverseTime(peak, 1 / w, power=0.5)).after(1)",
        {**LR, "d_model": lengths(1, 512), "warmup_steps": lengths()}, "counts from 1",
    ),
    static("piecewise_decay", "Piecewise(values, boundaries)", {"boundaries": BOUNDARIES, "values": VALUES}),
    static(
        "cosine_decay", "(Cosine(lr, 0, epochs) >> Cosine(0, lr, epochs)).repeat().stretch(n).stairs(n)",
        {**LR, "step_each_epoch": lengths(1, 8), "epochs": lengths(12, 30)},
        "climbs again after its epochs; its angle is a float32", tolerance=1e-6,
    ),
    static(
        "linear_lr_warmup", "Linear(start_lr, end_lr, w) >> schedule.after(w)",
        {**LR, "warmup_steps": lengths(), "start_lr": rates(), "end_lr": rates()},
        "the schedule after it has run since update 0",
        lambda s: from_paddle("linear_lr_warmup", **{
            **s, "learning_rate": from_paddle("ExponentialDecay", learning_rate=s["learning_rate"], gamma=0.875),
        }),
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("NoamDecai", {}, "NoamDecay"),
        ("PiecewiseDecay", {"boundaries": [3, 5], "values": [1.0, 0.5]}, "one value more than boundaries"),
        ("OneCycleLR", {"max_learning_rate": 1.0, "total_steps": 10, "phase_pct": 0.1}, "must not be 1"),
        ("OneCycleLR", {"max_learning_rate": 1.0, "total_steps": 10, "phase_pct": 1.1}, "phase_pct must be at least 0"),
        (
            "OneCycleLR", {"max_learning_rate": 1.0, "total_steps": 10, "phase_pct": 0.5, "three_phase": True},
            "below 0.5 with three phases",
        ),
        ("CyclicLR", {"base_learning_rate": 0.1, "max_learning_rate": 1.0, "step_size_up": 3, "mode": "tri"}, "mode"),
    ],
)  # fmt: skip
def test_wrong_input_is_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        from_paddle(name, **arguments)
