"""Plot data as matplotlib figures, for notebooks, papers and ``--png``.

Figures are made without pyplot: no window, no backend and no style of the reader's session is touched. Every function
returns a ``matplotlib.figure.Figure``, which saves itself: ``draw.fan(data).savefig("fan.png")``.
"""

import math
from collections.abc import Iterable
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from ratewise.core import checks
from ratewise.core.schedule import Schedule
from ratewise.errors import MissingDependency
from ratewise.finder import Finding
from ratewise.finder.drawn import picture
from ratewise.report import tables
from ratewise.report.figures import Curves, Fan, Forest, Line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "reference": "#0b5ea8", "better": "#007a58", "tie": "#2f7299", "unresolved": "#846308", "worse": "#bd4514",
    "diverged": "#68686f",
}  # fmt: skip
"""A colour for each verdict: Okabe and Ito's set for colour-blind readers, darkened until text in it is readable."""

_LINES = (
    ("suggestion", COLOURS["reference"], "-"),
    ("stable", COLOURS["better"], "--"),
    ("ceiling", COLOURS["worse"], ":"),
    ("best", COLOURS["diverged"], "-."),
)
"""Marks of a finding that are lines."""

_GREY = "#8a8f96"
_MOST = 2000  # points of a curve: more than a figure has pixels across


def curve(schedule: Schedule, steps: int | None = None) -> "Figure":
    """Return the rate over optimizer updates, titled with the expression that makes the schedule.

    Args:
        schedule: A schedule whose lengths are settled.
        steps: How many updates to show; by default the schedule's length, 1000 if it is endless.

    Raises:
        ScheduleError: The schedule's length is not known yet, or ``steps`` is no number of updates.
        MissingDependency: matplotlib is not installed.
    """
    first = schedule(0)  # says in words what is missing if a length is
    shown = math.ceil(schedule.steps or 1000) if steps is None else checks.whole("curve", "steps", steps)
    stride = math.ceil(shown / _MOST)
    updates = sorted({*range(0, shown, stride), shown - 1})
    figure, (axes,) = _figure(7.2, 3.6)
    axes.plot(updates, [first, *map(schedule, updates[1:])], color=COLOURS["reference"], linewidth=1.8)
    axes.set(xlabel="optimizer update", ylabel="rate")
    axes.set_title(_plain("\n".join(wrap(repr(schedule), 92)[:4])), fontsize=9, loc="left")
    return figure


def forest(data: Forest) -> "Figure":
    """Return the paired differences from the reference, the tie band behind them."""
    figure, (axes,) = _figure(7.2, 1.2 + 0.28 * len(data.effects))
    low, high = data.window
    if data.margin:
        axes.axvspan(-data.margin, data.margin, color=COLOURS["reference"], alpha=0.1, linewidth=0)
    axes.axvline(0.0, color=COLOURS["reference"], linewidth=1)
    for row, effect in enumerate(data.effects):
        colour = _colour(effect.verdict)
        axes.plot([effect.low, effect.high], [row, row], color=colour, linewidth=1.8)
        axes.plot([effect.mean], [row], "o", color=colour, markersize=5)
        if not low <= effect.mean <= high:
            beyond = effect.mean > high
            told = tables.effect(effect, "").split(" [")[0]
            words = f"{told} →" if beyond else f"← {told}"
            at = {"x": high, "ha": "right"} if beyond else {"x": low, "ha": "left"}
            axes.text(y=row, s=words, va="center", color=colour, **at)
    axes.set_yticks(range(len(data.effects)), [_plain(effect.name) for effect in data.effects])
    axes.set_ylim(len(data.effects) - 0.5, -0.5)
    room = 0.03 * (high - low) or 1.0
    axes.set_xlim(low - room, high + room)
    sides = "← better   worse →" if data.better == "left" else "← worse   better →"
    axes.set_xlabel(_plain(f"difference from {data.reference}, in {data.unit}   ({sides})"))
    return figure


def curves(data: Curves) -> "Figure":
    """Return the schedules above the training losses, over the same updates."""
    figure, (above, below) = _figure(7.2, 6.0, rows=(1, 2.6))
    _lines(above, data.schedules)
    _lines(below, data.losses)
    above.set_ylabel("rate / its peak")
    below.set(ylabel="training loss", xlabel="optimizer update", xlim=(0, data.steps))
    _logarithmic(below, (y for line in data.losses for y in line.y))
    _legend(figure, data.losses or data.schedules)
    return figure


def fan(data: Fan) -> "Figure":
    """Return the validation loss over the rates tried; dots are chosen rates, crosses are rates that diverged."""
    figure, (axes,) = _figure(7.2, 4.4)
    lines = [Line(sweep.name, sweep.verdict, sweep.rates, sweep.losses) for sweep in data.sweeps]
    _lines(axes, lines)
    top = axes.get_xaxis_transform()  # crosses stand at the upper edge, whatever the losses are
    for sweep in data.sweeps:
        colour = _colour(sweep.verdict)
        if sweep.best:
            axes.plot(*([value] for value in sweep.best), "o", color=colour, markersize=6, markeredgecolor="white")
        gone = [found.rate for found in sweep.diverged]
        axes.plot(gone, [0.97] * len(gone), "x", color=colour, markersize=6, transform=top)
    axes.set(xscale="log", xlabel="peak rate", ylabel="validation loss")
    _logarithmic(axes, (y for sweep in data.sweeps for y in sweep.losses))
    _legend(figure, lines)
    return figure


def finding(found: Finding) -> "Figure":
    """Return the loss over the rates of a finding: its range shaded, its suggestion and what is stable as lines.

    Of a probe the dots are candidates, and crosses at the upper edge are rates that diverged.
    """
    shown = picture(found)
    figure, (axes,) = _figure(7.2, 4.0)
    axes.set_title(_plain("\n".join(wrap(found.reason, 92)[:4])), fontsize=9, loc="left")
    if not shown.points and not shown.diverged:  # nothing was measured
        axes.axis("off")
        return figure
    if "low" in shown.marks and "high" in shown.marks:
        words = f"range {tables.number(shown.marks['low'])} to {tables.number(shown.marks['high'])}"
        axes.axvspan(
            shown.marks["low"], shown.marks["high"], color=COLOURS["reference"], alpha=0.12, linewidth=0, label=words
        )
    for name, colour, style in _LINES:
        if name in shown.marks:
            label = "best of the short runs" if name == "best" else name
            words = f"{label} {tables.number(shown.marks[name])}"
            axes.axvline(shown.marks[name], color=colour, linestyle=style, linewidth=1.6, label=words)
    rates, losses = [rate for rate, _ in shown.points], [loss for _, loss in shown.points]
    axes.plot(rates, losses, "o-" if shown.separate else "-", color="#22262b", markersize=5, linewidth=1.4)
    if shown.diverged:
        at_the_top = axes.get_xaxis_transform()
        gone = [0.97] * len(shown.diverged)
        axes.plot(shown.diverged, gone, "x", color=COLOURS["worse"], transform=at_the_top, label="diverged")
    _logarithmic(axes, losses)
    if shown.low < shown.top and shown.logarithmic:
        axes.set_ylim(shown.low * (shown.low / shown.top) ** 0.05, shown.top * (shown.top / shown.low) ** 0.05)
    elif shown.low < shown.top:
        axes.set_ylim(shown.low - 0.05 * (shown.top - shown.low), shown.top + 0.05 * (shown.top - shown.low))
    axes.set(xscale="log", xlabel="rate" if not shown.separate else "peak rate", ylabel=shown.loss or "loss")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _figure(width: float, height: float, rows: tuple[float, ...] = (1,)) -> tuple["Figure", list[Any]]:
    """An empty figure and its axes, which share the axis across."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("matplotlib", "plot", "report") from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    grid = figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=rows)
    found = [axes for (axes,) in grid]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#ecebe6", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, found


def _lines(axes: Any, lines: Iterable[Line]) -> None:
    """The lines, the reference thicker and on top; dashes tell apart what shares a colour."""
    for i, line in enumerate(lines):
        strong = line.verdict in {"reference", "better"}
        axes.plot(
            line.x, line.y, color=_colour(line.verdict), linewidth=2.4 if strong else 1.2, zorder=3 if strong else 2,
            linestyle="-" if strong else ("-", "--", ":", "-.")[i % 4], label=_plain(line.name),
        )  # fmt: skip


def _legend(figure: Any, lines: Iterable[Line]) -> None:
    if any(True for _ in lines):
        handles, names = figure.axes[-1].get_legend_handles_labels()
        if not handles:
            handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=8)


def _logarithmic(axes: Any, values: Iterable[float]) -> None:
    """A logarithmic axis where every value allows it, with plain numbers on it."""
    found = list(values)
    if not found or min(found) <= 0:
        return
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if max(found) < 30 * min(found) else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tables.number(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _colour(verdict: str) -> str:
    return COLOURS.get(verdict, _GREY)


def _plain(words: str) -> str:
    """Text that matplotlib shows as it is: a dollar would start a formula, a leading underscore hide a label."""
    words = words.replace("$", r"\$")
    return f"\u200b{words}" if words.startswith("_") else words
