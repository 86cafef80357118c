"""``find_lr`` for Keras: the finder, on the very model and optimizer that are in training, on every backend.

It trains the originals and puts them back, rather than a copy: what a subclassed model holds, and an optimizer's
exclusions from weight decay, survive no copy. The train and test functions are made anew for it and the user's put
back, so that nothing that was compiled for training is compiled again.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from statistics import fmean
from typing import Any

import keras

from ratewise.core.ruled import unruled
from ratewise.core.shapes import Constant
from ratewise.errors import AdapterError, FinderError
from ratewise.finder.find import find
from ratewise.finder.finding import Finding
from ratewise.finder.interrupts import uninterrupted
from ratewise.finder.sweep import one_by_one
from ratewise.keras import attach
from ratewise.keras.batches import Arrays, Feed, examples, feed, tensors
from ratewise.keras.curvature import BATCHES, measured
from ratewise.keras.optimizers import Scheduled
from ratewise.keras.schedule import Schedule
from ratewise.keras.snapshot import Memory, seed_all
from ratewise.keras.steps import Steps

_MOST = 10_000
"""Held-out batches, at most: a dataset that repeats has no end."""

_APART = 1_000_003
"""How far seed generators of neighbouring seeds lie apart, in calls."""


def find_lr(
    model: Any, x: Any, y: Any = None, *, sample_weight: Any = None, class_weight: dict[int, float] | None = None,
    batch_size: int | None = None, method: str = "probe", schedule: Any = None, horizon: Any = None,
    held_out: Any = None, low: float = 1e-7, high: float = 10.0, steps: int | None = None, spacing: str = "geometric",
    stop: float = 4.0, seeds: int = 3, seed: int = 0,
) -> Finding:  # fmt: skip
    """Find a learning rate for a compiled model, and leave everything as it was, bit for bit.

    The paired probe trains candidates on short, complete copies of the schedule to be used, all from the present state
    of model and optimizer and on the same batches, and scores them on held-out batches. The model may be in the middle
    of training and follow a schedule. Everything that ``ratewise.keras.snapshot.Memory`` names is put back, also after
    an exception or Ctrl-C. A model that has not been built is built, as its first ``fit`` would build it.

    What is trained is what ``fit`` trains: the model's own ``train_step``, compiled loss and optimizer, with its
    momentum, weight decay, clipping, accumulation and loss scaling. The score is ``val_loss``: the compiled loss in
    inference mode, with regularizers. Other hyperparameters that follow schedules stay at their present values.

    Args:
        model: A compiled ``keras.Model``. Its ``train_step`` and ``test_step`` must report ``"loss"``.
        x: Arrays, also in lists and dicts; a ``tf.data.Dataset``, a ``keras.utils.PyDataset``, a list of batches, which
            are tuples, or another iterable of batches; or a function that returns one. Not an iterator, which would be
            used up: wrap that in ``ratewise.finder.Lookahead``.
        y: Targets, with arrays.
        sample_weight: Weights of examples, with arrays.
        class_weight: Weight of each class, as in ``fit``; held-out batches are weighted only if they are a part of x.
        batch_size: Of arrays; 32 by default.
        method: ``"probe"``, or ``"range"`` for Smith's range test.
        schedule: What the training will follow, a Ratewise schedule; by default what the optimizer follows now, if
            that is a ``ratewise.keras.Schedule`` with an end, and then only what is left of it; else a constant rate.
        horizon: Updates of the training, or its ``Horizon``; by default those of the schedule, or 400.
        held_out: ``(x, y)``, ``(x, y, sample_weight)``, or batches as for x, to score on. By default a tenth of x.
        low: Lowest rate that may be tried, above 0.
        high: Highest.
        steps: Updates of a candidate in a probe, by default an eighth of the horizon and at least 50; in a range test
            of the sweep, by default 100.
        spacing: Of the rates of the sweep: ``"geometric"`` or ``"linear"``.
        stop: The sweep stops once the smoothed loss is this many times its lowest value.
        seeds: Orders of the batches that the best candidates are trained on.
        seed: The first of them; fixes dropout too. The same seed gives the same answer.

    Returns:
        A ``Finding``; its ``suggestion`` is None, with a ``reason``, where the measurements do not support one.

    Raises:
        FinderError: No search can be made, or an update raised.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(), loss="mse")
        >>> x = keras.ops.convert_to_numpy(keras.random.normal((256, 4), seed=1))
        >>> finding = find_lr(model, x, x.sum(1), horizon=100, seeds=2)
        >>> finding.low <= finding.suggestion <= finding.high
        True
    """
    _check(model)
    data = feed(x, y, sample_weight, batch_size, class_weight)
    aside = None if held_out is None else _held_out(held_out, batch_size)
    trainable = KerasTrainable(model, data, aside, feeders=(x, held_out))
    return find(
        trainable, method=method, schedule=schedule, horizon=horizon, low=low, high=high, steps=steps, spacing=spacing,
        stop=stop, seeds=seeds, seed=seed,
    )  # fmt: skip


class KerasTrainable:
    """A ``Trainable`` over a compiled model.

    Args:
        model: A compiled model; it is built if it is not.
        data: Batches to train on.
        held_out: Batches to score on; None to keep a tenth of ``data`` aside.
        feeders: Where they come from; their attributes and random generators are put back.
    """

    def __init__(self, model: Any, data: Feed, held_out: Feed | None = None, feeders: Sequence[Any] = ()) -> None:
        self._model, self._data, self._aside, self._feeders = model, data, held_out, feeders
        self._optimizer = attach.inner(model.optimizer)
        _build(model, data, feeders)
        self._accumulation = attach.accumulation(self._optimizer)
        self._memory = self._ready = Memory([model], feeders)
        self._held_out: list[Any] | None = None
        self._write: Callable[[float], object] = float
        self._steps: Steps | None = None
        self._stream: Iterator[Any] = iter(())
        self._spent = {"updates": 0, "batches": 0, "products": 0}
        self._circumstances, self._sizes = self._found(), Counter[int]()

    @property
    def planned(self) -> tuple[Any, int, int] | None:
        """What the optimizer follows, if that is a Ratewise schedule with an end."""
        held = _rate(self._optimizer)
        steps = unruled(held.lr).steps if isinstance(held, Schedule) else None
        return None if steps is None else (held.lr, math.ceil(steps), attach.updates(self._optimizer) + held.start)

    @property
    def epoch(self) -> float | None:
        """Updates in one pass over the data, where their number is known."""
        return None if self._data.length is None else self._data.length / self._accumulation

    @property
    def cost(self) -> dict[str, int]:
        """``updates`` and ``batches`` so far, of candidates that train together each, and Hessian ``products``."""
        return dict(self._spent)

    @property
    def valid_for(self) -> dict[str, Any]:
        """Optimizer, its hyperparameters, the usual examples per update, and at which update it stands."""
        usual = [size * self._accumulation for size, _ in self._sizes.most_common(1)]
        return self._circumstances | ({"examples_per_update": usual[0]} if usual else {})

    def prepare(self, updates: int) -> None:
        """Keep a tenth of the batches aside, if no held-out ones were given."""
        seed_all(0)
        if self._aside is None:
            self._held_out = self._data.keep_aside(updates * self._accumulation)
            return
        self._held_out = list(islice(self._aside.every(), _MOST + 1))
        if not 0 < len(self._held_out) <= _MOST:
            raise FinderError(
                "find_lr: held_out is empty. Give it at least one batch, or leave it out."
                if not self._held_out
                else f"find_lr: held_out has more than {_MOST} batches, or no end. Give fewer."
            )

    def start(self, seed: int) -> None:
        """Begin at the state that was found, with batches and dropout of ``seed``."""
        if self._steps is None:
            self._begin()
        self._ready.rewind()
        seed_all(seed)
        for state, value in self._ready.seeds:
            moved = value.copy()
            moved[1] = (int(moved[1]) + seed * _APART) % 2**31
            state.assign(moved)
        self._stream = self._data.epochs(seed)

    def step(self, rate: float) -> float:
        """Make one update; the loss is the mean over its batches."""
        assert self._steps is not None
        self._write(rate)
        first = not self._spent["updates"]
        before = attach.updates(self._optimizer) if first else 0
        losses = [self._said(self._steps.train, self._next(), rate) for _ in range(self._accumulation)]
        self._spent["updates"] += 1
        if first and self._optimizer is self._model.optimizer and attach.updates(self._optimizer) == before:
            raise FinderError(
                "find_lr: the model's train_step has not used model.optimizer, whose rate is sought. Compile the model "
                "with the optimizer that it trains with."
            )
        return fmean(losses)

    def score(self) -> float:
        """Return the mean loss per example over the held-out batches, in inference mode."""
        assert self._held_out is not None
        assert self._steps is not None
        sizes = [examples(batch) or 1 for batch in self._held_out]
        losses = [self._said(self._steps.test, tensors(batch)) for batch in self._held_out]
        return sum(size * loss for size, loss in zip(sizes, losses, strict=True)) / sum(sizes)

    def scores(self, rows: Sequence[Sequence[float]], seed: int) -> list[float]:
        """Train and score a candidate per row."""
        return one_by_one(self, rows, seed)

    def ceiling(self, seed: int) -> float | None:
        """Return the rate at which curvature makes training unstable; None if it cannot be told or there is none."""
        self.start(seed)
        try:
            batches = [tensors(batch) for batch in islice(self._data.epochs(seed), BATCHES)]
            found = measured(self._model, batches, seed)
        except Exception:  # a loss that is not differentiable twice, whatever a backend raises for it
            return None
        self._spent["products"] = found.iterations
        return found.rate if math.isfinite(found.rate) else None

    def restore(self) -> None:
        """Put everything back."""
        self._stream = iter(())
        with uninterrupted():
            try:
                self._ready.restore()
            finally:
                self._memory.restore()

    def _begin(self) -> None:
        """Build what was compiled, take over the rate, and make train and test functions that know it."""
        optimizer = self._optimizer
        if not all(part.built for part in _parts(self._model)):
            with suppress(Exception):  # what has no symbolic form is built by the first step
                self._model._symbolic_build(data_batch=tensors(self._data.first()))
            self._ready = Memory([self._model])
        if isinstance(optimizer, Scheduled):
            t = attach.updates(optimizer)
            optimizer.follow({name: Constant(schedule(t)) for name, schedule in optimizer.now().items()})
        if isinstance(_rate(optimizer), keras.Variable):
            self._write = lambda rate: setattr(optimizer, "learning_rate", rate)
        else:  # among the optimizer's variables, which are what JAX hands a compiled step
            variable = optimizer.add_variable((), name="learning_rate")
            optimizer.learning_rate = lambda: variable
            self._write = variable.assign
        self._steps = Steps(self._model)

    def _next(self) -> Any:
        batch = tensors(next(self._stream))
        self._spent["batches"] += 1
        self._sizes[examples(batch)] += 1
        return batch

    def _said(self, make: Callable[[Any], float], batch: Any, rate: float | None = None) -> float:
        """Make a step, and say of an exception where it came from."""
        try:
            return make(batch)
        except FinderError:
            raise
        except Exception as error:
            where = "scoring" if rate is None else f"update {self._spent['updates']}, at the rate {rate:.3g},"
            raise FinderError(f"find_lr: {where} raised {_named(error)} Everything is as it was before.") from error

    def _found(self) -> dict[str, Any]:
        optimizer, t = self._optimizer, attach.updates(self._optimizer)
        found: dict[str, Any] = {
            "optimizer": type(optimizer).__name__,
            "weight_decay": [float(optimizer.weight_decay or 0.0)],
            "ratios": {"learning_rate": 1.0},
            "engine": "one by one",
        }
        if hasattr(optimizer, "momentum"):
            found["momentum"] = float(optimizer.momentum)
        elif hasattr(optimizer, "beta_1") and hasattr(optimizer, "beta_2"):
            found["betas"] = [float(optimizer.beta_1), float(optimizer.beta_2)]
        return found | ({"at_update": t} if t else {})


def _rate(optimizer: Any) -> Any:
    """Whence the optimizer takes its rate, a variable, schedule or function; Keras has a getter for the value alone."""
    return optimizer._learning_rate


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise FinderError(f"find_lr: model must be a keras.Model, got {type(model).__name__}.")
    if not model.compiled or model.optimizer is None:
        raise FinderError(
            "find_lr: the model is not compiled, so it has neither optimizer nor loss. Write model.compile(optimizer, "
            "loss=...) first; the rate that the optimizer has then does not matter."
        )
    try:
        attach.inner(model.optimizer)
    except AdapterError:
        raise FinderError(
            "find_lr: the model has several optimizers, and one rate is sought. Compile it with one."
        ) from None


def _held_out(held_out: Any, batch_size: int | None) -> Feed:
    """The batches to score on: arrays come as a tuple or list, as in ``fit(validation_data=...)``."""
    if isinstance(held_out, list) and not all(isinstance(part, tuple) for part in held_out):
        held_out = tuple(held_out)
    x, y, sample_weight = (*held_out, None, None)[:3] if isinstance(held_out, tuple) else (held_out, None, None)
    if isinstance(held_out, tuple) and not 1 <= len(held_out) <= 3:
        raise FinderError(
            f"find_lr: held_out must be (x, y), (x, y, sample_weight) or a dataset, got {len(held_out)} parts."
        )
    found = feed(x, y, sample_weight, name="held_out")
    return feed(x, y, sample_weight, batch_size, name="held_out") if isinstance(found, Arrays) else found


def _parts(model: Any) -> list[Any]:
    """What ``fit`` builds before its first step."""
    compiled = (model.optimizer, model._compile_metrics, model._compile_loss)
    return [model, *model.layers, *(part for part in compiled if part is not None)]


def _build(model: Any, data: Feed, feeders: Sequence[Any]) -> None:
    """Give the model its initial weights, from the first batch if it must be; not so what was compiled with it.

    Raises:
        FinderError: There is nothing to train.
    """
    if not all(part.built for part in (model, *model.layers)):
        sources = Memory([], feeders)
        try:
            batch = tensors(data.first())
        finally:
            sources.restore()
        try:
            with keras.StatelessScope():  # so that nothing but the weights comes of it
                model(keras.utils.unpack_x_y_sample_weight(batch)[0])
        except Exception as error:
            if not model.variables:
                raise FinderError(
                    f"find_lr: the model is not built, and to call it on the first batch raised {_named(error)} Call "
                    "it on a batch first."
                ) from error
    if not model.variables:
        raise FinderError("find_lr: the model has no weights, so there is nothing to train.")
    if not model.trainable_variables:
        raise FinderError(
            "find_lr: every weight of the model is frozen, so there is nothing to train. Set trainable = True and "
            "compile again."
        )


def _named(error: Exception) -> str:
    """Class and message of an exception in a line, without the arguments that Keras adds and its colours."""
    said = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).partition("Arguments received")[0]
    return f"{type(error).__name__}: {' '.join(said.split())[:400].rstrip('. ')}."
