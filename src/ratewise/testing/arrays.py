"""The array libraries that a schedule is tried on: those that the caller has imported; nothing is imported here."""

import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ratewise.core.checks import choice
from ratewise.errors import ScheduleError


class Library(NamedTuple):
    """How to make arrays of one library, read them, and have a function traced by it."""

    module: str
    integers: Callable[[Any, Any], Any]
    floats: Callable[[Any, Any], Any]  # float64 where there is one
    listed: Callable[[Any], Any]
    tracer: str | None = None
    traced: Callable[[Any, Any], Any] | None = None


LIBRARIES: dict[str, Library] = {
    "numpy": Library(
        "numpy", lambda np, x: np.asarray(x), lambda np, x: np.asarray(x, "float64"), lambda x: x.tolist()
    ),
    "torch": Library(
        "torch",
        lambda torch, x: torch.tensor(x),
        lambda torch, x: torch.tensor(x, dtype=torch.float64),
        lambda x: x.tolist(),
    ),
    "jax": Library(
        "jax.numpy",
        lambda jnp, x: jnp.asarray(x),
        lambda jnp, x: jnp.asarray(x, float),
        lambda x: x.tolist(),
        "jax",
        lambda jax, f: jax.jit(f),
    ),
    "tensorflow": Library(
        "tensorflow",
        lambda tf, x: tf.constant(x),
        lambda tf, x: tf.constant(x, tf.float64),
        lambda x: x.numpy().tolist(),
        "tensorflow",
        lambda tf, f: tf.function(f),
    ),
}
"""Every array library that a schedule takes positions of."""


def imported(names: Iterable[str] | None = None) -> dict[str, Library]:
    """Return the libraries of these names; None means all that this process has imported.

    Raises:
        ScheduleError: A name is unknown, or that library is not imported.
    """
    if names is None:
        return {name: library for name, library in LIBRARIES.items() if library.module in sys.modules}
    found = {choice("libraries", "library", name, LIBRARIES): LIBRARIES[name] for name in names}
    for name, library in found.items():
        if library.module not in sys.modules:
            raise ScheduleError(f"libraries: {name} is not imported. Write import {library.module} first.")
    return found


def module(name: str) -> Any:
    """The module of that name, which is known to be imported."""
    return sys.modules[name]
