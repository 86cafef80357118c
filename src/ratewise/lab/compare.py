"""Comparing strategies on a task: carry out a plan, then say what was found.

Every strategy gets the same number of tries at its own rate, every run goes to its own planned end, and seeds are
paired. The reference is the strategy with the best tuning score, fixed before any fresh seed is used; all others
are tested against it on fresh seeds.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ratewise.core.horizon import Horizon
from ratewise.errors import LabError, ScheduleError, StoreError, UnknownName, nearest
from ratewise.lab import DEFAULT_STORE, stats
from ratewise.lab.catalogue import CATALOGUE, DEFAULT, strategy as named
from ratewise.lab.centres import centred
from ratewise.lab.loading import load
from ratewise.lab.plan import CONTROL, Budget, Plan, fitted, is_control, shrunk
from ratewise.lab.pools import Pool, pool
from ratewise.lab.runs import ENGINES, Cohort, examined
from ratewise.lab.store import Store
from ratewise.lab.strategy import Strategy
from ratewise.lab.summary import Result, summary
from ratewise.lab.task import Task

Progress = Callable[[int, int], None]
_log = logging.getLogger("ratewise")
POLL = 0.5
"""Seconds between two looks at a store in which other programs do the work that is left."""
PILOT = 20
"""Updates of the runs that measure how fast training is."""
SAFETY = 0.7
"""Part of the measured speed that a plan relies on."""
RESERVE = 2.0
"""Seconds that are left for the summary."""


def compare(
    task: Task | str,
    strategies: Iterable[Strategy | str] | None = None,
    budget: Budget | None = None,
    store: str | Path = DEFAULT_STORE,
    *,
    engine: str = "population",
    centre: str = "transfer",
    control: bool = True,
    seconds: float | None = None,
    workers: int = 2,
    ray: str | None = None,
    cohort: int = 128,
    study: str | None = None,
    progress: Progress | None = None,
    announce: Callable[[Plan], None] | None = None,
) -> Result:
    """Compare strategies on a task and return what was found, as plain JSON values.

    Runs that the store already holds are not repeated, so an interrupted comparison goes on where it stood; started
    twice at the same time, on one store, both programs share the work.

    Args:
        task: A ``Task``, the name of a built-in one, or ``"path/to/file.py:name"``.
        strategies: Strategies, or names of the catalogue; the classical ones by default.
        budget: How much each strategy gets.
        store: File or database URL for finished runs.
        engine: ``"population"`` (PyTorch, many runs at once; ``"torch"`` means the same), ``"one-by-one"`` (PyTorch),
            ``"jax"`` or ``"keras"``.
        centre: Around which rate each strategy's window starts: ``"transfer"`` (that of the catalogue for the
            optimizer, moved to the schedule by a bound; strategies of one's own at their own peak), ``"finder"`` (what
            the learning-rate finder suggests for one schedule of each optimizer, moved to the others), or ``"card"``
            (each strategy's own peak).
        control: Whether a tuned AdamW with warm-up and decay is added, where it is not among the strategies.
        seconds: Most seconds of the whole comparison: the plan is made to fit, and what is unfinished then is dropped.
        workers: Processes, of one thread each; 1 trains in this one.
        ray: ``"auto"`` or the address of a Ray cluster, which is used instead.
        cohort: How many runs are trained together, at most.
        study: Name of the study in the store; by default the task's.
        progress: Called with the runs done and the runs known to be needed.
        announce: Called with the plan before anything is trained.

    Returns:
        The object that ``ratewise compare --json`` prints.

    Raises:
        LabError: The plan, the task, a run or the store; the message says which.
    """
    started = time.monotonic()
    _check(workers, cohort, seconds, study)
    task = load(task) if isinstance(task, str) else task
    plan = planned(task, strategies, budget or Budget(), engine, cohort, control=control)
    limit = None if seconds is None else started + seconds
    with Store(store, write=True) as kept, pool(workers, ray, mortal=limit is not None) as spread:
        kept.open_study(study or task.name)
        before = kept.plan()
        if seconds is not None:
            plan = replace(plan, facts={**plan.facts, "seconds": seconds})
        if (begun := _begun(plan, before)) is not None:
            plan = begun
        else:
            plan = replace(plan, **centred(plan, task, centre, before, limit))
            plan = fitted(plan if limit is None else _in_time(plan, task, spread, limit))
            kept.set_plan(plan.to_dict())
        if announce is not None:
            announce(plan)
        carry_out(plan, task, kept, spread, progress, limit)
        return summary(plan, kept.results())


def _begun(plan: Plan, before: Mapping[str, Any] | None) -> Plan | None:
    """The plan that the study has, if it was made for the same comparison in the same time; None otherwise.

    How much fits into a time is measured once: whoever goes on with a study goes on with its plan.
    """
    if before is None or "seconds" not in plan.facts:
        return None
    wanted, had = plan.to_dict(), dict(before)
    asked = had["facts"].get("asked")
    had["facts"] = {name: value for name, value in had["facts"].items() if name not in ("asked", "finder")}
    had.update(budget=asked, centres_given=wanted["centres_given"])
    return Plan.from_dict(before) if had == wanted else None


def _check(workers: Any, cohort: Any, seconds: Any, study: str | None) -> None:
    for name, value in (("workers", workers), ("cohort", cohort)):
        if type(value) is not int or value < 1:
            raise LabError(f"compare: {name} must be an integer of at least 1, got {value!r}.")
    if seconds is not None and not (type(seconds) in (int, float) and 0 < seconds < math.inf):
        raise LabError(f"compare: seconds must be a number above 0, got {seconds!r}.")
    if any(c in (study or "") for c in "/\\\n"):
        raise LabError(f"compare: study must be a short word without slashes, got {study!r}.")


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
                f"store {kept.location}: study {study!r} has no plan yet. Run `ratewise compare` first, or again."
            )
        try:
            known = Plan.from_dict(plan)
            summary(known, {})  # reads all of the plan
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"store {kept.location}: study {study!r} was made by another version of Ratewise "
                f"({type(error).__name__}: {error})."
            ) from error
        return summary(known, kept.results())


def planned(
    task: Task, strategies: Iterable[Strategy | str] | None, budget: Budget, engine: str, cohort: int = 128, *,
    control: bool = True,
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
    chosen = [named(s) if isinstance(s, str) else s for s in (strategies or DEFAULT)]
    if control and not any(map(is_control, chosen)):
        taken = any(strategy.name == CONTROL for strategy in chosen)
        chosen.append(replace(CATALOGUE[CONTROL], name=f"{CONTROL}_control" if taken else CONTROL))
    names = [strategy.name for strategy in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LabError(f"compare: strategy {twice[0]!r} is there twice. Give each its own name.")
    for optimizer in {strategy.optimizer for strategy in chosen} - {"sgd", "adagrad", "rmsprop", "adam", "adamw"}:
        adapter = ENGINES[engine][0].partition(".")[0]  # loads the framework, so only where it is needed
        known = import_module(f"ratewise.{adapter}").OPTIMIZERS
        if optimizer not in known and not (adapter == "torch" and ":" in optimizer):  # module:Class
            raise UnknownName(f"unknown optimizer {optimizer!r}.{nearest(optimizer, known)}")
    facts = {
        "description": task.description,
        "metric": task.metric,
        "batch_size": task.batch_size,
        "examples": task.examples,
        "reference": task.reference,
    }
    plan = Plan(
        task.name, examined(task, engine), budget.steps or task.steps, tuple(chosen), budget, engine, facts, cohort
    )
    stats.require_seeds(budget.fresh_seeds, plan.rivals)
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


def carry_out(
    plan: Plan, task: Task, store: Store, spread: Pool, progress: Progress | None = None, limit: float | None = None
) -> None:
    """Do whatever is pending until nothing is, or until the time is over; keep each cohort as it finishes.

    Other programs may do the same at the same time: a cohort belongs to the one that has claimed it.

    Args:
        plan: What to do.
        task: Its task.
        store: Where runs are kept, open for writing.
        spread: Who trains.
        progress: As for ``compare``.
        limit: Value of ``time.monotonic()`` at which to stop.
    """
    running: dict[str, Cohort] = {}
    waited = False
    try:
        while unfinished := plan.cohorts(results := store.results(), task.reference or task):
            _tell(plan, results, progress)
            for name, cohort in unfinished:
                if len(running) == spread.slots:
                    break
                if name in running or not store.claim(name):
                    continue
                done = store.results()  # another program may have finished it before it was claimed
                if all(run.key in done for run in cohort.runs):
                    store.release(name)
                    continue
                running[name] = cohort
                spread.start(name, cohort)
            left = math.inf if limit is None else limit - time.monotonic()
            if left <= 0:
                return
            if not running:
                if not waited:
                    _log.warning("waiting for %d cohorts that another program trains", len(unfinished))
                waited = True
                time.sleep(min(POLL, left))
                continue
            for name, found in spread.wait(None if limit is None else left):
                store.add(list(zip(running.pop(name).runs, found, strict=True)))
                store.release(name)
        _tell(plan, results, progress)
    finally:
        for name in running:
            store.release(name)


def _tell(plan: Plan, results: Mapping[str, Result], progress: Progress | None) -> None:
    if progress is not None:
        done = plan.done(results)
        progress(done, max(plan.least(), done + len(plan.pending(results))))


def _in_time(plan: Plan, task: Task, spread: Pool, limit: float) -> Plan:
    """The plan, limited to the updates for which there is time, as a few updates of its first runs measure it."""
    steps = min(plan.steps, PILOT)
    by_name = {strategy.name: strategy for strategy in plan.strategies}
    first = plan.pending({})[: plan.cohort]
    runs = [plan.run(by_name[run.strategy], run.rate, run.seed, run.phase, steps) for run in first]
    pilot = plan.together(runs, task.reference or task)
    for turn in ("to load and compile", "to measure"):
        for slot in range(spread.slots):
            spread.start(f"pilot {slot} {turn}", pilot)
        finished: list[Any] = []
        while len(finished) < spread.slots:
            finished += spread.wait(limit - time.monotonic())
            if time.monotonic() >= limit:
                raise LabError("compare: the time was over before the first updates were made. Allow more.")
    spent = max(math.fsum(result["seconds"] for result in found) for _, found in finished)
    per_second = SAFETY * spread.slots * len(runs) * steps / max(spent, 1e-9)
    updates = int(per_second * (limit - time.monotonic() - RESERVE))
    least = [smaller.least_updates() for smaller in shrunk(plan)][-1]
    if updates < least:
        raise LabError(
            f"compare: too little time: {len(plan.strategies)} strategies of {plan.steps} updates need at least "
            f"{least:,} updates, about {least / per_second + RESERVE:.0f} s here besides loading. Allow more, or "
            "compare fewer strategies or fewer steps."
        )
    known = plan.budget.updates
    least_of_both = updates if known is None else min(known, updates)
    facts = {**plan.facts, "asked": asdict(plan.budget)}
    return replace(plan, facts=facts, budget=replace(plan.budget, updates=least_of_both))
