"""Finding a rate for a task: which model, data, loss and run, with the finder of the engine's framework."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ratewise.core.horizon import Horizon
from ratewise.errors import FinderError, TaskError, UnknownName, nearest
from ratewise.finder import Finding, ramp
from ratewise.finder.find import METHODS
from ratewise.lab.loading import load
from ratewise.lab.runs import engine_of, examined
from ratewise.lab.strategy import Strategy
from ratewise.lab.task import Task


def find(
    task: Task | str, strategy: Strategy, steps: int | None = None, *, engine: str = "torch", method: str = "probe",
    **settings: Any,
) -> Finding:  # fmt: skip
    """Find the peak rate of a strategy on a task, by its loss on the validation split.

    Args:
        task: A ``Task``, the name of a built-in one, or ``"path/to/file.py:name"``.
        strategy: Optimizer and schedule of the run; whatever the schedule's peak is, the finding says another.
        steps: Updates of the run, the task's own by default; of a range test those that it makes, 100 by default.
        engine: ``"torch"`` or ``"keras"``.
        method: ``"probe"`` or ``"range"``.
        settings: Further arguments of ``find_lr``: ``low``, ``high``, ``seeds``, ``seed``.

    Raises:
        FinderError: A setting is not usable.
        LabError: The task, its model or its data.
        UnknownName: There is no such task, engine or optimizer.

    Example:
        >>> from ratewise import linear_decay
        >>> finding = find("wine", Strategy("mine", "sgd", linear_decay(1.0), momentum=0.9))
        >>> finding.low <= finding.suggestion <= finding.high
        True
    """
    _check(method, steps, settings)  # before a framework is loaded, which takes longer
    if engine not in _TRAINED_BY:
        raise UnknownName(f"unknown engine {engine!r}.{nearest(engine, _TRAINED_BY)}")
    task = load(task) if isinstance(task, str) else task
    if method == "range" and steps is not None:
        settings["steps"] = steps
    length = task.steps if steps is None or method == "range" else steps
    examined(task, _TRAINED_BY[engine])
    trained = engine_of(task, _TRAINED_BY[engine])
    known = import_module(f"ratewise.{engine}").OPTIMIZERS
    if strategy.optimizer not in known:
        raise UnknownName(f"unknown optimizer {strategy.optimizer!r}.{nearest(strategy.optimizer, known)}")
    run = Horizon(length, dataset_size=task.examples, batch_size=task.batch_size)
    try:
        found: Finding = trained.find(strategy.over(run), run, task.batch_size, method=method, **settings)
    except FinderError as error:
        if error.__cause__ is None:
            raise
        raise TaskError(f"Task {task.name!r}: {error}") from error
    return found


_TRAINED_BY = {"torch": "one-by-one", "keras": "keras"}


def _check(method: str, steps: int | None, settings: Mapping[str, Any]) -> None:
    """What can be said of the settings without the task."""
    if method not in METHODS:
        raise FinderError(
            f"find: method must be 'probe' or 'range', got {method!r:.40}.{nearest(str(method)[:40], METHODS)}"
        )
    ramp(
        settings.get("low", 1e-7), settings.get("high", 10.0), steps if method == "range" and steps is not None else 100
    )
