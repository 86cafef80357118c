"""An optimizer of optax whose rate is given anew at every update, as the finder needs it.

Either a function of the rate, which is called with a traced rate inside the traced update, so that nothing is compiled
anew for another rate; or a transformation that holds its rates in its state (``inject``, or optax'
``inject_hyperparams``), where they are written, each group with its present ratio to the highest.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ratewise.core.ruled import unruled
from ratewise.errors import FinderError
from ratewise.optax.injected import KEEPERS, OUTSIDE, Injected
from ratewise.optax.states import InjectState, found, rates, replaced

_FACTORY = "Give a function of the rate, for example optax.adam, or partial(optax.adamw, weight_decay=0.1)"

_FOREIGN = "find_lr: opt_state is not a state of this optimizer. Give the optimizer whose init or update returned it."


@dataclass(frozen=True)
class Driven:
    """An optimizer, at the state where it begins.

    Args:
        state: That state.
        update: ``update(rate, gradients, state, params, loss)`` returns updates and the next state.
        circumstances: What it is, for ``valid_for``.
        planned: Schedule, updates of the whole run and updates made, where they are known.
    """

    state: Any
    update: Callable[..., tuple[Any, Any]]
    circumstances: Mapping[str, Any] = field(default_factory=dict)
    planned: tuple[Any, int, int] | None = None


def driven(optimizer: Any, params: Any, opt_state: Any = None) -> Driven:
    """Return ``optimizer`` with a rate that is given at every update; it begins at ``opt_state``, or anew.

    Raises:
        FinderError: Its rate cannot be given, or the state is not its own.
    """
    if hasattr(optimizer, "init") and hasattr(optimizer, "update"):
        return _written(optimizer, params, opt_state)
    if not callable(optimizer):
        raise FinderError(f"find_lr: optimizer must be of optax, got {type(optimizer).__name__}. {_FACTORY}.")
    made = _made(optimizer, 1.0)
    fresh = made.init(params)
    if _held(fresh):
        return _written(made, params, opt_state)
    _check_updates(fresh)
    if _inside(fresh, optax.ScaleByScheduleState):
        raise FinderError(
            "find_lr: this optimizer multiplies its rate by a schedule of its own, so candidates would follow both. "
            f"{_FACTORY}, and the schedule as schedule=."
        )
    make = optimizer
    if opt_state is not None and not _alike(opt_state, fresh):
        # where training has optax.adam(schedule), the state counts for the schedule
        make = lambda rate: optimizer(lambda count: rate)  # noqa: E731
        if not _alike(opt_state, _made(make, 1.0).init(params)):
            raise FinderError(_FOREIGN)
    circumstances = {"optimizer": _name(optimizer), **_settings(optimizer, {}), "ratios": {"learning_rate": 1.0}}
    return Driven(fresh if opt_state is None else opt_state, partial(_updated, make), circumstances)


def _updated(make: Callable[[Any], Any], rate: Any, gradients: Any, state: Any, params: Any, loss: Any) -> Any:
    """One update of the optimizer that ``make`` returns for the rate, weakly typed as a Python number is."""
    try:
        made = make(jnp.full_like(0.0, rate))
    except jax.errors.JAXTypeError as error:
        raise FinderError(
            f"find_lr: optimizer(rate) raised {type(error).__name__}: JAX traces the rate, so that no other one "
            "compiles anew. Do not convert it to a number nor ask for its value: lambda rate: optax.adam(rate)."
        ) from error
    optimizer = optax.with_extra_args_support(made)
    return optimizer.update(gradients, state, params, **_extra(optimizer, loss))


def _extra(optimizer: Any, loss: Any) -> dict[str, Any]:
    """The loss as ``value``, where the transformation takes that."""
    taken = inspect.signature(optimizer.update).parameters
    return {"value": loss} if "value" in taken or any(p.kind is p.VAR_KEYWORD for p in taken.values()) else {}


def _written(optimizer: Any, params: Any, opt_state: Any) -> Driven:
    """An optimizer with rates in its state: those are written, and counts of ``inject`` held where they are."""
    state = optimizer.init(params) if opt_state is None else opt_state
    _check_updates(state)
    held = _held(state)
    if not held:
        if opt_state is not None and _held(optimizer.init(params)):
            raise FinderError(_FOREIGN)
        raise FinderError(f"find_lr: the rate of this optimizer is fixed inside it. {_FACTORY}.")
    optimizer = optax.with_extra_args_support(optimizer)
    write: Callable[..., Any]
    if isinstance(held[0], InjectState):
        state, shown = _shown(optimizer, state, params)
        write = partial(_rescaled, {label: (ours.count, ours.scale) for label, ours in found(state, "find_lr").items()})
    else:
        shown = _hyperparameters(held)
        write = _rewritten
    highest = max(shown.values())
    if not 0 < highest < math.inf or min(shown.values()) < 0:
        raise FinderError(
            f"find_lr: the rates of the optimizer must be finite and somewhere above 0, got {shown}. Give it the rates "
            "that they are to have relative to each other, for example 1 for all."
        )

    def update(rate: Any, gradients: Any, state: Any, params: Any, loss: Any) -> Any:
        written = write(state, rate / highest, shown)
        return optimizer.update(gradients, written, params, **_extra(optimizer, loss))

    ratios = {label: value / highest for label, value in shown.items()}
    return Driven(state, update, {**_described(optimizer, held), "ratios": ratios}, _planned(optimizer, held))


def _shown(optimizer: Any, state: Any, params: Any) -> tuple[Any, dict[str, float]]:
    """The state at the counts where its rates are taken from, and those rates, by label.

    Where training stands; if all are 0 there, as in the first update of a warm-up or after the end, at another update.
    """

    @jax.jit
    def at(state: Any, params: Any, kept: Any, ahead: Any) -> Any:
        """What the update there would use; all but the rates is left out in compiling."""
        nothing = jax.tree.map(jnp.zeros_like, params)
        extra = _extra(optimizer, jnp.zeros(()))
        _, after = optimizer.update(nothing, _moved(state, kept, ahead), params, **extra)
        return rates(after)

    for kept, ahead in ((1, 0), *((kept, 2**k) for kept in (1, 0) for k in range(24))):
        shown = {label: float(value) for label, value in at(state, params, kept, ahead).items()}
        if max(shown.values()) > 0:
            break
    return _moved(state, kept, ahead), shown


def _moved(state: Any, kept: Any, ahead: Any) -> Any:
    """The state of ``inject`` with ``ahead`` added to its count (to 0 if ``kept`` is 0)."""
    return replaced(state, lambda _, ours: ours._replace(count=jnp.asarray(ours.count) * kept + ahead))


def _rescaled(begun: Mapping[str, tuple[Any, Any]], state: Any, part: Any, shown: Mapping[str, float]) -> Any:
    """The state of ``inject`` whose coming rates are ``part`` of those shown, at the counts where it began."""

    def changed(label: str, ours: InjectState) -> InjectState:
        count, scale = begun[label]
        return ours._replace(count=jnp.asarray(count), scale=(part * scale).astype(jnp.result_type(ours.scale)))

    return replaced(state, changed)


def _hyperparameters(held: list[Any]) -> dict[str, float]:
    """The rates in the states of optax' ``inject_hyperparams``."""
    rated = [state for state in held if "learning_rate" in state.hyperparams]
    if not rated or any("learning_rate" in getattr(state, "hyperparams_states", ()) for state in rated):
        raise FinderError(
            "find_lr: inject_hyperparams holds no learning_rate here that can be written, as none is given or a "
            f"schedule writes it. {_FACTORY}, and the schedule as schedule=."
        )
    labels = ["learning_rate"] if len(rated) == 1 else [str(i) for i in range(len(rated))]
    return {label: float(state.hyperparams["learning_rate"]) for label, state in zip(labels, rated, strict=True)}


def _rewritten(state: Any, part: Any, shown: Mapping[str, float]) -> Any:
    """The state of ``inject_hyperparams`` whose rates are ``part`` of those shown."""
    coming = iter(shown.values())

    def changed(node: Any) -> Any:
        if not isinstance(node, KEEPERS) or "learning_rate" not in node.hyperparams:
            return node
        dtype = jnp.result_type(node.hyperparams["learning_rate"])
        return node._replace(hyperparams={**node.hyperparams, "learning_rate": (part * next(coming)).astype(dtype)})

    return jax.tree.map(changed, state, is_leaf=lambda node: isinstance(node, KEEPERS))


# -- what it is ----------------------------------------------------------------------------------------------


def _planned(optimizer: Any, held: list[Any]) -> tuple[Any, int, int] | None:
    """What an ``inject`` follows, if its end is known."""
    if not isinstance(optimizer, Injected):
        return None
    lr = optimizer.plan.schedules["learning_rate"]
    steps = unruled(lr).steps
    return None if steps is None else (lr, math.ceil(steps), int(held[0].count))


def _described(optimizer: Any, held: list[Any]) -> dict[str, Any]:
    """Name and hyperparameters of an optimizer with rates in its state, and where it stands."""
    first = held[0]
    if isinstance(optimizer, Injected):
        plan = optimizer.plan
        follows = plan.rates(first.count, first.scale, first.rules) if len(plan.schedules) > 1 else {}
        described = {"optimizer": plan.name, **_settings(plan.factory, {**plan.settings, **follows})}
    elif isinstance(first, InjectState):
        described = {"optimizer": "inject"}
    else:
        inside: Mapping[str, Any] = {}
        with suppress(TypeError):  # what optax' inject_hyperparams has kept of its arguments
            inside = inspect.getclosurevars(optimizer.update).nonlocals
        factory = inside.get("inner_factory")
        described = {"optimizer": "inject_hyperparams" if factory is None else _name(factory)}
        each = [_settings(factory, {**inside.get("other_hps", {}), **state.hyperparams}) for state in held]
        described |= each[0]
        decays = {value for settings in each for value in settings.get("weight_decay", ())}
        if decays:
            described["weight_decay"] = sorted(decays)
    return described | ({"at_update": int(first.count)} if first.count > 0 else {})


def _settings(factory: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Weight decay, and momentum or betas, that are given, or that the function has by default."""
    known: Mapping[str, inspect.Parameter] = {}
    with suppress(TypeError, ValueError):  # a builtin, or nothing
        known = inspect.signature(factory).parameters
    values = {**{name: p.default for name, p in known.items() if p.default is not p.empty}, **given}
    inner = factory.func if isinstance(factory, partial) else factory
    if str(getattr(inner, "__module__", "")).startswith("optax."):
        values.setdefault("weight_decay", 0.0)
    if values.get("momentum", 0) is None:
        values["momentum"] = 0.0
    numbers = {name: _number(value) for name, value in values.items() if _is_number(value)}
    found: dict[str, Any] = {"weight_decay": [numbers["weight_decay"]]} if "weight_decay" in numbers else {}
    if "momentum" in numbers:
        found["momentum"] = numbers["momentum"]
    elif {"b1", "b2"} <= numbers.keys():
        found["betas"] = [numbers["b1"], numbers["b2"]]
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, (jax.Array, np.ndarray)) and value.shape == ())


def _number(value: Any) -> float:
    """The number as it was written: 0.9, though float32 has 0.89999998."""
    return float(value) if isinstance(value, (int, float)) else float(str(np.asarray(value)[()]))


def _name(optimizer: Any) -> str:
    inner = optimizer.func if isinstance(optimizer, partial) else optimizer
    name = getattr(inner, "__name__", type(inner).__name__)
    return "a function of the rate" if name == "<lambda>" else str(name)


# -- checks --------------------------------------------------------------------------------------------------


def _made(make: Callable[[Any], Any], rate: float) -> Any:
    """The optimizer at a rate."""
    try:
        made = make(rate)
    except Exception as error:
        raise FinderError(f"find_lr: optimizer({rate}) raised {type(error).__name__}: {error}. {_FACTORY}.") from error
    if not (hasattr(made, "init") and hasattr(made, "update")):
        raise FinderError(
            f"find_lr: optimizer({rate}) must return a transformation of optax, got {type(made).__name__}. {_FACTORY}."
        )
    return made


def _check_updates(state: Any) -> None:
    """Check that every call makes an update, which the finder counts."""
    for kind in (optax.MultiStepsState, optax.ApplyEvery):
        if _inside(state, kind):
            raise FinderError(
                f"find_lr: {OUTSIDE[kind]} is in this optimizer, so not every batch makes an update. Give the "
                "optimizer inside it, and batches as large as those of one update together."
            )


def _held(state: Any) -> list[Any]:
    """The states that hold rates: those of ``inject`` if there are any, else those of ``inject_hyperparams``."""
    ours = _inside(state, InjectState)
    return list(found(state, "find_lr").values()) if ours else _inside(state, KEEPERS)


def _inside(state: Any, kind: Any) -> list[Any]:
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kind))
    return [node for node in nodes if isinstance(node, kind)]


def _alike(one: Any, other: Any) -> bool:
    """Whether two states have the same structure and shapes."""
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(state)] for state in (one, other)]
    one_tree, other_tree = (str(jax.tree.structure(state)) for state in (one, other))
    return one_tree == other_tree and shapes[0] == shapes[1]
