"""What was measured, as text and as a page of Markdown: functions of the JSON alone."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

from ratewise.replicate.claim import FAILS, HOLDS, OPEN
from ratewise.replicate.picture import draw

_MARKS = {True: "seen", False: "not seen", None: "open"}

_INTRODUCTION = """\
What people say about learning rates, measured again with real training, by `ratewise replicate`. This page is written
from [claims.json](claims.json) by the same command; nothing on it is typed by hand.

A claim's gates were written down before it was measured, and settings were not moved until it held. Every comparison
has paired seeds (initial values and batches), each strategy at its own best rate, and fresh seeds that took no part in
choosing it. In brackets: 95% intervals. Differences are judged as `compare` judges them: a *tie* if the interval of
the paired difference lies within 5% of the loss, else *better* or *worse* by the exact sign-flip test, corrected by
Holm for the number of rivals, else *unresolved*. A claim *holds* if all its gates are seen, *does not hold here* if one
is contradicted, and is *unresolved* otherwise.

Some settings come from pilots, with other code, that had shown the effect: the digits with wrong labels, the noisy
regression, the field of nineteen schedules. What a pilot did not see is measured again as well.

*Here* means: small models on small data, on two processor cores. A claim that does not hold here may hold elsewhere,
and the other way round."""

_LIMITS = """\
## What cannot be measured here

Every number about CIFAR, ImageNet and large language models: the accuracies of cyclical rates, super-convergence and
SGDR, those of Budgeted Training and REX, the deep results of schedule-free learning, the percentage of Straight to
Zero, the scores of AlgoPerf, the constants of the scaling laws. They take those data sets, or days on accelerators."""


def text(result: Mapping[str, Any], width: int | None = None) -> str:
    """Return what was found as plain text."""
    parts = []
    for entry in result["claims"]:
        lines = [f"{entry['verdict']}: {entry['sentence']}"]
        lines += [f"  {_MARKS[gate['seen']]}: {gate['what']}: {gate['measured']}" for gate in entry["gates"]]
        parts.append("\n".join(fill(line, width, subsequent_indent="    ") if width else line for line in lines))
    parts.append(_count(result) + _spent(result["cost"]))
    return "\n\n".join(parts)


def markdown(result: Mapping[str, Any], folder: str = "claims") -> str:
    """Return the page.

    Args:
        result: What ``replicate`` returned.
        folder: Where the pictures lie, seen from the page.
    """
    entries = result["claims"]
    rows = [f"| [{_cell(e['sentence'])}](#{e['name']}) | {_strong(e['verdict'])} | `{e['command']}` |" for e in entries]
    quick = "\n\n**Measured at small sizes (`--quick`), on a part of the claims.**" if result["quick"] else ""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return "\n\n".join([
        "# Claims about learning rates",
        _INTRODUCTION + quick,
        _count(result) + _spent(result["cost"]) + f" Measured with {versions}.",
        "\n".join(["| claim | verdict | command |", "|---|---|---|", *rows]),
        _nulls(result),
        *(_section(entry, folder) for entry in entries),
        _LIMITS,
    ]) + "\n"  # fmt: skip


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the SVG of every claim that has a figure, by the claim's name."""
    return {e["name"]: draw(e["figure"], e["sentence"]) + "\n" for e in result["claims"] if e["figure"]}


def write(result: Mapping[str, Any], page: Path) -> None:
    """Write the page, and the pictures in the folder that is named as it."""
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    for name, drawing in pictures(result).items():
        (folder / f"{name}.svg").write_text(drawing, encoding="utf-8")
    page.write_text(markdown(result, folder.name), encoding="utf-8")


def _count(result: Mapping[str, Any]) -> str:
    verdicts = [entry["verdict"] for entry in result["claims"]]
    found = [f"{verdicts.count(v)} {word}" for v, word in ((HOLDS, "hold"), (FAILS, "do not hold here"), (OPEN, OPEN))]
    return f"Of {len(verdicts)} claims {', '.join(found[:2])} and {found[2].replace(OPEN, 'are unresolved')}."


def _spent(cost: Mapping[str, Any]) -> str:
    return f" {cost['updates']:,} updates in {cost['seconds']:,.0f} seconds."


def _nulls(result: Mapping[str, Any]) -> str:
    """The claims that were not seen to hold, with what spoke against them."""
    lines = ["## What was not seen to hold", ""]
    for entry in result["claims"]:
        if entry["verdict"] == HOLDS:
            continue
        against = [g for g in entry["gates"] if g["seen"] is (False if entry["verdict"] == FAILS else None)]
        reasons = "; ".join(f"{g['what']}: {g['measured']}" for g in against)
        lines.append(f"- [{entry['sentence']}](#{entry['name']}) {_strong(entry['verdict'])}. Wanted: {reasons}.")
    return "\n".join(lines if len(lines) > 2 else [*lines, "Nothing: every claim that was measured holds."])


def _section(entry: Mapping[str, Any], folder: str) -> str:
    parts = [
        f'<a id="{entry["name"]}"></a>\n\n## {entry["sentence"]}',
        f"{_strong(entry['verdict'].capitalize())}. {entry['setting']} Source: {entry['source']}.",
        "\n".join(f"- {_MARKS[gate['seen']]}: {gate['what']}: {gate['measured']}" for gate in entry["gates"]),
    ]
    if entry["header"]:
        parts.append("\n".join(["| " + " | ".join(map(_cell, row)) + " |" for row in _table(entry)]))
    if entry["figure"]:
        parts.append(f"![{entry['sentence']}]({folder}/{entry['name']}.svg)")
    if entry["note"]:
        parts.append(entry["note"])
    cost = f"{entry['updates']:,} updates, {entry['seconds']:g} s" if entry["updates"] else "runs of claims above"
    parts.append(f"`{entry['command']}`: {cost}.")
    return "\n\n".join(parts)


def _table(entry: Mapping[str, Any]) -> list[list[str]]:
    return [entry["header"], ["---"] * len(entry["header"]), *entry["rows"]]


def _cell(value: str) -> str:
    return value.replace("|", "\\|")


def _strong(verdict: str) -> str:
    return f"**{verdict}**"
