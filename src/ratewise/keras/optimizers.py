"""Keras' SGD, Adam and AdamW with momentum and weight decay that follow a schedule.

Keras reads these hyperparameters as Python numbers while it traces the train step, so assigning them later
changes nothing, silently. Here they are bound to the schedule's value at the optimizer's own counter for the
time of one ``apply``, inside the trace. The update itself is Keras' own, and its variables are the same ones.

Other optimizers are left out on purpose: RMSprop computes ``1 - momentum`` and compares ``momentum > 0`` in
Python, which no traced value survives.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from ratewise.core import schedule as core
from ratewise.core.parse import from_dict
from ratewise.core.ruled import Ruled
from ratewise.errors import AdapterError
from ratewise.keras.schedule import Schedule, at, begun, settled

HIGHEST = {"momentum": 1.0, "beta_1": 0.999999, "weight_decay": float("inf")}
"""Largest value of each hyperparameter; with a beta of 1 Adam divides by zero."""


class Scheduled:
    """What the three share: ``schedules``, and how they are bound.

    Between updates the attributes hold the schedule's first value; they are never what an update reads.
    """

    drives: tuple[str, ...] = ()
    schedules: dict[str, core.Schedule]
    given: dict[str, core.Schedule]
    """What the run was given, before any change of plan."""
    start: int = 0
    """Which update of the run the optimizer's first one is, after ``fit(initial_epoch=...)``."""

    def __init__(self, learning_rate: Any, **settings: Any) -> None:
        given, start = settings.pop("given", None), settings.pop("start", 0)
        others = (name for name, value in settings.items() if isinstance(value, (core.Schedule, Ruled)))
        self._check_names(others)
        schedules = {n: settings[n] for n in self.drives if isinstance(settings.get(n), (core.Schedule, Ruled))}
        schedules = {name: settled(name, schedule, high=HIGHEST[name]) for name, schedule in schedules.items()}
        if isinstance(learning_rate, (core.Schedule, Ruled)):
            learning_rate = Schedule(learning_rate, settings.get("gradient_accumulation_steps") or 1)
        if isinstance(learning_rate, Schedule):
            check_accumulation(learning_rate, settings.get("gradient_accumulation_steps"))
        numbers = settings | {name: first(schedule) for name, schedule in schedules.items()}
        super().__init__(learning_rate, **numbers)  # type: ignore[call-arg]  # Keras' class comes next
        self.start = start
        self.follow(schedules, given)

    def follow(self, schedules: dict[str, core.Schedule], given: dict[str, core.Schedule] | None = None) -> None:
        """Bind hyperparameters to schedules from now on; a compiled train step must be made again.

        Args:
            schedules: By name of the hyperparameter.
            given: What the run was given, where a change of plan has made ``schedules`` of it.

        Raises:
            AdapterError: This optimizer has no such hyperparameter to drive.
            ScheduleError: A value is outside what the hyperparameter allows, or a length is not known.
        """
        self._check_names(schedules)
        self.schedules = {name: settled(name, s, high=HIGHEST[name]) for name, s in schedules.items()}
        self.given = self.schedules | (given or {})
        self._release()

    def now(self) -> dict[str, core.Schedule]:
        """Return ``schedules`` as functions of the optimizer's counter."""
        return {name: begun(schedule, self.start) for name, schedule in self.schedules.items()}

    def build(self, variables: Any) -> None:
        with self._bound():  # SGD makes its velocities only if momentum != 0
            super().build(variables)  # type: ignore[misc]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        if trainable_variables is not None and not self.built:  # type: ignore[attr-defined]
            trainable_variables = list(trainable_variables)
            self.build(trainable_variables)  # here, because building inside would release what is bound
        with self._bound():
            super().apply(grads, trainable_variables)  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        """Return Keras' configuration with every schedule as plain JSON values."""
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        config |= {name: schedule.to_dict() for name, schedule in self.schedules.items()}
        if self.given != self.schedules:
            config["given"] = {name: schedule.to_dict() for name, schedule in self.given.items()}
        if self.start:
            config["start"] = self.start
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Return the optimizer that ``get_config`` described."""
        read = {key: from_dict(config[key]) for key in cls.drives if isinstance(config.get(key), dict)}
        if "given" in config:
            read["given"] = {name: from_dict(schedule) for name, schedule in config["given"].items()}
        return super().from_config(config | read, custom_objects)  # type: ignore[misc]

    @contextmanager
    def _bound(self) -> Iterator[None]:
        try:
            for name, schedule in self.now().items():
                value = at(schedule, self.iterations)  # type: ignore[attr-defined]  # Keras' counter of updates
                setattr(self, name, _Momentum(value) if name == "momentum" else value)
            yield
        finally:
            self._release()

    def _check_names(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.drives:
                raise AdapterError(
                    f"keras adapter: {type(self).__name__} cannot follow {name!r}. It drives {', '.join(self.drives)}."
                )

    def _release(self) -> None:
        """Give every attribute its number back.

        Not the value found before: with several replicas that may be another replica's traced one.
        """
        for name, schedule in self.schedules.items():
            setattr(self, name, first(schedule))


def check_accumulation(schedule: Schedule, steps: int | None) -> None:
    """Refuse a schedule that counts other updates than an optimizer with ``gradient_accumulation_steps=steps``."""
    if schedule.accumulation != (steps or 1):
        raise AdapterError(
            f"keras adapter: the schedule's accumulation ({schedule.accumulation}) and the optimizer's "
            f"gradient_accumulation_steps ({steps}) differ. Write Schedule(lr, accumulation={steps or 1})."
        )


def first(schedule: core.Schedule) -> float:
    """The number that stands for a schedule between updates."""
    return float(schedule(0))


class _Momentum:
    """A traced momentum. Keras asks ``momentum != 0`` in Python, which a traced tensor cannot answer.

    The answer is always yes: with a momentum of 0 the velocity is still right, and it must not be left stale.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return False

    def __tf_tensor__(self, dtype: Any = None, name: Any = None) -> Any:
        return self.value if dtype is None else keras.ops.cast(self.value, dtype.name)

    def __jax_array__(self) -> Any:
        return self.value

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return keras.ops.convert_to_numpy(float(self.value)).astype(dtype or keras.config.floatx())


@keras.saving.register_keras_serializable(package="ratewise")
class SGD(Scheduled, keras.optimizers.SGD):  # type: ignore[misc]  # Keras has no types
    """Keras' SGD whose ``momentum`` and ``weight_decay`` may be schedules.

    Velocity v and weights w at update t, as Keras has it: ``v = momentum(t) * v - lr(t) * g``, ``w = w + v``.

    Args:
        learning_rate: A Ratewise schedule, or whatever Keras takes.
        **settings: What ``keras.optimizers.SGD`` takes by keyword; ``momentum`` (0 to 1) and ``weight_decay``
            (at least 0, multiplied by the rate) may be Ratewise schedules.

    Raises:
        ScheduleError: The length of a schedule is not known, or a value is out of range.

    Example:
        >>> from ratewise import one_cycle, one_cycle_momentum
        >>> optimizer = SGD(one_cycle(0.1).over(100), momentum=one_cycle_momentum().over(100))
        >>> optimizer.schedules["momentum"](30)
        0.85

    See Also:
        torch multiplies the rate into the step, not into the velocity: ``v = momentum * v + g``,
        ``w = w - lr(t) * v``. The two are the same as long as the rate is constant.
    """

    drives = ("momentum", "weight_decay")


@keras.saving.register_keras_serializable(package="ratewise")
class Adam(Scheduled, keras.optimizers.Adam):  # type: ignore[misc]
    """Keras' Adam whose ``beta_1`` and ``weight_decay`` may be schedules.

    The bias correction of update t uses ``beta_1(t) ** (t + 1)``, as Keras and torch both do.

    Args:
        learning_rate: A Ratewise schedule, or whatever Keras takes.
        **settings: What ``keras.optimizers.Adam`` takes by keyword; ``beta_1`` (0 to 0.999999) and
            ``weight_decay`` (at least 0, multiplied by the rate) may be Ratewise schedules.

    Raises:
        ScheduleError: The length of a schedule is not known, or a value is out of range.
    """

    drives = ("beta_1", "weight_decay")


@keras.saving.register_keras_serializable(package="ratewise")
class AdamW(Scheduled, keras.optimizers.AdamW):  # type: ignore[misc]
    """Keras' AdamW whose ``beta_1`` and ``weight_decay`` may be schedules; see ``Adam``.

    Args:
        learning_rate: A Ratewise schedule, or whatever Keras takes.
        **settings: What ``keras.optimizers.AdamW`` takes by keyword; its weight decay is 0.004 unless given.

    Raises:
        ScheduleError: The length of a schedule is not known, or a value is out of range.
    """

    drives = ("beta_1", "weight_decay")
