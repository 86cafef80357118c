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
from typing import Any

from ratewise.errors import ScheduleError


def _log1p(x: float) -> float:
    return math.log1p(x) if x > -1.0 else -math.inf


class Scalar:
    """Plain ``int`` and ``float`` positions."""

    double = True
    sqrt = staticmethod(math.sqrt)
    sin = staticmethod(math.sin)
    exp = staticmethod(math.exp)
    expm1 = staticmethod(math.expm1)
    log1p = staticmethod(_log1p)
    power = staticmethod(pow)
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

    @staticmethod
    def choose(t: Any, joints: Sequence[Any], pieces: Sequence[Callable[[Any], Any]]) -> Any:
        """Evaluate the piece that ``t`` lies in."""
        return pieces[bisect_right(joints, t)](t)


SCALAR = Scalar()


class Arrays:
    """Positions held by an array library with numpy's names (numpy itself, ``jax.numpy``)."""

    def __init__(self, module: Any) -> None:
        self.module = module

    @property
    def double(self) -> bool:
        """Whether formulas run in float64."""
        return bool(self.real(self.module.asarray(0)).dtype.itemsize == 8)

    def prepare(self, t: Any) -> Any:
        """Widen small integers, which would wrap around in ``t + 1``."""
        np = self.module
        if t.dtype.kind == "b" or t.dtype.kind not in "iuf":
            raise ScheduleError(f"position: must be numbers, got an array of {t.dtype}.")
        if t.dtype.kind == "f":
            return t.astype(np.float64) if np.__name__ == "numpy" else t
        return t.astype(np.int64) if np.__name__ == "numpy" else t.astype(np.int32) if t.dtype.itemsize < 4 else t

    def finish(self, value: Any, t: Any) -> Any:
        """Give float positions their own dtype back, and nan where the position was nan."""
        if t.dtype.kind not in "iu":
            value = self.module.where(t != t, t, value).astype(t.dtype)
        return value

    def real(self, x: Any) -> Any:
        return x.astype(self.module.result_type(float)) if x.dtype.kind in "iu" else x

    def clip(self, x: Any, low: Any, high: Any) -> Any:
        return self.module.clip(x, low, high)

    def minimum(self, x: Any, y: Any) -> Any:
        return self.module.minimum(x, y)

    def maximum(self, x: Any, y: Any) -> Any:
        return self.module.maximum(x, y)

    def floor_divide(self, x: Any, y: Any) -> Any:
        return self.module.floor_divide(x, y)

    def full(self, t: Any, value: float) -> Any:
        return self.module.full_like(self.real(t), value)

    def lookup(self, t: Any, joints: Sequence[Any], values: Sequence[float]) -> Any:
        np = self.module
        return np.asarray(values, dtype=self.real(t).dtype)[np.searchsorted(np.asarray(joints), t, side="right")]

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        return self.module.where(condition, x, y)

    def choose(self, t: Any, joints: Sequence[Any], pieces: Sequence[Callable[[Any], Any]]) -> Any:
        """Evaluate every piece and keep the one that each position lies in: right under tracing."""
        result = pieces[-1](t)
        for joint, piece in zip(reversed(joints), reversed(pieces[:-1]), strict=True):
            result = self.where(t < joint, piece(t), result)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


class Numpy(Arrays):
    """numpy: nothing is traced, so each piece is evaluated only where it is needed."""

    double = True

    def power(self, x: Any, y: Any) -> Any:
        with self.module.errstate(under="ignore"):
            return self.module.power(x, y)

    def choose(self, t: Any, joints: Sequence[Any], pieces: Sequence[Callable[[Any], Any]]) -> Any:
        np = self.module
        result = np.empty(t.shape)
        flat, out = t.reshape(-1), result.reshape(-1)
        if len(flat) and bool(np.all(flat[1:] >= flat[:-1])):
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


class Torch(Arrays):
    """torch: computed in float64, returned in the default dtype (or in that of a float position)."""

    double = True

    def prepare(self, t: Any) -> Any:
        if t.dtype == self.module.bool or t.is_complex():
            raise ScheduleError(f"position: must be numbers, got a tensor of {t.dtype}.")
        return t.double() if t.is_floating_point() else t.long()

    def finish(self, value: Any, t: Any) -> Any:
        if not t.is_floating_point():
            return value.to(self.module.get_default_dtype())
        return self.module.where(t != t, t.double(), value).to(t.dtype)

    def real(self, x: Any) -> Any:
        return x.double()

    def clip(self, x: Any, low: Any, high: Any) -> Any:
        return self.module.clamp(x, low, high)

    def minimum(self, x: Any, y: Any) -> Any:
        return self.module.minimum(x, y) if hasattr(y, "dtype") else self.module.clamp(x, max=y)

    def maximum(self, x: Any, y: Any) -> Any:
        return self.module.maximum(x, y) if hasattr(y, "dtype") else self.module.clamp(x, min=y)

    def power(self, x: Any, y: Any) -> Any:
        return self.module.pow(x, y)

    def full(self, t: Any, value: float) -> Any:
        return self.module.full_like(t, value, dtype=self.module.float64)

    def lookup(self, t: Any, joints: Sequence[Any], values: Sequence[float]) -> Any:
        torch = self.module
        table = torch.tensor(values, dtype=torch.float64, device=t.device)
        return table[torch.bucketize(t, torch.tensor(joints, device=t.device), right=True)]


class TensorFlow(Arrays):
    """TensorFlow: computed in float64, returned as float32 (or in the dtype of a float position)."""

    double = True

    def prepare(self, t: Any) -> Any:
        tf = self.module
        if not (t.dtype.is_integer or t.dtype.is_floating):
            raise ScheduleError(f"position: must be numbers, got a tensor of {t.dtype.name}.")
        return tf.cast(t, tf.float64 if t.dtype.is_floating else tf.int64)

    def finish(self, value: Any, t: Any) -> Any:
        tf = self.module
        if t.dtype.is_integer:
            return tf.cast(value, tf.float32)
        return tf.cast(tf.where(t != t, tf.cast(t, tf.float64), value), t.dtype)

    def real(self, x: Any) -> Any:
        return self.module.cast(x, self.module.float64)

    def clip(self, x: Any, low: Any, high: Any) -> Any:
        return self.minimum(self.maximum(x, low), high)

    def minimum(self, x: Any, y: Any) -> Any:
        return self.module.minimum(x, self._like(y, x))

    def maximum(self, x: Any, y: Any) -> Any:
        return self.module.maximum(x, self._like(y, x))

    def floor_divide(self, x: Any, y: Any) -> Any:
        return x // self._like(y, x)

    def power(self, x: Any, y: Any) -> Any:
        return self.module.pow(self.real(x), self.real(y))

    def full(self, t: Any, value: float) -> Any:
        return self.module.fill(self.module.shape(t), self.module.constant(value, self.module.float64))

    def lookup(self, t: Any, joints: Sequence[Any], values: Sequence[float]) -> Any:
        tf = self.module
        index = tf.searchsorted(tf.constant(joints, t.dtype), tf.reshape(t, [-1]), side="right")
        return tf.reshape(tf.gather(tf.constant(values, tf.float64), index), tf.shape(t))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module.math, name)

    def _like(self, y: Any, x: Any) -> Any:
        return y if hasattr(y, "dtype") else self.module.cast(y, x.dtype)


_LIBRARIES: dict[str, tuple[str, type[Arrays]]] = {
    "numpy": ("numpy", Numpy),
    "jax": ("jax.numpy", Arrays),
    "jaxlib": ("jax.numpy", Arrays),
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
