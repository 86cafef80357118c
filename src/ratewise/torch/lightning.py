"""``FindLR``: a Lightning callback that finds the rate as the fit begins, with the updates that the fit will make.

It goes through the strategy's and the module's own methods, not through Lightning's loops: those count updates, log and
save, and Lightning's own finder has to put all of that back from a checkpoint on disk. What no loop has counted, none
has to forget.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError as error:
    if error.name != "lightning":
        raise
    raise ImportError("FindLR: Lightning is not installed. Run: pip install lightning.", name="lightning") from error
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import CombinedLoader, rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.parsing import lightning_getattr, lightning_hasattr, lightning_setattr
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

from ratewise.core.ruled import unruled
from ratewise.errors import FinderError
from ratewise.finder.finding import Finding
from ratewise.torch.batches import source
from ratewise.torch.find import find_lr
from ratewise.torch.scheduler import Scheduler
from ratewise.torch.snapshot import Memory
from ratewise.torch.watch import WATCH


class FindLR(Callback):
    """Find the rate before the first update of a fit, leave no trace of that, and train with it.

    An update is the module's ``training_step`` on as many batches as the trainer accumulates, in the trainer's
    precision and with its clipping, through the hooks of the module that concern batches, gradients and the optimizer.
    What is scored is the loss of ``training_step`` in eval mode. ``self.log`` does nothing meanwhile, other callbacks
    hear nothing, loggers are dummies, ``global_step`` stands still. Not called: ``on_train_batch_start`` and ``_end``,
    ``validation_step``, and the module's ``on_train_epoch_start``, which comes after that of callbacks.

    With a ``Scheduler`` on the optimizer, its schedule and length are those that the rate is for, and afterwards it
    follows the same schedule scaled to the rate, which its ``history`` shows. Without one the rate is constant, and
    the groups get it, in their present ratios; so does ``lr`` or ``learning_rate`` of the module or its ``hparams``,
    if it held the rate that was there before. Where nothing supports a rate, the present one stays, with a warning.

    A fit that goes on from a checkpoint keeps the rate that is in it; nothing is searched.

    Args:
        schedule: What the training will follow, if that is not a ``Scheduler``: only with ``set_rate=False``.
        horizon: Updates of the training; those that the trainer estimates by default.
        method: As for ``ratewise.torch.find_lr``, like the other arguments that are not named here.
        held_out: ``"val"`` scores on the validation batches; batches score on those; by default a tenth of the training
            batches is kept aside.
        set_rate: Whether to train with the rate; if not, ``finding`` is all.
        low: Lowest rate that may be tried, above 0.
        high: Highest.
        steps: Updates of a candidate.
        seeds: How many orders of the batches the best rates are tried on.
        seed: The first of them.
        spacing: Of the rates in a range test.
        stop: When a range test stops.

    Attributes:
        finding: The ``Finding``; None before the fit.

    Raises:
        FinderError: At the beginning of the fit: the search cannot be made, or the rate could not be set.

    Example:
        >>> import lightning
        >>> trainer = lightning.Trainer(max_steps=1000, callbacks=[FindLR(seeds=2)], logger=False)

    See Also:
        Lightning's ``LearningRateFinder`` is a range test; since 2.5.3 its suggestion is many octaves too low. It
        writes a checkpoint, and lets ``self.log`` through.
    """

    def __init__(
        self, schedule: Any = None, horizon: Any = None, *, method: str = "probe", held_out: Any = None,
        set_rate: bool = True, low: float = 1e-7, high: float = 10.0, steps: int | None = None, seeds: int = 3,
        seed: int = 0, spacing: str = "geometric", stop: float = 4.0,
    ) -> None:  # fmt: skip
        self._schedule, self._horizon, self._held_out, self._set_rate = schedule, horizon, held_out, set_rate
        self._method = method
        self._settings: dict[str, Any] = {
            "low": low, "high": high, "steps": steps, "seeds": seeds, "seed": seed, "spacing": spacing, "stop": stop,
        }  # fmt: skip
        self.finding: Finding | None = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Find the rate, if no update was made yet."""
        if trainer.global_step or trainer.current_epoch:
            return
        if trainer.fast_dev_run:
            rank_zero_warn("FindLR: fast_dev_run is on, so no rate is searched.")
            return
        optimizer = self._checked(trainer, pl_module)
        updates = trainer.estimated_stepping_batches
        self.finding = finding = self._found(trainer, pl_module, optimizer, updates)
        if finding.suggestion is None:
            rank_zero_warn(f"FindLR: no rate was found, so the present one stays. {finding.reason}")
            return
        rank_zero_info(f"FindLR: {finding}")
        if self._set_rate:
            _set(pl_module, optimizer, finding.suggestion, finding.valid_for["ratios"], updates)

    def _checked(self, trainer: Any, module: Any) -> Any:
        """The optimizer; raises before a search whose result could not be used."""
        if trainer.world_size > 1:
            raise FinderError(
                f"FindLR: the fit runs in {trainer.world_size} processes, and a rate is found in one. Find it with "
                "devices=1 and accumulate_grad_batches= the number of processes, and give the module that rate."
            )
        if not module.automatic_optimization:
            raise FinderError(
                "FindLR: the module optimizes manually, so what an update is, only training_step knows. Use "
                "ratewise.torch.find_lr with step=, your own update."
            )
        optimizer = trainer.optimizers[0]
        follows = WATCH.scheduler_of(optimizer)
        if follows is not None and (self._schedule is not None or self._horizon is not None):
            raise FinderError(
                "FindLR: the optimizer follows a Scheduler, whose schedule and length are what the rate is for. Leave "
                "schedule= and horizon= out."
            )
        other = next(
            (type(c.scheduler).__name__ for c in trainer.lr_scheduler_configs if c.scheduler is not follows), ""
        )
        if self._set_rate and (other or self._schedule is not None) and follows is None:
            raise FinderError(
                f"FindLR: {f'the optimizer follows {other}' if other else 'nothing follows schedule='}, so no rate can "
                "be set. Let configure_optimizers return a ratewise.torch.Scheduler, or give set_rate=False."
            )
        return optimizer

    def _found(self, trainer: Any, module: Any, optimizer: Any, updates: float) -> Finding:
        horizon = self._horizon
        follows = WATCH.scheduler_of(optimizer)
        if self._method == "probe" and horizon is None and (follows is None or math.isinf(follows._end)):
            if math.isinf(updates):
                raise FinderError(
                    "FindLR: the trainer has no end. Give it max_epochs= or max_steps=, or give horizon=."
                )
            horizon = int(updates)
        size = trainer.accumulate_grad_batches
        batches = _Fed(trainer.train_dataloader, [trainer.num_training_batches], size, "max_size_cycle")
        held_out = None if self._held_out is None else self._scoring(trainer)
        loaders = batches.loaders + ([] if held_out is None else held_out.loaders)
        update = _Update(trainer, module)
        memory = Memory([], loaders)
        with _unheard(trainer, module):
            try:
                finding = find_lr(
                    update, optimizer, _given, batches, step=update.made, held_out=held_out, schedule=self._schedule,
                    horizon=horizon, method=self._method, scaler=getattr(trainer.precision_plugin, "scaler", None),
                    **self._settings,
                )  # fmt: skip
            finally:
                memory.restore()
        examples = finding.valid_for.get("examples_per_update", 0) * size
        known = {"engine": "one by one (the trainer's own update)", "examples_per_update": examples}
        return replace(finding, valid_for={**finding.valid_for, **known})

    def _scoring(self, trainer: Any) -> "_Fed":
        if not isinstance(self._held_out, str):
            return _Fed(self._held_out, [math.inf])
        if self._held_out != "val":
            raise FinderError(f"FindLR: held_out must be 'val' or batches, got {self._held_out!r:.40}.")
        if not trainer.val_dataloaders or not sum(trainer.num_val_batches):
            raise FinderError('FindLR: held_out="val" needs validation batches in the first epoch. Leave it out.')
        return _Fed(trainer.val_dataloaders, trainer.num_val_batches, mode="sequential")


class _Fed:
    """Batches in groups that make one update each.

    A group is a mapping: that is how ``find_lr`` gives it whole to ``_Update``.

    Args:
        loader: A loader; with ``mode``, perhaps a collection of them.
        limits: How many batches are taken, of all or of each.
        size: Batches in a group.
        mode: How Lightning combines a collection.
    """

    def __init__(self, loader: Any, limits: list[int | float], size: int = 1, mode: Any = None) -> None:
        self._size, self._limit = size, sum(limits)
        several = mode is not None and isinstance(loader, (Mapping, list, tuple))
        self._combined = CombinedLoader(loader, mode) if several else None
        self.loaders = [loader] if self._combined is None else self._combined.flattened
        if self._combined is not None and mode == "sequential":
            self._combined.limits = limits

    def __iter__(self) -> Iterator[dict[str, Any]]:
        batches = source(self.loaders[0])() if self._combined is None else (found[0] for found in self._combined)
        batches = batches if math.isinf(self._limit) else islice(batches, int(self._limit))
        while group := list(islice(batches, self._size)):
            yield {"batches": group}

    def __len__(self) -> int:
        if math.isinf(self._limit):
            raise TypeError("the loader has no length")
        return math.ceil(self._limit / self._size)


class _Update(nn.Module):
    """The module as its trainer trains it: called with batches it returns their loss, ``made`` makes the update."""

    def __init__(self, trainer: Any, module: Any) -> None:
        super().__init__()
        self.module, self._trainer = module, trainer
        self._arguments = 2 if is_param_in_hook_signature(module.training_step, "batch_idx", min_args=2) else 1
        data = trainer.datamodule
        owner = data if data is not None and is_overridden("on_before_batch_transfer", data) else module
        self._before_transfer = owner.on_before_batch_transfer

    def forward(self, batches: list[Any]) -> Tensor:
        """The mean loss."""
        return torch.stack([self._loss(batch, i) for i, batch in enumerate(batches)]).mean()

    def made(self, group: Mapping[str, Any]) -> float:
        """Make an update and return the loss before it."""
        trainer, module = self._trainer, self.module
        optimizer, epoch, last = trainer.optimizers[0], trainer.current_epoch, len(group["batches"]) - 1
        seen: list[float] = []

        def closure() -> Tensor:
            module.on_before_zero_grad(optimizer)
            module.optimizer_zero_grad(epoch, 0, optimizer)
            total = torch.zeros(())
            for i, batch in enumerate(group["batches"]):
                loss = self._loss(batch, i)
                total = total.to(loss.device) + loss.detach()
                trainer.strategy.backward(loss / trainer.accumulate_grad_batches, optimizer)
            seen.append(float(total) / (last + 1))
            return total / (last + 1)

        module.optimizer_step(epoch, last, module.optimizers(), closure)
        if not seen:
            raise FinderError("FindLR: optimizer_step of the module did not call its closure, so nothing was trained.")
        return seen[0]  # LBFGS calls it often

    def _loss(self, batch: Any, index: int) -> Tensor:
        strategy = self._trainer.strategy
        batch = self._trainer.precision_plugin.convert_input(batch)
        batch = strategy.batch_to_device(self._before_transfer(batch, 0), dataloader_idx=0)
        output = strategy.training_step(*(batch, index)[: self._arguments])
        loss = output.get("loss") if isinstance(output, Mapping) else output
        if not isinstance(loss, Tensor):
            raise FinderError(f"FindLR: training_step must return the loss, it returned {type(output).__name__}.")
        return loss


def _given(loss: Tensor, _: Any) -> Tensor:
    """The loss that ``_Update`` has worked out."""
    return loss


@contextmanager
def _unheard(trainer: Any, module: Any) -> Iterator[None]:
    """Let nobody hear of updates: no callbacks, no logged values."""
    callbacks, loggers, own = trainer.callbacks, trainer.loggers, vars(module)
    trainer.callbacks, trainer.loggers = [], [DummyLogger() for _ in loggers]
    own.update(log=_nothing, log_dict=_nothing)
    try:
        yield
    finally:
        del own["log"], own["log_dict"]
        trainer.callbacks, trainer.loggers = callbacks, loggers


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _set(module: Any, optimizer: Optimizer, rate: float, ratios: Mapping[str, float], updates: float) -> None:
    """Train with ``rate``: the highest rate of the group whose ratio is 1."""
    follows = WATCH.scheduler_of(optimizer)
    if follows is not None:
        follows.scaled_from(rate / _peak(follows, max(ratios, key=ratios.__getitem__), updates))
        return
    before = max(float(group["lr"]) for group in optimizer.param_groups)
    for group, ratio in zip(optimizer.param_groups, ratios.values(), strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * ratio)
        else:
            group["lr"] = rate * ratio
    for name in ("lr", "learning_rate"):
        if lightning_hasattr(module, name) and lightning_getattr(module, name) == before:
            lightning_setattr(module, name, rate)


def _peak(scheduler: Scheduler, group: str, updates: float) -> float:
    """The highest rate that a group would have."""
    end = int(min(math.ceil(scheduler._end) if math.isfinite(scheduler._end) else updates, 10**7))
    plan = scheduler._plan
    values = unruled(scheduler.schedules()[group]).values(0, max(end, 1))
    return max(values) * plan.multiplier(plan.kind, group)
