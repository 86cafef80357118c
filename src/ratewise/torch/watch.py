"""Seeing an optimizer that was rebuilt: the one global hook of this library.

When code makes a second optimizer over the same parameters and drops the first, no hook of the first one fires any
more, and training goes on at an unscheduled rate. Only a step hook common to all optimizers can see that. It is
registered while a Scheduler lives and removed with the last one.
"""

import gc
from threading import RLock
from typing import Any
from weakref import finalize, ref

from torch.compiler import is_dynamo_compiling
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ratewise.errors import ScheduleDetached
from ratewise.torch.driver import running
from ratewise.torch.groups import names

_HINT = (
    "{kind} steps parameters that follow a schedule through another optimizer: the optimizer was made again after the "
    "Scheduler. Make the Scheduler for the optimizer that steps, or call detach() on the Scheduler of the old one."
)


class Watch:
    """Which Schedulers live, and which optimizers are known to leave their parameters alone."""

    def __init__(self) -> None:
        self._refs: tuple[ref[Any], ...] = ()  # replaced as a whole, so that other threads may be reading it
        self._lock = RLock()
        self._innocent: dict[int, int] = {}  # by optimizer that holds none of ours: how many groups it has
        self._passed: dict[int, tuple[int, int]] = {}  # by wrapper over our groups: our position, its beginnings
        self._handle: Any = None

    @property
    def _live(self) -> list[Any]:
        return [scheduler for scheduler in (r() for r in self._refs) if scheduler is not None]

    def scheduler_of(self, optimizer: Any) -> Any:
        """Return the live Scheduler of ``optimizer``, or None."""
        return next((scheduler for scheduler in self._live if scheduler.optimizer is optimizer), None)

    def add(self, scheduler: Any) -> None:
        """A Scheduler begins, or has new parameters."""
        with self._lock:
            self._innocent, self._passed = {}, {}
            if any(r() is scheduler for r in self._refs):
                return
            finalize(scheduler, self._tidy).atexit = False
            self._refs = (*self._refs, ref(scheduler))
            if self._handle is None and scheduler.clock == "hooks":
                self._handle = register_optimizer_step_pre_hook(self._before_step)

    def remove(self, scheduler: Any) -> None:
        """A Scheduler lets go."""
        with self._lock:
            self._refs = tuple(r for r in self._refs if r() is not scheduler)
            self._innocent, self._passed = {}, {}
            self._tidy()

    def _tidy(self) -> None:
        with self._lock:
            self._refs = tuple(r for r in self._refs if r() is not None)
            if self._handle is not None and not any(scheduler.clock == "hooks" for scheduler in self._live):
                self._handle.remove()
                self._handle = None

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        # Compiled steps are not looked at: a graph of somebody else's optimizer must not break because of us.
        if is_dynamo_compiling() or self._innocent.get(id(optimizer)) == len(optimizer.param_groups):
            return
        self._examine(optimizer)

    def _examine(self, optimizer: Any) -> None:
        if self.scheduler_of(optimizer) is None and (owner := self._owner(optimizer)) is not None:
            # a wrapper such as ZeroRedundancyOptimizer steps its inner optimizer, within one update
            if running(owner.optimizer) or self._wraps(optimizer, owner):
                return
            del owner
            gc.collect()  # a dropped optimizer and its Scheduler refer to each other and may only wait for this
            if (owner := self._owner(optimizer)) is not None:
                raise self._detached(owner, optimizer)
        key, innocent = id(optimizer), self._innocent
        innocent[key] = len(optimizer.param_groups)
        finalize(optimizer, innocent.pop, key, None).atexit = False

    def _wraps(self, optimizer: Any, owner: Any) -> bool:
        """Whether it holds our own groups and steps our optimizer itself, as SAM does.

        It then uses the scheduled rates. One that took the groups over instead, and lets our optimizer rest, is known
        by beginning a third time before we have made an update; a second time may be a try after an error.
        """
        ours = {id(group) for group in owner.optimizer.param_groups}
        if not all(id(group) in ours for group in optimizer.param_groups):
            return False
        position, begun = self._passed.get(id(optimizer), (-1, 0))
        begun = begun + 1 if position == owner.position else 1
        self._passed[id(optimizer)] = owner.position, begun
        return begun < 3

    def _owner(self, optimizer: Any) -> Any:
        """The Scheduler whose optimizer holds a parameter that ``optimizer`` is about to step."""
        stepped = _parameters(optimizer)
        hooked = [scheduler for scheduler in self._live if scheduler.clock == "hooks"]
        return next((s for s in hooked if not stepped.isdisjoint(_parameters(s.optimizer))), None)

    def _detached(self, owner: Any, optimizer: Any) -> ScheduleDetached:
        stepped = _parameters(optimizer)
        ours, theirs = owner.optimizer.param_groups, optimizer.param_groups
        i, p = next((i, id(p)) for i, group in enumerate(ours) for p in group["params"] if id(p) in stepped)
        found = next(group for group in theirs if any(id(q) == p for q in group["params"]))["lr"]
        hint = _HINT.format(kind=type(optimizer).__name__)
        return ScheduleDetached(float(ours[i]["lr"]), float(found), names(ours)[i], hint)


def _parameters(optimizer: Any) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


WATCH = Watch()
"""The only one."""
