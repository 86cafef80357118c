"""Code for Hugging Face: ``get_scheduler`` where one of its names is the curve, past its end too; else ``LambdaLR``.

Its "cosine" climbs again past the end; "cosine_with_restarts" with one cycle does not, and is the same until then.
"""

from typing import Any, TypeAlias

from ratewise.core import ease, schedule as core, shapes
from ratewise.core.schedule import Schedule
from ratewise.interop.exporters.expressions import tidy
from ratewise.interop.exporters.texts import call, joined
from ratewise.interop.exporters.torch_code import base_rate, of_lambda, optimizer

TRAINER = "# Trainer(model, args, optimizers=(optimizer, scheduler), ...) steps it"

Named: TypeAlias = tuple[str, dict[str, Any]]
"""A name that ``get_scheduler`` knows, and its arguments."""


def write(schedule: Schedule) -> str:
    """Return code that makes ``scheduler`` for ``model``, as a ``Trainer`` takes it."""
    base = base_rate(schedule)
    found = _named(schedule, base)
    return of_lambda(schedule, base, TRAINER) if found is None else get_scheduler(base, *found)


def get_scheduler(base: float, name: str, arguments: dict[str, Any], after: str = TRAINER) -> str:
    """Return a call of ``get_scheduler``; arguments that it does not know itself are the scheduler's own."""
    known = ("num_warmup_steps", "num_training_steps")
    outer = {key: value for key, value in arguments.items() if key in known}
    own = {key: value for key, value in arguments.items() if key not in known}
    if own:
        outer["scheduler_specific_kwargs"] = own
    head = joined("import torch", "from transformers import get_scheduler")
    made = f"scheduler = {call('get_scheduler', repr(name), 'optimizer', **outer)}".replace("'", '"')
    return f"{head}\n\n{joined(optimizer(base, 'AdamW'), made, after)}"


def _named(schedule: Schedule, base: float) -> Named | None:
    """The name and arguments of this schedule, if it has one."""
    pieces = schedule.pieces if isinstance(schedule, core.Sequence) else (schedule,)
    if not all(isinstance(piece.steps, (int, type(None))) for piece in pieces):
        return None
    warm: Any = pieces[0]
    linear = isinstance(warm, core.Ramp) and (warm.ease, warm.ends) == ("linear", "[)") and warm.end == base
    if len(pieces) > 1 and linear:
        return _after(pieces[1:], base, warm.steps, warm.start)
    return _after(pieces, base, 0, None)


def _after(pieces: tuple[Any, ...], base: float, warmup: int, start: float | None) -> Named | None:
    """What follows a warm-up from ``start`` (None: there is none)."""
    first, *rest = pieces
    if isinstance(first, shapes.Constant) and first.value == base and len(rest) == 1:
        return _stable(first, rest[0], base, warmup, start)
    if rest or start not in (None, 0.0):
        return None
    if isinstance(first, shapes.Constant) and first.value == base:
        return ("constant_with_warmup", {"num_warmup_steps": warmup}) if warmup else ("constant", {})
    if isinstance(first, shapes.InverseTime):
        return _inverse_sqrt(first, base, warmup)
    return _decay(first, base, warmup)


def _decay(ramp: Any, base: float, warmup: int) -> Named | None:
    if not isinstance(ramp, core.Ramp) or ramp.ends != "[)" or ramp.start != base or ramp.end == ramp.start:
        return None
    span = {"num_warmup_steps": warmup, "num_training_steps": warmup + ramp.steps}  # type: ignore[operator]
    if ramp.end == 0 and ramp.ease == "linear":
        return "linear", span
    if ramp.end == 0 and ramp.ease == "cosine":
        return "cosine_with_restarts", span | {"num_cycles": 1}
    name, parameters = ease.read("export", ramp.ease)
    if name in ("linear", "polynomial") and 0 <= ramp.end < base:
        return "polynomial", span | {"lr_end": ramp.end, "power": parameters[0] if parameters else 1.0}
    return None


def _inverse_sqrt(given: shapes.InverseTime, base: float, warmup: int) -> Named | None:
    if given.power != 0.5 or given.start != base or given.steps is not None or not given.decay:
        return None
    timescale = tidy(given.every / given.decay)  # type: ignore[operator]
    if timescale != int(timescale):
        return None
    return "inverse_sqrt", {"num_warmup_steps": warmup, "timescale": int(timescale)}


def _stable(stable: shapes.Constant, ramp: Any, base: float, warmup: int, start: float | None) -> Named | None:
    """Warm-up, stable, decay: the warm-up rises from where the decay ends."""
    if not isinstance(ramp, core.Ramp) or ramp.ends != "[)" or ramp.ease not in ("linear", "cosine", "1-sqrt"):
        return None
    if ramp.start != base or start not in (None, ramp.end) or not 0 <= ramp.end < base:
        return None
    arguments: dict[str, Any] = {"num_warmup_steps": warmup, "num_stable_steps": stable.steps}
    arguments |= {"num_decay_steps": ramp.steps, "decay_type": ramp.ease}
    return "warmup_stable_decay", arguments | ({"min_lr_ratio": tidy(ramp.end / base)} if ramp.end else {})
