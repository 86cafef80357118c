import math

import pytest

from ratewise.report import figures

from . import example


@pytest.fixture
def result():
    return example.result()


def named(found, name):
    return next(x for x in found if x.name == name)


def test_the_recommended_strategy_comes_first_then_the_reference_then_the_lowest_loss(result):
    result["recommended"] = "linear"
    names = [s["name"] for s in figures.strategies(result)]
    assert names[:4] == ["linear", "cosine", "one_cycle", "step_decay"]
    assert names[-1] == "adamw"


def test_a_strategy_without_a_loss_comes_last(result):
    result["strategies"][5]["test"] = {"metric": "accuracy", "mean": None, "loss": {"mean": None}}
    assert [s["name"] for s in figures.strategies(result)][-1] == "rmsprop"


def test_a_strategy_is_finished_once_it_has_a_test_or_a_verdict(result):
    assert figures.progress(result) == (13, 13)
    result["strategies"][0].update(test=None, verdict=None)
    result["strategies"][1].update(test=None, verdict="diverged")
    assert figures.progress(result) == (12, 13)


@pytest.mark.parametrize(("finished", "expected"), [(True, ""), (None, ""), (False, "unfinished: runs are missing")])
def test_a_study_may_lack_runs_of_strategies_that_have_a_result(result, finished, expected):
    assert figures.unfinished(result | {"finished": finished}) == expected


def test_a_strategy_whose_numbers_are_all_null_is_not_finished(result):
    result["strategies"][0].update(
        verdict=None, test={"metric": "accuracy", "mean": None, "n": 0, "loss": {"mean": None}}
    )
    assert figures.unfinished(result | {"finished": False}) == "unfinished: 12 of 13 strategies"


def test_differences_are_a_share_of_the_references_loss(result):
    forest = figures.forest(result)
    assert (forest.reference, forest.unit, forest.better) == ("cosine", "% of the reference's loss", "left")
    assert forest.margin == pytest.approx(5.0)
    assert named(forest.effects, "adam").mean == pytest.approx(100 * (0.289 - 0.210) / 0.210)
    assert len(forest.effects) == 12
    assert [e.mean for e in forest.effects] == sorted(e.mean for e in forest.effects)


def test_differences_of_an_accuracy_are_points_and_more_is_better(result):
    result["decides_on"], result["budget"]["delta"] = "accuracy", 0.005
    result["strategies"][0]["difference"] = {"mean": -0.018, "low": -0.02, "high": -0.01}
    forest = figures.forest(result)
    assert (forest.unit, forest.better) == ("percentage points", "right")
    assert forest.margin == pytest.approx(0.5)
    assert named(forest.effects, "fixed").low == pytest.approx(-2.0)
    assert [e.mean for e in forest.effects] == sorted((e.mean for e in forest.effects), reverse=True)


def test_the_axis_keeps_the_tie_band_visible(result):
    low, high = figures.forest(result).window
    assert low == pytest.approx(-8.0)
    assert high == pytest.approx(40.0)


def test_without_a_band_the_axis_shows_every_interval(result):
    del result["budget"]["delta"]
    forest = figures.forest(result)
    assert forest.margin is None
    assert forest.window == (min(e.low for e in forest.effects), max(e.high for e in forest.effects))


def test_an_axis_is_never_empty(result):
    del result["budget"]
    result["strategies"] = result["strategies"][-3:-1]
    result["strategies"][1]["difference"] = {"mean": 0.0}
    assert figures.forest(result).window == (-1.0, 1.0)


def test_a_strategy_without_a_difference_is_named(result):
    result["strategies"][0]["difference"] = None
    assert figures.forest(result).absent == ("fixed",)


@pytest.mark.parametrize("change", [{"reference": None}, {"strategies": []}, {"reference": "gone"}])
def test_without_a_reference_there_is_no_forest(result, change):
    assert figures.forest(result | change) is None


def test_schedules_are_a_share_of_their_own_peak(result):
    curves = figures.curves(result)
    assert curves.steps == 300
    for line in curves.schedules:
        assert max(line.y) == pytest.approx(1.0)
    assert len(named(curves.schedules, "cosine").x) == 300


def test_curves_leave_out_what_is_no_number(result):
    result["strategies"][0]["curve"] = {"updates": [0, 10, 20, 30], "loss": [2.0, None, math.inf, 1.0]}
    result["strategies"][1]["curve"] = {"updates": [], "loss": []}
    result["strategies"][2]["curve"] = None
    losses = figures.curves(result).losses
    assert named(losses, "fixed").x == (0.0, 30.0)
    assert {"time_based", "step_decay"}.isdisjoint(line.name for line in losses)


def test_the_fan_marks_the_chosen_rate_and_the_diverged_ones(result):
    sweep = named(figures.fan(result).sweeps, "cosine")
    assert sweep.best == (0.1, pytest.approx(0.2184))
    assert sweep.diverged == (figures.Divergence(0.8, 5, 5),)
    assert len(sweep.rates) == len(sweep.losses) == 7


def test_a_rate_at_which_some_runs_diverged_keeps_its_loss(result):
    sweep = named(figures.fan(result).sweeps, "rmsprop")
    assert sweep.diverged == (figures.Divergence(0.008, 1, 5),)
    assert 0.008 in sweep.rates


def test_a_chosen_rate_that_was_not_tried_gives_way_to_the_best_one_tried(result):
    entry = named_entry(result, "cosine")
    entry["peak_lr"] = 17.0
    assert named(figures.fan(result).sweeps, "cosine").best[0] == pytest.approx(0.1)


def test_a_strategy_that_always_diverged_has_no_best_rate(result):
    entry = named_entry(result, "cosine")
    entry["fan"] = [{"rate": 0.2, "loss": None}, {"rate": 0.1, "loss": None, "diverged": 5, "n": 5}]
    sweep = named(figures.fan(result).sweeps, "cosine")
    assert (sweep.rates, sweep.best) == ((), None)
    assert sweep.diverged == (figures.Divergence(0.1, 5, 5), figures.Divergence(0.2, 1, 0))


def named_entry(result, name):
    return next(s for s in result["strategies"] if s["name"] == name)


@pytest.mark.parametrize(
    ("given", "expected"), [(1, 1.0), (0.5, 0.5), (None, None), (math.nan, None), (True, None), ("1", None)]
)
def test_only_finite_numbers_are_real(given, expected):
    assert figures.real(given) == expected
