"""A language model: whole sequences as inputs, the same moved by one as targets, a gradient that is clipped.

Run it: ``ratewise compare examples/language_model_task.py:task -s warmup_cosine -s adamw``.
"""

import textwrap
from pathlib import Path

import numpy as np
from torch import nn

from ratewise import Task

CONTEXT = 16
text = np.frombuffer(Path(textwrap.__file__).read_bytes(), dtype=np.uint8)  # read your own file here
windows = np.lib.stride_tricks.sliding_window_view(text % 128, CONTEXT + 1)[:8000]
cuts = {"train": windows[:6000], "valid": windows[6050:7000:5], "test": windows[7050::5]}  # no text in two of them


class LanguageModel(nn.Module):
    """A recurrent network that predicts the next character at every place."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.past, self.head = nn.Embedding(128, 16), nn.GRU(16, 32, batch_first=True), nn.Linear(32, 128)

    def forward(self, characters):
        """``(batch, context)`` whole numbers to ``(batch, context, 128)`` logits."""
        return self.head(self.past(self.embed(characters))[0])


task = Task(
    "my-text",
    data={name: (part[:, :-1], part[:, 1:]) for name, part in cuts.items()},
    model=LanguageModel,
    steps=200,
    clip_norm=1.0,
)
