"""Where the finder takes its batches from: what ``fit`` takes, gone through without moving what training uses.

Arrays are cut into batches anew in every epoch, as ``fit`` does. Of anything else one pass is kept in memory, as far
as it is needed, and later epochs are that in other orders: a pass costs time, may be shuffled by itself, and may draw
from random generators.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import keras
import numpy as np

from ratewise.errors import FinderError
from ratewise.finder.batches import Lookahead, aside, counted

SIZE = 32
"""Examples to a batch of arrays, as in ``fit``."""


class Feed(Protocol):
    """Batches as ``train_step`` takes them: x, ``(x, y)`` or ``(x, y, sample_weight)``.

    Args:
        length: How many there are in a pass; None as long as that is not known.
    """

    length: int | None

    def first(self) -> Any:
        """Return a batch."""

    def keep_aside(self, needed: int) -> list[Any]:
        """Take a tenth out and return it, in batches; leave enough for ``needed`` batches of training if there is."""

    def epochs(self, seed: int) -> Iterator[Any]:
        """Yield epoch after epoch, each in an order of its own that ``seed`` fixes."""

    def every(self) -> Iterator[Any]:
        """Yield each batch once."""


def feed(
    x: Any, y: Any = None, sample_weight: Any = None, batch_size: int | None = None, class_weight: Any = None,
    name: str = "x",
) -> Feed:  # fmt: skip
    """Return the batches of what ``fit`` would take.

    Args:
        x: Arrays (numpy, tensors of any framework, pandas; also in lists, tuples and dicts), a ``tf.data.Dataset``, a
            ``keras.utils.PyDataset``, a list of batches, which are tuples, another iterable of batches that begins anew
            each time, such as torch's ``DataLoader``, a function that returns such an iterable, or a ``Lookahead``.
        y: Targets, with arrays alone.
        sample_weight: Weights of examples, with arrays alone.
        batch_size: With arrays alone.
        class_weight: Weight of each class, as a dict.
        name: How messages call ``x``.

    Raises:
        FinderError: It cannot be gone through, or arrays do not belong together.
    """
    if class_weight is not None and sample_weight is not None:
        raise FinderError("find_lr: sample_weight= and class_weight= exclude each other, as in fit. Give one of them.")
    begin = _beginning(x, name)
    if begin is None:
        if y is None and isinstance(x, list) and x and all(isinstance(part, tuple) for part in x):
            return Stream(lambda: iter(x), class_weight, name, len(x))
        return Arrays(_packed(x, y, sample_weight), batch_size, class_weight, name)
    for given, what in ((y, "y"), (sample_weight, "sample_weight="), (batch_size, "batch_size=")):
        if given is not None:
            raise FinderError(
                f"find_lr: {what} belongs to arrays, and {name} is a {type(x).__name__}, whose batches bring "
                "their own. Leave it out."
            )
    return Stream(begin, class_weight, name, counted(x))


class Arrays:
    """Examples in memory."""

    def __init__(self, data: Any, size: int | None, class_weight: Any, name: str) -> None:
        self._data, self._class_weight, self._name = _mapped(lambda leaf: _array(leaf, name), data), class_weight, name
        lengths = {len(leaf) for leaf in _leaves(self._data)}
        if size is not None and (type(size) is not int or size < 1):
            raise FinderError(f"find_lr: batch_size must be an integer of at least 1, got {size!r:.40}.")
        if not lengths:
            raise FinderError(f"find_lr: {name} holds no array. Give it the examples.")
        if len(lengths) > 1:
            found = ", ".join(map(str, sorted(lengths)))
            raise FinderError(
                f"find_lr: {name} and what belongs to it must have the same number of examples, got {found}."
            )
        self._rows = np.arange(lengths.pop())
        self._size = SIZE if size is None else size
        self.length: int | None = len(self._cuts(self._rows))

    def first(self) -> Any:
        self._check()
        return self._batch(self._rows[: self._size])

    def keep_aside(self, needed: int) -> list[Any]:
        self._check()
        mixed = np.random.default_rng(0).permutation(self._rows)
        enough = (needed + aside(needed)) * self._size
        count = aside(min(len(mixed), enough))
        self._rows = mixed[count:]
        return list(self._cut(mixed[:count]))

    def epochs(self, seed: int) -> Iterator[Any]:
        self._check()
        rng = np.random.default_rng(seed)
        size = min(self._size, len(self._rows))
        while True:
            mixed = rng.permutation(self._rows)
            for i in range(0, len(mixed) - size + 1, size):  # whole batches, as a compiled step is made for a shape
                yield self._batch(mixed[i : i + size])

    def every(self) -> Iterator[Any]:
        return self._cut(self._rows)

    def _check(self) -> None:
        too_few(len(self._cuts(self._rows)), self._name, f", as batches hold {self._size} examples")

    def _cuts(self, rows: Any) -> range:
        return range(0, len(rows), self._size)

    def _cut(self, rows: Any) -> Iterator[Any]:
        return (self._batch(rows[i : i + self._size]) for i in self._cuts(rows))

    def _batch(self, rows: Any) -> Any:
        return weighted(_mapped(lambda leaf: leaf[rows], self._data), self._class_weight)


class Stream:
    """Batches that come one after the other."""

    def __init__(
        self, begin: Callable[[], Iterator[Any]], class_weight: Any, name: str, length: int | None = None
    ) -> None:
        self._begin, self._class_weight, self._name, self.length = begin, class_weight, name, length
        self._kept: list[Any] = []
        self._coming: Iterator[Any] | None = None
        self._parted = False

    def first(self) -> Any:
        for batch in self.every():
            return batch
        too_few(0, self._name)
        return None

    def keep_aside(self, needed: int) -> list[Any]:
        while len(self._kept) - aside(len(self._kept)) < needed and self._has(len(self._kept)):
            pass
        too_few(len(self._kept), self._name)
        self._parted, count = True, aside(len(self._kept))
        chosen = {
            (2 * i + 1) * len(self._kept) // (2 * count) for i in range(count)
        }  # from all over, as data is sorted
        held_out = [self._kept[i] for i in sorted(chosen)]
        self._kept = [batch for i, batch in enumerate(self._kept) if i not in chosen]
        return held_out

    def epochs(self, seed: int) -> Iterator[Any]:
        rng, i = np.random.default_rng(seed), 0
        while not self._parted and self._has(i):
            yield self._kept[i]
            i += 1
        if not self._parted:
            too_few(len(self._kept), self._name)
        while True:
            for j in rng.permutation(len(self._kept)):
                yield self._kept[j]

    def every(self) -> Iterator[Any]:
        return (weighted(_mapped(_own, batch), self._class_weight) for batch in self._begin())

    def _has(self, i: int) -> bool:
        """Whether there is a batch ``i``; it is kept from here on."""
        self._coming = self.every() if self._coming is None else self._coming
        while len(self._kept) <= i:
            batch = next(self._coming, self)
            if batch is self:
                self.length = len(self._kept)
                return False
            self._kept.append(batch)
        return True


def too_few(count: int, name: str, why: str = "") -> None:
    """Refuse none and one."""
    if not count:
        raise FinderError(f"find_lr: {name} is empty. Give at least two batches.")
    if count == 1:
        raise FinderError(
            f"find_lr: {name} has one batch only{why}, so every update would see the same examples. Give more "
            "examples, or a smaller batch_size=."
        )


def examples(batch: Any) -> int:
    """Return how many examples the batch has, from its first array; 0 if that is not seen."""
    return next((int(leaf.shape[0]) for leaf in _leaves(batch) if getattr(leaf, "shape", None)), 0)


def tensors(batch: Any) -> Any:
    """Return the batch in tensors of the backend; texts stay what they are."""
    return _mapped(
        lambda leaf: leaf if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "OSU" else _tensor(leaf), batch
    )


def _tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):  # torch's tensor would be the same memory, into which a model may write
        leaf = leaf.copy()
    return keras.ops.convert_to_tensor(leaf) if hasattr(leaf, "shape") else leaf


def weighted(batch: Any, class_weight: Mapping[int, float] | None) -> Any:
    """Return the batch with the weights of its examples' classes."""
    if class_weight is None:
        return batch
    if not isinstance(batch, tuple) or len(batch) != 2:
        raise FinderError("find_lr: class_weight= needs batches of (x, y), without sample weights.")
    y = np.asarray(keras.ops.convert_to_numpy(batch[1]))
    classes = y.argmax(-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(len(y))
    weights = [class_weight.get(int(c), 1.0) for c in np.round(classes)]
    return (*batch, np.asarray(weights, keras.config.floatx()))


# -- what there is ---------------------------------------------------------------------------------------------


def _beginning(x: Any, name: str) -> Callable[[], Iterator[Any]] | None:
    """What begins the batches anew; None for arrays."""
    tensorflow = sys.modules.get("tensorflow")
    if isinstance(x, Lookahead):
        return x.coming
    if isinstance(x, keras.utils.PyDataset):
        return lambda: (x[i] for i in range(sys.maxsize if x.num_batches is None else x.num_batches))
    if tensorflow is not None and isinstance(x, tensorflow.data.Dataset):
        return lambda: iter(_apart(x, name))
    if hasattr(x, "shape") or isinstance(x, (list, tuple, Mapping)):
        return None
    if isinstance(x, Iterator):
        raise FinderError(
            f"find_lr: {name} is an iterator, and what the finder takes would be missing in training. Give a function "
            "that returns a new one; or write stream = ratewise.finder.Lookahead(iterator), train from stream and give "
            "it here."
        )
    if callable(x):
        return lambda: iter(x())
    if isinstance(x, Iterable) and not isinstance(x, (str, bytes)):
        return lambda: iter(x)
    raise FinderError(
        f"find_lr: {name} must be arrays, a dataset, an iterable of batches or a function that returns one, got "
        f"{type(x).__name__}."
    )


_PLACES = {
    "ShuffleDatasetV3": "DummySeedGenerator",
    "ShuffleAndRepeatDatasetV2": "DummySeedGenerator",
    "CacheDatasetV2": "DummyMemoryCache",
}
"""What TensorFlow's datasets share between all passes through them: an order's position, a cache; and what stands for a
new one."""


def _apart(dataset: Any, name: str) -> Any:
    """A copy of a ``tf.data.Dataset`` with orders and caches of its own, from their start.

    A dataset that shuffles goes on to another order with every pass, so that a pass of ours would change training's.
    Seeds that were left open are fixed in the copy.
    """
    import tensorflow as tf

    try:
        graph = tf.compat.v1.GraphDef.FromString(
            tf.raw_ops.DatasetToGraphV2(
                input_dataset=tf.data.experimental.to_variant(dataset), external_state_policy=1
            ).numpy()
        )
        nodes = {node.name: node for node in graph.node}
        for node in graph.node:
            if node.op in _PLACES:
                inputs = [nodes[i] for i in node.input if i in nodes and nodes[i].op == "Const"]
                for found in inputs:
                    if found.attr["dtype"].type == tf.resource.as_datatype_enum:
                        found.op = _PLACES[node.op]
                        found.attr.clear()
                seeds = [found for found in inputs if found.attr["value"].tensor.int64_val == [0]]
                if _PLACES[node.op] == "DummySeedGenerator" and len(seeds) == 2:
                    seeds[0].attr["value"].tensor.int64_val[0] = 1
        variant = tf.raw_ops.DatasetFromGraph(graph_def=graph.SerializeToString())
        return tf.data.experimental.from_variant(variant, dataset.element_spec)
    except Exception as error:
        raise FinderError(
            f"find_lr: {name} cannot be gone through apart from training ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:200]}). Give a function that returns a new dataset."
        ) from error


def _packed(x: Any, y: Any, sample_weight: Any) -> Any:
    """The data as ``fit`` gives it to ``train_step``."""
    if y is None and sample_weight is None:
        return (x,) if isinstance(x, (list, tuple)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def _array(leaf: Any, name: str) -> Any:
    """An array of numpy; floats in Keras' type, as ``fit`` has them."""
    if not hasattr(leaf, "shape"):
        raise FinderError(f"find_lr: {name} must hold arrays, got {type(leaf).__name__}. Write numpy.asarray(...).")
    array = keras.ops.convert_to_numpy(leaf) if keras.ops.is_tensor(leaf) else np.asarray(leaf)
    if not array.shape:
        raise FinderError(f"find_lr: {name} must hold arrays of examples, got one number.")
    return array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array


def _own(leaf: Any) -> Any:
    """What can be kept of a batch: nobody else writes into it, and every backend takes it."""
    if isinstance(leaf, np.ndarray) or (keras.backend.backend() != "tensorflow" and hasattr(leaf, "shape")):
        return np.array(keras.ops.convert_to_numpy(leaf) if keras.ops.is_tensor(leaf) else leaf)
    return leaf


def _mapped(use: Callable[[Any], Any], data: Any) -> Any:
    """``data`` with every array replaced; lists become tuples, as in ``fit``."""
    if data is None:
        return None
    if isinstance(data, Mapping):
        return {key: _mapped(use, part) for key, part in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(_mapped(use, part) for part in data))
    if isinstance(data, (list, tuple)):
        return tuple(_mapped(use, part) for part in data)
    return use(data)


def _leaves(data: Any) -> list[Any]:
    found: list[Any] = []
    _mapped(found.append, data)
    return found
