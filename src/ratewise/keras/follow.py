"""A callback that lets an already compiled model follow schedules.

It works on the optimizer that the model holds, in place: that object is also what Keras saves with the model,
what a loss-scaling wrapper holds, and what the user may hold. Nothing is set per batch; the compiled step reads
the schedules itself.
"""

import math
import warnings
from typing import Any

import keras

from ratewise.core import schedule as core
from ratewise.core.horizon import Horizon
from ratewise.errors import AdapterError
from ratewise.keras.optimizers import SGD, Adam, AdamW, Scheduled
from ratewise.keras.schedule import Schedule, settled

_SCHEDULED: dict[str, type] = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}


class Follow(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Make a compiled model follow schedules, and write the rate that was used into ``history``.

    ``momentum`` and ``weight_decay`` are possible for Keras' SGD, Adam and AdamW: the compiled optimizer becomes
    the class of the same name in ``ratewise.keras``, keeping its variables, its settings and its identity. ``lr``
    is possible for every Keras optimizer. Put it before callbacks that restore a checkpoint.

    With ``fit(initial_epoch=e)`` on an optimizer that has not made an update, the schedules start at the update
    that epoch ``e`` begins with. The optimizer's own counter stays at 0: Adam's bias correction needs it.

    Args:
        lr: The rate used by each update: a Ratewise schedule, a number, or a ``ratewise.keras.Schedule``. None
            leaves the optimizer's own.
        momentum: Schedule or number from 0 to 1 for SGD's ``momentum``, or ``beta_1`` of Adam and AdamW.
        weight_decay: Schedule or number of at least 0; the optimizer multiplies it by the rate.
        horizon: The run, or its number of optimizer updates: settles open and typed lengths.

    Raises:
        ScheduleError: The length of a schedule is not known, or a value is out of range.
        AdapterError: In ``fit``: the optimizer cannot be driven, its accumulation differs from the schedule's,
            or ``initial_epoch`` lies outside what the schedule covers.

    Example:
        >>> from ratewise import one_cycle, one_cycle_momentum
        >>> follow = Follow(one_cycle(0.1), momentum=one_cycle_momentum(), horizon=500)
        >>> # model.fit(x, y, epochs=5, callbacks=[follow]).history["learning_rate"]

    See Also:
        Without a compiled model, hand ``Schedule`` and the optimizers of ``ratewise.keras`` to ``compile``.
    """

    def __init__(
        self, lr: Any = None, *, momentum: Any = None, weight_decay: Any = None, horizon: Horizon | int | None = None
    ) -> None:  # fmt: skip
        super().__init__()
        self.lr: Any = lr if lr is None or isinstance(lr, Schedule) else settled("lr", lr, horizon)
        self.momentum = momentum if momentum is None else settled("momentum", momentum, horizon, high=1.0)
        self.weight_decay = weight_decay if weight_decay is None else settled("weight_decay", weight_decay, horizon)

    def on_train_begin(self, logs: Any = None) -> None:
        """Let the optimizer follow, unless it already does."""
        self._started, self._warned = False, False
        if self._drive(_inner(self.model.optimizer)):
            self.model.make_train_function(force=True)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the schedules at ``initial_epoch``."""
        started, self._started = self._started, True
        optimizer = _inner(self.model.optimizer)
        if started or not epoch or _updates(optimizer):
            return
        if _shift(optimizer, self._updates_before(epoch, optimizer), epoch):
            self.model.make_train_function(force=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the rate that the last update used, and say so once if the run has outlived its schedule."""
        optimizer = _inner(self.model.optimizer)
        updates, lr = _updates(optimizer), _rate(optimizer)
        if logs is not None and lr is not None:
            logs["learning_rate"] = _value(lr, max(updates - 1, 0), _accumulation(optimizer))
        if isinstance(lr, Schedule) and not self._warned and updates > (lr.lr.steps or math.inf):
            self._warned = True
            warnings.warn(
                f"keras adapter: the run is at update {updates}, the schedule ended at {lr.lr.steps} and holds "
                f"{lr.lr(updates)!r}. Give it the length of the whole run.",
                stacklevel=2,
            )

    def _drive(self, optimizer: Any) -> bool:
        """Bring the schedules to the optimizer; return whether anything changed."""
        rate = _rate(optimizer)
        wanted = rate if self.lr is None else self._native(optimizer)
        if isinstance(wanted, Schedule) and wanted.accumulation != _accumulation(optimizer):
            raise AdapterError(
                f"keras adapter: the schedule's accumulation ({wanted.accumulation}) and the optimizer's "
                f"gradient_accumulation_steps ({optimizer.gradient_accumulation_steps}) differ. "
                f"Write Schedule(lr, accumulation={_accumulation(optimizer)})."
            )
        begun = _updates(optimizer) > 0
        changed = self.lr is not None and not (isinstance(rate, Schedule) and _same(rate.lr, wanted.lr, begun))
        if changed:
            optimizer.learning_rate = wanted
        return self._bind(optimizer, begun) or changed

    def _native(self, optimizer: Any) -> Schedule:
        return self.lr if isinstance(self.lr, Schedule) else Schedule(self.lr, _accumulation(optimizer))

    def _bind(self, optimizer: Any, begun: bool) -> bool:
        """Bind momentum and weight decay; return whether anything changed."""
        beta = "momentum" if hasattr(optimizer, "momentum") else "beta_1"
        named = {beta: self.momentum, "weight_decay": self.weight_decay}
        wanted = {name: schedule for name, schedule in named.items() if schedule is not None}
        held = getattr(optimizer, "schedules", {})
        changed = {name: s for name, s in wanted.items() if name not in held or not _same(held[name], s, begun)}
        if changed:
            _become_scheduled(optimizer, {**held, **changed}, self.model.trainable_variables)
        return bool(changed)

    def _updates_before(self, epoch: int, optimizer: Any) -> int:
        batches = self.params.get("steps")
        if batches is None:
            raise AdapterError(
                f"keras adapter: with initial_epoch={epoch} the number of batches in an epoch must be known. "
                "Write fit(..., steps_per_epoch=...)."
            )
        return int(epoch * batches // _accumulation(optimizer))


def _inner(optimizer: Any) -> Any:
    """The optimizer that makes the updates, inside mixed precision's loss scaling."""
    if hasattr(optimizer, "optimizers"):
        raise AdapterError(
            "keras adapter: Follow drives one optimizer, got a MultiOptimizer. "
            "Build its members with ratewise.keras.Schedule instead."
        )
    return getattr(optimizer, "inner_optimizer", optimizer)


def _updates(optimizer: Any) -> int:
    """The updates made so far; added to 0, because a variable spread over replicas is no number."""
    return int(keras.ops.add(optimizer.iterations, 0))


def _accumulation(optimizer: Any) -> int:
    return optimizer.gradient_accumulation_steps or 1


def _rate(optimizer: Any) -> Any:
    """The optimizer's rate as it was given: a schedule object, a number, or None for anything else.

    Read from its configuration, since the attribute ``learning_rate`` gives only the coming value.
    """
    rate = optimizer.get_config()["learning_rate"]
    if isinstance(rate, dict):
        rate = keras.optimizers.schedules.deserialize(rate)
    known = isinstance(rate, (float, keras.optimizers.schedules.LearningRateSchedule))
    return rate if known else None


def _value(rate: Any, update: int, accumulation: int) -> float:
    """The rate used by ``update``, which Keras makes at the last of its ``accumulation`` batches."""
    if isinstance(rate, Schedule):
        return float(rate.lr(update))
    return rate if isinstance(rate, float) else float(rate(update * accumulation + accumulation - 1))


def _same(held: core.Schedule, wanted: core.Schedule, begun: bool) -> bool:
    """Whether the optimizer follows ``wanted`` already, perhaps from a later start that it has begun with."""
    return held == wanted or (begun and isinstance(held, core.After) and held.base == wanted)


def _become_scheduled(optimizer: Any, schedules: dict[str, core.Schedule], variables: list[Any]) -> None:
    """Turn a plain optimizer into our class of the same name, in place, and bind the schedules.

    In place, because the model's saved configuration refers to this very object, and because a copy would lose
    what Keras offers no getter for, such as ``exclude_from_weight_decay``.
    """
    kind = type(optimizer)
    if not isinstance(optimizer, Scheduled):
        if kind.__module__.partition(".")[0] != "keras" or kind.__name__ not in _SCHEDULED:
            raise AdapterError(
                f"keras adapter: {' and '.join(schedules)} can follow a schedule in Keras' SGD, Adam and AdamW, "
                f"got {kind.__name__}. Compile with one of these, or drive lr alone."
            )
        if kind.__name__ == "SGD" and "momentum" in schedules and not optimizer.momentum:
            _add_velocities(optimizer, variables)
        optimizer.__class__ = _SCHEDULED[kind.__name__]
    optimizer.follow(schedules)


def _add_velocities(optimizer: Any, variables: list[Any]) -> None:
    """Give an SGD that was compiled without momentum the velocities it would have had, at 0."""
    if _updates(optimizer):
        raise AdapterError(
            "keras adapter: this SGD has been trained with momentum=0 and has no velocities. "
            'Compile again with SGD(momentum=0.9); "momentum" then follows the schedule.'
        )
    if optimizer.built:
        optimizer.momentums = [optimizer.add_variable_from_reference(v, name="momentum") for v in variables]


def _shift(optimizer: Any, updates: int, epoch: int) -> bool:
    """Start every schedule of the optimizer ``updates`` later; return whether anything changed."""
    rate = _rate(optimizer)
    changed = False
    if isinstance(rate, Schedule) and (later := _later(rate.lr, updates, epoch)) != rate.lr:
        optimizer.learning_rate = Schedule(later, rate.accumulation)
        changed = True
    schedules = getattr(optimizer, "schedules", {})
    shifted = {name: _later(schedule, updates, epoch) for name, schedule in schedules.items()}
    if shifted != schedules:
        optimizer.follow(shifted)
        changed = True
    return changed


def _later(schedule: core.Schedule, updates: int, epoch: int) -> core.Schedule:
    """The schedule from ``updates`` on; one that was shifted so in an interrupted attempt stays as it is."""
    if isinstance(schedule, core.After) and schedule.skip == updates:
        return schedule
    if schedule.steps is not None and updates >= schedule.steps:
        raise AdapterError(
            f"keras adapter: initial_epoch={epoch} begins with update {updates}, the schedule ends at "
            f"{schedule.steps}. Give it the length of the whole run, from epoch 0."
        )
    return schedule.after(updates)
