"""``find_lr`` for JAX: candidates are rows of one array, and ``vmap`` trains them all at once on the same batches.

Nothing of JAX has to be put back, as arrays do not change and none of the user's is donated. One update is compiled,
for one candidate and for five, and called from a Python loop: so batches may differ in shape, and need not be stacked.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ratewise.errors import FinderError
from ratewise.finder.batches import counted, endless, parted, shuffled
from ratewise.finder.curvature import Ceiling
from ratewise.finder.find import find
from ratewise.finder.finding import Finding
from ratewise.finder.sweep import one_by_one
from ratewise.optax.batches import Memory, examples, fresh, seed_all, source
from ratewise.optax.curvature import BATCHES, measured
from ratewise.optax.driven import driven

WIDTH = 5
"""Candidates that train together: rows are filled up to so many, so that two programs do for a whole search."""

LARGEST = 1_000_000
"""Parameters up to which a search on a CPU seeks the ceiling: half a minute; 5 million take three minutes."""


def find_lr(
    loss: Callable[..., Any], params: Any, batches: Any, optimizer: Any = optax.adam, *, opt_state: Any = None,
    state: Any = None, key: Any = None, evaluate: Callable[..., Any] | None = None, method: str = "probe",
    schedule: Any = None, horizon: Any = None, held_out: Any = None, low: float = 1e-7, high: float = 10.0,
    steps: int | None = None, spacing: str = "geometric", stop: float = 4.0, seeds: int = 3, seed: int = 0,
) -> Finding:  # fmt: skip
    """Find a learning rate by short runs or by a range test; nothing that is given changes.

    By default candidate rates each run a compressed copy of the schedule that will be used, from ``params`` and on the
    same batches, and are compared on held-out ones. All candidates train at once under ``vmap``, or one by one where
    that cannot be; ``valid_for["engine"]`` says which. Dropout is the same for all candidates.

    Args:
        loss: ``loss(params, batch)``, the mean over a batch. With ``state`` it is
            ``loss(params, state, batch) -> (loss, state)``; with ``key`` a key is its last argument, another one at
            each update. JAX traces it, as under ``jit``.
        params: What is trained, in any tree whose leaves are arrays of floats: of flax, haiku, ``nnx.split``,
            ``eqx.partition``.
        batches: A loader, list or other iterable that begins anew each time, of trees of arrays, or a function that
            returns one; batches may differ in shape, though each shape compiles anew. As many as are needed stay in
            memory. Not an iterator, which would be used up: wrap that in ``ratewise.finder.Lookahead``.
        optimizer: A function of the rate, such as ``optax.sgd`` or ``partial(optax.adamw, weight_decay=0.1)``, that
            returns a transformation; or one whose rates are in its state, by ``ratewise.optax.inject`` or
            ``optax.inject_hyperparams``. Several rates in a state keep their present ratios, which
            ``valid_for["ratios"]`` shows, and other scheduled hyperparameters their present values.
        opt_state: The optimizer's state in the middle of training; a new one by default.
        state: What the model changes besides, such as the statistics of BatchNorm.
        key: A key of ``jax.random``, for dropout.
        evaluate: The loss on held-out batches, ``evaluate(params, batch)`` or ``evaluate(params, state, batch)``; by
            default ``loss``, with one key for all, its state thrown away.
        method: ``"probe"``, short runs; or ``"range"``, Smith's range test.
        schedule: What the training will follow, a Ratewise schedule; only its shape matters, not its height. By default
            what ``inject`` follows, from where ``opt_state`` stands; else a constant rate.
        horizon: The run, or its number of updates; by default that of the schedule, else 400.
        held_out: Batches to compare on; by default a tenth of ``batches`` is kept aside for that.
        low: Lowest rate, above 0.
        high: Highest rate.
        steps: Updates of a candidate, by default an eighth of the horizon and at least 50; with ``"range"`` those of
            the sweep, by default 100 and at least 20.
        spacing: Of the rates of a range test: ``"geometric"`` or ``"linear"``.
        stop: Stop a range test once the smoothed loss is this many times its lowest value.
        seeds: How many orders of batches, and keys, the best candidates are compared on.
        seed: The first of them; the same seed gives the same answer.

    Returns:
        A ``Finding``; its ``suggestion`` is None, with a ``reason``, where the measurements do not support one.

    Raises:
        FinderError: The search cannot be made, or an update raised.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (256, 4))
        >>> data = [(x[i : i + 16], x[i : i + 16].sum(1)) for i in range(0, 256, 16)]
        >>> loss = lambda params, batch: ((batch[0] @ params - batch[1]) ** 2).mean()
        >>> finding = find_lr(loss, jnp.zeros(4), data, optax.sgd)
        >>> finding.low <= finding.suggestion <= finding.high < finding.stable
        True
    """
    trainable = OptaxTrainable(
        loss, params, batches, optimizer, opt_state=opt_state, state=state, key=key, evaluate=evaluate,
        held_out=held_out,
    )  # fmt: skip
    return find(
        trainable, method=method, schedule=schedule, horizon=horizon, low=low, high=high, steps=steps, spacing=spacing,
        stop=stop, seeds=seeds, seed=seed,
    )  # fmt: skip


class Carry(NamedTuple):
    """One candidate in training, or several whose arrays are stacked.

    Args:
        params: As the user gave them.
        state: The same.
        opt_state: Of the optimizer.
        finite: Whether every loss so far was.
    """

    params: Any
    state: Any
    opt_state: Any
    finite: Any


class OptaxTrainable:
    """A ``Trainable`` over a loss and an optimizer of optax; arguments as for ``find_lr``.

    Kept and given to ``ratewise.finder.find`` again, it compiles once.
    """

    def __init__(
        self, loss: Callable[..., Any], params: Any, batches: Any, optimizer: Any = optax.adam, *,
        opt_state: Any = None, state: Any = None, key: Any = None, evaluate: Callable[..., Any] | None = None,
        held_out: Any = None,
    ) -> None:  # fmt: skip
        for name, function in {"loss": loss, "evaluate": evaluate or loss}.items():
            if not callable(function):
                raise FinderError(f"find_lr: {name} must be a function, got {type(function).__name__}.")
        _check_params(params)
        _check_key(key)
        self._loss, self._evaluate, self._key = loss, evaluate, key
        self._begin, self._per_epoch = source(batches), counted(batches)
        self._score_on = None if held_out is None else source(held_out, "held_out")
        with _said("reading params and optimizer"):
            self._driven = driven(optimizer, _strong(params), _strong(opt_state))
            self._found = Carry(_strong(params), _strong(state), _strong(self._driven.state), jnp.array(True))
        self._stateful = state is not None
        self._circumstances: dict[str, Any] = {**self._driven.circumstances, "engine": "one by one"}
        self._sizes = Counter[int]()
        self._mapped: bool | None = None  # None as long as nobody tried
        self._spent = {"updates": 0, "batches": 0, "products": 0}
        self._memory = Memory([batches, held_out])
        self._pool: list[Any] | None = None
        self._kept: list[Any] = []
        self._stream: Iterator[Any] = iter(())
        self._carry, self._keys, self._made = self._found, key, 0
        self._one = jax.jit(self._update)
        self._all = jax.jit(jax.vmap(self._update, (0, 0, None, None, None)))
        self._score_one = jax.jit(self._scored)
        self._score_all = jax.jit(jax.vmap(self._scored, (0, None)))

    @property
    def planned(self) -> tuple[Any, int, int] | None:
        """What the ``inject`` that was given follows, if its end is known."""
        return self._driven.planned

    @property
    def epoch(self) -> float | None:
        """Updates in one pass over the batches, where their number is known or their end was seen."""
        return self._per_epoch

    @property
    def cost(self) -> dict[str, int]:
        """``updates`` and ``batches`` so far, of candidates that train together each, and Hessian ``products``."""
        return dict(self._spent)

    @property
    def valid_for(self) -> dict[str, Any]:
        """Optimizer, its hyperparameters, ratios, the usual examples per update, and how candidates were trained."""
        usual = [size for size, _ in self._sizes.most_common(1)]
        return self._circumstances | ({"examples_per_update": usual[0]} if usual else {})

    def prepare(self, updates: int) -> None:
        """Keep batches for so many updates, and held-out ones, from one pass."""
        self._memory.restore()
        seed_all(0)
        with _said("going through batches"):
            self._pool, self._kept = parted(self._fresh, updates)
            if len(self._pool) < updates:  # the end was seen
                self._per_epoch = len(self._pool) + len(self._kept)
            if self._score_on is not None:
                self._pool += self._kept
                self._kept = list(map(fresh, self._score_on()))
        if not self._kept:
            raise FinderError("find_lr: held_out is empty. Give it at least one batch, or leave it out.")

    def start(self, seed: int) -> None:
        """Begin at the state that was found."""
        self._memory.restore()
        seed_all(seed)
        self._carry, self._made = self._found, 0
        self._keys = None if self._key is None else jax.random.fold_in(self._key, seed)
        self._stream = endless(self._fresh) if self._pool is None else shuffled(self._pool, seed)

    def step(self, rate: float) -> float:
        """Make one update."""
        with _said(f"update {self._spent['updates']}, at the rate {rate:.3g},"):
            batch = self._next()
            self._carry, loss = self._one(self._carry, _float(rate), batch, self._keys, self._made)
            self._made += 1
            self._spent["updates"] += 1
            return float(loss)

    def score(self) -> float:
        """Return the mean loss per example over the held-out batches."""
        with _said("scoring"):
            return float(self._mean(partial(self._score_one, self._carry)))

    def scores(self, rows: Sequence[Sequence[float]], seed: int) -> list[float]:
        """Train a candidate per row, five at a time where that is possible."""
        if len(rows) > 1 and self._mapped is not False:
            try:
                parts = [rows[i : i + WIDTH] for i in range(0, len(rows), WIDTH)]
                return [score for part in parts for score in self._together(part, seed)]
            except FinderError:
                raise
            except Exception as error:
                self._mapped = False
                self._circumstances["engine"] = f"one by one ({_brief(error)})"
        return one_by_one(self, rows, seed)

    def ceiling(self, seed: int) -> float | None:
        """Return the rate at which curvature makes training unstable.

        None if it cannot be told, if there is none, or if to tell it would take a CPU longer than the search.
        """
        size = sum(leaf.size for leaf in jax.tree.leaves(self._found.params))
        if size > LARGEST and jax.default_backend() == "cpu":
            return None
        try:
            found = self.curvature(seed)
        except RuntimeError:  # FinderError, or no memory for it
            return None
        self._spent["products"] = found.iterations
        return found.rate if math.isfinite(found.rate) else None

    def curvature(self, seed: int) -> Ceiling:
        """Return the ceiling at the state that was found.

        Raises:
            FinderError: It cannot be told.
        """
        self.start(seed)
        with _said("differentiating twice"):
            batches = list(islice(self._fresh() if self._pool is None else self._pool, BATCHES))
            if not batches:
                raise FinderError("ceiling: batches is empty. Give at least one batch.")
            carry, keys = self._found, self._keys
            return measured(
                lambda params, batch: self._objective(params, carry.state, batch, keys)[0], carry.params,
                replace(self._driven, state=carry.opt_state), batches, seed,
            )  # fmt: skip

    def restore(self) -> None:
        """Put loaders and global generators back."""
        self._stream, self._carry = iter(()), self._found
        self._memory.restore()

    # -- what is compiled ----------------------------------------------------------------------------------------

    def _update(self, carry: Carry, rate: Any, batch: Any, keys: Any, index: Any) -> tuple[Carry, Any]:
        """One update of one candidate: the next carry, and the loss before."""
        key = None if keys is None else jax.random.fold_in(keys, index)
        (loss, state), gradients = jax.value_and_grad(self._objective, has_aux=True)(
            carry.params, carry.state, batch, key
        )
        updates, opt_state = self._driven.update(rate, gradients, carry.opt_state, carry.params, loss)
        params = optax.apply_updates(carry.params, updates)
        return Carry(params, state, opt_state, carry.finite & jnp.isfinite(loss)), loss

    def _objective(self, params: Any, state: Any, batch: Any, key: Any) -> tuple[Any, Any]:
        """The loss, and the state after it."""
        found = self._loss(*self._arguments(params, state, batch), *(() if key is None else (key,)))
        if self._stateful and not (isinstance(found, tuple) and len(found) == 2):
            raise FinderError(
                f"find_lr: with state=, loss must return (loss, state), it returned {_shape(found)}. Return both."
            )
        loss, state = found if self._stateful else (found, None)
        return _one_number(loss, "loss"), state

    def _scored(self, carry: Carry, batch: Any) -> Any:
        """The loss of one candidate on a held-out batch."""
        if self._evaluate is None:
            return self._objective(carry.params, carry.state, batch, self._key)[0]
        return _one_number(self._evaluate(*self._arguments(carry.params, carry.state, batch)), "evaluate")

    def _arguments(self, params: Any, state: Any, batch: Any) -> tuple[Any, ...]:
        return (params, state, batch) if self._stateful else (params, batch)

    # -- all candidates at once ----------------------------------------------------------------------------------

    def _together(self, rows: Sequence[Sequence[float]], seed: int) -> list[float]:
        """Train up to five rows; places that are left over repeat the last one."""
        self.start(seed)
        full = [*rows, *[rows[-1]] * (WIDTH - len(rows))]
        carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (WIDTH, *x.shape)), self._found)
        for index, rates in enumerate(zip(*full, strict=True)):
            batch = self._next()
            arguments = carry, _float(rates), batch, self._keys, index
            if self._mapped is None:
                _check_no_effects(self._all, arguments)
                self._mapped, self._circumstances["engine"] = True, "all at once"
            carry, _ = self._all(*arguments)
            self._spent["updates"] += len(rows)
        scores = self._mean(partial(self._score_all, carry))[: len(rows)].tolist()
        if len(set(scores)) == 1 < len(set(map(tuple, rows))):
            self._check_that_rates_matter(carry.params)
        return [score if good else math.nan for score, good in zip(scores, carry.finite.tolist(), strict=False)]

    def _check_that_rates_matter(self, params: Any) -> None:
        """Raise if candidates of different rates moved, all to the same place."""
        moved = False
        for now, before in zip(*map(jax.tree.leaves, (params, self._found.params)), strict=True):
            places = np.asarray(now)
            if (places != places[:1]).any():
                return
            moved = moved or bool((places[0] != np.asarray(before)).any())
        if moved:
            raise FinderError(
                "find_lr: every candidate moves alike, so the optimizer does not use the rate that it is given. Its "
                "function must hand it on: lambda rate: optax.adam(rate)."
            )

    def _mean(self, loss: Callable[[Any], Any]) -> Any:
        """The mean of ``loss(batch)`` per example over the held-out batches."""
        counts = [examples(batch) or 1 for batch in self._kept]
        self._spent["batches"] += len(counts)
        total = sum(n * jax.device_get(loss(batch)).astype(float) for n, batch in zip(counts, self._kept, strict=True))
        return total / sum(counts)

    def _fresh(self) -> Iterator[Any]:
        return map(fresh, self._begin())

    def _next(self) -> Any:
        batch = next(self._stream)
        self._spent["batches"] += 1
        self._sizes[examples(batch)] += 1
        return batch


@contextmanager
def _said(where: str) -> Iterator[None]:
    """Say of an exception where it came from."""
    try:
        yield
    except FinderError:
        raise
    except Exception as error:
        raise FinderError(f"find_lr: {where} raised {_brief(error)}. Everything is as it was before.") from error


def _brief(error: Exception) -> str:
    """The kind of an exception, and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300].rstrip('.')}"


def _float(value: Any) -> Any:
    return jnp.asarray(value, jnp.result_type(float))


def _strong(tree: Any) -> Any:
    """The tree as arrays of JAX with a dtype of their own, so that a program fits the first update and all others."""

    def strong(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and not getattr(leaf, "weak_type", False):  # keys have none
            return leaf
        return jnp.asarray(leaf, jnp.result_type(leaf))

    return jax.tree.map(strong, tree)


def _one_number(loss: Any, name: str) -> Any:
    if not isinstance(loss, (int, float)) and getattr(loss, "shape", None) != ():
        raise FinderError(
            f"find_lr: {name} must return one number, the mean over the batch, it returned {_shape(loss)}. Add .mean()."
        )
    return loss


def _shape(value: Any) -> str:
    return f"an array of shape {tuple(value.shape)}" if hasattr(value, "shape") else f"a {type(value).__name__}"


def _check_params(params: Any) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise FinderError("find_lr: params holds no arrays, so there is nothing to train.")
    for path, leaf in leaves:
        name = f"params{jax.tree_util.keystr(path)}"
        if not isinstance(leaf, (float, complex)) and not hasattr(leaf, "dtype"):
            raise FinderError(
                f"find_lr: {name} is a {type(leaf).__name__}, not an array. Give the arrays alone, of Equinox "
                "eqx.partition(model, eqx.is_inexact_array)[0], and put the rest back inside loss."
            )
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            raise FinderError(
                f"find_lr: {name} has the dtype {jnp.result_type(leaf)}, which has no gradients. Leave it out of "
                "params; what changes in training goes into state=."
            )
        if isinstance(leaf, jax.Array) and leaf.is_deleted():
            raise FinderError(
                f"find_lr: {name} was donated to a compiled function and is gone. Give the params that it returned."
            )


def _check_key(key: Any) -> None:
    try:
        if key is not None:
            jax.random.fold_in(key, 0)
    except (TypeError, ValueError) as error:
        raise FinderError(
            f"find_lr: key must be one key of jax.random, for example jax.random.key(0), got {type(key).__name__}."
        ) from error


def _check_no_effects(program: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """Check that nothing is printed or called: under ``vmap`` that would happen for all at once, in any order.

    Raises:
        NotImplementedError: Something is.
    """
    if jax.make_jaxpr(program)(*arguments).effects:
        raise NotImplementedError("the loss calls back into Python")
