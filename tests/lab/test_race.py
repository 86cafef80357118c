"""Races and limits, carried out on made-up losses: who is promoted, what is spent, and that limits are kept."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from ratewise.core.shapes import Constant
from ratewise.errors import LabError
from ratewise.lab.catalogue import CATALOGUE, strategy
from ratewise.lab.centres import centred
from ratewise.lab.plan import Budget, Plan, fitted
from ratewise.lab.strategy import Strategy

FACTS = {"description": "", "metric": "accuracy", "batch_size": 16, "examples": 160}
CLASSICAL = tuple(CATALOGUE.values())[:13]


def plan_of(*strategies, steps=300, **budget):
    return Plan("made-up", "0" * 16, steps, strategies or CLASSICAL, Budget(**budget), "population", FACTS)


def carried_out(plan, loss_of):
    results, batches = {}, []
    while pending := plan.pending(results):
        batches.append(pending)
        for run in pending:
            loss = loss_of(run)
            results[run.key] = {"loss": loss, "valid": [loss] * 10, "updates": run.steps}
    return results, batches


def valley(plan, quality, shift=0.4):
    """The best rate falls with the length as a power; a strategy's quality is what it loses at its best rate."""

    def loss_of(run):
        best = plan.centres[run.strategy] * (300 / run.steps) ** shift
        return quality[run.strategy] + 0.02 * math.log2(run.rate / best) ** 2 + 0.0001 * run.seed

    return loss_of


def qualities(plan):
    return {s.name: 1 + 0.01 * i for i, s in enumerate(plan.strategies)}


def test_every_rung_runs_all_its_schedules_to_their_end():
    plan = plan_of(race=True)
    assert plan.lengths == (33, 100, 300)
    _, batches = carried_out(plan, valley(plan, qualities(plan)))
    for batch in batches:
        assert len({run.steps for run in batch}) == 1  # never a finished run beside an unfinished one
    linear = next(run for run in batches[0] if run.strategy == "linear" and run.steps == 33)
    cohorts = [cohort for _, cohort in plan.cohorts({}, "task")]
    pairs = [pair for cohort in cohorts for pair in zip(cohort.runs, cohort.members, strict=True)]
    member = next(member for run, member in pairs if run == linear)
    rates = member.strategy.lr.values(0, 33)
    assert rates[0] == pytest.approx(linear.rate)
    assert rates[-1] < linear.rate / 30
    assert member.strategy.lr(33) == pytest.approx(0.0, abs=1e-12)


def test_the_best_third_and_at_least_three_with_the_controls_reach_full_length():
    plan = plan_of(race=True)
    results, _ = carried_out(plan, valley(plan, qualities(plan)))
    rungs = plan.rungs(results)
    assert [rung.steps for rung in rungs] == [33, 100, 300]
    assert len(rungs[0].choices) == 13
    names = [s.name for s in plan.strategies]
    assert set(rungs[1].choices) == {*names[:3], "linear", "cosine", "adamw"}
    assert set(rungs[2].choices) == {*names[:3], "linear", "cosine", "adamw"}
    assert rungs[1].promoted["linear"] == "control"
    fresh = {s.name for s in plan.strategies if not plan.choice(s, results).dropped}
    assert fresh == set(rungs[2].choices)


def test_a_promoted_strategy_takes_along_its_best_rate_and_half_of_it():
    plan = plan_of(race=True)
    results, _ = carried_out(plan, valley(plan, qualities(plan), shift=0.45))
    first, second, _ = plan.rungs(results)
    for name, choice in second.choices.items():
        best = first.choices[name].best
        assert {best, best / 2} <= set(choice.rates)


def test_a_race_costs_less_than_a_third_of_tuning_everything_at_full_length():
    spent = {}
    for race in (False, True):
        plan = plan_of(race=race)
        _, batches = carried_out(plan, valley(plan, qualities(plan)))
        spent[race] = sum(run.steps for batch in batches for run in batch if run.phase == "tune")
    assert spent[True] <= 0.3 * spent[False]


def test_a_race_of_two_drops_nobody_and_a_short_run_has_no_rungs():
    plan = plan_of(strategy("fixed"), strategy("adam"), race=True)
    results, _ = carried_out(plan, valley(plan, qualities(plan)))
    assert not any(plan.choice(s, results).dropped for s in plan.strategies)
    assert plan_of(race=True, steps=30).lengths == (30,)


def test_a_strategy_that_diverges_in_the_first_rung_is_dropped_and_others_go_on():
    plan = plan_of(race=True)
    sound = valley(plan, qualities(plan))
    results, _ = carried_out(plan, lambda run: None if run.strategy == "fixed" else sound(run))
    choice = plan.choice(plan.strategies[0], results)
    assert (choice.best, choice.dropped, choice.steps) == (None, True, 33)


def test_when_everything_diverges_a_race_ends():
    plan = plan_of(race=True, slides=1)
    results, batches = carried_out(plan, lambda run: None)
    assert {run.steps for batch in batches for run in batch} == {33}
    assert all(plan.choice(s, results).best is None for s in plan.strategies)


@pytest.mark.parametrize("race", [False, True])
def test_cohorts_do_not_depend_on_what_is_finished(race):
    """A comparison that was killed trains the rest of each cohort, and never one that is put together otherwise."""
    plan = plan_of(race=race, steps=90)
    loss_of = valley(plan, qualities(plan))
    results, names = {}, []
    while cohorts := plan.cohorts(results, "task"):
        name, cohort = cohorts[-1]  # the last first: whatever the order
        names.append(name)
        results |= {run.key: {"loss": loss_of(run), "valid": [1.0]} for run in cohort.runs}
    again, undisturbed = {}, []
    while cohorts := plan.cohorts(again, "task"):
        for name, cohort in cohorts:
            undisturbed.append(name)
            again |= {run.key: {"loss": loss_of(run), "valid": [1.0]} for run in cohort.runs}
    assert Counter(names) == Counter(undisturbed)
    assert set(again) == set(results)


@settings(max_examples=30, deadline=None)
@given(
    limit=st.integers(10_000, 400_000), race=st.booleans(), best=st.floats(-12, 12),
    steps=st.sampled_from([30, 60, 200, 300]), count=st.sampled_from([6, 13]),
)  # fmt: skip
def test_a_limit_on_updates_is_kept_wherever_the_best_rates_lie(limit, race, best, steps, count):
    plan = plan_of(*CLASSICAL[:count], steps=steps, race=race, updates=limit)
    try:
        plan = fitted(plan)
    except LabError:
        return
    _, batches = carried_out(plan, lambda run: (math.log2(run.rate / plan.centres[run.strategy]) - best) ** 2)
    assert sum(run.steps for batch in batches for run in batch) <= limit
    assert {run.phase for run in batches[-1]} == {"test"}  # and there is an answer


def test_a_limit_that_no_plan_can_keep_is_refused_with_the_least_that_works():
    with pytest.raises(LabError, match=r"100 updates are too few: 13 strategies of 300 updates need at least [\d,]+\."):
        fitted(plan_of(updates=100))
    least = 40_000
    assert fitted(plan_of(updates=least)).least_updates() <= least


def test_windows_start_where_the_bound_moves_the_rate_of_the_catalogue():
    plan = plan_of(strategy("fixed"), strategy("linear"), strategy("exponential_decay"), strategy("adamw"))
    given_ = centred(plan, None, "transfer", None)["centres_given"]
    assert given_["fixed"] == 0.1
    assert given_["linear"] == pytest.approx(0.2)  # 2.7 times as high at 300 updates
    assert given_["exponential_decay"] == pytest.approx(0.4)  # 5.5 times, rounded to octaves
    assert given_["adamw"] == pytest.approx(0.02)


def test_a_strategy_of_ones_own_starts_at_its_own_peak():
    mine = Strategy("mine", "sgd", Constant(0.7))
    plan = plan_of(mine, strategy("fixed"))
    assert "mine" not in centred(plan, None, "transfer", None)["centres_given"]
    assert centred(plan, None, "card", None) == {}
    assert plan.centres["mine"] == 0.7


def test_the_history_says_who_was_promoted_and_why():
    plan = plan_of(race=True)
    results, _ = carried_out(plan, valley(plan, qualities(plan)))
    history = plan.history(results)
    assert [rung["steps"] for rung in history] == [33, 100, 300]
    first = history[0]["entries"]
    assert [entry["loss"] for entry in first] == sorted(entry["loss"] for entry in first)
    assert first[0]["why"] == "number 1 of 13"
    assert {entry["why"] for entry in first if not entry["promoted"]} == {"dropped"}
    assert {entry["promoted"] for entry in history[-1]["entries"]} == {None}
    assert sum(rung["updates"] for rung in history) == sum(run.steps for run in plan_runs(plan, results))
    assert plan_of().history({}) is None


def plan_runs(plan, results):
    return [run for runs in plan.spent(results).values() for run in runs if run.phase == "tune"]
