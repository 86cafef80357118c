"""The rules: what a metric does to the rate.

The one decision behind them: ``patience=n`` acts at the n-th evaluation in a row, a metric that is not finite is an
evaluation without improvement, and margins heed the sign of the metric. What other libraries do instead is the table
of dialects, reached by ``like=``.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ratewise.core import checks, dialects
from ratewise.core.dialects import WORST, Dialect, Pick
from ratewise.core.horizon import Updates
from ratewise.core.ruled import Rule, State
from ratewise.errors import ScheduleError


@dataclass(frozen=True, repr=False)
class Plateau(Rule):
    """Multiply the rate by ``factor`` when the metric has stopped improving.

    The cut comes at the ``patience``-th evaluation in a row without improvement. An improvement is a finite metric
    that is better than the best one so far by more than ``rtol * |best| + atol``. A nan is no improvement, and is
    counted. After a cut the next ``cooldown`` evaluations are passed over (they may still be the best).

    State: (scale, best, evaluations without improvement, cooldown left, nans), and with ``window`` above 1 before
    the last the mean of the metrics waiting and how many they are.

    Args:
        factor: What a cut multiplies by, above 0 and below 1.
        patience: At which evaluation without improvement to cut, at least 1.
        mode: ``"min"`` if the metric is to fall, ``"max"`` if it is to rise.
        rtol: Margin relative to the best metric; 1e-4 if neither margin is given.
        atol: Margin in the unit of the metric.
        cooldown: Evaluations passed over after a cut.
        min_scale: The scale that cuts stop at, from 0 to 1; a floor of the rate divided by its base.
        eps: A cut that changes the scale by no more than this is not made.
        window: How many metrics make one evaluation, their mean; for a loss that comes with every batch.
        start: The update from which on metrics count, or e.g. ``epochs(1)``.
        like: Decide exactly as ``"torch"`` (also ``mmengine timm ignite fairseq tinygrad``), ``"keras"``, ``"optax"``
            or ``"paddle"`` does, defects included; numbers then mean what they mean there. For a floor or an ``eps``
            of the rate itself give ``min_lr / lr`` and ``eps / lr``.

    Raises:
        ScheduleError: A setting is out of its range.

    Example:
        >>> Plateau(0.5, patience=2).scales([1.0, 0.9, 0.91, 0.92, 0.93])
        [1.0, 1.0, 1.0, 0.5, 0.5]

    See Also:
        With ``patience=2`` torch, paddle and Hugging Face cut one evaluation later; Keras' ``cooldown=1`` does
        nothing; with a negative metric torch and optax take a constant for an improvement, and never cut.
    """

    factor: float = 0.1
    patience: int = 10
    mode: str = field(default="min", kw_only=True)
    rtol: float | None = field(default=None, kw_only=True)
    atol: float | None = field(default=None, kw_only=True)
    cooldown: int = field(default=0, kw_only=True)
    min_scale: float = field(default=0.0, kw_only=True)
    eps: float = field(default=0.0, kw_only=True)
    window: int = field(default=1, kw_only=True)
    start: Updates = field(default=0, kw_only=True)
    like: str | None = field(default=None, kw_only=True)
    _dialects: ClassVar[dict[str | None, Dialect]] = dialects.PLATEAU

    def __post_init__(self) -> None:
        self._check()
        self._count("cooldown", 0)
        self._number("min_scale", "from 0 to 1", lambda x: 0 <= x <= 1)
        self._number("eps", "at least 0", lambda x: x >= 0)
        self._count("window", 1)

    def _first(self) -> State:
        return (WORST, 0.0, 0.0) if self.window == 1 else (WORST, 0.0, 0.0, 0.0, 0.0)

    def _after(self, state: list[Any], m: Any, pick: Pick) -> State:
        if self.window == 1:
            return self._judged(state, m, pick)
        *before, mean, seen = state
        mean, seen = (seen * mean + m) / (seen + 1.0), seen + 1.0
        full = seen == self.window
        after = [pick(full, *pair) for pair in zip(self._judged(before, mean, pick), before, strict=True)]
        return (*after, pick(full, 0.0, mean), pick(full, 0.0, seen))

    def _judged(self, state: list[Any], m: Any, pick: Pick) -> State:
        scale, best, bad, rest = state
        better, active = self._better(m, best, pick), rest <= 0
        best = pick(better & active if self._dialect.frozen else better, m, best)
        bad = pick(active, pick(better, 0.0, bad + 1.0), 0.0)
        cut = active & (bad == self._patience)
        pause = max(self.cooldown + self._dialect.unheeded, 0)
        scale = self._lower(scale, cut, pick, self.eps)
        return scale, best, pick(cut, 0.0, bad), pick(cut, float(pause), pick(active, 0.0, rest - 1.0))


@dataclass(frozen=True, repr=False)
class Greedy(Rule):
    """Raise the rate while the metric improves, lower it while it does not.

    The ``patience``-th improvement in a row divides the scale by ``factor``, the ``patience``-th evaluation in a row
    without one multiplies it. At the ``reset``-th cut that finds the scale at ``min_scale`` everything starts again
    from scale 1. Improvement, nan and margins are as in ``Plateau``.

    State: (scale, best, improvements in a row, evaluations without, pause left, cuts at the floor, nans), and with
    ``window`` above 1 before the last the sum of the metrics in the window, how many they are, and the metrics.

    Args:
        factor: What a cut multiplies by and a rise divides by, above 0 and below 1.
        patience: At which evaluation in a row to act, at least 1.
        mode: ``"min"`` if the metric is to fall, ``"max"`` if it is to rise.
        rtol: Margin relative to the best metric; 1e-4 if neither margin is given.
        atol: Margin in the unit of the metric.
        cooldown: Evaluations passed over after a cut.
        warmup: Evaluations passed over after a rise.
        min_scale: The lowest scale.
        max_scale: The highest scale.
        eps: A change of the scale by no more than this is not made.
        window: The metric is averaged over the last so many.
        reset: How many cuts at the floor start the rule again.
        start: The update from which on metrics count, or e.g. ``epochs(1)``.
        like: ``"hf"``: decide exactly as transformers' GreedyLR; its rates divided by the base rate are the scales.

    Raises:
        ScheduleError: A setting is out of its range.

    Example:
        >>> Greedy(0.5, patience=2).scales([1.0, 0.9, 0.8, 0.8, 0.8])
        [1.0, 2.0, 2.0, 2.0, 1.0]

    References:
        GreedyLR: A Novel Adaptive Learning Rate Scheduler, 2025. https://arxiv.org/abs/2512.14527
    """

    factor: float = 0.95
    patience: int = 10
    mode: str = field(default="min", kw_only=True)
    rtol: float | None = field(default=None, kw_only=True)
    atol: float | None = field(default=None, kw_only=True)
    cooldown: int = field(default=0, kw_only=True)
    warmup: int = field(default=0, kw_only=True)
    min_scale: float = field(default=0.01, kw_only=True)
    max_scale: float = field(default=10.0, kw_only=True)
    eps: float = field(default=0.0, kw_only=True)
    window: int = field(default=1, kw_only=True)
    reset: int = field(default=500, kw_only=True)
    start: Updates = field(default=0, kw_only=True)
    like: str | None = field(default=None, kw_only=True)
    _dialects: ClassVar[dict[str | None, Dialect]] = dialects.GREEDY

    def __post_init__(self) -> None:
        self._check()
        self._count("cooldown", 0)
        self._count("warmup", 0)
        self._number("min_scale", "at least 0", lambda x: x >= 0)
        self._number("max_scale", "above 0", lambda x: x > 0)
        if self.like is None and not self.min_scale <= 1 <= self.max_scale:
            raise ScheduleError(
                f"Greedy: the scale starts at 1, so min_scale must be at most 1 and max_scale at least 1, "
                f"got {self.min_scale!r} and {self.max_scale!r}. For limits of the rate, divide them by the base rate."
            )
        self._number("eps", "at least 0", lambda x: x >= 0)
        self._count("window", 1)
        if self.window > 10_000:  # the state holds as many numbers
            raise ScheduleError(f"Greedy: window must be at most 10000, got {checks.shown(self.window)}.")
        self._count("reset", 1)

    def _first(self) -> State:
        window = () if self.window == 1 else (0.0,) * (2 + self.window)
        return (WORST, 0.0, 0.0, 0.0, 0.0, *window)

    def _after(self, state: list[Any], m: Any, pick: Pick) -> State:
        before, window = state[:6], state[6:]
        if window:
            m, window = self._averaged(window, m, pick)
        *after, reset = self._judged(before, m, pick)
        return (*after, *(pick(reset, 0.0, x) for x in window))

    def _averaged(self, window: list[Any], m: Any, pick: Pick) -> tuple[Any, list[Any]]:
        """The mean of the last metrics; for ours, one that is not finite stays outside and is itself the mean."""
        total, seen, *last = window
        n = pick(seen < self.window, seen + 1.0, seen)
        after = [total + m - last[-1], n, m, *last[:-1]]
        if self.like is not None:
            return after[0] / n, after
        finite = abs(m) < math.inf
        return pick(finite, after[0] / n, m), [pick(finite, *pair) for pair in zip(after, window, strict=True)]

    def _judged(self, state: list[Any], m: Any, pick: Pick) -> State:
        scale, best, good, bad, pause, floor = state
        better, active = self._better(m, best, pick), pause <= 0
        best = pick(better & active if self._dialect.frozen else better, m, best)
        good = pick(active, pick(better, good + 1.0, 0.0), 0.0)
        bad = pick(active, pick(better, 0.0, bad + 1.0), 0.0)
        rise, cut = good == self._patience, bad == self._patience
        scale = self._lower(self._higher(scale, rise, pick), cut, pick, self.eps)
        floor = pick(rise, 0.0, pick(cut & (scale <= self.min_scale), floor + 1.0, floor))
        pause = pick(rise, float(self.warmup), pick(cut, float(self.cooldown), pick(active, 0.0, pause - 1.0)))
        reset = floor == self.reset
        start = (1.0, WORST, 0.0, 0.0, pause, 0.0)
        after = (scale, best, pick(rise, 0.0, good), pick(cut, 0.0, bad), pause, floor)
        return (*(pick(reset, *pair) for pair in zip(start, after, strict=True)), reset)

    def _higher(self, scale: Any, rise: Any, pick: Pick) -> Any:
        higher = pick(scale / self.factor < self.max_scale, scale / self.factor, self.max_scale)
        return pick(rise & (higher - scale > self.eps), higher, scale)


@dataclass(frozen=True, repr=False)
class NewBob(Rule):
    """Multiply the rate by ``factor`` when the metric improved too little on the one before.

    Like ``Plateau``, but each metric is compared with the last finite one, not with the best.

    State: (scale, last metric, evaluations without improvement, nans).

    Args:
        factor: What a cut multiplies by, above 0 and below 1.
        patience: At which evaluation in a row without improvement to cut; 1 by default.
        mode: ``"min"`` if the metric is to fall, ``"max"`` if it is to rise.
        rtol: Margin relative to the last metric; 0.0025 if neither margin is given.
        atol: Margin in the unit of the metric.
        min_scale: The scale that cuts stop at, from 0 to 1.
        start: The update from which on metrics count, or e.g. ``epochs(1)``.
        like: ``"speechbrain"``: decide exactly as its NewBobScheduler, which counts evaluations without improvement
            also when they are not in a row (``patience`` is its ``patient``, 0 by default) and takes nan for an
            improvement.

    Raises:
        ScheduleError: A setting is out of its range.

    Example:
        >>> NewBob().scales([10.0, 2.0, 2.5, 2.4])
        [1.0, 1.0, 0.5, 0.5]
    """

    factor: float = 0.5
    patience: int | None = None
    mode: str = field(default="min", kw_only=True)
    rtol: float | None = field(default=None, kw_only=True)
    atol: float | None = field(default=None, kw_only=True)
    min_scale: float = field(default=0.0, kw_only=True)
    start: Updates = field(default=0, kw_only=True)
    like: str | None = field(default=None, kw_only=True)
    _dialects: ClassVar[dict[str | None, Dialect]] = dialects.NEWBOB

    def __post_init__(self) -> None:
        self._check()
        self._number("min_scale", "from 0 to 1", lambda x: 0 <= x <= 1)

    def _first(self) -> State:
        return (WORST, 0.0)

    def _after(self, state: list[Any], m: Any, pick: Pick) -> State:
        scale, last, bad = state
        better = self._better(m, last, pick)
        bad = pick(better, 0.0 if self._dialect.in_a_row else bad, bad + 1.0)
        cut = bad == self._patience
        last = m if self.like else pick(abs(m) < math.inf, m, last)
        return self._lower(scale, cut, pick), last, pick(cut, 0.0, bad)


RULES: dict[str, type[Rule]] = {"Plateau": Plateau, "Greedy": Greedy, "NewBob": NewBob}
"""Every rule by name."""
