"""The eases as formulas that people write, in p (how far a ramp has come) or r (what remains of it), p + r = 1.

Each is accurate to rounding relative to the ramp's larger end, also in float32, which is why some are in r.
"""

import math
from collections.abc import Callable
from typing import Protocol, TypeAlias

from ratewise.core import ease
from ratewise.interop.exporters.expressions import Term, add, divide, multiply, number, power, subtract, tidy

Share: TypeAlias = tuple[Term, bool]
"""A part of the way from the start (True), or what is left of it to the end (False)."""

ONE = number(1)
HALF_PI, PI = "math.pi / 2", "math.pi"


def _angle(of: str, x: Term) -> Term:
    return Term(f"{of} * {x.inside(4)}", 3)


class Way(Protocol):
    """A ramp that is being written."""

    m: float
    """Its length."""

    def p(self, named: bool = False) -> Term:
        """How far it has come; ``named`` if it is used more than once."""

    def r(self, named: bool = False) -> Term:
        """What remains of it."""

    def call(self, function: str, *terms: Term) -> Term:
        """A function call."""


def value(text: str, start: Term, end: Term, way: Way) -> Term:
    """The value of a ramp from ``start`` to ``end`` with the ease ``text``."""
    name, parameters = ease.read("export", text)
    if name == "linear":
        return _mix(end, start, way.r()) if end.value == 0 else _mix(start, end, way.p())
    if name == "geometric":
        return _geometric(start, end, way)
    if text == "cosine" and start.value is not None and end.value is not None:
        half = number(tidy((start.value - end.value) / 2))
        return add(end, multiply(half, add(ONE, way.call("cos", _angle(PI, way.p())))))
    if name == "exponential" and start.value is not None and end.value is not None and abs(parameters[0] - 1) > 0.5:
        return _towards(start.value, end.value, parameters[0], way)
    share, rising = _SHARES[name](way, *parameters)
    if rising:
        return multiply(start, subtract(ONE, share)) if end.value == 0 else _mix(start, end, share)
    return _mix(end, start, share)


def _mix(a: Term, b: Term, share: Term) -> Term:
    """``a + (b - a) * share``."""
    if a.value is not None and b.value is not None:
        return add(a, multiply(number(tidy(b.value - a.value)), share))
    return add(a, multiply(subtract(b, a), share))


def _geometric(start: Term, end: Term, way: Way) -> Term:
    low, high = start.value, end.value
    if low is None or high is None:
        raise AssertionError("a geometric ramp has numbers for ends")
    log = math.log(abs(high)) - math.log(abs(low))
    if log > 0:  # from the high end, where it is exact
        return multiply(end, way.call("exp", multiply(number(-log), way.r())))
    return multiply(start, way.call("exp", multiply(number(log), way.p())))


def _towards(start: float, end: float, ratio: float, way: Way) -> Term:
    """Geometric towards a level beyond the end (or from one before the start), which float32 keeps."""
    near, far, x = (start, end, way.p()) if ratio < 1 else (end, start, way.r())
    least = min(ratio, 1 / ratio)
    level, span = (far - least * near) / (1 - least), (near - far) / (1 - least)
    return add(number(level), multiply(number(span), way.call("exp", multiply(number(math.log(least)), x))))


def _cosine(way: Way, k: float) -> Share:
    if k == 1:
        return multiply(number(0.5), add(ONE, way.call("cos", _angle(PI, way.p())))), False
    return power(way.call("sin", _angle(HALF_PI, way.r())), number(2 * k)), False


def _sine(way: Way) -> Share:
    return way.call("sin", _angle(HALF_PI, way.p())), True


def _half_cosine(way: Way) -> Share:
    return way.call("cos", _angle(HALF_PI, way.p())), False


def _polynomial(way: Way, k: float) -> Share:
    return power(way.r(), number(k)), False


def _power(way: Way, k: float) -> Share:
    return power(way.p(), number(k)), True


def _root(way: Way) -> Share:
    return way.call("sqrt", way.p()), True


def _exponential(way: Way, ratio: float) -> Share:
    if ratio == 1:
        return way.p(), True
    log = math.log(ratio) if abs(ratio - 1) > 0.5 else math.log1p(ratio - 1)
    if ratio < 1:
        return divide(way.call("expm1", multiply(number(log), way.p())), number(ratio - 1)), True
    return divide(way.call("expm1", multiply(number(-log), way.r())), number((1 - ratio) / ratio)), False


def _rex(way: Way, alpha: float) -> Share:
    r = way.r(named=True)
    return divide(r, add(number(1.0 - alpha), multiply(number(alpha), r))), False


def _circle(way: Way, alpha: float) -> Share:
    r = way.r(named=True)
    return power(multiply(r, subtract(number(2), r)), number(alpha / 2)), False


def _log(way: Way) -> Share:
    return divide(way.call("log1p", multiply(number(way.m), way.p())), number(math.log1p(way.m))), True


def _tanh(way: Way, low: float, high: float) -> Share:
    if low < 0 < high:
        inner = way.call("tanh", add(number(low), multiply(number(high - low), way.p())))
        bottom, top = math.tanh(low), math.tanh(high)
        return divide(subtract(inner, number(bottom)), number(top - bottom)), True
    if high <= 0:
        return _sigmoid(way.r(), -high, -low, way), False
    return _sigmoid(way.p(), low, high, way), True


def _sigmoid(x: Term, low: float, high: float, way: Way) -> Term:
    """The part of tanh from ``low`` (at least 0) to ``high``, without differences of numbers close to 1."""
    rate, c = -2 * (high - low), math.exp(-2 * low)
    whole = (1 + c * math.exp(rate)) / math.expm1(rate)
    inner = multiply(number(rate), x)
    above = multiply(number(whole), way.call("expm1", inner))
    return divide(above, add(ONE, multiply(number(c), way.call("exp", inner))))


_SHARES: dict[str, Callable[..., Share]] = {
    "cosine": _cosine,
    "sine": _sine,
    "half-cosine": _half_cosine,
    "polynomial": _polynomial,
    "power": _power,
    "1-sqrt": _root,
    "exponential": _exponential,
    "rex": _rex,
    "circle": _circle,
    "log": _log,
    "tanh": _tanh,
}
