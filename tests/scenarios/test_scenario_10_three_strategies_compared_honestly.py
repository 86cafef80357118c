"""Three strategies are compared on a few seeds. Taking the best mean crowns one of them every time, equal or not.

With 5 seeds the exact test cannot decide anything (the smallest corrected p value is 2 * 2 / 2**5 = 0.125), so such a
plan is refused; 7 is the least number for two rivals, and what these simulations use. The default is 12. Losses are
normal with deviation 1, as if paired seeds had nothing in common: the hardest case.
"""

import numpy as np
import pytest

import ratewise as rw
from ratewise.errors import LabError, ScheduleError
from ratewise.lab import stats
from ratewise.lab.compare import compare
from ratewise.lab.plan import Budget

SEEDS = 7


def verdicts(gap, repeats, seed):
    """The verdicts of both rivals against a reference that is better than them by ``gap``, for each repeat."""
    rng = np.random.default_rng(seed)
    rivals = [[gap], [gap]]
    return [
        stats.compared(rng.normal(0, 1, SEEDS), rng.normal(rivals, 1, (2, SEEDS)), delta=0.05) for _ in range(repeats)
    ]


def test_five_seeds_are_refused_with_the_number_that_is_needed():
    with pytest.raises(LabError, match=r"with 5 fresh seeds and 2 rivals no difference could ever be .* at least 7"):
        stats.require_seeds(5, rivals=2)
    stats.require_seeds(SEEDS, rivals=2)
    assert Budget().fresh_seeds == 12


def test_the_best_mean_always_wins_though_all_are_equal():
    means = np.random.default_rng(0).normal(0, 1, (2000, 3, 5)).mean(axis=2)
    assert all(len(set(row)) == 3 for row in means.tolist())  # one is best, 2,000 times of 2,000


@pytest.mark.slow
def test_equal_strategies_have_a_winner_in_at_most_5_percent():
    found = verdicts(gap=0.0, repeats=2000, seed=1)
    decided = sum(any(d.verdict in ("better", "worse") for d in row) for row in found)
    assert decided / 2000 <= 0.05


def test_a_gap_of_three_deviations_is_found_in_at_least_85_percent():
    found = verdicts(gap=3.0, repeats=300, seed=2)
    first = [row[0].verdict for row in found]
    assert first.count("worse") / 300 >= 0.85
    assert "better" not in first


def test_a_gap_of_two_deviations_is_often_undecided_and_says_how_many_seeds_it_takes():
    found = [row[0] for row in verdicts(gap=2.0, repeats=300, seed=3)]
    decided = sum(d.verdict == "worse" for d in found) / 300
    assert 0.35 < decided < 0.7
    undecided = [d for d in found if d.verdict != "worse"]
    assert {d.verdict for d in undecided} == {"unresolved"}
    needed = [d.seeds_needed for d in undecided if d.seeds_needed is not None]
    assert len(needed) > 0.95 * len(undecided)
    assert 8 <= np.median(needed) <= 20


@pytest.mark.slow
def test_every_strategy_has_the_same_trials_and_its_own_planned_end(tmp_path, capsys):
    from ratewise.cli import screens

    budget = Budget(steps=10, rates=3, tuning_seeds=1, fresh_seeds=SEEDS, slides=0)
    cut = rw.Strategy("cut", "sgd", rw.Cosine(0.1, 0.0, 1000))
    with pytest.raises(ScheduleError, match=r"needs 1000 updates, the run has 10\. Leave out its steps"):
        compare("wine", [cut, "fixed"], budget, tmp_path / "runs", workers=1)
    result = compare("wine", ["cosine", "fixed", "one_cycle"], budget, tmp_path / "runs", workers=1)
    assert [row["runs"] for row in result["strategies"]] == [3 + SEEDS] * 3
    assert [len(row["fan"]) for row in result["strategies"]] == [3] * 3
    assert result["budget"]["updates"] == 3 * (3 + SEEDS) * 10
    assert {row["verdict"] for row in result["strategies"]} <= {"reference", "tie", "worse", "better", "unresolved"}
    screens.show_result(result)
    shown = capsys.readouterr().out
    assert "runs" in shown.splitlines()[0]
    assert shown.count(f" {3 + SEEDS}\n") == 3  # what was spent, for each strategy
