"""A callback that lets an already compiled model follow schedules, rules and changes of plan.

It works on the optimizer that the model holds. Nothing is set per batch; the compiled step reads the schedules
itself, and is made again where the plan changes. What was changed is kept by the optimizer's own ``Schedule``, so
it is saved and loaded with the model; the callback remembers nothing that a resumed run needs.
"""

import math
import os
import traceback
import warnings
from collections.abc import Callable, Container
from typing import Any, TypeAlias

import keras

from ratewise.core.change import check_policy, extend
from ratewise.core.horizon import Horizon, Updates
from ratewise.core.ruled import Ruled
from ratewise.errors import AdapterError
from ratewise.keras import attach, plan
from ratewise.keras.backup import Backup
from ratewise.keras.optimizers import Scheduled, check_accumulation
from ratewise.keras.schedule import Schedule, settled, settled_rate

Log: TypeAlias = Callable[[int, dict[str, float]], Any]
"""``log(t, values)``, called once for each update."""


class Follow(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Make a compiled model follow schedules, and write the rate that was used into ``history``.

    ``momentum`` and ``weight_decay`` are possible for Keras' SGD, Adam and AdamW: the compiled optimizer becomes
    the class of the same name in ``ratewise.keras``, keeping its variables, its settings and its identity. ``lr``
    is possible for every Keras optimizer. Put it first: before callbacks that save or restore, and before loggers.

    Rules see ``logs[monitor]`` at the end of each epoch; a cut, like every change of plan, holds from the next update
    on and costs one more trace of the train step. A model saved after a cut goes on at the cut rate, with the rules
    where they were. Weights alone, and so ``BackupAndRestore``, do not keep that: give ``backup``.

    With ``fit(initial_epoch=e)`` on an optimizer that has not made an update, the schedules start at the update
    that epoch ``e`` begins with, and later plans count from the start of the run too. The optimizer's own counter
    stays at 0: Adam's bias correction needs it.

    Args:
        lr: The rate used by each update: a Ratewise schedule, alone or times rules, a number, or a
            ``ratewise.keras.Schedule``. None leaves the optimizer's own.
        momentum: Schedule or number from 0 to 1 for SGD's ``momentum``, or ``beta_1`` of Adam and AdamW.
        weight_decay: Schedule or number of at least 0; the optimizer multiplies it by the rate.
        horizon: The run, or its number of optimizer updates: settles open and typed lengths.
        monitor: Which of the epoch's logs the rules observe.
        validation_freq: How often a ``val_...`` metric comes, as in ``fit``: every so many epochs, or a collection of
            epochs counted from 1.
        on_change: How to go on when the optimizer has made updates under another Ratewise schedule than the one
            given, a policy of ``ratewise.extend``. By default that is an error that shows both.
        log: ``log(t, values)`` gets what each update used, ``{"learning_rate": ...}`` and what else is driven, when
            its epoch ends.
        backup: A file for what weights do not keep: state of the rules, changes of plan. Beside the checkpoints of
            ``BackupAndRestore``, for example ``backup_dir + "/ratewise.json"``.

    Raises:
        ScheduleError: The length of a schedule is not known, or a value is out of range.
        ScheduleChanged: In ``fit``: the optimizer has followed another schedule.
        AdapterError: In ``fit``: the optimizer cannot be driven, its accumulation differs from the schedule's,
            ``initial_epoch`` lies outside what the schedule covers, or there is no metric ``monitor``.

    Example:
        >>> from ratewise import Plateau, cosine, one_cycle_momentum
        >>> follow = Follow(cosine(0.1) * Plateau(0.5, patience=3), momentum=one_cycle_momentum(), horizon=500)
        >>> # model.fit(x, y, epochs=5, validation_split=0.1, callbacks=[follow]).history["learning_rate"]

    See Also:
        Without a compiled model, hand ``Schedule`` and the optimizers of ``ratewise.keras`` to ``compile``.
    """

    def __init__(
        self, lr: Any = None, *, momentum: Any = None, weight_decay: Any = None, horizon: Horizon | int | None = None,
        monitor: str = "val_loss", validation_freq: Any = 1, on_change: str | None = None, log: Log | None = None,
        backup: str | os.PathLike[str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        _check(monitor, validation_freq, log)
        self.lr: Any = lr if lr is None or isinstance(lr, Schedule) else settled_rate(lr, horizon)
        if isinstance(lr, Schedule) and horizon is not None:
            settled_rate(lr.lr, horizon)  # raises if it does not fit
        self.momentum = momentum if momentum is None else settled("momentum", momentum, horizon, high=1.0)
        self.weight_decay = weight_decay if weight_decay is None else settled("weight_decay", weight_decay, horizon)
        self.monitor, self.validation_freq = monitor, validation_freq
        self.on_change = on_change if on_change is None else check_policy("Follow: on_change", on_change)
        self._horizon = None if horizon is None else Horizon.of(horizon)
        self._logs: list[Log] = [] if log is None else [log]
        self._backup = None if backup is None else Backup(backup)
        self._followed: Any = None  # the optimizer of the last fit, and up to which update it has been logged
        self._logged = 0
        self._busy, self._told, self._unseen = False, False, False
        self._begun = 0  # update that the epoch began with
        self._waiting: list[Callable[[Schedule, int], Schedule]] = []

    # -- steering --------------------------------------------------------------------------------------------

    @property
    def history(self) -> list[dict[str, Any]]:
        """Every change of plan of the rate and every cut of a rule, oldest first; saved with the model.

        Each has ``at`` which update, ``what``, the rates ``old`` and ``new`` there, the ``end`` of the new plan, and
        what ``was`` followed before. Updates are those of the optimizer's counter, which starts at 0 even with
        ``initial_epoch``. Changes of momentum and weight decay are not among them.
        """
        found = attach.rate(self._optimizer("history"))
        return [dict(entry) for entry in found.history] if isinstance(found, Schedule) else []

    def change(self, new: Any, policy: str) -> None:
        """Follow ``new`` from the coming update on; during an epoch, from its end on.

        Args:
            new: What ``lr`` takes.
            policy: How to go over to it, see ``ratewise.extend``: ``"keep"``, ``"switch"``, ``"stretch"``,
                ``"replan"`` or ``"rewarm(n)"``.

        Raises:
            ScheduleError: The policy is unknown, or the schedules do not allow it.
            AdapterError: There is no model yet, or it follows a schedule of somebody else's.
        """
        policy = check_policy("change: policy", policy)
        lr = new.lr if isinstance(new, Schedule) else settled_rate(new, self._run_of(new))
        self._turn("change", lambda held, t: plan.changed(held, lr, t, policy, f"change(..., {policy!r})"))

    def decay_now(self, steps: Updates, end: float = 0.0, shape: str = "1-sqrt") -> None:
        """Come down from the coming rate to ``end`` within ``steps`` updates; rules go on acting.

        Args:
            steps: Length of the decay: updates, or a typed length if there is a horizon.
            end: Rate at its end.
            shape: Ease of the ramp.
        """
        n = steps if self._horizon is None else self._horizon.whole(steps)
        self._turn("decay_now", lambda held, t: plan.decayed(held, t, n, end, shape))

    def scaled_from(self, factor: float) -> None:
        """Multiply the rate by ``factor`` from the coming update on."""
        self._turn("scaled_from", lambda held, t: plan.scaled(held, t, factor))

    def log_to(self, log: Log) -> None:
        """Also hand ``log(t, values)`` what each update used, when its epoch ends."""
        self._logs.append(log)

    # -- what Keras calls ------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        """Let the optimizer follow, unless it already does."""
        if self.params is not None and self.params.setdefault("follow", self) is not self:  # one dict for each fit
            raise AdapterError(
                "keras adapter: fit got two Follow callbacks, the last would win. Write one, Follow(lr, momentum=...)."
            )
        self._started, self._overrun, self._busy = False, False, False
        optimizer = self._optimizer("fit")
        if optimizer is self._followed:
            self._write(optimizer)  # what an interrupted epoch has left
        self._found = attach.updates(optimizer)
        changed = self._drive(optimizer)
        self._followed, self._logged = optimizer, attach.updates(optimizer)
        attach.settle(self.model, self._take_turns(optimizer) or changed)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the schedules at ``initial_epoch``, or where restored weights stand."""
        started, self._started, self._busy, self._unseen = self._started, True, True, True
        optimizer = self._optimizer("fit")
        self._begun = t = attach.updates(optimizer)
        if started:
            return
        self._logged = t
        if t != self._found:
            self._restore(optimizer, t, epoch)
        elif not t and self._backup is not None:
            self._backup.start()
        if not t:
            self._begin(optimizer, self._updates_before(epoch, optimizer) if epoch else 0, epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """See what the epoch's updates will apply: by now every callback has begun the epoch."""
        unseen, self._unseen = self._unseen, False
        if unseen:
            attach.settle(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write down the rates that were used, let rules observe their metric, and make the changes that wait."""
        optimizer = self._optimizer("fit")
        t, found = attach.updates(optimizer), attach.rate(optimizer)
        last = attach.used(attach.applied(self.model), max(t - 1, 0), max(t, 1), attach.accumulation(optimizer))
        if logs is not None and last:
            logs[plan.RATE] = last[0] if t > self._begun else math.nan
        self._write(optimizer)
        self._warn_of_the_end(found, t)
        changed = isinstance(found, Schedule) and self._observe(optimizer, found, epoch, logs or {}, t)
        attach.settle(self.model, self._take_turns(optimizer) or changed)
        self._busy = False
        self._save(optimizer, t)

    def on_train_end(self, logs: Any = None) -> None:
        """From here on changes of plan are made at once."""
        self._busy = False

    # -- following -------------------------------------------------------------------------------------------

    def _optimizer(self, doing: str) -> Any:
        if self.model is None:
            raise AdapterError(
                f"{doing}: this Follow has no model yet. Give the schedule to Follow(...) itself, or call it after or "
                "during fit(..., callbacks=[follow])."
            )
        return attach.inner(self.model.optimizer)

    def _drive(self, optimizer: Any) -> bool:
        """Bring the schedules to the optimizer; return whether anything changed, which nothing has if it fails."""
        found, t = attach.rate(optimizer), attach.updates(optimizer)
        wanted = found if self.lr is None else self._native(optimizer)
        if isinstance(wanted, Schedule):
            check_accumulation(wanted, optimizer.gradient_accumulation_steps)
        held, start = self._kept(optimizer, found, t), attach.start(optimizer)
        if t and isinstance(held, Schedule):
            start = held.start
            wanted = held if self.lr is None else plan.agreed(held, wanted, t, self.on_change)
        elif t and isinstance(wanted, Schedule):
            wanted = wanted.begun(start)
        bound = self._bind(optimizer, t, start)
        return self._assign(optimizer, found, wanted) or bound

    def _native(self, optimizer: Any) -> Schedule:
        if isinstance(self.lr, Schedule):
            return self.lr
        state = self.lr.init() if isinstance(self.lr, Ruled) else None
        return Schedule(self.lr, attach.accumulation(optimizer), state=state)

    def _assign(self, optimizer: Any, found: Any, wanted: Any) -> bool:
        """Give the optimizer the schedule ``wanted``; return whether the train step has to be made again."""
        if wanted is found or (isinstance(found, Schedule) and found.get_config() == wanted.get_config()):
            return False
        optimizer.learning_rate = wanted
        same = isinstance(found, Schedule) and (found.now, found.accumulation) == (wanted.now, wanted.accumulation)
        return not same

    def _bind(self, optimizer: Any, t: int, start: int) -> bool:
        """Bind momentum and weight decay; return whether anything changed."""
        named = {attach.momentum_of(optimizer): self.momentum, "weight_decay": self.weight_decay}
        wanted = {name: schedule for name, schedule in named.items() if schedule is not None}
        held, given = dict(getattr(optimizer, "schedules", {})), dict(getattr(optimizer, "given", {}))
        follows = held | {name: self._agreed(name, held, given, new, t, start) for name, new in wanted.items()}
        if follows != held:
            attach.bind(self.model, follows, given | wanted)
            optimizer.start = start if t else 0
        return follows != held

    def _agreed(self, name: str, held: Any, given: Any, new: Any, t: int, start: int) -> Any:
        """What ``name`` goes on with, after ``t`` updates, when ``new`` is given."""
        if name not in held or not t:
            return new
        if new in (held[name], given[name]):
            return held[name]
        if self.on_change is None:
            raise plan.refused(name, held[name], new, t, start)
        return extend(held[name], new, t + start, self.on_change)

    def _begin(self, optimizer: Any, start: int, epoch: int) -> None:
        """Start the schedules at update ``start``; the train step is made again if they began elsewhere."""
        changed = start != getattr(optimizer, "start", 0)
        attach.begin(optimizer, start, epoch)
        attach.settle(self.model, changed)

    def _updates_before(self, epoch: int, optimizer: Any) -> int:
        batches = self.params.get("steps")
        if batches is None:
            raise AdapterError(
                f"keras adapter: with initial_epoch={epoch} the number of batches in an epoch must be known. "
                "Write fit(..., steps_per_epoch=...)."
            )
        return int(epoch * batches // attach.accumulation(optimizer))

    # -- rules and changes of plan ---------------------------------------------------------------------------

    def _observe(self, optimizer: Any, held: Schedule, epoch: int, logs: Any, t: int) -> bool:
        """Show the rules the epoch's metric; return whether the rate changes."""
        if not isinstance(held.lr, Ruled) or not self._expects(epoch, logs):
            return False
        metric = float(logs[self.monitor])
        if not math.isfinite(metric) and not self._told:
            self._told = True
            warnings.warn(
                f"keras adapter: {self.monitor} is {metric!r} after {t} updates. A rule takes that for an evaluation "
                "without improvement; further ones are not reported.",
                stacklevel=2,
            )
        after = plan.observed(held, self.monitor, metric, t)
        optimizer.learning_rate = after
        return after.now != held.now

    def _expects(self, epoch: int, logs: Any) -> bool:
        """Whether the metric is there; it may be missing only where no validation was to come."""
        if self.monitor in logs:
            return True
        often = self.validation_freq
        comes = (epoch + 1) % often == 0 if isinstance(often, int) else epoch + 1 in often
        if self.monitor.startswith("val_") and not comes:
            return False
        names = ", ".join(repr(name) for name in logs if name != plan.RATE)
        raise AdapterError(
            f"keras adapter: the rules observe monitor={self.monitor!r}, the logs of epoch {epoch} have {names}. "
            "Write Follow(..., monitor=...) with one of these, give fit(...) validation data, or tell Follow its "
            "validation_freq."
        )

    def _turn(self, doing: str, turn: Callable[[Schedule, int], Schedule]) -> None:
        """Make a change of plan now, or at the end of the epoch that is running."""
        optimizer = self._optimizer(doing)
        self._waiting.append(turn)
        if not self._running() and self._take_turns(optimizer):
            attach.settle(self.model, changed=True)
            self._save(optimizer, attach.updates(optimizer))

    def _take_turns(self, optimizer: Any) -> bool:
        """Make the changes of plan that wait; return whether there were any."""
        waiting, self._waiting = self._waiting, []
        if waiting and optimizer is self._followed:
            self._write(optimizer)
        for turn in waiting:
            held = plan.held_by(attach.rate(optimizer), attach.accumulation(optimizer))
            optimizer.learning_rate = turn(held, attach.updates(optimizer))
        return bool(waiting)

    def _running(self) -> bool:
        """Whether an epoch is; an exception ends it, and Keras tells no callback of that."""
        frames = (frame for frame, _ in traceback.walk_stack(None))
        return self._busy and any(f.f_code.co_name == "fit" and f.f_locals.get("self") is self.model for f in frames)

    def _run_of(self, new: Any) -> Horizon | None:
        """The horizon, for a new plan whose lengths are open; one that is settled stays as it is."""
        try:
            settled_rate(new)
        except ValueError:
            return self._horizon
        return None

    # -- what is kept ----------------------------------------------------------------------------------------

    def _kept(self, optimizer: Any, found: Any, t: int) -> Any:
        """What was followed up to update ``t``: the backup knows, if the optimizer's own rate is as it was compiled."""
        fresh = not isinstance(found, Schedule) or found.is_fresh
        saved = self._backup.at(t) if t and fresh and self._backup is not None else None
        other = found if self.lr is None else self._native(optimizer)
        if saved is not None and isinstance(other, Schedule) and saved.now(t) != other.now(t):
            warnings.warn(
                f"keras adapter: the optimizer was at update {t} before fit; there the backup gives the rate "
                f"{saved.now(t)!r}, the schedule alone {other.now(t)!r}. The backup is followed: delete the file if it "
                "belongs to another run.",
                stacklevel=2,
            )
        return found if saved is None else saved

    def _restore(self, optimizer: Any, t: int, epoch: int) -> None:
        """Another callback has restored weights saved at update ``t``; find what was followed there."""
        found = attach.rate(optimizer)
        if not isinstance(found, Schedule):
            return
        held = None if self._backup is None else self._backup.at(t)
        if held is not None:
            changed = self._assign(optimizer, found, plan.agreed(held, found, t, self.on_change))
            if getattr(optimizer, "schedules", {}) and optimizer.start != held.start:
                optimizer.start, changed = held.start, True
            attach.settle(self.model, changed)
            return
        self._warn_of_the_start(optimizer, found, t, epoch)
        if isinstance(found.lr, Ruled):
            warnings.warn(
                f"keras adapter: weights saved at update {t} were restored, and with them no state of the rules, "
                f"which start anew. Write Follow(..., backup={'file' if self._backup is None else self._backup.path}).",
                stacklevel=2,
            )

    def _warn_of_the_start(self, optimizer: Any, found: Schedule, t: int, epoch: int) -> None:
        """Say so if restored weights are an epoch or more away from where the epoch begins, as after initial_epoch."""
        if self.params.get("steps") is None:
            return
        due, one = (self._updates_before(e, optimizer) for e in (epoch, 1))
        if abs(due - t) >= max(one, 1):
            warnings.warn(
                f"keras adapter: epoch {epoch} begins with update {due} of the run, the weights restored for it have "
                f"made {t}, and no backup says where they began: the rate is {found.now(t)!r}, at update {due} it is "
                f"{found.scaled(due)!r}. A run that is begun with initial_epoch needs Follow(..., backup=file).",
                stacklevel=2,
            )

    def _save(self, optimizer: Any, t: int) -> None:
        found = attach.rate(optimizer) if self._backup is not None else None
        if isinstance(found, Schedule) and self._backup is not None:
            self._backup.save(t, found)

    def _write(self, optimizer: Any) -> None:
        """Hand every log what the updates since the last call have used."""
        start, stop = self._logged, attach.updates(optimizer)
        if not self._logs or start >= stop:
            self._logged = stop
            return
        rates = attach.used(attach.applied(self.model), start, stop, attach.accumulation(optimizer))
        columns = {} if rates is None else {plan.RATE: rates}
        for name, schedule in (optimizer.now() if isinstance(optimizer, Scheduled) else {}).items():
            columns["momentum" if name == "beta_1" else name] = schedule.values(start, stop)
        for i in range(stop - start):
            values = {name: column[i] for name, column in columns.items()}
            self._logged = start + i + 1  # first, so that a log that raises is not given the row twice
            for log in self._logs:
                log(start + i, values)

    def _warn_of_the_end(self, found: Any, t: int) -> None:
        """Say so once if the run has outlived its schedule."""
        if isinstance(found, Schedule) and not self._overrun and t > (found.now.steps or math.inf):
            self._overrun = True
            warnings.warn(
                f"keras adapter: the run is at update {t}, the schedule ended at {found.now.steps} and holds "
                f"{found.now(t)!r}. Give it the length of the whole run.",
                stacklevel=2,
            )


def _check(monitor: Any, validation_freq: Any, log: Any) -> None:
    """Refuse what would otherwise fail in the midst of the run."""
    whole = isinstance(validation_freq, int) and validation_freq >= 1
    if not isinstance(monitor, str):
        raise AdapterError(f"Follow: monitor must be a name in the epoch's logs, got {monitor!r}.")
    if not whole and not isinstance(validation_freq, Container):
        raise AdapterError(f"Follow: validation_freq must be at least 1 or a list of epochs, got {validation_freq!r}.")
    if log is not None and not callable(log):
        raise AdapterError(f"Follow: log must be callable, log(t, values), got {log!r}.")
