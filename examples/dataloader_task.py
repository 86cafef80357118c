"""A DataLoader of one's own: its sampling and augmentation stay as they are, and are the same for every strategy.

Run it: ``ratewise compare examples/dataloader_task.py:task -s cosine -s one_cycle``.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split

from ratewise import Task


class Digits(Dataset):
    """Handwritten digits; in training each is moved by up to one pixel and blurred by noise."""

    def __init__(self, augmented: bool) -> None:
        images, labels = load_digits(return_X_y=True)
        self.images = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
        self.labels, self.augmented = torch.tensor(labels), augmented

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        if self.augmented:
            image = image.roll(tuple(torch.randint(-1, 2, (2,)).tolist()), (1, 2)) + 0.1 * torch.randn(1, 8, 8)
        return image, self.labels[i]


def part(k: int, augmented: bool = False) -> Dataset:
    """One of three parts, the same in every process."""
    return random_split(Digits(augmented), (0.6, 0.2, 0.2), torch.Generator().manual_seed(0))[k]


task = Task(
    "my-moved-digits",
    data={
        "train": DataLoader(part(0, augmented=True), batch_size=32, shuffle=True, drop_last=True),
        "valid": DataLoader(part(1), batch_size=100),
        "test": DataLoader(part(2), batch_size=100),
    },
    model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
    steps=200,
    batch_size=32,
)
