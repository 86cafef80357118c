"""``ceiling`` for JAX: the rate at which curvature makes training unstable."""

from collections.abc import Callable
from typing import Any

import optax

from ratewise.errors import FinderError
from ratewise.finder.curvature import Ceiling
from ratewise.optax.find import OptaxTrainable


def ceiling(
    loss: Callable[..., Any], params: Any, batches: Any, optimizer: Any = optax.adam, *, opt_state: Any = None,
    state: Any = None, key: Any = None, seed: int = 0,
) -> Ceiling:  # fmt: skip
    """Return the rate above which the present curvature makes training unstable.

    It is 2 / lambda for gradient descent, 2 (1 + b) / lambda with momentum b, with lambda the largest curvature of the
    mean loss over the first batches, at most 8. Of an optimizer that divides by second moments, lambda is that of the
    preconditioned Hessian, with settled moments: the mean squares of the gradients at ``params``, whatever
    ``opt_state`` holds. How the optimizer answers is measured, so decay, masks and groups count.

    It is about the present state, and no suggestion: curvature falls where rates are high, in the first updates of many
    networks quickly, so that higher rates than this may train.

    Args:
        loss: As for ``find_lr``; twice differentiable.
        params: The same.
        batches: The same. One batch is enough: ``[batch]`` is the loss over the whole data.
        optimizer: The same: made of descent, momentum, Adam, RMSprop and their kin.
        opt_state: The state whose rates and masks count; a new one by default.
        state: As for ``find_lr``.
        key: The same; dropout is the same in all evaluations.
        seed: Fixes dropout and the first vector.

    Returns:
        A ``Ceiling``; its ``rate`` is infinite where no direction curves upwards.

    Raises:
        FinderError: How the optimizer weighs curvature is not known, or the loss is not finite or not twice
            differentiable.

    Example:
        >>> import jax.numpy as jnp
        >>> from functools import partial
        >>> loss = lambda params, batch: ((batch @ params) ** 2).mean()
        >>> batch = jnp.array([[2.0, 0.0], [0.0, 1.0]])  # curvatures 4 and 1
        >>> found = ceiling(loss, jnp.ones(2), [batch], partial(optax.sgd, momentum=0.9))
        >>> round(found.sharpness, 2), round(found.rate, 2), round(found.utilisation(0.1), 2)
        (4.0, 0.95, 0.11)
    """
    try:
        trainable = OptaxTrainable(loss, params, batches, optimizer, opt_state=opt_state, state=state, key=key)
        try:
            return trainable.curvature(seed)
        finally:
            trainable.restore()
    except FinderError as error:  # what both check, says find_lr
        raise FinderError(str(error).replace("find_lr:", "ceiling:", 1)) from error.__cause__
