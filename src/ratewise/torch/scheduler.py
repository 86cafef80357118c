"""``Scheduler``: a torch optimizer that follows a schedule, update by update.

It says what is followed, from which position on, and keeps that in checkpoints; what the rate is, a ``Schedule`` says,
and the ``Driver`` counts the updates and writes the rates. It is an ``LRScheduler`` so that trainers accept it, but it
never counts their calls of ``step()``.
"""

import json
import logging
import math
import warnings
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ratewise.core import checks
from ratewise.core.change import check_policy
from ratewise.core.horizon import Horizon, Updates
from ratewise.core.ruled import Ruled, ruled_like, rules_of, unruled
from ratewise.core.schedule import Schedule
from ratewise.errors import AdapterError, ScheduleChanged, ScheduleDetached, ScheduleError, nearest
from ratewise.torch.backoffs import Backoffs
from ratewise.torch.driver import Driver, Log
from ratewise.torch.groups import (
    BASE,
    Group,
    Knob,
    adopted,
    as_held,
    give_back,
    names,
    planned,
    separate_tensors,
    unwrapped,
)
from ratewise.torch.plan import Followed, Plan, by_group, check_groups, check_values, plain, read
from ratewise.torch.saved import FORMAT, Saved, continued, difference
from ratewise.torch.watch import WATCH

CLOCKS = ("hooks", "step")
OVERRUN = ("hold", "error")

_REPLACED = (
    "optimizer.param_groups was replaced after the Scheduler was made. Make the Scheduler after whatever wraps or "
    'rebuilds the optimizer, or use clock="step" if it swaps its groups at every update (DeepSpeed does).'
)

_log = logging.getLogger("ratewise")


class Scheduler(LRScheduler):
    """Let an optimizer follow schedules.

    Update t (counted from 0) uses ``lr(t)``, or ``factor(t)`` times each group's base rate; a group's ``lr_scale``
    multiplies either. Nothing has to be called: the position advances with every update that happens, so
    accumulation, skipped updates and a trainer's own calls of ``step()`` cannot move the curve. Past its end a
    schedule holds its end value.

    Args:
        optimizer: A ``torch.optim.Optimizer``, also wrapped by Accelerate or Lightning.
        lr: Absolute rate, at least 0 and finite: a schedule, a number, or one for every group name. A group without
            a ``name`` is called by its index, ``"0"``. Names and ``lr_scale`` are read when the Scheduler is made.
        factor: Dimensionless; multiplies the base rates, so ratios between groups stay. The base rate is
            ``group["lr"]`` when the Scheduler is made.
        momentum: Momentum, or the first beta where the optimizer has betas; in [0, 1).
        beta2: The second beta, in [0, 1).
        weight_decay: Weight decay, at least 0.
        eps: The optimizer's ``eps``, at least 0.
        horizon: Length of the run, in optimizer updates or as a ``Horizon``; settles the open lengths of schedules.
        clock: ``"hooks"`` counts the optimizer's own updates. ``"step"`` counts calls of ``step()``: for DeepSpeed,
            replayed CUDA graphs, ``torch.compile(fullgraph=True)`` and optimizers without torch's step hooks. Not
            below Accelerate's wrapper, which calls ``step()`` once for every process. There nothing runs before an
            update, so read ``next_lr`` after ``add_param_group``: that takes the new group in.
        on_overrun: Past the end of the run, ``"hold"`` warns once and holds the end value, ``"error"`` raises.
        on_change: Policy of ``load_state_dict`` for trainers that pass none.
        scaler: A ``GradScaler``; lets ``skipped`` count what it skips, from its scale, which is then read before every
            update (on a GPU that waits for it). The position needs none.
        restart: Detach the Scheduler that the optimizer already has and begin again at update 0.

    Raises:
        AdapterError: The optimizer cannot follow these schedules, or already follows others.
        ScheduleError: A schedule needs the length of the run and no horizon is given.

    Example:
        >>> import torch
        >>> from ratewise import linear_decay
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1)
        >>> scheduler = Scheduler(optimizer, linear_decay(0.4), horizon=4)
        >>> for _ in range(3):
        ...     weight.grad = torch.ones(1)
        ...     optimizer.step()
        >>> scheduler.position, scheduler.get_last_lr(), scheduler.next_lr
        (3, [0.2], {'0': 0.1})

    See Also:
        torch's schedulers count calls of ``step()`` and return the coming rate from ``get_last_lr()``; this one
        counts updates and returns the rate that the last update used.
    """

    def __init__(
        self, optimizer: Any, lr: Any = None, *, factor: Any = None, momentum: Any = None, beta2: Any = None,
        weight_decay: Any = None, eps: Any = None, horizon: Horizon | int | None = None, clock: str = "hooks",
        on_overrun: str = "hold", on_change: str | None = None, scaler: Any = None, restart: bool = False,
    ) -> None:  # fmt: skip
        # LRScheduler.__init__ wraps optimizer.step and counts calls; none of that is wanted here.
        self.optimizer = unwrapped(optimizer)
        self.clock = _known("clock", clock, CLOCKS)
        self._on_overrun = _known("on_overrun", on_overrun, OVERRUN)
        self._on_change = None if on_change is None else _policy("Scheduler: on_change", on_change)
        self._horizon = None if horizon is None else Horizon.of(horizon)
        self._backoffs = None if scaler is None else Backoffs(scaler)
        given = {"lr": lr, "factor": factor, "momentum": momentum, "beta2": beta2}
        spec = read({**given, "weight_decay": weight_decay, "eps": eps}, self._horizon)
        _check_optimizer(self.optimizer)
        check_groups(spec, names(self.optimizer.param_groups))
        before = WATCH.scheduler_of(self.optimizer)
        if before is not None and not restart:
            raise AdapterError(
                f"Scheduler: this optimizer already follows a schedule (at update {before.position}). Go on with that "
                "Scheduler, call its detach(), or write restart=True to begin again at update 0."
            )
        self._begin(planned(spec, self.optimizer.param_groups), before)

    def _begin(self, plan: Plan, before: "Scheduler | None") -> None:
        """Take hold of the optimizer at update 0; whatever can fail comes before the first change."""
        self._plan = self._origin = plan
        self._history: list[dict[str, Any]] = []
        self._originals: dict[tuple[str, str], float] = {}
        self._step_count = 1  # plain and writable: Accelerate adds to it
        self._reset()
        knobs = self._tuned(plan)
        groups = self.optimizer.param_groups
        loaded = [float(group["lr"]) for group in groups] if before is None and BASE in groups[0] else []
        self._driver.hook(self.clock, self._reload)
        if before is not None:
            before.detach()
        self._bind(knobs)
        self._note_stray(loaded)

    def _reset(self) -> None:
        """What is never saved."""
        self._driver = Driver(self.optimizer, self._attend)
        self._stray: tuple[str, float, float] | None = None
        self._resumed: dict[str, float] = {}  # the rates that the optimizer of the loaded state held
        self._released: dict[str, dict[str, float]] = {}  # driven when the state was saved, not any more
        self._told = self._told_nan = False  # of the overrun, of a metric that is not finite

    # -- reading ---------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """How many updates have happened; the coming one uses ``lr(position)``."""
        self._driver.resolve()
        return self._driver.position

    @property
    def skipped(self) -> int | None:
        """How many updates were skipped for overflowing gradients; None where that cannot be seen."""
        self._driver.resolve()
        skips = self._driver.skips
        if self._backoffs is None or self._driver.kernel_skips:  # what the kernel skips, the scaler counts too
            return skips
        return (skips or 0) + self._backoffs.count

    @property
    def overrun(self) -> int:
        """How many updates happened past the end of the run."""
        return max(0, self.position - math.ceil(self._end)) if self._end < math.inf else 0

    @property
    def last_lr(self) -> dict[str, float]:
        """The rates that the last update used, by group name; before the first update the coming ones."""
        return dict(zip(self._plan.base, self.get_last_lr(), strict=False))

    @property
    def next_lr(self) -> dict[str, float]:
        """The rates that the coming update will use, by group name."""
        rates = self.get_lr()
        return dict(zip(self._plan.base, rates, strict=True))

    @property
    def history(self) -> list[dict[str, Any]]:
        """Every change of plan, cuts by rules among them.

        ``at`` which update, ``what`` it was, the rates ``old`` and ``new`` there by group, the ``end`` of the new plan
        (None without one), and what was followed before (``was``) as JSON values.
        """
        return [dict(entry) for entry in self._history]

    def schedules(self, name: str = "lr") -> dict[str, Followed]:
        """Return what ``name`` follows now, by group; ``"lr"`` also answers for ``factor=``."""
        name = self._plan.kind if name == "lr" else name
        return {group: self._plan.followed(name, group) for group in self._plan.base} if name in self._plan.spec else {}

    def get_last_lr(self) -> list[Any]:
        """Return what the last update used, one rate per group; before the first update the coming rates."""
        self._driver.resolve()
        used = self._driver.used
        return list(self._driver.rates if used is None else used)

    def get_lr(self) -> list[Any]:
        """Return what the coming update will use, one rate per group; a group added just now is taken in."""
        self._driver.resolve()
        if self._driver.handles is not None:
            self._settled("get_lr")
        return list(self._driver.rates)

    @property
    def last_epoch(self) -> int:
        """The position, under torch's name."""
        return self.position

    @last_epoch.setter
    def last_epoch(self, value: int) -> None:
        raise AdapterError(
            f"Scheduler: its position follows the optimizer and cannot be set to {value!r:.20}. Join schedules with >> "
            "rather than with SequentialLR; to go on from a checkpoint, use load_state_dict."
        )

    @property
    def base_lrs(self) -> list[Any]:  # type: ignore[override]
        """The base rates, in group order."""
        return list(self._plan.base.values())

    @property
    def _last_lr(self) -> list[Any]:  # type: ignore[override]  # trainers read torch's attribute of this name
        return self.get_last_lr()

    def log_to(self, log: Log) -> None:
        """Call ``log(t, rates)`` after every update: its index and the rates that it used, by group name.

        Args:
            log: A ``ratewise.logs.CSVLog`` or ``TensorBoardLog``, or any function. Not kept by checkpoints or copies.
        """
        if not callable(log):
            raise AdapterError(f"log_to: log must be a function of (t, rates), got {checks.shown(log)}.")
        self._driver.sync()
        self._driver.logs.append(log)
        self._driver.follow(self._driver.knobs, list(self._plan.base))

    # -- the clock -------------------------------------------------------------------------------------------

    def step(self, metric: float | None = None) -> None:
        """Do nothing under ``clock="hooks"``; under ``clock="step"`` count one update.

        Args:
            metric: An evaluation for the rules, as ``observe`` takes it; it counts no update.

        Raises:
            AdapterError: A metric is given and no rule reads it.
            ScheduleDetached: Under ``clock="step"``, the update did not use the scheduled rate.
        """
        if metric is not None:
            self.observe(metric)
            return
        self._step_count += 1
        driver = self._driver
        if self.clock == "step" and driver.handles is not None:
            late = [float(group["lr"]) for group in self.optimizer.param_groups[len(driver.members) :]]
            driver.check()
            if not driver.apart:
                self._warn_late(late)
                driver.advance()

    def _warn_late(self, used: list[float]) -> None:
        """Warn of groups that were added under ``clock="step"`` and made an update before they were taken in."""
        driver, n = self._driver, len(used)
        added = zip(used, driver.rates[-n:], driver.lr.held[-n:], driver.names[-n:], strict=True) if n else ()
        for found, intended, held, name in added:
            if found != as_held(intended, held):
                self._warn(
                    f"torch adapter: group {name!r} was added and made update {driver.position} at the rate {found!r}, "
                    f"not {intended!r}. Read scheduler.next_lr after add_param_group: that takes the group in."
                )

    def _attend(self, groups: list[Group]) -> None:
        """Everything that is rare before an update; the driver's ``limit`` is what makes it come here."""
        driver = self._driver
        driver.apart = driver.capturing()
        if driver.apart:
            return
        driver.verify(groups)
        driver.resolve()
        if self._backoffs is not None and getattr(self.optimizer, "found_inf", None) is None:
            self._backoffs.before_update()
        if driver.regrouped(groups):
            self._regroup(groups)
        if driver.postponed is not None:
            raise driver.postponed
        if self._stray is not None:
            self._warn_stray()
        if driver.position >= self._end and not self._told:
            self._past_end()
        self._set_limit()

    def _set_limit(self) -> None:
        """From which position on the driver has to ask for attention."""
        always = self._driver.waiting or self._stray or self._backoffs is not None
        self._driver.limit = -1.0 if always else math.inf if self._told else self._end

    def _past_end(self) -> None:
        end = math.ceil(self._end)
        position = self._driver.position
        text = f"torch adapter: the schedule ends after {end} updates, and update {position} is about to be made"
        if self._on_overrun == "error":
            raise AdapterError(f'{text}. Give a longer horizon, or on_overrun="hold" to go on with the end value.')
        self._told = True
        rates = ", ".join(f"{rate:g}" for rate in sorted(set(self._driver.rates)))
        self._warn(f"{text}. The rate is held at its end value ({rates}); on_overrun='error' would stop here.")

    def _note_stray(self, loaded: list[float]) -> None:
        """Remember loaded rates that are not the scheduled ones: the Scheduler's own state may still be to come."""
        lr = self._driver.lr
        for name, found, intended, held in zip(self._plan.base, loaded, lr.rates, lr.held, strict=False):
            saved = as_held(self._resumed.get(name, intended), held)
            if self._stray is None and found not in (as_held(intended, held), saved):
                self._stray = (name, found, intended)
        self._set_limit()

    def _warn_stray(self) -> None:
        (name, found, intended), self._stray = self._stray or ("", 0.0, 0.0), None
        self._warn(
            f"torch adapter: the loaded optimizer held the rate {found!r} in group {name!r}, the schedule gives "
            f"{intended!r} at update {self.position}. Load the Scheduler's state too, with load_state_dict."
        )

    def _warn(self, text: str) -> None:
        """Warn in the name of the line that called ``optimizer.step()`` (or ``scheduler.step()``)."""
        warnings.warn(text, UserWarning, stacklevel=6 if self.clock == "step" else 9 if self._driver.traced else 7)

    # -- groups ----------------------------------------------------------------------------------------------

    def _regroup(self, groups: list[Group]) -> None:
        """Adopt groups that were added, or find that ours were replaced."""
        driver, known = self._driver, self._driver.members
        if len(groups) < len(known):
            raise AdapterError(
                f"torch adapter: the optimizer has {len(groups)} parameter groups, the Scheduler follows {len(known)}. "
                "Call detach() and make a Scheduler for what is left."
            )
        if any(group is not member for group, member in zip(groups, known, strict=False)):
            # an optimizer without load hooks: groups that carry our key came out of its checkpoint
            if self.clock == "hooks" or not all(BASE in group for group in groups):
                raise self._replaced(groups)
            self._reload()
        driver.compare(groups)
        if not driver.apart:
            self._adopt(groups)

    def _replaced(self, groups: list[Group]) -> ScheduleDetached:
        """The error for groups that are not those the Scheduler was made for; the first that differs is named."""
        pairs = zip(groups, self._driver.rates, self._plan.base, self._driver.members, strict=False)
        changed = [(rate, float(group["lr"]), name) for group, rate, name, member in pairs if group is not member]
        rate, found, name = next((c for c in changed if c[0] != c[1]), changed[0])
        return ScheduleDetached(rate, found, name, _REPLACED)

    def _adopt(self, groups: list[Group]) -> None:
        """Take in groups that were added since; their rates are written before their first update."""
        driver = self._driver
        added = dict(list(zip(names(groups), groups, strict=True))[len(self._plan.base) :])
        plan = adopted(self._plan, added, self.optimizer, driver.rates)
        origin = adopted(self._origin, added, self.optimizer, driver.rates)
        knobs = self._tuned(plan)
        self._plan, self._origin = plan, origin
        if driver.used is not None:  # a new group made no update yet: its coming rate, as before the first update
            driver.used = driver.used + knobs[0].rates[len(driver.used) :]
        self._bind(knobs)

    def _tuned(self, plan: Plan, t: int | None = None) -> list[Knob]:
        """The hyperparameters that ``plan`` drives, the rate first; values are computed, nothing is written."""
        groups, t = self.optimizer.param_groups, self._driver.position if t is None else t
        return [Knob(name, plan, groups, t) for name in sorted(plan.spec, key=lambda n: n not in ("lr", "factor"))]

    def _bind(self, knobs: list[Knob]) -> None:
        """Follow ``self._plan`` with ``knobs`` in the groups that the optimizer has now."""
        self._follow(knobs)
        groups = self.optimizer.param_groups
        self._driver.take(groups, len(groups))
        separate_tensors(self.optimizer)
        for group, (name, base) in zip(groups, self._plan.base.items(), strict=True):
            group[BASE] = base
            for knob in knobs[1:]:
                self._originals.setdefault((knob.name, name), float(knob.get(group)))
        self._write()
        WATCH.add(self)

    def _follow(self, knobs: list[Knob]) -> None:
        """Take ``knobs`` as those of ``self._plan``; the run ends at the horizon, or later if the plan does."""
        self._driver.follow(knobs, list(self._plan.base))
        end = self._plan.end()
        if self._horizon is not None:
            end = max(self._horizon.total_steps, end if end < math.inf else 0)
        self._end = end

    def _write(self) -> None:
        """Write every value at the position anew."""
        self._driver.write()
        self._set_limit()

    def _reload(self, optimizer: Any = None) -> None:
        """Load hook of the optimizer: loading makes new groups, with new rates and new rate tensors."""
        driver = self._driver
        driver.resolve()
        groups = self.optimizer.param_groups
        loaded = [float(group["lr"]) for group in groups[: len(driver.members)]]
        for knob in driver.knobs:
            knob.restore(groups)
        for group, member in zip(groups, driver.members, strict=False):
            for key in ("name", "lr_scale", BASE):  # ours, whatever the checkpoint says: it pairs groups by position
                group.pop(key, None)
                group.update({key: member[key]} if key in member else {})
        self._note_stray(loaded)
        driver.take(groups, len(self._plan.base))
        self._release()
        self._write()

    # -- letting go ------------------------------------------------------------------------------------------

    def detach(self) -> None:
        """Let go of the optimizer: it is left as it was found, at its base rates. Twice is once."""
        driver = self._driver
        if driver.handles is None:
            return
        driver.resolve()
        driver.unhook()
        WATCH.remove(self)
        for group, (name, base) in zip(self.optimizer.param_groups, self._plan.base.items(), strict=False):
            driver.lr.set(group, base)
            for knob in driver.knobs[1:]:
                knob.set(group, self._originals[knob.name, name])

    def _settled(self, doing: str) -> int:
        """The position, all groups adopted; raises once the Scheduler has let go."""
        if self._driver.handles is None:
            raise AdapterError(f"{doing}: this Scheduler has let go of its optimizer. Make a new one to go on.")
        position, groups = self.position, self.optimizer.param_groups
        if self._driver.regrouped(groups):
            self._driver.apart = False  # nothing is being stepped now
            self._regroup(groups)
        return position

    # -- steering --------------------------------------------------------------------------------------------

    def observe(self, metric: Any) -> None:
        """Give an evaluation to the rules; a cut takes effect at the coming update and is recorded in ``history``.

        Under several processes every one must observe the same number, so reduce it first: rates would differ between
        them, silently, if the metrics did.

        Args:
            metric: The evaluation, a number or an array of one. A nan or an infinity is no improvement, and is warned
                of once.

        Raises:
            AdapterError: The rate follows no rule, or the metric is no number.
        """
        t = self._settled("observe")
        if not self._plan.rules:
            raise AdapterError(
                f"observe: the rate follows no rule that reads a metric, got {checks.shown(metric, 40)}. Give "
                "lr=schedule * Plateau(0.5, patience=2), or call step() alone: it takes no epoch."
            )
        number = plain(metric)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise AdapterError(f"observe: metric must be a number, got {checks.shown(metric)}.")
        plan = self._plan.observed(number, t)
        if not self._told_nan and not math.isfinite(number):
            self._told_nan = True
            warnings.warn(
                f"torch adapter: the metric at update {t} is {number}; it counts as no improvement.", stacklevel=2
            )
        if [plan.factor(plan.kind, g) for g in plan.base] == [self._plan.factor(plan.kind, g) for g in plan.base]:
            self._plan = plan
            return
        acting = {repr(rule) for key in plan.rules for rule in rules_of(plan.rates[key])}
        self._turn(plan, t, f"{' and '.join(sorted(acting))} after the metric {number!r}")

    def change(self, new: Any, policy: str) -> None:
        """Follow ``new`` from the coming update on; recorded in ``history`` and kept by checkpoints.

        Args:
            new: What ``lr=`` (or ``factor=``, whichever was given) takes.
            policy: One of ``"keep"``, ``"switch"``, ``"stretch"``, ``"replan"`` and ``"rewarm(n)"``, which mean what
                they mean in ``ratewise.extend``.

        Raises:
            ScheduleError: The policy cannot be applied here.
            AdapterError: The policy is unknown, or ``new`` does not fit the groups.
        """
        t = self._settled("change")
        _policy("change: policy", policy)
        key = self._plan.kind
        try:
            rates = by_group(key, new, None)
        except ScheduleError:
            if self._horizon is None:
                raise
            rates = by_group(key, new, self._horizon)
        check_groups({key: rates}, list(self._plan.base))
        plan = continued(self._plan, self._plan.with_rates(rates), t, policy)
        if plan != self._plan:
            self._turn(plan, t, f"change(..., {policy!r})")

    def decay_now(self, steps: Updates, end: float = 0.0, shape: str = "1-sqrt") -> None:
        """Come down from the coming rate to ``end`` within ``steps`` updates, starting now.

        Args:
            steps: Length of the decay: updates, or a typed length if the Scheduler has a horizon.
            end: Value at its end, in the unit of ``lr=`` or ``factor=``, unless a rule cuts on the way.
            shape: Ease of the ramp.
        """
        t = self._settled("decay_now")
        n = steps if self._horizon is None else self._horizon.whole(steps)
        what = f"decay_now({n!r}, end={end!r}, shape={shape!r})"
        self._turn_rates(lambda s, made: s.decay_from(t, n, end / made if end and made else end, shape), t, what)

    def scaled_from(self, factor: float) -> None:
        """Multiply the schedule by ``factor`` from the coming update on."""
        t = self._settled("scaled_from")
        factor = plain(factor)
        self._turn_rates(lambda s, made: s.scaled_from(t, factor), t, f"scaled_from({factor!r})")

    def _turn_rates(self, turned: Any, t: int, what: str) -> None:
        """Follow ``turned(schedule, what its rules have made of it)`` from update ``t`` on; the rules stay."""
        rates: dict[str, Followed] = {}
        for key, rate in self._plan.rates.items():
            made = rate.factor(self._plan.rules[key]) if isinstance(rate, Ruled) else 1.0
            schedule: Schedule = turned(unruled(rate), made)
            check_values(self._plan.kind, schedule)
            rates[key] = ruled_like(schedule, rate)
        self._turn(self._plan.with_rates(rates), t, what)

    def _turn(self, plan: Plan, t: int, what: str) -> None:
        """Follow ``plan`` from update ``t`` on; nothing has changed if one of its values cannot be used."""
        knobs = self._tuned(plan)
        self._record(t, what, self.next_lr, plan, knobs[0].rates, self._plan.encoded()["spec"])
        self._plan, self._told = plan, False
        self._bind(knobs)

    def _record(self, t: int, what: str, old: Mapping[str, float], plan: Plan, rates: list[float], was: Any) -> None:
        """Write a change of plan into the history, and into Python's log ``"ratewise"`` for people."""
        new, end = dict(zip(plan.base, rates, strict=True)), plan.end()
        entry = {
            "at": t,
            "what": what,
            "old": dict(old),
            "new": new,
            "end": None if end == math.inf else end,
            "was": was,
        }
        self._history.append(entry)
        for group, rate in new.items():
            ratio = f" (x{rate / old[group]:.5g})" if old.get(group) else ""
            _log.info(
                "update %d: %s: group %r, lr %.6e -> %.6e%s, ends at %s",
                t,
                what,
                group,
                old[group],
                rate,
                ratio,
                entry["end"],
            )

    # -- checkpoints -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the position, what is followed and the history of changes, as numbers and texts.

        What has parts is JSON text, because ``torch.distributed.checkpoint`` loads a state into the parts of a fresh
        one. Derived rates are not what resumes: they are computed again from the schedule and the position.
        """
        position = self.position if self._driver.handles is None else self._settled("state_dict")
        parts = {
            **self._plan.encoded(),
            "history": self._history,
            "originals": self._undriven(),
            "last_lr": None if self._driver.used is None else self.last_lr,  # for reading, as is next_lr
            "next_lr": self.next_lr,
        }
        return {
            "format": FORMAT,
            "position": position,
            "hash": self._plan.digest(),
            "planned": self._origin.digest(),  # of the constructor's arguments, before any change of plan
            "skipped": self.skipped,
            "scale": None if self._backoffs is None else self._backoffs.scale,
            **{key: json.dumps(part) for key, part in parts.items()},
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], on_change: str | None = None) -> None:
        """Go on at the position that ``state_dict()`` saved; the optimizer may be loaded before or after.

        Args:
            state_dict: What ``state_dict()`` returned.
            on_change: What to do if the state was made under another schedule: a policy of ``ratewise.extend``, with
                the saved schedule as ``old`` and this Scheduler's own as ``new``. By default the constructor's
                ``on_change``.

        Raises:
            ScheduleChanged: The schedules differ and no policy is given; nothing was changed.
            AdapterError: The state is not a Scheduler's, is damaged, or has groups of other names, or the policy is
                unknown.
            ScheduleError: The policy cannot be applied here.
        """
        self._settled("load_state_dict")
        if on_change is not None:
            _policy("load_state_dict: on_change", on_change)
        saved = Saved.of(state_dict)
        self._check_names(saved)
        plan, what = self._agreed(saved, on_change or self._on_change)
        knobs = self._tuned(plan, saved.position)
        self._plan, self._told, self._stray = plan, False, None
        driver = self._driver
        driver.position = saved.position
        self._history, self._resumed = [dict(entry) for entry in saved.history], saved.next_lr
        if what:
            self._record(saved.position, what, saved.next_lr, plan, knobs[0].rates, saved.spec)
        driver.skips, driver.kernel_skips = saved.skipped, False
        if self._backoffs is not None:
            self._backoffs.start_again(saved.scale)
        driver.used = None if saved.last_lr is None else [saved.last_lr[name] for name in plan.base]
        for name, values in saved.originals.items():
            self._originals.update({(name, group): x for group, x in values.items() if group in plan.base})
        self._released = {name: dict(x) for name, x in saved.originals.items() if name not in plan.spec}
        self._release()
        self._bind(knobs)

    def _undriven(self) -> dict[str, dict[str, float]]:
        """What hyperparameters other than the rate held before they were driven."""
        held: dict[str, dict[str, float]] = {}
        for (name, group), value in self._originals.items():
            held.setdefault(name, {})[group] = value
        return held

    def _release(self) -> None:
        """Give back what was driven when the state was saved and is not any more; the optimizer's state has it too."""
        for name, values in self._released.items():
            give_back(name, dict(zip(self._plan.base, self.optimizer.param_groups, strict=False)), values)

    def _check_names(self, saved: Saved) -> None:
        there, here = set(saved.base), set(self._plan.base)
        if there != here:
            raise AdapterError(
                f"load_state_dict: the saved groups are {sorted(there)}, the optimizer has {sorted(here)}. "
                "Groups are matched by name: give them the same names, and add those that were added before saving."
            )

    def _agreed(self, saved: Saved, policy: str | None) -> tuple[Plan, str]:
        """Which plan to go on with, and in words what that changes."""
        for plan in (self._origin, self._plan):
            if saved.hash == plan.digest():
                return saved.ruled(plan), ""
        if saved.planned == self._origin.digest():  # the same run, whose plan was changed on the way
            return saved.plan(self._plan), ""
        if policy is not None:
            plan = continued(saved.plan(self._plan), self._origin, saved.position, policy)
            return plan, f"load_state_dict(..., on_change={policy!r})"
        raise ScheduleChanged(
            f"load_state_dict: the saved position {saved.position} belongs to another schedule: "
            f"{difference(saved, self._origin, saved.position)}\n"
            "Write load_state_dict(state, on_change='keep') to go on with the saved schedule, 'switch' to follow the "
            "new one from here, or 'stretch', 'replan' or 'rewarm(n)' to join them; under a trainer give on_change= to "
            "the Scheduler."
        )

    # -- copies ----------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what belongs to this optimizer's hooks; a copied optimizer has none."""
        driver = self._driver
        if driver.handles is not None:
            self._settled("copy")
        driver.resolve()
        kept = ("optimizer", "clock", "_on_overrun", "_on_change", "_horizon", "_backoffs", "_plan", "_origin")
        more = ("_history", "_originals", "_released", "_step_count", "_told", "_told_nan")
        state = {name: getattr(self, name) for name in kept + more}
        return {"attached": driver.handles is not None, "clockwork": driver.saved(), **state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take hold of the copied optimizer at the same position."""
        attached, clockwork = state.pop("attached"), state.pop("clockwork")
        self.optimizer = state["optimizer"]
        self._reset()
        self.__dict__.update(state)
        self._driver.__dict__.update(clockwork)
        knobs = self._tuned(self._plan)
        if attached:
            self._driver.hook(self.clock, self._reload)
            self._bind(knobs)
        else:
            self._follow(knobs)

    def __repr__(self) -> str:
        driven = ", ".join(f"{name}={', '.join(map(repr, s.values()))}" for name, s in self._plan.spec.items())
        return f"<Scheduler of {type(self.optimizer).__name__} at update {self.position}: {driven:.200}>"


def _check_optimizer(optimizer: Any) -> None:
    kind = type(optimizer).__name__
    if getattr(optimizer, "param_groups", None):
        return
    if isinstance(optimizer, Optimizer):
        raise AdapterError(f"Scheduler: this {kind} has no parameter groups yet. Make the Scheduler after they exist.")
    raise AdapterError(f"Scheduler: needs a torch optimizer, got {kind}.")


def _policy(where: str, policy: Any) -> str:
    try:
        return check_policy(where, policy)
    except ScheduleError as error:
        raise AdapterError(str(error)) from None


def _known(where: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise AdapterError(
            f"Scheduler: {where} must be {' or '.join(map(repr, known))}, got {value!r:.40}."
            f"{nearest(str(value)[:40], known)}"
        )
    return str(value)
