"""What a comparison will do, and from any set of finished runs what is still to do: pure functions.

A plan goes through stages: the windows of rates (or the rungs of a race), as often as windows slide, then the fresh
seeds. A stage begins when the one before it is complete, and is cut into cohorts always in the same way. Nothing else
is remembered, so a comparison that was killed goes on where it stood, several programs can work on one, and ``report``
can read one that is not finished.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any

from ratewise.core.horizon import Horizon
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Schedule
from ratewise.errors import LabError
from ratewise.finder.trials import vertex
from ratewise.lab.catalogue import CATALOGUE
from ratewise.lab.runs import Cohort, Member, Run, spec
from ratewise.lab.strategy import Strategy

FIRST_FRESH_SEED = 1000
RUNGS = (9, 3)
"""A race trains complete runs of a ninth and a third of the length before those of full length."""
SHORTEST_RUNG = 12
FINALISTS = 3
SHARE = 0.3
"""Part of the updates of a search without a race that a race may use for tuning, as far as it can."""
CONTROL = "adamw"
"""The strategy of the catalogue that is in every comparison."""
CONTROLS = ("linear", "cosine")
"""Strategies of the catalogue that a race never drops, besides the control of every comparison."""

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
        race: Whether complete short runs decide which strategies are tuned at full length.
        updates: Most updates of the whole comparison; None for no limit. Windows stop sliding before they use up what
            the fresh seeds need.
    """

    steps: int | None = None
    rates: int = 7
    tuning_seeds: int = 5
    fresh_seeds: int = 12
    slides: int = 8
    delta: float = 0.05
    race: bool = False
    updates: int | None = None

    def __post_init__(self) -> None:
        least_of = {"rates": 3, "tuning_seeds": 1, "fresh_seeds": 1, "slides": 0, "steps": 1, "updates": 1}
        for name, least in least_of.items():
            value = getattr(self, name)
            if (type(value) is not int or value < least) and not (name in ("steps", "updates") and value is None):
                raise LabError(f"budget: {name} must be an integer of at least {least}, got {value!r}.")
        if self.rates % 2 == 0:
            raise LabError(f"budget: rates must be odd, so that the window has a centre, got {self.rates}.")
        if type(self.delta) not in (int, float) or not 0 < self.delta < 1:
            raise LabError(f"budget: delta must lie between 0 and 1 (a part of the loss), got {self.delta!r}.")
        if type(self.race) is not bool:
            raise LabError(f"budget: race must be True or False, got {self.race!r}.")


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in data.items() if name in names}


@dataclass(frozen=True)
class Choice:
    """Where a strategy's search for its rate stands.

    Args:
        rates: Every rate tried, rising.
        scores: Mean validation loss of each (inf if a run diverged, nan if runs are missing).
        window: The rates among which the choice is made.
        best: The chosen rate, within half an octave of the best of those tried; None while runs are missing, or if
            every rate diverged.
        score: Of the best rate tried; inf if there is none.
        edge: Whether the best rate still lies at the edge of the window.
        missing: Runs still to do before the choice can be made.
        steps: Updates of the runs that decide: fewer than the plan's for a strategy that a race dropped.
        dropped: Whether a race dropped it: ``best`` is then the best rate of its last rung.
        entered: The rates that the window began with, and then those that each move brought.
    """

    rates: tuple[float, ...]
    scores: tuple[float, ...]
    window: tuple[float, ...]
    best: float | None
    score: float
    edge: bool
    missing: tuple[Run, ...]
    steps: int
    dropped: bool = False
    entered: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Rung:
    """What a race did at one length.

    Args:
        steps: Updates of its runs.
        choices: Each contestant's choice at this length, by strategy, the best first.
        promoted: Who went on, by strategy, and why.
    """

    steps: int
    choices: Mapping[str, Choice]
    promoted: Mapping[str, str]


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
        centres_given: Peak rates around which windows start, by strategy, where it is not the strategy's own.
    """

    task: str
    fingerprint: str
    steps: int
    strategies: tuple[Strategy, ...]
    budget: Budget
    engine: str
    facts: Mapping[str, Any]
    cohort: int = 128
    centres_given: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            **{name: getattr(self, name) for name in ("task", "fingerprint", "steps", "engine", "cohort")},
            "strategies": [strategy.to_dict() for strategy in self.strategies],
            "budget": asdict(self.budget),
            "facts": dict(self.facts),
            "centres_given": dict(self.centres_given),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """Return the plan that ``to_dict`` described, also one of an earlier version."""
        strategies = tuple(Strategy.from_dict(item) for item in data["strategies"])
        engine = {"torch": "population"}.get(data["engine"], data["engine"])
        budget = Budget(**_known(Budget, data["budget"]))
        return cls(**{**_known(cls, data), "strategies": strategies, "engine": engine, "budget": budget})

    @cached_property
    def horizon(self) -> Horizon:
        """The run in all its units, so that strategies may speak of epochs and samples."""
        return Horizon(self.steps, dataset_size=self.facts["examples"], batch_size=self.facts["batch_size"])

    @cached_property
    def centres(self) -> dict[str, float]:
        """The peak rate around which each strategy's window starts: the one given for it, or else its own."""
        return {s.name: self.centres_given.get(s.name) or s.peak(self.horizon) for s in self.strategies}

    @cached_property
    def controls(self) -> tuple[str, ...]:
        """Names of the strategies that a race never drops."""
        kept = [_content(CATALOGUE[name]) for name in (CONTROL, *CONTROLS)]
        return tuple(s.name for s in self.strategies if _content(s) in kept)

    # -- runs ----------------------------------------------------------------------------------------------------

    def run(self, strategy: Strategy, rate: float, seed: int, phase: str, steps: int | None = None) -> Run:
        """The run of a strategy at a peak rate; its whole schedule is scaled to ``steps``."""
        key = strategy, rate, seed, phase, steps or self.steps
        if key not in self._runs:
            text = spec(self.settled(strategy, rate, steps or self.steps))
            self._runs[key] = Run(
                self.fingerprint, strategy.name, text, rate, seed, phase, steps or self.steps, self.engine
            )
        return self._runs[key]

    @cached_property
    def _runs(self) -> dict[Any, Run]:
        return {}

    def settled(self, strategy: Strategy, rate: float, steps: int) -> Strategy:
        """The strategy with its highest rate at ``rate``, settled for the plan's length and scaled to ``steps``."""
        return _settled(strategy, rate, self.horizon, steps)

    def tuning(self, strategy: Strategy, rate: float, steps: int | None = None) -> list[Run]:
        """The runs that score a rate."""
        return [self.run(strategy, rate, seed, "tune", steps) for seed in range(self.budget.tuning_seeds)]

    def fresh(self, strategy: Strategy, rate: float) -> list[Run]:
        """The runs that judge a strategy at its chosen rate."""
        seeds = range(FIRST_FRESH_SEED, FIRST_FRESH_SEED + self.budget.fresh_seeds)
        return [self.run(strategy, rate, seed, "test") for seed in seeds]

    # -- choosing rates ------------------------------------------------------------------------------------------

    def choice(self, strategy: Strategy, results: Results) -> Choice:
        """Where the search for a strategy's rate stands, as far as the finished runs reach."""
        return self.choices(results)[strategy.name]

    def choices(self, results: Results) -> dict[str, Choice]:
        """Where the search for each strategy's rate stands, by name."""
        rungs = self.rungs(results)
        found = {}
        for strategy in self.strategies:
            last = [rung for rung in rungs if strategy.name in rung.choices][-1]
            dropped = last is not rungs[-1] or bool(last.promoted and strategy.name not in last.promoted)
            found[strategy.name] = replace(last.choices[strategy.name], dropped=dropped)
        return found

    def _window(self, strategy: Strategy, octaves: range, steps: int, slides: int, results: Results) -> Choice:
        """Follow a window of rates, ``octaves`` from the centre, as far as the finished runs reach.

        It slides by one rate while its best lies at its edge (downwards if every rate diverged), so that each
        strategy finds its own best rate however good the guess of the centre was.
        """
        centre = self.centres[strategy.name]
        scores: dict[int, float] = {}
        entered: list[tuple[float, ...]] = []
        low = octaves[0]
        while True:
            window = range(low, low + len(octaves))
            missing: list[Run] = []
            new = [i for i in window if i not in scores]
            entered.append(tuple(centre * 2.0**i for i in new))
            for i, rate in zip(new, entered[-1], strict=True):
                runs = self.tuning(strategy, rate, steps)
                scores[i] = score([results.get(run.key) for run in runs])
                missing += [run for run in runs if run.key not in results]
            best = None if missing else min(window, key=lambda i: (scores[i], abs(i)))
            direction = 0
            if best is not None:
                upper = best == window[-1] and len(window) > 2  # of a rate and its half, only the half is an edge
                direction = -1 if best == window[0] or math.isinf(scores[best]) else 1 if upper else 0
            if not direction or len(entered) > slides:
                break
            low += direction
        tried = sorted(scores)
        found = best is not None and math.isfinite(scores[best])
        return Choice(
            rates=tuple(centre * 2.0**i for i in tried),
            scores=tuple(scores[i] for i in tried),
            window=tuple(centre * 2.0**i for i in window),
            best=rate_at(centre, best + self._beside(best, scores, steps)) if best is not None and found else None,
            score=scores[best] if best is not None else math.inf,
            edge=best == window[0] or (best == window[-1] and len(window) > 2),
            missing=tuple(missing),
            steps=steps,
            entered=tuple(entered),
        )

    def _beside(self, best: int, scores: Mapping[int, float], steps: int) -> float:
        """How far from the best rate tried the chosen one lies, in quarters of an octave.

        Entries that are equal would otherwise end a factor of two apart wherever the truth lies between two rates, and
        the fresh seeds would tell them apart.
        """
        around = (best - 1, best, best + 1)
        if steps != self.steps or not all(math.isfinite(scores.get(i, math.inf)) for i in around):
            return 0.0
        return beside([scores[i] for i in around])

    # -- the race ------------------------------------------------------------------------------------------------

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Updates of the runs of each rung, the last of full length; without a race there is but one."""
        short = [self.steps // part for part in RUNGS] if self.budget.race else []
        return (*(n for n in short if n >= SHORTEST_RUNG), self.steps)

    def rungs(self, results: Results) -> list[Rung]:
        """The rungs of the race that have begun.

        Every strategy runs complete, scaled to the rung's length, so finished schedules are compared with finished
        ones. Strategies are promoted, not single rates, and each takes along its best rate and half of it, because
        the best rate falls as runs get longer. A search without a race is one rung, with the whole window of rates.

        References:
            Li et al., 2020, A System for Massively Parallel Hyperparameter Tuning (successive halving; there by
            intermediate values), https://arxiv.org/abs/1810.05934. Bjorck et al., 2024, Scaling Optimal LR Across
            Token Horizons, https://arxiv.org/abs/2409.19913.
        """
        found: list[Rung] = []
        half = self.budget.rates // 2
        first = range(-1, 3) if len(self.lengths) > 1 else range(-half, half + 1)
        windows = {strategy.name: (first, self._slides) for strategy in self.strategies}
        for i, length in enumerate(self.lengths):
            choices = {
                s.name: self._window(s, windows[s.name][0], length, windows[s.name][1], results)
                for s in self.strategies
                if s.name in windows
            }
            if length == self.steps or any(choice.missing for choice in choices.values()):
                return [*found, Rung(length, _ranked(choices) if len(self.lengths) > 1 else choices, {})]
            promoted = self._promoted(choices, self._kept[i + 1])
            found.append(Rung(length, _ranked(choices), promoted))
            windows = {}
            for name in promoted:
                best = choices[name].best
                assert best is not None
                octave = round(math.log2(best / self.centres[name]))
                windows[name] = (range(octave - 1, octave + 1), 0)
            if not windows:
                break
        return found

    def _promoted(self, choices: Mapping[str, Choice], count: int) -> dict[str, str]:
        """Who goes on from a rung, and why: the best three, the controls, and the next best up to ``count``."""
        ranked = [name for name, choice in _ranked(choices).items() if choice.best is not None]
        controls = [name for name in ranked[FINALISTS:] if name in self.controls]
        free = max(0, count - FINALISTS - len(controls))
        others = [name for name in ranked[FINALISTS:] if name not in controls][:free]
        kept = [*ranked[:FINALISTS], *others]
        why = {name: f"number {ranked.index(name) + 1} of {len(choices)}" for name in kept}
        return {name: why.get(name, "control") for name in ranked if name in why or name in controls}

    @cached_property
    def _kept(self) -> tuple[int, ...]:
        """How many strategies run in each rung, at most: all, a third, and at last three and the controls."""
        count, least = len(self.strategies), FINALISTS + len(self.controls)
        middle = max(math.ceil(count / 3), least)
        kept = (count,) if len(self.lengths) == 1 else (count, *[middle] * (len(self.lengths) - 2), least)
        return tuple(min(count, n) for n in kept)

    @cached_property
    def _slides(self) -> int:
        """How often a window of the first rung may move: limits on updates are kept, and a race stays cheap."""
        each = len(self.strategies) * self.budget.tuning_seeds * self.lengths[0]
        left = [self.budget.slides]
        if self.budget.updates is not None:
            left.append((self.budget.updates - self.least_updates()) // each)
        if len(self.lengths) > 1:
            whole = len(self.strategies) * self.budget.rates * self.budget.tuning_seeds * self.steps
            left.append(math.floor(SHARE * whole - self._tuning_updates) // each)
        return max(0, min(left))

    @property
    def rivals(self) -> int:
        """The most strategies that the reference is tested against."""
        return self._kept[-1] - 1

    def history(self, results: Results) -> list[dict[str, Any]] | None:
        """What the race did so far, rung by rung, as plain JSON values; None without a race."""
        if len(self.lengths) == 1:
            return None
        return [self._told(rung, results) for rung in self.rungs(results)]

    def _told(self, rung: Rung, results: Results) -> dict[str, Any]:
        by_name = {strategy.name: strategy for strategy in self.strategies}
        entries, updates = [], 0
        for name, choice in rung.choices.items():
            runs = [run for rate in choice.rates for run in self.tuning(by_name[name], rate, rung.steps)]
            updates += sum(made(run, results[run.key]) for run in runs if run.key in results)
            loss = choice.score if choice.best is not None else None
            last = rung.steps == self.steps
            why = rung.promoted.get(name, "diverged at every rate" if loss is None else "dropped")
            entries.append({
                "name": name, "rate": choice.best, "loss": loss, "promoted": None if last else name in rung.promoted,
                "why": None if last or choice.missing else why,
            })  # fmt: skip
        return {"steps": rung.steps, "updates": updates, "entries": entries}

    # -- stages --------------------------------------------------------------------------------------------------

    def stages(self, results: Results) -> Iterator[list[Run]]:
        """All runs of each stage, finished or not; a stage is only known when those before it are complete."""
        for rung in self.rungs(results):
            chosen = [(s, rung.choices[s.name].entered) for s in self.strategies if s.name in rung.choices]
            for moved in range(max((len(entered) for _, entered in chosen), default=0)):
                now = [(s, rate) for s, entered in chosen for rate in (*entered, *[()] * moved)[moved]]
                yield [run for s, rate in now for run in self.tuning(s, rate, rung.steps)]
        choices = self.choices(results)
        if not any(choice.missing for choice in choices.values()):
            found = [(s, choices[s.name]) for s in self.strategies]
            yield [run for s, c in found if c.best and not c.dropped for run in self.fresh(s, c.best)]

    def pending(self, results: Results) -> list[Run]:
        """Return the runs that can be done next; empty when the plan is carried out.

        Fresh seeds are not touched before every strategy has chosen its rate: the reference is fixed first.
        """
        for stage in self.stages(results):
            if missing := [run for run in stage if run.key not in results]:
                return missing
        return []

    def cohorts(self, results: Results, task: Any) -> list[tuple[str, Cohort]]:
        """Return the unfinished cohorts of the present stage.

        How runs are grouped depends neither on how many processes there are nor on what is finished.

        Args:
            results: What is finished.
            task: The task, or its reference, as a ``Cohort`` keeps it.

        Returns:
            The name under which each is claimed, and the cohort of its missing runs.
        """
        for stage in self.stages(results):
            parts = [stage[i : i + self.cohort] for i in range(0, len(stage), self.cohort)]
            found = [(_name(part), [run for run in part if run.key not in results]) for part in parts]
            if any(missing for _, missing in found):
                return [(name, self.together(missing, task)) for name, missing in found if missing]
        return []

    def together(self, runs: Sequence[Run], task: Any) -> Cohort:
        """Runs of this plan as a cohort."""
        by_name = {strategy.name: strategy for strategy in self.strategies}
        members = [
            Member(self.settled(by_name[run.strategy], run.rate, run.steps), run.seed, run.steps, run.phase)
            for run in runs
        ]
        return Cohort(task, tuple(runs), tuple(members))

    def spent(self, results: Results) -> dict[str, list[Run]]:
        """The finished runs of each strategy, of every rung, by name."""
        rungs, choices = self.rungs(results), self.choices(results)
        found = {}
        for strategy in self.strategies:
            choice = choices[strategy.name]
            tried = [(rung.steps, rung.choices[strategy.name]) for rung in rungs if strategy.name in rung.choices]
            runs = [run for n, tuned in tried for rate in tuned.rates for run in self.tuning(strategy, rate, n)]
            runs += self.fresh(strategy, choice.best) if choice.best is not None and not choice.dropped else []
            found[strategy.name] = [run for run in runs if run.key in results]
        return found

    def done(self, results: Results) -> int:
        """The number of finished runs that belong to this plan."""
        return sum(map(len, self.spent(results).values()))

    # -- costs ---------------------------------------------------------------------------------------------------

    def preview(self) -> list[tuple[str, int, int]]:
        """What will be done if no window slides: of each stage its name, its runs, and their updates."""
        seeds, names = self.budget.tuning_seeds, [f"rung {i + 1}" for i in range(len(self.lengths))]
        rates = [4, *[2] * (len(self.lengths) - 1)] if len(names) > 1 else [self.budget.rates]
        stages = [
            (name, count * n * seeds, length)
            for name, count, n, length in zip(names, self._kept, rates, self.lengths, strict=True)
        ]
        if len(names) == 1:
            stages = [("tuning", *stages[0][1:])]
        stages.append(("fresh seeds", self._kept[-1] * self.budget.fresh_seeds, self.steps))
        searches = self.facts.get("finder", {}).values()
        looked = [("finder", 0, sum(search["updates"] for search in searches))] if searches else []
        return [*looked, *((name, runs, runs * length) for name, runs, length in stages)]

    @cached_property
    def _tuning_updates(self) -> int:
        return sum(updates for name, _, updates in self.preview() if name not in ("finder", "fresh seeds"))

    def least(self) -> int:
        """The number of runs if no window slides."""
        return sum(runs for _, runs, _ in self.preview())

    def least_updates(self) -> int:
        """The number of updates if no window slides."""
        return sum(updates for _, _, updates in self.preview())


def fitted(plan: Plan) -> Plan:
    """Return the plan, with fewer rates and seeds if its limit on updates asks for it.

    Raises:
        LabError: The limit is too small for the smallest plan.
    """
    limit = plan.budget.updates
    for smaller in shrunk(plan):
        if limit is None or smaller.least_updates() <= limit:
            return smaller
    raise LabError(
        f"compare: {limit:,} updates are too few: {len(plan.strategies)} strategies of {plan.steps} updates need at "
        f"least {smaller.least_updates():,}. Allow more, or compare fewer strategies or fewer steps."
    )


def shrunk(plan: Plan) -> Iterator[Plan]:
    """Yield the plan, and then ever smaller ones.

    What is given up, in this order: tuning seeds down to two, rates down to five, tuning all strategies at full
    length, the second tuning seed. Fresh seeds are kept.
    """
    yield plan
    budget = plan.budget
    for race, seeds, rates in (
        *((budget.race, n, budget.rates) for n in range(budget.tuning_seeds - 1, 1, -1)),
        (budget.race, 2, 5), (True, 3, 5), (True, 2, 5), (True, 1, 3),
    ):  # fmt: skip
        less = {"tuning_seeds": min(seeds, budget.tuning_seeds), "rates": min(rates, budget.rates)}
        yield replace(plan, budget=replace(budget, race=race, **less))


def beside(scores: Sequence[float]) -> float:
    """Return where the parabola through three scores, an octave apart, is lowest: in quarters of one from the middle.

    Example:
        >>> beside([2.0, 1.0, 2.0]), beside([1.25, 1.0, 2.0])
        (0.0, -0.25)
    """
    return round(4 * vertex((-1.0, 0.0, 1.0), scores)) / 4


def rate_at(centre: float, octave: float) -> float:
    """Return the rate so many octaves from the centre; between two rates of a window, to three digits."""
    rate = centre * 2.0**octave
    return rate if octave == int(octave) else float(f"{rate:.3g}")


def is_control(strategy: Strategy) -> bool:
    """Whether a strategy, whatever its name, is the control that every comparison has."""
    return _content(strategy) == _content(CATALOGUE[CONTROL])


def _content(strategy: Strategy) -> tuple[Any, ...]:
    return strategy.optimizer, strategy.lr, strategy.momentum, strategy.weight_decay, strategy.settings


def _ranked(choices: Mapping[str, Choice]) -> dict[str, Choice]:
    """The choices, best score first; those without a rate last."""

    def key(name: str) -> float:
        choice = choices[name]
        return choice.score if choice.best is not None else math.inf

    return {name: choices[name] for name in sorted(choices, key=key)}


def _name(runs: Sequence[Run]) -> str:
    return hashlib.sha256("".join(run.key for run in runs).encode()).hexdigest()[:32]


@lru_cache(maxsize=8192)
def _settled(strategy: Strategy, rate: float, horizon: Horizon, steps: int) -> Strategy:
    whole = strategy.with_peak(rate, horizon)
    if steps == horizon.total_steps:
        return whole
    part = steps / horizon.total_steps
    shorter: dict[str, Any] = {}
    for name in ("lr", "momentum", "weight_decay"):
        value = getattr(whole, name)
        if isinstance(value, Schedule):
            shorter[name] = value.stretch(part)
        elif isinstance(value, Ruled):  # its rules look at metrics, of which a run of any length has as many
            shorter[name] = replace(value, schedule=value.schedule.stretch(part))
    return replace(whole, **shorter)


def made(run: Run, result: Mapping[str, Any]) -> int:
    """Updates of a run, up to its end or until it diverged; the beginning that it shared with others included."""
    return int(run.steps if result.get("diverged") is None else result["diverged"] + 1)


def score(results: Sequence[Mapping[str, Any] | None]) -> float:
    """Mean loss of the runs: inf if one diverged, nan if one is missing."""
    if any(result is None for result in results):
        return math.nan
    losses = [result["loss"] for result in results if result is not None]
    return math.inf if None in losses else math.fsum(losses) / len(losses)
