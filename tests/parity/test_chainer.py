"""Chainer's extensions that shift an attribute of the optimizer, transcribed: Chainer runs on no Python of today.

``t`` counts the calls of the extension; update 0 uses what it sets before training starts.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from parity.cases import Case, check, covers, lengths, rates

from ratewise.errors import ScheduleError
from ratewise.interop import from_chainer

ROWS = [
    "ExponentialShift", "InverseShift", "LinearShift", "MultistepShift", "PolynomialShift", "StepShift", "WarmupShift",
]  # fmt: skip
REFUSED: dict[str, str] = {}


def shifted(init: float, value: Callable[[int], float], n: int) -> list[float]:
    """``init``, then the value of every call; up to where a call raises."""
    values = [init]
    for t in range(1, n):
        try:
            values.append(value(t))
        except ZeroDivisionError:
            break
    return values


def stopped(value: float, target: float | None, rises: bool) -> float:
    """``target`` once the value has passed it, told by their quotient, which holds for negative values too."""
    if target is None:
        return value
    passed = value / target > 1 if rises else value / target < 1
    return target if passed else value


def exponential(s: dict[str, Any], n: int) -> list[float]:
    return shifted(s["init"], lambda t: stopped(s["init"] * s["rate"] ** t, s["target"], s["rate"] > 1), n)


def inverse(s: dict[str, Any], n: int) -> list[float]:
    def value(t: int) -> float:
        return stopped(s["init"] * (1 + s["gamma"] * t) ** -s["power"], s["target"], s["power"] < 0)

    return shifted(s["init"], value, n)


def steps(s: dict[str, Any], n: int) -> list[float]:
    def value(t: int) -> float:
        return stopped(s["init"] * s["gamma"] ** math.floor(t / s["step"]), s["target"], s["gamma"] > 1)

    return shifted(s["init"], value, n)


def polynomial(s: dict[str, Any], n: int) -> list[float]:
    def value(t: int) -> float:
        value = s["init"] * max(1 - t / s["max_count"], 0) ** s["rate"]
        if s["target"] is None:
            return float(value)
        passed = s["target"] / value > 1 if s["rate"] > 0 else s["target"] / value < 1
        return float(s["target"] if passed else value)

    return shifted(s["init"], value, n)


def linear(s: dict[str, Any], n: int) -> list[float]:
    (v1, v2), (t1, t2) = s["value_range"], s["time_range"]

    def value(t: int) -> float:
        if t <= t1:
            return float(v1)
        return float(v2 if t >= t2 else v1 + (t - t1) / (t2 - t1) * (v2 - v1))

    return [value(t) for t in range(n)]


def multistep(s: dict[str, Any], n: int) -> list[float]:
    values, passed = [s["init"]], 0
    for t in range(1, n):
        if passed < len(s["step_value"]) and t >= s["step_value"][passed]:
            passed += 1
        values.append(s["init"] * s["gamma"] ** passed)
    return values


def warmup(s: dict[str, Any], n: int) -> list[float]:
    start, steps, end = s["warmup_start"], s["warmup_iter"], s["init"]
    values = [start]
    for t in range(1, n):
        values.append((t * end + (steps - t) * start) / steps if t <= steps else values[-1])
    return values


def case(
    row: str, says: str, arguments: Any, theirs: Any, note: str = "", length: Any = lambda s: 40
) -> Case:  # fmt: skip
    drawn = arguments if isinstance(arguments, st.SearchStrategy) else st.fixed_dictionaries(arguments)
    return Case(
        "chainer", row, drawn, lambda s: from_chainer(row.split(" (", 1)[0], **s), theirs,
        says=says, living=False, length=length, note=note,
    )  # fmt: skip


SIGNED = st.one_of(rates(), rates().map(lambda x: -x))
INIT = {"init": SIGNED}
TARGET = {"target": st.one_of(st.none(), SIGNED, st.just(0.0))}
STOPS = "it stops at its target, which it divides by: a target of 0 raises, and ours holds"

CASES = [
    case(
        "ExponentialShift", "Exponential(init, rate).clip(...)",
        {**INIT, "rate": st.one_of(rates(0.1, 1.0), st.floats(1.0, 1.1)), **TARGET}, exponential, STOPS,
    ),
    case(
        "InverseShift", "InverseTime(init, gamma, power=power).clip(...)",
        {**INIT, "gamma": st.floats(0.0, 2.0), "power": st.floats(-1.0, 2.0), **TARGET}, inverse, STOPS,
    ),
    case(
        "LinearShift", "Constant(v1, t1) >> Linear(v1, v2, t2 - t1)",
        {"value_range": st.tuples(SIGNED, SIGNED), "time_range": st.tuples(st.integers(0, 30), st.integers(0, 60))},
        linear,
    ),
    case(
        "MultistepShift", "Piecewise([init, init * gamma, ...], step_value)",
        {**INIT, "gamma": rates(0.1, 2.0), "step_value": st.lists(st.integers(1, 60), min_size=1, max_size=5)},
        multistep,
        "one step per call: milestones that are not in order come late",
    ),
    case(
        "PolynomialShift", "Polynomial(init, 0, n, power=rate).clip(...)",
        {
            **INIT, "rate": st.one_of(rates(0.2, 3.0), st.sampled_from([0.0, -0.5, -1.0])), "max_count": lengths(),
            **TARGET,
        },
        polynomial, "with a target it divides by the value, and raises where that is 0; ours holds",
        lambda s: s["max_count"],
    ),
    case(
        "StepShift", "Exponential(init, gamma, every=n).stairs(n).clip(...)",
        {**INIT, "gamma": st.one_of(rates(0.1, 1.0), st.floats(1.0, 1.1)), "step": lengths(), **TARGET}, steps, STOPS,
    ),
    case(
        "WarmupShift", "Linear(warmup_start, init, n)",
        {"warmup_start": SIGNED, "warmup_iter": st.integers(0, 60), "init": SIGNED}, warmup,
        "without a warm-up it never sets init", lambda s: s["warmup_iter"],
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case, 100)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ExponentialShif", {}, "ExponentialShift"),
        ("ExponentialShift", {"init": 0.1, "rate": -1.0}, "gamma must be"),
        ("InverseShift", {"init": 0.1, "gamma": -1.0, "power": 1.0}, "decay must be at least 0"),
        ("MultistepShift", {"init": 0.1, "gamma": 0.5}, "step_value"),
    ],
)
def test_wrong_input_is_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        from_chainer(name, **arguments)
