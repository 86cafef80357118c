"""The command ``ratewise doctor``."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ratewise.doctor import Finding


def doctor(
    target: Annotated[str, typer.Argument(metavar="FILE|EXPR", help="A program, a configuration, or a schedule.")],
    steps: Annotated[int | None, typer.Option(help="Updates of the schedule's run.", min=1)] = None,
    notes: Annotated[bool, typer.Option("--notes", help="Also what is true of every use.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, notes included.")] = False,
) -> None:
    """Find what is wrong with a schedule, or with the schedulers of a program or configuration; nothing is run.

    A file ends in .py, .json, .yaml, .yml or .toml. Exit status 1 if there is a warning or an error.

    Example: ratewise doctor train.py
    Example: ratewise doctor "Cosine(0.1, 0.0, 90)" --steps 35000
    """
    from dataclasses import asdict

    from ratewise.core.parse import parse
    from ratewise.doctor import examine, examine_file
    from ratewise.doctor.examining import SUFFIXES
    from ratewise.errors import ScheduleError

    is_file = Path(target).suffix in SUFFIXES or (len(target) < 256 and Path(target).exists())
    try:
        found = examine_file(target, steps) if is_file else examine(parse(target), steps)
    except OSError as error:  # status 1 would say that something was found
        raise ScheduleError(f"doctor: {target}: {error.strerror or error}.") from None
    if as_json:
        print(json.dumps({"target": target, "findings": [asdict(finding) for finding in found]}, indent=2))
    elif shown := [_shown(finding) for finding in found if notes or finding.level != "note"]:
        print("\n\n".join(shown))
    counts = Counter(finding.level for finding in found)
    print(_summary(counts, notes or as_json), file=sys.stderr)
    raise typer.Exit(1 if counts["error"] or counts["warning"] else 0)


def _shown(finding: "Finding") -> str:
    return (
        f"{finding.where}: {finding.level} {finding.code}: {finding.what}\n"
        f"    why:     {finding.why}\n    instead: {finding.instead}"
    )


def _summary(counts: Counter[str], notes: bool) -> str:
    """How many findings there are of each level."""
    parts = [f"{n} {level}{'s' * (n != 1)}" for level in ("error", "warning", "note") if (n := counts[level])]
    hidden = " (--notes shows what is true of every use)" if counts["note"] and not notes else ""
    return f"{', '.join(parts) or 'nothing found'}{hidden}"
