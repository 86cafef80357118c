"""The curvature that a torch optimizer sees, by differentiating the loss of a few batches twice.

``measured`` takes what is prepared: the loss of a batch as a function, optimizers, batches. It puts nothing back, which
is its caller's part: ``ratewise.torch.ceiling`` and ``find_lr`` do that for everything that they touch at once.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ratewise.errors import FinderError
from ratewise.finder.curvature import Ceiling, ceiling, gain
from ratewise.torch.batches import fresh
from ratewise.torch.snapshot import seed_all

BATCHES = 8
"""The loss is that of so many batches, at most."""

Moments: TypeAlias = tuple[Tensor, Tensor]
"""The mean of a parameter's gradients, and of their squares."""

Settled: TypeAlias = Callable[[], Moments]
Held: TypeAlias = Mapping[str, Any]
Formula: TypeAlias = Callable[[Held, Held, Settled], tuple[float, Tensor | None]]
"""From a group, the state of a parameter and its settled moments: the gain, and the root by which it divides."""


def measured(
    loss: Callable[[Any], Any], model: nn.Module, optimizers: Sequence[Any], ratios: Sequence[float],
    batches: Sequence[Any], seed: int = 0,
) -> Ceiling:  # fmt: skip
    """Return the rate, of the group with ratio 1, at which the mean loss of the batches becomes unstable.

    Where a parameter has no second moments yet, they are taken as settled: as the mean squares of its gradients. Where
    an optimizer divides by them, a parameter that is without gradient in every batch is left out: the division blows
    up what is nothing, such as the weight decay of inputs that are always 0.

    Args:
        loss: Returns the loss of one batch, to be differentiated.
        model: Its buffers are the same in every evaluation.
        optimizers: Of ``FORMULAS``.
        ratios: The rate of each of their groups, as a part of the highest.
        batches: At least one, on any device.
        seed: Fixes dropout and the first vector.

    Raises:
        FinderError: No formula is known for an optimizer, or the loss cannot be differentiated twice.
    """
    groups = [(_formula(optimizer), optimizer, group) for optimizer in optimizers for group in optimizer.param_groups]
    members = {
        p: (formula, optimizer, group, ratio)
        for (formula, optimizer, group), ratio in zip(groups, ratios, strict=True)
        for p in group["params"]
        if p.requires_grad
    }
    decays = {p: _decays(optimizer, group) for p, (_, optimizer, group, _) in members.items()}
    twice = _Twice(loss, model, {p: coupled for p, (coupled, _) in decays.items()}, batches, seed)
    gains, weights = [], []
    for p, (formula, optimizer, group, ratio) in members.items():
        gained, root = formula(group, optimizer.state.get(p, {}), partial(twice.settled, p))
        weight = torch.full_like(p.detach(), ratio * gained)
        gains.append(gained)
        weights.append(weight if root is None else weight.div_(root).mul_(twice.settled(p)[1] > 0))
    top = max(gains)
    scale = (twice.flat(weights) / top).sqrt_()
    coupled = twice.flat([torch.full_like(p.detach(), decay) for p, (decay, _) in decays.items()])
    apart = twice.flat([torch.full_like(p.detach(), decays[p][1] * ratio / top) for p, (*_, ratio) in members.items()])

    def product(vector: Tensor) -> Tensor:
        inside = scale * vector
        return scale * (twice.product(inside) + coupled * inside) + apart * vector

    start = torch.randn(len(scale), generator=torch.Generator().manual_seed(seed), dtype=scale.dtype)
    return ceiling(
        product, start.to(scale.device), lambda a, b: float(torch.dot(a, b)), gain=top,
        preconditioned=any(formula is not _sgd for formula, _, _ in groups),
    )  # fmt: skip


class _Twice:
    """The mean loss of the batches as one function of some parameters, differentiated once and twice."""

    def __init__(
        self, loss: Callable[[Any], Any], model: nn.Module, decays: Mapping[Tensor, float], batches: Sequence[Any],
        seed: int,
    ) -> None:  # fmt: skip
        self._loss, self._decays, self._batches, self._seed = loss, decays, batches, seed
        self._parameters, self._checked = list(decays), False
        self._buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
        self._device, self._dtype = self._parameters[0].device, torch.float32
        for p in self._parameters:
            self._dtype = torch.promote_types(self._dtype, p.dtype)
        if self._dtype.is_complex:
            raise FinderError("ceiling: the curvature along complex parameters is not computed. Freeze them.")

    def flat(self, tensors: Sequence[Tensor]) -> Tensor:
        """One vector of all."""
        return torch.cat([t.detach().reshape(-1).to(self._device, self._dtype) for t in tensors])

    def product(self, vector: Tensor) -> Tensor:
        """The Hessian times a vector: how the gradient changes along it."""
        parts = torch.split(vector, [p.numel() for p in self._parameters])
        along = [part.view(p.shape).to(p.device, p.dtype) for part, p in zip(parts, self._parameters, strict=True)]
        total = torch.zeros_like(vector)

        def add(gradients: Sequence[Tensor]) -> None:
            curved = [(g, v) for g, v in zip(gradients, along, strict=True) if g.requires_grad]
            if not self._checked:
                _check_open([g for g, _ in curved])
                self._checked = True
            if curved:  # else the loss is of other parameters
                ours, theirs = zip(*curved, strict=True)
                total.add_(self.flat(torch.autograd.grad(ours, self._parameters, theirs, materialize_grads=True)))

        self._each(add, again=True)
        return total.div_(len(self._batches))

    def settled(self, parameter: Tensor) -> Moments:
        """What the moments of a parameter would be after many such batches; 0 where it has no gradient."""
        return self._moments[parameter]

    @cached_property
    def _moments(self) -> dict[Tensor, Moments]:
        found = {p: (torch.zeros_like(p.detach()), torch.zeros_like(p.detach())) for p in self._parameters}

        def add(gradients: Sequence[Tensor]) -> None:
            for (p, (mean, square)), gradient in zip(found.items(), gradients, strict=True):
                decayed = (gradient.detach() + self._decays[p] * p.detach()).mul_(gradient.detach() != 0)
                mean.add_(decayed, alpha=1 / len(self._batches))
                square.addcmul_(decayed, decayed, value=1 / len(self._batches))

        self._each(add, again=False)
        return found

    def _each(self, use: Callable[[Sequence[Tensor]], None], again: bool) -> None:
        """Give ``use`` the gradients of each batch, which can be differentiated once more if asked for."""
        with torch.no_grad():
            for buffer, kept in self._buffers:
                buffer.copy_(kept)
        seed_all(self._seed)
        for batch in self._batches:
            with _differentiating():
                loss = self._loss(fresh(batch, self._device))
                if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                    raise FinderError(
                        "ceiling: loss= must return one number, as a tensor that depends on the model's parameters."
                    )
                one = torch.ones_like(loss, requires_grad=again)  # so that no function is asked for a constant alone
                gradients = torch.autograd.grad(
                    loss, self._parameters, one, create_graph=again, materialize_grads=True
                )  # fmt: skip
                if any(g.layout != torch.strided for g in gradients):
                    raise FinderError("ceiling: sparse gradients cannot be differentiated again. Write sparse=False.")
                use(gradients)


def _check_open(gradients: Sequence[Tensor]) -> None:
    """Refuse gradients that went through a function which has one derivative only.

    ``torch.autograd.grad`` with given inputs takes such a function for a constant, where ``backward`` would raise.
    """
    waiting, seen = [g.grad_fn for g in gradients], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if node.name() == "torch::autograd::Error":
                raise FinderError(
                    "ceiling: the loss must be differentiable twice, but a function in it is once_differentiable."
                )
            waiting.extend(before for before, _ in node.next_functions)


@contextmanager
def _differentiating() -> Iterator[None]:
    """Run only what can be differentiated twice, so neither fused attention nor compiled code, and say what cannot.

    Raises:
        FinderError: Something inside raised.
    """
    compiled = "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance")  # torch 2.6; slow to import
    eager = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), eager:
            yield
    except FinderError:
        raise
    except Exception as error:
        raise FinderError(
            f"ceiling: the loss must be differentiable twice, but this raised {type(error).__name__}: {error}"
        ) from error


# -- what optimizers make of a gradient ------------------------------------------------------------------------


def _formula(optimizer: Any) -> Formula:
    if type(optimizer) not in FORMULAS:
        known = ", ".join(sorted(kind.__name__ for kind in FORMULAS))
        raise FinderError(
            f"ceiling: how {type(optimizer).__name__} weighs curvature is not known. Known are {known} of torch.optim."
        )
    if any(group["maximize"] for group in optimizer.param_groups):
        raise FinderError("ceiling: maximize=True climbs the loss. Minimize its negative instead.")
    return FORMULAS[type(optimizer)]


def _decays(optimizer: Any, group: Held) -> tuple[float, float]:
    """Weight decay that is added to the gradient, and that goes its own way."""
    decay = float(group["weight_decay"])
    apart = group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))
    return (0.0, decay) if apart else (decay, 0.0)


def _sgd(group: Held, state: Held, settled: Settled) -> tuple[float, None]:
    b = float(group["momentum"])
    return gain(b, dampening=float(group["dampening"]) if b else 0.0, nesterov=group["nesterov"]), None


def _adam(group: Held, state: Held, settled: Settled) -> tuple[float, Tensor]:
    b1, b2 = map(float, group["betas"])
    t = float(state.get("step", 0))
    seen = state.get("max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq")
    square = seen / (1 - b2**t) if seen is not None and t else settled()[1]
    return gain(b1, dampening=b1), square.sqrt() + group["eps"]


def _nadam(group: Held, state: Held, settled: Settled) -> tuple[float, Tensor]:
    averaged, root = _adam(group, state, settled)
    b1, t = float(group["betas"][0]), float(state.get("step", 0))
    now, following = (b1 * (1 - 0.5 * 0.96 ** (i * group["momentum_decay"])) for i in (t + 1, t + 2))
    return 1 - now + following * averaged, root


def _rmsprop(group: Held, state: Held, settled: Settled) -> tuple[float, Tensor]:
    used = bool(float(state.get("step", 0)))
    square = state["square_avg"] if used else settled()[1]
    if group["centered"]:
        mean = state["grad_avg"] if used else settled()[0]
        square = (square - mean**2).clamp_(min=0)
    return gain(float(group["momentum"])), square.sqrt() + group["eps"]


def _adagrad(group: Held, state: Held, settled: Settled) -> tuple[float, Tensor]:
    t = float(state.get("step", 0))
    square = state["sum"] if t else settled()[1] + group["initial_accumulator_value"]
    return 1 / (1 + t * group["lr_decay"]), square.sqrt() + group["eps"]


FORMULAS: dict[type, Formula] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
    torch.optim.NAdam: _nadam,
    torch.optim.RMSprop: _rmsprop,
    torch.optim.Adagrad: _adagrad,
}
"""The optimizers whose response to curvature is known, exactly these classes: a subclass may update otherwise."""
