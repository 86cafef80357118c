"""What a compiled optax update costs with our schedules, as a ratio to the same update with optax' own.

Run with: OMP_NUM_THREADS=1 python benchmarks/optax_step.py
Target: no measurable slowdown. An update is timed twice: called from Python, where handing the state over dominates,
and inside a scan of 1000, where nothing else is left. The last line restores at an early and a late update.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import ratewise as rw
import ratewise.optax as ro

STEPS, ROUNDS = 1000, 30
PARAMETERS = {"w": jnp.ones((64, 64)), "b": jnp.zeros(64)}

CURVES: dict[str, tuple[Any, Any]] = {
    "cosine": (optax.cosine_decay_schedule(0.1, STEPS), rw.Cosine(0.1, 0.0, STEPS)),
    "warmup_cosine": (
        optax.warmup_cosine_decay_schedule(0.0, 0.1, 100, STEPS),
        rw.Cosine(0.1, 0.0).warmup(100, start=0.0).over(STEPS),
    ),
    "four drops": (
        optax.piecewise_constant_schedule(0.1, {200 * i: 0.5 for i in range(1, 5)}),
        rw.multi_step(0.1, [200, 400, 600, 800], gamma=0.5),
    ),
    "one cycle": (optax.cosine_onecycle_schedule(STEPS, 0.1), rw.one_cycle(0.1).over(STEPS)),
}
KINDS: dict[str, Callable[[Any], Any]] = {
    "optax": optax.adamw,
    "schedule": lambda lr: optax.adamw(ro.schedule(lr)),
    "optax inject": lambda lr: optax.inject_hyperparams(optax.adamw)(learning_rate=lr),
    "inject": lambda lr: ro.inject(optax.adamw, learning_rate=lr),
    "inject, rule": lambda lr: ro.inject(optax.adamw, learning_rate=lr * rw.Plateau(0.5)),
}


def one_by_one(optimizer: Any) -> Callable[[], float]:
    """Microseconds of an update called from Python."""
    update = jax.jit(lambda state: optimizer.update(PARAMETERS, state, PARAMETERS)[1])
    first = optimizer.init(PARAMETERS)
    jax.block_until_ready(update(first))

    def run() -> float:
        state, start = first, time.perf_counter()
        for _ in range(STEPS):
            state = update(state)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / STEPS * 1e6

    return run


def scanned(optimizer: Any) -> Callable[[], float]:
    """Microseconds of an update inside a scan."""

    def step(state: Any, _: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(PARAMETERS, state, PARAMETERS)
        return state, updates["b"][0]

    train = jax.jit(lambda state: jax.lax.scan(step, state, None, STEPS))
    first = optimizer.init(PARAMETERS)
    jax.block_until_ready(train(first))

    def run() -> float:
        start = time.perf_counter()
        jax.block_until_ready(train(first))
        return (time.perf_counter() - start) / STEPS * 1e6

    return run


def best(runs: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The best of many rounds, in turn, so that a busy machine is busy for all of them."""
    found = dict.fromkeys(runs, float("inf"))
    for name in list(runs) * ROUNDS:
        found[name] = min(found[name], runs[name]())
    return found


def restoring() -> None:
    optimizer = ro.inject(optax.adamw, learning_rate=rw.sgdr(0.1, 10).over(2**30))
    update = jax.jit(lambda state: optimizer.update(PARAMETERS, state, PARAMETERS)[1])
    state = optimizer.init(PARAMETERS)
    jax.block_until_ready(update(state))

    def resume(count: int) -> Callable[[], float]:
        def run() -> float:
            restored = state._replace(count=jnp.int32(count))
            start = time.perf_counter()
            jax.block_until_ready(update(restored))
            return (time.perf_counter() - start) * 1e6

        return run

    found = best({f"{count:,}": resume(count) for count in (10, 10**8)})
    print("first update after a restart at " + ", ".join(f"{name}: {value:.0f} us" for name, value in found.items()))


def main() -> None:
    print(f"optax {optax.__version__}, jax {jax.__version__} on {jax.default_backend()}; adamw, 4160 weights; "
          f"microseconds per update, best of {ROUNDS} rounds of {STEPS}")  # fmt: skip
    print(f"{'curve':<14} {'how':<10} {'optax':>7} {'schedule':>9} {'ratio':>6}"
          f" {'optax inject':>13} {'inject':>7} {'ratio':>6} {'rule':>6} {'ratio':>6}")  # fmt: skip
    for curve, (theirs, ours) in CURVES.items():
        for how in (one_by_one, scanned):
            runs = {kind: how(make(theirs if "optax" in kind else ours)) for kind, make in KINDS.items()}
            peer, plain, peer_inject, inject, rule = best(runs).values()
            print(f"{curve:<14} {how.__name__:<10} {peer:>7.1f} {plain:>9.1f} {plain / peer:>6.2f}"
                  f" {peer_inject:>13.1f} {inject:>7.1f} {inject / peer_inject:>6.2f}"
                  f" {rule:>6.1f} {rule / peer_inject:>6.2f}")  # fmt: skip
    restoring()


if __name__ == "__main__":
    main()
