"""Momentum, beta_1 and weight decay follow their schedules; measured against recursions written by hand."""

import json
import math

import keras
import numpy as np
import pytest

import ratewise as rw
import ratewise.keras as rk
from ratewise.errors import AdapterError, ScheduleError

N = 12
LR = rw.Linear(0.04, 1.0, 3, ends="(]") >> rw.Cosine(1.0, 0.1, 9)
MOMENTUM = rw.Linear(0.0, 0.9, 4) >> rw.Linear(0.9, 0.5, 8)
BETA = rw.one_cycle_momentum(0.95, 0.85).over(N)
DECAY = rw.Linear(0.5, 0.0, N)


def by_hand_sgd(rates, momenta, decays=None, nesterov=False):
    """v = momentum v - rate g, w = w + v (Nesterov: w + momentum v - rate g), in float64; weight i has g = 1 at i."""
    result = []
    for i in range(len(rates)):
        v = w = 0.0
        for t, (rate, momentum) in enumerate(zip(rates, momenta, strict=True)):
            g = float(t == i)
            w -= w * rate * (decays[t] if decays else 0.0)
            v = momentum * v - rate * g
            w += momentum * v - rate * g if nesterov else v
        result.append(w)
    return result


def by_hand_adam(rates, betas, decays=None, beta_2=0.999, epsilon=1e-7):
    """Kingma and Ba, 2014, just before section 2.1, with decoupled decay, in float64."""
    result = []
    for i in range(len(rates)):
        m = v = w = 0.0
        for t, (rate, beta) in enumerate(zip(rates, betas, strict=True)):
            g = float(t == i)
            w -= w * rate * (decays[t] if decays else 0.0)
            m = beta * m + (1 - beta) * g
            v = beta_2 * v + (1 - beta_2) * g * g
            size = rate * math.sqrt(1 - beta_2 ** (t + 1)) / (1 - beta ** (t + 1))
            w -= size * m / (math.sqrt(v) + epsilon)
        result.append(w)
    return result


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_couples_momentum_to_the_rate(probe, train, near, mode, nesterov):
    optimizer = rk.SGD(LR, momentum=MOMENTUM, nesterov=nesterov)
    weights, _ = train(probe(N, optimizer, **mode), N)
    expected = by_hand_sgd(LR.values(0, N), MOMENTUM.values(0, N), nesterov=nesterov)
    assert near(expected) == weights


def test_adam_couples_beta_1_to_the_rate(probe, train, near, mode):
    weights, _ = train(probe(N, rk.Adam(LR, beta_1=BETA), **mode), N)
    assert near(by_hand_adam(LR.values(0, N), BETA.values(0, N)), rel=2e-5) == weights


def test_adamw_follows_beta_1_and_weight_decay_together(probe, train, near, mode):
    weights, _ = train(probe(N, rk.AdamW(LR, beta_1=BETA, weight_decay=DECAY), **mode), N)
    expected = by_hand_adam(LR.values(0, N), BETA.values(0, N), DECAY.values(0, N))
    assert near(expected, rel=2e-5) == weights


def test_sgd_follows_weight_decay_alone(probe, train, near, mode):
    weights, _ = train(probe(N, rk.SGD(LR, weight_decay=DECAY), **mode), N)
    assert near(by_hand_sgd(LR.values(0, N), [0.0] * N, DECAY.values(0, N))) == weights


def test_momentum_counts_updates_under_accumulation(probe, train, near, mode):
    optimizer = rk.SGD(LR, momentum=MOMENTUM, gradient_accumulation_steps=2)
    weights, _ = train(probe(N, optimizer, **mode), N)
    updates = by_hand_sgd(LR.values(0, N // 2), MOMENTUM.values(0, N // 2))
    assert near([w / 2 for w in updates for _ in range(2)]) == weights


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.function is TensorFlow's")
@pytest.mark.parametrize("jit", [False, True])
def test_a_custom_tf_function_loop_builds_and_follows(near, jit):
    import tensorflow as tf

    optimizer = rk.SGD(LR, momentum=MOMENTUM)
    weight = tf.Variable(tf.zeros(N))

    @tf.function(jit_compile=jit)
    def step(i):
        with tf.GradientTape() as tape:
            loss = weight[i]
        optimizer.apply(tape.gradient([loss], [weight]), (v for v in [weight]))

    optimizer.build([weight])
    for i in range(N):
        step(tf.constant(i))
    assert near(by_hand_sgd(LR.values(0, N), MOMENTUM.values(0, N))) == weight.numpy().tolist()


def test_an_optimizer_that_apply_builds_follows_from_the_first_update(near):
    optimizer, weight = rk.SGD(0.5, momentum=rw.Linear(0.0, 0.8, 2)), keras.Variable([0.0, 0.0])
    optimizer.apply([keras.ops.convert_to_tensor([1.0, 0.0])], [weight])
    optimizer.apply([keras.ops.convert_to_tensor([0.0, 1.0])], [weight])
    assert near([-0.7, -0.5]) == keras.ops.convert_to_numpy(weight).tolist()


@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (rk.SGD(LR, momentum=MOMENTUM), keras.optimizers.SGD(rk.Schedule(LR), momentum=0.9)),
        (rk.Adam(LR, beta_1=BETA), keras.optimizers.Adam(rk.Schedule(LR))),
        (rk.AdamW(0.1, beta_1=BETA, weight_decay=DECAY), keras.optimizers.AdamW(0.1)),
    ],
    ids=["SGD", "Adam", "AdamW"],
)
def test_the_variables_are_those_of_keras(ours, plain):
    weight = keras.Variable([0.0, 0.0])
    ours.build([weight])
    plain.build([weight])
    assert [v.name for v in plain.variables] == [v.name for v in ours.variables]


@pytest.mark.parametrize(
    "optimizer",
    [
        rk.SGD(LR, momentum=MOMENTUM, nesterov=True, clipnorm=1.0),
        rk.SGD(0.1, momentum=0.5),
        rk.Adam(LR, beta_1=BETA, beta_2=0.98, gradient_accumulation_steps=2),
        rk.AdamW(LR, beta_1=BETA, weight_decay=DECAY, name="mine"),
    ],
    ids=["SGD", "SGD-numbers", "Adam", "AdamW"],
)
def test_its_configuration_is_plain_json(optimizer):
    text = json.dumps(keras.optimizers.serialize(optimizer))
    again = keras.optimizers.deserialize(json.loads(text))
    assert type(optimizer) is type(again)
    assert dict(optimizer.schedules) == dict(again.schedules)
    assert text == json.dumps(keras.optimizers.serialize(again))


def test_between_updates_the_attributes_hold_numbers(probe, train):
    optimizer = rk.Adam(LR, beta_1=BETA, weight_decay=DECAY)
    train(probe(2, optimizer), 2)
    assert (optimizer.beta_1, optimizer.weight_decay) == (0.95, 0.5)


def test_a_failing_update_leaves_numbers_behind():
    optimizer = rk.SGD(LR, momentum=MOMENTUM)
    optimizer.build([keras.Variable(0.0)])
    with pytest.raises(ValueError, match=r"Unknown variable"):
        optimizer.apply([keras.ops.ones(())], [keras.Variable(0.0)])
    assert type(optimizer.momentum) is float


def test_updates_that_mixed_precision_skips_do_not_count(probe, near, weights):
    inner = rk.SGD(rw.Linear(1.0, 0.0, 4), momentum=rw.Linear(0.5, 0.9, 4))
    model = probe(2, keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0))
    rows = np.array([[2.0, 0.0], [np.inf, 0.0], [0.0, 1.0]], "float32")
    model.fit(rows, np.zeros((3, 1)), batch_size=1, shuffle=False, verbose=0)
    assert int(inner.iterations) == 2
    assert near([-2.0 - 2.0 * 0.6, -0.75]) == weights(model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rk.SGD(0.1, momentum=rw.Linear(0.5, 1.5, 10)), r"momentum must be between 0 and 1 .* \.clip\(0, 1\)"),
        (lambda: rk.Adam(0.1, beta_1=rw.Linear(0.9, 1.0, 10)), "beta_1 must be between 0 and 0.999999"),
        (lambda: rk.AdamW(0.1, weight_decay=rw.Linear(0.1, -0.1, 10)), "weight_decay must be at least 0"),
        (lambda: rk.SGD(0.1, momentum=rw.one_cycle_momentum()), "its length is not known yet"),
        (lambda: rk.SGD(rw.Cosine(0.1, 0.0)), "its length is not known yet"),
    ],
)
def test_impossible_schedules_are_refused(make, message):
    with pytest.raises(ScheduleError, match=message):
        make()


def test_a_hyperparameter_that_cannot_be_driven_is_refused():
    with pytest.raises(AdapterError, match=r"Adam cannot follow 'beta_2'\. It drives beta_1, weight_decay\."):
        rk.Adam(0.1).follow({"beta_2": DECAY})


@pytest.mark.parametrize("steps", [None, 2])
def test_a_schedule_that_counts_other_updates_is_refused(steps):
    rate = rk.Schedule(rw.Linear(1.0, 0.0, 5), accumulation=1 if steps else 2)
    with pytest.raises(AdapterError, match=rf"gradient_accumulation_steps \({steps}\) differ"):
        rk.SGD(rate, gradient_accumulation_steps=steps)


@pytest.mark.parametrize("name", ["beta_2", "epsilon"])
def test_other_hyperparameters_cannot_be_schedules(name):
    with pytest.raises(AdapterError, match=f"Adam cannot follow '{name}'. It drives beta_1, weight_decay"):
        rk.Adam(0.1, **{name: rw.Linear(0.9, 0.99, 5)})
