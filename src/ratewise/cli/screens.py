"""What the commands show: tables and curves on the terminal, and files."""

import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from ratewise.core.recipes import RECIPES
from ratewise.core.schedule import Schedule
from ratewise.errors import MissingDependency, ScheduleError
from ratewise.finder import Finding, Trials, drawn
from ratewise.lab.catalogue import CATALOGUE
from ratewise.lab.strategy import Strategy

MOST_VALUES = 1_000_000


def _console() -> Console:
    return Console(highlight=False, soft_wrap=False)


def inventory() -> dict[str, Any]:
    """Everything that has a name: strategies, tasks, recipes."""
    try:
        made = import_module("ratewise.lab.tasks").TASKS
    except ModuleNotFoundError:  # without the extra "lab" there is no numpy, and there are no tasks
        made = {}

    entries = [
        {"name": s.name, "optimizer": s.optimizer, "spec": repr(s.lr), "what": s.card.what if s.card else ""}
        for s in CATALOGUE.values()
    ]
    tasks = [{"name": name, "character": make().character, "what": _first_line(make)} for name, make in made.items()]
    recipes = [{"name": name, "what": _first_line(recipe)} for name, recipe in RECIPES.items()]
    return {"strategies": entries, "tasks": tasks, "recipes": recipes}


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").split("\n")[0]


def show_inventory(found: dict[str, Any]) -> None:
    """Print the inventory as three small tables."""
    console = _console()
    for title, hint in (
        ("strategies", "ratewise explain NAME"),
        ("tasks", "ratewise compare NAME"),
        ("recipes", 'ratewise show "NAME(...)"'),
    ):
        table = Table(title=f"{title}  ({hint})", title_justify="left", box=None, show_header=False, pad_edge=False)
        for column in found[title][0] if found[title] else ():
            if column != "spec":
                table.add_column(column, no_wrap=column != "what")
        for entry in found[title]:
            table.add_row(*(text for column, text in entry.items() if column != "spec"))
        console.print(table)
        console.print()


def card(found: Strategy, steps: int) -> dict[str, Any]:
    """A strategy's card with its schedule over a run, as plain values."""
    from dataclasses import asdict

    settled_ = found.over(steps)
    return {
        "name": found.name,
        "optimizer": found.optimizer,
        "spec": repr(found.lr),
        "settings": {name: repr(value) for name, value in found.settings_given().items()},
        **(asdict(found.card) if found.card else {}),
        "values": settled_.lr.values(0, steps),
    }


def show_card(found: Strategy, steps: int) -> None:
    """Print a strategy's card, its curve, and how to build it."""
    console = _console()
    settings = "".join(f", {name} = {value!r}" for name, value in found.settings_given().items())
    console.print(f"[bold]{found.name}[/]  ({found.optimizer}{settings})\n", soft_wrap=True)
    if found.card:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        rows = [("what", found.card.what), ("formula", found.card.formula)]
        rows += [("for" if i == 0 else "", f"+ {text}") for i, text in enumerate(found.card.pros)]
        rows += [("against" if i == 0 else "", f"- {text}") for i, text in enumerate(found.card.cons)]
        rows += [("use", found.card.use_case), ("defaults", found.card.defaults), ("paper", found.card.paper)]
        for name, value in rows:
            table.add_row(name, value)
        console.print(table)
    print(f"\nlr = {found.lr!r}\n\nover {steps} updates:\n\n{found.over(steps).lr.plot()}\n")
    print("import ratewise")
    print(f'optimizer, scheduler = ratewise.strategy("{found.name}").torch(model.parameters(), {steps})')
    if isinstance(found.lr, Schedule) and found.optimizer in _IN_KERAS:
        print(f'optimizer = ratewise.strategy("{found.name}").keras({steps})')


_IN_KERAS = ("sgd", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "adamax", "nadam")
"""Optimizers that Keras has too."""


def settled(schedule: Schedule, steps: int | None, err: Console) -> Schedule:
    """The schedule with its length known: given, its own, or 1000 updates (and then it says so)."""
    if steps is None and not isinstance(schedule.steps, (int, float)):
        err.print("no length given: drawn over 1000 updates (--steps changes that)")
    own = math.ceil(schedule.steps) if isinstance(schedule.steps, (int, float)) else 1000
    try:
        return schedule.over(own if steps is None else steps)
    except ScheduleError as error:
        if not str(error).startswith("Horizon"):
            raise
        raise ScheduleError(
            f"show: {schedule!r:.80} speaks of epochs, samples or tokens, which need a run. Here write plain updates, "
            "or fraction(0.1); in Python use .over(Horizon(...))."
        ) from error


def numbers(schedule: Schedule, steps: int) -> dict[str, Any]:
    """The schedule as ``{spec, steps, values}``: the rate used by each update."""
    if steps > MOST_VALUES:
        raise ScheduleError(
            f"show --json: at most {MOST_VALUES} values, got {steps} updates. Stretch it or cut it first."
        )
    return {"spec": repr(schedule), "steps": steps, "values": schedule.values(0, steps)}


def show_curve(schedule: Schedule, steps: int) -> None:
    """Print the curve and a few values."""
    print(schedule)
    print()
    print(schedule.plot(steps=steps))
    print()
    print(schedule.table(steps=steps))


@contextmanager
def progress(err: Console) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left on stderr; nothing when that is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        row = bar.add_task("runs", total=None)
        yield lambda done, wanted: bar.update(row, completed=done, total=wanted)


def show_result(result: dict[str, Any]) -> None:
    """Print a comparison: table, verdict, code; on a terminal as wide as that is."""
    from ratewise.report import tables

    console = _console()
    print(tables.text(result, console.width if console.is_terminal else None))


def announce(what: str) -> None:
    """Say on stderr what is being done; nothing when that is not a terminal."""
    if Console(stderr=True).is_terminal:
        print(what, file=sys.stderr, flush=True)


def show_finding(finding: Finding, strategy: Strategy, engine: str) -> None:
    """Print the drawing, the reason, what the known rules say, the cost, and the code to paste."""
    console = _console()
    width = console.width if console.is_terminal else 80
    print(finding.plot(min(max(width - 12, 16), 100)))
    if any(finding.rules.values()):
        print("\n".join(["", *_rules(drawn.compared(finding), width)]))
    print(f"\n{fill(_cost(finding), width)}")
    print(fill(f"valid for: {', '.join(_circumstances(finding.valid_for))}", width))
    if finding.suggestion is not None:
        horizon = finding.valid_for.get("horizon")
        steps = horizon if type(horizon) is int else 1000
        print(f"\n{strategy.with_peak(float(f'{finding.suggestion:.3g}'), steps).code(engine, steps)}")


_ADVICE = {
    ": give longer probes with steps=, or more held_out= batches.": ". A run of more --steps has longer probes.",
    "more seeds=, more held_out= batches, or longer probes with steps=": "more seeds=",
    "larger batches, accumulation= or more steps=": "larger batches in the task, or more steps=",
}
"""What reasons advise a program, and what they advise here."""


def told(finding: Finding, method: str) -> Finding:
    """The finding with a reason that names the options of this command; what speaks of others is left out."""
    known = {"low", "high", "seeds", "steps"} if method == "range" else {"low", "high", "seeds"}
    reason, sentences = finding.reason, []
    for words, here in _ADVICE.items():
        reason = reason.replace(words, here)
    for sentence in re.split(r"(?<=[.?!]) (?=[A-Z])", reason):
        if known.issuperset(re.findall(r"\b([a-z_]+)=", sentence)):
            sentences.append(sentence)
        elif ": " in sentence:
            sentences.append(f"{sentence.rpartition(': ')[0]}.")
    words = re.sub(r"\b([a-z]+)=(?=\d)", r"--\1 ", " ".join(sentences))
    return replace(finding, reason=re.sub(r"\b([a-z]+)=", r"--\1", words))


def _rules(rows: list[drawn.Compared], width: int) -> list[str]:
    """What each known rule suggests, as a table; without its source where there is no room."""
    table: list[tuple[str, ...]] = [("rule", "from", "rate", "octaves away")]
    for row in rows:
        rate = "–" if row.rate is None else f"{row.rate:.3g}"
        away = "–" if row.octaves is None else f"{row.octaves:+.1f}".replace("-", "−")
        table.append((row.rule, row.source, rate, away))
    if sum(max(map(len, column)) + 2 for column in zip(*table, strict=True)) > width:
        table = [("rule", "rate", "octaves"), *((row[0], *row[2:]) for row in table[1:])]
    names = len(table[0]) - 2
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(f"{cell:{'<' if i < names else '>'}{widths[i]}}" for i, cell in enumerate(row)) for row in table]


def _cost(finding: Finding) -> str:
    updates, horizon = finding.cost["updates"], finding.valid_for.get("horizon")
    share = updates / horizon if type(horizon) is int else 0.0
    runs = f", as many as {share:.1f} runs of {horizon}" if share >= 0.05 else ""
    tried = isinstance(finding.curve, Trials) and finding.curve.rates and "engine" in finding.valid_for
    engine = f"; candidates trained {finding.valid_for['engine']}" if tried else ""
    products = finding.cost.get("products")
    curvature = f", and {products} product{'s' * (products != 1)} with the Hessian" if products else ""
    return f"cost: {updates} updates{runs}{curvature}{engine}"


def _circumstances(valid_for: Mapping[str, Any]) -> Iterator[str]:
    """What the rate hangs on, in words; ratios and positions only where they say something."""
    for name, value in valid_for.items():
        if name == "engine" or value is None or (name == "ratios" and len(value) < 2):
            continue
        if name == "at_update" and not value:
            continue
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else [value]
        shown = " / ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)
        yield f"{name.replace('_', ' ')} {shown}"


def write_finding(finding: Finding, path: Path) -> None:
    """Write the drawing of a finding as a PNG picture, whole or not at all."""
    from ratewise.report import draw

    _write_figure(draw.finding(finding), path)


def write_page(result: dict[str, Any], path: Path) -> None:
    """Write the report page, whole or not at all."""
    from ratewise.report.page import page

    _write(path, page(result).encode())


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    _write(path, text.encode())


def write_markdown(result: dict[str, Any], path: Path) -> None:
    """Write the report as Markdown, whole or not at all."""
    from ratewise.report.markdown import markdown

    _write(path, markdown(result).encode())


def write_png(schedule: Schedule, steps: int, path: Path) -> None:
    """Write the curve as a PNG picture, whole or not at all."""
    from ratewise.report import draw

    _write_figure(draw.curve(schedule, steps), path)


def check_picture(path: Path) -> None:
    """Raise before the work what would keep a picture from being written after it."""
    if path.suffix.lower() not in ("", ".png"):
        raise typer.BadParameter(f"it writes PNG, got {path}. Write {path.with_suffix('.png')}.", param_hint="--png")
    if find_spec("matplotlib") is None:
        raise MissingDependency("matplotlib", "plot", "--png")
    if path.exists() and not path.is_file():  # a device or a pipe
        return
    folder = path.resolve().parent
    while not folder.exists():
        folder = folder.parent
    with _named(path), tempfile.NamedTemporaryFile(dir=folder, prefix=f".{path.name}"):
        pass


def _write_figure(figure: Any, path: Path) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=144)
    _write(path, buffer.getvalue())


def _write(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there, so that no half of it is ever seen."""
    given, path = path, path.resolve()  # a link stays a link
    with _named(given):
        _written(path, data)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error of the file system names the path as it was given."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _written(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # a device or a pipe: nothing to replace
        with path.open("wb") as file:
            file.write(data)
        return
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
