"""Where each strategy's window of rates starts: from the catalogue, from a bound, or from the finder."""

import math
import time
from collections.abc import Mapping
from typing import Any

from ratewise.core.shapes import Constant, Linear
from ratewise.errors import LabError, UnknownName, nearest
from ratewise.lab.catalogue import CATALOGUE
from ratewise.lab.plan import Plan
from ratewise.lab.runs import engine_of, spec
from ratewise.lab.strategy import Strategy
from ratewise.lab.task import Task
from ratewise.lab.transfer import octaves

CENTRES = ("transfer", "finder", "card")

ANCHORS = {
    "sgd": (0.1, Constant(1.0)), "adagrad": (0.1, Constant(1.0)), "rmsprop": (0.005, Constant(1.0)),
    "adam": (0.01, Constant(1.0)), "adamw": (0.02, Linear(1.0, 0.0)),
}  # fmt: skip
"""For an optimizer: a peak rate that was good on small networks, and under which schedule."""


def centred(
    plan: Plan, task: Task, centre: str, before: Mapping[str, Any] | None, limit: float | None = None
) -> dict[str, Any]:
    """Return the fields of a plan that say where its windows start.

    Args:
        plan: The plan.
        task: Its task.
        centre: One of ``CENTRES``.
        before: The plan that the study had before; what the finder found then is used again.
        limit: Value of ``time.monotonic()`` after which no search is begun.

    Raises:
        UnknownName: There is no such way.
        LabError: The engine has no finder.
    """
    if centre not in CENTRES:
        raise UnknownName(f"unknown centre {centre!r}.{nearest(str(centre), CENTRES)} There are {', '.join(CENTRES)}.")
    if centre == "card":
        return {}
    if centre == "transfer":
        moved = {s.name: rate for s in plan.strategies if (rate := _transferred(plan, s)) is not None}
        return {"centres_given": moved}
    searches = _searches(plan, task, before, math.inf if limit is None else limit)
    given = {}
    for strategy in plan.strategies:
        found = searches[_family(strategy)]
        if found["suggestion"] is not None:
            base = _values(plan, next(s for s in plan.strategies if s.name == found["strategy"]))
            given[strategy.name] = found["suggestion"] * 2.0 ** octaves(_values(plan, strategy), base)
        elif (rate := _transferred(plan, strategy)) is not None:
            given[strategy.name] = rate
    return {"centres_given": given, "facts": {**plan.facts, "finder": searches}}


def _values(plan: Plan, strategy: Strategy) -> list[float]:
    return strategy.lr.over(plan.horizon).values(0, plan.steps)


def _transferred(plan: Plan, strategy: Strategy) -> float | None:
    """The catalogue's rate for the optimizer, moved to the schedule; None if the strategy is not of the catalogue."""
    known = CATALOGUE.get(strategy.name)
    if known is None or strategy.optimizer not in ANCHORS or known.lr != strategy.lr:
        return None
    rate, schedule = ANCHORS[strategy.optimizer]
    base = schedule.over(plan.horizon).values(0, plan.steps)
    return rate * 2.0 ** octaves(_values(plan, strategy), base)


def _family(strategy: Strategy) -> str:
    """What a suggestion of the finder holds for: an optimizer and its settings, whatever the schedule of the rate."""
    return spec(strategy).partition("(")[0] + repr(sorted(strategy.settings_given().items(), key=str))


def _searches(plan: Plan, task: Task, before: Mapping[str, Any] | None, limit: float) -> dict[str, dict[str, Any]]:
    """For each optimizer with its settings, what the finder says of the first strategy that uses it."""
    searches: dict[str, dict[str, Any]] = {}
    if before and all(before.get(name) == getattr(plan, name) for name in ("fingerprint", "steps", "engine")):
        searches.update(before["facts"].get("finder", {}))
    names = {strategy.name for strategy in plan.strategies}
    engine = engine_of(task, "one-by-one" if plan.engine == "population" else plan.engine)
    if not hasattr(engine, "find"):
        raise LabError(f"compare: engine {plan.engine!r} has no finder. Use centre='transfer'.")
    for strategy in plan.strategies:
        family = _family(strategy)
        if family in searches and searches[family]["strategy"] in names:
            continue
        if time.monotonic() >= limit:
            raise LabError(
                "compare: the time was over while the finder searched. Allow more, or use centre='transfer'."
            )
        found = engine.find(strategy.over(plan.horizon), plan.horizon, task.batch_size)
        searches[family] = {
            "strategy": strategy.name, "suggestion": found.suggestion, "ceiling": found.ceiling,
            "reason": found.reason, "updates": found.cost["updates"],
        }  # fmt: skip
    return {family: searches[family] for family in map(_family, plan.strategies)}
