"""What must hold for whatever applies a schedule to an optimizer: an adapter, a trainer, a training loop.

Every check makes runs of its own and measures every update. Nothing is taken from what the adapter says of itself,
except where that is what the check is about.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Any

from ratewise.core.change import extend
from ratewise.core.ruled import Ruled
from ratewise.core.rules import NewBob, Plateau
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant, Cosine, Linear
from ratewise.errors import ScheduleChanged, ScheduleError, nearest
from ratewise.testing.checks import Check, LawBroken, NotOffered, Report, require
from ratewise.testing.examples import examples
from ratewise.testing.harness import Harness, follows, made, near, need, pickled, start, without_user_warnings

END, OTHER_END = 12, 20

PLAN = Cosine(0.4, 0.1, END - 3).warmup(3)
"""What most runs follow: every update has another rate, and the end is not 0."""

OTHER = Cosine(0.3, 0.05, OTHER_END)
"""What is followed instead."""

THIRD = Linear(0.2, 0.01, 24)
"""What is followed after that."""

SAVED = 5
"""The update that is saved at, where every update is not tried."""

POLICIES = ("keep", "switch", "stretch", "replan", "rewarm(3)")

_LAWS: dict[str, Callable[..., None]] = {}


def law(sentence: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function the check of that name."""

    def listed(function: Callable[..., None]) -> Callable[..., None]:
        _LAWS[sentence] = function
        return function

    return listed


def adapter_checks(schedules: Mapping[str, Schedule] | None = None) -> tuple[Check, ...]:
    """Return everything that must hold for an adapter, as checks to be called with a ``Harness``.

    Args:
        schedules: Schedules of known lengths that must be applied exactly, by name; by default ``examples()``.

    Raises:
        ScheduleError: There are none in ``schedules``.

    Example:
        >>> [str(check) for check in adapter_checks()][:3]  # doctest: +NORMALIZE_WHITESPACE
        ['every schedule is applied exactly', 'past the end the end value is held',
         'a long run is applied exactly']
    """
    if schedules is not None and not schedules:
        raise ScheduleError(
            "adapter_checks: schedules must have at least one schedule, got an empty dictionary. Leave it out to try "
            "every kind there is."
        )
    laws: dict[str, Callable[[Any], None]]
    laws = {**_LAWS, "every schedule is applied exactly": partial(_applied, schedules=schedules), _LACKS: _lacks}
    return tuple(Check(name, partial(_unless_lacking, name=name, run=run)) for name, run in laws.items())


def check_adapter(harness: Harness, schedules: Mapping[str, Schedule] | None = None) -> Report:
    """Hold an adapter to everything in ``adapter_checks``; the first that is broken is raised.

    Args:
        harness: How to start runs with it.
        schedules: Schedules that must be applied exactly, by name; by default ``examples()``.

    Returns:
        Which checks hold, and which features are not offered.

    Raises:
        LawBroken: A check does not hold; the message names it, the update and both rates.
        ScheduleError: There are none in ``schedules``.
    """
    return require(adapter_checks(schedules), harness)


_LACKS = "what it lacks are names of checks"

CORE = (
    "every schedule is applied exactly",
    "past the end the end value is held",
    "a long run is applied exactly",
    "a restart comes at its own update",
    "two runs do not disturb each other",
)
"""What needs nothing but ``update`` and must hold for every adapter, whatever it lacks."""


def _lacks(harness: Any) -> None:
    for name in getattr(harness, "lacks", {}):
        if name not in _LAWS:
            raise LawBroken(f"{name!r} is not the name of a check.{nearest(name, _LAWS)}")
        if name in CORE:
            raise LawBroken(f"{name!r} must hold for every adapter; it cannot be among what one lacks.")


def _unless_lacking(harness: Any, name: str, run: Callable[[Any], None]) -> None:
    reason = getattr(harness, "lacks", {}).get(name)
    if reason is not None and name not in CORE:
        raise NotOffered(reason)
    with without_user_warnings():
        run(harness)


# -- applying --------------------------------------------------------------------------------------------------------


@law("every schedule is applied exactly")
def _applied(harness: Any, schedules: Mapping[str, Schedule] | None = None) -> None:
    for name, lr in (examples() if schedules is None else schedules).items():
        stop = 20 if lr.steps is None else math.ceil(lr.steps) + 2
        follows(harness, start(harness, lr), lr, 0, stop, f"under {name!r} ")


@law("past the end the end value is held")
def _held(harness: Any) -> None:
    for lr in (PLAN, Linear(0.1, 0.0, 4), Cosine(0.1, 0.0, 4), Linear(0.1, 0.2, 3)):
        follows(harness, start(harness, lr), lr, 0, END + 20)


@law("a long run is applied exactly")
def _long(harness: Any) -> None:
    lr = Cosine(0.1, 0.01, 480).warmup(30)
    follows(harness, start(harness, lr), lr, 0, 520)


@law("a restart comes at its own update")
def _restarts(harness: Any) -> None:
    lr = Cosine(0.1, 0.01, 5).repeat(3, stretch=1.5)
    run = start(harness, lr)
    for t in range(20):
        near(harness, t, "the rate applied is", run.update(), "the schedule says", lr(t))
        if hasattr(run, "used"):
            near(harness, t, "the rate reported is", run.used(), "the schedule says", lr(t))


@law("two runs do not disturb each other")
def _two(harness: Any) -> None:
    first, second = start(harness, PLAN), start(harness, OTHER)
    for t in range(END):
        follows(harness, first, PLAN, t, t + 1, "beside another run ")
        if t % 2:
            follows(harness, second, OTHER, t // 2, t // 2 + 1, "beside another run ")


@law("an open schedule takes the length of the run")
def _horizon(harness: Any) -> None:
    lr = Cosine(0.4, 0.1).warmup(3)
    run = start(harness, lr, horizon=12)
    follows(harness, run, lr.over(12), 0, 14)


@law("accumulation counts updates and not micro batches")
def _accumulated(harness: Any) -> None:
    for accumulation in (2, 3):
        run = start(harness, PLAN, accumulation=accumulation)
        if not hasattr(run, "batch"):
            raise LawBroken("start() takes accumulation=, so the run must have batch(): one micro batch, and its rate.")
        for t in range(END + 2):
            for i in range(1, accumulation + 1):
                where = f"micro batch {i} of {accumulation} applies"
                near(harness, t, where, run.batch(), "it should be", PLAN(t) if i == accumulation else 0.0)


def _attempts(harness: Any, run: Any, t: int, failing: int) -> None:
    """Some attempts that fail at update ``t``, each of which must leave the parameter as it was."""
    for _ in range(failing):
        near(harness, t, "a skipped update applies", run.attempt(True), "it should be", 0.0)


@law("an update that is skipped does not count")
def _skipped(harness: Any) -> None:
    run = need(start(harness, PLAN), "attempt")
    for t in range(END + 1):
        _attempts(harness, run, t, (0, 1, 0, 2)[t % 4])
        rate = run.update() if t % 2 else run.attempt(False)
        near(harness, t, "after skipped updates the rate applied is", rate, "the schedule says", PLAN(t))


@law("a run that begins with skipped updates begins at update 0")
def _skipped_first(harness: Any) -> None:
    run = need(start(harness, PLAN), "attempt")
    _attempts(harness, run, 0, 2)
    near(harness, 0, "after two skipped updates the rate is", run.attempt(False), "the schedule says", PLAN(0))
    follows(harness, run, PLAN, 1, 4, "after two skipped updates ")


@law("the rate far on is that of its update")
def _far(harness: Any) -> None:
    late = 10**8
    ending, restarting = Constant(0.1, late + 2) >> Linear(0.1, 0.05, 4), Cosine(0.1, 0.05, 1000).repeat()
    single = 2**24 - 2  # the last whole numbers that float32 tells apart
    joint = Constant(0.1, single + 3) >> Linear(0.2, 0.1, 4)
    for lr, at in ((ending, late), (restarting, late - 3), (joint, single)):
        run = need(start(harness, lr), "seek")
        run.seek(at)
        follows(harness, run, lr, at, at + 8, "far on ")


# -- reading ---------------------------------------------------------------------------------------------------------


@law("what it reports as used was applied")
def _used(harness: Any) -> None:
    run = need(start(harness, PLAN), "used")
    for t in range(END + 3):
        applied = run.update()
        near(harness, t, "it reports", run.used(), "the rate applied is", applied)


@law("what it reports as coming is applied next")
def _coming(harness: Any) -> None:
    run = need(start(harness, PLAN), "coming")
    for t in range(END + 3):
        coming = run.coming()
        near(harness, t, "the rate applied is", run.update(), "it had reported", coming)


@law("asking changes nothing")
def _asking(harness: Any) -> None:
    run = start(harness, PLAN)
    questions = [getattr(run, name) for name in ("used", "coming", "save") if hasattr(run, name)]
    if not questions:
        raise NotOffered("the run has no used(), coming() or save()")
    for t in range(END):
        follows(harness, run, PLAN, t, t + 1, "asked again and again ")
        for question in questions * 3:
            question()


# -- saving and loading ----------------------------------------------------------------------------------------------


def _resumed(harness: Any, lr: Any, state: Any, *policy: str) -> Any:
    """A run as another process has it: all it knows of the saved one went through a file."""
    run = need(start(harness, lr), "load")
    if policy and len(signature(run.load).parameters) < 2:
        raise NotOffered("load() takes no policy")
    run.load(pickled(state), *policy)
    return run


@law("what it saves can be written to a file")
def _written(harness: Any) -> None:
    run = need(start(harness, PLAN), "save", "load")
    for t in range(3):
        follows(harness, _resumed(harness, PLAN, run.save()), PLAN, t, t + 1, "from a file ")
        follows(harness, run, PLAN, t, t + 1, "after saving ")


@law("killed at any update it goes on with the same rates")
def _killed(harness: Any) -> None:
    for t in range(END + 2):
        state = made(need(start(harness, PLAN), "save", "load"), t).save()
        run = _resumed(harness, PLAN, state)
        where = f"resumed at update {t} "
        if hasattr(run, "coming"):
            near(harness, t, f"{where}it reports as coming", run.coming(), "the schedule says", PLAN(t))
        if hasattr(run, "used") and t:
            near(harness, t - 1, f"{where}it reports as used", run.used(), "the schedule says", PLAN(t - 1))
        follows(harness, run, PLAN, t, END + 3, where)


@law("killed again and again it goes on with the same rates")
def _killed_often(harness: Any) -> None:
    run = need(start(harness, PLAN), "save", "load")
    for t in range(END + 2):
        run = _resumed(harness, PLAN, run.save())
        follows(harness, run, PLAN, t, t + 1, "resumed before every update ")


@law("a run that was saved goes on as before")
def _saved(harness: Any) -> None:
    run = made(need(start(harness, PLAN), "save"), SAVED)
    run.save()
    follows(harness, run, PLAN, SAVED, END + 2, "after saving ")


@law("loading twice is loading once")
def _twice(harness: Any) -> None:
    state = made(need(start(harness, PLAN), "save", "load"), SAVED).save()
    run = start(harness, PLAN)
    run.load(state)
    run.load(state)
    follows(harness, run, PLAN, SAVED, END + 2, "loaded twice ")


@law("a state may be loaded by any number of runs")
def _shared(harness: Any) -> None:
    state = made(need(start(harness, PLAN), "save", "load"), SAVED).save()
    for where in ("the first run ", "a second run from the same state "):
        run = start(harness, PLAN)
        run.load(state)
        follows(harness, run, PLAN, SAVED, END + 2, where)


@law("a run that had gone on goes back when it is loaded")
def _back(harness: Any) -> None:
    run = made(need(start(harness, PLAN), "save", "load"), SAVED)
    state = run.save()
    made(run, 4).load(state)
    follows(harness, run, PLAN, SAVED, END + 2, "gone back ")


@law("a state of another schedule is refused, and nothing is changed")
def _refused(harness: Any) -> None:
    state = made(need(start(harness, PLAN), "save", "load"), SAVED).save()
    run = made(start(harness, OTHER), 2)
    try:
        run.load(state)
    except ScheduleChanged:
        follows(harness, run, OTHER, 2, 8, "after a state was refused ")
        return
    raise LawBroken(
        f"load() took a state of {PLAN!r} into a run of {OTHER!r}; it should raise ScheduleChanged.", at=SAVED
    )


def _loaded_under(harness: Any, policy: str) -> None:
    state = made(need(start(harness, PLAN), "save", "load"), SAVED).save()
    run = _resumed(harness, OTHER, state, policy)
    follows(harness, run, extend(PLAN, OTHER, SAVED, policy), SAVED, OTHER_END + 2, f"under {policy!r} ")


# -- changes and rules -----------------------------------------------------------------------------------------------


def _changed(harness: Any, policy: str) -> None:
    run = made(need(start(harness, PLAN), "change"), SAVED)
    run.change(OTHER, policy)
    follows(harness, run, extend(PLAN, OTHER, SAVED, policy), SAVED, OTHER_END + 2, f"after {policy!r} ")


for _policy in POLICIES:
    _LAWS[f"changed with {_policy!r} it goes on as extend says"] = partial(_changed, policy=_policy)
    _LAWS[f"loaded into another schedule with {_policy!r} it goes on as extend says"] = partial(
        _loaded_under, policy=_policy
    )


@law("changed and then killed it goes on with the same rates")
def _changed_and_killed(harness: Any) -> None:
    run = made(need(start(harness, PLAN), "change", "save", "load"), SAVED)
    run.change(OTHER, "switch")
    state, lr = made(run, 2).save(), extend(PLAN, OTHER, SAVED, "switch")
    run = _resumed(harness, PLAN, state)
    follows(harness, run, lr, SAVED + 2, OTHER_END + 2, "changed and resumed ")


def _twice_changed(policy: str) -> Schedule:
    """What is followed if another schedule comes at update 5 and a third one at update 9."""
    return extend(extend(PLAN, OTHER, SAVED, "switch"), THIRD, SAVED + 4, policy)


@law("changed a second time it goes on from the first change")
def _changed_again(harness: Any) -> None:
    for policy in ("keep", "replan"):
        run = made(need(start(harness, PLAN), "change"), SAVED)
        run.change(OTHER, "switch")
        made(run, 4).change(THIRD, policy)
        follows(harness, run, _twice_changed(policy), SAVED + 4, 26, f"after 'switch' and {policy!r} ")


@law("changed and then loaded into another schedule it goes on from the change")
def _changed_and_loaded(harness: Any) -> None:
    for policy in ("keep", "replan"):
        run = made(need(start(harness, PLAN), "change", "save", "load"), SAVED)
        run.change(OTHER, "switch")
        run = _resumed(harness, THIRD, made(run, 4).save(), policy)
        follows(harness, run, _twice_changed(policy), SAVED + 4, 26, f"changed and loaded with {policy!r} ")


EVALUATIONS = (1.0, 0.9, 0.91, 0.92, 0.90, math.nan, 0.89, 0.89, 0.89)
"""Metrics after the warm-up: the rate is halved after the fourth and the sixth, and again after the ninth."""

RULED = (Ramp(0.4, 0.1, 30) * Plateau(0.5, patience=2)).warmup(5)

AGAIN = Ruled(Ramp(0.3, 0.06, 40), RULED.rules)
"""Another schedule under the same rules."""

BEFORE = 5
"""The evaluation before which a ruled run is changed: one cut was made, and the next one waits for this."""


def _judged(harness: Any, run: Any, lr: Any, state: Any, first: int, stop: int, where: str = "") -> Any:
    """Give evaluations ``first`` to ``stop - 1``, each before an update; return what the rules make of them."""
    for i in range(first, stop):
        run.observe(EVALUATIONS[i])
        state = lr.observe(state, EVALUATIONS[i], 5 + i)
        expected = lr.at(5 + i, lr.factor(state))
        what = f"{where}after evaluation {i} the rate applied is"
        near(harness, 5 + i, what, run.update(), "schedule and rules say", expected)
    return state


def _begun(harness: Any, *methods: str) -> tuple[Any, Any]:
    """A run and the state of its rule, in the middle of the evaluations."""
    run = made(need(start(harness, RULED), "observe", *methods), 5)
    return run, _judged(harness, run, RULED, RULED.init(), 0, BEFORE)


def _rejoined(policy: str) -> Ruled:
    return Ruled(extend(RULED.schedule, AGAIN.schedule, 5 + BEFORE, policy), RULED.rules)


@law("a rule acts right after the evaluation that decides it")
def _ruled(harness: Any) -> None:
    run = need(start(harness, RULED), "observe")
    follows(harness, run, RULED, 0, 3, "during the warm-up ")
    run.observe(0.0)
    follows(harness, run, RULED, 3, 5, "after a metric in the warm-up ")
    _judged(harness, run, RULED, RULED.init(), 0, len(EVALUATIONS))


@law("a rule that is killed while it waits decides the same")
def _ruled_and_killed(harness: Any) -> None:
    for i in range(len(EVALUATIONS)):
        run = made(need(start(harness, RULED), "observe", "save", "load"), 5)
        state = _judged(harness, run, RULED, RULED.init(), 0, i)
        run = _resumed(harness, RULED, run.save())
        _judged(harness, run, RULED, state, i, len(EVALUATIONS), f"killed before evaluation {i}, ")


@law("several rules all act")
def _several(harness: Any) -> None:
    lr = Ruled(Ramp(0.4, 0.1, 40), (NewBob(0.8), Plateau(0.5, patience=2)))
    run = made(need(start(harness, lr), "observe"), 5)
    _judged(harness, run, lr, lr.init(), 0, len(EVALUATIONS), "under two rules ")


@law("a change of plan leaves the rules as they are")
def _ruled_and_changed(harness: Any) -> None:
    for policy in ("keep", "switch"):
        run, state = _begun(harness, "change")
        run.change(AGAIN, policy)
        _judged(harness, run, _rejoined(policy), state, BEFORE, len(EVALUATIONS), f"after {policy!r} ")


@law("loaded into another schedule the rules are as they were")
def _ruled_and_loaded(harness: Any) -> None:
    for policy in ("keep", "switch"):
        run, state = _begun(harness, "save", "load")
        run = _resumed(harness, AGAIN, run.save(), policy)
        _judged(harness, run, _rejoined(policy), state, BEFORE, len(EVALUATIONS), f"loaded with {policy!r} ")


@law("a state of another schedule that is refused leaves the rules as they are")
def _ruled_and_refused(harness: Any) -> None:
    state = made(need(start(harness, AGAIN), "save", "load"), SAVED).save()
    run, judged = _begun(harness)
    try:
        run.load(state)
    except ScheduleChanged:
        _judged(harness, run, RULED, judged, BEFORE, len(EVALUATIONS), "after a state was refused, ")
        return
    raise LawBroken(f"load() took a state of {AGAIN!r} into a run of {RULED!r}; it should raise ScheduleChanged.")


@law("a metric is no update")
def _metric(harness: Any) -> None:
    run = need(start(harness, RULED), "observe")
    for t in range(8):
        run.observe(1.0 / (t + 1))
        run.observe(0.9 / (t + 1))
        follows(harness, run, RULED, t, t + 1, "after two metrics ")
