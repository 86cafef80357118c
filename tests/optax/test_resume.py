"""A state that was saved and restored goes on with the same rates, to the bit; and with another plan as that says."""

import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ratewise as rw
import ratewise.optax as ro

ocp = pytest.importorskip("orbax.checkpoint")
TRAIN = Path(__file__).with_name("train.py")


def run(*arguments):
    command = [sys.executable, str(TRAIN), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_killed_training_goes_on_in_a_fresh_process_with_the_same_rates_to_the_bit(tmp_path):
    whole = run(tmp_path / "whole", 140, -1, 1000)
    assert whole.returncode == 0, whole.stderr
    killed = run(tmp_path / "killed", 140, 32, 5)
    assert killed.returncode == -signal.SIGKILL
    resumed = run(tmp_path / "killed", 140, -1, 1000)
    assert resumed.returncode == 0, resumed.stderr
    expected = whole.stdout.splitlines()
    assert len(set(expected)) == 140
    assert killed.stdout.splitlines() == expected[:33]
    assert resumed.stdout.splitlines() == expected[31:]  # the last one saved is 30; what came after happens again


def restored(state, optimizer, folder):
    """What Orbax gives back for ``state``, into the first state of ``optimizer``."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder, optimizer.init(jnp.zeros(())))


def changes(optimizer, state, updates, step=None):
    """The change of each update, and the state after it."""
    step = step or jax.jit(lambda state: optimizer.update(jnp.ones(()), state, jnp.zeros(())))
    for _ in range(updates):
        change, state = step(state)
        yield -float(change), state


def test_after_any_update_a_restored_state_is_the_same_to_the_bit(tmp_path):
    lr = rw.warmup_cosine(0.1, 3, steps=12) * rw.Plateau(0.5, patience=2)
    optimizer = optax.chain(
        optax.clip(1.0), inner := ro.inject(optax.adamw, learning_rate=lr, b1=rw.Linear(0.9, 0.8, 9))
    )
    state = ro.scaled(optimizer.init(jnp.zeros(())), 0.3)
    step = jax.jit(lambda state: optimizer.update(jnp.ones(()), state, jnp.zeros(())))
    for k in range(14):
        again = restored(state, optimizer, tmp_path / str(k))
        assert jax.tree.structure(again) == jax.tree.structure(state)
        for expected, found in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
            assert (expected.dtype, expected.tobytes()) == (found.dtype, np.asarray(found).tobytes())
        rest = [change for change, _ in changes(optimizer, state, 14 - k, step)]
        assert rest == [change for change, _ in changes(optimizer, again, 14 - k, step)]
        state = inner.observe(step(again)[1], 1.0)


PEAK, FLOOR = 3e-4, 3e-5
OLD, NEW = (rw.Cosine(PEAK, FLOOR).warmup(2000).over(n) for n in (100_000, 150_000))
EXTENDED = {
    "keep": {60_000: 1.265888e-4, 99_999: OLD(99_999), 100_000: FLOOR, 149_999: FLOOR, 150_000: FLOOR},
    "switch": {60_000: 2.099739e-4, 105_000: NEW(105_000), 150_000: FLOOR},
    "replan": {60_000: 1.265888e-4, 82_500: 1.124437e-4, 105_000: 7.829439e-5, 150_000: FLOOR, 200_000: FLOOR},
    "stretch": {60_000: 1.265888e-4, 105_000: 5.680916e-5, 150_000: FLOOR},
}


@pytest.fixture(scope="module")
def at_60_000(tmp_path_factory):
    """The state of a run of the old plan that was saved after 60,000 updates, as it was read back."""
    optimizer = ro.inject(optax.sgd, learning_rate=OLD)
    update = lambda _, state: optimizer.update(jnp.ones(()), state)[1]  # noqa: E731
    state = jax.jit(lambda state: jax.lax.fori_loop(0, 60_000, update, state))(optimizer.init(jnp.zeros(())))
    assert int(ro.position(state)) == 60_000
    return restored(state, optimizer, tmp_path_factory.mktemp("run") / "state")


@pytest.mark.parametrize("policy", EXTENDED)
def test_scenario_1_a_run_is_extended(policy, at_60_000, applied):
    lr = rw.extend(OLD, NEW, int(ro.position(at_60_000)), policy)
    rates = applied(ro.inject(optax.sgd, learning_rate=lr), 140_001, at_60_000)
    for t, expected in EXTENDED[policy].items():
        assert pytest.approx(expected, rel=1e-6) == rates[t - 60_000]
    assert min(rates) >= FLOOR * (1 - 1e-6)
    assert max(np.diff(rates)) <= 1e-11  # it never increases, but for the last bit of float32


def test_scenario_2_a_run_goes_on_with_a_lower_peak(tmp_path, near):
    lr = rw.Cosine(1.0, 0.0, 10)
    first = ro.inject(optax.adam, learning_rate=lr)
    *_, (_, state) = changes(first, first.init(jnp.zeros(())), 5)
    lower = rw.extend(lr, 0.1 * lr, 5, "switch")
    optimizer = ro.inject(optax.adam, learning_rate=lower)
    again = restored(state, optimizer, tmp_path / "state")
    for expected, found in zip(jax.tree.leaves(state.inner_state), jax.tree.leaves(again.inner_state), strict=True):
        assert expected.tobytes() == np.asarray(found).tobytes()
    used = [float(ro.rate(after)) for _, after in changes(optimizer, again, 5)]
    assert near((0.1 * lr).values(5, 10)) == used
    scaled = ro.scaled(restored(state, first, tmp_path / "again"), 0.1)  # the same without another plan
    assert near(used) == [float(ro.rate(after)) for _, after in changes(first, scaled, 5)]


def test_scenario_5_the_decay_begins_when_it_is_asked_for(tmp_path, applied):
    stable = rw.Constant(1.0).warmup(100)
    run = ro.inject(optax.sgd, learning_rate=stable)
    update = lambda _, state: run.update(jnp.ones(()), state)[1]  # noqa: E731
    state = jax.jit(lambda state: jax.lax.fori_loop(0, 5000, update, state))(run.init(jnp.zeros(())))
    state = restored(state, run, tmp_path / "state")
    rates = applied(ro.inject(optax.sgd, learning_rate=stable.decay_from(5000, 1000)), 1100, state)
    assert pytest.approx([1.0, 1 - 0.5**0.5, 0.0, 0.0], rel=1e-6, abs=1e-7) == [rates[i] for i in (0, 500, 1000, 1099)]
    branch = applied(ro.inject(optax.sgd, learning_rate=stable.decay_from(5000, 2000)), 1100, state)
    assert pytest.approx(1 - 0.5**0.5, rel=1e-6) == branch[1000]
    assert applied(run, 1100, state) == [1.0] * 1100  # the run itself knows of neither
