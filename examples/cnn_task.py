"""A convolutional network for images, with batch normalization and dropout.

Run it: ``ratewise compare examples/cnn_task.py:task -s step_decay -s cosine -s one_cycle``.
"""

from sklearn.datasets import load_digits
from torch import nn

from ratewise import Task

images, labels = load_digits(return_X_y=True)


def network() -> nn.Module:
    """Eight by eight pixels in, ten logits out."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


task = Task(
    "my-digits",
    data=(images.reshape(-1, 1, 8, 8) / 16, labels),
    model=network,
    steps=300,
    batch_size=32,
)
