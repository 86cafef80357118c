"""The command ``ratewise doctor``."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ratewise.doctor import Finding

CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin")
"""Names of files that torch wrote."""


def doctor(
    target: Annotated[
        str, typer.Argument(metavar="FILE|EXPR", help="A program, a configuration, a checkpoint, or a schedule.")
    ],
    steps: Annotated[int | None, typer.Option(help="Updates of the schedule's run.", min=1)] = None,
    notes: Annotated[bool, typer.Option("--notes", help="Also what is true of every use.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, notes included.")] = False,
) -> None:
    """Find what is wrong with a schedule, or with the schedulers of a program or configuration; nothing is run.

    Of a checkpoint with the state of a ratewise.torch.Scheduler it shows how far the schedule came, at which rate,
    and every change of plan. A file ends in .py, .json, .yaml, .yml, .toml, or .pt, .pth, .ckpt, .bin. Exit status 1
    if there is a warning or an error.

    Example: ratewise doctor train.py

    Example: ratewise doctor "Cosine(0.1, 0.0, 90)" --steps 35000

    Example: ratewise doctor checkpoint.pt
    """
    from dataclasses import asdict

    from ratewise.core.parse import parse
    from ratewise.doctor import examine, examine_file
    from ratewise.doctor.examining import SUFFIXES
    from ratewise.errors import ScheduleError

    is_file = Path(target).suffix in (*SUFFIXES, *CHECKPOINTS) or (len(target) < 256 and Path(target).exists())
    try:
        states, found = _checkpoint(Path(target)) if is_file else ([], ())
        if not states and not found:
            found = examine_file(target, steps) if is_file else examine(parse(target), steps)
    except OSError as error:  # status 1 would say that something was found
        raise ScheduleError(f"doctor: {target}: {error.strerror or error}.") from None
    if as_json:
        more = {"schedulers": states} if states else {}
        print(json.dumps({"target": target, **more, "findings": [asdict(finding) for finding in found]}, indent=2))
    else:
        blocks = [_story(state, Path(target).name) for state in states]
        blocks += [_shown(finding) for finding in found if notes or finding.level != "note"]
        if blocks:
            print("\n\n".join(blocks))
    counts = Counter(finding.level for finding in found)
    if not states:
        print(_summary(counts, notes or as_json), file=sys.stderr)
    raise typer.Exit(1 if counts["error"] or counts["warning"] else 0)


def _checkpoint(path: Path) -> tuple[list[dict[str, Any]], tuple["Finding", ...]]:
    """What the Scheduler states in a file say, and what is wrong; neither if the file is no checkpoint."""
    from ratewise.doctor.histories import forgotten, histories, read_json
    from ratewise.errors import AdapterError, ScheduleError

    if path.suffix == ".json":
        data = read_json(path)
    elif path.suffix in CHECKPOINTS:
        data = _loaded(path)
    else:
        return [], ()
    try:
        states, found = histories(data), forgotten(data, path.name)
    except AdapterError as error:
        raise AdapterError(f"doctor: {path.name}: {error}") from None
    if not states and not found and path.suffix in CHECKPOINTS:
        raise ScheduleError(f"doctor: {path.name} holds no state of a ratewise.torch.Scheduler.")
    return states, found


def _loaded(path: Path) -> Any:
    from ratewise.errors import AdapterError, ScheduleError
    from ratewise.torch.states import read

    try:
        return read(path)
    except AdapterError as error:  # as for any other file that is not what its name says
        raise ScheduleError(f"doctor: {error}") from None


def _story(state: dict[str, Any], file: str) -> str:
    """One Scheduler state as a block of lines."""
    n, end = state["position"], state["end"]
    where = f"{file}: {state['where']}" if state["where"] else file
    skipped = f", {state['skipped']} skipped" if state["skipped"] else ""
    lines = [f"{where}: {n} update{'s' * (n != 1)} made{skipped}"]
    lines += _followed("follows", state["schedules"])
    if state["used"] is not None:
        lines.append(f"    used:    {_rates(state['used'])} by update {n - 1}")
    lines.append(f"    next:    {_rates(state['next'])} for update {n}")
    lines.append(f"    end:     {_length(end)}")
    if state["factors"]:
        named = [f"{'' if group == '*' else f'{group:.40} '}x {x:g}" for group, x in state["factors"].items()]
        odd = f", {state['nans']} metric{'s' * (state['nans'] != 1)} not finite" if state["nans"] else ""
        lines.append(f"    rules:   {_few(named, ', ')}{odd}")
    followers = [change["before"] for change in state["changes"][1:]] + [state["schedules"]]
    for change, after in zip(state["changes"], followers, strict=False):
        lines.append(f"    changed: before update {change['at']}: {change['what']:.200}")
        lines += [f"             {line}" for line in _turns(change)]
        if change["before"] != after:  # a rule changes the rate, not what is followed
            lines += _followed("before", change["before"] or {})
    return "\n".join(" ".join(line.split("\n")) for line in lines)


def _followed(label: str, schedules: dict[str, dict[str, str]]) -> list[str]:
    named = [
        (hyperparameter if group == "*" else f"{hyperparameter}[{group!r:.40}]", schedule)
        for hyperparameter, by_group in schedules.items()
        for group, schedule in by_group.items()
    ]
    indent = "    " if label == "follows" else " " * 13
    return [f"{indent}{label + ':':8} {name} = {schedule:.300}" for name, schedule in named]


def _rates(rates: dict[str, float]) -> str:
    if len(rates) == 1:
        return f"{next(iter(rates.values())):.6e}"
    return _few([f"{name:.40} {rate:.6e}" for name, rate in rates.items()], ", ")


def _turns(change: dict[str, Any]) -> list[str]:
    """Old rate, new rate and their ratio, for each group; and the new end."""
    turns = []
    for name, new in change["new"].items():
        old, ratio = change["old"].get(name), change["ratio"][name]
        before = "no rate" if old is None else f"{old:.6e}"
        turns.append(f"{name:.40}: {before} -> {new:.6e}{'' if ratio is None else f', ratio {ratio:.5g}'}")
    return [_few(turns, "; "), f"end: {_length(change['end'])}"]


def _few(parts: list[str], between: str) -> str:
    return between.join(parts[:4] + [f"and {len(parts) - 4} more"] * (len(parts) > 4))


def _length(end: float | None) -> str:
    return "none" if end is None else f"after {end} updates"


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
