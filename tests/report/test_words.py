import pytest

from ratewise.report import words

from . import example


@pytest.fixture
def result():
    return example.result()


def test_confidence_counts_the_verdicts_and_says_how_they_were_made(result):
    assert words.confidence(result) == (
        "Confidence: 12 fresh seeds paired with those of cosine, 95% intervals (t), p values corrected for 12 "
        "comparisons (Holm). Of 12 rivals: 4 ties, 2 unresolved, 6 worse."
    )


def test_confidence_in_a_strategy_that_beats_the_reference_names_its_evidence(result):
    better = next(s for s in result["strategies"] if s["name"] == "one_cycle")
    better["verdict"], better["difference"]["wins"], better["difference"]["adjusted"] = "better", 1.0, 0.00586
    result["recommended"] = "one_cycle"
    assert words.confidence(result).endswith("one_cycle beats cosine on 100% of the seeds (corrected p 0.0059).")


def test_there_is_no_confidence_before_a_comparison(result):
    assert words.confidence(result | {"reference": None}) == ""
    assert words.confidence({}) == ""


def test_what_is_not_compared_says_why(result):
    told = [words.uncompared(found | {"finished": True}) for found in (
        result | {"strategies": result["strategies"][:1]}, example.diverged(example.result()), result,
    )]  # fmt: skip
    assert [sentence[:31] for sentence in told] == [
        "There is but one strategy, so t", "There is nothing to compare: no", "There is nothing to compare cos",
    ]  # fmt: skip
    assert words.uncompared(example.unfinished(result)) == "Nothing has been compared on fresh seeds yet."


def test_changes_are_lines_of_text(result):
    assert words.changes(result)[0] == "14 seeds may settle time_based and cyclical."
    assert words.changes({"changes": ["a\nb"]}) == ["a b"]
    assert words.changes({}) == []


def test_a_sparkline_of_nothing_is_nothing():
    assert words.sparkline([]) == ""
    assert words.sparkline([float("nan"), 1.0, 2.0], 2) == "▁█"


def test_costs_come_from_the_result_or_from_its_budget(result):
    assert words.spent(result) == [("runs", 716.0), ("updates", 214800.0), ("seconds", 41.03)]
    assert words.spent(example.old()) == [("runs", 640.0), ("updates", 192000.0), ("seconds", 41.03)]
