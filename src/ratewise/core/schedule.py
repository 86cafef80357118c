"""Schedules and the operators that combine them.

A schedule is a frozen value: a pure function from position (optimizer updates that happened, counted from 0) to
a number. It knows no framework and holds no clock. This file holds the base class, the one bounded shape
(``Ramp``) that the operators need, and one small class per operator; further shapes are in ``shapes.py``.

The one decision behind it: every schedule is total. ``a(t) = f(min(max(t, 0), a.steps))``, so nothing climbs
back, nothing raises past the end, and both branches of a ``where`` are always safe to evaluate.

How a length is settled: ``_exact(horizon)`` says how long a schedule is (a Fraction if it still has to be rounded,
None if it is open and takes what the run has left), then ``_fit(horizon, n)`` returns it resolved, its open parts
taking ``n`` updates.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import Field, dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property, partial, reduce
from itertools import pairwise
from operator import add, mul
from typing import Any, ClassVar

from ratewise.core import chain, checks, ease, text
from ratewise.core.chain import Row
from ratewise.core.checks import FAR
from ratewise.core.cycles import Cycles
from ratewise.core.horizon import Horizon, Length, Updates, given, is_zero, length, typed
from ratewise.core.numeric import SCALAR, namespace
from ratewise.core.rounding import Exact, half_up, rounded, shares, tidy
from ratewise.errors import ScheduleError

ENDS = {"[)": (0, 0), "(]": (1, 0), "()": (1, 1), "[]": (0, -1)}
"""Interval notation to (d, e) in ``clip((t + d) / (steps + e), 0, 1)``."""

_NAMED = {"linear": (), "cosine": (1.0,), "polynomial": None}  # eases with a constructor, and their parameters there


class Schedule:
    """A value over training: frozen, printable, comparable, callable at any position.

    ``a(t)`` is the value used by update ``t`` (counted from 0). Before 0 it is ``a(0)``; from ``a.steps`` on it
    is the end value, held. An int or float gives a float; an array of numpy, torch, TensorFlow or JAX gives the
    same kind (integer positions: the library's default float). A nan position raises, in an array it gives nan.

    ``a.steps`` is the length in optimizer updates, None if it is endless or not known before ``over`` (a shape made
    with a typed length shows that).
    """

    steps: Any = None
    _depth: int = 1
    __array_ufunc__ = None  # so that numpy scalars leave ``k * a`` to us

    # -- evaluation ------------------------------------------------------------------------------------------

    def at(self, t: Any, xp: Any) -> Any:
        """The formula, written against the functions ``xp``; ``t`` may be any real number or an array."""
        raise NotImplementedError

    def __call__(self, t: Any) -> Any:
        """Return the value used by update ``t``.

        Raises:
            ScheduleError: ``t`` is nan or not a number, or the schedule's length is not known yet.
        """
        kind = type(t)
        if kind is int or kind is float:
            if -FAR < t < FAR:
                return self._known(t)
            if t != t:
                raise ScheduleError("position: must be a number, got nan.")
            return self._known(FAR if t > 0 else -FAR)
        plain = checks.plain_number(t)
        if type(plain) in (int, float):
            return self(plain)
        library, _ = namespace(t), self._known
        try:
            return library.finish(self.at(library.prepare(t), library), t)
        except OverflowError:
            raise ScheduleError(
                f"{self!r:.80}: a length above {library.far} does not fit the positions given, which JAX holds as "
                'int32. Enable 64 bits: jax.config.update("jax_enable_x64", True).'
            ) from None

    @cached_property
    def _known(self) -> Callable[[Any], Any]:
        """The value at a number, once it is known that every length is."""
        missing = list(self._missing())
        if missing:
            raise ScheduleError(
                f"{self!r:.120}: its length is not known yet ({'; '.join(missing[:3])}). "
                "Give the length of the run, for example .over(1000)."
            )
        return self._number

    @cached_property
    def _number(self) -> Callable[[Any], Any]:
        """``at`` for plain numbers; the shapes that most schedules are made of have it without calls in between."""
        at = self.at
        return lambda t: at(t, SCALAR)

    def values(self, start: int, stop: int) -> list[float]:
        """Return ``[a(start), ..., a(stop - 1)]``, bit for bit what ``a(t)`` gives, but faster."""
        return list(map(self._known, _positions(start, stop)))

    def table(self, rows: int = 11, steps: int | None = None) -> str:
        """Return ``rows`` evenly spaced positions and their values as text."""
        return text.table(self, self._shown_steps(steps), rows)

    def plot(self, width: int = 64, height: int = 12, steps: int | None = None) -> str:
        """Return the curve as text for the terminal (``steps``: how much of an endless schedule to show)."""
        return text.plot(self, self._shown_steps(steps), width, height)

    @property
    def _row(self) -> Row | None:
        """What a long chain keeps of a ramp."""
        return None

    def _shown_steps(self, steps: int | None) -> int:
        _ = self._known
        if steps is not None:
            return checks.whole("plot", "steps", steps)
        return math.ceil(self.steps) if self.steps is not None else 1000

    # -- operators -------------------------------------------------------------------------------------------

    def then(self, other: "Schedule") -> "Schedule":
        """``a >> b``: ``a(t)`` below ``a.steps``, from there on ``b(t - a.steps)``."""
        return Sequence.joined(self, _schedule("then", other))

    def warmup(
        self, steps: Updates, start: float | None = None, end: float | None = None,
        shape: str = "linear", ends: str | None = None,
    ) -> "Schedule":  # fmt: skip
        """Put a rising ramp before the schedule.

        Without ``start`` the ramp is ``(]`` from 0: update i of a warm-up of W uses (i+1)/W of the peak, so no
        update is wasted at 0, and updates W-1 and W both use the peak. With ``start=x`` it is ``[)``: update 0 uses
        x and the peak comes first at update W; ``start=0.0`` is exactly what torch, Keras, optax and HF do.

        Args:
            steps: Length of the warm-up (0 returns the schedule as it is).
            start: Value of update 0.
            end: Value to rise to; by default the schedule's own first value.
            shape: Ease of the ramp.
            ends: Which ends are used, e.g. ``"(]"``.

        References:
            Goyal et al., 2017, Accurate, Large Minibatch SGD, section 2.2. https://arxiv.org/abs/1706.02677
        """
        if is_zero(steps):
            return self
        steps = length("warmup", "steps", steps, " warmup(0) leaves the schedule as it is.")
        if start is not None:
            start = checks.number("warmup", "start", start)
        if end is None:
            end = self._start_value()
            if end is None:
                raise ScheduleError(
                    f"warmup: the first value of {self!r:.80} is not known before over(...), so say where the "
                    "warm-up ends: warmup(steps, end=...)."
                )
        if ends is None:
            ends = "(]" if start is None else "[)"
        return Ramp(0.0 if start is None else start, end, steps, ease=shape, ends=ends) >> self

    def cooldown(self, steps: Updates, end: float = 0.0, shape: str = "1-sqrt") -> "Schedule":
        """Append a ramp from the end value to ``end``; after an open schedule it takes the run's last ``steps``.

        Args:
            steps: Length of the cooldown (0 returns the schedule as it is).
            end: Value at its end.
            shape: Ease of the ramp.

        References:
            Hägele et al., 2024, Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations.
            https://arxiv.org/abs/2405.18392
        """
        if is_zero(steps):
            return self
        steps = length("cooldown", "steps", steps, " cooldown(0) leaves the schedule as it is.")
        last = self._end_value()
        if last is None:
            return Cooldown(self, steps, end, shape)
        return self >> Ramp(last, checks.number("cooldown", "end", end), steps, ease=shape)

    def until(self, steps: Updates) -> "Schedule":
        """Cut to ``steps`` updates; a shorter schedule holds its end value up to there.

        Example:
            >>> Ramp(0.1, 0.0, 4).until(2).steps
            2
        """
        return Until(self, steps)

    def after(self, steps: Updates) -> "Schedule":
        """Drop the first ``steps`` updates: ``(a.until(n) >> a.after(n))(t) == a(t)``."""
        return After(self, steps)

    def repeat(self, times: int | None = None, stretch: float = 1.0, gamma: float = 1.0) -> "Schedule":
        """Start again at the end, ``times`` cycles in all (None: for ever).

        Cycle i lasts ``L * stretch**i`` updates and shows ``gamma**i * a(local / stretch**i)``. After the last cycle
        its end is held. A schedule without a length needs ``times`` and ``stretch=1``: each cycle then takes
        ``left // times`` updates of the run.

        Args:
            times: How many cycles, at least 1.
            stretch: How much longer each cycle is than the one before, taken as the decimal that was written.
            gamma: How much higher; above 1 only with ``times``.

        Raises:
            ScheduleError: With ``stretch`` a cycle would last less than one update; the values would not stay finite.

        Example:
            >>> Ramp(1.0, 0.0, 2).repeat(2, gamma=0.5).values(0, 5)
            [1.0, 0.5, 0.5, 0.25, 0.0]

        References:
            Loshchilov and Hutter, 2017, SGDR. https://arxiv.org/abs/1608.03983
        """
        return Repeat(self, times, stretch, gamma)

    def stairs(self, every: Updates) -> "Schedule":
        """Hold the value for ``every`` updates at a time: ``a(floor(t / every) * every)``."""
        return Stairs(self, every)

    def stretch(self, factor: float) -> "Schedule":
        """Slow time down: ``a.stretch(f)(t) == a(t / f)``; the length becomes ``f * a.steps``."""
        return Stretch(self, factor)

    def clip(self, low: float | None = None, high: float | None = None) -> "Schedule":
        """Keep the value between ``low`` and ``high``."""
        return Clip(self, low, high)

    def along(self, clock: "Schedule") -> "Schedule":
        """Read the schedule at the position that ``clock`` gives: ``a.along(c)(t) == a(c(t))``, as long as ``c``.

        Example:
            >>> seen = Ramp(0, 160, 20) >> Ramp(0, 320, 20) + 160  # samples, with a batch of 8 and then of 16
            >>> Ramp(1.0, 0.0, 480).along(seen).values(18, 23)
            [0.7, 0.6833333333333333, 0.6666666666666666, 0.6333333333333333, 0.6]
        """
        return Along(self, clock)

    def decay_from(self, t: int, steps: Updates, end: float = 0.0, shape: str = "1-sqrt") -> "Schedule":
        """Leave the schedule at update ``t`` and come down from ``a(t)`` to ``end`` within ``steps`` updates."""
        ramp = Ramp(self(t), end, length("decay_from", "steps", steps), ease=shape)
        return ramp if is_zero(t) else self.until(t) >> ramp

    def scaled_from(self, t: int, factor: float) -> "Schedule":
        """Multiply the schedule by ``factor`` from update ``t`` on; doing so again and again nests nothing."""
        factor = checks.number("scaled_from", "factor", factor)
        if is_zero(t):
            return _scaled(self, factor)
        head, tail = self._split(length("scaled_from", "t", t))
        return head >> _scaled(tail, factor)

    def _split(self, t: Any) -> "tuple[Schedule, Schedule]":
        """``self.until(t), self.after(t)``, or schedules of the same values that are less deep."""
        return self.until(t), self.after(t)

    def over(self, horizon: Horizon | int) -> "Schedule":
        """Settle every length for a run: open pieces take what the run has left.

        Where the run's batch changes on the way, a schedule in typed lengths is read at the samples used so far, as if
        the first size had lasted; one in plain updates counts the real ones. ``horizon.table(a)`` shows what came out.

        Args:
            horizon: The run, or its number of optimizer updates.

        Raises:
            ScheduleError: The pieces need more updates than the run has, the horizon lacks a unit, or the batch
                changes and typed lengths are mixed with plain ones.
        """
        from ratewise.core.resolve import settle  # builds schedules itself

        return settle(self, Horizon.of(horizon))

    def __rshift__(self, other: "Schedule") -> "Schedule":
        return self.then(other)

    def __rrshift__(self, other: Any) -> "Schedule":
        return _schedule("then", other).then(self)

    def __mul__(self, other: "Schedule | float") -> "Schedule":
        return NotImplemented if hasattr(other, "init") else Product((self, other))  # a rule takes hold of us itself

    def __rmul__(self, other: float) -> "Schedule":
        return Product((other, self))

    def __add__(self, other: "Schedule | float") -> "Schedule":
        return Sum((self, other))

    def __radd__(self, other: float) -> "Schedule":
        return Sum((other, self))

    # -- round trips -----------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return self._text()

    def to_dict(self) -> dict[str, Any]:
        """Return the schedule as plain JSON values; ``from_dict`` is its inverse."""
        return {"version": 1, **_encoded(self)}

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **{f.name: getattr(self, f.name) for f in _fields(self)}), ()

    def __deepcopy__(self, memo: Any) -> "Schedule":
        return self

    def _text(self) -> str:
        """The expression that makes this schedule."""
        return text.call(type(self).__name__, self)

    # -- lengths (what each class answers) -------------------------------------------------------------------

    def _missing(self) -> Iterator[str]:
        """What must be known before the schedule can be called."""
        return iter(())

    def _endless(self) -> bool:
        """Whether it goes on for ever, needing no length."""
        return self._exact(None) is None and not any(self._missing())

    def _exact(self, horizon: Horizon | None) -> Exact:
        raise NotImplementedError

    def _fit(self, horizon: Horizon, n: int | float) -> "Schedule":
        raise NotImplementedError

    def _over(self, horizon: Horizon, left: int | float) -> "Schedule":
        n = rounded(self._exact(horizon))
        if n is not None and n > left:
            raise ScheduleError(
                f"over: {self!r:.80} needs {checks.shown(n)} updates, the run has {left}. "
                "Leave out its steps to fill the run."
            )
        return self._fit(horizon, left if n is None else n)

    def _start_value(self) -> float | None:
        """The value at 0, if it is known without a horizon."""
        return None if any(self._missing()) else float(self(0))

    def _end_value(self) -> float | None:
        """The end value, if it is known without a horizon."""
        return None if self.steps is None or any(self._missing()) else float(self(self.steps))


def _fields(schedule: Any) -> tuple[Field[Any], ...]:
    return fields(schedule)


def _encoded(value: Any) -> Any:
    if isinstance(value, Schedule):
        return {"type": type(value).__name__, **{f.name: _encoded(getattr(value, f.name)) for f in _fields(value)}}
    if isinstance(value, Length):
        return {value.unit: value.amount}
    if isinstance(value, tuple):
        return [_encoded(item) for item in value]
    return text.function_name(value) if callable(value) else value


def _positions(start: int, stop: int) -> range:
    try:
        return range(start, stop)
    except TypeError:
        raise ScheduleError(
            f"values: start and stop must be integers, got {checks.shown(start)} and {checks.shown(stop)}."
        ) from None


def _schedule(where: str, value: Any) -> Schedule:
    if not isinstance(value, Schedule):
        number = type(value) in (int, float)
        hint = f" To hold a value, write Constant({checks.shown(value)})." if number else ""
        raise ScheduleError(f"{where}: needs a Schedule, got {checks.shown(value)}.{hint}")
    return value


@dataclass(frozen=True, repr=False)
class Ramp(Schedule):
    """From ``start`` to ``end`` in ``steps`` updates: the one bounded shape.

        a(t) = start + (end - start) * E(clip((t + d) / (steps + e), 0, 1))

    ``ends`` says, as an interval, which ends the run uses. ``"[)"``, (d, e) = (0, 0): the start is used, the end
    belongs to the next piece. ``"(]"`` (1, 0): the warm-up's. ``"()"`` (1, 1). ``"[]"`` (0, -1): both.

    Args:
        start: Value it comes from, a learning rate or a factor. Finite.
        end: Value it goes to and then holds. May exceed ``start``.
        steps: Length; None takes what the run has left. A float allows joints between updates.
        ease: ``linear``, ``cosine`` or ``cosine(power)``, ``sine``, ``half-cosine``, ``polynomial(power)``,
            ``power(power)``, ``1-sqrt``, ``geometric``, ``exponential(ratio)``, ``rex(alpha)``, ``circle(alpha)``,
            ``log`` or ``tanh(low, high)``; the formulas are in ``ratewise.core.ease``.
        ends: ``"[)"``, ``"(]"``, ``"()"`` or ``"[]"``.

    Raises:
        ScheduleError: A value is not finite, ``steps`` is below 1, or ``ease`` or ``ends`` is unknown.

    Example:
        >>> [round(Ramp(0.1, 0.0, 4, ease="cosine")(t), 4) for t in range(6)]
        [0.1, 0.0854, 0.05, 0.0146, 0.0, 0.0]
        >>> Ramp(0.0, 1.0, 4, ends="(]").values(0, 4)
        [0.25, 0.5, 0.75, 1.0]

    References:
        Cosine: Loshchilov and Hutter, 2017, SGDR, eq. 5. https://arxiv.org/abs/1608.03983
        REX: Chen et al., 2021. https://arxiv.org/abs/2107.04197
        1-sqrt: Hägele et al., 2024. https://arxiv.org/abs/2405.18392
    """

    start: float
    end: float
    steps: Updates | None = None
    ease: str = field(default="linear", kw_only=True)
    ends: str = field(default="[)", kw_only=True)

    def __post_init__(self) -> None:
        name, parameters = ease.read("Ramp", self.ease)
        where = name.capitalize() if name in _NAMED else "Ramp"
        start, end = checks.number(where, "start", self.start), checks.number(where, "end", self.end)
        if not isinstance(self.ends, str) or self.ends not in ENDS:
            raise ScheduleError(f'{where}: ends must be "[)", "(]", "()" or "[]", got {checks.shown(self.ends)}.')
        if self.steps is not None:
            steps = length(where, "steps", self.steps, f" To hold a value, use Constant({end!r}).")
            self.__dict__["steps"] = steps
        if name == "geometric" and (start == 0 or end == 0 or (start > 0) != (end > 0)):
            raise ScheduleError(
                f"Ramp: a geometric ramp needs start and end of the same sign and not 0, got {start!r} and {end!r}."
            )
        if not math.isfinite(end - start) or (
            name == "geometric" and abs(math.log(abs(end)) - math.log(abs(start))) > 700
        ):
            raise ScheduleError(f"{where}: start and end are too far apart for a float, got {start!r} and {end!r}.")
        self.__dict__.update(start=start, end=end, ease=ease.write(name, parameters))

    def at(self, t: Any, xp: Any) -> Any:
        if xp is SCALAR:
            return self._number(t)
        d, top, m, low, rise, high, falling, weight, constants, full = self._row
        if weight is None:
            return xp.full(t, self.end)
        j = xp.clip(t, 0, top) + d
        k, q = (m - j, j) if falling else (j, m - j)
        value = xp.minimum(low + rise * weight(k, q, constants, xp), high)
        return value if full and xp.double else xp.where(k < m, value, high)  # XLA multiplies by 1/m: m/m may not be 1

    @cached_property
    def _number(self) -> Callable[[Any], Any]:
        d, top, m, low, rise, high, falling, weight, constants, full = self._row
        if weight is None:
            return lambda t: high

        def down(t: Any) -> Any:
            j = (0 if t < 0 else top if t > top else t) + d
            value = low + rise * weight(m - j, j, constants, SCALAR)
            return value if value < high else high

        def up(t: Any) -> Any:
            j = (0 if t < 0 else top if t > top else t) + d
            value = low + rise * weight(j, m - j, constants, SCALAR)
            return value if value < high else high

        number = down if falling else up

        if full or (falling and d):  # the weight is exact, or the high end is never used
            return number
        return (lambda t: number(t) if t > 0 else high) if falling else lambda t: number(t) if t < top else high

    @cached_property
    def _row(self) -> Row:
        d, e = ENDS[self.ends]
        m = self.steps + e  # type: ignore[operator]
        low, high = sorted((self.start, self.end))
        if m <= max(d, 0) or low == high:  # the first update is already at the end
            return Row.held(self.end)
        rise = high - low
        while low + rise < high:  # both ends exact, whatever the subtraction rounded to
            rise = math.nextafter(rise, math.inf)
        name, parameters = ease.read("Ramp", self.ease)
        falling = self.start > self.end
        weight, constants = ease.EASES[name].prepare(ease.Span(m, low, high, falling, parameters))
        full = weight(m, 0, constants, SCALAR) == 1.0
        return Row(d, m - d, m, low, rise, high, falling, weight, constants, full)

    def _text(self) -> str:
        name, parameters = ease.read("Ramp", self.ease)
        named = name in _NAMED and _NAMED[name] in (None, parameters)
        args = [repr(self.start), repr(self.end)] + ([] if self.steps is None else [repr(self.steps)])
        if named and name == "polynomial" and parameters != (1.0,):
            args.append(f"power={parameters[0]!r}")
        if not named:
            args.append(f'ease="{self.ease}"')
        if self.ends != "[)":
            args.append(f'ends="{self.ends}"')
        return f"{name.capitalize() if named else 'Ramp'}({', '.join(args)})"

    def _missing(self) -> Iterator[str]:
        return iter(["it has no steps"]) if self.steps is None else typed(self.steps)

    def _exact(self, horizon: Horizon | None) -> Exact:
        return given(self.steps, horizon)

    def _fit(self, horizon: Horizon, n: int | float) -> "Ramp":
        return Ramp(self.start, self.end, n, ease=self.ease, ends=self.ends)

    def _start_value(self) -> float | None:
        return self.start if self.ends in ("[)", "[]") else super()._start_value()

    def _end_value(self) -> float | None:
        return self.end


@dataclass(frozen=True, repr=False)
class Sequence(Schedule):
    """Pieces one after the other, each from its own zero; made by ``>>`` and stored flat.

    One piece may be open: it takes what the run has left. An endless piece may come last.
    """

    pieces: tuple[Schedule, ...]
    _open: ClassVar[Schedule | None] = None  # the piece that takes what the run has left

    def __post_init__(self) -> None:
        flat: list[Schedule] = []
        for piece in checks.items("sequence", "pieces", self.pieces):
            flat.extend(piece.pieces if isinstance(piece, Sequence) else [_schedule("sequence", piece)])
        if not flat:
            raise ScheduleError("sequence: needs at least one schedule.")
        open_pieces = [piece for piece in flat if _is_open(piece)]
        if len(open_pieces) > 1:
            raise _two_open(*open_pieces[:2])
        depth = checks.shallow("then", 1 + max(piece._depth for piece in flat))
        self.__dict__.update(pieces=tuple(flat), _depth=depth, _open=open_pieces[0] if open_pieces else None)

    @classmethod
    def joined(cls, a: Schedule, b: Schedule) -> "Sequence":
        """``a >> b`` without looking at every piece again, so that long chains build quickly."""
        left, right = (x if isinstance(x, Sequence) else cls((x,)) for x in (a, b))
        if left._open and right._open:
            raise _two_open(left._open, right._open)
        result = object.__new__(cls)
        depth = max(left._depth, right._depth)
        result.__dict__.update(pieces=left.pieces + right.pieces, _depth=depth, _open=left._open or right._open)
        return result

    @cached_property
    def _starts(self) -> tuple[int | float, ...]:
        starts: list[int | float] = [0]
        for piece in self.pieces[:-1]:
            starts.append(starts[-1] + piece.steps)
        return tuple(starts)

    @cached_property
    def _number(self) -> Callable[[Any], Any]:
        pieces, starts = self.pieces, self._starts

        def number(t: Any) -> Any:
            i = bisect_right(starts, t, 1) - 1
            return pieces[i]._number(t - starts[i])

        return number

    @cached_property
    def _table(self) -> chain.Table | None:
        """The chain as a table, if it is long and of ramps and constants only."""
        if len(self.pieces) < chain.SHORTEST:
            return None
        rows = [piece._row for piece in self.pieces]
        return None if None in rows else chain.Table(self._starts, tuple(row for row in rows if row))

    @cached_property
    def steps(self) -> int | float | None:
        last = self.pieces[-1].steps
        return None if last is None or any(self._missing()) else tidy(self._starts[-1] + last)

    def at(self, t: Any, xp: Any) -> Any:
        if xp is SCALAR:
            return self._number(t)
        if self._table and not xp.sliced and (xp.double or self._table.whole):
            return self._table.at(t, xp)
        pieces = [
            lambda t, at=piece.at, start=start: at(t - start, xp)
            for piece, start in zip(self.pieces, self._starts, strict=True)
        ]
        return xp.choose(t, self._starts[1:], pieces)

    def values(self, start: int, stop: int) -> list[float]:
        _, asked = self._known, _positions(start, stop)
        start, stop = asked.start, asked.stop
        result: list[float] = []
        bounds = [*self._starts, math.inf]
        for i in range(bisect_right(self._starts, start, 1) - 1, len(self.pieces)):
            low, high = bounds[i], min(bounds[i + 1], stop)
            here, there = (start if i == 0 else max(start, math.ceil(low))), math.ceil(high)
            if isinstance(low, int):
                result += self.pieces[i].values(here - low, there - low)
            else:
                result += [self.pieces[i]._number(t - low) for t in range(here, there)]
            if high >= stop:
                break
        return result

    def _text(self) -> str:
        parts = [repr(piece) for piece in self.pieces]
        return " >> ".join(parts) if 1 < len(parts) <= 100 else f"sequence({', '.join(parts)})"

    def _missing(self) -> Iterator[str]:
        for piece in self.pieces:
            yield from piece._missing()
        for piece, _ in pairwise(self.pieces):
            if piece._endless():
                yield f"{piece!r:.60} has no end, and something follows it"

    def _exact(self, horizon: Horizon | None) -> Exact:
        if self._open:
            return None
        return sum(self._sizes(horizon, horizon.total_steps)) if horizon else 1

    def _fit(self, horizon: Horizon, n: int | float) -> Schedule:
        sizes = self._sizes(horizon, n)
        sized = list(zip(self.pieces, sizes, strict=True))
        if sum(sizes) > n or any(size < 1 for piece, size in sized if piece is self._open):
            raise self._too_long(sizes, n)
        return Sequence(tuple(piece._fit(horizon, size) for piece, size in sized))

    def _sizes(self, horizon: Horizon, n: int | float) -> list[int | float]:
        """The length of each piece in a run of ``n``; joints are rounded, not lengths, so that errors do not add up."""
        return shares([piece._exact(horizon) for piece in self.pieces], n)

    def _over(self, horizon: Horizon, left: int | float) -> Schedule:
        return self._fit(horizon, left)

    def _split(self, t: Any) -> tuple[Schedule, Schedule]:
        if any(self._missing()) or isinstance(t, Length) or (self.steps is not None and t >= self.steps):
            return super()._split(t)
        i = bisect_right(self._starts, t, 1) - 1
        before, after = self.pieces[:i], self.pieces[i + 1 :]
        local = t - self._starts[i]
        if local == 0:
            return _chained(before), _chained((self.pieces[i], *after))
        head, tail = self.pieces[i]._split(local)
        return _chained((*before, head)), _chained((tail, *after))

    def _too_long(self, sizes: list[int | float], n: int | float) -> ScheduleError:
        known = [size for size, piece in zip(sizes, self.pieces, strict=True) if piece is not self._open]
        shown = " + ".join(checks.shown(size, 24) for size in known[:8]) + (" + ..." if len(known) > 8 else "")
        needed = f"{shown} = {checks.shown(sum(known), 24)}" if len(known) > 1 else shown
        room = ", and the open piece needs at least 1 more" if len(known) < len(sizes) else ""
        return ScheduleError(
            f"over: the pieces need {needed} updates{room}, but the run has {n}. "
            "Shorten a piece, or leave out the steps of one and it takes what is left."
        )

    def _start_value(self) -> float | None:
        return self.pieces[0]._start_value()

    def _end_value(self) -> float | None:
        return self.pieces[-1]._end_value()


def sequence(*pieces: Schedule) -> Schedule:
    """``a >> b >> c`` for many pieces at once.

    Raises:
        ScheduleError: There is no piece, one is not a Schedule, or two have no length.
    """
    return Sequence(pieces)


def _chained(pieces: tuple[Schedule, ...]) -> Schedule:
    return pieces[0] if len(pieces) == 1 else Sequence(pieces)


def _scaled(schedule: Schedule, factor: float) -> Schedule:
    """``factor * schedule``, numbers in front taken together."""
    if isinstance(schedule, Product) and isinstance(schedule.operands[0], float):
        return Product((factor * schedule.operands[0], *schedule.operands[1:]))
    return factor * schedule


def _magnitudes(operand: Any) -> Iterator[float]:
    """The numbers in an operand that could make it very large."""
    if isinstance(operand, float):
        yield operand
    else:
        yield from (x for x in (getattr(operand, name, 0.0) for name in ("value", "start", "end")) if type(x) is float)


def _is_open(schedule: Schedule) -> bool:
    """Whether it takes what the run has left."""
    return schedule._exact(None) is None


def _two_open(a: Schedule, b: Schedule) -> ScheduleError:
    return ScheduleError(
        f"then: {a!r:.60} and {b!r:.60} both have no length, so it is not clear where one ends. "
        f"Give one of them a length, for example {a!r:.60}.until(500)."
    )


class _Pointwise(Schedule):
    """What ``*`` and ``+`` share: operands are schedules and numbers, stored flat in the order written."""

    operands: tuple[Any, ...]
    symbol = ""
    _combine: Callable[[Any, Any], Any]

    _MOST = 500  # operands: longer expressions are too deep for Python's own reader

    def __init__(self, operands: Iterable[Any]) -> None:
        where = f"'{self.symbol}'"
        flat: list[Any] = []
        for operand in checks.items(where, "operands", operands):
            if isinstance(operand, type(self)):
                flat.extend(operand.operands)
            elif isinstance(operand, Schedule):
                flat.append(operand)
            else:
                flat.append(checks.number(where, "the operand", operand, "a Schedule or a finite number"))
        if len(flat) < 2 or not any(isinstance(operand, Schedule) for operand in flat):
            raise ScheduleError(f"{where}: needs at least two operands, one of them a Schedule.")
        if len(flat) > self._MOST:
            raise ScheduleError(f"{where}: at most {self._MOST} operands, got {len(flat)}.")
        self.__dict__["operands"] = tuple(flat)
        if any(abs(x) > 1e100 for operand in flat for x in _magnitudes(operand)):
            ends = [self._start_value(), self._end_value()]
            if not all(x is None or math.isfinite(x) for x in ends):
                raise ScheduleError(
                    f"{where}: the values do not stay finite: they come to {ends[0]!r} and {ends[1]!r}."
                )
        depth = max(term._depth for term in self.terms) + max(1, self._leading)  # leading numbers are bracketed
        self.__dict__["_depth"] = checks.shallow(where, depth)

    @property
    def _leading(self) -> int:
        """How many numbers stand before the first schedule."""
        return next(i for i, operand in enumerate(self.operands) if isinstance(operand, Schedule))

    @property
    def terms(self) -> tuple[Schedule, ...]:
        """The operands that are schedules."""
        return tuple(operand for operand in self.operands if isinstance(operand, Schedule))

    @cached_property
    def steps(self) -> int | float | None:
        lengths = [term.steps for term in self.terms]
        return None if any(n is None for n in lengths) or any(self._missing()) else max(lengths)

    @cached_property
    def _parts(self) -> list[Any]:
        return [operand.at if isinstance(operand, Schedule) else operand for operand in self.operands]

    def at(self, t: Any, xp: Any) -> Any:
        combine = self._combine
        return reduce(combine, [part if type(part) is float else part(t, xp) for part in self._parts])

    def _text(self) -> str:
        """The expression; leading numbers are bracketed, or Python would merge them before we see them."""
        weak = (Sequence,) if self.symbol == "+" else (Sequence, Sum)
        shown = [f"({x!r})" if isinstance(x, weak) else repr(x) for x in self.operands]
        n = max(self._leading - 1, 0)
        opening = "".join(f"{x} {self.symbol} (" for x in shown[:n])
        first = f" {self.symbol} ".join(shown[n : self._leading + 1]) + ")" * n
        return f" {self.symbol} ".join([opening + first, *shown[self._leading + 1 :]])

    def _missing(self) -> Iterator[str]:
        for term in self.terms:
            yield from term._missing()

    def _exact(self, horizon: Horizon | None) -> Exact:
        lengths = [rounded(term._exact(horizon)) for term in self.terms]
        return None if None in lengths else max(n for n in lengths if n is not None)

    def _fit(self, horizon: Horizon, n: int | float) -> Schedule:
        return type(self)(x._over(horizon, n) if isinstance(x, Schedule) else x for x in self.operands)

    def _split(self, t: Any) -> tuple[Schedule, Schedule]:
        split = [x._split(t) if isinstance(x, Schedule) else (x, x) for x in self.operands]
        heads, tails = zip(*split, strict=True)
        tail = type(self)(tails)
        left = None if self.steps is None or isinstance(t, Length) else self.steps - t
        return type(self)(heads), tail if left is None or left <= 0 or tail.steps == left else tail.until(left)

    def _start_value(self) -> float | None:
        return self._combined([term._start_value() for term in self.terms])

    def _end_value(self) -> float | None:
        return self._combined([term._end_value() for term in self.terms])

    def _combined(self, values: list[float | None]) -> float | None:
        """The value where the terms have these values, if all are known."""
        if None in values:
            return None
        left = iter(values)
        known: list[Any] = [next(left) if isinstance(x, Schedule) else x for x in self.operands]
        return float(reduce(self._combine, known))


@dataclass(frozen=True, repr=False, init=False)
class Product(_Pointwise):
    """``a * b``: the values multiplied; as long as the longer, the shorter holding its end."""

    operands: tuple[Any, ...]
    symbol = "*"
    _combine = staticmethod(mul)


@dataclass(frozen=True, repr=False, init=False)
class Sum(_Pointwise):
    """``a + b``: the values added; as long as the longer, the shorter holding its end."""

    operands: tuple[Any, ...]
    symbol = "+"
    _combine = staticmethod(add)


class _Wrapper(Schedule):
    """What the operators on one schedule share."""

    base: Schedule

    def _wrap(self, where: str) -> None:
        _schedule(where, self.base)
        self.__dict__["_depth"] = checks.shallow(where, 1 + self.base._depth)

    def _text(self) -> str:
        base = f"({self.base!r})" if isinstance(self.base, (Sequence, _Pointwise)) else repr(self.base)
        return text.call(f"{base}.{type(self).__name__.lower()}", self, skip=1)

    def _missing(self) -> Iterator[str]:
        yield from self.base._missing()
        yield from typed(*(getattr(self, f.name) for f in _fields(self)))

    def _exact(self, horizon: Horizon | None) -> Exact:
        return self.base._exact(horizon)

    def _fit(self, horizon: Horizon, n: int | float) -> Schedule:
        return replace(self, base=self.base._fit(horizon, n))  # type: ignore[type-var]

    def _start_value(self) -> float | None:
        return self.base._start_value()


@dataclass(frozen=True, repr=False)
class Clip(_Wrapper):
    """The value, kept between ``low`` and ``high``."""

    base: Schedule
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        self._wrap("clip")
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                self.__dict__[name] = checks.number("clip", name, getattr(self, name))
        if self.low is None and self.high is None:
            raise ScheduleError("clip: needs low, high or both.")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ScheduleError(f"clip: low must be at most high, got {self.low!r} and {self.high!r}.")

    @property
    def steps(self) -> Any:
        return self.base.steps

    def at(self, t: Any, xp: Any) -> Any:
        return self._clipped(self.base.at(t, xp), xp)

    def _clipped(self, value: Any, xp: Any) -> Any:
        value = value if self.low is None else xp.maximum(value, self.low)
        return value if self.high is None else xp.minimum(value, self.high)

    def _start_value(self) -> float | None:
        value = self.base._start_value()
        return None if value is None else float(self._clipped(value, SCALAR))

    def _end_value(self) -> float | None:
        value = self.base._end_value()
        return None if value is None else float(self._clipped(value, SCALAR))


@dataclass(frozen=True, repr=False)
class Stairs(_Wrapper):
    """The value, held for ``every`` updates at a time."""

    base: Schedule
    every: Updates

    def __post_init__(self) -> None:
        self._wrap("stairs")
        self.__dict__["every"] = length("stairs", "every", self.every)

    @property
    def steps(self) -> Any:
        return self.base.steps

    def at(self, t: Any, xp: Any) -> Any:
        t = xp.maximum(t, 0)
        t = t if self.base.steps is None else xp.minimum(t, self.base.steps)
        return self.base.at(xp.floor_divide(t, self.every) * self.every, xp)

    def _fit(self, horizon: Horizon, n: int | float) -> Schedule:
        return Stairs(self.base._fit(horizon, n), horizon.whole(self.every))


@dataclass(frozen=True, repr=False)
class Stretch(_Wrapper):
    """``a(t / factor)``: time slowed down."""

    base: Schedule
    factor: float

    def __post_init__(self) -> None:
        self._wrap("stretch")
        self.__dict__["factor"] = checks.positive("stretch", "factor", self.factor)
        if not any(self._missing()) and self.base.steps is not None:
            _ = length("stretch", "the length", self.steps)

    @property
    def _ratio(self) -> Fraction:
        """The factor as the decimal that was written."""
        return Fraction(str(self.factor))

    @cached_property
    def steps(self) -> int | float | None:
        return None if any(self._missing()) else self._longer(self.base.steps)

    def _longer(self, n: int | float | None) -> int | float | None:
        return None if n is None else tidy(Fraction(n) * self._ratio)

    def at(self, t: Any, xp: Any) -> Any:
        up, down = self.written if xp.double else (1.0, self.factor)
        return self.base.at(xp.minimum(xp.maximum(xp.real(t), 0.0) * up / down, float(FAR)), xp)

    @cached_property
    def written(self) -> tuple[float, float]:
        """What a position is multiplied and divided by: whole numbers for a short decimal, so that joints are exact."""
        ratio = self._ratio
        short = ratio.denominator <= 10**6 and ratio.numerator <= 10**12
        return (float(ratio.denominator), float(ratio.numerator)) if short else (1.0, self.factor)

    def _exact(self, horizon: Horizon | None) -> Exact:
        return self._longer(rounded(self.base._exact(horizon)))

    def _fit(self, horizon: Horizon, n: int | float) -> Schedule:
        inner = rounded(self.base._exact(horizon))
        fitted = Stretch(self.base._fit(horizon, tidy(n / self._ratio) if inner is None else inner), self.factor)
        return fitted if fitted.steps == n else Until(fitted, n)  # n / factor, rounded to a float, may miss n

    def _end_value(self) -> float | None:
        return self.base._end_value()


@dataclass(frozen=True, repr=False)
class Until(_Wrapper):
    """The first ``steps`` updates."""

    base: Schedule
    steps: Updates

    def __post_init__(self) -> None:
        self._wrap("until")
        self.__dict__["steps"] = length("until", "steps", self.steps)

    def at(self, t: Any, xp: Any) -> Any:
        return self.base.at(xp.minimum(t, self.steps), xp)

    def _exact(self, horizon: Horizon | None) -> Exact:
        return given(self.steps, horizon)

    def _fit(self, horizon: Horizon, n: int | float) -> Schedule:
        if self.base._endless():
            return Until(self.base, n)
        inner = rounded(self.base._exact(horizon))
        return Until(self.base._fit(horizon, max(horizon.total_steps, n) if inner is None else inner), n)


@dataclass(frozen=True, repr=False)
class After(_Wrapper):
    """What remains when ``skip`` updates are dropped; past the end one update of the end value, held."""

    base: Schedule
    skip: Updates

    def __post_init__(self) -> None:
        self._wrap("after")
        self.__dict__["skip"] = length("after", "steps", self.skip, " after(0) would be the schedule itself.")

    @cached_property
    def steps(self) -> int | float | None:
        n = self.base.steps
        return None if n is None or any(self._missing()) else n - self.skip if n > self.skip else 1

    def at(self, t: Any, xp: Any) -> Any:
        return self.base.at(xp.clip(t, 0, xp.far - self.skip) + self.skip, xp)

    def _exact(self, horizon: Horizon | None) -> Exact:
        n = rounded(self.base._exact(horizon))
        return n if n is None or horizon is None else max(n - horizon.whole(self.skip), 1)

    def _fit(self, horizon: Horizon, n: int | float) -> Schedule:
        skip = horizon.whole(self.skip)
        if self.base._endless():
            return Until(After(self.base, skip), n)
        inner = rounded(self.base._exact(horizon))
        return After(self.base._fit(horizon, n + skip if inner is None else inner), skip)

    def _split(self, t: Any) -> tuple[Schedule, Schedule]:
        plain = not isinstance(t, Length) and not isinstance(self.skip, Length)
        return self.until(t), After(self.base, self.skip + t) if plain else self.after(t)

    def _start_value(self) -> float | None:
        return Schedule._start_value(self)

    def _end_value(self) -> float | None:
        return self.base._end_value()


@dataclass(frozen=True, repr=False)
class Along(_Wrapper):
    """``a(clock(t))``: another clock."""

    base: Schedule
    clock: Schedule

    def __post_init__(self) -> None:
        self._wrap("along")
        depth = 1 + max(self.base._depth, _schedule("along", self.clock)._depth)
        self.__dict__["_depth"] = checks.shallow("along", depth)

    @property
    def steps(self) -> Any:
        return self.clock.steps

    def at(self, t: Any, xp: Any) -> Any:
        return self.base.at(xp.clip(self.clock.at(t, xp), 0.0, float(FAR)), xp)

    def _missing(self) -> Iterator[str]:
        yield from self.base._missing()
        yield from self.clock._missing()

    def _exact(self, horizon: Horizon | None) -> Exact:
        return self.clock._exact(horizon)

    def _fit(self, horizon: Horizon, n: int | float) -> Schedule:
        clock = self.clock._fit(horizon, n)
        base = self.base if self.base._endless() else self.base._over(horizon, clock(n))
        return Along(base, clock)

    def _start_value(self) -> float | None:
        return Schedule._start_value(self)

    def _end_value(self) -> float | None:
        return Schedule._end_value(self)


@dataclass(frozen=True, repr=False)
class Repeat(_Wrapper):
    """Cycle i lasts ``L * stretch**i`` updates and shows ``gamma**i * a(local / stretch**i)``; joints are exact."""

    base: Schedule
    times: int | None = None
    factor: float = field(default=1.0, metadata={"argument": "stretch"})  # `stretch` is an operator
    gamma: float = 1.0

    def __post_init__(self) -> None:
        self._wrap("repeat")
        if self.times is not None:
            self.__dict__["times"] = checks.whole("repeat", "times", self.times, " None repeats for ever.")
        self.__dict__["factor"] = checks.positive("repeat", "stretch", self.factor)
        self.__dict__["gamma"] = checks.positive("repeat", "gamma", self.gamma)
        if self.gamma > 1 and self.times is None:
            raise ScheduleError(f"repeat: gamma above 1 ({self.gamma!r}) grows without bound; give times.")
        if self.gamma > 1 and self.times * math.log(self.gamma) > 700:  # type: ignore[operator]
            raise ScheduleError(f"repeat: gamma={self.gamma!r} over {self.times} cycles is not a finite number.")
        if self.factor < 1 and self.times is None:
            raise ScheduleError(f"repeat: stretch below 1 ({self.factor!r}) needs times, or the cycles vanish.")
        if _is_open(self.base) and (self.times is None or self.factor != 1):
            raise ScheduleError(
                f"repeat: {self.base!r:.80} has no length, so a cycle has none. Give it steps, "
                "or give times and every cycle takes an equal part of the run."
            )
        if not any(self._missing()) and self.base.steps is not None:
            _ = self._cycles

    def _missing(self) -> Iterator[str]:
        yield from super()._missing()
        if self.base._endless():
            yield f"{self.base!r:.60} has no end, so its cycles have no length"

    @cached_property
    def _cycles(self) -> "Cycles":
        return Cycles.of(self.base.steps, self.times, self.factor)

    @cached_property
    def steps(self) -> int | float | None:
        if self.times is None or self.base.steps is None or any(self._missing()):
            return None
        return self._cycles.steps

    def at(self, t: Any, xp: Any) -> Any:
        cycle, local = self._cycles.split(xp.maximum(t, 0), xp)
        value = self.base.at(local, xp)
        return value if self.gamma == 1 else value * xp.powers(self.gamma, cycle)

    def _exact(self, horizon: Horizon | None) -> Exact:
        n = rounded(self.base._exact(horizon))
        if n is None or self.times is None:
            return None
        return Cycles.of(n, self.times, self.factor).steps if horizon else 1

    def _fit(self, horizon: Horizon, n: int | float) -> Schedule:
        size = rounded(self.base._exact(horizon))
        if size is None:
            if self.times is None or n < self.times:
                raise ScheduleError(f"over: {self.times} cycles do not fit into {n} updates.")
            size = int(n // self.times)
        fitted = replace(self, base=self.base._fit(horizon, size))
        return fitted if self.times is not None else Until(fitted, n)


@dataclass(frozen=True, repr=False)
class Cooldown(_Wrapper):
    """The last ``length`` updates of the run come down to ``end``, from whatever value was reached.

    The one operator that stays symbolic: where an open decay will stand then is known only after ``over``.
    """

    base: Schedule
    length: Updates
    end: float = 0.0
    shape: str = "1-sqrt"

    def __post_init__(self) -> None:
        self._wrap("cooldown")
        self.__dict__["length"] = length("cooldown", "steps", self.length)
        self.__dict__["end"] = checks.number("cooldown", "end", self.end)
        _ = ease.read("cooldown", self.shape)

    def _missing(self) -> Iterator[str]:
        yield f"the cooldown takes the last {self.length!r}"

    def _exact(self, horizon: Horizon | None) -> Exact:
        body = rounded(self.base._exact(horizon))
        return body if body is None or horizon is None else body + horizon.whole(self.length)

    def _fit(self, horizon: Horizon, n: int | float) -> Schedule:
        exact = given(self.length, horizon)
        joint = n - exact  # type: ignore[operator]
        joint = min(half_up(joint), n - 1) if isinstance(joint, Fraction) else joint
        if joint < 1:
            raise ScheduleError(
                f"over: a cooldown of {checks.shown(rounded(exact), 24)} updates does not fit into {n}."
            )
        body = self.base._over(horizon, joint)
        body = body if body.steps == joint else body.until(joint)
        return body >> Ramp(body(joint), self.end, n - joint, ease=self.shape)

    def _end_value(self) -> float | None:
        return self.end
