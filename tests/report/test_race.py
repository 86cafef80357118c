import pytest

from ratewise.report import words
from ratewise.report.race import Stand, race

from . import example


@pytest.fixture
def raced():
    return example.raced()


def entry(name, loss, promoted, rate=0.1, why=""):
    return {"name": name, "rate": rate, "loss": loss, "promoted": promoted, "why": why}


def final(**losses):
    return [{"name": name, "test": {"loss": {"mean": loss}}} for name, loss in losses.items()]


def test_a_comparison_without_rungs_is_no_race():
    assert race(example.result()) is None
    assert race({"race": []}) is None
    assert race({"race": "?"}) is None


def test_a_strategy_stands_at_its_best_rate_and_is_promoted_by_any():
    rung = {"steps": 10, "entries": [entry("a", 0.5, False, 0.2), entry("a", 0.4, True, 0.1, "best"),
                                     entry("b", None, False)]}  # fmt: skip
    found = race({"race": [rung]})
    assert found.rungs[0].stands == (
        Stand("a", 0.1, 0.4, 1, True, "best"),
        Stand("b", 0.1, None, 2, False, ""),
    )


def test_rungs_are_sorted_by_length(raced):
    raced["race"].reverse()
    assert [rung.steps for rung in race(raced).rungs] == [33, 100]


def test_whoever_was_dropped_has_no_final_place(raced):
    found = race(raced)
    assert found.dropped("fixed")[0].steps == 33
    assert found.dropped("warmup")[0].steps == 100
    assert found.dropped("cosine") is None
    assert (found.place("one_cycle"), found.place("fixed")) == (1, None)
    assert found.names()[:3] == ["one_cycle", "cosine", "linear"]


def test_the_prediction_of_a_rung_counts_pairs_in_their_final_order():
    rung = {"steps": 10, "entries": [entry("a", 0.1, True), entry("b", 0.2, True), entry("c", 0.3, True),
                                     entry("d", 0.4, False)]}  # fmt: skip
    found = race({"race": [rung], "strategies": final(a=1.0, b=3.0, c=2.0, d=0.5)})
    assert (found.rungs[0].kept, found.rungs[0].pairs) == (2, 3)
    assert "foreseen for 2 of 3 pairs at 10 updates" in words.predicted(found)


def test_a_rung_that_promoted_nobody_yet_has_dropped_nobody():
    found = race({"race": [{"steps": 10, "entries": [entry("a", 0.1, False)]}]})
    assert found.dropped("a") is None
    assert words.fate(found, "a") == "not decided yet"
    assert words.predicted(found) == ""


def test_the_cost_of_a_race_is_the_sum_of_its_rungs(raced):
    assert "scaled to 33 and 100 updates" in words.raced(race(raced))
    cost = f"{sum(rung['updates'] for rung in raced['race']):,}".replace(",", " ")
    assert f"took {cost} updates" in words.raced(race(raced))
