"""One short schedule of every kind there is, made from the registries of the core so that none can be forgotten."""

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

from ratewise.core.ease import EASES
from ratewise.core.formula import Formula
from ratewise.core.horizon import fraction
from ratewise.core.recipes import RECIPES
from ratewise.core.schedule import ENDS, Ramp, Schedule, sequence
from ratewise.core.shapes import (
    Constant,
    Cosine,
    Custom,
    Exponential,
    InverseTime,
    Linear,
    Piecewise,
    register,
)
from ratewise.errors import ScheduleError

STEPS = 20
"""How long the examples are that have no length of their own."""

ARGUMENTS: dict[str, Any] = {
    "lr": 0.1,
    "peak": 0.1,
    "low": 0.01,
    "high": 0.1,
    "decay": 0.3,
    "milestones": (3, 7),
    "first": 4,
    "hold": 3,
    "cooldown": 2,
    "knee": 4,
    "warmup": 3,
    "timescale": 5,
    "half_cycle": 3,
}
"""What a recipe is given, by the name of its parameter."""

NUMBERS = {"power": "2.0", "ratio": "0.1", "alpha": "0.5", "low": "-3.0", "high": "2.0"}
"""What an ease is given that cannot do without, by the name of its parameter."""


@register
def hyperbola(t: Any) -> Any:
    """``0.1 / (1 + t / 4)``: the function of the example of ``Custom``."""
    return 0.1 / (1.0 + t / 4.0)


SHAPES: dict[str, Callable[[], Schedule]] = {
    "Ramp": lambda: Ramp(0.1, 0.02, 7),
    "Constant": lambda: Constant(0.1),
    "Exponential": lambda: Exponential(0.1, 0.5, every=3),
    "InverseTime": lambda: InverseTime(0.1, 0.5, power=0.5),
    "Piecewise": lambda: Piecewise([0.1, 0.05, 0.01], [3, 8]),
    "Custom": lambda: Custom(hyperbola),
    "Formula": lambda: Formula("where(t < 5, 0.02 * t, 0.1 * (1 + t / 5)**-0.5)"),
    "Sequence": lambda: Linear(0.0, 0.1, 4) >> Cosine(0.1, 0.02, 7) >> Constant(0.05),
    "Product": lambda: 0.5 * Linear(0.1, 0.02, 6) * Exponential(1.0, 0.9),
    "Sum": lambda: Linear(0.1, 0.0, 6) + Cosine(0.02, 0.0, 9) + 0.01,
    "Clip": lambda: Linear(0.1, 0.0, 8).clip(0.02, 0.08),
    "Stairs": lambda: Linear(0.1, 0.0, 9).stairs(2),
    "Stretch": lambda: Cosine(0.1, 0.0, 5).stretch(2.5),
    "Until": lambda: (0.1 * Cosine(1.0, 0.0, 9)).until(5),
    "After": lambda: Cosine(0.1, 0.0, 9).after(4),
    "Along": lambda: Linear(0.1, 0.0, 48).along(Ramp(0, 16, 4) >> Ramp(0, 32, 4) + 16),
    "Repeat": lambda: Cosine(0.1, 0.01, 3).repeat(3, stretch=1.5, gamma=0.5),
    "Cooldown": lambda: InverseTime(0.1, 1.0, every=4).cooldown(4),
}
"""One of every class of the algebra."""

UNUSUAL: dict[str, Callable[[], Schedule]] = {
    "of one update": lambda: Ramp(0.1, 0.02, 1),
    "with a joint between updates": lambda: Ramp(0.0, 0.1, 3.5) >> Ramp(0.1, 0.0, 4.25),
    "of very small rates": lambda: Cosine(3e-7, 1e-9, 9),
    "of equal ends": lambda: Cosine(0.1, 0.1, 5),
    "that restarts for ever": lambda: Cosine(0.1, 0.02, 4).repeat(),
    "in parts of the run": lambda: Cosine(0.1, 0.02).warmup(fraction(0.25)).cooldown(fraction(0.2)),
    "of many pieces": lambda: sequence(*(Ramp(0.1 / i, 0.05 / i, 1 + i % 2, ends="[]") for i in range(1, 50))),
    "nested": lambda: Constant(0.1, 1).repeat(2) >> Linear(0.1, 0.0, 9).repeat(2).stairs(2) >> Constant(0.01),
    "cyclical, halved each time": lambda: RECIPES["cyclical"](0.01, 0.1, 2, mode="triangular2"),
    "cyclical, shrinking": lambda: RECIPES["cyclical"](0.01, 0.1, 2, mode="exp_range", gamma=0.9),
}
"""What adapters get wrong more easily."""


def examples(steps: int | None = STEPS) -> dict[str, Schedule]:
    """Return a schedule of every kind there is by name: recipes, classes, eases in both directions, unusual ones.

    Their values are rates: finite and at least 0.

    Args:
        steps: Length of the run for those without one of their own, at least 20. None leaves them open.

    Returns:
        A new dictionary; ``"recipe cosine"``, ``"Repeat"``, ``"ease cosine, falling"``, ``"ends (]"``, ...

    Raises:
        ScheduleError: ``steps`` is too short.

    Example:
        >>> examples()["recipe cosine"]
        Cosine(0.1, 0.0, 20)
        >>> len(examples()) > 60
        True
    """
    made = {
        **{f"recipe {name}": _recipe(name) for name in RECIPES},
        **{name: make() for name, make in SHAPES.items()},
        **{f"ease {name}, falling": Ramp(0.1, 0.01, 7, ease=_ease(name)) for name in EASES},
        **{f"ease {name}, rising": Ramp(0.01, 0.1, 7, ease=_ease(name)) for name in EASES},
        **{f"ends {ends}": Ramp(0.1, 0.02, 5, ends=ends) for ends in ENDS},
        **{name: make() for name, make in UNUSUAL.items()},
    }
    return made if steps is None else {name: settled(schedule, steps) for name, schedule in made.items()}


def settled(schedule: Schedule, steps: int) -> Schedule:
    """Return ``schedule`` with every length known: as it is, or else over a run of ``steps``."""
    try:
        schedule(0)
    except ScheduleError:
        return schedule.over(steps)
    return schedule


def _recipe(name: str) -> Schedule:
    parameters = signature(RECIPES[name]).parameters.values()
    missing = [p.name for p in parameters if p.default is Parameter.empty and p.name not in ARGUMENTS]
    if missing:
        raise ScheduleError(f"examples: recipe {name!r} needs {missing[0]!r}; say in ARGUMENTS what it is given.")
    return RECIPES[name](**{p.name: ARGUMENTS[p.name] for p in parameters if p.name in ARGUMENTS})


def _ease(name: str) -> str:
    row = EASES[name]
    if None not in row.defaults:
        return name
    return f"{name}({', '.join(NUMBERS[parameter.name] for parameter in row.parameters)})"
