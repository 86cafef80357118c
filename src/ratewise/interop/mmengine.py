"""The parameter schedulers of OpenMMLab's mmengine as schedules of ours, one or a list of them.

Each changes the value only while begin <= t < end, starting from whatever the value is by then, and leaves it there.
So schedulers one after the other are a chain, each piece starting where the one before stopped; schedulers at the same
time are a product, as long as each of them multiplies. What else they do at the same time is a recursion without a
formula: it becomes a table, up to where one of them is left alone.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from itertools import accumulate
from typing import Any

from ratewise.core import checks
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant, Cosine, Linear, Piecewise, Polynomial
from ratewise.errors import ScheduleError, nearest
from ratewise.interop.peer import Peer, chain, hold, levels, plateau, powers, wave

PEER = Peer("from_mmengine")

INF = 10**9
"""The ``end`` of a scheduler that has none."""

_KINDS = {"LR": "lr", "Momentum": "momentum", "ParamScheduler": None}
_PLATEAU, _ONE_CYCLE = "ReduceOnPlateauParamScheduler", "OneCycleParamScheduler"
_MULTIPLY = ("Step", "MultiStep", "Constant", "Linear", "Exponential")
_UNUSED = ("verbose", "monitor")
_NO_FLOOR = {"eta_min": 0.0, "eta_min_ratio": None}
_COUNTS = ("step_size", "T_max", "total_steps")
_LISTS = ("milestones", "periods", "restart_weights")
_WORDS = ("anneal_strategy", "three_phase", "rule", "threshold_rule", "patience", "cooldown")
_LONGEST = 10_000  # updates in a table


def from_mmengine(
    schedulers: Any, lr: float | None = None, *, momentum: float | None = None, parameter: str = "lr",
    epoch_length: int | None = None, max_epochs: int | None = None, max_iters: int | None = None, group: int = 0,
    **arguments: Any,
) -> Any:  # fmt: skip
    """Return the schedule of mmengine's ``param_scheduler``.

    Args:
        schedulers: A scheduler's configuration (``{"type": "LinearLR", ...}``), its name with ``arguments``, the
            scheduler itself, or a list of these.
        lr: The optimizer's rate; known of a scheduler itself.
        momentum: Its momentum (or beta1), for ``parameter="momentum"``.
        parameter: ``"lr"`` or ``"momentum"``: which of the list to read, by the ends of their names.
        epoch_length: Updates of an epoch. Without it t counts epochs, if all schedulers do.
        max_epochs: How long the Runner trains; the ``end`` of a configuration by epoch that has none.
        max_iters: The same in updates, for those with ``by_epoch=False``.
        group: Parameter group, counted from 0.
        arguments: The scheduler's own, where ``schedulers`` is a name.

    Returns:
        Schedule: In updates (or epochs). A ReduceOnPlateau scheduler gives a schedule with a rule.

    Raises:
        ScheduleError: A scheduler is not known or its arguments are wrong, or two that do more than multiply act at
            the same time for more than 10,000 updates.

    Example:
        >>> warmup = {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 101}
        >>> steps = {"type": "MultiStepLR", "milestones": [8, 11]}
        >>> from_mmengine(warmup, lr=0.1)
        Linear(0.010000000000000002, 0.1, 100)
        >>> from_mmengine([warmup, steps], lr=0.1, epoch_length=1000)(8000)
        0.010000000000000002
    """
    checks.choice("from_mmengine", "parameter", parameter, ("lr", "momentum"))
    listed = list(schedulers) if isinstance(schedulers, (list, tuple)) else [schedulers]
    if epoch_length is not None:
        epoch_length = checks.whole("from_mmengine", "epoch_length", epoch_length)
    run = _Run(epoch_length, max_epochs, max_iters, group)
    windows = [run.window(given, arguments) for given in listed]
    windows = [window for window in windows if window.parameter == parameter]
    if not windows:
        raise ScheduleError(f"from_mmengine: none of the schedulers is of {parameter!r}, so it stays what it is.")
    base = lr if parameter == "lr" else momentum
    if base is None:
        base = _known_base(windows[0], parameter)
    base = checks.number("from_mmengine", parameter, base)
    windows = _with_bases(run.in_updates(windows), base)
    if any(window.name == _PLATEAU for window in windows):
        return _watched(windows, base, run)
    return _joined(windows, base)


@dataclass(frozen=True)
class _Window:
    """One scheduler.

    Args:
        name: Of its entry in the table.
        parameter: What it changes.
        begin: Its first step,
        end: and the first that it leaves alone; ``INF`` is none.
        unit: Updates to its step; None if that is an epoch of unknown length.
        arguments: Its own.
        base: The value that the optimizer began with, once it is known.
        by_epoch: Whether it is stepped after epochs.
        place: In the list.
    """

    name: str
    parameter: Any
    begin: int
    end: int
    unit: int | None
    arguments: Mapping[str, Any]
    base: float | None = None
    by_epoch: bool = False
    place: int = 0

    @property
    def steps(self) -> int:
        """How often it acts."""
        return self.end - self.begin

    @property
    def first(self) -> int:
        """The update that it begins at."""
        return self.begin * (self.unit or 1)

    @property
    def last(self) -> int:
        """The update that it no longer changes."""
        return self.end if self.end >= INF else self.end * (self.unit or 1)

    @property
    def multiplies(self) -> bool:
        """Whether all that it does is to multiply the value."""
        if self.name.removesuffix("ParamScheduler") in _MULTIPLY:
            return True
        low = self.arguments.get("eta_min") or self.arguments.get("eta_min_ratio")
        if self.name == "CosineAnnealingParamScheduler":
            return not low and self.steps - 1 <= (self.arguments.get("T_max") or self.steps)
        return self.name == "PolyParamScheduler" and not low

    @property
    def raises(self) -> int:
        """The update at which mmengine gives up, at the latest ``last``."""
        at = self.steps
        if self.arguments.get("start_factor") == 0:
            at = 1
        elif self.arguments.get("factor") == 0:
            at = max(self.steps - 1, 1)
        elif self.name == _ONE_CYCLE:
            at = (self.arguments.get("total_steps") or self.steps) + 1
        return min(self.first + at * (self.unit or 1), self.last)

    @property
    def low(self) -> float:
        """What it draws the value to."""
        ratio = self.arguments.get("eta_min_ratio")
        return float(self.arguments.get("eta_min") or (ratio or 0.0) * (self.base or 0.0))

    def own(self, value: float, **changed: Any) -> Schedule:
        """What it makes of ``value``, over its own steps."""
        given = {"value": value, "base": self.base, "steps": self.steps, **self.arguments, **changed}
        schedule: Schedule = PEER.build(self.name, given)
        return schedule

    def curve(self, value: float) -> Schedule:
        """What it makes of ``value``, from its first update on: its last value is left."""
        curve = self.own(value)
        if self.end < INF and (curve.steps is None or curve.steps > self.steps - 1):
            curve = curve.until(self.steps - 1) if self.steps > 1 else Constant(curve(0))
        return curve if (self.unit or 1) == 1 else curve.stretch(float(self.unit or 1)).stairs(self.unit or 1)

    @cached_property
    def _share(self) -> Schedule:
        """What it leaves of a distance of 1 from ``low``."""
        known = signature(PEER.entries[self.name]).parameters
        changed: dict[str, Any] = {"eta_min": 0.0} if "eta_min" in known else {}
        changed |= {"eta_min_ratio": None} if "eta_min_ratio" in known else {}
        changed |= {"restart_weights": [1.0] * len(self.arguments["periods"])} if "periods" in self.arguments else {}
        return self.own(1.0, base=1.0, **changed)

    @cached_property
    def _alone(self) -> Schedule:
        """Its own values, where it sets them whatever is there."""
        return self.own(self.base or 0.0)

    @cached_property
    def _restarts(self) -> list[int]:
        """Where a cosine starts again."""
        return list(accumulate(self.arguments.get("periods", ()), initial=0))[:-1]

    def after(self, value: float, t: int) -> float:
        """One step of the recursion: what it makes at update ``t`` of the value there."""
        step, rest = divmod(t, self.unit or 1)
        if rest or not self.begin <= step < self.end:
            return value
        k = step - self.begin
        if self.name == _ONE_CYCLE or k in self._restarts:
            return float(self._alone(k))
        share = float(self._share(k))
        before = float(self._share(k - 1)) if k else 1.0
        if before == 0:  # a cosine that turns
            return value + ((self.base or 0.0) - self.low) * share
        return self.low + (value - self.low) * share / before

    def resumed(self, value: float, t: int) -> Schedule | None:
        """Its curve from update ``t`` on, if it stands at ``value`` the update before and is left alone there."""
        simple = self.multiplies or replace(self, arguments={**self.arguments, **_NO_FLOOR}).multiplies
        share = self._share((t - 1) // (self.unit or 1) - self.begin)
        if not simple or share == 0:
            return None
        return self.curve(self.low + (value - self.low) / share).after(t - self.first)


@dataclass(frozen=True)
class _Run:
    """What the Runner knows."""

    epoch_length: int | None
    max_epochs: int | None
    max_iters: int | None
    group: int

    def window(self, given: Any, arguments: Mapping[str, Any]) -> _Window:
        """The window of a configuration, a name or a scheduler."""
        if isinstance(given, str):
            given = {"type": given, **arguments}
        if not isinstance(given, Mapping):
            return self._of_object(given)
        settings = {key: value for key, value in given.items() if key not in _UNUSED}
        name, parameter = _named(settings.pop("type", None))
        if parameter is None:
            parameter = settings.pop("param_name", None)
        if settings.pop("last_step", -1) != -1:
            raise ScheduleError("from_mmengine: last_step must be -1: a schedule is read from its start.")
        by_epoch, converted = settings.pop("by_epoch", True), settings.pop("convert_to_iter_based", False)
        most = self.max_epochs if by_epoch else self.max_iters
        begin, end = settings.pop("begin", 0), settings.pop("end", INF if most is None else most)
        settings = {key: _plain(name, key, self._of_group(key, value)) for key, value in settings.items()}
        if converted:
            begin, end, settings = self._converted(name, begin, end, settings, by_epoch)
        by_epoch = by_epoch and not converted
        return self._checked(_Window(name, parameter, begin, end, self._unit(by_epoch), settings, by_epoch=by_epoch))

    def _of_object(self, given: Any) -> _Window:
        name, _ = _named(type(given).__name__, given)
        own = list(signature(PEER.entries[name]).parameters)[3:]
        found = {key: self._of_group(key, getattr(given, key)) for key in own if hasattr(given, key)}
        settings = {key: _plain(name, key, value) for key, value in found.items()}
        if name == _PLATEAU:
            settings["min_value"] = self._of_group("min_value", given.min_values)
        if name == _ONE_CYCLE:
            phases = given._schedule_phases
            settings |= {"pct_start": (phases[0]["end_step"] + 1) / given.total_steps, "three_phase": len(phases) == 3}
            settings["anneal_strategy"] = "cos" if "cos" in given.anneal_func.__name__ else "linear"
        bases = getattr(given, "base_values", [None] * (self.group + 1))
        if type(self.group) is not int or not 0 <= self.group < len(bases):
            raise ScheduleError(f"from_mmengine: group must be one of the {len(bases)} groups, got {self.group!r}.")
        unit, base = self._unit(given.by_epoch), bases[self.group]
        window = _Window(name, given.param_name, given.begin, given.end, unit, settings, base, given.by_epoch)
        return self._checked(window)

    def _checked(self, window: _Window) -> _Window:
        odd = {"value", "base", "steps", "start"} & set(window.arguments)  # ours, not mmengine's
        if odd:
            raise ScheduleError(f"from_mmengine: {window.name} has no {min(odd)!r}.")
        begin, end = (checks.plain_number(x) for x in (window.begin, window.end))
        if type(begin) is not int or type(end) is not int or not 0 <= begin < end:
            raise ScheduleError(
                f"from_mmengine: begin and end must be whole numbers, end above begin, got {begin!r} and {end!r}."
            )
        return replace(window, begin=begin, end=end)

    def _of_group(self, key: str, value: Any) -> Any:
        if key not in ("eta_max", "min_value") or not isinstance(value, (list, tuple)):
            return value
        if type(self.group) is not int or not 0 <= self.group < len(value):
            raise ScheduleError(f"from_mmengine: {key} has {len(value)} values, so there is no group {self.group!r}.")
        return value[self.group]

    def _unit(self, by_epoch: bool) -> int | None:
        return self.epoch_length if by_epoch else 1

    def _converted(
        self, name: str, begin: int, end: int, settings: dict[str, Any], by_epoch: bool
    ) -> tuple[int, int, dict[str, Any]]:  # fmt: skip
        """Epochs as updates, as ``build_iter_from_epoch`` makes them."""
        n = self.epoch_length
        if n is None or not by_epoch or name == _PLATEAU:
            raise ScheduleError(
                "from_mmengine: convert_to_iter_based needs a scheduler by epoch other than ReduceOnPlateau, and "
                "epoch_length."
            )
        scaled = dict(settings)
        for key in ("step_size", "T_max", "total_steps"):
            if scaled.get(key) is not None:
                scaled[key] = scaled[key] * n
        for key in ("milestones", "periods"):
            if scaled.get(key) is not None:
                scaled[key] = [number * n for number in scaled[key]]
        first, last = (
            int(min(checks.number("from_mmengine", key, x) * n, checks.FAR))
            for key, x in (("begin", begin), ("end", end))
        )
        return first, INF if end == INF else last, scaled

    def in_updates(self, windows: Sequence[_Window]) -> list[_Window]:
        """The windows over one clock.

        Raises:
            ScheduleError: Some count epochs, others updates, and how many make an epoch is not known.
        """
        if len({window.unit is None for window in windows}) == 2:
            raise ScheduleError(
                "from_mmengine: some schedulers go by epoch and some do not, so epoch_length is needed."
            )
        return list(windows)


def _named(given: Any, shown: Any = None) -> tuple[str, str | None]:
    """The entry, and the parameter that the ending of the name says."""
    text = given if isinstance(given, str) else getattr(given, "__name__", "")
    for ending, parameter in _KINDS.items():
        name = f"{text.removesuffix(ending)}ParamScheduler"
        if text.endswith(ending) and name in PEER.entries and text != "OneCycleMomentum":
            return name, parameter
    known = [entry.removesuffix("ParamScheduler") + "LR" for entry in PEER.entries]
    raise ScheduleError(
        f"from_mmengine: unknown scheduler {checks.shown(shown if shown is not None else given, 60)}."
        f"{nearest(text, known)}"
    )


def _plain(where: str, key: str, value: Any) -> Any:
    """An argument as a plain number, or a list of them."""
    if value is None or key in _WORDS:
        return value
    if key in _LISTS:
        given = value.elements() if isinstance(value, Counter) else value
        numbers = [checks.plain_number(x) for x in checks.items(where, key, given)]
        if key == "restart_weights":
            return [checks.number(where, key, x) for x in numbers]
        if any(type(x) is not int or not 0 <= x <= checks.FAR for x in numbers):
            raise ScheduleError(f"{where}: {key} must be whole numbers from 0 on, got {checks.shown(value)}.")
        return numbers
    if key not in _COUNTS:
        return checks.number(where, key, value)
    return None if key == "T_max" and value == 0 else checks.whole(where, key, value)


def _known_base(window: _Window, parameter: str) -> float:
    if window.base is None or (window.name == _ONE_CYCLE and window.begin > 0):
        raise ScheduleError(f"from_mmengine: needs the value that the optimizer begins with. Give {parameter}.")
    return window.base


def _with_bases(windows: Iterable[_Window], base: float) -> list[_Window]:
    """Each with the initial value it finds; OneCycle replaces it for those that are made later."""
    found = []
    for place, window in enumerate(windows):
        if window.name == _ONE_CYCLE:
            top, divisor = (window.arguments.get(key, x) for key, x in (("eta_max", 0.0), ("div_factor", 25.0)))
            if not divisor:
                raise ScheduleError("from_mmengine: OneCycle divides by div_factor, which must not be 0.")
            base = top / divisor
        found.append(replace(window, base=base if window.base is None else window.base, place=place))
    return found


def _joined(windows: Sequence[_Window], value: float) -> Schedule:
    """One piece for each stretch of time in which windows overlap, from the value that is there."""
    pieces: list[Schedule | None] = []
    reached = 0
    parts = _apart(windows)
    for part in parts:
        first, last = part[0].first, max(window.last for window in part)
        curve = _together(part, value)
        pieces += [hold(value, first - reached), curve if part is parts[-1] else curve.until(last - first)]
        end = min((window.raises for window in part if window.raises < window.last), default=None)
        if end is not None:
            return chain(*pieces[:-1], curve.until(end - first - 1) if end - first > 1 else Constant(curve(0)))
        value, reached = curve(last - first - 1), last
    return chain(*pieces)


def _apart(windows: Sequence[_Window]) -> list[list[_Window]]:
    """The windows, those that overlap together, in the order of time."""
    parts: list[list[_Window]] = []
    for window in sorted(windows, key=lambda window: window.first):
        if parts and window.first < max(other.last for other in parts[-1]):
            parts[-1].append(window)
        else:
            parts.append([window])
    return parts


def _together(part: Sequence[_Window], value: float) -> Schedule:
    if len(part) == 1:
        return part[0].curve(value)
    if not all(window.multiplies for window in part):
        return _tabled(part, value)
    schedule: Schedule = Constant(value)
    factors = [chain(hold(1.0, window.first - part[0].first), window.curve(1.0)) for window in part]
    for i, factor in enumerate(factors):
        schedule = value * factor if i == 0 else schedule * factor
    return schedule


def _tabled(part: Sequence[_Window], value: float) -> Schedule:
    """The recursion, written out up to where one of them is left alone."""
    *others, longest = sorted(part, key=lambda window: window.last)
    first, alone = min(window.first for window in part), max(window.last for window in others)
    values = _values(part, value, range(first, min(alone, first + _LONGEST + 1)))
    rest = longest.resumed(values[-1], alone) if longest.last > alone and len(values) == alone - first else None
    if rest is None and longest.last > alone:
        values = _values(part, value, range(first, min(longest.last, first + _LONGEST + 1)))
    if len(values) > _LONGEST:
        names = " and ".join(window.name.removesuffix("ParamScheduler") for window in part)
        raise ScheduleError(
            f"from_mmengine: {names} act at the same time for more than {_LONGEST} updates, and one of them does more "
            "than multiply: the value is a recursion without a formula. Let one begin where the other ends."
        )
    table = Piecewise(values, range(1, len(values))) if len(values) > 1 else Constant(values[0])
    return table if rest is None else table.until(len(values)) >> rest


def _values(part: Sequence[_Window], value: float, updates: range) -> list[float]:
    """The values at ``updates``: those by update act before those by epoch, except at the very first."""
    in_order = sorted(part, key=lambda window: window.place)
    stepped = sorted(in_order, key=lambda window: window.by_epoch)
    values = []
    for t in updates:
        if any(t >= window.raises < window.last for window in part):
            break
        for window in stepped if t else in_order:
            value = window.after(value, t)
        values.append(value)
    return values


def _watched(windows: Sequence[_Window], base: float, run: _Run) -> Ruled:
    """A ReduceOnPlateau alone: its floor is one of the value itself."""
    window = windows[0]
    if len(windows) > 1:
        raise ScheduleError(
            "from_mmengine: ReduceOnPlateau is read alone: what it does to other schedulers has no formula."
        )
    if window.end < INF and window.end != run.max_epochs:
        raise ScheduleError("from_mmengine: a ReduceOnPlateau that ends before the run is no rule of ours.")
    ruled: Ruled = PEER.build(
        window.name, {"value": base, "base": base, "steps": window.steps, "start": window.first, **window.arguments}
    )
    return ruled


# -- the schedulers: of a value, over so many steps --------------------------------------------------------------


@PEER.entry
def StepParamScheduler(value: float, base: float, steps: int, step_size: int, gamma: float = 0.1) -> Schedule:
    """Times ``gamma`` every ``step_size`` steps."""
    size = checks.whole("Step", "step_size", step_size)
    return powers(value, gamma, every=size).stairs(size)


@PEER.entry
def MultiStepParamScheduler(
    value: float, base: float, steps: int, milestones: Sequence[int], gamma: float = 0.1
) -> Schedule:  # fmt: skip
    """Times ``gamma`` at each milestone."""
    return levels(lambda t: value * gamma ** sum(joint <= t for joint in milestones), milestones)


@PEER.entry
def ConstantParamScheduler(value: float, base: float, steps: int, factor: float = 1 / 3) -> Schedule:
    """Times ``factor`` until the last step, which takes it back: one step alone does not, and 0 cannot (E1)."""
    _part("Constant", "factor", factor)
    if factor == 0 or steps == 1:
        return Constant(value * factor)
    return Constant(value * factor, steps - 1) >> Constant(value)


@PEER.entry
def LinearParamScheduler(
    value: float, base: float, steps: int, start_factor: float = 1 / 3, end_factor: float = 1.0
) -> Schedule:  # fmt: skip
    """A line of factors that reaches the last at the last step; from 0 it raises at the second (E1)."""
    _part("Linear", "start_factor", start_factor)
    _part("Linear", "end_factor", end_factor)
    if start_factor == 0 or steps == 1:
        return Constant(value * start_factor)
    return Linear(value * start_factor, value * end_factor, steps - 1)


def _part(where: str, name: str, value: Any) -> None:
    if not 0 <= checks.number(where, name, value) <= 1:
        raise ScheduleError(f"{where}: {name} must be from 0 to 1, got {value!r}.")


@PEER.entry
def ExponentialParamScheduler(value: float, base: float, steps: int, gamma: float) -> Schedule:
    """Times ``gamma`` at every step."""
    return powers(value, gamma)


def _floor(base: float, eta_min: float | None, ratio: float | None, given: float | None = None) -> float:
    """``eta_min``, or the ratio of the base; ``given`` if neither is there."""
    if eta_min is None and ratio is None:
        eta_min = given
    if (eta_min is None) == (ratio is None):
        raise ScheduleError("give one of eta_min and eta_min_ratio.")
    return eta_min if ratio is None else base * ratio  # type: ignore[return-value]


@PEER.entry
def CosineAnnealingParamScheduler(
    value: float, base: float, steps: int, T_max: int | None = None, eta_min: float | None = None,
    eta_min_ratio: float | None = None,
) -> Schedule:  # fmt: skip
    """Torch's: past ``T_max`` it climbs, to the base. By default it stops one step before its end (E1)."""
    low, half = _floor(base, eta_min, eta_min_ratio, given=0.0), T_max or steps
    if half >= steps - 1:
        return Cosine(value, low, half)
    return wave(base, low, half) if value == base else Cosine(value, low, half) >> wave(low, base, half)


@PEER.entry
def PolyParamScheduler(
    value: float, base: float, steps: int, eta_min: float = 0.0, power: float = 1.0
) -> Schedule:  # fmt: skip
    """Down to ``eta_min`` at the last step."""
    return Polynomial(value, eta_min, steps - 1, power=power) if power != 0 and steps > 1 else Constant(value)


@PEER.entry
def OneCycleParamScheduler(
    value: float, base: float, steps: int, eta_max: float = 0.0, total_steps: int | None = None,
    pct_start: float = 0.3, anneal_strategy: str = "cos", div_factor: float = 25.0, final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:  # fmt: skip
    """Torch's, with ends between steps: one step past its last it is on its way on, and then it raises."""
    n = steps if total_steps is None else checks.whole("OneCycle", "total_steps", total_steps)
    checks.choice("OneCycle", "anneal_strategy", anneal_strategy, ("cos", "linear"))
    _part("OneCycle", "pct_start", pct_start)
    first = pct_start * n - 1
    if first == 0:
        raise ScheduleError(f"OneCycle: {pct_start!r} of {n} steps is one, and mmengine divides by 0 there.")
    start, ease = eta_max / div_factor, "cosine" if anneal_strategy == "cos" else "linear"
    ends = [first, 2 * pct_start * n - 2, n - 1] if three_phase else [first, n - 1]
    values = [start, eta_max, *([start] if three_phase else []), start / final_div_factor]
    phases = list(zip([0.0, *ends[:-1]], ends, values[:-1], values[1:], strict=True))
    ramps = [(begin, Ramp(a, b, end - begin, ease=ease)) for begin, end, a, b in phases if end >= 0 and end > begin]
    body = chain(*(ramp.after(-begin) if begin < 0 else ramp for begin, ramp in ramps))
    begin, end, a, b = next((phase for phase in phases if n <= phase[1]), phases[-1])
    if begin == end:
        return body.until(max(n - 1, 1))
    return body.until(n) >> Constant(_beyond(a, b, (n - begin) / (end - begin), ease))


def _beyond(a: float, b: float, p: float, ease: str) -> float:
    """A ramp at a place that may be past its end."""
    return b + (a - b) / 2 * (1 + math.cos(math.pi * p)) if ease == "cosine" else a + (b - a) * p


@PEER.entry
def CosineRestartParamScheduler(
    value: float, base: float, steps: int, periods: Sequence[int], restart_weights: Sequence[float] = (1.0,),
    eta_min: float | None = None, eta_min_ratio: float | None = None,
) -> Schedule:  # fmt: skip
    """A cosine for each period, from its weight times the base; stays where the last is one step before its end."""
    low = _floor(base, eta_min, eta_min_ratio)
    if len(periods) != len(restart_weights):
        raise ScheduleError(
            f"CosineRestart: periods and restart_weights must be equally many, got {len(periods)} and "
            f"{len(restart_weights)}."
        )
    cycles = chain(*(Cosine(base * w, low, n) for n, w in zip(periods, restart_weights, strict=True) if n > 0))
    total = sum(periods)
    return cycles.until(total - 1) if total > 1 else Constant(cycles(0))


@PEER.entry
def ReduceOnPlateauParamScheduler(
    value: float, base: float, steps: int, rule: str = "less", factor: float = 0.1, patience: int = 10,
    threshold: float = 1e-4, threshold_rule: str = "rel", cooldown: int = 0, min_value: float = 0.0, eps: float = 1e-8,
    start: int = 0,
) -> Ruled:  # fmt: skip
    """ReduceLROnPlateau of torch, from epoch ``begin`` on."""
    checks.choice("ReduceOnPlateau", "rule", rule, ("less", "greater"))
    made = plateau(
        value, "mmengine", mode="min" if rule == "less" else "max", factor=factor, patience=patience,
        threshold=threshold, threshold_mode=threshold_rule, cooldown=cooldown, min_lr=min_value, eps=eps, start=start,
    )  # fmt: skip
    return Constant(value) * made
