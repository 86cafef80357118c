import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from ratewise.report import svg
from ratewise.report.page import SECTIONS, page

from . import example

VOID = {"meta"}


class Reader(HTMLParser):
    """Collects elements and text, and fails on a tag that is not closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.stack, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in {"style", "script"}:
            self.text.append(data)

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in wanted.items())]


@pytest.fixture
def result():
    return example.result()


def alone(result):
    return result | {"strategies": [s for s in result["strategies"] if s["name"] == "cosine"]}


def bare(result):
    return {"strategies": [{"name": s["name"]} for s in result["strategies"]]}


def losses_only(result):
    for entry in result["strategies"]:
        del entry["schedule"], entry["fan"]
    return result


def old(result):
    return example.old()


def raced(result):
    return example.raced()


CASES = [
    lambda result: result,
    example.unfinished,
    example.diverged,
    alone,
    bare,
    losses_only,
    old,
    raced,
    lambda result: {},
]


@pytest.mark.parametrize("case", CASES)
def test_every_study_gives_a_well_formed_page(result, case):
    reader = Reader(page(case(result)))
    assert len(reader.all("h1")) == 1
    assert [a["id"] for a in reader.all("section")] == [title.lower().replace(" ", "-") for title in SECTIONS]
    assert not any("nan" in str(value) for _, a in reader.elements for key, value in a.items() if key in "dxy")


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_deterministic(case):
    assert page(case(example.result())) == page(case(example.result()))


@pytest.mark.parametrize("case", CASES)
def test_the_page_loads_nothing(result, case):
    text = page(case(result))
    reader = Reader(text)
    assert not re.search(r"https?:|//\w+\.|@import|url\(", text)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in reader.elements}
    assert not [a for a in reader.all("script") if "src" in a]
    assert all(a["href"].startswith("#") for _, a in reader.elements if "href" in a)
    (policy,) = reader.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none';")


def test_links_lead_to_sections_and_ids_are_unique(result):
    reader = Reader(page(result))
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in reader.all("a")} <= set(ids)


def test_the_verdict_comes_first(result):
    text = " ".join(Reader(page(result)).text)
    order = [result["verdict"], "Confidence", "Valid for", "Recommended", "Each strategy ran", "Mean validation loss",
             "After how many updates", "What it took", "There was no race", "14 seeds may", result["code"][:20],
             "ratewise compare digits"]  # fmt: skip
    places = [text.index(words, text.index(result["verdict"])) for words in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "hostile", ["</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<!--", "&lt;b"]
)
def test_hostile_names_stay_text(result, hostile):
    plain = {tag for tag, _ in Reader(page(result)).elements}
    entry = result["strategies"][0]
    entry.update(name=hostile, optimizer=hostile, spec=hostile, momentum=hostile, verdict=hostile)
    for key in ("task", "description", "verdict", "valid_for", "code", "host", "command", "started", "metric"):
        result[key] = hostile
    result["recommended"] = result["reference"] = hostile
    result["versions"] = {hostile: hostile}
    result["budget"]["engine"] = hostile
    reader = Reader(page(result))
    assert {tag for tag, _ in reader.elements} == plain
    assert len(reader.all("script")) == 2
    assert not [a for _, a in reader.elements if "onerror" in a]
    assert hostile in "".join(reader.text)


def test_the_page_holds_its_own_data(result):
    result["strategies"][0]["seconds"] = math.nan
    stored = re.search(r'<script type="application/json" id="result">(.*?)</script>', page(result), re.S)[1]
    assert json.loads(stored)["strategies"][0]["seconds"] is None
    assert json.loads(stored)["strategies"][1] == result["strategies"][1]


def test_every_strategy_has_rows_a_button_and_a_card(result):
    reader = Reader(page(result))
    keys = [str(i) for i in range(1, 14)]
    for tag in ("button", "article"):
        assert [a["data-s"] for a in reader.all(tag) if "data-s" in a] == keys
    rows = [a["data-s"] for a in reader.all("tr") if "data-s" in a]
    assert sorted(rows, key=int) == [key for key in keys for _ in range(5)]  # differences, rates, times, two of results


def test_every_drawing_says_what_it_shows():
    drawings = [a for a in Reader(page(example.raced())).all("svg") if a.get("class", "").startswith("plot")]
    named = [a["class"].split()[1] for a in drawings]
    assert [name for name in named if name != "tiny"] == ["forest", "fan", "overlay", "ways", "places"]
    assert all(a["role"] == "img" and a["aria-label"] for a in drawings)


def test_everything_can_be_read_without_javascript(result):
    hidden = [a for _, a in Reader(page(result)).elements if "hidden" in a]
    assert {a["class"] for a in hidden} == {"picker", "copy", "save"}


def test_an_unfinished_study_says_so(result):
    text = "".join(Reader(page(example.unfinished(result))).text)
    assert "This study is unfinished: 12 of 13 strategies." in text
    assert "unfinished" not in "".join(Reader(page(example.result())).text)


def test_a_study_in_which_everything_diverged_draws_no_empty_axes(result):
    reader = Reader(page(example.diverged(result)))
    assert "Runs diverged at every rate tried." in reader.text
    assert not reader.all("svg", **{"class": "plot fan"})
    assert "training loss" not in reader.text


def test_a_strategy_dropped_from_a_race_ends_at_its_last_rung():
    text = page(example.raced())
    drawn = text[text.index('class="plot places"') : text.index('id="what-would-change-it"')]
    assert drawn.count('class="cross"') == 5
    assert "adam: dropped after 33 updates" in drawn
    assert ">fresh seeds</text>" in drawn


def test_the_ceiling_and_the_edge_are_drawn_where_they_are_known(result):
    text = page(result)
    fan = text[text.index('class="plot fan"') : text.index("The rates in numbers")]
    assert fan.count('class="ceiling"') == 9
    assert fan.count('class="edge"') == 1
    assert "marks the ceiling" in fan
    assert 'class="ceiling"' not in page(example.old())
    assert "marks the ceiling" not in page(example.old())


def test_two_names_always_show_in_the_fan_one_below_its_dot_and_one_above(result):
    result["recommended"] = "linear"
    fan = page(result).partition('class="plot fan"')[2].partition("</section>")[0]
    marks = re.findall(r'<circle cx="[^"]*" cy="([\d.]+)" [^>]*class="dot"></circle>.*?y="([\d.]+)" '
                       r'text-anchor="middle" class="label( named)?">(\w+) ', fan)  # fmt: skip
    assert len(marks) == 13
    downwards = {name: round(float(label) - float(dot)) for dot, label, named, name in marks if named}
    assert downwards == {"cosine": 20, "linear": -12}


def test_thirty_strategies_have_room_for_their_names():
    text = page(example.many(30))
    overlay = text[text.index('class="plot overlay"') : text.index("Every strategy by itself")]
    names = [float(y) for y in re.findall(r'x="100%" dx="20" y="([\d.]+)"', overlay)]
    assert len(names) == 30
    assert min(b - a for a, b in pairwise(sorted(names))) > 12


def test_a_long_name_keeps_its_end():
    assert svg.short("exponential_decay") == "exponential_decay"
    assert svg.short("exponential_decay_3") == "exponentia…decay_3"
    assert len(svg.short("x" * 100)) == svg.NAME


def test_an_effect_beyond_the_axis_becomes_an_arrow(result):
    text = page(result)
    forest = text[text.index('class="plot forest"') : text.index('id="rates"')]
    assert forest.count('class="arrow"') == 3
    assert forest.count('class="dot"') == 10


def test_a_verdict_nobody_knows_is_coloured_as_pending():
    assert svg.kind("tie") == "v-tie"
    assert svg.kind('"><b>') == "v-pending"


@pytest.mark.parametrize("n", [0, 1, 5, 40])
def test_labels_never_overlap_and_stay_inside(n):
    places = svg.spread([90 + i % 3 for i in range(n)], 0, 100, gap=10)
    assert len(places) == n
    assert all(-1e-9 <= place <= 100 + 1e-9 for place in places)
    gap = min(10, 100 / max(n - 1, 1))
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(places))


def test_a_simplified_curve_stays_within_its_tolerance():
    points = [(float(x), 50 * math.cos(x / 100)) for x in range(1000)]
    kept = svg.simplified(points, 0.2)
    assert len(kept) < 100
    for (x0, y0), (x1, y1) in pairwise(kept):
        for x, y in points[int(x0) : int(x1)]:
            assert abs(y0 + (y1 - y0) * (x - x0) / (x1 - x0) - y) <= 0.2
