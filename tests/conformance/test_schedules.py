"""Every kind of schedule that Ratewise has obeys the laws, and so do one's own; what does not is named."""

from dataclasses import dataclass
from fractions import Fraction

import jax.numpy  # noqa: F401  # so that schedules are tried on its arrays
import numpy as np
import pytest
import tensorflow  # noqa: F401
import torch  # noqa: F401

import ratewise as rw
from ratewise.errors import ScheduleError
from ratewise.testing import LawBroken, NotOffered, check_schedule, examine, examples, schedule_checks
from ratewise.testing.examples import SHAPES

QUICK = schedule_checks(libraries=("numpy", "torch"))
FULL = schedule_checks()
EXAMPLES = examples()
OPEN = {name: lr for name, lr in examples(None).items() if list(lr._missing())}


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - set(SHAPES)))
def test_every_example_obeys_the_laws(name):
    for check in QUICK:
        check(EXAMPLES[name])


@pytest.mark.parametrize("name", SHAPES)
def test_every_class_obeys_the_laws_in_every_array_library(name):
    report = examine(FULL, EXAMPLES[name])
    assert report.broken == report.not_offered == {}


@pytest.mark.parametrize("name", OPEN)
def test_an_open_schedule_obeys_them_for_a_run(name):
    assert check_schedule(OPEN[name], horizon=20, libraries=()).not_offered == {}


def test_momentum_may_be_any_number():
    swing = rw.Linear(0.1, -0.1, 10)
    assert check_schedule(swing, rate=False, libraries=()).good
    with pytest.raises(LawBroken, match=r"^a rate is at least 0: at update 6 it gives -0\.01"):
        check_schedule(swing, libraries=())


@rw.register
def known(t):
    return 0.1 / (1 + t)


def unknown(t):
    return 0.1 / (1 + t)


def test_a_registered_function_can_do_everything():
    assert check_schedule(known).not_offered == {}
    assert check_schedule(rw.Custom(known, steps=9), libraries=()).not_offered == {}


def test_a_function_that_is_not_registered_lacks_what_reads_text():
    reason = "conformance.test_schedules:unknown is not marked with @ratewise.register"
    report = check_schedule(unknown, libraries=("numpy",))
    lacking = {name: why.removeprefix("tests.") for name, why in report.not_offered.items()}
    assert lacking == dict.fromkeys(("parse reads its repr", "from_dict reads its dictionary"), reason)


def test_a_function_inside_another_cannot_be_read_back():
    report = check_schedule(lambda t: 0.1 / (1 + t), libraries=("numpy",))
    assert set(report.not_offered) == {
        "its repr is the expression that makes it",
        "parse reads its repr",
        "from_dict reads its dictionary",
        "pickled and copied it is the same",
    }


@dataclass(frozen=True, repr=False)
class Sawtooth(rw.Schedule):
    """A class of one's own: falls from ``high`` again and again."""

    high: float
    every: int

    def at(self, t, xp):
        return self.high * (1.0 - xp.real(xp.maximum(t, 0) % self.every) / self.every)

    def _exact(self, horizon):
        return None


@dataclass(frozen=True, repr=False)
class Slope(rw.Schedule):
    """A class of one's own that has an end."""

    steps: int

    def at(self, t, xp):
        return 1.0 - 0.5 * (xp.real(xp.clip(t, 0, self.steps)) / self.steps)

    def _exact(self, horizon):
        return Fraction(self.steps)


@pytest.mark.parametrize("own", [Sawtooth(0.1, 5), Slope(9), Slope(4) >> Sawtooth(0.1, 3)], ids=repr)
def test_a_class_of_ones_own_obeys_them_too(own):
    report = check_schedule(own)
    assert set(report.not_offered) == {"parse reads its repr", "from_dict reads its dictionary"}


def test_what_cannot_be_made_is_a_skipped_test_for_every_runner():
    (check,) = [check for check in QUICK if check.name == "from_dict reads its dictionary"]
    with pytest.raises(NotOffered, match="classes of ratewise alone, not Slope"):
        check(Slope(9))


def test_a_library_that_is_not_imported_is_asked_for(monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "jax.numpy")
    assert "jax arrays agree with numbers" not in map(str, schedule_checks())
    with pytest.raises(ScheduleError, match=r"jax is not imported. Write import jax\.numpy first"):
        schedule_checks(libraries=("jax",))
    with pytest.raises(ScheduleError, match=r"unknown library 'torhc'. Did you mean 'torch'"):
        schedule_checks(libraries=("torhc",))


# -- what the suite must notice ------------------------------------------------------------------------------------


class Broken(Slope):
    """A slope over 9 updates with one thing wrong."""

    def __init__(self):
        super().__init__(9)

    def __reduce__(self):
        return type(self), ()

    def _text(self):
        return f"{type(self).__name__}()"

    def to_dict(self):
        return {"type": type(self).__name__}


class ClimbsAgain(Broken):
    def at(self, t, xp):
        return 0.5 + 0.5 * xp.abs(1.0 - xp.real(xp.maximum(t, 0)) / 9)


class GoesOnBeforeZero(Broken):
    def at(self, t, xp):
        return 1.0 - 0.5 * (xp.real(xp.minimum(t, 9)) / 9)


class TakesNan(Broken):
    def __call__(self, t):
        return 0.5 if isinstance(t, float) and t != t else super().__call__(t)


class IsNanOnce(Broken):
    def at(self, t, xp):
        return xp.where(t == 4, np.nan, super().at(t, xp)) if hasattr(xp, "where") else np.nan if t == 4 else 0.5


class ValuesOneLate(Broken):
    def values(self, start, stop):
        return super().values(start + 1, stop + 1)


class ValuesRounded(Broken):
    def values(self, start, stop):
        return [round(x, 12) for x in super().values(start, stop)]


class ValuesTooFew(Broken):
    def values(self, start, stop):
        return super().values(max(start, 0), stop)


class CountsCalls(Broken):
    def at(self, t, xp):
        self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
        return super().at(t, xp) + 1e-9 * self.__dict__["calls"]


class WholeNumbersDiffer(Broken):
    def at(self, t, xp):
        return super().at(t, xp) + (1e-9 if isinstance(t, int) else 0.0)


class ArraysDiffer(Broken):
    def at(self, t, xp):
        return super().at(t, xp) * (1.0 if getattr(xp, "module", None) is None else 1.00001)


class ArraysLoseTheirShape(Broken):
    def at(self, t, xp):
        value = super().at(t, xp)
        return value.reshape(-1) if isinstance(value, np.ndarray) else value


class AfterForgets(Broken):
    def after(self, steps):
        return self


class UntilIsLonger(Broken):
    def until(self, steps):
        return super().until(steps + 1)


class ThenOverlaps(Broken):
    def then(self, other):
        return self.until(8) >> other


class NotScaled(Broken):
    def __rmul__(self, other):
        return self


class AddsTwice(Broken):
    def __add__(self, other):
        return super().__add__(2 * other)


class StretchesTheWrongWay(Broken):
    def stretch(self, factor):
        return super().stretch(1 / factor)


class ScaledFromTheStart(Broken):
    def scaled_from(self, t, factor):
        return super().scaled_from(0, factor)


class DecaysLate(Broken):
    def decay_from(self, t, steps, end=0.0, shape="1-sqrt"):
        return super().decay_from(t + 1, steps, end, shape)


class WrongRepr(Broken):
    def _text(self):
        return "Constant(0.1)"


class WrongDictionary(Broken):
    def to_dict(self):
        return {"high": object()}


class WrongPickle(Broken):
    def __reduce__(self):
        return rw.Linear, (1.0, 0.5, 9)


class EqualToAll(Broken):
    def __eq__(self, other):
        return True

    __hash__ = None


class HashesByIdentity(Broken):
    def __hash__(self):
        return id(self)


class Mutable(rw.Schedule):
    steps = None

    def __init__(self):
        self.high = 0.1

    def at(self, t, xp):
        return xp.full(t, self.high)

    def _exact(self, horizon):
        return None


MUTANTS = {
    ClimbsAgain: "from its length on the end value is held",
    GoesOnBeforeZero: "before 0 the value is that of update 0",
    TakesNan: "a position of nan is refused",
    IsNanOnce: "every value is a finite float",
    ValuesOneLate: "values() is what calls give",
    ValuesRounded: "values() is what calls give",
    ValuesTooFew: "values() is what calls give",
    CountsCalls: "asked again, in any order, it gives the same",
    WholeNumbersDiffer: "a whole number and the same float give the same",
    ArraysDiffer: "numpy arrays agree with numbers",
    ArraysLoseTheirShape: "numpy arrays agree with numbers",
    AfterForgets: "cut and put together again it is the same",
    UntilIsLonger: "cut and put together again it is the same",
    ThenOverlaps: "followed by another, it is itself and then the other from its own 0",
    NotScaled: "numbers multiply and add pointwise",
    AddsTwice: "numbers multiply and add pointwise",
    StretchesTheWrongWay: "stretched by 2 it takes twice as long",
    ScaledFromTheStart: "scaled from an update on, it is what it was before and scaled after",
    DecaysLate: "left by a decay it comes down from where it was",
    WrongRepr: "its repr is the expression that makes it",
    WrongDictionary: "its dictionary goes through JSON",
    WrongPickle: "pickled and copied it is the same",
    EqualToAll: "equal schedules are equal, and others are not",
    HashesByIdentity: "equal schedules are equal, and others are not",
    Mutable: "it cannot be changed",
}


def test_the_slope_that_is_made_wrong_is_right():
    assert examine(QUICK, Broken()).broken == {}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_what_is_wrong_is_caught_by_name(mutant):
    assert MUTANTS[mutant] in examine(QUICK, mutant()).broken


def test_every_law_has_a_mutant():
    tried = {*MUTANTS.values(), "a rate is at least 0", "parse reads its repr", "from_dict reads its dictionary"}
    assert {str(check) for check in schedule_checks(libraries=("numpy",))} == tried


def test_parse_and_from_dict_are_compared_with_the_schedule(monkeypatch):
    monkeypatch.setattr(rw.Ramp, "_text", lambda self: "Constant(0.1)")
    monkeypatch.setattr(rw.Ramp, "to_dict", lambda self: rw.Constant(0.1).to_dict())
    report = examine(schedule_checks(libraries=()), rw.Cosine(0.1, 0.0, 9))
    assert {"parse reads its repr", "from_dict reads its dictionary"} <= set(report.broken)


def test_a_failure_names_law_position_and_both_values():
    with pytest.raises(LawBroken) as caught:
        check_schedule(ClimbsAgain(), libraries=())
    error = caught.value
    assert str(error) == (
        f"{error.law}: at update 9.5 the value is 0.5277777777777778, the end value is 0.5."
    )  # fmt: skip
    assert (error.law, error.at) == ("from its length on the end value is held", 9.5)
    assert (error.found, error.expected) == (0.5277777777777778, 0.5)


def test_a_function_that_raises_is_broken_and_says_what_was_raised():
    with pytest.raises(LawBroken, match="every value is a finite float: IndexError was raised: list index out of"):
        check_schedule(lambda t: [0.1, 0.05][t], libraries=())


def test_a_class_without_an_evaluation_says_where_that_is_missing():
    class Empty(rw.Schedule):
        pass

    with pytest.raises(LawBroken, match=r"NotImplementedError was raised: in Schedule\.at"):
        check_schedule(Empty(), libraries=())


def test_a_report_shows_every_check_on_a_line():
    report = examine(schedule_checks(libraries=()), lambda t: 0.1 - 0.01 * t)
    assert not report.good
    lines = str(report).splitlines()
    assert "BROKEN       a rate is at least 0: at update 11 it gives -0.009999999999999995." in lines
    assert "holds        every value is a finite float" in lines
    assert lines[-1] == "16 hold, 1 broken, 4 not offered"
