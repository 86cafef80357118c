"""A comparison as a table of formatted cells, and as plain text and markdown.

``rows`` is what every table shows (the page, the command line, markdown); nothing else decides how a number is written.
"""

import math
import re
from collections.abc import Iterable
from textwrap import fill
from typing import NamedTuple

from ratewise.report import figures
from ratewise.report.figures import Result, part, real

_MARKS = r"[\\`*|~]|(?<!\w)_|_(?!\w)|\](?=[(\[:])"

VALID = "Valid for"
"""What leads the sentence that says where a verdict holds."""

NONE = "–"
"""What an empty cell says."""


class Row(NamedTuple):
    """One strategy; every cell is text, empty where there is nothing to say."""

    strategy: str
    verdict: str
    loss: str
    metric: str
    difference: str
    seeds: str
    peak: str
    optimizer: str
    diverged: str
    runs: str


_RIGHT = {"peak", "seeds", "diverged", "runs"}
_OPTIONAL = {"metric", "difference", "seeds", "diverged"}  # left out of plain tables when no strategy has them


def headers(result: Result) -> Row:
    """Return the titles of the columns."""
    band = margin(result)
    return Row(
        strategy="strategy",
        verdict=f"verdict ({band})" if band else "verdict",
        loss="test loss",
        metric=f"test {metric(result) or 'metric'}",
        difference=f"against {_line(str(result.get('reference') or 'reference'))}",
        seeds="seeds needed",
        peak="peak rate",
        optimizer="optimizer",
        diverged="diverged",
        runs="runs",
    )


def rows(result: Result) -> list[Row]:
    """Return one row per strategy: recommended and reference first, then by test loss."""
    return [_row(result, strategy) for strategy in figures.strategies(result)]


def grid(result: Result) -> tuple[Row, list[Row], list[str]]:
    """Return titles, rows, and the names of the columns worth showing."""
    titles, found = headers(result), rows(result)
    kept = [c for c in Row._fields if c not in _OPTIONAL or any(getattr(row, c) for row in found)]
    return titles, found, kept


def text(result: Result, width: int | None = None) -> str:
    """Return the table, its notes, the verdict and the code to paste as plain text.

    Args:
        result: What a comparison found.
        width: Characters per line; sentences are broken there, and columns that do not fit are left out, the least
            important first.
    """
    table = "\n".join(_aligned(result, width))
    sentences = [fill(s, width) if width else s for s in (*notes(result), *headline(result))]
    return _paragraphs(table, *sentences, _code(result))


def markdown(result: Result) -> str:
    """Return the verdict, the table, its notes and the code to paste as markdown."""
    titles, found, kept = grid(result)
    lines = [_pipes(getattr(titles, c) for c in kept)]
    lines.append("|" + "|".join("---:" if c in _RIGHT else "---" for c in kept) + "|")
    lines += [_pipes(getattr(row, c) for c in kept) for row in found]
    first, *rest = map(_literal, headline(result))
    return _paragraphs(f"**{first}**", *rest, "\n".join(lines), *map(_literal, notes(result)), _fenced(result))


def headline(result: Result) -> list[str]:
    """Return what to read first: the verdict, where it is valid, and whether anything is unfinished."""
    valid = str(result.get("valid_for") or "")
    if valid and not valid.casefold().startswith("valid"):
        valid = f"{VALID}: {valid}"
    sentences = [str(result.get("verdict") or "No verdict yet."), valid, figures.unfinished(result)]
    return [_line(sentence) for sentence in sentences if sentence]


def notes(result: Result) -> list[str]:
    """Return what the cells need explained."""
    found = []
    if any(strategy.get("edge") for strategy in figures.strategies(result)):
        found.append("* The best rate lies at the edge of the rates tried: a better one may lie beyond.")
    if any(figures.verdict(strategy) == "unresolved" for strategy in figures.strategies(result)):
        found.append("Seeds needed: an estimate of how many paired seeds would settle an unresolved verdict.")
    return found


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
    return f"±{number(band)}" + {"loss": "%", "accuracy": " pp"}.get(figures.decides_on(result), "")


def number(value: float | None, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` significant digits.

    Example:
        >>> [number(x) for x in (0.1, 0.012345, 1000.0, 192000, 0.00001, None)]
        ['0.1', '0.0123', '1000', '192000', '1e-05', '–']
    """
    if value is None:
        return NONE
    size = abs(value)
    return f"{value:.{max(digits, len(str(int(size))))}g}" if 1 <= size < 1e7 else f"{value:.{digits}g}"


def interval(mean: float | None, low: float | None, high: float | None, percent: bool = False) -> str:
    """Return ``"0.210 [0.200, 0.223]"``, with as many decimals as the interval is worth.

    Example:
        >>> interval(0.21034, 0.2, 0.2231)
        '0.210 [0.200, 0.223]'
        >>> interval(0.956, 0.95, 0.961, percent=True)
        '95.6% [95.0, 96.1]'
    """
    if mean is None:
        return ""
    factor, unit = (100.0, "%") if percent else (1.0, "")
    width = (high - low) * factor if low is not None and high is not None else 0.0
    decimals = _decimals(width) if width > 0 else 4
    shown = f"{mean * factor:.{decimals}f}{unit}"
    if low is None or high is None:
        return shown
    return f"{shown} [{low * factor:.{decimals}f}, {high * factor:.{decimals}f}]"


def signed(value: float, decimals: int) -> str:
    """Return ``"+4.8"`` or ``"−0.2"``, with a real minus sign."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def effect(found: figures.Effect | None, unit: str) -> str:
    """Return ``"+4.8% [−0.2, +9.0]"``."""
    if found is None:
        return ""
    n = min(_decimals(found.high - found.low), 3) if found.high > found.low else 1
    return f"{signed(found.mean, n)}{unit} [{signed(found.low, n)}, {signed(found.high, n)}]"


def short_unit(result: Result) -> str:
    """Return the unit of a difference as it stands behind a number."""
    return {"loss": "%", "accuracy": " pp"}.get(figures.decides_on(result), "")


def _decimals(width: float) -> int:
    """So many that the width of an interval shows about two digits."""
    return min(max(1 - math.floor(math.log10(width)), 0), 8)


def _row(result: Result, strategy: Result) -> Row:
    test, loss = part(strategy, "test"), figures.loss(strategy)
    rate = real(strategy.get("peak_lr"))
    accuracy = str(test.get("metric") or "") == "accuracy"
    return Row(
        strategy=_line(figures.name(strategy)),
        verdict=_line(figures.verdict(strategy)),
        loss=interval(*_interval(loss)),
        metric=interval(*_interval(test), percent=accuracy) if test.get("metric") not in (None, "loss") else "",
        difference=effect(figures.effect(result, strategy), short_unit(result)),
        seeds=_count(part(strategy, "difference").get("seeds_needed")),
        peak="" if rate is None else number(rate) + ("*" if strategy.get("edge") else ""),
        optimizer=_line(str(strategy.get("optimizer") or "")),
        diverged=_count(strategy.get("diverged")),
        runs=_count(strategy.get("runs"), zero="0"),
    )


def _interval(values: Result) -> tuple[float | None, float | None, float | None]:
    return real(values.get("mean")), real(values.get("low")), real(values.get("high"))


def _count(value: object, zero: str = "") -> str:
    found = real(value)
    return zero if not found else f"{found:.0f}"


_DISPENSABLE = ("optimizer", "runs", "seeds", "difference", "metric", "diverged")
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
        [cell.rjust(width) if c in _RIGHT else cell.ljust(width) for cell in column]
        for c, column, width in zip(kept, columns, widths, strict=True)
    ]
    lines = ["  ".join(line).rstrip() for line in zip(*cells, strict=True)]
    return [lines[0], "  ".join("─" * width for width in widths), *lines[1:]]


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_literal(cell) or NONE for cell in cells) + " |"


def _literal(cell: str) -> str:
    """Text that markdown shows as it is: an underscore inside a word and brackets that are no link stay readable."""
    return re.sub(_MARKS, r"\\\g<0>", cell).replace("<", "&lt;")


def _line(sentence: str) -> str:
    """One line without control characters, whatever a file or a person put into it."""
    return " ".join("".join(c if c.isprintable() else " " for c in sentence).split())


def _code(result: Result) -> str:
    """The code, as it was written but without what would steer a terminal."""
    code = str(result.get("code") or "").strip("\n")
    return "".join(c for c in code if c.isprintable() or c == "\n")


def _fenced(result: Result) -> str:
    code = _code(result)
    if not code:
        return ""
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}python\n{code}\n{fence}"


def _paragraphs(*found: str) -> str:
    return "\n\n".join(paragraph for paragraph in found if paragraph) + "\n"
