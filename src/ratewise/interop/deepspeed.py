"""DeepSpeed's schedules as schedules of ours, from its configuration or by name.

DeepSpeed's engine steps a scheduler after each update, and a scheduler begins at iteration -1: update t uses the value
of iteration t - 1. A warm-up therefore stands still for its first two updates (D2).
"""

from collections.abc import Mapping
from typing import Any

from ratewise.core import checks
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant, Cosine, InverseTime, Linear
from ratewise.errors import ScheduleError
from ratewise.interop import torch
from ratewise.interop.peer import Peer, chain, hold, levels, line, ramp

PEER = Peer("from_deepspeed")


def from_deepspeed(
    config: Any, lr: float | None = None, *, parameter: str = "lr", group: int = 0, **arguments: Any
) -> Any:
    """Return the schedule that DeepSpeed's engine applies.

    Args:
        config: The whole configuration, its ``"scheduler"`` part (``{"type": ..., "params": ...}``), or the name of a
            scheduler with its params in ``arguments``. A name of ``torch.optim.lr_scheduler`` is one too.
        lr: The optimizer's rate; by default that in the configuration. ``WarmupCosineLR`` scales it, ``WarmupLR``
            rises to it, and torch's schedulers start from it; the others do without.
        parameter: ``"lr"``, or ``"momentum"`` of ``OneCycle`` (beta1: it leaves optimizers without betas alone).
        group: Parameter group, counted from 0, where a param is a list.
        arguments: The scheduler's params, where ``config`` is a name.

    Raises:
        ScheduleError: There is no such scheduler, its params are wrong, or one of them is still ``"auto"``.

    Example:
        >>> from_deepspeed({"type": "WarmupLR", "params": {"warmup_max_lr": 0.1, "warmup_num_steps": 10}})
        Constant(0.0, steps=1) >> Ramp(0.0, 0.1, 9, ease="log")
        >>> from_deepspeed("WarmupDecayLR", total_num_steps=8, warmup_num_steps=2, warmup_type="linear").values(0, 5)
        [0.0, 0.0, 0.0005, 0.001, 0.0008333333333333334]
    """
    checks.choice("from_deepspeed", "parameter", parameter, ("lr", "momentum"))
    name, params, known = (config, arguments, None) if isinstance(config, str) else _parts(config)
    params = {key: _of_group(key, _settled(key, value), group) for key, value in params.items()}
    if isinstance(name, str) and name not in PEER.entries and name in torch.PEER.entries:
        return torch.PEER.build(name, {"lr": _needed(lr, known), **params})
    if name == "OneCycle":
        params["parameter"] = parameter
    elif parameter == "momentum":
        raise ScheduleError(f"from_deepspeed: {checks.shown(name)} has no momentum; only OneCycle has.")
    if name == "WarmupCosineLR" or (name == "WarmupLR" and params.get("warmup_max_lr") is None):
        params["lr"] = _needed(lr, known)
    return PEER.build(name, params)


def _parts(config: Any) -> tuple[Any, Mapping[str, Any], Any]:
    """The scheduler's type, its params, and the optimizer's rate where the configuration says it."""
    if not isinstance(config, Mapping):
        raise ScheduleError(f"from_deepspeed: needs a configuration (a dictionary), got {checks.shown(config)}.")
    scheduler = config if "type" in config else config.get("scheduler")
    if not isinstance(scheduler, Mapping) or "type" not in scheduler:
        raise ScheduleError(
            "from_deepspeed: the configuration names no scheduler type, so DeepSpeed leaves the optimizer's rate as it "
            "is. Use Constant(lr)."
        )
    params = scheduler.get("params") or {}
    optimizer = config.get("optimizer")
    inner = optimizer.get("params") if isinstance(optimizer, Mapping) else None
    if not isinstance(params, Mapping):
        raise ScheduleError(f"from_deepspeed: params must be a dictionary, got {checks.shown(params)}.")
    return scheduler["type"], params, inner.get("lr") if isinstance(inner, Mapping) else None


def _settled(name: str, value: Any) -> Any:
    if value == "auto":
        raise ScheduleError(
            f'from_deepspeed: {name} is "auto", which Hugging Face\'s Trainer fills in before DeepSpeed reads it. '
            "Write the number it will be."
        )
    return value


def _needed(lr: float | None, known: Any) -> float:
    rate = lr if lr is not None else _settled("the optimizer's lr", known)
    if rate is None:
        raise ScheduleError("from_deepspeed: this schedule needs the optimizer's rate. Give lr.")
    return checks.number("from_deepspeed", "lr", rate)


def _of_group(name: str, value: Any, group: int) -> Any:
    """The value for one group: a list has one for each."""
    if not isinstance(value, (list, tuple)) or name == "milestones":
        return value
    if type(group) is not int or not 0 <= group < len(value):
        raise ScheduleError(f"from_deepspeed: {name} has {len(value)} values, so there is no group {group!r}.")
    return value[group]


def _grown(start: float, rate: float, every: float) -> Schedule:
    """``start * (1 + rate * t / every)``."""
    if rate < 0:
        return line(start, start * (1 + rate), every)
    return InverseTime(start, rate, every=every, power=-1.0)


@PEER.entry
def LRRangeTest(
    lr_range_test_min_lr: float = 1e-3, lr_range_test_step_size: int = 2000, lr_range_test_step_rate: float = 1.0,
    lr_range_test_staircase: bool = False,
) -> Schedule:  # fmt: skip
    """``min * (1 + rate * t / size)``, or with ``t // size``."""
    size = checks.whole("LRRangeTest", "lr_range_test_step_size", lr_range_test_step_size)
    growth = _grown(lr_range_test_min_lr, lr_range_test_step_rate, size)
    return growth.stairs(size) if lr_range_test_staircase else growth


@PEER.entry
def OneCycle(
    cycle_min_lr: float, cycle_max_lr: float, decay_lr_rate: float = 0.0, cycle_first_step_size: int = 2000,
    cycle_second_step_size: int | None = None, cycle_first_stair_count: int = 0,
    cycle_second_stair_count: int | None = None, decay_step_size: float = 0, cycle_momentum: bool = True,
    cycle_min_mom: float = 0.8, cycle_max_mom: float = 0.9, decay_mom_rate: float = 0.0, parameter: str = "lr",
) -> Schedule:  # fmt: skip
    """Up to the maximum and back in a line or by stairs; then the minimum divided by ``1 + rate * s / size``.

    The momentum goes down and up instead, except that update 0 uses its minimum, and is then *multiplied* by
    ``1 + rate * s / size``: it can pass 1 (D1).
    """
    first = checks.whole("OneCycle", "cycle_first_step_size", _counted(cycle_first_step_size))
    second = first if cycle_second_step_size is None else _counted(cycle_second_step_size)
    if second != 0:
        second = checks.whole("OneCycle", "cycle_second_step_size", second)
    stairs = cycle_first_stair_count
    counts = stairs, stairs if cycle_second_stair_count is None else cycle_second_stair_count

    def cycle(low: float, high: float) -> tuple[Schedule | None, Schedule | None]:
        return _half(low, high, first, counts[0], rises=True), _half(high, low, second, counts[1], rises=False)

    if parameter == "lr":
        decays = decay_step_size != 0 and decay_lr_rate != 0
        fall = InverseTime(cycle_min_lr, decay_lr_rate, every=decay_step_size) if decays else Constant(cycle_min_lr)
        return chain(*cycle(cycle_min_lr, cycle_max_lr), fall)
    if not cycle_momentum:
        raise ScheduleError("cycle_momentum is off, so the momentum stays what the optimizer has.")
    grows = decay_step_size != 0 and decay_mom_rate != 0
    rise = _grown(cycle_max_mom, decay_mom_rate, decay_step_size) if grows else Constant(cycle_max_mom)
    return Constant(cycle_min_mom, 1) >> chain(*cycle(cycle_max_mom, cycle_min_mom), rise).after(1)


def _counted(value: Any) -> Any:
    """A whole number also where JSON has it as 1e3."""
    plain = checks.plain_number(value)
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain


def _half(start: float, end: float, steps: int, stairs: int, *, rises: bool) -> Schedule | None:
    """Half of a cycle: a line, or as many equal stairs, of which the scale is rounded down to a whole number."""
    if stairs <= 0 or steps == 0:
        return ramp(start, end, steps)
    if min(stairs, steps) > 10_000:
        raise ScheduleError(f"OneCycle: a half cycle may have 10,000 stairs, got {min(stairs, steps)}.")
    low, high = (start, end) if rises else (end, start)

    def value(t: float) -> float:
        done = int(t) if rises else steps - int(t)
        return low + (high - low) * (done * stairs // steps / stairs)

    if stairs >= steps:
        joints = [*range(1, steps)]
    elif rises:
        joints = [-(-steps * i // stairs) for i in range(1, stairs)]
    else:
        joints = [steps * i // stairs + 1 for i in range(stairs)]
    return levels(value, joints).until(steps)


def _warmup(low: float, high: float, steps: int, kind: Any, to: int) -> tuple[Schedule | None, ...]:
    """From ``low`` to ``high``: linear in ``steps``, else by the logarithm in one less; held up to ``to`` updates."""
    if kind == "linear":
        return (Linear(low, high, steps),)
    return Ramp(low, high, steps - 1, ease="log"), hold(high, to - steps + 1)


def _steps(name: str, given: Any) -> int:
    """The warm-up's length: at least 2, whatever was asked for."""
    return max(2, checks.whole(name, "warmup_num_steps", given))


@PEER.entry
def WarmupLR(
    warmup_min_lr: float = 0.0, warmup_max_lr: float | None = None, warmup_num_steps: int = 1000,
    warmup_type: str = "log", lr: float | None = None,
) -> Schedule:  # fmt: skip
    """Up to the maximum and then that; a type that it does not know is ``"log"``."""
    high = _needed(lr, None) if warmup_max_lr is None else warmup_max_lr
    steps = _steps("WarmupLR", warmup_num_steps)
    return chain(Constant(warmup_min_lr, 1), *_warmup(warmup_min_lr, high, steps, warmup_type, to=steps - 1))


@PEER.entry
def WarmupDecayLR(
    total_num_steps: int, warmup_min_lr: float = 0.0, warmup_max_lr: float = 0.001, warmup_num_steps: int = 1000,
    warmup_type: str = "log",
) -> Schedule:  # fmt: skip
    """The warm-up, then a line back to the minimum; without steps left for it, the minimum at once."""
    low, high, steps = warmup_min_lr, warmup_max_lr, _steps("WarmupDecayLR", warmup_num_steps)
    left = checks.whole("WarmupDecayLR", "total_num_steps", _counted(total_num_steps)) - steps
    fall = Linear(high, low, left) if left > 0 else Constant(low)
    return chain(Constant(low, 1), *_warmup(low, high, steps, warmup_type, to=steps), fall)


@PEER.entry
def WarmupCosineLR(
    lr: float, total_num_steps: int, warmup_min_ratio: float = 0.0, warmup_num_steps: int = 1000,
    cos_min_ratio: float = 1e-4, warmup_type: str = "log",
) -> Schedule:  # fmt: skip
    """Of the optimizer's rate: 0 once, the warm-up, then a cosine that has already left the peak when it begins."""
    steps = _steps("WarmupCosineLR", warmup_num_steps)
    left = checks.whole("WarmupCosineLR", "total_num_steps", _counted(total_num_steps)) - steps
    low = lr * cos_min_ratio
    fall = Cosine(lr, low, left, ends="(]") if left > 0 else Constant(low)
    return chain(
        Constant(0.0, 1),
        *_warmup(lr * warmup_min_ratio, lr, steps, warmup_type, to=steps),
        fall.clip(low=0.0) if low < 0 < lr else fall,
    )
