"""What the order of calls in a program says about its schedulers."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from math import prod
from typing import Any

from ratewise.doctor.defects import DEFECTS, found
from ratewise.doctor.finding import Finding
from ratewise.doctor.programs import Event, Program
from ratewise.doctor.setting import Setting, Unseen

LENGTH = {
    "torch.CosineAnnealingLR": "T_max",
    "torch.PolynomialLR": "total_iters",
    "torch.OneCycleLR": "total_steps",
    "hf.*": "num_training_steps",
}
"""The argument that says how many steps a scheduler has."""


def learned(program: Program) -> None:
    """Add to the settings what the calls say of them: ``loop``, ``epoch``, ``after_one_cycle``, ``learning_rate``."""
    for event in program.events:
        setting = event.thing
        if event.kind == "step" and isinstance(setting, Setting):
            steps = [e for e in program.events if e.kind == "step" and e.thing is setting]
            if len(steps) == 1 and event.loops and not event.maybe and not any(x.ends_early for x in event.loops):
                setting.arguments["loop"] = prod(loop.count or 1 for loop in event.loops)
            if event.arguments:
                setting.arguments["steps_to"] = True
        if event.kind == "build" and isinstance(setting, Setting):
            earlier = [e.thing for e in program.events[: program.events.index(event)] if e.kind == "build"]
            optimizer = setting.arguments.get("optimizer")
            cycles = [x for x in earlier if x.name == "torch.OneCycleLR" and _same(x.arguments["optimizer"], optimizer)]
            if setting.name != "torch.OneCycleLR" and cycles and isinstance(optimizer, Setting):
                setting.arguments["after_one_cycle"] = True
    rates = [s["learning_rate"] for s in program.settings if s.name.startswith("keras.") and _scheduled(s)]
    for setting in program.settings:
        if rates and "learning_rate" in setting.arguments and setting.arguments["learning_rate"] is None:
            setting.arguments["learning_rate"] = rates[0]


def _scheduled(setting: Setting) -> bool:
    return isinstance(setting.arguments.get("learning_rate"), Setting)


def examine_usage(program: Program, file: str) -> Iterator[Finding]:
    """Yield what is wrong with the order of calls."""
    for i, event in enumerate(program.events):
        before, after = program.events[:i], program.events[i + 1 :]
        before, after = ([e for e in part if e.function == event.function] for part in (before, after))
        scheduler = event.thing
        if not isinstance(scheduler, Setting) or "optimizer" not in scheduler.arguments:
            continue
        shown = {"scheduler": event.text, "optimizer": _name(scheduler.arguments["optimizer"])}
        if event.kind == "step":
            for id_ in _stepped(event, before, after):
                length = _length(scheduler)
                yield found(id_, f"{file}:{event.line}", **shown, length=repr(length))
        if event.kind == "build" and any(fnmatchcase(scheduler.name, name) for name in _names("T20")):
            loads = [e for e in before if e.kind == "load" and _same(e.thing, scheduler.arguments["optimizer"])]
            if loads and any(e.kind == "load" and e.thing is scheduler for e in after):
                yield found("T20", f"{file}:{event.line}", **shown)
        if event.kind == "build" and not event.maybe:
            name = scheduler.arguments.get("variable")
            trains = any(e.kind == "step" and _same(e.thing, scheduler.arguments["optimizer"]) for e in after)
            if name and name not in program.used and trains:
                yield found("never-stepped", f"{file}:{event.line}", **{**shown, "scheduler": name})


def _names(id_: str) -> list[str]:
    return [name for defect in DEFECTS if defect.id == id_ for name in defect.names.split()]


def _stepped(event: Event, before: list[Event], after: list[Event]) -> Iterator[str]:
    """What is wrong with a scheduler's step."""
    scheduler = event.thing
    if scheduler.kind == "ReduceLROnPlateau":
        if not event.arguments:
            yield "metric-missing"
        return
    optimizer = scheduler.arguments["optimizer"]
    updates = [e for e in (*before, *after) if e.kind == "step" and _same(e.thing, optimizer)]
    if any(e.kind == "replace" and e.thing is optimizer for e in before):
        yield "optimizer-rebuilt"
    elif event.loops and not event.maybe and updates:
        inside = [e for e in updates if e.loops[: len(event.loops)] == event.loops]
        if inside and not any(e in before for e in inside):
            yield "scheduler-before-optimizer"
        elif inside and all(len(e.loops) > len(event.loops) for e in inside) and _counts_updates(event):
            yield "stepped-per-epoch"
    if len(event.loops) > 1 and not event.maybe and event.loops[-1].count != 1:
        length = _length(scheduler)
        epochs = event.loops[-2]
        if length == epochs.count or (isinstance(length, Unseen) and length.text == epochs.text):
            yield "stepped-per-update"


def _length(scheduler: Setting) -> Any:
    """How many steps it has, or how that is written."""
    return next(
        (scheduler.arguments.get(own) for name, own in LENGTH.items() if fnmatchcase(scheduler.name, name)), None
    )  # fmt: skip


def _counts_updates(event: Event) -> bool:
    """Whether a scheduler that is stepped once per epoch was built for updates."""
    length, epochs = _length(event.thing), event.loops[-1]
    if event.thing.kind == "OneCycleLR" and length is None:
        return bool(event.thing.arguments.get("steps_per_epoch") != 1)
    if isinstance(length, Unseen):
        return "len(" in length.text and length.text != epochs.text
    counts = [loop.count for loop in event.loops]
    known = None not in counts and isinstance(length, (int, float))
    return known and length >= 2 * prod(count or 1 for count in counts) and event.thing.kind != "CosineAnnealingLR"


def _same(a: Any, b: Any) -> bool:
    """Whether two values are one thing, as far as can be seen."""
    return a is b or (isinstance(a, Unseen) and a == b)


def _name(optimizer: Any) -> str:
    if isinstance(optimizer, Setting):
        return str(optimizer.arguments.get("variable", "optimizer"))
    return repr(optimizer)
