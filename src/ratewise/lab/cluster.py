"""Cohorts on a Ray cluster: each is a task that any node with a free core (or a share of a GPU) may take.

The program that compares stays the only writer of the store. A node or worker that dies costs what it was training:
Ray begins those cohorts again elsewhere.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ratewise.errors import LabError, MissingDependency, TaskError
from ratewise.lab.runs import TRIES, Cohort, execute
from ratewise.lab.task import Task


class Cluster:
    """A pool over all nodes of a Ray cluster.

    Args:
        ray: The module, connected.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._begun: dict[Any, str] = {}
        self._tasks: dict[str, Any] = {}
        gpus = ray.cluster_resources().get("GPU", 0)
        share = {"num_gpus": min(1.0, 1 / _PER_GPU)} if gpus else {"num_cpus": 1}
        self._execute = ray.remote(**share, max_retries=TRIES - 1, runtime_env=_ONE_THREAD)(_execute)
        self._gpus = gpus

    @property
    def slots(self) -> int:
        """Cohorts at a time: as many as there are cores now, or shares of GPUs."""
        resources = self._ray.cluster_resources()
        return max(1, int(resources.get("GPU", 0) * _PER_GPU if self._gpus else resources.get("CPU", 1)))

    def start(self, name: str, cohort: Cohort) -> None:
        task = cohort.task
        key = task if isinstance(task, str) else task.name
        if key not in self._tasks:
            self._tasks[key] = self._ray.put(_portable(task))
        self._begun[self._execute.remote(self._tasks[key], replace(cohort, task=""))] = name

    def wait(self, timeout: float | None) -> list[tuple[str, list[dict[str, Any]]]]:
        finished, _ = self._ray.wait(list(self._begun), num_returns=1, timeout=timeout)
        found = []
        for reference in finished:
            name = self._begun.pop(reference)
            try:
                found.append((name, self._ray.get(reference)))
            except self._ray.exceptions.RayTaskError as error:
                cause = error.cause if isinstance(error.cause, LabError) else TaskError(str(error).splitlines()[-1])
                raise cause from None
            except self._ray.exceptions.RayError as error:
                raise TaskError(
                    f"the cluster lost a cohort {TRIES} times ({type(error).__name__}). Finished runs are kept: start "
                    "again to go on."
                ) from error
        return found

    def close(self) -> None:
        """Stop what is still being trained."""
        for reference in self._begun:
            self._ray.cancel(reference, force=True)


_PER_GPU = 2
"""Cohorts that share a GPU."""
_ONE_THREAD = {"env_vars": {"OMP_NUM_THREADS": "1", "NPROC": "1"}}  # NPROC is what XLA reads


@contextmanager
def cluster(address: str) -> Iterator[Cluster]:
    """Connect to a Ray cluster for as long as the block lasts.

    Args:
        address: ``"auto"``, or that of the head node, ``host:port``.

    Raises:
        MissingDependency: Ray is not installed.
        LabError: There is no cluster there.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependency("Ray", "distributed", "--ray") from error
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or ["no answer"])[0]
            raise LabError(f"ray {address!r}: cannot connect ({reason}). Start one with: ray start --head") from error
    found = Cluster(ray)
    try:
        yield found
    finally:
        found.close()
        if ours:
            ray.shutdown()


def _portable(task: Task | str) -> Any:
    """A task as it can be sent to a node that has no copy of the user's file."""
    from ratewise.lab.loading import load

    loaded = load(task) if isinstance(task, str) else task
    if not loaded.reference.rpartition(":")[0]:
        return task
    from ray import cloudpickle

    name = next(n for n, m in sys.modules.items() if n.startswith("ratewise_task_") and _defines(m, loaded))
    cloudpickle.register_pickle_by_value(sys.modules[name])  # type: ignore[no-untyped-call]
    return replace(loaded, reference="")


def _defines(module: Any, task: Task) -> bool:
    return Path(getattr(module, "__file__", None) or "").resolve() == Path(task.reference.rpartition(":")[0])


def _execute(task: Any, cohort: Cohort) -> list[dict[str, Any]]:
    return execute(replace(cohort, task=task))
