"""A comparison as a table of formatted cells, and as plain text.

``rows`` is what every table shows (the page, the command line, markdown); nothing else decides how a number is written.
"""

import math
from collections.abc import Sequence
from textwrap import fill
from typing import NamedTuple

from ratewise.report import figures, words
from ratewise.report.figures import Fan, Result, part, real
from ratewise.report.race import Race, Stand
from ratewise.report.reached import Targets

NONE = "–"
"""What an empty cell says."""

CONTROL = "†"
"""Marks the control."""


class Row(NamedTuple):
    """One strategy; every cell is text, empty where there is nothing to say. ``name`` is its name and no column."""

    name: str
    strategy: str
    verdict: str
    loss: str
    median: str
    best: str
    area: str
    metric: str
    target: str
    difference: str
    bca: str
    p: str
    wins: str
    needed: str
    peak: str
    optimizer: str
    sensitivity: str
    seeds: str
    diverged: str
    runs: str
    updates: str
    time: str
    trained: str


DIFFERENCES = ("strategy", "verdict", "difference", "bca", "p", "wins", "needed")
"""Columns of the table beside the drawing of differences."""

RESULTS = ("strategy", "verdict", "loss", "median", "best", "area", "metric", "target")
"""What came out."""

EFFORT = ("strategy", "optimizer", "peak", "sensitivity", "seeds", "diverged", "runs", "updates", "time", "trained")
"""What it took."""

RIGHT = {
    "median",
    "target",
    "p",
    "wins",
    "needed",
    "peak",
    "sensitivity",
    "seeds",
    "diverged",
    "runs",
    "updates",
    "time",
}
"""Columns of numbers without an interval."""

_TEXT = (
    "strategy", "verdict", "loss", "best", "area", "metric", "target", "difference", "needed", "peak", "sensitivity",
    "optimizer", "diverged", "runs", "updates", "trained",
)  # fmt: skip
_NEEDED = {"strategy", "verdict", "loss", "peak", "optimizer", "runs"}  # shown even if no strategy has them


def headers(result: Result) -> Row:
    """Return the titles of the columns."""
    band = margin(result)
    return Row(
        name="",
        strategy="strategy",
        verdict=f"verdict ({band})" if band else "verdict",
        loss="test loss",
        median="median",
        best="best checkpoint",
        area="mean on the way",
        metric=f"test {metric(result) or 'metric'}",
        target="updates to target",
        difference=f"against {words.line(result.get('reference') or 'reference')}",
        bca="BCa interval",
        p="corrected p",
        wins="seeds won",
        needed="seeds needed",
        peak="peak rate",
        optimizer="optimizer",
        sensitivity="sensitivity",
        seeds="fresh seeds",
        diverged="diverged",
        runs="runs",
        updates="updates",
        time="time",
        trained="trained",
    )


def rows(result: Result) -> list[Row]:
    """Return one row per strategy: recommended and reference first, then by divergences and median test loss."""
    return [_row(result, strategy) for strategy in figures.strategies(result)]


def grid(result: Result, columns: tuple[str, ...] = _TEXT) -> tuple[Row, list[Row], list[str]]:
    """Return titles, rows, and those of the columns that are worth showing."""
    titles, found = headers(result), rows(result)
    kept = [c for c in columns if c in _NEEDED or any(getattr(row, c) for row in found)]
    if len({row.trained for row in found}) == 1:  # one word for all of them is a note
        kept = [c for c in kept if c != "trained"]
    return titles, found, kept


def text(result: Result, width: int | None = None) -> str:
    """Return the table, its notes, the verdict and the code to paste as plain text.

    Args:
        result: What a comparison found.
        width: Characters per line; sentences are broken there, and columns that do not fit are left out, the least
            important first.
    """
    table = "\n".join(_aligned(result, width))
    sentences = [fill(s, width) if width else s for s in (*words.notes(result), *words.headline(result))]
    return words.paragraphs(table, *sentences, words.code(result))


class Grid(NamedTuple):
    """A table in words: titles, and rows whose first cell is the name of a strategy."""

    titles: list[str]
    rows: list[list[str]]


def swept(found: Fan) -> Grid:
    """Return the rates tried, in words."""
    titles = ["strategy", "chosen rate", "validation loss", "rates tried", "diverged at", "ceiling"]
    edges = {-1: " (at the lower edge)", 0: "", 1: " (at the upper edge)"}
    rows = []
    for sweep in found.sweeps:
        tried = sorted({*sweep.rates, *(gone.rate for gone in sweep.diverged)})
        best = sweep.best or (None, None)
        rows.append([
            words.line(sweep.name), f"{number(best[0])}{edges[sweep.edge]}", number(best[1]),
            f"{len(tried)}, {number(tried[0])} to {number(tried[-1])}" if len(tried) > 1 else number(tried[0]),
            ", ".join(f"{number(gone.rate)} ({gone.count} of {max(gone.runs, gone.count)})" for gone in sweep.diverged),
            number(sweep.ceiling) if sweep.ceiling else "",
        ])  # fmt: skip
    return Grid(titles, rows)


def arrivals(found: Targets) -> Grid:
    """Return when strategies reached the target, in words."""
    titles = ["strategy", "median updates", "seeds that arrive", "profile score"]
    rows = [
        [words.line(row.name), "" if row.median is None else f"{row.median:.0f}", f"{row.arrived} of {row.seeds}",
         "" if row.score is None else f"{row.score:.2f}"]
        for row in found.rows
    ]  # fmt: skip
    return Grid(titles, rows)


def history(found: Race) -> Grid:
    """Return the race in words: place, loss and rate at every rung, the final place, and why a strategy was dropped."""
    titles = ["strategy", *(f"at {rung.steps} updates" for rung in found.rungs), "on fresh seeds", "what became of it"]
    finals = dict(found.finals)
    rows = []
    for who in found.names():
        stands = [rung.of(who) for rung in found.rungs]
        cells = [f"{stand.place}. {_stood(stand)}" if stand else "" for stand in stands]
        final = f"{found.place(who)}. {number(finals[who])}" if who in finals else ""
        rows.append([words.line(who), *cells, final, words.fate(found, who)])
    return Grid(titles, rows)


def _stood(stand: Stand) -> str:
    if stand.loss is None:
        return "diverged"
    return number(stand.loss) + ("" if stand.rate is None else f" at {number(stand.rate)}")


def metric(result: Result) -> str:
    """Return the name of the task's metric, empty if it is the loss itself."""
    named = str(result.get("metric") or "")
    return "" if named == "loss" else named


def margin(result: Result) -> str:
    """Return the tie band as ``"±5%"``, empty if it is unknown."""
    band = figures.margin(result)
    delta = real(part(result, "budget").get("delta"))
    if band is None and delta is not None and figures.decides_on(result) == "loss":
        band = 100 * delta  # no reference yet: a share of a loss is known without it
    if band is None:
        return ""
    return f"±{number(band)}{figures.short_unit(result)}"


def number(value: float | None, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` significant digits, outside 0.0001 to 1,000,000 with an exponent.

    Example:
        >>> [number(x) for x in (0.1, 0.012345, 1000.0, 192000, 0.00001, 2.5e6, None)]
        ['0.1', '0.0123', '1000', '192000', '1e-05', '2.5e+06', '–']
    """
    if value is None:
        return NONE
    size = abs(value)
    return f"{value:.{max(digits, len(str(int(size))))}g}" if 1 <= size < 1e6 else f"{value:.{digits}g}"


def interval(mean: float | None, low: float | None, high: float | None, percent: bool = False) -> str:
    """Return ``"0.210 [0.200, 0.223]"``, with as many decimals as the interval is worth.

    Example:
        >>> interval(0.21034, 0.2, 0.2231)
        '0.210 [0.200, 0.223]'
        >>> interval(0.956, 0.95, 0.961, percent=True)
        '95.6% [95.0, 96.1]'
        >>> interval(1.234e-12, 1.1e-12, 1.4e-12)
        '1.23e-12 [1.10e-12, 1.40e-12]'
    """
    if mean is None:
        return ""
    factor, unit = (100.0, "%") if percent else (1.0, "")
    width = (high - low) * factor if low is not None and high is not None else 0.0
    form = _form([x * factor for x in (mean, low, high) if x is not None], _decimals(width) if width > 0 else 4)
    shown = f"{mean * factor:{form}}{unit}"
    if low is None or high is None:
        return shown
    return f"{shown} [{low * factor:{form}}, {high * factor:{form}}]"


def _form(values: Sequence[float], decimals: int) -> str:
    """How to write numbers that belong together: with an exponent if the largest lies outside 0.0001 to 1,000,000."""
    size = max(map(abs, values))
    return ".2e" if 0 < size < 1e-4 or size >= 1e6 else f".{decimals}f"


def signed(value: float, form: str) -> str:
    """Return ``"+4.8"`` or ``"−0.2"``, with a real minus sign."""
    text = f"{value:+{form}}"
    return text.replace("-", "−", 1) if value < 0 else text


def effect(found: figures.Effect | None, unit: str) -> str:
    """Return ``"+4.8% [−0.2, +9.0]"``."""
    if found is None:
        return ""
    decimals = _decimals(found.high - found.low) if found.high > found.low else 1
    most = 3 if unit or not found.mean else 2 + _decimals(abs(found.mean))  # of an interval of rounding errors
    form = _form((found.mean, found.low, found.high), min(decimals, most))
    return f"{signed(found.mean, form)}{unit} [{signed(found.low, form)}, {signed(found.high, form)}]"


def duration(seconds: float | None) -> str:
    """Return seconds as people say them.

    Example:
        >>> [duration(s) for s in (3.21, 41.0, 200, 3900, None)]
        ['3.2 s', '41 s', '3 min 20 s', '1 h 5 min', '']
    """
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def grouped(value: float | None) -> str:
    """Return a count, large ones in groups of three.

    Example:
        >>> [grouped(n) for n in (960, 12000, None)]
        ['960', '12 000', '']
    """
    if value is None:
        return ""
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 10_000 else f"{value:.0f}"


def _decimals(width: float) -> int:
    """So many that the width of an interval shows about two digits."""
    return min(max(1 - math.floor(math.log10(width)), 0), 8)


def _row(result: Result, strategy: Result) -> Row:
    test, cost, difference = (part(strategy, key) for key in ("test", "cost", "difference"))
    rate, seconds = real(strategy.get("peak_lr")), real(cost.get("seconds"))
    accuracy = str(test.get("metric") or "") == "accuracy"
    shown, p, wins = words.line(figures.name(strategy)), real(difference.get("adjusted")), real(difference.get("wins"))
    return Row(
        name=figures.name(strategy),
        strategy=f"{shown} {CONTROL}" if figures.control(strategy) else shown,
        verdict=words.line(figures.verdict(strategy)),
        loss=_loss(strategy),
        median=_padded(real(strategy.get("median"))),
        best=interval(*_interval(part(strategy, "best"))),
        area=interval(*_interval(part(strategy, "area"))),
        metric=interval(*_interval(test), percent=accuracy) if test.get("metric") not in (None, "loss") else "",
        target=_target(part(strategy, "target")),
        difference=effect(figures.effect(result, strategy), figures.short_unit(result)),
        bca=_limits(result, difference),
        p="" if p is None else number(p, 2),
        wins="" if wins is None else f"{100 * wins:.0f}%",
        needed=_count(difference.get("seeds_needed")),
        peak="" if rate is None else number(rate) + ("*" if strategy.get("edge") else ""),
        optimizer=words.line(strategy.get("optimizer") or ""),
        sensitivity=_padded(real(strategy.get("sensitivity")), 2),
        seeds=_count(test.get("n")),
        diverged=_count(strategy.get("diverged")),
        runs=_count(cost.get("runs", strategy.get("runs")), zero="0"),
        updates=grouped(real(cost.get("updates"))),
        time=duration(real(strategy.get("seconds")) if seconds is None else seconds),
        trained=words.line(strategy.get("trained") or ""),
    )


def _padded(value: float | None, digits: int = 3) -> str:
    """A number as ``number`` writes it, with zeros at its end so that a column lines up."""
    if value is None:
        return ""
    return f"{value:#.{digits}g}" if 1e-4 <= abs(value) < 10**digits / 10 else number(value, digits)


def _limits(result: Result, difference: Result) -> str:
    """The bootstrap interval of a difference, in the unit of the difference itself."""
    found = figures.effect(result, {"difference": {"mean": difference.get("mean"), **_ends(difference.get("bca"))}})
    return f"[{effect(found, figures.short_unit(result)).partition(' [')[2]}" if found and difference.get("bca") else ""


def _ends(limits: object) -> dict[str, object]:
    return dict(zip(("low", "high"), limits, strict=False)) if isinstance(limits, (list, tuple)) else {}


def _loss(strategy: Result) -> str:
    """The mean of the fresh runs that survived, and beside it how many that are, if not all did."""
    mean, (gone, runs) = interval(*_interval(figures.loss(strategy))), figures.diverged(strategy)
    if not gone:
        return mean
    return f"{mean} ({runs - gone} seeds; {gone} diverged)" if mean else f"all {gone} seeds diverged"


def _target(found: Result) -> str:
    """The median number of updates, or how many seeds never arrived."""
    median, reached = real(found.get("median")), real(found.get("reached"))
    if reached is None:
        return ""
    return f"{median:.0f}" if median is not None else f"{100 * reached:.0f}% arrive"


def _interval(values: Result) -> tuple[float | None, float | None, float | None]:
    return real(values.get("mean")), real(values.get("low")), real(values.get("high"))


def _count(value: object, zero: str = "") -> str:
    found = real(value)
    return zero if not found else f"{found:.0f}"


_DISPENSABLE = (
    "area", "target", "sensitivity", "updates", "trained", "best", "optimizer", "runs", "needed", "difference",
    "metric", "diverged",
)  # fmt: skip
"""Which columns a narrow table does without, in this order."""


def _aligned(result: Result, width: int | None = None) -> list[str]:
    """The table in columns of equal width."""
    titles, found, kept = grid(result)
    cells_of = {c: [getattr(row, c) or (NONE if i else "") for i, row in enumerate((titles, *found))] for c in kept}
    for least in _DISPENSABLE:
        if width is not None and sum(2 + max(map(len, cells_of[c])) for c in kept) - 2 > width:
            kept = [c for c in kept if c != least]
    columns = [cells_of[c] for c in kept]
    widths = [max(map(len, column)) for column in columns]
    cells = [
        [cell.rjust(width) if c in RIGHT else cell.ljust(width) for cell in column]
        for c, column, width in zip(kept, columns, widths, strict=True)
    ]
    lines = ["  ".join(line).rstrip() for line in zip(*cells, strict=True)]
    return [lines[0], "  ".join("─" * width for width in widths), *lines[1:]]
