"""The one-by-one engine for PyTorch: one run is one ordinary training loop. The reference for every other engine."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from ratewise.core.horizon import Horizon
from ratewise.core.shapes import Constant
from ratewise.errors import TaskError
from ratewise.finder.finding import Finding
from ratewise.torch.find import find_lr

Loss: TypeAlias = Callable[[Any, Tensor], Tensor]


def _cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output.reshape(-1, output.shape[-1]), target.reshape(-1))


def _mse(output: Tensor, target: Tensor) -> Tensor:
    return functional.mse_loss(output.reshape(target.shape), target)


LOSSES: dict[str, Loss] = {"cross_entropy": _cross_entropy, "mse": _mse}


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
def _one_thread() -> Iterator[None]:
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
        splits: ``{"train": (inputs, targets), ...}`` as numpy arrays.
        model: Makes a new module.
        loss: A name of ``LOSSES`` or a function ``(output, target) -> mean loss``.
        metric: ``"accuracy"`` to count right classes; else the loss is the metric.
    """

    def __init__(
        self, splits: Mapping[str, Any], model: Callable[[], nn.Module], loss: str | Loss, metric: str
    ) -> None:
        self._splits, self._model, self._metric = splits, model, metric
        self._loss = LOSSES[loss] if isinstance(loss, str) else loss

    @cached_property
    def _data(self) -> dict[str, tuple[Tensor, Tensor]]:
        return {name: (torch.as_tensor(x), torch.as_tensor(y)) for name, (x, y) in self._splits.items()}

    def examine(self) -> str:
        """Build the model as a run would, try one batch, and return a hash of what was built.

        Raises:
            TaskError: The model is not a module, has nothing to train, does not fit the data, or the loss is no
                number; the sentence says what is required.
        """
        with torch.random.fork_rng(devices=[]), _one_thread():
            torch.manual_seed(0)
            model = self._built()
            digest = hashlib.sha256(str(model).encode())
            for name, value in model.state_dict().items():
                digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
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
        with torch.random.fork_rng(devices=[]), _one_thread():
            torch.manual_seed(seed)
            model = self._model()
            optimizer, _ = replace(strategy, lr=Constant(1.0)).torch(model.parameters(), run)
            batches = _Epochs(*self._data["train"], batch_size)
            return find_lr(
                model, optimizer, self._loss, batches, held_out=[self._data["valid"]], method=method, seed=seed,
                **of_the_run, **settings,
            )  # fmt: skip

    def run(self, strategy: Any, seed: int, order: Any, split: str) -> tuple[list[float], float | None, float | None]:
        """Train once and measure.

        Args:
            strategy: Gives ``torch(params, steps) -> (optimizer, scheduler)``.
            seed: Fixes the initial values and everything random in the model.
            order: Example indices of each update, ``(steps, batch)``.
            split: What the result is measured on.

        Returns:
            The training loss before each update, up to the first that is not finite; loss and metric on the
            split, None if the run diverged.
        """
        with torch.random.fork_rng(devices=[]), _one_thread():
            torch.manual_seed(seed)
            model = self._model()
            losses = self._train(model, strategy, torch.as_tensor(order))
            if len(losses) < len(order) or not math.isfinite(losses[-1]):
                return losses, None, None
            return losses, *self._measure(model, split)

    def _train(self, model: nn.Module, strategy: Any, order: Tensor) -> list[float]:
        optimizer, _ = strategy.torch(model.parameters(), len(order))
        inputs, targets = self._data["train"]
        model.train()
        losses: list[float] = []
        for batch in order:
            loss = self._loss(model(inputs[batch]), targets[batch])
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                break
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return losses

    @torch.no_grad()
    def _measure(self, model: nn.Module, split: str) -> tuple[float | None, float | None]:
        model.eval()
        inputs, targets = self._data[split]
        output = model(inputs)
        loss = float(self._loss(output, targets))
        if not math.isfinite(loss):
            return None, None
        if self._metric != "accuracy":
            return loss, loss
        return loss, float((output.argmax(-1) == targets).double().mean())
