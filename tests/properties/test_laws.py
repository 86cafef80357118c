"""Laws of the algebra, over random trees of schedules."""

import itertools
import json
import math
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings, strategies as st

import ratewise as rw
from ratewise.core.schedule import Ramp, Schedule
from ratewise.errors import ScheduleError

settings.register_profile(
    "laws", max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("laws")

NAMES = {name: getattr(rw, name) for name in dir(rw) if name[0] != "_" and name not in ("compare", "strategy")}

EASES = (
    *(
        "linear",
        "cosine",
        "cosine(2.0)",
        "cosine(0.5)",
        "polynomial",
        "polynomial(2.5)",
        "polynomial(0.5)",
        "power(2.0)",
    ),
    *("1-sqrt", "rex", "rex(0.9)", "sine", "half-cosine", "exponential(0.1)", "exponential(20.0)", "circle", "log"),
    *("circle(3.0)", "tanh(-3.0, 2.0)"),
)
EXACT = ("linear", "1-sqrt", "rex")  # only + - * / and sqrt

rates = st.one_of(st.sampled_from([0.0, 1.0, 0.1, 3e-4]), st.floats(1e-6, 10.0))
lengths = st.one_of(st.integers(1, 8), st.integers(1, 10_000))
positions = st.one_of(st.integers(-3, 60), st.integers(-3, 2**53), st.floats(-10, 1e6), st.floats(allow_nan=False))
typed = st.one_of(
    st.floats(0.01, 1.0).map(lambda x: rw.fraction(round(x, 3))), st.integers(1, 5).map(rw.epochs),
    st.integers(1, 10_000).map(rw.samples), st.integers(1, 10**6).map(rw.tokens),
)  # fmt: skip
ends = st.sampled_from(["[)", "(]", "()", "[]"])


FORMULAS = (
    "1 / (1 + floor(t / 7))",
    "where(t < 5, 0.1 * t, max(0.5, cos(t)))",
    "0.1 * (1 + (t / 50)**2)**-0.25",
    "2.5",
)


def ramps(steps: Any = lengths, eases: Any = EASES) -> Any:
    return st.builds(Ramp, rates, rates, steps, ease=st.sampled_from(eases), ends=ends)


bounded_shapes = st.one_of(
    ramps(),
    ramps(st.floats(0.5, 40.0)),
    st.builds(rw.Constant, rates, lengths),
    st.builds(lambda a, b, n: Ramp(a + 1e-3, b + 1e-3, n, ease="geometric"), rates, rates, lengths),
    st.builds(rw.Exponential, rates, st.floats(0.01, 1.0), lengths, lengths),
    st.builds(rw.InverseTime, rates, rates, lengths, rates, lengths),
    st.builds(rw.Formula, st.sampled_from(FORMULAS), lengths),
)
endless_shapes = st.one_of(
    st.builds(rw.Constant, rates),
    st.builds(rw.Exponential, rates, st.floats(0.01, 1.0), lengths),
    st.builds(rw.InverseTime, rates, rates, lengths),
    st.lists(st.tuples(rates, st.integers(1, 500)), unique_by=lambda x: x[1], max_size=5).map(
        lambda x: rw.Piecewise([1.0, *(v for v, _ in x)], sorted(m for _, m in x))
    ),
)


def extended(inner: Any) -> Any:
    """One operator around schedules with a length."""
    return st.one_of(
        st.tuples(inner, inner).map(lambda x: x[0] >> x[1]),
        st.tuples(inner, inner).map(lambda x: x[0] * x[1]),
        st.tuples(inner, inner).map(lambda x: x[0] + x[1]),
        st.tuples(inner, rates).map(lambda x: x[1] * x[0]),
        st.tuples(inner, rates).map(lambda x: x[0] + x[1]),
        st.tuples(inner, lengths, st.one_of(st.none(), rates)).map(lambda x: x[0].warmup(x[1], start=x[2])),
        st.tuples(inner, lengths, rates).map(lambda x: x[0].cooldown(x[1], x[2])),
        st.tuples(inner, lengths).map(lambda x: x[0].until(x[1])),
        st.tuples(inner, lengths).map(lambda x: x[0].after(x[1]) if x[0].steps > x[1] else x[0]),
        st.tuples(inner, st.integers(1, 4), st.sampled_from([1.0, 2.0, 1.3]), st.sampled_from([1.0, 0.5])).map(
            lambda x: x[0].repeat(*x[1:]) if x[0].steps >= 1 else x[0]
        ),
        st.tuples(inner, st.integers(1, 40)).map(lambda x: x[0].stairs(x[1])),
        st.tuples(inner, st.sampled_from([0.5, 1.0, 1.1, 2.0, 3.7])).map(lambda x: x[0].stretch(x[1])),
        st.tuples(inner, rates, rates).map(lambda x: x[0].clip(min(x[1:]), max(x[1:]))),
        st.tuples(inner, st.integers(1, 500), st.integers(1, 300)).map(lambda x: x[0].along(rw.Linear(0, x[1], x[2]))),
        st.tuples(inner, st.integers(0, 300), st.sampled_from([0.5, 1.5])).map(lambda x: x[0].scaled_from(*x[1:])),
        st.tuples(inner, st.integers(0, 300), lengths, rates).map(lambda x: x[0].decay_from(*x[1:])),
    )


bounded = st.recursive(bounded_shapes, extended, max_leaves=6)
schedules = st.one_of(
    bounded,
    endless_shapes,
    st.tuples(bounded, endless_shapes).map(lambda x: x[0] >> x[1]),
    bounded.map(lambda x: x.repeat() if x.steps >= 1 else x),
    st.tuples(endless_shapes, bounded).map(lambda x: x[0] * x[1]),
    st.tuples(endless_shapes, st.integers(1, 20)).map(lambda x: x[0].stairs(x[1]).stretch(1.5)),
)
unresolved = st.one_of(
    ramps(st.none()),
    ramps(typed),
    st.tuples(ramps(st.none()), ramps(typed)).map(lambda x: x[0] >> x[1]),
    st.tuples(endless_shapes, typed).map(lambda x: x[0].warmup(x[1], start=0.0).cooldown(x[1])),
    st.tuples(rates, typed).map(lambda x: rw.Exponential(x[0], 0.5, x[1]).stairs(x[1])),
    st.tuples(ramps(typed), st.integers(1, 4), st.sampled_from([1.0, 2.0])).map(lambda x: x[0].repeat(x[1], x[2])),
    st.tuples(ramps(st.none()), st.integers(1, 4)).map(lambda x: x[0].repeat(x[1])),
    st.tuples(ramps(typed), ramps(st.none())).map(lambda x: x[0] * x[1]),
    st.tuples(ramps(typed), typed).map(lambda x: x[0].until(x[1])),
    st.tuples(ramps(st.none()), typed).map(lambda x: x[0].stretch(1.3).clip(0.0, 1.0) >> x[0].until(x[1])),
)

RUN = rw.Horizon(
    total_steps=0, epochs=20, dataset_size=1000, batch_size=8, accumulation=2, tokens_per_sample=100
)  # 63 updates to an epoch, 1260 in all


# -- joining and pointwise ---------------------------------------------------------------------------------------


@given(bounded, bounded, schedules, positions)
def test_joining_is_associative(a: Schedule, b: Schedule, c: Schedule, t: float) -> None:
    assert (a >> b) >> c == a >> (b >> c)
    assert hash((a >> b) >> c) == hash(a >> (b >> c))
    assert ((a >> b) >> c)(t) == (a >> (b >> c))(t)


@given(schedules, schedules, schedules)
def test_products_and_sums_are_associative(a: Schedule, b: Schedule, c: Schedule) -> None:
    assert (a * b) * c == a * (b * c)
    assert (a + b) + c == a + (b + c)


@given(bounded, schedules, st.integers(0, 10_000))
def test_the_second_piece_starts_at_its_own_zero(a: Schedule, b: Schedule, t: int) -> None:
    assume(a.steps == int(a.steps))
    assert (a >> b)(a.steps + t) == pytest.approx(b(t), rel=1e-9)  # b may have joints between two updates
    assert (a >> b)(-1) == a(0)
    assert (a >> b)(a.steps - 1) == a(a.steps - 1)


@given(schedules, st.integers(1, 2000), st.integers(-2, 5000))
def test_cutting_and_dropping_is_the_whole(a: Schedule, n: int, t: int) -> None:
    assume(a.steps is None or n < a.steps)
    assert (a.until(n) >> a.after(n))(t) == a(t)
    assert a.until(n).steps == n


@given(schedules, rates, positions)
def test_numbers_keep_the_length_and_act_pointwise(a: Schedule, k: float, t: float) -> None:
    assert (k * a)(t) == pytest.approx(k * a(t), rel=1e-14)  # stored flat, so numbers may be grouped otherwise
    assert (a + k)(t) == a(t) + k
    assert (k * a).steps == a.steps == (a + k).steps


@given(bounded, bounded, positions)
def test_the_shorter_holds_its_end(a: Schedule, b: Schedule, t: float) -> None:
    assert (a * b)(t) == pytest.approx(a(t) * b(t), rel=1e-14)
    assert (a + b)(t) == pytest.approx(a(t) + b(t), rel=1e-14)
    assert (a * b).steps == max(a.steps, b.steps)


@given(schedules, positions, st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.7, 0.07, 1.09]))
def test_stretching_slows_time_down(a: Schedule, t: float, f: float) -> None:
    as_written = Fraction(str(f))
    up, down = float(as_written.denominator), float(as_written.numerator)
    assert a.stretch(f)(t) == a(min(min(max(float(t), 0.0), 2.0**53) * up / down, 2.0**53))


@given(st.integers(1, 10_000), st.integers(1, 500))
def test_a_stretched_joint_is_where_the_decimal_puts_it(joint: int, hundredths: int) -> None:
    f = hundredths / 100
    exact = Fraction(str(f)) * joint
    a = rw.Piecewise([1.0, 0.5], [joint]).stretch(f)
    assert a(math.ceil(exact)) == 0.5
    assert a(math.ceil(exact) - 1) == 1.0
    assert a(np.array([math.ceil(exact) - 1, math.ceil(exact)])).tolist() == [1.0, 0.5]


@given(ramps(st.integers(1, 10**6)), st.booleans())
def test_both_ends_of_a_ramp_are_exact(a: Ramp, many: bool) -> None:
    a = Ramp(a.start, a.end, a.steps, ease=a.ease)
    assert a(0) == a.start
    assert a(a.steps) == a.end
    assert a(np.array([0, a.steps])).tolist() == [a.start, a.end]
    if many:  # as a table
        b = rw.sequence(*[a] * 9)
        assert b(torch.tensor([0, a.steps * 9], dtype=torch.float64)).tolist() == [a.start, a.end]


@given(schedules, st.integers(0, 500), st.sampled_from([0.5, 1.0, 3.0]), st.integers(-3, 1000))
def test_scaling_from_an_update_on_leaves_what_was_before(a: Schedule, at: int, k: float, t: int) -> None:
    assume(a.steps is None or at < a.steps)
    assert a.scaled_from(at, k)(t) == pytest.approx(a(t) if t < at else k * a(t), rel=1e-13)


@given(schedules, st.integers(0, 500), st.integers(1, 300), rates, st.integers(0, 1000))
def test_a_decay_begins_where_it_leaves(a: Schedule, at: int, n: int, end: float, t: int) -> None:
    b = a.decay_from(at, n, end)
    assert b(at) == a(at)
    assert b(at + n + t) == end
    assert b(min(t, at)) == a(min(t, at))
    assert min(a(at), end) <= b(at + t) <= max(a(at), end)


@given(schedules, bounded, positions)
def test_another_clock_is_composition(a: Schedule, clock: Schedule, t: float) -> None:
    assert a.along(clock)(t) == a(clock(t))
    assert a.along(clock).steps == clock.steps


@given(ramps(st.integers(1, 300)), st.integers(-3, 400))
def test_a_ramp_and_its_ends_swapped_mirror_each_other(a: Ramp, t: int) -> None:
    """v(start, end) + v(end, start) = start + end: the same weight, measured from either end."""
    other = Ramp(a.end, a.start, a.steps, ease=a.ease, ends=a.ends)
    assert a(t) + other(t) == pytest.approx(a.start + a.end, rel=1e-13, abs=1e-15)


@given(schedules, schedules, st.sampled_from(["keep", "switch", "rewarm(3)"]), st.integers(0, 60), st.integers(0, 900))
def test_a_change_of_plan_never_changes_what_was(a: Schedule, b: Schedule, policy: str, at: int, t: int) -> None:
    assume(b.steps is None or at + 3 < b.steps)
    assume(a.steps is None or at < a.steps)
    c = rw.extend(a, b, at, policy)
    assert c(min(t, at - 1)) == a(min(t, at - 1)) if at else True
    if policy == "switch":
        assert c(at + t) == b(at + t)
    if policy == "keep" and (b.steps is None or at + t <= b.steps):
        assert c(at + t) == a(at + t)
    if policy == "rewarm(3)":
        assert c(at + 3 + t) == b(at + 3 + t)


# -- totality ----------------------------------------------------------------------------------------------------


@given(schedules, positions)
def test_every_position_has_a_finite_value(a: Schedule, t: float) -> None:
    assert math.isfinite(a(t))
    assert a(min(t, 0)) == a(0)
    assert a(-math.inf) == a(-(10**400)) == a(0)
    assert a(math.inf) == a(10**400) == a(2**53)
    if a.steps is not None:  # a length between two updates is reached, but for rounding, by the next one
        assert a(math.ceil(a.steps) + 1 + abs(t)) == a(math.inf)


@given(ramps(), positions)
def test_a_ramp_stays_between_its_ends_and_reaches_its_end(a: Ramp, t: float) -> None:
    assert min(a.start, a.end) <= a(t) <= max(a.start, a.end)
    assert a(a.steps) == a.end


@given(ramps(st.integers(1, 300)))
def test_a_ramp_never_turns_back(a: Ramp) -> None:
    values = [a(t) for t in range(a.steps + 1)]  # type: ignore[operator,arg-type]
    steps = [y - x for x, y in itertools.pairwise(values)]
    noise = 4 * math.ulp(max(map(abs, values)))
    assert all(s >= -noise for s in steps) if a.start <= a.end else all(s <= noise for s in steps)


# -- round trips -------------------------------------------------------------------------------------------------


@given(st.one_of(schedules, unresolved))
def test_every_round_trip_gives_an_equal_schedule(a: Schedule) -> None:
    assert eval(repr(a), NAMES) == a
    assert rw.parse(repr(a)) == a
    assert rw.from_dict(a.to_dict()) == a
    assert rw.from_dict(json.loads(json.dumps(a.to_dict()))) == a
    again = pickle.loads(pickle.dumps(a))
    assert again == a
    assert hash(again) == hash(a)
    assert repr(again) == repr(a)


# -- lists and arrays --------------------------------------------------------------------------------------------


@given(schedules, st.integers(-5, 50), st.integers(0, 300))
def test_values_are_bit_for_bit_those_of_calls(a: Schedule, start: int, n: int) -> None:
    assert a.values(start, start + n) == [a(t) for t in range(start, start + n)]


exact_schedules = st.recursive(
    ramps(eases=EXACT),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda x: x[0] >> x[1]),
        st.tuples(inner, inner).map(lambda x: x[0] * x[1]),
        st.tuples(inner, st.integers(1, 9)).map(lambda x: x[0].stairs(x[1])),
        st.tuples(inner, st.sampled_from([1.0, 2.0, 1.3])).map(lambda x: x[0].repeat(3, x[1])),
        inner.map(lambda x: x.stretch(1.7).clip(0.1, 0.9)),
    ),
    max_leaves=5,
)
arrays = st.lists(st.one_of(st.integers(-5, 100), st.integers(-5, 2**53)), min_size=1, max_size=20)


@given(exact_schedules, arrays, st.booleans())
def test_numpy_is_bit_for_bit_where_only_arithmetic_is_used(a: Schedule, t: list[int], ordered: bool) -> None:
    t = sorted(t) if ordered else t
    assert a(np.array(t)).tolist() == [a(x) for x in t]
    assert a(np.array(t, dtype=float)).tolist() == [a(float(x)) for x in t]


@given(schedules, arrays)
def test_numpy_is_within_a_few_ulp_elsewhere(a: Schedule, t: list[int]) -> None:
    np.testing.assert_allclose(a(np.array(t)), [a(x) for x in t], rtol=5e-15, atol=1e-300)


# -- over a horizon ----------------------------------------------------------------------------------------------


@given(st.one_of(schedules, unresolved), st.sampled_from([RUN, rw.Horizon(total_steps=700), 37, 1]))
def test_over_settles_every_length_or_says_why_not(a: Schedule, run: Any) -> None:
    total = rw.Horizon.of(run).total_steps
    b: Any
    try:
        b = a.over(run)
    except ScheduleError as error:
        b = str(error)
    if isinstance(b, str):
        assert len(b.splitlines()) == 1
        return
    assert b.steps is not None
    assert b.steps <= total
    assert b.over(run) == b
    assert math.isfinite(b(0) + b(total) + b(-1) + b(10**9))
    assert b.values(0, 50) == [b(t) for t in range(50)]
    if a.steps is not None and not isinstance(a.steps, rw.Length):
        assert b == a
    assert eval(repr(b), NAMES) == b


@given(ramps(st.none()), st.integers(1, 10**9))
def test_an_open_ramp_fills_the_run(a: Ramp, n: int) -> None:
    assert a.over(n).steps == n


@given(st.lists(typed, min_size=1, max_size=6))
def test_joints_are_the_rounded_sums_not_sums_of_rounded_lengths(lengths: list[rw.Length]) -> None:
    exact = [RUN.updates(x) for x in lengths]
    assume(sum(exact) + 1 <= RUN.total_steps)
    assume(min(exact) >= 1)
    pieces = [rw.Linear(1.0, 0.0, x) for x in lengths]
    b = rw.sequence(*pieces, rw.Constant(0.0)).over(RUN)
    joint = 0
    for i, piece in enumerate(b.pieces[:-1], 1):  # type: ignore[attr-defined]
        joint += piece.steps
        assert joint == math.floor(sum(exact[:i]) + 1 / 2)


@pytest.mark.parametrize("depth", [3, 45])
def test_deep_nesting_prints_and_reads_back(depth: int) -> None:
    a: Schedule = rw.Linear(1.0, 0.0, 10)
    for i in range(depth):
        a = [a.clip(0.0, 1.0), 2.0 * (a + 1.0), a >> a.stretch(2.0)][i % 3] if i < 9 else a.clip(0.0, 1.0)
    assert eval(repr(a), NAMES) == a == rw.parse(repr(a)) == rw.from_dict(a.to_dict())
