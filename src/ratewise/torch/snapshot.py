"""``snapshot``: whatever happens inside, afterwards everything is as it was, bit for bit and in the same objects.

It does not save and load state dicts, which would make new tensors and forget everything that is not in them. It goes
through the objects once and remembers every container and tensor that it meets: which members each had, and which
bytes. Putting back writes into those same containers and tensors. All of it stays in memory, so no file is left; while
it lasts, parameters, buffers, gradients and optimizer state are held twice.
"""

import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, Dataset, Sampler

from ratewise.errors import AdapterError
from ratewise.finder.interrupts import uninterrupted
from ratewise.torch.scheduler import Scheduler
from ratewise.torch.watch import WATCH

_OWNERS = (nn.Module, Optimizer, LRScheduler, GradScaler)
"""Looked into wherever they are met; of other objects only those that are given."""

_FEEDERS = (DataLoader, Sampler)
"""Of these, attributes and random generators are remembered, never the data that they hold."""

_ALIEN = {*sys.stdlib_module_names, "torch", "numpy", "ratewise"} - {"__main__"}
"""Packages whose objects are not looked into unless they are named here: threads, queues, locks, compilers."""

_LONG = 1000
"""What has more members is data: it gets its members back, but nobody looks at them."""

_DEVICES = ("cuda", "xpu", "mps")


@contextmanager
def snapshot(*things: Any) -> Iterator[None]:
    """Leave no trace of what happens inside, also after an exception or Ctrl-C.

    Put back are, in the same objects and where possible at the same addresses: parameters, buffers, gradients,
    ``requires_grad``, train and eval mode and every other attribute of modules, arrays of numpy included; hooks; the
    whole state of optimizers, their groups and rates; scalers; schedulers, a ``Scheduler`` that drives one of the
    optimizers included; the random generators of loaders, samplers and datasets; and the global ones of Python, numpy
    (if it is loaded) and torch, on every device in use.

    Not seen: what an object that is not given keeps (a metric, a logger, a running average of weights: give it too),
    a ``Scheduler`` that is made or detached inside, the position of an iterator, and files (memory maps too).

    Args:
        *things: Modules, optimizers, scalers, schedulers, loaders, or any objects whose attributes are to be put back.

    Raises:
        AdapterError: Something cannot be remembered, or could not be put back.

    Example:
        >>> model = torch.nn.Linear(1, 1)
        >>> before, address = model.weight.item(), model.weight.data_ptr()
        >>> with snapshot(model):
        ...     _ = model.eval().weight.data.zero_()
        >>> model.training, model.weight.item() == before, model.weight.data_ptr() == address
        (True, True, True)
    """
    memory = Memory(things)
    try:
        yield
    finally:
        memory.restore()


class Memory:
    """What some objects hold, and everything in them; ``restore()`` may be called more than once.

    Args:
        things: As for ``snapshot``.
        feeders: Objects of which only attributes and random generators are remembered, as of a loader.
    """

    def __init__(self, things: Sequence[Any], feeders: Sequence[Any] = ()) -> None:
        self._undo: list[Callable[[], object]] = []
        self._late: list[Callable[[], object]] = []  # once everything else is back
        self._seen: dict[int, Any] = {}  # by identity; holds the objects, so that no identity is given twice
        self._storages: set[tuple[torch.device, int]] = set()
        self._plain: list[Any] = []  # what is looked into once all tensors are known: feeders, and
        self._held: list[Any] = []  # the attributes of plain objects that a module or a given object holds
        self.optimizers: list[Optimizer] = []
        self._undo.extend(_global_generators())
        for thing in things:
            self._walk(thing)
        for optimizer in list(self.optimizers):
            self._walk(WATCH.scheduler_of(optimizer))
        self._lightly([*feeders, *self._plain])
        self._lightly(self._held, deep=False)
        self._hooks: list[tuple[dict[int, Any], dict[int, Any]]] = [(held, {}) for held in _common_hooks()]
        self._undo.extend(partial(_hooked_again, held, taken) for held, taken in self._hooks)

    def restore(self) -> None:
        """Put everything back. Ctrl-C waits until that is done.

        Raises:
            AdapterError: Something could not be put back; everything else was.
        """
        failed = []
        with uninterrupted(), torch.no_grad():
            undoing = self._undo + self._late
            for undo in undoing:
                try:
                    undo()
                except Exception as error:
                    failed.append(error)
        if failed:
            raise AdapterError(
                f"snapshot: {len(failed)} of {len(undoing)} things could not be put back, the first for "
                f"{type(failed[0]).__name__}: {failed[0]}. Load the last checkpoint to be safe."
            ) from failed[0]

    def silence(self) -> None:
        """Take away the hooks around updates, those of all optimizers included; ``restore`` brings them back.

        Schedulers, averages of weights and counters hang there, and must not take a trial for training.
        """
        for optimizer in self.optimizers:
            for name in ("register_step_pre_hook", "register_step_post_hook"):
                with suppress(AttributeError):  # a wrapper without hooks of its own
                    getattr(optimizer, name)(_nothing).hooks_dict_ref().clear()
        for held, taken in self._hooks:
            for key in [key for key, hook in held.items() if hook != WATCH._before_step]:
                taken[key] = held.pop(key)

    # -- the walk --------------------------------------------------------------------------------------------

    def _walk(self, root: Any) -> None:
        """Remember ``root`` and everything in it."""
        waiting = [root]
        if root is not None and self._kind(root) is None:
            if not hasattr(root, "__dict__"):
                raise AdapterError(f"snapshot: needs objects with attributes, got {type(root).__name__}.")
            waiting = [vars(root)]
        while waiting:
            thing = waiting.pop()
            look = self._kind(thing)
            if look is not None and id(thing) not in self._seen:
                self._seen[id(thing)] = thing
                waiting.extend(look(thing))
            elif look is None and is_plain(thing):
                self._held.append(vars(thing))

    def _kind(self, thing: Any) -> Callable[[Any], Iterable[Any]] | None:
        """How to remember ``thing``, None if it has nothing that changes; the function returns its members."""
        if isinstance(thing, Tensor):
            return self._tensor
        if is_array(thing):
            return self._array
        if isinstance(thing, dict):
            return self._dict
        if isinstance(thing, (list, deque)):
            return self._list
        if isinstance(thing, set):
            return self._set
        if isinstance(thing, tuple):
            return iter
        if isinstance(thing, Scheduler):
            return self._scheduler
        if isinstance(thing, _OWNERS):
            return self._owner
        if isinstance(thing, _FEEDERS):
            return self._feeder
        return self._generator if _reader(thing) else None

    def _owner(self, owner: Any) -> list[Any]:
        if isinstance(owner, Optimizer):
            self.optimizers.append(owner)
        return [vars(owner)]

    def _scheduler(self, scheduler: Scheduler) -> list[Any]:
        """Our own, by its state: it reads ahead, so its attributes alone would not bring it back."""
        state, count = scheduler.state_dict(), scheduler._step_count

        def undo() -> None:
            scheduler._step_count = count
            if scheduler.state_dict() != state:
                scheduler.load_state_dict(state)

        self._late.append(undo)
        return [scheduler.optimizer]

    def _dict(self, held: dict[Any, Any]) -> list[Any]:
        items = list(held.items())

        def undo() -> None:
            now = list(held.items())
            if len(now) != len(items) or any(
                a is not c or b is not d for (a, b), (c, d) in zip(now, items, strict=True)
            ):
                held.clear()
                held.update(items)

        self._undo.append(undo)
        return [x for item in items for x in item]

    def _list(self, held: Any) -> list[Any]:
        items = list(held)

        def undo() -> None:
            held.clear()
            held.extend(items)

        self._undo.append(undo)
        return items

    def _set(self, held: set[Any]) -> list[Any]:
        items = set(held)

        def undo() -> None:
            held.clear()
            held.update(items)

        self._undo.append(undo)
        return list(items)

    def _array(self, array: Any) -> list[Any]:
        """An array of numpy: its elements, in the memory that it has."""
        kept = array.copy()

        def undo() -> None:
            if array.shape != kept.shape or array.tobytes() != kept.tobytes():  # what did not change may be read-only
                array.shape = kept.shape
                array[...] = kept

        self._undo.append(undo)
        return list(kept.flat) if kept.dtype.hasobject and kept.dtype.names is None else []

    def _generator(self, generator: Any) -> tuple[()]:
        read, write = _reader(generator) or (None, None)
        if read and write:
            state = read()
            self._undo.append(partial(write, state))
        return ()

    def _feeder(self, feeder: Any) -> list[Any]:
        self._plain.append(vars(feeder))
        return []

    def _lightly(self, roots: Iterable[Any], deep: bool = True) -> None:
        """Remember attributes, containers, closures and random generators; never a tensor, an array, or an iterator.

        Args:
            roots: Where to begin.
            deep: Whether to look into plain objects too.
        """
        waiting = list(roots)
        while waiting:
            thing = waiting.pop()
            if id(thing) in self._seen:
                continue
            if isinstance(thing, (dict, list, deque, set, tuple)) or _reader(thing):
                look = self._kind(thing)
            else:
                look = self._inside if deep else None
            if look is not None:
                self._seen[id(thing)] = thing
                members = list(look(thing))
                waiting.extend(members if len(members) <= _LONG else ())

    def _inside(self, thing: Any) -> list[Any]:
        """What a function, a method or a plain object holds."""
        if isinstance(thing, MethodType):
            return [thing.__self__]
        if isinstance(thing, partial):
            return [thing.func, thing.args, thing.keywords]
        if isinstance(thing, FunctionType):
            return self._closure(thing)
        return [vars(thing)] if is_plain(thing) else []

    def _closure(self, function: FunctionType) -> list[Any]:
        cells = []
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # still empty
                cells.append((cell, cell.cell_contents))

        def undo() -> None:
            for cell, content in cells:
                cell.cell_contents = content

        self._undo.append(undo)
        return [content for _, content in cells]

    # -- tensors ---------------------------------------------------------------------------------------------

    def _tensor(self, tensor: Tensor) -> list[Any]:
        """A tensor's bytes, its place, whether it takes gradients, and its gradient."""
        if tensor.device.type == "meta":
            return []
        grad = tensor.grad if tensor.is_leaf else None
        requires_grad, alias = tensor.requires_grad, tensor.detach()
        self._bytes(tensor)

        def undo() -> None:
            if _placed(tensor) != _placed(alias):
                tensor.data = alias
            if tensor.is_leaf and tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
            if tensor.is_leaf and tensor.grad is not grad:
                tensor.grad = grad

        self._undo.append(undo)
        return [] if grad is None else [grad]

    def _bytes(self, tensor: Tensor) -> None:
        """Remember the memory below ``tensor``, once for all tensors that share it."""
        try:
            storage = tensor.untyped_storage()
            key = (storage.device, storage.data_ptr())
        except (NotImplementedError, RuntimeError):  # sparse, or a kind of its own
            kept = tensor.detach().clone()
            self._undo.append(partial(tensor.copy_, kept))
            return
        if storage.nbytes() == 0 or key in self._storages:
            return
        self._storages.add(key)
        saved = _raw(storage).clone()

        def undo() -> None:
            if storage.nbytes() != saved.numel():
                storage.resize_(saved.numel())
            now = _raw(storage)
            if not torch.equal(now, saved):  # memory that did not change may not be writable
                now.copy_(saved)

        self._undo.append(undo)


def _raw(storage: Any) -> Tensor:
    """The bytes of a storage, not copied."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _placed(tensor: Tensor) -> tuple[Any, ...]:
    """Where a tensor's elements lie and how they are read."""
    try:
        return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
    except (NotImplementedError, RuntimeError):
        return (tensor.dtype, tensor.shape)


def is_array(thing: Any) -> bool:
    """Whether it is an array of numpy that lies in memory; a mapped file may be larger than that."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(thing, numpy.ndarray) and not isinstance(thing, numpy.memmap)


def is_plain(thing: Any) -> bool:
    """Whether it is of somebody's own class, or of a kind that feeds data, so that its attributes may be put back."""
    if isinstance(thing, (type, Iterator, Tensor, Optimizer, LRScheduler, GradScaler, Scheduler)):
        return False
    if not isinstance(getattr(thing, "__dict__", None), dict):
        return False
    known = (*_FEEDERS, Dataset, nn.Module, SimpleNamespace)
    return isinstance(thing, known) or type(thing).__module__.partition(".")[0] not in _ALIEN


# -- random generators ---------------------------------------------------------------------------------------


def _reader(generator: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]] | None:
    """How to read and write the state of a random generator; None for anything else."""
    if isinstance(generator, torch.Generator):
        return generator.get_state, generator.set_state
    if isinstance(generator, random.Random):
        return generator.getstate, generator.setstate
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return None
    if isinstance(generator, numpy.RandomState):
        return generator.get_state, generator.set_state
    if isinstance(generator, numpy.Generator):
        generator = generator.bit_generator
    if isinstance(generator, numpy.BitGenerator):
        return lambda: generator.state, lambda state: setattr(generator, "state", state)
    return None


def _global_generators() -> list[Callable[[], object]]:
    """What puts the global generators back: Python's, numpy's if it is loaded, torch's on every device in use."""
    pairs: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (random.getstate, random.setstate),
        (torch.get_rng_state, torch.set_rng_state),
    ]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        pairs.append((numpy.get_state, numpy.set_state))
    for device in devices_in_use():
        ending = "_all" if hasattr(device, "get_rng_state_all") else ""
        pairs.append((getattr(device, f"get_rng_state{ending}"), getattr(device, f"set_rng_state{ending}")))
    return [partial(write, read()) for read, write in pairs]


def devices_in_use() -> list[Any]:
    """Return torch's modules of the accelerators that this process has begun to use."""
    found = []
    for name in _DEVICES:
        device = getattr(torch, name, None)
        if device is not None and device.is_available() and getattr(device, "is_initialized", lambda: True)():
            found.append(device)
    return found


def seed_all(seed: int) -> None:
    """Seed every global generator that ``snapshot`` puts back."""
    random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed a GPU that is used only later
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed(seed % 2**32)
    for device in devices_in_use():
        getattr(device, "manual_seed_all", device.manual_seed)(seed)


# -- hooks -------------------------------------------------------------------------------------------------


def _common_hooks() -> list[Any]:
    """The hooks around the updates of all optimizers."""
    found = []
    for register in (register_optimizer_step_pre_hook, register_optimizer_step_post_hook):
        handle = register(_nothing)
        found.append(handle.hooks_dict_ref())
        handle.remove()
    return found


def _hooked_again(held: dict[int, Any], taken: dict[int, Any]) -> None:
    """Put back what was taken, in the order in which the hooks were registered."""
    if taken:
        items = sorted({**held, **taken}.items())
        held.clear()
        held.update(items)
        taken.clear()


def _nothing(*_: Any) -> None:
    pass
