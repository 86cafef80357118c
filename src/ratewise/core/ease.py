"""How a ramp gets from one end to the other: a small table of weights.

A ramp's value is ``low + (high - low) * weight``. A weight is written for ``k``, the updates that remain to the
low end, and ``q``, those to the high end (``k + q == m``), each taken from its own integer: measured from the
low end nothing cancels, and both ends are exact. With E the usual ease from 0 to 1, a falling ramp has
weight 1 - E(1 - k/m) and a rising one E(k/m).

Each entry of ``EASES`` prepares its constants once per ramp and returns the weight as a function (k, q, xp).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ratewise.core.checks import choice, number, shown
from ratewise.errors import ScheduleError

Weight = Callable[[Any, Any, Any], Any]

_HALF_PI = Fraction("3.14159265358979323846264338327950288419716939937510") / 2


@dataclass(frozen=True)
class Span:
    """What a weight may depend on: length ``m``, values ``low`` and ``high``, direction, the ease's parameter."""

    m: float
    low: float
    high: float
    falling: bool
    parameter: float


def linear(span: Span) -> Weight:
    """E(p) = p."""
    m = float(span.m)
    return lambda k, q, xp: xp.real(k) / m


def cosine(span: Span) -> Weight:
    """E(p) = (1 - cos(pi p)) / 2 = sin(pi p / 2)**2."""
    m = float(span.m)
    exact = _HALF_PI / Fraction(span.m)
    mantissa, exponent = math.frexp(float(exact))
    head = math.ldexp(math.floor(mantissa * 2**22), exponent - 22)  # k * head is exact up to k = 2**31
    tail = float(exact - Fraction(head))
    half_pi = math.pi / 2

    def weight(k: Any, q: Any, xp: Any) -> Any:
        k = xp.real(k)
        w = xp.sin(k * head + k * tail) if xp.double else xp.sin(k / m * half_pi)
        return w * w

    return weight


def polynomial(span: Span) -> Weight:
    """E(p) = 1 - (1 - p)**power, as torch, Keras and optax have it."""
    m, power = float(span.m), span.parameter
    if not span.falling:
        return lambda k, q, xp: -xp.expm1(power * xp.log1p(-(xp.real(k) / m)))
    if power * max(abs(math.log2(m)), 1.0) > 1000:
        return lambda k, q, xp: xp.power(xp.real(k) / m, power)
    whole = m**power

    def weight(k: Any, q: Any, xp: Any) -> Any:
        k = xp.real(k)
        return xp.power(k, power) / whole if xp.double else xp.power(k / m, power)

    return weight


def one_minus_sqrt(span: Span) -> Weight:
    """E(p) = sqrt(p): the "1-sqrt" cooldown."""
    m = float(span.m)
    if span.falling:
        return lambda k, q, xp: xp.real(k) / m / (1.0 + xp.sqrt(xp.real(q) / m))
    return lambda k, q, xp: xp.sqrt(xp.real(k) / m)


def rex(span: Span) -> Weight:
    """E(p) = 1 - (1 - p) / (1 - alpha p)."""
    rest = 1.0 - span.parameter

    def falling(k: Any, q: Any, xp: Any) -> Any:
        k = xp.real(k)
        return k / (k + rest * xp.real(q))

    def rising(k: Any, q: Any, xp: Any) -> Any:
        k = rest * xp.real(k)
        return k / (xp.real(q) + k)

    return falling if span.falling else rising


def geometric(span: Span) -> Weight:
    """Value = start * (end / start)**p: equal ratios in equal times."""
    m = float(span.m)
    low, high = sorted((abs(span.low), abs(span.high)))
    ratio = math.log(high / low) if span.low > 0 else -math.log(high / low)
    if ratio == 0:
        return linear(span)
    whole = math.expm1(ratio)
    return lambda k, q, xp: xp.expm1(xp.real(k) / m * ratio) / whole


@dataclass(frozen=True)
class Ease:
    """One row of the table: how to prepare the weight, and what its parameter is called."""

    prepare: Callable[[Span], Weight]
    parameter: str = ""
    default: float = 0.0
    low: float = 0.0
    high: float = math.inf


EASES: dict[str, Ease] = {
    "linear": Ease(linear),
    "cosine": Ease(cosine),
    "polynomial": Ease(polynomial, "power", default=1.0),
    "1-sqrt": Ease(one_minus_sqrt),
    "rex": Ease(rex, "alpha", default=0.5, high=1.0),
    "geometric": Ease(geometric),
}


def read(where: str, text: Any) -> tuple[str, float]:
    """Split an ease such as ``"cosine"`` or ``"polynomial(2.0)"`` into its name and its parameter.

    Raises:
        ScheduleError: The name is unknown, or the parameter is missing, unwanted or out of range.
    """
    if not isinstance(text, str):
        raise ScheduleError(f"{where}: ease must be a name such as 'linear' or 'cosine', got {shown(text)}.")
    name, bracket, inside = text.partition("(")
    row = EASES[choice(where, "ease", name, EASES)]
    if not bracket:
        return name, row.default
    try:
        if not row.parameter or not inside.endswith(")"):
            raise ValueError
        parameter = float(inside[:-1])
    except ValueError:
        raise ScheduleError(f"{where}: ease {shown(text)} is not of the form name or name(number).") from None
    number(where, f"{row.parameter} of {name!r}", parameter)
    if not row.low < parameter < row.high:
        raise ScheduleError(
            f"{where}: {row.parameter} of {name!r} must be above {row.low:g}"
            f"{'' if row.high == math.inf else f' and below {row.high:g}'}, got {parameter!r}."
        )
    return name, parameter


def write(name: str, parameter: float) -> str:
    """Return the canonical text of an ease, so that equal eases compare equal."""
    return name if parameter == EASES[name].default else f"{name}({parameter!r})"
