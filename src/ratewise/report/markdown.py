"""The report page as Markdown: the same ten sections, tables for drawings, for a pull request or a notebook."""

import re
from collections.abc import Callable, Iterable

from ratewise.report import figures, reached, sections, tables, words
from ratewise.report.figures import Line, Result
from ratewise.report.race import race

_MARKS = r"[\\`*|~]|(?<!\w)_|_(?!\w)|\](?=[(\[:])"
_LEADING = r"^(?=[#>]|[+-]\s)|(?<=^\d)(?=[.)]\s)|(?<=^\d\d)(?=[.)]\s)"  # would start a heading, a quotation or a list


def markdown(result: Result) -> str:
    """Return the comparison as Markdown, ten sections as on the page; the same result gives the same text.

    Args:
        result: The object that ``ratewise compare --json`` prints. Missing optional keys leave gaps.
    """
    parts = [words.paragraphs(f"## {title}", *make(result)).rstrip() for title, make in _SECTIONS.items()]
    title = literal(" · ".join(words.line(result[key]) for key in ("task", "description") if result.get(key)))
    return words.paragraphs(f"# {title or 'Comparison'}", *parts)


def literal(text: str) -> str:
    r"""Return text that Markdown shows as it is inside a line: what would be a mark is escaped, a tag is no tag.

    Example:
        >>> print(literal("a|b <i> [x](y) one_cycle"))
        a\|b &lt;i> [x\](y) one_cycle
    """
    return re.sub(_MARKS, r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;"))


def _sentence(text: str) -> str:
    """Text that Markdown shows as it is at the start of a line."""
    return re.sub(_LEADING, r"\\", literal(text))


# -- sections ----------------------------------------------------------------------------------------------------


def _verdict(result: Result) -> list[str]:
    first, *rest = words.headline(result)
    return [f"**{literal(first)}**", *map(_sentence, (words.confidence(result), *rest))]


def _differences(result: Result) -> list[str]:
    forest = figures.forest(result)
    if forest is None:
        return [_sentence(words.uncompared(result))]
    band = tables.margin(result)
    told = (
        f"Mean paired difference from {literal(forest.reference)} in {figures.decides_on(result)}, in {forest.unit}, "
        f"with its 95% interval{f'; inside {band} it is a tie' if band else ''}."
    )
    absent = f"Without a difference: {literal(', '.join(forest.absent))}." if forest.absent else ""
    return [told, _table(result, tables.DIFFERENCES), absent, *words.compared(result)]


def _rates(result: Result) -> list[str]:
    fan = figures.fan(result)
    if not fan.sweeps:
        return ["No rate has been tried yet."]
    return ["Mean validation loss of the tuning seeds at the peak rates tried.", _grid(tables.swept(fan)),
            words.shorter(result)]  # fmt: skip


def _curves(result: Result) -> list[str]:
    found = figures.curves(result)
    names = [figures.name(s) for s in figures.strategies(result)]
    shapes, losses = ({line.name: line for line in lines} for lines in (found.schedules, found.losses))
    rows = [[name, _spark(shapes.get(name)), *_losses(losses.get(name))] for name in names
            if name in shapes or name in losses]  # fmt: skip
    if not rows:
        return ["No curve yet."]
    titles = ["strategy", "schedule", "training loss", "first", "last"]
    return [f"Over {found.steps:.0f} updates, each from its lowest to its highest value.",
            _grid(tables.Grid(titles, rows))]  # fmt: skip


def _target(result: Result) -> list[str]:
    found = reached.targets(result)
    if found is None:
        return ["No time to a target was measured."]
    loss = "the target" if found.loss is None else f"a held-out loss of {tables.number(found.loss)}"
    rule = f" ({literal(words.line(found.rule))})" if found.rule else ""
    return [f"When fresh seeds first reached {loss}{rule}.", _grid(tables.arrivals(found)), words.SCORE]


def _results(result: Result) -> list[str]:
    if not figures.strategies(result):
        return ["No strategy yet."]
    notes = map(_sentence, words.effort(result))
    return [_table(result, tables.RESULTS), *words.results(result), "### What it took",
            _table(result, tables.EFFORT), *notes]  # fmt: skip


def _race(result: Result) -> list[str]:
    found = race(result)
    if found is None:
        return [words.NO_RACE]
    return [words.raced(found), _grid(tables.history(found)), words.predicted(found)]


def _changes(result: Result) -> list[str]:
    found = words.changes(result)
    return ["\n".join(f"- {_sentence(sentence)}" for sentence in found) or words.UNCHANGED]


def _code(result: Result) -> list[str]:
    code = words.code(result)
    if not code:
        return [words.NO_CODE]
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}python\n{code}\n{fence}"]


def _provenance(result: Result) -> list[str]:
    lists = [
        "\n".join([f"{title}:", "", *(f"- {_sentence(key)}: {literal(value)}" for key, value in found.items())])
        for title, found in sections.recorded(result)
        if found
    ]
    return lists or ["Nothing is recorded."]


_SECTIONS: dict[str, Callable[[Result], list[str]]] = {
    "Verdict": _verdict,
    "Differences": _differences,
    "Rates": _rates,
    "Curves": _curves,
    "Time to target": _target,
    "Results": _results,
    "Race": _race,
    "What would change it": _changes,
    "Code": _code,
    "Provenance": _provenance,
}


# -- parts -------------------------------------------------------------------------------------------------------


def _table(result: Result, columns: tuple[str, ...]) -> str:
    titles, found, kept = tables.grid(result, columns)
    rows = [[getattr(row, c) for c in kept] for row in found]
    right = [c in tables.RIGHT for c in kept]
    return _piped([getattr(titles, c) for c in kept], rows, right)


def _grid(found: tables.Grid) -> str:
    return _piped(found.titles, found.rows, [False] * len(found.titles))


def _piped(titles: list[str], rows: list[list[str]], right: list[bool]) -> str:
    rule = "|" + "|".join("---:" if to_the_right else "---" for to_the_right in right) + "|"
    return "\n".join([_pipes(titles), rule, *map(_pipes, rows)])


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(literal(words.line(cell)) or tables.NONE for cell in cells) + " |"


def _spark(line: Line | None) -> str:
    return words.sparkline(list(line.y)) if line else ""


def _losses(line: Line | None) -> list[str]:
    return [_spark(line), tables.number(line.y[0]), tables.number(line.y[-1])] if line else ["", "", ""]
