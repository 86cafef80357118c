"""Calibration: drawn studies are judged as a comparison judges them, on pools of known truth and on trained ones."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from ratewise.core.shapes import Constant
from ratewise.errors import LabError
from ratewise.lab import calibrate
from ratewise.lab.calibrate import Design, Losses, calibrated, draw, missed, verdicts
from ratewise.lab.plan import FIRST_FRESH_SEED, Budget, Plan
from ratewise.lab.strategy import Strategy
from ratewise.lab.summary import summary

FACTS = {"description": "", "metric": "accuracy", "batch_size": 16, "examples": 160}
FIXED = Strategy("fixed", "sgd", Constant(0.1), momentum=0.9)
BUDGET = Budget()
REACH = [i / 4 for i in range(-44, 45)]
"""Rates of a window of seven, with as many on either side as it may slide, and those between."""


def made_up(best=0.0, width=0.4, deviation=0.1, runs=300, diverged_from=9.0, seed=0):
    """A pool with normal losses around a valley in the rate, in octaves."""
    rng = np.random.default_rng(seed)
    means = 1.0 + width * (np.array(REACH) - best) ** 2
    valid, test = (means[:, None] + rng.normal(0, deviation, (len(REACH), runs)) for _ in range(2))
    valid[np.array(REACH) >= diverged_from, ::3] = np.inf
    test[np.array(REACH) >= diverged_from, ::3] = 2.3
    return Losses(REACH, valid, test)


def flat(runs=300, seed=0):
    """A pool in which the rate makes no difference: entries are equal whichever they choose."""
    losses = made_up(width=0.0, runs=runs, seed=seed)
    best = np.where(np.array(REACH) == 0, 0.0, 10.0)[:, None]
    return Losses(REACH, losses.valid + best, losses.test)  # all choose the rate in the middle


def a_comparison(losses, seeds, budget):
    """The same study as ``compare`` would report it: a plan with its finished runs, and their summary."""
    entries = tuple(replace(FIXED, name=f"entry{e:02}") for e in range(len(seeds)))
    plan = Plan("made-up", "0" * 16, 50, entries, budget, "population", FACTS)
    results = {}
    while pending := plan.pending(results):
        for run in pending:
            row = REACH.index(round(4 * math.log2(run.rate / 0.1)) / 4)
            fresh = run.phase == "test"
            own = seeds[int(run.strategy[-2:])]
            which = own[budget.tuning_seeds + run.seed - FIRST_FRESH_SEED] if fresh else own[run.seed]
            loss = (losses.test if fresh else losses.valid)[row, which]
            loss = float(loss) if math.isfinite(losses.valid[row, which]) else None
            results[run.key] = {
                "loss": loss, "metric": 0.0, "first": 2.3, "diverged": None, "curve": {"updates": [], "loss": []},
                "started": 0.0, "seconds": 0.0,
            }  # fmt: skip
    return summary(plan, results)


@pytest.mark.parametrize("pool", [made_up(best=0.4), made_up(best=3.6, deviation=0.3), made_up(diverged_from=1.0)])
def test_a_drawn_study_gets_the_rates_and_verdicts_of_a_comparison(pool):
    design = Design(4, 5, 8)
    studies = draw(pool, design, BUDGET, 4, np.random.default_rng(1))
    found = verdicts(pool, studies, design, BUDGET.delta)
    for i in range(4):
        rows = a_comparison(pool, studies.seeds[i], replace(BUDGET, fresh_seeds=8))["strategies"]
        assert [row["verdict"] for row in rows] == found[i]
        rates = [0.1 * 2.0 ** REACH[row] for row in studies.chosen[i]]
        assert [row["peak_lr"] for row in rows] == pytest.approx(rates, rel=1e-2)


def test_an_entry_has_its_own_seeds_and_no_run_twice():
    studies = draw(made_up(), Design(13, 5, 12), BUDGET, 20, np.random.default_rng(0))
    assert studies.seeds.shape == (20, 13, 17)
    assert all(len(set(study.ravel().tolist())) == 13 * 17 for study in studies.seeds)
    assert len({tuple(study.ravel().tolist()) for study in studies.seeds}) == 20


def test_a_window_asks_for_the_rates_that_the_pool_lacks():
    pool = made_up(best=4.0, deviation=0.01)
    pool.valid[REACH.index(4) :] = np.nan
    studies = draw(pool, Design(2, 5, 12), BUDGET, 5, np.random.default_rng(0))
    assert studies.asked == {4}  # it slid to 3, its last, and would go on


@pytest.mark.parametrize(("entries", "few", "many"), [(2, 0.02, 0.07), (13, 0.01, 0.06)])
def test_equal_entries_have_a_winner_in_5_percent_of_studies_or_fewer(entries, few, many):
    design = Design(entries, 5, 12)
    pool = flat(runs=1000)
    studies = draw(pool, design, BUDGET, 500, np.random.default_rng(0))
    found = verdicts(pool, studies, design, 0.001)  # no ties
    assert few < np.mean(["better" in row or "worse" in row for row in found]) < many


def test_the_best_fresh_mean_as_the_reference_would_crown_false_winners():
    """The reason why the reference is fixed by tuning score: chosen by what it is then judged on, it wins by luck."""
    design = Design(13, 5, 12)
    pool = flat(runs=1000)
    studies = draw(pool, design, BUDGET, 500, np.random.default_rng(0))
    best = pool.test[studies.chosen[..., None], studies.seeds[..., 5:]].mean(axis=-1).argmin(axis=1)
    found = verdicts(pool, studies, design, 0.001, best)
    assert 0.08 < np.mean(["worse" in row for row in found]) < 0.2
    assert not any("better" in row for row in found)


@pytest.mark.parametrize(("entries", "seeds"), calibrate.POWERS)
def test_a_gap_of_three_deviations_is_found_with_so_many_seeds(entries, seeds):
    design = Design(entries, 5, seeds)
    pool = flat()
    studies = draw(pool, design, BUDGET, 200, np.random.default_rng(0))
    found = verdicts(pool, studies, design, 0.05, gap=3 * math.sqrt(2) * 0.1)
    assert np.mean([row[0] == "worse" for row in found]) > 0.95


def test_where_entries_choose_different_rates_the_real_difference_is_told_from_the_false_one(monkeypatch):
    """The best rate lies half-way between two: half of the entries take each, and on the test split one is better."""
    pool = made_up(best=0.4, deviation=0.02, runs=221)
    pool.test[REACH.index(0.5)] += 0.2
    plan = calibrate.PoolPlan(
        "made-up", "0" * 16, 50, (FIXED,), BUDGET, "population", FACTS,
        runs=221, designs=(Design(2, 5, 12), Design(4, 5, 8), Design(13, 5, 12)), studies=200,
    )  # fmt: skip
    monkeypatch.setattr(calibrate.PoolPlan, "losses", lambda self, results: pool)
    pool.valid[:12] = np.nan  # as if nothing had been trained so far away
    result = {"loss": 1.0, "updates": 50, "seconds": 0.1}
    results = {run.key: result for octave in REACH for run in plan.at(octave)}
    (equal,) = calibrate.judged(plan, results)["false_winners"]
    assert sorted(round(row["rate"], 3) for row in equal["rates"]) == [0.119, 0.141]
    assert equal["share"] > 0.4
    assert equal["at_one_rate"]["share"] < 0.07


def test_a_limit_that_is_missed_is_said():
    share = {"studies": 80, "share": 0.1, "low": 0.08, "high": 0.12}
    good = {"entries": 2, **share, "share": 0.04, "high": 0.06}
    power = {"rivals": 3, "fresh_seeds": 8, "deviations": 3.0, "kind": "planted", **share}
    other = power | {"kind": "another rate"}  # its gap is what it is, so it has no limit
    assert missed({"false_winners": [good], "power": [power | {"share": 0.9}, other]}) == []
    assert missed({"false_winners": [good, {"entries": 13, **share}], "power": [power]}) == [
        "false winners among 13 entries: the upper limit must lie below 7%, it is 12.0%.",
        "a gap of 3 deviations among 3 rivals with 8 seeds must be found in at least 85% of studies, it was in 10.0%.",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": 200}, r"200 runs per rate are too few: a study of 13 entries uses up to 221, and none twice"),
        ({"entries": (1,)}, r"at least 2 entries, got 1"),
        ({"budget": Budget(fresh_seeds=5)}, r"with 5 fresh seeds and 1 rivals no difference could ever"),
        ({"studies": 0}, r"studies must be at least 1, got 0"),
    ],
)
def test_a_calibration_that_cannot_be_drawn_is_refused_before_anything_is_trained(changes, message, tmp_path):
    with pytest.raises(LabError, match=message):
        calibrated("wine", store=tmp_path / "runs", workers=1, **changes)
    assert not (tmp_path / "runs").exists()


TRAINED = {"budget": Budget(steps=12, rates=3, tuning_seeds=2, slides=2), "entries": (2,), "runs": 182, "studies": 100}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    store = tmp_path_factory.mktemp("calibration") / "runs"
    return store, calibrated("wine", "linear", store=store, workers=1, **TRAINED)


def test_a_calibration_says_what_it_trained_and_how_it_was_drawn(trained):
    _, found = trained
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    rates = found["pool"]["rates"]
    assert len(rates) >= 3
    assert found["pool"]["runs"] == len(rates) * 182
    assert found["pool"]["updates"] == len(rates) * 182 * 12
    assert (
        f"resampled from {len(rates) * 182:,} trained runs (182 seeds at each of {len(rates)} rates)" in found["drawn"]
    )
    (equal,) = found["false_winners"]
    assert equal["low"] <= equal["share"] <= equal["high"]
    assert sum(row["chosen"] for row in equal["rates"]) == pytest.approx(1)
    assert [(row["rivals"], row["fresh_seeds"]) for row in found["power"] if row["kind"] == "planted"] == [
        (3, 8),
        (12, 12),
    ]


def test_trained_runs_are_kept_and_studies_drawn_again_from_them(trained, monkeypatch):
    store, found = trained
    monkeypatch.setattr("ratewise.lab.pools.execute", lambda cohort: pytest.fail("trained again"))
    assert calibrated("wine", "linear", store=store, workers=1, **TRAINED) == found


def test_the_command_prints_both_tables(trained, capsys):
    from ratewise.cli.calibrate import text

    shown = text(trained[1])
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "false winners (95% interval)" in shown
    assert "3.0, planted" in shown
    assert "Rates chosen: " in shown
