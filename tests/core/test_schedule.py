"""What the operators and the printed forms promise, case by case."""

import math

import pytest
from hypothesis import given, strategies as st

import ratewise as rw
from ratewise.core.checks import shown
from ratewise.core.schedule import Cooldown, Ramp, Repeat, Sequence, Stairs
from ratewise.errors import MissingDependency, ScheduleDetached, ScheduleError, nearest

A = rw.Linear(1.0, 0.0, 4)


def test_steps_add_up() -> None:
    assert (A >> A.until(2) >> A.after(1)).steps == 9
    assert A.repeat(3).steps == 12
    assert A.repeat(3, stretch=2.0).steps == 28
    assert A.repeat().steps is None
    assert A.stretch(2.5).steps == 10
    assert A.stretch(1.1).steps == 4.4
    assert rw.Linear(1.0, 0.0, 10).stretch(1.1).steps == 11
    assert type(rw.Linear(1.0, 0.0, 10).stretch(1.1).steps) is int
    assert A.stairs(3).steps == A.clip(0.0).steps == (2 * A).steps == 4
    assert rw.Constant(0.1).steps is None
    assert rw.Linear(0.1, 0.0).steps is None
    assert (rw.Linear(0.1, 0.0) >> A).steps is None


def test_chains_are_stored_flat_and_nothing_else_is_normalised() -> None:
    assert len(((A >> A) >> (A >> A)).pieces) == 4  # type: ignore[attr-defined]
    assert 2 * (3 * A) != 6 * A
    assert 1 * A != A
    assert A.stretch(1.0) != A
    assert A * 2 != 2 * A
    assert A >> A * 2 == A >> (A * 2)


@pytest.mark.parametrize(
    "text",
    [
        "Linear(1.0, 0.0, 4)",
        'Linear(0.0, 1.0, 4, ends="(]")',
        "Polynomial(1.0, 0.0, 4, power=2.0)",
        'Ramp(1.0, 0.0, fraction(0.5), ease="1-sqrt")',
        "Cosine(1.0, 0.0)",
        "Exponential(0.1, 0.5, every=epochs(3))",
        "Piecewise([0.1, 0.01], [epochs(30)])",
        "2.0 * (3.0 * Constant(0.1))",
        "2.0 * Constant(0.1) * 3.0",
        "(Constant(0.1) + 1.0) * Constant(0.2)",
        "0.5 * Linear(1.0, 0.0, 4) >> Constant(0.0)",
        "0.5 * (Linear(1.0, 0.0, 4) >> Constant(0.0))",
        "(Linear(1.0, 0.0, 4) >> Constant(0.0)).clip(0.1, high=0.5)",
        "Linear(1.0, 0.0, 4).repeat(3, stretch=2.0, gamma=0.5).stretch(2.0)",
        "Exponential(0.1, 0.5).cooldown(10, end=0.01, shape='cosine')",
        "sequence(Linear(1.0, 0.0, 4))",
        "samples(3)",
    ],
)
def test_what_is_printed_is_what_was_written(text: str) -> None:
    assert repr(eval(text, vars(rw))) == text


def test_long_chains_print_as_a_sequence() -> None:
    assert repr(rw.sequence(*[A] * 101)).startswith("sequence(Linear(1.0, 0.0, 4), ")
    assert repr(rw.sequence(*[A] * 100)).count(" >> ") == 99


def test_warmup_and_cooldown_expand_at_once_where_the_joint_is_known() -> None:
    assert isinstance(A.warmup(3), Sequence)
    assert A.warmup(3).steps == 7
    assert rw.Constant(0.1).cooldown(5) == rw.Constant(0.1) >> Ramp(0.1, 0.0, 5, ease="1-sqrt")
    assert isinstance(rw.InverseTime(0.1, 1.0).cooldown(5), Cooldown)


def test_leaving_a_schedule() -> None:
    a = A.decay_from(2, 4, end=0.1, shape="linear")
    assert a.values(0, 7) == pytest.approx([1.0, 0.75, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert A.decay_from(0, 2) == Ramp(1.0, 0.0, 2, ease="1-sqrt")
    assert A.scaled_from(2, 0.5).values(0, 4) == [1.0, 0.75, 0.25, 0.125]
    assert A.scaled_from(0, 0.5) == 0.5 * A


def test_a_thousand_operands_are_too_many() -> None:
    a = rw.sequence(A)
    for _ in range(400):
        a = a * 1.0
    assert eval(repr(a), vars(rw)) == a
    with pytest.raises(ValueError, match="at most 500 operands"):
        a * a


def test_ten_thousand_pieces_evaluate_in_any_order() -> None:
    import numpy as np

    a = rw.sequence(*(rw.Linear(1.0, 0.5, 3 + n % 5) for n in range(10_000)))
    t = np.random.default_rng(0).integers(0, a.steps, 2000)
    assert a(t).tolist() == [a(x) for x in t.tolist()]


def test_tables_and_curves_are_text() -> None:
    table = rw.Linear(0.1, 0.0, 100).table(3)
    assert table == "update  value\n     0  0.1\n    50  0.05\n   100  0"
    curve = rw.cosine(0.1, steps=1000).warmup(100).plot(width=30, height=5)
    assert [line[:5] for line in curve.splitlines()] == ["0.1 ┤", "    ┤", "    ┤", "    ┤", "  0 ┤", "    └", "     "]
    assert max(map(len, curve.splitlines())) <= 35
    assert curve.splitlines()[-1].split() == ["0", "update", "1099"]
    assert rw.Constant(0.1).plot(steps=5)
    assert rw.Constant(-0.1, 1).plot()
    assert rw.Constant(0.1).table().splitlines()[-1].split() == ["1000", "0.1"]


def test_classes_of_the_algebra_say_what_they_hold() -> None:
    assert A.repeat(3) == Repeat(A, 3)
    assert A.stairs(3) == Stairs(A, 3)
    assert hash(A.stairs(3)) == hash(Stairs(A, 3))
    assert len({A, rw.Linear(1, 0, 4), rw.Linear(1.0, 0.0, 5)}) == 2


def test_the_nearest_name_is_suggested() -> None:
    assert nearest("lineer_decay", ["linear_decay", "cosine"]) == " Did you mean 'linear_decay'?"
    assert nearest("ADAM", ["adam", "sgd"]) == " Did you mean 'adam'?"
    assert nearest("zzz", ["b", "a"]) == " Known: a, b."
    assert nearest(3, ["b", "a"]) == " Known: a, b."


def test_errors_survive_pickling() -> None:
    import pickle

    detached = pickle.loads(pickle.dumps(ScheduleDetached(0.1, 0.2, "body", "Let go.")))
    assert str(detached) == "group 'body': the schedule intended 0.1, the optimizer holds 0.2. Let go."
    missing = pickle.loads(pickle.dumps(MissingDependency("Keras 3", "keras", "keras adapter")))
    assert str(missing) == 'keras adapter: Keras 3 is not installed. Run: pip install "ratewise[keras]".'


def test_values_in_messages_stay_on_one_short_line() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert len(shown("x" * 500)) == 80
    assert shown(10**5000) == "an integer of 16610 bits"
    assert shown(math.nan) == "nan"


@given(st.integers(1, 400), st.floats(0.1, 9.0))
def test_an_open_schedule_that_is_stretched_fills_the_run_exactly(n, factor):
    whole = rw.Cosine(0.1, 0.0).stretch(factor).over(n)
    assert whole.steps == n
    assert (rw.Cosine(0.1, 0.0).stretch(factor) >> rw.Constant(0.9, 10)).over(n + 10)(n) == 0.9


@pytest.mark.parametrize("base", [rw.Constant(0.1), rw.Piecewise([0.1, 0.2], [3])])
def test_repeating_something_endless_needs_a_run_to_know_its_cycles(base):
    cycles = base.repeat(2)
    with pytest.raises(ScheduleError, match="has no end, so its cycles have no length"):
        cycles(5)
    assert cycles.over(10).steps == 10
    assert cycles.over(10)(7) == base(2)


@pytest.mark.parametrize("t", [100, 150])
def test_scaled_from_works_where_the_end_value_is_held(t):
    schedule = rw.Linear(0.1, 0.01, 100).scaled_from(t, 2.0)
    assert [schedule(x) for x in (99, t - 1, t, t + 50)] == [rw.Linear(0.1, 0.01, 100)(99), schedule(t - 1), 0.02, 0.02]


@pytest.mark.parametrize("n", [1, 99, 100, 101, 500])
def test_until_and_after_make_the_whole_again_even_past_the_end(n):
    a = rw.Linear(0.1, 0.01, 100)
    again = a.until(n) >> a.after(n)
    assert [again(t) for t in range(600)] == [a(t) for t in range(600)]
    assert (a.until(n) >> a.after(n)).over(700)(650) == 0.01
