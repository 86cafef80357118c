"""``Scheduler``: a torch optimizer that follows a schedule, update by update.

It holds the position and applies the rate; what the rate is, a ``Schedule`` says. Before each update it checks that
the optimizer still uses the rates that were written; after each it writes the next ones. It is an ``LRScheduler``
so that trainers accept it, but it never counts their calls of ``step()``.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling
from torch.optim.lr_scheduler import LRScheduler

from ratewise.core.horizon import Horizon, Updates
from ratewise.core.schedule import Schedule
from ratewise.errors import AdapterError, ScheduleChanged, ScheduleDetached, ScheduleError, nearest
from ratewise.torch.backoffs import Backoffs
from ratewise.torch.groups import (
    BASE,
    Group,
    Knob,
    adopted,
    as_held,
    names,
    planned,
    separate_tensors,
    without_gradients,
)
from ratewise.torch.plan import ALL, Plan, by_group, check_groups, decoded, difference, read
from ratewise.torch.watch import WATCH

FORMAT = 1
"""Version of ``state_dict``."""

POLICIES = ("keep", "switch")
"""How to go on when the schedule changes: with the old one, or with the new one from here."""

CLOCKS = ("hooks", "step")
OVERRUN = ("hold", "error")

_WRAPPERS = ("AcceleratedOptimizer", "LightningOptimizer")  # they step the optimizer that they hold

_EDITED = (
    "Something else wrote {name} after the Scheduler did, for example another scheduler or an edit of param_groups. "
    "To change the plan, use change(...); to let go of the optimizer, use detach()."
)
_REPLACED = (
    "optimizer.param_groups was replaced after the Scheduler was made. Make the Scheduler after whatever wraps or "
    'rebuilds the optimizer, or use clock="step" if it swaps its groups at every update (DeepSpeed does).'
)


class Scheduler(LRScheduler):
    """Let an optimizer follow schedules.

    Update t (counted from 0) uses ``lr(t)``, or ``factor(t)`` times each group's base rate; a group's ``lr_scale``
    multiplies either. Nothing has to be called: the position advances with every update that happens, so
    accumulation, skipped updates and a trainer's own calls of ``step()`` cannot move the curve. Past its end a
    schedule holds its end value.

    Args:
        optimizer: A ``torch.optim.Optimizer``, also wrapped by Accelerate or Lightning.
        lr: Absolute rate, at least 0 and finite: a schedule, a number, or one for every group name. A group without
            a ``name`` is called by its index, ``"0"``.
        factor: Dimensionless; multiplies the base rates, so ratios between groups stay. The base rate is
            ``group["lr"]`` when the Scheduler is made.
        momentum: Momentum, or the first beta where the optimizer has betas; in [0, 1).
        beta2: The second beta, in [0, 1).
        weight_decay: Weight decay, at least 0.
        eps: The optimizer's ``eps``, at least 0.
        horizon: Length of the run, in optimizer updates or as a ``Horizon``; settles the open lengths of schedules.
        clock: ``"hooks"`` counts the optimizer's own updates. ``"step"`` counts calls of ``step()``: for DeepSpeed,
            replayed CUDA graphs, ``torch.compile(fullgraph=True)`` and optimizers without torch's step hooks. Not
            below Accelerate's wrapper, which calls ``step()`` once for every process.
        on_overrun: Past the end of the run, ``"hold"`` warns once and holds the end value, ``"error"`` raises.
        on_change: Policy of ``load_state_dict`` for trainers that pass none.
        scaler: A ``GradScaler``; lets ``skipped`` count what it skips, from its scale, which is then read before every
            update (on a GPU that waits for it). The position needs none.
        restart: Detach the Scheduler that the optimizer already has and begin again at update 0.

    Raises:
        AdapterError: The optimizer cannot follow these schedules, or already follows others.
        ScheduleError: A schedule needs the length of the run and no horizon is given.

    Example:
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
        self.optimizer = _unwrapped(optimizer)
        self.clock = _known("clock", clock, CLOCKS)
        self._on_overrun = _known("on_overrun", on_overrun, OVERRUN)
        self._on_change = on_change if on_change is None else _known("on_change", on_change, POLICIES)
        self._horizon = None if horizon is None else Horizon.of(horizon)
        self._backoffs = None if scaler is None else Backoffs(scaler)
        given = {"lr": lr, "factor": factor, "momentum": momentum, "beta2": beta2}
        spec = read({**given, "weight_decay": weight_decay, "eps": eps}, self._horizon)
        if not getattr(self.optimizer, "param_groups", None):
            raise AdapterError(f"Scheduler: needs a torch optimizer, got {type(optimizer).__name__}.")
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
        self._position = 0
        self._skips: int | None = None
        self._used: list[float] | None = None
        self._history: list[dict[str, Any]] = []
        self._originals: dict[tuple[str, str], float] = {}
        self._step_count = 1  # plain and writable: Accelerate adds to it
        self._reset()
        knobs = self._tuned(plan)
        groups = self.optimizer.param_groups
        loaded = [float(group["lr"]) for group in groups] if before is None and BASE in groups[0] else []
        self._handles: list[Any] | None = self._hooked()
        if before is not None:
            before.detach()
        self._bind(knobs)
        self._note_stray(loaded)

    def _reset(self) -> None:
        """What is never saved."""
        self.stepping = False  # between the hooks of one update
        self._apart, self._dry_at = False, -1  # a step that is no update; the position of the last dry one
        self._pending: Any = None  # an overflow flag on a GPU that has not been read yet
        self._postponed: Exception | None = None
        self._stray: tuple[str, float, float] | None = None
        self._told = False  # of the overrun
        self._limit = -1.0
        self._outside = torch.compiler.disable(_call)  # type: ignore[no-untyped-call]

    # -- reading ---------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """How many updates have happened; the coming one uses ``lr(position)``."""
        self._resolve()
        return self._position

    @property
    def skipped(self) -> int | None:
        """How many updates were skipped for overflowing gradients; None where that cannot be seen."""
        self._resolve()
        if self._backoffs is None:
            return self._skips
        return (self._skips or 0) + self._backoffs.count

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
        return dict(zip(self._plan.base, self.get_lr(), strict=True))

    @property
    def history(self) -> list[dict[str, Any]]:
        """Every change of plan: ``at`` which update, ``what``, and the rates ``old`` and ``new`` there."""
        return [dict(entry) for entry in self._history]

    def schedules(self, name: str = "lr") -> dict[str, Schedule]:
        """Return the schedules that drive ``name`` now, by group; ``"lr"`` also answers for ``factor=``."""
        by_name = self._plan.rates if name == "lr" else self._plan.spec.get(name, {})
        return {group: by_name.get(group) or by_name[ALL] for group in self._plan.base} if by_name else {}

    def get_last_lr(self) -> list[Any]:
        """Return what the last update used, one rate per group; before the first update the coming rates."""
        self._resolve()
        return list(self._lr.rates if self._used is None else self._used)

    def get_lr(self) -> list[Any]:
        """Return what the coming update will use, one rate per group."""
        self._resolve()
        return list(self._lr.rates)

    @property
    def last_epoch(self) -> int:  # type: ignore[override]  # torch's is writable; ours follows the optimizer
        """The position, under torch's name."""
        return self.position

    @property
    def base_lrs(self) -> list[Any]:  # type: ignore[override]
        """The base rates, in group order."""
        return list(self._plan.base.values())

    @property
    def _last_lr(self) -> list[Any]:  # type: ignore[override]  # trainers read torch's attribute of this name
        return self.get_last_lr()

    # -- the clock -------------------------------------------------------------------------------------------

    def step(self, metric: float | None = None) -> None:
        """Do nothing under ``clock="hooks"``; under ``clock="step"`` count one update.

        Raises:
            AdapterError: A metric is given, which no schedule reads.
            ScheduleDetached: Under ``clock="step"``, the update did not use the scheduled rate.
        """
        if metric is not None:
            raise AdapterError(f"Scheduler: step() takes no metric or epoch, got {metric!r}. Call step() alone.")
        self._step_count += 1
        if self.clock == "step" and self._handles is not None:
            self._check()
            if not self._apart:
                self._advance()

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Step pre hook. The compiler must leave it alone: traced, it would recompile at every update."""
        if self._traceable or is_dynamo_compiling():
            self._outside(self._check)
        else:
            self._check()

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Step post hook."""
        if self._traceable or is_dynamo_compiling():
            self._outside(self._count)
        else:
            self._count()

    def _count(self) -> None:
        """An update was made, unless it was a dry step, or only recorded, or skipped by the kernel."""
        self.stepping = False
        if self._apart:
            return
        found = getattr(self.optimizer, "found_inf", None)  # set by GradScaler on optimizers whose kernel skips
        if found is None:
            self._advance()
            return
        self._pending, self._limit = found, -1.0
        if found.device.type == "cpu":
            self._resolve()  # on a GPU reading it now would stall the stream, so that waits until somebody asks

    def _advance(self) -> None:
        """One update happened: write the rates of the next."""
        self._used = self._lr.rates
        self._position = t = self._position + 1
        groups = self.optimizer.param_groups
        try:
            for knob in self._knobs:
                knob.write(groups, t)
        except Exception as error:  # it concerns an update that may never come: raised when it does
            self._postponed, self._limit = error, -1.0

    def _resolve(self) -> None:
        """Find out whether the last update happened, where the kernel decided that."""
        found, self._pending = self._pending, None
        if found is None:
            return
        self._skips, self._backoffs = self._skips or 0, None  # what the kernel skips, the scaler counts too
        if found.item():
            self._skips += 1
        else:
            self._advance()
        self._set_limit()

    def _capturing(self) -> bool:
        """Whether a CUDA graph is being recorded: a rate written now would be recorded with it as a constant."""
        return self._on_gpu and torch.cuda.is_current_stream_capturing()

    # -- the check -------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Before an update: the same groups, holding the rates that were written."""
        groups = self.optimizer.param_groups
        if groups is not self._groups or len(groups) != self._size or self._position >= self._limit:
            self._attend(groups)
        if not self._apart:
            for knob in self._knobs:
                if not knob.intact(groups):
                    self._compare(knob, groups)
        self.stepping = True

    def _compare(self, knob: Knob, groups: list[Group]) -> None:
        """Somebody wrote the hyperparameter: fine if the value is the same, or if the step is a dry one."""
        if knob is self._lr and self._is_dry(groups):
            self._apart, self._limit, self._dry_at = True, -1.0, self._position
            return
        wrong = knob.mismatch(groups)
        if wrong is None:
            knob.hold(groups)
        elif not self._apart:
            i, intended, found = wrong
            raise ScheduleDetached(intended, found, names(groups)[i], _EDITED.format(name=f"group[{knob.key!r}]"))

    def _is_dry(self, groups: list[Group]) -> bool:
        """Whether checkpointing makes this step to create optimizer state, at rate 0 and without gradients.

        A rate of 0 could also be a user's mistake: without gradients is asked of the second such step in a row, and
        of a step whose scheduled rates are 0 themselves.
        """
        if self.optimizer.state or any(float(group["lr"]) != 0.0 for group in groups):
            return False
        return without_gradients(groups) if self._dry_at == self._position or not any(self._lr.rates) else True

    def _attend(self, groups: list[Group]) -> None:
        """Everything that is rare; ``_limit`` is what makes ``_check`` come here."""
        self._apart = self._capturing()
        if self._apart:
            return
        self._resolve()
        if self._backoffs is not None and getattr(self.optimizer, "found_inf", None) is None:
            self._backoffs.before_update()
        if groups is not self._groups or len(groups) != self._size:
            self._regroup(groups)
        if self._postponed is not None:
            raise self._postponed
        if self._stray is not None:
            self._warn_stray()
        if self._position >= self._end and not self._told:
            self._past_end()
        self._set_limit()

    def _past_end(self) -> None:
        end = math.ceil(self._end)
        text = f"torch adapter: the schedule ends after {end} updates, and update {self._position} is about to be made"
        if self._on_overrun == "error":
            raise AdapterError(f'{text}. Give a longer horizon, or on_overrun="hold" to go on with the end value.')
        self._told = True
        rates = ", ".join(f"{rate:g}" for rate in sorted(set(self._lr.rates)))
        self._warn(f"{text}. The rate is held at its end value ({rates}); on_overrun='error' would stop here.")

    def _note_stray(self, loaded: list[float]) -> None:
        """Remember loaded rates that are not the scheduled ones: the Scheduler's own state may still be to come."""
        for name, found, intended, held in zip(self._plan.base, loaded, self._lr.rates, self._lr.held, strict=False):
            if self._stray is None and found != as_held(intended, held):
                self._stray = (name, found, intended)
        self._set_limit()

    def _warn_stray(self) -> None:
        (name, found, intended), self._stray = self._stray or ("", 0.0, 0.0), None
        self._warn(
            f"torch adapter: the loaded optimizer held the rate {found!r} in group {name!r}, the schedule gives "
            f"{intended!r} at update {self._position}. Load the Scheduler's state too, with load_state_dict."
        )

    def _warn(self, text: str) -> None:
        """Warn in the name of the line that called ``optimizer.step()`` (or ``scheduler.step()``)."""
        warnings.warn(text, UserWarning, stacklevel=6 if self.clock == "step" else 9 if self._traceable else 7)

    def _set_limit(self) -> None:
        """From which position on ``_check`` has to attend to more than the rates."""
        waiting = self._postponed or self._stray or self._pending is not None
        always = waiting or self._apart or self._on_gpu or self._backoffs is not None
        self._limit = -1.0 if always else math.inf if self._told else self._end

    # -- groups ----------------------------------------------------------------------------------------------

    def _regroup(self, groups: list[Group]) -> None:
        """Adopt groups that were added, or find that ours were replaced."""
        known = self._members
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
        for knob in self._knobs:
            if not knob.intact(groups):
                self._compare(knob, groups)
        if not self._apart:
            self._adopt(groups)

    def _replaced(self, groups: list[Group]) -> ScheduleDetached:
        """The error for groups that are not those the Scheduler was made for; the first that differs is named."""
        pairs = zip(groups, self._lr.rates, self._plan.base, self._members, strict=False)
        changed = [(rate, float(group["lr"]), name) for group, rate, name, member in pairs if group is not member]
        rate, found, name = next((c for c in changed if c[0] != c[1]), changed[0])
        return ScheduleDetached(rate, found, name, _REPLACED)

    def _adopt(self, groups: list[Group]) -> None:
        """Take in groups that were added since; their rates are written before their first update."""
        added = dict(list(zip(names(groups), groups, strict=True))[len(self._plan.base) :])
        plan = adopted(self._plan, added, self.optimizer, self._lr.rates)
        origin = adopted(self._origin, added, self.optimizer, self._lr.rates)
        knobs = self._tuned(plan)
        self._plan, self._origin = plan, origin
        if self._used is not None:  # a new group made no update yet: its coming rate, as before the first update
            self._used = self._used + knobs[0].rates[len(self._used) :]
        self._bind(knobs)

    def _tuned(self, plan: Plan, t: int | None = None) -> list[Knob]:
        """The hyperparameters that ``plan`` drives, the rate first; values are computed, nothing is written."""
        groups = self.optimizer.param_groups
        knobs = [Knob(name, plan, groups) for name in sorted(plan.spec, key=lambda n: n not in ("lr", "factor"))]
        for knob in knobs:
            knob.rates = knob.values(self._position if t is None else t)
        return knobs

    def _bind(self, knobs: list[Knob]) -> None:
        """Follow ``self._plan`` with ``knobs`` in the groups that the optimizer has now."""
        self._groups = groups = self.optimizer.param_groups
        self._members, self._size = list(groups), len(groups)
        self._follow(knobs)
        self._on_gpu = any(p.is_cuda for group in groups for p in group["params"])
        separate_tensors(self.optimizer)
        for group, (name, base) in zip(groups, self._plan.base.items(), strict=True):
            group[BASE] = base
            for knob in knobs[1:]:
                self._originals.setdefault((knob.name, name), float(knob.get(group)))
        self._write()
        WATCH.add(self)

    def _follow(self, knobs: list[Knob]) -> None:
        """Take ``knobs`` as those of ``self._plan``; the run ends at the horizon, or later if the plan does."""
        self._lr, self._knobs = knobs[0], knobs
        end = self._plan.end()
        if self._horizon is not None:
            end = max(self._horizon.total_steps, end if end < math.inf else 0)
        self._end = end
        # around a compiled step the compiler also takes single functions that handle tensors
        self._traceable = any(knob.tensors for knob in knobs)

    def _write(self) -> None:
        """Write every value at the position anew."""
        groups = self.optimizer.param_groups
        for knob in self._knobs:
            knob.hold(groups)
            knob.write(groups, self._position)
        self._postponed = None
        self._set_limit()

    def _reload(self, optimizer: Any = None) -> None:
        """Load hook of the optimizer: loading makes new groups, with new rates and new rate tensors."""
        self._resolve()
        groups = self.optimizer.param_groups
        loaded = [float(group["lr"]) for group in groups[: self._size]]
        for knob in self._knobs:
            knob.restore(groups)
        for group, member in zip(groups, self._members, strict=False):
            for key in ("name", "lr_scale", BASE):  # ours, whatever the checkpoint says: it pairs groups by position
                group.pop(key, None)
                group.update({key: member[key]} if key in member else {})
        self._note_stray(loaded)
        self._groups, self._members = groups, list(groups)
        self._write()

    # -- letting go ------------------------------------------------------------------------------------------

    def _hooked(self) -> list[Any]:
        """Register with the optimizer; returns the handles that undo it."""
        optimizer, handles = self.optimizer, []
        if self.clock == "hooks":
            try:
                handles = [
                    optimizer.register_step_pre_hook(self._before_step),
                    optimizer.register_step_post_hook(self._after_step),
                ]
            except AttributeError:
                raise AdapterError(
                    f"Scheduler: {type(optimizer).__name__} has no step hooks of torch.optim.Optimizer. Give the "
                    'optimizer that it wraps, or use clock="step" and call scheduler.step() after every update.'
                ) from None
        with suppress(AttributeError):
            handles.append(optimizer.register_load_state_dict_post_hook(self._reload))
        return handles

    def detach(self) -> None:
        """Let go of the optimizer: it is left as it was found, at its base rates. Twice is once."""
        if self._handles is None:
            return
        self._resolve()
        for handle in self._handles:
            handle.remove()
        self._handles = None
        WATCH.remove(self)
        for group, (name, base) in zip(self.optimizer.param_groups, self._plan.base.items(), strict=False):
            group.pop(BASE, None)
            self._lr.set(group, base)
            for knob in self._knobs[1:]:
                knob.set(group, self._originals[knob.name, name])

    def _settled(self, doing: str) -> int:
        """The position, all groups adopted; raises once the Scheduler has let go."""
        if self._handles is None:
            raise AdapterError(f"{doing}: this Scheduler has let go of its optimizer. Make a new one to go on.")
        position, groups = self.position, self.optimizer.param_groups
        if groups is not self._groups or len(groups) != self._size:
            self._regroup(groups)
        return position

    # -- steering --------------------------------------------------------------------------------------------

    def change(self, new: Any, policy: str) -> None:
        """Follow ``new`` from the coming update on; recorded in ``history`` and kept by checkpoints.

        Args:
            new: What ``lr=`` (or ``factor=``, whichever was given) takes.
            policy: ``"switch"``: as if ``new`` had been the plan from the start; the rate may jump. ``"keep"``: the
                old schedule stays.

        Raises:
            AdapterError: The policy is unknown, or ``new`` does not fit the groups.
        """
        t = self._settled("change")
        if _known("change: policy", policy, POLICIES) == "keep":
            return
        key = "factor" if "factor" in self._plan.spec else "lr"
        try:
            rates = by_group(key, new, None)
        except ScheduleError:
            if self._horizon is None:
                raise
            rates = by_group(key, new, self._horizon)
        check_groups({key: rates}, list(self._plan.base))
        self._turn(self._plan.with_rates(rates), t, f"change(..., {policy!r})")

    def decay_now(self, steps: Updates, end: float = 0.0, shape: str = "1-sqrt") -> None:
        """Come down from the coming rate to ``end`` within ``steps`` updates, starting now.

        Args:
            steps: Length of the decay: updates, or a typed length if the Scheduler has a horizon.
            end: Value at its end, in the unit of ``lr=`` or ``factor=``.
            shape: Ease of the ramp.
        """
        t = self._settled("decay_now")
        n = steps if self._horizon is None else self._horizon.whole(steps)
        rates = {group: s.decay_from(t, n, end, shape) for group, s in self._plan.rates.items()}
        self._turn(self._plan.with_rates(rates), t, f"decay_now({n!r}, end={end!r}, shape={shape!r})")

    def scaled_from(self, factor: float) -> None:
        """Multiply the schedule by ``factor`` from the coming update on."""
        t = self._settled("scaled_from")
        rates = {group: s.scaled_from(t, factor) for group, s in self._plan.rates.items()}
        self._turn(self._plan.with_rates(rates), t, f"scaled_from({factor!r})")

    def _turn(self, plan: Plan, t: int, what: str) -> None:
        """Follow ``plan`` from update ``t`` on; nothing has changed if one of its values cannot be used."""
        knobs = self._tuned(plan)
        old, new = self.next_lr, dict(zip(plan.base, knobs[0].rates, strict=True))
        self._history.append({"at": t, "what": what, "old": old, "new": new, "was": self._plan.encoded()["spec"]})
        self._plan, self._told = plan, False
        self._bind(knobs)

    # -- checkpoints -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the position, what is followed and the history of changes, as plain JSON values.

        Derived rates are not what resumes: they are computed again from the schedule and the position.
        """
        position = self.position if self._handles is None else self._settled("state_dict")
        return {
            "format": FORMAT,
            "position": position,
            **self._plan.encoded(),
            "hash": self._plan.digest(),
            "planned": self._origin.digest(),  # of the constructor's arguments, before any change of plan
            "history": self.history,
            "skipped": self.skipped,
            "last_lr": None if self._used is None else self.last_lr,  # for reading, as is next_lr
            "next_lr": self.next_lr,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], on_change: str | None = None) -> None:
        """Go on at the position that ``state_dict()`` saved; the optimizer may be loaded before or after.

        Args:
            state_dict: What ``state_dict()`` returned.
            on_change: What to do if the state was made under another schedule: ``"keep"`` goes on with the saved
                one, ``"switch"`` follows this Scheduler's own from here. By default the constructor's ``on_change``.

        Raises:
            ScheduleChanged: The schedules differ and no policy is given; nothing was changed.
            AdapterError: The state is not a Scheduler's, or has groups of other names.
        """
        self._settled("load_state_dict")
        policy = on_change if on_change is None else _known("load_state_dict: on_change", on_change, POLICIES)
        t = _checked(state_dict, self._plan)
        plan, what = self._agreed(state_dict, policy or self._on_change)
        knobs = self._tuned(plan, t)
        self._plan, self._position = plan, t
        self._told, self._stray = False, None
        self._history = [dict(entry) for entry in state_dict["history"]]
        if what:
            new = dict(zip(plan.base, knobs[0].rates, strict=True))
            old = state_dict["next_lr"]
            self._history.append({"at": t, "what": what, "old": old, "new": new, "was": state_dict["spec"]})
        self._skips = state_dict["skipped"]
        if self._backoffs is not None:
            self._backoffs.start_again()
        used = state_dict["last_lr"]
        self._used = None if used is None else [used[name] for name in plan.base]
        self._bind(knobs)

    def _agreed(self, state: Mapping[str, Any], policy: str | None) -> tuple[Plan, str]:
        """Which plan to go on with, and in words what that changes."""
        for plan in (self._origin, self._plan):
            if state["hash"] == plan.digest():
                return plan, ""
        if state["planned"] == self._origin.digest():  # the same run, whose plan was changed on the way
            return decoded(state, self._plan), ""
        if policy == "keep":
            return decoded(state, self._plan), "load_state_dict(..., on_change='keep')"
        if policy == "switch":
            return self._origin, "load_state_dict(..., on_change='switch')"
        raise ScheduleChanged(
            f"load_state_dict: the saved position {state['position']} belongs to another schedule. "
            f"{difference(state, self._origin, state['position'])}. Write load_state_dict(state, on_change='keep') to "
            "go on with the saved schedule or on_change='switch' to follow the new one from here; under a trainer "
            "give on_change= to the Scheduler."
        )

    # -- copies ----------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what belongs to this optimizer's hooks; a copied optimizer has none."""
        self._resolve()
        kept = ("optimizer", "clock", "_on_overrun", "_on_change", "_horizon", "_backoffs", "_plan", "_origin")
        more = ("_position", "_skips", "_used", "_history", "_originals", "_step_count", "_told")
        return {"attached": self._handles is not None, **{name: getattr(self, name) for name in kept + more}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take hold of the copied optimizer at the same position."""
        attached = state.pop("attached")
        self._reset()
        self.__dict__.update(state)
        knobs = self._tuned(self._plan)
        self._handles = self._hooked() if attached else None
        if attached:
            self._bind(knobs)
        else:
            self._follow(knobs)

    def __repr__(self) -> str:
        driven = ", ".join(f"{name}={', '.join(map(repr, s.values()))}" for name, s in self._plan.spec.items())
        return f"<Scheduler of {type(self.optimizer).__name__} at update {self.position}: {driven:.200}>"


def _call(function: Callable[[], None]) -> None:
    function()


def _unwrapped(optimizer: Any) -> Any:
    """The optimizer inside Accelerate's and Lightning's; matched by name, as neither may be imported here."""
    while any(kind.__name__ in _WRAPPERS for kind in type(optimizer).__mro__):
        optimizer = optimizer.optimizer
    return optimizer


def _known(where: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise AdapterError(
            f"Scheduler: {where} must be {' or '.join(map(repr, known))}, got {value!r:.40}."
            f"{nearest(str(value)[:40], known)}"
        )
    return str(value)


def _checked(state: Any, plan: Plan) -> int:
    """The position in ``state``, once it is known to be a Scheduler's and to have the groups of ``plan``."""
    keys = {"position", "spec", "base", "lr_scale", "hash", "planned", "history", "skipped", "last_lr", "next_lr"}
    if not isinstance(state, Mapping) or state.get("format") != FORMAT or not keys <= set(state):
        given = state.get("format") if isinstance(state, Mapping) else type(state).__name__
        raise AdapterError(
            f"load_state_dict: needs a state_dict() of ratewise.torch.Scheduler in format {FORMAT}, got {given!r:.40}. "
            "The state of another scheduler cannot be taken over."
        )
    saved, here = set(state["base"]), set(plan.base)
    if saved != here:
        raise AdapterError(
            f"load_state_dict: the saved groups are {sorted(saved)}, the optimizer has {sorted(here)}. "
            "Groups are matched by name: give them the same names, and add those that were added before saving."
        )
    position = state["position"]
    if type(position) is not int or position < 0:
        raise AdapterError(f"load_state_dict: position must be an integer of at least 0, got {position!r:.40}.")
    return position
