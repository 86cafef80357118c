"""The small Keras models of the built-in tasks, twins of ``ratewise.torch.models`` (same initial distributions)."""

from typing import Any

import keras
from keras import layers


def _start(inputs: int) -> dict[str, keras.initializers.Initializer]:
    """How ``torch.nn.Linear`` and ``Conv2d`` start: weights and bias uniform in ±1/sqrt(inputs of a unit)."""
    start = keras.initializers.RandomUniform(-(inputs**-0.5), inputs**-0.5)
    return {"kernel_initializer": start, "bias_initializer": start.clone()}


def _dense(inputs: int, units: int, activation: str | None = None) -> layers.Dense:
    return layers.Dense(units, activation, **_start(inputs))


def affine(inputs: int, outputs: int) -> keras.Model:
    """Linear or softmax regression, a convex problem: ``(batch, inputs)`` float32 to ``(batch, outputs)``."""
    return keras.Sequential([layers.Input((inputs,)), _dense(inputs, outputs)])


def mlp(inputs: int, hidden: int, classes: int) -> keras.Model:
    """One hidden layer: ``(batch, inputs)`` float32 to ``(batch, classes)`` logits."""
    return keras.Sequential([layers.Input((inputs,)), _dense(inputs, hidden, "relu"), _dense(hidden, classes)])


def sharp(inputs: int, hidden: int, classes: int) -> keras.Model:
    """Three hidden layers, started three times as wide as He et al. advise, so that the loss is sharp at first.

    ``(batch, inputs)`` float32 to ``(batch, classes)`` logits.
    """

    def wide(inputs: int, units: int, activation: str | None = None) -> layers.Dense:
        start = keras.initializers.RandomNormal(stddev=3 * (2 / inputs) ** 0.5)
        return layers.Dense(units, activation, kernel_initializer=start)

    hiddens = [wide(inputs, hidden, "relu"), wide(hidden, hidden, "relu"), wide(hidden, hidden, "relu")]
    return keras.Sequential([layers.Input((inputs,)), *hiddens, wide(hidden, classes)])


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


def cnn(side: int, channels: int, classes: int) -> keras.Model:
    """Two convolutions with pooling: ``(batch, side * side)`` float32 to ``(batch, classes)`` logits."""
    return keras.Sequential(
        [
            layers.Input((side * side,)),
            layers.Reshape((side, side, 1)),
            layers.Conv2D(channels, 3, padding="same", activation="relu", **_start(9)),
            layers.MaxPooling2D(),
            layers.Conv2D(2 * channels, 3, padding="same", activation="relu", **_start(9 * channels)),
            layers.MaxPooling2D(),
            layers.Flatten(),
            _dense(2 * channels * (side // 4) ** 2, classes),
        ]
    )


class _Places(layers.Layer):  # type: ignore[misc]
    """Adds a vector that is learned for each position."""

    def build(self, shape: tuple[int | None, int, int]) -> None:
        self.place = self.add_weight(shape=shape[1:], initializer=keras.initializers.RandomNormal(stddev=1.0))

    def call(self, inputs: Any) -> Any:
        return inputs + self.place


def decoder(characters: int, context: int, width: int, heads: int) -> keras.Model:
    """A transformer of one block: ``(batch, context)`` integers to ``(batch, context, characters)`` logits."""
    normal = keras.initializers.RandomNormal(stddev=1.0)
    inputs = layers.Input((context,), dtype="int64")
    h = _Places()(layers.Embedding(characters, width, embeddings_initializer=normal)(inputs))
    attention = layers.MultiHeadAttention(heads, width // heads, **_start(width))
    before = _norm()(h)
    h = h + attention(before, before, use_causal_mask=True)
    h = h + _dense(4 * width, width)(_dense(width, 4 * width, "relu")(_norm()(h)))
    return keras.Model(inputs, _dense(width, characters)(_norm()(h)))


def _norm() -> layers.LayerNormalization:
    return layers.LayerNormalization(epsilon=1e-5)
