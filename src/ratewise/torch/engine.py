"""The one-by-one engine for PyTorch: one run is one ordinary training loop. The reference for every other engine."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from ratewise.core.horizon import Horizon
from ratewise.core.ruled import Ruled
from ratewise.core.shapes import Constant
from ratewise.errors import TaskError
from ratewise.finder.finding import Finding
from ratewise.outcome import Outcome, marks
from ratewise.torch.dropout import keyed, write_keys
from ratewise.torch.find import find_lr
from ratewise.torch.scheduler import Scheduler

Loss: TypeAlias = Callable[[Any, Tensor], Tensor]


def _cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output.reshape(-1, output.shape[-1]), target.reshape(-1))


def _mse(output: Tensor, target: Tensor) -> Tensor:
    return functional.mse_loss(output.reshape(target.shape), target)


LOSSES: dict[str, Loss] = {"cross_entropy": _cross_entropy, "mse": _mse}
SPLITS = {"tune": ("valid",), "test": ("valid", "test")}
"""What a run is measured on, by its phase; the last decides."""


@dataclass(frozen=True)
class _Epochs:
    """An epoch of whole batches each time it is begun, in an order that torch's global generator fixes."""

    inputs: Tensor
    targets: Tensor
    size: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.inputs))
        size = min(self.size, len(order))
        for batch in order[: len(order) // size * size].view(-1, size):
            yield self.inputs[batch], self.targets[batch]


@contextmanager
def one_thread() -> Iterator[None]:
    """Small models: two processes of one thread beat one of two, and results do not depend on the machine's cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Engine:
    """Trains a task's PyTorch model, one run at a time.

    Args:
        task: A ``ratewise.Task``: its splits as numpy arrays, its model, loss, metric and batches.
    """

    def __init__(self, task: Any) -> None:
        self._task, self._splits, self._model, self._metric = task, task.splits, task.model, task.metric
        self._loss: Loss = LOSSES[task.loss] if isinstance(task.loss, str) else task.loss

    @cached_property
    def _data(self) -> dict[str, tuple[Tensor, Tensor]]:
        return {name: (torch.as_tensor(x), torch.as_tensor(y)) for name, (x, y) in self._splits.items()}

    def room(self) -> int:
        """How many runs a cohort may have: any number, since they are trained one after the other."""
        return 2**20

    def examine(self) -> str:
        """Build the model as a run would, try one batch, and return a hash of what was built.

        Raises:
            TaskError: The model is not a module, has nothing to train, does not fit the data, or the loss is no
                number; the sentence says what is required.
        """
        with torch.random.fork_rng(devices=[]), one_thread():
            torch.manual_seed(0)
            model = self._built()
            digest = hashlib.sha256(str(model).encode())
            for name, value in model.state_dict().items():
                values = value.detach().cpu().reshape(-1).view(torch.uint8)  # numpy has no bfloat16
                digest.update(name.encode() + values.numpy().tobytes())
            self._try(model)
        return digest.hexdigest()

    def _built(self) -> nn.Module:
        if isinstance(self._model, nn.Module):
            raise TaskError("model= must be a function that makes a new module, got a module. Write model=lambda: ...")
        model = self._model()
        if not isinstance(model, nn.Module):
            raise TaskError(f"model= must return a torch.nn.Module, it returned {type(model).__name__}.")
        if not any(p.requires_grad for p in model.parameters()):
            raise TaskError("the model has no parameters to train.")
        return model

    def _try(self, model: nn.Module) -> None:
        inputs, targets = (part[:8] for part in self._data["train"])
        try:
            output = model(inputs)
        except Exception as error:
            raise TaskError(
                f"the model cannot take a batch of inputs of shape {tuple(inputs.shape)} and type {inputs.dtype}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if self._loss is _cross_entropy:
            self._check_classes(output)
        try:
            loss = self._loss(output, targets)
        except Exception as error:
            raise TaskError(f"the loss cannot compare the model's output with targets: {error}") from error
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise TaskError(f"the loss must be one number, the mean over the batch, it is {shape}. Add .mean().")

    def _check_classes(self, output: Any) -> None:
        classes = output.shape[-1] if isinstance(output, Tensor) and output.ndim else 0
        labels = torch.cat([targets.reshape(-1) for _, targets in self._data.values()])
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise TaskError(
                f"cross_entropy needs targets from 0 to {classes - 1} for the model's {classes} outputs, "
                f"they go from {low} to {high}."
            )

    def find(
        self, strategy: Any, run: Horizon, batch_size: int, *, method: str = "probe", seed: int = 0, **settings: Any
    ) -> Finding:
        """Find the peak rate of a strategy for a run, by its loss on the validation split.

        Args:
            strategy: As for ``run``; its peak does not matter.
            run: Its updates, and what an epoch is.
            batch_size: Examples per update.
            method: As for ``ratewise.torch.find_lr``.
            seed: Fixes the initial values, and is the first that fixes an order of the batches.
            **settings: Further arguments of ``ratewise.torch.find_lr``.
        """
        of_the_run = {"schedule": strategy.lr, "horizon": run} if method == "probe" else {}
        with torch.random.fork_rng(devices=[]), one_thread():
            torch.manual_seed(seed)
            model = self._model()
            optimizer, _ = replace(strategy, lr=Constant(1.0)).torch(model.parameters(), run)
            batches = _Epochs(*self._data["train"], batch_size)
            return find_lr(
                model, optimizer, self._loss, batches, held_out=[self._data["valid"]], method=method, seed=seed,
                **of_the_run, **settings,
            )  # fmt: skip

    def cohort(self, members: Sequence[Any]) -> list[Outcome]:
        """Train every member and measure it.

        Args:
            members: Each has a ``strategy`` that gives ``torch(params, steps) -> (optimizer, scheduler)``, the
                ``seed`` of initial values, batches and everything random in the model, its ``steps``, and a
                ``phase``: ``"tune"`` is judged on the validation split, ``"test"`` on the test split.
        """
        return [self._one(member) for member in members]

    def _one(self, member: Any) -> Outcome:
        started = time.perf_counter()
        outcome = self._alone(member)
        return replace(outcome, seconds=time.perf_counter() - started)

    def _alone(self, member: Any) -> Outcome:
        with torch.random.fork_rng(devices=[]), one_thread():
            model, keys = self._start(member.seed)
            optimizer, scheduler = member.strategy.torch(model.parameters(), member.steps)
            splits = SPLITS[member.phase]
            held: dict[str, list[float]] = {split: [] for split in splits}
            losses: list[float] = []
            due = set(marks(member.steps))
            _switch(model, optimizer, training=True)
            for t, (inputs, targets) in enumerate(self._batches(member.seed, member.steps)):
                write_keys(model, keys, member.seed, t)
                backward = partial(self._backward, model, optimizer, inputs, targets)
                loss = backward()
                losses.append(loss.item())
                if not math.isfinite(losses[-1]):
                    break
                if isinstance(optimizer, torch.optim.LBFGS):  # asks for gradients as often as it wants
                    optimizer.step(backward)  # type: ignore[no-untyped-call]
                else:
                    optimizer.step()
                if t + 1 in due:
                    _switch(model, optimizer, training=False)
                    for split in splits:
                        final, metric = self._measure(model, split)
                        held[split].append(final)
                    if _rules(scheduler):
                        scheduler.observe(held["valid"][-1])
                    _switch(model, optimizer, training=True)
            if len(losses) < member.steps or not all(map(math.isfinite, (losses[-1], final))):
                return Outcome(losses, held, None, None, "one by one", len(losses))
            return Outcome(losses, held, final, metric, "one by one", len(losses))

    def _start(self, seed: int) -> tuple[nn.Module, list[str]]:
        """The model of a seed before its first update, and the names of its dropout keys."""
        torch.manual_seed(seed)
        model = self._model()
        return model, keyed(model)

    def _backward(self, model: nn.Module, optimizer: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        """Put the gradient in its place and return the loss."""
        loss = self._loss(model(inputs), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._task.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), self._task.clip_norm)
        return loss

    def _batches(self, seed: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        if self._task.streamed:
            for inputs, targets in self._task.stream(seed, steps):
                yield torch.as_tensor(inputs), torch.as_tensor(targets)
            return
        inputs, targets = self._data["train"]
        for batch in torch.as_tensor(self._task.order(seed, steps)):
            yield inputs[batch], targets[batch]

    @torch.no_grad()
    def _measure(self, model: nn.Module, split: str) -> tuple[float, float]:
        inputs, targets = self._data[split]
        output = model(inputs)
        loss = float(self._loss(output, targets))
        if self._metric != "accuracy":
            return loss, loss
        return loss, float((output.argmax(-1) == targets).double().mean())


def _switch(model: nn.Module, optimizer: Any, *, training: bool) -> None:
    """Train or evaluate: the model, and an optimizer that evaluates other weights than it trains."""
    model.train(training)
    if callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):
        optimizer.train() if training else optimizer.eval()


def _rules(scheduler: Any) -> bool:
    """Whether the rate follows a metric."""
    return isinstance(scheduler, Scheduler) and any(isinstance(s, Ruled) for s in scheduler.schedules().values())
