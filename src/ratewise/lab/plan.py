"""What a comparison will do, and from any set of finished runs what is still to do: pure functions.

A plan is carried out by asking ``pending`` again and again and running what it names. Nothing else is remembered,
so a comparison that was killed goes on where it stood, and ``report`` can read one that is not finished.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

from ratewise.core.horizon import Horizon
from ratewise.errors import LabError
from ratewise.lab.runs import Cohort, Member, Run, spec
from ratewise.lab.strategy import Strategy

FIRST_FRESH_SEED = 1000
Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Budget:
    """How much every strategy gets; the same for all.

    Args:
        steps: Optimizer updates of every run; None takes the task's.
        rates: Peak rates in the window around a strategy's centre, a factor of 2 apart; odd, at least 3.
        tuning_seeds: Runs per rate on the validation split.
        fresh_seeds: Runs at the chosen rate on the test split, with seeds not used before.
        slides: How often the window may move by one rate while the best lies at its edge.
        delta: Smallest difference worth having, as a part of the reference's loss.
    """

    steps: int | None = None
    rates: int = 7
    tuning_seeds: int = 5
    fresh_seeds: int = 12
    slides: int = 8
    delta: float = 0.05

    def __post_init__(self) -> None:
        for name, least in (("rates", 3), ("tuning_seeds", 1), ("fresh_seeds", 1), ("slides", 0), ("steps", 1)):
            value = getattr(self, name)
            if (type(value) is not int or value < least) and not (name == "steps" and value is None):
                raise LabError(f"budget: {name} must be an integer of at least {least}, got {value!r}.")
        if self.rates % 2 == 0:
            raise LabError(f"budget: rates must be odd, so that the window has a centre, got {self.rates}.")
        if not 0 < self.delta < 1:
            raise LabError(f"budget: delta must lie between 0 and 1 (a part of the loss), got {self.delta!r}.")


@dataclass(frozen=True)
class Choice:
    """Where a strategy's search for its rate stands.

    Args:
        rates: Every rate tried, rising.
        scores: Mean validation loss of each (inf if a run diverged, nan if runs are missing).
        window: The rates among which the choice is made.
        best: The chosen rate; None while runs are missing, or if every rate diverged.
        edge: Whether the best rate still lies at the edge of the window.
        missing: Runs still to do before the choice can be made.
    """

    rates: tuple[float, ...]
    scores: tuple[float, ...]
    window: tuple[float, ...]
    best: float | None
    edge: bool
    missing: tuple[Run, ...]


@dataclass(frozen=True)
class Plan:
    """A comparison: a task, strategies, one budget for all, and the engine that trains.

    Args:
        task: Name of the task.
        fingerprint: Hash of its data and model.
        steps: Optimizer updates of every run.
        strategies: What is compared.
        budget: How much each strategy gets.
        engine: Which engine trains.
        facts: What else is known of the task: description, metric, batch size, number of training examples.
        cohort: How many runs are trained together.
    """

    task: str
    fingerprint: str
    steps: int
    strategies: tuple[Strategy, ...]
    budget: Budget
    engine: str
    facts: Mapping[str, Any]
    cohort: int = 128

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            **{name: getattr(self, name) for name in ("task", "fingerprint", "steps", "engine", "cohort")},
            "strategies": [strategy.to_dict() for strategy in self.strategies],
            "budget": asdict(self.budget),
            "facts": dict(self.facts),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """Return the plan that ``to_dict`` described."""
        strategies = tuple(Strategy.from_dict(item) for item in data["strategies"])
        return cls(**{**data, "strategies": strategies, "budget": Budget(**data["budget"])})

    @cached_property
    def horizon(self) -> Horizon:
        """The run in all its units, so that strategies may speak of epochs and samples."""
        return Horizon(self.steps, dataset_size=self.facts["examples"], batch_size=self.facts["batch_size"])

    @cached_property
    def centres(self) -> dict[str, float]:
        """Each strategy's own peak rate, around which its window starts."""
        return {strategy.name: strategy.peak(self.horizon) for strategy in self.strategies}

    def run(self, strategy: Strategy, rate: float, seed: int, phase: str) -> Run:
        """The run of a strategy at a peak rate."""
        text = spec(_settled(strategy, rate, self.horizon))
        return Run(self.fingerprint, strategy.name, text, rate, seed, phase, self.steps, self.engine)

    def tuning(self, strategy: Strategy, rate: float) -> list[Run]:
        """The runs that score a rate."""
        return [self.run(strategy, rate, seed, "tune") for seed in range(self.budget.tuning_seeds)]

    def fresh(self, strategy: Strategy, rate: float) -> list[Run]:
        """The runs that judge a strategy at its chosen rate."""
        seeds = range(FIRST_FRESH_SEED, FIRST_FRESH_SEED + self.budget.fresh_seeds)
        return [self.run(strategy, rate, seed, "test") for seed in seeds]

    def choice(self, strategy: Strategy, results: Results) -> Choice:
        """Follow the window of a strategy as far as the finished runs reach.

        The window slides by one rate while its best lies at its edge (downwards if every rate diverged), so that
        each strategy finds its own best rate however good the guess of the centre was.
        """
        half = self.budget.rates // 2
        centre = self.centres[strategy.name]
        scores: dict[int, float] = {}
        missing: list[Run] = []
        low, slides = -half, 0
        while True:
            window = range(low, low + self.budget.rates)
            for i in window:
                if i not in scores:
                    runs = self.tuning(strategy, centre * 2.0**i)
                    scores[i] = score([results.get(run.key) for run in runs])
                    missing += [run for run in runs if run.key not in results]
            if missing:
                return self._chosen(centre, scores, window, None, missing)
            best = min(window, key=lambda i: (scores[i], abs(i)))
            direction = -1 if best == window[0] or math.isinf(scores[best]) else 1 if best == window[-1] else 0
            if not direction or slides == self.budget.slides:
                return self._chosen(centre, scores, window, best, [])
            low, slides = low + direction, slides + 1

    @staticmethod
    def _chosen(
        centre: float, scores: Mapping[int, float], window: range, best: int | None, missing: list[Run]
    ) -> Choice:
        tried = sorted(scores)
        found = best is not None and math.isfinite(scores[best])
        return Choice(
            rates=tuple(centre * 2.0**i for i in tried),
            scores=tuple(scores[i] for i in tried),
            window=tuple(centre * 2.0**i for i in window),
            best=centre * 2.0**best if best is not None and found else None,
            edge=best in (window[0], window[-1]),
            missing=tuple(missing),
        )

    def pending(self, results: Results) -> list[Run]:
        """Return the runs that can be done next; empty when the plan is carried out.

        Fresh seeds are not touched before every strategy has chosen its rate: the reference is fixed first.
        """
        choices = [(strategy, self.choice(strategy, results)) for strategy in self.strategies]
        tuning = [run for _, choice in choices for run in choice.missing]
        if tuning:
            return tuning
        fresh = [run for strategy, choice in choices if choice.best for run in self.fresh(strategy, choice.best)]
        return [run for run in fresh if run.key not in results]

    def cohorts(self, pending: Sequence[Run], task: Any) -> list[Cohort]:
        """Group runs that can be trained together; how does not depend on how many processes there are.

        Args:
            pending: The runs.
            task: The task, or its reference, as a ``Cohort`` keeps it.
        """
        groups: dict[Any, list[Run]] = {}
        for run in pending:
            groups.setdefault((run.steps, run.phase), []).append(run)
        return [
            Cohort(task, tuple(part), tuple(Member(settled(self, r), r.seed, r.steps, r.phase) for r in part))
            for runs in groups.values()
            for part in (runs[i : i + self.cohort] for i in range(0, len(runs), self.cohort))
        ]

    def spent(self, strategy: Strategy, choice: Choice, results: Results) -> list[Run]:
        """The finished runs of a strategy."""
        runs = [run for rate in choice.rates for run in self.tuning(strategy, rate)]
        runs += self.fresh(strategy, choice.best) if choice.best is not None else []
        return [run for run in runs if run.key in results]

    def done(self, results: Results) -> int:
        """The number of finished runs that belong to this plan."""
        return sum(len(self.spent(s, self.choice(s, results), results)) for s in self.strategies)

    def least(self) -> int:
        """The number of runs if no window slides."""
        return len(self.strategies) * (self.budget.rates * self.budget.tuning_seeds + self.budget.fresh_seeds)


@lru_cache(maxsize=4096)
def _settled(strategy: Strategy, rate: float, horizon: Horizon) -> Strategy:
    return strategy.with_peak(rate, horizon)


def settled(plan: Plan, run: Run) -> Strategy:
    """The strategy of a run, with its schedules settled and scaled to the run's rate."""
    strategy = next(s for s in plan.strategies if s.name == run.strategy)
    return _settled(strategy, run.rate, plan.horizon)


def score(results: Sequence[Mapping[str, Any] | None]) -> float:
    """Mean loss of the runs: inf if one diverged, nan if one is missing."""
    if any(result is None for result in results):
        return math.nan
    losses = [result["loss"] for result in results if result is not None]
    return math.inf if None in losses else math.fsum(losses) / len(losses)
