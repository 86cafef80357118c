"""What to write instead: expressions of the algebra that cure a finding.

Each function proposes schedules; the first that fits the run is the advice. Where none does, a sentence stands in.
"""

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

from ratewise.core import resolve
from ratewise.core.horizon import Length, epochs, fraction
from ratewise.core.schedule import Ramp, Repeat, Schedule, Sequence, sequence
from ratewise.core.shapes import Constant, Decay
from ratewise.doctor.run import Run
from ratewise.errors import ScheduleError


def expression(run: Run, candidates: Iterable[Schedule], otherwise: str) -> str:
    """The first candidate that fits the run, else the sentence ``otherwise``."""
    candidates = iter(candidates)
    while True:
        try:
            candidate = next(candidates)
            candidate.over(run.horizon)
        except StopIteration:
            return otherwise
        except ScheduleError:  # it does not fit, or cannot even be made
            continue
        return repr(candidate)


def joined(parts: Iterable[Schedule]) -> Schedule:
    """The parts one after the other."""
    parts = tuple(parts)
    return parts[0] if len(parts) == 1 else sequence(*parts)


def _with(parts: tuple[Schedule, ...], i: int, **changes: Any) -> Schedule:
    """The parts joined, with other fields in part ``i``."""
    return joined([*parts[:i], replace(parts[i], **changes), *parts[i + 1 :]])  # type: ignore[type-var]


def without_steps(run: Run) -> Iterator[Schedule]:
    """The schedule with one piece open, so that it fills the run: ramps before others, the last first."""
    parts = run.parts
    if isinstance(parts[-1], Ramp) and parts[-1].end > parts[-1].start:  # a warm-up keeps its length
        yield joined([*parts, Constant(parts[-1].end)])
    able = [i for i, part in enumerate(parts) if isinstance(part, (Ramp, Decay)) and (i or len(parts) == 1)]
    for i in sorted(able, key=lambda i: (not isinstance(parts[i], Ramp), -i)):
        yield _with(parts, i, steps=None)


def shorter_warmup(run: Run) -> Iterator[Schedule]:
    """The schedule with a warm-up of a twentieth of the run, and the rest filling it."""
    parts = (replace(run.parts[0], steps=fraction(0.05)), *run.parts[1:])  # type: ignore[type-var]
    for i in reversed(range(1, len(parts))):
        if isinstance(parts[i], (Ramp, Decay)):
            yield _with(parts, i, steps=None)
    yield joined(parts)


def nonzero_start(run: Run) -> Iterator[Schedule]:
    """The schedule with a first ramp that does not use its start."""
    first = run.parts[0]
    if isinstance(first, Ramp) and first.start == 0:
        yield _with(run.parts, 0, ends="(]")


def meeting(run: Run, i: int, left: float, right: float) -> Iterator[Schedule]:
    """The schedule with pieces ``i - 1`` and ``i`` meeting: a warm-up goes where the next starts."""
    parts, left, right = run.parts, float(f"{left:.12g}"), float(f"{right:.12g}")
    if len(parts) > 1 and all(part == parts[0] for part in parts) and parts[0].steps is not None:
        yield parts[0].repeat(len(parts))
    before, after = parts[i - 1], parts[i]
    if i == 1 and isinstance(before, Ramp) and before.start < min(before.end, right):
        yield _with(parts, 0, end=right)
    if isinstance(after, Ramp):
        yield _with(parts, i, start=left)


def whole_cycles(run: Run, cycle: Schedule) -> Iterator[Schedule]:
    """The schedule with a first cycle (now ``cycle``) of such a length that a whole number of them fills the run."""
    given, size = run.given, cycle.steps
    if not isinstance(given, Repeat):
        return
    spans = [sum(given.factor**i for i in range(n)) for n in range(1, 64 if given.factor > 1 else 4096)]
    times = 1 + min(range(len(spans)), key=lambda i: abs(spans[i] * size - run.total))
    yield replace(given, base=resized(cycle, run.total / spans[times - 1] / size), times=times)


def resized(schedule: Schedule, ratio: float) -> Schedule:
    """The schedule with every length times ``ratio``, in whole updates."""
    if isinstance(schedule, Sequence):
        return joined(resized(piece, ratio) for piece in schedule.pieces)
    return replace(schedule, steps=max(1, int(schedule.steps * ratio + 1e-9)))  # type: ignore[type-var]


def in_epochs(schedule: Schedule) -> Schedule:
    """The schedule with every plain length read as so many epochs."""

    def read(name: str, value: Any) -> Any:
        if isinstance(value, Schedule):
            return in_epochs(value)
        if isinstance(value, tuple):
            return tuple(read(name, item) for item in value)
        return epochs(value) if name in resolve.LENGTHS and isinstance(value, (int, float)) else value

    argument = {"levels": "values"}  # where it is not called as the field
    given = {argument.get(f.name, f.name): read(f.name, getattr(schedule, f.name)) for f in fields(schedule)}  # type: ignore[arg-type]
    return type(schedule)(**given)


def lengths(schedule: Schedule) -> list[float | Length]:
    """Every length that is written in a schedule."""
    return [value for _, value in resolve.lengths(schedule) if value is not None]
