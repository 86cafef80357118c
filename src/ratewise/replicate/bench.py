"""What trains for the claims: strategies at rates and seeds on a task, through the lab's engines, as arrays.

A run is trained once: claims that need the same run share it. Rates are tuned as ``compare`` tunes them: a window of
seven around the strategy's own centre, a factor of 2 apart, by the mean validation loss over tuning seeds, moved while
the best lies at its edge. What is judged are other, fresh seeds on the test split.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.core.horizon import Horizon
from ratewise.lab.loading import load
from ratewise.lab.runs import Member, engine_of, spec
from ratewise.lab.strategy import Strategy
from ratewise.lab.task import Task
from ratewise.outcome import Outcome

FIRST_FRESH_SEED = 1000
COHORT = 128
Key = tuple[str, str, str, int, str, int]


@dataclass(frozen=True)
class Runs:
    """Finished runs of one strategy, as arrays of shape ``(rates, seeds)``.

    Args:
        rates: The peak rates.
        loss: On the split that decides; inf where a run diverged.
        first: Training loss before the first update.
        metric: On the split that decides; nan where a run diverged.
        valid: Validation loss at each mark, ``(rates, seeds, marks)``; inf behind a divergence.
        test: The same on the test split; all inf in phase ``"tune"``.
    """

    rates: NDArray[np.float64]
    loss: NDArray[np.float64]
    first: NDArray[np.float64]
    metric: NDArray[np.float64]
    valid: NDArray[np.float64]
    test: NDArray[np.float64]

    @property
    def capped(self) -> NDArray[np.float64]:
        """The loss, that of a run that diverged being the one before training: it has learned nothing."""
        return np.where(np.isfinite(self.loss), self.loss, self.first)

    @property
    def learned(self) -> NDArray[np.float64]:
        """The loss, but never more than before training (Wortsman et al., 2023, use it for sensitivity)."""
        return np.minimum(self.capped, self.first)


@dataclass(frozen=True)
class Tuned:
    """A strategy at the rate that its window gave.

    Args:
        strategy: As it was given.
        rate: The chosen peak rate.
        rates: All rates tried, rising.
        scores: Mean validation loss of each.
        edge: Whether the best still lies at an end of the rates tried.
    """

    strategy: Strategy
    rate: float
    rates: NDArray[np.float64]
    scores: NDArray[np.float64]
    edge: bool


class Bench:
    """Trains, remembers, and counts.

    Args:
        quick: Whether sizes are small.
        progress: Told what is being trained.
    """

    def __init__(self, quick: bool = False, progress: Callable[[str], None] = lambda _: None) -> None:
        self.quick, self.updates = quick, 0
        self._progress = progress
        self._tasks: dict[str, Task] = {}
        self._engines: dict[tuple[str, str], Any] = {}
        self._known: dict[Key, Outcome] = {}

    def size(self, full: int, quick: int) -> int:
        """Return one of two sizes."""
        return quick if self.quick else full

    def task(self, name: str) -> Task:
        """Return a built-in task."""
        if name not in self._tasks:
            self._tasks[name] = load(name)
        return self._tasks[name]

    def runs(
        self, task: Task, wanted: Mapping[str, tuple[Strategy, Sequence[float]]], seeds: Iterable[int], *,
        steps: int | None = None, phase: str = "test", engine: str = "jax",
    ) -> dict[str, Runs]:  # fmt: skip
        """Train strategies, each at its rates, with the same seeds.

        Args:
            task: On what.
            wanted: By name, the strategy and its peak rates.
            seeds: Of initial values and batches.
            steps: Updates; the task's own by default.
            phase: ``"tune"`` is judged on the validation split, ``"test"`` on the test split.
            engine: Which engine trains.
        """
        steps, seeds = steps or task.steps, list(seeds)
        run = Horizon(steps, dataset_size=len(task.splits["train"][0]), batch_size=task.batch_size)
        at = {name: [s.with_peak(float(rate), run) for rate in rates] for name, (s, rates) in wanted.items()}
        members = [Member(s, seed, steps, phase) for many in at.values() for s in many for seed in seeds]
        found = iter(self._trained(task, members, engine))
        return {
            name: _gathered(np.asarray(rates, dtype=float), [[next(found) for _ in seeds] for _ in rates])
            for name, (_, rates) in wanted.items()
        }

    def _trained(self, task: Task, members: Sequence[Member], engine: str) -> list[Outcome]:
        keys = [(task.fingerprint, engine, spec(m.strategy), m.seed, m.phase, m.steps) for m in members]
        missing = {key: m for key, m in zip(keys, members, strict=True) if key not in self._known}
        if (task.fingerprint, engine) not in self._engines:
            self._engines[task.fingerprint, engine] = engine_of(task, engine)
        trains = self._engines[task.fingerprint, engine]
        size = min(COHORT, trains.room())
        kinds = sorted(missing, key=lambda key: missing[key].strategy.optimizer)  # one kind compiles once
        for kind, group in groupby(kinds, key=lambda key: missing[key].strategy.optimizer):
            same = list(group)
            for i in range(0, len(same), size):
                part = same[i : i + size]
                self._progress(f"{task.name}: {len(part)} runs of {missing[part[0]].steps} updates, {kind}")
                outcomes: list[Outcome] = trains.cohort([missing[key] for key in part])
                self.updates += sum(outcome.updates for outcome in outcomes)
                self._known.update(zip(part, outcomes, strict=True))
        return [self._known[key] for key in keys]

    def tuned(
        self, task: Task, strategies: Mapping[str, Strategy], *, steps: int | None = None, rates: int = 7,
        seeds: int = 5, slides: int = 8, engine: str = "jax",
    ) -> dict[str, Tuned]:  # fmt: skip
        """Choose each strategy's own peak rate, as ``compare`` does.

        Args:
            task: On what.
            strategies: By name; the window is centred at each one's own peak.
            steps: Updates; the task's own by default.
            rates: Rates in the window.
            seeds: Runs at each rate.
            slides: How often a window may move by one rate.
            engine: Which engine trains.
        """
        centres = {name: s.peak(steps or task.steps) for name, s in strategies.items()}
        scores: dict[str, dict[int, float]] = {name: {} for name in strategies}
        lows = dict.fromkeys(strategies, -(rates // 2))
        moving = dict.fromkeys(strategies, slides)
        while True:
            new = {
                name: [i for i in range(lows[name], lows[name] + rates) if i not in scores[name]] for name in strategies
            }
            if not any(new.values()):
                break
            wanted = {
                name: (strategies[name], [centres[name] * 2.0**i for i in new[name]]) for name in new if new[name]
            }
            found = self.runs(task, wanted, range(seeds), steps=steps, phase="tune", engine=engine)
            for name, runs in found.items():
                scores[name].update(zip(new[name], runs.loss.mean(axis=1).tolist(), strict=True))
                if moving[name] > 0 and (direction := _direction(scores[name], lows[name], rates)):
                    lows[name], moving[name] = lows[name] + direction, moving[name] - 1
        return {
            name: _chosen(s, centres[name], scores[name], range(lows[name], lows[name] + rates))
            for name, s in strategies.items()
        }

    def fresh(
        self, task: Task, tuned: Mapping[str, Tuned], seeds: int, *, steps: int | None = None, engine: str = "jax"
    ) -> dict[str, Runs]:
        """Train each strategy at its chosen rate on fresh seeds: arrays of shape ``(1, seeds)``."""
        wanted = {name: (t.strategy, [t.rate]) for name, t in tuned.items()}
        return self.runs(task, wanted, fresh_seeds(seeds), steps=steps, engine=engine)

    def judged(
        self, task: Task, strategies: Mapping[str, Strategy], seeds: int, *, steps: int | None = None,
        engine: str = "jax", tuning_seeds: int = 5,
    ) -> tuple[dict[str, Tuned], dict[str, Runs]]:  # fmt: skip
        """Tune strategies, then train each at its own rate on fresh seeds."""
        tuned = self.tuned(task, strategies, steps=steps, seeds=tuning_seeds, engine=engine)
        return tuned, self.fresh(task, tuned, seeds, steps=steps, engine=engine)


def fresh_seeds(count: int) -> range:
    """Seeds that no tuning has used."""
    return range(FIRST_FRESH_SEED, FIRST_FRESH_SEED + count)


def _direction(scores: Mapping[int, float], low: int, rates: int) -> int:
    """Where the window must move: down (-1), up (1), or nowhere (0)."""
    window = range(low, low + rates)
    best = min(window, key=lambda i: (scores[i], abs(i)))
    return -1 if best == window[0] or math.isinf(scores[best]) else 1 if best == window[-1] else 0


def _chosen(strategy: Strategy, centre: float, scores: Mapping[int, float], window: range) -> Tuned:
    best = min(window, key=lambda i: (scores[i], abs(i)))
    tried = sorted(scores)
    rates = np.array([centre * 2.0**i for i in tried])
    return Tuned(
        strategy, centre * 2.0**best, rates, np.array([scores[i] for i in tried]), best in (window[0], window[-1])
    )


def _gathered(rates: NDArray[np.float64], outcomes: Sequence[Sequence[Outcome]]) -> Runs:
    def table(value: Callable[[Outcome], Any]) -> NDArray[np.float64]:
        return np.array([[value(o) for o in row] for row in outcomes], dtype=float)

    most = max(len(o.held["valid"]) for row in outcomes for o in row) or 1

    def held(split: str) -> NDArray[np.float64]:
        return table(lambda o: [*(given := o.held.get(split, [])), *[math.inf] * (most - len(given))])

    return Runs(
        rates,
        loss=table(lambda o: math.inf if o.loss is None else o.loss),
        first=table(lambda o: o.losses[0]),
        metric=table(lambda o: math.nan if o.metric is None else o.metric),
        valid=np.nan_to_num(held("valid"), nan=math.inf, posinf=math.inf),
        test=np.nan_to_num(held("test"), nan=math.inf, posinf=math.inf),
    )
