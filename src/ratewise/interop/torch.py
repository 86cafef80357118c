"""torch's schedulers (``torch.optim.lr_scheduler``, and SWALR) as schedules of ours.

The curve is the one that a scheduler makes which is stepped once after every update, from its first update on: read
from its settings and base rates, whatever it has done since. An object is told by its class, so torch is not imported.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from ratewise.core import checks
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant, Cosine, Custom, Linear, Polynomial
from ratewise.errors import ScheduleError, nearest
from ratewise.interop.peer import Peer, chain, hold, levels, plateau, powers, ramp, wave
from ratewise.interop.torch_trees import Chained, Leaf, Node, Sequential, Stepped, curve

PEER = Peer("from_torch")

TREES = ("SequentialLR", "ChainedScheduler")
MOMENTUM = ("CyclicLR", "OneCycleLR")


def from_torch(scheduler: Any, group: int = 0, parameter: str = "lr", **arguments: Any) -> Any:
    """Return the schedule of a torch scheduler, for one parameter group.

    Nothing is stepped or changed, and it makes no difference how far the scheduler has been stepped. Where torch
    raises, the schedule holds its last value. It is taken for granted that the scheduler was made on a fresh
    optimizer, the parts of a SequentialLR or ChainedScheduler in the order of its list: of anything else torch keeps
    no record. A ReduceLROnPlateau keeps no base rate either: it is the group's ``initial_lr`` if another scheduler
    has left one, else its rate now.

    Args:
        scheduler: The scheduler; or the name of its class with ``lr``, the base rate, and its own ``arguments``.
        group: Parameter group of a scheduler, counted from 0.
        parameter: ``"lr"``, or ``"momentum"`` for what CyclicLR and OneCycleLR do to the momentum (or beta1).
        arguments: The class's own, where ``scheduler`` is a name.

    Returns:
        Schedule: A ReduceLROnPlateau gives a schedule with a rule. MultiplicativeLR, and trees that come neither to
        pieces nor to a product, give a ``Custom`` that goes through torch's recursion: it can be pickled if its
        functions can, and read back from its text by no one. A LambdaLR gives ``Custom`` of its function, which can
        be read back if the function can be imported (not a lambda).

    Raises:
        ScheduleError: The scheduler is not one of torch's, its milestones fall, or an argument is wrong.

    Example:
        >>> from_torch("StepLR", lr=0.1, step_size=30)
        Exponential(0.1, 0.1, every=30).stairs(30)
    """
    checks.choice("from_torch", "parameter", parameter, ("lr", "momentum"))
    if isinstance(scheduler, str):
        name = checks.choice("from_torch", "scheduler", scheduler, (*PEER.entries, *TREES))
        if name in TREES:
            raise ScheduleError(f"from_torch: give a {name} itself, or join schedules: a >> b, a * b.")
        if parameter == "momentum":
            arguments["parameter"] = _cycled(name)
        return PEER.build(name, arguments)
    name = _named(scheduler)
    groups = scheduler.optimizer.param_groups
    if type(group) is not int or not 0 <= group < len(groups):
        raise ScheduleError(f"from_torch: group must be one of the {len(groups)} groups, got {checks.shown(group)}.")
    if parameter == "momentum":
        return _leaf(scheduler, group, _cycled(name)).own
    if name == "ReduceLROnPlateau":
        return _plateau(scheduler, group)
    initial = groups[group].get("initial_lr", groups[group]["lr"])
    return curve(_node(scheduler, group, []), _float(initial))


def _named(scheduler: Any) -> str:
    """The class of torch's that makes the rates: the object's own, or one that it inherits them from."""
    names = (*PEER.entries, *TREES)
    for kind in type(scheduler).__mro__:
        if kind.__module__.startswith("torch.optim.") and kind.__name__ in names:
            return kind.__name__
        if {"step", "get_lr", "_get_closed_form_lr", "_update_lr"} & set(vars(kind)):
            break
    shown = checks.shown(scheduler, 60)
    raise ScheduleError(f"from_torch: {shown} is not one of torch's.{nearest(type(scheduler).__name__, names)}")


def _cycled(name: str) -> str:
    if name not in MOMENTUM:
        raise ScheduleError(f"from_torch: {name} has no momentum; only {' and '.join(MOMENTUM)} have.")
    return "momentum"


# -- objects ---------------------------------------------------------------------------------------------------


def _node(scheduler: Any, group: int, seen: list[Any]) -> Node:
    """A scheduler and its parts as they were made; ``seen`` are those met so far."""
    name = _named(scheduler)
    if any(scheduler is other for other in seen):
        raise ScheduleError(f"from_torch: the same {name} stands twice in a tree, and would be undone twice.")
    seen.append(scheduler)
    if name not in TREES:
        return _leaf(scheduler, group)
    children = tuple(_node(child, group, seen) for child in scheduler._schedulers)
    return Sequential(children, tuple(scheduler._milestones)) if name == "SequentialLR" else Chained(children)


def _leaf(scheduler: Any, group: int, parameter: str = "lr") -> Leaf:
    """A scheduler that is no tree."""
    name = _named(scheduler)
    if group >= len(scheduler.base_lrs):
        raise ScheduleError(f"from_torch: group {group} came after its {name}, which knows no rate for it.")
    build, settings, last = _SETTINGS.get(name, _attributes)(scheduler, group, parameter)
    leaf = Leaf(name, build, tuple(settings.items()), _float(scheduler.base_lrs[group]), last)
    try:
        _ = leaf.own  # so that wrong settings are told of now
    except (ValueError, TypeError) as error:
        raise ScheduleError(f"from_torch: {name}: {error}") from None
    return leaf


_Read = tuple[Callable[..., Schedule], dict[str, Any], float]  # what builds it, its settings, the last update it has


def _attributes(scheduler: Any, group: int, _: str) -> _Read:
    """The settings that are attributes under the names of the arguments."""
    name = _named(scheduler)
    build = PEER.entries[name]
    names = [parameter for parameter in signature(build).parameters if parameter != "lr"]
    settings = {name: _plain(getattr(scheduler, name)) for name in names}
    n = settings["total_iters"] if name == "ConstantLR" and settings["factor"] == 0 else 0
    return build, settings, n - 1 if n > 0 and n % 1 == 0 else math.inf  # it divides by 0 at n (T11)


def _function(scheduler: Any, group: int, _: str) -> _Read:
    return PEER.entries[_named(scheduler)], {"lr_lambda": scheduler.lr_lambdas[group]}, math.inf


def _multi_step(scheduler: Any, group: int, _: str) -> _Read:
    return MultiStepLR, {"milestones": _milestones(scheduler.milestones), "gamma": scheduler.gamma}, math.inf


def _cyclic(scheduler: Any, group: int, parameter: str) -> _Read:
    names = ("base_lrs", "max_lrs") if parameter == "lr" else ("max_momentums", "base_momentums")
    low, high = (_float(values[group]) for values in _driven(scheduler, parameter, names))
    up = scheduler.step_ratio * scheduler.total_size
    up = round(up) if abs(up - round(up)) < 1e-9 * scheduler.total_size else up
    settings = {
        "base_lr": low, "max_lr": high, "step_size_up": up, "step_size_down": scheduler.total_size - up,
        "mode": scheduler.mode, "gamma": scheduler.gamma, "scale_fn": scheduler._scale_fn_custom,
        "scale_mode": scheduler.scale_mode,
    }  # fmt: skip
    return CyclicLR, settings, math.inf


def _one_cycled(scheduler: Any, group: int, parameter: str) -> _Read:
    _driven(scheduler, parameter, ())
    values, phases = scheduler.optimizer.param_groups[group], scheduler._schedule_phases
    what = "lr" if parameter == "lr" else "momentum"
    joints = tuple(_float(values[phase[f"{end}_{what}"]]) for phase in phases for end in ("start", "end"))
    ends = tuple(phase["end_step"] for phase in phases)
    settings = {"ends": ends, "values": joints, "strategy": scheduler._anneal_func_type}
    return _phases, settings, ends[-1] + (ends[-2] != ends[-1])  # update T is one too many, and sometimes raises (T2)


def _driven(scheduler: Any, parameter: str, names: Iterable[str]) -> list[Any]:
    """The attributes, if the scheduler drives the parameter at all."""
    if parameter == "momentum" and not scheduler.cycle_momentum:
        raise ScheduleError(f"from_torch: this {_named(scheduler)} was made with cycle_momentum=False.")
    return [getattr(scheduler, name) for name in names]


def _averaged(scheduler: Any, group: int, _: str) -> _Read:
    swa_lr = _float(scheduler.optimizer.param_groups[group]["swa_lr"])
    strategy = scheduler._anneal_strategy
    return SWALR, {"swa_lr": swa_lr, "anneal_epochs": scheduler.anneal_epochs, "anneal_strategy": strategy}, math.inf


_SETTINGS: dict[str, Callable[[Any, int, str], _Read]] = {
    "LambdaLR": _function,
    "MultiplicativeLR": _function,
    "MultiStepLR": _multi_step,
    "CyclicLR": _cyclic,
    "OneCycleLR": _one_cycled,
    "SWALR": _averaged,
}


def _plateau(scheduler: Any, group: int) -> Ruled:
    values = scheduler.optimizer.param_groups[group]
    base = _float(values.get("initial_lr", values["lr"]))
    given: Ruled = PEER.read(scheduler, lr=base, min_lr=_float(scheduler.min_lrs[group]))
    return given


def _float(x: Any) -> float:
    """A number, or the number in a tensor."""
    return float(_plain(x))


def _plain(x: Any) -> Any:
    return x.item() if hasattr(x, "item") else x


# -- the table -------------------------------------------------------------------------------------------------


@PEER.entry
def LambdaLR(lr: float, lr_lambda: Callable[[int], float]) -> Schedule:
    """``lr * lr_lambda(t)``."""
    return lr * Custom(lr_lambda)


@PEER.entry
def MultiplicativeLR(lr: float, lr_lambda: Callable[[int], float]) -> Schedule:
    """``lr * lr_lambda(1) * ... * lr_lambda(t)``."""
    if not callable(lr_lambda):
        raise ScheduleError(f"MultiplicativeLR: lr_lambda must be a function, got {checks.shown(lr_lambda)}.")
    lr = checks.number("MultiplicativeLR", "lr", lr)
    return Custom(Stepped(Leaf("MultiplicativeLR", MultiplicativeLR, (("lr_lambda", lr_lambda),), lr), lr))


@PEER.entry
def StepLR(lr: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """``lr * gamma**(t // step_size)``."""
    checks.whole("StepLR", "step_size", step_size)
    return powers(lr, gamma, every=step_size).stairs(step_size)


@PEER.entry
def MultiStepLR(lr: float, milestones: Iterable[int], gamma: float = 0.1) -> Schedule:
    """``lr * gamma**k``, k the milestones at or before t: one that is given twice counts twice."""
    milestones = _milestones(milestones)
    return levels(lambda t: lr * gamma ** bisect_right(milestones, t), milestones)


def _milestones(given: Any) -> tuple[int, ...]:
    """Milestones in order, from a list or torch's Counter."""
    given = given.elements() if hasattr(given, "elements") else checks.items("MultiStepLR", "milestones", given)
    milestones = tuple(checks.plain_number(m) for m in given)
    if any(type(m) is not int or m < 0 for m in milestones):
        raise ScheduleError(f"MultiStepLR: milestones must be integers of at least 0, got {checks.shown(milestones)}.")
    return tuple(sorted(milestones))


@PEER.entry
def ConstantLR(lr: float, factor: float = 1 / 3, total_iters: float = 5) -> Schedule:
    """``lr * factor`` up to ``total_iters``, which no update may miss (0, or 2.5): then it stays for ever (T10)."""
    _share("ConstantLR", "factor", factor)
    if _length("ConstantLR", total_iters) == 0 or total_iters % 1 or factor == 0:
        return Constant(lr * factor)
    return Constant(lr * factor, total_iters) >> Constant(lr)


@PEER.entry
def LinearLR(lr: float, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: float = 5) -> Schedule:
    """A straight line from ``lr * start_factor`` to ``lr * end_factor``; of no length it stays at its start (T10)."""
    _share("LinearLR", "end_factor", end_factor)
    if _share("LinearLR", "start_factor", start_factor) == 0:
        raise ScheduleError("LinearLR: start_factor must be above 0, as torch has it.")
    return _whole(
        _length("LinearLR", total_iters), lr * start_factor, lambda n: Linear(lr * start_factor, lr * end_factor, n)
    )


@PEER.entry
def ExponentialLR(lr: float, gamma: float) -> Schedule:
    """``lr * gamma**t``."""
    return powers(lr, gamma)


@PEER.entry
def PolynomialLR(lr: float, total_iters: float = 5, power: float = 1.0) -> Schedule:
    """``lr * (1 - t / total_iters)**power``."""
    if power == 0:
        return Constant(lr)
    return _whole(_length("PolynomialLR", total_iters), lr, lambda n: Polynomial(lr, 0.0, n, power=power))


def _whole(n: float, start: float, ramp: Callable[[float], Schedule]) -> Schedule:
    """A ramp as far as its last whole update, where torch stops."""
    if n < 1:
        return Constant(start)
    return ramp(n).until(math.floor(n)) if n % 1 else ramp(n)


def _length(name: str, n: Any) -> float:
    value = checks.number(name, "total_iters", n)
    if value < 0:
        raise ScheduleError(f"{name}: total_iters must be at least 0, got {n!r}.")
    return value


def _share(name: str, what: str, value: Any) -> float:
    share = checks.number(name, what, value)
    if not 0 <= share <= 1:
        raise ScheduleError(f"{name}: {what} must be from 0 to 1, as torch has it, got {value!r}.")
    return share


@PEER.entry
def CosineAnnealingLR(lr: float, T_max: float, eta_min: float = 0.0) -> Schedule:
    """A cosine down to ``eta_min`` in ``T_max`` updates, up again, and so on (T12)."""
    return wave(lr, eta_min, T_max)


@PEER.entry
def CosineAnnealingWarmRestarts(lr: float, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> Schedule:
    """Cosines from ``lr`` down to ``eta_min``, each ``T_mult`` times as long as the one before."""
    checks.whole("CosineAnnealingWarmRestarts", "T_0", T_0)
    checks.whole("CosineAnnealingWarmRestarts", "T_mult", T_mult)
    return Cosine(lr, eta_min, T_0).repeat(stretch=T_mult)


@PEER.entry
def CyclicLR(
    base_lr: float, max_lr: float, step_size_up: float = 2000, step_size_down: float | None = None,
    mode: str = "triangular", gamma: float = 1.0, scale_fn: Callable[[float], float] | None = None,
    scale_mode: str = "cycle", cycle_momentum: bool = True, base_momentum: float = 0.8, max_momentum: float = 0.9,
    parameter: str = "lr", lr: float | None = None,
) -> Schedule:  # fmt: skip
    """Up from ``base_lr`` to ``max_lr`` and down in straight lines; torch gives ``lr`` up for ``base_lr``.

    The height of the triangles is scaled by ``2**-k`` in cycle k, by ``gamma**t``, or by ``scale_fn``.
    """
    low, high = (base_lr, max_lr) if parameter == "lr" else (max_momentum, base_momentum)
    if parameter != "lr" and not cycle_momentum:
        raise ScheduleError("CyclicLR: with cycle_momentum=False there is no momentum.")
    up, down = step_size_up, step_size_up if step_size_down is None else step_size_down
    if scale_fn is None and checks.choice("CyclicLR", "mode", mode, _MODES) == "triangular":
        return chain(ramp(low, high, up), ramp(high, low, down)).repeat()
    halved = mode == "triangular2" and scale_fn is None
    triangles = chain(ramp(0.0, 1.0, up), ramp(1.0, 0.0, down)).repeat(gamma=0.5 if halved else 1.0)
    if not halved:
        triangles = triangles * _scale(gamma, scale_fn, scale_mode, up + down)
    return low + (high - low) * triangles


_MODES = ("triangular", "triangular2", "exp_range")


def _scale(gamma: float, scale_fn: Any, scale_mode: str, size: float) -> Schedule:
    if scale_fn is None:
        return powers(1.0, gamma)
    by_cycle = checks.choice("CyclicLR", "scale_mode", scale_mode, ("cycle", "iterations")) == "cycle"
    return Custom(PerCycle(scale_fn, size) if by_cycle else scale_fn)


@dataclass(frozen=True)
class PerCycle:
    """A function of the cycle, counted from 1, as one of the position."""

    function: Callable[[Any], Any]
    size: float

    def __call__(self, t: Any) -> Any:
        """The function's value in the cycle that ``t`` lies in."""
        return self.function(int(1 + t // self.size) if isinstance(t, (int, float)) else 1 + t // self.size)


@PEER.entry
def OneCycleLR(
    max_lr: float, total_steps: int | None = None, epochs: int | None = None, steps_per_epoch: int | None = None,
    pct_start: float = 0.3, anneal_strategy: str = "cos", cycle_momentum: bool = True, base_momentum: float = 0.85,
    max_momentum: float = 0.95, div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False,
    parameter: str = "lr", lr: float | None = None,
) -> Schedule:  # fmt: skip
    """Up to ``max_lr`` at ``pct_start * T - 1`` and down until ``T - 1``; torch gives ``lr`` up for its own.

    There is a rate for update T too, on the curve continued (T5), which is then held.
    """
    if total_steps is None:
        if epochs is None or steps_per_epoch is None:
            raise ScheduleError("OneCycleLR: needs total_steps, or epochs and steps_per_epoch.")
        total_steps = epochs * steps_per_epoch
    total = checks.whole("OneCycleLR", "total_steps", total_steps)
    peak = _share("OneCycleLR", "pct_start", pct_start) * total - 1
    ends = (peak, 2.0 * pct_start * total - 2, total - 1) if three_phase else (peak, total - 1)
    if parameter == "lr":
        low, high, last = max_lr / div_factor, max_lr, max_lr / div_factor / final_div_factor
    elif cycle_momentum:
        low, high, last = max_momentum, base_momentum, max_momentum
    else:
        raise ScheduleError("OneCycleLR: with cycle_momentum=False there is no momentum.")
    values = (low, high, high, low, low, last) if three_phase else (low, high, high, last)
    return _phases(ends, values, anneal_strategy)


def _phases(ends: tuple[float, ...], values: tuple[float, ...], strategy: str, lr: float | None = None) -> Schedule:
    """Phases up to ``ends``, from and to ``values``; one point of the last phase beyond; and that held."""
    checks.choice("OneCycleLR", "anneal_strategy", strategy, _EASES)
    if ends[0] == 0:
        raise ScheduleError("OneCycleLR: pct_start * total_steps must not be 1, where torch divides by 0 (T1).")
    pieces, starts = [], (0.0, *ends[:-1])
    for start, end, first, last in zip(starts, ends, values[::2], values[1::2], strict=True):
        if end > max(start, 0.0):
            phase = Ramp(first, last, end - start, ease=_EASES[strategy])
            pieces.append(phase.after(-start) if start < 0 else phase)
    total = round(ends[-1]) + 1
    extra = total > starts[-1] != ends[-1]
    body = chain(*pieces) if pieces else Constant(values[-1], 1)
    if not extra:
        return body.until(total)
    p = (total - starts[-1]) / (ends[-1] - starts[-1])
    weight = p if strategy == "linear" else (1 - math.cos(math.pi * p)) / 2
    return chain(body.until(total), Constant(values[-2] + (values[-1] - values[-2]) * weight))


_EASES = {"cos": "cosine", "linear": "linear"}


@PEER.entry
def ReduceLROnPlateau(
    lr: float, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
    threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0, eps: float = 1e-8,
) -> Ruled:  # fmt: skip
    """``lr``, multiplied by ``factor`` at every plateau."""
    return Constant(lr) * plateau(
        lr, "torch", mode=mode, factor=factor, patience=patience, threshold=threshold, threshold_mode=threshold_mode,
        cooldown=cooldown, min_lr=min_lr, eps=eps,
    )  # fmt: skip


@PEER.entry
def SWALR(lr: float, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: str = "cos") -> Schedule:
    """From ``lr`` to ``swa_lr`` in ``anneal_epochs``; if those are 0, ``swa_lr`` at once."""
    ease = _EASES[checks.choice("SWALR", "anneal_strategy", anneal_strategy, _EASES)]
    return chain(ramp(lr, swa_lr, anneal_epochs, ease=ease), hold(swa_lr, 1))
