"""What a Scheduler is told to do, as a value: which schedule drives what, group by group.

Nothing here touches an optimizer. A ``Plan`` is compared, hashed and written to checkpoints; the Scheduler
applies it.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ratewise.core import checks
from ratewise.core.horizon import Horizon
from ratewise.core.ruled import Rule, Ruled, rules_of, unruled
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Constant
from ratewise.errors import AdapterError, ScheduleError, nearest

ALL = "*"
"""Stands for every group in a plan that does not tell groups apart."""

ORDER = ("lr", "factor", "momentum", "beta2", "weight_decay", "eps")
"""The hyperparameters that can be driven; ``lr`` and ``factor`` exclude each other."""

Followed = Schedule | Ruled
"""What a rate follows; other hyperparameters follow plain schedules."""

Spec = dict[str, dict[str, Followed]]
"""Hyperparameter to group name (or ``ALL``) to what it follows."""


@dataclass(frozen=True)
class Plan:
    """Schedules by hyperparameter and group, what multiplies the rate of each group, and what rules have made of it.

    Args:
        spec: The schedules. ``"lr"`` is an absolute rate, ``"factor"`` multiplies the base rates.
        base: Base rate of each group, by name, in group order.
        scale: ``lr_scale`` of each group, by name.
        rules: State of the rules, by the same names as the rates in ``spec``; those that are missing are fresh.
    """

    spec: Spec
    base: dict[str, float]
    scale: dict[str, float]
    rules: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fresh = {key: rate.init() for key, rate in self.rates.items() if isinstance(rate, Ruled)}
        self.__dict__["rules"] = {key: self.rules.get(key, state) for key, state in fresh.items()}

    @property
    def kind(self) -> str:
        """How the rate is given: ``"lr"`` or ``"factor"``."""
        return "factor" if "factor" in self.spec else "lr"

    @property
    def rates(self) -> dict[str, Followed]:
        """What the learning rate follows."""
        return self.spec[self.kind]

    def followed(self, name: str, group: str) -> Followed:
        """What the hyperparameter ``name`` follows in ``group``."""
        by_group = self.spec[name]
        return by_group.get(group) or by_group[ALL]

    def schedule(self, name: str, group: str) -> Schedule:
        """The schedule of ``name`` in ``group``, without its rules."""
        return unruled(self.followed(name, group))

    def factor(self, name: str, group: str) -> float:
        """What rules have made of ``name`` in ``group`` so far."""
        key = group if group in self.spec[name] else ALL
        followed = self.spec[name][key]
        return float(followed.factor(self.rules[key])) if isinstance(followed, Ruled) else 1.0

    def multiplier(self, name: str, group: str) -> float:
        """What the value of ``name`` is multiplied by in ``group``: nothing but learning rates are."""
        if name not in ("lr", "factor"):
            return 1.0
        return self.scale[group] * (self.base[group] if name == "factor" else 1.0)

    def end(self) -> float:
        """How many updates the schedules of the rate have; infinity if one is endless."""
        steps = [rate.steps for rate in self.rates.values()]
        return math.inf if any(n is None for n in steps) else max(steps)

    def joined(self, group: str, base: float, scale: float) -> "Plan":
        """The plan with one group more."""
        return replace(self, base={**self.base, group: base}, scale={**self.scale, group: scale})

    def with_rates(self, rates: dict[str, Followed]) -> "Plan":
        """The plan with another learning rate; rules that stay keep their state."""
        was, key = self.rates, self.kind
        kept = {g: self.rules[g] for g, rate in rates.items() if g in self.rules and rules_of(rate) == rules_of(was[g])}
        return replace(self, spec={**self.spec, key: rates}, rules=kept)

    def observed(self, metric: Any, t: int) -> "Plan":
        """The plan after a metric that was measured when ``t`` updates had happened."""
        rates = self.rates
        return replace(self, rules={key: rates[key].observe(s, metric, t) for key, s in self.rules.items()})  # type: ignore[union-attr]

    def encoded(self) -> dict[str, Any]:
        """The plan as plain JSON values; ``Saved.plan`` is its inverse."""
        spec = {name: {g: s.to_dict() for g, s in by_group.items()} for name, by_group in self.spec.items()}
        states = {key: [list(state) for state in states] for key, states in self.rules.items()}
        return {"spec": spec, "base": dict(self.base), "lr_scale": dict(self.scale), "rules": states}

    def digest(self) -> str:
        """The sha256 of everything that decides the rates; base rates do so only under ``factor=``."""
        decisive = self.encoded()
        del decisive["rules"]
        if "factor" not in self.spec:
            del decisive["base"]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


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


def by_group(name: str, value: Any, horizon: Horizon | None) -> dict[str, Followed]:
    """One schedule, or one for each group, as a dictionary by group name."""
    if not isinstance(value, Mapping):
        return {ALL: _settled(name, value, horizon)}
    if not value:
        raise AdapterError(f"Scheduler: {name}= is an empty dictionary; it needs a schedule for every group name.")
    if len({str(group) for group in value}) < len(value):
        raise AdapterError(f"Scheduler: {name}= names a group twice, got {list(value)!r:.80}.")
    return {str(group): _settled(f"{name}[{group!r}]", item, horizon) for group, item in value.items()}


def _settled(name: str, value: Any, horizon: Horizon | None) -> Followed:
    """``value`` as a schedule whose length is known, with its rules if it is a rate."""
    value = plain(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Constant(value)
    if isinstance(value, Ruled) and name.partition("[")[0] not in ("lr", "factor"):
        raise AdapterError(f"Scheduler: rules act on the rate alone, {name} takes a plain schedule, got {value!r:.80}.")
    if isinstance(value, Rule):
        raise AdapterError(f"Scheduler: {name} must be a schedule times a rule, for example 0.1 * {value!r:.60}.")
    if not isinstance(value, (Schedule, Ruled)):
        called = f" Call it: {value.__name__}(...)." if callable(value) and hasattr(value, "__name__") else ""
        raise AdapterError(
            f"Scheduler: {name} must be a Schedule, a number, or a dictionary of them by group name, got "
            f"{value!r:.80}.{called}"
        )
    if horizon is not None:
        value = value.over(horizon)
    try:
        unruled(value).values(0, 0)
        if isinstance(value, Ruled):
            value.observe(value.init(), 0.0, 0)
    except ScheduleError as error:
        raise ScheduleError(f"Scheduler: {name}: {error} Or give the Scheduler horizon=1000.") from None
    followed: Followed = value
    check_values(name, unruled(followed))
    return followed


def plain(value: Any) -> Any:
    """A number of numpy or torch, 0-dimensional arrays too, as a Python number; anything else as it is."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    return checks.plain_number(value)


def check_values(name: str, schedule: Schedule) -> None:
    """Check that values are at least 0; all of a short schedule are looked at, a longer one is sampled.

    A function of the user's own is not called before its time.
    """
    schedule.values(0, 0)  # raises if its length is not known
    last = math.ceil(schedule.steps) if schedule.steps is not None else 0
    updates = [] if "Custom(" in repr(schedule) else range(0, last + 1, max(1, last // 2000))
    for t in updates:
        if (value := schedule(t)) < 0:
            raise AdapterError(
                f"Scheduler: {name} must be at least 0 and finite, but {schedule!r:.60} gives {value!r} at update {t}. "
                "Cut it off with .clip(0.0)."
            )


def check_groups(spec: Spec, names: list[str]) -> None:
    """Check that every dictionary by group name names every group and nothing else."""
    for name, schedules in spec.items():
        missing = [] if ALL in schedules else [group for group in names if group not in schedules]
        unknown = [group for group in schedules if group not in (ALL, *names)]
        if unknown:
            raise AdapterError(
                f"torch adapter: {name}= names an unknown group {unknown[0]!r}.{nearest(unknown[0], names)}"
            )
        if missing:
            raise AdapterError(
                f"torch adapter: the optimizer has {len(names)} parameter groups but {name}= has schedules for "
                f"{len(schedules)} ({', '.join(map(repr, schedules))}). Missing: {', '.join(map(repr, missing))}."
            )
