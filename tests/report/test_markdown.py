import re

import pytest

from ratewise.report.markdown import literal, markdown
from ratewise.report.page import SECTIONS

from . import example


@pytest.fixture
def result():
    return example.result()


CASES = [example.result, example.raced, example.old, dict, lambda: {"strategies": [{"name": "a"}]}]


@pytest.mark.parametrize("case", CASES)
def test_every_study_has_the_ten_sections_of_the_page(case):
    assert re.findall("^## (.*)$", markdown(case()), re.M) == list(SECTIONS)


@pytest.mark.parametrize("case", CASES)
def test_the_same_result_gives_the_same_text(case):
    assert markdown(case()) == markdown(case())


@pytest.mark.parametrize("case", CASES)
def test_every_table_is_as_wide_as_its_title(case):
    tables = re.findall(r"(?:^\|.*\|\n)+", markdown(case()), re.M)
    for table in tables:
        widths = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert len(set(widths)) == 1


def test_the_verdict_comes_first_with_its_confidence(result):
    text = markdown(result)
    verdict = text.index(f"**{result['verdict']}**")
    assert verdict < text.index("Confidence: 12 fresh seeds paired with those of cosine") < text.index("Valid for")


def test_it_holds_the_tables_and_the_code(result):
    text = markdown(result)
    assert "| cosine | reference | 0.210 [0.199, 0.223] | 0.208 | 0.204 [0.193, 0.216] |" in text
    assert "| one_cycle | tie | −1.0% [−2.9, +1.0] | [−2.7, +0.9] | 0.02 | 25% | – |" in text
    assert "\n```python\nimport ratewise as rw\n" in text
    assert "- fresh seeds: 1000–1011\n" in text


def test_hostile_names_are_shown_as_they_are(result):
    result["strategies"][0]["name"] = "a|b <img> [x](y) `c` *d*\nnext"
    line = next(line for line in markdown(result).splitlines() if "img" in line and "worse" in line)
    assert line.startswith(r"| a\|b &lt;img> [x\](y) \`c\` \*d\* next | worse |")


def test_a_sentence_cannot_become_a_heading_or_a_list(result):
    result["valid_for"], result["changes"] = "Valid", ["# not a heading", "1. not a list", "0.5 is a number"]
    text = markdown(result)
    assert "- \\# not a heading\n- 1\\. not a list\n- 0.5 is a number\n" in text


def test_a_fence_is_longer_than_any_in_the_code(result):
    result["code"] = "```\n````"
    assert "`````python\n```\n````\n`````" in markdown(result)


def test_an_ampersand_stays_one():
    assert literal("&lt;") == "&amp;lt;"
