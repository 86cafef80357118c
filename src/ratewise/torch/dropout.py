"""Dropout that a seed fixes: whether an element is dropped depends on seed, update, module, call and place alone.

A generator's mask depends on what was drawn before, so runs in lockstep could never drop what each would drop alone.
Here the mask is a hash of a counter (Salmon et al., 2011), whose key is held as a buffer: one key for every run.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ratewise.errors import TaskError

KINDS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""Classes that are replaced; of subclasses nothing is known."""

_WHOLE = {nn.Dropout1d: 3, nn.Dropout2d: 4, nn.Dropout3d: 5}
"""Dimensions of a batch, for classes that drop whole channels."""


class Keyed(nn.Module):
    """What takes the place of a dropout module: another mask at each call of a pass, the same in all of an update's.

    Args:
        p: Probability that an element is dropped, in [0, 1].
        inplace: Whether the input is changed.
        kind: The class that it stands for.
    """

    key: Tensor

    def __init__(self, p: float, inplace: bool, kind: type[Any]) -> None:
        super().__init__()
        self.p, self.inplace, self.kind, self.calls = p, inplace, kind, 0
        self.register_buffer("key", torch.zeros(2, dtype=torch.int32), persistent=False)

    def extra_repr(self) -> str:
        """As the module prints that it stands for."""
        return f"p={self.p}, inplace={self.inplace}"

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with elements set to 0 and the others divided by 1 - p, while training.

        Raises:
            TaskError: It was called several times, and a backward pass recomputes one of them: nothing says which.
        """
        if not self.training or self.p == 0.0:
            return x
        kept = keep(called(self.key, self._call()), self._shape(x), self.p).to(x.dtype)
        mask = kept / (1.0 - self.p) if self.p < 1.0 else torch.zeros_like(kept)
        return x.mul_(mask) if self.inplace else x * mask

    def _call(self) -> int:
        """The number of this call in the pass."""
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:  # else this is a backward pass
            self.calls += 1
        elif self.calls > 1:
            raise TaskError(
                "a dropout module that is called several times cannot be recomputed. Use one for each call."
            )
        return max(0, self.calls - 1)

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        """The shape of the mask: single elements, or channels."""
        if self.kind not in _WHOLE:
            return tuple(x.shape)
        batched = x.ndim == _WHOLE[self.kind] or self.kind is nn.Dropout2d  # which takes three dimensions as a batch
        leading = 2 if batched else 1
        return (*x.shape[:leading], *[1] * (x.ndim - leading))


def keep(key: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """Return which elements stay, as booleans: each with probability 1 - p, to 2**-32.

    Args:
        key: Two int32 numbers; the first is odd.
        shape: Of the mask.
        p: Probability that an element is dropped.
    """
    h = _hashed(torch.arange(math.prod(shape), dtype=torch.int32, device=key.device) * key[0] + key[1])
    dropped = round(p * 2**32) - 2**31  # of the numbers from -2**31 on
    return (h >= min(dropped, 2**31 - 1)).reshape(*shape)


def called(key: Tensor, call: int) -> Tensor:
    """Return the key of a call: of the first, number 0, it is the module's own."""
    if call == 0:
        return key
    step = (call * 0x9E3779B9 + 2**31) % 2**32 - 2**31  # as int32
    return _hashed(key + step) | torch.tensor([1, 0], dtype=key.dtype, device=key.device)


def _hashed(h: Tensor) -> Tensor:
    """A one-to-one mixture of all int32 numbers.

    References:
        Wellons, 2018, Prospecting for Hash Functions (lowbias32). https://nullprogram.com/blog/2018/07/31/
    """
    h = h ^ ((h >> 16) & 0xFFFF)
    h = h * 0x7FEB352D
    h = h ^ ((h >> 15) & 0x1FFFF)
    h = h * (0x846CA68B - 2**32)
    return h ^ ((h >> 16) & 0xFFFF)


def keys(seeds: Sequence[int], update: int, modules: int) -> NDArray[np.int32]:
    """Return the keys of an update, of shape ``(modules, seeds, 2)``.

    References:
        Steele, Lea and Flood, 2014, Fast Splittable Pseudorandom Number Generators (SplitMix64).
    """
    with np.errstate(over="ignore"):
        h = _mixed(np.array([seed % 2**64 for seed in seeds], dtype=np.uint64))
        h = _mixed(h[None, :] + np.arange(modules, dtype=np.uint64)[:, None])
        h = _mixed(h + np.uint64(update))
    return (h | np.uint64(1)).view(np.int32).reshape(*h.shape, 2)


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def keyed(model: nn.Module) -> list[str]:
    """Replace every dropout module of a model, and have it count their calls anew whenever it is called itself.

    Returns:
        The names of their keys among the model's buffers, in order.
    """
    twins: dict[int, Keyed] = {}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children() names a child once
            if isinstance(child, KINDS) and type(child) in KINDS:
                twin = twins.setdefault(id(child), Keyed(child.p, child.inplace, type(child)))
                twin.training = child.training
                setattr(parent, name, twin)
    if twins:
        model.register_forward_pre_hook(_counted_anew)
    return [f"{name}.key" for name, module in model.named_modules() if isinstance(module, Keyed)]


def _counted_anew(model: nn.Module, _: Any) -> None:
    for module in model.modules():
        if isinstance(module, Keyed):
            module.calls = 0


def write_keys(model: nn.Module, names: Sequence[str], seed: int, update: int) -> None:
    """Give the replaced modules of a model in training the keys of an update."""
    if names:
        for name, key in zip(names, keys([seed], update, len(names)), strict=True):
            model.get_buffer(name).copy_(torch.from_numpy(key[0]))
