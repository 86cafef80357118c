"""A finding as a drawing: the loss over the logarithm of the rate, with what was found marked in it.

First plain plot data, a ``Picture``, which the figures of ``ratewise.report`` show too; then text for the terminal.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

from ratewise.core.checks import whole
from ratewise.core.text import braille
from ratewise.finder.trials import Trials, located

if TYPE_CHECKING:
    from ratewise.finder.finding import Finding

MARKS = {"low": "├", "high": "┤", "stable": "◆", "ceiling": "┃", "best": "▽", "suggestion": "▲"}
"""The character of each mark; where two fall on one column, the later is shown."""

SOURCES = {
    "valley": "fastai's default",
    "slide": "fastai",
    "minimum": "fastai",
    "steep": "fastai",
    "torch-lr-finder": "torch-lr-finder",
    "lightning": "Lightning before 2.5.3",
    "lightning-as-shipped": "Lightning since 2.5.3",
}
"""Which library each rule comes from."""


@dataclass(frozen=True)
class Picture:
    """What to draw of a finding.

    Args:
        points: ``(rate, loss)`` of everything that stayed finite, rising by rate; of a range test the smoothed loss.
        diverged: Rates that diverged.
        top: Losses above are cut off there, so that the fall can be seen.
        marks: The rate of every mark of ``MARKS`` that is known, by name; "best" is the best of the short runs, where
            the suggestion for the whole run is another.
        loss: What the loss is, in words.
        separate: Whether every point is a measurement of its own, as in a probe.
    """

    points: tuple[tuple[float, float], ...]
    diverged: tuple[float, ...]
    top: float
    marks: dict[str, float]
    loss: str
    separate: bool

    @property
    def low(self) -> float:
        """The lowest loss."""
        return min((loss for _, loss in self.points), default=0.0)

    @property
    def logarithmic(self) -> bool:
        """Whether losses are drawn by their logarithm: where all are above 0, so that the bottom can be seen."""
        return self.low > 0

    def height(self, loss: float) -> float:
        """How high a loss stands: 0 at the lowest, 1 at ``top``."""
        low, loss, top = map(math.log if self.logarithmic else float, (self.low, min(loss, self.top), self.top))
        return min(max((loss - low) / ((top - low) or 1.0), 0.0), 1.0)

    @property
    def rates(self) -> list[float]:
        """Every rate that is shown, rising."""
        return sorted({*(rate for rate, _ in self.points), *self.diverged, *self.marks.values()})


def picture(finding: "Finding") -> Picture:
    """Return what to draw of a finding; without points where nothing was measured."""
    curve, probed = finding.curve, isinstance(finding.curve, Trials)
    if isinstance(curve, Trials):
        losses, words = curve.losses, f"held-out loss after {curve.updates} updates"
    else:
        losses, words = (*curve.smoothed, *curve.losses[len(curve.finite) :]), "smoothed loss"
    measured = list(zip(curve.rates, losses, strict=True))
    points = tuple((rate, loss) for rate, loss in measured if math.isfinite(loss))
    diverged = [rate for rate, loss in measured if not math.isfinite(loss)]
    if not isinstance(curve, Trials) and curve.stopped and not diverged:
        diverged = [curve.rates[-1]]
    marks = {name: rate for name in MARKS if (rate := getattr(finding, name, None)) is not None}
    best = located(curve) if isinstance(curve, Trials) and finding.suggestion is not None else None
    if best is not None and not math.isclose(best.rate, finding.suggestion or 0.0, rel_tol=0.005):
        marks["best"] = best.rate
    if not points:
        return Picture((), tuple(diverged), 0.0, marks, words, probed)
    start = curve.start if isinstance(curve, Trials) else points[0][1]
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    room = max((start - low) / 4, abs(start) / 10)
    return Picture(points, tuple(diverged), min(high, max(start, low) + room), marks, words, probed)


class Axis(NamedTuple):
    """Rates over columns, logarithmic: column c shows the rates of its part of the axis.

    Example:
        >>> axis = Axis(0.001, 1.0, 30)
        >>> [axis.column(rate) for rate in (0.001, 0.0101, 1.0)]
        [0, 10, 29]
    """

    low: float
    high: float
    width: int

    def column(self, rate: float) -> int:
        """The column of a rate; beyond the ends the last one there."""
        if self.high <= self.low:
            return self.width // 2
        part = (math.log(rate) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return min(max(int(part * self.width), 0), self.width - 1)

    def middle(self, column: float) -> float:
        """The rate in the middle of a column."""
        part = (column + 0.5) / self.width
        return math.exp((1 - part) * math.log(self.low) + part * math.log(self.high))

    def ticks(self) -> dict[int, float]:
        """Round rates by their column: powers of ten, and 2 and 5 times those on a short axis."""
        digits = (1, 2, 5) if self.high < 1000 * self.low else (1,)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found = [float(f"{digit}e{power}") for power in powers for digit in digits]
        return {self.column(rate): rate for rate in found if self.low <= rate <= self.high}


def text(finding: "Finding", width: int = 64, height: int = 12) -> str:
    """Return the drawing as lines of text: the curve, its marks, what they are, and the reason below.

    Args:
        finding: What a finder returned.
        width: Columns of the curve, at least 16; a margin with the losses stands to its left.
        height: Lines of the curve, at least 2.
    """
    shown = picture(finding)
    columns, lines = max(whole("plot", "width", width), 16), max(whole("plot", "height", height), 2)
    if not shown.rates or len(shown.points) + len(shown.diverged) < 2:
        return fill(finding.reason, max(columns, 28))
    axis = Axis(shown.rates[0], shown.rates[-1], columns)
    labels = _labels(shown, lines)
    margin = max(map(len, labels.values()), default=0)
    drawn = [
        f"{labels.get(i, ''):>{margin}} ┤{''.join(row)}".rstrip() for i, row in enumerate(_rows(shown, axis, lines))
    ]
    ticks = axis.ticks()
    drawn.append(f"{'':>{margin}} └{''.join('┬' if i in ticks else '─' for i in range(columns))}")
    drawn.append(f"{'':>{margin}}  {_numbers(ticks, columns)}".rstrip())
    if shown.marks:
        drawn.append(f"{'':>{margin}}  {_marks(shown, axis)}".rstrip())
    room = max(columns + margin + 2, 28)
    named = [fill(line, room, subsequent_indent=" " * 15) for line in _legend(shown)]
    return "\n".join([*drawn, "", *named, "", fill(finding.reason, room)])


def _labels(shown: Picture, lines: int) -> dict[int, str]:
    """The losses at the top, in the middle and at the bottom of the axis."""
    if not shown.points:
        return {}
    low, top = shown.low, shown.top
    cut = "≥" if max(loss for _, loss in shown.points) > top else ""
    labels = {0: f"{cut}{top:.3g}", lines - 1: f"{low:.3g}"}
    if lines >= 5:
        share = 1 - (lines // 2) / (lines - 1)
        middle = low * (top / low) ** share if shown.logarithmic else low + (top - low) * share
        labels[lines // 2] = f"{middle:.3g}"
    return labels


def _rows(shown: Picture, axis: Axis, lines: int) -> list[list[str]]:
    """The curve, with a dotted line at the suggestion, a dot for each candidate and a cross for each that diverged."""

    def height(loss: float) -> int:
        return int(shown.height(loss) * (4 * lines - 1) + 0.5)

    dots = axis._replace(width=2 * axis.width)
    losses = [_between(shown, dots.middle(x)) for x in range(dots.width)]
    rows = braille([None if loss is None else height(loss) for loss in losses], lines)
    if "suggestion" in shown.marks:
        column = axis.column(shown.marks["suggestion"])
        for row in rows:
            row[column] = "┊" if row[column] == " " else row[column]
    for rate, loss in shown.points if shown.separate else ():
        rows[lines - 1 - height(loss) // 4][axis.column(rate)] = "●"
    for rate in shown.diverged:
        rows[0][axis.column(rate)] = "×"
    return rows


def _between(shown: Picture, rate: float) -> float | None:
    """The loss at a rate, on a straight line between its neighbours; None outside, and beside what diverged."""
    i = bisect_right(shown.points, (rate, math.inf))
    if not 0 < i < len(shown.points):
        return None
    (left, a), (right, b) = shown.points[i - 1], shown.points[i]
    if any(left < gone < right for gone in shown.diverged):
        return None
    part = (math.log(rate) - math.log(left)) / (math.log(right) - math.log(left))
    a, b = min(a, shown.top), min(b, shown.top)
    return a ** (1 - part) * b**part if shown.logarithmic else (1 - part) * a + part * b


def _numbers(ticks: dict[int, float], columns: int) -> str:
    """The rates below their ticks, as far as there is room."""
    line = ""
    for column, rate in sorted(ticks.items()):
        number = f"{rate:g}"
        begin = min(max(column - len(number) // 2, 0), columns - len(number))
        if not line or begin >= len(line) + 2:
            line += " " * (begin - len(line)) + number
    return line


def _marks(shown: Picture, axis: Axis) -> str:
    """A line with the character of each mark at its column, and a bar over the range."""
    at = {name: axis.column(shown.marks[name]) for name in MARKS if name in shown.marks}
    line = [" "] * axis.width
    if "low" in at and "high" in at:
        line[at["low"] : at["high"] + 1] = "─" * (at["high"] + 1 - at["low"])
    for name, column in at.items():
        line[column] = MARKS[name]
    return "".join(line)


def _legend(shown: Picture) -> list[str]:
    """What each mark is, with its rate."""
    marks = {name: f"{rate:.3g}" for name, rate in shown.marks.items()}
    named = []
    if "suggestion" in marks:
        named.append(("▲", "suggestion", marks["suggestion"] + _derived(shown)))
    if "best" in marks:
        named.append(("▽", "best", f"{marks['best']}, of the short runs"))
    if "low" in marks and "high" in marks:
        named.append(("├─┤", "range", f"{marks['low']} to {marks['high']}"))
    if "stable" in marks:
        named.append(("◆", "stable", f"{marks['stable']}, the largest rate that was seen to train"))
    if "ceiling" in marks:
        named.append(("┃", "ceiling", f"{marks['ceiling']}, above it curvature makes the first updates unstable"))
    if shown.diverged:
        rates = [f"{rate:.3g}" for rate in shown.diverged]
        more = [f"and {len(rates) - 4} more"] if len(rates) > 4 else []
        where = "" if shown.separate else ", where the sweep stopped"
        named.append(("×", "diverged", ", ".join([*rates[:4], *more]) + where))
    if shown.separate and shown.points:
        named.append(("●", "candidate", f"{len(shown.points)} rates, by {shown.loss}"))
    return [f"{mark:<3} {name:<10} {what}" for mark, name, what in named]


def _derived(shown: Picture) -> str:
    """How the suggestion comes from the best of the short runs, where it is another."""
    best, suggestion, stable = (shown.marks.get(name, 0.0) for name in ("best", "suggestion", "stable"))
    if not best:
        return ""
    if math.isclose(suggestion, 0.9 * stable):
        return f" = {stable:.3g} × 0.9, below what trained"
    return f" = {best:.3g} × {suggestion / best:.2g}, for the longer run"


class Compared(NamedTuple):
    """What a known rule suggests, beside the finding's own suggestion."""

    rule: str
    source: str
    rate: float | None
    octaves: float | None


def compared(finding: "Finding") -> list[Compared]:
    """Return every rule with its source, its rate, and how many octaves that lies from the suggestion."""
    own = finding.suggestion
    return [
        Compared(name, SOURCES.get(name, ""), rate, math.log2(rate / own) if rate and own else None)
        for name, rate in finding.rules.items()
    ]
