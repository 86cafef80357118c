"""How a ramp gets from one end to the other: a small table of weights.

A ramp's value is ``low + (high - low) * weight``. A weight is written for ``k``, the updates that remain to the
low end, and ``q``, those to the high end (``k + q == m``), each taken from its own integer: measured from the
low end nothing cancels, and both ends are exact. With E the usual ease from 0 to 1, a falling ramp has
weight 1 - E(1 - k/m) and a rising one E(k/m).

Each entry of ``EASES`` prepares a ramp once: it picks the weight, a function (k, q, constants, xp), and computes its
constants, so that long chains of ramps can keep theirs in tables.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeAlias

from ratewise.core.checks import choice, number, shown
from ratewise.errors import ScheduleError

Constants: TypeAlias = tuple[float, ...]
Weight: TypeAlias = Callable[[Any, Any, Any, Any], Any]
Prepared: TypeAlias = tuple[Weight, Constants]

_HALF_PI = Fraction("3.14159265358979323846264338327950288419716939937510") / 2


@dataclass(frozen=True)
class Span:
    """What a weight may depend on: length ``m``, values ``low`` and ``high``, direction, the ease's parameters."""

    m: float
    low: float
    high: float
    falling: bool
    parameters: tuple[float, ...]

    @property
    def mirrored(self) -> "Span":
        """The same ramp run through in the other direction."""
        return replace(self, falling=not self.falling)


def _remaining(x: Any, y: Any, xp: Any) -> Any:
    """log(y) where ``y`` is 1 - ``x``, exact at both ends because each half is taken from its own integer."""
    return xp.log1p(-xp.minimum(x, 0.5)) + xp.log(xp.minimum(y, 0.5) * 2.0)


def _line(k: Any, q: Any, c: Any, xp: Any) -> Any:
    (m,) = c
    return xp.real(k) / m


def linear(span: Span) -> Prepared:
    """E(p) = p."""
    return _line, (float(span.m),)


def _part(m: float, whole: Fraction) -> Constants:
    """Constants for ``_part_of``: m, the whole, and whole / m in two parts."""
    exact = whole / Fraction(m)
    mantissa, exponent = math.frexp(float(exact))
    head = math.ldexp(math.floor(mantissa * 2**22), exponent - 22)  # k * head is exact up to k = 2**31
    return float(m), float(whole), head, float(exact - Fraction(head))


def _part_of(k: Any, c: Any, xp: Any) -> Any:
    """The part k / m of a whole, in float64 rounded once."""
    m, whole, head, tail = c
    k = xp.real(k)
    return k * head + k * tail if xp.double else k / m * whole


def _sine(k: Any, c: Any, xp: Any) -> Any:
    return xp.sin(_part_of(k, c, xp))


def _sine_squared(k: Any, q: Any, c: Any, xp: Any) -> Any:
    m, whole, head, tail = c  # ``_sine`` written out: most schedules are cosines, and a call costs as much as the sine
    w = xp.sin(k * head + k * tail if xp.double else xp.real(k) / m * whole)
    return w * w


def _sine_power(k: Any, q: Any, c: Any, xp: Any) -> Any:
    power, *angle = c
    w = _sine(k, angle, xp)
    return xp.power(w * w, power)


def _cosine_power(k: Any, q: Any, c: Any, xp: Any) -> Any:
    power, *angle = c
    x, y = _sine(k, angle, xp), _sine(q, angle, xp)
    return -xp.expm1(power * _remaining(x * x, y * y, xp))


def cosine(span: Span) -> Prepared:
    """E(p) = 1 - ((1 + cos(pi p)) / 2)**power; with power 1 this is (1 - cos(pi p)) / 2 = sin(pi p / 2)**2."""
    (power,) = span.parameters
    if power == 1:
        return _sine_squared, _part(span.m, _HALF_PI)
    return _sine_power if span.falling else _cosine_power, (power, *_part(span.m, _HALF_PI))


def _sine_plain(k: Any, q: Any, c: Any, xp: Any) -> Any:
    return _sine(k, c, xp)


def _versine(k: Any, q: Any, c: Any, xp: Any) -> Any:
    w = _sine(k, c, xp)
    return 2.0 * (w * w)


def sine(span: Span) -> Prepared:
    """E(p) = sin(pi p / 2): fast first."""
    return (_versine, _part(span.m, _HALF_PI / 2)) if span.falling else (_sine_plain, _part(span.m, _HALF_PI))


def half_cosine(span: Span) -> Prepared:
    """E(p) = 1 - cos(pi p / 2): slow first."""
    return sine(span.mirrored)


def _power(k: Any, q: Any, c: Any, xp: Any) -> Any:
    m, power, whole = c
    k = xp.real(k)
    return xp.power(k, power) / whole if xp.double else xp.power(k / m, power)


def _power_of_ratio(k: Any, q: Any, c: Any, xp: Any) -> Any:
    m, power = c
    return xp.power(xp.real(k) / m, power)


def _power_lost(k: Any, q: Any, c: Any, xp: Any) -> Any:
    m, power = c
    return -xp.expm1(power * xp.log1p(-(xp.real(k) / m)))


def _root_lost(k: Any, q: Any, c: Any, xp: Any) -> Any:
    m, power = c
    return -xp.expm1(power * _remaining(xp.real(k) / m, xp.real(q) / m, xp))


def polynomial(span: Span) -> Prepared:
    """E(p) = 1 - (1 - p)**power, as torch, Keras and optax have it."""
    m, (power,) = float(span.m), span.parameters
    if not span.falling:
        return _power_lost if power >= 1 else _root_lost, (m, power)
    if power * max(abs(math.log2(m)), 1.0) > 1000:
        return _power_of_ratio, (m, power)
    return _power, (m, power, m**power)


def power(span: Span) -> Prepared:
    """E(p) = p**power: ``power(2.0)`` is the "1-square" cooldown."""
    return polynomial(span.mirrored)


def _root_falling(k: Any, q: Any, c: Any, xp: Any) -> Any:
    (m,) = c
    return xp.real(k) / m / (1.0 + xp.sqrt(xp.real(q) / m))


def _root(k: Any, q: Any, c: Any, xp: Any) -> Any:
    (m,) = c
    return xp.sqrt(xp.real(k) / m)


def one_minus_sqrt(span: Span) -> Prepared:
    """E(p) = sqrt(p): the "1-sqrt" cooldown."""
    return _root_falling if span.falling else _root, (float(span.m),)


def _rex_falling(k: Any, q: Any, c: Any, xp: Any) -> Any:
    (rest,) = c
    k = xp.real(k)
    return k / (k + rest * xp.real(q))


def _rex_rising(k: Any, q: Any, c: Any, xp: Any) -> Any:
    (rest,) = c
    k = rest * xp.real(k)
    return k / (xp.real(q) + k)


def rex(span: Span) -> Prepared:
    """E(p) = 1 - (1 - p) / (1 - alpha p)."""
    (alpha,) = span.parameters
    return _rex_falling if span.falling else _rex_rising, (1.0 - alpha,)


def _growth(k: Any, q: Any, c: Any, xp: Any) -> Any:
    whole, m, log, head, tail = c
    k = xp.real(k)
    if not xp.double:
        return xp.expm1(k / m * log) / whole
    grown = xp.expm1(k * head)  # the exponent is not rounded to one float: a large one would lose its last digits
    return (grown + xp.expm1(k * tail) * (1.0 + grown)) / whole


def _grown(span: Span, ratio: Fraction) -> Prepared:
    """The weight (ratio**x - 1) / (ratio - 1), its logarithm to 40 digits."""
    if ratio == 1:
        return linear(span)
    from decimal import Context

    places = Context(prec=40)
    log = places.ln(places.divide(ratio.numerator, ratio.denominator))
    return _growth, (float(ratio - 1), *_part(span.m, Fraction(log)))


def exponential(span: Span) -> Prepared:
    """E(p) = (1 - ratio**p) / (1 - ratio): geometric, whatever the ends; ``ratio`` 1 is linear."""
    ratio = Fraction(span.parameters[0])
    return _grown(span, 1 / ratio if span.falling else ratio)


def geometric(span: Span) -> Prepared:
    """Value = start * (end / start)**p: equal ratios in equal times."""
    return _grown(span, Fraction(span.high) / Fraction(span.low))


def _circle_falling(k: Any, q: Any, c: Any, xp: Any) -> Any:
    m, half = c
    return xp.power(xp.real(k) / m * (1.0 + xp.real(q) / m), half)


def _circle_rising(k: Any, q: Any, c: Any, xp: Any) -> Any:
    m, half = c
    x = xp.real(k) / m
    return -xp.expm1(half * _remaining(x * x, xp.real(q) / m * (1.0 + x), xp))


def circle(span: Span) -> Prepared:
    """E(p) = 1 - (1 - p**2)**(alpha / 2): with alpha 1 a quarter of a circle."""
    (alpha,) = span.parameters
    return _circle_falling if span.falling else _circle_rising, (float(span.m), alpha / 2)


def _log_rising(k: Any, q: Any, c: Any, xp: Any) -> Any:
    (whole,) = c
    return xp.log1p(xp.real(k)) / whole


def _log_falling(k: Any, q: Any, c: Any, xp: Any) -> Any:
    (whole,) = c
    return xp.log1p(xp.real(k) / (1.0 + xp.real(q))) / whole


def log(span: Span) -> Prepared:
    """DeepSpeed's warm-up: E = ln(1 + s) / ln(1 + m) after s of m updates."""
    return _log_falling if span.falling else _log_rising, (math.log1p(span.m),)


def _sigmoid(k: Any, q: Any, c: Any, xp: Any) -> Any:
    up, down, whole, *part = c
    x = _part_of(k, part, xp)
    return xp.expm1(x) * whole / (up + down * xp.exp(x))


def tanh(span: Span) -> Prepared:
    """E(p) = tanh from ``low`` to ``high``, brought to 0 ... 1: an S-curve, steepest where its argument is 0."""
    low, high = span.parameters
    if span.falling:
        low, high = -high, -low
    rate, up, down = 2 * (low - high), math.exp(low), math.exp(-low)
    return _sigmoid, (up, down, (up + down * math.exp(rate)) / math.expm1(rate), *_part(span.m, Fraction(rate)))


@dataclass(frozen=True)
class Parameter:
    """A number that an ease takes, in the open interval from ``low`` to ``high``."""

    name: str
    default: float | None = None
    low: float = 0.0
    high: float = math.inf


@dataclass(frozen=True)
class Ease:
    """One row of the table: how to prepare the weight, and what numbers it takes."""

    prepare: Callable[[Span], Prepared]
    parameters: tuple[Parameter, ...] = ()

    @property
    def defaults(self) -> tuple[float | None, ...]:
        """The numbers that need not be written."""
        return tuple(parameter.default for parameter in self.parameters)


EASES: dict[str, Ease] = {
    "linear": Ease(linear),
    "cosine": Ease(cosine, (Parameter("power", 1.0),)),
    "sine": Ease(sine),
    "half-cosine": Ease(half_cosine),
    "polynomial": Ease(polynomial, (Parameter("power", 1.0),)),
    "power": Ease(power, (Parameter("power"),)),
    "1-sqrt": Ease(one_minus_sqrt),
    "geometric": Ease(geometric),
    "exponential": Ease(exponential, (Parameter("ratio", low=1e-300, high=1e300),)),
    "rex": Ease(rex, (Parameter("alpha", 0.5, low=-math.inf, high=1.0),)),
    "circle": Ease(circle, (Parameter("alpha", 1.0),)),
    "log": Ease(log),
    "tanh": Ease(tanh, (Parameter("low", low=-300.0, high=300.0), Parameter("high", low=-300.0, high=300.0))),
}


def read(where: str, text: Any) -> tuple[str, tuple[float, ...]]:
    """Split an ease such as ``"cosine"`` or ``"polynomial(2.0)"`` into its name and its parameters.

    Raises:
        ScheduleError: The name is unknown, or a parameter is missing, unwanted or out of range.
    """
    if not isinstance(text, str):
        raise ScheduleError(f"{where}: ease must be a name such as 'linear' or 'cosine', got {shown(text)}.")
    name, bracket, inside = text.partition("(")
    row = EASES[choice(where, "ease", name, EASES)]
    try:
        given = tuple(map(float, inside[:-1].split(","))) if bracket else row.defaults
    except ValueError:
        given = (None,)
    if None in given or len(given) != len(row.parameters) or (bracket and not inside.endswith(")")):
        takes = f"{name}({', '.join(p.name for p in row.parameters)})" if row.parameters else name
        raise ScheduleError(f"{where}: ease {shown(text)} is not of the form {takes!r}.")
    values = tuple(number(where, f"{p.name} of {name!r}", x) for p, x in zip(row.parameters, given, strict=True))
    for parameter, value in zip(row.parameters, values, strict=True):
        if not parameter.low < value < parameter.high:
            bounds = [
                f"{side} {x:g}" for side, x in (("above", parameter.low), ("below", parameter.high)) if abs(x) < 1e308
            ]
            raise ScheduleError(f"{where}: {parameter.name} of {name!r} must be {' and '.join(bounds)}, got {value!r}.")
    if name == "tanh" and values[0] >= values[1]:
        raise ScheduleError(f"{where}: 'tanh(low, high)' needs low below high, got {shown(text)}.")
    return name, values


def write(name: str, parameters: tuple[float, ...]) -> str:
    """Return the canonical text of an ease, so that equal eases compare equal."""
    return name if parameters == EASES[name].defaults else f"{name}({', '.join(map(repr, parameters))})"
