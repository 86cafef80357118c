"""Paddle's schedules (``paddle.optimizer.lr``) as schedules of ours.

Its static-graph functions are here under their own names (``exponential_decay``, ...), as a static graph computes
them; called eagerly, they drop ``decay_steps`` and ``staircase``.
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from ratewise.core import checks
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Constant, Cosine, InverseTime, Linear, Polynomial
from ratewise.errors import ScheduleError
from ratewise.interop import torch
from ratewise.interop.peer import Peer, chain, formula, levels, powers, ramp, wave

PEER = Peer("from_paddle")


def from_paddle(name: str, **arguments: Any) -> Schedule:
    """Return one of Paddle's schedules.

    Args:
        name: The class in ``paddle.optimizer.lr``, or a static-graph function such as ``"cosine_decay"``.
        arguments: Its own arguments. A ``learning_rate`` that is itself a schedule (of ``LinearWarmup``) is one
            made by this function.

    Raises:
        ScheduleError: There is no such schedule, or its arguments are wrong.

    Example:
        >>> from_paddle("LinearWarmup", learning_rate=0.5, warmup_steps=20, start_lr=0.0, end_lr=0.5)
        Linear(0.0, 0.5, 20) >> Constant(0.5)
    """
    schedule: Schedule = PEER.build(name, arguments)
    return schedule


@PEER.entry
def NoamDecay(d_model: float, warmup_steps: int, learning_rate: float = 1.0) -> Schedule:
    """``lr / sqrt(d) * min(1 / sqrt(t), t / w**1.5)``: 0 at update 0."""
    w = checks.whole("NoamDecay", "warmup_steps", warmup_steps)
    peak = learning_rate * d_model**-0.5 * w**-0.5
    return Linear(0.0, peak, w) >> InverseTime(peak, 1 / w, power=0.5)


@PEER.entry
def PiecewiseDecay(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """``values[i]`` before ``boundaries[i]``, the first that is not passed; the last value after all."""
    passed = list(accumulate(boundaries, max))
    if len(values) < len(passed) + 1:
        raise ScheduleError(f"needs one value more than boundaries, got {len(values)} and {len(passed)}.")
    return levels(lambda t: next((v for v, b in zip(values, passed, strict=False) if t < b), values[-1]), passed)


@PEER.entry
def NaturalExpDecay(learning_rate: float, gamma: float) -> Schedule:
    """``lr * exp(-gamma * t)``."""
    return powers(learning_rate, math.exp(-gamma))


@PEER.entry
def InverseTimeDecay(learning_rate: float, gamma: float) -> Schedule:
    """``lr / (1 + gamma * t)``."""
    return InverseTime(learning_rate, gamma)


@PEER.entry
def PolynomialDecay(
    learning_rate: float, decay_steps: int, end_lr: float = 1e-4, power: float = 1.0, cycle: bool = False
) -> Schedule:  # fmt: skip
    """Keras' polynomial; a cycle starts from where a decay of twice, thrice, ... the length would be."""
    if not cycle:
        return Polynomial(learning_rate, end_lr, decay_steps, power=power)
    text = "({lr} - {end}) * (1 - t / ({n} * max(ceil(t / {n}), 1)))**{power} + {end}"
    return formula(text, lr=learning_rate, end=end_lr, n=decay_steps, power=power)


@PEER.entry
def LinearWarmup(learning_rate: float | Schedule, warmup_steps: int, start_lr: float, end_lr: float) -> Schedule:
    """A straight line to ``end_lr``, then ``learning_rate``, whatever it is."""
    after = learning_rate if isinstance(learning_rate, Schedule) else Constant(learning_rate)
    return chain(ramp(start_lr, end_lr, warmup_steps), after)


@PEER.entry
def ExponentialDecay(learning_rate: float, gamma: float) -> Schedule:
    """``lr * gamma**t``."""
    return powers(learning_rate, gamma)


@PEER.entry
def StepDecay(learning_rate: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """``lr * gamma**(t // step_size)``."""
    return powers(learning_rate, gamma, every=step_size).stairs(step_size)


@PEER.entry
def MultiStepDecay(learning_rate: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """``lr * gamma**i`` with i the first milestone that is not passed."""
    passed = list(accumulate(milestones, max))
    return levels(lambda t: learning_rate * gamma ** sum(m <= t for m in passed), passed)


@PEER.entry
def LambdaDecay(learning_rate: float, lr_lambda: Callable[[Any], Any]) -> Schedule:
    """``lr * lr_lambda(t)``."""
    schedule: Schedule = torch.PEER.build("LambdaLR", {"lr": learning_rate, "lr_lambda": lr_lambda})
    return schedule


@PEER.entry
def MultiplicativeDecay(learning_rate: float, lr_lambda: Callable[[Any], Any]) -> Schedule:
    """``lr`` times ``lr_lambda`` of 1, 2, ..., t."""
    schedule: Schedule = torch.PEER.build("MultiplicativeLR", {"lr": learning_rate, "lr_lambda": lr_lambda})
    return schedule


@PEER.entry
def CosineAnnealingDecay(learning_rate: float, T_max: int, eta_min: float = 0.0) -> Schedule:
    """Torch's CosineAnnealingLR: climbs again after ``T_max``."""
    return wave(learning_rate, eta_min, T_max)


@PEER.entry
def CosineAnnealingWarmRestarts(learning_rate: float, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> Schedule:
    """Cosines from ``lr`` to ``eta_min``, each ``T_mult`` times as long as the one before."""
    return Cosine(learning_rate, eta_min, T_0).repeat(stretch=T_mult)


@PEER.entry
def LinearLR(
    learning_rate: float, total_steps: int, start_factor: float = 1 / 3, end_factor: float = 1.0
) -> Schedule:  # fmt: skip
    """``lr`` times a straight line from ``start_factor`` to ``end_factor``."""
    return Linear(learning_rate * start_factor, learning_rate * end_factor, total_steps)
