"""The three ways in: a schedule, a living object, a file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ratewise.core.horizon import Horizon
from ratewise.core.parse import from_dict, parse
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Schedule
from ratewise.doctor import configs, objects, programs
from ratewise.doctor.defects import examine_setting, found
from ratewise.doctor.finding import Finding, ordered
from ratewise.doctor.schedules import examine_schedule
from ratewise.doctor.usage import examine_usage, learned
from ratewise.errors import MissingDependency, ScheduleError

MOST_TEXT = 1_000_000
SUFFIXES = (".py", ".json", ".yaml", ".yml", ".toml")


def examine(thing: Any, horizon: Horizon | int | None = None) -> tuple[Finding, ...]:
    """Return what is wrong with a schedule over a run, or with a scheduler of another library.

    Args:
        thing: A schedule of ours, with rules or without, or a living scheduler, optimizer or callback of a peer.
        horizon: The run of a schedule; without it the run is as long as the schedule.

    Returns:
        The findings, the worst first.

    Raises:
        ScheduleError: The object is of a kind that the doctor does not know.

    Example:
        >>> from ratewise import Cosine
        >>> for finding in examine(Cosine(0.1, 0.0, 90).warmup(10, start=0.0), 10_000):
        ...     print(finding.code, "->", finding.instead)
        steps-look-like-epochs -> Linear(0.0, 0.1, epochs(10)) >> Cosine(0.1, 0.0, epochs(90))
        first-update-at-zero -> Linear(0.0, 0.1, 10, ends="(]") >> Cosine(0.1, 0.0, 90)
    """
    if isinstance(thing, Ruled):
        thing = thing.schedule
    if isinstance(thing, Schedule):
        return examine_schedule(thing, horizon)
    settings = list(objects.settings(thing))
    if not settings:
        raise ScheduleError(
            f"doctor: {type(thing).__module__}.{type(thing).__qualname__} is neither a schedule nor a scheduler that "
            "it knows. A schedule of optax is a bare function: give the file that builds it."
        )
    return ordered(finding for setting in settings for finding in examine_setting(setting))


def examine_file(path: str | Path, horizon: Horizon | int | None = None) -> tuple[Finding, ...]:
    """Return what is wrong with the schedulers of a program or configuration; it is read, never run.

    Args:
        path: A Python program, or a configuration as JSON, YAML or TOML; or a schedule that was saved as JSON.
        horizon: The run of a saved schedule.

    Returns:
        The findings, the worst first.

    Raises:
        ScheduleError: The file is not what its name says, or is above 1 MB.
        OSError: It cannot be read.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ScheduleError(f"doctor: {path.name} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    with path.open("rb") as file:
        data = file.read(MOST_TEXT + 1)
    if len(data) > MOST_TEXT:
        raise ScheduleError(f"doctor: {path.name} is larger than 1 MB.")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ScheduleError(f"doctor: {path.name} is not UTF-8 text.") from None
    if path.suffix == ".py":
        return ordered(_program(text, path.name))
    config = _loaded(text, path)
    if isinstance(config, dict) and isinstance(config.get("type"), str) and "version" in config:
        return examine(from_dict(config), horizon)
    if isinstance(config, dict) and config.keys() >= {"spec", "steps"}:  # what `ratewise show --json` prints
        return examine(parse(config["spec"]), horizon or config["steps"])
    return ordered(_configuration(config, path))


def _program(text: str, file: str) -> Iterator[Finding]:
    program = programs.read(text, file)
    learned(program)
    for setting in program.settings:
        yield from examine_setting(setting)
    yield from examine_usage(program, file)


def _configuration(config: Any, path: Path) -> Iterator[Finding]:
    if path.suffix in (".yaml", ".yml"):
        for where, text, number in configs.texts(config, path.name):
            yield found("number-is-text", where, text=text, number=number)
    for setting in configs.settings(config, path.name):
        yield from examine_setting(setting)


def _loaded(text: str, path: Path) -> Any:
    """The data of a configuration."""
    try:
        if path.suffix == ".json":
            return json.loads(text)
        if path.suffix == ".toml":
            import tomllib

            return tomllib.loads(text)
        return _yaml(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, ScheduleError):
            raise
        reason = " ".join(str(error).split()) or "nested too deeply"
        raise ScheduleError(f"doctor: {path.name} is not {path.suffix[1:].upper()} ({reason:.100}).") from None


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingDependency("PyYAML", "yaml", "doctor") from None
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
