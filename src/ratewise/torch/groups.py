"""Parameter groups: their names, their base rates, and writing hyperparameters into them.

A ``Knob`` is one hyperparameter of every group. It remembers the objects it wrote, so that asking whether they
are still there costs one identity test per group and, for rates held as tensors, no synchronisation.
"""

import math
from collections.abc import Mapping, Sequence
from operator import is_, itemgetter
from typing import Any

import torch

from ratewise.core import checks
from ratewise.core.schedule import Schedule
from ratewise.errors import AdapterError
from ratewise.torch.plan import ALL, Plan, Spec

BASE = "ratewise_base"
"""Key of a group's base rate; it travels in the optimizer's checkpoint."""

BLOCK = 256
"""How many updates are computed at once."""

Group = dict[str, Any]

_WRAPPERS = ("AcceleratedOptimizer", "LightningOptimizer")  # they step the optimizer that they hold

_LIMITS = {"momentum": (1.0, "at least 0 and below 1"), "beta2": (1.0, "at least 0 and below 1")}


def unwrapped(optimizer: Any) -> Any:
    """Return the optimizer inside Accelerate's and Lightning's; matched by name, as neither may be imported here."""
    while any(kind.__name__ in _WRAPPERS for kind in type(optimizer).__mro__):
        optimizer = optimizer.optimizer
    return optimizer


def names(groups: Sequence[Group]) -> list[str]:
    """Return the groups' names; a group without one is called by its index."""
    found = [str(i if group.get("name") is None else group["name"]) for i, group in enumerate(groups)]
    for name in found:
        if found.count(name) > 1:
            raise AdapterError(f"torch adapter: group names must differ, got {name!r} twice. Give each its own 'name'.")
    return found


def base_rate(group: Group, name: str) -> float:
    """Return what ``factor=`` multiplies: the rate that the group had before any schedule.

    Raises:
        AdapterError: The group has no rate, or a torch scheduler has already moved it.
    """
    if BASE in group:
        return float(group[BASE])
    if "lr" not in group:
        raise AdapterError(f"torch adapter: group {name!r} has no 'lr', so no schedule can drive its rate.")
    if isinstance(group["lr"], torch.Tensor):
        _check_tensor("lr", group["lr"])
    rate = as_given(group["lr"])
    if not 0.0 <= rate < math.inf:
        raise AdapterError(f"torch adapter: the rate of group {name!r} must be at least 0 and finite, got {rate!r}.")
    initial = as_given(group.get("initial_lr", rate))
    if not math.isclose(initial, rate, rel_tol=1e-12):
        raise AdapterError(
            f"torch adapter: group {name!r} holds lr={rate!r} but initial_lr={initial!r}, so another scheduler has "
            "moved it and its base rate is not clear. Set group['lr'] to the base rate and delete group['initial_lr']."
        )
    return rate


def scale(group: Group, name: str) -> float:
    """Return the group's ``lr_scale``, 1 by default."""
    value = checks.plain_number(group.get("lr_scale", 1.0))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < math.inf:
        raise AdapterError(f"torch adapter: lr_scale of group {name!r} must be at least 0 and finite, got {value!r}.")
    return float(value)


def planned(spec: Spec, groups: Sequence[Group]) -> Plan:
    """Return the plan for these groups.

    Raises:
        AdapterError: One absolute ``lr=`` is to serve groups whose base rates differ, or one schedule of another
            hyperparameter groups that hold different values of it.
    """
    base = {name: base_rate(group, name) for name, group in zip(names(groups), groups, strict=True)}
    if ALL in spec.get("lr", {}) and len(set(base.values())) > 1:
        raise _not_one_rate(base)
    for key, schedules in spec.items():
        if key not in ("lr", "factor") and ALL in schedules:
            _check_same(key, base, groups)
    return Plan(spec, base, {name: scale(group, name) for name, group in zip(base, groups, strict=True)})


def _check_same(name: str, base: Mapping[str, float], groups: Sequence[Group]) -> None:
    key, index = _place(name, groups)
    held = [float(_get(group, key, index)) for group in groups]
    if len(set(held)) > 1:
        shown = ", ".join(f"{group!r}: {value:g}" for group, value in list(zip(base, held, strict=True))[:8])
        raise AdapterError(
            f"torch adapter: {name}= would give every group the same value, but they hold different ones ({shown}). "
            f"Use {name}={{group name: schedule}}; a number keeps a group as it is."
        )


def give_back(name: str, groups: Mapping[str, Group], values: Mapping[str, float]) -> None:
    """Write ``values`` by group name, where the groups have such a hyperparameter."""
    key, index = _place(name, list(groups.values()))
    for group in groups.keys() & values.keys():
        _set(groups[group], key, index, values[group])


def adopted(plan: Plan, added: Mapping[str, Group], optimizer: Any, rates: Sequence[float]) -> Plan:
    """Return the plan with the groups ``added`` to the optimizer, whose other groups hold ``rates``."""
    for name, group in added.items():
        base = base_rate(group, name)
        default = getattr(optimizer, "defaults", {}).get("lr")
        usual = {
            *plan.base.values(),
            *rates,
            float(default) if isinstance(default, (float, int, torch.Tensor)) else 0.0,
        }
        if ALL in plan.spec.get("lr", {}) and base not in usual:
            raise _not_one_rate({**plan.base, name: base})
        for key, schedules in plan.spec.items():
            if ALL not in schedules and name not in schedules:
                raise AdapterError(
                    f"torch adapter: group {name!r} was added, but {key}= has schedules for "
                    f"{', '.join(map(repr, schedules))} only. Use one schedule for all groups, or make the Scheduler "
                    "again with one for each."
                )
        plan = plan.joined(name, base, scale(group, name))
    return plan


def _not_one_rate(base: Mapping[str, float]) -> AdapterError:
    shown = ", ".join(f"{name!r}: {rate:g}" for name, rate in list(base.items())[:8])
    return AdapterError(
        f"torch adapter: lr= would give every group the same rate, but their base rates differ ({shown}). "
        "Use factor= to keep the ratios, or lr={name: schedule}."
    )


def without_gradients(groups: Sequence[Group]) -> bool:
    """Whether every gradient is absent or 0."""
    return all(p.grad is None or not p.grad.any() for group in groups for p in group["params"])


def as_given(rate: Any) -> float:
    """The rate as a number; of a tensor the shortest decimal that it rounds, so that a 0.1 in float32 is still 0.1."""
    if not isinstance(rate, torch.Tensor) or rate.dtype == torch.float64:
        return float(rate)
    decimals = (float(f"{float(rate):.{digits}g}") for digits in range(1, 18))
    return next((x for x in decimals if as_held(x, rate) == float(rate)), float(rate))


def as_held(value: float, held: Any) -> float:
    """``value`` as the object ``held`` shows it: a tensor rounds to its own precision."""
    return float(torch.tensor(value, dtype=held.dtype)) if isinstance(held, torch.Tensor) else value


def separate_tensors(optimizer: Any) -> None:
    """Give every group a rate tensor of its own.

    ``SGD([g1, g2], lr=tensor)`` puts one tensor into both groups and into the defaults: filled for the first group,
    it would change the second one's rate, and that of every group added later.
    """
    seen: set[int] = set()
    for group in optimizer.param_groups:
        rate = group.get("lr")
        if isinstance(rate, torch.Tensor):
            if id(rate) in seen:
                group["lr"] = rate.clone()
            seen.add(id(rate))
    default = getattr(optimizer, "defaults", {}).get("lr")
    if isinstance(default, torch.Tensor) and id(default) in seen:
        optimizer.defaults["lr"] = default.clone()


class Track:
    """One schedule, evaluated many updates at once: a composed schedule costs microseconds per call.

    Evaluation stops where the schedule fails or leaves the allowed range: a run may never come there.
    """

    def __init__(self, name: str, schedule: Schedule, factor: float) -> None:
        self.name, self.schedule, self.factor = name, schedule, factor  # the factor is what rules made of it
        self.top, self.allowed = _LIMITS.get(name, (math.inf, "at least 0 and finite"))

    def block(self, t: int, size: int) -> list[float]:
        """Return the values of update ``t`` and at most ``size - 1`` that follow.

        Raises:
            AdapterError: The value of update ``t`` is out of range.
        """
        try:
            block = self.schedule.values(t, t + size)
        except Exception:  # a user's function may fail further on
            block = self.schedule.values(t, t + 1)
        if self.factor != 1.0:
            block = [value * self.factor for value in block]
        if min(block) >= 0.0 and max(block) < self.top and not math.isnan(sum(block)):
            return block
        good = next((i for i, value in enumerate(block) if not 0.0 <= value < self.top), len(block))
        if not good:
            raise AdapterError(
                f"torch adapter: {self.name} must be {self.allowed}, but {self.schedule!r:.80} gives "
                f"{block[0]!r} at update {t}. Keep it in range with .clip(...)."
            )
        return block[:good]


class Knob:
    """One hyperparameter of every group: the schedules it follows and what it wrote last.

    Args:
        name: The hyperparameter, as the Scheduler's argument is called.
        plan: The schedules by group.
        groups: The optimizer's parameter groups.
        t: The first update whose values are wanted.

    Raises:
        AdapterError: The optimizer has no such hyperparameter, or a value is out of range.
    """

    def __init__(self, name: str, plan: Plan, groups: Sequence[Group], t: int) -> None:
        self.name = name
        self.key, self.index = _place(name, groups)
        self._getter = itemgetter(self.key)
        tracks: dict[tuple[int, float], Track] = {}
        pairs = [(plan.schedule(name, group), plan.factor(name, group)) for group in plan.base]
        found = [tracks.setdefault((id(s), factor), Track(name, s, factor)) for s, factor in pairs]
        self._kinds = [(track, plan.multiplier(name, group)) for track, group in zip(found, plan.base, strict=True)]
        self._distinct = list(tracks.values())
        self.uniform = len({(id(track), scale) for track, scale in self._kinds}) == 1  # one value for all groups
        self._outside = torch.compiler.disable(self._read)  # type: ignore[no-untyped-call]
        self._read(t)
        self.rates = self.rows[0]
        self.hold(groups)
        for x in self.tensors:
            _check_tensor(self.key, x)

    def hold(self, groups: Sequence[Group]) -> None:
        """Take what the groups hold now as what is expected there."""
        self.held: list[Any] = [self.get(group) for group in groups]
        self.tensors = [x for x in self.held if isinstance(x, torch.Tensor)]
        self.plain = not self.tensors and self.index is None
        self.filled = len(self.tensors) == len(self.held) and self.index is None
        self._mark()

    def get(self, group: Group) -> Any:
        """The object that the group holds."""
        return _get(group, self.key, self.index)

    def put(self, group: Group, value: Any) -> None:
        """Let the group hold ``value``."""
        _put(group, self.key, self.index, value)

    def set(self, group: Group, value: float) -> None:
        """Give the group the number ``value``, in place where it holds a tensor."""
        _set(group, self.key, self.index, value)

    def _read(self, t: int) -> None:
        """Compute the rows of update ``t`` and of some that follow: about as many as are worth their memory."""
        size = max(1, min(BLOCK, 16 * BLOCK // len(self._kinds)))
        blocks = {id(track): track.block(t, size) for track in self._distinct}
        self._zeros = not all(map(all, blocks.values())) or not all(scale for _, scale in self._kinds)
        first, scales = blocks[id(self._distinct[0])], [scale for _, scale in self._kinds]
        if self.uniform:
            self.first, self.rows = t, [[value * scales[0]] * len(scales) for value in first]
        elif len(blocks) == 1:
            self.first, self.rows = t, [[value * scale for scale in scales] for value in first]
        else:
            each = [[value * scale for value in blocks[id(track)]] for track, scale in self._kinds]
            self.first, self.rows = t, [list(row) for row in zip(*each, strict=False)]

    def write(self, groups: Sequence[Group], t: int) -> None:
        """Write the values of update ``t``; tensors are filled in place and keep their identity."""
        i = t - self.first
        if not 0 <= i < len(self.rows):
            self._outside(t)
            i = 0
        self.rates = rates = self.rows[i]
        if self.plain:
            key = self.key
            for group, rate in zip(groups, rates):  # noqa: B905  (a group added meanwhile is adopted later)
                group[key] = rate
            self.held = rates
        elif self.filled:
            for x, rate in zip(self.tensors, rates, strict=True):
                x.fill_(rate)
            self.versions = [x._version for x in self.tensors]
        else:
            self._write_mixed(groups)

    def _write_mixed(self, groups: Sequence[Group]) -> None:
        for i, (group, rate) in enumerate(zip(groups, self.rates, strict=False)):
            if isinstance(self.held[i], torch.Tensor):
                self.held[i].fill_(rate)
            else:
                self.put(group, rate)
                self.held[i] = rate
        self._mark()

    def restore(self, groups: Sequence[Group]) -> None:
        """Put back the objects that were held, after somebody replaced them."""
        for group, value in zip(groups, self.held, strict=False):
            self.put(group, value)

    def intact(self, groups: Sequence[Group]) -> bool:
        """Whether every group holds what was written."""
        if self.plain:
            found = list(map(self._getter, groups))
            if len(found) > len(self.held):
                found = found[: len(self.held)]
            # a 0.0 that is not ours may be that of a dry step
            return found == self.held and (not self._zeros or all(map(is_, found, self.held)))
        if any(self.get(group) is not held for group, held in zip(groups, self.held, strict=False)):
            return False
        return not self.tensors or [x._version for x in self.tensors] == self.versions

    def mismatch(self, groups: Sequence[Group]) -> tuple[int, float, float] | None:
        """Return (index of the group, intended value, value found) of the first group that holds another value."""
        for i, (group, rate) in enumerate(zip(groups, self.rates, strict=False)):
            held = self.get(group)
            if float(held) != as_held(rate, held):
                return i, rate, float(held)
        return None

    def _mark(self) -> None:
        """Remember how often each tensor was written: the one way to see an edit in place without reading it."""
        self.versions = [x._version for x in self.tensors]


def _check_tensor(key: str, x: torch.Tensor) -> None:
    """Check that numbers can be written into it."""
    wrong = "requires gradients" if x.requires_grad else "was made in inference mode" if x.is_inference() else ""
    if wrong or not x.is_floating_point():
        raise AdapterError(
            f"torch adapter: group[{key!r}] is a tensor that {wrong or f'holds {x.dtype}'}, so no rate can be written "
            "into it. Make it with torch.tensor(0.1)."
        )


def _get(group: Group, key: str, index: int | None) -> Any:
    value = group[key]
    return value if index is None else value[index]


def _put(group: Group, key: str, index: int | None, value: Any) -> None:
    group[key] = value if index is None else tuple(value if i == index else x for i, x in enumerate(group[key]))


def _set(group: Group, key: str, index: int | None, value: float) -> None:
    """Put the number, in place where a tensor is held."""
    held = _get(group, key, index)
    if isinstance(held, torch.Tensor):
        held.fill_(value)
    else:
        _put(group, key, index, value)


def _place(name: str, groups: Sequence[Group]) -> tuple[str, int | None]:
    """Where a group keeps the hyperparameter: its key, and the index there for betas."""
    if name in ("lr", "factor"):
        return "lr", None
    key, index = (name, None) if name in groups[0] else ("betas", {"momentum": 0, "beta2": 1}.get(name))
    if (index is None and key == "betas") or any(key not in group for group in groups):
        wanted = {"momentum": "'momentum' or 'betas'", "beta2": "'betas'"}.get(name, repr(name))
        raise AdapterError(
            f"torch adapter: {name}= needs parameter groups with {wanted}; these have {_keys(groups[0])}."
        )
    return key, index


def _keys(group: Group) -> str:
    return ", ".join(repr(key) for key in group if key not in ("params", BASE))
