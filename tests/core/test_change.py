"""Changing a plan in mid-run: the five policies, against numbers worked out elsewhere and against their definitions."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import ratewise as rw
from ratewise.errors import ScheduleError

OLD = rw.Cosine(3e-4, 3e-5, 98_000).warmup(2_000)  # 100,000 updates
NEW = rw.Cosine(3e-4, 3e-5, 148_000).warmup(2_000)  # 150,000
AT = 60_000

SHORT, LONG = rw.Cosine(1.0, 0.1, 8).warmup(2), rw.Linear(0.5, 0.0, 20)


def close(value: float) -> Any:
    return pytest.approx(value, rel=5e-7)  # seven digits are given


def falls(values: list[float]) -> bool:
    return all(b <= a for a, b in pairwise(values))


def test_a_run_of_100_000_extended_to_150_000_by_keep() -> None:
    a = rw.extend(OLD, NEW, AT, "keep")
    assert a(AT) == close(1.265888e-4)
    assert a.values(0, 100_000) == OLD.values(0, 100_000)
    assert set(a.values(100_000, 150_001)) == {3e-5}
    assert a.steps == 150_000


def test_a_run_of_100_000_extended_to_150_000_by_switch() -> None:
    a = rw.extend(OLD, NEW, AT, "switch")
    assert a(AT) == close(2.099739e-4)
    assert a.values(0, AT) == OLD.values(0, AT)
    assert a.values(AT, 150_010) == NEW.values(AT, 150_010)


def test_a_run_of_100_000_extended_to_150_000_by_replan() -> None:
    a = rw.extend(OLD, NEW, AT, "replan")
    assert [a(AT), a(82_500), a(105_000)] == [close(1.265888e-4), close(1.124437e-4), close(7.829439e-5)]
    tail = a.values(AT, 150_010)
    assert falls(tail)
    assert min(tail) == 3e-5 == a(150_000) == a(10**9)


def test_a_run_of_100_000_extended_to_150_000_by_stretch() -> None:
    a = rw.extend(OLD, NEW, AT, "stretch")
    assert [a(AT), a(105_000)] == [close(1.265888e-4), close(5.680916e-5)]
    assert falls(a.values(AT, 150_010))
    slope = (a(AT + 9) - a(AT)) / (OLD(AT + 4) - OLD(AT))
    assert slope == pytest.approx(1, rel=1e-3)  # nine updates of the new run are four of the old
    assert a(150_000) == 3e-5
    assert a.steps == 150_000


def test_a_run_extended_by_rewarm_climbs_in_a_line_to_the_new_plan() -> None:
    a = rw.extend(OLD, NEW, AT, "rewarm(1000)")
    start, top = OLD(AT), NEW(AT + 1000)
    assert a(AT) == pytest.approx(start + (top - start) / 1000, rel=1e-12)
    assert a(AT + 999) == top
    assert a.values(AT + 1000, AT + 1100) == NEW.values(AT + 1000, AT + 1100)


def test_a_lower_peak_from_the_middle_of_the_run() -> None:
    old, new = rw.Cosine(1.0, 0.0, 10), rw.Cosine(0.1, 0.0, 10)
    assert old(5) == pytest.approx(0.5, abs=2e-16)
    a = rw.extend(old, new, 5, "switch")
    assert a(5) == pytest.approx(0.05, rel=1e-15)
    assert a.values(5, 11) == pytest.approx([0.1 * x for x in old.values(5, 11)], abs=1e-13)


def test_a_decay_decided_late_and_twice_from_the_same_point() -> None:
    plan = rw.Constant(1.0).warmup(100)
    one = plan.decay_from(5_000, 1000, shape="1-sqrt")
    assert [one(4_999), one(5_000), one(6_000), one(10**6)] == [1.0, 1.0, 0.0, 0.0]
    assert one(5_500) == pytest.approx(1 - math.sqrt(0.5), abs=1e-15)
    two = plan.decay_from(5_000, 2000)
    assert two(6_000) == pytest.approx(1 - math.sqrt(0.5), abs=1e-15)
    assert two.values(0, 5_000) == one.values(0, 5_000) == plan.values(0, 5_000)
    assert rw.from_dict(one.to_dict()).values(5_500, 6_002) == one.values(5_500, 6_002)


@pytest.mark.parametrize("policy", ["keep", "switch", "stretch", "replan", "rewarm(3)"])
@pytest.mark.parametrize("at", [0, 1, 2, 5, 9])
def test_what_has_happened_stays_as_it_was(policy: str, at: int) -> None:
    a = rw.extend(SHORT, LONG, at, policy)
    assert a.values(0, at) == SHORT.values(0, at)
    assert a.steps == LONG.steps
    if policy in ("keep", "stretch", "replan"):
        assert a(at) == SHORT(at)
    assert rw.parse(repr(a)) == a


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_stretch_ends_where_the_new_plan_ends(n: int, m: int, data: Any) -> None:
    at = data.draw(st.integers(0, min(n, m) - 1))
    old, new = rw.Linear(1.0, 0.25, n), rw.Linear(0.5, 0.0, m)
    a = rw.extend(old, new, at, "stretch")
    for t in range(at, m + 3):
        done = min(at + (t - at) * (n - at) / (m - at), n)
        assert a(t) == pytest.approx(1 - 0.75 * done / n, abs=1e-12)
    assert a(m) == 0.25
    assert a.steps == m


def test_the_ease_of_replan_is_that_of_the_last_ramp_of_the_new_plan() -> None:
    assert rw.extend(SHORT, rw.Constant(1.0, 5) >> rw.Ramp(1.0, 0.0, 5, ease="1-sqrt"), 4, "replan") == (
        SHORT.until(4) >> rw.Ramp(SHORT(4), 0.0, 6, ease="1-sqrt")
    )
    assert "Linear" in repr(rw.extend(SHORT, rw.Exponential(1.0, 0.5, steps=20), 4, "replan"))


def test_a_line_at_the_end_of_the_new_plan_is_its_last_ramp() -> None:
    new = rw.Cosine(0.0, 1.0, 10) >> rw.Linear(1.0, 0.0, 90)
    assert rw.extend(rw.Linear(1.0, 0.0, 50), new, 20, "replan") == (
        rw.Linear(1.0, 0.0, 50).until(20) >> rw.Linear(0.6, 0.0, 80)
    )


def test_a_scale_of_one_moves_no_joint() -> None:
    a = (rw.Linear(1.0, 0.5, 13) + rw.InverseTime(0.5, 0.1, steps=21).until(18.81)) >> rw.Linear(0.9, 0.0, 31)
    assert a.scaled_from(18, 1.0).values(0, 60) == a.values(0, 60)


def test_scaled_again_and_again_stays_flat() -> None:
    a = rw.Cosine(1.0, 0.0, 1000).warmup(10)
    for t in range(100, 900, 8):
        a = a.scaled_from(t, 0.999)
    assert a(950) == pytest.approx(0.999**100 * rw.Cosine(1.0, 0.0, 1000)(940), rel=1e-12)
    assert a(50) == rw.Cosine(1.0, 0.0, 1000)(40)
    assert rw.parse(repr(a)) == a


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            (SHORT, LONG, 5, "rescale"),
            r"policy must be one of keep, switch, stretch, replan, rewarm\(n\), got 'rescale'",
        ),
        ((SHORT, LONG, 5, "rewarm"), r"rewarm needs a number of updates, for example 'rewarm\(1000\)'"),
        ((SHORT, LONG, 5, "rewarm(0)"), r"rewarm needs a number"),
        ((SHORT, LONG, 5, "rewarm(-3)"), r"rewarm needs a number"),
        ((SHORT, LONG, 5, None), "policy must be one of"),
        ((SHORT, LONG, 20, "keep"), "at=20 must lie inside the new length, 20"),
        ((SHORT, LONG, 18, "rewarm(3)"), r"at=18 \+ 3 must lie inside"),
        ((SHORT, LONG, -1, "keep"), "at must be an integer of at least 1, got -1"),
        ((SHORT, LONG, 1.5, "keep"), "at must be an integer"),
        ((SHORT, LONG, True, "keep"), "at must be an integer"),
        ((SHORT, rw.Constant(0.1), 5, "stretch"), "'stretch' needs a new schedule with an end"),
        ((SHORT, rw.Constant(0.1), 5, "replan"), "'replan' needs a new schedule with an end"),
        ((rw.Constant(0.1), LONG, 5, "stretch"), "'stretch' needs an old schedule that has not ended"),
        ((SHORT, LONG, 12, "stretch"), "'stretch' needs an old schedule that has not ended"),
        ((0.1, LONG, 5, "keep"), "old must be a Schedule, got 0.1"),
        ((SHORT, rw.Cosine(1.0, 0.0), 5, "keep"), "its length is not known yet"),
    ],
)
def test_a_change_that_cannot_be_is_refused(arguments: Any, match: str) -> None:
    with pytest.raises(ScheduleError, match=match):
        rw.extend(*arguments)


def test_keep_and_switch_need_no_end() -> None:
    assert rw.extend(SHORT, rw.Constant(0.1), 5, "keep").values(0, 12) == SHORT.values(0, 12)
    assert rw.extend(SHORT, rw.Constant(0.1), 5, "switch")(7) == 0.1
