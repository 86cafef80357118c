"""The curvature that an optimizer of optax sees.

An optimizer of optax is a closure: neither its momentum nor its epsilon can be read. So its response is measured: what
it makes of gradients that change their sign at every update, as those at the edge of stability do. That is exact for
chains, masks and groups of any kind, and needs no formula.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from ratewise.errors import FinderError
from ratewise.finder.curvature import Ceiling, ceiling
from ratewise.optax.driven import Driven
from ratewise.optax.injected import KEEPERS
from ratewise.optax.states import InjectState

BATCHES = 8
"""The loss is that of so many batches, at most."""

LONGEST = 4096
"""Updates within which an optimizer must settle."""

_GROUPS = optax.PartitionState if hasattr(optax, "PartitionState") else optax.MultiTransformState  # before 0.2.4
_MOMENTS = (optax.ScaleByAdamState, optax.ScaleByAmsgradState, optax.ScaleByRmsState)
_LINEAR = (optax.TraceState, optax.EmaState)
_OTHERS = (InjectState, *KEEPERS, _GROUPS, optax.EmptyState, optax.MaskedState, optax.ScaleByScheduleState)
"""States of what settles: by second moments, linear in the gradients, and what holds or scales these."""


def measured(
    loss: Callable[[Any, Any], Any], params: Any, optimizer: Driven, batches: Sequence[Any], seed: int = 0
) -> Ceiling:  # fmt: skip
    """Return the rate at which the mean loss of the batches becomes unstable.

    Second moments are taken as settled: as the mean squares of the gradients of the batches.

    Args:
        loss: ``loss(params, batch)``, one number, pure: the same at every evaluation.
        params: Arrays of floats.
        optimizer: At any state.
        batches: At least one.
        seed: Of the first vector.

    Raises:
        FinderError: The optimizer's response is not known, or the loss is not twice differentiable.
    """
    narrow, unravel = ravel_pytree(params)
    if jnp.iscomplexobj(narrow):
        raise FinderError("ceiling: the curvature along complex parameters is not computed. Leave them out of params.")
    flat = narrow.astype(jnp.promote_types(narrow.dtype, jnp.float32))

    def tree(vector: Any) -> Any:
        return unravel(vector.astype(narrow.dtype))

    scales = any(isinstance(state, _MOMENTS) for state in _parts(optimizer.state))

    def gradient(at: Any, batch: Any) -> Any:
        return _ravelled(jax.grad(loss)(tree(at), batch), flat)

    twice = jax.jit(lambda along, batch: jax.jvp(partial(gradient, batch=batch), (flat,), (along,)))

    def mean(of: Callable[[Any], Any]) -> Any:
        return sum(map(of, batches)) / len(batches)

    usual = jnp.sqrt(mean(lambda batch: twice(flat, batch)[0] ** 2))
    if not jnp.isfinite(usual).all():
        raise FinderError("ceiling: the gradients are not finite at this state. Check the loss and the data.")
    if not scales:  # all alike, so that those without a gradient count
        usual = jnp.full_like(flat, jnp.sqrt((usual**2).mean()) or 1.0)
    answer = partial(_settled, jax.jit(partial(_answer, optimizer, flat, tree)))
    weight = answer(usual, 0.0)
    if not scales and not jnp.allclose(answer(2 * usual, 0.0), 2 * weight, rtol=0.01):
        raise FinderError("ceiling: the optimizer clips gradients or takes their signs here, so it has no fixed edge.")
    decay = jnp.maximum((answer(usual, 0.01) - weight) / 0.01, 0.0)
    highest = float(weight.max() if scales else (weight / usual).max())
    if not (highest > 0 and weight.min() >= 0):
        raise FinderError("ceiling: the optimizer goes up the loss, or nowhere. Give one that minimizes.")
    root = jnp.sqrt(jnp.where(usual > 0, weight / usual / highest, 0.0))

    def product(vector: Any) -> Any:
        along = root * vector
        return root * mean(lambda batch: twice(along, batch)[1]) + decay / highest * vector

    start = jax.random.normal(jax.random.key(seed), flat.shape, flat.dtype)
    return ceiling(product, start, lambda a, b: float(a @ b), gain=highest, preconditioned=scales)


def _ravelled(tree: Any, like: Any) -> Any:
    return ravel_pytree(tree)[0].astype(like.dtype)


def _answer(optimizer: Driven, flat: Any, tree: Callable[[Any], Any], gradients: Any, shift: Any, updates: Any) -> Any:
    """What alternates in the last of some updates at the rate 1, of gradients and parameters that do."""

    def update(i: Any, carry: Any) -> Any:
        state, last, _ = carry
        sign = (1 - 2 * (i % 2)).astype(flat.dtype)
        moved, state = optimizer.update(
            jnp.ones((), flat.dtype), tree(sign * gradients), state, tree(flat + sign * shift), jnp.zeros(())
        )
        return state, -sign * _ravelled(moved, flat), last

    nothing = jnp.zeros_like(flat)
    _, last, before = jax.lax.fori_loop(0, updates, update, (_anew(optimizer.state), nothing, nothing))
    return (last + before) / 2  # what does not alternate, such as the decay of the parameters themselves, cancels


def _settled(answer: Callable[..., Any], gradients: Any, shift: float) -> Any:
    """The answer after so many updates that more do not change it."""
    updates, found = 64, answer(gradients, shift, 64)
    while updates < LONGEST:
        updates, before, found = 2 * updates, found, answer(gradients, shift, 2 * updates)
        if jnp.allclose(found, before, rtol=0.002, atol=1e-30):
            return found
    raise FinderError(
        f"ceiling: the optimizer's response does not settle in {LONGEST} updates, so at what rate it is stable changes "
        "all the time."
    )


def _anew(state: Any) -> Any:
    """The state with momenta and second moments at 0."""
    return jax.tree.map(
        lambda part: jax.tree.map(jnp.zeros_like, part) if isinstance(part, (*_MOMENTS, *_LINEAR)) else part,
        state, is_leaf=lambda part: isinstance(part, (*_MOMENTS, *_LINEAR)),
    )  # fmt: skip


def _parts(state: Any) -> Iterator[Any]:
    """Every state inside.

    Raises:
        FinderError: What one of them does is not known.
    """
    if hasattr(state, "_fields"):
        if not isinstance(state, (*_MOMENTS, *_LINEAR, *_OTHERS)):
            name = type(state).__name__
            raise FinderError(f"ceiling: how the optimizer with {name} weighs curvature is not known.")
        yield state
    if isinstance(state, (*_MOMENTS, *_LINEAR)):
        return
    if isinstance(state, dict):
        state = tuple(state.values())
    if isinstance(state, (tuple, list)):
        for part in state:
            yield from _parts(part)
