"""A regression with a loss of one's own: numbers as targets, ``loss(output, target)`` the mean over a batch.

Run it: ``ratewise compare examples/regression_task.py:task -s fixed -s linear``.
"""

from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale
from torch import nn

from ratewise import Task

inputs, progress = load_diabetes(return_X_y=True)

task = Task(
    "my-patients",
    data=(scale(inputs), scale(progress)[:, None]),  # targets have the shape of the model's output
    model=lambda: nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1)),
    loss=nn.HuberLoss(),  # or "mse"
    steps=200,
)
