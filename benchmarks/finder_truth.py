"""The best rate by exhaustive search: the models of the built-in tasks once more in JAX, thousands of runs at once.

The initial values are those of the PyTorch models, the batches those of the task; ``worst_difference`` trains some runs
in PyTorch too and compares.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from scipy.interpolate import PchipInterpolator

from ratewise.core.shapes import Linear
from ratewise.finder import compressed
from ratewise.lab.tasks import TASKS
from ratewise.torch.engine import LOSSES

Tree = dict[str, Any]
SCHEDULE = Linear(1.0, 0.0)


def each(function: Callable[..., Any], *trees: Tree) -> Tree:
    return {name: function(*(tree[name] for tree in trees)) for name in trees[0]}


def sgd(g: Tree, state: list[Tree], p: Tree, rate: Any, t: Any) -> tuple[Tree, list[Tree]]:
    m = each(lambda m, g: 0.9 * m + g, state[0], g)
    return each(lambda p, m: p - rate * m, p, m), [m]


def adam(decay: float) -> Callable[..., tuple[Tree, list[Tree]]]:
    def update(g: Tree, state: list[Tree], p: Tree, rate: Any, t: Any) -> tuple[Tree, list[Tree]]:
        m = each(lambda m, g: 0.9 * m + 0.1 * g, state[0], g)
        v = each(lambda v, g: 0.999 * v + 0.001 * g * g, state[1], g)
        a, b = 1 - 0.9 ** (t + 1.0), 1 - 0.999 ** (t + 1.0)
        step = each(lambda m, v: (m / a) / (jnp.sqrt(v / b) + 1e-8), m, v)
        return each(lambda p, s: p * (1 - rate * decay) - rate * s, p, step), [m, v]

    return update


def rmsprop(g: Tree, state: list[Tree], p: Tree, rate: Any, t: Any) -> tuple[Tree, list[Tree]]:
    v = each(lambda v, g: 0.99 * v + 0.01 * g * g, state[0], g)
    return each(lambda p, g, v: p - rate * g / (jnp.sqrt(v) + 1e-8), p, g, v), [v]


OPTIMIZERS: dict[str, tuple[Callable[..., Any], int, int, Callable[..., torch.optim.Optimizer]]] = {
    "sgd": (sgd, 1, -9, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "adam": (adam(0.0), 2, -13, torch.optim.Adam),
    "adamw": (adam(0.01), 2, -13, torch.optim.AdamW),
    "rmsprop": (rmsprop, 1, -14, torch.optim.RMSprop),
}
"""Update, how many states, the lowest octave that is searched, and the torch optimizer."""


@dataclass(frozen=True)
class Truth:
    """Held-out losses of full-length runs.

    Args:
        rates: Peak rates.
        losses: One row per seed; nan where a run diverged.
    """

    rates: list[float]
    losses: list[list[float]]

    @property
    def curve(self) -> tuple[Any, Any]:
        """Octaves and the mean log(loss) there, where every run was finite."""
        logs = np.log(np.asarray(self.losses, float)).mean(0)
        good = np.isfinite(logs)
        return np.log2(self.rates)[good], logs[good]

    @property
    def best(self) -> float:
        """The octave of the best rate: a parabola through all points up to an octave from the lowest."""
        x, y = self.curve
        near = abs(x - x[y.argmin()]) < 1.01
        a, b, _ = np.polyfit(x[near], y[near], 2)
        return float(np.clip(-b / 2 / a, x[near][0], x[near][-1])) if a > 0 else float(x[y.argmin()])

    @property
    def error(self) -> float:
        """Standard error of the best rate's mean loss, as a part of it."""
        losses = np.asarray(self.losses, float)
        at = losses[:, int(np.nanargmin(losses.mean(0)))]
        return float(at.std(ddof=1) / len(at) ** 0.5 / at.mean())

    def regret(self, octave: float) -> float:
        """By how much the loss at a rate is above the lowest, as a part of it; infinite where runs diverge."""
        x, y = self.curve
        if not x[0] <= octave <= x[-1]:
            return float("inf") if octave > x[-1] else float(np.expm1(y[0] - y.min()))
        between = PchipInterpolator(x, y)
        lowest = between(np.linspace(x[0], x[-1], 2001)).min()
        return float(np.expm1(between(octave) - lowest))


class Search:
    """Trains a task with an optimizer from many initial values at many rates."""

    def __init__(self, task: str, optimizer: str) -> None:
        self.task, self.optimizer = TASKS[task](), optimizer
        self.update, self.states, self.low, self.make = OPTIMIZERS[optimizer]
        self.splits = {name: tuple(map(jnp.asarray, pair)) for name, pair in self.task.splits.items()}
        self.forward = self.task.jax_model().apply
        self.run = jax.jit(jax.vmap(jax.vmap(self._run, (0, None, None)), (None, 0, 0)))

    def loss(self, p: Tree, x: Any, y: Any) -> Any:
        output = self.forward(p, x)
        if self.task.loss == "mse":
            return ((output - y) ** 2).mean()
        return -jnp.take_along_axis(jax.nn.log_softmax(output), y[..., None], -1).mean()

    def _run(self, rates: Any, p: Tree, order: Any) -> Any:
        x, y = self.splits["train"]

        def body(carry: Any, at: Any) -> Any:
            p, state, t, finite = carry
            loss, g = jax.value_and_grad(self.loss)(p, x[at[1]], y[at[1]])
            p, state = self.update(g, state, p, at[0], t)
            return (p, state, t + 1, finite & jnp.isfinite(loss)), None

        start = (p, [each(jnp.zeros_like, p) for _ in range(self.states)], 0, True)
        (p, _, _, finite), _ = jax.lax.scan(body, start, (rates, order))
        return jnp.where(finite, self.loss(p, *self.splits["valid"]), jnp.nan)

    def initial(self, seed: int) -> Tree:
        torch.manual_seed(seed)
        return {name: p.detach().numpy() for name, p in self.task.model().named_parameters()}

    def truth(self, horizon: int, seeds: int, octaves: int = 12, per_octave: int = 2) -> Truth:
        """Search rates over so many octaves with so many seeds, and three far below, which hardly train."""
        far = [2.0 ** (self.low - below) for below in (12, 8, 4)]
        return self.trained(
            [*far, *(2.0 ** (self.low + i / per_octave) for i in range(octaves * per_octave))], horizon, seeds
        )

    def trained(self, rates: list[float], horizon: int, seeds: int) -> Truth:
        rows = jnp.asarray([[rate * part for part in compressed(SCHEDULE, horizon, horizon)] for rate in rates])
        values = [self.initial(seed) for seed in range(seeds)]
        orders = jnp.asarray(np.stack([self.task.order(seed, horizon) for seed in range(seeds)]).astype("int32"))
        return Truth(rates, np.asarray(self.run(rows, each(lambda *x: jnp.stack(x), *values), orders)).tolist())

    def worst_difference(self, horizon: int, truth: Truth, runs: Sequence[tuple[int, int]]) -> float:
        """The largest relative difference of the loss to the same runs in PyTorch, given as (seed, index of rate)."""
        worst, loss = 0.0, LOSSES[str(self.task.loss)]
        x, y = (torch.as_tensor(part) for part in self.task.splits["train"])
        for seed, i in runs:
            torch.manual_seed(seed)
            model = self.task.model()
            optimizer = self.make(model.parameters())
            for part, batch in zip(compressed(SCHEDULE, horizon, horizon), self.task.order(seed, horizon), strict=True):
                optimizer.param_groups[0]["lr"] = truth.rates[i] * part
                optimizer.zero_grad()
                loss(model(x[batch]), y[batch]).backward()
                optimizer.step()
            with torch.no_grad():
                found = float(
                    loss(
                        model(torch.as_tensor(self.task.splits["valid"][0])),
                        torch.as_tensor(self.task.splits["valid"][1]),
                    )
                )
            worst = max(worst, abs(found / truth.losses[seed][i] - 1))
        return worst
