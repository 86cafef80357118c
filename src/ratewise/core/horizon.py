"""How long things last: typed lengths, and the horizon that turns them into optimizer updates.

A plain int is a number of optimizer updates. ``epochs(3)``, ``samples(1_000_000)``, ``tokens(2e12)`` and
``fraction(0.05)`` say their unit. Conversion happens here and nowhere else, in exact fractions, once, before
training starts.
"""

import math
from collections.abc import Iterator, Sequence as Values
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeAlias

from ratewise.core import clock, words
from ratewise.core.checks import FAR, choice, plain_number, positive, shown, whole
from ratewise.core.clock import Position
from ratewise.core.rounding import Exact, half_up, joint, tidy
from ratewise.errors import ScheduleError


@dataclass(frozen=True)
class Length:
    """A length with a unit, made by ``epochs``, ``samples``, ``tokens`` or ``fraction``.

    Args:
        amount: How many, above 0; decimals are taken as written (0.29 is 29/100).
        unit: ``"epochs"``, ``"samples"``, ``"tokens"`` or ``"fraction"`` (of the whole run, at most 1).

    Raises:
        ScheduleError: The amount is not a finite number above 0, or the unit is unknown.
    """

    amount: float
    unit: str

    def __post_init__(self) -> None:
        choice("Length", "unit", self.unit, ("epochs", "samples", "tokens", "fraction"))
        amount = positive(self.unit, "amount", self.amount)
        if self.unit == "fraction" and amount > 1:
            raise ScheduleError(
                f"fraction: must be at most 1 (the whole run), got {amount!r}. Write {amount / 100:g} for {amount:g}%."
                if amount <= 100
                else f"fraction: must be at most 1 (the whole run), got {amount!r}. Updates are plain integers."
            )
        object.__setattr__(self, "amount", int(amount) if amount == int(amount) and self.unit != "fraction" else amount)

    def __repr__(self) -> str:
        return f"{self.unit}({self.amount!r})"

    @property
    def exact(self) -> Fraction:
        """The amount as the decimal number that was written."""
        return Fraction(str(self.amount))


Updates: TypeAlias = int | float | Length
"""A length as people give it: optimizer updates, or a typed length."""

Size: TypeAlias = int | Values[tuple[int, int]]
"""A size as people give it: a number, or ``[(0, 8), (20, 16)]`` where it changes."""


def epochs(amount: float) -> Length:
    """``amount`` passes over the data set."""
    return Length(amount, "epochs")


def samples(amount: float) -> Length:
    """``amount`` training examples, over all workers."""
    return Length(amount, "samples")


def tokens(amount: float) -> Length:
    """``amount`` tokens, over all workers."""
    return Length(amount, "tokens")


def fraction(amount: float) -> Length:
    """The part ``amount`` (above 0, at most 1) of the whole run, wherever it stands in a schedule."""
    return Length(amount, "fraction")


@dataclass(frozen=True, init=False)
class Horizon:
    """How long the run is, and what an update, an epoch, a sample and a token are in it.

    Give ``total_steps``, or ``epochs`` with ``dataset_size`` and ``batch_size``. One update uses
    ``batch_size * accumulation * world_size`` samples. An epoch has ceil(batches / accumulation) updates:
    what remains at its end is flushed, unless ``carry=True``.

    ``batch_size``, ``accumulation`` and ``world_size`` may change in mid-run: ``batch_size=[(0, 8), (20, 16)]`` is 8,
    and 16 from update 20 on. Typed lengths then count updates of the first size, and a schedule written in them is
    read at the samples used so far: the rate as a function of samples or tokens is that of a run without the change.
    A schedule written in plain updates counts the real ones.

    Args:
        total_steps: Optimizer updates of the whole run, at least 1; or its epochs, samples or tokens, which are
            rounded to whole updates, half up.
        epochs: Passes over the data set; may be a fraction.
        dataset_size: Training examples per epoch, over all workers.
        batch_size: Examples of one micro-batch on one worker.
        accumulation: Micro-batches per update.
        world_size: Data-parallel workers.
        tokens_per_sample: Tokens of one example.
        drop_last: Whether the loader drops an incomplete last batch.
        carry: Whether accumulation runs on across the end of an epoch.

    Raises:
        ScheduleError: A number is not positive, the length of the run does not follow from what is given, or a size
            changes after its end.

    Example:
        >>> h = Horizon(epochs=3, dataset_size=1000, batch_size=32, accumulation=2)
        >>> h.total_steps, h.updates(epochs(1)), h.updates(fraction(0.1))
        (48, Fraction(16, 1), Fraction(24, 5))
        >>> ramped = Horizon(samples(480), batch_size=[(0, 8), (20, 16)])
        >>> ramped.total_steps, ramped.position(21).samples, ramped.update_at(samples(170))
        (40, 176, 21)
    """

    total_steps: int
    epochs: float | None
    dataset_size: int | None
    batch_size: int | clock.Ramp | None
    accumulation: int | clock.Ramp
    world_size: int | clock.Ramp
    tokens_per_sample: int | None
    drop_last: bool
    carry: bool

    def __init__(
        self, total_steps: int | Length | None = 0, epochs: float | None = None, dataset_size: int | None = None,
        batch_size: Size | None = None, accumulation: Size = 1, world_size: Size = 1,
        tokens_per_sample: int | None = None, drop_last: bool = False, carry: bool = False,
    ) -> None:  # fmt: skip
        for name, flag in (("drop_last", drop_last), ("carry", carry)):
            if not isinstance(flag, bool):
                raise ScheduleError(f"Horizon: {name} must be True or False, got {shown(flag)}.")
        if isinstance(total_steps, Length) and total_steps.unit == "epochs":
            if epochs is not None:
                raise ScheduleError(
                    f"Horizon: {total_steps!r} and epochs={shown(epochs)} say the same. Give one of them."
                )
            epochs, total_steps = total_steps.amount, None
        self.__dict__.update(
            epochs=None if epochs is None else positive("Horizon", "epochs", epochs),
            batch_size=None if batch_size is None else clock.ramp("batch_size", batch_size),
            accumulation=clock.ramp("accumulation", accumulation),
            world_size=clock.ramp("world_size", world_size),
            drop_last=drop_last,
            carry=carry,
        )
        for name, size in (("dataset_size", dataset_size), ("tokens_per_sample", tokens_per_sample)):
            self.__dict__[name] = None if size is None else whole("Horizon", name, size)
        self.__dict__["total_steps"] = self._total(total_steps)
        if self.total_steps <= self._stages[-1].start:
            raise ScheduleError(
                f"Horizon: the batch changes at update {self._stages[-1].start}, but the run has {self.total_steps} "
                "updates, from 0 on. Leave that change out."
            )

    @classmethod
    def of(cls, horizon: "Horizon | int") -> "Horizon":
        """Return ``horizon``, or for an int the horizon of that many updates."""
        if isinstance(horizon, Horizon):
            return horizon
        return cls(total_steps=whole("horizon", "total_steps", horizon, " Give a number of updates or a Horizon."))

    @property
    def ramped(self) -> bool:
        """Whether batches, accumulation or workers change in mid-run."""
        return len(self._stages) > 1

    @property
    def samples_per_step(self) -> int:
        """Training examples used by one optimizer update, the first one if that changes."""
        _ = self._need("batch_size", "samples")
        return self._stages[0].size

    @property
    def steps_per_epoch(self) -> Fraction:
        """Optimizer updates in one pass over the data set; with a ramp the mean, in updates of the first size."""
        return self.updates(Length(1, "epochs"))

    def updates(self, length: Updates) -> Fraction:
        """Return ``length`` in optimizer updates, exactly; with a ramp in updates of the first size.

        Raises:
            ScheduleError: The horizon lacks what the unit needs, e.g. ``batch_size`` for samples.
        """
        if not isinstance(length, Length):
            return Fraction(length)
        return self.constant._axis(length.unit).inverse(length.exact)

    def whole(self, length: Updates, at: int = 0) -> int | float:
        """Return ``length``, beginning at update ``at``, in updates: typed ones rounded half up and at least 1."""
        if not isinstance(length, Length):
            return length
        axis = self._axis(length.unit)
        return max(1, half_up(axis.inverse(axis(at) + length.exact) - at))

    def position(self, t: int) -> Position:
        """Return where the run stands when ``t`` updates have happened; it may be past the end."""
        t = clock.update("Horizon.position", t)
        epochs = self._axis("epochs")(t) if self.epochs or (self.dataset_size and self.batch_size) else None
        used = int(self._used(t)) if self.batch_size else None
        per_sample = self.tokens_per_sample
        return Position(t, used, used * per_sample if used is not None and per_sample else None, epochs)

    def update_at(self, position: Updates) -> int:
        """Return the first update at or after ``position``, counted from the start of the run.

        Raises:
            ScheduleError: The horizon lacks what the unit needs.
        """
        found = 0 if is_zero(position) else length("Horizon.update_at", "position", position)
        exact = self._axis(found.unit).inverse(found.exact) if isinstance(found, Length) else found
        return math.ceil(exact)

    def table(self, schedule: Any) -> str:
        """Return, as text, what each piece of ``schedule`` becomes in this run; see ``Schedule.over``."""
        from ratewise.core.resolve import table  # which takes schedules apart

        return table(schedule, self)

    @cached_property
    def constant(self) -> "Horizon":
        """The same samples in updates of the first size: what a schedule in typed lengths is settled for."""
        if not self.ramped:
            return self
        start, *_ = self._stages
        run = object.__new__(Horizon)
        names = ("epochs", "tokens_per_sample", "drop_last", "carry")
        sizes = {name: getattr(self, name) for name in ("batch_size", "accumulation", "world_size")}
        run.__dict__.update({name: getattr(self, name) for name in names}, dataset_size=None)
        run.__dict__.update({name: x and clock.first(x) for name, x in sizes.items()})
        run.__dict__["total_steps"] = tidy(self._used(self.total_steps) / start.size)  # may lie between two updates
        if self.dataset_size and self.batch_size:
            run.__dict__["epochs"] = self._axis("epochs")(self.total_steps)
        return run

    def __str__(self) -> str:
        return words.summary(self)

    @cached_property
    def _stages(self) -> tuple[clock.Stage, ...]:
        return clock.stages(self.batch_size or 1, self.accumulation, self.world_size)

    @cached_property
    def _used(self) -> clock.Line:
        """Samples against updates."""
        return clock.samples(self._stages)

    @cached_property
    def _passes(self) -> clock.Line:
        """Epochs against updates."""
        if self.epochs and not (self.dataset_size and self.batch_size):
            return self._used.scaled(Fraction(str(self.epochs)) / self._used(Fraction(self.total_steps)))
        _ = self._need("batch_size", "epochs")
        loader = clock.Loader(self._need("dataset_size", "epochs"), self.drop_last, self.carry)
        return loader.epochs(self._stages)

    def _axis(self, unit: str) -> clock.Line:
        """``unit`` against updates."""
        if unit == "epochs":
            return self._passes
        if unit == "fraction":
            return self._used.scaled(1 / self._used(Fraction(self.total_steps)))
        _ = self._need("batch_size", unit)
        return self._used.scaled(Fraction(self._need("tokens_per_sample", unit) if unit == "tokens" else 1))

    def _total(self, given: Any) -> int:
        """The updates of the run, from whatever says how long it is."""
        n = 0 if given is None or is_zero(given) else self._counted(given)
        if self.epochs is None or not (self.dataset_size and self.batch_size):
            return n or self._unknown()
        passes = Length(self.epochs, "epochs")
        total = self._counted(passes)
        if n not in (0, total):
            raise ScheduleError(
                f"Horizon: total_steps ({n}) and epochs disagree: {self.epochs:g} epochs "
                f"{words.arithmetic(self, passes).partition(')')[2].strip()}. Give one of them."
            )
        return total

    def _counted(self, given: Any) -> int:
        """The whole updates that a run of this length has."""
        if not isinstance(given, Length):
            return whole("Horizon", "total_steps", given)
        if given.unit == "fraction":
            raise ScheduleError(
                f"Horizon: total_steps must be updates, epochs, samples or tokens, got {given!r}, a part of it."
            )
        n = max(1, half_up(self._axis(given.unit).inverse(given.exact)))
        if n > FAR:
            raise ScheduleError(f"Horizon: {shown(given, 40)} are {shown(n, 24)} updates, more than 2**53.")
        return n

    def _unknown(self) -> int:
        if self.epochs is None:
            raise ScheduleError(
                "Horizon: needs total_steps of at least 1, or epochs with dataset_size and batch_size, "
                "for example Horizon(total_steps=10_000)."
            )
        raise ScheduleError(
            "Horizon: epochs need dataset_size and batch_size (or total_steps), "
            "for example Horizon(epochs=3, dataset_size=50_000, batch_size=128)."
        )

    def _need(self, name: str, unit: str) -> int:
        value: int | None = getattr(self, name)
        if value is None:
            raise ScheduleError(f"Horizon: a length in {unit} needs {name}. Write Horizon(..., {name}=...).")
        return value


def length(where: str, name: str, value: Any, hint: str = "") -> Updates:
    """Return ``value`` as a length: an int of at least 1, a float above 0, or a typed length.

    A float is for joints that fall between two updates; a whole float becomes an int.
    """
    if isinstance(value, Length):
        return value
    plain = plain_number(value)
    if type(plain) is int and 1 <= plain <= FAR:
        return plain
    if type(plain) is float and 0 < plain <= FAR:
        return tidy(plain)
    if type(plain) in (int, float) and plain > FAR:
        raise ScheduleError(f"{where}: {name} must be at most 2**53 updates, got {shown(value)}.{hint}")
    raise ScheduleError(
        f"{where}: {name} must be an integer of at least 1 (optimizer updates) or a length such as epochs(3) or "
        f"fraction(0.1), got {shown(value)}.{hint}"
    )


def is_zero(steps: Any) -> bool:
    """Whether ``steps`` is a plain number 0, as in ``warmup(0)``."""
    plain = plain_number(steps)
    return type(plain) in (int, float) and plain == 0


def given(value: Updates | None, horizon: Horizon | None) -> Exact:
    """The length that a ``steps`` argument stands for; without a horizon a typed one counts as some length."""
    if not isinstance(value, Length):
        return value
    if horizon is None:
        return Fraction(1)
    exact, run = horizon.updates(value), Fraction(horizon.total_steps)
    return horizon.total_steps if run.denominator > 1 and joint(exact, run) == run else exact


def typed(*values: Any) -> Iterator[str]:
    """Name the typed lengths among ``values``."""
    return (f"{value!r} is not resolved" for value in values if isinstance(value, Length))
