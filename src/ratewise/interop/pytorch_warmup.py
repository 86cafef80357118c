"""The warm-ups of pytorch_warmup as factors of ours: what it multiplies another scheduler's rate by."""

from typing import Any

from ratewise.core import checks
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Linear
from ratewise.errors import ScheduleError
from ratewise.interop.peer import Peer, formula

PEER = Peer("from_pytorch_warmup")

_RAN = {"UntunedLinearWarmup": "LinearWarmup", "UntunedExponentialWarmup": "ExponentialWarmup"}


def from_pytorch_warmup(warmup: Any, schedule: Any = None, *, group: int = 0, **arguments: Any) -> Any:
    """Return the factor of a warm-up, or ``schedule`` times that factor.

    The product is what the peer applies if the warm-up is made after the scheduler, and each ``scheduler.step()`` is
    inside ``with warmup.dampening()``; made before it, the factor of update 0 is lost (L3).

    Args:
        warmup: The warm-up; or the name of its class with ``warmup_period``, or ``beta2`` in place of the optimizer.
        schedule: The schedule that it dampens.
        group: Parameter group of a warm-up given as an object, counted from 0.
        arguments: The peer's own, where ``warmup`` is a name.

    Raises:
        ScheduleError: The warm-up is not known, or an argument is wrong.

    Example:
        >>> from_pytorch_warmup("LinearWarmup", warmup_period=4).values(0, 6)
        [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
        >>> from_pytorch_warmup("UntunedExponentialWarmup", Linear(0.1, 0.0, 10), beta2=0.75)
        Linear(0.1, 0.0, 10) * Formula('1 - exp(-(t + 1) / 4)')
    """
    if isinstance(warmup, str):
        factor = PEER.build(warmup, arguments)
    elif hasattr(warmup, "warmup_params"):
        name = type(warmup).__name__
        factor = PEER.build(_RAN.get(name, name), _of_group(warmup.warmup_params, group))
    else:
        factor = PEER.read(warmup)  # which says that it is none of theirs
    return factor if schedule is None else schedule * factor


def _of_group(params: list[dict[str, Any]], group: int) -> dict[str, Any]:
    """The settings of one group, without what follows from them."""
    if not isinstance(group, int) or not 0 <= group < len(params):
        raise ScheduleError(
            f"from_pytorch_warmup: group must be one of the {len(params)} groups, got {checks.shown(group)}."
        )
    return {name: value for name, value in params[group].items() if name in ("warmup_period", "beta2")}


@PEER.entry
def LinearWarmup(warmup_period: int) -> Schedule:
    """``min(1, (t + 1) / period)``."""
    return Linear(0.0, 1.0, checks.whole("LinearWarmup", "warmup_period", warmup_period), ends="(]")


@PEER.entry
def ExponentialWarmup(warmup_period: int) -> Schedule:
    """``1 - exp(-(t + 1) / period)``."""
    period = checks.whole("ExponentialWarmup", "warmup_period", warmup_period)
    return formula("1 - exp(-(t + 1) / {period})", period=period)


@PEER.entry
def UntunedLinearWarmup(beta2: float = 0.999) -> Schedule:
    """Linear, with a period of ``int(2 / (1 - beta2))``: 1999 for 0.999 (L3)."""
    return LinearWarmup(int(2.0 / (1.0 - _decay(beta2))))


@PEER.entry
def UntunedExponentialWarmup(beta2: float = 0.999) -> Schedule:
    """Exponential, with a period of ``int(1 / (1 - beta2))``."""
    return ExponentialWarmup(int(1.0 / (1.0 - _decay(beta2))))


@PEER.entry
def RAdamWarmup(beta2: float = 0.999) -> Schedule:
    """RAdam's rectification from the first step at which it is defined.

    ``sqrt((r - 4) (r - 2) R / ((R - 4) (R - 2) r))`` with ``R = 2 / (1 - beta2) - 1`` and, n steps in,
    ``r = R - 2 n beta2**n / (1 - beta2**n)``; update 0 is the first n with r above 4.

    References:
        Liu et al., 2020, On the Variance of the Adaptive Learning Rate and Beyond. https://arxiv.org/abs/1908.03265
        Ma and Yarats, 2021, On the adequacy of untuned warmup for adaptive optimization.
        https://arxiv.org/abs/1910.04209
    """
    beta2 = _decay(beta2)
    most = 2.0 / (1 - beta2) - 1
    if most <= 4:
        raise ScheduleError(f"RAdamWarmup: beta2 must be above 0.6, got {beta2!r}.")
    first = next(n for n in range(1, 100) if most - 2 * n * beta2**n / (1 - beta2**n) > 4)
    power = "{beta} ** (t + {first})"
    r = f"({{most}} - 2 * (t + {{first}}) * {power} / (1 - {power}))"
    return formula(
        f"sqrt(({r} - 4) * ({r} - 2) * {{most}} / ({{whole}} * {r}))",
        beta=beta2, first=first, most=most, whole=(most - 4) * (most - 2),
    )  # fmt: skip


def _decay(beta2: float) -> float:
    """Adam's second discount factor."""
    decay = checks.number("from_pytorch_warmup", "beta2", beta2)
    if not 0 <= decay < 1:
        raise ScheduleError(f"from_pytorch_warmup: beta2 must be at least 0 and below 1, got {beta2!r}.")
    return decay
