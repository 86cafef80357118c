"""The small PyTorch models of the built-in tasks; ``ratewise.keras.models`` has their twins."""

from torch import nn


def mlp(inputs: int, hidden: int, classes: int) -> nn.Module:
    """One hidden layer: ``(batch, inputs)`` float32 to ``(batch, classes)`` logits."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def char_mlp(characters: int, context: int, width: int, hidden: int) -> nn.Module:
    """A feed-forward language model: ``(batch, context)`` int64 to ``(batch, characters)`` logits.

    References:
        Bengio et al., 2003, A Neural Probabilistic Language Model. https://jmlr.org/papers/v3/bengio03a.html
    """
    embed = (nn.Embedding(characters, width), nn.Flatten())
    return nn.Sequential(*embed, nn.Linear(context * width, hidden), nn.Tanh(), nn.Linear(hidden, characters))
