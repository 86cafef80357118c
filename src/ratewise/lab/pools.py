"""Who carries out cohorts: worker processes on this machine."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from ratewise.errors import TaskError
from ratewise.lab.runs import Cohort, execute, start_worker

Done: TypeAlias = tuple[Cohort, list[dict[str, Any]]]
Pool: TypeAlias = Callable[[Sequence[Cohort]], Iterator[Done]]
"""Carries out cohorts and yields each, with its results, as it finishes."""


@contextmanager
def processes(workers: int) -> Iterator[Pool]:
    """A pool of so many processes of one thread each; with 1 everything happens in this one."""
    if workers == 1:
        yield lambda cohorts: map(done, cohorts)
        return
    from loky import ProcessPoolExecutor, as_completed
    from loky.process_executor import TerminatedWorkerError

    executor = ProcessPoolExecutor(  # loky's: a script needs no __main__ guard
        workers, env={"OMP_NUM_THREADS": "1"}, initializer=start_worker, initargs=(os.getpid(),)
    )

    def execute_all(cohorts: Sequence[Cohort]) -> Iterator[Done]:
        return (future.result() for future in as_completed([executor.submit(done, cohort) for cohort in cohorts]))

    try:
        yield execute_all
    except TerminatedWorkerError as error:
        raise TaskError(
            "a worker process was killed (out of memory?). Finished runs are kept: start again to go on, "
            "perhaps with --workers 1."
        ) from error
    finally:
        executor.shutdown(kill_workers=True)


def done(cohort: Cohort) -> Done:
    """Carry out a cohort, and say which it was."""
    return cohort, execute(cohort)
