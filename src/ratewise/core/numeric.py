"""The handful of functions that a schedule's formula may call, for numbers and for every array library.

A formula is written once, as ``at(t, xp)``. ``xp`` is ``SCALAR`` for plain numbers and otherwise a small
object around the library that the position came from. That library is found in ``sys.modules`` by the type of
the value, so nothing is ever imported here: whoever made the array has imported it already.

Positions stay integers until they have been clipped and subtracted; only then do they become floats. That is
what keeps update 2**31 - 1 exact in frameworks that compute in float32.
"""

import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ratewise.core.checks import FAR
from ratewise.errors import ScheduleError


def _log1p(x: float) -> float:
    return math.log1p(x) if x > -1.0 else -math.inf


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf if x == 0 else math.nan


def _exp(x: float) -> float:
    return math.exp(x) if x < 709.0 else math.inf


def _float32_power(base: float, n: int) -> float:
    try:
        return min(base**n, 3.4e38)
    except OverflowError:
        return 3.4e38


class Scalar:
    """Plain ``int`` and ``float`` positions."""

    double = True
    far = FAR
    sqrt = staticmethod(math.sqrt)
    sin = staticmethod(math.sin)
    expm1 = staticmethod(math.expm1)
    log1p = staticmethod(_log1p)
    log = staticmethod(_log)
    exp = staticmethod(_exp)
    cos = staticmethod(math.cos)
    tanh = staticmethod(math.tanh)
    abs = staticmethod(abs)

    @staticmethod
    def floor(x: Any) -> float:
        return float(math.floor(x))

    power = powers = staticmethod(pow)
    real = staticmethod(float)

    @staticmethod
    def clip(x: Any, low: Any, high: Any) -> Any:
        return low if x < low else high if x > high else x

    @staticmethod
    def minimum(x: Any, y: Any) -> Any:
        return x if x < y else y

    @staticmethod
    def maximum(x: Any, y: Any) -> Any:
        return x if x > y else y

    @staticmethod
    def floor_divide(x: Any, y: Any) -> Any:
        return x // y

    @staticmethod
    def full(_: Any, value: float) -> float:
        return value

    @staticmethod
    def lookup(t: Any, joints: Sequence[Any], values: Sequence[float]) -> float:
        """``values[i]`` where ``i`` counts the joints at or before ``t``."""
        return values[bisect_right(joints, t)]


SCALAR = Scalar()
vars(SCALAR).update(
    {name: getattr(SCALAR, name) for name in dir(SCALAR) if name[0] != "_"}
)  # found sooner than by class


class Arrays:
    """What the array libraries share: numpy's names, and positions held as float64.

    float64 holds every position up to 2**53 exactly, so only JAX (which may have no float64) keeps integers.

    Args:
        module: The library itself, with the functions of its own that a formula may call.
    """

    double = True
    sliced = False  # whether a piece of a chain is evaluated only where it is needed
    far: float = FAR

    def __init__(self, module: Any) -> None:
        self.module = module

    def prepare(self, t: Any) -> Any:
        """Return positions a formula can use: wide enough, within ``far``, without nan."""
        raise NotImplementedError

    def finish(self, value: Any, t: Any) -> Any:
        """Give ``value`` the dtype the caller expects, and nan where the position was nan."""
        raise NotImplementedError

    def real(self, x: Any) -> Any:
        return x

    def quiet(self) -> AbstractContextManager[Any]:
        """Within it the library says nothing about values that are not finite."""
        return nullcontext()

    def powers(self, base: float, n: Any) -> Any:
        """``base**n`` for whole n of at least 0."""
        return self.power(base, n)

    def full(self, t: Any, value: float) -> Any:
        return self.module.full_like(self.real(t), value)

    def index(self, t: Any, joints: Sequence[Any]) -> Any:
        """How many joints lie at or before ``t``."""
        return self.module.searchsorted(self.module.asarray(joints, dtype=float), t, side="right")

    def take(self, values: Sequence[Any], index: Any) -> Any:
        """``values[index]``."""
        return self.module.asarray(values, dtype=float)[index]

    def lookup(self, t: Any, joints: Sequence[Any], values: Sequence[float]) -> Any:
        """``values[i]`` where ``i`` counts the joints at or before ``t``."""
        return self.take(values, self.index(t, joints))

    def choose(self, t: Any, joints: Sequence[Any], pieces: Sequence[Callable[[Any], Any]]) -> Any:
        """Evaluate every piece and keep the one that each position lies in: right under tracing."""
        result = pieces[-1](t)
        for joint, piece in zip(reversed(joints), reversed(pieces[:-1]), strict=True):
            result = self.module.where(t < joint, piece(t), result)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


class Numpy(Arrays):
    """numpy: nothing is traced, so each piece is evaluated only where it is needed."""

    sliced = True

    def prepare(self, t: Any) -> Any:
        np = self.module
        if t.dtype.kind not in "iuf":
            raise ScheduleError(f"position: must be numbers, got an array of {t.dtype}.")
        whole, t = t.dtype.kind != "f", np.clip(t.astype(np.float64), -FAR, FAR)
        return t if whole else np.nan_to_num(t)

    def finish(self, value: Any, t: Any) -> Any:
        return self.module.where(t != t, t, value).astype(t.dtype) if t.dtype.kind == "f" else value

    def quiet(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self.module.errstate(all="ignore")
        return context

    def power(self, x: Any, y: Any) -> Any:
        with self.module.errstate(under="ignore"):
            return self.module.power(x, y)

    def log1p(self, x: Any) -> Any:
        with self.module.errstate(divide="ignore"):
            return self.module.log1p(x)

    def log(self, x: Any) -> Any:
        with self.module.errstate(divide="ignore"):
            return self.module.log(x)

    def choose(self, t: Any, joints: Sequence[Any], pieces: Sequence[Callable[[Any], Any]]) -> Any:
        np = self.module
        result = np.empty(t.shape)
        flat, out = t.reshape(-1), result.reshape(-1)
        if np.all(flat[1:] >= flat[:-1]):  # slices of a sorted array cost less than masks
            cuts = np.searchsorted(flat, np.asarray(joints), side="left").tolist()
            for piece, start, stop in zip(pieces, [0, *cuts], [*cuts, len(flat)], strict=True):
                if start < stop:
                    out[start:stop] = piece(flat[start:stop])
            return result
        index = np.searchsorted(np.asarray(joints), flat, side="right")
        for i in np.unique(index).tolist():
            here = index == i
            out[here] = pieces[i](flat[here])
        return result


class Jax(Arrays):
    """JAX: without x64 there is no float64, so positions stay integers until they have been subtracted."""

    @property
    def double(self) -> bool:  # type: ignore[override]
        """Whether formulas run in float64."""
        return bool(self.module.result_type(float).itemsize == 8)

    def prepare(self, t: Any) -> Any:
        np = self.module
        if np.issubdtype(t.dtype, np.integer):
            self.far = min(int(np.iinfo(np.result_type(int)).max), FAR)
            wraps = t.dtype.kind == "u" and t.dtype.itemsize >= np.result_type(int).itemsize
            return (np.minimum(t, self.far) if wraps else t).astype(np.result_type(int))
        if not np.issubdtype(t.dtype, np.floating):
            raise ScheduleError(f"position: must be numbers, got an array of {t.dtype}.")
        self.far = float(FAR)  # an integer so large would have to fit into int32
        return np.nan_to_num(np.clip(t.astype(np.result_type(float)), -self.far, self.far))

    def finish(self, value: Any, t: Any) -> Any:
        np = self.module
        return value if np.issubdtype(t.dtype, np.integer) else np.where(t != t, t, value).astype(t.dtype)

    def real(self, x: Any) -> Any:
        return x.astype(self.module.result_type(float))

    def powers(self, base: float, n: Any) -> Any:
        """``base**n`` by tables of 2,048 powers: in float32 a rounded base, n times, would be far off."""
        np = self.module
        if self.double:
            return np.power(base, self.real(n))
        n = np.clip(n, 0, 2**31 - 128).astype(np.int32)  # the largest float32 below 2**31
        product = 1.0
        for shift, size in ((0, 2048), (11, 2048), (22, 512)):
            table = [_float32_power(base, i << shift) for i in range(size)]
            product = product * np.asarray(table, dtype=np.float32)[(n >> shift) & 2047]
        return product

    def index(self, t: Any, joints: Sequence[Any]) -> Any:
        np = self.module
        if np.issubdtype(t.dtype, np.integer):  # joints beyond the last integer are never reached
            joints = [joint for joint in map(math.ceil, joints) if joint <= self.far]
        method = "scan" if t.ndim else "compare_all"  # for one position the loop of a scan costs more
        return np.searchsorted(np.asarray(joints, dtype=t.dtype), t, side="right", method=method)

    def take(self, values: Sequence[Any], index: Any) -> Any:
        np = self.module
        if isinstance(self.far, int) and all(isinstance(value, int) for value in values):
            return np.asarray([min(value, self.far) for value in values])[index]
        return np.asarray(values, dtype=np.result_type(float))[index]

    def choose(self, t: Any, joints: Sequence[Any], pieces: Sequence[Callable[[Any], Any]]) -> Any:
        reached = sum(joint <= self.far for joint in joints)
        return super().choose(t, joints[:reached], pieces[: reached + 1])


class Torch(Arrays):
    """torch: computed in float64, returned in the default dtype (or in that of a float position)."""

    def prepare(self, t: Any) -> Any:
        if t.dtype == self.module.bool or t.is_complex():
            raise ScheduleError(f"position: must be numbers, got a tensor of {t.dtype}.")
        return self.module.nan_to_num(t.double().clamp(-FAR, FAR))

    def finish(self, value: Any, t: Any) -> Any:
        if not t.is_floating_point():
            return value.to(self.module.get_default_dtype())
        return self.module.where(t != t, t.double(), value).to(t.dtype)

    def minimum(self, x: Any, y: Any) -> Any:
        return self.module.clamp(y, max=x) if isinstance(x, (int, float)) else self.module.clamp(x, max=y)

    def maximum(self, x: Any, y: Any) -> Any:
        return self.module.clamp(y, min=x) if isinstance(x, (int, float)) else self.module.clamp(x, min=y)

    def power(self, x: Any, y: Any) -> Any:
        return self.module.pow(x, y)

    def _table(self, values: Sequence[Any], like: Any) -> Any:
        return self.module.tensor(values, dtype=self.module.float64, device=like.device)

    def index(self, t: Any, joints: Sequence[Any]) -> Any:
        return self.module.bucketize(t, self._table(joints, t), right=True)

    def take(self, values: Sequence[Any], index: Any) -> Any:
        return self._table(values, index)[index]


class TensorFlow(Arrays):
    """TensorFlow: computed in float64, returned as float32 (or in the dtype of a float position)."""

    def prepare(self, t: Any) -> Any:
        tf = self.module
        if not (t.dtype.is_integer or t.dtype.is_floating):
            raise ScheduleError(f"position: must be numbers, got a tensor of {t.dtype.name}.")
        t = self.clip(tf.cast(t, tf.float64), -FAR, FAR)
        return tf.where(t != t, tf.zeros_like(t), t)

    def finish(self, value: Any, t: Any) -> Any:
        tf = self.module
        if t.dtype.is_integer:
            return tf.cast(value, tf.float32)
        return tf.cast(tf.where(t != t, tf.cast(t, tf.float64), value), t.dtype)

    def clip(self, x: Any, low: Any, high: Any) -> Any:
        return self.minimum(self.maximum(x, low), high)

    def floor_divide(self, x: Any, y: Any) -> Any:
        return x // y

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        return self.module.where(condition, x, y)

    def power(self, x: Any, y: Any) -> Any:
        tf = self.module
        return tf.pow(tf.constant(x, tf.float64) if isinstance(x, float) else x, y)  # a bare float would be float32

    def full(self, t: Any, value: float) -> Any:
        return self.module.fill(self.module.shape(t), self.module.constant(value, self.module.float64))

    def index(self, t: Any, joints: Sequence[Any]) -> Any:
        tf = self.module
        found = tf.searchsorted(tf.constant(joints, tf.float64), tf.reshape(t, [-1]), side="right")
        return tf.reshape(found, tf.shape(t))

    def take(self, values: Sequence[Any], index: Any) -> Any:
        return self.module.gather(self.module.constant(values, self.module.float64), index)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module.math, name)


_LIBRARIES: dict[str, tuple[str, type[Arrays]]] = {
    "numpy": ("numpy", Numpy),
    "jax": ("jax.numpy", Jax),
    "jaxlib": ("jax.numpy", Jax),
    "torch": ("torch", Torch),
    "tensorflow": ("tensorflow", TensorFlow),
}


def namespace(t: Any) -> Arrays:
    """Return the functions for the library that ``t`` belongs to.

    Raises:
        ScheduleError: ``t`` is neither a number nor an array of a known library.
    """
    root = type(t).__module__.partition(".")[0]
    if root not in _LIBRARIES or not hasattr(t, "dtype"):
        raise ScheduleError(
            "position: must be an int, a float, or an array of numpy, torch, TensorFlow or JAX, "
            f"got {type(t).__name__}."
        )
    module, library = _LIBRARIES[root]
    return library(sys.modules[module])
