"""Which networks need a warm-up: the search behind ``docs/tasks.md``.

    OMP_NUM_THREADS=1 python benchmarks/warmup.py search      # deep networks on clean digits, in JAX
    OMP_NUM_THREADS=1 python benchmarks/warmup.py lengths     # how long a warm-up digits-sharp needs

``search`` trains each network with 0, 5 and 20% of warm-up and a line to zero, at 13 rates, a factor of two apart, with
four seeds, 200 updates; one ``vmap`` over all of them. It prints the best mean validation loss of each length with its
rate, the gain of the better warm-up over none, and in how many seeds 20% was better. ``lengths`` lets each choose
among nine rates with five seeds, and trains twelve fresh seeds at the chosen one.
"""

import itertools
import math
import sys
from functools import partial
from statistics import fmean
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ratewise import Linear, Strategy, fraction
from ratewise.lab.loading import load
from ratewise.lab.runs import Member, engine_of

STEPS, SEEDS, WARMUPS, WIDTH = 200, 4, (0.0, 0.05, 0.2), 64


def network(parameters: Any, x: Any, activation: str) -> Any:
    """A network of dense layers."""
    bend = jax.nn.relu if activation == "relu" else jnp.tanh
    for weight, bias in parameters[:-1]:
        x = bend(x @ weight + bias)
    return x @ parameters[-1][0] + parameters[-1][1]


def started(key: Any, activation: str, depth: int, gain: float) -> Any:
    """Weights of He et al. (ReLU) or of deviation 1/sqrt(inputs) (tanh), times ``gain``."""
    sizes, gain = [64, *[WIDTH] * depth, 10], gain * (math.sqrt(2) if activation == "relu" else 1.0)
    keys = jax.random.split(key, depth + 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return [(gain * jax.random.normal(k, (a, b)) / math.sqrt(a), jnp.zeros(b)) for k, a, b in pairs]


def losses(optimizer: str, activation: str, depth: int, gain: float, rates: Any) -> Any:
    """Final validation losses, of shape (warm-ups, rates, seeds); infinite where a run diverged."""
    task = load("digits-clean")
    (x, y), (vx, vy) = (tuple(map(jnp.asarray, task.splits[name])) for name in ("train", "valid"))
    orders = jnp.asarray(np.stack([task.order(seed, STEPS) for seed in range(SEEDS)]))
    rule = {"sgd": optax.trace(0.9), "adam": optax.scale_by_adam()}[optimizer]

    def loss(parameters: Any, inputs: Any, targets: Any) -> Any:
        logits = network(parameters, inputs, activation)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    def run(warmup: Any, rate: Any, seed: Any) -> Any:
        parameters, rise = started(jax.random.key(seed), activation, depth, gain), jnp.maximum(warmup * STEPS, 1.0)

        def update(carry: Any, at: Any) -> Any:
            (parameters, state), (t, batch) = carry, at
            step, state = rule.update(jax.grad(loss)(parameters, x[batch], y[batch]), state, parameters)
            lr = rate * jnp.where(t < rise, (t + 1) / rise, 1 - (t - rise) / (STEPS - rise))
            return (jax.tree.map(lambda p, s: p - lr * s, parameters, step), state), None

        carry = parameters, rule.init(parameters)
        (parameters, _), _ = jax.lax.scan(update, carry, (jnp.arange(STEPS), orders[seed]))
        return loss(parameters, vx, vy)

    arms = map(jnp.asarray, zip(*itertools.product(WARMUPS, rates, range(SEEDS)), strict=True))
    found = np.array(jax.jit(jax.vmap(run))(*arms)).reshape(len(WARMUPS), len(rates), SEEDS)
    return np.where(np.isfinite(found), found, np.inf)


def search() -> None:
    """Print a line for each network."""
    for optimizer, activation, depth, gain in itertools.product(("sgd", "adam"), ("tanh", "relu"), (3, 8), (1, 2, 3)):
        rates = np.array([(0.05 if optimizer == "sgd" else 0.005) * 2.0**k for k in range(-7, 6)])
        found = losses(optimizer, activation, depth, gain, rates)
        means = found.mean(-1)
        best = means.argmin(1)
        cells = [f"{w:.0%}: {means[i, best[i]]:.4f} at {rates[best[i]]:.4g}" for i, w in enumerate(WARMUPS)]
        better = int((found[2, best[2]] < found[0, best[0]]).sum())
        gained = f"gain {1 - means[1:].min() / means[0].min():.0%}, 20% better in {better} of {SEEDS}"
        print(f"{optimizer} {activation} depth {depth} weights x {gain}", *cells, gained, sep=" | ", flush=True)


def lengths() -> None:
    """Print a line for each length of the warm-up."""
    task = load("digits-sharp")
    train, plain = engine_of(task, "population").cohort, None
    for share in (0.0, 0.05, 0.1, 0.2, 0.4):
        lr = Linear(1.0, 0.0).warmup(fraction(share)) if share else Linear(1.0, 0.0)
        at = partial(Strategy(f"{share:.0%}", "sgd", lr, momentum=0.9).with_peak, horizon=task.steps)
        rates = [0.1 * 2.0**k for k in range(-7, 2)]
        members = [Member(at(rate), seed, task.steps, "tune") for rate in rates for seed in range(5)]
        scores = [math.inf if o.loss is None else o.loss for o in train(members)]
        tuned = {rate: fmean(scores[5 * i : 5 * i + 5]) for i, rate in enumerate(rates)}
        rate = min(tuned, key=lambda rate: tuned[rate])
        outcomes = train([Member(at(rate), seed, task.steps, "test") for seed in range(1000, 1012)])
        fresh = [math.inf if o.loss is None else o.loss for o in outcomes]
        plain = plain or fresh
        better = sum(a < b for a, b in zip(fresh, plain, strict=True))
        print(f"{share:.0%} | {rate:.4g} | {fmean(fresh):.4f} | better than without in {better} of 12", flush=True)


if __name__ == "__main__":
    {"search": search, "lengths": lengths}[sys.argv[1]]()
