"""Keras' schedules and callbacks as schedules of ours, from their objects, their configurations, or by name.

Keras computes in float32; ours is the formula in float64. Compiled by JAX, a division becomes a multiplication with the
reciprocal, so that a stair of Keras (of 41 updates, say) may come one update late; ours come as on other backends.

Also here: the ``decay=`` of older optimizers, what tf.keras and ``tf.compat.v1.train`` had besides, and the cyclical
schedules of TensorFlow Addons.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

from ratewise.core import checks
from ratewise.core.rules import Plateau
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Constant, Cosine, Custom, Exponential, InverseTime, Linear, Piecewise, Polynomial
from ratewise.errors import ScheduleError, nearest
from ratewise.interop.peer import Peer, chain, formula, levels, powers, ramp, wave

PEER = Peer("from_keras")

REFUSED = {
    "NoisyLinearCosineDecay": "its noise comes from a random generator with a state, so it is no function of position.",
}
"""What is no schedule, and why."""


def from_keras(schedule: Any, **arguments: Any) -> Any:
    """Return the schedule of a Keras ``LearningRateSchedule`` or learning-rate callback.

    Args:
        schedule: The object; its configuration, ``{"class_name": ..., "config": ...}``; or the name of its class with
            the class's own arguments. Also ``"legacy_decay"``, the ``decay=`` of optimizers before Keras 3 (which warns
            and ignores it), and ``"natural_exp_decay"`` of tf.compat.v1.
        arguments: The class's own, where ``schedule`` is a name. A ``ReduceLROnPlateau`` needs ``lr``, the optimizer's
            rate, and ``mode`` where Keras finds it out from the model; so does a ``LearningRateScheduler`` whose
            function takes the rate, and ``epochs``, how many of them to ask it for.

    Returns:
        Schedule: In optimizer updates, as Keras counts them (K3); of a callback in epochs, which
        ``.stretch(n).stairs(n)`` turns into n updates each. A ``ReduceLROnPlateau`` gives a schedule with a rule.

    Raises:
        ScheduleError: The schedule is not known, or an argument is missing or wrong.

    Example:
        >>> from_keras("CosineDecay", initial_learning_rate=0.0, decay_steps=90, warmup_target=0.1, warmup_steps=10)
        Linear(0.0, 0.1, 10) >> Cosine(0.1, 0.0, 90)
    """
    if isinstance(schedule, str):
        return _built(schedule, arguments)
    if isinstance(schedule, Mapping):
        return _built(schedule.get("class_name"), {**(schedule.get("config") or {}), **arguments})
    own = getattr(schedule, "lr", None)
    if isinstance(own, Schedule):  # ratewise.keras.Schedule
        return own
    name = type(schedule).__name__
    if name == "LearningRateScheduler":
        return _built(name, {"schedule": schedule.schedule, **arguments})
    if name == "ReduceLROnPlateau":
        return _built(name, {**_plateau_arguments(schedule), **arguments})
    if not hasattr(schedule, "get_config") or name not in {*PEER.entries, *REFUSED}:
        hint = " One of your own can be written Custom(function)." if callable(schedule) else ""
        raise ScheduleError(f"from_keras: cannot read {checks.shown(schedule, 60)}.{nearest(name, PEER.entries)}{hint}")
    return _built(name, {**schedule.get_config(), **arguments})


def _built(name: Any, arguments: Mapping[str, Any]) -> Any:
    if isinstance(name, str) and name in REFUSED:
        raise ScheduleError(f"from_keras: {name} cannot be imported: {REFUSED[name]}")
    given = {key: value for key, value in arguments.items() if key != "name"}
    initial = checks.plain_number(given.get("initial_learning_rate"))
    if type(initial) is int and name in PEER.entries:
        raise ScheduleError(
            f"from_keras: initial_learning_rate={initial!r} is an integer, and Keras then computes in integers (K2). "
            f"Write {initial}.0 in both."
        )
    return PEER.build(name, given)


def _plateau_arguments(callback: Any) -> dict[str, Any]:
    same = ("monitor", "factor", "patience", "mode", "cooldown", "min_lr")
    return {**{name: getattr(callback, name) for name in same}, "min_delta": abs(callback.min_delta)}


# -- keras.optimizers.schedules --------------------------------------------------------------------------------


@PEER.entry
def ExponentialDecay(
    initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False
) -> Schedule:  # fmt: skip
    """``initial * decay_rate**(t / decay_steps)``, in stairs of ``decay_steps`` if asked for."""
    if decay_rate == 1:
        return Constant(initial_learning_rate)
    curve = powers(initial_learning_rate, decay_rate, decay_steps)
    return curve.stairs(decay_steps) if staircase else curve


@PEER.entry
def PiecewiseConstantDecay(boundaries: Sequence[float], values: Sequence[float]) -> Schedule:
    """The new value comes one update after its boundary; of boundaries out of order the values add up (K1)."""
    boundaries, values = (
        checks.items("from_keras", *pair) for pair in (("boundaries", boundaries), ("values", values))
    )
    if not boundaries or len(values) != len(boundaries) + 1:
        raise ScheduleError(
            f"from_keras: PiecewiseConstantDecay needs boundaries and one value more, got {len(boundaries)} boundaries "
            f"and {len(values)} values."
        )
    whole = [int(checks.number("from_keras", "a boundary", b)) for b in boundaries]  # of the type of the counter
    bounds = [-math.inf, *whole, math.inf]

    def value(t: float) -> float:
        return math.fsum(v for low, high, v in zip(bounds, bounds[1:], values, strict=False) if low < t <= high)

    return levels(value, [b + 1 for b in whole])


@PEER.entry
def PolynomialDecay(
    initial_learning_rate: float, decay_steps: float, end_learning_rate: float = 1e-4, power: float = 1.0,
    cycle: bool = False,
) -> Schedule:  # fmt: skip
    """From initial to end; with ``cycle`` a saw whose teeth start lower and lower (K7)."""
    high, low = initial_learning_rate, end_learning_rate
    checks.positive("from_keras", "decay_steps", decay_steps)
    if checks.number("from_keras", "power", power) < 0:
        raise ScheduleError(f"from_keras: power must be at least 0 (the end is infinite otherwise), got {power!r}.")
    if power == 0:
        return Constant(high)
    if not cycle:
        return Polynomial(high, low, decay_steps, power=power)
    saw = "{low} + {rise} * max(1 - t / ({n} * max(ceil(t / {n}), 1)), 0)**{power}"
    return formula(saw, low=low, rise=high - low, n=decay_steps, power=power)


@PEER.entry
def InverseTimeDecay(
    initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False
) -> Schedule:  # fmt: skip
    """``initial / (1 + decay_rate * t / decay_steps)``, in stairs of ``decay_steps`` if asked for."""
    curve = InverseTime(initial_learning_rate, decay_rate, every=decay_steps)
    return curve.stairs(decay_steps) if staircase else curve


@PEER.entry
def CosineDecay(
    initial_learning_rate: float, decay_steps: float, alpha: float = 0.0, warmup_target: float | None = None,
    warmup_steps: float = 0,
) -> Schedule:  # fmt: skip
    """Half a wave to ``alpha`` times its start, behind a warm-up that comes on top of ``decay_steps`` (K5).

    Without a ``warmup_target`` there is no warm-up, whatever ``warmup_steps`` says (K4).
    """
    if warmup_target is None:
        return Cosine(initial_learning_rate, alpha * initial_learning_rate, decay_steps)
    if checks.number("from_keras", "warmup_steps", warmup_steps) < 0:
        raise ScheduleError(f"from_keras: warmup_steps must be at least 0, got {warmup_steps!r}.")
    decay = Cosine(warmup_target, alpha * warmup_target, decay_steps)
    return chain(ramp(initial_learning_rate, warmup_target, warmup_steps), decay)


@PEER.entry
def CosineDecayRestarts(
    initial_learning_rate: float, first_decay_steps: float, t_mul: float = 2.0, m_mul: float = 1.0, alpha: float = 0.0
) -> Schedule:  # fmt: skip
    """Cycles of half waves down to ``alpha * initial``, each ``t_mul`` times as long and ``m_mul`` times as high.

    The peer finds the cycle with a logarithm, whose rounding makes some restarts one update late (K6); ours are exact.
    """
    low, high = alpha * initial_learning_rate, (1 - alpha) * initial_learning_rate
    if min(checks.number("from_keras", "t_mul", t_mul) - 1, checks.number("from_keras", "m_mul", m_mul)) < 0:
        raise ScheduleError(
            f"from_keras: t_mul must be at least 1 and m_mul at least 0, got {t_mul!r} and {m_mul!r}; otherwise Keras "
            "comes to nan, or to negative rates."
        )
    cycle = Cosine(high, 0.0, first_decay_steps)
    if m_mul == 0:
        return cycle + low if low else cycle
    times = 10_000 if 1 < t_mul < 1.01 else None  # as many as fit a table, the last of them after 10,000 of the first
    if m_mul > 1:  # a rate beyond 10**260 is held
        times = min(max(int(600 / math.log(m_mul)), 1), 10_000)
    cycles = cycle.repeat(times, stretch=t_mul, gamma=m_mul)
    return cycles + low if low else cycles


# -- callbacks -------------------------------------------------------------------------------------------------


@PEER.entry
def LearningRateScheduler(
    schedule: Callable[..., float], verbose: int = 0, lr: float | None = None, epochs: int | None = None
) -> Schedule:  # fmt: skip
    """The function of the epoch; one that takes the rate too is asked for ``epochs`` epochs, beginning from ``lr``."""
    if isinstance(schedule, Schedule):
        return schedule
    if not _takes_rate(schedule):
        return Custom(schedule)
    if lr is None or epochs is None:
        raise ScheduleError(
            "from_keras: the function of this LearningRateScheduler also takes the rate before, so it depends on what "
            "came before. Give lr=..., the optimizer's rate, and epochs=..., for how many epochs to ask it."
        )
    rate, values = checks.number("from_keras", "lr", lr), []
    for epoch in range(checks.whole("from_keras", "epochs", epochs)):
        rate = checks.number("from_keras", "the rate of the function", schedule(epoch, _single(rate)))
        values.append(rate)
    return Piecewise(values, range(1, len(values)))


@PEER.entry
def ReduceLROnPlateau(
    lr: float, monitor: str = "val_loss", factor: float = 0.1, patience: int = 10, verbose: int = 0,
    mode: str = "auto", min_delta: float = 1e-4, cooldown: int = 0, min_lr: float = 0.0,
) -> Any:  # fmt: skip
    """A cut at the ``patience``-th bad epoch (K8), a cooldown one epoch short (K9), no good epoch after a nan (K10)."""
    if mode not in ("min", "max"):
        if monitor.removeprefix("val_") != "loss":
            raise ScheduleError(
                f"from_keras: whether {monitor!r} is to rise or to fall, Keras finds out from the model. "
                'Give mode="min" or mode="max".'
            )
        mode = "min"
    rule = Plateau(
        factor, patience, mode=mode, atol=min_delta, cooldown=cooldown, like="keras",
        min_scale=min(min_lr / checks.positive("from_keras", "lr", lr), 1.0),
    )  # fmt: skip
    return Constant(lr) * rule


def _takes_rate(function: Any) -> bool:
    """Whether the callback would call it with the rate as well."""
    try:
        signature(function).bind(0, 0.1)
    except TypeError:
        return False
    except ValueError:
        raise ScheduleError(
            f"from_keras: it cannot be seen what {checks.shown(function, 60)} takes. Wrap it: lambda epoch: ..."
        ) from None
    return True


def _single(x: float) -> float:
    """What is left of a number that an optimizer holds in float32."""
    return float(struct.unpack("f", struct.pack("f", x))[0])


# -- before Keras 3 --------------------------------------------------------------------------------------------


@PEER.entry
def legacy_decay(lr: Any, decay: float) -> Schedule:
    """``lr / (1 + decay * t)``, of a number or of a schedule."""
    if isinstance(lr, Schedule):
        return lr * InverseTime(1.0, decay)
    return InverseTime(lr, decay)


@PEER.entry
def LinearCosineDecay(
    initial_learning_rate: float, decay_steps: float, num_periods: float = 0.5, alpha: float = 0.0, beta: float = 0.001
) -> Schedule:  # fmt: skip
    """``initial * ((alpha + 1 - p) * (1 + cos(2 pi periods p)) / 2 + beta)`` at place p of ``decay_steps``."""
    periods = abs(checks.number("from_keras", "num_periods", num_periods))
    high = initial_learning_rate * (1 + alpha)
    line = Linear(high, initial_learning_rate * alpha, decay_steps)
    waves = wave(1.0, 0.0, decay_steps / (2 * periods)).until(decay_steps) if periods else Constant(1.0, decay_steps)
    return line * waves + initial_learning_rate * beta


@PEER.entry
def natural_exp_decay(
    learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False
) -> Schedule:  # fmt: skip
    """``learning_rate * exp(-decay_rate * t / decay_steps)``, in stairs of ``decay_steps`` if asked for."""
    return ExponentialDecay(learning_rate, decay_steps, math.exp(-decay_rate), staircase)


# -- TensorFlow Addons -----------------------------------------------------------------------------------------


@PEER.entry
def CyclicalLearningRate(
    initial_learning_rate: float, maximal_learning_rate: float, step_size: float, scale_fn: Callable[[float], float],
    scale_mode: str = "cycle",
) -> Schedule:  # fmt: skip
    """A triangle times ``scale_fn`` of the cycle, counted from 1, or of the update."""
    scale: Schedule = Custom(scale_fn)
    if scale_mode == "cycle":
        scale = scale.along(formula("1 + floor(t / {n})", n=2 * step_size))
    return _cyclical(initial_learning_rate, maximal_learning_rate, step_size) * scale + initial_learning_rate


@PEER.entry
def TriangularCyclicalLearningRate(
    initial_learning_rate: float, maximal_learning_rate: float, step_size: float
) -> Schedule:  # fmt: skip
    """Up and down in ``step_size`` updates each, for ever."""
    low, high = initial_learning_rate, maximal_learning_rate
    return (Linear(low, high, step_size) >> Linear(high, low, step_size)).repeat()


@PEER.entry
def Triangular2CyclicalLearningRate(
    initial_learning_rate: float, maximal_learning_rate: float, step_size: float
) -> Schedule:  # fmt: skip
    """The same, each cycle half as high as the one before."""
    return _cyclical(initial_learning_rate, maximal_learning_rate, step_size, gamma=0.5) + initial_learning_rate


@PEER.entry
def ExponentialCyclicalLearningRate(
    initial_learning_rate: float, maximal_learning_rate: float, step_size: float, gamma: float = 1.0
) -> Schedule:  # fmt: skip
    """The same triangle times ``gamma**t``."""
    triangle = _cyclical(initial_learning_rate, maximal_learning_rate, step_size)
    return triangle * Exponential(1.0, gamma) + initial_learning_rate


def _cyclical(low: float, high: float, half: float, gamma: float = 1.0) -> Schedule:
    rise = high - low
    return (Linear(0.0, rise, half) >> Linear(rise, 0.0, half)).repeat(gamma=gamma)
