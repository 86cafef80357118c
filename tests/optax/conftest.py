"""What the optax tests share. A rate is measured, never asked for: with gradient 1, SGD changes a weight by it."""

from importlib.util import find_spec

import pytest

if find_spec("jax") is None or find_spec("optax") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def applied():
    """Return a function that gives the change which each update made to a weight of 0 with gradient 1."""
    import jax
    import jax.numpy as jnp
    import optax

    def run(optimizer, updates, state=None, dtype="float32"):
        weight = jnp.zeros((), dtype)

        def step(state, _):
            change, state = optimizer.update(jnp.ones_like(weight), state, weight)
            return state, -optax.apply_updates(weight, change)

        state = optimizer.init(weight) if state is None else state
        return jax.jit(lambda state: jax.lax.scan(step, state, None, updates))(state)[1].tolist()

    return run


@pytest.fixture(scope="session")
def after():
    """Return a function that gives the state after so many updates."""
    import jax
    import jax.numpy as jnp

    def run(optimizer, updates, state=None):
        state = optimizer.init(jnp.zeros(())) if state is None else state
        step = jax.jit(lambda state: optimizer.update(jnp.ones(()), state, jnp.zeros(()))[1])
        for _ in range(updates):
            state = step(state)
        return state

    return run


@pytest.fixture(scope="session")
def near():
    """Compare with a float64 reference: 1e-6 relative, and in float32, which cannot be better, 1.2e-7 of the peak."""

    def approx(reference, rel=1e-6):
        return pytest.approx(list(reference), rel=rel, abs=1.2e-7 * max(map(abs, reference)))

    return approx
