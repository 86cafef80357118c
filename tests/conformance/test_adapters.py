"""The suite is tested: an adapter made wrong in one way is caught under the right name, and a right one passes.

The adapter needs no framework: its optimizer is ``weight -= rate * gradient``.
"""

import math
import unittest
import warnings

import pytest

import ratewise as rw
from ratewise import Ruled, extend
from ratewise.errors import ScheduleChanged, ScheduleError
from ratewise.testing import LawBroken, adapter_checks, check_adapter, examine, examples


def joined(old, new, t, policy):
    """``extend`` that keeps the rules, which are the same."""
    if isinstance(old, Ruled):
        return Ruled(extend(old.schedule, new.schedule, t, policy), old.rules)
    return extend(old, new, t, policy)


class Loop:
    """A training loop that does everything right."""

    def __init__(self, lr, accumulation, horizon):
        self.given = lr
        self.lr = lr if horizon is None else lr.over(horizon)
        self.accumulation = accumulation
        self.position = self.seen = 0
        self.state = self.lr.init() if isinstance(self.lr, Ruled) else None
        self.last = None

    def rate(self, t):
        return self.lr.at(t, self.lr.factor(self.state)) if isinstance(self.lr, Ruled) else self.lr(t)

    def batch(self):
        self.seen += 1
        return 0.0 if self.seen % self.accumulation else self.update()

    def update(self):
        if getattr(self.lr, "steps", None) and self.position >= self.lr.steps:
            warnings.warn("past the end", stacklevel=2)
        weight = 0.0
        self.last = self.rate(self.position)
        weight -= self.last * 1.0
        self.position += 1
        return -weight

    def attempt(self, fails):
        return 0.0 if fails else self.update()

    def used(self):
        return self.last

    def coming(self):
        return self.rate(self.position)

    def save(self):
        return {
            "position": self.position, "lr": self.lr, "given": self.given, "state": self.state, "last": self.last
        }  # fmt: skip

    def load(self, state, policy=None):
        if state["given"] != self.given and policy is None:
            raise ScheduleChanged("another schedule")
        t = state["position"]
        self.lr = state["lr"] if policy is None else joined(state["lr"], self.lr, t, policy)
        self.position, self.state, self.last = t, state["state"], state["last"]

    def seek(self, t):
        self.position = t

    def change(self, new, policy):
        self.lr = joined(self.lr, new, self.position, policy)

    def observe(self, metric):
        self.state = self.lr.observe(self.state, metric, self.position)


class Harness:
    def __init__(self, run=Loop, **settings):
        self.run = run
        self.__dict__.update(settings)

    def start(self, lr, accumulation=1, horizon=None):
        return self.run(lr, accumulation, horizon)


# -- wrong in one way each --------------------------------------------------------------------------------------------


class OneLate(Loop):
    def rate(self, t):
        return super().rate(t + 1)


class Drifts(Loop):
    def rate(self, t):
        return super().rate(t) * (1 + 1e-12)


class DriftsInLongRuns(Loop):
    def rate(self, t):
        return super().rate(t) * (1 + 1e-6 * (t > 255))


class ClimbsAgain(Loop):
    def rate(self, t):
        n = None if isinstance(self.lr, Ruled) else self.lr.steps
        return self.lr(n - 1 - (t - n) % n) if n and t > n + 2 else super().rate(t)


class RestartsLate(Loop):
    """Reports the rate of a restart one update late, as some trainers do."""

    def used(self):
        return self.rate(max(self.position - 2, 0))


class Shares(Loop):
    """Keeps the position in the class."""

    together = 0

    def __init__(self, *args):
        super().__init__(*args)
        type(self).together = 0

    @property
    def position(self):
        return type(self).together

    @position.setter
    def position(self, t):
        type(self).together = t


class IgnoresTheHorizon(Loop):
    def __init__(self, lr, accumulation, horizon):
        super().__init__(lr, accumulation, None if horizon is None else horizon + 1)


class StopsAt320(Loop):
    def rate(self, t):
        return super().rate(min(t, 320))


class CountsMicroBatches(Loop):
    def batch(self):
        applied = super().batch()
        self.position += applied == 0.0
        return applied


class IgnoresTheAccumulation(Loop):
    def batch(self):
        return self.update()


class HasNoMicroBatches(Loop):
    batch = property()


class CountsSkipped(Loop):
    def attempt(self, fails):
        self.position += fails
        return super().attempt(fails)


class CountsSkippedFirst(Loop):
    def attempt(self, fails):
        self.position += fails and self.position == 0
        return super().attempt(fails)


class AttemptsNothing(Loop):
    def attempt(self, fails):
        return 0.0


class SkipsNothing(Loop):
    def attempt(self, fails):
        return self.update()


class SinglePrecision(Loop):
    def rate(self, t):
        return super().rate(t if t < 2**24 else 2 * (t // 2))


class ReportsTheNext(Loop):
    def used(self):
        return self.coming()


class ReportsTheLast(Loop):
    def coming(self):
        return self.last or super().coming()


class MovesWhenAsked(Loop):
    def coming(self):
        self.position += self.position == 7
        return super().coming()


class ForgetsPosition(Loop):
    def load(self, state, policy=None):
        super().load({**state, "position": 0}, policy)


class SavesOneLate(Loop):
    def save(self):
        return {**super().save(), "position": self.position + (self.position == 11)}


class MovesWhenSaved(Loop):
    def save(self):
        saved = super().save()
        self.position += 1
        return saved


class AddsUpWhenLoaded(Loop):
    def load(self, state, policy=None):
        before = self.position
        super().load(state, policy)
        self.position += before


class TakesFromTheState(Loop):
    def load(self, state, policy=None):
        super().load(state, policy)
        state["position"] = 0


class OnlyGoesOn(Loop):
    def load(self, state, policy=None):
        super().load({**state, "position": max(state["position"], self.position)}, policy)


class TakesAnything(Loop):
    def load(self, state, policy=None):
        super().load(state, policy or "switch")


class RefusesTooLate(Loop):
    def load(self, state, policy=None):
        t, self.position = self.position, state["position"]
        super().load(state, policy)
        assert t >= 0


class AlwaysSwitches(Loop):
    def load(self, state, policy=None):
        super().load(state, policy and "switch")

    def change(self, new, policy):
        super().change(new, "switch")


class AlwaysKeeps(Loop):
    def load(self, state, policy=None):
        super().load(state, policy and "keep")

    def change(self, new, policy):
        super().change(new, "keep")


class ForgetsTheChange(Loop):
    def save(self):
        return {**super().save(), "lr": self.given}


class SecondChangeLost(Loop):
    def change(self, new, policy):
        if self.lr == self.given:
            super().change(new, policy)


class LoadForgetsHeldPlan(Loop):
    def load(self, state, policy=None):
        super().load({**state, "lr": state["given"]} if policy else state, policy)


class CannotBeWritten(Loop):
    def save(self):
        return {**super().save(), "run": lambda: self}


class IsItsOwnState(Loop):
    """The state of a run is the run: right from a file, wrong for a run that goes on."""

    def save(self):
        return self

    def load(self, state, policy=None):
        super().load(Loop.save(state), policy)


class ChangeForgetsRules(Loop):
    def change(self, new, policy):
        super().change(new, policy)
        self.state = self.state and self.lr.init()


class ChangeLeavesTheRulesOut(Loop):
    def change(self, new, policy):
        super().change(new, policy)
        self.lr, self.state = getattr(self.lr, "schedule", self.lr), None

    def observe(self, metric):
        if self.state:
            super().observe(metric)


class OnlyFirstRule(Loop):
    def observe(self, metric):
        _, *others = self.state
        super().observe(metric)
        self.state = (self.state[0], *others)


class PolicyLoadDropsRuleState(Loop):
    def load(self, state, policy=None):
        super().load(state, policy)
        if policy and self.state:
            self.state = self.given.init()


class RefusalLosesRules(Loop):
    def load(self, state, policy=None):
        self.state = self.state and self.given.init()
        super().load(state, policy)


class CutsLate(Loop):
    def observe(self, metric):
        before = self.state
        super().observe(metric)
        self.state, self.later = getattr(self, "later", before), self.state


class ForgetsTheRule(Loop):
    def save(self):
        return {**super().save(), "state": self.state and self.given.init()}


class CountsMetrics(Loop):
    def observe(self, metric):
        super().observe(metric)
        self.position += 1


MUTANTS = {
    OneLate: "every schedule is applied exactly",
    Drifts: "every schedule is applied exactly",
    DriftsInLongRuns: "a long run is applied exactly",
    StopsAt320: "a long run is applied exactly",
    ClimbsAgain: "past the end the end value is held",
    RestartsLate: "a restart comes at its own update",
    Shares: "two runs do not disturb each other",
    IgnoresTheHorizon: "an open schedule takes the length of the run",
    CountsMicroBatches: "accumulation counts updates and not micro batches",
    IgnoresTheAccumulation: "accumulation counts updates and not micro batches",
    HasNoMicroBatches: "accumulation counts updates and not micro batches",
    AttemptsNothing: "an update that is skipped does not count",
    SkipsNothing: "an update that is skipped does not count",
    CountsSkipped: "an update that is skipped does not count",
    CountsSkippedFirst: "a run that begins with skipped updates begins at update 0",
    SinglePrecision: "the rate far on is that of its update",
    ReportsTheNext: "what it reports as used was applied",
    ReportsTheLast: "what it reports as coming is applied next",
    MovesWhenAsked: "asking changes nothing",
    ForgetsPosition: "killed again and again it goes on with the same rates",
    SavesOneLate: "killed at any update it goes on with the same rates",
    MovesWhenSaved: "a run that was saved goes on as before",
    AddsUpWhenLoaded: "loading twice is loading once",
    TakesFromTheState: "a state may be loaded by any number of runs",
    OnlyGoesOn: "a run that had gone on goes back when it is loaded",
    TakesAnything: "a state of another schedule is refused, and nothing is changed",
    RefusesTooLate: "a state of another schedule is refused, and nothing is changed",
    AlwaysSwitches: "changed with 'keep' it goes on as extend says",
    AlwaysKeeps: "changed with 'switch' it goes on as extend says",
    ForgetsTheChange: "changed and then killed it goes on with the same rates",
    SecondChangeLost: "changed a second time it goes on from the first change",
    LoadForgetsHeldPlan: "changed and then loaded into another schedule it goes on from the change",
    CannotBeWritten: "what it saves can be written to a file",
    IsItsOwnState: "a run that had gone on goes back when it is loaded",
    ChangeForgetsRules: "a change of plan leaves the rules as they are",
    ChangeLeavesTheRulesOut: "a change of plan leaves the rules as they are",
    OnlyFirstRule: "several rules all act",
    PolicyLoadDropsRuleState: "loaded into another schedule the rules are as they were",
    RefusalLosesRules: "a state of another schedule that is refused leaves the rules as they are",
    CutsLate: "a rule acts right after the evaluation that decides it",
    ForgetsTheRule: "a rule that is killed while it waits decides the same",
    CountsMetrics: "a metric is no update",
}
POLICIES = ("keep", "switch", "stretch", "replan", "rewarm(3)")
CHECKS = adapter_checks()
LEAST = (
    "every schedule is applied exactly",
    "past the end the end value is held",
    "a long run is applied exactly",
    "a restart comes at its own update",
    "two runs do not disturb each other",
)


def test_a_loop_that_is_right_passes_and_offers_everything():
    report = check_adapter(Harness())
    assert set(report.held) == {str(check) for check in CHECKS}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_what_is_wrong_is_caught_by_name(mutant):
    assert MUTANTS[mutant] in examine(CHECKS, Harness(mutant)).broken


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("done", ["changed with", "loaded into another schedule with"])
def test_another_policy_is_caught(policy, done):
    wrong = AlwaysKeeps if policy == "switch" else AlwaysSwitches
    broken = examine(CHECKS, Harness(wrong)).broken
    assert f"{done} {policy!r} it goes on as extend says" in broken


def test_every_check_has_a_mutant():
    tried = {*MUTANTS.values(), "what it lacks are names of checks"}
    names = {str(check) for check in CHECKS}
    assert {name for name in names - tried if not name.endswith("as extend says")} == set()
    assert {name for name in names if name.endswith("as extend says")} == {
        f"{done} {policy!r} it goes on as extend says"
        for policy in POLICIES
        for done in ("changed with", "loaded into another schedule with")
    }


class Least:
    """All that an adapter must offer."""

    def __init__(self, lr):
        self.lr, self.t = lr, -1

    def update(self):
        self.t += 1
        return self.lr(self.t)


class LeastHarness:
    def start(self, lr):
        return Least(lr)


def test_what_is_not_there_is_reported_as_not_offered():
    report = examine(CHECKS, LeastHarness())
    assert report.good
    assert report.held == (*LEAST, "what it lacks are names of checks")
    assert len(report.held) + len(report.not_offered) == len(CHECKS)
    assert report.not_offered["an update that is skipped does not count"] == "the run has no attempt()"
    assert report.not_offered["accumulation counts updates and not micro batches"] == "start() has no accumulation="
    assert "not offered  a metric is no update: the run has no observe()" in str(report).splitlines()


def test_what_is_not_offered_is_a_skipped_test_for_every_runner():
    (check,) = [check for check in CHECKS if check.name == "a metric is no update"]
    with pytest.raises(unittest.SkipTest, match=r"the run has no observe\(\)"):
        check(LeastHarness())


def test_what_cannot_hold_is_declared_with_the_reason():
    name = "an update that is skipped does not count"
    report = examine(CHECKS, Harness(CountsSkipped, lacks={name: "it has no overflow"}))
    assert report.not_offered == {name: "it has no overflow"}
    with pytest.raises(
        LawBroken, match=r"'an update that is skiped' is not the name of a check. Did you mean 'an upda"
    ):
        check_adapter(Harness(lacks={"an update that is skiped": "?"}))


def test_what_every_adapter_must_do_cannot_be_excused():
    excuses = {str(check): "because" for check in CHECKS if str(check) != "what it lacks are names of checks"}
    report = examine(CHECKS, Harness(OneLate, lacks=excuses))
    assert set(report.broken) == {*LEAST, "what it lacks are names of checks"}
    (check,) = [check for check in CHECKS if check.name == "what it lacks are names of checks"]
    with pytest.raises(LawBroken, match="'a long run is applied exactly' must hold for every adapter"):
        check(Harness(lacks={"a long run is applied exactly": "it takes time"}))


def test_no_schedules_are_no_examination():
    with pytest.raises(ScheduleError, match="adapter_checks: schedules must have at least one schedule, got an empty"):
        check_adapter(Harness(OneLate), {})


@pytest.mark.parametrize("wrong", [SecondChangeLost, LoadForgetsHeldPlan, OnlyFirstRule, RefusalLosesRules])
def test_no_other_check_would_have_noticed(wrong):
    assert list(examine(CHECKS, Harness(wrong)).broken) == [MUTANTS[wrong]]


def test_a_state_that_cannot_be_written_is_told_what_to_be():
    broken = examine(CHECKS, Harness(CannotBeWritten)).broken["what it saves can be written to a file"]
    assert broken.startswith("what save() returned cannot be pickled (")
    assert broken.endswith("Let it return numbers, texts and arrays, or what the framework writes to a file.")


def test_tolerances_are_those_of_the_harness():
    assert "every schedule is applied exactly" in examine(CHECKS, Harness(Drifts)).broken
    assert examine(CHECKS, Harness(Drifts, relative=1e-11)).good


class NotANumber(Loop):
    def rate(self, t):
        return math.nan


def test_nan_is_never_within_a_tolerance():
    broken = examine(CHECKS, Harness(NotANumber, relative=1.0, absolute=1.0)).broken
    assert "every schedule is applied exactly" in broken


def test_schedules_of_ones_own_can_be_given():
    mine = {"mine": rw.Linear(0.1, 0.0, 400)}
    with pytest.raises(LawBroken, match=r"under 'mine' the rate applied is .*, the schedule says") as caught:
        check_adapter(Harness(DriftsInLongRuns), mine)
    assert caught.value.at == 256
    assert check_adapter(Harness(), {**examples(), **mine}).good


def test_a_failure_names_the_check_the_update_and_both_rates():
    with pytest.raises(LawBroken) as caught:
        check_adapter(Harness(OneLate))
    error = caught.value
    assert str(error).startswith("every schedule is applied exactly: at update 0 under 'recipe time_based' the rate ")
    assert str(error).endswith(f" is {error.found!r}, the schedule says {error.expected!r}.")
