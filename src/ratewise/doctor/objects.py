"""Living schedulers of peers, recognised by the names of their classes; no framework is imported."""

from collections.abc import Iterator
from inspect import Parameter, signature as parameters
from typing import Any

from ratewise.doctor.setting import Setting, meant, named, signature

_RENAMED = {
    "torch.CyclicLR": {"base_lr": "base_lrs", "max_lr": "max_lrs", "scale_fn": "_scale_fn_custom"},
    "torch.ReduceLROnPlateau": {"min_lr": "default_min_lr"},
    "hf.GreedyLR": {"min_lr": "min_lrs", "max_lr": "max_lrs"},
    "torch.SequentialLR": {"schedulers": "_schedulers", "milestones": "_milestones"},
    "torch.ChainedScheduler": {"schedulers": "_schedulers"},
    "kozistr.LinearScheduler": {"t_max": "total_steps"},
    "kozistr.CosineScheduler": {"t_max": "total_steps"},
}
"""Attributes that are not named as the argument."""

_NOT_KEPT = ("last_epoch",)
"""Attributes named as an argument that hold something else by now."""


def settings(thing: Any) -> Iterator[Setting]:
    """Yield what the doctor knows of a living object: itself, and the schedulers that it is made of."""
    setting = _read(thing)
    if setting is not None:
        inside = [*setting.get("schedulers", ()), setting.get("scheduler"), setting.get("learning_rate")]
        yield setting
        yield from (part for part in inside if isinstance(part, Setting))


def _read(thing: Any) -> Setting | None:
    """The object as a setting, or None if its class is not known."""
    name = next((found for cls in type(thing).__mro__ if (found := named(f"{cls.__module__}.{cls.__name__}"))), None)
    if name is None:
        return None
    attributes = _RENAMED.get(name, {})
    arguments = {
        argument: _value(getattr(thing, attributes.get(argument, argument)))
        for argument in signature(name)
        if argument not in _NOT_KEPT and hasattr(thing, attributes.get(argument, argument))
    }
    optimizer = getattr(thing, "optimizer", None)
    groups = list(getattr(optimizer, "param_groups", ()))
    if groups and name.startswith(("torch.", "hf.")):
        arguments.update(_torch(thing, groups))
    if hasattr(thing, "best"):
        arguments["best"] = _value(thing.best)
    if name == "torch.OneCycleLR":
        arguments.update(_one_cycle(thing, groups[0]))
    if name == "torch.LambdaLR" and (partial := getattr(thing.lr_lambdas[0], "keywords", None)):
        name, arguments = _function(thing.lr_lambdas[0].func, name), {**arguments, **partial}
    if name.startswith("keras."):
        arguments.update(_keras(thing))
    return meant(Setting(name, arguments, type(thing).__name__))


def _value(value: Any) -> Any:
    """An argument: schedulers and optimizers become settings too."""
    if isinstance(value, (list, tuple)):
        return [_value(item) for item in value]
    if isinstance(value, (bool, int, float, str, type(None), dict)):
        return value
    found = _read(value) if type(value).__module__.partition(".")[0] != "builtins" else None
    if found is None and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    return value if found is None else found


def _torch(thing: Any, groups: list[Any]) -> dict[str, Any]:
    """What the optimizer's groups say of a torch scheduler."""
    first, base = groups[0], getattr(thing, "base_lrs", None)
    rates = [float(group["lr"]) for group in groups]
    kind = type(thing).__name__
    known: dict[str, Any] = {"lr": base[0] if base else rates[0], "group_rates": base or rates}
    if base:
        known.update(groups=len(groups), base_rates=len(base))
    last = getattr(thing, "_last_lr", None)
    if last and len(last) == len(rates) and kind not in ("SequentialLR", "ChainedScheduler"):
        known["foreign_rate"] = any(abs(a - float(b)) > 1e-12 * abs(a) for a, b in zip(rates, last, strict=True))
    known["after_one_cycle"] = "max_lr" in first and kind not in {"OneCycleLR", "CyclicLR"}
    return known


def _one_cycle(thing: Any, group: Any) -> dict[str, Any]:
    phases = getattr(thing, "_schedule_phases", [])
    low, high, bottom = (float(group[key]) for key in ("initial_lr", "max_lr", "min_lr"))
    known: dict[str, Any] = {
        "max_lr": high,
        "three_phase": len(phases) == 3,
        "anneal_strategy": thing._anneal_func_type,
    }
    if phases:
        known["pct_start"] = (phases[0]["end_step"] + 1) / thing.total_steps
    if low and bottom:
        known.update(div_factor=high / low, final_div_factor=low / bottom)
    return known


def _function(function: Any, otherwise: str) -> str:
    """The name in the table for the function inside a LambdaLR: those of transformers and kozistr make such."""
    stem = function.__name__.strip("_").removesuffix("_lambda").removesuffix("_lr")
    stem = {"get_wsd_scheduler": "get_wsd_schedule"}.get(stem, stem)
    return named(f"{function.__module__}.{stem}") or otherwise


def _keras(thing: Any) -> dict[str, Any]:
    """What get_config says of a Keras schedule or optimizer; what a callback knows of its model."""
    known: dict[str, Any] = {}
    if hasattr(thing, "get_config"):
        known = {key: value for key, value in thing.get_config().items() if not isinstance(value, dict)}
        rate = getattr(thing, "_learning_rate", None)
        known["learning_rate"] = _value(rate) if rate is not None else None
    elif getattr(thing, "model", None) is not None:
        known["learning_rate"] = _value(getattr(thing.model.optimizer, "_learning_rate", None))
    if callable(getattr(thing, "schedule", None)):
        second = list(parameters(thing.schedule).parameters.values())[1:2]
        known["optional_rate"] = bool(second) and second[0].default is not Parameter.empty
    return known
