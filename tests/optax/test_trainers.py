"""The loops that people write: flax (linen and nnx), equinox, a bare scan; and the rates in a log."""

import csv
import json

import jax
import jax.numpy as jnp
import optax
import pytest

import ratewise as rw
import ratewise.optax as ro
from ratewise.logs import CSVLog

LR = rw.warmup_cosine(0.1, 3, steps=10)
SUM = jnp.sum  # a loss whose gradient is 1


def optimizer(lr=LR):
    return optax.chain(optax.clip(10.0), ro.inject(optax.sgd, learning_rate=lr))


def test_a_train_state_of_flax_follows(near):
    linen, train_state = pytest.importorskip("flax.linen"), pytest.importorskip("flax.training.train_state")
    serialization = pytest.importorskip("flax.serialization")
    model = linen.Dense(1, kernel_init=linen.initializers.zeros)
    parameters = model.init(jax.random.key(0), jnp.ones((1, 2)))

    @jax.jit
    def step(state):
        gradients = jax.grad(lambda p: SUM(state.apply_fn(p, jnp.ones((1, 2)))))(state.params)
        return state.apply_gradients(grads=gradients)

    def weight(state):
        return float(state.params["params"]["kernel"][0, 0])

    fresh = train_state.TrainState.create(apply_fn=model.apply, params=parameters, tx=optimizer())
    state, used = fresh, []
    for t in range(12):
        before = weight(state)
        state = step(state)
        used.append(before - weight(state))
        assert near([LR(t)]) == [float(ro.rate(state))]
        if t == 5:  # killed and resumed
            state = serialization.from_bytes(fresh, serialization.to_bytes(state))
            assert int(ro.position(state)) == 6
    assert pytest.approx(LR.values(0, 12), rel=1e-5, abs=1e-7) == used


def test_an_optimizer_of_flax_nnx_follows_with_rules_and_scale(near):
    nnx = pytest.importorskip("flax.nnx")
    inner = ro.inject(optax.sgd, learning_rate=LR * rw.Plateau(0.5, patience=1))
    model = nnx.Linear(2, 1, kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0))
    follower = nnx.Optimizer(model, optax.chain(optax.clip(10.0), inner), wrt=nnx.Param)

    @nnx.jit
    def step(model, follower):
        follower.update(model, nnx.grad(lambda model: SUM(model(jnp.ones((1, 2)))))(model))

    used = []
    for t in range(10):
        before = float(model.kernel[0, 0])
        step(model, follower)
        used.append(before - float(model.kernel[0, 0]))
        if t in (4, 5):
            follower.opt_state = inner.observe(follower.opt_state, 1.0)
        if t == 7:
            follower.opt_state = ro.scaled(follower.opt_state, 4.0)
    factors = [1.0] * 6 + [0.5] * 2 + [2.0] * 2
    expected = [LR(t) * factor for t, factor in enumerate(factors)]
    assert pytest.approx(expected, rel=1e-5, abs=1e-7) == used
    assert near([expected[-1]]) == [float(ro.rate(follower.opt_state))]
    assert int(ro.position(follower)) == 10


def test_a_loop_of_equinox_follows(near):
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.Linear(2, 1, use_bias=False, key=jax.random.key(0))
    follower = optimizer()
    state = follower.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model, state):
        gradients = eqx.filter_grad(lambda model: SUM(model(jnp.ones(2))))(model)
        updates, state = follower.update(gradients, state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), state, updates.weight[0, 0]

    used, shown = [], []
    for _ in range(12):
        model, state, change = step(model, state)
        used.append(-float(change))
        shown.append(float(ro.rate(state)))
    assert near(LR.values(0, 12)) == used == shown


def test_a_log_holds_the_rate_of_every_update(tmp_path, near):
    groups = {"fast": ro.inject(optax.sgd, learning_rate=10 * LR), "slow": ro.inject(optax.sgd, learning_rate=LR)}
    follower = optax.multi_transform(groups, {"head": "fast", "body": "slow"})
    parameters = {"head": jnp.zeros(()), "body": jnp.zeros(())}
    state = follower.init(parameters)
    update = jax.jit(lambda state: follower.update(jax.tree.map(jnp.ones_like, parameters), state))
    used = []
    with CSVLog(tmp_path / "lr.csv") as log:
        for _ in range(10):
            changes, state = update(state)
            log(int(ro.position(state, "fast")) - 1, ro.rates(state))
            used.append([-float(changes["head"]), -float(changes["body"])])
    rows = list(csv.reader((tmp_path / "lr.csv").read_text().splitlines()))
    assert rows[0] == ["update", "fast", "slow"]
    assert [row[0] for row in rows[1:]] == [str(t) for t in range(10)]
    assert [[float(x) for x in row[1:]] for row in rows[1:]] == used
    for t, (fast, slow) in enumerate(used):
        assert near([10 * LR(t), LR(t)]) == [fast, slow]


def test_a_scan_gives_the_rates_of_all_its_updates(near):
    follower = optimizer()

    def step(state, _):
        _, state = follower.update(jnp.ones(()), state)
        return state, ro.rates(state)

    _, rates = jax.jit(lambda state: jax.lax.scan(step, state, None, 10))(follower.init(jnp.zeros(())))
    assert near(LR.values(0, 10)) == rates["learning_rate"].tolist()


def test_scenario_6_two_groups_keep_their_ratio():
    shape = rw.one_cycle(1.0).over(1000)
    groups = {name: ro.inject(optax.sgd, learning_rate=peak * shape) for name, peak in (("head", 1e-3), ("body", 1e-5))}
    follower = optax.multi_transform(groups, {"head": "head", "body": "body"})
    gradients = {"head": jnp.ones(()), "body": jnp.ones(())}

    def step(state, _):
        changes, state = follower.update(gradients, state)
        return state, (changes["head"], changes["body"])

    _, (head, body) = jax.jit(lambda state: jax.lax.scan(step, state, None, 1000))(follower.init(gradients))
    assert pytest.approx([100.0] * 1000, rel=1e-6) == (head / body).tolist()
    assert pytest.approx([-1e-3 * shape(t) for t in range(1000)], rel=1e-6, abs=1e-10) == head.tolist()


def test_a_plan_kept_beside_the_checkpoint_tells_that_it_changed(near):
    """What docs/frameworks.md shows: a state is numbers, so the plan is compared by who restores it."""
    kept = json.dumps(LR.to_dict())
    wanted = rw.warmup_cosine(0.1, 3, steps=20)
    state = optimizer().init(jnp.zeros(()))
    update = jax.jit(lambda state: optimizer().update(jnp.ones(()), state)[1])
    for _ in range(5):
        state = update(state)
    before = rw.from_dict(json.loads(kept))
    assert before != wanted
    lr = rw.extend(before, wanted, int(ro.position(state)), "replan")
    change, _ = optimizer(lr).update(jnp.ones(()), state)
    assert near([LR(5)]) == [-float(change)]
