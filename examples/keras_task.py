"""A task for Keras, on any of its backends.

Run it: ``ratewise compare examples/keras_task.py:task --engine keras -s cosine -s one_cycle``.
"""

import keras
from keras import layers
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale

from ratewise import Task

inputs, classes = load_wine(return_X_y=True)

task = Task(
    "my-wines",
    data=(scale(inputs), classes),
    model=None,  # a PyTorch model could stand here too: the same task for both
    keras_model=lambda: keras.Sequential([layers.Input((13,)), layers.Dense(32, "relu"), layers.Dense(3)]),  # logits
    steps=150,
)
