"""Warm-up of 10 and a cosine to 100 in all, peak 1.0: the same rates in PyTorch, in Keras on each backend, in optax.

"100 updates, 10 of them warm-up" is 100 in one library and 110 in another. Here it is 100 in all, on every update
that was looked at, within 1e-6 of the formula in float64.
"""

import math

import pytest
import torch

import ratewise as rw
from ratewise.torch import Scheduler

SPEC = rw.cosine(1.0).warmup(10).over(100)
LOOKED_AT = (0, 1, 9, 10, 11, 55, 98, 99, 100, 199)


def by_hand(t):
    if t < 10:
        return (t + 1) / 10
    return (1 + math.cos(math.pi * (min(t, 100) - 10) / 90)) / 2


def close(rates):
    """Whether 200 rates are those of the formula, at the updates looked at and everywhere else."""
    for t in (*LOOKED_AT, *range(200)):
        assert rates[t] == pytest.approx(by_hand(t), rel=1e-6, abs=1e-9), t
    assert rates[99] > 0.0
    assert set(rates[100:]) == {0.0}
    return True


def test_the_specification_itself():
    assert SPEC.steps == 100
    assert close(SPEC.values(0, 200))


@pytest.mark.filterwarnings("ignore:.*the schedule ends after 100 updates")
@pytest.mark.parametrize("tensor", [False, True])
def test_torch(weight, applied, tensor):
    rate = torch.tensor(0.5, dtype=torch.float64) if tensor else 0.5
    optimizer = torch.optim.SGD([weight()], lr=rate)
    Scheduler(optimizer, SPEC)
    address = rate.data_ptr() if tensor else None
    assert close(applied(optimizer, 200))
    if tensor:
        assert optimizer.param_groups[0]["lr"] is rate
        assert rate.data_ptr() == address


@pytest.fixture
def keras_rates():
    """Measures the rates of 200 updates on the backend in use; tests/keras runs it on the other backends."""
    keras = pytest.importorskip("keras")
    import numpy as np

    def measured(rate):
        layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        model = keras.Sequential([keras.Input((200,)), layer])
        model.compile(keras.optimizers.SGD(rate), loss=lambda y, out: keras.ops.sum(out, axis=-1))
        rows = np.eye(200, dtype="float32")  # batch i has gradient 1 in weight i alone
        model.fit(rows, rows[:, :1], batch_size=1, shuffle=False, verbose=0)
        return [-float(w) for w in layer.get_weights()[0][:, 0]]

    return measured


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15 under numpy 2
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_keras(keras_rates):
    from ratewise.keras import Schedule

    assert close(keras_rates(Schedule(SPEC)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_today_keras_ends_at_110(keras_rates):
    import keras

    rates = keras_rates(keras.optimizers.schedules.CosineDecay(0.0, 100, warmup_target=1.0, warmup_steps=10))
    assert rates[100] > 0.001
    assert rates[109] > 0.0
    assert max(rates[110:]) < 1e-6


def optax_rates(transform, calls=200):
    """The rate of each call of a jitted update with gradient 1: what it moved the weight by."""
    import jax
    import optax

    @jax.jit
    def update(w, state):
        moved, state = transform.update(jax.numpy.ones_like(w), state, w)
        return optax.apply_updates(w, moved), state

    state, used = transform.init(jax.numpy.zeros(())), []
    for _ in range(calls):
        w, state = update(jax.numpy.zeros(()), state)
        used.append(-float(w))
    return used


def test_optax():
    optax = pytest.importorskip("optax")
    from ratewise.optax import inject, schedule

    assert close(optax_rates(optax.sgd(schedule(SPEC))))
    assert close(optax_rates(inject(optax.sgd, learning_rate=SPEC)))


def test_optax_with_four_batches_to_an_update():
    optax = pytest.importorskip("optax")
    from ratewise.optax import inject, schedule

    for transform in (optax.sgd(schedule(SPEC)), inject(optax.sgd, learning_rate=SPEC)):
        used = optax_rates(optax.MultiSteps(transform, 4), 800)
        assert close(used[3::4])
        assert set(used) - set(used[3::4]) <= {0.0}


def test_five_peaks_in_optax_are_one_trace():
    optax = pytest.importorskip("optax")
    import jax

    from ratewise.optax import inject, scaled

    transform, traces = inject(optax.sgd, learning_rate=SPEC), []

    @jax.jit
    def update(w, state):
        traces.append(1)
        moved, state = transform.update(jax.numpy.ones_like(w), state, w)
        return optax.apply_updates(w, moved), state

    for peak in (1.0, 0.3, 0.1, 0.03, 0.01):
        state = scaled(transform.init(jax.numpy.zeros(())), peak)
        for t in range(20):
            w, state = update(jax.numpy.zeros(()), state)
            assert -float(w) == pytest.approx(peak * by_hand(t), rel=1e-6)
    assert len(traces) == 1
