"""Going on from a saved state: reading it, comparing its plan with the one given now, and joining the two.

A state is refused before anything is changed. It may come from a file that was cut off, from another library, or from
a later version of this one.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ratewise.core import checks
from ratewise.core.change import extend, side_by_side
from ratewise.core.parse import from_dict
from ratewise.core.ruled import ruled_like, rules_of, unruled
from ratewise.core.schedule import Schedule
from ratewise.errors import AdapterError, ScheduleError
from ratewise.torch.plan import ALL, ORDER, Followed, Plan

FORMAT = 2
"""Version of ``state_dict``. Format 1 had no rules, and its parts were no texts."""

_KEYS = ("position", "spec", "base", "lr_scale", "hash", "planned", "rules", "history", "skipped", "last_lr", "next_lr",
         "originals", "scale")  # fmt: skip
_PARTS = ("spec", "base", "lr_scale", "rules", "history", "originals", "last_lr", "next_lr")
"""What is JSON text."""


@dataclass(frozen=True)
class Saved:
    """What a state says, checked; its schedules are read only when they are asked for.

    Args:
        position: Updates that had happened.
        spec: The schedules as JSON values, by hyperparameter and group.
        base: Base rates by group.
        lr_scale: The groups' ``lr_scale``.
        hash: Digest of the plan that was followed.
        planned: Digest of the plan that the constructor was given.
        rules: States of the rules.
        history: Changes of plan.
        skipped: Skipped updates, None where they cannot be seen.
        last_lr: Rates used by the last update, by group, None before the first.
        next_lr: Rates of the coming update, by group.
        scale: The ``GradScaler``'s scale, None where none was given.
        originals: What other hyperparameters held before they were driven, by name and group.
    """

    position: int
    spec: Mapping[str, Mapping[str, Any]]
    base: dict[str, float]
    lr_scale: dict[str, float]
    hash: str
    planned: str
    rules: dict[str, Any]
    history: list[dict[str, Any]]
    skipped: int | None
    last_lr: dict[str, float] | None
    next_lr: dict[str, float]
    scale: float | None
    originals: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, state: Any) -> "Saved":
        """Read what ``Scheduler.state_dict`` returned.

        Raises:
            AdapterError: It is something else, incomplete, damaged, or from a later version.
        """
        version = state.get("format") if isinstance(state, Mapping) else None
        known = version if type(version) is int else 0
        if known > FORMAT and "position" in state:
            raise AdapterError(
                f"load_state_dict: the state was saved by a newer Ratewise, in format {checks.shown(known)}; this one "
                f"reads up to format {FORMAT}. Update ratewise."
            )
        if known == 1:
            state = {"rules": {}, "originals": {}, "scale": None, **state}
        elif known != FORMAT:
            given = list(state)[:4] if isinstance(state, Mapping) else type(state).__name__
            raise AdapterError(
                f"load_state_dict: needs a state_dict() of ratewise.torch.Scheduler, got {checks.shown(given, 60)}. "
                "The state of another scheduler or of an optimizer cannot be taken over."
            )
        state = {key: _parsed(key, value) if key in _PARTS else value for key, value in state.items()}
        missing = [key for key in _KEYS if key not in state]
        if missing:
            raise _damaged(missing[0], "it is missing")
        rates = [
            key for key in ("base", "lr_scale", "last_lr", "next_lr") if key != "last_lr" or state[key] is not None
        ]
        names = list(state["base"]) if isinstance(state["base"], Mapping) else []
        for key in rates:
            if not _numbers_by(names, state[key]):
                raise _damaged(key, f"it must hold one number for each group, got {checks.shown(state[key], 60)}")
        for key, (good, wanted) in _REQUIRED.items():
            if not good(state[key]):
                raise _damaged(key, f"{key} must be {wanted}, got {checks.shown(state[key], 60)}")
        return cls(**{key: state[key] for key in _KEYS})

    def plan(self, like: Plan) -> Plan:
        """Return the plan that was followed, its groups in the order of ``like``.

        Raises:
            ScheduleError: A schedule cannot be read here, for example a function that is not registered.
            AdapterError: The states of its rules are not theirs.
        """
        spec = {name: {g: from_dict(s) for g, s in by_group.items()} for name, by_group in self.spec.items()}
        if not spec.keys() & {"lr", "factor"} or any(
            ALL not in s and like.base.keys() - s.keys() for s in spec.values()
        ):
            raise _damaged("spec", f"it must have a rate for every group, got {checks.shown(self.spec, 60)}")
        parts = ({group: float(part[group]) for group in like.base} for part in (self.base, self.lr_scale))
        plan = Plan(spec, *parts)
        if plan.digest() != self.hash:
            raise _damaged("hash", "its schedules are not those that were saved with it")
        return self.ruled(plan)

    def ruled(self, plan: Plan) -> Plan:
        """Return ``plan`` with the saved states of its rules."""
        for key, fresh in plan.rules.items():
            states = self.rules.get(key, fresh)
            if [len(state) for state in states] != [len(state) for state in fresh]:
                raise _damaged(
                    "rules", f"the state of {plan.rates[key]!r:.60} must have other lengths, got {states!r:.60}"
                )
        return Plan(plan.spec, plan.base, plan.scale, {key: self.rules[key] for key in plan.rules if key in self.rules})


def _parsed(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise _damaged(key, f"it is no JSON text, got {checks.shown(value, 60)}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _numbers_by(names: list[str], value: Any) -> bool:
    if not isinstance(value, Mapping) or not names or sorted(map(str, value)) != sorted(map(str, names)):
        return False
    return all(isinstance(name, str) and _is_number(number) and number >= 0 for name, number in value.items())


def _is_spec(value: Any) -> bool:
    named = isinstance(value, Mapping) and bool(value) and set(value) <= set(ORDER)
    return named and all(
        isinstance(part, Mapping) and part and all(isinstance(g, str) for g in part) for part in value.values()
    )


def _is_originals(value: Any) -> bool:
    if not isinstance(value, Mapping) or not set(value) <= set(ORDER[2:]):
        return False
    return all(isinstance(part, Mapping) and all(map(_is_number, part.values())) for part in value.values())


def _is_change(entry: Any) -> bool:
    if not isinstance(entry, Mapping) or not {"at", "what", "old", "new"} <= set(entry):
        return False
    rates = isinstance(entry["old"], Mapping) and isinstance(entry["new"], Mapping)
    return rates and type(entry["at"]) is int and isinstance(entry["what"], str)


def _is_rules(value: Any) -> bool:
    lists = isinstance(value, Mapping) and all(isinstance(states, (list, tuple)) for states in value.values())
    return lists and all(
        isinstance(state, (list, tuple)) and {type(x) for x in state} <= {int, float}  # also an infinite best metric
        for states in value.values()
        for state in states
    )


_REQUIRED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "position": (lambda x: type(x) is int and x >= 0, "an integer of at least 0"),
    "skipped": (lambda x: x is None or (type(x) is int and x >= 0), "None or an integer of at least 0"),
    "scale": (lambda x: x is None or (_is_number(x) and x >= 0), "None or a number of at least 0"),
    "originals": (_is_originals, "numbers by hyperparameter and group"),
    "hash": (lambda x: isinstance(x, str), "a text"),
    "planned": (lambda x: isinstance(x, str), "a text"),
    "history": (lambda x: isinstance(x, list) and all(map(_is_change, x)), "a list of changes"),
    "spec": (_is_spec, "schedules by hyperparameter and group"),
    "rules": (_is_rules, "lists of numbers by group"),
}


def _damaged(key: str, what: str) -> AdapterError:
    return AdapterError(f"load_state_dict: the state is damaged at {key!r}: {what}. Load an earlier checkpoint.")


# -- two plans -----------------------------------------------------------------------------------------------


def continued(old: Plan, new: Plan, t: int, policy: str) -> Plan:
    """Return what follows when ``old`` ran up to update ``t`` and ``new`` is wanted, as ``ratewise.extend`` has it.

    Every hyperparameter that both drive is joined by the same policy. Rules that both plans have keep their state; a
    rule that is left behind leaves what it had made of the rate.

    Raises:
        AdapterError: One plan has ``lr=`` and the other ``factor=``, and the policy needs both.
        ScheduleError: The policy cannot be applied here, see ``ratewise.extend``.
    """
    keeps = policy == "keep"
    if old.kind != new.kind:
        if policy in ("keep", "switch"):
            return old if keeps else new
        raise AdapterError(
            f"Scheduler: {policy!r} cannot join {old.kind}= with {new.kind}=. Give {old.kind}= again, or use 'keep' or "
            "'switch'."
        )
    plan = old if keeps else new
    spec, states = {}, {}
    for name, by_group in plan.spec.items():
        if name not in old.spec or name not in new.spec:
            spec[name] = by_group
            continue
        uniform = ALL in old.spec[name] and ALL in new.spec[name] and len(set(_units(old, new, name))) == 1
        spec[name] = {}
        for key in [ALL] if uniform else plan.base:
            group = next(iter(plan.base)) if uniform else key
            spec[name][key], state = _joined(old, new, name, group, t, policy)
            if state is not None:
                states[key] = state
    return Plan(spec, plan.base, plan.scale, states)


def _units(old: Plan, new: Plan, name: str) -> list[float | None]:
    """How many units of the new plan one of the old is, group by group; None where the new one is 0."""
    pairs = [(old.multiplier(name, group), new.multiplier(name, group)) for group in new.base]
    return [1.0 if a == b else a / b if b else None for a, b in pairs]


def _joined(old: Plan, new: Plan, name: str, group: str, t: int, policy: str) -> tuple[Followed, Any]:
    """What ``name`` follows in ``group`` from now on, and the state of its rules if they go on."""
    was, wanted = old.followed(name, group), new.followed(name, group)
    before, after = unruled(was), unruled(wanted)
    state = old.rules.get(group, old.rules.get(ALL)) if rules_of(was) else None
    if policy == "keep":
        ended = after.steps is not None and t >= after.steps
        return ruled_like(
            before if ended or before.steps == after.steps else extend(before, after, t, policy), was
        ), state
    stays = rules_of(was) == rules_of(wanted)
    unit = _units(old, new, name)[list(new.base).index(group)]
    if policy == "switch":
        ended = after.steps is not None and t >= after.steps
        past = before if unit is None else _times(before, unit)
        return ruled_like(
            after if ended or past == after else extend(before, after, t, policy), wanted
        ), state if stays else None
    if unit is None:
        raise AdapterError(f"Scheduler: {policy!r} needs a base rate and lr_scale above 0 in group {group!r}.")
    past = _times(before, unit if stays else unit * old.factor(name, group))
    return ruled_like(after if past == after else extend(past, after, t, policy), wanted), state if stays else None


def _times(schedule: Schedule, factor: float) -> Schedule:
    return schedule if factor == 1.0 else factor * schedule


def difference(saved: Saved, new: Plan, t: int) -> str:
    """The saved plan and the new one from update ``t`` on: the first hyperparameter that differs as a table."""
    try:
        old = saved.plan(new)
    except ScheduleError as error:
        return f"The saved one cannot be read here ({error})"
    differing = []
    for name in sorted({*old.spec, *new.spec}, key=ORDER.index):
        for group in new.base:
            was, now = (_shown(plan, name, group) for plan in (old, new))
            if was != now:
                differing.append((name, group, was, now))
    if not differing:
        return "Their rules or lr_scales differ"
    name, group, was, now = differing[0]
    text = f"group {group!r}, {name}: saved {was}, here {now}."
    if name in old.spec and name in new.spec:
        text += f"\n{side_by_side(_curve(old, name, group), _curve(new, name, group), t, ('saved', 'here'))}"
    others = sorted({f"{other} of group {g!r}" for other, g, *_ in differing[1:]})
    more = f"\nAlso different: {', '.join(others[:4])}{', ...' if len(others) > 4 else ''}." if others else ""
    return text + more


def _curve(plan: Plan, name: str, group: str) -> Schedule:
    return _times(plan.schedule(name, group), plan.multiplier(name, group) * plan.factor(name, group))


def _shown(plan: Plan, name: str, group: str) -> str:
    if name not in plan.spec:
        return "not driven"
    steps = plan.schedule(name, group).steps
    end = "endless" if steps is None else f"{steps} updates"
    base = f"base {plan.base[group]!r}, " if name == "factor" else ""
    scale = f"lr_scale {plan.scale[group]!r}, " if name in ("lr", "factor") and plan.scale[group] != 1.0 else ""
    return f"{plan.followed(name, group)!r:.60} ({base}{scale}{end})"
