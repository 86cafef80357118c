"""The learning rate as Keras expects it: a serializable function of the optimizer's counter.

Keras evaluates it inside the compiled train step, at the optimizer's own counter. So there is no second clock
here: a skipped update does not count, and a loaded model goes on where its optimizer stands.
"""

import math
from collections.abc import Iterable
from typing import Any

import keras

from ratewise.core import checks, schedule as core
from ratewise.core.horizon import Horizon
from ratewise.core.parse import from_dict
from ratewise.core.shapes import Constant
from ratewise.errors import ScheduleError

_CHECKED = 2000  # positions looked at before training; a longer schedule is sampled evenly


@keras.saving.register_keras_serializable(package="ratewise")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # Keras has no types
    """A Ratewise schedule as a Keras ``LearningRateSchedule``, for every optimizer and backend.

    Update ``step`` uses ``lr(step // accumulation)``; past its end the schedule holds its end value.

    Keras calls a schedule with the number of *batches* when ``gradient_accumulation_steps`` is set, although
    its docstring promises updates. ``accumulation`` divides them back; give it the same number.

    Args:
        lr: The rate used by each optimizer update, a Ratewise schedule or a number. Finite and at least 0.
        accumulation: The optimizer's ``gradient_accumulation_steps``, at least 1.
        horizon: The run, or its number of optimizer updates: settles open and typed lengths.

    Raises:
        ScheduleError: The length of ``lr`` is not known, it does not fit the horizon, or a rate is negative.

    Example:
        >>> from ratewise import Linear
        >>> lr = Schedule(Linear(0.5, 0.0), horizon=4)
        >>> [float(lr(step)) for step in range(6)]
        [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
        >>> optimizer = keras.optimizers.Adam(lr)

    See Also:
        ``optimizer.learning_rate`` and Keras' TensorBoard callback show the rate of the *coming* update;
        ``Follow`` writes the one that was used into ``history``.
    """

    def __init__(
        self, lr: core.Schedule | float, accumulation: int = 1, horizon: Horizon | int | None = None
    ) -> None:  # fmt: skip
        self.accumulation = checks.whole("keras adapter", "accumulation", accumulation)
        self.lr = settled("lr", lr, horizon)

    def __call__(self, step: Any) -> Any:
        """Return the rate used by update ``step`` as a tensor of Keras' float type."""
        return at(self.lr, step, self.accumulation)

    def __repr__(self) -> str:
        accumulation = "" if self.accumulation == 1 else f", accumulation={self.accumulation}"
        return f"Schedule({self.lr!r}{accumulation})"

    def get_config(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"lr": self.lr.to_dict(), "accumulation": self.accumulation}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Schedule":
        """Return the schedule that ``get_config`` described."""
        return cls(from_dict(config["lr"]), config["accumulation"])


def at(schedule: core.Schedule, step: Any, accumulation: int = 1) -> Any:
    """Return the value at ``step`` as a tensor; the counter stays an integer until the schedule has clipped it."""
    t = keras.ops.add(step, 0)  # a tensor of the backend, whatever kind of variable or number the step is
    return keras.ops.cast(schedule(t // accumulation if accumulation > 1 else t), keras.config.floatx())


def settled(
    name: str, value: Any, horizon: Horizon | int | None = None, low: float = 0.0, high: float = math.inf
) -> core.Schedule:  # fmt: skip
    """Return ``value`` as a schedule that can be called, its values found within [low, high].

    All of a short run are looked at, a longer one is sampled evenly.

    Args:
        name: The hyperparameter, for messages.
        value: A Ratewise schedule or a number.
        horizon: The run that settles its length.
        low: Lowest value allowed.
        high: Highest value allowed.

    Raises:
        ScheduleError: It is neither, its length is not known, or a value lies outside.
    """
    schedule = value if isinstance(value, core.Schedule) else Constant(_number(name, value))
    schedule = schedule if horizon is None else schedule.over(horizon)
    schedule(0)  # raises if its length is not known
    for t in _positions(schedule.steps):
        if not low <= schedule(t) <= high:
            bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
            raise ScheduleError(
                f"keras adapter: {name} must be {bounds} at every update, got {schedule(t)!r} at update {t}. "
                f"To cut it off there, write .clip({low:g}{'' if high == math.inf else f', {high:g}'})."
            )
    return schedule


def _number(name: str, value: Any) -> float:
    return checks.number("keras adapter", name, value, "a Ratewise schedule such as Cosine(0.1, 0.0, 1000) or a number")


def _positions(steps: float | None) -> Iterable[int]:
    if steps is None:
        return [0, *(2**k for k in range(31))]  # as far as a 32-bit counter goes
    last = math.ceil(steps)
    stride = max(1, last // _CHECKED)
    return range(0, last + stride, stride)
