"""What our transformations keep in the optimizer's state, and reading it, however deep it lies.

A state holds arrays alone: it can be saved, restored, stacked under ``vmap`` and carried by ``scan``; what the rates
follow is in the transformation. The one decision behind reading: states are found by their type in any tree that JAX
knows, so chains, masks, accumulation and the train states of flax need no code here.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ratewise.core import checks
from ratewise.errors import AdapterError, ScheduleError, nearest


class RuleState(NamedTuple):
    """What a rule has made of the metrics so far.

    Args:
        scale: What the rate is multiplied by.
        memory: The numbers that the rule remembers, in the order of its docstring.
        nans: How many metrics were nan or infinite; each counted as one without improvement.
    """

    scale: Any
    memory: tuple[Any, ...]
    nans: Any


class InjectState(NamedTuple):
    """The state of ``inject``.

    Args:
        count: How many updates happened.
        rates: The value of every hyperparameter that follows a schedule, as the last update used it; before the
            first update as the first will use it.
        scale: What learning rates are multiplied by, initially 1.
        rules: What the rules of the learning rate have seen.
        inner_state: The state of the optimizer itself.
    """

    count: Any
    rates: dict[str, Any]
    scale: Any
    rules: tuple[RuleState, ...]
    inner_state: Any


def rate(state: Any, label: str | None = None) -> Any:
    """Return the learning rate that the last update used; before the first update the one it will use.

    Args:
        state: An optimizer state that holds that of ``inject`` anywhere inside: under ``chain``, ``masked``,
            ``MultiSteps``, ``multi_transform``, ``apply_if_finite``, or in a train state of flax.
        label: Which one, where there are several; ``rates`` shows the labels.

    Raises:
        AdapterError: There is none, or there are several and ``label`` does not say which.

    Example:
        >>> import optax
        >>> from ratewise import Linear
        >>> from ratewise.optax import inject
        >>> optimizer = optax.chain(optax.clip(1.0), inject(optax.sgd, learning_rate=Linear(0.5, 0.0, 4)))
        >>> state = optimizer.init(params := jnp.ones(2))
        >>> _, state = optimizer.update(params, state)
        >>> _, state = optimizer.update(params, state)
        >>> float(rate(state)), int(position(state))
        (0.375, 2)
    """
    return _only(rates(state), label, "rate")


def rates(state: Any) -> dict[str, Any]:
    """Return the learning rates that the last update used, by label.

    The label is the name of ``multi_transform`` or ``named_chain``, or what else tells the place of one from that of
    the others; a single one is called ``"learning_rate"``.

    Args:
        state: As for ``rate``.

    Raises:
        AdapterError: There is none.
    """
    inside = found(state, "rates", lambda ours: "learning_rate" in ours.rates)
    return {label: ours.rates["learning_rate"] for label, ours in inside.items()}


def position(state: Any, label: str | None = None) -> Any:
    """Return how many updates happened: the schedule at this position is the coming rate.

    Args:
        state: As for ``rate``.
        label: Which one, where there are several.

    Raises:
        AdapterError: There is none, or there are several and ``label`` does not say which.
    """
    inside = found(state, "position")
    return _only(inside, label, "position").count


def scaled(state: Any, scale: Any, label: str | None = None) -> Any:
    """Return the state with all learning rates multiplied by ``scale`` from the coming update on.

    It takes the place of an earlier scale. Since the scale is a number in the state and no part of the program, one
    compiled training serves every peak rate, one after the other or side by side under ``vmap``.

    Args:
        state: As for ``rate``.
        scale: A number above 0, traced or not.
        label: Which one, where there are several; all of them if it is not given.

    Raises:
        ScheduleError: ``scale`` is not one number above 0.
        AdapterError: There is nothing to scale, or no such label.
    """
    inside = found(state, "scaled", lambda ours: any(map(is_rate, ours.rates)))
    if label is not None:
        _only(inside, label, "scaled")
    scale = _scale(scale)
    return replaced(state, lambda name, ours: _rescaled(ours, scale) if label in (None, name) else ours)


def found(state: Any, where: str, good: Callable[[InjectState], bool] = lambda ours: True) -> dict[str, InjectState]:
    """Return the states of ``inject`` in ``state`` that are ``good``, by label.

    Raises:
        AdapterError: There is none; ``where`` names the function that looked for it.
    """
    inside = {label: ours for label, ours in _labelled(state) if good(ours)}
    if inside:
        return inside
    raise AdapterError(
        f"{where}: no state of inject with a learning rate is in this {type(state).__name__}. Build the optimizer with "
        "inject(optax.adamw, learning_rate=lr). A restored state needs its types: restore into optimizer.init(params)."
    )


def replaced(state: Any, change: Callable[[str, InjectState], InjectState]) -> Any:
    """Return ``state`` with each state of ``inject`` in it as ``change(label, ours)`` has it."""
    ours = iter(_labelled(state))

    def changed(leaf: Any) -> Any:
        return _dressed(change(*next(ours)), leaf) if _ours(leaf) else leaf

    return jax.tree.map(changed, state, is_leaf=_ours)


def one(state: Any, label: str | None, where: str, good: Callable[[InjectState], bool]) -> str:
    """Return the label of the only state that is ``good``, or check that ``label`` is one of several."""
    inside = found(state, where, good)
    _only(inside, label, where)
    return next(iter(inside)) if label is None else label


def number(where: str, name: str, value: Any) -> Any:
    """Return ``value``, one number, traced or not.

    Raises:
        ScheduleError: It is something else.
    """
    if shape := getattr(value, "shape", ()):
        raise ScheduleError(f"{where}: {name} must be one number, got an array of shape {tuple(shape)}. Take its mean.")
    plain = checks.plain_number(value)
    if isinstance(plain, jax.Array):
        return plain
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise ScheduleError(f"{where}: {name} must be a number, got {checks.shown(value)}.")
    return float(plain)


def counted(count: Any) -> Any:
    """Return the count after one more update, of 32 bits or more; at the largest integer it stays."""
    count = jnp.asarray(count)
    count = count.astype(jnp.int32) if count.dtype.itemsize < 4 else count
    return jnp.maximum(count, count + 1)  # integers of JAX wrap


def _ours(leaf: Any) -> bool:
    return isinstance(leaf, InjectState)


def _bare(state: InjectState) -> InjectState:
    """The state with its arrays alone: flax.nnx puts each into an object of its own."""

    def bare(x: Any) -> Any:
        return next(iter(jax.tree.leaves(x)), None)

    rates = {name: bare(value) for name, value in state.rates.items()}
    rules = tuple(RuleState(bare(scale), tuple(map(bare, memory)), bare(nans)) for scale, memory, nans in state.rules)
    return InjectState(bare(state.count), rates, bare(state.scale), rules, state.inner_state)


def _dressed(state: InjectState, like: InjectState) -> Any:
    """The inverse of ``_bare``."""
    return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(state))


def _labelled(state: Any) -> list[tuple[str, InjectState]]:
    leaves = jax.tree_util.tree_leaves_with_path(state, is_leaf=_ours)
    ours = [(path, leaf) for path, leaf in leaves if _ours(leaf)]
    return list(zip(_labels([path for path, _ in ours]), [_bare(leaf) for _, leaf in ours], strict=True))


def _labels(paths: Sequence[Any]) -> list[str]:
    """The dictionary keys on each path if they tell it from the others, else all of it that does."""
    if len(paths) < 2:
        return ["learning_rate"] * len(paths)
    keys = [[str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)] for path in paths]
    if len({tuple(path) for path in keys}) < len(keys) or not all(keys):
        keys = [[jax.tree_util.keystr((key,)).strip("[].'\"") for key in path] for path in paths]
    before = _shared(keys)
    after = _shared([path[before:][::-1] for path in keys])
    return ["/".join(path[before : len(path) - after]) for path in keys]


def _shared(paths: Sequence[Sequence[str]]) -> int:
    """How many keys all paths begin with, one of each left over."""
    shortest = min(map(len, paths))
    return next((i for i in range(shortest) if len({path[i] for path in paths}) > 1), shortest - 1)


def _only(inside: dict[str, Any], label: str | None, where: str) -> Any:
    if label is not None and label not in inside:
        raise AdapterError(f"{where}: nothing has the label {label!r:.60}.{nearest(label, inside)}")
    if label is None and len(inside) > 1:
        names = ", ".join(map(repr, inside))
        raise AdapterError(f"{where}: the state holds {len(inside)} learning rates. Give label= one of {names}.")
    return next(iter(inside.values())) if label is None else inside[label]


def _scale(scale: Any) -> Any:
    number("scaled", "scale", scale)
    if not isinstance(scale, jax.core.Tracer) and not 0 < float(scale) < math.inf:
        raise ScheduleError(f"scaled: scale must be a number above 0, got {checks.shown(scale)}.")
    return scale


def _rescaled(state: InjectState, scale: Any) -> InjectState:
    scale = jnp.asarray(scale, jnp.result_type(state.scale))
    fresh, more = state.count == 0, scale / state.scale
    shown = {
        name: jnp.where(fresh, value * more, value) if is_rate(name) else value for name, value in state.rates.items()
    }
    return state._replace(scale=scale, rates=shown)


def is_rate(name: str) -> bool:
    """Whether a hyperparameter is a learning rate, which a scale multiplies."""
    return name.endswith("learning_rate")
