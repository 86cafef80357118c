import pytest

from ratewise.report import figures, tables, words
from ratewise.report.race import race

from . import example


@pytest.fixture
def result():
    return example.result()


def row(result, name):
    return next(r for r in tables.rows(result) if r.name == name)


def test_a_row_is_formatted_text(result):
    expected = tables.Row(
        name="one_cycle", strategy="one_cycle", verdict="tie", loss="0.208 [0.198, 0.220]", median="0.206",
        best="0.202 [0.191, 0.214]", area="0.374 [0.354, 0.395]", metric="95.7% [95.1, 96.2]", target="240",
        difference="−1.0% [−2.9, +1.0]", bca="[−2.7, +0.9]", p="0.02", wins="25%", needed="", peak="0.2",
        optimizer="sgd", sensitivity="0.17", seeds="12", diverged="", runs="52", updates="15 600", time="3.1 s",
        trained="population",
    )  # fmt: skip
    assert row(result, "one_cycle") == expected


def test_headers_name_the_metric_the_reference_and_the_band(result):
    titles = tables.headers(result)
    assert titles.metric == "test accuracy"
    assert titles.difference == "against cosine"
    assert titles.verdict == "verdict (±5%)"


def test_an_unresolved_row_says_how_many_seeds_are_needed(result):
    assert row(result, "cyclical").needed == "14"


def test_a_rate_at_the_edge_has_a_star_that_is_explained(result):
    assert row(result, "adamw").peak == "0.004*"
    assert "* The best rate lies at the edge" in tables.text(result)


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


def partly_diverged(result, name="one_cycle"):
    entry = next(s for s in result["strategies"] if s["name"] == name)
    entry["losses"] = [0.0011, 0.001, 0.0009, *[None] * 6]
    entry["median"], entry["verdict"] = None, "diverged"
    entry["test"]["loss"] = {"mean": 0.001, "low": 0.0008, "high": 0.0012}
    return result


def test_a_strategy_that_partly_diverged_says_so_beside_its_mean_and_is_ranked_last(result):
    found = tables.rows(partly_diverged(result))
    assert found[-1].name == "one_cycle"
    assert found[-1].loss == "0.00100 [0.00080, 0.00120] (3 seeds; 6 diverged)"
    assert "Runs that diverged are not in the mean" in tables.text(result)
    result["strategies"][0].update(losses=[None] * 9, test={"metric": "accuracy", "mean": None, "loss": {"mean": None}})
    assert row(result, "fixed").loss == "all 9 seeds diverged"
    assert words.confidence(result).endswith("3 ties, 2 unresolved, 6 worse, 1 diverged.")


def test_a_race_ranks_its_finalists_as_the_table_does():
    found = race(partly_diverged(example.raced()))
    assert (found.finals[0][0], found.finals[-1][0]) == ("cosine", "one_cycle")


def test_there_is_no_star_to_explain_where_every_rate_diverged(result):
    found = example.diverged(result)
    for entry in found["strategies"]:
        entry.update(edge=True, peak_lr=None)
    assert "edge of the rates tried" not in tables.text(found)


def test_a_difference_from_a_loss_that_is_not_positive_is_absolute(result):
    for entry in result["strategies"]:
        entry["test"]["loss"]["mean"] -= 0.6
    assert tables.margin(result) == "±0.0195"  # 5% of 0.39
    assert row(result, "one_cycle").difference == "−0.0020 [−0.0060, +0.0020]"
    assert row(result, "one_cycle").bca == "[−0.0056, +0.0018]"


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
    assert words.headline(result)[1] == "Valid for 300 updates."


def test_an_unfinished_study_says_so(result):
    result["strategies"][3].update(test=None, verdict=None)
    result["verdict"] = None
    assert "unfinished: 12 of 13 strategies" in tables.text(result)
    assert "No verdict yet." in tables.text(result)
    assert row(result, "exponential_decay").verdict == "pending"


def test_control_characters_never_reach_a_terminal(result):
    result["strategies"][0]["name"] = "a\x1b[31mb"
    result["verdict"] = "use\x07 it"
    assert "\x1b" not in tables.text(result)
    assert "\x07" not in tables.text(result)


def test_an_empty_result_is_no_error():
    assert "No verdict yet." in tables.text({})


def test_the_control_is_marked_and_explained(result):
    assert row(result, "adamw").strategy == "adamw †"
    assert "† The control:" in tables.text(result)
    assert "†" not in tables.text(example.old())


def test_how_runs_were_trained_is_a_note_if_it_is_the_same_for_all_and_else_a_column(result):
    assert "Trained: population." in tables.text(result)
    assert "trained" not in tables.grid(result)[2]
    result["strategies"][0]["trained"] = "one by one: LAMB takes norms over whole tensors"
    assert "Trained:" not in tables.text(result)
    assert "one by one: LAMB takes norms over whole tensors" in tables.text(result)


def test_a_strategy_whose_median_seed_never_arrives_says_how_many_do(result):
    assert row(result, "adagrad").target == "33% arrive"


def test_an_old_result_has_fewer_columns():
    assert tables.grid(example.old(), tables.RESULTS)[2] == ["strategy", "verdict", "loss", "metric"]
    assert tables.grid(example.old(), tables.EFFORT)[2] == ["strategy", "optimizer", "peak", "seeds", "diverged",
                                                            "runs", "time"]  # fmt: skip


def test_rates_in_words_say_where_runs_diverged_and_which_edge_is_meant(result):
    found = {cells[0]: cells[1:] for cells in tables.swept(figures.fan(result)).rows}
    assert found["cosine"] == ["0.1", "0.218", "8, 0.00625 to 0.8", "0.8 (5 of 5)", "0.8"]
    assert found["adamw"][0] == "0.004 (at the upper edge)"


def test_a_chosen_rate_between_two_that_were_tried_is_shown_with_the_loss_of_the_nearer(result):
    next(s for s in result["strategies"] if s["name"] == "cosine")["peak_lr"] = 0.0841
    found = {cells[0]: cells[1:] for cells in tables.swept(figures.fan(result)).rows}
    assert found["cosine"][:2] == ["0.0841", "0.218"]


def test_rates_of_strategies_that_a_race_dropped_are_left_out(result):
    raced = example.raced()
    assert "fixed" not in {cells[0] for cells in tables.swept(figures.fan(raced)).rows}
    assert words.shorter(raced)
    assert words.shorter(result) == ""


def test_a_race_in_words_says_who_was_dropped_when_and_why():
    found = race(example.raced())
    assert found is not None
    titles, rows = tables.history(found)
    told = {cells[0]: cells[1:] for cells in rows}
    assert titles == ["strategy", "at 33 updates", "at 100 updates", "on fresh seeds", "what became of it"]
    assert told["cosine"][-2:] == ["2. 0.21", "fresh seeds (among the best third)"]
    assert told["adamw"][-1] == "fresh seeds (the control)"
    assert told["warmup"][-2:] == ["", "dropped after 100 updates: not among the best third"]
    assert told["rmsprop"] == ["13. diverged", "", "", "dropped after 33 updates: every run diverged"]


@pytest.mark.parametrize(
    ("effect", "unit", "expected"),
    [
        ((4.8, -0.2, 9.0), "%", "+4.8% [−0.2, +9.0]"),
        ((1.0, 1.0 - 1e-15, 1.0 + 1e-15), "", "+1.000 [+1.000, +1.000]"),
        ((-2e-7, -3e-7, -1e-7), "", "−2.00e-07 [−3.00e-07, −1.00e-07]"),
        ((3.2e9, 1e9, 5e9), "%", "+3.20e+09% [+1.00e+09, +5.00e+09]"),
        ((0.0, 0.0, 0.0), "", "+0.0 [+0.0, +0.0]"),
    ],
)
def test_an_effect_is_as_long_as_it_is_worth(effect, unit, expected):
    assert tables.effect(figures.Effect("a", "tie", *effect), unit) == expected


@pytest.mark.parametrize(
    ("mean", "low", "high", "expected"),
    [
        (0.21, None, None, "0.2100"),
        (0.21, 0.21, 0.21, "0.2100 [0.2100, 0.2100]"),
        (1234.5, 1000.0, 1400.0, "1234 [1000, 1400]"),
        (0.00123, 0.0012, 0.0013, "0.00123 [0.00120, 0.00130]"),
        (None, 0.1, 0.2, ""),
        (1.2e-12, 1.1e-12, 1.3e-12, "1.20e-12 [1.10e-12, 1.30e-12]"),
        (2.5e7, 1e7, 4e7, "2.50e+07 [1.00e+07, 4.00e+07]"),
        (1e-12, -0.5, 0.5, "0.0 [-0.5, 0.5]"),
        (3e-9, None, None, "3.00e-09"),
    ],
)
def test_an_interval_shows_as_many_decimals_as_it_is_worth(mean, low, high, expected):
    assert tables.interval(mean, low, high) == expected
