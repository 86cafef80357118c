"""Plot data as inline SVG that follows the page: its width, its colours and its highlighting.

The one decision behind it: SVG is written here rather than by matplotlib, so that the page needs no plotting library,
text stays text of one size on every screen, and colours change with the theme and with what is highlighted.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from ratewise.report import svg, tables
from ratewise.report.figures import Curves, Fan, Line, Sweep
from ratewise.report.markup import Markup, tag
from ratewise.report.scale import Scale

_SHAPES, _GAP, _LOSSES = 104, 46, 280  # pixels: the panel of schedules, the space below it, the panel of losses
_FAN = 340
_TINY = {"shape": 40, "loss": 76, "fan": 76}


class Axes(NamedTuple):
    """The axes that the small drawings of all strategies share, so that they can be compared."""

    updates: Scale
    loss: Scale
    validation: Scale


def axes(curves: Curves, fan: Fan) -> Axes:
    """Return the axes that fit every strategy."""
    return Axes(Scale(0.0, max(curves.steps, 1.0)), _loss_scale(curves), _fan_scale(fan))


def overlay(data: Curves, keys: svg.Keys) -> Markup:
    """Return all schedules above all training losses on one axis of updates."""
    across, loss = Scale(0.0, max(data.steps, 1.0)), _loss_scale(data)
    shapes = Scale(min(0.0, *(y for line in data.schedules for y in line.y), 0.0), 1.04)
    top = _SHAPES + _GAP if data.schedules else 0
    low = max(_LOSSES, svg.LABEL * len(data.losses))  # pixels: room for every name at the end of its line
    height = top + low if data.losses else _SHAPES
    above = (
        svg.title("rate, as a share of its peak", -10), _levels(shapes, 0.0, _SHAPES, (0.0, 0.5, 1.0)),
        _curves(data.schedules, across, shapes, (0.0, _SHAPES), keys),
    )  # fmt: skip
    below = (
        svg.title("training loss", top - 10), _levels(loss, top, low, loss.ticks(5)),
        _curves(data.losses, across, loss, (top, low), keys), _names_at_end(data.losses, loss, (top, low), keys),
    )  # fmt: skip
    return svg.plot(
        "overlay", height, "Schedules as a share of their peak, and mean training losses below, over updates.",
        [(svg.upright(across, x, height, "grid"), svg.under(across, x, height, svg.plain(x))) for x in across.ticks()],
        svg.below("optimizer updates", height), above if data.schedules else None, below if data.losses else None,
    )  # fmt: skip


def fan(data: Fan, keys: svg.Keys, named: Collection[str] = ()) -> Markup:
    """Return the validation loss over the rates tried, one line per strategy, and each ceiling at the floor.

    Args:
        data: The rates tried.
        keys: Number of each strategy on the page.
        named: The one or two strategies whose names always show; the others' show once they are picked.
    """
    across = Scale.around((rate for sweep in data.sweeps for rate in _tried(sweep)), log=True)
    upward = _fan_scale(data)
    lines = tuple(Line(s.name, s.verdict, s.rates, s.losses) for s in data.sweeps)
    always = sorted((s.best[1], s.name) for s in data.sweeps if s.best and s.name in named)
    above = {name for _, name in always[1:]}  # two names that always show stand apart: one below its dot, one above
    return svg.plot(
        "fan", _FAN, "Mean validation loss over the peak rates tried; the chosen rate of each strategy is marked.",
        [(svg.upright(across, x, _FAN, "grid"), svg.under(across, x, _FAN, svg.plain(x))) for x in across.ticks()],
        _levels(upward, 0.0, _FAN, upward.ticks(6)),
        svg.title("validation loss", -10), svg.below("peak rate", _FAN),
        _curves(lines, across, upward, (0.0, _FAN), keys),
        [_marks(s, across, upward, -12 if s.name in above else 20, "label named" if s.name in named else "label", keys)
         for s in reversed(data.sweeps)],
    )  # fmt: skip


def shape(line: Line, shared: Axes) -> Markup:
    """Return one schedule as a small area under a curve."""
    height = _TINY["shape"]
    upward = Scale(min(0.0, *line.y), 1.04)
    path = svg.path(line, shared.updates, upward, height)
    left = svg.number(shared.updates(line.x[0]) * svg.ACROSS)
    area = f"{path}V{svg.number(height * (1 - upward(0.0)))}H{left}Z"
    return svg.plot(
        "tiny", height, f"Schedule of {line.name}",
        svg.stretched(0.0, height, tag("path", d=area, class_="area"), tag("path", d=path, class_="line")),
        class_=svg.kind(line.verdict),
    )  # fmt: skip


def loss(line: Line, reference: Line | None, shared: Axes) -> Markup:
    """Return one training loss, the reference's behind it."""
    height = _TINY["loss"]
    behind = (
        tag("path", d=svg.path(reference, shared.updates, shared.loss, height), class_="behind") if reference else None
    )
    own = tag("path", d=svg.path(line, shared.updates, shared.loss, height), class_="line")
    return svg.plot(
        "tiny", height, f"Training loss of {line.name}: {tables.number(line.y[-1])} at the end",
        svg.stretched(0.0, height, behind, own), _floor(height), class_=svg.kind(line.verdict),
    )  # fmt: skip


def sweep(data: Sweep, shared: Axes) -> Markup:
    """Return one strategy's validation loss over its own rates."""
    height = _TINY["fan"]
    across = Scale.around(_tried(data), log=True, pad=0.08)
    line = Line(data.name, data.verdict, data.rates, data.losses)
    return svg.plot(
        "tiny", height, _sensitivity(data),
        svg.stretched(0.0, height, tag("path", d=svg.path(line, across, shared.validation, height), class_="line")),
        [tag("circle", cx=svg.percent(across(x)), cy=svg.clamped(shared.validation, y, height), r=1.8, class_="tried")
         for x, y in zip(data.rates, data.losses, strict=True)],
        _best(data, across, shared.validation, height),
        [_cross(across(d.rate), 7, _gone(data, d.rate)) for d in data.diverged],
        _floor(height),
        tag("text", tables.number(min(_tried(data))), x="0", y=height + 14),
        tag("text", tables.number(max(_tried(data))), x="100%", y=height + 14, text_anchor="end"),
        class_=svg.kind(data.verdict),
    )  # fmt: skip


# -- axes --------------------------------------------------------------------------------------------------------


def _loss_scale(data: Curves) -> Scale:
    return _positive([y for line in data.losses for y in line.y], reach=math.inf)


def _fan_scale(data: Fan) -> Scale:
    """The axis of the validation losses: rates that ruin training may leave it, or nothing else could be told apart."""
    return _positive([y for s in data.sweeps for y in s.losses], reach=12.0, pad=0.1)


def _positive(values: list[float], reach: float, pad: float = 0.04) -> Scale:
    """Logarithmic where every value allows it, up to ``reach`` times the lowest."""
    if values and min(values) > 0:
        return Scale.around([min(v, reach * min(values)) for v in values], log=True, pad=pad)
    return Scale.around(values, pad=pad)


def _tried(data: Sweep) -> list[float]:
    return [*data.rates, *(d.rate for d in data.diverged)]


def _levels(upward: Scale, top: float, height: float, ticks: Iterable[float]) -> list[Markup]:
    """Horizontal lines with their values to the left."""
    found = []
    for value in ticks:
        y = svg.number(top + height * (1 - upward(value)))
        found.append(tag("line", x1="0", x2="100%", y1=y, y2=y, class_="grid"))
        found.append(tag("text", tables.number(value), x=-8, y=y, dy=".34em", text_anchor="end"))
    return found


def _floor(height: float) -> Markup:
    return tag("line", x1="0", x2="100%", y1=height, y2=height, class_="floor")


# -- marks -------------------------------------------------------------------------------------------------------


def _curves(lines: Sequence[Line], across: Scale, upward: Scale, box: tuple[float, float], keys: svg.Keys) -> Markup:
    """The lines in one stretched panel; later ones are drawn first, so that the reference lies on top."""
    top, height = box
    groups = []
    for line in reversed(lines):
        path = svg.path(line, across, upward, height)
        groups.append(tag(
            "g", tag("title", f"{line.name}: {line.verdict}"),
            tag("path", d=path, class_="hit"), tag("path", d=path, class_="line"),
            class_=f"strategy {svg.kind(line.verdict)}", data_s=keys.get(line.name),
        ))  # fmt: skip
    return svg.stretched(top, height, groups)


def _names_at_end(lines: Sequence[Line], upward: Scale, box: tuple[float, float], keys: svg.Keys) -> list[Markup]:
    """The names beside the ends of their lines, pushed apart until they can be read."""
    top, height = box
    ends = sorted(((top + height * (1 - upward(line.y[-1])), line) for line in lines), key=lambda pair: pair[0])
    places = svg.spread([y for y, _ in ends], top, top + height)
    return [
        tag(
            "g",
            svg.at("100%", y, tag("path", d=f"M4 0 16 {svg.number(place - y)}", class_="leader")),
            tag("text", svg.short(line.name), x="100%", dx=20, y=svg.number(place), dy=".34em"),
            class_=f"strategy ends {svg.kind(line.verdict)}",
            data_s=keys.get(line.name),
        )
        for (y, line), place in zip(ends, places, strict=True)
    ]


def _marks(data: Sweep, across: Scale, upward: Scale, down: float, class_: str, keys: svg.Keys) -> Markup:
    """The chosen rate, the diverged ones, and the name, ``down`` pixels below the dot."""
    label = None if data.best is None else tag(
        "text", f"{svg.short(data.name)} {tables.number(data.best[0])}", x=svg.percent(across(data.best[0])),
        y=svg.number(svg.clamped(upward, data.best[1], _FAN) + down), text_anchor="middle", class_=class_,
    )  # fmt: skip
    return tag(
        "g", tag("title", _sensitivity(data)),
        _best(data, across, upward, _FAN), [_cross(across(d.rate), 8, _gone(data, d.rate)) for d in data.diverged],
        _ceiling(data, across, _FAN), label, class_=f"strategy {svg.kind(data.verdict)}", data_s=keys.get(data.name),
    )  # fmt: skip


def _best(data: Sweep, across: Scale, upward: Scale, height: float) -> Markup | None:
    if data.best is None:
        return None
    x, y = svg.percent(across(data.best[0])), svg.clamped(upward, data.best[1], height)
    strokes = "M6 0h9m-4-4 4 4-4 4" if data.edge > 0 else "M-6 0h-9m4-4-4 4 4 4"
    outward = tag("path", d=strokes, class_="edge")
    dot = tag("circle", cx=x, cy=svg.number(y), r=4.5, class_="dot")
    return tag("g", dot, svg.at(x, y, outward) if data.edge else None)


def _ceiling(data: Sweep, across: Scale, height: float) -> Markup | None:
    """A short upright at the floor, a long one once the strategy is picked; none beyond the rates tried."""
    if data.ceiling is None or not 0 <= across(data.ceiling) <= 1:
        return None
    words = f"{data.name}: ceiling {tables.number(data.ceiling)}"
    long = tag("path", d=f"M0 0V{svg.number(-height)}", class_="above")
    short = tag("path", d="M0 0V-14", class_="ceiling")
    return svg.at(svg.percent(across(data.ceiling)), height, tag("title", words), long, short)


def _cross(x: float, y: float, words: str) -> Markup:
    strokes = tag("path", d="M-3.5-3.5 3.5 3.5M-3.5 3.5 3.5-3.5", class_="cross")
    return svg.at(svg.percent(x), y, tag("title", words), strokes)


def _gone(data: Sweep, rate: float) -> str:
    found = next(d for d in data.diverged if d.rate == rate)
    return f"{data.name} at {tables.number(rate)}: {found.count} of {max(found.runs, found.count)} runs diverged"


def _sensitivity(data: Sweep) -> str:
    best = f"best {tables.number(data.best[1])} at {tables.number(data.best[0])}" if data.best else "no rate worked"
    gone = f"; diverged at {', '.join(tables.number(d.rate) for d in data.diverged)}" if data.diverged else ""
    return f"Validation loss of {data.name} by peak rate: {best}{gone}{'; at the edge' if data.edge else ''}"
