"""The curvature that a Keras optimizer sees, by differentiating the compiled loss of a few batches twice.

The loss is a pure function of the trainable variables inside Keras' ``StatelessScope``: nothing is written, and
dropout is the same in every evaluation. Differentiating it is the backend's part.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from ratewise.errors import FinderError
from ratewise.finder.curvature import Ceiling, ceiling, gain
from ratewise.keras import attach
from ratewise.keras.snapshot import seed_all

BATCHES = 8
"""The loss is that of so many batches, at most."""

FLOOR = 1e-6
"""Roots of second moments are taken to be at least this part of the largest: smaller gradients are rounding, as those
of a bias in front of a batch normalization are, and to divide by them would blow up the rounding of the Hessian."""

_NORMALIZING = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
)
"""Layers over ``tf.nn.moments``, which takes the mean in the variance for a constant: right once, wrong twice."""

_KNOWN = ("SGD", "Adam", "AdamW", "RMSprop")


def measured(model: Any, batches: Sequence[Any], seed: int = 0) -> Ceiling:
    """Return the rate at which the mean loss of the batches becomes unstable, at the present state.

    Second moments are those of the optimizer; one that has made no update is taken to have settled ones, the mean
    squares of the batches' gradients.

    Args:
        model: Compiled; its optimizer is Keras' SGD, Adam, AdamW or RMSprop, or ours.
        batches: At least one, in tensors of the backend.
        seed: Fixes the first vector.

    Raises:
        FinderError: No formula is known for the optimizer, the model trains in a way of its own, or the backend cannot
            differentiate its loss twice.
    """
    optimizer = attach.inner(model.optimizer)
    name = next((kind.__name__ for kind in type(optimizer).__mro__ if kind.__module__.startswith("keras.")), "")
    if name not in _KNOWN or getattr(optimizer, "amsgrad", False) or getattr(optimizer, "centered", False):
        raise FinderError(f"ceiling: how {type(optimizer).__name__} weighs curvature is not known.")
    if type(model).train_step is not keras.Model.train_step:
        raise FinderError("ceiling: the model has a train_step of its own, so its loss is not known.")
    if keras.backend.backend() == "tensorflow" and any(
        isinstance(layer, _NORMALIZING) and layer.trainable for layer in model._flatten_layers()
    ):
        raise FinderError("ceiling: TensorFlow's second derivatives of normalizations are wrong.")
    variables = model.trainable_variables
    start = [keras.ops.copy(v) for v in variables]
    gradients, products = _differentiated(lambda values, batch: _loss(model, variables, values, batch, seed))

    def mean(flats: Sequence[Any]) -> Any:
        return sum(flats) / len(flats)

    def settled() -> Any:
        return mean([_flat(gradients(start, batch)) ** 2 for batch in batches])

    top, root = _weighing(name, optimizer, variables, settled)
    scale = 1 / np.sqrt(np.maximum(root, FLOOR * root.max()))
    decay = float(optimizer.weight_decay or 0.0) / top

    def product(vector: Any) -> Any:
        along = _split(scale * vector, start)
        return scale * mean([_flat(products(start, along, batch)) for batch in batches]) + decay * vector

    first = np.random.default_rng(seed).standard_normal(sum(math.prod(v.shape) for v in variables))
    return ceiling(
        product, first, lambda a, b: float(np.dot(a, b)), gain=top, preconditioned=name not in ("SGD",)
    )  # fmt: skip


def _weighing(name: str, optimizer: Any, variables: Sequence[Any], settled: Callable[[], Any]) -> tuple[float, Any]:
    """The gain, and the root by which a gradient is divided."""
    if name == "SGD":
        momentum = optimizer.momentum
        return gain(momentum, nesterov=bool(momentum) and optimizer.nesterov), np.ones(1)
    t = attach.updates(optimizer)
    held = [keras.ops.copy(v) for v in optimizer.variables if v.name.endswith("_velocity")]
    if t and len(held) != len(variables):
        raise FinderError("ceiling: the optimizer's second moments are not found.")
    if name == "RMSprop":
        square = _flat(held) if t else settled()
        return gain(optimizer.momentum), np.sqrt(square + optimizer.epsilon)
    square = _flat(held) / (1 - optimizer.beta_2**t) if t else settled()
    return gain(optimizer.beta_1, dampening=optimizer.beta_1), np.sqrt(square) + optimizer.epsilon


def _loss(model: Any, variables: Sequence[Any], values: Sequence[Any], batch: Any, seed: int) -> Any:
    """The compiled loss in training mode, as a function of the values of the variables."""
    seed_all(seed)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True)), collect_losses=True):
        return model.compute_loss(x=x, y=y, y_pred=model(x, training=True), sample_weight=sample_weight)


def _flat(values: Sequence[Any]) -> Any:
    """One vector of numpy."""
    return np.concatenate([np.asarray(keras.ops.convert_to_numpy(v), "float64").reshape(-1) for v in values])


def _split(vector: Any, like: Sequence[Any]) -> list[Any]:
    ends = np.cumsum([math.prod(v.shape) for v in like])[:-1]
    return [
        keras.ops.convert_to_tensor(part.reshape(tuple(v.shape)), v.dtype)
        for part, v in zip(np.split(vector, ends), like, strict=True)
    ]


def _differentiated(loss: Callable[[Any, Any], Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``gradients(values, batch)`` and ``products(values, along, batch)``, the Hessian times a vector."""
    return {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}[keras.backend.backend()](loss)


def _on_tensorflow(loss: Callable[[Any, Any], Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import tensorflow as tf

    def gradients(values: Any, batch: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(values)
            value = loss(values, batch)
        found = tape.gradient(value, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(g) for g in found]  # those of an embedding are sparse

    def products(values: Any, along: Any, batch: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(values)
            inner = gradients(values, batch)
        return tape.gradient(
            inner, values, output_gradients=along, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )  # fmt: skip

    return tf.function(gradients, reduce_retracing=True), tf.function(products, reduce_retracing=True)


def _on_jax(loss: Callable[[Any, Any], Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import jax

    gradients = jax.grad(loss)

    def products(values: Any, along: Any, batch: Any) -> Any:
        return jax.jvp(lambda at: gradients(at, batch), (values,), (along,))[1]

    return jax.jit(gradients), jax.jit(products)


def _on_torch(loss: Callable[[Any, Any], Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import torch

    def differentiate(values: Any, batch: Any, again: bool) -> tuple[Any, Any]:
        ours = [value.detach().requires_grad_() for value in values]
        return ours, torch.autograd.grad(loss(ours, batch), ours, create_graph=again, materialize_grads=True)

    def products(values: Any, along: Any, batch: Any) -> Any:
        ours, found = differentiate(values, batch, again=True)
        curved = [(g, v) for g, v in zip(found, along, strict=True) if g.requires_grad]
        if not curved:  # a linear loss
            return [torch.zeros_like(value) for value in ours]
        outputs, towards = zip(*curved, strict=True)
        return torch.autograd.grad(outputs, ours, towards, materialize_grads=True)

    return lambda values, batch: differentiate(values, batch, again=False)[1], products
