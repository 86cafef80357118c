"""Plans, carried out on made-up losses: what is asked for, in which order, and where the window ends."""

import math

import pytest

from ratewise.core.shapes import Constant
from ratewise.errors import LabError
from ratewise.lab.catalogue import strategy
from ratewise.lab.plan import Budget, Plan, score
from ratewise.lab.strategy import Strategy

FACTS = {"description": "", "metric": "accuracy", "batch_size": 16, "examples": 160}


def plan_of(*strategies, **budget):
    return Plan("made-up", "0" * 16, 50, strategies, Budget(**budget), "population", FACTS)


def result(loss):
    return {"loss": loss, "metric": 0.5, "first": 2.3, "diverged": None if loss is not None else 3, "seconds": 0.1}


def carried_out(plan, loss_of):
    """Answer every run that the plan asks for; return the results and the batches in which they were asked."""
    results, batches = {}, []
    while pending := plan.pending(results):
        batches.append(pending)
        results.update({run.key: result(loss_of(run)) for run in pending})
    return results, batches


def valley(best):
    """A loss with its minimum at the rate ``best``, nearly the same for every seed."""
    return lambda run: 1 + math.log2(run.rate / best) ** 2 + 0.001 * run.seed


FIXED = Strategy("fixed", "sgd", Constant(0.1), momentum=0.9)


def test_the_first_batch_is_seven_rates_and_five_seeds_around_the_centre():
    first = plan_of(FIXED).pending({})
    assert sorted({run.rate for run in first}) == [0.1 * 2.0**i for i in range(-3, 4)]
    assert len(first) == 35
    assert {run.phase for run in first} == {"tune"}


def test_a_best_rate_inside_the_window_is_chosen_without_a_slide():
    plan = plan_of(FIXED)
    results, _ = carried_out(plan, valley(0.2))
    choice = plan.choice(FIXED, results)
    assert (choice.best, choice.edge, len(choice.rates)) == (0.2, False, 7)


@pytest.mark.parametrize(("best", "tried"), [(0.1 * 2**5, 10), (0.1 * 2**-6, 11)])
def test_the_window_slides_until_the_best_rate_is_inside(best, tried):
    plan = plan_of(FIXED)
    results, _ = carried_out(plan, valley(best))
    choice = plan.choice(FIXED, results)
    assert choice.best == pytest.approx(best)
    assert (choice.edge, len(choice.window), len(choice.rates)) == (False, 7, tried)


def test_the_window_stops_after_eight_slides_and_says_that_the_best_is_at_its_edge():
    plan = plan_of(FIXED)
    results, _ = carried_out(plan, valley(1e9))
    choice = plan.choice(FIXED, results)
    assert (choice.edge, len(choice.rates), choice.best) == (True, 15, 0.1 * 2.0**11)


def test_a_rate_with_one_diverged_seed_is_not_chosen():
    plan = plan_of(FIXED)
    results, _ = carried_out(plan, lambda run: None if run.rate >= 0.2 and run.seed == 0 else valley(0.4)(run))
    assert plan.choice(FIXED, results).best == 0.1


def test_a_strategy_that_always_diverges_slides_down_and_gets_no_fresh_runs():
    plan = plan_of(FIXED)
    results, batches = carried_out(plan, lambda run: None)
    choice = plan.choice(FIXED, results)
    assert (choice.best, len(choice.rates), min(choice.rates)) == (None, 15, 0.1 * 2.0**-11)
    assert all(run.phase == "tune" for batch in batches for run in batch)


def test_fresh_seeds_are_asked_for_only_when_every_strategy_has_chosen():
    other = Strategy("other", "sgd", Constant(0.1))
    plan = plan_of(FIXED, other)
    _, batches = carried_out(plan, lambda run: valley(0.1 if run.strategy == "fixed" else 2.0)(run))
    phases = [{run.phase for run in batch} for batch in batches]
    assert phases == [{"tune"}] * (len(batches) - 1) + [{"test"}]
    assert len(batches[-1]) == 24


def test_fresh_seeds_were_never_used_for_tuning():
    _, batches = carried_out(plan_of(FIXED), valley(0.1))
    tuned = {run.seed for batch in batches[:-1] for run in batch}
    assert tuned.isdisjoint({run.seed for run in batches[-1]})


def test_the_order_in_which_runs_finish_does_not_matter():
    plan = plan_of(FIXED, strategy("cosine"))
    complete, _ = carried_out(plan, valley(1.0))
    results = {}
    while pending := plan.pending(results):
        for run in (pending[-1], pending[0]):
            results[run.key] = complete[run.key]
    assert results == complete


def test_a_plan_survives_json():
    import json

    plan = plan_of(*map(strategy, ("one_cycle", "adamw", "cyclical")))
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert [run.key for run in again.pending({})] == [run.key for run in plan.pending({})]


def test_keys_tell_apart_everything_that_matters():
    plan = plan_of(FIXED)
    run = plan.run(FIXED, 0.1, 0, "tune")
    others = [
        plan.run(FIXED, 0.2, 0, "tune"),
        plan.run(FIXED, 0.1, 1, "tune"),
        plan.run(FIXED, 0.1, 0, "test"),
        plan.run(Strategy("fixed", "sgd", Constant(0.1), momentum=0.8), 0.1, 0, "tune"),
        Plan("made-up", "1" * 16, 50, (FIXED,), Budget(), "population", FACTS).run(FIXED, 0.1, 0, "tune"),
        Plan("made-up", "0" * 16, 51, (FIXED,), Budget(), "population", FACTS).run(FIXED, 0.1, 0, "tune"),
        Plan("made-up", "0" * 16, 50, (FIXED,), Budget(), "keras", FACTS).run(FIXED, 0.1, 0, "tune"),
    ]
    assert len({run.key, *(other.key for other in others)}) == 8


def test_score_is_the_mean_or_says_what_is_wrong():
    assert score([result(1.0), result(3.0)]) == 2.0
    assert score([result(1.0), result(None)]) == math.inf
    assert math.isnan(score([result(1.0), None]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rates": 4}, "rates must be odd"),
        ({"rates": 1}, "rates must be an integer of at least 3"),
        ({"tuning_seeds": 0}, "tuning_seeds must be an integer of at least 1, got 0"),
        ({"steps": -5}, "steps must be an integer of at least 1, got -5"),
        ({"fresh_seeds": 2.5}, "fresh_seeds must be an integer"),
        ({"delta": 0.0}, "delta must lie between 0 and 1"),
        ({"delta": math.nan}, "delta must lie between 0 and 1"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(setting, message):
    with pytest.raises(LabError, match=message):
        Budget(**setting)


def test_the_chosen_rate_lies_between_those_tried_where_their_scores_say_so():
    plan = plan_of(FIXED)
    between = 0.1 * 2**0.5
    results, batches = carried_out(plan, lambda run: 1 + 0.1 * math.log2(run.rate / between) ** 2)
    choice = plan.choice(FIXED, results)
    assert choice.best == 0.141  # half-way between 0.1 and 0.2, to three digits
    assert {run.rate for run in batches[-1]} == {0.141}
    assert choice.score == min(choice.scores)
