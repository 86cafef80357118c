"""A task for PyTorch: a model, data, and a loss that is measured.

Run it: ``ratewise compare examples/torch_task.py:task -s cosine -s one_cycle``.
"""

from sklearn.datasets import load_wine
from sklearn.preprocessing import scale
from torch import nn

from ratewise import Task

inputs, classes = load_wine(return_X_y=True)

task = Task(
    "my-wines",
    data=(scale(inputs), classes),  # split 60:20:20 into train, valid and test, once and for all
    model=lambda: nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3)),
    steps=150,
)
