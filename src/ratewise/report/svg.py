"""What every inline drawing is built from: panels, paths, and places for labels.

Across, positions are per cent of a drawing as wide as its place; down, they are pixels. Only curves live in a
coordinate system that stretches, so that text and dots never do.
"""

from collections.abc import Mapping, Sequence

from ratewise.report import tables
from ratewise.report.figures import PENDING, Line
from ratewise.report.markup import Content, Markup, tag
from ratewise.report.scale import Scale

ACROSS = 1000
"""Width of a stretched panel in its own units."""

LABEL = 15.0
"""Pixels from one label down to the next."""

NAME = 18
"""Characters of a name beside a drawing."""

Keys = Mapping[str, int]
"""Number of each strategy on the page: what links its rows, its curves and its card."""

VERDICTS = ("reference", "better", "tie", "unresolved", "worse", "diverged", "dropped", PENDING)


def kind(verdict: str) -> str:
    """Return the class that colours a verdict."""
    return f"v-{verdict}" if verdict in VERDICTS else f"v-{PENDING}"


def plot(name: str, height: float, words: str, *content: Content, class_: str = "") -> Markup:
    """A drawing as wide as its place and ``height`` pixels high; ``words`` is what a screen reader says."""
    return tag(
        "svg", *content, class_=f"plot {name} {class_}".strip(), role="img", aria_label=words,
        width="100%", height=number(height),
    )  # fmt: skip


def stretched(top: float, height: float, *content: Content) -> Markup:
    """A panel whose units across stretch with the page."""
    return tag(
        "svg", *content, x="0", y=number(top), width="100%", height=number(height),
        viewBox=f"0 0 {ACROSS} {number(height)}", preserveAspectRatio="none",
    )  # fmt: skip


def path(line: Line, across: Scale, upward: Scale, height: float) -> str:
    """The curve in a stretched panel; what lies far outside is cut to just outside."""
    heights = (min(max(height * (1 - upward(y)), -height), 2 * height) for y in line.y)
    if not line.x:
        return ""  # every rate diverged
    points = list(zip((across(x) * ACROSS for x in line.x), heights, strict=True))
    return "M" + " ".join(f"{number(x)} {number(y)}" for x, y in simplified(points))


def simplified(points: Sequence[tuple[float, float]], tolerance: float = 0.2) -> list[tuple[float, float]]:
    """Return the points without those that lie within ``tolerance`` of the line through their neighbours.

    Example:
        >>> simplified([(0, 0), (1, 1), (2, 2), (3, 0)])
        [(0, 0), (2, 2), (3, 0)]

    References:
        Douglas and Peucker, 1973, Algorithms for the reduction of the number of points required to represent a
        digitized line or its caricature. Distances are taken vertically, because x only ever grows here.
    """
    kept, open_spans = {0, len(points) - 1}, [(0, len(points) - 1)]
    while open_spans:
        first, last = open_spans.pop()
        (x0, y0), (x1, y1) = points[first], points[last]
        slope = (y1 - y0) / (x1 - x0) if x1 != x0 else 0.0
        inside = range(first + 1, last)
        far = max(inside, key=lambda i: abs(points[i][1] - y0 - slope * (points[i][0] - x0)), default=None)
        if far is not None and abs(points[far][1] - y0 - slope * (points[far][0] - x0)) > tolerance:
            kept.add(far)
            open_spans += [(first, far), (far, last)]
    return [points[i] for i in sorted(kept)]


def upright(across: Scale, x: float, height: float, class_: str) -> Markup:
    """A line from top to bottom at ``x``."""
    place = percent(across(x))
    return tag("line", x1=place, x2=place, y1=0, y2=number(height), class_=class_)


def under(across: Scale, x: float, height: float, words: str) -> Markup:
    """What is written below the axis at ``x``."""
    return tag("text", words, x=percent(across(x)), y=number(height + 18), text_anchor="middle")


def title(words: str, y: float) -> Markup:
    """What a panel shows, above its left end."""
    return tag("text", words, x="0", y=number(y), class_="axis")


def below(words: str, height: float) -> Markup:
    """What the axis counts, below its numbers."""
    return tag("text", words, x="50%", y=number(height + 38), text_anchor="middle")


def at(x: str, y: float, *content: Markup) -> Markup:
    """Something drawn in pixels around a place that is per cent of the width."""
    return tag("svg", *content, x=x, y=number(y), class_="at")


def clamped(upward: Scale, y: float, height: float) -> float:
    """The height of a mark that must stay visible."""
    return round(height * (1 - min(max(upward(y), 0.0), 1.0)), 2)


def plain(x: float) -> str:
    """The number at a tick, with a real minus sign."""
    return tables.number(x).replace("-", "−") if abs(x) >= 1e-4 else tables.number(x)


def percent(share: float) -> str:
    """A share of the width."""
    return f"{number(100 * share)}%"


def short(name: str) -> str:
    """A name that fits beside a drawing, without its middle; the whole one is in the table and in the tooltip."""
    return name if len(name) <= NAME else f"{name[: NAME - 8]}…{name[-7:]}"


def number(x: float) -> str:
    """A coordinate, to a hundredth of a pixel."""
    return f"{x:.2f}".rstrip("0").rstrip(".") if x else "0"


def spread(wanted: Sequence[float], low: float, high: float, gap: float = LABEL) -> list[float]:
    """Return places for labels near the ``wanted`` ones (ascending), at least ``gap`` apart, within low to high.

    Example:
        >>> spread([10, 11, 50], 0, 100, gap=10)
        [5.5, 15.5, 50.0]
    """
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    blocks: list[tuple[float, int]] = []  # (first place, number of labels): neighbours that touch move as one
    for y in wanted:
        blocks.append((_within(y, 1, gap, low, high), 1))
        while len(blocks) > 1 and blocks[-2][0] + blocks[-2][1] * gap > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            centre = (n * (a + (n - 1) * gap / 2) + m * (b + (m - 1) * gap / 2)) / (n + m)
            blocks[-2:] = [(_within(centre - (n + m - 1) * gap / 2, n + m, gap, low, high), n + m)]
    return [first + i * gap for first, n in blocks for i in range(n)]


def _within(first: float, n: int, gap: float, low: float, high: float) -> float:
    return float(max(min(first, high - (n - 1) * gap), low))
