"""What every importer shares: a table of the peer's schedules by name, and a few pieces that many peers have.

An entry of a table is a function named as the peer names its schedule, with the peer's own arguments and defaults,
that says the schedule in our algebra. ``Peer.build`` calls it by name; ``Peer.read`` takes the arguments from the
attributes of a peer's object.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, signature
from typing import Any, TypeVar

from ratewise.core import checks
from ratewise.core.formula import Formula
from ratewise.core.parse import called
from ratewise.core.rules import Plateau
from ratewise.core.schedule import Ramp, Schedule, sequence
from ratewise.core.shapes import Constant, Cosine, Exponential, Piecewise
from ratewise.errors import ScheduleError, nearest

_Entry = TypeVar("_Entry", bound=Callable[..., Any])


class Peer:
    """The schedules of one peer by name.

    Args:
        name: The importer's own name, e.g. ``"from_torch"``, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: dict[str, Callable[..., Any]] = {}

    def entry(self, function: _Entry) -> _Entry:
        """Add a schedule to the table under its own name; use it as a decorator."""
        self.entries[function.__name__] = function
        return function

    def alias(self, **names: str) -> None:
        """Let further names (keys) stand for entries (values)."""
        self.entries.update({name: self.entries[entry] for name, entry in names.items()})

    def build(self, name: Any, arguments: Mapping[str, Any]) -> Any:
        """Return the schedule ``name`` with the peer's own ``arguments``.

        Raises:
            ScheduleError: There is no such schedule, or its arguments are wrong.
        """
        checks.choice(self.name, "schedule", name, self.entries)
        try:
            return called(self.name, name, self.entries[name], [], dict(arguments))
        except ValueError as error:  # a ScheduleError is one
            if str(error).startswith(f"{self.name}:"):
                raise
            raise ScheduleError(f"{self.name}: {name}: {error}") from None

    def read(self, given: Any, **known: Any) -> Any:
        """Return the schedule of the peer's object ``given``.

        The entry is the one named as the object's class. Its arguments are ``known`` ones, else the object's
        attributes of the same name.

        Raises:
            ScheduleError: The object is not of a class in the table, or lacks an attribute.
        """
        name = type(given).__name__
        if name not in self.entries:
            raise ScheduleError(f"{self.name}: cannot read {checks.shown(given, 60)}.{nearest(name, self.entries)}")
        arguments = dict(known)
        for parameter in signature(self.entries[name]).parameters.values():
            if parameter.name in arguments:
                continue
            if hasattr(given, parameter.name):
                arguments[parameter.name] = getattr(given, parameter.name)
            elif parameter.default is Parameter.empty:
                raise ScheduleError(f"{self.name}: {name} has no {parameter.name!r}; is it of another version?")
        return self.build(name, arguments)


def chain(*pieces: Schedule | None) -> Schedule:
    """The pieces that there are, one after the other."""
    there = [piece for piece in pieces if piece is not None]
    return there[0] if len(there) == 1 else sequence(*there)


def ramp(start: float, end: float, steps: float, ease: str = "linear", ends: str = "[)") -> Schedule | None:
    """A ramp, or nothing if it has no length."""
    return Ramp(start, end, steps, ease=ease, ends=ends) if steps > 0 else None


def hold(value: float, steps: float) -> Schedule | None:
    """A constant, or nothing if it has no length."""
    return Constant(value, steps) if steps > 0 else None


def powers(start: float, gamma: float, every: float = 1) -> Schedule:
    """``start * gamma**(t / every)``; a growing one is held before it leaves the floats, gamma 0 leaves 0 at once."""
    if gamma == 0:
        return Constant(start, 1) >> Constant(0.0)
    if not gamma > 1:
        return Exponential(start, gamma, every=every)
    room = 700 - max(math.log(abs(start) or 1.0), 0.0)
    return Exponential(start, gamma, every=every, steps=min(max(int(room / math.log(gamma) * every), 1), checks.FAR))


def formula(text: str, steps: int | None = None, **numbers: float) -> Schedule:
    """``Formula(text, steps)`` with ``numbers`` written into its braces.

    Example:
        >>> formula("{lr} / (1 + t / {n})", lr=0.1, n=10)
        Formula('0.1 / (1 + t / 10)')
    """
    plain = {name: checks.plain_number(x) for name, x in numbers.items()}
    shown = {name: str(x if type(x) is int else checks.number("Formula", name, x)) for name, x in plain.items()}
    return Formula(text.format(**{name: f"({x})" if x.startswith("-") else x for name, x in shown.items()}), steps)


def wave(high: float, low: float, half: float) -> Schedule:
    """A cosine from ``high`` to ``low`` in ``half`` updates, and back, for ever: an unclamped cosine decay."""
    if half > checks.FAR:  # in no run does it leave ``high``
        return Constant(high)
    return (Cosine(high, low, half) >> Cosine(low, high, half)).repeat()


def late(cycles: Schedule, restarts: Iterable[tuple[int, float]]) -> Schedule:
    """``cycles`` as a peer has them that is one update late at ``restarts``: there it still gives the old end value."""
    pieces: list[Schedule | None] = []
    last = 0
    for restart, end in restarts:
        before = cycles.after(last) if last else cycles
        pieces += [before.until(restart - last) if restart > last else None, hold(end, 1)]
        last = restart + 1
    return chain(*pieces, cycles.after(last)) if last else cycles


def levels(value: Callable[[float], float], joints: Iterable[float]) -> Schedule:
    """``value(t)`` of a function that changes at ``joints`` alone."""
    later = sorted({joint for joint in joints if joint > 0})
    return Piecewise([value(0), *map(value, later)], later) if later else Constant(value(0))


def line(start: float, end: float, steps: float) -> Schedule:
    """The straight line through ``start`` at 0 and ``end`` at ``steps``, without an end."""
    if start == end:
        return Constant(start)
    return formula("{start} + {rise} * (t / {n})", start=start, rise=end - start, n=steps)


def cycled(cycle: Schedule, gamma: float = 1.0, stretch: float = 1) -> Schedule:
    """``cycle`` for ever, times ``gamma`` once more in every repetition; a growing one ends before it leaves floats."""
    if gamma == 0:
        return cycle >> Constant(0.0)
    if gamma < 0:
        return cycled(cycle >> gamma * cycle, gamma**2)
    times = None if gamma <= 1 else max(int(min(690 / math.log(gamma), checks.FAR // math.ceil(cycle.steps))), 1)
    return cycle.repeat(times if stretch == 1 or times is None else min(times, 1000), stretch=stretch, gamma=gamma)


def truncated(sizes: tuple[int, ...], factor: float) -> tuple[list[tuple[int, ...]], bool]:
    """Lengths of cycles, each ``int(factor * size)`` of the one before, for a peer that rounds them down.

    Returns the cycles, and whether the last of them repeats for ever; otherwise they have come to nothing or fill
    2**53 updates.

    Raises:
        ScheduleError: There would be more than 10,000 of them.
    """
    cycles, total = [sizes], sum(sizes)
    while True:
        following = tuple(int(factor * size) for size in cycles[-1])
        if following == cycles[-1]:
            return cycles, True
        total += sum(following)
        if following[0] < 1 or total > checks.FAR:
            return cycles, False
        if len(cycles) == 10_000:
            raise ScheduleError(f"a factor of {factor!r} makes more than 10,000 cycles of different length.")
        cycles.append(following)


def plateau(
    lr: float, like: str, *, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
    threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0, eps: float = 1e-8, start: int = 0,
) -> Plateau:  # fmt: skip
    """ReduceLROnPlateau of torch for a rate ``lr``, as a rule; ``min_lr`` and ``eps`` are rates there, scales here."""
    checks.choice("ReduceLROnPlateau", "threshold_mode", threshold_mode, ("rel", "abs"))
    rtol, atol = (threshold, None) if threshold_mode == "rel" else (None, threshold)
    floor, eps = (min(min_lr / lr, 1.0), eps / lr) if lr > 0 else (0.0, 0.0)
    return Plateau(
        factor, patience, mode=mode, rtol=rtol, atol=atol, cooldown=cooldown, min_scale=floor, eps=eps, start=start,
        like=like,
    )  # fmt: skip
