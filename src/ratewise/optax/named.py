"""optax' transformations by the names of ``torch.optim``, set up to do what torch's optimizers of those names do.

The names, defaults and meanings of the settings are torch's, because a strategy should mean the same in every
framework. Each function here chains transformations of optax; what they cannot express is left out.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import optax

from ratewise.core.horizon import Horizon
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Schedule
from ratewise.errors import AdapterError, nearest
from ratewise.optax.injected import Injected, inject


def _decayed(weight_decay: Any, optimizer: Any) -> Any:
    """Weight decay as torch has it outside of AdamW: added to the gradient."""
    return optimizer if weight_decay is None else optax.chain(optax.add_decayed_weights(weight_decay), optimizer)


def sgd(learning_rate: Any, momentum: Any = None, weight_decay: Any = None, nesterov: bool = False) -> Any:
    """``torch.optim.SGD``, without dampening."""
    return _decayed(weight_decay, optax.sgd(learning_rate, momentum, nesterov))


def adagrad(
    learning_rate: Any, weight_decay: Any = None, initial_accumulator_value: float = 0.0, eps: float = 1e-10
) -> Any:
    """``torch.optim.Adagrad``: optax has sqrt(v + eps**2) where torch has sqrt(v) + eps; no step where v is 0."""
    return _decayed(weight_decay, optax.adagrad(learning_rate, initial_accumulator_value, eps**2))


def rmsprop(
    learning_rate: Any, momentum: Any = None, weight_decay: Any = None, alpha: float = 0.99, eps: float = 1e-8,
    centered: bool = False,
) -> Any:  # fmt: skip
    """``torch.optim.RMSprop``: the rate multiplies the step, where ``optax.rmsprop`` puts it into the velocity."""
    scale = optax.scale_by_stddev if centered else optax.scale_by_rms
    parts = [scale(alpha, eps, eps_in_sqrt=False), optax.scale_by_learning_rate(learning_rate)]
    if momentum is not None:
        parts.insert(1, optax.trace(momentum))
    return _decayed(weight_decay, optax.chain(*parts))


def adam(
    learning_rate: Any, momentum: Any = 0.9, beta2: Any = 0.999, weight_decay: Any = None, eps: float = 1e-8
) -> Any:
    """``torch.optim.Adam``."""
    return _decayed(weight_decay, optax.adam(learning_rate, momentum, beta2, eps))


def adamw(
    learning_rate: Any, momentum: Any = 0.9, beta2: Any = 0.999, weight_decay: Any = 0.01, eps: float = 1e-8
) -> Any:
    """``torch.optim.AdamW``."""
    return optax.adamw(learning_rate, momentum, beta2, eps, weight_decay=weight_decay)


def adamax(
    learning_rate: Any, momentum: Any = 0.9, beta2: Any = 0.999, weight_decay: Any = None, eps: float = 1e-8
) -> Any:
    """``torch.optim.Adamax``."""
    return _decayed(weight_decay, optax.adamax(learning_rate, momentum, beta2, eps))


def radam(
    learning_rate: Any, momentum: Any = 0.9, beta2: Any = 0.999, weight_decay: Any = None, eps: float = 1e-8
) -> Any:
    """``torch.optim.RAdam``: optax adds eps after the correction of the second moment, torch before."""
    return _decayed(weight_decay, optax.radam(learning_rate, momentum, beta2, eps))


def adadelta(learning_rate: Any, weight_decay: Any = None, rho: float = 0.9, eps: float = 1e-6) -> Any:
    """``torch.optim.Adadelta``."""
    return _decayed(weight_decay, optax.adadelta(learning_rate, rho, eps))


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "adadelta": adadelta,
    "adagrad": adagrad,
    "adam": adam,
    "adamax": adamax,
    "adamw": adamw,
    "radam": radam,
    "rmsprop": rmsprop,
    "sgd": sgd,
}
"""What ``build`` knows, by name: functions of ``learning_rate`` and torch's settings."""


def build(
    optimizer: str, lr: Schedule | Ruled | float, *, horizon: Horizon | int | None, **settings: Any
) -> Injected:  # fmt: skip
    """Return a transformation of optax by torch's name for it, following its schedules by itself.

    It does what ``ratewise.torch.build`` does for the same arguments, up to this: ``adagrad`` and ``radam`` place eps
    elsewhere, which matters only where gradients are as small as eps.

    Args:
        optimizer: A name of ``OPTIMIZERS``.
        lr: Rate used by each update: a schedule, with rules or without, or a number.
        horizon: The run, or its number of optimizer updates; None if every length is known.
        settings: In torch's names; ``momentum`` (the first beta where there are betas), ``beta2`` and
            ``weight_decay`` may be schedules.

    Raises:
        AdapterError: The optimizer or a setting is unknown.
        ScheduleError: A schedule does not fit the horizon, or a value is out of range.

    Example:
        >>> from ratewise import Cosine
        >>> build("adamw", Cosine(0.1, 0.0), horizon=100, momentum=0.95)
        inject(adamw, learning_rate=Cosine(0.1, 0.0, 100), momentum=0.95)
    """
    return inject(OPTIMIZERS[known(optimizer)], learning_rate=lr, horizon=horizon, **settled_names(optimizer, settings))


def known(optimizer: str) -> str:
    """Return the name.

    Raises:
        AdapterError: It is none of ``OPTIMIZERS``.
    """
    if optimizer not in OPTIMIZERS:
        raise AdapterError(f"optax adapter: unknown optimizer {optimizer!r:.60}.{nearest(str(optimizer), OPTIMIZERS)}")
    return optimizer


def settled_names(optimizer: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings under the names that the functions of ``OPTIMIZERS`` have: ``betas`` as its two parts.

    Raises:
        AdapterError: The optimizer has no such setting.
    """
    names = set(inspect.signature(OPTIMIZERS[known(optimizer)]).parameters) - {"learning_rate"}
    given = dict(settings)
    if "betas" in given and "beta2" in names:
        first, second = given.pop("betas")
        given = {"momentum": first, "beta2": second} | given
    for name in given:
        if name not in names:
            raise AdapterError(f"optax adapter: {optimizer} has no setting {name!r:.60}.{nearest(name, names)}")
    return given
