"""Who carries out cohorts: this process, worker processes on this machine, or a Ray cluster.

A pool holds as many cohorts as it has slots. It has no opinion on what comes next and writes nothing: the program that
compares is the only one to do so.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

from ratewise.errors import TaskError
from ratewise.lab.runs import TRIES, Cohort, execute, start_worker

Results: TypeAlias = list[dict[str, Any]]


class Pool(Protocol):
    """Somewhere to train cohorts."""

    @property
    def slots(self) -> int:
        """How many cohorts it takes at a time."""

    def start(self, name: str, cohort: Cohort) -> None:
        """Begin a cohort under a name."""

    def wait(self, timeout: float | None) -> list[tuple[str, Results]]:
        """Return what has finished, after waiting for something to finish, at most so many seconds.

        Raises:
            TaskError: The task's own code raised, or its worker died again and again.
        """


class _Here:
    """In this very process, one cohort at a time."""

    slots = 1

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Cohort]] = []

    def start(self, name: str, cohort: Cohort) -> None:
        self._waiting.append((name, cohort))

    def wait(self, timeout: float | None) -> list[tuple[str, Results]]:
        waiting, self._waiting = self._waiting, []
        return [(name, execute(cohort)) for name, cohort in waiting]


class _Processes:
    """Worker processes of one thread each; one that is killed is replaced, and what it had begun is begun again."""

    def __init__(self, workers: int) -> None:
        self.slots = workers
        self._begun: dict[Any, tuple[str, Cohort, int]] = {}
        self._executor: Any = None

    def start(self, name: str, cohort: Cohort) -> None:
        self._submit(name, cohort, 1)

    def _submit(self, name: str, cohort: Cohort, tries: int) -> None:
        from loky import ProcessPoolExecutor  # a script needs no __main__ guard with it

        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self.slots,
                env={"OMP_NUM_THREADS": "1", "NPROC": "1"},
                initializer=start_worker,
                initargs=(os.getpid(),),
            )
        self._begun[self._executor.submit(execute, cohort)] = name, cohort, tries

    def wait(self, timeout: float | None) -> list[tuple[str, Results]]:
        from concurrent.futures import BrokenExecutor

        from loky import FIRST_COMPLETED, wait

        finished = wait(list(self._begun), timeout=timeout, return_when=FIRST_COMPLETED).done
        found, lost = [], []
        for future in finished:
            name, cohort, tries = self._begun.pop(future)
            try:
                found.append((name, future.result()))
            except BrokenExecutor:
                lost.append((name, cohort, tries))
        if lost:
            self._replace(lost)
        return found

    def _replace(self, lost: list[tuple[str, Cohort, int]]) -> None:
        """Begin again, in new processes, whatever the dead one and its neighbours had begun."""
        again = [*lost, *self._begun.values()]
        self._begun.clear()
        self.close()
        for name, cohort, tries in again:
            if tries == TRIES:
                raise TaskError(
                    "a worker process was killed again and again (out of memory?). Finished runs are kept: start again "
                    "to go on, perhaps with --workers 1 or a smaller --cohort."
                )
            self._submit(name, cohort, tries + 1)

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(kill_workers=True)
            self._executor = None


@contextmanager
def pool(workers: int, ray: str | None = None, *, mortal: bool = False) -> Iterator[Pool]:
    """A pool for as long as the block lasts.

    Args:
        workers: Processes on this machine; 1 trains in this one.
        ray: ``"auto"`` or the address of a Ray cluster, which is used instead.
        mortal: Whether what has begun must end with the block, finished or not.
    """
    if ray is not None:
        from ratewise.lab.cluster import cluster

        with cluster(ray) as spread:
            yield spread
    elif workers == 1 and not mortal:
        yield _Here()
    else:
        processes = _Processes(workers)
        try:
            yield processes
        finally:
            processes.close()
