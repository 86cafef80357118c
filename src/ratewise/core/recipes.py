"""Well-known schedules by name. Each is a few lines of the algebra and returns one Schedule."""

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec

from ratewise.core import checks
from ratewise.core.horizon import Updates, fraction, is_zero, length
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant, Cosine, Exponential, InverseTime, Linear, Piecewise, Polynomial
from ratewise.errors import ScheduleError

RECIPES: dict[str, Callable[..., Schedule]] = {}
"""Every recipe by name."""

_Given = ParamSpec("_Given")


def recipe(function: Callable[_Given, Schedule]) -> Callable[_Given, Schedule]:
    """Make ``function`` a recipe: listed in ``RECIPES``, its numbers and lengths checked under its own name.

    What a parameter may be follows from its annotation; those named ``warmup`` and ``cooldown`` may also be 0.
    """
    name, parameters = function.__name__, signature(function)

    def checked(parameter: str, value: Any) -> Any:
        annotation = parameters.parameters[parameter].annotation
        if annotation is float:
            return (checks.positive if parameter == "gamma" else checks.number)(name, parameter, value)
        if annotation not in (Updates, Updates | None) or (value is None and annotation != Updates):
            return value
        return 0 if parameter in ("warmup", "cooldown") and is_zero(value) else length(name, parameter, value)

    @wraps(function)
    def wrapper(*args: _Given.args, **kwargs: _Given.kwargs) -> Schedule:
        bound = parameters.bind(*args, **kwargs)
        bound.arguments.update({key: checked(key, value) for key, value in bound.arguments.items()})
        try:
            return function(*bound.args, **bound.kwargs)
        except ScheduleError as error:
            raise ScheduleError(f"{name}: {str(error).partition(': ')[2] or error}") from None

    RECIPES[name] = wrapper
    return wrapper


@recipe
def fixed(lr: float) -> Schedule:
    """The same rate at every update.

    Example:
        >>> fixed(0.1)
        Constant(0.1)
    """
    return Constant(lr)


@recipe
def time_based(lr: float, decay: float, every: Updates = 1) -> Schedule:
    """``lr / (1 + decay * t / every)``: time-based decay, hyperbolic (not exponential).

    Args:
        lr: Rate of the first update.
        decay: Fall per ``every``: with 1.0 the rate is half after one ``every``, a third after two.
        every: Unit of time, in updates or e.g. ``epochs(1)``.

    Example:
        >>> time_based(0.1, decay=0.01)(100)
        0.05

    References:
        Robbins and Monro, 1951; the ``decay`` argument of Keras' older optimizers.
    """
    return InverseTime(lr, decay, every=every)


@recipe
def step_decay(lr: float, gamma: float = 0.5, every: Updates = fraction(0.25)) -> Schedule:  # noqa: B008
    """Multiply the rate by ``gamma`` once in every ``every`` updates: torch's StepLR.

    Example:
        >>> step_decay(0.1, gamma=0.5, every=10).values(0, 21)[::10]
        [0.1, 0.05, 0.025]

    References:
        He et al., 2016, Deep Residual Learning, section 3.4 (a tenth at each plateau).
        https://arxiv.org/abs/1512.03385
    """
    return Exponential(lr, gamma, every=every).stairs(every)


@recipe
def multi_step(lr: float, milestones: Sequence[Updates], gamma: float = 0.1) -> Schedule:
    """Multiply the rate by ``gamma`` at each milestone: torch's MultiStepLR.

    Example:
        >>> multi_step(1.0, [2, 4], gamma=0.5).values(0, 6)
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    values = [lr]
    milestones = checks.items("multi_step", "milestones", milestones)
    for _ in milestones:
        values.append(values[-1] * gamma)
    return Piecewise(values, milestones)


@recipe
def exponential_decay(lr: float, gamma: float = 0.01, every: Updates = fraction(1.0)) -> Schedule:  # noqa: B008
    """``lr * gamma**(t / every)``; by default a hundredth of ``lr`` at the end of the run.

    Example:
        >>> exponential_decay(0.1, gamma=0.5, every=10)(20)
        0.025
    """
    return Exponential(lr, gamma, every=every)


@recipe
def polynomial_decay(lr: float, end: float = 0.0, steps: Updates | None = None, power: float = 1.0) -> Schedule:
    """``end + (lr - end) * (1 - t / steps)**power``."""
    return Polynomial(lr, end, steps, power=power)


@recipe
def linear_decay(lr: float, end: float = 0.0, steps: Updates | None = None) -> Schedule:
    """A straight line from ``lr`` to ``end``, by default over the whole run.

    References:
        Defazio et al., 2023, Optimal Linear Decay Learning Rate Schedules. https://arxiv.org/abs/2310.07831
    """
    return Linear(lr, end, steps)


@recipe
def cosine(lr: float, end: float = 0.0, steps: Updates | None = None) -> Schedule:
    """Half a cosine wave from ``lr`` to ``end``, by default over the whole run.

    References:
        Loshchilov and Hutter, 2017, SGDR, eq. 5. https://arxiv.org/abs/1608.03983
    """
    return Cosine(lr, end, steps)


@recipe
def warmup_cosine(
    peak: float, warmup: Updates = fraction(0.05), end: float = 0.0, steps: Updates | None = None  # noqa: B008
) -> Schedule:  # fmt: skip
    """A linear warm-up to ``peak``, then half a cosine wave to ``end`` over the rest of the run (or ``steps``)."""
    return Cosine(peak, end, steps).warmup(warmup)


def _triangle(half: Updates) -> Schedule:
    return Linear(0.0, 1.0, half) >> Linear(1.0, 0.0, half)


@recipe
def cyclical(
    low: float, high: float, half_cycle: Updates = fraction(0.125),  # noqa: B008
    mode: str = "triangular", gamma: float = 0.9998,
) -> Schedule:  # fmt: skip
    """Up and down between ``low`` and ``high`` in straight lines.

    Args:
        low: Rate at the bottom.
        high: Rate at the top.
        half_cycle: Length of a rise (and of a fall).
        mode: ``"triangular"``; ``"triangular2"`` halves the height with every cycle; ``"exp_range"`` multiplies
            it by ``gamma**t``.
        gamma: Factor per update of ``"exp_range"``.

    Example:
        >>> cyclical(0.0, 1.0, half_cycle=2, mode="triangular2").values(0, 8)
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]

    References:
        Smith, 2017, Cyclical Learning Rates for Training Neural Networks. https://arxiv.org/abs/1506.01186
    """
    checks.choice("cyclical", "mode", mode, ("triangular", "triangular2", "exp_range"))
    if low > high:
        raise ScheduleError(f"cyclical: low must be at most high, got {low!r} and {high!r}.")
    if mode == "triangular":
        return (Linear(low, high, half_cycle) >> Linear(high, low, half_cycle)).repeat()
    wave = _triangle(half_cycle).repeat(gamma=0.5 if mode == "triangular2" else 1.0)
    swing = (high - low) * wave
    return low + (swing * Exponential(1.0, gamma) if mode == "exp_range" else swing)


@recipe
def one_cycle(
    peak: float, warmup: Updates = fraction(0.3), start_ratio: float = 0.04, end_ratio: float = 4e-6,  # noqa: B008
    shape: str = "cosine", steps: Updates | None = None,
) -> Schedule:  # fmt: skip
    """Up from ``peak * start_ratio`` to ``peak``, then down to ``peak * end_ratio``: the 1cycle policy's rate.

    ``one_cycle_momentum`` is its partner with the same spans.

    Args:
        peak: Highest rate.
        warmup: Length of the rise, by default 30% of the run.
        start_ratio: First rate as a part of ``peak``: 1/25, as torch and fastai.
        end_ratio: Last rate as a part of ``peak``: 1/25e4, as torch.
        shape: Ease of both ramps.
        steps: Length of the fall; by default the rest of the run.

    References:
        Smith and Topin, 2018, Super-Convergence. https://arxiv.org/abs/1708.07120
    """
    return Ramp(peak * start_ratio, peak, warmup, ease=shape) >> Ramp(peak, peak * end_ratio, steps, ease=shape)


@recipe
def one_cycle_momentum(
    high: float = 0.95, low: float = 0.85, warmup: Updates = fraction(0.3), shape: str = "cosine",  # noqa: B008
    steps: Updates | None = None,
) -> Schedule:  # fmt: skip
    """The momentum that goes with ``one_cycle``: down to ``low`` while the rate rises, then back to ``high``.

    References:
        Smith, 2018, A Disciplined Approach to Neural Network Hyper-Parameters. https://arxiv.org/abs/1803.09820
    """
    return Ramp(high, low, warmup, ease=shape) >> Ramp(low, high, steps, ease=shape)


@recipe
def sgdr(peak: float, first: Updates, stretch: float = 2.0, end: float = 0.0, gamma: float = 1.0) -> Schedule:
    """Cosine decay with warm restarts; cycle i lasts ``first * stretch**i`` updates.

    References:
        Loshchilov and Hutter, 2017. https://arxiv.org/abs/1608.03983
    """
    return Cosine(peak, end, first).repeat(stretch=stretch, gamma=gamma)


@recipe
def wsd(
    peak: float, warmup: Updates = fraction(0.05), cooldown: Updates = fraction(0.2),  # noqa: B008
    end: float = 0.0, shape: str = "1-sqrt",
) -> Schedule:  # fmt: skip
    """Warm-up, stable, decay: a plateau at ``peak`` between a linear rise and a final cooldown.

    References:
        Hu et al., 2024, MiniCPM. https://arxiv.org/abs/2404.06395
        Hägele et al., 2024. https://arxiv.org/abs/2405.18392
    """
    return Constant(peak).warmup(warmup).cooldown(cooldown, end, shape)


@recipe
def trapezoidal(
    peak: float, warmup: Updates = fraction(0.05), cooldown: Updates = fraction(0.2), end: float = 0.0  # noqa: B008
) -> Schedule:  # fmt: skip
    """Up in a line, flat, down in a line: ``wsd`` with a straight cooldown; also known as explore-exploit ("knee").

    References:
        Xing et al., 2018, A Walk with SGD. https://arxiv.org/abs/1802.08770
        Iyer et al., 2020, Wide-minima Density Hypothesis and the Explore-Exploit Learning Rate Schedule.
        https://arxiv.org/abs/2003.03977
    """
    return Constant(peak).warmup(warmup).cooldown(cooldown, end, "linear")


@recipe
def wsd_s(
    peak: float, hold: Updates, cooldown: Updates, end: float = 0.0, warmup: Updates = 0, shape: str = "1-sqrt"
) -> Schedule:
    """WSD-S: hold and cooldown again and again, so that every cooldown leaves a finished model on the way.

    Args:
        peak: Rate of each plateau.
        hold: Length of each plateau.
        cooldown: Length of each cooldown, at least 1.
        end: Rate at the end of each cooldown.
        warmup: Length of the one warm-up, before the first plateau.
        shape: Ease of the cooldowns.

    Example:
        >>> wsd_s(1.0, hold=2, cooldown=2, shape="linear").values(0, 8)
        [1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 0.5]

    References:
        Wen et al., 2024, Understanding Warmup-Stable-Decay Learning Rates. https://arxiv.org/abs/2410.05192
    """
    return (Constant(peak, hold) >> Ramp(peak, end, cooldown, ease=shape)).repeat().warmup(warmup, end=peak)


@recipe
def flat_cosine(peak: float, flat: Updates = fraction(0.75), end: float = 0.0) -> Schedule:  # noqa: B008
    """Constant, then half a cosine wave to ``end`` over the rest of the run: fastai's ``fit_flat_cos``."""
    return Constant(peak, flat) >> Cosine(peak, end)


@recipe
def tri_stage(
    peak: float, warmup: Updates = fraction(0.1), hold: Updates = fraction(0.4), start_ratio: float = 0.01,  # noqa: B008
    end_ratio: float = 0.01, steps: Updates | None = None,
) -> Schedule:  # fmt: skip
    """Up in a line, hold, then down by equal ratios to ``peak * end_ratio``: fairseq's speech schedule.

    Args:
        peak: Rate of the hold.
        warmup: Length of the rise from ``peak * start_ratio``.
        hold: Length of the plateau.
        start_ratio: First rate as a part of ``peak``.
        end_ratio: Last rate as a part of ``peak``, above 0.
        steps: Length of the fall; by default the rest of the run.

    References:
        Park et al., 2019, SpecAugment, section 3.2. https://arxiv.org/abs/1904.08779
    """
    fall = Ramp(peak, peak * end_ratio, steps, ease="geometric")
    return (Constant(peak, hold) >> fall).warmup(warmup, start=peak * start_ratio)


@recipe
def slanted_triangular(
    peak: float, rise: Updates = fraction(0.1), ratio: float = 32.0, steps: Updates | None = None  # noqa: B008
) -> Schedule:  # fmt: skip
    """A short line up from ``peak / ratio``, a long one down to it again: ULMFiT's fine-tuning schedule.

    References:
        Howard and Ruder, 2018, Universal Language Model Fine-tuning, eq. 3. https://arxiv.org/abs/1801.06146
    """
    low = peak / checks.positive("slanted_triangular", "ratio", ratio)
    return Linear(low, peak, rise) >> Linear(peak, low, steps)


@recipe
def power_decay(peak: float, knee: Updates, power: float = 0.51, warmup: Updates = 0) -> Schedule:
    """``min(peak, peak * (t / knee)**-power)``, after a warm-up that counts within: the power scheduler.

    Its paper gives ``min(peak, batch * a * n**-b)`` of the tokens n: that is ``power=b`` and
    ``knee=tokens((peak / (batch * a))**(-1 / b))``. End it with ``.cooldown(...)``.

    Args:
        peak: Highest rate.
        knee: Where the decay begins, counted from update 0; at least as long as the warm-up.
        power: How fast it falls: 0.51 in the paper, 0.5 is the inverse square root.
        warmup: Length of the warm-up.

    Example:
        >>> power_decay(1.0, knee=4, power=1.0).values(0, 17)[::4]
        [1.0, 1.0, 0.5, 0.3333333333333333, 0.25]

    References:
        Shen et al., 2024, Power Scheduler. https://arxiv.org/abs/2408.13359
    """
    if isinstance(warmup, (int, float)) and isinstance(knee, (int, float)) and warmup > knee:
        raise ScheduleError(f"power_decay: warmup must be at most knee ({knee}), got {warmup}.")
    checks.positive("power_decay", "power", power)
    body = Constant(peak, knee) >> InverseTime(peak, 1.0, every=knee, power=power)
    return body if is_zero(warmup) else body.after(warmup).warmup(warmup, end=peak)


@recipe
def range_test(low: float, high: float, steps: Updates | None = None, shape: str = "geometric") -> Schedule:
    """From ``low`` to ``high``, to see at which rate the loss falls fastest and where it diverges.

    References:
        Smith, 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3.
        https://arxiv.org/abs/1506.01186
    """
    return Ramp(low, high, steps, ease=shape)


@recipe
def noam(peak: float, warmup: int) -> Schedule:
    """``peak * min((t+1) / w, sqrt(w / (t+1)))``: the Transformer's schedule, given by its peak.

    References:
        Vaswani et al., 2017, Attention Is All You Need, eq. 3. https://arxiv.org/abs/1706.03762
    """
    warmup = checks.whole("noam", "warmup", warmup)
    return InverseTime(peak, 1 / warmup, power=0.5).after(1).warmup(warmup, end=peak)


@recipe
def inverse_sqrt(peak: float, timescale: Updates, warmup: Updates = 0) -> Schedule:
    """``peak / sqrt(1 + t / timescale)``, after a linear warm-up.

    References:
        Zhai et al., 2022, Scaling Vision Transformers. https://arxiv.org/abs/2106.04560
    """
    return InverseTime(peak, 1.0, every=timescale, power=0.5).warmup(warmup)


@recipe
def rex(peak: float, end: float = 0.0, steps: Updates | None = None, alpha: float = 0.5) -> Schedule:
    """Reflected exponential: late, steep decay, ``end + (peak - end) * (1-p) / (1 - alpha p)``.

    References:
        Chen et al., 2021, REX: Revisiting Budgeted Training with an Improved Schedule.
        https://arxiv.org/abs/2107.04197
    """
    return Ramp(peak, end, steps, ease=f"rex({alpha!r})")
