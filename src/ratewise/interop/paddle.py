"""Paddle's schedules (``paddle.optimizer.lr``) as schedules of ours.

Its static-graph functions are here under their own names (``exponential_decay``, ...), as a static graph computes
them; called eagerly, they drop ``decay_steps`` and ``staircase``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from ratewise.core import checks
from ratewise.core.formula import Formula
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant, Cosine, Custom, InverseTime, Linear, Polynomial
from ratewise.errors import ScheduleError
from ratewise.interop.peer import Peer, chain, formula, levels, line, plateau, powers, ramp, wave

PEER = Peer("from_paddle")


def from_paddle(name: str, **arguments: Any) -> Any:
    """Return one of Paddle's schedules.

    Args:
        name: The class in ``paddle.optimizer.lr``, or a static-graph function such as ``"cosine_decay"``.
        arguments: Its own arguments. A ``learning_rate`` that is itself a schedule (of ``LinearWarmup``) is one
            made by this function.

    Returns:
        Schedule: ``ReduceOnPlateau`` gives a schedule with a rule.

    Raises:
        ScheduleError: There is no such schedule, or its arguments are wrong.

    Example:
        >>> from_paddle("LinearWarmup", learning_rate=0.5, warmup_steps=20, start_lr=0.0, end_lr=0.5)
        Linear(0.0, 0.5, 20) >> Constant(0.5)
    """
    return PEER.build(name, arguments)


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
    return learning_rate * Custom(lr_lambda)


@PEER.entry
def MultiplicativeDecay(learning_rate: float, lr_lambda: Callable[[Any], Any]) -> Schedule:
    """``lr`` times ``lr_lambda`` of 1, 2, ..., t: as slow as Paddle has it, and for one position at a time."""
    return Custom(_Multiplied(learning_rate, lr_lambda))


@dataclass(frozen=True)
class _Multiplied:
    lr: float
    factor: Callable[[Any], Any]

    def __call__(self, t: Any) -> Any:
        return self.lr * math.prod(self.factor(i) for i in range(1, math.floor(t) + 1))


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


@PEER.entry
def OneCycleLR(
    max_learning_rate: float, total_steps: int, divide_factor: float = 25.0, end_learning_rate: float = 1e-4,
    phase_pct: float = 0.3, anneal_strategy: str = "cos", three_phase: bool = False,
) -> Schedule:  # fmt: skip
    """Torch's: up to the peak at ``phase_pct * T - 1``, down at T - 1, and at T one step further (T3, T4, T5).

    Paddle raises after that. With three phases the last begins at ``2 * phase_pct * T - 2``.
    """
    checks.choice("OneCycleLR", "anneal_strategy", anneal_strategy, ("cos", "linear"))
    total = checks.whole("OneCycleLR", "total_steps", total_steps)
    if not 0 <= phase_pct <= (0.5 if three_phase else 1) or (three_phase and phase_pct == 0.5):
        limit = "below 0.5 with three phases" if three_phase else "at most 1"
        raise ScheduleError(f"phase_pct must be at least 0 and {limit}, got {phase_pct!r}.")
    peak = phase_pct * total - 1
    if peak == 0:
        raise ScheduleError("phase_pct * total_steps must not be 1, by which less 1 Paddle divides (T1).")
    low = max_learning_rate / divide_factor
    joints = [0, peak, 2 * peak, total - 1] if three_phase else [0, peak, total - 1]
    values = (
        [low, max_learning_rate, low, end_learning_rate] if three_phase else [low, max_learning_rate, end_learning_rate]
    )
    phases = [(a, b - a, v, w) for (a, b), (v, w) in zip(pairwise(joints), pairwise(values), strict=True)]
    ease = "cosine" if anneal_strategy == "cos" else "linear"
    rises = [_phase(Ramp(v, w, n, ease=ease), a) for a, n, v, w in phases[:-1] if a + n > 0]
    start, n, v, w = phases[-1]
    if n <= 0:
        return chain(*rises)
    last = _phase(wave(v, w, n) if ease == "cosine" else line(v, w, n), start)
    return chain(*rises, last.until(total - max(start, 0)))


def _phase(curve: Schedule, start: float) -> Schedule:
    """A phase, less what of it lies before update 0."""
    return curve.after(-start) if start < 0 else curve


@PEER.entry
def CyclicLR(
    base_learning_rate: float, max_learning_rate: float, step_size_up: int, step_size_down: int | None = None,
    mode: str = "triangular", exp_gamma: float = 1.0, scale_fn: Callable[[Any], Any] | None = None,
    scale_mode: str = "cycle",
) -> Schedule:  # fmt: skip
    """Torch's triangles from ``base_learning_rate``, their height scaled by cycle or by update (T25)."""
    up = checks.whole("CyclicLR", "step_size_up", step_size_up)
    down = checks.whole("CyclicLR", "step_size_down", up if step_size_down is None else step_size_down)
    rise = max_learning_rate - base_learning_rate
    triangle = Linear(0.0, rise, up) >> Linear(rise, 0.0, down)
    if scale_fn is not None:
        checks.choice("CyclicLR", "scale_mode", scale_mode, ("cycle", "iterations"))
        scale: Schedule = Custom(scale_fn)
        scale = scale.along(Formula(f"1 + t // {up + down}")) if scale_mode == "cycle" else scale
        return triangle.repeat() * scale + base_learning_rate
    checks.choice("CyclicLR", "mode", mode, ("triangular", "triangular2", "exp_range"))
    if mode == "exp_range":
        return triangle.repeat() * powers(1.0, exp_gamma) + base_learning_rate
    return triangle.repeat(gamma=0.5 if mode == "triangular2" else 1.0) + base_learning_rate


@PEER.entry
def ReduceOnPlateau(
    learning_rate: float, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
    threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0, epsilon: float = 1e-8,
) -> Ruled:  # fmt: skip
    """Torch's, but the best metric stays as it is during a cooldown."""
    rule = plateau(
        learning_rate, "paddle", mode=mode, factor=factor, patience=patience, threshold=threshold,
        threshold_mode=threshold_mode, cooldown=cooldown, min_lr=min_lr, eps=epsilon,
    )  # fmt: skip
    return Ruled(Constant(learning_rate), (rule,))


# -- as a static graph computes them, in float32 ---------------------------------------------------------------


def _in_steps(curve: Schedule, every: int, staircase: bool) -> Schedule:
    return curve.stairs(every) if staircase else curve


@PEER.entry
def exponential_decay(
    learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False
) -> Schedule:  # fmt: skip
    """``lr * decay_rate**(t / decay_steps)``."""
    return _in_steps(powers(learning_rate, decay_rate, every=decay_steps), decay_steps, staircase)


@PEER.entry
def natural_exp_decay(
    learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False
) -> Schedule:  # fmt: skip
    """``lr * exp(-decay_rate * t / decay_steps)``."""
    return exponential_decay(learning_rate, decay_steps, math.exp(-decay_rate), staircase)


@PEER.entry
def inverse_time_decay(
    learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False
) -> Schedule:  # fmt: skip
    """``lr / (1 + decay_rate * t / decay_steps)``."""
    return _in_steps(InverseTime(learning_rate, decay_rate, every=decay_steps), decay_steps, staircase)


@PEER.entry
def polynomial_decay(
    learning_rate: float, decay_steps: int, end_learning_rate: float = 1e-4, power: float = 1.0, cycle: bool = False
) -> Schedule:  # fmt: skip
    """``PolynomialDecay``."""
    return PolynomialDecay(learning_rate, decay_steps, end_learning_rate, power, cycle)


@PEER.entry
def noam_decay(d_model: float, warmup_steps: int, learning_rate: float = 1.0) -> Schedule:
    """``NoamDecay`` counted from 1: not 0 at update 0."""
    return NoamDecay(d_model, warmup_steps, learning_rate).after(1)


@PEER.entry
def piecewise_decay(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """``PiecewiseDecay``."""
    return PiecewiseDecay(boundaries, values)


@PEER.entry
def cosine_decay(learning_rate: float, step_each_epoch: int, epochs: int) -> Schedule:
    """A cosine over epochs, held within each; it climbs again after the last."""
    return wave(learning_rate, 0.0, epochs).stretch(step_each_epoch).stairs(step_each_epoch)


@PEER.entry
def linear_lr_warmup(learning_rate: float | Schedule, warmup_steps: int, start_lr: float, end_lr: float) -> Schedule:
    """A straight line to ``end_lr``, then ``learning_rate``, which has run since update 0."""
    after = learning_rate if isinstance(learning_rate, Schedule) else Constant(learning_rate)
    return chain(ramp(start_lr, end_lr, warmup_steps), after.after(warmup_steps) if warmup_steps > 0 else after)
