"""What a summary says, on made-up losses whose answers can be worked out by hand."""

import json
import math
import shlex
from dataclasses import replace

import pytest

from ratewise.core.shapes import Constant, Cosine
from ratewise.lab.catalogue import CATALOGUE, DEFAULT
from ratewise.lab.compare import reported
from ratewise.lab.plan import Budget, Plan
from ratewise.lab.spelled import read, spelled
from ratewise.lab.store import Store
from ratewise.lab.strategy import Strategy
from ratewise.lab.summary import summary
from ratewise.outcome import marks

FACTS = {"description": "", "metric": "accuracy", "batch_size": 16, "examples": 160}
FIXED = Strategy("fixed", "sgd", Constant(0.1), momentum=0.9)
COSINE = Strategy("cosine", "sgd", Cosine(0.1, 0.0), momentum=0.9)
ADAMW = CATALOGUE["adamw"]
STEPS = 50
FIRST = 2.3


def plan_of(*strategies, facts=FACTS, **budget):
    budget = {"rates": 3, "tuning_seeds": 2, "fresh_seeds": 7} | budget
    return Plan("made-up", "0" * 16, STEPS, strategies, Budget(**budget), "population", facts)


def result(loss, valid=(), test=(), **changes):
    """What an engine found, with the held-out losses at the marks, as it stands in a store."""
    held = {"marks": marks(STEPS)[: len(valid)], "valid": list(valid), "test": list(test)} if valid else {}
    return {
        "loss": loss, "metric": None if loss is None else 0.5, "first": FIRST, "diverged": None if loss else 3,
        "curve": {"updates": [0.0], "loss": [FIRST]}, "trained": "population", "updates": STEPS,
        "started": 1.0, "seconds": 0.1, **held, **changes,
    }  # fmt: skip


def falling(run, end, octaves=1.0):
    """A run with the loss ``end`` at its strategy's centre rate, more beside it; at the marks it falls to that."""
    off = abs(math.log2(run.rate / (0.02 if run.strategy == "adamw" else 0.1)))
    loss = end + octaves * off + 0.01 * (run.seed % 3)
    curve = [loss + 0.1 * (9 - i) for i in range(10)]
    return result(loss, curve, [x + 0.02 for x in curve[:-1]] + [loss])


def carried_out(plan, result_of):
    results = {}
    while pending := plan.pending(results):
        results.update({run.key: result_of(run) for run in pending})
    return results


ENDS = {"fixed": 1.5, "cosine": 1.0, "adamw": 1.02}


@pytest.fixture(scope="module")
def three():
    plan = plan_of(FIXED, COSINE, ADAMW)
    return summary(plan, carried_out(plan, lambda run: falling(run, ENDS[run.strategy])))


def row_of(found, name):
    return next(row for row in found["strategies"] if row["name"] == name)


def test_every_key_is_there_and_all_of_it_is_json(three):
    assert json.loads(json.dumps(three, allow_nan=False)) == three
    new = {"trained", "control", "best", "area", "target", "sensitivity", "median", "cost", "ceiling"}
    assert all(new <= set(row) for row in three["strategies"])
    assert {"target", "race", "changes", "provenance", "cost", "thresholds"} <= set(three)
    assert three["thresholds"] == {"alpha": 0.05, "delta": 0.05, "wins": 0.75}


def test_verdicts_and_the_interval_that_is_shown(three):
    assert {row["name"]: row["verdict"] for row in three["strategies"]} == {
        "fixed": "worse", "cosine": "reference", "adamw": "tie",
    }  # fmt: skip
    difference = row_of(three, "fixed")["difference"]
    assert (difference["interval"], difference["bca"], difference["wins"]) == ("t", None, 0.0)


def test_from_ten_seeds_the_bca_interval_stands_beside_the_t_interval():
    plan = plan_of(FIXED, COSINE, fresh_seeds=10)
    noisy = lambda run: falling(run, ENDS[run.strategy] + 0.03 * (run.seed % 4) * (run.strategy == "fixed"))  # noqa: E731
    difference = row_of(summary(plan, carried_out(plan, noisy)), "fixed")["difference"]
    low, high = difference["bca"]
    assert difference["low"] < low < difference["mean"] < high < difference["high"]


def test_only_the_calibrated_adamw_is_a_control(three):
    assert [row["name"] for row in three["strategies"] if row["control"]] == ["adamw"]


def test_area_is_the_mean_over_the_marks_and_best_the_test_loss_where_validation_was_lowest():
    def overfits(run):
        end = falling(run, 1.0)["loss"]
        valid = [2.0, 1.5, 0.8, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, end]
        return result(end, valid, [2.1, 1.6, 0.9, 0.7, 1.1, 1.2, 1.3, 1.4, 1.5, end])

    plan = plan_of(COSINE)
    row = row_of(summary(plan, carried_out(plan, overfits)), "cosine")
    assert (row["best"]["mean"], row["best"]["n"]) == (pytest.approx(0.9), 7)  # not 0.7: the test loss may not choose
    ends = [1.0 + 0.01 * (seed % 3) for seed in range(1000, 1007)]
    assert row["area"]["mean"] == pytest.approx((11.8 + sum(ends) / 7) / 10)


def test_the_target_lies_5_percent_above_the_reference_and_each_run_is_timed_to_it(three):
    losses = row_of(three, "cosine")["losses"]
    assert three["target"]["loss"] == pytest.approx(1.05 * sum(losses) / 7)
    assert "within 5%" in three["target"]["rule"]
    # cosine is at most at its end + 0.02 when it gets there: the tests at the marks end ... 1.22, 1.12, 1.00
    assert row_of(three, "cosine")["target"] == {"updates": [50] * 7, "reached": 1.0, "median": 50}
    assert row_of(three, "fixed")["target"] == {"updates": [None] * 7, "reached": 0.0, "median": None}


def test_a_task_has_a_target_of_its_own():
    plan = plan_of(FIXED, COSINE, facts={**FACTS, "target": 1.33})
    found = summary(plan, carried_out(plan, lambda run: falling(run, ENDS[run.strategy])))
    assert found["target"] == {"loss": 1.33, "rule": "the task's own target"}
    # at the marks cosine has its end + 0.32 at update 35 and + 0.22 at 40; its ends are 1.00, 1.01 and 1.02
    updates = row_of(found, "cosine")["target"]["updates"]
    assert updates == [35 if 1.32 + 0.01 * (seed % 3) <= 1.33 + 1e-9 else 40 for seed in range(1000, 1007)]


def test_sensitivity_is_what_a_wrong_rate_costs_and_no_more_than_not_training():
    plan = plan_of(COSINE, tuning_seeds=1)
    means = {0.05: 1.0 + 5.0, 0.1: 1.0, 0.2: None}  # a rate that is too low is worse than not to train at all
    found = summary(plan, carried_out(plan, lambda run: result(means[run.rate])))
    row = row_of(found, "cosine")
    assert row["sensitivity"] == pytest.approx((FIRST + 1.0 + FIRST) / 3 - 1.0)
    assert row["ceiling"] == 0.2


def test_a_rate_that_ends_above_its_beginning_is_a_ceiling_too():
    plan = plan_of(COSINE, tuning_seeds=1)
    losses = {0.05: 1.5, 0.1: 1.0, 0.2: FIRST + 1}
    of = lambda run: result(losses.get(run.rate, 1.0))  # noqa: E731  (the chosen rate lies between those tried)
    row = row_of(summary(plan, carried_out(plan, of)), "cosine")
    assert row["ceiling"] == 0.2
    losses[0.2] = 1.1
    row = row_of(summary(plan, carried_out(plan, of)), "cosine")
    assert row["ceiling"] is None


def test_a_run_that_diverged_is_counted_and_ranked_last_but_never_averaged_in():
    def sometimes(run):
        return result(None) if run.phase == "test" and run.seed >= 1004 else falling(run, 1.0)

    plan = plan_of(COSINE)
    row = row_of(summary(plan, carried_out(plan, sometimes)), "cosine")
    assert (row["diverged"], row["test"]["n"]) == (3, 4)
    assert row["test"]["loss"]["mean"] == pytest.approx((1.01 + 1.02 + 1.00 + 1.01) / 4)
    assert row["median"] == pytest.approx(1.02)  # 1.00 1.01 1.01 1.02 and three that diverged
    most = row_of(
        summary(plan, carried_out(plan, lambda run: result(None) if run.seed >= 1003 else falling(run, 1.0))), "cosine"
    )
    assert most["median"] is None


def unstable(run, steady=("fixed",)):
    """Of cosine, which is far ahead while it survives, six of nine fresh runs diverge."""
    gone = run.strategy not in steady and run.phase == "test" and run.seed >= 1003
    return result(None) if gone else falling(run, {"fixed": 1.5, "cosine": 0.001, "adamw": 1.6}[run.strategy])


def test_a_strategy_of_which_most_fresh_runs_diverged_is_never_recommended():
    plan = plan_of(FIXED, COSINE, ADAMW, fresh_seeds=9)
    found = summary(plan, carried_out(plan, lambda run: unstable(run, ("fixed", "adamw"))))
    assert (found["reference"], found["recommended"], found["code"]) == ("cosine", None, None)
    assert "nothing can be recommended: cosine, which tuned best, diverged on at least half" in found["verdict"]
    json.dumps(found, allow_nan=False)


def test_a_strategy_of_which_most_fresh_runs_diverged_is_neither_better_nor_a_tie():
    def untrained(run):
        """Adamw tunes best, then learns nothing; of fixed three fresh runs are very good, and six diverge."""
        if run.phase == "tune":
            return falling(run, {"fixed": 1.5, "adamw": 1.0}[run.strategy])
        return result(FIRST + 1) if run.strategy == "adamw" else result(None if run.seed >= 1003 else 0.001)

    plan = plan_of(FIXED, ADAMW, fresh_seeds=9)
    found = summary(plan, carried_out(plan, untrained))
    row = row_of(found, "fixed")
    assert row["difference"]["adjusted"] < 0.05
    assert row["difference"]["mean"] < 0
    assert (row["verdict"], found["recommended"]) == ("diverged", "adamw")
    assert "fixed diverged on at least half of the fresh seeds" in found["verdict"]


def test_held_out_losses_that_overflow_on_the_way_are_left_out():
    def overflows(run):
        found = falling(run, ENDS[run.strategy], octaves=0.5)
        return found | {"test": [found["test"][0], None, *found["test"][2:8], None, found["test"][9]]}

    plan = plan_of(FIXED, COSINE)
    found = summary(plan, carried_out(plan, overflows))
    row = row_of(found, "fixed")
    assert row["area"]["n"] == 7
    assert row["area"]["mean"] == pytest.approx(
        row["test"]["loss"]["mean"] + 0.1 * (9 + 7 + 6 + 5 + 4 + 3 + 2) / 8 + 0.0175
    )
    assert not [line for line in found["changes"] if line.startswith("A longer run")]  # the last but one is not known


def test_only_a_plan_that_cannot_be_read_is_of_another_version(tmp_path):
    plan = plan_of(FIXED, COSINE)
    runs = plan.pending({})
    with Store(tmp_path / "runs.db", write=True) as kept:
        kept.open_study("made-up")
        kept.set_plan(plan.to_dict())
        kept.add([(run, falling(run, 1.0) | {"test": [None, 1.0], "valid": [None, 1.0]}) for run in runs[1:]])
    assert reported("made-up", tmp_path / "runs.db")["cost"]["runs"] == len(runs) - 1
    with Store(tmp_path / "runs.db", write=True) as kept:
        kept.open_study("made-up")
        kept.add([(runs[0], result(1.0, seconds="a second"))])
    with pytest.raises(TypeError, match="must be real number"):  # whatever is wrong, it is not the version
        reported("made-up", tmp_path / "runs.db")


def test_no_rate_is_at_the_edge_where_all_of_them_diverged():
    plan = plan_of(FIXED, COSINE)
    found = summary(plan, carried_out(plan, lambda run: result(None)))
    assert [row["edge"] for row in found["strategies"]] == [False, False]
    assert (found["reference"], found["recommended"]) == (None, None)


def test_versions_are_of_all_that_decides_numbers_and_the_number_type_is_not_guessed(three):
    assert {"python", "ratewise", "torch", "numpy", "scipy", "scikit-learn", "optuna"} <= set(three["versions"])
    assert "dtype" not in three["budget"]


def test_the_cost_counts_updates_that_were_really_made():
    plan = plan_of(FIXED, COSINE)
    made = lambda run: result(None) if run.rate > 0.1 else falling(run, ENDS[run.strategy])  # noqa: E731
    found = summary(plan, carried_out(plan, made))
    assert row_of(found, "fixed")["cost"] == {"runs": 13, "updates": 11 * STEPS + 2 * 4, "seconds": pytest.approx(1.3)}
    assert found["cost"] == {"runs": 26, "updates": 2 * (11 * STEPS + 2 * 4), "seconds": pytest.approx(2.6)}
    assert (found["budget"]["runs"], found["budget"]["updates"]) == (26, found["cost"]["updates"])


def test_trained_says_what_the_runs_say():
    plan = plan_of(FIXED, COSINE)
    fell_back = "one by one: its momentum is a schedule"
    how = lambda run: {"trained": fell_back if run.strategy == "fixed" and run.phase == "tune" else "population"}  # noqa: E731
    found = summary(plan, carried_out(plan, lambda run: falling(run, 1.0) | how(run)))
    assert row_of(found, "cosine")["trained"] == "population"
    assert row_of(found, "fixed")["trained"] == "population; one by one: its momentum is a schedule"


def test_what_would_change_the_verdict_is_said():
    def runs(run):
        """Cosine and adamw are close and noisy, fixed is worse, and cosine's runs fall until their end."""
        end = {"fixed": 3.0, "cosine": 1.0, "adamw": 1.05}[run.strategy]
        loss = falling(run, end)["loss"] + (0.3 * (-1) ** run.seed if run.strategy == "adamw" else 0.0)
        drop = 0.2 if run.strategy == "cosine" else 0.0
        curve = [loss + drop * (9 - i) for i in range(10)]
        if run.strategy == "adamw":
            curve[4] = 0.5
        return result(loss, curve, curve)

    plan = plan_of(FIXED, COSINE, ADAMW)
    found = summary(plan, carried_out(plan, runs))
    verdicts = {row["name"]: row["verdict"] for row in found["strategies"]}
    assert verdicts == {"fixed": "worse", "cosine": "reference", "adamw": "unresolved"}
    needed = row_of(found, "adamw")["difference"]["seeds_needed"]
    assert found["changes"] == [
        f"More fresh seeds for adamw: about {needed} instead of 7 should settle it.",
        "A longer run than 50 updates: in the last tenth the loss still fell for cosine (20%).",
        "The best checkpoint of each run instead of its end: adamw then has the lowest mean test loss (0.5), not "
        "cosine (1.01).",
        "A larger batch than 16: gradients are then less noisy, and what cosine gains by letting its rate fall, over "
        "fixed, may shrink.",
    ]


def test_a_best_rate_at_the_edge_would_change_the_verdict():
    plan = plan_of(FIXED, COSINE, slides=0)
    found = summary(plan, carried_out(plan, lambda run: result(1 + 0.1 / run.rate + 0.001 * run.seed)))
    edges = [line for line in found["changes"] if line.startswith("Other rates")]
    assert edges == [
        "Other rates for fixed (0.2) and cosine (0.2): their best rates lie at the edge of what was tried."
    ]


def test_valid_for_names_horizon_batch_size_and_weight_decay(three):
    said = three["valid_for"]
    assert "a horizon of 50 updates (5 epochs), batches of 16" in said
    assert "weight decay the optimizer's own (fixed and cosine) and 0.01 (adamw)" in said


def test_the_command_repeats_the_comparison():
    text = Strategy("mine", "adam", Constant(0.01).warmup(5))
    plan = plan_of(CATALOGUE["cosine"], text, ADAMW, delta=0.1)
    command = summary(plan, {})["provenance"]["command"]
    assert shlex.split(command) == [
        "ratewise", "compare", "made-up", "-s", "cosine", "-s", f"mine=adam:{text.lr!r}",
        "--rates", "3", "--tuning-seeds", "2", "--fresh-seeds", "7", "--delta", "0.1",
        "--centre", "card",
    ]  # fmt: skip
    whole = Plan(
        "made-up", "0" * 16, STEPS, tuple(CATALOGUE[name] for name in DEFAULT), Budget(), "population", FACTS,
        centres_given={"adam": 0.02},
    )  # fmt: skip
    assert summary(whole, {})["provenance"]["command"] == "ratewise compare made-up"


def test_a_strategy_that_no_command_line_can_spell_has_no_command():
    plan = plan_of(Strategy("mine", "sgd", Constant(0.1), momentum=0.5))
    assert summary(plan, {})["provenance"]["command"] is None
    plan = plan_of(Strategy("mine (2)", "adam", Constant(0.1)))
    assert summary(plan, {})["provenance"]["command"] is None


@pytest.mark.parametrize("optimizer", ["adam", "torch.optim:NAdam"])
def test_a_strategy_is_spelled_as_it_is_read(optimizer):
    mine = Strategy("mine", optimizer, Cosine(0.1, 0.0).warmup(5))
    text = spelled(mine)
    assert text == f"mine={optimizer}:{mine.lr!r}"
    assert read(text) == mine
    assert spelled(ADAMW) == "adamw"
    assert spelled(replace(mine, weight_decay=0.1)) is None


@pytest.mark.parametrize(
    ("text", "optimizer", "momentum"),
    [("a=0.5 * Constant(0.1)", "sgd", 0.9), ("a=adam : Constant(0.1)", "adam", None),
     ("a=sgd:Constant(0.1)", "sgd", 0.9), ("a=lib.optim:Lion:Constant(0.1)", "lib.optim:Lion", None)],
)  # fmt: skip
def test_an_optimizer_ends_at_the_last_colon_before_its_schedule(text, optimizer, momentum):
    found = read(text)
    assert (found.name, found.optimizer, found.momentum) == ("a", optimizer, momentum)


def test_provenance_says_which_seeds_were_used(three):
    assert three["provenance"]["seeds"] == {"tune": [0, 1], "test": list(range(1000, 1007))}
    assert three["provenance"]["fingerprint"] == "0" * 16


def test_an_unfinished_study_has_what_is_known_and_nothing_more():
    plan = plan_of(FIXED, COSINE)
    whole = carried_out(plan, lambda run: falling(run, ENDS[run.strategy]))
    empty = summary(plan, {})
    assert (empty["finished"], empty["target"], empty["changes"], empty["cost"]["runs"]) == (False, None, [], 0)
    for count in range(0, len(whole), 3):
        found = summary(plan, dict(list(whole.items())[:count]))
        json.dumps(found, allow_nan=False)
        assert (found["finished"], found["cost"]["runs"]) == (False, count)
        assert {row["verdict"] for row in found["strategies"]} == {None}


def test_runs_of_an_older_version_without_marks_can_be_reported():
    plan = plan_of(FIXED, COSINE)
    old = ("trained", "updates", "marks", "valid", "test")
    runs = carried_out(plan, lambda run: falling(run, ENDS[run.strategy]))
    found = summary(plan, {key: {k: v for k, v in r.items() if k not in old} for key, r in runs.items()})
    row = row_of(found, "fixed")
    assert (row["verdict"], row["trained"]) == ("worse", None)
    assert (row["best"]["n"], row["area"]["n"], row["target"]["reached"]) == (0, 0, None)
    assert row["cost"]["updates"] == 13 * STEPS


def test_a_strategy_that_a_race_dropped_is_not_judged():
    names = ("fixed", "time_based", "step_decay", "cosine", "linear", "adagrad", "adamw")
    plan = Plan(
        "made-up", "0" * 16, 180, tuple(CATALOGUE[name] for name in names), Budget(race=True), "population", FACTS
    )
    ends = dict(zip(names, (3.0, 2.9, 1.2, 1.0, 1.1, 2.8, 1.3), strict=True))
    centres = plan.centres

    def raced(run):
        loss = ends[run.strategy] + abs(math.log2(run.rate / centres[run.strategy])) + 0.01 * (run.seed % 3)
        return result(loss)

    found = summary(plan, carried_out(plan, raced))
    verdicts = {row["name"]: row["verdict"] for row in found["strategies"]}
    assert verdicts["cosine"] == "reference"
    assert [name for name, verdict in verdicts.items() if verdict == "dropped"] == ["fixed"]  # three and the controls
    assert row_of(found, "fixed")["losses"] == []
    assert "fixed was dropped by the race" in found["verdict"]
    shown = row_of(found, "fixed")
    assert (shown["peak_lr"], shown["ceiling"], shown["edge"]) == (None, None, False)  # they are of shorter runs
    assert row_of(found, "cosine")["peak_lr"] == 0.1
    assert {row["sensitivity"] for row in found["strategies"]} == {None}  # two rates are no window
    json.dumps(found, allow_nan=False)
