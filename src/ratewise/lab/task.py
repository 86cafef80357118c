"""A task: a model, data, and how its results are measured. Everything that a comparison needs to know.

The data is split once and for all (fixed seed); per run, a seed fixes the model's initial values and the order of
the batches, the same for every strategy: runs are paired.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import TaskError, nearest
from ratewise.lab.streams import gathered, is_loader, stream

Pair: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Task:
    """What to train, on what, and what counts.

    Args:
        name: What it is called in tables and files.
        data: ``(inputs, targets)``, which is split 60:20:20 once and for all, or a mapping with ``"train"``,
            ``"valid"`` and ``"test"``, each such a pair. Arrays, tensors or lists; the first axis counts examples.
            Each of the three may also be a loader: whatever gives an epoch of batches ``(inputs, targets)`` each time
            it is iterated over, as a torch ``DataLoader`` does. The one for ``"train"`` keeps its own batch size,
            shuffling and augmentation. A function without arguments that returns any of these is called when the
            data is needed, in every process anew: it must give the same each time.
        model: A function without arguments that makes a new ``torch.nn.Module``; its random initial values follow
            the run's seed.
        keras_model: The same for Keras, if the task shall run with ``engine="keras"``.
        jax_model: The same for JAX, with ``engine="jax"``: it returns an object with
            ``init(key, inputs) -> parameters`` and ``apply(parameters, inputs) -> output``, as a Flax module has.
        loss: ``"cross_entropy"`` (of logits), ``"mse"``, or for PyTorch a function ``(output, target) -> mean loss``.
        steps: Optimizer updates of one run.
        batch_size: Examples per update; of a loader, those of its first batch.
        clip_norm: Largest norm of a run's gradient; longer ones are shortened to it before each update.
        character: What makes one rate better than another here, in a few words: ``"noise"``, ``"overfits"``.
        description: One sentence about the task.
        version: Change it to run everything again.

    Raises:
        TaskError: A setting is not usable.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> task = Task("toy", data=(rng.normal(size=(100, 3)), rng.integers(0, 2, 100)), model=None)
        >>> {name: len(task.splits[name][0]) for name in ("train", "valid", "test")}
        {'train': 60, 'valid': 20, 'test': 20}
    """

    name: str
    data: Any
    model: Callable[[], Any] | None
    keras_model: Callable[[], Any] | None = None
    jax_model: Callable[[], Any] | None = None
    loss: str | Callable[[Any, Any], Any] = "cross_entropy"
    steps: int = 300
    batch_size: int = 16
    clip_norm: float | None = None
    character: str = ""
    description: str = ""
    version: int = 1
    reference: str = field(default="", compare=False)  # how a worker finds the task again; set by load()

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in "/\\\n"):
            raise TaskError(f"Task: name must be a short word without slashes, got {self.name!r}.")
        for name in ("steps", "batch_size"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise TaskError(
                    f"Task {self.name!r}: {name} must be an integer of at least 1, got {getattr(self, name)!r}."
                )
        clip = self.clip_norm
        if clip is not None and (type(clip) not in (int, float) or not 0 < clip < np.inf):
            raise TaskError(f"Task {self.name!r}: clip_norm must be a number above 0 or None, got {clip!r:.40}.")
        if isinstance(self.loss, str) and self.loss not in ("cross_entropy", "mse"):
            hint = nearest(self.loss, ("cross_entropy", "mse"))
            raise TaskError(
                f"Task {self.name!r}: unknown loss {self.loss!r}.{hint} A function (output, target) works too."
            )

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: without the data that was read, which it reads itself when it is needed."""
        state = dict(vars(self))
        if "_read" in state:
            state["_seen"] = _sample(state.pop("_read")[0])
        return state

    @property
    def metric(self) -> str:
        """What is shown beside the loss: ``"accuracy"`` for classes, else the loss itself."""
        return "accuracy" if self.loss == "cross_entropy" else "mse" if self.loss == "mse" else "loss"

    @property
    def splits(self) -> dict[str, Pair]:
        """The data as arrays: float32 or int64 inputs and targets for ``"train"``, ``"valid"`` and ``"test"``.

        Of a loader it is the first epoch under seed 0, of the training loader at most ``steps`` batches.
        """
        return self._read[0]

    @property
    def examples(self) -> int:
        """Training examples in an epoch.

        Of a loader whose epoch is longer than ``steps`` batches it is their number times ``batch_size``; if it does
        not say how many it has, the examples of ``steps`` batches.
        """
        try:
            batches = len(self._read[1])
        except (TypeError, NotImplementedError):  # no loader, or one without a length
            batches = 0
        return batches * self.batch_size if batches > self.steps else len(self.splits["train"][0])

    @property
    def streamed(self) -> bool:
        """Whether the training batches come from a loader: from ``stream``, not from ``order``."""
        return self._read[1] is not None

    @cached_property
    def _read(self) -> tuple[dict[str, Pair], Any]:
        """The splits, and the loader of the training batches if there is one."""
        splits, loader = self._read_anew()
        if not _alike(_sample(splits), vars(self).get("_seen")):
            raise TaskError(
                f"Task {self.name!r}: its data is not the same in every process, so runs could not be compared. Let "
                "what is random in it draw from a generator with a fixed seed."
            )
        return splits, loader

    def _read_anew(self) -> tuple[dict[str, Pair], Any]:
        data = self.data() if callable(self.data) else self.data
        if not isinstance(data, Mapping):
            return self._cut(*self._pair("data", data)), None
        missing = [name for name in SPLITS if name not in data]
        if missing:
            raise TaskError(f"Task {self.name!r}: data needs 'train', 'valid' and 'test', {missing[0]!r} is missing.")
        splits = {
            name: self._gathered(name, data[name]) if is_loader(data[name]) else self._pair(name, data[name])
            for name in SPLITS
        }
        return splits, data["train"] if is_loader(data["train"]) else None

    def _cut(self, inputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, Pair]:
        order = np.random.default_rng(0).permutation(len(inputs))
        cuts = [len(order) * 6 // 10, len(order) * 8 // 10]
        if len(order) < 5:
            raise TaskError(f"Task {self.name!r}: {len(order)} examples cannot be split into train, valid and test.")
        return {name: (inputs[part], targets[part]) for name, part in zip(SPLITS, np.split(order, cuts), strict=True)}

    def _gathered(self, name: str, loader: Any) -> Pair:
        limit = self.steps if name == "train" else None
        try:
            parts = gathered(loader, limit)
            again = gathered(loader, 1)
        except TaskError as error:
            raise TaskError(f"Task {self.name!r}, {name}: {error}") from error
        if not parts[0]:
            raise TaskError(f"Task {self.name!r}: the loader of {name} gave no batch. Give it at least one.")
        try:
            arrays = [[_array(batch) for batch in part] for part in parts]
            inputs, targets = (np.concatenate(batches) for batches in arrays)
        except (TypeError, ValueError) as error:
            raise TaskError(
                f"Task {self.name!r}: the batches of {name} cannot be made into arrays ({error}). Examples must have "
                "the same shape in every batch."
            ) from error
        if not _begins(arrays, again):
            raise TaskError(
                f"Task {self.name!r}: the loader of {name} gives other batches under the same seed, so strategies "
                "could not be compared on the same batches. Let it draw from torch, numpy.random or random, or from "
                "the generator= of its DataLoader."
            )
        if name == "train" and _begins(arrays, gathered(loader, _FEW, seed=1)):
            first, second = (gathered(loader, _FEW, epochs=epochs) for epochs in (1, 2))
            if not _begins([[_array(batch) for batch in part] for part in first], second):
                raise TaskError(
                    f"Task {self.name!r}: the loader of train shuffles, but gives the same order under every seed. Let "
                    "its sampler draw from torch, numpy.random or random, or keep its generator as an attribute."
                )
        pair, size = self._pair(name, (inputs, targets)), len(arrays[0][0])
        if name == "train" and size != self.batch_size:
            raise TaskError(
                f"Task {self.name!r}: the loader of train gives batches of {size}, and batch_size, by which epochs are "
                f"counted, is {self.batch_size}. Write batch_size={size}."
            )
        return pair

    def _pair(self, name: str, pair: Any) -> Pair:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TaskError(f"Task {self.name!r}: {name} must be a pair (inputs, targets), got {type(pair).__name__}.")
        try:
            inputs, targets = (_array(part) for part in pair)
        except (TypeError, ValueError) as error:
            raise TaskError(f"Task {self.name!r}: {name} cannot be made into arrays ({error}).") from error
        if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets):
            raise TaskError(
                f"Task {self.name!r}: {name} needs as many inputs as targets, got {inputs.shape} and {targets.shape}."
            )
        if not len(inputs):
            raise TaskError(f"Task {self.name!r}: {name} is empty. Give it at least one example.")
        for what, part in (("inputs", inputs), ("targets", targets)):
            if part.dtype.kind == "f" and not np.isfinite(part).all():
                raise TaskError(
                    f"Task {self.name!r}: the {what} of {name} contain nan or infinity. Fill or drop them first."
                )
        if self.loss == "cross_entropy" and targets.dtype.kind != "i":
            raise TaskError(f"Task {self.name!r}: cross_entropy needs whole numbers as targets, got {targets.dtype}.")
        return inputs, targets

    def order(self, seed: int, steps: int) -> NDArray[np.int64]:
        """The training examples of each update, ``(steps, batch_size)``: shuffled epochs, one after the other.

        Raises:
            TaskError: The task is streamed: its loader has an order of its own.
        """
        if self.streamed:
            raise TaskError(f"Task {self.name!r}: its batches come from a loader. Take them from stream(seed, steps).")
        rng, count = np.random.default_rng(seed), len(self.splits["train"][0])
        epochs = -(-steps * self.batch_size // count)
        stream = np.concatenate([rng.permutation(count) for _ in range(epochs)])
        return stream[: steps * self.batch_size].reshape(steps, self.batch_size).astype(np.int64)

    def stream(self, seed: int, steps: int) -> Iterator[Pair]:
        """Yield the batches of a run as arrays: from the loader, or those that ``order`` names.

        Everything random in a loader, as far as it draws from torch, numpy, ``random`` or generators of its
        ``DataLoader``, is fixed by the seed and apart from what a model draws: every strategy sees the same batches.

        Args:
            seed: Of the run.
            steps: How many batches.

        Raises:
            TaskError: The loader gives no batches, or something else than ``(inputs, targets)``.
        """
        if self.streamed:
            for inputs, targets in stream(self._read[1], seed, steps):
                yield _array(inputs), _array(targets)
        else:
            inputs, targets = self.splits["train"]
            for batch in self.order(seed, steps):
                yield inputs[batch], targets[batch]

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of everything that a run's result depends on besides strategy, rate and seed.

        The model and a loss of one's own count with the text of the module that defines them.
        """
        code = [_code(part) for part in (self.model, self.keras_model, self.jax_model, self.loss, self.clip_norm)]
        digest = hashlib.sha256(repr((self.name, code, self.batch_size, self.version)).encode())
        for name in SPLITS:
            for part in self.splits[name]:
                digest.update(str((part.dtype, part.shape)).encode() + np.ascontiguousarray(part).tobytes())
        path = self.reference.rpartition(":")[0]
        digest.update(Path(path).read_bytes() if path else b"")  # the model of a user's task stands in its file
        return digest.hexdigest()[:16]


def _sample(splits: dict[str, Pair]) -> list[NDArray[Any]]:
    """Some elements of each array, at equal distances."""
    return [part.flat[:: max(1, part.size // 32)] for name in SPLITS for part in splits[name]]


def _alike(ours: list[NDArray[Any]], theirs: list[NDArray[Any]] | None) -> bool:
    """Whether two samples are of the same data, computed on the same or on another processor."""
    return theirs is None or all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(ours, theirs, strict=True)
    )


_FEW = 8
"""Batches of two epochs that are compared to see whether they are the same."""


def _begins(arrays: list[list[NDArray[Any]]], parts: tuple[list[Any], list[Any]]) -> bool:
    """Whether inputs and targets, batch by batch, begin with those of ``parts``."""
    return all(
        np.array_equal(ours, _array(theirs))
        for batches, part in zip(arrays, parts, strict=True)
        for ours, theirs in zip(batches, part, strict=False)
    )


def _code(thing: Any) -> str:
    """What a function does, as text that is the same in every process; other things as they print."""
    if isinstance(thing, partial):
        return f"{_code(thing.func)}{thing.args}{thing.keywords}"
    if not callable(thing):
        return repr(thing)
    name = f"{thing.__module__}:{getattr(thing, '__qualname__', type(thing).__qualname__)}"
    if name.startswith("ratewise."):
        return name
    cells = [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
    name += repr([value for value in cells if isinstance(value, (int, float, str, tuple))])
    for owner in (inspect.getmodule(thing), thing):  # a notebook has no module text, but the cell's
        try:
            return name + inspect.getsource(owner)  # type: ignore[arg-type]
        except (OSError, TypeError):
            continue
    return name + (thing.__code__.co_code.hex() if hasattr(thing, "__code__") else "")


def _array(part: Any) -> NDArray[Any]:
    """An array of float32 or int64, from whatever holds numbers."""
    array: NDArray[Any] = np.asarray(part.detach().cpu() if hasattr(part, "detach") else part)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"its elements are {array.dtype}, not numbers")
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
