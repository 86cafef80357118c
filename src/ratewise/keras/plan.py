"""Changes of plan in the middle of a run: pure functions from one ``Schedule`` to the next.

Rules stay, with what they have made of the metrics so far, as long as the new plan has the same ones. Their factor
is kept apart from the schedule, so that cuts do not add up rounding errors and a change of plan forgets none.
"""

from typing import Any

from ratewise.core import schedule as core
from ratewise.core.change import extend, side_by_side
from ratewise.core.horizon import Updates
from ratewise.core.ruled import Ruled, ruled_like, rules_of, unruled
from ratewise.errors import AdapterError, ScheduleChanged
from ratewise.keras.schedule import Schedule, Spec

RATE = "learning_rate"
"""What the rate is called in history, logs and the record of changes, as Keras calls it."""


def changed(held: Schedule, new: Spec, t: int, policy: str, what: str, given: Spec | None = None) -> Schedule:
    """Return the schedule that goes from ``held`` to ``new`` at update ``t`` as ``ratewise.extend`` does.

    ``t`` is the optimizer's counter, here and below; ``new`` counts from the start of the run.
    """
    at = t + held.start
    stay = policy in ("keep", "stretch") or rules_of(new) == rules_of(held.lr)
    if stay:
        follows, rules, state = extend(unruled(held.lr), unruled(new), at, policy), rules_of(held.lr), held.state
    else:
        follows, rules = extend(held.scaled, unruled(new), at, policy), rules_of(new)
        state = new.init() if isinstance(new, Ruled) else None
    return _turned(held, Ruled(follows, rules) if rules else follows, state, t, what, given)


def decayed(held: Schedule, t: int, steps: Updates, end: float, shape: str) -> Schedule:
    """Return the schedule that comes down to ``end`` from update ``t`` on; rules go on acting on it."""
    factor = held.lr.factor(held.state) if isinstance(held.lr, Ruled) else 1.0
    ramp = unruled(held.lr).decay_from(t + held.start, steps, end / factor, shape)
    what = f"decay_now({steps!r}, end={end!r}, shape={shape!r})"
    return _turned(held, ruled_like(ramp, held.lr), held.state, t, what)


def scaled(held: Schedule, t: int, factor: float) -> Schedule:
    """Return the schedule that is multiplied by ``factor`` from update ``t`` on."""
    lr = ruled_like(unruled(held.lr).scaled_from(t + held.start, factor), held.lr)
    return _turned(held, lr, held.state, t, f"scaled_from({factor!r})")


def observed(held: Schedule, monitor: str, metric: float, t: int) -> Schedule:
    """Return the schedule after its rules have seen a metric; a cut is recorded."""
    lr: Any = held.lr
    state = lr.observe(held.state, metric, t + held.start)
    if lr.factor(state) == lr.factor(held.state):
        return held.turned(lr, state)
    before_after = zip(lr.rules, held.state, state, strict=True)
    acting = [repr(rule) for rule, before, after in before_after if rule.scale(before) != rule.scale(after)]
    return _turned(held, lr, state, t, f"{' and '.join(acting)} after {monitor}={metric!r}")


def agreed(held: Schedule, wanted: Schedule, t: int, policy: str | None) -> Schedule:
    """Return what an optimizer goes on with that has followed ``held`` up to update ``t`` when ``wanted`` is given.

    Raises:
        ScheduleChanged: They differ, and there is no policy.
    """
    if wanted.lr in (held.given, held.lr):
        kept = held.turned(held.lr, held.state)
        kept.accumulation = wanted.accumulation
        return kept
    if policy is None:
        raise refused("lr", held.scaled, wanted.scaled, t, held.start, (held.lr, wanted.lr))
    return changed(held, wanted.lr, t, policy, f"Follow(..., on_change={policy!r})", given=wanted.lr)


def refused(
    name: str, held: core.Schedule, wanted: core.Schedule, t: int, start: int, specs: tuple[Spec, Spec] | None = None
) -> ScheduleChanged:  # fmt: skip
    """Return the error for another plan than the one that was followed up to update ``t``, showing both.

    Curves that agree may still differ in their rules; ``specs`` has these.
    """
    table = side_by_side(held, wanted, t + start, ("followed", "given"))
    if specs is not None and rules_of(specs[0]) != rules_of(specs[1]):
        table += "\nTheir rules differ:" + "".join(
            f"\n  {which}: {' * '.join(map(repr, rules_of(spec))) or 'none'}"
            for which, spec in zip(("followed", "given"), specs, strict=True)
        )
    ends = " and ".join("endless" if s.steps is None else f"{s.steps} updates" for s in (held, wanted))
    since = f", the first of them update {start} of the run," if start else ""
    return ScheduleChanged(
        f"keras adapter: the optimizer has made {t} updates{since} under another {name} schedule than the one given "
        f"(lengths: {ends}).\n{table}\n"
        'Write Follow(..., on_change="keep") to go on with the one that was followed, "switch" to take the given one '
        'from here, or "stretch", "replan" or "rewarm(n)" (see ratewise.extend).'
    )


def held_by(found: Any, accumulation: int) -> Schedule:
    """Return what an optimizer follows as a ``Schedule``; a number is a constant rate.

    Raises:
        AdapterError: It is a schedule of somebody else's, which cannot be changed here.
    """
    if isinstance(found, Schedule):
        return found
    if isinstance(found, float):
        return Schedule(found, accumulation)
    raise AdapterError(
        f"keras adapter: the plan of {type(found).__name__} cannot be changed. Give Follow the schedule, "
        "for example with ratewise.interop.from_keras(schedule)."
    )


def _turned(held: Schedule, lr: Spec, state: Any, t: int, what: str, given: Spec | None = None) -> Schedule:
    """The next schedule, with what changes at update ``t`` written down."""
    after = held.turned(lr, state, given)
    entry = {
        "at": t,
        "what": what,
        "old": {RATE: held.now(t)},
        "new": {RATE: after.now(t)},
        "end": after.now.steps,
        "was": held.lr.to_dict(),
    }
    return held.turned(lr, state, given, entry)
