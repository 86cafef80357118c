import pytest

from ratewise.report import tables

from . import example


@pytest.fixture
def result():
    return example.result()


def row(result, name):
    return next(r for r in tables.rows(result) if r.strategy == name)


def test_a_row_is_formatted_text(result):
    expected = tables.Row(
        strategy="one_cycle", verdict="tie", loss="0.208 [0.198, 0.220]", metric="95.7% [95.1, 96.2]",
        difference="−1.0% [−2.9, +1.0]", seeds="", peak="0.2", optimizer="sgd", diverged="", runs="52",
    )  # fmt: skip
    assert row(result, "one_cycle") == expected


def test_headers_name_the_metric_the_reference_and_the_band(result):
    titles = tables.headers(result)
    assert titles.metric == "test accuracy"
    assert titles.difference == "against cosine"
    assert titles.verdict == "verdict (±5%)"


def test_an_unresolved_row_says_how_many_seeds_are_needed(result):
    assert row(result, "cyclical").seeds == "14"


def test_a_rate_at_the_edge_has_a_star_that_is_explained(result):
    assert row(result, "adamw").peak == "0.004*"
    assert tables.notes(result)[0].startswith("* The best rate lies at the edge")


def test_a_metric_that_is_the_loss_is_not_shown_twice(result):
    result["metric"] = "loss"
    for entry in result["strategies"]:
        entry["test"] = {"metric": "loss", "mean": 0.2, "low": 0.19, "high": 0.21, "n": 12}
    found = row(result, "cosine")
    assert (found.loss, found.metric) == ("0.200 [0.190, 0.210]", "")
    assert "metric" not in tables.grid(result)[2]


def test_a_diverged_row_has_empty_cells(result):
    result["strategies"][0].update(
        verdict="diverged", diverged=12, difference=None,
        test={"metric": "accuracy", "mean": None, "low": None, "high": None, "loss": {"mean": None}},
    )  # fmt: skip
    found = row(result, "fixed")
    assert (found.loss, found.metric, found.difference, found.diverged) == ("", "", "", "12")


def test_text_aligns_columns(result):
    lines = tables.text(result).split("\n\n")[0].splitlines()
    assert len(lines) == 15
    assert lines[0].index("verdict") == lines[2].index("reference") == lines[3].index("tie")
    assert lines[0].index("test loss") == lines[2].index("0.210")


def test_text_says_the_verdict_below_the_table_and_where_it_holds(result):
    paragraphs = tables.text(result).split("\n\n")
    verdict = paragraphs.index(result["verdict"])
    assert verdict > 0
    assert paragraphs[verdict + 1] == f"Valid for: {result['valid_for']}"


def test_a_narrow_text_keeps_within_its_width_and_keeps_what_matters_most(result):
    shown = tables.text({**result, "code": ""}, width=80)
    assert max(map(len, shown.splitlines())) <= 80
    assert all(word in shown.splitlines()[0] for word in ("strategy", "verdict", "test loss", "peak rate"))


def test_text_ends_with_the_code(result):
    assert tables.text(result).endswith(result["code"])


def test_a_sentence_that_says_valid_for_is_left_alone(result):
    result["valid_for"] = "Valid for 300 updates."
    assert tables.headline(result)[1] == "Valid for 300 updates."


def test_an_unfinished_study_says_so(result):
    result["strategies"][3].update(test=None, verdict=None)
    result["verdict"] = None
    assert "unfinished: 12 of 13 strategies" in tables.text(result)
    assert "No verdict yet." in tables.text(result)
    assert row(result, "exponential_decay").verdict == "pending"


def test_markdown_holds_a_table_and_the_code(result):
    found = tables.markdown(result)
    assert found.startswith(f"**{result['verdict']}**\n")
    assert "| cosine | reference | 0.210 [0.199, 0.223] |" in found
    assert "\n```python\nimport ratewise as rw\n" in found


def test_markdown_shows_hostile_names_as_they_are(result):
    result["strategies"][0]["name"] = "a|b <img> [x](y) `c` *d*\nnext"
    line = next(line for line in tables.markdown(result).splitlines() if "img" in line)
    assert line.startswith(r"| a\|b &lt;img> [x\](y) \`c\` \*d\* next | worse |")


def test_a_fence_is_longer_than_any_in_the_code(result):
    result["code"] = "```\n````"
    assert "`````python\n```\n````\n`````" in tables.markdown(result)


def test_control_characters_never_reach_a_terminal(result):
    result["strategies"][0]["name"] = "a\x1b[31mb"
    result["verdict"] = "use\x07 it"
    assert "\x1b" not in tables.text(result)
    assert "\x07" not in tables.text(result)


@pytest.mark.parametrize("render", [tables.text, tables.markdown])
def test_an_empty_result_is_no_error(render):
    assert "No verdict yet." in render({})


@pytest.mark.parametrize(
    ("mean", "low", "high", "expected"),
    [
        (0.21, None, None, "0.2100"),
        (0.21, 0.21, 0.21, "0.2100 [0.2100, 0.2100]"),
        (1234.5, 1000.0, 1400.0, "1234 [1000, 1400]"),
        (0.00123, 0.0012, 0.0013, "0.00123 [0.00120, 0.00130]"),
        (None, 0.1, 0.2, ""),
    ],
)
def test_an_interval_shows_as_many_decimals_as_it_is_worth(mean, low, high, expected):
    assert tables.interval(mean, low, high) == expected
