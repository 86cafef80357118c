"""What was measured, as text and as a page of Markdown: functions of the JSON alone."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from ratewise.replicate.claim import FAILS, HOLDS, OPEN
from ratewise.replicate.picture import draw

_MARKS = {True: "seen", False: "not seen", None: "open"}

_INTRODUCTION = """\
What people say about learning rates, measured again with real training, by `ratewise replicate`. This page is written
from [claims.json](claims.json) by the same command; nothing on it is typed by hand.

Seeds (initial values and batches) are paired. Where strategies are compared, each is at its own best rate, chosen on
tuning seeds, and judged on fresh seeds that took no part in choosing it; where it is otherwise, the claim's setting
says so. In brackets: 95% intervals. Differences are judged as `compare` judges them: a *tie* if the interval of the
paired difference lies within a band, else *better* or *worse* by the exact sign-flip test, corrected by Holm for the
number of rivals, else *unresolved*. The band stands beside each gate: 5% of the loss, unless the setting says why not.
A claim *holds* if all its gates are seen, *does not hold here* if one is contradicted, and is *unresolved* otherwise.

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
        lines += [f"  {_MARKS[gate['seen']]}: {_said(gate)}" for gate in entry["gates"]]
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
    small = [f"`{entry['name']}`" for entry in entries if entry["quick"]]
    quick = f"\n\n**Measured at small sizes (`--quick`): {', '.join(small)}.**" if small else ""
    return "\n\n".join([
        "# Claims about learning rates",
        _INTRODUCTION + quick,
        _count(result) + _spent(result["cost"]) + f" {_with(entries)}",
        "\n".join(["| claim | verdict | command |", "|---|---|---|", *rows]),
        _nulls(result),
        *(_section(entry, folder) for entry in entries),
        _LIMITS,
    ]) + "\n"  # fmt: skip


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the SVG of every claim that has a figure, by the claim's name."""
    return {e["name"]: draw(e["figure"], e["sentence"]) + "\n" for e in result["claims"] if e["figure"]}


def _count(result: Mapping[str, Any]) -> str:
    verdicts = [entry["verdict"] for entry in result["claims"]]
    found = [f"{verdicts.count(v)} {word}" for v, word in ((HOLDS, "hold"), (FAILS, "do not hold here"), (OPEN, OPEN))]
    return f"Of {len(verdicts)} claims {', '.join(found[:2])} and {found[2].replace(OPEN, 'are unresolved')}."


def _spent(cost: Mapping[str, Any]) -> str:
    return f" {cost['updates']:,} updates in {cost['seconds']:,.0f} seconds."


def _with(entries: Sequence[Mapping[str, Any]]) -> str:
    """Which versions measured what; those of the most claims come first, and not by name."""
    used: dict[str, list[str]] = {}
    for entry in entries:
        used.setdefault(", ".join(f"{k} {v}" for k, v in entry["versions"].items()), []).append(entry["name"])
    first, *others = sorted(used, key=lambda versions: -len(used[versions]))
    named = (f" With {versions}: {', '.join(f'`{name}`' for name in used[versions])}." for versions in others)
    return f"Measured with {first}.{''.join(named)}"


def _said(gate: Mapping[str, Any]) -> str:
    band = f" (band {100 * gate['band']:g}%)" if gate["band"] is not None else ""
    return f"{gate['what']}: {gate['measured']}{band}"


def _nulls(result: Mapping[str, Any]) -> str:
    """The claims that were not seen to hold, with what spoke against them."""
    lines = ["## What was not seen to hold", ""]
    for entry in result["claims"]:
        if entry["verdict"] == HOLDS:
            continue
        against = [g for g in entry["gates"] if g["seen"] is (False if entry["verdict"] == FAILS else None)]
        reasons = "; ".join(map(_said, against))
        lines.append(f"- [{entry['sentence']}](#{entry['name']}) {_strong(entry['verdict'])}. Wanted: {reasons}.")
    return "\n".join(lines if len(lines) > 2 else [*lines, "Nothing: every claim that was measured holds."])


def _section(entry: Mapping[str, Any], folder: str) -> str:
    parts = [
        f'<a id="{entry["name"]}"></a>\n\n## {entry["sentence"]}',
        f"{_strong(entry['verdict'].capitalize())}. {entry['setting']} Source: {entry['source']}.",
        "\n".join(f"- {_MARKS[gate['seen']]}: {_said(gate)}" for gate in entry["gates"]),
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
