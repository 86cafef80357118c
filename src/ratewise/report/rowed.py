"""Drawings with one row for each strategy: differences from the reference, ways to the target, and the race."""

import math

from ratewise.report import svg, tables
from ratewise.report.figures import Effect, Forest, Line
from ratewise.report.markup import Markup, tag
from ratewise.report.race import Race
from ratewise.report.reached import Reached, Targets
from ratewise.report.scale import Scale

_ROW = 28  # pixels: one strategy
_PLACE = 22  # pixels: one place in a race


def forest(data: Forest, keys: svg.Keys) -> Markup:
    """Return the differences from the reference: one row per strategy, the tie band behind them."""
    low, high = data.window
    across = Scale(low - 0.02 * (high - low), high + 0.02 * (high - low))
    height = _ROW * len(data.effects)
    unit = "%" if data.unit.startswith("%") else " pp" if data.unit == "percentage points" else ""
    return svg.plot(
        "forest", height, f"Paired differences from {data.reference} with 95% intervals.",
        _band(across, data.margin, height),
        [(svg.upright(across, x, height, "grid"), svg.under(across, x, height, f"{svg.plain(x)}{unit}"))
         for x in across.ticks(7)],
        svg.upright(across, 0.0, height, "zero"), _sides(across, height, data.better),
        [_effect(effect, across, i * _ROW + _ROW / 2, unit, keys) for i, effect in enumerate(data.effects)],
    )  # fmt: skip


def ways(data: Targets, keys: svg.Keys) -> Markup:
    """Return when the seeds of every strategy reached the target: the larger a dot, the more of them."""
    across = Scale(0.0, 1.03 * max(data.steps, 1.0))
    height = _ROW * len(data.rows)
    return svg.plot(
        "ways", height, "Updates until the target loss was reached, by strategy; larger dots are more seeds.",
        [(svg.upright(across, x, height, "grid"), svg.under(across, x, height, svg.plain(x))) for x in across.ticks()],
        svg.below("optimizer updates", height),
        [_way(row, across, i * _ROW + _ROW / 2, keys) for i, row in enumerate(data.rows)],
    )  # fmt: skip


def places(data: Race, keys: svg.Keys, kinds: dict[str, str]) -> Markup:
    """Return the place of every strategy at each rung and at the end; a cross is where it was dropped.

    Args:
        data: The race.
        keys: Number of each strategy on the page.
        kinds: Class of each strategy, which colours it.
    """
    names = data.names()
    stops = [*(str(rung.steps) for rung in data.rungs), *(["fresh seeds"] if data.finals else [])]
    across = Scale(0.0, max(len(stops) - 1, 1))
    height = _PLACE * max(*(len(rung.stands) for rung in data.rungs), 1)
    return svg.plot(
        "places", height, "Place of every strategy at each rung of the race, the best on top.",
        [(svg.upright(across, i, height, "grid"), _stop(across, i, len(stops), height, stop))
         for i, stop in enumerate(stops)],
        svg.below("optimizer updates of a run", height),
        [_racer(data, who, across, height, keys, kinds) for who in reversed(names)],
    )  # fmt: skip


def _sides(across: Scale, height: float, better: str) -> list[Markup]:
    """Which side of zero is which."""
    zero, y = svg.percent(across(0.0)), svg.number(height + 38)
    left, right = ("better", "worse") if better == "left" else ("worse", "better")
    return [
        tag("text", f"← {left}", x=zero, dx=-8, y=y, text_anchor="end"),
        tag("text", f"{right} →", x=zero, dx=8, y=y),
    ]


def _band(across: Scale, margin: float | None, height: float) -> Markup | None:
    """The differences too small to matter."""
    if not margin:
        return None
    left, right = across(-margin), across(margin)
    return tag(
        "rect", x=svg.percent(left), width=svg.percent(right - left), y=0, height=svg.number(height), class_="band"
    )


def _effect(effect: Effect, across: Scale, y: float, unit: str, keys: svg.Keys) -> Markup:
    """Name, interval, and the numbers in words; an arrow where the interval leaves the axis."""
    low, high, mean = (min(max(across(x), 0.0), 1.0) for x in (effect.low, effect.high, effect.mean))
    inside = across(effect.mean) == mean
    numbers = tables.effect(effect, unit)
    return tag(
        "g", tag("title", f"{effect.name}: {numbers}, {effect.verdict}"),
        _who(effect.name, effect.control, y),
        tag("line", x1=svg.percent(low), x2=svg.percent(high), y1=y, y2=y, class_="whisker"),
        tag("circle", cx=svg.percent(mean), cy=y, r=4.5, class_="dot") if inside else None,
        _arrow(1.0, y, "M-18 0H2M-5-5 2 0-5 5") if across(effect.high) > 1 else None,
        _arrow(0.0, y, "M18 0H-2M5-5-2 0 5 5") if across(effect.low) < 0 else None,
        _beside(y, numbers, numbers.split(" [")[0]),
        class_=f"strategy {svg.kind(effect.verdict)}", data_s=keys.get(effect.name),
    )  # fmt: skip


def _arrow(x: float, y: float, d: str) -> Markup:
    return svg.at(svg.percent(x), y, tag("path", d=d, class_="arrow"))


def _who(name: str, control: bool, y: float) -> Markup:
    """The name to the left of a row."""
    shown = f"{svg.short(name)} {tables.CONTROL}" if control else svg.short(name)
    return tag("text", shown, x=-14, y=svg.number(y), dy=".34em", text_anchor="end", class_="who")


def _beside(y: float, wide: str, narrow: str) -> list[Markup]:
    """The numbers to the right of a row: in full, and for a narrow page."""
    return [
        tag("text", wide, x="100%", dx=14, y=svg.number(y), dy=".34em", class_="wide"),
        tag("text", narrow, x="100%", dx=10, y=svg.number(y), dy=".34em", class_="narrow"),
    ]


def _way(row: Reached, across: Scale, y: float, keys: svg.Keys) -> Markup:
    """One strategy: a dot wherever seeds arrived, and an upright at the median."""
    seeds = f"{row.arrived} of {row.seeds}"
    median = "" if row.median is None else f"median {row.median:.0f}, "
    score = "" if row.score is None else f", score {row.score:.2f}"
    dots = [
        tag("circle", cx=svg.percent(across(at)), cy=svg.number(y), r=svg.number(2 + 7 * math.sqrt(n / row.seeds)),
            class_="share")
        for at, n in row.counts
    ]  # fmt: skip
    middle = [svg.at(svg.percent(across(at)), y, tag("path", d="M0-10V10", class_="median"))
              for at in (row.median,) if at is not None]  # fmt: skip
    return tag(
        "g", tag("title", f"{row.name}: {median}{seeds} seeds{score}"),
        _who(row.name, row.control, y),
        tag("line", x1="0", x2="100%", y1=svg.number(y), y2=svg.number(y), class_="grid"),
        dots, middle,
        _beside(y, f"{median}{seeds}{score}", f"{row.arrived}/{row.seeds}"),
        class_=f"strategy {svg.kind(row.verdict)}", data_s=keys.get(row.name),
    )  # fmt: skip


def _stop(across: Scale, i: int, stops: int, height: float, words: str) -> Markup:
    """The length of a rung below its column; the outer ones stay inside the drawing."""
    anchor = "start" if i == 0 else "end" if i == stops - 1 else "middle"
    return tag("text", words, x=svg.percent(across(i)), y=svg.number(height + 18), text_anchor=anchor)


def _racer(data: Race, who: str, across: Scale, height: float, keys: svg.Keys, kinds: dict[str, str]) -> Markup:
    """The way of one strategy through the race, its name at both ends."""
    found = [(i, stand.place) for i, rung in enumerate(data.rungs) if (stand := rung.of(who))]
    last = data.place(who)
    found += [(len(data.rungs), last)] if last is not None else []
    points = [(float(i), (place - 0.5) * _PLACE) for i, place in found]
    line = Line(who, "", tuple(x for x, _ in points), tuple(height - y for _, y in points))
    path = svg.path(line, across, Scale(0.0, height), height)
    gone = tag("path", d="M-3.5-3.5 3.5 3.5M-3.5 3.5 3.5-3.5", class_="cross")
    (x0, y0), (x1, y1) = points[0], points[-1]
    out = data.dropped(who)
    return tag(
        "g", tag("title", f"{who}: dropped after {out[0].steps} updates" if out else who),
        svg.stretched(0.0, height, tag("path", d=path, class_="hit"), tag("path", d=path, class_="line")),
        [tag("circle", cx=svg.percent(across(x)), cy=svg.number(y), r=3.5, class_="dot") for x, y in points],
        svg.at(svg.percent(across(x1)), y1, gone) if out else None,
        tag("text", svg.short(who), x=svg.percent(across(x0)), dx=-12, y=svg.number(y0), dy=".34em",
            text_anchor="end", class_="who") if x0 == 0 else None,
        tag("text", svg.short(who), x="100%", dx=12, y=svg.number(y1), dy=".34em", class_="wide")
        if last is not None else None,
        class_=f"strategy {kinds.get(who, svg.kind(''))}", data_s=keys.get(who),
    )  # fmt: skip
