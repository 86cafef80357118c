"""What the finished runs of a plan say: the table, the verdicts, one sentence, and the code to paste.

A pure function of a plan and its results, also of unfinished ones; nothing is trained here.
"""

import math
import platform
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Schedule
from ratewise.lab import stats
from ratewise.lab.catalogue import CATALOGUE, DEFAULT
from ratewise.lab.plan import CONTROL, FIRST_FRESH_SEED, Budget, Choice, Plan, Results, is_control, made
from ratewise.lab.runs import Run
from ratewise.lab.spelled import spelled
from ratewise.lab.strategy import Strategy

Result = dict[str, Any]

TARGET = 0.05
"""How far above the reference's mean final test loss the target lies that runs are timed to, as a part of it."""


def summary(plan: Plan, results: Results) -> Result:
    """Return what the finished runs say, in the shape that ``compare --json`` prints; also of an unfinished study."""
    choices = plan.choices(results)
    finished = not plan.pending(results)
    reference = _reference(choices) if not any(choice.missing for choice in choices.values()) else None
    by_name = plan.spent(results)
    rows = [_row(plan, s, choices[s.name], by_name[s.name], results) for s in plan.strategies]
    fresh = {s.name: _fresh(plan, s, choices[s.name], results) for s in plan.strategies}
    target = _target(plan, fresh.get(reference or "", []))
    for row in rows:
        row["target"] = _reached(fresh[row["name"]], target["loss"] if target else None)
    if finished and reference is not None:
        firsts = {name: [result["first"] for result in found] for name, found in fresh.items()}
        _judge(rows, firsts, reference, plan.budget.delta)
    recommended = _recommended(rows, reference) if finished else None
    spent = [run for runs in by_name.values() for run in runs]
    cost = _cost(spent, results)
    return {
        "task": plan.task,
        "description": plan.facts["description"],
        "metric": plan.facts["metric"],
        "decides_on": "loss",
        "budget": {
            **asdict(plan.budget), "steps": plan.steps, "batch_size": plan.facts["batch_size"],
            "engine": plan.engine, "runs": cost["runs"], "updates": cost["updates"],
            "limit": plan.budget.updates,
        },
        "thresholds": {"alpha": stats.ALPHA, "delta": plan.budget.delta, "wins": stats.CLEAR_WINS},
        "strategies": rows,
        "reference": reference,
        "recommended": recommended,
        "verdict": _sentence(plan, rows, reference, recommended, finished),
        "changes": _changes(plan, rows, fresh, recommended) if finished else [],
        "target": target,
        "race": plan.history(results),
        "valid_for": _valid_for(plan),
        "code": _code(plan, choices, recommended),
        "finished": finished,
        "cost": cost,
        "provenance": {
            "fingerprint": plan.fingerprint,
            "seeds": {
                "tune": list(range(plan.budget.tuning_seeds)),
                "test": list(range(FIRST_FRESH_SEED, FIRST_FRESH_SEED + plan.budget.fresh_seeds)),
            },
            "command": _command(plan),
            "versions": _versions(plan.engine),
        },
        "versions": _versions(plan.engine),
        "seconds": cost["seconds"],
        "started": min((results[run.key]["started"] for run in spent), default=None),
        "host": platform.node(),
    }  # fmt: skip


def _reference(choices: dict[str, Choice]) -> str | None:
    scored = [
        (choice.score, name) for name, choice in choices.items() if choice.best is not None and not choice.dropped
    ]
    return min(scored)[1] if scored else None


def _fresh(plan: Plan, strategy: Strategy, choice: Choice, results: Results) -> list[Any]:
    """The finished runs that judge a strategy."""
    if choice.best is None or choice.missing or choice.dropped:
        return []
    return [results[run.key] for run in plan.fresh(strategy, choice.best) if run.key in results]


def _row(plan: Plan, strategy: Strategy, choice: Choice, spent: Sequence[Run], results: Results) -> Result:
    """One strategy: its rate, its fresh results, and every rate it tried."""
    fresh = _fresh(plan, strategy, choice, results)
    cost = _cost(spent, results)
    settled = plan.settled(strategy, choice.best or plan.centres[strategy.name], plan.steps)
    good = [result for result in fresh if result["loss"] is not None]
    loss = stats.interval([r["loss"] for r in good])
    metric = stats.interval([r["metric"] for r in good if r["metric"] is not None])
    rate = None if choice.dropped else choice.best  # a race found another rate for shorter runs; its history says it
    none = "diverged" if choice.best is None else "dropped" if choice.dropped else None
    return {
        "name": strategy.name,
        "optimizer": strategy.optimizer,
        "control": is_control(strategy),
        "trained": _trained(spent, results),
        "peak_lr": rate,
        "spec": repr(settled.lr),
        "momentum": _shown(settled.momentum),
        "weight_decay": _shown(settled.weight_decay),
        "test": {
            "metric": plan.facts["metric"], "mean": metric.mean, "low": metric.low, "high": metric.high, "n": loss.n,
            "loss": {"mean": loss.mean, "low": loss.low, "high": loss.high},
        },
        "median": _median([result["loss"] for result in fresh]),
        "best": asdict(stats.interval([x for r in fresh if (x := _at_best(r)) is not None])),
        "area": asdict(stats.interval([x for r in good if (x := _on_the_way(r)) is not None])),
        "sensitivity": _sensitivity(plan, strategy, choice, results),
        "ceiling": _ceiling(plan, strategy, choice, results),
        "diverged": sum(results[run.key]["loss"] is None for run in spent),
        "runs": cost["runs"],
        "edge": choice.edge and rate is not None,
        "verdict": none if not choice.missing else None,
        "difference": None,
        "losses": [result["loss"] for result in fresh],
        "fan": [_tried(plan, strategy, rate, choice.steps, results) for rate in choice.rates],
        "curve": _mean_curve([result["curve"] for result in good]),
        "schedule": _thinned(settled.lr, plan.steps),
        "cost": cost,
        "seconds": cost["seconds"],
    }  # fmt: skip


def _cost(runs: Iterable[Run], results: Results) -> Result:
    """Runs, their updates, and seconds."""
    spent = [(run, results[run.key]) for run in runs]
    return {
        "runs": len(spent),
        "updates": sum(made(run, result) for run, result in spent),
        "seconds": round(math.fsum(result["seconds"] for _, result in spent), 3),
    }


def _trained(runs: Sequence[Run], results: Results) -> str | None:
    """How the runs were trained, the most frequent way first; None while nothing was, or if the runs do not say."""
    ways = Counter(way for run in runs if (way := results[run.key].get("trained")))
    return "; ".join(way for way, _ in ways.most_common()) or None


def _median(losses: Sequence[float | None]) -> float | None:
    """The middle loss, a run that diverged being the worst; None if the middle one diverged."""
    middle = median([math.inf if loss is None else loss for loss in losses]) if losses else math.inf
    return middle if math.isfinite(middle) else None


def _at_best(result: Result) -> float | None:
    """Test loss at the mark whose validation loss is lowest: what stopping at the best checkpoint would have given."""
    pairs = zip(result.get("valid") or (), result.get("test") or (), strict=False)
    seen = [(valid, test) for valid, test in pairs if valid is not None and test is not None]
    return min(seen, key=lambda pair: pair[0])[1] if seen else None


def _on_the_way(result: Result) -> float | None:
    """Mean test loss over the marks at which it was finite; None without any."""
    seen = [loss for loss in result.get("test") or () if loss is not None]
    return math.fsum(seen) / len(seen) if seen else None


def _target(plan: Plan, reference: Sequence[Result]) -> Result | None:
    """The test loss that runs are timed to; None until the reference's fresh runs are there."""
    if (given := plan.facts.get("target")) is not None:
        return {"loss": given, "rule": "the task's own target"}
    losses = [result["loss"] for result in reference if result["loss"] is not None]
    if len(reference) < plan.budget.fresh_seeds or not losses:
        return None
    mean = math.fsum(losses) / len(losses)
    return {"loss": mean + TARGET * abs(mean), "rule": f"within {TARGET:.0%} of the reference's mean final test loss"}


def _reached(fresh: Sequence[Result], target: float | None) -> Result:
    """Updates until each fresh run is first measured at or below the target; None if it never is."""
    timed = [result for result in fresh if result.get("test")] if target is not None else []
    updates = [
        next((t for t, loss in zip(r["marks"], r["test"], strict=True) if loss is not None and loss <= target), None)
        for r in timed
    ]
    share = sum(t is not None for t in updates) / len(updates) if updates else None
    return {"updates": updates, "reached": share, "median": _median(updates)}


def _tuned(plan: Plan, strategy: Strategy, rate: float, steps: int, results: Results) -> list[Any]:
    return [results[run.key] for run in plan.tuning(strategy, rate, steps) if run.key in results]


def _sensitivity(plan: Plan, strategy: Strategy, choice: Choice, results: Results) -> float | None:
    """What a wrong rate costs: mean over the window's rates of min(loss, loss before training), less the best's loss.

    None unless runs of full length were made over a whole window of rates: a race tries fewer, or shorter.

    References:
        Wortsman et al., 2023, Small-scale proxies for large-scale Transformer training instabilities, section 2.2,
        https://arxiv.org/abs/2309.14322
    """
    if choice.best is None or choice.dropped or len(choice.window) < plan.budget.rates:
        return None
    runs = {rate: _tuned(plan, strategy, rate, choice.steps, results) for rate in choice.window}
    worst = max((r["first"] for found in runs.values() for r in found if r["first"] is not None), default=math.inf)

    def capped(result: Result) -> float:
        loss, first = result["loss"], result["first"]
        return min(math.inf if loss is None else loss, worst if first is None else first)

    means = {rate: math.fsum(map(capped, found)) / len(found) for rate, found in runs.items()}
    mean = math.fsum(means.values()) / len(means) - min(means.values())
    return mean if math.isfinite(mean) else None


def _ceiling(plan: Plan, strategy: Strategy, choice: Choice, results: Results) -> float | None:
    """The lowest rate above the best at which a run diverged or ended no better than it began; None if none did."""
    if choice.best is None or choice.dropped:
        return None
    for rate in choice.rates:
        found = _tuned(plan, strategy, rate, choice.steps, results)
        if rate > choice.best and any(r["loss"] is None or r["loss"] >= (r["first"] or math.inf) for r in found):
            return rate
    return None


def _shown(setting: Any) -> str | None:
    return None if setting is None else repr(setting)


def _tried(plan: Plan, strategy: Strategy, rate: float, steps: int, results: Results) -> Result:
    done = _tuned(plan, strategy, rate, steps, results)
    losses = [result["loss"] for result in done if result["loss"] is not None]
    mean = math.fsum(losses) / len(losses) if losses else None
    return {"rate": rate, "loss": mean, "diverged": len(done) - len(losses), "n": len(done)}


def _mean_curve(curves: list[Result]) -> Result:
    if not curves:
        return {"updates": [], "loss": []}
    losses = [math.fsum(column) / len(curves) for column in zip(*(c["loss"] for c in curves), strict=True)]
    return {"updates": curves[0]["updates"], "loss": losses}


def _thinned(schedule: Schedule | Ruled, steps: int, points: int = 200) -> Result:
    every = max(1, steps // points)
    updates = [*range(0, steps - 1, every), steps - 1]
    return {"updates": updates, "values": [float(schedule(t)) for t in updates]}


def _judge(rows: list[Result], firsts: dict[str, list[float | None]], reference: str, delta: float) -> None:
    """Fill in each row's verdict against the reference.

    A run that diverged is worth no more than an untrained model, so in a paired difference it counts with the
    loss before its first update (or the highest loss seen, if even that was not finite). It enters no mean loss. A
    strategy of which half of the runs or more diverged may be worse, but never better or a tie.
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
        fields["bca"] = list(difference.bca) if difference.bca else None
        row["verdict"] = fields.pop("verdict")
        if row["median"] is None and row["verdict"] != "worse":
            row["verdict"], fields["seeds_needed"] = "diverged", None
        row["difference"] = fields


def _recommended(rows: list[Result], reference: str | None) -> str | None:
    """The best of those that are better than the reference; else the reference, unless half of its runs diverged."""
    better = [row for row in rows if row["verdict"] == "better"]
    if better:
        return str(min(better, key=lambda row: row["difference"]["mean"])["name"])
    return next((row["name"] for row in rows if row["name"] == reference and row["median"] is not None), None)


def _sentence(
    plan: Plan, rows: list[Result], reference: str | None, recommended: str | None, finished: bool
) -> str | None:  # fmt: skip
    """One sentence that names every strategy that is not worse; None while runs are missing."""
    if not finished:
        return None
    if reference is None:
        return f"On {plan.task} every strategy diverged at every rate tried: check the model and the data first."
    chosen = next((row for row in rows if row["name"] == recommended), None)
    if chosen is None:
        what = f"nothing can be recommended: {reference}, which tuned best, {_UNSTABLE}, and nothing is better"
    else:
        what = f"use {recommended} ({chosen['optimizer']}, peak rate {chosen['peak_lr']:g})"
        what += f": it is better than {reference}, which tuned best" if recommended != reference else ""
    parts = [f"On {plan.task} ({plan.steps} updates) {what}"]
    seeds = f"{plan.budget.fresh_seeds} seeds"
    for verdict, one, many in (
        ("better", f"is better than {reference} too", f"are better than {reference} too"),
        ("tie", f"ties with {reference}", f"tie with {reference}"),
        ("unresolved", f"cannot be told from {reference} by {seeds}", f"cannot be told from {reference} by {seeds}"),
        ("worse", "is worse", "are worse"),
        ("unstable", _UNSTABLE, _UNSTABLE),
        ("diverged", "diverged at every rate", "diverged at every rate"),
        ("dropped", "was dropped by the race", "were dropped by the race"),
    ):
        names = [row["name"] for row in rows if _told(row) == verdict and row["name"] != recommended]
        if names:
            parts.append(f"{_names(names)} {one if len(names) == 1 else many}")
    return "; ".join(parts) + "."


_UNSTABLE = "diverged on at least half of the fresh seeds"


def _told(row: Result) -> str | None:
    """The verdict; a strategy that diverged, but not at every rate, is unstable."""
    unstable = row["verdict"] == "diverged" and row["peak_lr"] is not None
    return "unstable" if unstable else row["verdict"]


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _valid_for(plan: Plan) -> str:
    """The circumstances under which the verdict was found, and beyond which it is not known to hold."""
    budget, steps, size = plan.budget, plan.steps, plan.facts["batch_size"]
    decays: dict[str, list[str]] = {}
    for strategy in plan.strategies:
        decays.setdefault(_shown(strategy.weight_decay) or "the optimizer's own", []).append(strategy.name)
    shown = [f"{decay} ({_names(names)})" if len(decays) > 1 else decay for decay, names in decays.items()]
    tuned = f"{budget.tuning_seeds} tuning seed{'s' if budget.tuning_seeds > 1 else ''}"
    search = f"its own best rate, sought among {budget.rates} (factor 2, {tuned})"
    if budget.race:
        search = f"its own best rate (factor 2, {tuned}) in a race"
    return (
        f"Valid for this model and data, a horizon of {steps} updates ({steps * size / plan.facts['examples']:.3g} "
        f"epochs), batches of {size}, and weight decay {_names(shown)}; each strategy at {search}, final test loss on "
        f"{budget.fresh_seeds} fresh paired seeds."
    )


def _changes(
    plan: Plan, rows: Sequence[Result], fresh: dict[str, list[Any]], recommended: str | None
) -> list[str]:  # fmt: skip
    """What would, or could, change the verdict: more seeds, other rates, a longer run, another measure, batches."""
    chosen = next((row for row in rows if row["name"] == recommended), None)
    if chosen is None:
        return []
    close = [row for row in rows if row is chosen or row["verdict"] in ("reference", "better", "tie", "unresolved")]
    found = [*_more_seeds(plan, rows), *_other_rates(close), *_longer(plan, close, fresh)]
    saved = [row for row in rows if row["best"]["n"] == len(row["losses"]) > 0]
    first = min(saved, key=lambda row: row["best"]["mean"], default=chosen)
    whole = [row for row in saved if None not in row["losses"]]
    ended = min(whole, key=lambda row: row["test"]["loss"]["mean"], default=chosen)
    if first is not ended:
        found.append(
            f"The best checkpoint of each run instead of its end: {first['name']} then has the lowest mean test loss "
            f"({first['best']['mean']:.4g}), not {ended['name']} ({ended['best']['mean']:.4g})."
        )
    ruled = {strategy.name for strategy in plan.strategies if isinstance(strategy.lr, Ruled)}
    same = [row for row in rows if row["optimizer"] == chosen["optimizer"] and row["name"] not in ruled]
    steady = [row["name"] for row in same if row["verdict"] == "worse" and not _falls(row)]
    if steady and _falls(chosen):
        found.append(
            f"A larger batch than {plan.facts['batch_size']}: gradients are then less noisy, and what {recommended} "
            f"gains by letting its rate fall, over {_names(steady)}, may shrink."
        )
    return found


def _more_seeds(plan: Plan, rows: Sequence[Result]) -> list[str]:
    found = []
    for row in rows:
        if row["verdict"] == "unresolved":
            needed = row["difference"]["seeds_needed"]
            about = f"about {needed} instead of {plan.budget.fresh_seeds} should settle it"
            none = "its difference lies at the edge of what is worth having, so no number is sure to settle it"
            found.append(f"More fresh seeds for {row['name']}: {about if needed else none}.")
    return found


def _other_rates(rows: Sequence[Result]) -> list[str]:
    names = [f"{row['name']} ({row['peak_lr']:.3g})" for row in rows if row["edge"]]
    if not names:
        return []
    one = "its best rate lies" if len(names) == 1 else "their best rates lie"
    return [f"Other rates for {_names(names)}: {one} at the edge of what was tried."]


def _longer(plan: Plan, rows: Sequence[Result], fresh: dict[str, list[Any]]) -> list[str]:
    falling = []
    for row in rows:
        tails = [(r.get("test") or ())[-2:] for r in fresh[row["name"]] if r["loss"] is not None]
        tails = [tail for tail in tails if len(tail) == 2 and None not in tail]
        before, end = (math.fsum(tail[i] for tail in tails) for i in (0, 1))
        if end and (before - end) / abs(end) > plan.budget.delta:
            falling.append(f"{row['name']} ({(before - end) / abs(end):.0%})")
    if not falling:
        return []
    return [f"A longer run than {plan.steps} updates: in the last tenth the loss still fell for {_names(falling)}."]


def _falls(row: Result) -> bool:
    """Whether a schedule ends below half of its highest rate."""
    values = row["schedule"]["values"]
    return bool(values[-1] < max(values) / 2)


def _command(plan: Plan) -> str | None:
    """The command that does the same again; None if a strategy cannot be written on a command line."""
    parts = ["ratewise", "compare", plan.facts.get("reference") or plan.task]
    if plan.strategies != tuple(CATALOGUE[name] for name in DEFAULT):
        for strategy in plan.strategies:
            if strategy != CATALOGUE[CONTROL]:  # it is there anyway
                text = spelled(strategy)
                if text is None:
                    return None
                parts += ["-s", text]
    usual = asdict(Budget())
    for name, value in (plan.facts.get("asked") or asdict(plan.budget)).items():
        if value != usual[name]:
            option = f"--{name.replace('_', '-')}"
            parts += [option] if value is True else [option, str(value)]
    card = not plan.centres_given and any(s.name in CATALOGUE for s in plan.strategies)
    options = {
        "--no-control": not any(map(is_control, plan.strategies)),
        "--centre finder": "finder" in plan.facts,
        "--centre card": card and "finder" not in plan.facts,
        f"--budget {plan.facts.get('seconds', 0):g}": "seconds" in plan.facts,
        f"--cohort {plan.cohort}": plan.cohort != Plan.cohort,
        f"--engine {plan.engine}": plan.engine != "population",
    }
    parts += [word for option, given in options.items() if given for word in option.split()]
    return shlex.join(parts)


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
    names = ["ratewise", *(_PACKAGES[_FRAMEWORKS[engine]]), "numpy", "scipy", "scikit-learn", "optuna"]
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
