"""The one-by-one engine for Keras on TensorFlow: one run is one compiled loop over its updates.

Making and compiling a fresh model takes longer than a short run, so each kind of optimizer is compiled once; between
runs its variables and the model's are set back. Schedules reach the compiled loop through ``ratewise.keras`` as they
do anywhere else, as a function of the optimizer's counter; here that function looks the rate up in a table, so that
another strategy is another table and not another compilation.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ratewise.core.horizon import Horizon
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Custom
from ratewise.errors import TaskError
from ratewise.finder.finding import Finding
from ratewise.keras.find import find_lr
from ratewise.keras.named import build
from ratewise.outcome import Outcome, marks

LOSSES: dict[str, Callable[[], Any]] = {
    "cross_entropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "mse": keras.losses.MeanSquaredError,
}


class Engine:
    """Trains a task's Keras model, one run at a time.

    What the model adds to the loss (regularizers, ``add_loss``) is trained on, and part of the training loss; what is
    held out is measured by the task's loss alone.

    Args:
        task: A ``ratewise.Task`` with a ``keras_model`` and a loss of ``LOSSES``.

    Raises:
        TaskError: Keras runs on another backend, the loss is a function, or the batches come from a loader.
    """

    def __init__(self, task: Any) -> None:
        if keras.backend.backend() != "tensorflow":
            raise TaskError(f"engine 'keras': needs Keras on TensorFlow, it runs on {keras.backend.backend()!r}.")
        if task.loss not in LOSSES:
            raise TaskError("engine 'keras': the task's loss must be 'cross_entropy' or 'mse', got a function.")
        if task.streamed:
            raise TaskError(
                "engine 'keras': it takes training batches from arrays, and this task's come from a loader. Give "
                "data= a pair of arrays as 'train', or use engine 'population' or 'jax'."
            )
        _one_thread()
        self._task, self._splits, self._make, self._metric = task, task.splits, task.keras_model, task.metric
        self._loss = LOSSES[task.loss]()
        self._initial: dict[int, list[Any]] = {}
        self._loops: dict[Any, _Loop] = {}

    @cached_property
    def _data(self) -> dict[str, Any]:
        return {name: (tf.constant(x), tf.constant(y)) for name, (x, y) in self._splits.items()}

    @cached_property
    def _model(self) -> Any:
        return self._make()

    def examine(self) -> str:
        """Build the model as a run would, try one batch, and return a hash of what was built.

        Raises:
            TaskError: The model is not a Keras model, has nothing to train, or does not fit the data.
        """
        if isinstance(self._make, keras.Model) or not isinstance(self._model, keras.Model):
            raise TaskError("keras_model= must be a function that returns a new keras.Model.")
        if not self._model.trainable_variables:
            raise TaskError("the Keras model has no variables to train. Give its first layer an Input.")
        inputs, targets = (part[:8] for part in self._data["train"])
        try:
            output = self._model(inputs, training=False)
            float(self._loss(targets, output))
        except Exception as error:
            raise TaskError(
                f"the Keras model cannot take a batch of inputs of shape {tuple(inputs.shape)}, or its output does not "
                f"fit the targets: {type(error).__name__}: {str(error).splitlines()[0]}"
            ) from error
        self._start(0)
        digest = hashlib.sha256(repr([type(layer).__name__ for layer in self._model.layers]).encode())
        for value in self._initial[0]:
            digest.update(str(value.shape).encode() + value.tobytes())
        return digest.hexdigest()

    def find(
        self, strategy: Any, run: Horizon, batch_size: int, *, method: str = "probe", seed: int = 0, **settings: Any
    ) -> Finding:
        """Find the peak rate of a strategy; arguments are those of ``ratewise.torch.engine.Engine.find``."""
        of_the_run = {"schedule": strategy.lr, "horizon": run} if method == "probe" else {}
        self._start(seed)
        optimizer = build(strategy.optimizer, 1.0, horizon=run, **strategy.settings_given())
        self._model.compile(optimizer, loss=self._loss)
        x, y = self._splits["train"]
        return find_lr(
            self._model, x, y, batch_size=batch_size, held_out=self._splits["valid"], method=method, seed=seed,
            **of_the_run, **settings,
        )  # fmt: skip

    def room(self) -> int:
        """How many runs a cohort may have: any number, since they are trained one after the other."""
        return 2**20

    def cohort(self, members: Sequence[Any]) -> list[Outcome]:
        """Train every member and measure it; as ``ratewise.torch.engine.Engine.cohort``."""
        return [self._timed(member) for member in members]

    def _timed(self, member: Any) -> Outcome:
        started = time.perf_counter()
        outcome = self._one(member)
        return replace(outcome, seconds=time.perf_counter() - started)

    def _one(self, member: Any) -> Outcome:
        self._start(member.seed)
        steps, order = member.steps, self._task.order(member.seed, member.steps)
        loop = self._loop(member.strategy, steps)
        loop.reset(member.strategy)
        splits = ("valid",) if member.phase == "tune" else ("valid", "test")
        held: dict[str, list[float]] = {split: [] for split in splits}
        losses: list[float] = []
        lr = member.strategy.lr
        state = lr.init() if isinstance(lr, Ruled) else None
        for begin, end in pairwise([0, *marks(steps)]):
            losses += loop.train(order[begin:end])
            wrong = next((t for t in range(begin, end) if not math.isfinite(losses[t])), None)
            if wrong is not None:
                return Outcome(losses[: wrong + 1], held, None, None, "keras", wrong + 1)
            for split in splits:
                loss, metric = self._measure(split)
                held[split].append(loss)
            if state is not None:
                state = lr.observe(state, held["valid"][-1], end)
                loop.scale(lr, lr.factor(state))
        if not math.isfinite(loss):
            return Outcome(losses, held, None, None, "keras", steps)
        return Outcome(losses, held, loss, metric, "keras", steps)

    def _start(self, seed: int) -> None:
        """Give the model the initial values of a seed."""
        if seed not in self._initial:
            keras.utils.set_random_seed(seed)
            self._initial[seed] = [v.value.numpy() for v in self._make().variables]
        for variable, value in zip(self._model.variables, self._initial[seed], strict=True):
            variable.assign(value)

    def _loop(self, strategy: Any, steps: int) -> "_Loop":
        kinds = tuple(
            (name, "scheduled" if isinstance(value, Schedule) else value)
            for name, value in strategy.settings_given().items()
        )
        key = strategy.optimizer, kinds, steps
        if key not in self._loops:
            self._loops[key] = _Loop(
                strategy, steps, self._model, self._loss, self._data["train"], self._task.clip_norm
            )
        return self._loops[key]

    def _measure(self, split: str) -> tuple[float, float]:
        loss, metric = self._measured(*self._data[split])
        return float(loss), float(metric)

    @cached_property
    def _measured(self) -> Any:
        """Mean loss and metric of the model as it stands on a split."""

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def measure(inputs: Any, targets: Any) -> Any:
            output = self._model(inputs, training=False)
            loss = self._loss(targets, output)
            if self._metric != "accuracy":
                return loss, loss
            right = tf.argmax(output, -1, output_type=targets.dtype) == targets
            return loss, tf.reduce_mean(tf.cast(right, tf.float64))

        return measure


class _Loop:
    """A compiled training loop for one kind of optimizer; strategies differ by the tables it reads."""

    def __init__(
        self, strategy: Any, steps: int, model: Any, loss: Any, data: Any, clip_norm: float | None
    ) -> None:  # fmt: skip
        self._clip_norm = clip_norm
        self._tables: dict[str, tf.Variable] = {}
        self._steps = steps
        settings = {
            name: self._table(name, value) if isinstance(value, Schedule) else value
            for name, value in strategy.settings_given().items()
        }
        self._optimizer = build(strategy.optimizer, self._table("lr", strategy.lr), horizon=steps, **settings)
        self._optimizer.build(model.trainable_variables)
        self._fresh = [v.value.numpy() for v in self._optimizer.variables]
        self._train = self._compiled(model, loss, *data)

    def _table(self, name: str, schedule: Any) -> Schedule:
        """A schedule that looks its value up, and starts out as ``schedule``."""
        first = schedule.values(0, self._steps)
        table = tf.Variable(first, dtype=tf.float64)
        self._tables[name] = table

        def lookup(t: Any) -> Any:
            if isinstance(t, int):
                return first[min(t, self._steps - 1)]
            return tf.gather(table, tf.minimum(tf.cast(t, tf.int64), self._steps - 1))

        return Custom(lookup, steps=self._steps)

    def _compiled(self, model: Any, loss: Any, inputs: Any, targets: Any) -> Any:
        optimizer, variables = self._optimizer, model.trainable_variables

        @tf.function  # type: ignore[untyped-decorator]
        def train(order: Any) -> Any:
            updates = tf.shape(order)[0]
            losses = tf.TensorArray(tf.float32, size=updates)
            for t in tf.range(updates):
                with tf.GradientTape() as tape:
                    value = loss(tf.gather(targets, order[t]), model(tf.gather(inputs, order[t]), training=True))
                    for extra in model.losses:
                        value += tf.cast(tf.reduce_sum(extra), value.dtype)
                gradients = tape.gradient(value, variables)
                if self._clip_norm is not None:
                    gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm)
                optimizer.apply(gradients, variables)
                losses = losses.write(t, value)
            return losses.stack()

        return train.get_concrete_function(tf.TensorSpec([None, None], tf.int64))

    def reset(self, strategy: Any) -> None:
        """Begin a run: the strategy's tables, and the optimizer as it was when new."""
        for name, table in self._tables.items():
            schedule = strategy.lr if name == "lr" else strategy.settings_given()[name]
            table.assign(np.asarray(schedule.values(0, self._steps)))
        for variable, value in zip(self._optimizer.variables, self._fresh, strict=True):
            variable.assign(value)

    def scale(self, lr: Any, factor: float) -> None:
        """Multiply the rates of the coming updates, as a rule has it."""
        self._tables["lr"].assign(factor * np.asarray(lr.values(0, self._steps)))

    def train(self, order: Any) -> list[float]:
        """Make the next updates, on these examples, and return the training loss before each."""
        return self._train(tf.constant(order)).numpy().tolist()  # type: ignore[no-any-return]


def _one_thread() -> None:
    """Small models: two processes of one thread beat one of two. TensorFlow allows it only before its first use."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        return
