"""Code for Keras: its own schedules where they give the same curve, else a ``LearningRateSchedule``.

Keras counts and computes in float32: its own schedules are used only where that keeps every digit of float32. The
class computes in float64 wherever the backend has it.
"""

from typing import Any

from ratewise.core import schedule as core, shapes
from ratewise.core.schedule import Schedule
from ratewise.interop.exporters.expressions import tidy
from ratewise.interop.exporters.singles import FAR, kept, power_of, rational
from ratewise.interop.exporters.targets import KERAS
from ratewise.interop.exporters.texts import about, call, joined
from ratewise.interop.exporters.writer import Writer

OPTIMIZER = "optimizer = keras.optimizers.SGD(learning_rate)"
BATCHES = "# with gradient_accumulation_steps=n Keras counts batches here: multiply every number of steps by n"

_REAL = """REAL = "float32" if keras.backend.backend() == "jax" else "float64"  # JAX has no float64 by default"""

_CLASS = '''@keras.saving.register_keras_serializable("schedules")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """The rate used by every update.

    Args:
        accumulation: The optimizer's gradient_accumulation_steps, with which Keras counts batches here.
    """

    def __init__(self, accumulation=1):
        self.accumulation = accumulation

    def __call__(self, step):
        return ops.cast(rate(ops.cast(step // self.accumulation, REAL)), keras.config.floatx())

    def get_config(self):
        return {"accumulation": self.accumulation}


learning_rate = LearningRate()
optimizer = keras.optimizers.SGD(learning_rate)'''


def write(schedule: Schedule) -> str:
    """Return code that makes ``learning_rate``, and an optimizer with it."""
    if isinstance(schedule, shapes.Constant):
        return joined("import keras", "", f"learning_rate = {schedule.value!r}", OPTIMIZER)
    native = _native(schedule)
    if native:
        made = f"learning_rate = keras.optimizers.schedules.{native}"
        return joined("import keras", "", made, BATCHES, OPTIMIZER)
    return of_class(schedule)


def of_class(schedule: Schedule) -> str:
    """Return the schedule as a class of its own."""
    writer = Writer(KERAS)
    writer.define("rate", schedule, about("The rate at update t:", schedule))
    code = f"{writer.source()}\n\n\n{_CLASS}"
    math = ["import math", ""] if "math." in code else []
    head = joined(*math, "import keras", *sorted(writer.imports), "from keras import ops")
    return f"{head}\n\n{_REAL}\n\n\n{code}"


def _native(schedule: Any) -> str | None:
    if isinstance(schedule, core.Ramp):
        return _cosine(schedule) or _polynomial(schedule)
    if isinstance(schedule, core.Sequence) and len(schedule.pieces) == 2:
        return _cosine(schedule.pieces[1], schedule.pieces[0])
    if isinstance(schedule, shapes.Exponential):
        return _exponential(schedule, staircase=False)
    if isinstance(schedule, core.Stairs) and isinstance(schedule.base, shapes.Exponential):
        return _exponential(schedule.base, staircase=True) if schedule.base.every == schedule.every else None
    if isinstance(schedule, shapes.InverseTime) and schedule.power == 1 and schedule.steps is None:
        return call(
            "InverseTimeDecay", initial_learning_rate=schedule.start, decay_steps=schedule.every,
            decay_rate=schedule.decay,
        )  # fmt: skip
    if (
        isinstance(schedule, shapes.Piecewise)
        and schedule.milestones
        and all(isinstance(m, int) and m < FAR for m in schedule.milestones)
    ):
        boundaries: list[Any] = [m - 1 for m in schedule.milestones]  # type: ignore[operator]
        return call("PiecewiseConstantDecay", boundaries=boundaries, values=list(schedule.levels))
    return None


def _cosine(ramp: Any, warm: Any = None) -> str | None:
    if not rational(ramp, "cosine") or not 0 <= ramp.end < ramp.start:
        return None
    alpha = {"alpha": tidy(ramp.end / ramp.start)} if ramp.end else {}
    if warm is None:
        return call("CosineDecay", initial_learning_rate=ramp.start, decay_steps=ramp.steps, **alpha)
    if not rational(warm, "linear") or warm.end != ramp.start or not 0 <= warm.start < warm.end:
        return None
    return call(
        "CosineDecay", initial_learning_rate=warm.start, decay_steps=ramp.steps, **alpha, warmup_target=ramp.start,
        warmup_steps=warm.steps,
    )  # fmt: skip


def _polynomial(ramp: core.Ramp) -> str | None:
    power = power_of(ramp)
    if power is None:
        return None
    return call(
        "PolynomialDecay", initial_learning_rate=ramp.start, decay_steps=ramp.steps, end_learning_rate=ramp.end,
        power=power,
    )  # fmt: skip


def _exponential(given: shapes.Exponential, staircase: bool) -> str | None:
    if given.steps is not None or not kept(given.gamma):
        return None
    stairs = {"staircase": True} if staircase else {}
    return call(
        "ExponentialDecay", initial_learning_rate=given.start, decay_steps=given.every, decay_rate=given.gamma, **stairs
    )
