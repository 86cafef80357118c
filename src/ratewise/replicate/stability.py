"""Where gradient descent becomes unstable: exactly on quadratics, and where a network's curvature settles."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.finder.curvature import ceiling, gain
from ratewise.replicate.bench import Bench
from ratewise.replicate.claim import Evidence, Figure, claim, lies, number

Array = NDArray[Any]


@claim(
    "quadratic-limit",
    "On a quadratic, gradient descent converges exactly if the rate is below 2 / λ, with momentum β below 2 (1 + β) "
    "/ λ.",
    source="Textbook; Cohen et al., 2021, appendix B, https://arxiv.org/abs/2103.00065",
    setting="Random quadratics of 20 dimensions, plain gradients, heavy ball and Nesterov's momentum of 0.9; the rate "
    "at which the distance begins to grow, found by bisection, against the limit that the finder computes from "
    "products with the Hessian.",
    quick=True,
)
def quadratic_limit(bench: Bench) -> Evidence:
    """Bisect the rate at which training flips from converging to diverging."""
    rows, gates = [], []
    for name, momentum, nesterov in (("plain", 0.0, False), ("heavy ball", 0.9, False), ("Nesterov", 0.9, True)):
        ratios = []
        for seed in range(bench.size(10, 3)):
            rng = np.random.default_rng(seed)
            basis = np.linalg.qr(rng.normal(size=(20, 20)))[0]
            hessian = basis * rng.uniform(0.05, 1.0, 20) @ basis.T
            reach = gain(momentum, nesterov=nesterov)
            limit = ceiling(hessian.__matmul__, rng.normal(size=20), _dot, gain=reach).rate
            ratios.append(_flip(hessian, momentum, nesterov, bench) / limit)
        worst = max(ratios, key=lambda ratio: abs(ratio - 1))
        gates.append(lies(f"{name}: diverges within 1% of the limit", worst, 0.99, 1.01))
        rows.append((name, number(2 / gain(momentum, nesterov=nesterov)), number(min(ratios)), number(max(ratios))))
    return Evidence(gates, ("method", "limit of rate · λ", "flip / limit, lowest", "highest"), rows)


def _flip(hessian: Array, momentum: float, nesterov: bool, bench: Bench) -> float:
    """The rate at which the distance to the minimum begins to grow."""
    low, high = 0.0, 10.0 / float(np.linalg.eigvalsh(hessian)[-1])
    for _ in range(14):
        rate = (low + high) / 2
        w, m = np.ones(len(hessian)), np.zeros(len(hessian))
        sizes = []
        for _ in range(1500):
            g = hessian @ w
            m = momentum * m + g
            w = w - rate * (momentum * m + g if nesterov else m)
            sizes.append(float(np.abs(w).max()))
            if sizes[-1] > 1e6:
                break
        bench.updates += len(sizes)
        low, high = (low, rate) if sizes[-1] > 1e3 or _grows(sizes) else (rate, high)
    return (low + high) / 2


def _grows(sizes: list[float]) -> bool:
    return max(sizes[-100:]) > max(sizes[-700:-600])


@claim(
    "edge-of-stability",
    "Full-batch gradient descent drives the sharpness up to 2 / rate, and then it hovers there.",
    source="Cohen et al., 2021, https://arxiv.org/abs/2103.00065",
    setting="1,000 of scikit-learn's digits, a network 64-64-64-10 with tanh, squared error against one-hot targets, "
    "full batches, no momentum. Two rates that reach the edge within the run, two that do not.",
    quick=True,
)
def edge_of_stability(bench: Bench) -> Evidence:
    """Follow sharpness through full-batch training."""
    steps = {
        0.5: bench.size(2000, 800),
        0.2: bench.size(4000, 0),
        0.1: bench.size(1000, 200),
        0.05: bench.size(1000, 0),
    }
    gates, rows, lines = [], [], {}
    for rate, length in steps.items():
        if not length:
            continue
        at, ratios, losses = _descended(rate, length, bench.size(25, 10))
        bench.updates += length
        tail = float(np.mean(ratios[-5:]))
        rises = int(np.sum(np.diff(losses) > 0))
        if rate >= 0.2:
            gates.append(lies(f"rate {rate}: sharpness over 2 / rate at the end is about 1", tail, 0.95, 1.10))
        else:
            gates.append(lies(f"rate {rate}: the loss never rises", rises, high=0))
        rows.append((number(rate), str(length), number(tail), f"{rises} of {length - 1}"))
        lines[f"rate {rate}"] = (at, ratios)
    figure = Figure("optimizer updates", "sharpness, as a part of 2 / rate", lines)
    header = ("rate", "updates", "sharpness / (2 / rate), mean of the last five", "updates after which the loss rose")
    return Evidence(gates, header, rows, figure)


@dataclass(frozen=True)
class _Network:
    """A fully connected tanh network with squared error, its parameters one flat vector."""

    sizes: tuple[int, ...]
    x: Array
    y: Array

    def start(self, seed: int) -> Array:
        rng = np.random.default_rng(seed)
        parts = [rng.uniform(-1, 1, (a + 1) * b) / math.sqrt(a) for a, b in pairwise(self.sizes)]
        return np.concatenate(parts).astype(np.float32)

    def gradient(self, w: Array) -> tuple[float, Array]:
        """The loss, the mean over examples of the squared distance halved, and its gradient."""
        layers, at = [], 0
        for a, b in pairwise(self.sizes):
            layers.append(w[at : at + (a + 1) * b].reshape(a + 1, b))
            at += (a + 1) * b
        hidden = [self.x]
        for i, layer in enumerate(layers):
            z = hidden[-1] @ layer[:-1] + layer[-1]
            hidden.append(z if i == len(layers) - 1 else np.tanh(z))
        error = hidden[-1] - self.y
        back, parts = error / len(self.x), []
        for i in range(len(layers) - 1, -1, -1):
            parts.append(np.vstack([hidden[i].T @ back, back.sum(0)]).ravel())
            if i:
                back = (back @ layers[i][:-1].T) * (1 - hidden[i] ** 2)
        return float((error * error).sum(dtype=np.float64) / 2 / len(self.x)), np.concatenate(parts[::-1])


def _descended(rate: float, steps: int, marks: int) -> tuple[list[float], list[float], list[float]]:
    """Train with full batches; return where sharpness was measured, the sharpness over 2 / rate, and all losses."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = ((images - images.mean(0)) / (images.std(0) + 1e-6))[:1000].astype(np.float32)
    network = _Network((64, 64, 64, 10), x, np.eye(10, dtype=np.float32)[labels[:1000]])
    exact = _Network(network.sizes, x.astype(np.float64), network.y.astype(np.float64))
    w = network.start(0)
    at, ratios, losses = [], [], []
    for t in range(steps):
        if t % (steps // marks) == 0:
            at.append(float(t))
            ratios.append(ceiling(_product(exact, w), _random(len(w)), _dot).utilisation(rate))
        loss, gradient = network.gradient(w)
        losses.append(loss)
        w = w - np.float32(rate) * gradient
    return at, ratios, losses


def _product(network: _Network, w: Array) -> Callable[[Array], Array]:
    """Multiply by the Hessian, by central differences of the exact gradient."""
    centre = w.astype(np.float64)

    def product(v: Array) -> Array:
        step = 1e-4 / float(np.linalg.norm(v))
        above, below = (network.gradient(centre + s * v)[1] for s in (step, -step))
        return (above - below) / (2 * step)

    return product


def _random(count: int) -> Array:
    return np.random.default_rng(0).normal(size=count)


def _dot(a: Array, b: Array) -> float:
    return float(a @ b)
