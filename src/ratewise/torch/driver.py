"""``Driver``: the clock of a Scheduler, and the hands that write.

One update passes through two hooks. ``before`` looks whether the optimizer still holds what was written; ``after``
counts the update and writes what the next one uses. Everything that is rare is left to ``attend``, which the Scheduler
gives; ``limit`` is the position from which on it is asked.

The two are written out for the usual case, one rate for all groups and nothing else, because a training loop of small
models sees every tenth of a microsecond.
"""

from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling

from ratewise.errors import AdapterError, ScheduleDetached
from ratewise.torch.groups import BASE, Group, Knob, names, without_gradients

_EDITED = (
    "Something else wrote {name} after the Scheduler did, for example another scheduler or an edit of param_groups. "
    "To change the plan, use change(...); to let go of the optimizer, use detach()."
)

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
        self.stepping = False  # between the hooks of one update
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
        self.stepping = True

    def after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Step post hook."""
        if self._slow or self.apart or is_dynamo_compiling() or getattr(optimizer, "found_inf", None) is not None:
            self._slowly(self._after_filling, self.count)
            return
        for rates in self._coming:  # noqa: B007  (used behind the loop)
            break
        else:
            self.count()
            return
        self.stepping = False
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
                self.stepping = True
                return
        self._outside(self.check)

    def _count_filling(self) -> None:
        """``after`` for rates that are all tensors."""
        if not self.apart and getattr(self.optimizer, "found_inf", None) is None:
            for rates in self._coming:
                self.stepping = False
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
            for knob in self.knobs:
                if not knob.intact(groups):
                    self.compare(knob, groups)
        self.stepping = True

    def count(self) -> None:
        """An update was made, unless it was a dry step, or only recorded, or skipped by the kernel."""
        self.stepping = False
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
        for log in self.logs:
            log(t - 1, dict(zip(self.names, used, strict=False)))

    def sync(self) -> None:
        """Tell the knob of the rate what was written past it."""
        if not self._slow:
            self.lr.rates = self.lr.held = self.rates
        elif self._filling:
            self.lr.rates = self.rates

    def _look_ahead(self) -> None:
        self.rates = self.lr.rates
        self._coming = islice(self.lr.rows, self.position - self.lr.first + 1, None)

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

    def compare(self, knob: Knob, groups: list[Group]) -> None:
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

    def take(self, groups: list[Group]) -> None:
        """Take ``groups`` as those that the optimizer has."""
        self.groups, self.members, self._size = groups, list(groups), len(groups)
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


def _call(function: Callable[[], None]) -> None:
    function()
