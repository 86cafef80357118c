"""One run: what identifies it, and how it is carried out."""

import hashlib
import json
import math
import os
import threading
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from itertools import pairwise
from typing import Any

from ratewise.errors import MissingDependency, RatewiseError, TaskError
from ratewise.lab.loading import load
from ratewise.lab.strategy import Strategy
from ratewise.lab.task import Task
from ratewise.lab.tasks import TASKS
from ratewise.outcome import Outcome, marks

ENGINES = {
    "population": ("torch.cohorts", "model"),
    "one-by-one": ("torch.engine", "model"),
    "jax": ("optax.engine", "jax_model"),
    "keras": ("keras.engine", "keras_model"),
}
"""Every engine: the module of its class ``Engine``, and the field of a task that makes its model."""
CURVE_POINTS = 40
TRIES = 4
"""How often a cohort is begun before its death is taken to be its own fault."""


@dataclass(frozen=True)
class Run:
    """Everything that a result depends on, and so the key under which it is kept.

    Args:
        task: Fingerprint of the task.
        strategy: The strategy's name.
        spec: What is trained: optimizer, resolved schedules, settings, as text.
        rate: The highest rate.
        seed: Initial values and order of the batches.
        phase: ``"tune"`` (measured on the validation split) or ``"test"``.
        steps: Optimizer updates.
        engine: Which engine trained it.
        dtype: Floating-point type of the training.
    """

    task: str
    strategy: str
    spec: str
    rate: float
    seed: int
    phase: str
    steps: int
    engine: str
    dtype: str = "float32"

    @cached_property
    def key(self) -> str:
        """A hash of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Member:
    """A run as an engine is given it.

    Args:
        strategy: Settled for the run's length, and scaled to its rate.
        seed: Of initial values, batches and everything random in the model.
        steps: Optimizer updates.
        phase: As in ``Run``.
    """

    strategy: Strategy
    seed: int
    steps: int
    phase: str


@dataclass(frozen=True)
class Cohort:
    """Runs that are trained together, with what is needed to carry them out in any process.

    Args:
        task: The task, or its reference.
        runs: Of the same task, engine, steps and phase.
        members: The same runs for the engine.
    """

    task: Task | str
    runs: tuple[Run, ...]
    members: tuple[Member, ...]


def spec(strategy: Strategy) -> str:
    """Everything that a strategy trains with, as text: optimizer, schedules, settings."""
    settings = "".join(f", {name}={value!r}" for name, value in strategy.settings_given().items())
    return f"{strategy.optimizer}(lr={strategy.lr!r}{settings})"


_PREPARED: dict[tuple[str, str], tuple[Task, Any]] = {}
"""The task and engine of the comparison that this process works for: data is loaded and models compiled once."""


def _prepared(planned: Cohort) -> tuple[Task, Any]:
    """The cohort's task and an engine for it; a task that was sent by value counts as the same by its fingerprint."""
    key = planned.runs[0].task, planned.runs[0].engine
    if key not in _PREPARED:
        _PREPARED.clear()
        task = load(planned.task) if isinstance(planned.task, str) else planned.task
        _PREPARED[key] = task, engine_of(task, planned.runs[0].engine)
    return _PREPARED[key]


def engine_of(task: Task, name: str) -> Any:
    """Return a new engine of that name for a task.

    Raises:
        TaskError: The task has no model for this engine.
        MissingDependency: The framework is not installed.
    """
    module, field = ENGINES[name]
    if getattr(task, field) is None:
        raise TaskError(f"Task {task.name!r}: engine {name!r} needs {field}=, a function that makes the model.")
    adapter = module.partition(".")[0]
    framework, package, extra = _FRAMEWORKS[adapter]
    try:
        import_module(package)
    except ImportError as error:
        raise MissingDependency(framework, extra, f"engine {name!r}") from error
    return import_module(f"ratewise.{module}").Engine(task)


_FRAMEWORKS = {
    "torch": ("PyTorch", "torch", "torch"),
    "keras": ("Keras", "keras", "keras"),
    "optax": ("JAX", "optax", "jax"),
}


def examined(task: Task, engine: str) -> str:
    """Look at a task before anything is trained, and return the fingerprint of all that its results depend on.

    Raises:
        TaskError: Its data, model or loss cannot be trained; the sentence says what is required.
    """
    if task.reference in TASKS:  # ours are known to be right, and loading the framework here would only take time
        return task.fingerprint
    part = "data"
    try:
        _ = task.splits
        part = "model"
        built: str = engine_of(task, engine).examine()
    except MissingDependency:
        raise
    except TaskError as error:
        text = str(error)
        raise TaskError(text if text.startswith("Task ") else f"Task {task.name!r}: {text}") from error
    except Exception as error:
        raise TaskError(f"Task {task.name!r}: its {part} raised {type(error).__name__}: {error}") from error
    return hashlib.sha256(f"{task.fingerprint} {built}".encode()).hexdigest()[:16]


def start_worker(parent: int) -> None:
    """Prepare a worker process: it prints to stderr, and ends when the program that it works for is gone.

    A program that is killed cannot tell its workers, so they look every second whose children they are.
    """
    os.dup2(2, 1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def execute(planned: Cohort) -> list[dict[str, Any]]:
    """Carry out a cohort.

    Returns:
        For each run plain JSON values: ``loss`` and ``metric`` on the split that decides (None if the run diverged),
        ``first`` (training loss before the first update), ``diverged`` (update of the first loss that was not
        finite, or None), ``curve``, ``marks`` and the held-out losses there (``valid``, ``test``), ``trained``,
        ``updates``, ``started`` and ``seconds`` (its own where the engine tells it, else its share of the rest of the
        cohort's).

    Raises:
        TaskError: The task's own code raised.
    """
    name = planned.task if isinstance(planned.task, str) else planned.task.name
    try:
        _, engine = _prepared(planned)
        started, clock = time.time(), time.monotonic()
        outcomes: list[Outcome] = engine.cohort(planned.members)
    except RatewiseError:
        raise
    except Exception as error:
        raise TaskError(f"Task {name!r}: training raised {type(error).__name__}: {error}") from error
    seconds = _seconds([outcome.seconds for outcome in outcomes], time.monotonic() - clock)
    return [
        _result(o, m.steps) | {"started": started, "seconds": s}
        for o, m, s in zip(outcomes, planned.members, seconds, strict=True)
    ]


def _seconds(told: list[float | None], total: float) -> list[float]:
    """The seconds of each run: those that were told, and of the rest an equal share to those that were not told.

    Where all were told, all share the rest, so that the sum is always the total.
    """
    share = max(0.0, total - math.fsum(s for s in told if s is not None)) / (told.count(None) or len(told))
    return [share if s is None else s if None in told else s + share for s in told]


def _result(outcome: Outcome, steps: int) -> dict[str, Any]:
    losses = outcome.losses
    return {
        "loss": outcome.loss,
        "metric": outcome.metric,
        "first": losses[0] if math.isfinite(losses[0]) else None,
        "diverged": len(losses) - 1 if outcome.loss is None else None,
        "curve": thinned(losses, CURVE_POINTS),
        "marks": marks(steps)[: len(outcome.held["valid"])],
        **{split: [x if math.isfinite(x) else None for x in values] for split, values in outcome.held.items()},
        "trained": outcome.trained,
        "updates": outcome.updates,
    }


def thinned(losses: list[float], points: int) -> dict[str, list[float]]:
    """Return the means of ``points`` equal spans of a loss curve, with the update at the middle of each."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    cuts = [round(i * len(finite) / points) for i in range(points + 1)]
    spans = [(a, b) for a, b in pairwise(cuts) if b > a]
    return {
        "updates": [(a + b - 1) / 2 for a, b in spans],
        "loss": [math.fsum(finite[a:b]) / (b - a) for a, b in spans],
    }
