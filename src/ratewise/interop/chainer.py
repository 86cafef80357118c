"""The optimizer-attribute extensions of Chainer as schedules of ours; ``t`` counts the calls of the extension."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ratewise.core import checks
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Constant, InverseTime, Linear, Piecewise, Polynomial
from ratewise.interop.peer import Peer, chain, formula, hold, powers, ramp

PEER = Peer("from_chainer")


def from_chainer(name: str, **arguments: Any) -> Schedule:
    """Return the schedule of one of Chainer's extensions.

    Args:
        name: The extension, e.g. ``"ExponentialShift"``.
        arguments: Its own arguments, without ``attr`` and ``optimizer``; ``init`` (which Chainer may read from the
            optimizer) is the value of update 0.

    Raises:
        ScheduleError: There is no such extension, or its arguments are wrong.

    Example:
        >>> from_chainer("StepShift", init=0.1, gamma=0.5, step=10)
        Exponential(0.1, 0.5, every=10).stairs(10)
    """
    schedule: Schedule = PEER.build(name, arguments)
    return schedule


def _bounded(curve: Schedule, target: float, below: bool) -> Schedule:
    """``curve`` kept from falling below ``target`` (or from rising above it), except at update 0."""
    bounded = curve.clip(low=target) if below else curve.clip(high=target)
    return bounded if bounded(0) == curve(0) else Constant(curve(0), 1) >> bounded.after(1)


def _reaching(curve: Schedule, target: float | None, rises: bool) -> Schedule:
    """Up (or down) to ``target``. The peer divides by it, so that 0 raises at update 1."""
    if target is None:
        return curve
    return Constant(curve(0)) if target == 0 else _bounded(curve, target, below=rises == (target < 0))


@PEER.entry
def ExponentialShift(init: float, rate: float, target: float | None = None) -> Schedule:
    """``init * rate**t``, up to (or down to) ``target``."""
    return _reaching(powers(init, rate), target, rises=rate > 1)


@PEER.entry
def InverseShift(init: float, gamma: float, power: float, target: float | None = None) -> Schedule:
    """``init * (1 + gamma * t)**-power``: Caffe's "inv"."""
    return _reaching(InverseTime(init, gamma, power=power), target, rises=power < 0)


@PEER.entry
def LinearShift(value_range: Sequence[float], time_range: Sequence[int]) -> Schedule:
    """The first value through the first time, the second from the second time on, a straight line between."""
    (v1, v2), (t1, t2) = value_range, time_range
    if t2 <= t1:
        return chain(hold(v1, t1 + 1), Constant(v2))
    line = Linear(v1, v2, t2 - t1)
    return chain(hold(v1, t1), line if t1 >= 0 else line.after(-t1))


@PEER.entry
def MultistepShift(init: float, gamma: float, step_value: Sequence[int]) -> Schedule:
    """Times ``gamma`` at each milestone, at most once per call: milestones that are not in order come late."""
    late = accumulate(step_value, lambda before, milestone: max(milestone, before + 1), initial=0)
    milestones = list(late)[1:]
    return Piecewise([init * gamma**i for i in range(len(milestones) + 1)], milestones)


@PEER.entry
def PolynomialShift(init: float, rate: float, max_count: int, target: float | None = None) -> Schedule:
    """``init * max(1 - t / max_count, 0)**rate``; held where the peer raises.

    It divides by the value: with a target (or a negative rate) it raises at ``max_count``, where that is 0.
    """
    checks.whole("PolynomialShift", "max_count", max_count)
    raises = rate < 0 or (rate > 0 and target is not None)
    if init == 0 or (raises and max_count == 1) or (rate == 0 and target is None):
        return Constant(init)
    if rate < 0:
        curve: Schedule = formula(
            "{init} * (1 - t / {n})**{rate}", init=init, n=max_count, rate=rate, steps=max_count - 1
        )
    else:
        curve = Polynomial(init, 0.0, max_count, power=rate) if rate > 0 else Constant(init)
    if target is not None and (rate <= 0 or target * init > 0):
        curve = _bounded(curve, target, below=(rate > 0) == (init > 0))
    return curve.until(max_count - 1) if raises else curve


@PEER.entry
def StepShift(init: float, gamma: float, step: int, target: float | None = None) -> Schedule:
    """``init * gamma**(t // step)``, up to (or down to) ``target``."""
    return _reaching(powers(init, gamma, every=step).stairs(step), target, rises=gamma > 1)


@PEER.entry
def WarmupShift(warmup_start: float, warmup_iter: int, init: float) -> Schedule:
    """A straight line to ``init``; without a warm-up the peer never sets ``init``."""
    return chain(ramp(warmup_start, init, warmup_iter)) if warmup_iter > 0 else Constant(warmup_start)
