"""A figure as one SVG file that stands alone, in light and dark: drawn with the report's own tools."""

from collections.abc import Mapping
from typing import Any

from ratewise.report import svg
from ratewise.report.figures import Line
from ratewise.report.markup import Markup, tag
from ratewise.report.scale import Scale

_WIDTH, _HEIGHT = 720, 300
_LEFT, _TOP, _ACROSS, _DOWN = 64, 34, 470, 216  # pixels: where the panel stands, and how large it is
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#777777")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.q{fill:#666}.g{stroke:#ddd}path{fill:none;stroke-width:2;"
    "vector-effect:non-scaling-stroke}@media(prefers-color-scheme:dark){text{fill:#ddd}.q{fill:#aaa}.g{stroke:#444}}"
)


def draw(figure: Mapping[str, Any], words: str) -> str:
    """Return a figure as an SVG document.

    Args:
        figure: ``x``, ``y``, ``log`` and ``lines`` as ``Figure.to_dict`` gives them.
        words: What a screen reader says.
    """
    lines = {name: points for name, points in figure["lines"].items() if points}
    across = Scale.around([x for points in lines.values() for x, _ in points], "x" in figure["log"])
    upward = Scale.around([y for points in lines.values() for _, y in points], "y" in figure["log"])
    ends = sorted(
        (svg.clamped(upward, points[-1][1], _DOWN), i, name) for i, (name, points) in enumerate(lines.items())
    )
    places = svg.spread([y for y, _, _ in ends], 6, _DOWN - 6)
    labels = [
        tag("text", name, x=_LEFT + _ACROSS + 10, y=svg.number(_TOP + y + 4), style=f"fill:{_colour(i)}")
        for y, (_, i, name) in zip(places, ends, strict=True)
    ]
    curves = [_curve(name, points, i, across, upward) for i, (name, points) in enumerate(lines.items())]
    panel = tag(
        "svg", *curves, x=_LEFT, y=_TOP, width=_ACROSS, height=_DOWN,
        viewBox=f"0 0 {svg.ACROSS} {_DOWN}", preserveAspectRatio="none",
    )  # fmt: skip
    return tag(
        "svg", tag("title", words), tag("style", Markup(_STYLE)), _axes(figure, across, upward), panel, *labels,
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", width=_WIDTH, height=_HEIGHT, role="img",
    )  # fmt: skip


def _curve(name: str, points: list[list[float]], i: int, across: Scale, upward: Scale) -> Markup:
    line = Line(name, "", tuple(x for x, _ in points), tuple(y for _, y in points))
    dashes = "6 3" if i >= len(_COLOURS) else None
    return tag("path", d=svg.path(line, across, upward, _DOWN), stroke=_colour(i), stroke_dasharray=dashes)


def _colour(i: int) -> str:
    return _COLOURS[i % len(_COLOURS)]


def _axes(figure: Mapping[str, Any], across: Scale, upward: Scale) -> list[Markup]:
    """Grid, ticks and titles."""
    found = [tag("text", figure["y"], x=_LEFT, y=18, class_="q")]
    bottom, right = _TOP + _DOWN, _LEFT + _ACROSS
    for value in upward.ticks(5):
        y = svg.number(_TOP + _DOWN * (1 - upward(value)))
        found.append(tag("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="g"))
        found.append(tag("text", svg.plain(value), x=_LEFT - 8, y=y, dy="4", text_anchor="end", class_="q"))
    for value in across.ticks(6):
        x = svg.number(_LEFT + _ACROSS * across(value))
        found.append(tag("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="g"))
        found.append(tag("text", svg.plain(value), x=x, y=bottom + 18, text_anchor="middle", class_="q"))
    title = tag("text", figure["x"], x=_LEFT + _ACROSS / 2, y=bottom + 40, text_anchor="middle", class_="q")
    return [*found, title]
