"""The optimizer that a model holds, as ``Follow`` finds it and changes it: in place.

In place, because that object is also what Keras saves with the model, what a loss-scaling wrapper holds, and what
the user may hold. A copy would lose what Keras offers no getter for, such as ``exclude_from_weight_decay``.
"""

from contextlib import nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import keras

from ratewise.core import schedule as core
from ratewise.core.ruled import unruled
from ratewise.errors import AdapterError
from ratewise.keras.optimizers import SGD, Adam, AdamW, Scheduled
from ratewise.keras.schedule import Schedule

_SCHEDULED: dict[str, type] = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}


def inner(optimizer: Any) -> Any:
    """Return the optimizer that makes the updates, inside mixed precision's loss scaling."""
    if optimizer is None:
        raise AdapterError("keras adapter: the model has no optimizer. Write compile(optimizer, ...).")
    if hasattr(optimizer, "optimizers"):
        raise AdapterError(
            "keras adapter: Follow drives one optimizer, got a MultiOptimizer. "
            "Build its members with ratewise.keras.Schedule instead."
        )
    return getattr(optimizer, "inner_optimizer", optimizer)


def updates(optimizer: Any) -> int:
    """Return how many updates were made; added to 0, because a variable spread over replicas is no number."""
    return int(keras.ops.add(optimizer.iterations, 0))


def accumulation(optimizer: Any) -> int:
    """Return how many batches make one update."""
    return optimizer.gradient_accumulation_steps or 1


def rate(optimizer: Any) -> Any:
    """Return the optimizer's rate as it was given: a schedule object, a number, or None for anything else.

    Read from its configuration, since the attribute ``learning_rate`` gives only the coming value.
    """
    found = optimizer.get_config()["learning_rate"]
    if isinstance(found, dict):
        found = keras.optimizers.schedules.deserialize(found)
    known = isinstance(found, (float, keras.optimizers.schedules.LearningRateSchedule))
    return found if known else None


def used(found: Any, start: int, stop: int, batches: int) -> list[float] | None:
    """Return what each update from ``start`` used of ``rate(optimizer)``; None if nobody can say.

    Keras makes an update at the last of its ``batches``.
    """
    if isinstance(found, Schedule):
        return found.now.values(start, stop)
    if isinstance(found, float):
        return [found] * (stop - start)
    return None if found is None else [float(found(t * batches + batches - 1)) for t in range(start, stop)]


_APPLIED: WeakKeyDictionary[Any, tuple[Any, Any]] = WeakKeyDictionary()


def settle(model: Any, changed: bool = False) -> Any:
    """Make the model's train step again if it applies another rate than its optimizer holds, and return the rate.

    A step that was compiled goes on with the schedule it was compiled with, whatever is assigned to the optimizer.
    The first call for a model knows nothing of its step and makes it again in any case.
    """
    optimizer = inner(model.optimizer)
    found = rate(optimizer)
    known = _APPLIED.get(model, (None, None))
    if changed or known[0] is not optimizer or not _same(known[1], found):
        model.make_train_function(force=True)
    _APPLIED[model] = optimizer, found
    return found


def applied(model: Any) -> Any:
    """Return the rate that the model's train step was made with, as ``rate`` gives it."""
    return _APPLIED[model][1] if model in _APPLIED else rate(inner(model.optimizer))


def _same(a: Any, b: Any) -> bool:
    """Whether a step compiled with ``a`` does what ``b`` says; it reads a number from the optimizer's variable."""
    if isinstance(a, Schedule) and isinstance(b, Schedule):
        return (a.now, a.accumulation) == (b.now, b.accumulation)
    if isinstance(a, keras.optimizers.schedules.LearningRateSchedule):
        return type(a) is type(b) and bool(a.get_config() == b.get_config())
    return type(a) is type(b)


def momentum_of(optimizer: Any) -> str:
    """Return what the optimizer calls the hyperparameter that ``momentum=`` drives."""
    return "momentum" if hasattr(optimizer, "momentum") else "beta_1"


def bind(model: Any, schedules: dict[str, core.Schedule], given: dict[str, core.Schedule]) -> None:
    """Turn a model's plain optimizer into our class of the same name, and bind the schedules.

    Raises:
        AdapterError: Keras' optimizer cannot have one of them as a schedule; nothing was changed.
        ScheduleError: A value is outside what the hyperparameter allows.
    """
    optimizer = inner(model.optimizer)
    kind = type(optimizer)
    if not isinstance(optimizer, Scheduled):
        if kind.__module__.partition(".")[0] != "keras" or kind.__name__ not in _SCHEDULED:
            raise AdapterError(
                f"keras adapter: {' and '.join(schedules)} can follow a schedule in Keras' SGD, Adam and AdamW, "
                f"got {kind.__name__}. Compile with one of these, or drive lr alone."
            )
        if kind.__name__ == "SGD" and "momentum" in schedules and not optimizer.momentum:
            _add_velocities(optimizer, model)
        optimizer.__class__ = _SCHEDULED[kind.__name__]
    optimizer.follow(schedules, given)


def _add_velocities(optimizer: Any, model: Any) -> None:
    """Give an SGD that was compiled without momentum the velocities it would have had, at 0."""
    if updates(optimizer):
        raise AdapterError(
            "keras adapter: this SGD has been trained with momentum=0 and has no velocities. "
            'Compile again with SGD(momentum=0.9); "momentum" then follows the schedule.'
        )
    if optimizer.built:
        strategy = getattr(model, "distribute_strategy", None)  # TensorFlow's; variables belong to its scope
        with strategy.scope() if strategy is not None else nullcontext():
            variables = model.trainable_variables
            optimizer.momentums = [optimizer.add_variable_from_reference(v, name="momentum") for v in variables]


def start(optimizer: Any) -> int:
    """Return which update of the run the optimizer's first one is."""
    found = rate(optimizer)
    return found.start if isinstance(found, Schedule) else getattr(optimizer, "start", 0)


def begin(optimizer: Any, by: int, epoch: int) -> None:
    """Start every schedule of the optimizer at update ``by``, which is where ``epoch`` begins.

    Raises:
        AdapterError: A schedule ends before; nothing was changed.
    """
    found, schedules = rate(optimizer), getattr(optimizer, "schedules", {})
    own = [unruled(found.lr)] if isinstance(found, Schedule) else []
    for schedule in (*own, *schedules.values()):
        if by and schedule.steps is not None and by >= schedule.steps:
            raise AdapterError(
                f"keras adapter: initial_epoch={epoch} begins with update {by}, the schedule ends at "
                f"{schedule.steps}. Give it the length of the whole run, from epoch 0."
            )
    if isinstance(found, Schedule) and found.start != by:
        optimizer.learning_rate = found.begun(by)
    if schedules:
        optimizer.start = by
