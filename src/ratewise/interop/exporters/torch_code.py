"""Code for PyTorch: its own schedulers where they give the same curve, past its end too; else ``LambdaLR``.

PyTorch's schedulers multiply a base rate, the optimizer's ``lr``, so that groups keep their ratios. Most of them also
multiply the rate of the update before, which is why long ramps are left to ``LambdaLR``: there nothing adds up.
"""

import math
import textwrap
from itertools import pairwise
from typing import Any

from ratewise.core import schedule as core, shapes
from ratewise.core.schedule import ENDS, Schedule
from ratewise.interop.exporters.expressions import tidy
from ratewise.interop.exporters.targets import PYTHON
from ratewise.interop.exporters.texts import about, call, joined
from ratewise.interop.exporters.writer import Writer

LONGEST = 1000
"""Updates of a ramp that PyTorch's own schedulers may multiply up; each adds a rounding."""


def base_rate(schedule: Schedule) -> float:
    """The highest rate, which the optimizer is given, or a rounder number above it; 1 where all are 0."""
    last = 1000 if schedule.steps is None else math.ceil(schedule.steps)
    joints = schedule._starts if isinstance(schedule, core.Sequence) else ()
    near = {math.ceil(joint) + i for joint in joints for i in (-1, 0)}
    highest = max(abs(schedule(t)) for t in {0, last, *near, *range(0, last, max(1, last // 200))})
    if len(repr(highest)) <= 8:
        return highest or 1.0
    step = 10.0 ** (math.floor(math.log10(highest)) - 2)
    return tidy(math.ceil(tidy(highest / step)) * step) if step else highest


def write(schedule: Schedule) -> str:
    """Return code that makes ``scheduler`` for ``model``."""
    base = base_rate(schedule)
    native = _native(schedule, base)
    return _of_classes(*native, base) if native else of_lambda(schedule, base)


def optimizer(base: float, name: str = "SGD") -> str:
    """The line that makes the optimizer."""
    return f"optimizer = torch.optim.{name}(model.parameters(), lr={base!r})  # or another one, with this lr"


def of_lambda(schedule: Schedule, base: float, after: str = "# after every optimizer.step(): scheduler.step()") -> str:
    """Return the schedule as a function that ``LambdaLR`` multiplies the base rate by."""
    writer = Writer(PYTHON)
    told = about(f"What the base rate ({base!r}) is multiplied by at update t, counted from 0:", schedule)
    writer.define("factor", schedule, told, base)
    code = writer.source()
    bare = ["import math"] if "math." in code else []
    bisect = sorted(x for x in writer.imports if x.startswith("from bisect"))
    own = sorted(x for x in writer.imports if not x.startswith("from bisect"))
    head = [*bare, *bisect, *([""] if bare or bisect else []), "import torch", *own]
    made = joined(optimizer(base), "scheduler = LambdaLR(optimizer, factor)", after)
    return f"{joined(*head, 'from torch.optim.lr_scheduler import LambdaLR')}\n\n\n{code}\n\n\n{made}"


def _of_classes(calls: list[str], milestones: list[int], base: float) -> str:
    names = sorted({text.partition("(")[0] for text in calls} | ({"SequentialLR"} if milestones else set()))
    head = joined("import torch", f"from torch.optim.lr_scheduler import {', '.join(names)}")
    if not milestones:
        made = [f"scheduler = {calls[0]}"]
    else:
        inner = [textwrap.indent(f"{text},", " " * 8) for text in calls]
        made = ["scheduler = SequentialLR(", "    optimizer,", "    ["]
        made += [*inner, "    ],", f"    milestones={milestones!r},", ")"]
    return f"{head}\n\n{joined(optimizer(base), *made, '# after every optimizer.step(): scheduler.step()')}"


def _native(schedule: Schedule, base: float) -> tuple[list[str], list[int]] | None:
    """The calls of PyTorch's classes and the milestones between them, if there are such calls."""
    if not isinstance(schedule, core.Sequence):
        text = _alone(schedule, base) or _piece(schedule, base, last=True)
        return ([text], []) if text else None
    last = len(schedule.pieces) - 1
    calls = [_piece(piece, base, i == last) for i, piece in enumerate(schedule.pieces)]
    if last > 5 or None in calls or not all(isinstance(start, int) for start in schedule._starts):
        return None
    return [text for text in calls if text], [int(start) for start in schedule._starts[1:]]


def _alone(schedule: Any, base: float) -> str | None:
    """Schedulers that go on for ever and stand for themselves."""
    if not isinstance(schedule, core.Repeat) or schedule.times is not None or schedule.gamma != 1:
        return None
    ramp: Any = schedule.base
    if _is(ramp, "cosine", "[)") and ramp.start == base and schedule.factor == int(schedule.factor):
        mult = {} if schedule.factor == 1 else {"T_mult": int(schedule.factor)}
        return call("CosineAnnealingWarmRestarts", "optimizer", T_0=ramp.steps, **mult, eta_min=ramp.end)
    pieces: Any = getattr(ramp, "pieces", ())
    if len(pieces) == 2 and all(_is(x, "linear", "[)") for x in pieces) and schedule.factor == 1:
        up, down = pieces
        if up.start < up.end == down.start and down.end == up.start:
            size = {"step_size_up": up.steps} | ({} if down.steps == up.steps else {"step_size_down": down.steps})
            return call("CyclicLR", "optimizer", base_lr=up.start, max_lr=up.end, **size, cycle_momentum=False)
    return None


def _is(schedule: Any, ease: str, ends: str) -> bool:
    whole = isinstance(schedule, core.Ramp) and isinstance(schedule.steps, int)
    return whole and schedule.ease == ease and schedule.ends == ends and schedule.start != schedule.end


def _piece(schedule: Any, base: float, last: bool) -> str | None:
    """A scheduler that multiplies the base rate, and holds its end if it is the last."""
    if isinstance(schedule, shapes.Constant) and schedule.value == base:
        return call("ConstantLR", "optimizer", factor=1.0)
    if isinstance(schedule, core.Ramp):
        return _ramp(schedule, base, last)
    if isinstance(schedule, shapes.Exponential):
        slow = schedule.gamma < 1 and -1 / math.log(schedule.gamma) > LONGEST
        fits = schedule.start == base and schedule.every == 1 and schedule.gamma < 1 and not slow
        return call("ExponentialLR", "optimizer", gamma=schedule.gamma) if fits and _free(schedule, last) else None
    if isinstance(schedule, core.Stairs):
        return _stairs(schedule, base, last)
    cut: Any = schedule.steps if isinstance(schedule, core.Until) else math.inf
    inner = schedule.base if isinstance(schedule, core.Until) else schedule
    return _steps(inner, cut, base) if isinstance(inner, shapes.Piecewise) else None


def _free(schedule: Schedule, last: bool) -> bool:
    """Whether it need not hold an end of its own."""
    return schedule.steps is None or not last


def _ramp(ramp: core.Ramp, base: float, last: bool) -> str | None:
    d, e = ENDS[ramp.ends]
    if not isinstance(ramp.steps, int) or ramp.steps > LONGEST:
        return None
    n = ramp.steps + e - d
    if _is(ramp, "cosine", "[)") and ramp.start == base and not last:
        return call("CosineAnnealingLR", "optimizer", T_max=n, eta_min=ramp.end)
    if _is(ramp, ramp.ease, "[)") and ramp.ease.startswith("polynomial") and (ramp.start, ramp.end) == (base, 0.0):
        power = float(ramp.ease.partition("(")[2].rstrip(")") or 1.0)
        return call("PolynomialLR", "optimizer", total_iters=n, power=power)
    start, end = tidy(ramp(0) / base), tidy(ramp.end / base)
    if ramp.ease != "linear" or n < 1 or not (0 < start <= 1 and 0 <= end <= 1):
        return None
    return call("LinearLR", "optimizer", start_factor=start, end_factor=end, total_iters=n)


def _stairs(schedule: core.Stairs, base: float, last: bool) -> str | None:
    decay, every = schedule.base, schedule.every
    if not isinstance(decay, shapes.Exponential) or decay.every != every or not isinstance(every, int):
        return None
    if decay.start != base:
        return None
    if _free(schedule, last):
        return call("StepLR", "optimizer", step_size=every, gamma=decay.gamma)
    milestones = list(range(every, int(decay.steps) + 1, every))  # type: ignore[arg-type]
    if len(milestones) > 30:
        return None
    return call("MultiStepLR", "optimizer", milestones=milestones, gamma=decay.gamma)


def _steps(given: shapes.Piecewise, cut: float, base: float) -> str | None:
    milestones = [m for m in given.milestones if m <= cut]  # type: ignore[operator]
    levels = given.levels[: len(milestones) + 1]
    if not milestones or levels[0] != base or 0.0 in levels or not all(isinstance(m, int) for m in milestones):
        return None
    gamma = tidy(levels[1] / levels[0])
    if len(milestones) > 30 or any(abs(b / a - gamma) > 1e-15 * abs(gamma) for a, b in pairwise(levels)):
        return None
    return call("MultiStepLR", "optimizer", milestones=milestones, gamma=gamma)
