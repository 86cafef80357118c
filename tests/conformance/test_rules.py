"""Every rule obeys the laws of rules, in every dialect; what does not is named."""

from dataclasses import dataclass

import jax.numpy  # noqa: F401  # so that rules are tried on its arrays
import numpy as np
import pytest
import tensorflow  # noqa: F401
import torch  # noqa: F401

from ratewise import Greedy, NewBob, Plateau, epochs
from ratewise.core.rules import RULES
from ratewise.testing import LawBroken, check_rule, examine, rule_checks

QUICK = rule_checks(libraries=("numpy",))
DIALECTS = [(kind, like) for kind in RULES.values() for like in kind._dialects]


def test_a_rule_obeys_the_laws_in_every_array_library():
    report = examine(rule_checks(), Plateau(0.5, 2, window=2, cooldown=1))
    assert report.broken == report.not_offered == {}


@pytest.mark.parametrize("rule", [Plateau(0.5, 2), Greedy(0.5, 2, window=3), NewBob()], ids=repr)
def test_every_rule_obeys_them_in_arrays(rule):
    assert check_rule(rule, libraries=("numpy", "torch")).not_offered == {}


@pytest.mark.parametrize(("kind", "like"), DIALECTS, ids=lambda x: getattr(x, "__name__", x))
def test_every_rule_obeys_them_in_every_dialect(kind, like):
    for rule in (kind(0.5, like=like), kind(0.5, 2, like=like), kind(0.5, 2, like=like, start=7)):
        assert check_rule(rule, libraries=()).not_offered == {}


def test_a_start_that_needs_the_length_of_the_run_is_not_tried():
    report = check_rule(NewBob(start=epochs(1)), libraries=())
    reason = f"its start {epochs(1)!r} is known only for a run"
    assert report.not_offered == {"a metric before its start changes nothing": reason}


@dataclass(frozen=True, repr=False)
class Own(Plateau):
    """A rule of one's own."""


def test_a_rule_of_ones_own_obeys_them_too():
    report = check_rule(Own(0.5, 2), libraries=("numpy",))
    assert set(report.not_offered) == {"it reads back, with a schedule"}


class BeginsLow(Own):
    def init(self):
        return (0.5, *super().init()[1:])


class GrowsItsState(Own):
    def update(self, state, metric, xp=None):
        return (*super().update(tuple(state)[:5], metric, xp), 1.0)


class EndsAtMinus(Own):
    def scale(self, state):
        return state[0] - 0.5


class IgnoresNan(Own):
    def nans(self, state):
        return 0.0


class ChangesTheState(Own):
    def update(self, state, metric, xp=None):
        after = super().update(state, metric, xp)
        if isinstance(state, list):
            state[0] = 0.0
        return after


class RemembersItself(Own):
    def update(self, state, metric, xp=None):
        self.__dict__["seen"] = self.__dict__.get("seen", 0) + 1
        scale, *rest = super().update(state, metric, xp)
        return (scale * (1.0 - 1e-9 * self.__dict__["seen"]), *rest)


class NeedsATuple(Own):
    def update(self, state, metric, xp=None):
        return super().update(state if isinstance(state, tuple) else self.init(), metric, xp)


class NeverWaits(Own):
    @property
    def start(self):
        return 0

    @start.setter
    def start(self, value):
        pass


class Branches(Own):
    def update(self, state, metric, xp=None):
        return super().update(state, metric if metric > 0.5 else 0.5, xp)


class Thaws(Own):
    def __setattr__(self, name, value):
        self.__dict__[name] = value


MUTANTS = {
    BeginsLow: "it begins at scale 1",
    GrowsItsState: "a state is a tuple of numbers, always as many",
    EndsAtMinus: "a scale is finite and at least 0",
    IgnoresNan: "metrics that are not finite are counted",
    ChangesTheState: "runs do not disturb each other",
    RemembersItself: "runs do not disturb each other",
    NeedsATuple: "killed at any evaluation it goes on from JSON",
    NeverWaits: "a metric before its start changes nothing",
    Branches: "numpy arrays of states go as numbers do",
    Thaws: "it cannot be changed",
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_is_wrong_is_caught_by_name(mutant):
    assert MUTANTS[mutant] in examine(QUICK, mutant(0.5, 2)).broken


def test_every_law_has_a_mutant():
    tried = {*MUTANTS.values(), "it reads back, with a schedule", "pickled it is the same"}
    assert {str(check) for check in QUICK} == tried


def test_what_is_read_back_is_compared(monkeypatch):
    monkeypatch.setattr(Plateau, "__repr__", lambda self: "Plateau(0.25, patience=2)")
    monkeypatch.setattr(Plateau, "__reduce__", lambda self: (Plateau, (0.25, 2)))
    broken = examine(rule_checks(libraries=()), Plateau(0.5, 2)).broken
    assert {"it reads back, with a schedule", "pickled it is the same"} <= set(broken)


def test_a_failure_names_law_evaluation_and_both_values():
    with pytest.raises(
        LawBroken, match=r"^metrics that are not finite are counted: at update 5 nans\(state\) is 0\.0,"
    ):
        check_rule(IgnoresNan(0.5, 2), libraries=())


def test_the_arrays_are_those_of_numpy():
    assert isinstance(Plateau(0.5, 2).update(Plateau(0.5, 2).init(), np.ones(2))[0], np.ndarray)
