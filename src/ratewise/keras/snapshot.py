"""What a Keras model in training holds, remembered and put back bit for bit, in the same objects.

It goes through the objects once and remembers every attribute, container and variable that it meets. Putting back
writes into those same objects. Keras has no getters for some of it, such as which optimizer variables it tracks, so
attributes are remembered whatever their names are; none is relied on.
"""

import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state  # where Keras keeps its global generator; there is no getter

from ratewise.errors import AdapterError
from ratewise.finder.batches import Lookahead
from ratewise.finder.interrupts import uninterrupted

_OWNERS = (
    keras.layers.Layer,
    keras.optimizers.Optimizer,
    keras.metrics.Metric,
    keras.losses.Loss,
    keras.random.SeedGenerator,
)
"""Looked into wherever they are met."""

_GLOBALS = ("global_seed_generator", "global_random_seed", "object_name_uids")


class Memory:
    """What some objects hold, and everything in them; ``restore()`` may be called more than once.

    Put back are the values of all variables and whether they train, gradients that torch keeps, every attribute of
    layers, models, optimizers, metrics, losses and seed generators, the lists, dicts and sets in them, and the global
    random generators of Python, numpy, Keras, torch and TensorFlow.

    Args:
        things: Models and optimizers.
        feeders: Objects of which only attributes and random generators are remembered, as of a dataset.
    """

    def __init__(self, things: Sequence[Any], feeders: Sequence[Any] = ()) -> None:
        self._undo: list[Callable[[], object]] = []
        self._values: list[tuple[Any, Any]] = []
        self._generators = _generators()
        self._seen: dict[int, Any] = {}  # by identity; holds the objects, so that no identity is given twice
        self.seeds: list[tuple[Any, Any]] = []
        """The state of each seed generator, and its value."""
        stateful = sys.modules.get("tensorflow.python.ops.stateful_random_ops")
        waiting = [
            *things,
            *map(global_state.get_global_attribute, _GLOBALS),
            getattr(stateful, "global_generator", None),
        ]
        while waiting:
            thing = waiting.pop()
            look = self._kind(thing)
            if look is not None and id(thing) not in self._seen:
                self._seen[id(thing)] = thing
                waiting.extend(look(thing))
        for feeder in feeders:
            self._feeder(feeder)

    def rewind(self) -> None:
        """Put back variables and generators, but not attributes: what changes while a compiled step runs."""
        for variable, value in self._values:
            variable.assign(value.copy())  # JAX may take the array itself and then give it away
        for undo in self._generators:
            undo()

    def restore(self) -> None:
        """Put everything back. Ctrl-C waits until that is done.

        Raises:
            AdapterError: Something could not be put back; everything else was.
        """
        failed = []
        with uninterrupted():
            for undo in (*self._undo, self.rewind):
                try:
                    undo()
                except Exception as error:
                    failed.append(error)
        if failed:
            raise AdapterError(
                f"keras adapter: {len(failed)} of {len(self._undo) + 1} things could not be put back, the first for "
                f"{type(failed[0]).__name__}: {failed[0]}. Load the last checkpoint to be safe."
            ) from failed[0]

    def _kind(self, thing: Any) -> Callable[[Any], list[Any]] | None:
        """How to remember ``thing``, None if it has nothing that changes; the function returns its members."""
        if isinstance(thing, keras.Variable):
            return self._variable
        if isinstance(thing, dict):
            return self._dict
        if isinstance(thing, (list, deque)):
            return self._list
        if isinstance(thing, set):
            return self._set
        if isinstance(thing, tuple):
            return list
        if isinstance(thing, _OWNERS) or type(thing).__name__ == "Tracker":  # Keras' own record of what it tracks
            return self._owner
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is not None and isinstance(thing, tensorflow.Variable):
            return self._native
        if tensorflow is not None and isinstance(thing, tensorflow.random.Generator):
            return lambda generator: [generator.state]
        return None

    def _native(self, variable: Any) -> list[Any]:
        self._values.append((variable, np.array(variable.numpy())))
        return []

    def _owner(self, owner: Any) -> list[Any]:
        if isinstance(owner, keras.random.SeedGenerator):
            self.seeds.append((owner.state, _copied(owner.state)))
        return self._dict(vars(owner))

    def _variable(self, variable: Any) -> list[Any]:
        self._values.append((variable, _copied(variable)))
        trainable, grad = variable.trainable, _grad(variable)

        def undo() -> None:
            if variable.trainable != trainable:
                variable.trainable = trainable
            if _grad(variable) is not grad:
                variable.value.grad = grad

        self._undo.append(undo)
        return []

    # Containers that track what is in them, as Keras' and TensorFlow's do, would refuse changes or report them: they
    # are written as plain ones, and only if something changed.

    def _dict(self, held: Any) -> list[Any]:
        held = getattr(held, "__wrapped__", held)
        items = list(held.items())

        def undo() -> None:
            now = list(held.items())
            if len(now) != len(items) or any(
                a is not c or b is not d for (a, b), (c, d) in zip(now, items, strict=True)
            ):
                dict.clear(held)
                dict.update(held, items)

        self._undo.append(undo)
        return [value for _, value in items]

    def _list(self, held: Any) -> list[Any]:
        if "_storage" in getattr(held, "__dict__", ()):  # TensorFlow's, around a plain one
            return self._dict(vars(held))
        items, kind = list(held), list if isinstance(held, list) else deque

        def undo() -> None:
            if len(held) != len(items) or any(a is not b for a, b in zip(held, items, strict=True)):
                kind.clear(held)
                kind.extend(held, items)

        self._undo.append(undo)
        return items

    def _set(self, held: set[Any]) -> list[Any]:
        items = set(held)

        def undo() -> None:
            if held != items:
                set.clear(held)
                set.update(held, items)

        self._undo.append(undo)
        return list(items)

    def _feeder(self, feeder: Any) -> None:
        if isinstance(feeder, Lookahead):  # what it has taken from its source must stay in it
            return
        if hasattr(feeder, "__dict__") and id(feeder) not in self._seen:
            self._seen[id(feeder)] = feeder
            self._dict(vars(feeder))
            for member in vars(feeder).values():
                if isinstance(member, (dict, list, set, deque)):
                    self._kind(member)(member)  # type: ignore[misc]  # what it returns, the data, is left alone
                elif access := _access(member):
                    self._undo.append(partial(access[1], access[0]()))


def _copied(variable: Any) -> Any:
    return np.array(keras.ops.convert_to_numpy(keras.ops.copy(variable)))


def _grad(variable: Any) -> Any:
    """The gradient that torch keeps beside a variable; None on other backends."""
    return getattr(variable.value, "grad", None) if keras.backend.backend() == "torch" else None


# -- random generators -----------------------------------------------------------------------------------------


def _access(generator: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]] | None:
    """How to read and write the state of a random generator; None for anything else."""
    if isinstance(generator, random.Random):
        return generator.getstate, generator.setstate
    if isinstance(generator, np.random.RandomState):
        return generator.get_state, generator.set_state
    if isinstance(generator, np.random.Generator):
        generator = generator.bit_generator
    if isinstance(generator, np.random.BitGenerator):
        return lambda: generator.state, lambda state: setattr(generator, "state", state)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(generator, torch.Generator):
        return generator.get_state, generator.set_state
    return None


def _generators() -> list[Callable[[], object]]:
    """What puts the global generators back."""
    undo: list[Callable[[], object]] = [
        partial(random.setstate, random.getstate()),
        partial(np.random.set_state, np.random.get_state()),
        *(partial(global_state.set_global_attribute, n, global_state.get_global_attribute(n)) for n in _GLOBALS),
    ]
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        undo.append(partial(torch.set_rng_state, torch.get_rng_state()))
        if torch.cuda.is_initialized():
            undo.append(partial(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    eager = sys.modules.get("tensorflow.python.eager.context")
    drawn = None if eager is None else getattr(eager.context(), "_rng", None)  # from which eager operations take seeds
    if isinstance(drawn, random.Random):
        undo.append(partial(drawn.setstate, drawn.getstate()))
    return undo


def seed_all(seed: int) -> None:
    """Seed the global generators that can be put back; TensorFlow's own would forget what it has drawn.

    Keras' dropout on torch draws from torch's.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch = sys.modules["torch"] if keras.backend.backend() == "torch" else None
    if torch is not None:
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
