"""Single steps of a compiled model, as ``fit`` and ``evaluate`` make them, on each backend.

The model's own train and test functions run, so that a ``train_step`` of the user's, ``jit_compile`` and
``run_eagerly`` mean what they mean in ``fit``. ``train_on_batch`` is not used: it hands ``train_step`` sample weights
that are None, where ``fit`` hands it two things.
"""

from typing import Any

import keras

from ratewise.errors import FinderError


def train(model: Any, batch: Any) -> float:
    """Train on one batch and return the loss before it, as the model reports it."""
    model.reset_metrics()
    if keras.backend.backend() != "jax":
        return _loss(model.train_function(_once(batch)), "train_step")
    groups = [model.trainable_variables, model.non_trainable_variables, model.optimizer.variables]
    return _loss(_stateless(model.train_function, [*groups, model.metrics_variables], batch), "train_step")


def test(model: Any, batch: Any) -> float:
    """Return the loss of one batch in inference mode."""
    model.reset_metrics()
    if keras.backend.backend() != "jax":
        return _loss(model.test_function(_once(batch)), "test_step")
    groups = [model.trainable_variables, model.non_trainable_variables, model.metrics_variables]
    return _loss(_stateless(model.test_function, groups, batch), "test_step")


def _once(batch: Any) -> Any:
    return iter([batch]) if keras.backend.backend() == "tensorflow" else [batch]


def _stateless(function: Any, groups: list[list[Any]], batch: Any) -> Any:
    """Call a function of JAX, which takes all state and returns what it became."""
    logs, state = function(tuple([v.value for v in group] for group in groups), iter([batch]))
    for group, values in zip(groups, state, strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.assign(value)
    return logs


def _loss(logs: Any, where: str) -> float:
    if not isinstance(logs, dict) or "loss" not in logs:
        found = ", ".join(map(repr, logs)) if isinstance(logs, dict) else type(logs).__name__
        raise FinderError(f'find_lr: the model\'s {where} must return a dict with "loss", it returned {found}.')
    return float(logs["loss"])
