"""What warm-up is for: whether it lets higher rates train."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.core import recipes
from ratewise.core.horizon import fraction
from ratewise.lab import stats
from ratewise.lab.strategy import Strategy
from ratewise.lab.task import Task
from ratewise.replicate.bench import Bench, Runs
from ratewise.replicate.claim import Evidence, Figure, Gate, claim, lies, lower, number
from ratewise.replicate.schedules import adam, sgd

_USABLE = (
    "A rate is usable if the run's held-out loss ends below the middle between that before training and the lowest of "
    "all. Rates in factors of 2; without and with a warm-up over the first tenth of the run; the gain in octaves of "
    "the highest usable rate, paired over seeds."
)
_FOUND = (
    "A setting in which a warm-up matters was searched for, and found: the task digits-sharp, docs/tasks.md. It is not "
    "among the three here, because it was chosen for its effect."
)


@claim(
    "warmup-stability",
    "Warm-up prevents early divergence at high rates.",
    source="Goyal et al., 2017, section 2.2, https://arxiv.org/abs/1706.02677; Gotmare et al., 2019, "
    "https://arxiv.org/abs/1810.13243",
    setting="Three settings in which it is said to help: large batches (digits-clean in batches of 256, SGD with "
    "momentum, 60 updates), a transformer with SGD and with Adam (stdlib-transformer, 150 updates); linear decay "
    f"behind. {_USABLE} Validation loss on six seeds; no rate is chosen, so none are fresh. The gate asks for at least "
    "half an octave in each.",
)
def warmup_stability(bench: Bench) -> Evidence:
    """Compare the highest usable rate without and with warm-up."""
    large = replace(bench.task("digits-clean"), batch_size=256)
    transformer = bench.task("stdlib-transformer")
    settings: list[tuple[str, Task, Any, float, int]] = [
        ("large batches, SGD", large, sgd, 0.1, 60),
        ("transformer, SGD", transformer, sgd, 0.1, 150),
        ("transformer, Adam", transformer, adam, 0.01, 150),
    ]
    gates, rows, lines = [], [], {}
    for name, task, make, centre, steps in settings:
        strategies = {
            "without": make("without", recipes.linear_decay(centre)),
            "with": make("with", recipes.linear_decay(centre).warmup(fraction(0.1))),
        }
        wanted = {key: (s, [centre * 2.0**i for i in range(7)]) for key, s in strategies.items()}
        runs = bench.runs(task, wanted, range(6), steps=steps, phase="tune")
        gates.append(_gain(name, runs))
        rows += [(name, key, *(number(float(x)) for x in run.learned.mean(axis=1))) for key, run in runs.items()]
        for key, run in runs.items():
            lines[f"{name}, {key}"] = ([2.0**i for i in range(7)], run.learned.mean(axis=1).tolist())
    header = ("setting", "warm-up", *(f"loss at {2**i} × the first rate" for i in range(7)))
    figure = Figure("peak rate, as a multiple of the first", "held-out loss", lines, "xy")
    return Evidence(gates, header, rows, figure, _FOUND)


def _gain(name: str, runs: Mapping[str, Runs]) -> Gate:
    lowest = min(float(run.learned.mean(axis=1).min()) for run in runs.values())
    octaves = {key: _usable(run, lowest) for key, run in runs.items()}
    found = stats.interval((octaves["with"] - octaves["without"]).tolist())
    what = f"{name}: the highest usable rate is at least half an octave higher with warm-up"
    if found.mean is None or found.low is None or found.high is None:
        return Gate(what, "–", None)
    return lies(what, found.mean, low=0.5, limits=(found.low, found.high))


def _usable(run: Runs, lowest: float) -> NDArray[np.float64]:
    """The highest usable rate for each seed, as log2; the lowest tried less one octave if none is."""
    good = run.learned < (run.first + lowest) / 2
    octaves = np.log2(run.rates)
    return np.where(good, octaves[:, None], octaves[0] - 1).max(axis=0)  # type: ignore[no-any-return]


@claim(
    "warmup-deep-adam",
    "Warm-up makes Adam on a deep network less sensitive to its rate.",
    source="Wortsman et al., 2023, https://arxiv.org/abs/2309.14322, for transformers",
    setting="digits-clean, a network of six hidden layers of 64 ReLUs, Adam with linear decay, 200 updates; no "
    "warm-up, 5% and 20%; rates from 0.0005 to 0.032 in factors of 2. Sensitivity: mean over the rates of the final "
    "validation loss, at most that before training, minus the lowest; paired over ten seeds. No rate is chosen, so no "
    "seeds are fresh.",
)
def warmup_deep_adam(bench: Bench) -> Evidence:
    """Compare sensitivities over lengths of the warm-up."""
    task = replace(bench.task("digits-clean"), name="digits-deep", jax_model=_deep)
    lr = recipes.linear_decay(0.004)
    strategies: dict[str, Strategy] = {
        "no warm-up": adam("none", lr),
        "5%": adam("short", lr.warmup(fraction(0.05))),
        "20%": adam("long", lr.warmup(fraction(0.2))),
    }
    wanted = {name: (s, [0.0005 * 2.0**i for i in range(7)]) for name, s in strategies.items()}
    steps = 200
    runs = bench.runs(task, wanted, range(10), steps=steps, phase="tune")
    sensitivity = {name: (run.learned - run.learned.min(axis=0)).mean(axis=0) for name, run in runs.items()}
    others = {name: sensitivity[name] for name in ("5%", "20%")}
    gates = lower(others, sensitivity["no warm-up"], "no warm-up", measure="sensitivity")
    rows = [
        (name, number(float(sensitivity[name].mean())), *(number(float(x)) for x in run.learned.mean(axis=1)))
        for name, run in runs.items()
    ]
    lines = {name: (run.rates.tolist(), run.learned.mean(axis=1).tolist()) for name, run in runs.items()}
    header = ("warm-up", "sensitivity", *(f"loss at {number(0.0005 * 2**i)}" for i in range(7)))
    return Evidence(gates, header, rows, Figure("peak rate", "validation loss", lines, "xy"), _lowered(runs))


def _lowered(runs: Mapping[str, Runs]) -> str:
    """What a sensitivity does not say: whether the loss itself is lower."""
    without, long = (runs[name].learned.mean(axis=1) for name in ("no warm-up", "20%"))
    return (
        "Sensitivity is measured from the lowest loss, and a warm-up lowers that as well. Of the losses themselves, "
        f"means over seeds, 20% of warm-up has the lower or the same at {int((long <= without).sum())} of {len(long)} "
        f"rates; at the best rate of each it is {number(float(without.min()))} without and {number(float(long.min()))} "
        "with. That was not the gate, and these seeds also chose the rates: read it as a hint that warm-up helps here."
    )


@lru_cache(maxsize=1)
def _deep() -> Any:
    """Six hidden layers of 64 units, of the lab's own layers."""
    import jax

    from ratewise.optax.models import Model, affine

    sizes = [64] * 7 + [10]
    layers = [affine(a, b) for a, b in pairwise(sizes)]

    def init(key: Any, inputs: Any) -> Any:
        keys = jax.random.split(key, len(layers))
        return [layer.init(one, inputs) for layer, one in zip(layers, keys, strict=True)]

    def apply(parameters: Any, x: Any) -> Any:
        for i, (layer, p) in enumerate(zip(layers, parameters, strict=True)):
            x = layer.apply(p, x if i == 0 else jax.nn.relu(x))
        return x

    return Model(init, apply)
