"""A/A calibration: how often a comparison crowns a winner among equals, and how often it finds a real gap.

Equal entries are compared by the rules of ``compare``, from the choice of their rates to the verdicts. Each entry has
seeds of its own (initial values and order of the batches), because twins on the same seeds would differ by exactly
0; so the pairing is by index only, and any "better" or "worse" is a false winner.

Hundreds of studies of 13 entries would be hundreds of thousands of runs. So one strategy is trained many times at each
rate, each run measured on the validation and on the test split, and studies are drawn from that pool.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from ratewise.errors import LabError
from ratewise.lab import DEFAULT_STORE, stats
from ratewise.lab.centres import centred
from ratewise.lab.compare import Progress, carry_out, planned
from ratewise.lab.loading import load
from ratewise.lab.plan import Budget, Plan, Results, beside, rate_at
from ratewise.lab.pools import pool as pool_of
from ratewise.lab.runs import Run
from ratewise.lab.store import Store
from ratewise.lab.strategy import Strategy
from ratewise.lab.task import Task

GAP = 3.0
"""The gap that must be found, in standard deviations of a paired difference between equal entries."""
POWERS = ((4, 8), (13, 12))
"""Entries and fresh seeds of the studies in which one entry is really worse."""
MOST_FALSE = 0.07
"""The upper 95% limit of the share of studies with a false winner must lie below it."""
LEAST_FOUND = 0.85

PARTS = 4
"""Rates to an octave, between which a comparison chooses."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Design:
    """A kind of study: how many entries, with how many seeds each."""

    entries: int
    tuning_seeds: int
    fresh_seeds: int

    @property
    def runs(self) -> int:
        """Runs of a study at one rate, if all its entries choose the same."""
        return self.entries * (self.tuning_seeds + self.fresh_seeds)


@dataclass(frozen=True)
class Losses:
    """What the pool's runs ended with, as arrays ``(octaves, runs)``; a row is nan where nothing was trained.

    Args:
        octaves: Distance of each row's rate from the centre, in factors of two: quarters, rising.
        valid: Final validation loss; inf if the run diverged.
        test: Final test loss; of a run that diverged the loss before its first update, as in a comparison.
    """

    octaves: Sequence[float]
    valid: Array
    test: Array


@dataclass(frozen=True)
class Studies:
    """Drawn studies up to their choice of rates.

    Args:
        seeds: Which of the pool's runs each entry has, ``(studies, entries, tuning + fresh)``.
        chosen: Row of the chosen rate, ``(studies, entries)``.
        scores: Mean validation loss there.
        asked: Octaves that a window reached, or that lie beside its best, but the pool lacks.
    """

    seeds: Array
    chosen: Array
    scores: Array
    asked: frozenset[float]


@dataclass(frozen=True)
class PoolPlan(Plan):
    """A plan that trains one strategy many times at every rate that a drawn study asks for.

    Args:
        runs: Runs per rate.
        designs: What is drawn from it.
        studies: How many studies of each design.
        seed: Of the drawing.
    """

    runs: int = 400
    designs: tuple[Design, ...] = ()
    studies: int = 2000
    seed: int = 0

    def at(self, octave: float) -> list[Run]:
        """The runs at a rate, so many factors of two from the centre."""
        (strategy,) = self.strategies
        rate = rate_at(self.centres[strategy.name], octave)
        return [self.run(strategy, rate, seed, "test") for seed in range(self.runs)]

    def stages(self, results: Results) -> Iterator[list[Run]]:
        """First the rates of a window that does not slide, then those that windows slid to or chose between."""
        half = self.budget.rates // 2
        asked: set[float] = set(range(-half, half + 1))
        while asked:
            stage = [run for octave in sorted(asked) for run in self.at(octave)]
            yield stage
            if any(run.key not in results for run in stage):
                return
            losses = self.losses(results)
            asked = {octave for studies in self.drawn(losses) for octave in studies.asked}

    def losses(self, results: Results) -> Losses:
        """What the finished runs ended with."""
        reach = self.budget.rates // 2 + self.budget.slides
        octaves = [i / PARTS for i in range(-reach * PARTS, reach * PARTS + 1)]
        valid, test = np.full((2, len(octaves), self.runs), np.nan)
        for row, octave in enumerate(octaves):
            found = [results.get(run.key) for run in self.at(octave)]
            if None not in found:
                valid[row] = [np.inf if r["loss"] is None else r["valid"][-1] for r in found if r]
                test[row] = [_worth(r) for r in found if r]
        return Losses(
            octaves, valid, np.where(np.isinf(test), np.nanmax(test, initial=0, where=np.isfinite(test)), test)
        )

    def drawn(self, losses: Losses) -> list[Studies]:
        """The studies of each design."""
        rngs = [np.random.default_rng([self.seed, i]) for i in range(len(self.designs))]
        return [draw(losses, d, self.budget, self.studies, rng) for d, rng in zip(self.designs, rngs, strict=True)]

    def done(self, results: Results) -> int:
        """The number of finished runs that belong to this pool."""
        return sum(run.key in results for stage in self.stages(results) for run in stage)

    def least(self) -> int:
        """The number of runs if no window slides."""
        return self.budget.rates * self.runs


def _worth(result: Mapping[str, Any]) -> float:
    """A run's test loss; diverged, it is worth no more than before its first update (inf if that is no number)."""
    loss = result["first"] if result["loss"] is None else result["loss"]
    return np.inf if loss is None else float(loss)


def draw(losses: Losses, design: Design, budget: Budget, studies: int, rng: np.random.Generator) -> Studies:
    """Draw studies: inside one, no run is used twice at the same rate, so entries are independent.

    Each entry has the same seeds at every rate that it tries, and others on the test split, as in a comparison.
    """
    pool = np.tile(np.arange(losses.valid.shape[1]), (studies, 1))
    seeds = rng.permuted(pool, axis=1)[:, : design.runs].reshape(studies, design.entries, -1)
    tuned = losses.valid[::PARTS]
    scores = np.stack([row[seeds[..., : design.tuning_seeds]].mean(axis=-1) for row in tuned], axis=-1)
    best, missing = slid(scores, budget)
    own = np.take_along_axis(scores, best[..., None], axis=-1)[..., 0]
    rows = PARTS * best + np.rint(PARTS * _beside(scores, best)).astype(int)
    asked = {PARTS * row for row in missing} or set(np.unique(rows[np.isnan(losses.test[rows, 0])]).tolist())
    return Studies(seeds, rows, own, frozenset(losses.octaves[row] for row in asked))


def _beside(scores: Array, best: Array) -> Array:
    """How far from its best rate tried each entry's chosen one lies, in octaves; as ``Plan`` does."""
    around = np.clip(best[..., None] + np.arange(-1, 2), 0, scores.shape[-1] - 1)
    three = np.take_along_axis(scores, around, axis=-1)
    inside = (best > 0) & (best < scores.shape[-1] - 1) & np.isfinite(three).all(axis=-1)
    found = np.zeros(best.shape)
    for index in zip(*np.nonzero(inside), strict=True):
        found[index] = beside(three[index].tolist())
    return found


def slid(scores: Array, budget: Budget) -> tuple[Array, set[int]]:
    """Follow every entry's window of rates at once, by the rule of ``Plan.choice``.

    Args:
        scores: Mean validation loss by rate, ``(studies, entries, rates)``; nan where it is not known. The rates are
            the window in the middle, with as many on either side as it may slide.
        budget: Rates of a window, and slides.

    Returns:
        The chosen rate's index for each entry, and the indices that are not known but needed.
    """
    low = np.full(scores.shape[:2], budget.slides)
    asked: set[int] = set()
    for turn in range(budget.slides + 1):
        index = low[..., None] + np.arange(budget.rates)
        window = np.take_along_axis(scores, index, axis=-1)
        unknown = np.isnan(window)
        asked = set(index[unknown].tolist())
        best = np.where(unknown, np.inf, window).argmin(axis=-1)
        down = (best == 0) | np.isinf(window.min(axis=-1))
        move = np.where(unknown.any(axis=-1), 0, np.where(down, -1, np.where(best == budget.rates - 1, 1, 0)))
        if turn == budget.slides or not move.any():
            break
        low = low + move
    return low + best, asked


def verdicts(
    losses: Losses, studies: Studies, design: Design, delta: float, reference: Array | None = None, gap: float = 0.0
) -> list[list[str]]:  # fmt: skip
    """Judge studies as a comparison does.

    Args:
        losses: The pool's.
        studies: Drawn from it.
        design: Of these studies.
        delta: As in a budget.
        reference: The reference of each study; by default the entry with the best tuning score.
        gap: Added to all losses of the first entry.

    Returns:
        For each study the verdict of every entry, ``"reference"`` for one.
    """
    fresh = losses.test[studies.chosen[..., None], studies.seeds[..., design.tuning_seeds :]]
    scores = studies.scores.copy()
    fresh[:, 0] += gap
    scores[:, 0] += gap
    base = scores.argmin(axis=1) if reference is None else reference
    rows = np.arange(len(base))
    differences = fresh - fresh[rows, base][:, None]
    rivals = np.array([[e for e in range(design.entries) if e != b] for b in base])
    paired = np.take_along_axis(differences, rivals[..., None], axis=1)
    p_values = stats.sign_flips(paired.reshape(-1, design.fresh_seeds)).reshape(rivals.shape)
    margins = delta * np.abs(fresh[rows, base].mean(axis=1))
    found = []
    for i, b in enumerate(base):
        judged = [d.verdict for d in stats.judged(list(paired[i]), p_values[i].tolist(), float(margins[i]))]
        found.append([*judged[:b], "reference", *judged[b:]])
    return found


def calibrated(
    task: Task | str,
    strategy: Strategy | str = "cosine",
    budget: Budget | None = None,
    store: str | Path = DEFAULT_STORE,
    *,
    entries: Sequence[int] = (2, 13),
    studies: int = 2000,
    runs: int = 400,
    seed: int = 0,
    engine: str = "population",
    workers: int = 2,
    cohort: int = 128,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure how often comparisons of equal entries on a task name a winner, and how often a real gap is found.

    Runs that the store already holds are not repeated; they are kept in the study ``TASK-calibration``.

    Args:
        task: As for ``compare``.
        strategy: What every entry is.
        budget: Of the studies.
        store: As for ``compare``.
        entries: Sizes of the studies of equal entries.
        studies: Studies of each kind.
        runs: Runs that are trained at each rate.
        seed: Of the drawing.
        engine: As for ``compare``.
        workers: As for ``compare``.
        cohort: As for ``compare``.
        progress: As for ``compare``.

    Returns:
        The object that ``ratewise calibrate --json`` prints: ``false_winners``, ``power``, ``pool``, and how studies
        were drawn.

    Raises:
        LabError: The pool is too small for a study, no verdict would be possible in one, or the strategy diverged at
            every rate.
    """
    budget = budget or Budget()
    task = load(task) if isinstance(task, str) else task
    designs = [Design(n, budget.tuning_seeds, budget.fresh_seeds) for n in entries]
    designs += [Design(n, budget.tuning_seeds, fresh) for n, fresh in POWERS]
    _check(designs, studies, runs)
    plan = planned(task, [strategy], budget, engine, cohort, control=False)
    plan = replace(plan, **centred(plan, task, "transfer", None))
    fields = {name: getattr(plan, name) for name in plan.__dataclass_fields__}
    wanted = PoolPlan(**fields, runs=runs, designs=tuple(designs), studies=studies, seed=seed)
    with Store(store, write=True) as kept, pool_of(workers) as spread:
        kept.open_study(f"{task.name}-calibration")
        carry_out(wanted, task, kept, spread, progress)
        results = kept.results()
    return judged(wanted, results)


def _check(designs: Sequence[Design], studies: int, runs: int) -> None:
    for design in designs:
        if design.entries < 2:
            raise LabError(f"calibrate: a study needs at least 2 entries, got {design.entries}.")
        stats.require_seeds(design.fresh_seeds, design.entries - 1)
    most = max(design.runs for design in designs)
    if runs < most:
        raise LabError(
            f"calibrate: {runs} runs per rate are too few: a study of {max(d.entries for d in designs)} entries uses "
            f"up to {most}, and none twice. Train at least {most} runs, or take fewer entries."
        )
    if studies < 1:
        raise LabError(f"calibrate: studies must be at least 1, got {studies}.")


def judged(pool: PoolPlan, results: Results) -> dict[str, Any]:
    """Judge all studies that are drawn from a finished pool."""
    losses = pool.losses(results)
    drawn = pool.drawn(losses)
    if not all(np.isfinite(studies.scores).all() for studies in drawn):
        raise LabError(f"calibrate: {pool.strategies[0].name} diverged at every rate in some study. Take another.")
    equal = len(pool.designs) - len(POWERS)
    pairs = list(zip(pool.designs, drawn, strict=True))
    trained = [octave for octave, row in zip(losses.octaves, losses.valid, strict=True) if not np.isnan(row).any()]
    spent = [results[run.key] for octave in trained for run in pool.at(octave)]
    strategy = pool.strategies[0]
    return {
        "task": pool.task,
        "strategy": strategy.name,
        "steps": pool.steps,
        "engine": pool.engine,
        "delta": pool.budget.delta,
        "seed": pool.seed,
        "studies": pool.studies,
        "false_winners": [_false_winners(pool, losses, studies, design) for design, studies in pairs[:equal]],
        "power": [found for design, studies in pairs[equal:] for found in _power(pool, losses, studies, design)],
        "pool": {
            "rates": [rate_at(pool.centres[strategy.name], octave) for octave in trained],
            "runs": len(spent),
            "per_rate": pool.runs,
            "diverged": sum(result["loss"] is None for result in spent),
            "updates": sum(result["updates"] for result in spent),
            "seconds": round(sum(result["seconds"] for result in spent), 3),
        },
        "drawn": _how(pool, len(spent), len(trained)),
    }


def _how(pool: PoolPlan, runs: int, rates: int) -> str:
    return (
        f"Each of {pool.studies} studies is resampled from {runs:,} trained runs ({pool.runs} seeds at each of {rates} "
        f"rates): an entry draws {pool.budget.tuning_seeds} seeds to tune and others to be judged, without replacement "
        "inside a study. The intervals are of the drawing: all studies share one pool."
    )


def _share(count: int, total: int) -> dict[str, Any]:
    """A share with its exact (Clopper and Pearson, 1934) 95% interval."""
    interval = binomtest(count, total).proportion_ci(method="exact")
    return {"studies": count, "share": count / total, "low": float(interval.low), "high": float(interval.high)}


def _false_winners(pool: PoolPlan, losses: Losses, studies: Studies, design: Design) -> dict[str, Any]:
    """Studies in which an equal entry is called better or worse, with what explains them.

    Where tuning cannot tell neighbouring rates apart, equal entries end at other rates, and the difference that is
    found between them is real: ``at_one_rate`` is what remains if all had the rate that most of them chose.
    """

    def count(found: list[list[str]]) -> dict[str, Any]:
        return _share(sum("better" in row or "worse" in row for row in found), len(found))

    found = verdicts(losses, studies, design, pool.budget.delta)
    fresh = losses.test[studies.chosen[..., None], studies.seeds[..., design.tuning_seeds :]]
    best = verdicts(losses, studies, design, pool.budget.delta, fresh.mean(axis=-1).argmin(axis=1))
    flat = [verdict for row in found for verdict in row if verdict != "reference"]
    centre = pool.centres[pool.strategies[0].name]
    rows, counts = np.unique(studies.chosen, return_counts=True)
    usual = int(rows[counts.argmax()])
    scores = losses.valid[usual][studies.seeds[..., : design.tuning_seeds]].mean(axis=-1)
    together = replace(studies, chosen=np.full_like(studies.chosen, usual), scores=scores)
    return {
        "entries": design.entries,
        "fresh_seeds": design.fresh_seeds,
        "rates": [
            {"rate": rate_at(centre, losses.octaves[row]), "chosen": count / studies.chosen.size}
            for row, count in zip(rows.tolist(), counts.tolist(), strict=True)
        ],
        **count(found),
        "ties": flat.count("tie") / len(flat),
        "at_one_rate": count(verdicts(losses, together, design, pool.budget.delta)),
        "if_the_best_fresh_mean_were_the_reference": count(best),
    }


def _power(pool: PoolPlan, losses: Losses, studies: Studies, design: Design) -> list[dict[str, Any]]:
    """Studies in which the first entry, really worse, is called so: by a planted gap, and by a rate that is wrong."""
    fresh = losses.test[studies.chosen[..., None], studies.seeds[..., design.tuning_seeds :]]
    deviation = float(np.sqrt((fresh[:, 1:] - fresh[:, :1]).var(axis=-1, ddof=1).mean()))
    facts = {"rivals": design.entries - 1, "fresh_seeds": design.fresh_seeds}

    def count(found: list[list[str]]) -> dict[str, Any]:
        return _share(sum(row[0] == "worse" for row in found), len(found))

    planted = verdicts(losses, studies, design, pool.budget.delta, gap=GAP * deviation)
    rows = [{**facts, "kind": "planted", "gap": GAP * deviation, "deviations": GAP, **count(planted)}]
    usual = int(np.bincount(studies.chosen.ravel()).argmax())
    gaps = losses.test.mean(axis=1) - losses.test[usual].mean()
    sizes = gaps / np.sqrt(losses.test.var(axis=1, ddof=1) + losses.test[usual].var(ddof=1))
    known = np.isfinite(losses.valid).all(axis=1) & (sizes >= 1)
    if known.any():
        row = int(np.where(known, np.abs(sizes - GAP), np.inf).argmin())
        chosen, scores = studies.chosen.copy(), studies.scores.copy()
        chosen[:, 0] = row
        scores[:, 0] = losses.valid[row][studies.seeds[:, 0, : design.tuning_seeds]].mean(axis=-1)
        worse = verdicts(losses, replace(studies, chosen=chosen, scores=scores), design, pool.budget.delta)
        centre = pool.centres[pool.strategies[0].name]
        rate = {"rate": rate_at(centre, losses.octaves[row]), "instead_of": rate_at(centre, losses.octaves[usual])}
        rows.append(
            {
                **facts,
                "kind": "another rate",
                **rate,
                "gap": float(gaps[row]),
                "deviations": float(sizes[row]),
                **count(worse),
            }
        )
    return rows


def missed(found: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each limit that a calibration misses."""
    sentences = [
        f"false winners among {row['entries']} entries: the upper limit must lie below {MOST_FALSE:.0%}, "
        f"it is {row['high']:.1%}."
        for row in found["false_winners"]
        if row["high"] >= MOST_FALSE
    ]
    return sentences + [
        f"a gap of {row['deviations']:g} deviations among {row['rivals']} rivals with {row['fresh_seeds']} seeds must "
        f"be found in at least {LEAST_FOUND:.0%} of studies, it was in {row['share']:.1%}."
        for row in found["power"]
        if row["kind"] == "planted" and row["share"] < LEAST_FOUND
    ]
