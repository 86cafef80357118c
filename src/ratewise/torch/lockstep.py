"""Runs of one model in lockstep: one vmapped gradient pass for all, and each strategy's own optimizer on its rows.

What ``population`` does for the finder's candidates, of one optimizer and on one batch, this does for runs that differ
in everything but the model: the stacked tensors have a row for each run, and an optimizer steps views of its rows.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from ratewise.torch.population import SHARED, called, scale_move


class Lockstep:
    """Runs in training together; none can change another.

    Args:
        model: Gives the structure; its own values are not used.
        loss: ``(output, target) -> mean loss``.
        starts: For each row a model that holds its initial values.
        kinds: For each row a strategy at the constant rate 1. Rows of equal strategies stand side by side.
        steps: Updates of a run.
        clip_norm: Largest norm of a row's gradient, or None.
    """

    def __init__(
        self, model: nn.Module, loss: Callable[[Any, Tensor], Tensor], starts: Sequence[nn.Module],
        kinds: Sequence[Any], steps: int, clip_norm: float | None,
    ) -> None:  # fmt: skip
        self._model, self._loss, self._clip_norm = model, loss, clip_norm
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        stacks = _stacked(starts)
        self.parameters = {name: x for name, x in stacks.items() if name in trained}
        self.rest = {name: x for name, x in stacks.items() if name not in trained}
        self._before = [torch.empty_like(x) for x in self.parameters.values()]
        counts = [(kind, len(list(rows))) for kind, rows in groupby(kinds)]
        self._parts: list[_Part] = []
        for kind, count in counts:
            start = self._parts[-1].stop if self._parts else 0
            self._parts.append(_Part(kind, steps, list(self.parameters.values()), start, start + count))
        model.train()
        self._pass = vmap(grad(self._row, has_aux=True), randomness="error")

    def _row(
        self, parameters: dict[str, Tensor], rest: dict[str, Tensor], inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        output = called(self._model, {**parameters, **rest}, (inputs,), {})
        loss = self._loss(output, targets).reshape(())
        return loss, loss

    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return every row's gradient by parameter, clipped, and its loss, of shape ``(rows,)``.

        Args:
            inputs: Of shape ``(rows, batch, ...)``.
            targets: Likewise.
        """
        with torch.enable_grad():
            found, losses = self._pass(self.parameters, self.rest, inputs, targets)
        if self._clip_norm is not None:
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in found.values()]).norm(dim=0)
            factor = (self._clip_norm / (norms + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
            found = {name: g * factor.reshape(-1, *[1] * (g.ndim - 1)) for name, g in found.items()}
        return found, losses.detach()

    @torch.no_grad()
    def move(self, gradients: dict[str, Tensor], rates: Tensor) -> None:
        """Make one update of every row.

        Args:
            gradients: By parameter, of shape ``(rows, ...)``.
            rates: Of each row, float64.
        """
        for old, p in zip(self._before, self.parameters.values(), strict=True):
            old.copy_(p)
        for part in self._parts:
            part.step([gradients[name] for name in self.parameters])
        for old, p in zip(self._before, self.parameters.values(), strict=True):
            scale_move(old, p, rates)

    @torch.no_grad()
    def measure(self, inputs: Tensor, targets: Tensor, accuracy: bool, at_once: int) -> tuple[Tensor, Tensor]:
        """Return every row's loss and metric on a whole split, each of shape ``(rows,)``.

        Args:
            inputs: Of shape ``(examples, ...)``, the same for all.
            targets: Likewise.
            accuracy: Whether the metric is the share of right classes; else it is the loss.
            at_once: How many rows to measure together; one alone is not mapped.

        Raises:
            RuntimeError: The model draws random numbers, which would be others for each row than alone.
        """

        def one(parameters: dict[str, Tensor], rest: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            output = called(self._model, {**parameters, **rest}, (inputs,), {})
            loss = self._loss(output, targets).reshape(())
            return loss, (output.argmax(-1) == targets).double().mean() if accuracy else loss

        self._model.eval()
        try:
            if at_once > 1:
                try:
                    losses, metrics = vmap(one, chunk_size=at_once)(self.parameters, self.rest)
                    return losses, metrics
                except RuntimeError as error:  # recurrent layers can be mapped with gradients only
                    if "randomness" in str(error):
                        raise
            before = _generator(inputs.device)
            found = [one(*self.row(k)) for k in range(len(next(iter(self.parameters.values()))))]
            if not torch.equal(before, _generator(inputs.device)):
                raise RuntimeError("randomness in evaluation")
        finally:
            self._model.train()
        losses, metrics = (torch.stack(column) for column in zip(*found, strict=True))
        return losses, metrics

    def row(self, k: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One run's trained parameters, and its other values."""
        return {n: x[k] for n, x in self.parameters.items()}, {n: x[k] for n, x in self.rest.items()}

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows, each a copy of one that was; a row may be taken several times.

        Args:
            rows: Which, rising.
        """
        index = torch.tensor(rows, device=next(iter(self.parameters.values())).device)
        self.parameters = {name: x[index] for name, x in self.parameters.items()}
        self.rest = {name: x[index] for name, x in self.rest.items()}
        self._before = [torch.empty_like(x) for x in self.parameters.values()]
        parts, start = [], 0
        for part in self._parts:
            mine = [row - part.start for row in rows if part.start <= row < part.stop]
            if mine:
                part.select(torch.tensor(mine, device=index.device), list(self.parameters.values()), start)
                parts.append(part)
                start = part.stop
        self._parts = parts


class _Part:
    """The rows of one kind of strategy, and the optimizer that steps them."""

    def __init__(self, kind: Any, steps: int, stacks: list[Tensor], start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self._optimizer, self._scheduler = kind.torch([x[start:stop] for x in stacks], steps)

    def step(self, gradients: list[Tensor]) -> None:
        for p, gradient in zip(self._optimizer.param_groups[0]["params"], gradients, strict=True):
            p.grad = gradient[self.start : self.stop]
        self._optimizer.step()

    def select(self, rows: Tensor, stacks: list[Tensor], start: int) -> None:
        """Take over ``rows`` of the present ones, which stand from ``start`` on in the new ``stacks``."""
        self.start, self.stop = start, start + len(rows)
        held: list[Tensor] = self._optimizer.param_groups[0]["params"]
        views = [x[self.start : self.stop] for x in stacks]
        states = [self._optimizer.state.pop(p, {}) for p in held]
        held[:] = views
        for view, state in zip(views, states, strict=True):
            if state:
                self._optimizer.state[view] = {key: _taken(key, value, rows) for key, value in state.items()}


def _taken(key: str, value: Any, rows: Tensor) -> Any:
    return value[rows] if isinstance(value, Tensor) and key not in SHARED else value


def _generator(device: torch.device) -> Tensor:
    """The state of the generator that a model on this device draws from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _stacked(starts: Sequence[nn.Module]) -> dict[str, Tensor]:
    """The values of all models by name, of shape ``(models, ...)``; tied ones once."""
    distinct = {id(model): model for model in starts}
    place = {key: i for i, key in enumerate(distinct)}
    index = torch.tensor([place[id(model)] for model in starts])
    values = [dict((*model.named_parameters(), *model.named_buffers())) for model in distinct.values()]
    if any(set(other) != set(values[0]) for other in values):
        raise ValueError("models of different seeds have different parameters")
    return {name: torch.stack([found[name].detach() for found in values])[index] for name in values[0]}
