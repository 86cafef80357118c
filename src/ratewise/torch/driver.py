"""``Driver``: the clock of a Scheduler, and the hands that write.

One update passes through two hooks. ``before`` looks whether the optimizer still holds what was written; ``after``
counts the update and writes what the next one uses. Everything that is rare is left to ``attend``, which the Scheduler
gives; ``limit`` is the position from which on it is asked.

The two are written out for the usual case, one rate for all groups and nothing else, because a training loop of small
models sees every tenth of a microsecond.
"""

import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer

from ratewise.errors import AdapterError, ScheduleDetached
from ratewise.torch.groups import BASE, Group, Knob, names, without_gradients

_EDITED = (
    "Something else wrote {name} after the Scheduler did, for example another scheduler or an edit of param_groups. "
    "To change the plan, use change(...); to let go of the optimizer, use detach()."
)

_DURING = (
    "{name} was written during update {t}, by the closure that the optimizer called. To change the plan, use "
    "change(...) between updates."
)

_STEP_FRAMES = ("wrapper", "torch_dynamo_resume_in_wrapper")
"""What torch calls the function around ``step`` that calls the hooks."""

Log = Callable[[int, dict[str, float]], Any]


class Driver:
    """Counts an optimizer's updates and writes each one's values.

    Args:
        optimizer: The optimizer, or an object with ``param_groups``.
        attend: Called with the groups before an update, from position ``limit`` on and whenever groups were added or
            replaced; it sets ``apart`` and ``limit``.
    """

    def __init__(self, optimizer: Any, attend: Callable[[list[Group]], None]) -> None:
        self.optimizer, self._attend = optimizer, attend
        self.position = 0
        self.used: list[float] | None = None  # by the last update
        self.rates: list[float] = []
        self.skips: int | None = None
        self.kernel_skips = False  # whether the optimizer's kernel does the skipping
        self.logs: list[Log] = []
        self.handles: list[Any] | None = None
        self._slow, self._filling = True, False
        self._layered = _layers(optimizer) > 1
        self.apart = False  # a step that is no update
        self.postponed: Exception | None = None  # it concerns an update that may never come: raised when it does
        self.limit = -1.0
        self._dry_at = -1  # position of the last dry step
        self._pending: Any = None  # an overflow flag on a GPU that has not been read yet
        self._outside = torch.compiler.disable(_call)  # type: ignore[no-untyped-call]
        self._before_filling = torch.compiler.disable(self._check_filling, recursive=False)  # type: ignore[no-untyped-call]
        self._after_filling = torch.compiler.disable(self._count_filling, recursive=False)  # type: ignore[no-untyped-call]

    # -- the two hooks ---------------------------------------------------------------------------------------

    def before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Step pre hook. The compiler must leave it alone: traced, it would recompile at every update."""
        if self._layered and running(optimizer) > 1:
            return
        if self._slow or is_dynamo_compiling():
            self._slowly(self._before_filling, self.check)
            return
        groups = optimizer.param_groups
        if groups is not self.groups or len(groups) != self._size or self.position >= self.limit:
            self.check()
            return
        rate = self.rates[0]
        for group in groups:
            if group["lr"] is not rate:
                self.check()
                return

    def after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Step post hook."""
        if self._layered and running(optimizer) > 1:
            return
        if kwargs or (len(args) > 1 and args[1] is not None):  # a closure ran inside the step
            self._outside(self.count_and_compare)
            return
        if self._slow or self.apart or is_dynamo_compiling() or getattr(optimizer, "found_inf", None) is not None:
            self._slowly(self._after_filling, self.count)
            return
        for rates in self._coming:  # noqa: B007  (used behind the loop)
            break
        else:
            self.count()
            return
        self.used = self.rates
        self.position += 1
        self.rates = rates
        rate = rates[0]
        for group in self.members:
            group["lr"] = rate

    def _slowly(self, filling: Callable[[], None], general: Callable[[], None]) -> None:
        """Neither may the compiler take: around a compiled step it also takes single functions that handle tensors."""
        if self._filling:
            filling()
        elif self.traced or is_dynamo_compiling():
            self._outside(general)
        else:
            general()

    def _check_filling(self) -> None:
        """``before`` for rates that are all tensors."""
        groups, lr = self.optimizer.param_groups, self.lr
        if groups is self.groups and len(groups) == self._size and self.position < self.limit:
            for group, x, version in zip(groups, lr.tensors, lr.versions):  # noqa: B905  (as many as groups)
                if group["lr"] is not x or x._version != version:
                    break
            else:
                return
        self._outside(self.check)

    def _count_filling(self) -> None:
        """``after`` for rates that are all tensors."""
        if not self.apart and getattr(self.optimizer, "found_inf", None) is None:
            for rates in self._coming:
                self.used = self.rates
                self.position += 1
                self.rates = rates
                lr = self.lr
                for x, rate in zip(lr.tensors, rates):  # noqa: B905
                    x.fill_(rate)
                lr.versions = [x._version for x in lr.tensors]
                return
        self._outside(self.count)

    # -- the same, for every case ----------------------------------------------------------------------------

    def check(self) -> None:
        """Before an update: the same groups, holding what was written."""
        self.sync()
        groups = self.optimizer.param_groups
        if groups is not self.groups or len(groups) != self._size or self.position >= self.limit:
            self._attend(groups)
        if not self.apart:
            self.compare(groups)

    def count_and_compare(self) -> None:
        """Count an update in which code of the user's ran: it may have written rates after they were checked.

        Raises:
            ScheduleDetached: It did. The update was made and is counted, the rates of the next are written.
        """
        self.sync()
        groups = self.optimizer.param_groups
        knobs = [] if self.apart else [knob for knob in self.knobs if not knob.intact(groups)]
        edited = next(((knob, wrong) for knob in knobs if (wrong := knob.mismatch(groups))), None)
        added = [] if self.apart else groups[self._size :]
        t = self.position
        self.count()
        if edited is not None:
            knob, (i, intended, found) = edited
            hint = _DURING.format(name=f"group[{knob.key!r}]", t=t)
            raise ScheduleDetached(intended, found, names(groups)[i], hint)
        if added:
            warnings.warn(
                f"torch adapter: a parameter group was added during update {t} and may have made it at its own rate. "
                "Add groups between updates.",
                stacklevel=2,
            )

    def count(self) -> None:
        """An update was made, unless it was a dry step, or only recorded, or skipped by the kernel."""
        if self.apart:
            return
        found = getattr(self.optimizer, "found_inf", None)  # set by GradScaler on optimizers whose kernel skips
        if found is None:
            self.advance()
            return
        self._pending, self.kernel_skips, self.limit = found, True, -1.0
        if found.device.type == "cpu":
            self.resolve()  # on a GPU reading it now would stall the stream, so that waits until somebody asks

    def advance(self) -> None:
        """One update happened: write the values of the next, then tell the logs."""
        self.sync()
        self.used = used = self.rates
        self.position = t = self.position + 1
        groups = self.optimizer.param_groups
        try:
            for knob in self.knobs:
                knob.write(groups, t)
        except Exception as error:
            self.postponed, self.limit = error, -1.0
        self._look_ahead()
        told = [_told(log, t - 1, dict(zip(self.names, used, strict=False))) for log in self.logs]
        for failure in filter(None, told):
            raise failure

    def sync(self) -> None:
        """Tell the knob of the rate what was written past it."""
        if not self._slow:
            self.lr.rates = self.lr.held = self.rates
        elif self._filling:
            self.lr.rates = self.rates

    def _look_ahead(self) -> None:
        self.rates = self.lr.rates
        self._coming = islice(self.lr.rows, self.position - self.lr.first + 1, None)

    def verify(self, groups: list[Group]) -> None:
        """See that nothing was written since an update whose outcome is still waiting: resolving it would hide that."""
        if self._pending is not None and not self.regrouped(groups):
            self.compare(groups)

    def resolve(self) -> None:
        """Find out whether the last update happened, where the kernel decided that."""
        self.sync()
        found, self._pending = self._pending, None
        if found is None:
            return
        if found.item():
            self.skips = (self.skips or 0) + 1
        else:
            self.skips = self.skips or 0
            self.advance()

    @property
    def waiting(self) -> bool:
        """Whether something must be settled before the next update."""
        return self.postponed is not None or self._pending is not None or self.apart or self.on_gpu

    def capturing(self) -> bool:
        """Whether a CUDA graph is being recorded: a rate written now would be recorded with it as a constant."""
        return self.on_gpu and torch.cuda.is_current_stream_capturing()

    def compare(self, groups: list[Group]) -> None:
        """See that every group holds what was written.

        Raises:
            ScheduleDetached: Another value was written.
        """
        for knob in self.knobs:
            if not knob.intact(groups):
                self._excuse(knob, groups)

    def _excuse(self, knob: Knob, groups: list[Group]) -> None:
        """Somebody wrote the hyperparameter: fine if the value is the same, or if the step is a dry one.

        Raises:
            ScheduleDetached: Another value was written.
        """
        if knob is self.lr and self._is_dry(groups):
            self.apart, self.limit, self._dry_at = True, -1.0, self.position
            return
        wrong = knob.mismatch(groups)
        if wrong is None:
            knob.hold(groups)
        elif not self.apart:
            i, intended, found = wrong
            raise ScheduleDetached(intended, found, names(groups)[i], _EDITED.format(name=f"group[{knob.key!r}]"))

    def _is_dry(self, groups: list[Group]) -> bool:
        """Whether checkpointing makes this step to create optimizer state, at rate 0 and without gradients.

        A rate of 0 could also be a user's mistake: without gradients is asked of the second such step in a row, and
        of a step whose scheduled rates are 0 themselves.
        """
        if self.optimizer.state or any(float(group["lr"]) != 0.0 for group in groups):
            return False
        return without_gradients(groups) if self._dry_at == self.position or not any(self.rates) else True

    # -- what is driven --------------------------------------------------------------------------------------

    def follow(self, knobs: list[Knob], names: list[str]) -> None:
        """Take ``knobs``, the rate first, as what is driven in the groups of these names; nothing is written."""
        self.knobs, self.lr, self.names = knobs, knobs[0], names
        self._look_ahead()
        self.traced: bool = any(knob.tensors for knob in knobs)
        alone = len(knobs) == 1 and not self.logs
        self._slow = not (alone and self.lr.plain and self.lr.uniform)
        self._filling = alone and self.lr.filled

    def take(self, groups: list[Group], known: int) -> None:
        """Take ``groups`` as those that the optimizer has; the first ``known`` of them are followed."""
        self.groups, self.members, self._size = groups, groups[:known], known
        self.on_gpu = any(p.is_cuda for group in groups for p in group["params"])

    def regrouped(self, groups: list[Group]) -> bool:
        """Whether groups were added or replaced since."""
        return groups is not self.groups or len(groups) != self._size

    def saved(self) -> dict[str, Any]:
        """What a copy goes on with."""
        return {name: getattr(self, name) for name in ("position", "used", "skips", "kernel_skips")}

    def write(self) -> None:
        """Write every value at the position anew."""
        groups = self.optimizer.param_groups
        for knob in self.knobs:
            knob.hold(groups)
            knob.write(groups, self.position)
        self.postponed = None
        self.follow(self.knobs, self.names)

    def hook(self, clock: str, reload: Callable[[Any], None]) -> None:
        """Register with the optimizer.

        Raises:
            AdapterError: It has no step hooks and its updates are to be counted by them.
        """
        optimizer, self.handles = self.optimizer, []
        if clock == "hooks":
            try:
                self.handles = [
                    optimizer.register_step_pre_hook(self.before),
                    optimizer.register_step_post_hook(self.after),
                ]
            except AttributeError:
                self.handles = None
                raise AdapterError(
                    f"Scheduler: {type(optimizer).__name__} has no step hooks of torch.optim.Optimizer. Give the "
                    'optimizer that it wraps, or use clock="step" and call scheduler.step() after every update.'
                ) from None
        with suppress(AttributeError):
            self.handles.append(optimizer.register_load_state_dict_post_hook(reload))

    def unhook(self) -> None:
        """Let go of the optimizer's hooks and of our key in its groups."""
        for handle in self.handles or ():
            handle.remove()
        self.handles = None
        for group in self.optimizer.param_groups:
            group.pop(BASE, None)


def running(optimizer: Any) -> int:
    """How many calls of the optimizer's ``step`` are going on: a subclass may call that of its base."""
    count, frame = 0, sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in _STEP_FRAMES and frame.f_locals.get("self") is optimizer:
            count += 1
        frame = frame.f_back  # type: ignore[assignment]
    return count


def _layers(optimizer: Any) -> int:
    """How many classes of the optimizer's define ``step``; torch gives each of them its hooks."""
    return sum("step" in vars(kind) for kind in type(optimizer).__mro__ if kind is not Optimizer)


def _told(log: Log, t: int, rates: dict[str, float]) -> Exception | None:
    """Call the log; an error waits until the others were told."""
    try:
        log(t, rates)
    except Exception as error:
        return error
    return None


def _call(function: Callable[[], None]) -> None:
    function()
