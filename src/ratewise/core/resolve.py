"""What a run makes of a schedule: its lengths settled, its clock changed where batches change, and both told as text.

``horizon`` knows how to count and ``schedule`` how to be settled for a number of updates; this file joins them. The
one decision in it: a batch ramp is a change of clock. Lengths in samples, tokens, epochs or fractions are settled for
the same run at the first size throughout, and the result is read at the samples used so far.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from ratewise.core import clock
from ratewise.core.formula import Formula
from ratewise.core.horizon import Horizon, Length
from ratewise.core.rounding import rounded
from ratewise.core.schedule import Cooldown, Schedule, Sequence, sequence
from ratewise.core.shapes import Custom
from ratewise.core.words import arithmetic, number_text
from ratewise.errors import ScheduleError

LENGTHS = ("steps", "every", "milestones", "skip", "length")
"""Fields that hold lengths."""


def settle(schedule: Schedule, run: Horizon) -> Schedule:
    """Return ``schedule`` with every length known; see ``Schedule.over``."""
    try:
        plan = _plan(schedule, run)
        settled = schedule._over(plan, plan.total_steps)
    except ScheduleError as error:
        raise _explained(error, schedule, run) from None
    return settled if plan is run else settled.along(_clock(run))


def _plan(schedule: Schedule, run: Horizon) -> Horizon:
    """The run that the lengths count updates of: the real one, or that at the first size throughout."""
    if not run.ramped:
        return run
    named = list(lengths(schedule))
    typed = [value for _, value in named if isinstance(value, Length)]
    plain = [(name, value) for name, value in named if not isinstance(value, Length)]
    if not typed or not plain:
        return run if plain else run.constant
    name, value = plain[0]
    instead = f" (samples({run.samples_per_step * value:g}) for {name}={value!r})" if run.batch_size and value else ""
    raise ScheduleError(
        f"over: the batch changes in mid-run, and {schedule!r:.60} has typed lengths ({typed[0]!r}) and plain updates "
        f"({f'{name}={value!r}' if value else name}), which could be real ones or of the first size. "
        f"Write all lengths typed{instead}, or all plain."
    )


def lengths(schedule: Any) -> Iterator[tuple[str, Any]]:
    """Every length in a schedule with the name of its argument; a function of the update is a plain one."""
    if isinstance(schedule, (Custom, Formula)):
        yield f"t in {schedule!r:.40}", None
    for field in fields(schedule):
        value = getattr(schedule, field.name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Schedule):
                yield from lengths(item)
            elif field.name in LENGTHS and item is not None:
                yield field.name, item


def _clock(run: Horizon) -> Schedule:
    """Updates of the first size against real updates, as a schedule: exact wherever it is whole."""
    stages = clock.stages(run.batch_size or 1, run.accumulation, run.world_size)
    used, size = clock.samples(stages), stages[0].size
    ends = [*(stage.start for stage in stages[1:]), run.total_steps]
    pieces = []
    for stage, end in zip(stages, ends, strict=True):
        start, slope = used(stage.start) / size, Fraction(stage.size, size)
        below = math.lcm(start.denominator, slope.denominator)
        line = "t" if slope * below == 1 else f"{slope * below} * t"
        line = f"{start * below} + {line}" if start else line
        pieces.append(Formula(line if below == 1 else f"({line}) / {below}", end - stage.start))
    return sequence(*pieces)


def _explained(error: ScheduleError, schedule: Schedule, run: Horizon) -> ScheduleError:
    """The error with the arithmetic of the typed lengths it may be about."""
    message = str(error)
    typed = dict.fromkeys(value for _, value in lengths(schedule) if isinstance(value, Length))
    if message.startswith("Horizon") or "all plain" in message:
        return error
    facts: list[str] = []
    for length in typed:
        with suppress(ScheduleError):  # another unit may be missing from the run
            facts.append(arithmetic(run, length))
    while facts and len(message) + sum(map(len, facts)) > 360:
        facts.pop()
    return ScheduleError(f"{message} Here {'; '.join(facts)}.") if facts else error


@dataclass(frozen=True)
class Row:
    """What one piece of a schedule became: its text, its length as given, exactly, and in whole updates."""

    piece: str
    given: str
    exact: Fraction
    size: int | float


def resolved(schedule: Schedule, plan: Horizon, n: int | float) -> list[Row]:
    """Return a row for each piece of ``schedule`` where it has ``n`` updates of ``plan``."""
    if isinstance(schedule, Sequence):
        return [row for part in _parts(schedule, plan, n) for row in part]
    exact = schedule._exact(plan)
    size = n if exact is None else rounded(exact)
    assert size is not None
    if isinstance(schedule, Cooldown):
        last = schedule._fit(plan, size).pieces[-1].steps  # type: ignore[attr-defined]
        piece = "cooldown(" + repr(schedule).rpartition(".cooldown(")[2]
        given = plan.updates(schedule.length)
        return [*resolved(schedule.base, plan, size - last), Row(piece, repr(schedule.length), given, last)]
    return [Row(repr(schedule), _given(schedule, exact), Fraction(n if exact is None else exact), size)]


def _parts(schedule: Sequence, plan: Horizon, n: int | float) -> Iterator[list[Row]]:
    exact = [piece._exact(plan) for piece in schedule.pieces]
    rest = Fraction(n) - sum(Fraction(x) for x in exact if x is not None)
    for piece, x, size in zip(schedule.pieces, exact, schedule._sizes(plan, n), strict=True):
        if isinstance(piece, Cooldown):
            yield resolved(piece, plan, size)
        else:
            yield [Row(repr(piece), _given(piece, x), rest if x is None else Fraction(x), size)]


def _given(piece: Any, exact: Any) -> str:
    """The length as it was written."""
    if exact is None:
        return "the rest"
    names = [field.name for field in fields(piece)]
    if "steps" in names:
        return repr(piece.steps)
    return _given(piece.base, exact) if names[0] == "base" and piece.steps == piece.base.steps else ""


def table(schedule: Schedule, run: Horizon) -> str:
    """Return what each piece of ``schedule`` becomes in ``run``: length as given, exact, rounded, and where it lies.

    With a batch ramp and typed lengths, ``exact`` and ``updates`` count updates of the first size, ``from`` and
    ``to`` real ones.
    """
    lr = settle(schedule, run)
    plan = _plan(schedule, run)
    rows = resolved(schedule, plan, plan.total_steps)
    used = sum(row.size for row in rows)
    if used < plan.total_steps:
        left = plan.total_steps - used
        rows.append(Row("(the end value, held)", "the rest", Fraction(left), left))
    lines: list[tuple[str, ...]] = [("piece", "length", "exact", "updates", "from", "to", "first", "last")]
    start = Fraction(0)
    for row in rows:
        real = [_real(run, plan, x) for x in (start, start + Fraction(row.size))]
        lines.append(
            (_short(row.piece), _short(row.given, 24), number_text(row.exact), number_text(row.size), *_span(lr, *real))
        )
        start += Fraction(row.size)
    lines.append(("the run", "", "", number_text(plan.total_steps), *_span(lr, 0, run.total_steps)))
    text = _aligned(lines)
    return text if plan is run else f"{text}\n(exact, updates: of the first size; from, to: real ones)"


def _real(run: Horizon, plan: Horizon, t: Fraction) -> int:
    """The first real update at or after ``t`` of the plan."""
    if plan is run:
        return math.ceil(t)
    stages = clock.stages(run.batch_size or 1, run.accumulation, run.world_size)
    return min(math.ceil(clock.samples(stages).inverse(t * stages[0].size)), run.total_steps)


def _span(lr: Schedule, start: int, stop: int) -> tuple[str, str, str, str]:
    """First and last update, and the values they use."""
    if start >= stop:
        return "-", "-", "-", "-"
    return str(start), str(stop - 1), f"{lr(start):.6g}", f"{lr(stop - 1):.6g}"


def _short(text: str, most: int = 44) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _aligned(lines: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
