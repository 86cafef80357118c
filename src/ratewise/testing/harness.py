"""What an author writes to have an adapter examined, and how the checks drive it.

The suite sees an adapter through a harness, a small object: how to start a run, and how to make one update and measure
the rate that it applied from the change of a parameter. Everything else a harness may offer or not.
"""

import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, Protocol

from ratewise.testing.checks import LawBroken, NotOffered, must_agree


class Run(Protocol):
    """A training run at some update; only ``update`` is required.

    Optional methods, each found by its name:

    - ``save() -> state``: everything that a checkpoint of the run would hold, as something that can be pickled (JSON
      text can, and so can numbers and arrays).
    - ``load(state)``: go on from a checkpoint. ``load(state, policy)`` if a policy of ``ratewise.extend`` can be given
      for a state that was made under another schedule; without one that is ``ratewise.errors.ScheduleChanged``.
    - ``attempt(fails) -> float``: attempt an update by way of what may skip it, and return the change of the parameter
      as ``update`` does. If ``fails``, let it be skipped, for example by gradients that overflow; the change is then 0.
    - ``batch() -> float``: run one micro batch and return the change of the parameter likewise, 0 unless it completes
      an update; needed if ``start`` takes ``accumulation``.
    - ``change(new, policy)``: follow another schedule from the coming update on.
    - ``observe(metric)``: give a metric to the rules of the schedule.
    - ``used() -> float``: the rate that the adapter says the last update used.
    - ``coming() -> float``: the rate that it says the next update will use.
    - ``seek(t)``: stand at update ``t``, as if resumed there.
    """

    def update(self) -> float:
        """Make one optimizer update and return the rate that it applied.

        Measured from a parameter: with plain gradient descent and a gradient of 1 its change is minus the rate.
        Start from 0 each time, or the sum rounds.
        """
        ...


class Harness(Protocol):
    """How to start runs with the adapter under test; only ``start`` is required.

    Optional attributes:

    - ``relative``, ``absolute``: Tolerances of a rate; 0 if they are not given, so that rates must be exact.
    - ``lacks``: A dictionary of names of checks that cannot hold, each with the reason. The first five, which need
      ``update`` alone, are made all the same.
    """

    def start(self, lr: Any) -> Run:
        """Start a run at update 0 that follows ``lr``, a schedule whose lengths are known.

        Optional parameters, each found by its name: ``accumulation``, how many micro batches make one update, for runs
        with a ``batch``; ``horizon``, the number of updates of the run, for an ``lr`` of open length.
        """
        ...


def start(harness: Any, lr: Any, **options: Any) -> Any:
    """A run, if the harness takes the options and the run has what is asked for."""
    for name in options:
        if name not in signature(harness.start).parameters:
            raise NotOffered(f"start() has no {name}=")
    return harness.start(lr, **options)


def need(run: Any, *methods: str) -> Any:
    """The run, if it has the methods."""
    for name in methods:
        if not hasattr(run, name):
            raise NotOffered(f"the run has no {name}()")
    return run


def near(harness: Any, at: int, what: str, found: float, other: str, expected: float) -> None:
    """Hold two rates together, within the tolerances of the harness."""
    relative, absolute = getattr(harness, "relative", 0.0), getattr(harness, "absolute", 0.0)
    must_agree(what, at, found, other, expected, relative, absolute)


def follows(harness: Any, run: Any, lr: Any, start: int, stop: int, where: str = "") -> None:
    """Make updates ``start`` to ``stop - 1`` and hold their rates to those of the schedule."""
    for t in range(start, stop):
        near(harness, t, f"{where}the rate applied is", run.update(), "the schedule says", lr(t))


def pickled(state: Any) -> Any:
    """The state, written and read as a checkpoint is."""
    try:
        return pickle.loads(pickle.dumps(state))
    except Exception as error:
        raise LawBroken(
            f"what save() returned cannot be pickled ({type(error).__name__}: {error}). Let it return numbers, texts "
            "and arrays, or what the framework writes to a file."
        ) from error


def made(run: Any, updates: int) -> Any:
    """The run, after so many updates."""
    for _ in range(updates):
        run.update()
    return run


@contextmanager
def without_user_warnings() -> Iterator[None]:
    """Adapters may warn of a run past its end or of a metric that is nan, and are asked for both here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
