"""``find_lr`` for PyTorch: the range test, on the very model and optimizer that are in training.

It trains the originals and puts them back, rather than a copy: a user's own step, regularizers and hooks refer to the
originals, and a copied optimizer would be another one to them. The sweep takes the hooks off the optimizer, so an
attached ``Scheduler`` neither counts nor checks nor writes.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ratewise.errors import FinderError, ScheduleDetached, nearest
from ratewise.finder.batches import Lookahead
from ratewise.finder.finding import Finding, judged
from ratewise.finder.sweep import ramp, sweep
from ratewise.torch.groups import names, unwrapped
from ratewise.torch.snapshot import Memory, seed_all, silence
from ratewise.torch.watch import WATCH

METHODS = ("range",)

_SPREAD = ("DistributedDataParallel", "FullyShardedDataParallel", "DTensor")


def find_lr(
    model: nn.Module, optimizer: Any, loss: Callable[[Any, Any], Any] | None = None, batches: Any = None, *,
    step: Callable[[Any], Any] | None = None, method: str = "range", schedule: Any = None, horizon: Any = None,
    held_out: Any = None, low: float = 1e-7, high: float = 10.0, steps: int = 100, spacing: str = "geometric",
    stop: float = 4.0, seed: int = 0, scaler: Any = None, accumulation: int = 1,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext, also: Sequence[Any] = (),
) -> Finding:  # fmt: skip
    """Find a learning rate by a range test, and leave everything as it was, bit for bit.

    The rate rises from ``low`` to ``high`` over ``steps`` updates, from the present state of model and optimizer, until
    the loss diverges. The optimizer may be in the middle of training and follow a ``Scheduler``. Everything that
    ``snapshot`` names is put back, also after an exception or Ctrl-C.

    With several parameter groups, ``rate`` is that of the group whose rate is highest now; the others keep their
    present ratios to it (of base rates where all present ones are 0), which ``valid_for["ratios"]`` of the result
    shows. Other scheduled hyperparameters stay at their present values.

    Args:
        model: What is trained; put into train mode if it is in eval mode as a whole.
        optimizer: A torch optimizer of its parameters, also wrapped by Accelerate or Lightning.
        loss: ``loss(output, target)``, the mean over a batch. A batch that is a tuple or list is ``(*inputs, target)``;
            a mapping goes as ``model(**batch)`` and ``loss(output, batch)``; anything else as ``model(batch)`` and
            ``loss(output, batch)``. Tensors are moved to the model's device.
        batches: A loader, list or other iterable that begins anew each time; it is gone through from its start, as
            often as needed. Not an iterator, which would be used up: wrap that in ``ratewise.finder.Lookahead``.
        step: Instead of ``loss``, your own update: ``step(batch)`` does forward, backward and ``optimizer.step()`` and
            returns the loss before it.
        method: ``"range"``, Smith's range test.
        schedule: For the paired probe, which is not available yet.
        horizon: The same.
        held_out: The same.
        low: First rate, above 0.
        high: Last rate.
        steps: Updates, at least 20.
        spacing: Of the rates: ``"geometric"`` or ``"linear"``.
        stop: Stop once the smoothed loss is this many times its lowest value.
        seed: Fixes dropout and the order of batches; the same seed gives the same answer.
        scaler: The ``GradScaler`` in use.
        accumulation: Batches per update.
        autocast: Makes the context of model and loss, for example ``lambda: torch.autocast("cuda")``.
        also: Further objects that ``step`` changes: other models, optimizers, schedulers of torch that it steps.

    Returns:
        A ``Finding``; its ``suggestion`` is None, with a ``reason``, where the curve does not support one.

    Raises:
        FinderError: The sweep cannot be made, or an update raised.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> x = torch.randn(256, 4)
        >>> data = list(zip(x.split(32), (x @ torch.ones(4, 1)).split(32)))
        >>> finding = find_lr(model, optimizer, torch.nn.functional.mse_loss, data)
        >>> finding.low < finding.suggestion < finding.high < finding.ceiling
        True

    References:
        Smith, 2015, Cyclical Learning Rates for Training Neural Networks, section 3.3.
        https://arxiv.org/abs/1506.01186
    """
    _check_method(method, schedule, horizon, held_out)
    rates = ramp(low, high, steps, spacing)
    if type(seed) is not int or seed < 0:
        raise FinderError(f"find_lr: seed must be an integer of at least 0, got {seed!r:.40}.")
    trainable = TorchTrainable(
        model, optimizer, loss, batches, step=step, scaler=scaler, accumulation=accumulation, autocast=autocast,
        also=also,
    )  # fmt: skip
    curve = sweep(trainable, rates, seed, stop)
    cost = {"updates": trainable.updates, "batches": trainable.batches}
    return judged(curve, cost, trainable.valid_for)


class TorchTrainable:
    """A ``Trainable`` over a torch model and optimizer; arguments as for ``find_lr``."""

    def __init__(
        self, model: nn.Module, optimizer: Any, loss: Callable[[Any, Any], Any] | None, batches: Any, *,
        step: Callable[[Any], Any] | None = None, scaler: Any = None, accumulation: int = 1,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext, also: Sequence[Any] = (),
    ) -> None:  # fmt: skip
        if (loss is None) == (step is None):
            raise FinderError("find_lr: needs either loss=, a function of (output, target), or step=, your own update.")
        if type(accumulation) is not int or accumulation < 1 or (step is not None and accumulation != 1):
            raise FinderError(
                f"find_lr: accumulation must be an integer of at least 1, got {accumulation!r:.40}"
                f"{'; step= accumulates by itself, so leave it out' if step else ''}."
            )
        self._model, self._optimizer = model, unwrapped(optimizer)
        self._loss, self._step, self._scaler = loss, step, scaler
        self._accumulation, self._autocast = accumulation, autocast
        _check_trainable(model, self._optimizer)
        self._source = _source(batches)
        self._groups = self._optimizer.param_groups
        self._ratios = _ratios(self._optimizer)
        self._device = next(p.device for group in self._groups for p in group["params"])
        self.updates, self.batches = 0, 0
        self.valid_for = self._circumstances()
        self._memory = Memory([model, optimizer, self._optimizer, scaler, *also], feeders=[batches])
        self._stream: Iterator[Any] = iter(())

    def start(self, seed: int) -> None:
        """Begin at the state that was found; the optimizer's hooks are off from here on."""
        self._memory.restore()
        for optimizer in self._memory.optimizers:
            silence(optimizer)
        if not self._model.training:
            self._model.train()
        seed_all(seed)
        self._optimizer.zero_grad(set_to_none=True)
        self._stream = _endless(self._source)

    def step(self, rate: float) -> float:
        """Make one update."""
        for group, ratio in zip(self._groups, self._ratios, strict=True):
            _write(group, rate * ratio)
        batches = [self._next() for _ in range(self._accumulation)]
        try:
            with torch.enable_grad():
                loss = self._own(batches[0]) if self._step is not None else self._usual(batches)
        except FinderError:
            raise
        except ScheduleDetached as error:
            raise FinderError(
                "find_lr: step= called the Scheduler, which sees another rate than its own. Leave scheduler.step() "
                "out of the step that is given here; everything is as it was before."
            ) from error
        except Exception as error:
            closure = self._step is None and "closure" in str(error)
            hint = " This optimizer needs a closure: give step=, your own update, instead of loss." if closure else ""
            raise FinderError(
                f"find_lr: update {self.updates} of the sweep, at the rate {rate:.3g}, raised {type(error).__name__}: "
                f"{error}.{hint} Everything is as it was before."
            ) from error
        self.updates += 1
        return loss

    def restore(self) -> None:
        """Put everything back."""
        self._stream = iter(())  # worker processes end with it
        self._memory.restore()

    def _next(self) -> Any:
        batch = _fresh(next(self._stream), self._device)
        self.batches += 1
        self.valid_for.setdefault("examples_per_update", _examples(batch) * self._accumulation)
        return batch

    def _own(self, batch: Any) -> float:
        assert self._step is not None
        return _number(self._step(batch), "step=")

    def _usual(self, batches: list[Any]) -> float:
        """Forward, backward and update; the loss is the mean over the batches."""
        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for batch in batches:
            with self._autocast():
                loss = self._evaluated(batch)
            total += _number(loss, "loss=")
            if not isinstance(loss, Tensor) or not loss.requires_grad:
                raise FinderError("find_lr: loss= must return a tensor that depends on the model's parameters.")
            part = loss / len(batches)
            (part if self._scaler is None else self._scaler.scale(part)).backward()
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        return total / len(batches)

    def _evaluated(self, batch: Any) -> Any:
        assert self._loss is not None
        if isinstance(batch, Mapping):
            return self._loss(self._model(**batch), batch)
        if isinstance(batch, (tuple, list)):
            return self._loss(self._model(*batch[:-1]), batch[-1])
        return self._loss(self._model(batch), batch)

    def _circumstances(self) -> dict[str, Any]:
        scheduler = WATCH.scheduler_of(self._optimizer)
        found: dict[str, Any] = {
            "optimizer": type(self._optimizer).__name__,
            "ratios": dict(zip(names(self._groups), self._ratios, strict=True)),
            "weight_decay": [float(group["weight_decay"]) for group in self._groups if "weight_decay" in group],
        }
        if scheduler is not None:
            found["at_update"] = scheduler.position
        return found


def _check_method(method: str, *of_the_probe: Any) -> None:
    if method == "probe" or any(given is not None for given in of_the_probe):
        raise FinderError(
            "find_lr: the paired probe, which takes schedule=, horizon= and held_out=, is not available yet. Leave "
            'them out and write method="range": it looks at none of them.'
        )
    if method not in METHODS:
        raise FinderError(f"find_lr: method must be 'range', got {method!r:.40}.{nearest(method, METHODS)}")


def _check_trainable(model: Any, optimizer: Any) -> None:
    if not isinstance(model, nn.Module):
        raise FinderError(f"find_lr: model must be a torch.nn.Module, got {type(model).__name__}.")
    if not isinstance(optimizer, Optimizer):
        raise FinderError(f"find_lr: optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}.")
    inside = list(model.parameters())
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    if any(map(is_lazy, inside)):
        raise FinderError("find_lr: the model has parameters without a shape. Run one batch through it first.")
    if not inside:
        raise FinderError("find_lr: the model has no parameters, so there is nothing to train.")
    if {id(p) for p in inside}.isdisjoint(map(id, stepped)):
        raise FinderError(
            "find_lr: the optimizer has none of the model's parameters. Make it from this model: "
            f"{type(optimizer).__name__}(model.parameters(), ...)."
        )
    if _spread(model, inside):
        raise FinderError(
            "find_lr: the model is spread over several processes, and one that stops its sweep earlier would leave the "
            "others waiting. Find the rate in one process before wrapping the model; for the same batch size give "
            "accumulation= the number of processes."
        )
    if not any(p.requires_grad for p in stepped):
        raise FinderError(
            "find_lr: every parameter of the optimizer is frozen, so there is nothing to train. Set requires_grad."
        )


def _spread(model: nn.Module, parameters: list[Any]) -> bool:
    """Whether an update of this model waits for other processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    kinds = {type(x).__name__ for x in (*model.modules(), *parameters)}
    return torch.distributed.get_world_size() > 1 and not kinds.isdisjoint(_SPREAD)


def _ratios(optimizer: Any) -> list[float]:
    """Each group's rate over the highest, of the present rates or, if all are 0, of the base rates."""
    groups = optimizer.param_groups
    scheduler = WATCH.scheduler_of(optimizer)
    initial = [float(group.get("initial_lr", 0.0)) for group in groups]
    base = initial if scheduler is None else [
        float(rate) * float(group.get("lr_scale", 1.0)) for rate, group in zip(scheduler.base_lrs, groups, strict=False)
    ]  # fmt: skip
    for rates in ([float(group["lr"]) for group in groups], base):
        if len(rates) == len(groups) and 0 < max(rates) < math.inf and min(rates) >= 0:
            return [rate / max(rates) for rate in rates]
    raise FinderError(
        "find_lr: every group's rate is 0, so their ratios are not known. Give the optimizer the rates that it is to "
        "have relative to each other, for example 1 for all."
    )


def _write(group: dict[str, Any], rate: float) -> None:
    """Give the group its rate, in place where it holds a tensor."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _number(loss: Any, where: str) -> float:
    try:
        return float(loss.detach() if isinstance(loss, Tensor) else loss)
    except (TypeError, ValueError, RuntimeError):
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise FinderError(
            f"find_lr: {where} must return one number, the mean over the batch, it returned {shape}. Add .mean()."
        ) from None


# -- batches -------------------------------------------------------------------------------------------------


def _source(batches: Any) -> Callable[[], Iterator[Any]]:
    """What begins the batches anew, without moving the loader or stream that training uses."""
    if isinstance(batches, Lookahead):
        return batches.coming
    if isinstance(batches, DataLoader):
        return lambda: iter(_apart(batches))
    if isinstance(batches, Iterator):
        raise FinderError(
            "find_lr: batches is an iterator, and what the sweep takes would be missing in training. Give the loader "
            "or a list; or write stream = ratewise.finder.Lookahead(iterator), train from stream and give it here."
        )
    if not isinstance(batches, Iterable) or isinstance(batches, (str, Tensor, Mapping)):
        raise FinderError(
            f"find_lr: batches must be a loader, a list of batches or another iterable, got {type(batches).__name__}. "
            "One batch alone goes into a list, with others."
        )
    return lambda: iter(batches)


def _apart(loader: Any) -> Any:
    """The loader, or a copy of it where its iterator is kept: beginning anew would end the epoch in progress."""
    if getattr(loader, "_iterator", None) is None:
        return loader
    other = copy.copy(loader)
    vars(other)["_iterator"] = None
    return other


def _endless(source: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Epoch after epoch.

    Raises:
        FinderError: There is no batch, or only one.
    """
    while True:
        count = 0
        for batch in source():
            count += 1
            yield batch
        if count < 2:
            raise FinderError(
                "find_lr: batches is empty. Give at least two batches."
                if not count
                else "find_lr: batches has one batch only, so every update would see the same examples. Give at least "
                "two; to train on the whole data at once, give [batch, batch]."
            )


def _fresh(batch: Any, device: torch.device) -> Any:
    """A copy of the batch on the device: a model may write into its input."""
    if isinstance(batch, Tensor):
        return batch.to(device, copy=True)
    if isinstance(batch, Mapping):
        moved = {key: _fresh(value, device) for key, value in batch.items()}
        return moved if type(batch) is dict else _alike(batch, moved)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_fresh(part, device) for part in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(_fresh(part, device) for part in batch)
    return batch


def _alike(batch: Any, moved: dict[str, Any]) -> Any:
    """A mapping of the same kind, for example transformers' BatchEncoding."""
    other = copy.copy(batch)
    try:
        other.update(moved)
    except (AttributeError, TypeError):
        return moved
    return other


def _examples(batch: Any) -> int:
    """How many examples the batch has, from its first tensor; 0 if that is not seen."""
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.ndim else 0
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (tuple, list)) else ()
    return next((n for part in parts if (n := _examples(part))), 0)
