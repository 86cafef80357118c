"""The small PyTorch models of the built-in tasks; ``ratewise.keras.models`` has their twins."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def affine(inputs: int, outputs: int) -> nn.Module:
    """Linear or softmax regression, a convex problem: ``(batch, inputs)`` float32 to ``(batch, outputs)``."""
    return nn.Sequential(nn.Linear(inputs, outputs))


def mlp(inputs: int, hidden: int, classes: int) -> nn.Module:
    """One hidden layer: ``(batch, inputs)`` float32 to ``(batch, classes)`` logits."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def sharp(inputs: int, hidden: int, classes: int) -> nn.Module:
    """Three hidden layers, started three times as wide as He et al. advise, so that the loss is sharp at first.

    ``(batch, inputs)`` float32 to ``(batch, classes)`` logits.
    """

    def wide(inputs: int, units: int) -> nn.Linear:
        layer = nn.Linear(inputs, units)
        nn.init.normal_(layer.weight, std=3 * (2 / inputs) ** 0.5)
        nn.init.zeros_(layer.bias)
        return layer

    return nn.Sequential(
        wide(inputs, hidden), nn.ReLU(), wide(hidden, hidden), nn.ReLU(), wide(hidden, hidden), nn.ReLU(),
        wide(hidden, classes),
    )  # fmt: skip


def char_mlp(characters: int, context: int, width: int, hidden: int) -> nn.Module:
    """A feed-forward language model: ``(batch, context)`` int64 to ``(batch, characters)`` logits.

    References:
        Bengio et al., 2003, A Neural Probabilistic Language Model. https://jmlr.org/papers/v3/bengio03a.html
    """
    embed = (nn.Embedding(characters, width), nn.Flatten())
    return nn.Sequential(*embed, nn.Linear(context * width, hidden), nn.Tanh(), nn.Linear(hidden, characters))


def cnn(side: int, channels: int, classes: int) -> nn.Module:
    """Two convolutions with pooling: ``(batch, side * side)`` float32 to ``(batch, classes)`` logits."""
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * channels * (side // 4) ** 2, classes),
    )  # fmt: skip


class Decoder(nn.Module):
    """A transformer of one block: ``(batch, context)`` int64 to ``(batch, context, characters)`` logits.

    Each position sees itself and those before it. Norms stand before attention and feed-forward layer.

    References:
        Vaswani et al., 2017, Attention Is All You Need. https://arxiv.org/abs/1706.03762
    """

    def __init__(self, characters: int, context: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.embed, self.place = nn.Embedding(characters, width), nn.Parameter(torch.randn(context, width))
        self.before, self.after, self.last = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.back = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, characters)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) + self.place
        h = h + self._attention(self.before(h))
        h = h + self.back(functional.relu(self.wide(self.after(h))))
        return self.head(self.last(h))  # type: ignore[no-any-return]

    def _attention(self, h: Tensor) -> Tensor:
        """Softmax of q k / sqrt(width of a head) over the past, times v; spelled out, so that it can be mapped."""
        parts = self.into(h).unflatten(-1, (3, self.heads, -1)).transpose(-4, -2)  # (batch, heads, 3, context, width)
        q, k, v = parts.unbind(-3)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=h.device).triu(1)
        found = scores.masked_fill(future, -torch.inf).softmax(-1) @ v
        return self.out(found.transpose(-3, -2).flatten(-2))  # type: ignore[no-any-return]


def decoder(characters: int, context: int, width: int, heads: int) -> nn.Module:
    """A language model that predicts the next character at every position."""
    return Decoder(characters, context, width, heads)
