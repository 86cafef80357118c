"""Optimizer and Scheduler in one call, for code that knows an optimizer by name."""

import inspect
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import torch

from ratewise.core.horizon import Horizon
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Schedule
from ratewise.errors import AdapterError, MissingDependency, nearest
from ratewise.torch.plan import ALL, read
from ratewise.torch.scheduler import Scheduler

OPTIMIZERS: dict[str, str] = {
    **{name: f"torch.optim:{kind}" for name, kind in (
        ("adadelta", "Adadelta"), ("adafactor", "Adafactor"), ("adagrad", "Adagrad"), ("adam", "Adam"),
        ("adamax", "Adamax"), ("adamw", "AdamW"), ("asgd", "ASGD"), ("lbfgs", "LBFGS"), ("muon", "Muon"),
        ("nadam", "NAdam"), ("radam", "RAdam"), ("rmsprop", "RMSprop"), ("rprop", "Rprop"), ("sgd", "SGD"),
    )},
    "schedule_free_adamw": "schedulefree:AdamWScheduleFree",
    "schedule_free_sgd": "schedulefree:SGDScheduleFree",
    "prodigy": "prodigyopt:Prodigy",
}  # fmt: skip
"""The optimizers that ``build`` knows by name, and where each is: ``module:Class``."""


def optimizer_class(optimizer: str) -> type[Any]:
    """Return the class of an optimizer: of a name of ``OPTIMIZERS``, or of ``"module:Class"``.

    Raises:
        AdapterError: There is no such name, module or class, or it is no ``torch.optim.Optimizer``.
        MissingDependency: Its package is not installed.

    Example:
        >>> optimizer_class("sgd")
        <class 'torch.optim.sgd.SGD'>
    """
    path = OPTIMIZERS.get(optimizer, optimizer)
    module, colon, name = path.partition(":")
    if not colon:
        hint = nearest(str(optimizer)[:40], OPTIMIZERS)
        raise AdapterError(f"build: unknown optimizer {optimizer!r:.40}.{hint} Your own: module:Class.")
    try:
        found = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except ImportError as error:
        if optimizer in OPTIMIZERS and (error.name or module) == module:
            raise MissingDependency(module, "optimizers", f"optimizer {optimizer!r}") from error
        raise AdapterError(f"build: {path} cannot be imported: {error}.") from error
    except AttributeError:
        old = f" The installed torch {torch.__version__} is too old for it." if optimizer in OPTIMIZERS else ""
        raise AdapterError(f"build: there is no {name} in {module}.{old}") from None
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise AdapterError(f"build: {path} is not a class of torch optimizers.")
    return found


def build(
    optimizer: str, params: Iterable[Any], lr: Schedule | Ruled | float, *, horizon: Horizon | int | None,
    momentum: Schedule | float | None = None, beta2: Schedule | float | None = None,
    weight_decay: Schedule | float | None = None, **settings: Any,
) -> tuple[torch.optim.Optimizer, Scheduler]:  # fmt: skip
    """Make an optimizer that follows a schedule.

    Args:
        optimizer: A name of ``OPTIMIZERS``, or ``"module:Class"``: any other torch optimizer.
        params: Parameters or parameter groups, as the optimizer takes them.
        lr: Rate of each update; with rules, tell the Scheduler the metric: ``scheduler.observe(loss)``.
        horizon: Length of the run.
        momentum: Momentum, or the first beta where the optimizer has betas. A schedule drives it, a number sets it.
        beta2: The second beta, likewise.
        weight_decay: Weight decay, likewise.
        settings: Further arguments of the optimizer's class, for example ``nesterov=True``.

    Returns:
        The optimizer, holding the first scheduled values, and its Scheduler.

    Raises:
        AdapterError: The optimizer or a setting is unknown, or the optimizer lacks a driven hyperparameter.
        MissingDependency: The optimizer comes in a package that is not installed.

    Example:
        >>> from ratewise import one_cycle, one_cycle_momentum
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer, scheduler = build("adam", [weight], one_cycle(0.1), horizon=100, momentum=one_cycle_momentum())
        >>> optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"]
        (0.004, (0.95, 0.999))
    """
    kind = optimizer_class(optimizer)
    run = None if horizon is None else Horizon.of(horizon)
    given = {"lr": lr, "momentum": momentum, "beta2": beta2, "weight_decay": weight_decay}
    for name, value in given.items():
        if isinstance(value, Mapping):
            raise AdapterError(
                f"build: {name}= takes one schedule or a number. For a schedule per group make the optimizer yourself "
                f"and give {name}= to ratewise.torch.Scheduler."
            )
    spec = read(given, run)
    first = {name: schedules[ALL](0) for name, schedules in spec.items()}
    arguments = _arguments(kind, first, settings)
    driven: dict[str, Any] = {
        name: value for name, value in given.items() if name == "lr" or isinstance(value, Schedule)
    }
    made = kind(params, **arguments)
    return made, Scheduler(made, horizon=run, **driven)


def _arguments(kind: type, first: dict[str, float], settings: dict[str, Any]) -> dict[str, Any]:
    """What to call the class with: the first values under the names that it uses."""
    known = inspect.signature(kind).parameters
    arguments: dict[str, Any] = {name: value for name, value in first.items() if name in known}
    if "betas" in known and not {"momentum", "beta2"}.isdisjoint(first):
        betas = settings.get("betas", known["betas"].default)
        arguments["betas"] = (first.get("momentum", betas[0]), first.get("beta2", betas[1]))
    for name in first:
        if name not in arguments and "betas" not in arguments:
            raise AdapterError(f"build: {kind.__name__} has no {name}, so {name}= cannot be given.")
    anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())
    for name in settings:
        if name not in known and not anything:
            raise AdapterError(f"build: {kind.__name__} has no setting {name!r:.40}.{nearest(name[:40], known)}")
    return {**settings, **arguments}
