"""Schedules in files: YAML, and JSON, which is YAML too.

A file is read as data and never as code. YAML's own dangers are refused, each in a sentence: references (with which a
short file describes an endless value), tags (which make objects), depth and size. PyYAML only splits the text into
events; what they mean is decided here, as YAML 1.2 has it: ``1e-3`` is a number and ``no`` is a word.
"""

import json
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from ratewise.core import checks
from ratewise.core.parse import MAX_TEXT, from_dict, parse
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Schedule
from ratewise.errors import MissingDependency, ScheduleError

MAX_DEPTH = 150
"""Lists in lists; a schedule of the greatest depth needs fewer."""
MAX_PARTS = 200_000
"""Values, lists and mappings in a YAML file; 10,000 pieces need 140,000."""
MAX_SLOW = 50_000
"""Characters of YAML where PyYAML was built without its C library, and is slow."""

_NUMBER = re.compile(r"[-+]?(\d+|(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?)")
_INTEGER = re.compile(r"[-+]?\d+")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def load(file: Any) -> Any:
    """Return the ``Schedule`` or ``Ruled`` in a YAML or JSON file.

    The file holds what ``dump`` wrote, or an expression such as ``Cosine(0.1, 0.0, 1000).warmup(50)``.

    Args:
        file: A path, or an open file; at most 1 MB.

    Raises:
        ScheduleError: It does not describe a schedule, or does what a file of data need not do.
        OSError: It cannot be read.
        MissingDependency: It is YAML, and PyYAML is not installed.
    """
    data = _data(_text(file))
    return parse(data) if isinstance(data, str) else from_dict(data)


def dump(schedule: Schedule | Ruled, file: Any) -> None:
    """Write the schedule to a file: JSON if its name ends in .json, else YAML.

    Args:
        schedule: What to write.
        file: A path, or a file opened for writing text.

    Raises:
        ScheduleError: It is no schedule.
        MissingDependency: It is YAML, and PyYAML is not installed.
    """
    if not isinstance(schedule, (Schedule, Ruled)):
        raise ScheduleError(f"dump: needs a schedule, got {checks.shown(schedule)}.")
    if str(getattr(file, "name", file)).endswith(".json"):
        text = json.dumps(schedule.to_dict(), indent=2, allow_nan=False) + "\n"
    else:
        text = written(schedule)
    if hasattr(file, "write"):
        file.write(text)
    else:
        Path(file).write_text(text, encoding="utf-8")


def written(schedule: Schedule | Ruled) -> str:
    """Return the schedule as YAML."""
    text: str = _yaml().safe_dump(schedule.to_dict(), sort_keys=False, width=10_000)
    return text


def _text(file: Any) -> str:
    """What the file holds, if that is not too much."""
    if hasattr(file, "read"):
        found = file.read(MAX_TEXT + 1)
    elif isinstance(file, (str, PathLike)):
        if "\0" in str(file):
            raise ScheduleError(f"load: needs the name of a file, got {checks.shown(file)}.")
        with open(file, "rb") as opened:
            found = opened.read(4 * MAX_TEXT + 1)
    else:
        raise ScheduleError(f"load: needs a path or an open file, got {checks.shown(file)}.")
    try:
        text = found.decode("utf-8-sig") if isinstance(found, (bytes, bytearray)) else found
    except UnicodeDecodeError:
        raise ScheduleError("load: the file is not text in UTF-8.") from None
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise ScheduleError(f"load: needs text of at most {MAX_TEXT} characters.")
    return text


def _data(text: str) -> Any:
    if text.lstrip()[:1] == "{":
        try:
            return json.loads(text)
        except (ValueError, RecursionError):  # perhaps YAML that begins with a brace
            pass
    yaml = _yaml()
    loader = getattr(yaml, "CSafeLoader", None)
    if loader is None and len(text) > MAX_SLOW:
        raise ScheduleError(
            f"load: this PyYAML has no C library and would be slow: at most {MAX_SLOW} characters of YAML, or use JSON."
        )
    try:
        return _read(yaml, yaml.parse(text, Loader=loader or yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, ScheduleError):
            raise
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise ScheduleError(f"load: this is not YAML{where} ({reason!s:.100}).") from None


def _read(yaml: Any, events: Iterator[Any]) -> Any:
    """The value that the events describe; open lists and mappings wait on a stack, so depth costs nothing."""
    stack: list[tuple[list[Any], bool]] = [([], False)]  # what was found so far, and whether it is a mapping
    for part, event in enumerate(events):
        if part > MAX_PARTS:
            raise ScheduleError(f"load: more than {MAX_PARTS} parts. For so long a schedule use JSON.")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ScheduleError("load: references (&a, *a) are not allowed. Write the value out where it is used.")
        if getattr(event, "tag", None) not in (None, "!"):
            raise ScheduleError(f"load: tags are not allowed, got {checks.shown(event.tag, 60)}.")
        if isinstance(event, yaml.ScalarEvent):
            stack[-1][0].append(_scalar(event.value) if event.implicit[0] else event.value)
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            stack.append(([], isinstance(event, yaml.MappingStartEvent)))
            if len(stack) > MAX_DEPTH:
                raise ScheduleError(f"load: nested more than {MAX_DEPTH} deep.")
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            items, mapping = stack.pop()
            stack[-1][0].append(_mapping(items) if mapping else items)
        elif isinstance(event, yaml.DocumentStartEvent) and stack[0][0]:
            raise ScheduleError("load: one file holds one schedule, this one holds several documents.")
    found = stack[0][0]
    return found[0] if found else None


def _mapping(items: list[Any]) -> dict[Any, Any]:
    keys = items[::2]
    wrong = [key for key in keys if not isinstance(key, str)]
    if wrong:
        raise ScheduleError(f"load: keys must be names, got {checks.shown(wrong[0], 60)}.")
    if len(set(keys)) < len(keys):
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ScheduleError(f"load: {checks.shown(twice, 60)} is given twice.")
    return dict(zip(keys, items[1::2], strict=True))


def _scalar(text: str) -> Any:
    """A plain scalar: a number, true, false, null, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if not _NUMBER.fullmatch(text):
        return text
    return int(text) if _INTEGER.fullmatch(text) else float(text)


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingDependency("PyYAML", "yaml", "YAML") from None
    return yaml
