"""A small task in any precision: what an engine asks of a task, and no more."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(160, 6))
Y = (X[:, :3] + 0.5 * RNG.normal(size=(160, 3))).argmax(1)
TOKENS = RNG.integers(0, 12, size=(160, 7))


@dataclass
class Toy:
    """What an engine asks of a task, in any precision."""

    model: Any
    inputs: Any = None
    targets: Any = None
    clip_norm: float | None = None
    loss: Any = "cross_entropy"
    metric: str = "accuracy"
    batch_size: int = 16
    streamed: bool = False
    name: str = "toy"

    @property
    def splits(self):
        inputs = X if self.inputs is None else self.inputs
        targets = Y if self.targets is None else self.targets
        parts = {"train": slice(0, 100), "valid": slice(100, 130), "test": slice(130, 160)}
        return {name: (inputs[part], targets[part]) for name, part in parts.items()}

    def order(self, seed, steps):
        return np.random.default_rng(seed).integers(0, 100, size=(steps, self.batch_size))

    def stream(self, seed, steps):
        inputs, targets = self.splits["train"]
        for batch in self.order(seed, steps):
            yield inputs[batch], targets[batch]


def mlp(dtype=torch.float64, *between):
    return nn.Sequential(nn.Linear(6, 8), *between, nn.Tanh(), nn.Linear(8, 3)).to(dtype)
