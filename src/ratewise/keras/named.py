"""Keras optimizers by name, set up to do what torch's optimizers of the same name do.

The names, defaults and meanings are torch's, because a strategy should mean the same in both frameworks. What
Keras expresses differently is translated here; what it cannot express is refused or, where the difference is
small, stated in ``build``.
"""

import inspect
from dataclasses import dataclass, field
from typing import Any

import keras

from ratewise.core import schedule as core
from ratewise.core.horizon import Horizon
from ratewise.errors import AdapterError, nearest
from ratewise.keras.optimizers import HIGHEST, SGD, Adam, AdamW
from ratewise.keras.schedule import Schedule, settled


@dataclass(frozen=True)
class Optimizer:
    """One row of ``OPTIMIZERS``.

    Args:
        plain: Keras' class.
        scheduled: Ours, used where momentum or weight decay is a schedule; None if Keras cannot have one there.
        momentum: What Keras calls the hyperparameter that ``momentum`` drives; None if there is none.
        defaults: torch's defaults, in torch's names.
        inner_epsilon: Whether Keras adds epsilon inside the square root, where torch adds eps outside.
        decoupled: Whether torch decays weights directly (Keras always does) and not through the gradient.
    """

    plain: type
    scheduled: type | None = None
    momentum: str | None = None
    defaults: dict[str, Any] = field(default_factory=dict)
    inner_epsilon: bool = False
    decoupled: bool = False


OPTIMIZERS = {
    "sgd": Optimizer(keras.optimizers.SGD, SGD, "momentum"),
    "adagrad": Optimizer(
        keras.optimizers.Adagrad, defaults={"initial_accumulator_value": 0.0, "eps": 1e-10}, inner_epsilon=True
    ),
    "rmsprop": Optimizer(
        keras.optimizers.RMSprop, momentum="momentum", defaults={"alpha": 0.99, "eps": 1e-8}, inner_epsilon=True
    ),
    "adam": Optimizer(keras.optimizers.Adam, Adam, "beta_1", {"betas": (0.9, 0.999), "eps": 1e-8}),
    "adamw": Optimizer(
        keras.optimizers.AdamW, AdamW, "beta_1", {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01},
        decoupled=True,
    ),
}  # fmt: skip
"""What ``build`` knows, by name."""

RENAMED = {"alpha": "rho", "beta2": "beta_2"}
"""torch's names for what Keras has under another."""


def build(
    optimizer: str, lr: core.Schedule | float, *, horizon: Horizon | int | None,
    momentum: core.Schedule | float | None = None, weight_decay: core.Schedule | float | None = None,
    **settings: Any,
) -> Any:  # fmt: skip
    """Return a Keras optimizer by its name, following its schedules by itself.

    It does what ``ratewise.torch.build`` does for the same arguments, up to this:

    - ``sgd`` with momentum: Keras multiplies the rate into the velocity, torch into the step. The same while
      the rate is constant.
    - ``adam``, ``adamw``: Keras' epsilon is "epsilon hat", larger by 1 / sqrt(1 - beta2**(t+1)) than torch's eps
      of the same number. It matters where gradients are as small as eps.
    - ``adagrad``, ``rmsprop``: Keras has sqrt(v + epsilon), torch sqrt(v) + eps; epsilon is set to eps**2, equal
      at v = 0 and wherever v is far above eps**2. ``rmsprop`` with momentum differs as ``sgd`` does.
    - ``weight_decay``: Keras decays weights directly. torch does so in ``adamw``, and ``sgd`` without momentum
      is the same; elsewhere torch adds it to the gradient, which Keras leaves to the layers, so it is refused.

    Args:
        optimizer: ``"sgd"``, ``"adagrad"``, ``"rmsprop"``, ``"adam"`` or ``"adamw"``.
        lr: Rate used by each update, a schedule or a number.
        horizon: The run, or its number of optimizer updates; None if every length is known.
        momentum: Schedule or number for ``momentum``, or the first beta of the Adam family.
        weight_decay: Schedule or number; None is torch's default (0.01 for ``adamw``, else 0).
        **settings: Further arguments in torch's names (``eps``, ``alpha``, ``betas``, ``beta2``) or in Keras' own, e.g.
            ``nesterov`` or ``gradient_accumulation_steps`` (which also sets the schedule's ``accumulation``).

    Raises:
        AdapterError: The optimizer or a setting is unknown, or Keras cannot do what is asked.
        ScheduleError: A schedule does not fit the horizon, or a value is out of range.

    Example:
        >>> from ratewise import Cosine
        >>> optimizer = build("adam", Cosine(0.1, 0.0), horizon=100, momentum=0.8)
        >>> float(optimizer.learning_rate), optimizer.beta_1, optimizer.epsilon
        (0.10000000149011612, 0.8, 1e-08)
    """
    if optimizer not in OPTIMIZERS:
        raise AdapterError(f"keras adapter: unknown optimizer {optimizer!r:.60}.{nearest(str(optimizer), OPTIMIZERS)}")
    row = OPTIMIZERS[optimizer]
    given = _keras_names(optimizer, row, row.defaults) | _keras_names(optimizer, row, settings)
    if momentum is not None:
        given |= _momentum(optimizer, row, momentum, horizon)
    if weight_decay is not None:
        given |= _weight_decay(optimizer, row, weight_decay, horizon, given.get("momentum", 0.0))
    scheduled = any(isinstance(value, core.Schedule) for value in given.values())
    kind: Any = row.scheduled if scheduled else row.plain
    return kind(learning_rate=_rate(lr, given, horizon), **given)


def _keras_names(optimizer: str, row: Optimizer, settings: dict[str, Any]) -> dict[str, Any]:
    """Translate settings from torch's names and meanings."""
    own = set(inspect.signature(row.plain).parameters) - {"learning_rate", "kwargs"}
    torch = {*row.defaults, *(["beta2"] if "betas" in row.defaults else [])}
    result: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in own | torch:
            raise AdapterError(f"keras adapter: {optimizer} has no setting {name!r:.60}.{nearest(name, own | torch)}")
        if isinstance(value, core.Schedule):
            raise AdapterError(
                f"keras adapter: {name} of {optimizer} must be a number. Schedules may be given for "
                "lr, momentum and weight_decay."
            )
        if name == "betas":
            result["beta_1"], result["beta_2"] = value
        elif name == "eps":
            result["epsilon"] = value**2 if row.inner_epsilon else value
        else:
            result[RENAMED.get(name, name)] = value
    return result


def _momentum(optimizer: str, row: Optimizer, value: Any, horizon: Any) -> dict[str, Any]:
    if row.momentum is None or (isinstance(value, core.Schedule) and row.scheduled is None):
        kind = "a momentum" if row.momentum is None else "a momentum schedule"
        raise AdapterError(
            f"keras adapter: Keras' {row.plain.__name__} cannot have {kind}. "
            f"{'Leave it out' if row.momentum is None else 'Give a number'}, or use 'sgd', 'adam' or 'adamw'."
        )
    schedule = settled("momentum", value, horizon, high=HIGHEST[row.momentum])
    return {row.momentum: schedule if isinstance(value, core.Schedule) else float(value)}


def _weight_decay(optimizer: str, row: Optimizer, value: Any, horizon: Any, momentum: Any) -> dict[str, Any]:
    schedule = settled("weight_decay", value, horizon)
    number = None if isinstance(value, core.Schedule) else float(value)
    if number == 0 and not row.decoupled:
        return {}
    if not row.decoupled and (optimizer != "sgd" or momentum != 0):
        raise AdapterError(
            f"keras adapter: weight_decay of {optimizer!r} is added to the gradient in torch, which Keras leaves to "
            "the layers. Give them kernel_regularizer=keras.regularizers.L2(weight_decay / 2), or use 'adamw'."
        )
    return {"weight_decay": schedule if number is None else number}


def _rate(lr: Any, given: dict[str, Any], horizon: Any) -> Any:
    if not isinstance(lr, core.Schedule):
        return float(settled("lr", lr)(0))
    return Schedule(lr, given.get("gradient_accumulation_steps") or 1, horizon)
