"""What can be wrong between the lengths that are written and the run."""

from collections.abc import Iterator

from ratewise.core.horizon import Length, Updates
from ratewise.core.numeric import SCALAR
from ratewise.core.schedule import Clip, Product, Repeat, Schedule, Sequence, Stairs, Sum, Until
from ratewise.core.shapes import Constant, Exponential, Piecewise
from ratewise.doctor import advice
from ratewise.doctor.finding import Finding
from ratewise.doctor.run import Run, nodes

EPOCHS = 300
"""Lengths up to this are taken for epochs if the run is more than ten times longer."""


def unknown(run: Run) -> Iterator[Finding]:
    """A run whose length is not given."""
    if run.assumed:
        yield Finding(
            "length-unknown",
            f"the schedule takes its length from the run, which is not given; looked at over {run.total} updates",
            "the whole schedule",
            "What depends on the length of the run cannot be checked.",
            f"{run.given!r:.200} with its run: --steps N, or examine(schedule, N).",
            "note",
        )


def exceeds(run: Run) -> Iterator[Finding]:
    """Pieces that need more updates than the run has."""
    if run.error:
        yield Finding(
            "pieces-exceed-run",
            run.error.split(". ")[0].rstrip("."),
            f"a run of {run.total} updates",
            "The end of the schedule, as a rule its decay, would never be used.",
            advice.expression(run, _fitting(run), "Shorten a piece, or leave out the steps of one."),
            "error",
        )


def _fitting(run: Run) -> Iterator[Schedule]:
    yield from advice.without_steps(run)
    if run.warmup:
        yield from advice.shorter_warmup(run)


def long_warmup(run: Run) -> Iterator[Finding]:
    """A warm-up that takes the run, or more than half of it."""
    if run.assumed or 2 * run.warmup <= run.total:
        return
    whole = run.warmup >= run.total
    yield Finding(
        "warmup-longer-than-run" if whole else "warmup-longer-than-half",
        f"the warm-up takes {run.warmup:g} of {run.total} updates",
        f"updates 0 to {min(run.warmup, run.total) - 1:g}",
        "The rate never comes down."
        if whole
        else "Little of the run is left for the rate that was chosen, and its decay.",
        advice.expression(run, advice.shorter_warmup(run), "Shorten the warm-up, e.g. to fraction(0.05)."),
        "error" if whole else "warning",
    )


def looks_like_epochs(run: Run) -> bool:
    """Whether lengths of a few hundred stand in a run of many thousand updates."""
    given = list(advice.lengths(run.given))
    if run.assumed or not given or any(isinstance(length, Length) for length in given):
        return False
    own, end = _own_length(run)
    return 0 < own <= EPOCHS and run.total >= 10 * own and end


def _own_length(run: Run) -> tuple[float, bool]:
    """The updates that the schedule speaks of, and whether it would be over after them."""
    if run.given.steps is not None:
        return run.given.steps, True
    found = list(nodes(run.given))
    steps = [_plain(node.milestones[-1]) for node in found if isinstance(node, Piecewise) and node.milestones]
    if steps:
        return max(steps), True
    every = [_plain(node.every) for node in found if isinstance(node, (Stairs, Exponential)) and node.every != 1]
    return (max(every), run.values[-1] < 1e-8 * run.peak) if every else (0, False)


def _plain(length: Updates) -> float:
    return 0 if isinstance(length, Length) else length


def epochs(run: Run) -> Iterator[Finding]:
    """Lengths that were probably meant in epochs."""
    if looks_like_epochs(run):
        own, _ = _own_length(run)
        yield Finding(
            "steps-look-like-epochs",
            f"the schedule speaks of {own:g} updates, the run has {run.total}",
            f"updates 0 to {own - 1:g}",
            "Lengths are optimizer updates; such numbers are usually epochs, and the decay would be over at once.",
            repr(advice.in_epochs(run.given)),
        )


def falls_short(run: Run) -> Iterator[Finding]:
    """Pieces that end before the run does."""
    schedule = run.schedule
    if schedule is None or schedule.steps is None or schedule.steps >= run.total or looks_like_epochs(run):
        return
    if isinstance(run.parts[-1], Constant):  # holds its value either way
        return
    held = run.total - schedule.steps
    yield Finding(
        "pieces-fall-short",
        f"the schedule is {schedule.steps:g} updates long, the run {run.total}: "
        f"the last {held:g} hold {schedule(schedule.steps):.6g}",
        f"updates {schedule.steps:g} to {run.total - 1}",
        "What follows the end was not planned; at a rate of 0 it trains nothing.",
        advice.expression(run, advice.without_steps(run), "Leave out the steps of one piece, and it fills the run."),
        "warning" if held > 0.01 * run.total else "note",
    )


def unused_steps(run: Run) -> Iterator[Finding]:
    """Milestones that the run does not come to."""
    for node in nodes(run.schedule) if run.schedule and not run.assumed else ():
        if isinstance(node, Piecewise):
            late = [m for m in node.milestones if isinstance(m, (int, float)) and m >= run.total]
            if late:
                yield Finding(
                    "milestone-after-end",
                    f"the milestone {late[0]:g} is not reached"
                    + (f", nor are {len(late) - 1} more" if len(late) > 1 else ""),
                    f"a run of {run.total} updates",
                    "The rate that was meant for the end is never used.",
                    f"Give milestones below {run.total}, or as parts of the run: fraction(0.5), fraction(0.75).",
                )


def cut_cycle(run: Run) -> Iterator[Finding]:
    """A run that ends inside a cycle."""
    found = _cycles(run.schedule, 0) if run.schedule and not run.assumed else None
    if not found or run.schedule is None:
        return
    repeat, start = found
    if repeat.steps is not None and start + repeat.steps <= run.total:
        return
    cycle, local = repeat._cycles.split(run.total - start, SCALAR)
    size = repeat.base.steps
    floor = repeat.gamma**cycle * repeat.base(size)
    part = local / size
    top = max(repeat.base.values(0, min(int(size) + 1, 1000)), default=0.0) * repeat.gamma**cycle
    now = repeat(run.total - 1 - start)
    if 0 < part < 1 and abs(now - floor) > 0.05 * max(abs(top), abs(floor)):
        yield Finding(
            "cycle-cut",
            f"the run ends when {100 * part:.0f}% of cycle {int(cycle) + 1} are over, at the rate {run.values[-1]:.6g}",
            f"update {run.total - 1}, the last",
            "A run that ends at a high rate is noisier than one that ends with its cycle.",
            advice.expression(
                run, advice.whole_cycles(run, repeat.base), "Choose a cycle length of which the run is a multiple."
            ),
        )


def _cycles(schedule: Schedule, start: float) -> tuple[Repeat, float] | None:
    """The repeated part that the run ends in, and where it starts."""
    if isinstance(schedule, Repeat):
        return schedule, start
    if isinstance(schedule, Sequence):
        return _cycles(schedule.pieces[-1], start + schedule._starts[-1])
    inside: tuple[Schedule, ...] = ()
    if isinstance(schedule, (Until, Clip)):
        inside = (schedule.base,)
    elif isinstance(schedule, (Product, Sum)):
        inside = schedule.terms
    return next((found for child in inside if (found := _cycles(child, start))), None)


CHECKS = (unknown, exceeds, long_warmup, epochs, falls_short, unused_steps, cut_cycle)
"""Every check of lengths."""
