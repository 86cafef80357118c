"""Schedules as text: expressions, tables, and a curve for the terminal. Standard library only."""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from ratewise.core.checks import whole


def call(function: str, value: Any, skip: int = 0) -> str:
    """Return ``function(first, second, keyword=third)``, leaving out what equals the default."""
    args = []
    for i, field in enumerate(fields(value)[skip:]):
        given = getattr(value, field.name)
        if field.default is not MISSING and given == field.default:
            continue
        name = field.metadata.get("argument", field.name)
        args.append(repr(given) if field.default is MISSING or (i == 0 and skip) else f"{name}={given!r}")
    return f"{function}({', '.join(args)})"


def table(schedule: Any, steps: int, rows: int = 11) -> str:
    """Return ``rows`` evenly spaced positions from 0 to ``steps`` with their values."""
    last = max(whole("table", "rows", rows) - 1, 1)
    positions = sorted({round(i * steps / last) for i in range(rows)})
    width = max(len("update"), *(len(str(t)) for t in positions))
    lines = [f"{'update':>{width}}  value"]
    return "\n".join(lines + [f"{t:>{width}}  {schedule(t):.8g}" for t in positions])


def plot(schedule: Any, steps: int, width: int = 64, height: int = 12) -> str:
    """Return the curve over updates 0 to ``steps`` - 1 drawn in braille dots, two by four to a character."""
    columns, rows = max(whole("plot", "width", width), 8) * 2, max(whole("plot", "height", height), 2) * 4
    last = max(steps - 1, 1)
    values = [float(schedule(int(x * last / (columns - 1) + 0.5))) for x in range(columns)]
    low, high = min(0.0, *values), max(0.0, *values)
    span = (high - low) or 1.0
    heights = [min(rows - 1, int((v - low) / span * (rows - 1) + 0.5)) for v in values]
    cells = braille(heights, rows // 4)
    labels = {0: f"{high:.3g}", len(cells) - 1: f"{low:.3g}"}
    margin = max(map(len, labels.values()))
    lines = [f"{labels.get(i, ''):>{margin}} ┤{''.join(row)}".rstrip() for i, row in enumerate(cells)]
    end = str(steps - 1)
    lines.append(f"{'':>{margin}} └{'─' * (columns // 2)}")
    lines.append(f"{'':>{margin}}  0{'update':^{max(columns // 2 - 1 - len(end), 0)}}{end}")
    return "\n".join(lines)


def braille(heights: Sequence[int | None], rows: int) -> list[list[str]]:
    """Return ``rows`` lines of characters that show a curve in braille dots, two by four to a character.

    Args:
        heights: Of every column of dots, from 0 at the bottom to ``4 * rows - 1``; None is a gap. Steep parts join.
        rows: Lines of characters.
    """
    cells = [[0] * ((len(heights) + 1) // 2) for _ in range(rows)]
    bits = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))  # braille dots from the bottom up, per column
    before = None
    for x, y in enumerate(heights):
        if y is not None:
            beside = y if before is None else before
            for dot in range(min(y, beside + 1), max(y, beside - 1) + 1):  # join steep parts
                cells[-1 - dot // 4][x // 2] |= bits[x % 2][dot % 4]
        before = y
    return [[chr(0x2800 + cell) if cell else " " for cell in row] for row in cells]


def function_name(function: Any) -> str:
    """``"module:name"`` of a function, as ``Custom`` writes it."""
    kind = type(function)
    module, name = (getattr(function, a, getattr(kind, a)) for a in ("__module__", "__qualname__"))
    return f"{module}:{name}"
