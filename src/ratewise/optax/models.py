"""The small JAX models of the built-in tasks, twins of ``ratewise.torch.models``.

The parameters are a dictionary with torch's names, shapes and initial distributions, so the arrays of one can be
given to the other: ``{name: p.detach().numpy() for name, p in module.named_parameters()}``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

Parameters: TypeAlias = dict[str, Any]


class Model(NamedTuple):
    """What a task's ``jax_model`` returns; a Flax module has the same two methods.

    Args:
        init: ``init(key, inputs) -> parameters``, any tree of floating-point arrays.
        apply: ``apply(parameters, inputs) -> output`` for a batch.
    """

    init: Callable[[Any, Any], Any]
    apply: Callable[[Any, Any], Any]


def _uniform(fan_in: int, *shape: int) -> Callable[[Any], Any]:
    """How ``torch.nn.Linear`` and ``Conv2d`` start: weights and bias uniform in ±1/sqrt(inputs of a unit)."""
    return lambda key: jax.random.uniform(key, shape, minval=-(fan_in**-0.5), maxval=fan_in**-0.5)


def _normal(*shape: int) -> Callable[[Any], Any]:
    return lambda key: jax.random.normal(key, shape)


def _dense(name: str, inputs: int, units: int) -> dict[str, Callable[[Any], Any]]:
    return {f"{name}.weight": _uniform(inputs, units, inputs), f"{name}.bias": _uniform(inputs, units)}


def _conv(name: str, inputs: int, channels: int) -> dict[str, Callable[[Any], Any]]:
    fan_in = 9 * inputs
    return {f"{name}.weight": _uniform(fan_in, channels, inputs, 3, 3), f"{name}.bias": _uniform(fan_in, channels)}


def _norm(name: str, width: int) -> dict[str, Callable[[Any], Any]]:
    return {f"{name}.weight": lambda key: jnp.ones(width), f"{name}.bias": lambda key: jnp.zeros(width)}


def _model(start: dict[str, Callable[[Any], Any]], apply: Callable[[Parameters, Any], Any]) -> Model:
    """A model whose parameters are drawn by ``start``, each with a key of its own."""

    def init(key: Any, inputs: Any) -> Parameters:
        keys = jax.random.split(key, len(start))
        return {name: draw(own) for own, (name, draw) in zip(keys, start.items(), strict=True)}

    return Model(init, apply)


def linear(p: Parameters, name: str, x: Any) -> Any:
    """``x @ weight.T + bias``."""
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def norm(p: Parameters, name: str, x: Any) -> Any:
    """Layer normalization over the last axis, epsilon 1e-5."""
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * p[f"{name}.weight"] + p[f"{name}.bias"]


def affine(inputs: int, outputs: int) -> Model:
    """Linear or softmax regression, a convex problem: ``(batch, inputs)`` to ``(batch, outputs)``."""

    def apply(p: Parameters, x: Any) -> Any:
        return linear(p, "0", x)

    return _model(_dense("0", inputs, outputs), apply)


def mlp(inputs: int, hidden: int, classes: int) -> Model:
    """One hidden layer: ``(batch, inputs)`` to ``(batch, classes)`` logits."""

    def apply(p: Parameters, x: Any) -> Any:
        return linear(p, "2", jax.nn.relu(linear(p, "0", x)))

    return _model(_dense("0", inputs, hidden) | _dense("2", hidden, classes), apply)


def sharp(inputs: int, hidden: int, classes: int) -> Model:
    """Three hidden layers, started three times as wide as He et al. advise, so that the loss is sharp at first.

    ``(batch, inputs)`` to ``(batch, classes)`` logits.
    """

    def wide(name: str, inputs: int, units: int) -> dict[str, Callable[[Any], Any]]:
        draw, scale = _normal(units, inputs), 3 * (2 / inputs) ** 0.5
        return {f"{name}.weight": lambda key: scale * draw(key), f"{name}.bias": lambda key: jnp.zeros(units)}

    def apply(p: Parameters, x: Any) -> Any:
        for name in ("0", "2", "4"):
            x = jax.nn.relu(linear(p, name, x))
        return linear(p, "6", x)

    hidden_layers = wide("0", inputs, hidden) | wide("2", hidden, hidden) | wide("4", hidden, hidden)
    return _model(hidden_layers | wide("6", hidden, classes), apply)


def char_mlp(characters: int, context: int, width: int, hidden: int) -> Model:
    """A feed-forward language model: ``(batch, context)`` integers to ``(batch, characters)`` logits."""

    def apply(p: Parameters, x: Any) -> Any:
        return linear(p, "4", jnp.tanh(linear(p, "2", p["0.weight"][x].reshape(len(x), -1))))

    layers = _dense("2", context * width, hidden) | _dense("4", hidden, characters)
    return _model({"0.weight": _normal(characters, width), **layers}, apply)


def cnn(side: int, channels: int, classes: int) -> Model:
    """Two convolutions with pooling: ``(batch, side * side)`` to ``(batch, classes)`` logits."""

    def apply(p: Parameters, x: Any) -> Any:
        h = x.reshape(-1, 1, side, side)
        for name in ("1", "4"):
            dimensions = ("NCHW", "OIHW", "NCHW")
            h = jax.lax.conv_general_dilated(h, p[f"{name}.weight"], (1, 1), "SAME", dimension_numbers=dimensions)
            h = jax.nn.relu(h + p[f"{name}.bias"][:, None, None])
            n, c, height, width = h.shape
            h = h[:, :, : height // 2 * 2, : width // 2 * 2].reshape(n, c, height // 2, 2, width // 2, 2).max((3, 5))
        return linear(p, "8", h.reshape(len(h), -1))

    layers = _conv("1", 1, channels) | _conv("4", channels, 2 * channels)
    return _model(layers | _dense("8", 2 * channels * (side // 4) ** 2, classes), apply)


def decoder(characters: int, context: int, width: int, heads: int) -> Model:
    """A transformer of one block: ``(batch, context)`` integers to ``(batch, context, characters)`` logits."""

    def attention(p: Parameters, h: Any) -> Any:
        n, length, _ = h.shape
        parts = linear(p, "into", h).reshape(n, length, 3, heads, -1)
        q, k, v = (parts[:, :, i].swapaxes(1, 2) for i in range(3))
        scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
        past = jnp.where(jnp.triu(jnp.ones((length, length), bool), 1), -jnp.inf, scores)
        return linear(p, "out", (jax.nn.softmax(past) @ v).swapaxes(1, 2).reshape(n, length, -1))

    def apply(p: Parameters, x: Any) -> Any:
        h = p["embed.weight"][x] + p["place"]
        h = h + attention(p, norm(p, "before", h))
        h = h + linear(p, "back", jax.nn.relu(linear(p, "wide", norm(p, "after", h))))
        return linear(p, "head", norm(p, "last", h))

    start = {"place": _normal(context, width), "embed.weight": _normal(characters, width)}
    for name in ("before", "after", "last"):
        start |= _norm(name, width)
    start |= _dense("into", width, 3 * width) | _dense("out", width, width)
    start |= _dense("wide", width, 4 * width) | _dense("back", 4 * width, width) | _dense("head", width, characters)
    return _model(start, apply)
