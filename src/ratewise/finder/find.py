"""What every framework's ``find_lr`` does with its ``Trainable``: check, measure, judge, and put everything back."""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from ratewise.core.horizon import Horizon, epochs
from ratewise.errors import FinderError, nearest
from ratewise.finder.finding import Finding, judged, weighed
from ratewise.finder.rules import suggestions
from ratewise.finder.sweep import Trainable, check_stop, ramp, swept
from ratewise.finder.trials import compressed, length, probe

P = ParamSpec("P")

METHODS = ("probe", "range")

ROOM = 64
"""Least ratio of the highest to the lowest rate of a probe: two steps of its coarse grid."""

UNKNOWN_HORIZON = 400
"""Updates for which a rate is sought where nobody says how many there will be: the shortest run with 50 to a probe."""


def _restored_after_all(search: Callable[Concatenate[Any, P], Finding]) -> Callable[Concatenate[Any, P], Finding]:
    """Restore once more where Ctrl-C comes in the few lines before restoring holds it back."""

    @wraps(search)
    def guarded(trainable: Any, /, *args: P.args, **named: P.kwargs) -> Finding:
        try:
            return search(trainable, *args, **named)
        except KeyboardInterrupt:
            trainable.restore()
            raise

    return guarded


@_restored_after_all
def find(
    trainable: Trainable, *, method: str = "probe", schedule: Any = None, horizon: Any = None, low: float = 1e-7,
    high: float = 10.0, steps: int | None = None, spacing: str = "geometric", stop: float = 4.0, seeds: int = 3,
    seed: int = 0,
) -> Finding:  # fmt: skip
    """Find a rate for ``trainable``, and restore it whatever happens. Arguments as for ``ratewise.torch.find_lr``.

    Raises:
        FinderError: An argument is not usable, or an update raised.
    """
    _check(method, schedule, horizon, seeds, seed)
    check_stop(stop)
    sweeping = steps if method == "range" and steps is not None else 100
    rates = ramp(low, high, sweeping, spacing)
    if method == "range":
        try:
            curve = swept(trainable, rates, seed, stop)
            ceiling = trainable.ceiling(seed)
            return judged(curve, trainable.cost, trainable.valid_for, ceiling)
        finally:
            trainable.restore()
    if high < ROOM * low:
        raise FinderError(
            f"find_lr: a probe needs room: high must be at least {ROOM} times low, got low={low:g}, high={high:g}."
        )
    planned, run, begin, left = _planned(trainable, schedule, horizon)
    if left < 1:
        raise FinderError(
            f"find_lr: the training stands at update {begin}, at the end of its horizon of {run.total_steps}. Give the "
            "schedule= and horizon= of what comes."
        )
    if steps is not None and not (type(steps) is int and 1 <= steps <= left):
        raise FinderError(
            f"find_lr: steps must be a whole number from 1 to the {left} updates of the horizon, got {steps!r:.40}."
        )
    shape = compressed(planned, run, length(left, steps), begin)
    try:
        trainable.prepare(max(len(shape), sweeping))
        curve = swept(trainable, rates, seed, stop)
        rules = suggestions(curve.rates, curve.losses, curve.planned)
        epoch = _epoch(horizon) or trainable.epoch
        passes = None if epoch is None else left / epoch
        trials = probe(
            trainable.scores, shape, left, low, high, centre=rules["minimum"], seeds=seeds, seed=seed, epochs=passes
        )
        valid_for = {
            **trainable.valid_for,
            "schedule": "constant" if planned is None else repr(planned),
            "horizon": left,
            "epochs": passes,
        }
        ceiling = trainable.ceiling(seed)
        return weighed(trials, rules, trainable.cost, valid_for, ceiling)
    finally:
        trainable.restore()


def _planned(trainable: Trainable, schedule: Any, horizon: Any) -> tuple[Any, Horizon, int, int]:
    """The schedule that will be used, the run that it is for, where that stands, and the updates that are left.

    By default what an attached ``Scheduler`` has before it, over the horizon if one is given; else a new run begins.
    """
    run = None if horizon is None else Horizon.of(horizon)
    if schedule is None and trainable.planned is not None:
        schedule, total, begin = trainable.planned
        return schedule, Horizon(total), begin, total - begin if run is None else run.total_steps
    if run is None:
        run = Horizon(math.ceil(getattr(schedule, "steps", None) or UNKNOWN_HORIZON))
    return schedule, run, 0, run.total_steps


def _epoch(horizon: Any) -> float | None:
    """Updates in one pass over the data, where a ``Horizon`` knows it."""
    if not isinstance(horizon, Horizon) or horizon.dataset_size is None or horizon.batch_size is None:
        return None
    return float(horizon.updates(epochs(1)))


def _check(method: str, schedule: Any, horizon: Any, seeds: int, seed: int) -> None:
    if method not in METHODS:
        raise FinderError(
            f"find_lr: method must be 'probe' or 'range', got {method!r:.40}.{nearest(str(method)[:40], METHODS)}"
        )
    if method == "range" and (schedule is not None or horizon is not None):
        raise FinderError(
            'find_lr: a range test knows neither schedule= nor horizon=. Leave them out, or use method="probe".'
        )
    for name, value, least in (("seeds", seeds, 1), ("seed", seed, 0)):
        if type(value) is not int or value < least:
            raise FinderError(f"find_lr: {name} must be an integer of at least {least}, got {value!r:.40}.")
    if seed >= 2**32:
        raise FinderError(f"find_lr: seed must be below 2**32, got {seed}.")
