"""The laws of a schedule, for anybody's: a function, a ``Custom``, an expression of the algebra, a subclass.

Values are compared bit for bit wherever the law says so; only arrays, which other libraries compute, have tolerances.
"""

import copy
import json
import math
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from ratewise.core import text
from ratewise.core.horizon import Horizon
from ratewise.core.parse import FUNCTIONS, KINDS, from_dict, parse
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Custom, registered
from ratewise.errors import ScheduleError
from ratewise.testing.arrays import Library, imported, module
from ratewise.testing.checks import Check, LawBroken, NotOffered, Report, must_agree, require

CLOSELY = 40
"""How many updates are looked at one by one, at the start and around the end."""

_LAWS: dict[str, Callable[[Schedule], None]] = {}


def law(sentence: str) -> Callable[[Callable[[Schedule], None]], Callable[[Schedule], None]]:
    """Make a function the check of that name."""

    def listed(function: Callable[[Schedule], None]) -> Callable[[Schedule], None]:
        _LAWS[sentence] = function
        return function

    return listed


def schedule_checks(
    *, horizon: Horizon | int | None = None, rate: bool = True, libraries: Iterable[str] | None = None
) -> tuple[Check, ...]:  # fmt: skip
    """Return everything that must hold for a schedule, as checks to be called with it.

    Args:
        horizon: The run, or its number of updates; needed if the schedule's lengths are open.
        rate: Whether the values are rates and so must be at least 0.
        libraries: Array libraries to try, of ``"numpy"``, ``"torch"``, ``"jax"``, ``"tensorflow"``, all of them
            imported already. None tries those that are; ``()`` none, for a function that takes numbers alone.

    Raises:
        ScheduleError: A library is unknown or not imported.

    Example:
        >>> [str(check) for check in schedule_checks(libraries=())][:2]
        ['every value is a finite float', 'a rate is at least 0']
    """
    laws = dict(_LAWS) if rate else {name: check for name, check in _LAWS.items() if check is not _not_negative}
    for name, library in imported(libraries).items():
        laws[f"{name} arrays agree with numbers"] = partial(_arrays, library)
        if library.traced:
            laws[f"traced by {name} it agrees with numbers"] = partial(_traced, library)
    return tuple(Check(name, partial(_examined, run=run, horizon=horizon)) for name, run in laws.items())


def check_schedule(
    schedule: Any, *, horizon: Horizon | int | None = None, rate: bool = True, libraries: Iterable[str] | None = None
) -> Report:  # fmt: skip
    """Hold a schedule to every law of ``schedule_checks``; the first that is broken is raised.

    Args:
        schedule: A ``Schedule``, or a function of the position.
        horizon: The run, or its number of updates; needed if the schedule's lengths are open.
        rate: Whether the values are rates and so must be at least 0.
        libraries: Array libraries to try; None tries those that are imported.

    Returns:
        Which checks hold, and which were not possible and why.

    Raises:
        LawBroken: A law does not hold; the message names the law, the position and both values.

    Example:
        >>> def halved(t):
        ...     return 0.1 * 0.5 ** (t // 10)
        >>> check_schedule(halved, libraries=()).good
        True
        >>> check_schedule(lambda t: 0.1 - 0.01 * t, libraries=())
        Traceback (most recent call last):
        ratewise.testing.checks.LawBroken: a rate is at least 0: at update 11 it gives -0.009999999999999995.
    """
    return require(schedule_checks(horizon=horizon, rate=rate, libraries=libraries), schedule)


def _examined(schedule: Any, run: Callable[[Schedule], None], horizon: Horizon | int | None) -> None:
    """Call a law with the schedule itself if it is about its text, else with the one of the run."""
    whole = schedule if isinstance(schedule, Schedule) else Custom(schedule)
    run(whole if horizon is None or run in _OF_THE_TEXT else whole.over(horizon))


# -- values ----------------------------------------------------------------------------------------------------------


def _updates(schedule: Schedule) -> list[int]:
    """The first updates, those around the end, some between, and far ones."""
    n = CLOSELY if schedule.steps is None else math.ceil(schedule.steps)
    between = range(0, n, max(1, n // (2 * CLOSELY)))
    around = range(max(n - CLOSELY // 2, 0), n + CLOSELY // 2)
    return sorted({*range(CLOSELY), *between, *around, 2 * n, 10 * n, 10**6, 10**9})


def _lasting(schedule: Schedule) -> Schedule:
    """The schedule, or its first updates if it is endless."""
    return schedule.until(7) if schedule.steps is None else schedule


@law("every value is a finite float")
def _finite(schedule: Schedule) -> None:
    for t in _updates(schedule):
        value = schedule(t)
        if type(value) is not float or not math.isfinite(value):
            raise LawBroken(f"at update {t} it gives {value!r}.", at=t, expected="a finite float", found=value)


@law("a rate is at least 0")
def _not_negative(schedule: Schedule) -> None:
    for t in _updates(schedule):
        if schedule(t) < 0:
            raise LawBroken(f"at update {t} it gives {schedule(t)!r}.", at=t, expected="at least 0", found=schedule(t))


@law("before 0 the value is that of update 0")
def _before(schedule: Schedule) -> None:
    for t in (-1, -0.5, -(10**9), -math.inf):
        must_agree("the value is", t, schedule(t), "that of update 0 is", schedule(0))


@law("from its length on the end value is held")
def _held(schedule: Schedule) -> None:
    n = schedule.steps
    if n is None:
        must_agree("the value is", math.inf, schedule(math.inf), "the last value is", schedule(2**53))
        return
    for t in (n + 0.5, *range(math.ceil(n), math.ceil(n) + CLOSELY), 2 * n, 10**9, math.inf):
        must_agree("the value is", t, schedule(t), "the end value is", schedule(n))


@law("a position of nan is refused")
def _nan(schedule: Schedule) -> None:
    try:
        value = schedule(math.nan)
    except ValueError:
        return
    raise LawBroken(f"it gives {value!r} instead of a ScheduleError.", at=math.nan, found=value)


@law("a whole number and the same float give the same")
def _floats(schedule: Schedule) -> None:
    for t in _updates(schedule):
        must_agree("the integer gives", t, schedule(t), "the float", schedule(float(t)))


@law("asked again, in any order, it gives the same")
def _stateless(schedule: Schedule) -> None:
    updates = _updates(schedule)
    first = {t: schedule(t) for t in updates}
    for order in (updates, updates[::-1], updates[::2] + updates[1::2]):
        for t in order:
            must_agree("it now gives", t, schedule(t), "before it gave", first[t])


@law("values() is what calls give")
def _values(schedule: Schedule) -> None:
    n = CLOSELY if schedule.steps is None else math.ceil(schedule.steps)
    windows = ((0, min(n, 1000) + 5), (-3, 6), (max(n - 7, 1), n + 9), (n + 3, n + 6), (5, 5), (10**9, 10**9 + 3))
    for start, stop in windows:
        values = schedule.values(start, stop)
        if len(values) != stop - start:
            raise LawBroken(
                f"values({start}, {stop}) has {len(values)} of {stop - start} values.",
                at=start, expected=stop - start, found=len(values),
            )  # fmt: skip
        for t, value in zip(range(start, stop), values, strict=True):
            must_agree(f"values({start}, {stop}) has", t, value, "the call gives", schedule(t))


# -- the algebra -----------------------------------------------------------------------------------------------------


@law("cut and put together again it is the same")
def _cut(schedule: Schedule) -> None:
    n = CLOSELY if schedule.steps is None else math.ceil(schedule.steps)
    for cut in sorted({1, max(n // 2, 1), n, n + 3}):
        joined = schedule.until(cut) >> schedule.after(cut)
        for t in _updates(schedule):
            must_agree(f"until({cut}) >> after({cut}) gives", t, joined(t), "the schedule", schedule(t))


@law("followed by another, it is itself and then the other from its own 0")
def _then(schedule: Schedule) -> None:
    first, second = _lasting(schedule), Ramp(0.5, 0.25, 3)
    both = first >> second
    for t in _updates(first):
        expected = first(t) if t < first.steps else second(t - first.steps)
        must_agree("a >> b gives", t, both(t), "its piece", expected)


@law("numbers multiply and add pointwise")
def _pointwise(schedule: Schedule) -> None:
    doubled, shifted, squared = 2 * schedule, schedule + 0.5, schedule * schedule
    for t in _updates(schedule):
        must_agree("2 * a gives", t, doubled(t), "twice its value is", 2 * schedule(t))
        must_agree("a + 0.5 gives", t, shifted(t), "its value and 0.5 are", schedule(t) + 0.5)
        must_agree("a * a gives", t, squared(t), "its square is", schedule(t) ** 2, relative=1e-13)


@law("stretched by 2 it takes twice as long")
def _stretched(schedule: Schedule) -> None:
    slow = schedule.stretch(2)
    for t in _updates(schedule):
        must_agree("at twice the update stretch(2) gives", t, slow(2 * t), "the schedule", schedule(float(t)))


@law("scaled from an update on, it is what it was before and scaled after")
def _scaled(schedule: Schedule) -> None:
    for start in (0, 3):
        scaled = schedule.scaled_from(start, 0.5)
        for t in _updates(schedule):
            expected = schedule(t) if t < start else 0.5 * schedule(t)
            must_agree(f"scaled_from({start}, 0.5) gives", t, scaled(t), "it should be", expected, relative=1e-15)


@law("left by a decay it comes down from where it was")
def _decayed(schedule: Schedule) -> None:
    down = schedule.decay_from(3, 5)
    for t in _updates(schedule):
        if t <= 3 or t >= 8:
            expected = schedule(t) if t <= 3 else 0.0
            must_agree("decay_from(3, 5) gives", t, down(t), "it should be", expected)


# -- text and copies -------------------------------------------------------------------------------------------------


def _nodes(value: Any) -> Iterator[Any]:
    """The schedule and every schedule inside it."""
    if isinstance(value, tuple):
        for item in value:
            yield from _nodes(item)
    if isinstance(value, Schedule):
        yield value
        for name in _field_names(value):
            yield from _nodes(getattr(value, name))


def _field_names(value: Any) -> list[str]:
    return [field.name for field in fields(value)] if is_dataclass(value) else list(vars(value))


def _importable(schedule: Schedule) -> None:
    """Give up where a function or a class has no name to import it by."""
    for node in _nodes(schedule):
        named = node.function if isinstance(node, Custom) else type(node)
        name = text.function_name(named)
        module, _, path = name.partition(":")
        found: Any = sys.modules.get(module)
        for part in path.split("."):
            found = getattr(found, part, None)
        if found is not named:
            raise NotOffered(f"{name} cannot be imported by that name, so nothing can be read back that refers to it")


def _foreign(schedule: Schedule) -> None:
    """Give up where parse and from_dict must not know a class or function."""
    for node in _nodes(schedule):
        if type(node) not in KINDS.values():
            raise NotOffered(f"parse and from_dict make the classes of ratewise alone, not {type(node).__name__}")
        if isinstance(node, Custom):
            name = text.function_name(node.function)
            try:
                registered(name)
            except ScheduleError:
                raise NotOffered(f"{name} is not marked with @ratewise.register") from None


def _equal(what: str, found: Any, schedule: Schedule) -> None:
    if found != schedule:
        raise LawBroken(f"{what} gives {found!r:.100}, the schedule is {schedule!r:.100}.", found=found)


@law("its repr is the expression that makes it")
def _repr(schedule: Schedule) -> None:
    _importable(schedule)
    theirs = {type(node).__name__: type(node) for node in _nodes(schedule) if type(node) not in KINDS.values()}
    names = {**FUNCTIONS, "Custom": Custom, **theirs, "__builtins__": {}}
    _equal(f"eval({schedule!r:.100})", eval(repr(schedule), names), schedule)


@law("parse reads its repr")
def _parse(schedule: Schedule) -> None:
    _foreign(schedule)
    _equal(f"parse({repr(schedule)!r:.100})", parse(repr(schedule)), schedule)


@law("its dictionary goes through JSON")
def _json(schedule: Schedule) -> None:
    data = schedule.to_dict()
    read = json.loads(json.dumps(data))
    if read != data and _listed(read) != _listed(data):
        raise LawBroken(f"to_dict() holds more than plain JSON values: {data!r:.100}.", found=data)


@law("from_dict reads its dictionary")
def _from_dict(schedule: Schedule) -> None:
    _foreign(schedule)
    _equal("from_dict(to_dict())", from_dict(json.loads(json.dumps(schedule.to_dict()))), schedule)


@law("pickled and copied it is the same")
def _pickled(schedule: Schedule) -> None:
    _equal("copy.deepcopy", copy.deepcopy(schedule), schedule)
    _importable(schedule)
    again = pickle.loads(pickle.dumps(schedule))
    _equal("pickle", again, schedule)
    if not list(schedule._missing()):
        for t in range(CLOSELY):
            must_agree("the unpickled one gives", t, again(t), "the schedule", schedule(t))


@law("equal schedules are equal, and others are not")
def _equality(schedule: Schedule) -> None:
    again = copy.copy(schedule)
    _equal("copy.copy", again, schedule)
    if hash(again) != hash(schedule):
        raise LawBroken(f"two equal schedules have the hashes {hash(schedule)} and {hash(again)}.")
    for other in (schedule.stretch(3), 2 * schedule, None, "a"):
        if schedule == other or not schedule != other:
            raise LawBroken(f"it is said to be equal to {other!r:.100}.", found=other)


@law("it cannot be changed")
def _frozen(schedule: Schedule) -> None:
    for name in _field_names(schedule):
        try:
            setattr(schedule, name, getattr(schedule, name))
        except AttributeError:
            continue
        raise LawBroken(f"its attribute {name!r} can be set. Make the class a @dataclass(frozen=True, repr=False).")


_OF_THE_TEXT = (_repr, _parse, _json, _from_dict, _pickled, _frozen)


def _listed(value: Any) -> Any:
    """JSON's idea of a value: tuples are lists."""
    return json.loads(json.dumps(value, default=None))


# -- arrays ----------------------------------------------------------------------------------------------------------


def _asked(schedule: Schedule) -> list[int]:
    """Thirty-two updates, always so many: some libraries compile for every shape."""
    n = 20 if schedule.steps is None else math.ceil(schedule.steps)
    late = [n - 1, n, n + 1, 2 * n + 3, 10 * n]
    return [-1, *range(26), *(min(max(t, 0), 2**24) for t in late)]


def _rows(updates: list[Any]) -> list[list[Any]]:
    return [updates[:16], updates[16:]]


def _arrays(library: Library, schedule: Schedule) -> None:
    xp, updates = module(library.module), _asked(schedule)
    _compare(library, schedule, library.integers(xp, _rows(updates)), updates)
    halves = [t + 0.5 for t in updates[:-1]] + [math.nan]
    _compare(library, schedule, library.floats(xp, _rows(halves)), halves)


def _traced(library: Library, schedule: Schedule) -> None:
    xp, updates = module(library.module), _asked(schedule)
    traced = library.traced(module(str(library.tracer)), schedule.__call__)  # type: ignore[misc]
    _compare(library, traced, library.integers(xp, _rows(updates)), updates, schedule)


def _compare(
    library: Library, asked: Any, array: Any, updates: list[Any], schedule: Schedule | None = None
) -> None:  # fmt: skip
    """The values at an array of updates in two rows, against those at numbers; nan gives nan."""
    result = asked(array)
    if type(result) is not type(array):
        raise LawBroken(f"an array gives {type(result).__name__} instead of {type(array).__name__}.", found=result)
    rows = library.listed(result)
    if not isinstance(rows, list) or [len(row) for row in rows] != [16, 16]:
        raise LawBroken("an array of 2 by 16 positions gives another shape.", found=rows)
    expected = [t if t != t else (schedule or asked)(t) for t in updates]
    double, peak = "float64" in str(result.dtype), max(abs(x) for x in expected if x == x)
    relative, absolute = (1e-12, 1e-15 * peak) if double else (1e-6, 3e-7 * peak)
    for t, x, y in zip(updates, rows[0] + rows[1], expected, strict=True):
        must_agree("the array gives", t, x, "the number", y, relative, absolute)
