"""Plot data as inline SVG that follows the page: its width, its colours and its highlighting.

The one decision behind it: SVG is written here rather than by matplotlib, so that the page needs no plotting library,
text stays text of one size on every screen, and colours change with the theme and with what is highlighted.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ratewise.report import svg, tables
from ratewise.report.figures import PENDING, Curves, Effect, Fan, Forest, Line, Sweep
from ratewise.report.markup import Markup, tag
from ratewise.report.scale import Scale

Keys = Mapping[str, int]
"""Number of each strategy on the page: what links its row, its curves and its card."""

VERDICTS = ("reference", "better", "tie", "unresolved", "worse", "diverged", PENDING)

_ROW = 28  # pixels: one strategy in the forest
_SHAPES, _GAP, _LOSSES = 104, 46, 280  # pixels: the panel of schedules, the space below it, the panel of losses
_FAN = 340
_TINY = {"shape": 40, "loss": 76, "fan": 76}


class Axes(NamedTuple):
    """The axes that the small drawings of all strategies share, so that they can be compared."""

    updates: Scale
    loss: Scale
    validation: Scale


def kind(verdict: str) -> str:
    """Return the class that colours a verdict."""
    return f"v-{verdict}" if verdict in VERDICTS else f"v-{PENDING}"


def axes(curves: Curves, fan: Fan) -> Axes:
    """Return the axes that fit every strategy."""
    return Axes(Scale(0.0, max(curves.steps, 1.0)), _loss_scale(curves), _fan_scale(fan))


def forest(data: Forest, keys: Keys) -> Markup:
    """Return the differences from the reference: one row per strategy, the tie band behind them."""
    low, high = data.window
    across = Scale(low - 0.02 * (high - low), high + 0.02 * (high - low))
    height = _ROW * len(data.effects)
    unit = "%" if data.unit.startswith("%") else " pp" if data.unit == "percentage points" else ""
    return svg.plot(
        "forest", height, f"Paired differences from {data.reference} with 95% intervals.",
        _band(across, data.margin, height),
        [(_upright(across, x, height, "grid"), _under(across, x, height, f"{svg.plain(x)}{unit}"))
         for x in across.ticks(7)],
        _upright(across, 0.0, height, "zero"), _sides(across, height, data.better),
        [_effect(effect, across, i * _ROW + _ROW / 2, unit, keys) for i, effect in enumerate(data.effects)],
    )  # fmt: skip


def overlay(data: Curves, keys: Keys) -> Markup:
    """Return all schedules above all training losses on one axis of updates."""
    across, loss = Scale(0.0, max(data.steps, 1.0)), _loss_scale(data)
    shapes = Scale(min(0.0, *(y for line in data.schedules for y in line.y), 0.0), 1.04)
    top = _SHAPES + _GAP if data.schedules else 0
    height = top + _LOSSES if data.losses else _SHAPES
    above = (
        _title("rate, as a share of its peak", -10), _levels(shapes, 0.0, _SHAPES, (0.0, 0.5, 1.0)),
        _curves(data.schedules, across, shapes, (0.0, _SHAPES), keys),
    )  # fmt: skip
    below = (
        _title("training loss", top - 10), _levels(loss, top, _LOSSES, loss.ticks(5)),
        _curves(data.losses, across, loss, (top, _LOSSES), keys), _names_at_end(data.losses, loss, top, keys),
    )  # fmt: skip
    return svg.plot(
        "overlay", height, "Schedules as a share of their peak, and mean training losses below, over updates.",
        [(_upright(across, x, height, "grid"), _under(across, x, height, svg.plain(x))) for x in across.ticks()],
        _below("optimizer updates", height), above if data.schedules else None, below if data.losses else None,
    )  # fmt: skip


def fan(data: Fan, keys: Keys) -> Markup:
    """Return the validation loss over the rates tried, one line per strategy."""
    across = Scale.around((rate for sweep in data.sweeps for rate in _tried(sweep)), log=True)
    upward = _fan_scale(data)
    lines = tuple(Line(s.name, s.verdict, s.rates, s.losses) for s in data.sweeps)
    return svg.plot(
        "fan", _FAN, "Mean validation loss over the peak rates tried; the chosen rate of each strategy is marked.",
        [(_upright(across, x, _FAN, "grid"), _under(across, x, _FAN, svg.plain(x))) for x in across.ticks()],
        _levels(upward, 0.0, _FAN, upward.ticks(6)),
        _title("validation loss", -10), _below("peak rate", _FAN),
        _curves(lines, across, upward, (0.0, _FAN), keys),
        [_marks(sweep, across, upward, _FAN, keys) for sweep in reversed(data.sweeps)],
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
        class_=kind(line.verdict),
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
        svg.stretched(0.0, height, behind, own), _floor(height), class_=kind(line.verdict),
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
        class_=kind(data.verdict),
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


def _upright(across: Scale, x: float, height: float, class_: str) -> Markup:
    at = svg.percent(across(x))
    return tag("line", x1=at, x2=at, y1=0, y2=svg.number(height), class_=class_)


def _under(across: Scale, x: float, height: float, words: str) -> Markup:
    return tag("text", words, x=svg.percent(across(x)), y=svg.number(height + 18), text_anchor="middle")


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


def _title(words: str, y: float) -> Markup:
    return tag("text", words, x="0", y=svg.number(y), class_="axis")


def _below(words: str, height: float) -> Markup:
    return tag("text", words, x="50%", y=svg.number(height + 38), text_anchor="middle")


def _sides(across: Scale, height: float, better: str) -> list[Markup]:
    """Which side of zero is which."""
    zero, y = svg.percent(across(0.0)), svg.number(height + 38)
    left, right = ("better", "worse") if better == "left" else ("worse", "better")
    return [
        tag("text", f"← {left}", x=zero, dx=-8, y=y, text_anchor="end"),
        tag("text", f"{right} →", x=zero, dx=8, y=y),
    ]


# -- marks -------------------------------------------------------------------------------------------------------


def _band(across: Scale, margin: float | None, height: float) -> Markup | None:
    """The differences too small to matter."""
    if not margin:
        return None
    left, right = across(-margin), across(margin)
    return tag(
        "rect", x=svg.percent(left), width=svg.percent(right - left), y=0, height=svg.number(height), class_="band"
    )


def _effect(effect: Effect, across: Scale, y: float, unit: str, keys: Keys) -> Markup:
    """Name, interval, and the numbers in words; an arrow where the interval leaves the axis."""
    low, high, mean = (min(max(across(x), 0.0), 1.0) for x in (effect.low, effect.high, effect.mean))
    inside = across(effect.mean) == mean
    numbers = tables.effect(effect, unit)
    return tag(
        "g", tag("title", f"{effect.name}: {numbers}, {effect.verdict}"),
        tag("text", svg.short(effect.name), x=-14, y=y, dy=".34em", text_anchor="end", class_="who"),
        tag("line", x1=svg.percent(low), x2=svg.percent(high), y1=y, y2=y, class_="whisker"),
        tag("circle", cx=svg.percent(mean), cy=y, r=4.5, class_="dot") if inside else None,
        _arrow(1.0, y, "M-18 0H2M-5-5 2 0-5 5") if across(effect.high) > 1 else None,
        _arrow(0.0, y, "M18 0H-2M5-5-2 0 5 5") if across(effect.low) < 0 else None,
        tag("text", numbers, x="100%", dx=14, y=y, dy=".34em", class_="wide"),
        tag("text", numbers.split(" [")[0], x="100%", dx=10, y=y, dy=".34em", class_="narrow"),
        class_=f"strategy {kind(effect.verdict)}", data_s=keys.get(effect.name),
    )  # fmt: skip


def _arrow(x: float, y: float, d: str) -> Markup:
    return _at(svg.percent(x), y, tag("path", d=d, class_="arrow"))


def _at(x: str, y: float, *content: Markup) -> Markup:
    """Something drawn in pixels around a place that is per cent of the width."""
    return tag("svg", *content, x=x, y=svg.number(y), class_="at")


def _curves(lines: Sequence[Line], across: Scale, upward: Scale, box: tuple[float, float], keys: Keys) -> Markup:
    """The lines in one stretched panel; later ones are drawn first, so that the reference lies on top."""
    top, height = box
    groups = []
    for line in reversed(lines):
        path = svg.path(line, across, upward, height)
        groups.append(tag(
            "g", tag("title", f"{line.name}: {line.verdict}"),
            tag("path", d=path, class_="hit"), tag("path", d=path, class_="line"),
            class_=f"strategy {kind(line.verdict)}", data_s=keys.get(line.name),
        ))  # fmt: skip
    return svg.stretched(top, height, groups)


def _names_at_end(lines: Sequence[Line], upward: Scale, top: float, keys: Keys) -> list[Markup]:
    """The names beside the ends of their lines, pushed apart until they can be read."""
    ends = sorted(((top + _LOSSES * (1 - upward(line.y[-1])), line) for line in lines), key=lambda pair: pair[0])
    places = svg.spread([y for y, _ in ends], top, top + _LOSSES)
    return [
        tag(
            "g",
            _at("100%", y, tag("path", d=f"M4 0 16 {svg.number(place - y)}", class_="leader")),
            tag("text", svg.short(line.name), x="100%", dx=20, y=svg.number(place), dy=".34em"),
            class_=f"strategy ends {kind(line.verdict)}",
            data_s=keys.get(line.name),
        )
        for (y, line), place in zip(ends, places, strict=True)
    ]


def _marks(data: Sweep, across: Scale, upward: Scale, height: float, keys: Keys) -> Markup:
    """The chosen rate, the diverged ones, and the name, which shows when the strategy is picked."""
    best = data.best
    label = None if best is None else tag(
        "text", f"{svg.short(data.name)} {tables.number(best[0])}", x=svg.percent(across(best[0])),
        y=svg.number(svg.clamped(upward, best[1], height) + 20), text_anchor="middle", class_="label",
    )  # fmt: skip
    return tag(
        "g", tag("title", _sensitivity(data)),
        _best(data, across, upward, height), [_cross(across(d.rate), 8, _gone(data, d.rate)) for d in data.diverged],
        label, class_=f"strategy {kind(data.verdict)}", data_s=keys.get(data.name),
    )  # fmt: skip


def _best(data: Sweep, across: Scale, upward: Scale, height: float) -> Markup | None:
    if data.best is None:
        return None
    x, y = data.best
    return tag("circle", cx=svg.percent(across(x)), cy=svg.number(svg.clamped(upward, y, height)), r=4.5, class_="dot")


def _cross(x: float, y: float, words: str) -> Markup:
    strokes = tag("path", d="M-3.5-3.5 3.5 3.5M-3.5 3.5 3.5-3.5", class_="cross")
    return _at(svg.percent(x), y, tag("title", words), strokes)


def _gone(data: Sweep, rate: float) -> str:
    found = next(d for d in data.diverged if d.rate == rate)
    return f"{data.name} at {tables.number(rate)}: {found.count} of {max(found.runs, found.count)} runs diverged"


def _sensitivity(data: Sweep) -> str:
    best = f"best {tables.number(data.best[1])} at {tables.number(data.best[0])}" if data.best else "no rate worked"
    gone = f"; diverged at {', '.join(tables.number(d.rate) for d in data.diverged)}" if data.diverged else ""
    return f"Validation loss of {data.name} by peak rate: {best}{gone}{'; at the edge' if data.edge else ''}"
