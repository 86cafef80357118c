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
    """Add to the settings what the calls say of them."""
    for i, event in enumerate(program.events):
        if event.kind == "step" and isinstance(event.thing, Setting):
            steps = [e for e in program.events if e.kind == "step" and e.thing is event.thing]
            if len(steps) == 1 and event.since and not event.maybe and not any(x.ends_early for x in event.since):
                event.thing.arguments.update(_looped(event, program.events))
            event.thing.arguments["steps_to"] = bool(event.arguments)
        elif event.kind == "build" and event.thing.name.startswith(("torch.", "keras.")):
            earlier = [e.thing for e in program.events[:i] if e.kind == "build" and e.function == event.function]
            later = [e.thing for e in program.events[i + 1 :] if e.kind == "build" and e.function == event.function]
            event.thing.arguments.update(_learned(event.thing, earlier, later))
            fits = [e.thing for e in program.events[i + 1 :] if e.kind == "fit" and e.function == event.function]
            length = event.thing.arguments.get("decay_steps")
            event.thing.arguments["decays_in_epochs"] = length is not None and any(_equal(length, e) for e in fits)


def _looped(event: Event, events: list[Event]) -> Iterator[tuple[str, int]]:
    """How often a scheduler is stepped: at least, and exactly where that is plain to see."""
    counts = [loop.count for loop in event.since]
    yield "loop", prod(count or 1 for count in counts)
    optimizer = event.thing.arguments.get("optimizer")
    deepest = max((len(e.loops) for e in events if e.kind == "step" and _same(e.thing, optimizer)), default=0)
    if event.all and None not in counts and deepest <= len(event.loops):
        yield "all_steps", prod(count or 1 for count in counts)


def _learned(built: Setting, earlier: list[Setting], later: list[Setting]) -> Iterator[tuple[str, Any]]:
    """What the things built before and after say of one."""
    optimizer = built.arguments.get("optimizer")
    if built.kind != "OneCycleLR" and isinstance(optimizer, Setting):
        yield (
            "after_one_cycle",
            any(s.kind == "OneCycleLR" and s.arguments["optimizer"] is optimizer for s in earlier),
        )
    if built.kind in ("ReduceLROnPlateau", "LearningRateScheduler") and built.name.startswith("keras."):
        rates = [s.arguments.get("learning_rate") for s in (*earlier, *later)]
        yield "learning_rate", next((rate for rate in rates if isinstance(rate, Setting)), None)


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
    if len(event.since) > 1 and not event.maybe and event.since[-1].count != 1:
        length, epochs = _length(scheduler), event.since[-2]
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
    counts = [loop.count for loop in event.since]
    known = None not in counts and isinstance(length, (int, float))
    return known and length >= 2 * prod(count or 1 for count in counts) and event.thing.kind != "CosineAnnealingLR"


def _same(a: Any, b: Any) -> bool:
    """Whether two values are one thing, as far as can be seen."""
    return a is b or (isinstance(a, Unseen) and a == b)


def _equal(a: Any, b: Any) -> bool:
    """Whether two lengths are the same, as far as can be seen."""
    return type(a) is type(b) and isinstance(a, (int, Unseen)) and a == b


def _name(optimizer: Any) -> str:
    if isinstance(optimizer, Setting):
        return str(optimizer.arguments.get("variable", "optimizer"))
    return repr(optimizer)
