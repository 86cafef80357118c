"""Any optimizer of optax whose hyperparameters follow schedules, with the rates in its state.

The optimizer is built anew inside each traced update from the values at the count, as optax' own
``inject_hyperparams`` does. What differs: values are handed over weakly typed, that is, they act like the Python
numbers they stand for. So the dtype of the parameters decides alone, whether JAX has 64 bits or not.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ratewise.core.horizon import Horizon
from ratewise.core.ruled import Rule, Ruled
from ratewise.core.schedule import Schedule
from ratewise.errors import AdapterError, nearest
from ratewise.optax.rules import flat, observed, packed
from ratewise.optax.settled import Followed, check_number, settled
from ratewise.optax.states import InjectState, counted, is_rate, number, one, replaced
from ratewise.optax.traced import Traceable

ALIASES = {
    **dict.fromkeys(("lr", "rate", "step_size"), "learning_rate"),
    **dict.fromkeys(("momentum", "beta1", "beta_1"), "b1"),
    **dict.fromkeys(("beta2", "beta_2"), "b2"),
    **dict.fromkeys(("wd", "decay"), "weight_decay"),
}
"""What other libraries call optax' hyperparameters."""

OUTSIDE = {
    optax.MultiStepsState: "MultiSteps",
    optax.ApplyEvery: "apply_every",
    optax.ApplyIfFiniteState: "apply_if_finite",
    optax.ConditionallyTransformState: "conditionally_transform",
    optax.ConditionallyMaskState: "conditionally_mask",
}
"""What accumulates or leaves out updates, by its state."""

KEEPERS = (optax.InjectHyperparamsState, optax.InjectStatefulHyperparamsState)
"""The states of ``optax.inject_hyperparams``, which keep the rates of ``init``."""

EXAMPLES = {
    "MultiSteps": ("MultiSteps", "every_k_schedule=4"),
    "apply_every": ("MultiSteps", "every_k_schedule=4"),  # outside, in a chain, it would count calls as well
    "apply_if_finite": ("apply_if_finite", "max_consecutive_errors=5"),
}
"""How they are written outside."""


class Injected(optax.GradientTransformationExtraArgs):  # type: ignore[misc]  # optax has no types
    """What ``inject`` returns: a transformation of optax, with a way to feed metrics to its rules."""

    @property
    def plan(self) -> "Plan":
        """What follows what; read from the functions, as JAX rebuilds this tuple from them alone."""
        plan = getattr(self.init, "__self__", None)
        if not isinstance(plan, Plan):
            raise AdapterError(f"inject: the functions of this transformation were replaced, got {self.init!r:.60}.")
        return plan

    def observe(self, state: Any, metric: Any, label: str | None = None) -> Any:
        """Return the state after the rules of the learning rate have seen ``metric``.

        A pure function, also inside ``jit`` and ``lax.cond``. No update is counted, and the rate that is shown stays
        that of the last update. A metric that is not finite is no improvement, and is counted in the rule's ``nans``.
        Where several devices train one model, all must observe the same metric, for example its ``lax.pmean``.

        Args:
            state: A state that holds the one of this transformation anywhere inside.
            metric: The evaluation, one number.
            label: Which one, where several states in it have rules; see ``rates``.

        Raises:
            AdapterError: The learning rate has no rules, or they are not those of the state.
            ScheduleError: The metric is not one number.

        Example:
            >>> from ratewise import Plateau
            >>> optimizer = inject(optax.sgd, learning_rate=0.5 * Plateau(0.5, patience=1))
            >>> state = optimizer.init(params := jnp.ones(2))
            >>> for loss in [1.0, 2.0]:
            ...     state = optimizer.observe(state, loss)
            >>> float(optimizer.update(params, state)[0][0])
            -0.25
        """
        return self.plan.observe(state, metric, label)

    def __repr__(self) -> str:
        return repr(getattr(self.init, "__self__", tuple(self)))


def inject(
    factory: Callable[..., Any], /, *, horizon: Horizon | int | None = None, **hyperparameters: Any
) -> Injected:  # fmt: skip
    """Return an optimizer of optax whose hyperparameters follow schedules, with the rates in its state.

    Update t uses ``learning_rate(t)``, and every other schedule at t as well. The state shows what the last update
    used (``rate`` reads it), and holds a ``scale`` that multiplies learning rates (``scaled`` sets it), so that a
    sweep over peak rates compiles once. A learning rate may have rules: ``observe`` feeds them.

    What accumulates or leaves out updates goes outside: ``optax.MultiSteps(inject(optax.adamw, learning_rate=lr), 4)``.
    Inside, every mini-step would count as an update.

    Args:
        factory: ``optax.adamw``, or any function of the hyperparameters that returns a transformation.
        horizon: The run, or its number of optimizer updates: settles open and typed lengths.
        hyperparameters: Arguments of ``factory``. Schedules are followed, ``learning_rate`` also as a number or with
            rules; anything else is handed over as it is.

    Raises:
        AdapterError: ``factory`` has no such argument or returns no transformation, or a rule is given to anything but
            the learning rate; here or in ``init``: ``MultiSteps``, ``apply_every``, ``apply_if_finite``,
            ``conditionally_transform``, ``conditionally_mask`` or ``inject_hyperparams`` is inside.
        ScheduleError: A length is not known, or a value lies outside its bounds: rates and ``weight_decay`` are at
            least 0, momenta between 0 and 1.

    Example:
        >>> from ratewise import Cosine, Linear
        >>> inject(optax.adamw, learning_rate=Cosine(0.1, 0.0), weight_decay=1e-4, b1=Linear(0.95, 0.85), horizon=100)
        inject(adamw, learning_rate=Cosine(0.1, 0.0, 100), b1=Linear(0.95, 0.85, 100), weight_decay=0.0001)

    See Also:
        ``optax.inject_hyperparams`` gives numbers the dtype of the parameters, so that with bfloat16 a ``b2`` of
        0.999 is 1; and its rates are part of the program, so that a sweep compiles for every rate.
    """
    if not callable(factory):
        raise AdapterError(f"inject: the first argument must be a function such as optax.adamw, got {factory!r:.80}.")
    hyperparameters = {
        name: value.lr if isinstance(value, Traceable) else value for name, value in hyperparameters.items()
    }
    schedules = {
        name: _followed(name, value, horizon) for name, value in hyperparameters.items() if _drives(name, value)
    }
    settings = {name: value for name, value in hyperparameters.items() if name not in schedules}
    plan = Plan(factory, schedules, settings)
    _check_names(plan)
    for name, value in settings.items():
        check_number("inject", name, value)
    plan.examine()
    return Injected(plan.init, plan.update)


@dataclass(frozen=True, repr=False)
class Plan:
    """What follows what: the pure functions behind ``inject``.

    Args:
        factory: Makes the optimizer from its hyperparameters.
        schedules: What hyperparameters follow, by name.
        settings: The other arguments of ``factory``.
    """

    factory: Callable[..., Any]
    schedules: Mapping[str, Followed]
    settings: Mapping[str, Any]

    def init(self, params: Any) -> InjectState:
        """Return the first state."""
        dtype = jnp.result_type(float)
        rules = [packed([jnp.asarray(x, dtype) for x in rule]) for rule in self._fresh()]
        count, scale = jnp.zeros([], jnp.int32), jnp.ones([], dtype)
        rates = self._compiled_rates(count, scale, tuple(rules))
        inner_state = self.inner(rates).init(params)
        _check_every_update_counts(inner_state, self)
        return InjectState(count, rates, scale, tuple(rules), inner_state)

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, InjectState]:
        """Return the updates at the state's count, and the next state."""
        if not isinstance(state, InjectState):
            raise AdapterError(
                f"inject: the state must be what init returned, got {type(state).__name__}. A restored state needs its "
                "types: restore into optimizer.init(params)."
            )
        self._check_fits("inject", state)
        rates = self.rates(state.count, state.scale, state.rules)
        inner = optax.with_extra_args_support(self.inner(rates))
        updates, inner_state = inner.update(updates, state.inner_state, params, **extra)
        return updates, state._replace(count=counted(state.count), rates=rates, inner_state=inner_state)

    def observe(self, state: Any, metric: Any, label: str | None) -> Any:
        """Return the state after a metric."""
        lr = self.schedules.get("learning_rate")
        if not isinstance(lr, Ruled):
            raise AdapterError(
                f"observe: this learning rate has no rules, got {lr!r:.80}. Write inject(..., learning_rate=lr * "
                "Plateau(0.5, patience=2))."
            )
        name = one(state, label, "observe", lambda ours: bool(ours.rules))
        metric = number("observe", "metric", metric)

        def seen(ours: InjectState) -> InjectState:
            self._check_fits("observe", ours)
            rules, shown = self._compiled_observed(ours._replace(inner_state=()), metric)
            return ours._replace(rules=rules, rates=shown)

        return replaced(state, lambda found, ours: seen(ours) if found == name else ours)

    @cached_property
    def _compiled_rates(self) -> Callable[..., Any]:
        """One program instead of fifty operations; kept, since JAX keeps programs by the function they are made of."""
        return jax.jit(self.rates)

    @cached_property
    def _compiled_observed(self) -> Callable[..., Any]:
        return jax.jit(self._observed)

    def _observed(self, ours: InjectState, metric: Any) -> tuple[Any, Any]:
        """The rules after a metric, and the rates that are shown: before the first update the coming ones."""
        rules = observed(self.schedules["learning_rate"], ours.rules, metric, ours.count)  # type: ignore[arg-type]
        coming = self.rates(ours.count, ours.scale, rules)
        return rules, {key: jnp.where(ours.count == 0, coming[key], value) for key, value in ours.rates.items()}

    def rates(self, count: Any, scale: Any, rules: Any) -> dict[str, Any]:
        """Return the values that update ``count`` uses, in the dtype of ``scale``."""
        values, count = {}, jnp.asarray(count)  # a restored state may hold arrays of numpy
        for name, followed in self.schedules.items():
            value = followed(count)
            if isinstance(followed, Ruled):
                value = value * followed.factor([flat(rule) for rule in rules])
            values[name] = (value * scale if is_rate(name) else value).astype(scale.dtype)
        return values

    def inner(self, rates: Mapping[str, Any]) -> Any:
        """Return the optimizer with the given rates, weakly typed: they act like Python numbers."""
        return self.factory(**self.settings, **{name: jnp.full_like(0.0, rate) for name, rate in rates.items()})

    def examine(self) -> None:
        """Build the optimizer once, without computing anything, so that what cannot work raises now."""
        made: list[Any] = []

        def build() -> int:
            rules = [packed([jnp.asarray(x) for x in rule]) for rule in self._fresh()]
            made.append(self.inner(self.rates(jnp.zeros([], jnp.int32), jnp.ones([]), rules)))
            return 0

        jax.eval_shape(build)
        if isinstance(made[0], optax.MultiSteps):
            raise _outside(self, "MultiSteps")
        if not (hasattr(made[0], "init") and hasattr(made[0], "update")):
            raise AdapterError(f"inject: {self.name} must return a transformation of optax, got {made[0]!r:.80}.")

    def _check_fits(self, where: str, state: InjectState) -> None:
        """Raise if the state is of other hyperparameters or rules, as far as that can be seen."""
        if set(state.rates) != set(self.schedules):
            raise AdapterError(
                f"{where}: the state holds {', '.join(sorted(state.rates))}, but {', '.join(sorted(self.schedules))} "
                "follow schedules. Restore into the init(params) of the optimizer that made it."
            )
        if [len(flat(rule)) for rule in state.rules] != list(map(len, self._fresh())):
            lr = self.schedules.get("learning_rate")
            raise AdapterError(f"{where}: the state holds other rules than {lr!r:.80}. Ask the one that made it.")

    @property
    def name(self) -> str:
        """The name of the factory."""
        return getattr(self.factory, "__name__", type(self.factory).__name__)

    def _fresh(self) -> tuple[Any, ...]:
        lr = self.schedules.get("learning_rate")
        return lr.init() if isinstance(lr, Ruled) else ()

    def __repr__(self) -> str:
        arguments = {**self.schedules, **self.settings}
        return f"inject({', '.join([self.name, *(f'{name}={value!r}' for name, value in arguments.items())])})"

    def __reduce__(self) -> tuple[type["Plan"], tuple[Any, ...]]:
        return Plan, (self.factory, self.schedules, self.settings)


def _drives(name: str, value: Any) -> bool:
    return name == "learning_rate" or isinstance(value, (Schedule, Ruled, Rule))


def _followed(name: str, value: Any, horizon: Horizon | int | None) -> Followed:
    if name != "learning_rate" and isinstance(value, (Rule, Ruled)):
        raise AdapterError(
            f"inject: rules act on learning_rate alone, {name} takes a plain schedule, got {value!r:.80}."
        )
    return settled("inject", name, value, horizon)


def _check_names(plan: Plan) -> None:
    """Check the names against the arguments of the factory, if it says which it has."""
    try:
        signature = inspect.signature(plan.factory)
    except (TypeError, ValueError):  # a builtin
        return
    known, given = signature.parameters, {**plan.schedules, **plan.settings}
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        return
    for name in given:
        alias = ALIASES.get(name)
        if name not in known and alias in given:
            raise AdapterError(
                f"inject: {name} and {alias} are the same, {plan.name} calls it {alias}. Give that alone."
            )
        if name not in known:
            hint = f" Did you mean {alias!r}?" if alias in known else nearest(name, known)
            raise AdapterError(f"inject: {plan.name} has no argument {name!r}.{hint}")
    missing = [
        n for n, p in known.items() if p.default is p.empty and n not in given and p.kind is not p.VAR_POSITIONAL
    ]
    if missing:
        raise AdapterError(
            f"inject: {plan.name} needs {', '.join(missing)}. Write inject({plan.name}, {missing[0]}=...)."
        )


def _check_every_update_counts(inner_state: Any, plan: Plan) -> None:
    """Check that nothing inside accumulates or leaves out updates, while the count goes on."""
    kinds = (*OUTSIDE, *KEEPERS)
    for state in jax.tree.leaves(inner_state, is_leaf=lambda state: isinstance(state, kinds)):
        if isinstance(state, KEEPERS):
            raise AdapterError(
                f"inject: inject_hyperparams is inside {plan.name}, which keeps the rates it began with. Leave it out: "
                "inject(optax.adamw, learning_rate=lr)."
            )
        if isinstance(state, kinds):
            raise _outside(plan, OUTSIDE[type(state)])


def _outside(plan: Plan, name: str) -> AdapterError:
    given, last = EXAMPLES.get(name, (name, "should_apply"))
    return AdapterError(
        f"inject: {name} is inside {plan.name}, so every call would count as an update, and the schedule would run "
        f"too fast. Put it outside: optax.{given}(inject(optax.adamw, learning_rate=lr), {last})."
    )
