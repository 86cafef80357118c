"""The learning rate as Keras expects it: a serializable function of the optimizer's counter.

Keras evaluates it inside the compiled train step, at the optimizer's own counter. So there is no second clock
here: a skipped update does not count, and a loaded model goes on where its optimizer stands. What rules have made
of the metrics and every change of plan are part of its configuration, because that is what Keras saves.
"""

import math
import warnings
from collections.abc import Iterable
from typing import Any, TypeAlias

import keras

from ratewise.core import checks, schedule as core
from ratewise.core.horizon import Horizon
from ratewise.core.parse import from_dict
from ratewise.core.ruled import Ruled
from ratewise.core.shapes import Constant
from ratewise.errors import ScheduleError

Spec: TypeAlias = core.Schedule | Ruled
"""What a learning rate may follow: a schedule, alone or with rules."""

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
        state: For a schedule with rules, what they have made of the metrics so far: ``lr.init()``, or what
            ``lr.observe`` returned. ``Follow(lr * rule)`` takes care of it.

    Raises:
        ScheduleError: The length of ``lr`` is not known, it does not fit the horizon, a rate is negative, or a rule
            comes without its state.

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
        self, lr: Spec | float, accumulation: int = 1, horizon: Horizon | int | None = None, state: Any = None
    ) -> None:  # fmt: skip
        accumulation = checks.whole("keras adapter", "accumulation", accumulation)
        lr = settled_rate(lr, horizon)
        self._hold(lr, accumulation, _state(lr, state), lr, (), 0)

    def _hold(
        self, lr: Spec, accumulation: int, state: Any, given: Spec, history: Iterable[dict[str, Any]], start: int
    ) -> "Schedule":
        """Take values that have been checked; Keras makes a schedule from its configuration again and again."""
        self.lr, self.accumulation, self.state = lr, accumulation, state
        self.given = given
        """What the run was given, before any change of plan."""
        self.history = tuple(history)
        """Every change of plan and every cut, oldest first; see ``Follow.history``."""
        self.start = start
        """Which update of ``lr`` the optimizer's first one is, after ``fit(initial_epoch=...)``."""
        self.scaled: core.Schedule = _scaled(lr, state)
        """``lr`` with the factor that its rules have come to."""
        self.now: core.Schedule = begun(self.scaled, start)
        """The same as a function of the optimizer's counter."""
        return self

    def __call__(self, step: Any) -> Any:
        """Return the rate used by update ``step`` as a tensor of Keras' float type."""
        return at(self.now, step, self.accumulation)

    def __repr__(self) -> str:
        accumulation = "" if self.accumulation == 1 else f", accumulation={self.accumulation}"
        state = "" if self.state is None else f", state={self.state!r}"
        return f"Schedule({self.lr!r}{accumulation}{state})"

    @property
    def is_fresh(self) -> bool:
        """Whether no plan was changed and no rule has seen a metric since it was made."""
        return not self.history and (self.state is None or self.state == self.lr.init())  # type: ignore[union-attr]

    def turned(
        self, lr: Spec, state: Any, given: Spec | None = None, entry: dict[str, Any] | None = None
    ) -> "Schedule":
        """Return what follows ``lr`` instead; ``entry`` goes into the history."""
        lr = lr if lr == self.lr else settled_rate(lr)
        history = self.history if entry is None else (*self.history, entry)
        given = self.given if given is None else given
        return Schedule.__new__(Schedule)._hold(lr, self.accumulation, state, given, history, self.start)

    def begun(self, start: int) -> "Schedule":
        """Return the same for an optimizer whose first update is update ``start`` of the run."""
        return Schedule.__new__(Schedule)._hold(self.lr, self.accumulation, self.state, self.given, self.history, start)

    def get_config(self) -> dict[str, Any]:
        """Return plain JSON values; warn of a function that no process could read back."""
        _warn_of_functions(self.lr)
        config: dict[str, Any] = {"lr": self.lr.to_dict(), "accumulation": self.accumulation}
        if self.state is not None:
            config["state"] = [list(state) for state in self.state]
        if self.given != self.lr:
            config["given"] = self.given.to_dict()
        if self.history:
            config["history"] = [dict(entry) for entry in self.history]
        if self.start:
            config["start"] = self.start
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Schedule":
        """Return the schedule that ``get_config`` described.

        Raises:
            ScheduleError: It is not such a description.
        """
        if missing := {"lr", "accumulation"} - config.keys():
            raise ScheduleError(f"keras adapter: a Schedule's configuration needs {' and '.join(sorted(missing))}.")
        lr, state = from_dict(config["lr"]), config.get("state")
        given = from_dict(config["given"]) if "given" in config else lr
        state = state if state is None else _state(lr, state)
        accumulation = checks.whole("keras adapter", "accumulation", config["accumulation"])
        history, start = config.get("history", ()), config.get("start", 0)
        return cls.__new__(cls)._hold(lr, accumulation, state, given, history, start)


def begun(schedule: core.Schedule, start: int) -> core.Schedule:
    """Return the schedule from update ``start`` on."""
    return schedule.after(start) if start else schedule


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


def settled_rate(lr: Any, horizon: Horizon | int | None = None) -> Spec:
    """Return a learning rate as ``settled`` does, with its rules if it has any."""
    if not isinstance(lr, Ruled):
        return settled("lr", lr, horizon)
    ruled = lr if horizon is None else lr.over(horizon)
    settled("lr", ruled.schedule)
    ruled.observe(ruled.init(), 0.0, 0)  # raises if a rule's start is not known
    return ruled


def _state(lr: Spec, state: Any) -> Any:
    """The state of the rules, as tuples of numbers; None without rules."""
    if not isinstance(lr, Ruled):
        if state is not None:
            raise ScheduleError(f"keras adapter: state= belongs to a schedule with rules, got it with {lr!r:.60}.")
        return None
    if state is None:
        raise ScheduleError(
            f"keras adapter: {lr.rules[0]!r:.60} needs metrics, which come only through a callback. Write "
            "fit(..., callbacks=[Follow(lr, monitor='val_loss')]); in a loop of your own, Schedule(lr, state=state) "
            "with state = lr.init() and then lr.observe(state, metric, updates)."
        )
    lr.observe(state, 0.0, 0)  # raises if it is another's
    return tuple(tuple(numbers) for numbers in state)


def _scaled(lr: Spec, state: Any) -> core.Schedule:
    """The schedule with the factor of its rules; made of both each time, so that no rounding adds up."""
    if not isinstance(lr, Ruled):
        return lr
    factor = lr.factor(state)
    return lr.schedule if factor == 1 else factor * lr.schedule


def _warn_of_functions(lr: Spec) -> None:
    try:
        from_dict(lr.to_dict())
    except ScheduleError as error:
        warnings.warn(f"keras adapter: what is saved with this schedule cannot be loaded. {error}", stacklevel=3)


def _number(name: str, value: Any) -> float:
    if isinstance(value, Ruled):
        raise ScheduleError(
            f"keras adapter: rules multiply lr alone, {name} takes a plain schedule, got {value!r:.80}."
        )
    return checks.number("keras adapter", name, value, "a Ratewise schedule such as Cosine(0.1, 0.0, 1000) or a number")


def _positions(steps: float | None) -> Iterable[int]:
    if steps is None:
        return [0, *(2**k for k in range(31))]  # as far as a 32-bit counter goes
    last = math.ceil(steps)
    stride = max(1, last // _CHECKED)
    return range(0, last + stride, stride)
