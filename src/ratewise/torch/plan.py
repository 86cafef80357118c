"""What a Scheduler is told to do, as a value: which schedule drives what, group by group.

Nothing here touches an optimizer. A ``Plan`` is compared, hashed and written to checkpoints; the Scheduler
applies it.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ratewise.core.horizon import Horizon
from ratewise.core.parse import from_dict
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Constant
from ratewise.errors import AdapterError, ScheduleError, nearest

ALL = "*"
"""Stands for every group in a plan that does not tell groups apart."""

ORDER = ("lr", "factor", "momentum", "beta2", "weight_decay", "eps")
"""The hyperparameters that can be driven; ``lr`` and ``factor`` exclude each other."""

Spec = dict[str, dict[str, Schedule]]
"""Hyperparameter to group name (or ``ALL``) to schedule."""


@dataclass(frozen=True)
class Plan:
    """Schedules by hyperparameter and group, and what multiplies the rate of each group.

    Args:
        spec: The schedules. ``"lr"`` is an absolute rate, ``"factor"`` multiplies the base rates.
        base: Base rate of each group, by name, in group order.
        scale: ``lr_scale`` of each group, by name.
    """

    spec: Spec
    base: dict[str, float]
    scale: dict[str, float]

    @property
    def rates(self) -> dict[str, Schedule]:
        """The schedules of the learning rate."""
        return self.spec["factor" if "factor" in self.spec else "lr"]

    def schedule(self, name: str, group: str) -> Schedule:
        """The schedule that drives the hyperparameter ``name`` in ``group``."""
        by_group = self.spec[name]
        return by_group.get(group) or by_group[ALL]

    def multiplier(self, name: str, group: str) -> float:
        """What the schedule's value is multiplied by: nothing but learning rates are."""
        if name not in ("lr", "factor"):
            return 1.0
        return self.scale[group] * (self.base[group] if name == "factor" else 1.0)

    def value(self, name: str, group: str, t: int) -> float:
        """The value of ``name`` in ``group`` at update ``t``."""
        return self.schedule(name, group)(t) * self.multiplier(name, group)  # type: ignore[no-any-return]

    def end(self) -> float:
        """How many updates the schedules of the rate have; infinity if one is endless."""
        steps = [schedule.steps for schedule in self.rates.values()]
        return math.inf if any(n is None for n in steps) else max(steps)

    def joined(self, group: str, base: float, scale: float) -> "Plan":
        """The plan with one group more."""
        return replace(self, base={**self.base, group: base}, scale={**self.scale, group: scale})

    def with_rates(self, rates: dict[str, Schedule]) -> "Plan":
        """The plan with other schedules of the learning rate."""
        return replace(self, spec={**self.spec, "factor" if "factor" in self.spec else "lr": rates})

    def encoded(self) -> dict[str, Any]:
        """The plan as plain JSON values; ``decoded`` is its inverse."""
        spec = {name: {g: s.to_dict() for g, s in by_group.items()} for name, by_group in self.spec.items()}
        return {"spec": spec, "base": dict(self.base), "lr_scale": dict(self.scale)}

    def digest(self) -> str:
        """The sha256 of everything that decides the rates; base rates do so only under ``factor=``."""
        decisive = self.encoded()
        if "factor" not in self.spec:
            del decisive["base"]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def decoded(state: Mapping[str, Any], like: Plan) -> Plan:
    """Return the plan that ``Plan.encoded`` described, its groups in the order of ``like``."""
    spec = {name: {g: from_dict(s) for g, s in by_group.items()} for name, by_group in state["spec"].items()}
    return Plan(spec, *({group: float(state[key][group]) for group in like.base} for key in ("base", "lr_scale")))


def read(given: Mapping[str, Any], horizon: Horizon | None) -> Spec:
    """Return the schedules among the constructor's arguments, settled for the run.

    Raises:
        AdapterError: Nothing is driven, ``lr`` and ``factor`` are both given, or a value is no schedule.
        ScheduleError: A schedule needs the length of the run.
    """
    spec = {name: by_group(name, value, horizon) for name, value in given.items() if value is not None}
    if not spec:
        raise AdapterError(
            "Scheduler: needs lr= (an absolute rate) or factor= (over each group's base rate), got none."
        )
    if "lr" in spec and "factor" in spec:
        raise AdapterError(
            "Scheduler: lr= is an absolute rate and factor= multiplies each group's base rate, got both. Give one."
        )
    return spec if "lr" in spec or "factor" in spec else {"factor": {ALL: Constant(1.0)}, **spec}


def by_group(name: str, value: Any, horizon: Horizon | None) -> dict[str, Schedule]:
    """One schedule, or one for each group, as a dictionary by group name."""
    if not isinstance(value, Mapping):
        return {ALL: _settled(name, value, horizon)}
    if not value:
        raise AdapterError(f"Scheduler: {name}= is an empty dictionary; it needs a schedule for every group name.")
    return {str(group): _settled(f"{name}[{group!r}]", item, horizon) for group, item in value.items()}


def _settled(name: str, value: Any, horizon: Horizon | None) -> Schedule:
    """``value`` as a schedule whose length is known."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Constant(value)
    if isinstance(value, Ruled):
        raise AdapterError(
            f"Scheduler: {name} is multiplied by a rule, {value.rules[0]!r:.60}, and no metric comes here. Give its "
            "schedule, lr.schedule, keep state = lr.observe(state, metric, scheduler.position), and when "
            "lr.factor(state) changes call scheduler.scaled_from(new / old)."
        )
    if not isinstance(value, Schedule):
        raise AdapterError(
            f"Scheduler: {name} must be a Schedule, a number, or a dictionary of them by group name, got {value!r:.80}."
        )
    if horizon is not None:
        return _checked(name, value.over(horizon))
    try:
        value.values(0, 0)
    except ScheduleError as error:
        raise ScheduleError(f"Scheduler: {name}: {error} Or give the Scheduler horizon=1000.") from None
    return _checked(name, value)


def _checked(name: str, schedule: Schedule) -> Schedule:
    """The schedule, if its values are at least 0; all of a short one are looked at, a longer one is sampled.

    A function of the user's own is not called before its time.
    """
    last = math.ceil(schedule.steps) if schedule.steps is not None else 0
    updates = [] if "Custom(" in repr(schedule) else range(0, last + 1, max(1, last // 2000))
    for t in updates:
        if (value := schedule(t)) < 0:
            raise AdapterError(
                f"Scheduler: {name} must be at least 0 and finite, but {schedule!r:.60} gives {value!r} at update {t}. "
                "Cut it off with .clip(0.0)."
            )
    return schedule


def check_groups(spec: Spec, names: list[str]) -> None:
    """Check that every dictionary by group name names every group and nothing else."""
    for name, schedules in spec.items():
        if ALL in schedules:
            continue
        missing = [group for group in names if group not in schedules]
        unknown = [group for group in schedules if group not in names]
        if unknown:
            raise AdapterError(
                f"torch adapter: {name}= names an unknown group {unknown[0]!r}.{nearest(unknown[0], names)}"
            )
        if missing:
            raise AdapterError(
                f"torch adapter: the optimizer has {len(names)} parameter groups but {name}= has schedules for "
                f"{len(schedules)} ({', '.join(map(repr, schedules))}). Missing: {', '.join(map(repr, missing))}."
            )


def difference(state: Mapping[str, Any], new: Plan, t: int) -> str:
    """The saved plan and the new one at update ``t``, in words: at most three lines of what differs."""
    try:
        old = decoded(state, new)
    except ScheduleError as error:
        return f"The saved one cannot be read here ({error})"
    lines = []
    for name in sorted({*old.spec, *new.spec}, key=ORDER.index):
        for group in new.base:
            was, now = (_shown(plan, name, group, t) for plan in (old, new))
            if was != now:
                lines.append(f"group {group!r}, {name}: saved {was}, here {now}{_ratio(old, new, name, group, t)}")
    more = [f"and {len(lines) - 3} more"] if len(lines) > 3 else []
    return "; ".join(lines[:3] + more) or "They agree at this update and differ later"


def _shown(plan: Plan, name: str, group: str, t: int) -> str:
    if name not in plan.spec:
        return "not driven"
    steps = plan.schedule(name, group).steps
    end = "endless" if steps is None else f"{steps} updates"
    return f"{plan.value(name, group, t):.6e} ({end}, {_base(plan, name, group)}{plan.schedule(name, group)!r:.60})"


def _base(plan: Plan, name: str, group: str) -> str:
    return f"base {plan.base[group]:g}, " if name == "factor" else ""


def _ratio(old: Plan, new: Plan, name: str, group: str, t: int) -> str:
    if name not in old.spec or name not in new.spec or not old.value(name, group, t):
        return ""
    return f", ratio {new.value(name, group, t) / old.value(name, group, t):.5g}"
