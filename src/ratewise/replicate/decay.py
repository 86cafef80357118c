"""What decay is worth: under label noise, against a constant rate, too fast, and on a budget."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ratewise.core import recipes
from ratewise.lab import stats
from ratewise.replicate.bench import Bench, Runs
from ratewise.replicate.claim import DELTA, Evidence, Figure, Gate, claim, estimated, higher, lies, lower, mean, number
from ratewise.replicate.schedules import NINETEEN, catalogue, sgd

_TUNED = (
    "Each at its own rate (a window of seven, factors of 2, moved while the best lies at its edge), judged on fresh "
    "seeds by test loss."
)


@claim(
    "decay-under-noise",
    "Under noise, decay beats a constant rate.",
    source="Strategy cards; Robbins and Monro, 1951",
    setting=f"digits: a fifth of the training labels wrong, 300 updates of 16, SGD with momentum. {_TUNED}",
    quick=True,
)
def decay_under_noise(bench: Bench) -> Evidence:
    """Compare decaying schedules with a constant rate."""
    names = ("linear", "cosine", "step_decay", "time_based")
    tuned, runs = bench.judged(bench.task("digits"), catalogue("fixed", *names), 12)
    losses = {name: runs[name].capped[0] for name in ("fixed", *names)}
    gates = lower({name: losses[name] for name in names}, losses["fixed"], "fixed")
    rows = [(name, number(tuned[name].rate), mean(loss)) for name, loss in losses.items()]
    return Evidence(gates, ("strategy", "best rate", "test loss"), rows, _over_time(runs))


@claim(
    "label-noise",
    "With wrong labels a constant rate is clearly worst, and which decay hardly matters.",
    source="Pilot of this project",
    setting="digits: a fifth of the training labels wrong, 600 updates of 16, nineteen schedules of SGD with momentum. "
    f"{_TUNED}",
)
def label_noise(bench: Bench) -> Evidence:
    """Compare nineteen schedules with linear decay."""
    tuned, runs = bench.judged(bench.task("digits"), NINETEEN, 12, steps=600, tuning_seeds=3)
    losses = {name: run.capped[0] for name, run in runs.items()}
    p = stats.sign_flip((losses["fixed"] - losses["linear"]).tolist())
    gates = lower({"linear": losses["linear"]}, losses["fixed"], "fixed")
    gates.append(lies("the p value of that difference is below 0.01", p, high=0.01))
    others = [name for name in losses if name not in ("fixed", "linear")]
    delta = DELTA * float(losses["linear"].mean())
    found = stats.compared(losses["linear"].tolist(), [losses[name].tolist() for name in others], delta)
    worst = max(losses, key=lambda name: float(losses[name].mean()))
    gates.append(Gate("no schedule has a higher mean loss than fixed", f"highest: {worst}", worst == "fixed"))
    verdicts = {name: d.verdict for name, d in zip(others, found, strict=True)}
    gates.append(_alike(list(verdicts.values())))
    order = sorted(losses, key=lambda name: float(losses[name].mean()))
    rows = [(name, number(tuned[name].rate), mean(losses[name]), verdicts.get(name, "")) for name in order]
    return Evidence(gates, ("strategy", "best rate", "test loss", "against linear"), rows)


def _alike(verdicts: Sequence[str]) -> Gate:
    """Whether three quarters tie; those that are unresolved may still."""
    ties, unclear = verdicts.count("tie"), verdicts.count("unresolved")
    wanted = 0.75 * len(verdicts)
    return Gate(
        "at least three quarters of the other schedules tie with linear",
        f"{ties} of {len(verdicts)} tie, {unclear} are unresolved",
        True if ties >= wanted else False if ties + unclear < wanted else None,
        DELTA,
    )


@claim(
    "best-checkpoint",
    "Whether the last or the best checkpoint counts, turns the ranking: a constant rate goes from last to near the "
    "top.",
    source="Pilot of this project",
    setting="digits-clean, 600 updates of 16, nineteen schedules of SGD with momentum. Best checkpoint: test loss "
    f"where the validation loss was lowest, of ten measured along the run. {_TUNED}",
)
def best_checkpoint(bench: Bench) -> Evidence:
    """Rank schedules by the final and by the best checkpoint."""
    seeds = 12
    _, runs = bench.judged(bench.task("digits-clean"), NINETEEN, seeds, steps=600, tuning_seeds=3)
    final = np.array([run.capped[0] for run in runs.values()])
    best = np.array([_at_best(run) for run in runs.values()])
    names = list(runs)
    at = names.index("fixed")
    half = len(names) // 2
    gate = estimated(
        f"fixed climbs at least {half} of {len(names)} places",
        lambda of: float(_place(final, of)[at] - _place(best, of)[at]), seeds, half,
    )  # fmt: skip
    everyone = np.arange(seeds)
    ranks = _place(final, everyone), _place(best, everyone)
    order = np.argsort(ranks[0])
    rows = [(names[i], mean(final[i]), str(ranks[0][i]), mean(best[i]), str(ranks[1][i])) for i in order]
    return Evidence([gate], ("strategy", "final test loss", "place", "at the best checkpoint", "place"), rows)


def _at_best(run: Runs) -> NDArray[np.float64]:
    """Test loss at the mark whose validation loss is lowest, for each seed."""
    best = run.valid[0].argmin(axis=1)
    return np.take_along_axis(run.test[0], best[:, None], axis=1)[:, 0]


def _place(losses: NDArray[np.float64], of: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each row by its mean, 1 for the lowest."""
    place: NDArray[np.int64] = losses[:, of].mean(axis=1).argsort().argsort() + 1
    return place


@claim(
    "exponential-aggressive",
    "Exponential decay can be too aggressive.",
    source="Strategy card of exponential decay",
    setting="stdlib-chars (far from convergence at its 400 updates), SGD with momentum, exponential decay to a tenth, "
    f"a hundredth, a thousandth and a ten-thousandth of the first rate, against a straight line to zero. {_TUNED}",
)
def exponential_aggressive(bench: Bench) -> Evidence:
    """Compare how far exponential decay goes."""
    ends = {"to 1/10": 0.1, "to 1/100": 0.01, "to 1/1000": 1e-3, "to 1/10000": 1e-4}
    strategies = catalogue("fixed", "linear") | {
        name: sgd(name, recipes.exponential_decay(0.1, gamma)) for name, gamma in ends.items()
    }
    tuned, runs = bench.judged(bench.task("stdlib-chars"), strategies, 12, steps=400, tuning_seeds=2)
    losses = {name: run.capped[0] for name, run in runs.items()}
    gates = higher({"to 1/10000": losses["to 1/10000"]}, losses["linear"], "linear")
    gates += higher({"to 1/10000": losses["to 1/10000"]}, losses["to 1/10"], "to 1/10")
    rows = [(name, number(tuned[name].rate), mean(loss)) for name, loss in losses.items()]
    return Evidence(gates, ("strategy", "best rate", "test loss"), rows, _over_time(runs))


@claim(
    "budget-aware",
    "On a small budget a schedule planned for the budget beats a longer one that is cut.",
    source="Li et al., 2020, https://arxiv.org/abs/1905.04753",
    setting="digits-clean, SGD with momentum, linear decay to zero over 60, 150 and 300 updates, against linear decay "
    f"over 600 updates that is cut there. {_TUNED}",
)
def budget_aware(bench: Bench) -> Evidence:
    """Compare planned with truncated decay."""
    gates, rows = [], []
    for budget in (60, 150, 300):
        plans = {
            "planned": sgd("planned", recipes.linear_decay(0.1)),
            "cut": sgd("cut", recipes.linear_decay(0.1, steps=600).until(budget)),
        }
        tuned, runs = bench.judged(bench.task("digits-clean"), plans, 12, steps=budget)
        losses = {name: run.capped[0] for name, run in runs.items()}
        gates += lower({"planned": losses["planned"]}, losses["cut"], "cut", where=f"{budget} updates")
        rows.append((str(budget), *(f"{mean(losses[name])} at {number(tuned[name].rate)}" for name in plans)))
    return Evidence(gates, ("updates", "planned: test loss at its best rate", "cut"), rows)


@claim(
    "linear-beats-wsd",
    "Linear decay beats a plateau with a short cooldown (warm-up, stable, decay).",
    source="Defazio et al., 2023, https://arxiv.org/abs/2310.07831, for short runs",
    setting=f"digits-clean, 300 updates of 16, SGD with momentum, cooldown of a fifth of the run. {_TUNED}",
)
def linear_beats_wsd(bench: Bench) -> Evidence:
    """Compare linear decay with a plateau and cooldown."""
    strategies = {name: NINETEEN[name] for name in ("linear", "wsd_20")}
    tuned, runs = bench.judged(bench.task("digits-clean"), strategies, 12, steps=300)
    losses = {name: run.capped[0] for name, run in runs.items()}
    gates = lower({"linear": losses["linear"]}, losses["wsd_20"], "wsd_20")
    rows = [(name, number(tuned[name].rate), mean(loss)) for name, loss in losses.items()]
    return Evidence(gates, ("strategy", "best rate", "test loss"), rows, _over_time(runs))


def _over_time(runs: dict[str, Runs]) -> Figure:
    lines = {}
    for name, run in runs.items():
        values = run.test[0].mean(axis=0)
        lines[name] = ([(i + 1) / len(values) for i in range(len(values))], values.tolist())
    return Figure("part of the run", "test loss", lines, "y")
