"""How long things last: typed lengths, and the horizon that turns them into optimizer updates.

A plain int is a number of optimizer updates. ``epochs(3)``, ``samples(1_000_000)``, ``tokens(2e12)`` and
``fraction(0.05)`` say their unit. Conversion happens here and nowhere else, in exact fractions, once, before
training starts.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from ratewise.core.checks import FAR, choice, plain_number, positive, shown, whole
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


def half_up(x: Fraction) -> int:
    """Round to the nearest integer, halves up."""
    return math.floor(x + Fraction(1, 2))


@dataclass(frozen=True)
class Horizon:
    """How long the run is, and what an update, an epoch, a sample and a token are in it.

    Give ``total_steps``, or ``epochs`` with ``dataset_size`` and ``batch_size``. One update uses
    ``batch_size * accumulation * world_size`` samples. An epoch has ceil(batches / accumulation) updates:
    what remains at its end is flushed, unless ``carry=True``.

    Args:
        total_steps: Optimizer updates of the whole run, at least 1.
        epochs: Passes over the data set; may be a fraction.
        dataset_size: Training examples per epoch, over all workers.
        batch_size: Examples of one micro-batch on one worker.
        accumulation: Micro-batches per update.
        world_size: Data-parallel workers.
        tokens_per_sample: Tokens of one example.
        drop_last: Whether the loader drops an incomplete last batch.
        carry: Whether accumulation runs on across the end of an epoch.

    Raises:
        ScheduleError: A number is not positive, or the length of the run does not follow from what is given.

    Example:
        >>> h = Horizon(epochs=3, dataset_size=1000, batch_size=32, accumulation=2)
        >>> h.total_steps, h.updates(epochs(1)), h.updates(fraction(0.1))
        (48, Fraction(16, 1), Fraction(24, 5))
    """

    total_steps: int = 0
    epochs: float | None = None
    dataset_size: int | None = None
    batch_size: int | None = None
    accumulation: int = 1
    world_size: int = 1
    tokens_per_sample: int | None = None
    drop_last: bool = False
    carry: bool = False

    def __post_init__(self) -> None:
        for name in ("drop_last", "carry"):
            if not isinstance(getattr(self, name), bool):
                raise ScheduleError(f"Horizon: {name} must be True or False, got {shown(getattr(self, name))}.")
        for name in ("accumulation", "world_size"):
            object.__setattr__(self, name, whole("Horizon", name, getattr(self, name)))
        for name in ("dataset_size", "batch_size", "tokens_per_sample"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole("Horizon", name, getattr(self, name)))
        if self.total_steps is None or is_zero(self.total_steps):
            if self.epochs is None:
                raise ScheduleError(
                    "Horizon: needs total_steps of at least 1, or epochs with dataset_size and batch_size, "
                    "for example Horizon(total_steps=10_000)."
                )
            object.__setattr__(self, "total_steps", 0)
        else:
            object.__setattr__(self, "total_steps", whole("Horizon", "total_steps", self.total_steps))
        if self.epochs is None:
            return
        object.__setattr__(self, "epochs", positive("Horizon", "epochs", self.epochs))
        if self.dataset_size is None or self.batch_size is None:
            if not self.total_steps:
                raise ScheduleError(
                    "Horizon: epochs need dataset_size and batch_size (or total_steps), "
                    "for example Horizon(epochs=3, dataset_size=50_000, batch_size=128)."
                )
            return
        total = max(1, half_up(Fraction(str(self.epochs)) * self.steps_per_epoch))
        if self.total_steps not in (0, total):
            raise ScheduleError(
                f"Horizon: total_steps ({self.total_steps}) and epochs disagree: {self.epochs:g} epochs of "
                f"{self.steps_per_epoch} updates are {total}. Give one of them."
            )
        object.__setattr__(self, "total_steps", total)

    @classmethod
    def of(cls, horizon: "Horizon | int") -> "Horizon":
        """Return ``horizon``, or for an int the horizon of that many updates."""
        if isinstance(horizon, Horizon):
            return horizon
        return cls(total_steps=whole("horizon", "total_steps", horizon, " Give a number of updates or a Horizon."))

    @property
    def samples_per_step(self) -> int:
        """Training examples used by one optimizer update."""
        return self._need("batch_size") * self.accumulation * self.world_size

    @property
    def steps_per_epoch(self) -> Fraction:
        """Optimizer updates in one pass over the data set."""
        if self.epochs and self.total_steps and (self.dataset_size is None or self.batch_size is None):
            return Fraction(self.total_steps) / Fraction(str(self.epochs))
        per_batch = self._need("batch_size") * self.world_size
        full, rest = divmod(self._need("dataset_size"), per_batch)
        batches = full + (1 if rest and not self.drop_last else 0)
        if not batches:
            raise ScheduleError(
                f"Horizon: with drop_last an epoch of {self.dataset_size} samples has no batch of {per_batch}. "
                "Use a smaller batch_size or drop_last=False."
            )
        return Fraction(batches, self.accumulation) if self.carry else Fraction(-(-batches // self.accumulation))

    def updates(self, length: Updates) -> Fraction:
        """Return ``length`` in optimizer updates, exactly.

        Raises:
            ScheduleError: The horizon lacks what the unit needs, e.g. ``batch_size`` for samples.
        """
        if not isinstance(length, Length):
            return Fraction(length)
        if length.unit == "fraction":
            return length.exact * self.total_steps
        if length.unit == "epochs":
            return length.exact * self.steps_per_epoch
        if length.unit == "samples":
            return length.exact / self.samples_per_step
        return length.exact / (self.samples_per_step * self._need("tokens_per_sample"))

    def whole(self, length: Updates) -> int | float:
        """Return ``length`` in updates: typed lengths rounded half up and at least 1, numbers as they are."""
        return max(1, half_up(self.updates(length))) if isinstance(length, Length) else length

    def __str__(self) -> str:
        rows: list[tuple[str, Any]] = [("updates in the run", self.total_steps)]
        if self.epochs or (self.dataset_size and self.batch_size):
            rows.append(("updates per epoch", self.steps_per_epoch))
        if self.batch_size:
            rows.append(("samples per update", self.samples_per_step))
        if self.batch_size and self.tokens_per_sample:
            rows.append(("tokens per update", self.samples_per_step * self.tokens_per_sample))
        return "\n".join(f"{name:<20}{value}" for name, value in rows)

    def _need(self, name: str) -> int:
        value: int | None = getattr(self, name)
        if value is None:
            raise ScheduleError(f"Horizon: this schedule needs {name}. Write Horizon(..., {name}=...).")
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


def tidy(n: float | Fraction) -> int | float:
    """A length that came out whole as an int, else as a float."""
    return int(n) if n == int(n) else float(n)


# A length inside the algebra is an int or float, a Fraction as long as it still has to be rounded, or None if it is
# open: it takes what the run has left.
Exact: TypeAlias = int | float | Fraction | None


def rounded(exact: Exact) -> int | float | None:
    """A typed length in whole updates, at least one; numbers and None as they are."""
    return max(1, half_up(exact)) if isinstance(exact, Fraction) else exact


def given(value: Updates | None, horizon: Horizon | None) -> Exact:
    """The length that a ``steps`` argument stands for; without a horizon a typed one counts as some length."""
    if isinstance(value, Length):
        return horizon.updates(value) if horizon else Fraction(1)
    return value


def typed(*values: Any) -> Iterator[str]:
    """Name the typed lengths among ``values``."""
    return (f"{value!r} is not resolved" for value in values if isinstance(value, Length))
