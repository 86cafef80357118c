"""One run: what identifies it, and how it is carried out."""

import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Callable
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

ENGINES = ("torch", "keras")
CURVE_POINTS = 40


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
class Job:
    """A run together with what is needed to carry it out, in any process."""

    run: Run
    strategy: Strategy
    task: Task | str


def spec(strategy: Strategy) -> str:
    """Everything that a strategy trains with, as text: optimizer, schedules, settings."""
    settings = "".join(f", {name}={value!r}" for name, value in strategy.settings_given().items())
    return f"{strategy.optimizer}(lr={strategy.lr!r}{settings})"


_PREPARED: dict[tuple[str, str], tuple[Task, Any]] = {}
"""The task and engine of the comparison that this process works for: data is loaded and models compiled once."""


def _prepared(planned: Job) -> tuple[Task, Any]:
    """The job's task and an engine for it; a task that was sent by value counts as the same by its fingerprint."""
    key = planned.run.task, planned.run.engine
    if key not in _PREPARED:
        _PREPARED.clear()
        task = load(planned.task) if isinstance(planned.task, str) else planned.task
        _PREPARED[key] = task, engine_of(task, planned.run.engine)
    return _PREPARED[key]


def engine_of(task: Task, name: str) -> Any:
    """Return a new engine of that name for a task."""
    model: Callable[[], Any] | None = task.model if name == "torch" else task.keras_model
    if model is None:
        wanted = "model" if name == "torch" else "keras_model"
        raise TaskError(f"Task {task.name!r}: engine {name!r} needs {wanted}=, a function that makes the model.")
    if name == "torch":
        try:
            import_module("torch")
        except ImportError as error:
            raise MissingDependency("PyTorch", "torch", "engine 'torch'") from error
    engine = import_module(f"ratewise.{name}.engine").Engine
    return engine(task.splits, model, task.loss, task.metric)


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


def execute(planned: Job) -> dict[str, Any]:
    """Carry out one run.

    Returns:
        Plain JSON values: ``loss`` and ``metric`` on the split (None if the run diverged), ``first`` (training loss
        before the first update), ``diverged`` (update of the first loss that was not finite, or None), ``curve``,
        ``started`` and ``seconds``.

    Raises:
        TaskError: The task's own code raised.
    """
    run, started = planned.run, time.time()
    name = planned.task if isinstance(planned.task, str) else planned.task.name
    try:
        task, engine = _prepared(planned)
        split = "valid" if run.phase == "tune" else "test"
        losses, loss, metric = engine.run(planned.strategy, run.seed, task.order(run.seed, run.steps), split)
    except RatewiseError:
        raise
    except Exception as error:
        raise TaskError(f"Task {name!r}: training raised {type(error).__name__}: {error}") from error
    return {
        "loss": loss,
        "metric": metric,
        "first": losses[0] if math.isfinite(losses[0]) else None,
        "diverged": len(losses) - 1 if loss is None else None,
        "curve": thinned(losses, CURVE_POINTS),
        "started": started,
        "seconds": time.time() - started,
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
