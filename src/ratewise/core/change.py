"""Changing a plan in the middle of a run: pure functions from schedules to a schedule."""

import math
from typing import Any

from ratewise.core import checks
from ratewise.core.horizon import is_zero
from ratewise.core.schedule import Ramp, Schedule, Sequence, Stretch
from ratewise.errors import ScheduleError, nearest

POLICIES = ("keep", "switch", "stretch", "replan", "rewarm(n)")


def extend(old: Schedule, new: Schedule, at: int, policy: str) -> Schedule:
    """Return what follows when ``old`` ran up to update ``at`` and ``new`` is what is wanted now.

    The result is ``old.until(at) >> tail``; only the tail depends on the policy:

    - ``"keep"``: ``old`` as planned, to ``new``'s length (its end value is held if that is longer).
    - ``"switch"``: ``new`` as if it had been planned from the start; the rate may jump.
    - ``"stretch"``: what remains of ``old``, slowed down so that it ends where ``new`` ends.
    - ``"replan"``: a ramp from ``old(at)`` to ``new``'s end value, with the ease of ``new``'s last ramp (a line if it
      has none).
    - ``"rewarm(n)"``: n updates from ``old(at)`` in a line to ``new(at + n)``, then ``new``.

    Args:
        old: The schedule so far.
        new: The schedule wanted from now on, counted from the start of the run.
        at: Updates done, inside ``new``'s length.
        policy: One of the five above.

    Raises:
        ScheduleError: The policy is unknown, ``at`` lies outside, or a length that the policy needs is not known.

    Example:
        >>> from ratewise import Linear
        >>> old, new = Linear(1.0, 0.0, 10), Linear(1.0, 0.0, 20)
        >>> [extend(old, new, 5, policy)(10) for policy in ("keep", "switch", "stretch", "replan", "rewarm(2)")]
        [0.0, 0.5, 0.3333333333333333, 0.3333333333333333, 0.5]
    """
    name, n = _read(policy)
    for role, schedule in (("old", old), ("new", new)):
        if not isinstance(schedule, Schedule):
            raise ScheduleError(f"extend: {role} must be a Schedule, got {checks.shown(schedule)}.")
        _ = schedule._known
    if not is_zero(at):
        at = checks.whole("extend", "at", at)
    if new.steps is not None and at + n >= new.steps:
        raise ScheduleError(f"extend: at={at}{f' + {n}' if n else ''} must lie inside the new length, {new.steps}.")
    tail = {"keep": _keep, "switch": _switch, "stretch": _stretch, "replan": _replan, "rewarm": _rewarm}[name]
    rest = tail(old, new, int(at), n)
    return old.until(at) >> rest if at else rest


def side_by_side(old: Schedule, new: Schedule, at: int, names: tuple[str, str] = ("old", "new")) -> str:
    """Return both curves from update ``at`` on as a table, for errors that ask which one is meant.

    Args:
        old: One schedule.
        new: The other.
        at: First update shown; the last is where the longer one ends.
        names: What the columns are called.

    Example:
        >>> from ratewise import Linear
        >>> print(side_by_side(Linear(1.0, 0.0, 10), Linear(1.0, 0.0, 20), 5))
        update           old           new  ratio
             5  5.000000e-01  7.500000e-01    1.5
            10  0.000000e+00  5.000000e-01      -
            15  0.000000e+00  2.500000e-01      -
            20  0.000000e+00  0.000000e+00      -
    """
    ends = [math.ceil(a.steps) for a in (old, new) if a.steps is not None]
    far = max([*ends, at]) if max([*ends, at]) > at else 2 * at or 1000
    shown = sorted({at, at + (far - at) // 3, at + 2 * (far - at) // 3, far, *(end for end in ends if end > at)})
    width = max(6, len(str(far)))
    lines = [f"{'update':>{width}}  {names[0]:>12}  {names[1]:>12}  ratio"]
    for t in shown:
        ratio = f"{new(t) / old(t):.5g}" if old(t) else "-"
        lines.append(f"{t:>{width}}  {old(t):>12.6e}  {new(t):>12.6e}  {ratio:>5}")
    return "\n".join(lines)


def check_policy(where: str, policy: Any) -> str:
    """Return ``policy`` if ``extend`` knows it.

    Raises:
        ScheduleError: It does not; ``where`` names the argument in the message.
    """
    _read(policy, where)
    return str(policy)


def _read(policy: Any, where: str = "extend: policy") -> tuple[str, int]:
    """The policy's name, and the number of updates if it takes one."""
    if isinstance(policy, str) and policy in ("keep", "switch", "stretch", "replan"):
        return policy, 0
    if isinstance(policy, str) and policy.startswith("rewarm(") and policy.endswith(")"):
        number = policy.removeprefix("rewarm(")[:-1]
        if number.isascii() and number.isdigit() and 0 < len(number) < 17 and 0 < int(number) <= checks.FAR:
            return "rewarm", int(number)
    hint = nearest(policy, POLICIES)
    if isinstance(policy, str) and policy.startswith("rewarm"):
        hint = " rewarm needs a number of updates, for example 'rewarm(1000)'."
    elif "Did you mean" not in hint:
        hint = ""
    raise ScheduleError(f"{where} must be one of {', '.join(POLICIES)}, got {checks.shown(policy)}.{hint}")


def _from(schedule: Schedule, at: int) -> Schedule:
    return schedule.after(at) if at else schedule


def _left(new: Schedule, at: int, policy: str) -> Any:
    if new.steps is None:
        raise ScheduleError(f"extend: {policy!r} needs a new schedule with an end; give it steps, or .over(...) a run.")
    return new.steps - at


def _keep(old: Schedule, new: Schedule, at: int, n: int) -> Schedule:
    rest = _from(old, at)
    return rest if new.steps is None else rest.until(new.steps - at)


def _switch(old: Schedule, new: Schedule, at: int, n: int) -> Schedule:
    return _from(new, at)


def _stretch(old: Schedule, new: Schedule, at: int, n: int) -> Schedule:
    left = _left(new, at, "stretch")
    if old.steps is None or at >= old.steps:
        raise ScheduleError("extend: 'stretch' needs an old schedule that has not ended; use 'replan' or 'switch'.")
    remaining = old.steps - at
    factor = left / remaining
    while left / factor < remaining:  # so that the end is reached in spite of rounding
        factor = math.nextafter(factor, 0.0)
    slowed = Stretch(_from(old, at), factor)
    return slowed if slowed.steps == left else slowed.until(left)


def _replan(old: Schedule, new: Schedule, at: int, n: int) -> Schedule:
    left = _left(new, at, "replan")
    return Ramp(old(at), new(new.steps), left, ease=_last_ease(new) or "linear")


def _rewarm(old: Schedule, new: Schedule, at: int, n: int) -> Schedule:
    return Ramp(old(at), new(at + n), n, ends="(]") >> new.after(at + n)


def _last_ease(schedule: Any) -> str | None:
    """The ease of the last ramp, looked for inside operators too; None if there is none."""
    if isinstance(schedule, Ramp):
        return schedule.ease
    if isinstance(schedule, Sequence):
        inner = schedule.pieces[::-1]
    else:
        inner = getattr(schedule, "terms", ()) or tuple(filter(None, [getattr(schedule, "base", None)]))
    return next(filter(None, map(_last_ease, inner)), None)
