"""Counting what updates use: samples and epochs, also where batches, accumulation or workers change in mid-run.

A batch ramp bends two straight lines, samples against updates and epochs against updates. Both are a ``Line`` here:
exact, rising, and invertible. Nothing in this file knows a schedule.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

from ratewise.core import checks
from ratewise.errors import ScheduleError

Ramp: TypeAlias = tuple[tuple[int, int], ...]
"""``((0, 8), (20, 16))``: 8 from update 0 on, 16 from update 20 on."""


@dataclass(frozen=True)
class Line:
    """A rising broken line through ``knots`` (x, y), straight on with ``slope`` after the last one."""

    knots: tuple[tuple[Fraction | int, Fraction | int], ...]
    slope: Fraction | int

    def __call__(self, x: Fraction | int) -> Fraction:
        """Return y at ``x``."""
        i = bisect_right(self.knots, x, key=lambda knot: knot[0]) - 1
        x0, y0 = self.knots[max(i, 0)]
        if i + 1 == len(self.knots):
            return Fraction(y0 + (x - x0) * self.slope)
        x1, y1 = self.knots[i + 1]
        return y0 + Fraction(x - x0) * (y1 - y0) / (x1 - x0)

    @property
    def inverse(self) -> "Line":
        """The line that gives x at y."""
        return Line(tuple((y, x) for x, y in self.knots), 1 / Fraction(self.slope))

    def scaled(self, factor: Fraction | int) -> "Line":
        """The line that gives y times ``factor``."""
        return Line(tuple((x, y * factor) for x, y in self.knots), self.slope * factor)


@dataclass(frozen=True)
class Position:
    """The same point of a run on every axis; None where the run does not say how to count.

    Args:
        updates: Optimizer updates that happened.
        samples: Training examples that they used, over all workers, every batch counted as full.
        tokens: The tokens in those.
        epochs: Passes over the data set, exactly.
    """

    updates: int
    samples: int | None
    tokens: int | None
    epochs: Fraction | None


class Stage(NamedTuple):
    """From update ``start`` on, each update takes ``accumulation`` batches of ``batch`` samples over all workers."""

    start: int
    batch: int
    accumulation: int

    @property
    def size(self) -> int:
        """Samples of one update."""
        return self.batch * self.accumulation


@dataclass(frozen=True)
class Loader:
    """How samples become batches: ``dataset_size`` samples to an epoch, and what happens where it ends.

    Args:
        dataset_size: Samples in an epoch.
        drop_last: Whether an incomplete last batch is left out.
        carry: Whether accumulation runs on across the end of an epoch, or is flushed there.
    """

    dataset_size: int
    drop_last: bool
    carry: bool

    def batches(self, batch: int, left: int | None = None) -> int:
        """How many batches the ``left`` samples of an epoch (all of them by default) make."""
        full, rest = divmod(self.dataset_size if left is None else left, batch)
        return full + (1 if rest and not self.drop_last else 0)

    def updates_per_epoch(self, stage: Stage) -> Fraction:
        """Updates in an epoch that lies in ``stage`` as a whole.

        Raises:
            ScheduleError: No batch fits into the epoch.
        """
        batches = self.batches(stage.batch)
        if not batches:
            raise ScheduleError(
                f"Horizon: with drop_last an epoch of {self.dataset_size} samples has no batch of {stage.batch}. "
                "Use a smaller batch_size or drop_last=False."
            )
        updates = Fraction(batches, stage.accumulation)
        return updates if self.carry else Fraction(-(-updates.numerator // updates.denominator))

    def epochs(self, stages: tuple[Stage, ...]) -> Line:
        """Epochs against updates: straight through the epochs of each stage, and through those where it changes."""
        return Line(tuple(self._knots(stages)), 1 / self.updates_per_epoch(stages[-1]))

    def _knots(self, stages: tuple[Stage, ...]) -> Iterator[tuple[Fraction, int]]:
        t, epoch = Fraction(0), 0
        yield t, epoch
        while (stage := _at(stages, t)) is not stages[-1]:
            size, end = self.updates_per_epoch(stage), _end(stages, stage)
            if whole := (end - t) // size:
                t, epoch = t + whole * size, epoch + whole
                yield t, epoch
            if t < end:
                t, epoch = self._through(stages, t), epoch + 1
                yield t, epoch

    def _through(self, stages: tuple[Stage, ...], t: Fraction) -> Fraction:
        """The update at which an epoch ends that begins at ``t`` and in which the stage changes."""
        left = self.dataset_size
        while left > 0:
            stage = _at(stages, t)
            batches = self.batches(stage.batch, left)
            if stage is not stages[-1]:
                batches = min(batches, int((_end(stages, stage) - t) * stage.accumulation))
            if not batches:
                break
            t, left = t + Fraction(batches, stage.accumulation), left - batches * stage.batch
        return t if self.carry else Fraction(-(-t.numerator // t.denominator))


def ramp(name: str, value: Any) -> int | Ramp:
    """Return ``value`` as an int of at least 1, or as a ramp of (update, value) pairs from update 0 on.

    Raises:
        ScheduleError: It is neither.
    """
    if not isinstance(value, (list, tuple)):
        hint = " Or a ramp: [(0, 8), (20, 16)] is 8, and 16 from update 20 on." if name == "batch_size" else ""
        return checks.whole("Horizon", name, value, hint)
    pairs: list[tuple[int, int]] = []
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise _no_ramp(name, value, f"got {checks.shown(pair, 40)} in")
        start = update(f"Horizon: {name}", pair[0])
        if start <= pairs[-1][0] if pairs else start:
            raise _no_ramp(name, value, "the updates must start at 0 and rise strictly, got")
        pairs.append((start, checks.whole("Horizon", f"{name} from update {start} on", pair[1])))
    if not pairs:
        raise _no_ramp(name, value, "got")
    bends = [pairs[0], *(b for a, b in pairwise(pairs) if a[1] != b[1])]
    return tuple(bends) if len(bends) > 1 else bends[0][1]


def update(where: str, t: Any) -> int:
    """Return ``t`` as the number of an update, an int of at least 0."""
    plain = checks.plain_number(t)
    if type(plain) is not int or not 0 <= plain <= checks.FAR:
        raise ScheduleError(f"{where}: an update must be an integer from 0 to 2**53, got {checks.shown(t)}.")
    return plain


def _no_ramp(name: str, value: Any, problem: str) -> ScheduleError:
    return ScheduleError(
        f"Horizon: {name} must be an integer, or a ramp of (update, value) pairs such as [(0, 8), (20, 16)]; "
        f"{problem} {checks.shown(value)}."
    )


def first(value: int | Ramp) -> int:
    """The value at update 0."""
    return value if isinstance(value, int) else value[0][1]


def stages(batch_size: int | Ramp, accumulation: int | Ramp, world_size: int | Ramp) -> tuple[Stage, ...]:
    """What each update takes, where any of the three changes."""
    ramps = [((0, x),) if isinstance(x, int) else x for x in (batch_size, accumulation, world_size)]
    found = []
    for start in sorted({start for pairs in ramps for start, _ in pairs}):
        batch, batches, workers = (pairs[_index(pairs, start)][1] for pairs in ramps)
        found.append(Stage(start, batch * workers, batches))
    return tuple(found)


def samples(stages: tuple[Stage, ...]) -> Line:
    """Samples against updates, every batch counted as full."""
    total, knots = 0, [(0, 0)]
    for stage, after in pairwise(stages):
        total += (after.start - stage.start) * stage.size
        knots.append((after.start, total))
    return Line(tuple(knots), stages[-1].size)


def _index(stages: tuple[Any, ...], t: Fraction | int) -> int:
    """Which of ``stages`` (tuples that begin with an update) the update in progress at ``t`` belongs to."""
    return bisect_right(stages, int(t), key=lambda stage: stage[0]) - 1


def _at(stages: tuple[Stage, ...], t: Fraction) -> Stage:
    return stages[_index(stages, t)]


def _end(stages: tuple[Stage, ...], stage: Stage) -> int:
    """Where the next stage begins."""
    return stages[_index(stages, stage.start) + 1].start
