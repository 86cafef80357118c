"""docs/claims.md says what docs/claims.json says, and that is of the claims as they stand."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ratewise.replicate import claims, merged, page
from ratewise.replicate.claim import DELTA, Gate, verdict
from ratewise.replicate.picture import draw

DOCS = Path(__file__).parents[2] / "docs"
KNOWN = json.loads((DOCS / "claims.json").read_text(encoding="utf-8"))
LINES = {"a": [[1.0, 2.0], [10.0, 4.0]], "b": [[1.0, 3.0], [10.0, 3.0]], "none": []}
FIGURE = {"x": "rate", "y": "loss < 1", "log": "xy", "lines": LINES}


def test_the_page_is_what_the_numbers_say() -> None:
    assert (DOCS / "claims.md").read_text(encoding="utf-8") == page.markdown(KNOWN)


def test_the_pictures_are_what_the_numbers_say() -> None:
    drawn = page.pictures(KNOWN)
    assert {path.stem for path in (DOCS / "claims").glob("*.svg")} == set(drawn)
    for name, drawing in drawn.items():
        assert (DOCS / "claims" / f"{name}.svg").read_text(encoding="utf-8") == drawing


def test_every_claim_was_measured_as_it_is_worded_now_and_at_full_size() -> None:
    worded = {name: (one.sentence, one.source, one.setting) for name, one in claims().items()}
    assert {e["name"]: (e["sentence"], e["source"], e["setting"]) for e in KNOWN["claims"]} == worded
    assert not any(e["quick"] for e in KNOWN["claims"])


def test_verdicts_follow_from_the_gates() -> None:
    for entry in KNOWN["claims"]:
        assert entry["verdict"] == verdict([Gate(**gate) for gate in entry["gates"]]), entry["name"]


def test_what_does_not_hold_is_listed_under_the_table() -> None:
    listed = page.markdown(KNOWN).split("## What was not seen to hold")[1].split("<a id=")[0]
    for entry in KNOWN["claims"]:
        assert (f"(#{entry['name']})" in listed) == (entry["verdict"] != "holds")


def test_the_cost_is_the_sum_over_claims() -> None:
    assert KNOWN["cost"]["updates"] == sum(entry["updates"] for entry in KNOWN["claims"])


def test_measuring_one_claim_again_keeps_the_others() -> None:
    new = {**KNOWN, "claims": [{**KNOWN["claims"][1], "note": "again"}]}
    both = merged(KNOWN, new)
    assert [entry["name"] for entry in both["claims"]] == [entry["name"] for entry in KNOWN["claims"]]
    assert [entry["note"] == "again" for entry in both["claims"]].index(True) == 1
    assert len(merged(None, new)["claims"]) == 1


def test_every_claim_keeps_the_versions_and_the_size_that_it_was_measured_with() -> None:
    again = {**KNOWN["claims"][1], "versions": {"numpy": "0.0.1"}, "quick": True}
    shown = page.markdown(merged(KNOWN, {**KNOWN, "claims": [again]}))
    assert f"With numpy 0.0.1: `{again['name']}`." in shown
    assert f"(`--quick`): `{again['name']}`.**" in shown
    assert "(`--quick`)" not in page.markdown(KNOWN)


def test_every_comparison_names_its_band_of_ties_and_one_that_is_not_the_labs_is_explained() -> None:
    for entry in KNOWN["claims"]:
        for gate in entry["gates"]:
            assert (gate["band"] is not None) == (", lower on " in gate["measured"] or " tie, " in gate["measured"])
            if gate["band"] not in (None, DELTA):
                assert f"band of ties is {100 * gate['band']:g}%" in entry["setting"]
        bands = {gate["band"] for gate in entry["gates"]} - {None}
        assert len(bands) <= 1, entry["name"]


def test_a_drawing_is_svg_with_a_label_for_every_line_that_has_points() -> None:
    root = ET.fromstring(draw(FIGURE, "a < b"))
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"a", "b", "rate", "loss < 1"} <= texts
    assert "none" not in texts
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) == 2


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_labels_stand_in_the_order_of_the_ends_of_their_lines(log: str) -> None:
    root = ET.fromstring(draw({**FIGURE, "log": log}, ""))
    at = {text.text: float(text.get("y", "0")) for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert at["a"] < at["b"]
