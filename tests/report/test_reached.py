import pytest

from ratewise.report import reached

from . import example


def entry(name, updates, median=None):
    return {"name": name, "verdict": "tie", "target": {"updates": updates, "median": median}}


def test_seeds_are_counted_at_every_time_they_arrived():
    found = reached.targets({"strategies": [entry("a", [30, 60, 30, None], 45)], "budget": {"steps": 90}})
    (row,) = found.rows
    assert row.counts == ((30.0, 2), (60.0, 1))
    assert (row.seeds, row.arrived, row.median) == (4, 3, 45.0)
    assert found.steps == 90


def test_the_best_score_comes_first():
    found = reached.targets({"strategies": [entry("slow", [60, 60]), entry("fast", [30, 60])]})
    assert [(row.name, row.score) for row in found.rows] == [("fast", 1.0), ("slow", pytest.approx((2 / 3 + 1) / 2))]


@pytest.mark.parametrize(
    ("updates", "score"), [([10], 1.0), ([20], 2 / 3), ([40], 0.0), ([400], 0.0), ([None], 0.0)]
)  # fmt: skip
def test_a_score_falls_to_nothing_at_four_times_the_updates_of_the_fastest(updates, score):
    assert reached.profile({"fastest": [10], "this": updates})["this"] == pytest.approx(score)


def test_a_seed_that_nobody_brought_to_the_target_is_worth_nothing_to_anybody():
    assert reached.profile({"a": [10, None], "b": [10, None]}) == {"a": 0.5, "b": 0.5}


def test_strategies_without_common_seeds_have_no_score():
    assert reached.profile({"a": [10], "b": [10, 20]}) == {}


def test_a_result_that_measured_no_target_has_none():
    assert reached.targets(example.old()) is None
    assert reached.targets({"strategies": [{"name": "a", "target": {"updates": "never"}}]}) is None


def test_the_target_says_its_loss_and_its_rule():
    found = reached.targets(example.result())
    assert (found.loss, found.rule) == (0.2205, "5% above the reference's final loss")
    assert len(found.rows) == 13
