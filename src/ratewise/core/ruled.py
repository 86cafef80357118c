"""A schedule with rules: factors that follow a metric instead of the position.

A rule is frozen settings and a pure step: ``init()`` is the first state, ``update(state, metric)`` the next one, and
``scale(state)`` what the schedule is multiplied by. A state is a tuple of numbers whose length depends on the
settings alone: it goes through JSON, and since nothing branches on a metric, ``update`` traces in JAX and TensorFlow
and takes arrays of states. ``a * rule`` is a ``Ruled``; the rules themselves are in ``rules.py``.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import reduce
from itertools import accumulate
from operator import mul
from typing import Any, ClassVar, TypeAlias

from ratewise.core import checks, text
from ratewise.core.dialects import WORST, Dialect, Pick
from ratewise.core.horizon import Horizon, Length, Updates, is_zero, length
from ratewise.core.numeric import namespace
from ratewise.core.schedule import Schedule, Sequence, Sum, _encoded
from ratewise.core.shapes import Constant
from ratewise.errors import ScheduleError

State: TypeAlias = tuple[Any, ...]
"""Numbers (or arrays of them): the first is the factor, the last counts the metrics that were not finite."""


def _pick(condition: Any, a: Any, b: Any) -> Any:
    return a if condition else b


def _lifted(where: str, metric: Any, state: State, xp: Any) -> tuple[Any, list[Any], Pick]:
    """The metric and the state as numbers, or as arrays of the library in use, and its ``where``."""
    values = [checks.plain_number(x) for x in (metric, *state)]
    arrays = [x for x in values if type(x) not in (int, float)]
    try:
        if not arrays:
            return float(values[0]), values[1:], _pick
        xp = namespace(arrays[0]).module if xp is None else getattr(xp, "module", xp)
        zero, cast = _zero(arrays[0], xp)
        first, *rest = (zero + cast(x) for x in values)
    except (ScheduleError, OverflowError, TypeError):
        raise ScheduleError(f"{where}: the metric must be a number, got {checks.shown(metric)}.") from None
    return first, rest, lambda condition, a, b: xp.where(condition, cast(a), cast(b))


def _zero(x: Any, xp: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Zeros like ``x``, and what makes a value fit for sums with them: TensorFlow mixes no dtypes."""
    zero = xp.zeros_like(x)
    if xp.__name__ != "tensorflow":
        return zero, lambda value: value
    kind = zero.dtype if zero.dtype.is_floating else xp.float32
    return xp.cast(zero, kind), lambda x: xp.cast(x, kind) if xp.is_tensor(x) else xp.constant(x, kind)


class Rule:
    """A factor that follows a metric: frozen settings, and a pure step from state to state.

    ``init()`` is the first state and ``update(state, metric)`` the next one; ``scale(state)`` is what the schedule
    is multiplied by. Nothing is kept in the rule itself, so one rule serves any number of runs.
    """

    factor: float
    patience: int | None
    mode: str
    rtol: float | None
    atol: float | None
    min_scale: float
    start: Updates
    like: str | None
    _dialects: ClassVar[dict[str | None, Dialect]]
    __array_ufunc__ = None  # so that numpy scalars leave ``k * rule`` to us

    def init(self) -> State:
        """Return the state before the first metric: the rate as the schedule has it."""
        return (1.0, *self._first(), 0.0)

    def update(self, state: State, metric: Any, xp: Any = None) -> State:
        """Return the state after one more metric.

        Args:
            state: What ``init`` or ``update`` returned, also as a list (out of JSON) or as arrays.
            metric: The evaluation; nan and infinite ones are no improvement, and are counted.
            xp: The array library; found by the type of the metric if it is not given.

        Raises:
            ScheduleError: The metric is no number, or the state is not one of this rule.
        """
        where = type(self).__name__
        if not isinstance(state, (tuple, list)) or len(state) != len(self.init()):
            raise ScheduleError(
                f"{where}: the state must have the {len(self.init())} numbers of init(), got {checks.shown(state)}."
            )
        metric, (*inner, odd), pick = _lifted(where, metric, tuple(state), xp)
        after = self._after(inner, metric if self.mode == "min" else -metric, pick)
        return (*after, odd + pick(abs(metric) < math.inf, 0.0, 1.0))

    def scale(self, state: State) -> Any:
        """Return what the schedule is multiplied by in ``state``."""
        return state[0]

    def scales(self, metrics: Iterable[float]) -> list[float]:
        """Return the scale after each of ``metrics``, from the start: what the rule makes of a curve."""
        states = accumulate(metrics, self.update, initial=self.init())
        return [self.scale(state) for state in states][1:]

    def nans(self, state: State) -> Any:
        """Return how many metrics were nan or infinite."""
        return state[-1]

    def __mul__(self, other: Any) -> "Ruled":
        if isinstance(other, Rule):
            raise ScheduleError(
                f"'*': rules need a schedule to multiply, for example Constant(0.1) * {self!r:.60} * {other!r:.60}."
            )
        if isinstance(other, Ruled):
            return Ruled(other.schedule, (self, *other.rules))
        number = isinstance(checks.plain_number(other), (int, float)) and not isinstance(other, bool)
        return Ruled(Constant(other) if number else other, (self,))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return text.call(type(self).__name__, self)

    def _first(self) -> State:
        """The state of a fresh run, without the scale and the count of nans."""
        raise NotImplementedError

    def _after(self, state: list[Any], m: Any, pick: Pick) -> State:
        """The state after the metric ``m``, which is to fall."""
        raise NotImplementedError

    @property
    def _dialect(self) -> Dialect:
        return self._dialects[self.like]

    @property
    def _patience(self) -> int:
        """At which evaluation it acts."""
        patience = self._dialect.patience if self.patience is None else self.patience
        return max(patience + self._dialect.later, self._dialect.least)

    def _better(self, m: Any, best: Any, pick: Pick) -> Any:
        """Whether ``m`` is an improvement on ``best`` by more than the margins."""
        given = self.rtol is not None or self.atol is not None
        rtol, atol = (self.rtol or 0.0, self.atol or 0.0) if given else (self._dialect.rtol, self._dialect.atol)
        better = self._dialect.better(m, best, rtol if self.mode == "min" else -rtol, atol, pick)
        return better | (best == WORST) if self._dialect.first else better

    def _lower(self, scale: Any, cut: Any, pick: Pick, eps: float = 0.0) -> Any:
        """The scale after a cut, if there is one."""
        lower = pick(scale * self.factor > self.min_scale, scale * self.factor, self.min_scale)
        return pick(cut & (scale - lower > eps), lower, scale)

    def _check(self) -> None:
        """Check the settings that all rules share."""
        where, known = type(self).__name__, self._dialects
        if self.like is not None:
            checks.choice(where, "like", self.like, [name for name in known if name])
        checks.choice(where, "mode", self.mode, ("min", "max"))
        self._number("factor", "above 0 and below 1", lambda x: 0 < x < 1)
        if self.patience is not None:
            least = 1 if self.like is None else 0
            hint = " patience=1 acts at every evaluation without improvement." if least else ""
            self._count("patience", least, hint)
        for name in ("rtol", "atol"):
            if getattr(self, name) is not None:
                self._number(name, "at least 0", lambda x: x >= 0)
        if (self.rtol or 0.0) >= 1.0:
            raise ScheduleError(f"{where}: rtol must be below 1, a share of the best metric, got {self.rtol!r}.")
        if self.like == "keras" and self.rtol:
            raise ScheduleError(f"{where}: Keras has no relative margin, got rtol={self.rtol!r}. Give atol alone.")
        if self.like == "speechbrain" and self.mode == "max":
            raise ScheduleError(f"{where}: speechbrain knows mode='min' alone. Negate the metric, or leave out like=.")
        self.__dict__["start"] = 0 if is_zero(self.start) else length(where, "start", self.start)

    def _number(self, name: str, requirement: str, good: Callable[[float], bool]) -> None:
        value = checks.number(type(self).__name__, name, getattr(self, name), f"a finite number {requirement}")
        if not good(value):
            raise ScheduleError(f"{type(self).__name__}: {name} must be {requirement}, got {value!r}.")
        self.__dict__[name] = value

    def _count(self, name: str, least: int, hint: str = "") -> None:
        where, value = type(self).__name__, checks.plain_number(getattr(self, name))
        if type(value) is not int or not least <= value <= checks.FAR:
            given = checks.shown(value)
            raise ScheduleError(f"{where}: {name} must be an integer of at least {least}, got {given}.{hint}")
        self.__dict__[name] = value


@dataclass(frozen=True, repr=False)
class Ruled:
    """A schedule and the rules that multiply it; made by ``schedule * rule``.

    Update t uses ``schedule(t) * factor``, where the factor is what the rules made of the metrics so far. It is no
    ``Schedule``, since its values are known only while training; called with a position alone it gives the schedule
    itself, the factor being 1.

    Args:
        schedule: What the rate would be without metrics.
        rules: At least one; their factors multiply.

    Raises:
        ScheduleError: One of them is something else.

    Example:
        >>> from ratewise import Plateau
        >>> lr = (Constant(0.1) * Plateau(0.5, patience=2)).warmup(5)
        >>> lr
        (Linear(0.0, 0.1, 5, ends="(]") >> Constant(0.1)) * Plateau(factor=0.5, patience=2, start=5)
        >>> state = lr.init()
        >>> for t, loss in [(3, 0.1), (5, 1.0), (6, 1.1), (7, 1.2)]:
        ...     state = lr.observe(state, loss, t)
        >>> lr.at(8, lr.factor(state))
        0.05
    """

    schedule: Schedule
    rules: tuple[Rule, ...]
    __array_ufunc__ = None

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ScheduleError(f"'*': a rule multiplies a Schedule or a number, got {checks.shown(self.schedule)}.")
        self.__dict__["rules"] = rules = checks.items("Ruled", "rules", self.rules)
        wrong = [rule for rule in rules if not isinstance(rule, Rule)]
        if wrong or not rules:
            given = checks.shown(wrong[0] if wrong else rules)
            raise ScheduleError(f"Ruled: rules must be rules such as Plateau(0.5, 2), at least one, got {given}.")

    # -- evaluation ------------------------------------------------------------------------------------------

    def __call__(self, t: Any) -> Any:
        """Return the schedule's value at update ``t``: the rate as long as no rule has acted."""
        return self.schedule(t)

    def at(self, t: Any, factor: Any) -> Any:
        """Return the rate of update ``t`` under ``factor(state)``."""
        if isinstance(factor, str) or factor is None:
            raise ScheduleError(f"Ruled.at: factor must be what factor(state) returned, got {checks.shown(factor)}.")
        return self.schedule(t) * factor

    @property
    def steps(self) -> Any:
        """The schedule's length."""
        return self.schedule.steps

    def values(self, start: int, stop: int) -> list[float]:
        """Return the schedule's values, the factor being 1."""
        return self.schedule.values(start, stop)

    def table(self, rows: int = 11, steps: int | None = None) -> str:
        """Return the schedule's values as text, as ``Schedule.table`` does."""
        return self.schedule.table(rows, steps)

    def plot(self, width: int = 64, height: int = 12, steps: int | None = None) -> str:
        """Return the schedule's curve as text, as ``Schedule.plot`` does."""
        return self.schedule.plot(width, height, steps)

    def init(self) -> tuple[State, ...]:
        """Return the state before the first metric: one tuple of numbers for each rule."""
        return tuple(rule.init() for rule in self.rules)

    def observe(self, state: Any, metric: Any, t: Any, xp: Any = None) -> tuple[State, ...]:
        """Return the state after a metric that was measured when ``t`` updates had happened.

        Args:
            state: What ``init`` or ``observe`` returned.
            metric: The evaluation.
            t: The position; a rule passes over what was measured before its ``start``.
            xp: The array library; found by the type of the metric if it is not given.

        Raises:
            ScheduleError: The metric is no number, the state is another's, or a ``start`` needs the run's length.
        """
        t = checks.plain_number(t)
        if isinstance(t, (bool, str)) or t is None or (isinstance(t, float) and t != t):
            raise ScheduleError(f"observe: t must be the number of updates that happened, got {checks.shown(t)}.")
        return tuple(_observed(rule, s, metric, t, xp) for rule, s in self._matched(state))

    def factor(self, state: Any) -> Any:
        """Return what the schedule is multiplied by in ``state``."""
        return reduce(mul, [rule.scale(s) for rule, s in self._matched(state)])

    def _matched(self, state: Any) -> list[tuple[Rule, Any]]:
        """Each rule with its part of the state."""
        if not isinstance(state, (tuple, list)) or len(state) != len(self.rules):
            raise ScheduleError(
                f"{self!r:.80}: the state must be what init() or observe() returned, got {checks.shown(state)}."
            )
        return list(zip(self.rules, state, strict=True))

    # -- operators -------------------------------------------------------------------------------------------

    def over(self, horizon: Horizon | int) -> "Ruled":
        """Settle the schedule's lengths and the rules' starts for a run."""
        run = Horizon.of(horizon)
        rules = tuple(replace(rule, start=run.whole(rule.start)) for rule in self.rules)  # type: ignore[type-var]
        return Ruled(self.schedule.over(run), rules)

    def warmup(
        self, steps: Updates, start: float | None = None, end: float | None = None,
        shape: str = "linear", ends: str | None = None,
    ) -> "Ruled":  # fmt: skip
        """Put a warm-up before the schedule; the rules wait until it is over."""
        schedule = self.schedule.warmup(steps, start, end, shape, ends)
        if schedule is self.schedule:
            return self
        steps = length("warmup", "steps", steps)
        return Ruled(schedule, tuple(replace(rule, start=_behind(rule, steps)) for rule in self.rules))  # type: ignore[type-var]

    def __mul__(self, other: Any) -> "Ruled":
        if isinstance(other, Rule):
            return Ruled(self.schedule, (*self.rules, other))
        if isinstance(other, Ruled):
            return Ruled(self.schedule * other.schedule, self.rules + other.rules)
        return Ruled(self.schedule * other, self.rules)

    def __rmul__(self, other: Any) -> "Ruled":
        return Ruled(other * self.schedule, self.rules)

    def _refused(self, other: Any) -> "Ruled":
        raise ScheduleError(
            f"{self!r:.80}: a rule multiplies a whole schedule, so it comes last: (a >> b) * {self.rules[0]!r:.60}."
        )

    __rshift__ = __rrshift__ = __add__ = __radd__ = _refused

    def __getattr__(self, name: str) -> Any:
        if name[0] != "_" and hasattr(Schedule, name):
            rules = " * ".join(map(repr, self.rules))
            raise ScheduleError(
                f"{name}: a rule multiplies a whole schedule: a.{name}(...) * {rules:.80}, a without it."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- round trips -----------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        base = f"({self.schedule!r})" if isinstance(self.schedule, (Sequence, Sum)) else repr(self.schedule)
        return " * ".join([base, *map(repr, self.rules)])

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values; ``from_dict`` is its inverse."""
        rules = [
            {"type": type(rule).__name__, **{f.name: _encoded(getattr(rule, f.name)) for f in fields(rule)}}  # type: ignore[arg-type]
            for rule in self.rules
        ]
        return {"version": 1, "type": "Ruled", "schedule": _encoded(self.schedule), "rules": rules}


def unruled(lr: "Schedule | Ruled") -> Schedule:
    """Return the schedule without its rules."""
    return lr.schedule if isinstance(lr, Ruled) else lr


def rules_of(lr: "Schedule | Ruled") -> tuple[Rule, ...]:
    """Return the rules that multiply it, none for a plain schedule."""
    return lr.rules if isinstance(lr, Ruled) else ()


def ruled_like(schedule: Schedule, lr: "Schedule | Ruled") -> "Schedule | Ruled":
    """Return ``schedule`` with the rules that ``lr`` has."""
    return Ruled(schedule, lr.rules) if isinstance(lr, Ruled) else schedule


def _observed(rule: Rule, state: Any, metric: Any, t: Any, xp: Any) -> State:
    if isinstance(rule.start, Length):
        raise ScheduleError(
            f"{type(rule).__name__}: its start {rule.start!r} is not resolved. Give the length of the run, for example "
            ".over(Horizon(epochs=3, dataset_size=50_000, batch_size=128))."
        )
    after, seen = rule.update(state, metric, xp), t >= rule.start
    if isinstance(seen, bool):
        return after if seen else tuple(state)
    _, _, pick = _lifted("observe", metric, (t, *state), xp)
    return tuple(pick(seen, *pair) for pair in zip(after, state, strict=True))


def _behind(rule: Rule, steps: Updates) -> Updates:
    """The start of ``rule`` when ``steps`` updates are put before it."""
    if rule.start == 0:
        return steps
    if isinstance(rule.start, Length) or isinstance(steps, Length):
        raise ScheduleError(
            f"warmup: {rule.start!r} and {steps!r} can be added only once the run is known. Call .over(...) first, or "
            f"give the rule its start after the warm-up."
        )
    return rule.start + steps
