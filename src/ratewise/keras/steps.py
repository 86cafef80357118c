"""Single steps of a compiled model, as ``fit`` and ``evaluate`` make them, on each backend.

The model's own train and test functions run, so that a ``train_step`` of the user's, ``jit_compile`` and
``run_eagerly`` mean what they mean in ``fit``. ``train_on_batch`` is not used: it hands ``train_step`` sample weights
that are None, where ``fit`` hands it two things.
"""

from typing import Any

import keras

from ratewise.errors import FinderError


class Steps:
    """Makes the functions of a built model anew, and runs them on one batch each.

    Args:
        model: Compiled and built; its former functions are the caller's to put back.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        if keras.backend.backend() == "jax":
            model.train_step = _another(model.train_step)
        model.make_train_function(force=True)
        model.make_test_function(force=True)
        model.reset_metrics()
        named = [metric for metric in model.metrics if metric.name == "loss"]
        self._trackers = named or list(model.metrics)  # means that run on from batch to batch

    def train(self, batch: Any) -> float:
        """Train on one batch and return the loss before it, as the model reports it."""
        model = self._model
        if keras.backend.backend() != "jax":
            return self._loss(model.train_function, batch, "train_step")
        groups = [model.trainable_variables, model.non_trainable_variables, model.optimizer.variables]
        return self._loss(model.train_function, batch, "train_step", [*groups, model.metrics_variables])

    def test(self, batch: Any) -> float:
        """Return the loss of one batch in inference mode."""
        model = self._model
        if keras.backend.backend() != "jax":
            return self._loss(model.test_function, batch, "test_step")
        groups = [model.trainable_variables, model.non_trainable_variables, model.metrics_variables]
        return self._loss(model.test_function, batch, "test_step", groups)

    def _loss(self, function: Any, batch: Any, name: str, groups: list[list[Any]] | None = None) -> float:
        for tracker in self._trackers:
            tracker.reset_state()
        if groups is not None:
            logs = _stateless(function, groups, batch)
        else:
            logs = function(iter([batch]) if keras.backend.backend() == "tensorflow" else [batch])
        if not isinstance(logs, dict) or "loss" not in logs:
            found = ", ".join(map(repr, logs)) if isinstance(logs, dict) else type(logs).__name__
            raise FinderError(f'find_lr: the model\'s {name} must return a dict with "loss", it returned {found}.')
        return float(logs["loss"])


def _another(step: Any) -> Any:
    """The same function as a new object: JAX would take an old trace of the same one, with other hyperparameters."""

    def train_step(state: Any, data: Any) -> Any:
        return step(state, data)

    return train_step


def _stateless(function: Any, groups: list[list[Any]], batch: Any) -> Any:
    """Call a function of JAX, which takes all state and returns what it became."""
    logs, state = function(tuple([v.value for v in group] for group in groups), iter([batch]))
    for group, values in zip(groups, state, strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.assign(value)
    return logs
