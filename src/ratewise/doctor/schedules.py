"""Examining a schedule of ours over a run."""

from collections.abc import Iterator

from ratewise.core.horizon import Horizon
from ratewise.core.schedule import Schedule
from ratewise.doctor import lengths, values
from ratewise.doctor.finding import Finding, ordered
from ratewise.doctor.run import Run


def examine_schedule(schedule: Schedule, horizon: Horizon | int | None = None) -> tuple[Finding, ...]:
    """Return what is wrong with ``schedule`` over a run, the worst first."""
    return ordered(_findings(Run.of(schedule, horizon)))


def _findings(run: Run) -> Iterator[Finding]:
    try:
        if run.values or run.schedule is None:
            pass
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        yield Finding(
            "not-a-rate",
            str(error).rstrip("."),
            f"a run of {run.total} updates",
            "The optimizer would fail there.",
            "Return a finite number for every update.",
            "error",
        )
        return
    for check in lengths.CHECKS:
        yield from check(run)
    for check in values.CHECKS if run.values else ():
        yield from check(run)
