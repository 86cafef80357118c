"""Ratewise for JAX and optax.

    schedule         a learning rate: hand it to any optax optimizer
    build            an optimizer by torch's name for it, following its schedules
    inject           any optimizer of optax whose hyperparameters are schedules, with the rates in its state
    rate, rates      the rate that the last update used, read from a state however it is nested
    position         how many updates happened
    scaled           a state whose rates are multiplied: a sweep over peak rates compiles once
    find_lr          a learning rate by short runs of every candidate at once, or the reason why there is none
    ceiling          the largest rate that the curvature of the loss allows
    scale_by_rule    a rule such as ``Plateau`` as a transformation of its own

Everything is a pure function of the optimizer's state. So what is right in one loop is right under ``jit``, ``scan``
and ``vmap``, and a state that is saved and restored goes on where it stood.
"""

from ratewise.errors import MissingDependency

try:
    import jax  # noqa: F401  # asked for first, so that the message names what is missing
    import optax  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ("jax", "jaxlib", "optax"):
        raise
    raise MissingDependency("optax" if error.name == "optax" else "JAX", "jax", "optax adapter") from error

from ratewise.optax.ceiling import ceiling as ceiling
from ratewise.optax.find import find_lr as find_lr
from ratewise.optax.injected import Injected as Injected, inject as inject
from ratewise.optax.named import OPTIMIZERS as OPTIMIZERS, build as build
from ratewise.optax.rules import ScaleByRuleState as ScaleByRuleState, scale_by_rule as scale_by_rule
from ratewise.optax.states import (
    InjectState as InjectState,
    RuleState as RuleState,
    position as position,
    rate as rate,
    rates as rates,
    scaled as scaled,
)
from ratewise.optax.traced import schedule as schedule

__all__ = [
    "OPTIMIZERS",
    "InjectState",
    "Injected",
    "RuleState",
    "ScaleByRuleState",
    "build",
    "ceiling",
    "find_lr",
    "inject",
    "position",
    "rate",
    "rates",
    "scale_by_rule",
    "scaled",
    "schedule",
]
