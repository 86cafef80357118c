"""A task for JAX: a Flax module, or any object that has ``init(key, inputs)`` and ``apply(params, inputs)`` too.

Run it: ``ratewise compare examples/jax_task.py:task --engine jax -s cosine -s one_cycle``.
"""

from flax import linen as nn
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale

from ratewise import Task

inputs, classes = load_wine(return_X_y=True)

task = Task(
    "my-wines",
    data=(scale(inputs), classes),
    model=None,
    jax_model=lambda: nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(3)]),
    steps=150,
)
