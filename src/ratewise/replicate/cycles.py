"""One cycle, and many."""

from ratewise.replicate.bench import Bench, fresh_seeds
from ratewise.replicate.claim import Evidence, Figure, claim, lower, mean, not_higher, number
from ratewise.replicate.schedules import NINETEEN, catalogue


@claim(
    "one-cycle-sooner",
    "One cycle reaches a target sooner: half of the updates are enough.",
    source="Smith and Topin, 2018, https://arxiv.org/abs/1708.07120",
    setting="digits-clean (600 updates) and stdlib-chars (400): the target is what a constant rate and step decay "
    "reach in all updates, one cycle has half of them. Each tuned at its own length, judged on fresh seeds by final "
    "test loss.",
)
def one_cycle_sooner(bench: Bench) -> Evidence:
    """Give one cycle half of the updates."""
    gates, rows = [], []
    for name, steps in {"digits-clean": 600, "stdlib-chars": 400}.items():
        task, seeds = bench.task(name), 12
        whole = catalogue("fixed", "step_decay", "linear", "one_cycle")
        tuned, runs = bench.judged(task, whole, seeds, steps=steps, tuning_seeds=3)
        half, found = bench.judged(task, catalogue("one_cycle"), seeds, steps=steps // 2, tuning_seeds=3)
        cycle = {"one_cycle, half of the updates": found["one_cycle"].capped[0]}
        for other in ("fixed", "step_decay"):
            gates += not_higher(cycle, runs[other].capped[0], other, where=name)
        rows += [(name, other, str(steps), number(tuned[other].rate), mean(runs[other].capped[0])) for other in whole]
        rows.append((name, "one_cycle", str(steps // 2), number(half["one_cycle"].rate), mean(*cycle.values())))
    return Evidence(gates, ("task", "strategy", "updates", "best rate", "test loss"), rows)


@claim(
    "cyclical-bounds",
    "A cyclical rate is less sensitive to its bounds than a constant rate to its value.",
    source="Smith, 2017, https://arxiv.org/abs/1506.01186",
    setting="digits (300 updates) and stdlib-chars (200), SGD with momentum. Rates (the cycle's bounds, 1 to 10, with "
    "them) from an eighth of the best to eight times it; sensitivity: mean over them of the final test loss, at most "
    "that before training, minus the loss at the best (Wortsman et al., 2023), for each fresh seed. Linear decay and "
    "cycles of one height stand by.",
)
def cyclical_bounds(bench: Bench) -> Evidence:
    """Compare sensitivities."""
    gates, rows, lines = [], [], {}
    strategies = {name: NINETEEN[name] for name in ("fixed", "cyclical", "triangular", "linear")}
    for name, steps in {"digits": 300, "stdlib-chars": 200}.items():
        task = bench.task(name)
        tuned = bench.tuned(task, strategies, seeds=3, steps=steps)
        wanted = {key: (s, [tuned[key].rate * 2.0**i for i in range(-3, 4)]) for key, s in strategies.items()}
        runs = bench.runs(task, wanted, fresh_seeds(10), steps=steps)
        sensitivity = {key: run.learned.mean(axis=0) - run.learned[3] for key, run in runs.items()}
        gates += lower(
            {"cyclical": sensitivity["cyclical"]}, sensitivity["fixed"], "fixed", where=name, measure="sensitivity"
        )
        rows += [(name, key, number(tuned[key].rate), mean(value)) for key, value in sensitivity.items()]
        for key, run in runs.items():
            factors = [2.0**i for i in range(-3, 4)]
            lines[f"{key}, {name}"] = (factors, (run.learned / run.learned[3].mean()).mean(axis=1).tolist())
    figure = Figure("peak rate, as a multiple of the best", "test loss, as a multiple of that at the best", lines, "xy")
    return Evidence(gates, ("task", "strategy", "best rate", "sensitivity"), rows, figure)


@claim(
    "one-cycle-regularises",
    "The high rate in the middle of one cycle regularises: it ends with a lower held-out loss than linear decay.",
    source="Smith and Topin, 2018, https://arxiv.org/abs/1708.07120",
    setting="digits-clean, 2,000 updates of 16 (40 epochs), SGD with momentum, each tuned, 20 fresh seeds, test loss.",
)
def one_cycle_regularises(bench: Bench) -> Evidence:
    """Compare one cycle with linear decay in a long run."""
    task, steps = bench.task("digits-clean"), 2000
    strategies = catalogue("fixed", "linear", "cosine", "one_cycle")
    tuned, runs = bench.judged(task, strategies, 20, steps=steps, tuning_seeds=3)
    gates = lower({"one_cycle": runs["one_cycle"].capped[0]}, runs["linear"].capped[0], "linear")
    rows = [
        (name, number(tuned[name].rate), mean(run.capped[0]), f"{run.metric[0].mean():.2%}")
        for name, run in runs.items()
    ]
    return Evidence(gates, ("strategy", "best rate", "test loss", "test accuracy"), rows)
