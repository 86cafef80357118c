"""The shapes: named ramps, and the decays that have no end of their own."""

import math
from collections.abc import Callable, Iterator, Sequence as Values
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import pairwise
from typing import Any

from ratewise.core import checks, text
from ratewise.core.chain import Row
from ratewise.core.checks import FAR
from ratewise.core.horizon import Horizon, Length, Updates, given, length, typed
from ratewise.core.numeric import SCALAR
from ratewise.core.rounding import Exact
from ratewise.core.schedule import Ramp, Schedule, Until
from ratewise.errors import ScheduleError


def Linear(start: float, end: float, steps: Updates | None = None, *, ends: str = "[)") -> Ramp:
    """A straight line from ``start`` to ``end``: ``start + (end - start) * t / steps``.

    Example:
        >>> Linear(0.1, 0.0, 4).values(0, 5)
        [0.1, 0.07500000000000001, 0.05, 0.025, 0.0]
    """
    return Ramp(start, end, steps, ends=ends)


def Cosine(start: float, end: float, steps: Updates | None = None, *, ends: str = "[)") -> Ramp:
    """Half a cosine wave: ``end + (start - end) * (1 + cos(pi t / steps)) / 2``, flat at both ends.

    Holds ``end`` from ``steps`` on (torch's CosineAnnealingLR climbs again there).

    References:
        Loshchilov and Hutter, 2017, SGDR, eq. 5 without restarts. https://arxiv.org/abs/1608.03983
    """
    return Ramp(start, end, steps, ease="cosine", ends=ends)


def Polynomial(
    start: float, end: float, steps: Updates | None = None, *, power: float = 1.0, ends: str = "[)"
) -> Ramp:  # fmt: skip
    """``end + (start - end) * (1 - t / steps)**power``, as torch, Keras and optax have it; ``power`` above 0."""
    return Ramp(start, end, steps, ease=f"polynomial({checks.positive('Polynomial', 'power', power)!r})", ends=ends)


class Decay(Schedule):
    """What the shapes without an end of their own share: endless, or cut to ``steps``."""

    steps: Updates | None

    def _lengths(self) -> None:
        where = type(self).__name__
        if self.steps is not None:
            self.__dict__["steps"] = length(where, "steps", self.steps)
        if hasattr(self, "every"):
            self.__dict__["every"] = length(where, "every", self.every)

    def until(self, steps: Updates) -> Schedule:
        """Cut to ``steps`` updates."""
        return super().until(steps) if self.steps is not None else replace(self, steps=length("until", "steps", steps))  # type: ignore[type-var]

    def _missing(self) -> Iterator[str]:
        return typed(self.steps, getattr(self, "every", None))

    def _exact(self, horizon: Horizon | None) -> Exact:
        return given(self.steps, horizon)

    def _fit(self, horizon: Horizon, n: int | float) -> Schedule:
        every = {"every": horizon.whole(self.every)} if hasattr(self, "every") else {}
        return replace(self, steps=n, **every)  # type: ignore[type-var]

    def _local(self, t: Any, xp: Any) -> Any:
        t = xp.maximum(t, 0)
        return t if self.steps is None else xp.minimum(t, self.steps)


@dataclass(frozen=True, repr=False)
class Constant(Decay):
    """The same value at every update; endless unless ``steps`` is given.

    Example:
        >>> Constant(0.1)(5)
        0.1
    """

    value: float
    steps: Updates | None = None

    def __post_init__(self) -> None:
        self.__dict__["value"] = checks.number("Constant", "value", self.value)
        self._lengths()

    def at(self, t: Any, xp: Any) -> Any:
        return xp.full(t, self.value)

    @property
    def _row(self) -> Row:
        return Row.held(self.value)

    def _start_value(self) -> float:
        return self.value

    def _end_value(self) -> float:
        return self.value


@dataclass(frozen=True, repr=False)
class Exponential(Decay):
    """``start * gamma**(t / every)``: the same factor in every equal span.

    Args:
        start: Value at t = 0.
        gamma: Factor per ``every`` updates, above 0. Above 1 it grows, and then needs ``steps``.
        every: Updates per factor, or a typed length.
        steps: Length; None is endless.

    Raises:
        ScheduleError: ``gamma`` is not positive, or the values do not stay finite.

    Example:
        >>> Exponential(0.1, 0.5, every=10).values(0, 31)[::10]
        [0.1, 0.05, 0.025, 0.0125]
    """

    start: float
    gamma: float
    every: Updates = 1
    steps: Updates | None = None

    def __post_init__(self) -> None:
        self.__dict__["start"] = checks.number("Exponential", "start", self.start)
        self.__dict__["gamma"] = checks.positive("Exponential", "gamma", self.gamma)
        self._lengths()
        if self.gamma <= 1:
            return
        if self.steps is None:
            raise ScheduleError(
                f"Exponential: gamma above 1 ({self.gamma!r}) grows without bound; give steps, "
                f"for example Exponential({self.start!r}, {self.gamma!r}, steps=1000)."
            )
        if any(isinstance(x, Length) for x in (self.steps, self.every)):
            return
        growth = self.steps / self.every * math.log(self.gamma)  # type: ignore[operator]
        if growth + max(math.log(abs(self.start) or 1.0), 0.0) > 709:
            raise ScheduleError(f"Exponential: the value at its end ({self.steps} updates) is not a finite number.")

    def at(self, t: Any, xp: Any) -> Any:
        t = self._local(t, xp)
        whole = xp.floor_divide(t, self.every)
        rest = xp.real(t % self.every) / self.every  # the remainder is exact, also of floats
        return self.start * xp.powers(self.gamma, whole) * xp.power(self.gamma, rest)

    def _start_value(self) -> float:
        return self.start


@dataclass(frozen=True, repr=False)
class InverseTime(Decay):
    """``start / (1 + decay * t / every)**power``: time-based decay; ``power=0.5`` is the inverse square root.

    Args:
        start: Value at t = 0.
        decay: How fast it falls, at least 0: with ``power=1`` it is half after ``every / decay`` updates.
        every: Updates per unit of time, or a typed length.
        power: Exponent; negative values grow.
        steps: Length; None is endless.

    Example:
        >>> InverseTime(0.1, decay=1.0, every=10)(10)
        0.05

    References:
        Robbins and Monro, 1951; Keras' InverseTimeDecay and the ``decay`` argument of its older optimizers.
    """

    start: float
    decay: float
    every: Updates = 1
    power: float = 1.0
    steps: Updates | None = None

    def __post_init__(self) -> None:
        for name in ("start", "decay", "power"):
            self.__dict__[name] = checks.number("InverseTime", name, getattr(self, name))
        if self.decay < 0:
            raise ScheduleError(f"InverseTime: decay must be at least 0, got {self.decay!r}.")
        self._lengths()
        if self.power < 0 and not any(self._missing()):
            last: Any = FAR if self.steps is None else self.steps
            growth = -self.power * math.log1p(self.decay * last / self.every)
            if growth + max(math.log(abs(self.start) or 1.0), 0.0) > 709:
                raise ScheduleError(
                    f"InverseTime: power={self.power!r} grows beyond what a float holds; give steps, or fewer of them."
                )

    def at(self, t: Any, xp: Any) -> Any:
        base = 1.0 + self.decay * xp.real(self._local(t, xp)) / self.every
        return self.start / base if self.power == 1 else self.start * xp.power(base, -self.power)

    def _start_value(self) -> float:
        return self.start


@dataclass(frozen=True, repr=False)
class Piecewise(Schedule):
    """``values[i]``, where i counts the milestones at or before ``t``: the new value is used by update m itself.

    As torch's MultiStepLR has it; Keras' PiecewiseConstantDecay changes one update later.

    Args:
        values: One value more than there are milestones.
        milestones: Strictly rising positions above 0, in updates or typed lengths.

    Example:
        >>> Piecewise([0.1, 0.01], [3]).values(0, 5)
        [0.1, 0.1, 0.1, 0.01, 0.01]
    """

    levels: tuple[float, ...]
    milestones: tuple[Updates, ...]

    def __init__(self, values: Values[float], milestones: Values[Updates]) -> None:
        levels = checks.items("Piecewise", "values", values)
        numbers = tuple(checks.number("Piecewise", f"values[{i}]", v) for i, v in enumerate(levels))
        milestones = checks.items("Piecewise", "milestones", milestones)
        joints = tuple(length("Piecewise", f"milestones[{i}]", m) for i, m in enumerate(milestones))
        if len(numbers) != len(joints) + 1:
            raise ScheduleError(
                f"Piecewise: needs one value more than milestones, got {len(numbers)} values "
                f"and {len(joints)} milestones."
            )
        self.__dict__.update(levels=numbers, milestones=joints)
        plain = [m for m in joints if not isinstance(m, Length)]  # typed ones are compared once they are resolved
        if any(a >= b for a, b in pairwise(plain)):
            raise ScheduleError(f"Piecewise: milestones must rise strictly, got {checks.shown(plain)}.")

    def at(self, t: Any, xp: Any) -> Any:
        return xp.lookup(t, self.milestones, self.levels)

    def __reduce__(self) -> tuple[Any, ...]:
        return Piecewise, (self.levels, self.milestones)

    def _text(self) -> str:
        return f"Piecewise({list(self.levels)!r}, {list(self.milestones)!r})"

    def _missing(self) -> Iterator[str]:
        return typed(*self.milestones)

    def _exact(self, horizon: Horizon | None) -> Exact:
        return None

    def _fit(self, horizon: Horizon, n: int | float) -> Schedule:
        return Until(Piecewise(self.levels, [horizon.whole(m) for m in self.milestones]), n)

    def _start_value(self) -> float:
        return self.levels[0]


_REGISTERED: dict[str, Callable[[Any], Any]] = {}


def register(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let ``parse``, ``from_dict`` and files use ``function`` in ``Custom`` in this process; use it as a decorator."""
    if not callable(function):
        raise ScheduleError(f"register: needs a function, got {checks.shown(function)}.")
    _REGISTERED[text.function_name(function)] = function
    return function


@dataclass(frozen=True, repr=False)
class Custom(Decay):
    """Your own function of the position.

    It is called with a float or int, or with the array that a framework gives; traced frameworks need it written
    with operators. Its repr and pickle name the function, so it must be importable to be read back;
    ``parse`` and ``from_dict`` import nothing and accept only functions marked with ``@ratewise.register``.

    Args:
        function: ``f(t)``, or its name as ``"module:name"``.
        steps: Length; None is endless.
    """

    function: Any
    steps: Updates | None = None

    def __post_init__(self) -> None:
        if isinstance(self.function, str):
            self.__dict__["function"] = _imported(self.function)
        if not callable(self.function):
            raise ScheduleError(
                f'Custom: function must be callable or "module:name", got {checks.shown(self.function)}.'
            )
        self._lengths()

    def at(self, t: Any, xp: Any) -> Any:
        value = self.function(self._local(t, xp))
        if xp is SCALAR:
            return checks.number(repr(self), "its value", value)
        return value + xp.full(t, 0.0)  # of full shape and precision, even where the function gives one number

    def _text(self) -> str:
        steps = "" if self.steps is None else f", steps={self.steps!r}"
        return f'Custom("{text.function_name(self.function)}"{steps})'


def _imported(name: str) -> Any:
    """The function that ``"module:name"`` names."""
    if name in _REGISTERED:
        return _REGISTERED[name]
    module, colon, path = name.partition(":")
    try:
        if not colon:
            raise ValueError('it is not of the form "module:name"')
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ScheduleError(f"Custom: {checks.shown(name)} cannot be imported ({error}).") from error
    return found


def registered(name: Any) -> Callable[[Any], Any]:
    """Return the function registered under ``name``.

    Raises:
        ScheduleError: It is not registered in this process.
    """
    if not isinstance(name, str) or name not in _REGISTERED:
        raise ScheduleError(
            f"Custom: {checks.shown(name)} is not registered in this process. Import its module, and mark the function "
            "with @ratewise.register."
        )
    return _REGISTERED[name]
