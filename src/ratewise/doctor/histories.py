"""What a checkpoint says about its schedules: how far each came, at which rate, and what was changed on the way.

It takes the plain data of a checkpoint, whoever read it, and looks for the states of our Schedulers at any depth, so
that a trainer's own layout does not matter. Nothing is trusted: a damaged state is an error of one sentence.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ratewise.core.parse import from_dict
from ratewise.doctor.examining import MOST_TEXT
from ratewise.doctor.finding import Finding
from ratewise.errors import AdapterError, ScheduleError

FORMATS = (1, 2)
"""The versions of a Scheduler's ``state_dict`` that are known here."""

_MARKS = {"format", "position", "spec", "base", "hash"}  # what every version has
_TEXTS = ("spec", "base", "history", "rules", "last_lr", "next_lr")  # kept as JSON text from format 2 on
_BASE = "ratewise_base"  # what a Scheduler leaves in the groups of its optimizer


def histories(data: Any) -> list[dict[str, Any]]:
    """Return what each Scheduler state in ``data`` says, as plain JSON values.

    Args:
        data: A checkpoint, as nested dictionaries and lists.

    Returns:
        One dictionary for each state: ``where`` it lies, ``format``, ``position``, ``skipped``, the ``schedules`` by
        hyperparameter and group, ``base`` rates, rates ``used`` by the last update and ``next``, the ``end`` (None if
        endless or unknown), the ``factors`` that rules have made, how many metrics were ``nans`` (or infinite), and
        the ``changes``: ``at`` which update, ``what``, ``old``, ``new`` and ``ratio`` by group, the ``end`` after it,
        and the schedules ``before``.

    Raises:
        AdapterError: A state was written by a newer Ratewise, or is damaged.

    Example:
        >>> state = {"format": 1, "position": 2, "base": {"0": 0.1}, "lr_scale": {"0": 1.0}, "hash": "", "history": []}
        >>> state |= {"spec": {"lr": {"*": {"type": "Constant", "value": 0.1}}}, "skipped": None}
        >>> state |= {"last_lr": {"0": 0.1}, "next_lr": {"0": 0.1}}
        >>> [found] = histories({"epoch": 3, "lr_schedulers": [state]})
        >>> found["where"], found["position"], found["schedules"]
        ('lr_schedulers[0]', 2, {'lr': {'*': 'Constant(0.1)'}})
    """
    return [_history(where, state) for where, state in _mappings(data) if set(state) >= _MARKS]


def forgotten(data: Any, file: str) -> tuple[Finding, ...]:
    """Return a finding for each optimizer in ``data`` that followed a schedule, if no Scheduler's state is there."""
    if any(set(state) >= _MARKS for _, state in _mappings(data)):
        return ()
    return tuple(
        Finding(
            code="scheduler-state-missing",
            where=": ".join(filter(None, [file, where])),
            what=f"the optimizer followed a schedule (its group has {_BASE}={base!r:.40}), whose state is not here",
            why="A run resumed from this alone starts the schedule again at update 0.",
            instead="Save scheduler.state_dict() too. Trainers keep it in a file of its own, such as scheduler.pt.",
        )
        for where, state in _mappings(data)
        if (base := _base(state)) is not None
    )


def read_json(path: Path) -> Any:
    """Return the data of a JSON file; None if it is none, or too large for one that a person would want to see."""
    with path.open("rb") as file:
        text = file.read(MOST_TEXT + 1)
    try:
        return json.loads(text) if len(text) <= MOST_TEXT else None
    except (ValueError, RecursionError):
        return None


def _mappings(data: Any) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Every dictionary with its place, outer ones first; a state is not looked into."""
    waiting, seen = [("", data)], set()
    while waiting:
        where, item = waiting.pop()
        if not isinstance(item, (Mapping, list, tuple)) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Mapping):
            yield where, item
        children = item.items() if isinstance(item, Mapping) else enumerate(item)
        waiting += reversed([(_place(where, key), child) for key, child in children])


def _place(where: str, key: Any) -> str:
    if isinstance(key, str) and key.isidentifier():
        return f"{where}.{key}" if where else key
    return f"{where}[{key!r:.40}]"


def _base(state: Mapping[Any, Any]) -> Any:
    """The base rate that a Scheduler left in an optimizer's state; None if there is none."""
    groups = state.get("param_groups")
    if not isinstance(groups, (list, tuple)):
        return None
    return next((group[_BASE] for group in groups if isinstance(group, Mapping) and _BASE in group), None)


def _history(where: str, state: Mapping[str, Any]) -> dict[str, Any]:
    version = state["format"]
    if isinstance(version, int) and version > max(FORMATS):
        raise AdapterError(
            f"{where or 'the state'} is in format {version} of a newer Ratewise; this one reads formats up to "
            f"{max(FORMATS)}. Install the newer one."
        )
    try:
        return _read(where, state)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise AdapterError(
            f"{where or 'the state'} looks like a Scheduler's, but is damaged ({type(error).__name__}: {error!s:.80})."
        ) from None


def _read(where: str, state: Mapping[str, Any]) -> dict[str, Any]:
    state = {key: json.loads(part) if key in _TEXTS and isinstance(part, str) else part for key, part in state.items()}
    version, position, entries = state["format"], state["position"], state["history"]
    if version not in FORMATS or type(position) is not int or position < 0 or not isinstance(entries, (list, tuple)):
        raise ValueError("format, position or history")
    specs = [entry.get("was") for entry in entries[1:]] + [state["spec"]]  # what followed each change
    return {
        "where": where,
        "format": version,
        "position": position,
        "skipped": None if state["skipped"] is None else int(state["skipped"]),
        "schedules": _schedules(state["spec"]),
        "base": _rates(state["base"]),
        "used": None if state["last_lr"] is None else _rates(state["last_lr"]),
        "next": _rates(state["next_lr"]),
        "end": _end(state["spec"]),
        "factors": _rates({key: math.prod(float(rule[0]) for rule in rules) for key, rules in _rules(state).items()}),
        "nans": int(max([rule[-1] for rules in _rules(state).values() for rule in rules], default=0)),
        "changes": [_change(entry, spec) for entry, spec in zip(entries, specs, strict=False)],
    }


def _rules(state: Mapping[str, Any]) -> dict[str, Any]:
    """States of the rules by group: the first number of each is its factor, the last counts metrics without a value."""
    return dict(state.get("rules", {}))


def _change(entry: Mapping[str, Any], spec: Any) -> dict[str, Any]:
    old, new = _rates(entry["old"]), _rates(entry["new"])
    return {
        "at": int(entry["at"]),
        "what": str(entry["what"]),
        "old": old,
        "new": new,
        "ratio": {name: rate / old[name] if old.get(name) else None for name, rate in new.items()},
        "end": entry["end"] if "end" in entry else _end(spec),
        "before": _schedules(entry["was"]) if entry.get("was") else None,
    }


def _rates(by_group: Mapping[Any, Any]) -> dict[str, float]:
    rates = {str(name): float(rate) for name, rate in by_group.items()}
    if not all(math.isfinite(rate) for rate in rates.values()):
        raise ValueError("a rate that is not finite")
    return rates


def _schedules(spec: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {str(name): {str(g): _shown(s) for g, s in by_group.items()} for name, by_group in spec.items()}


def _shown(schedule: Any) -> str:
    try:
        return repr(from_dict(schedule))
    except ScheduleError as error:  # a function of the user's own, which is not imported on behalf of a file
        return f"(cannot be read here: {error!s:.120})"


def _end(spec: Any) -> float | None:
    """Where the longest schedule of the rate ends; None if one is endless or cannot be read."""
    if not isinstance(spec, Mapping):
        return None
    try:
        lengths = [from_dict(s).steps for s in spec["factor" if "factor" in spec else "lr"].values()]
    except ScheduleError:
        return None
    return None if None in lengths else max(lengths)
