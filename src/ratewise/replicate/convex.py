"""Schedule-free learning on convex problems."""

from functools import partial

import numpy as np

from ratewise.core import recipes
from ratewise.lab import stats
from ratewise.lab.strategy import Strategy
from ratewise.lab.task import Task
from ratewise.replicate.bench import Bench
from ratewise.replicate.claim import Evidence, claim, lies, lower, mean, not_higher, number
from ratewise.replicate.schedules import sgd


@claim(
    "schedule-free-convex",
    "On convex problems schedule-free learning matches linear decay without knowing the length of the run.",
    source="Defazio et al., 2024, https://arxiv.org/abs/2405.15682 (Iris: 98.6% and 98.6%)",
    setting="Softmax regression on iris and breast-cancer (all examples; loss and accuracy on them, as in the paper), "
    "50 epochs in batches of 16, SGD with momentum 0.9, schedule-free SGD from its authors' package; rates tuned in "
    "factors of 2 by the loss, 10 fresh seeds.",
)
def schedule_free_convex(bench: Bench) -> Evidence:
    """Compare schedule-free SGD with decay and a constant rate."""
    strategies = {
        "constant": sgd("constant", recipes.fixed(0.1)),
        "linear": sgd("linear", recipes.linear_decay(0.1)),
        "schedule-free": Strategy("schedule_free", "schedulefree:SGDScheduleFree", recipes.fixed(1.0)),
    }
    gates, rows = [], []
    for name in ("iris", "breast-cancer"):
        task = _whole(bench.task(name))
        steps = 50 * len(task.splits["train"][0]) // 16
        tuned, runs = bench.judged(task, strategies, 10, steps=steps, engine="population", tuning_seeds=2)
        losses = {key: run.capped[0] for key, run in runs.items()}
        accuracy = {key: 100 * run.metric[0] for key, run in runs.items()}
        gap = stats.interval((accuracy["schedule-free"] - accuracy["linear"]).tolist())
        if gap.mean is not None and gap.low is not None and gap.high is not None:
            what = f"{name}: its accuracy is at most 0.3 points below linear decay's"
            gates.append(lies(what, gap.mean, low=-0.3, limits=(gap.low, gap.high)))
        gates += not_higher({"schedule-free": losses["schedule-free"]}, losses["linear"], "linear", where=name)
        gates += lower({"schedule-free": losses["schedule-free"]}, losses["constant"], "constant", where=name)
        rows += [
            (name, key, number(tuned[key].rate), mean(losses[key]), f"{float(np.mean(accuracy[key])):.2f}%")
            for key in strategies
        ]
    return Evidence(gates, ("data", "method", "best rate", "training loss", "training accuracy"), rows)


def _whole(task: Task) -> Task:
    """Softmax regression on all examples of a task, measured on them."""
    x, y = (np.concatenate([task.splits[name][i] for name in task.splits]) for i in (0, 1))
    data = dict.fromkeys(("train", "valid", "test"), (x, y))
    return Task(f"{task.name}-whole", data, partial(_affine, x.shape[1], int(y.max()) + 1), batch_size=16)


def _affine(inputs: int, outputs: int) -> object:
    from ratewise.torch.models import affine

    return affine(inputs, outputs)
