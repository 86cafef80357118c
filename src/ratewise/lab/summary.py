"""What the finished runs of a plan say: the table, the verdicts, one sentence, and the code to paste.

A pure function of a plan and its results, also of unfinished ones; nothing is trained here.
"""

import math
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ratewise.core.schedule import Schedule
from ratewise.lab import stats
from ratewise.lab.plan import Choice, Plan, Results
from ratewise.lab.strategy import Strategy

Result = dict[str, Any]


def summary(plan: Plan, results: Results) -> Result:
    """Return what the finished runs say, in the shape that ``compare --json`` prints; also of an unfinished study."""
    choices = {strategy.name: plan.choice(strategy, results) for strategy in plan.strategies}
    finished = not plan.pending(results)
    reference = _reference(choices) if not any(choice.missing for choice in choices.values()) else None
    rows = [_row(plan, strategy, choices[strategy.name], results) for strategy in plan.strategies]
    if finished and reference is not None:
        _judge(rows, _first_losses(plan, choices, results), reference, plan.budget.delta)
    recommended = _recommended(rows, reference) if finished else None
    spent = [results[run.key] for s in plan.strategies for run in plan.spent(s, choices[s.name], results)]
    return {
        "task": plan.task,
        "description": plan.facts["description"],
        "metric": plan.facts["metric"],
        "decides_on": "loss",
        "budget": {
            **asdict(plan.budget), "steps": plan.steps, "batch_size": plan.facts["batch_size"],
            "engine": plan.engine, "dtype": "float32", "runs": len(spent), "updates": len(spent) * plan.steps,
        },
        "strategies": rows,
        "reference": reference,
        "recommended": recommended,
        "verdict": _sentence(plan, rows, reference, recommended, finished),
        "valid_for": _valid_for(plan),
        "code": _code(plan, choices, recommended),
        "finished": finished,
        "versions": _versions(plan.engine),
        "seconds": round(math.fsum(result["seconds"] for result in spent), 3),
        "started": min((result["started"] for result in spent), default=None),
        "host": platform.node(),
    }  # fmt: skip


def _reference(choices: dict[str, Choice]) -> str | None:
    scored = [(c.scores[c.rates.index(c.best)], name) for name, c in choices.items() if c.best is not None]
    return min(scored)[1] if scored else None


def _row(plan: Plan, strategy: Strategy, choice: Choice, results: Results) -> Result:
    """One strategy: its rate, its fresh results, and every rate it tried."""
    fresh = []
    if choice.best is not None and not choice.missing:
        runs = plan.fresh(strategy, choice.best)
        fresh = [results[run.key] for run in runs if run.key in results]
    spent = plan.spent(strategy, choice, results)
    settled_ = strategy.with_peak(choice.best or plan.centres[strategy.name], plan.horizon)
    good = [result for result in fresh if result["loss"] is not None]
    loss, metric = stats.interval([r["loss"] for r in good]), stats.interval([r["metric"] for r in good])
    return {
        "name": strategy.name,
        "optimizer": strategy.optimizer,
        "peak_lr": choice.best,
        "spec": repr(settled_.lr),
        "momentum": _shown(settled_.momentum),
        "weight_decay": _shown(settled_.weight_decay),
        "test": {
            "metric": plan.facts["metric"], "mean": metric.mean, "low": metric.low, "high": metric.high, "n": metric.n,
            "loss": {"mean": loss.mean, "low": loss.low, "high": loss.high},
        },
        "diverged": sum(results[run.key]["loss"] is None for run in spent),
        "runs": len(spent),
        "edge": choice.edge,
        "verdict": "diverged" if choice.best is None and not choice.missing else None,
        "difference": None,
        "losses": [result["loss"] for result in fresh],
        "fan": [_tried(plan, strategy, rate, results) for rate in choice.rates],
        "curve": _mean_curve([result["curve"] for result in good]),
        "schedule": _thinned(settled_.lr, plan.steps),
        "seconds": round(math.fsum(results[run.key]["seconds"] for run in spent), 3),
    }  # fmt: skip


def _shown(setting: Any) -> str | None:
    return None if setting is None else repr(setting)


def _tried(plan: Plan, strategy: Strategy, rate: float, results: Results) -> Result:
    done = [results[run.key] for run in plan.tuning(strategy, rate) if run.key in results]
    losses = [result["loss"] for result in done if result["loss"] is not None]
    mean = math.fsum(losses) / len(losses) if losses else None
    return {"rate": rate, "loss": mean, "diverged": len(done) - len(losses), "n": len(done)}


def _mean_curve(curves: list[Result]) -> Result:
    if not curves:
        return {"updates": [], "loss": []}
    losses = [math.fsum(column) / len(curves) for column in zip(*(c["loss"] for c in curves), strict=True)]
    return {"updates": curves[0]["updates"], "loss": losses}


def _thinned(schedule: Schedule, steps: int, points: int = 200) -> Result:
    every = max(1, steps // points)
    updates = [*range(0, steps - 1, every), steps - 1]
    return {"updates": updates, "values": [float(schedule(t)) for t in updates]}


def _first_losses(plan: Plan, choices: dict[str, Choice], results: Results) -> dict[str, list[float | None]]:
    """The training loss before the first update of every fresh run, by strategy."""
    chosen = {strategy: choices[strategy.name].best for strategy in plan.strategies}
    fresh = {s.name: plan.fresh(s, rate) if rate else [] for s, rate in chosen.items()}
    return {name: [results[run.key]["first"] for run in runs] for name, runs in fresh.items()}


def _judge(rows: list[Result], firsts: dict[str, list[float | None]], reference: str, delta: float) -> None:
    """Fill in each row's verdict against the reference.

    A run that diverged is worth no more than an untrained model, so in a paired difference it counts with the
    loss before its first update (or the highest loss seen, if even that was not finite). It never enters a mean.
    """
    seen = [x for row in rows for x in (*row["losses"], *firsts[row["name"]]) if x is not None]
    worst = max(seen, default=0.0)

    def paired(row: Result) -> list[float]:
        pairs = zip(row["losses"], firsts[row["name"]], strict=True)
        return [loss if loss is not None else first if first is not None else worst for loss, first in pairs]

    base = next(row for row in rows if row["name"] == reference)
    rivals = [row for row in rows if row is not base and row["losses"]]
    base["verdict"] = "reference"
    margin = delta * abs(math.fsum(paired(base))) / len(base["losses"])
    found = stats.compared(paired(base), [paired(row) for row in rivals], margin)
    for row, difference in zip(rivals, found, strict=True):
        fields = asdict(difference)
        row["verdict"] = fields.pop("verdict")
        row["difference"] = fields


def _recommended(rows: list[Result], reference: str | None) -> str | None:
    """The reference, unless a strategy is better; then the best of those."""
    better = [row for row in rows if row["verdict"] == "better"]
    return min(better, key=lambda row: row["difference"]["mean"])["name"] if better else reference


def _sentence(
    plan: Plan, rows: list[Result], reference: str | None, recommended: str | None, finished: bool
) -> str | None:  # fmt: skip
    """One sentence that names every strategy that is not worse; None while runs are missing."""
    if not finished:
        return None
    if reference is None or recommended is None:
        return f"On {plan.task} every strategy diverged at every rate tried: check the model and the data first."
    chosen = next(row for row in rows if row["name"] == recommended)
    use = f"{recommended} ({chosen['optimizer']}, peak rate {chosen['peak_lr']:g})"
    why = f": it is better than {reference}, which tuned best" if recommended != reference else ""
    parts = [f"On {plan.task} ({plan.steps} updates) use {use}{why}"]
    seeds = f"{plan.budget.fresh_seeds} seeds"
    for verdict, one, many in (
        ("better", f"is better than {reference} too", f"are better than {reference} too"),
        ("tie", f"ties with {reference}", f"tie with {reference}"),
        ("unresolved", f"cannot be told from {reference} by {seeds}", f"cannot be told from {reference} by {seeds}"),
        ("worse", "is worse", "are worse"),
        ("diverged", "diverged at every rate", "diverged at every rate"),
    ):
        names = [row["name"] for row in rows if row["verdict"] == verdict and row["name"] != recommended]
        if names:
            parts.append(f"{_names(names)} {one if len(names) == 1 else many}")
    return "; ".join(parts) + "."


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _valid_for(plan: Plan) -> str:
    budget = plan.budget
    return (
        f"Valid for this model and data, {plan.steps} updates of {plan.facts['batch_size']} examples, the optimizers "
        f"and weight decays shown, each strategy at its own best of {budget.rates} rates (factor 2, "
        f"{budget.tuning_seeds} tuning seeds), final test loss on {budget.fresh_seeds} fresh paired seeds."
    )


def _code(plan: Plan, choices: dict[str, Choice], recommended: str | None) -> str | None:
    if recommended is None:
        return None
    strategy = next(s for s in plan.strategies if s.name == recommended)
    rate = choices[recommended].best
    assert rate is not None
    return strategy.with_peak(rate, plan.horizon).code(_FRAMEWORKS[plan.engine], plan.steps)


_FRAMEWORKS = {"population": "torch", "one-by-one": "torch", "keras": "keras", "jax": "optax"}
_PACKAGES = {"torch": ["torch"], "keras": ["keras", "tensorflow-cpu"], "optax": ["jax", "optax"]}


def _versions(engine: str) -> dict[str, str]:
    names = ["ratewise", *(_PACKAGES[_FRAMEWORKS[engine]]), "numpy", "scipy", "optuna"]
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
