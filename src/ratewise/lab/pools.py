"""Who carries out cohorts: this process, worker processes on this machine, or a Ray cluster.

A pool holds as many cohorts as it has slots. It has no opinion on what comes next and writes nothing: the program that
compares is the only one to do so.
"""

import os
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pickle import PicklingError
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
        self._begun: dict[Any, tuple[str, Cohort]] = {}
        self._executor: Any = None
        self._deaths = 0
        """Since something was last finished."""
        self._failed: BaseException | None = None

    def start(self, name: str, cohort: Cohort) -> None:
        from loky import ProcessPoolExecutor  # a script needs no __main__ guard with it

        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self.slots,
                env={"OMP_NUM_THREADS": "1", "NPROC": "1"},
                initializer=start_worker,
                initargs=(os.getpid(),),
            )
        self._begun[self._executor.submit(execute, cohort)] = name, cohort

    def wait(self, timeout: float | None) -> list[tuple[str, Results]]:
        from loky import FIRST_COMPLETED, wait

        if self._failed is not None:
            raise _explained(self._failed)
        wait(list(self._begun), timeout=timeout, return_when=FIRST_COMPLETED)
        found, died = [], False
        for future in [future for future in self._begun if future.done()]:
            error = future.exception()
            if error is None:
                found.append((self._begun.pop(future)[0], future.result()))
            elif isinstance(error, BrokenExecutor):
                died = True
            else:
                self._failed = error  # what finished beside it is handed over first
        self._deaths = 0 if found else self._deaths
        if self._failed is not None and not found:
            raise _explained(self._failed)
        if died:
            self._replace()
        return found

    def _replace(self) -> None:
        """Begin again, in new processes, whatever the dead one and its neighbours had begun."""
        self._deaths += 1
        if self._deaths == TRIES:
            raise TaskError(
                "worker processes were killed again and again (out of memory?). Finished runs are kept: start again "
                "to go on, perhaps with --workers 1 or a smaller --cohort."
            )
        again = list(self._begun.values())
        self._begun.clear()
        self.close()
        for name, cohort in again:
            self.start(name, cohort)

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(kill_workers=True)
            self._executor = None


def _explained(error: BaseException) -> BaseException:
    if isinstance(error, PicklingError):
        reason = str(error.__cause__ or error).strip(' \n"').splitlines()[-1]
        return TaskError(
            f"the task cannot be sent to worker processes ({reason}). Put it into a file and give "
            "path/to/file.py:name, or use workers=1."
        )
    return error


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
