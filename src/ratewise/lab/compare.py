"""Comparing strategies on a task: carry out a plan, then say what was found.

Every strategy gets the same number of tries at its own rate, every run goes to its own planned end, and seeds are
paired. The reference is the strategy with the best tuning score, fixed before any fresh seed is used; all others
are tested against it on fresh seeds.
"""

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path

from ratewise.core.horizon import Horizon
from ratewise.errors import LabError, ScheduleError, StoreError, UnknownName, nearest
from ratewise.lab import DEFAULT_STORE, stats
from ratewise.lab.catalogue import CATALOGUE, strategy as named
from ratewise.lab.loading import load
from ratewise.lab.plan import Budget, Plan
from ratewise.lab.pools import processes
from ratewise.lab.runs import ENGINES, Run, examined
from ratewise.lab.store import Store
from ratewise.lab.strategy import Strategy
from ratewise.lab.summary import Result, summary
from ratewise.lab.task import Task

Progress = Callable[[int, int], None]


def compare(
    task: Task | str,
    strategies: Iterable[Strategy | str] | None = None,
    budget: Budget | None = None,
    store: str | Path = DEFAULT_STORE,
    *,
    engine: str = "population",
    workers: int = 2,
    cohort: int = 128,
    study: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Compare strategies on a task and return what was found, as plain JSON values.

    Runs that the store already holds are not repeated, so an interrupted comparison goes on where it stood.

    Args:
        task: A ``Task``, the name of a built-in one, or ``"path/to/file.py:name"``.
        strategies: Strategies, or names of the catalogue; all of the catalogue by default.
        budget: How much each strategy gets.
        store: File or database URL for finished runs.
        engine: ``"population"`` (PyTorch, many runs at once; ``"torch"`` means the same), ``"one-by-one"`` (PyTorch),
            ``"jax"`` or ``"keras"``.
        cohort: How many runs are trained together, at most.
        workers: Processes, of one thread each; 1 trains in this one.
        study: Name of the study in the store; by default the task's.
        progress: Called with the runs done and the runs known to be needed.

    Returns:
        The object that ``ratewise compare --json`` prints.

    Raises:
        LabError: The plan, the task, a run or the store; the message says which.
    """
    if type(workers) is not int or workers < 1:
        raise LabError(f"compare: workers must be an integer of at least 1, got {workers!r}.")
    if any(c in (study or "") for c in "/\\\n"):
        raise LabError(f"compare: study must be a short word without slashes, got {study!r}.")
    task = load(task) if isinstance(task, str) else task
    plan = planned(task, strategies, budget or Budget(), engine, cohort)
    with Store(store, write=True) as kept:
        kept.open_study(study or task.name)
        kept.set_plan(plan.to_dict())
        results = kept.results()
        for pairs in carried_out(plan, task, results, workers, progress):
            for run, result in pairs:
                kept.add(run, result)
    return summary(plan, results)


def reported(study: str, store: str | Path = DEFAULT_STORE) -> Result:
    """Return what a study in the store says so far, finished or not.

    Raises:
        StoreError: The store cannot be read, or has no such study.
    """
    with Store(store) as kept:
        kept.open_study(study)
        plan = kept.plan()
        if plan is None:
            raise StoreError(
                f"store {kept.location}: study {study!r} has no plan; it was not made by ratewise compare."
            )
        return summary(Plan.from_dict(plan), kept.results())


def planned(
    task: Task, strategies: Iterable[Strategy | str] | None, budget: Budget, engine: str, cohort: int = 128
) -> Plan:  # fmt: skip
    """Return the plan of a comparison.

    Raises:
        LabError: A strategy appears twice, or no verdict would be possible.
        ScheduleError: A schedule does not fit the run, has a negative rate, or cannot be written down.
        UnknownName: There is no such engine, strategy or optimizer.
    """
    engine = "population" if engine == "torch" else engine
    if engine not in ENGINES:
        raise UnknownName(f"unknown engine {engine!r}.{nearest(engine, (*ENGINES, 'torch'))}")
    chosen = tuple(named(s) if isinstance(s, str) else s for s in (strategies or CATALOGUE))
    names = [strategy.name for strategy in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LabError(f"compare: strategy {twice[0]!r} is there twice. Give each its own name.")
    for optimizer in {strategy.optimizer for strategy in chosen} - {"sgd", "adagrad", "rmsprop", "adam", "adamw"}:
        adapter = ENGINES[engine][0].partition(".")[0]  # loads the framework, so only where it is needed
        known = import_module(f"ratewise.{adapter}").OPTIMIZERS
        if optimizer not in known:
            raise UnknownName(f"unknown optimizer {optimizer!r}.{nearest(optimizer, known)}")
    stats.require_seeds(budget.fresh_seeds, len(chosen) - 1)
    facts = {
        "description": task.description,
        "metric": task.metric,
        "batch_size": task.batch_size,
        "examples": len(task.splits["train"][0]),
    }
    plan = Plan(task.name, examined(task, engine), budget.steps or task.steps, chosen, budget, engine, facts, cohort)
    for strategy in chosen:
        _check_rates(strategy, plan.horizon)
    return Plan.from_dict(plan.to_dict())  # what the report will read later, so whatever cannot be kept fails now


def _check_rates(strategy: Strategy, horizon: Horizon) -> None:
    for t, rate in enumerate(strategy.lr.over(horizon).values(0, horizon.total_steps)):
        if rate < 0:
            raise ScheduleError(
                f"Strategy {strategy.name!r}: a learning rate must be at least 0, update {t} would use {rate!r}. "
                "Cut it off with .clip(0.0)."
            )


def carried_out(
    plan: Plan, task: Task, results: dict[str, Result], workers: int, progress: Progress | None
) -> Iterator[list[tuple[Run, Result]]]:
    """Do whatever is pending until nothing is; yield each cohort as it finishes and note it in ``results``."""
    with processes(workers) as execute_all:
        while pending := plan.pending(results):
            done = plan.done(results)
            wanted = max(plan.least(), done + len(pending))
            for cohort, found in execute_all(plan.cohorts(pending, task.reference or task)):
                pairs = list(zip(cohort.runs, found, strict=True))
                yield pairs
                results.update((run.key, result) for run, result in pairs)
                done += len(pairs)
                if progress is not None:
                    progress(done, max(wanted, done))
