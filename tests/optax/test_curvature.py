"""``ratewise.optax.ceiling``: against updates that become unstable, and against dense Hessians of small networks."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from ratewise import linear_decay
from ratewise.errors import FinderError
from ratewise.finder.curvature import gain
from ratewise.optax import ceiling, find_lr, inject
from ratewise.optax.find import OptaxTrainable


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled():
    """XLA optimizes little here, as these programs take longer to compile than to run."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


SHARP = jnp.array([[3.0, 1.0, 0.2], [1.0, 2.0, 0.1], [0.2, 0.1, 5.0]])
BOWL = {"x": jnp.array([1e-3, 2e-3]), "y": jnp.array([3e-3])}


def bowl(params, _):
    z = jnp.concatenate([params["x"], params["y"]])
    return z @ SHARP @ z / 2


def grouped(rate):
    return optax.multi_transform(
        {"fast": optax.sgd(rate, momentum=0.9), "slow": optax.sgd(0.1 * rate, momentum=0.5)}, {"x": "fast", "y": "slow"}
    )


LINEAR = {
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
    "decay apart": lambda rate: optax.chain(optax.trace(0.9), optax.add_decayed_weights(3.0), optax.scale(-rate)),
    "decay of some": lambda rate: optax.chain(
        optax.masked(optax.add_decayed_weights(2.0), {"x": True, "y": False}), optax.sgd(rate, momentum=0.9)
    ),
    "groups": grouped,
}


def growth(make, rates, updates=200):
    """By what updates multiply a deviation over their second half, at each rate."""

    def run(rate):
        optimizer = make(rate)

        def update(carry, _):
            params, state = carry
            changes, state = optimizer.update(jax.grad(bowl)(params, None), state, params)
            params = optax.apply_updates(params, changes)
            return (params, state), jnp.linalg.norm(ravel_pytree(params)[0])

        _, sizes = jax.lax.scan(update, (BOWL, optimizer.init(BOWL)), length=updates)
        return sizes[-1] / sizes[updates // 2]

    return jax.jit(jax.vmap(run))(jnp.array(rates)).tolist()


@pytest.mark.parametrize("make", LINEAR.values(), ids=LINEAR)
def test_updates_become_unstable_within_a_percent_of_the_ceiling(make):
    found = ceiling(bowl, BOWL, [0.0], make)
    assert found.converged
    assert not found.preconditioned
    below, above = growth(make, [0.99 * found.rate, 1.01 * found.rate])
    assert below < 1 < above


# -- networks ----------------------------------------------------------------------------------------------------

_rng = np.random.default_rng(0)
BATCHES = [
    (jnp.asarray(_rng.normal(size=(8, 3)), jnp.float32), jnp.asarray(_rng.normal(size=8), jnp.float32))
    for _ in range(4)
]
PARAMS = {name: jnp.asarray(_rng.normal(size=shape), jnp.float32) for name, shape in {"a": (3, 5), "b": (5,)}.items()}


def loss(params, batch):
    return ((jnp.tanh(batch[0] @ params["a"]) @ params["b"] - batch[1]) ** 2).mean()


def dense():
    """The Hessian of the mean loss, and the gradient of each batch."""
    flat, tree = ravel_pytree(PARAMS)
    hessian = jax.hessian(lambda z: sum(loss(tree(z), batch) for batch in BATCHES) / len(BATCHES))(flat)
    gradients = [jax.grad(lambda z, batch=batch: loss(tree(z), batch))(flat) for batch in BATCHES]
    return np.asarray(hessian, float), np.asarray(gradients, float), np.asarray(flat, float)


def top(matrix):
    return np.linalg.eigvalsh(matrix)[-1]


SETTLING = {
    "nadam": (partial(optax.nadam, b1=0.5, b2=0.99, eps=0.1), gain(0.5, dampening=0.5, nesterov=True), 0.1),
    "rmsprop": (partial(optax.rmsprop, decay=0.99, momentum=0.9, eps=0.0), gain(0.9), 0.0),
}


@pytest.mark.parametrize(("make", "gained", "eps"), SETTLING.values(), ids=SETTLING)
def test_second_moments_are_taken_as_settled(make, gained, eps):
    hessian, gradients, _ = dense()
    root = 1 / np.sqrt(np.sqrt((gradients**2).mean(0)) + eps)
    found = ceiling(loss, PARAMS, BATCHES, make)
    assert found.preconditioned
    assert found.rate == pytest.approx(2 / (gained * top(hessian * np.outer(root, root))), rel=0.015)


def test_decay_apart_adds_to_what_is_divided():
    hessian, gradients, _ = dense()
    root = np.sqrt(0.1 / 1.9 / np.sqrt((gradients**2).mean(0)))
    found = ceiling(loss, PARAMS, BATCHES, partial(optax.adamw, weight_decay=5.0))
    assert found.rate == pytest.approx(2 / top(hessian * np.outer(root, root) + 5.0 * np.eye(len(root))), rel=0.015)


@pytest.mark.slow
def test_an_optimizer_in_mid_training_has_the_ceiling_of_a_new_one():
    optimizer = inject(optax.adam, learning_rate=linear_decay(0.01), horizon=100)
    state = optimizer.init(PARAMS)
    _, state = jax.jit(optimizer.update)(jax.grad(loss)(PARAMS, BATCHES[0]), state, PARAMS)
    later = ceiling(loss, PARAMS, BATCHES, optimizer, opt_state=state)
    assert later.rate == pytest.approx(ceiling(loss, PARAMS, BATCHES, optax.adam).rate, rel=0.01)


def test_dropout_and_a_model_state_are_the_same_in_all_evaluations():
    def noisy(params, state, batch, key):
        keep = jax.random.bernoulli(key, 0.5, (5,))
        out = (jnp.tanh(batch[0] @ params["a"]) * keep) @ params["b"]
        return ((out - batch[1]) ** 2).mean() * state, state + 1.0

    one, again, other = (
        ceiling(noisy, PARAMS, BATCHES, optax.sgd, state=jnp.array(1.0), key=jax.random.key(0), seed=seed)
        for seed in (1, 1, 2)
    )
    assert one == again
    assert one.converged
    assert one.rate != other.rate


@pytest.mark.slow
def test_half_precision_gives_about_the_same():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (PARAMS, BATCHES))
    single = ceiling(loss, PARAMS, BATCHES, optax.sgd)
    assert ceiling(loss, *half, optax.sgd).rate == pytest.approx(single.rate, rel=0.1)


def test_where_nothing_curves_upwards_no_rate_is_too_high():
    found = ceiling(lambda params, _: -(params**2).sum(), jnp.ones(3), [0.0], optax.sgd)
    assert (found.rate, found.sharpness) == (math.inf, 0.0)
    assert ceiling(lambda params, _: params.sum(), jnp.ones(3), [0.0], optax.adam).rate == math.inf


def test_find_lr_reports_the_ceiling():
    options = {"method": "range", "steps": 20}
    finding = find_lr(loss, PARAMS, BATCHES, optax.adam, **options)
    assert finding.ceiling == pytest.approx(ceiling(loss, PARAMS, BATCHES, optax.adam).rate, rel=1e-3)
    assert find_lr(loss, PARAMS, BATCHES, optax.lion, **options).ceiling is None


def test_on_a_cpu_the_ceiling_of_a_large_model_is_not_sought(monkeypatch):
    trainable = OptaxTrainable(bowl, BOWL, [0.0, 0.0], optax.sgd)
    assert trainable.ceiling(0) > 0
    monkeypatch.setattr("ratewise.optax.find.LARGEST", 2)
    assert (trainable.ceiling(0) is None) == (jax.default_backend() == "cpu")


@jax.custom_vjp
def once(x):
    return x**2


once.defvjp(lambda x: (x**2, x), lambda x, g: (jnp.asarray(np.asarray(2 * x * g)),))


@pytest.mark.parametrize(
    ("match", "changed"),
    [
        ("the optimizer with ScaleByLionState weighs curvature is not known", {"optimizer": optax.lion}),
        ("with ScaleByRssState weighs curvature is not known", {"optimizer": optax.adagrad}),
        ("takes their signs", {"optimizer": optax.sign_sgd}),
        ("goes up the loss", {"optimizer": lambda rate: optax.sgd(-rate)}),
        ("gradients are not finite", {"loss": lambda params, _: (params["a"] ** 2).sum() * jnp.nan}),
        ("differentiating twice raised", {"loss": lambda params, _: once(params["a"]).sum()}),
        ("must return one number", {"loss": lambda params, _: params["a"]}),
        ("batches is empty", {"batches": []}),
        ("batches is an iterator", {"batches": iter(BATCHES)}),
        ("complex parameters is not computed", {
            "params": jnp.ones(2, jnp.complex64), "loss": lambda params, _: (jnp.abs(params) ** 2).sum()}),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_in_words(match, changed):
    given = {"loss": loss, "params": PARAMS, "batches": BATCHES, "optimizer": optax.sgd, **changed}
    with pytest.raises(FinderError, match=match) as caught:
        ceiling(**given)
    assert "find_lr" not in str(caught.value)
