"""What a person may get wrong: always a ScheduleError, of one or two lines, that says what to write instead."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ratewise as rw
from ratewise.core.checks import shown
from ratewise.core.parse import KINDS
from ratewise.core.recipes import RECIPES
from ratewise.core.schedule import Ramp, Schedule
from ratewise.errors import RatewiseError, ScheduleError

OBJECT = pytest.param(object(), id="object")  # its repr differs between test processes

NOT_NUMBERS: list[Any] = [
    True, "0.1", b"1", None, math.nan, math.inf, -math.inf, 1j, [1], {}, {1}, (), OBJECT, np.bool_(True), np.nan,
    np.str_("1"), np.array([1.0, 2.0]), 10**5000, Ramp, rw.Constant(0.1), rw.epochs(1), range(3),
]  # fmt: skip
NOT_LENGTHS: list[Any] = [x for x in NOT_NUMBERS if not isinstance(x, rw.Length)] + [0, -1, -0.5, 2**54, 1e300]
BASE = rw.Linear(1.0, 0.0, 4)

NUMBERS: dict[str, Callable[[Any], Any]] = {
    "Ramp start": lambda x: Ramp(x, 0.0, 4),
    "Linear end": lambda x: rw.Linear(0.1, x, 4),
    "Cosine start": lambda x: rw.Cosine(x, 0.0),
    "Polynomial power": lambda x: rw.Polynomial(0.1, 0.0, 4, power=x),
    "Constant": rw.Constant,
    "Exponential start": lambda x: rw.Exponential(x, 0.5),
    "Exponential gamma": lambda x: rw.Exponential(0.1, x),
    "InverseTime start": lambda x: rw.InverseTime(x, 1.0),
    "InverseTime decay": lambda x: rw.InverseTime(0.1, x),
    "InverseTime power": lambda x: rw.InverseTime(0.1, 1.0, power=x),
    "Piecewise value": lambda x: rw.Piecewise([0.1, x], [3]),
    "clip low and high": lambda x: BASE.clip(low=x, high=x),
    "stretch": BASE.stretch,
    "repeat stretch": lambda x: BASE.repeat(2, stretch=x),
    "repeat gamma": lambda x: BASE.repeat(2, gamma=x),
    "cooldown end": lambda x: BASE.cooldown(4, end=x),
    "symbolic cooldown end": lambda x: rw.Exponential(0.1, 0.5).cooldown(4, end=x),
    "epochs": rw.epochs,
    "samples": rw.samples,
    "tokens": rw.tokens,
    "fraction": rw.fraction,
    "Horizon epochs": lambda x: rw.Horizon(epochs=x, dataset_size=10, batch_size=2) if x is not None else rw.epochs(x),
}
OPERANDS: dict[str, Callable[[Any], Any]] = {
    "a * x": lambda x: BASE * x,
    "x * a": lambda x: x * BASE,
    "a + x": lambda x: BASE + x,
    "x + a": lambda x: x + BASE,
    "scaled_from": lambda x: BASE.scaled_from(2, x),
}
LENGTHS: dict[str, Callable[[Any], Any]] = {
    "Linear": lambda x: rw.Linear(0.1, 0.0, x),
    "Constant": lambda x: rw.Constant(0.1, x),
    "Exponential every": lambda x: rw.Exponential(0.1, 0.5, every=x),
    "Custom": lambda x: rw.Custom(math.sqrt, x),
    "Piecewise milestone": lambda x: rw.Piecewise([0.1, 0.2], [x]),
    "warmup": BASE.warmup,
    "cooldown": BASE.cooldown,
    "until": BASE.until,
    "until of a decay": rw.Constant(0.1).until,
    "after": rw.Constant(1.0).after,
    "stairs": BASE.stairs,
    "decay_from": lambda x: BASE.decay_from(2, x),
}
WHOLE: dict[str, Callable[[Any], Any]] = {
    "over": BASE.over,
    "Horizon total_steps": lambda x: rw.Horizon(total_steps=x),
    "Horizon accumulation": lambda x: rw.Horizon(total_steps=5, accumulation=x),
    "Horizon world_size": lambda x: rw.Horizon(total_steps=5, world_size=x),
    "repeat times": lambda x: BASE.repeat(-1 if x is None else x),
    "table steps": lambda x: BASE.table(steps=-1 if x is None else x),
    "plot steps": lambda x: BASE.plot(steps=-1 if x is None else x),
    "noam warmup": lambda x: rw.noam(0.1, x),
}
MAY_BE_OPEN = {"Linear", "Constant", "Custom"}
MAY_BE_ZERO = {"warmup", "cooldown"}


def refused(call: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(ScheduleError) as caught:
        call(value)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert 20 < len(message) < 400
    assert ": " in message
    assert message.endswith((".", "?", ")"))


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=shown)
@pytest.mark.parametrize("name", [*NUMBERS, *OPERANDS])
def test_what_is_no_number_is_refused(name: str, value: Any) -> None:
    if not (name in OPERANDS and isinstance(value, Schedule)):  # schedules are operands
        refused({**NUMBERS, **OPERANDS}[name], value)


@pytest.mark.parametrize("value", NOT_LENGTHS, ids=shown)
@pytest.mark.parametrize("name", LENGTHS)
def test_what_is_no_length_is_refused(name: str, value: Any) -> None:
    if (value is None and name in MAY_BE_OPEN) or (type(value) is int and value == 0 and name in MAY_BE_ZERO):
        return
    refused(LENGTHS[name], value)


@pytest.mark.parametrize("value", [*NOT_LENGTHS, 2.5, rw.epochs(1)], ids=shown)
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_no_whole_number_is_refused(name: str, value: Any) -> None:
    refused(WHOLE[name], value)


@pytest.mark.parametrize("value", [True, "x", None, math.nan, 1j, [], {}, OBJECT, np.bool_(False), 10j], ids=repr)
def test_what_is_no_position_is_refused(value: Any) -> None:
    refused(BASE, value)


@pytest.mark.parametrize("value", [True, 3, 0.1, None, "x", [BASE], Ramp], ids=repr)
def test_only_schedules_can_be_joined(value: Any) -> None:
    refused(lambda x: BASE >> x, value)
    refused(lambda x: x >> BASE, value)
    refused(BASE.then, value)
    refused(rw.sequence, value)


NOT_EASES = [
    True, 3, 0.1, None, "x", "", "linear(2)", "cosin", "polynomial(", "rex(1.5)", "rex(nan)", "polynomial(-1)",
    "polynomial(1e999)", [], {}, {1}, OBJECT,
]  # fmt: skip


@pytest.mark.parametrize("value", NOT_EASES, ids=repr)
def test_unknown_eases_are_refused(value: Any) -> None:
    refused(lambda x: Ramp(0.1, 0.0, 4, ease=x), value)
    refused(lambda x: BASE.warmup(4, shape=x), value)
    refused(lambda x: BASE.cooldown(4, shape=x), value)
    refused(lambda x: rw.Exponential(0.1, 0.5).cooldown(4, shape=x), value)


@pytest.mark.parametrize("value", [True, 3, None, "", "[", "x", [], {}, ("[", ")")], ids=repr)
def test_unknown_ends_are_refused(value: Any) -> None:
    refused(lambda x: Ramp(0.1, 0.0, 4, ends=x), value)
    if value is not None:
        refused(lambda x: BASE.warmup(4, ends=x), value)


@pytest.mark.parametrize("value", [5, None, "ab", 0.1, {}, {"a": 1}, [3, 2], [2, 2], np.array(3.0), OBJECT], ids=repr)
def test_milestones_must_be_a_rising_list(value: Any) -> None:
    if value != {}:
        refused(lambda x: rw.Piecewise([0.1, 0.2, 0.3], x), value)
    refused(lambda x: rw.multi_step(0.1, x), value)


def test_sequences_without_elements_are_refused() -> None:
    refused(lambda _: rw.sequence(), None)
    refused(lambda _: rw.Piecewise([], []), None)
    refused(KINDS["Product"], [])
    refused(KINDS["Sum"], [1.0, 2.0])
    refused(KINDS["Product"], 5)
    refused(KINDS["Sequence"], None)


ARGUMENTS: dict[str, dict[str, Any]] = {
    name: dict(zip(("lr", "decay") if name == "time_based" else ("peak", "timescale"), (0.1, 5), strict=True))
    for name in ("time_based", "inverse_sqrt")
}
GOOD: dict[str, dict[str, Any]] = {
    **{name: {"lr": 0.1} for name in RECIPES},
    **{name: {"peak": 0.1} for name in ("warmup_cosine", "one_cycle", "wsd", "rex", "trapezoidal", "flat_cosine")},
    **{name: {"peak": 0.1} for name in ("tri_stage", "slanted_triangular")},
    "wsd_s": {"peak": 0.1, "hold": 5, "cooldown": 5},
    "power_decay": {"peak": 0.1, "knee": 5},
    "range_test": {"low": 0.1, "high": 0.2},
    **ARGUMENTS,
    "multi_step": {"lr": 0.1, "milestones": [5]},
    "cyclical": {"low": 0.1, "high": 0.2},
    "one_cycle_momentum": {},
    "sgdr": {"peak": 0.1, "first": 10},
    "noam": {"peak": 0.1, "warmup": 10},
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_name_themselves_and_the_argument(name: str) -> None:
    import inspect

    recipe = RECIPES[name]
    assert isinstance(recipe(**GOOD[name]), Schedule)
    for parameter in inspect.signature(recipe).parameters:
        for bad in ("x", [], True, math.nan, 1j, -1, object()):
            if bad == -1 and parameter in ("lr", "peak", "end", "low", "high", "start_ratio", "end_ratio", "alpha"):
                continue  # core takes any sign; optimizers do not
            if parameter == "milestones" and bad == []:
                continue  # no milestone is a constant
            with pytest.raises(ScheduleError, match=rf"^{name}: ") as caught:
                recipe(**{**GOOD[name], parameter: bad})
            assert len(str(caught.value).splitlines()) == 1


MESSAGES: list[tuple[Callable[[], Any], str]] = [
    (lambda: rw.Cosine(0.1, 0.0, 0), "Cosine: steps must be an integer of at least 1 .* To hold a value, use Constant"),
    (lambda: rw.Linear(0.1, 0.0) >> rw.Cosine(0.1, 0.0), r"then: Linear\(0.1, 0.0\) and Cosine.* both have no length"),
    (lambda: rw.Linear(0.1, 0.0)(3), r"its length is not known yet \(it has no steps\). .*\.over\(1000\)"),
    (lambda: rw.Linear(0.1, 0.0, rw.epochs(3)).values(0, 3), r"epochs\(3\) is not resolved"),
    (lambda: (rw.Constant(0.1) >> rw.Linear(0.1, 0.0, 5))(3), "has no end, and something follows it"),
    (lambda: rw.Cosine(0.1, 0.0).warmup(1200).over(1000), r"need 1200 updates, and the open piece needs at least 1"),
    (lambda: rw.Cosine(0.1, 0.0, 900).warmup(200).over(1000), r"need 200 \+ 900 = 1100 updates, but the run has 1000"),
    (lambda: rw.Cosine(0.1, 0.0, 2000).over(1000), "needs 2000 updates, the run has 1000. Leave out its steps"),
    (lambda: rw.Exponential(0.1, 0.9).cooldown(20).over(20), "cooldown of 20 updates does not fit into 20"),
    (lambda: rw.Linear(0.1, 0.0).repeat(30).over(20), "30 cycles do not fit into 20"),
    (lambda: rw.Linear(0.1, 0.0).repeat(), "has no length, so a cycle has none"),
    (lambda: rw.Linear(0.1, 0.0, 2).repeat(gamma=2.0), "grows without bound; give times"),
    (lambda: rw.Linear(0.1, 0.0, 2).repeat(10**6, gamma=2.0), "is not a finite number"),
    (lambda: rw.Linear(0.1, 0.0, 2).repeat(stretch=0.5), "needs times, or the cycles vanish"),
    (lambda: rw.Linear(0.1, 0.0, 2).repeat(3, stretch=0.5), "cycle 2 would last less than one update"),
    (lambda: rw.Linear(0.1, 0.0, 2).repeat(10**6, stretch=2.0), "at most 10000 cycles"),
    (lambda: rw.Linear(0.1, 0.0, 2).repeat(stretch=1.0000001), "more than 10000 cycles"),
    (lambda: rw.Linear(0.1, 0.0, 2).clip(), "needs low, high or both"),
    (lambda: rw.Linear(0.1, 0.0, 2).clip(0.5, 0.1), "low must be at most high, got 0.5 and 0.1"),
    (lambda: rw.Exponential(0.1, 1.1), "grows without bound; give steps"),
    (lambda: rw.Exponential(0.1, 1.1, steps=10**5), "is not a finite number"),
    (lambda: rw.Exponential(0.1, 1.1, steps=rw.fraction(1)).over(10**5), "is not a finite number"),
    (lambda: rw.Exponential(1e-300, 10.0, steps=400), "is not a finite number"),
    (lambda: rw.InverseTime(0.1, 1.0, power=-100.0), "grows beyond what a float holds"),
    (lambda: rw.InverseTime(0.1, -1.0), "decay must be at least 0"),
    (lambda: rw.Linear(-1e308, 1e308, 4), "too far apart"),
    (lambda: Ramp(1e-300, 1e300, 4, ease="geometric"), "too far apart"),
    (lambda: Ramp(0.1, 0.0, 4, ease="geometric"), "same sign and not 0"),
    (lambda: Ramp(0.1, 0.0, 4, ease="cosin"), "unknown ease 'cosin'. Did you mean 'cosine'"),
    (lambda: Ramp(0.1, 0.0, 4, ease="rex(1.0)"), "alpha of 'rex' must be below 1"),
    (lambda: rw.Piecewise([0.1], [3]), "one value more than milestones, got 1 values and 1 milestones"),
    (lambda: rw.fraction(30), r"at most 1 \(the whole run\), got 30.0. Write 0.3 for 30%"),
    (lambda: rw.fraction(3000), "Updates are plain integers"),
    (lambda: rw.Length(3, "epoch"), "unknown unit 'epoch'. Did you mean 'epochs'"),
    (lambda: BASE.table(0), "rows must be an integer of at least 1"),
    (lambda: Ramp(1.0, 0.0, ends="(]").warmup(10), r"say where the warm-up ends: warmup\(steps, end="),
    (lambda: rw.Constant(0.1).over(rw.Horizon(total_steps=5)) * [1], "a Schedule or a finite number"),
    (lambda: rw.Custom("no_such_module:f"), "cannot be imported"),
    (lambda: rw.Custom("f"), 'not of the form "module:name"'),
    (lambda: rw.Custom("math:pi"), "must be callable"),
    (lambda: rw.Custom(lambda t: math.nan)(3), "its value must be a finite number, got nan"),
    (lambda: rw.register(3), "register: needs a function"),
    (lambda: rw.cyclical(0.2, 0.1), "cyclical: low must be at most high, got 0.2 and 0.1"),
    (lambda: rw.cyclical(0.1, 0.2, mode="exp"), "unknown mode 'exp'. Did you mean 'exp_range'"),
    (lambda: rw.one_cycle("x"), "one_cycle: peak must be a finite number, got 'x'"),
    (lambda: rw.noam(0.1, 0), "noam: warmup must be an integer of at least 1, got 0"),
    (lambda: rw.multi_step(0.1, 5), "multi_step: milestones must be a list, got 5"),
    (lambda: rw.cyclical("a", "b"), "cyclical: low must be a finite number, got 'a'"),
    (lambda: rw.step_decay(0.1, gamma=-1.0), "step_decay: gamma must be above 0, got -1.0"),
    (lambda: BASE.values("a", 3), "values: start and stop must be integers"),
]


@pytest.mark.parametrize(("call", "match"), MESSAGES, ids=[m[:40] for _, m in MESSAGES])
def test_messages_say_what_is_wrong_and_what_to_write(call: Callable[[], Any], match: str) -> None:
    with pytest.raises(ScheduleError, match=match) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


def test_numpy_scalars_are_accepted_as_numbers_and_lengths() -> None:
    assert rw.Linear(np.float32(0.5), np.int64(0), np.int32(4)) == rw.Linear(0.5, 0.0, 4)
    assert rw.Piecewise(np.array([0.5, 0.25]), np.array([3])) == rw.Piecewise([0.5, 0.25], [3])
    assert rw.epochs(np.float64(0.5)) == rw.epochs(0.5)
    assert rw.Horizon(total_steps=np.int64(5)) == rw.Horizon(total_steps=5)
    assert BASE.warmup(np.int64(0)) is BASE
    assert BASE.warmup(0) is BASE.cooldown(0) is BASE
    assert repr(rw.rex(0.1, alpha=np.float64(0.25))) == 'Ramp(0.1, 0.0, ease="rex(0.25)")'


def test_schedules_cannot_be_changed() -> None:
    for a in (
        BASE,
        rw.Constant(0.1),
        BASE >> BASE,
        2.0 * BASE,
        BASE.repeat(2),
        rw.epochs(1),
        rw.Horizon(total_steps=3),
    ):
        with pytest.raises(AttributeError):
            a.steps = 3  # type: ignore[misc]


def test_errors_are_values_errors_too() -> None:
    assert issubclass(ScheduleError, ValueError)
    assert issubclass(ScheduleError, RatewiseError)


def test_no_field_hides_an_operator() -> None:
    import dataclasses

    operators = {name for name in dir(Schedule) if callable(getattr(Schedule, name))}
    assert {f.name for kind in KINDS.values() for f in dataclasses.fields(kind)} & operators == set()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: 1e308 * rw.Constant(1e308), "the values do not stay finite"),
        (lambda: rw.Constant(1e308) + rw.Constant(1e308), "the values do not stay finite"),
        (lambda: rw.Linear(1e200, 0.0, 5) * rw.Linear(1e200, 1.0, 5), "the values do not stay finite"),
        (lambda: rw.Ramp(1.0, 0.0, 1.5).repeat(3, stretch=0.5), "cycle 1 would last less than one update"),
        (lambda: rw.power_decay(1.0, knee=4, warmup=10), r"warmup must be at most knee \(4\), got 10"),
        (lambda: rw.Greedy(window=10**9), "window must be at most 10000"),
    ],
)
def test_what_would_not_stay_finite_or_small_is_refused(call: Callable[[], Any], match: str) -> None:
    with pytest.raises(ScheduleError, match=match):
        call()


def test_reading_text_warns_of_nothing() -> None:
    assert rw.parse("Constant(1.0)") == rw.Constant(1.0)
    with pytest.raises(ScheduleError):
        rw.parse("Constant(1.0if 2else 3)")
    with pytest.raises(ScheduleError):
        rw.Formula("1.0if t else 3")


def test_a_sigmoid_is_a_formula_whose_exponential_may_overflow() -> None:
    a = rw.Formula("1 / (1 + exp(0.5 * (t - 50)))")
    assert (a(50), a(10**9)) == (0.5, 0.0)
