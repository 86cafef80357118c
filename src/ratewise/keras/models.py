"""The small Keras models of the built-in tasks, twins of ``ratewise.torch.models`` (same initial distributions)."""

import keras
from keras import layers


def _dense(inputs: int, units: int, activation: str | None = None) -> layers.Dense:
    """A dense layer that starts as ``torch.nn.Linear`` does: weights and bias uniform in ±1/sqrt(inputs)."""
    start = keras.initializers.RandomUniform(-(inputs**-0.5), inputs**-0.5)
    return layers.Dense(units, activation, kernel_initializer=start, bias_initializer=start.clone())


def mlp(inputs: int, hidden: int, classes: int) -> keras.Model:
    """One hidden layer: ``(batch, inputs)`` float32 to ``(batch, classes)`` logits."""
    return keras.Sequential([layers.Input((inputs,)), _dense(inputs, hidden, "relu"), _dense(hidden, classes)])


def char_mlp(characters: int, context: int, width: int, hidden: int) -> keras.Model:
    """A feed-forward language model: ``(batch, context)`` integers to ``(batch, characters)`` logits."""
    embed = layers.Embedding(characters, width, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0))
    return keras.Sequential(
        [
            layers.Input((context,), dtype="int64"),
            embed,
            layers.Flatten(),
            _dense(context * width, hidden, "tanh"),
            _dense(hidden, characters),
        ]
    )
