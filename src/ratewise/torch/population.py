"""Many copies of one training at once: one vmapped gradient pass, and the optimizer's own class on stacked tensors.

Every copy has a rate of its own. Where an update is element-wise and proportional to the rate, the optimizer steps all
copies together at the rate 1, and what it moved is scaled by each copy's rate:

    p' = p + rate * (step(p, rate=1) - p)

Which optimizers are so is a list, not a guess.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
)

from ratewise.errors import AdapterError

PROPORTIONAL = (SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop)
"""Classes whose update is element-wise and proportional to the rate; of subclasses nothing is known."""

SHARED = ("step", "mu_product")
"""State that the parameters of all copies have in common, although it is a tensor."""

LARGEST = 2**26
"""Bytes of parameters: larger models fill a device alone, and several copies its memory."""

Evaluate = Callable[[Callable[..., Any], Any], Tensor]
"""``evaluate(model, batch)``: the mean loss of a batch, where ``model`` is called as the module would be."""


class Population:
    """Copies of a model in training, all at the state that the model and its optimizers have now.

    The model and the optimizers themselves are not changed. Dropout is the same in all copies.

    Args:
        model: Its parameters and buffers are stacked; whether it is in train mode is asked at each update.
        optimizers: What trains it, of classes of ``PROPORTIONAL``.
        ratios: Of each group of each optimizer, one after the other: its rate as a multiple of a copy's rate.
        evaluate: Computes the loss of a batch.
        count: How many copies.

    Raises:
        AdapterError: The model or an optimizer cannot be stacked; the message says why.
    """

    def __init__(
        self, model: nn.Module, optimizers: Sequence[Optimizer], ratios: Sequence[float], evaluate: Evaluate, count: int
    ) -> None:
        if (reason := unfit(model, optimizers)) is not None:
            raise AdapterError(f"population: {reason}.")
        self._model, self._evaluate, self._count = model, evaluate, count
        self._originals = [p for p in model.parameters() if p.requires_grad]
        stepped = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        wanted = {id(p) for p in stepped if p.requires_grad}
        self._rest = {name: p.detach() for name, p in model.named_parameters() if id(p) not in wanted}
        self.parameters = {name: self._stack(p) for name, p in model.named_parameters() if id(p) in wanted}
        self.buffers = {name: self._stack(b) for name, b in model.named_buffers()}
        stacks = {id(p): self.parameters[name] for name, p in model.named_parameters() if id(p) in wanted}
        self._optimizers = [self._stacked(optimizer, stacks) for optimizer in optimizers]
        self._ratios = list(ratios)

    def step(self, batches: Sequence[Any], rates: Tensor) -> Tensor:
        """Make one update of every copy with the mean gradient over ``batches``; return the mean losses before it."""
        total = torch.zeros(self._count, dtype=torch.float64, device=rates.device)
        for p in self.parameters.values():
            p.grad = None
        for batch in batches:
            gradients, losses = self.gradients(batch)
            total += losses.double()
            for name, p in self.parameters.items():
                part = gradients[name] / len(batches) if len(batches) > 1 else gradients[name]
                p.grad = part if p.grad is None else p.grad + part
        self._move(rates)
        return total / len(batches)

    def gradients(self, batch: Any) -> tuple[dict[str, Tensor], Tensor]:
        """Return the gradient of every copy by parameter name, and the losses, of shape ``(count,)``.

        Raises:
            AdapterError: The loss depends on a parameter other than through ``model``, which a copy cannot replace; or
                the model replaces a buffer.
        """

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            loss = self._loss(parameters, buffers, batch)
            return loss, loss

        with mapped(), torch.enable_grad():
            found: tuple[dict[str, Tensor], Tensor] = vmap(grad(one, has_aux=True), randomness="same")(
                {name: p.detach() for name, p in self.parameters.items()}, self.buffers
            )
        if found[1].requires_grad:
            leaks = torch.autograd.grad(found[1], self._originals, torch.ones_like(found[1]), allow_unused=True)
            if any(leak is not None for leak in leaks):
                raise AdapterError("population: the loss reads the model's parameters by itself.")
        return found[0], found[1].detach()

    @torch.no_grad()
    def losses(self, batch: Any) -> Tensor:
        """Return the loss of every copy on a batch, of shape ``(count,)``."""

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return self._loss(parameters, buffers, batch)

        with mapped():
            try:
                found: Tensor = vmap(one, randomness="same")(self.parameters, self.buffers)
            except RuntimeError:  # recurrent layers can be mapped with gradients only
                found = torch.stack([one(*self._copy(k)) for k in range(self._count)])
        return found

    def _copy(self, k: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {n: p[k] for n, p in self.parameters.items()}, {n: b[k] for n, b in self.buffers.items()}

    def _loss(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: Any) -> Tensor:
        tensors = {**self._rest, **parameters, **buffers}
        loss = self._evaluate(lambda *args, **named: called(self._model, tensors, args, named), batch)
        return loss.reshape(())

    @torch.no_grad()
    def _move(self, rates: Tensor) -> None:
        before = {id(p): p.clone() for p in self.parameters.values()}
        for optimizer in self._optimizers:
            optimizer.step()
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        for group, ratio in zip(groups, self._ratios, strict=True):
            for p in group["params"]:
                scale_move(before[id(p)], p, rates * ratio)

    def _stack(self, tensor: Tensor) -> Tensor:
        return tensor.detach().expand(self._count, *tensor.shape).clone(memory_format=torch.contiguous_format)

    def _stacked(self, optimizer: Optimizer, stacks: dict[int, Tensor]) -> Optimizer:
        """A twin of the optimizer for the stacked parameters, at the rate 1, in the same state."""
        groups, state = [], {}
        for group in optimizer.param_groups:
            members = [p for p in group["params"] if id(p) in stacks]
            groups.append({**group, "params": [stacks[id(p)] for p in members], "lr": 1.0})
            for p in members:
                if p in optimizer.state:
                    state[stacks[id(p)]] = {key: self._part(key, x) for key, x in optimizer.state[p].items()}
        twin = type(optimizer)(groups, lr=1.0)  # type: ignore[call-arg]
        twin.state.update(state)
        return twin

    def _part(self, key: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.clone() if key in SHARED else self._stack(value)


def scale_move(before: Tensor, p: Tensor, rates: Tensor) -> None:
    """Scale what was moved from ``before`` to ``p``, in place, by the rate of each copy.

    Args:
        before: Stacked values before an update at the rate 1.
        p: The values behind it.
        rates: Of each copy.
    """
    torch.lerp(before, p, rates.to(p.dtype).reshape(-1, *[1] * (p.ndim - 1)), out=p)


def unfit(model: nn.Module, optimizers: Iterable[Optimizer]) -> str | None:
    """Return why these cannot be trained as a population; None if nothing is seen that forbids it."""
    inside = {id(p) for p in model.parameters()}
    for optimizer in optimizers:
        kind = type(optimizer)
        if kind not in PROPORTIONAL:
            return f"{kind.__name__} is not known to be element-wise and proportional to the rate"
        groups = optimizer.param_groups
        if any(group.get("differentiable") or group.get("fused") for group in groups):
            return f"{kind.__name__} is fused or differentiable"
        if any(id(p) not in inside for group in groups for p in group["params"]):
            return "the optimizer has parameters that are not the model's"
    if sum(p.numel() * p.element_size() for p in model.parameters()) > LARGEST:
        return f"the model has more than {LARGEST // 2**20} MiB of parameters"
    for p in model.parameters():
        if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None):
            return "a parameter has hooks of its own"
        if p.is_sparse or type(p.data) is not Tensor:
            return f"a parameter is of the kind {type(p.data).__name__}"
    for module in model.modules():
        if module._backward_hooks or module._backward_pre_hooks:
            return f"{type(module).__name__} has backward hooks"
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse:
            return "an embedding has sparse gradients"
    return None


def called(model: nn.Module, tensors: dict[str, Tensor], args: Sequence[Any], named: dict[str, Any]) -> Any:
    """Call a model with these tensors in place of its own parameters and buffers; what it writes into them stays.

    Args:
        model: The structure.
        tensors: By name, for all of its parameters and buffers.
        args: Of the call.
        named: Likewise.

    Raises:
        AdapterError: The model put another tensor in place of one of them, which would be lost.
    """

    def check(*_: Any) -> None:
        held = dict((*model.named_parameters(), *model.named_buffers()))
        for name in (*tensors, *held):
            if held.get(name) is not tensors.get(name):
                raise AdapterError(f"the model puts another tensor in place of {name!r} instead of writing into it")

    hook = model.register_forward_hook(check)
    try:
        return functional_call(model, tensors, tuple(args), named)
    finally:
        hook.remove()


@contextmanager
def mapped() -> Iterator[None]:
    """Attention that can be mapped, and no word about operations that are mapped slowly."""
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.filterwarnings("ignore", message=".*batching rule.*|.*vmap.*")
        yield
