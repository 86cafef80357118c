"""Code for rules: the framework's own reduction on a plateau, where it decides as the rule does."""

from typing import Any, NoReturn

from ratewise.core import dialects
from ratewise.core.ruled import Ruled
from ratewise.core.rules import Plateau
from ratewise.core.shapes import Constant
from ratewise.errors import ScheduleError
from ratewise.interop.exporters import hf_code, optax_code
from ratewise.interop.exporters.expressions import tidy
from ratewise.interop.exporters.texts import call, joined
from ratewise.interop.exporters.torch_code import optimizer

POSITIVE = "# decides as the rule does as long as the metric is above 0"
_TORCH = [name for name, dialect in dialects.PLATEAU.items() if dialect is dialects.TORCH]


def write(ruled: Ruled, to: str) -> str:
    """Return code for a schedule with rules.

    Raises:
        ScheduleError: The framework has nothing that does the same.
    """
    rule = ruled.rules[0]
    if len(ruled.rules) > 1 or not isinstance(rule, Plateau):
        _refuse(ruled, to, f"has nothing that does what {' * '.join(map(repr, ruled.rules))} does")
    if rule.start != 0:
        _refuse(ruled, to, f"does not pass over the metrics before update {rule.start!r}")
    return _WRITERS[to](ruled, rule)


def _refuse(ruled: Ruled, to: str, why: str) -> NoReturn:
    adapter = {"hf": "torch"}.get(to, to)
    raise ScheduleError(
        f"export: {to} {why}. Use ratewise.{adapter} with {ruled!r:.200}, or export the schedule without its rule."
    )


def _constant(ruled: Ruled, to: str) -> float:
    if not isinstance(ruled.schedule, Constant) or ruled.schedule.steps is not None:
        _refuse(ruled, to, "lowers a constant rate on a plateau, it cannot multiply another schedule")
    return ruled.schedule.value


def _margins(rule: Plateau) -> tuple[float, float]:
    """The relative and the absolute margin."""
    if rule.rtol is None and rule.atol is None:
        return rule._dialect.rtol, rule._dialect.atol
    return rule.rtol or 0.0, rule.atol or 0.0


def _torch_arguments(ruled: Ruled, rule: Plateau, to: str) -> tuple[float, dict[str, Any], list[str]]:
    """The base rate, what torch's ReduceLROnPlateau takes, and what to say about it."""
    base, (rtol, atol) = _constant(ruled, to), _margins(rule)
    if rule.like not in (None, *_TORCH):
        _refuse(ruled, to, f"does not decide as {rule.like!r} does")
    if rule.window != 1 or (rtol and atol):
        _refuse(ruled, to, "knows no window of metrics" if rule.window != 1 else "takes one of rtol and atol, not both")
    arguments = {
        "mode": rule.mode,
        "factor": rule.factor,
        "patience": rule._patience - 1,
        "threshold": atol or rtol,
        "threshold_mode": "abs" if atol else "rel",
        "cooldown": rule.cooldown,
        "min_lr": tidy(rule.min_scale * base),
        "eps": tidy(rule.eps * base),
    }
    return base, arguments, [] if rule.like or not rtol else [POSITIVE]


def _torch(ruled: Ruled, rule: Plateau) -> str:
    base, arguments, remarks = _torch_arguments(ruled, rule, "torch")
    head = joined("import torch", "from torch.optim.lr_scheduler import ReduceLROnPlateau")
    made = f"scheduler = {call('ReduceLROnPlateau', 'optimizer', **arguments)}"
    after = "# after every evaluation: scheduler.step(metric)"
    return f"{head}\n\n{joined(optimizer(base), made, *remarks, after)}"


def _hf(ruled: Ruled, rule: Plateau) -> str:
    base, arguments, remarks = _torch_arguments(ruled, rule, "hf")
    after = joined(*remarks, "# Trainer(model, args, optimizers=(optimizer, scheduler), ...) shows it the metric")
    return hf_code.get_scheduler(base, "reduce_lr_on_plateau", arguments, after)


def _keras(ruled: Ruled, rule: Plateau) -> str:
    base, (rtol, atol) = _constant(ruled, "keras"), _margins(rule)
    if rule.like not in (None, "keras"):
        _refuse(ruled, "keras", f"does not decide as {rule.like!r} does")
    if rtol or rule.window != 1 or rule.eps:
        missing = "relative margin: give atol" if rtol else "window of metrics" if rule.window != 1 else "eps"
        _refuse(ruled, "keras", f"knows no {missing}")
    cooldown = rule.cooldown if rule.like or not rule.cooldown else rule.cooldown + 1  # Keras' passes over one less
    arguments = {
        "monitor": "val_loss",
        "factor": rule.factor,
        "patience": max(rule._patience, 1),
        "mode": rule.mode,
        "min_delta": atol,
        "cooldown": cooldown,
        "min_lr": tidy(rule.min_scale * base),
    }
    made = f"callback = {call('keras.callbacks.ReduceLROnPlateau', **arguments)}"
    fit = "# model.fit(..., callbacks=[callback])"
    return joined("import keras", "", f"optimizer = keras.optimizers.SGD({base!r})", made, fit)


def _optax(ruled: Ruled, rule: Plateau) -> str:
    rtol, atol = _margins(rule)
    if rule.like not in (None, "optax"):
        _refuse(ruled, "optax", f"does not decide as {rule.like!r} does")
    if rule.mode != "min" or rule.eps:
        _refuse(ruled, "optax", "knows mode='min' alone" if rule.mode != "min" else "knows no eps")
    arguments = {
        "factor": rule.factor,
        "patience": rule._patience,
        "rtol": rtol,
        "atol": atol,
        "cooldown": rule.cooldown,
        "accumulation_size": rule.window,
        "min_scale": rule.min_scale,
    }
    plateau = call("optax.contrib.reduce_on_plateau", **arguments)
    made = f"optimizer = optax.chain(\n    optax.sgd(schedule),\n    {plateau},\n)"
    remarks = [] if rule.like or not rtol else [POSITIVE]
    head = optax_code.definition(ruled.schedule).replace("import optax", "import optax\nimport optax.contrib", 1)
    return joined(head, made, *remarks, "# every update: optimizer.update(grads, state, params, value=metric)")


_WRITERS = {"torch": _torch, "hf": _hf, "keras": _keras, "optax": _optax}
