"""A rule as a transformation of its own, for chains that have no ``inject``; and what both do with a rule's state."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ratewise.core.horizon import Horizon
from ratewise.core.ruled import Rule, Ruled
from ratewise.core.shapes import Constant
from ratewise.errors import AdapterError
from ratewise.optax.settled import settled
from ratewise.optax.states import RuleState, counted, number


class ScaleByRuleState(NamedTuple):
    """The state of ``scale_by_rule``.

    Args:
        count: How many updates happened.
        rule: What the rule has made of the metrics so far; ``rule.scale`` is the factor, ``rule.nans`` counts the
            metrics that were not finite.
    """

    count: Any
    rule: RuleState


def scale_by_rule(rule: Rule, *, horizon: Horizon | int | None = None) -> optax.GradientTransformationExtraArgs:
    """Return a transformation that multiplies updates by what ``rule`` makes of a metric.

    The metric comes with every update, as ``update(..., value=loss)``, and already acts on that update. It stands
    where ``optax.contrib.reduce_on_plateau`` does, and with ``Plateau(..., like="optax")`` does the same to the last
    bit. A metric for now and then, and the resulting rate in the state, is what ``inject`` has.

    Args:
        rule: ``Plateau``, ``Greedy`` or ``NewBob``; with the loss of a single batch give it a ``window``.
        horizon: The run, if the rule's ``start`` is a typed length.

    Raises:
        AdapterError: ``rule`` is no rule; in ``update``: there is no ``value``.
        ScheduleError: The start is not known; in ``update``: the value is not one number.

    Example:
        >>> from ratewise import Plateau
        >>> optimizer = optax.chain(optax.sgd(0.5), scale_by_rule(Plateau(0.5, patience=1)))
        >>> state = optimizer.init(params := jnp.ones(2))
        >>> for loss in [1.0, 2.0]:
        ...     updates, state = optimizer.update(params, state, params, value=loss)
        >>> float(updates[0]), float(state[1].rule.scale)
        (-0.25, 0.5)
    """
    if not isinstance(rule, Rule):
        hint = " Give its rule alone, and its schedule to the optimizer." if isinstance(rule, Ruled) else ""
        raise AdapterError(f"scale_by_rule: needs a rule such as Plateau(0.5, patience=2), got {rule!r:.80}.{hint}")
    ruled = settled("scale_by_rule", "rule", Constant(1.0) * rule, horizon)

    def init(params: Any) -> ScaleByRuleState:
        (fresh,) = ruled.init()  # type: ignore[union-attr]
        dtype = jnp.result_type(float)
        return ScaleByRuleState(jnp.zeros([], jnp.int32), packed([jnp.asarray(x, dtype) for x in fresh]))

    def update(updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any) -> tuple[Any, Any]:
        if value is None:
            raise AdapterError("scale_by_rule: needs the metric, as update(grads, state, params, value=loss).")
        value = number("scale_by_rule", "value", value)
        (after,) = observed(ruled, (state.rule,), value, state.count)  # type: ignore[arg-type]
        scale = jnp.full_like(0.0, after.scale)  # weakly typed: the updates keep their dtype
        return jax.tree.map(lambda g: scale * g, updates), ScaleByRuleState(counted(state.count), after)

    return optax.GradientTransformationExtraArgs(init, update)


def observed(ruled: Ruled, rules: Sequence[RuleState], metric: Any, count: Any) -> tuple[RuleState, ...]:
    """Return the states of the rules after a metric, in the dtype they have."""
    dtype = jnp.result_type(rules[0].scale)
    after = ruled.observe([flat(rule) for rule in rules], metric, count)
    return tuple(packed([jnp.asarray(x, dtype) for x in rule]) for rule in after)


def packed(state: Sequence[Any]) -> RuleState:
    """A rule's state by names."""
    scale, *memory, nans = state
    return RuleState(scale, tuple(memory), nans)


def flat(state: RuleState) -> tuple[Any, ...]:
    """A rule's state as the rule knows it."""
    return (state.scale, *state.memory, state.nans)
