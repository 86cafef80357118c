"""The JAX engine: many runs as one compiled program, each with its own rates, initial values and batches.

A program trains a few runs side by side (``vmap``) over a span of updates; nothing in it depends on the length of a
run, on its rates or on its batches, so each kind of optimizer is compiled once. On a processor the time per run does
not depend on how many stand side by side, so there are always eight: what is left over in a cohort costs little.
Who trains a single run asks for one lane.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Schedule
from ratewise.errors import TaskError
from ratewise.optax.named import OPTIMIZERS, settled_names
from ratewise.outcome import Outcome, marks

Tree: TypeAlias = Any
Loss: TypeAlias = Callable[[Any, Any], Any]

SPAN, STREAMED_SPAN = 32, 8
"""Updates per call of a compiled program; fewer where the batches themselves are handed over."""
LANES = 8
"""Runs side by side on a processor; an accelerator takes all that fit, rounded up to a power of two."""
PART = 512
"""Held-out examples that are measured at a time, at most."""
MEMORY = 2**30
"""Bytes that a cohort may take on a processor; on an accelerator a quarter of its memory."""


def _cross_entropy(output: Any, target: Any) -> Any:
    return optax.losses.softmax_cross_entropy_with_integer_labels(output, target).mean()


def _mse(output: Any, target: Any) -> Any:
    return optax.losses.squared_error(output.reshape(target.shape), target).mean()


LOSSES: dict[str, Loss] = {"cross_entropy": _cross_entropy, "mse": _mse}


class Engine:
    """Trains a task's JAX model, many runs at a time.

    Args:
        task: A ``ratewise.Task`` with a ``jax_model``. A loss of one's own is written with ``jax.numpy``.
        initial: The initial parameters of a seed, in place of ``model.init(jax.random.key(seed), inputs)``.
        lanes: Runs side by side on a processor.
    """

    def __init__(self, task: Any, initial: Callable[[int], Tree] | None = None, lanes: int = LANES) -> None:
        self._task, self._splits, self._make = task, task.splits, task.jax_model
        self._loss: Loss = LOSSES[task.loss] if isinstance(task.loss, str) else task.loss
        self._accurate = task.metric == "accuracy"
        self._initial, self._at_once = initial or self._drawn, lanes
        self._programs: dict[Any, _Program] = {}

    @cached_property
    def _model(self) -> Any:
        model = self._make()
        if isinstance(model, type) or not (
            callable(getattr(model, "init", 0)) and callable(getattr(model, "apply", 0))
        ):
            raise TaskError(
                "jax_model= must return an object with init(key, inputs) -> parameters and apply(parameters, inputs) "
                f"-> output, as a module of flax.linen or ratewise.optax.models.Model has; it returned {model!r:.60}."
            )
        return model

    @cached_property
    def _data(self) -> dict[str, tuple[Any, Any]]:
        return {name: (jnp.asarray(x), jnp.asarray(y)) for name, (x, y) in self._splits.items()}

    @cached_property
    def _init(self) -> Any:
        return jax.jit(self._model.init)

    def _drawn(self, seed: int) -> Tree:
        return self._init(jax.random.key(seed), self._batch()[0])

    def _batch(self) -> tuple[Any, Any]:
        """Some training examples, as many as a batch has."""
        inputs, targets = self._data["train"]
        return inputs[: self._task.batch_size], targets[: self._task.batch_size]

    def _value(self, params: Tree, inputs: Any, targets: Any) -> Any:
        return self._loss(self._model.apply(params, inputs), targets)

    # -- before anything is trained ----------------------------------------------------------------------------

    def examine(self) -> str:
        """Build the model as a run would, try one batch, and return a hash of what was built.

        Raises:
            TaskError: The model has no ``init`` and ``apply``, has nothing to train, keeps state besides its
                parameters, does not fit the data, or the loss is no number; the sentence says what is required.
        """
        inputs, targets = self._batch()
        params = self._parameters(inputs)
        try:
            output = jax.eval_shape(self._model.apply, params, inputs)
        except Exception as error:
            raise TaskError(
                f"apply cannot take the parameters and a batch of inputs of shape {inputs.shape} and type "
                f"{inputs.dtype}: {_first_line(error)}"
            ) from error
        if self._loss is _cross_entropy:
            self._check_classes(output)
        try:
            loss = jax.eval_shape(self._value, params, inputs, targets)
            program = jax.make_jaxpr(jax.grad(self._value))(params, inputs, targets)
        except Exception as error:
            raise TaskError(
                f"the loss cannot compare the model's output with targets, or has no gradient: {_first_line(error)}"
            ) from error
        if loss.shape:
            raise TaskError(f"the loss must be one number, the mean over the batch, it is {loss.shape}. Add .mean().")
        digest = hashlib.sha256(repr([eqn.primitive.name for eqn in program.jaxpr.eqns]).encode())
        for path, value in jax.tree_util.tree_leaves_with_path(params):
            digest.update((jax.tree_util.keystr(path) + str(value.shape)).encode() + np.asarray(value).tobytes())
        return digest.hexdigest()

    def _parameters(self, inputs: Any) -> Tree:
        """The parameters under seed 0, found to be such."""
        model = self._model
        try:
            params = self._initial(0)
        except Exception as error:
            raise TaskError(
                f"init of {type(model).__name__} cannot make parameters for inputs of shape {inputs.shape} and type "
                f"{inputs.dtype}: {_first_line(error)}"
            ) from error
        others = sorted(set(params) - {"params"}) if isinstance(params, dict) and "params" in params else []
        if others:
            raise TaskError(
                f"the model keeps state besides its parameters ({', '.join(others)}), which the jax engine does not "
                "carry along. Use LayerNorm or GroupNorm in place of BatchNorm, or engine 'population'."
            )
        leaves = jax.tree.leaves(params)
        if not leaves:
            raise TaskError("the model has no parameters to train.")
        odd = next((x for x in leaves if not jnp.issubdtype(jnp.result_type(x), jnp.floating)), None)
        if odd is not None:
            raise TaskError(f"every parameter must be a floating-point array, init returned {odd!r:.60}.")
        return params

    def _check_classes(self, output: Any) -> None:
        classes = output.shape[-1] if getattr(output, "shape", ()) else 0
        labels = np.concatenate([targets.reshape(-1) for _, targets in self._splits.values()])
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise TaskError(
                f"cross_entropy needs targets from 0 to {classes - 1} for the model's {classes} outputs, "
                f"they go from {low} to {high}."
            )

    def room(self) -> int:
        """How many runs a cohort may have: any number where few of them stand side by side, else what memory holds."""
        return 2**20 if self._few else self._largest

    @cached_property
    def _few(self) -> bool:
        """Whether few runs at a time are best. A loader's batches are made once for all, so there all of them are."""
        return jax.default_backend() == "cpu" and not self._task.streamed

    @cached_property
    def _largest(self) -> int:
        """How many runs fit into memory: what an update and a measurement of one need, into what there is."""
        inputs, targets = self._batch()
        params = self._initial(0)
        update = jax.make_jaxpr(jax.value_and_grad(self._value))(params, inputs, targets)
        measure = jax.make_jaxpr(self._value)(params, *(part[:PART] for part in self._data["valid"]))
        kept = 6 * sum(map(_size, jax.tree.leaves(params)))  # parameters and two moments, before and after
        passing = max(
            sum(_size(var.aval) for eqn in program.jaxpr.eqns for var in eqn.outvars) for program in (update, measure)
        )
        return max(1, _memory() // (kept + passing))

    # -- training ----------------------------------------------------------------------------------------------

    def cohort(self, members: Sequence[Any]) -> list[Outcome]:
        """Train every member and measure it; as ``ratewise.torch.engine.Engine.cohort``.

        Raises:
            AdapterError: optax has no such optimizer or setting.
        """
        groups: dict[Any, list[int]] = {}
        for i, member in enumerate(members):
            groups.setdefault(_kind(member.strategy), []).append(i)
        found: dict[int, Outcome] = {}
        for kind, positions in groups.items():
            lanes = self._lanes(len(positions))
            for start in range(0, len(positions), lanes):
                part = positions[start : start + lanes]
                started = time.perf_counter()
                outcomes = self._trained(self._program(kind), [members[i] for i in part], lanes)
                share = (time.perf_counter() - started) / len(part)
                found.update({i: replace(o, seconds=share) for i, o in zip(part, outcomes, strict=True)})
        return [found[i] for i in range(len(members))]

    def _lanes(self, members: int) -> int:
        """How many runs stand side by side, so that few sizes are compiled."""
        wanted = self._at_once if self._few else 1 << (members - 1).bit_length()
        return min(wanted, 1 << (self._largest.bit_length() - 1))

    def _program(self, kind: Any) -> "_Program":
        if kind not in self._programs:
            self._programs[kind] = _Program(kind, self._value, self._task.clip_norm)
        return self._programs[kind]

    def _trained(self, program: "_Program", members: Sequence[Any], lanes: int) -> list[Outcome]:
        """Train members of one kind side by side; empty places repeat the first."""
        placed = [*members, *[members[0]] * (lanes - len(members))]
        steps = members[0].steps
        splits = ("valid",) if members[0].phase == "tune" else ("valid", "test")
        span = STREAMED_SPAN if self._task.streamed else SPAN
        tables = np.stack([program.table(member.strategy, steps) for member in placed], 1)
        following = self._batches([member.seed for member in placed], steps, span)
        start = {seed: self._initial(seed) for seed in {member.seed for member in placed}}
        params = jax.tree.map(lambda *leaves: np.stack(leaves), *(start[member.seed] for member in placed))
        carry = params, program.start(params, tables[0])
        rules = [_Rules(member.strategy.lr) for member in placed]
        losses, measured = [], []
        for begin, end in pairwise([0, *marks(steps)]):
            for t in range(begin, end, span):
                n = min(span, end - t)
                rows = _padded(tables[t : t + n], span)
                rows[..., 0] *= [rule.factor for rule in rules]
                carry, found = program.train(carry, rows, *following(t, n), n)
                losses.append(found[:n])
            measured.append({split: self._measured(carry[0], *self._data[split]) for split in splits})
            for lane, rule in enumerate(rules):
                rule.observe(measured[-1]["valid"], lane, end)
        columns = np.concatenate(losses).T.astype(float).tolist()
        at = [{split: np.asarray(values, float) for split, values in found.items()} for found in measured]
        return [self._outcome(columns[lane], at, lane, steps) for lane in range(len(members))]

    def _outcome(self, losses: list[float], measured: Sequence[Any], lane: int, steps: int) -> Outcome:
        """What one run gave, of which the program trained on also behind a loss that was not finite."""
        wrong = next((t for t, loss in enumerate(losses) if not math.isfinite(loss)), None)
        done = steps if wrong is None else wrong
        reached = [found for mark, found in zip(marks(steps), measured, strict=True) if mark <= done]
        held = {split: [float(found[split][lane, 0]) for found in reached] for split in measured[0]}
        losses = losses[: done + 1]
        split, last = list(measured[-1].items())[-1]
        loss, metric = last[lane].tolist()
        if wrong is not None or not math.isfinite(loss):
            return Outcome(losses, held, None, None, "jax", len(losses))
        if self._accurate:  # the share of a whole number
            count = self._splits[split][1].size
            metric = round(metric * count) / count
        return Outcome(losses, held, loss, metric, "jax", steps)

    def _batches(self, seeds: Sequence[int], steps: int, span: int) -> Callable[[int, int], tuple[Any, Any]]:
        """What gives the ``n`` updates from ``t`` on their batches, in order.

        It returns arrays of the shape ``(span, runs, ...)``, and the examples that they are indices of: None where
        they hold the examples themselves.
        """
        distinct = sorted(set(seeds))
        places = [distinct.index(seed) for seed in seeds]
        if not self._task.streamed:
            order = np.stack([self._task.order(seed, steps) for seed in distinct], 1).astype(np.int32)
            return lambda t, n: (_padded(order[t : t + n, places], span), self._data["train"])
        streams = [self._task.stream(seed, steps) for seed in distinct]

        def following(t: int, n: int) -> tuple[Any, Any]:
            updates = [[next(stream) for stream in streams] for _ in range(n)]
            try:
                parts = [np.stack([[batch[i] for batch in row] for row in updates]) for i in (0, 1)]
            except ValueError as error:
                raise TaskError(
                    "the jax engine needs batches of one shape, the loader gave others. Give it drop_last=True."
                ) from error
            return tuple(_padded(part[:, places], span) for part in parts), None

        return following

    @cached_property
    def _measured(self) -> Callable[..., Any]:
        """Mean loss and metric of each of several runs on a split, ``(runs, 2)``."""

        def one(params: Tree, inputs: Any, targets: Any) -> Any:
            output = self._model.apply(params, inputs)
            loss = self._loss(output, targets)
            right = (output.argmax(-1) == targets).astype(loss.dtype).mean() if self._accurate else loss
            return jnp.stack([loss, right])

        def measure(params: Tree, inputs: Any, targets: Any) -> Any:
            each = jax.vmap(one, (0, None, None))
            count, parts = len(inputs), -(-len(inputs) // PART)
            size = count // parts
            shaped = [x[: parts * size].reshape(parts, size, *x.shape[1:]) for x in (inputs, targets)]
            total = size * jax.lax.map(lambda part: each(params, *part), tuple(shaped)).sum(0)
            if rest := count - parts * size:
                total += rest * each(params, inputs[-rest:], targets[-rest:])
            return total / count

        return jax.jit(measure)


class _Program:
    """Compiled training for one kind of optimizer; runs differ by the numbers in their tables.

    Args:
        kind: Of ``_kind``.
        value: ``value(parameters, inputs, targets)``, the mean loss.
        clip_norm: Largest norm of a run's gradient, or None.
    """

    def __init__(self, kind: Any, value: Callable[..., Any], clip_norm: float | None) -> None:
        self._name, self._driven, settings = kind
        self._settings = dict(settings)
        self._value, self._clip_norm = value, clip_norm
        self.start = jax.jit(jax.vmap(lambda params, row: self._optimizer(row).init(params)))
        self.train = jax.jit(self._span)

    def table(self, strategy: Any, steps: int) -> Any:
        """What drives a run, ``(steps, 1 + driven)``: its rates, then the other hyperparameters that are numbers."""
        given = settled_names(self._name, strategy.settings_given())
        columns = [strategy.lr, *(given[name] for name in self._driven)]
        return np.array(
            [x.values(0, steps) if isinstance(x, (Schedule, Ruled)) else [x] * steps for x in columns],
            jnp.result_type(float),
        ).T

    def _optimizer(self, row: Any) -> Any:
        """The optimizer at the hyperparameters of one update, weakly typed: they act like Python numbers."""
        rate, *others = (jnp.full_like(0.0, value) for value in row)
        made = OPTIMIZERS[self._name](rate, **dict(zip(self._driven, others, strict=True)), **self._settings)
        return optax.chain(optax.clip_by_global_norm(self._clip_norm), made) if self._clip_norm is not None else made

    def _span(self, carry: Any, rows: Any, batches: Any, examples: Any, n: Any) -> Any:
        """Make ``n`` updates of every run and return where they stand, and each loss before its update."""

        def update(params: Tree, state: Tree, row: Any, batch: Any) -> Any:
            inputs, targets = batch if examples is None else (part[batch] for part in examples)
            loss, gradient = jax.value_and_grad(self._value)(params, inputs, targets)
            moves, state = self._optimizer(row).update(gradient, state, params)
            return optax.apply_updates(params, moves), state, loss

        def body(t: Any, now: Any) -> Any:
            params, state, losses = now
            params, state, loss = jax.vmap(update)(params, state, rows[t], jax.tree.map(lambda x: x[t], batches))
            return params, state, losses.at[t].set(loss.astype(losses.dtype))

        *carry, losses = jax.lax.fori_loop(0, n, body, (*carry, jnp.zeros(rows.shape[:2])))
        return tuple(carry), losses


class _Rules:
    """What the rules of one run's rate have made of the losses so far."""

    def __init__(self, lr: Any) -> None:
        self._lr = lr
        self._state = lr.init() if isinstance(lr, Ruled) else None
        self.factor = 1.0

    def observe(self, measured: Any, lane: int, t: int) -> None:
        if self._state is not None:
            self._state = self._lr.observe(self._state, float(measured[lane, 0]), t)
            self.factor = self._lr.factor(self._state)


def _kind(strategy: Any) -> tuple[str, tuple[str, ...], tuple[tuple[str, Any], ...]]:
    """What must be compiled anew: the optimizer, which hyperparameters are numbers of each update, and the rest."""
    given = settled_names(strategy.optimizer, strategy.settings_given())
    driven = tuple(sorted(x for x in given if x in ("momentum", "weight_decay") or isinstance(given[x], Schedule)))
    return strategy.optimizer, driven, tuple(sorted((x, given[x]) for x in given if x not in driven))


def _padded(rows: Any, span: int) -> Any:
    """A copy with zeros behind, ``span`` rows long."""
    full = np.zeros((span, *rows.shape[1:]), rows.dtype)
    full[: len(rows)] = rows
    return full


def _size(array: Any) -> int:
    """Bytes of an array, or of what will be one."""
    return int(math.prod(array.shape) * array.dtype.itemsize)


def _memory() -> int:
    """Bytes that a cohort may take."""
    device = jax.devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    return int(stats["bytes_limit"]) // 4 if stats else MEMORY


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
