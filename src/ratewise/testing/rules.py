"""The laws of a rule: a pure step from state to state that survives JSON, interruption and tracing."""

import json
import math
import pickle
from collections.abc import Callable, Iterable
from functools import partial
from itertools import accumulate
from typing import Any

from ratewise.core.parse import from_dict, parse
from ratewise.core.ruled import Rule, Ruled
from ratewise.core.rules import RULES
from ratewise.core.shapes import Constant
from ratewise.testing.arrays import Library, imported, module
from ratewise.testing.checks import Check, LawBroken, NotOffered, Report, must_agree, require, same

METRICS = (
    *(1.0, 0.9, 0.91, 0.92, 0.90, math.nan, 0.95, 0.96, math.inf, 0.5, 0.5, -math.inf, 0.5),
    *(0.4, 0.3, 0.2, 0.1, 0.0, -0.5, -0.5, -0.5, -0.6),
    *[0.7] * 40,
)
"""Improvements, ties, metrics that are not finite, negative ones, and a plateau longer than most patience."""

_LAWS: dict[str, Callable[[Rule], None]] = {}


def law(sentence: str) -> Callable[[Callable[[Rule], None]], Callable[[Rule], None]]:
    """Make a function the check of that name."""

    def listed(function: Callable[[Rule], None]) -> Callable[[Rule], None]:
        _LAWS[sentence] = function
        return function

    return listed


def rule_checks(*, libraries: Iterable[str] | None = None) -> tuple[Check, ...]:
    """Return everything that must hold for a rule, as checks to be called with it.

    Args:
        libraries: Array libraries to try, of ``"numpy"``, ``"torch"``, ``"jax"``, ``"tensorflow"``, all of them
            imported already. None tries those that are; ``()`` none.

    Raises:
        ScheduleError: A library is unknown or not imported.
    """
    laws = dict(_LAWS)
    for name, library in imported(libraries).items():
        laws[f"{name} arrays of states go as numbers do"] = partial(_arrays, library)
        if library.traced:
            laws[f"traced by {name} it goes as numbers do"] = partial(_traced, library)
    return tuple(Check(name, run) for name, run in laws.items())


def check_rule(rule: Rule, *, libraries: Iterable[str] | None = None) -> Report:
    """Hold a rule to every law of ``rule_checks``; the first that is broken is raised.

    Args:
        rule: An instance of ``Plateau``, ``Greedy``, ``NewBob``, or of your own subclass of ``Rule``.
        libraries: Array libraries to try; None tries those that are imported.

    Returns:
        Which checks hold, and which were not possible and why.

    Raises:
        LawBroken: A law does not hold; the message names the law, the evaluation and both values.

    Example:
        >>> from ratewise import Plateau
        >>> check_rule(Plateau(0.5, patience=2), libraries=()).good
        True
    """
    return require(rule_checks(libraries=libraries), rule)


def _states(rule: Rule, metrics: Iterable[float] = METRICS) -> list[Any]:
    """The first state and the one after each metric."""
    return list(accumulate(metrics, rule.update, initial=rule.init()))


@law("it begins at scale 1")
def _begins(rule: Rule) -> None:
    must_agree("the scale is", 0, rule.scale(rule.init()), "it should be", 1.0)


@law("a state is a tuple of numbers, always as many")
def _numbers(rule: Rule) -> None:
    for i, state in enumerate(_states(rule)):
        good = isinstance(state, tuple) and len(state) == len(rule.init())
        if not good or not all(type(x) in (int, float) for x in state):
            raise LawBroken(f"after {i} metrics the state is {state!r:.100}.", at=i, found=state)


@law("a scale is finite and at least 0")
def _scales(rule: Rule) -> None:
    for i, state in enumerate(_states(rule)):
        scale = rule.scale(state)
        if not 0 <= scale < math.inf:
            raise LawBroken(f"after {i} metrics the scale is {scale!r}.", at=i, found=scale)


@law("metrics that are not finite are counted")
def _counted(rule: Rule) -> None:
    count = 0
    for i, (metric, state) in enumerate(zip(METRICS, _states(rule)[1:], strict=True)):
        count += not math.isfinite(metric)
        must_agree("nans(state) is", i, rule.nans(state), "the metrics not finite were", count)


@law("runs do not disturb each other")
def _pure(rule: Rule) -> None:
    expected, other = _states(rule), rule.init()
    state = rule.init()
    for i, metric in enumerate(METRICS):
        before: Any = list(state)
        given: Any = list(state)
        state = rule.update(given, metric)
        other = rule.update(other, -7.0 * i)
        _same_state("with another run beside it", i + 1, state, expected[i + 1])
        _same_state("the state that was given, afterwards,", i, given, before)
        _same_state("asked a second time", i + 1, rule.update(before, metric), expected[i + 1])


@law("killed at any evaluation it goes on from JSON")
def _resumed(rule: Rule) -> None:
    expected = _states(rule)
    for i in range(len(METRICS)):
        state = json.loads(json.dumps(expected[i]))
        for j, metric in enumerate(METRICS[i : i + 12], i):
            state = rule.update(state, metric)
            _same_state(f"gone on after {i} metrics", j + 1, state, expected[j + 1])


@law("a metric before its start changes nothing")
def _waits(rule: Rule) -> None:
    if type(rule.start) not in (int, float):
        raise NotOffered(f"its start {rule.start!r} is known only for a run")
    waiting = (Constant(0.1) * rule).warmup(5)
    start = rule.start + 5  # type: ignore[operator]
    (before,) = state = waiting.init()
    (after,) = waiting.observe(state, 0.25, start - 1)
    _same_state("observed too early", start - 1, after, before)
    (after,) = waiting.observe(state, 0.25, start)
    _same_state("observed at its start", start, after, rule.update(before, 0.25))


@law("it reads back, with a schedule")
def _round_trips(rule: Rule) -> None:
    ruled = Constant(0.1) * rule
    data = json.loads(json.dumps(ruled.to_dict()))
    if type(rule) not in RULES.values():
        raise NotOffered(f"parse and from_dict make the rules of ratewise alone, not {type(rule).__name__}")
    for how, again in (("from_dict", from_dict(data)), ("parse", parse(repr(ruled)))):
        _equal(how, again, ruled)


@law("pickled it is the same")
def _pickled(rule: Rule) -> None:
    if "<" in type(rule).__qualname__:
        raise NotOffered(f"{type(rule).__qualname__} is defined inside a function, which pickle cannot name")
    _equal("pickle", pickle.loads(pickle.dumps(Constant(0.1) * rule)), Constant(0.1) * rule)


@law("it cannot be changed")
def _frozen(rule: Rule) -> None:
    try:
        rule.factor = rule.factor
    except AttributeError:
        return
    raise LawBroken("its attribute 'factor' can be set. Make the class a @dataclass(frozen=True, repr=False).")


def _equal(how: str, found: Ruled, expected: Ruled) -> None:
    if found != expected or hash(found) != hash(expected):
        raise LawBroken(f"{how} gives {found!r:.100}, it was {expected!r:.100}.", found=found, expected=expected)


def _same_state(what: str, i: Any, found: Any, expected: Any) -> None:
    if len(found) != len(expected) or not all(map(same, found, expected)):
        raise LawBroken(
            f"{what}, after {i} metrics the state is {tuple(found)!r:.100}, it should be {tuple(expected)!r:.100}.",
            at=i, expected=expected, found=found,
        )  # fmt: skip


def _arrays(library: Library, rule: Rule) -> None:
    _compare(library, rule, rule.update)


def _traced(library: Library, rule: Rule) -> None:
    trace = library.traced(module(str(library.tracer)), rule.update)  # type: ignore[misc]
    _compare(library, rule, trace)


def _compare(library: Library, rule: Rule, update: Callable[[Any, Any], Any]) -> None:
    """Two runs as arrays of two: the metrics, and the metrics one evaluation later."""
    xp, metrics = module(library.module), METRICS[:24]
    later = metrics[1:] + metrics[:1]
    expected = [_states(rule, metrics), _states(rule, later)]
    state = tuple(library.floats(xp, [x, x]) for x in rule.init())
    for i, pair in enumerate(zip(metrics, later, strict=True)):
        state = update(state, library.floats(xp, list(pair)))
        for run, found in enumerate(library.listed(rule.scale(state))):
            must_agree("as an array the scale is", i, found, "as a number", rule.scale(expected[run][i + 1]), 1e-6)
        for run, found in enumerate(library.listed(rule.nans(state))):
            must_agree("as an array nans is", i, found, "as a number", rule.nans(expected[run][i + 1]))
