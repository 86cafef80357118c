"""``find_lr`` with the models that people have: flax' two kinds and Equinox, with dropout and running statistics."""

import jax
import numpy as np
import optax
import pytest

from ratewise.errors import FinderError
from ratewise.optax import find_lr
from ratewise.optax.find import OptaxTrainable


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled():
    """XLA optimizes little here, as these programs take longer to compile than to run."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(240, 6)).astype("float32")
TARGETS = (INPUTS @ RNG.normal(size=6)).astype("float32")
BATCHES = [{"x": INPUTS[i : i + 12], "y": TARGETS[i : i + 12]} for i in range(0, 240, 12)]


def squares(outputs, batch):
    return ((outputs[:, 0] - batch["y"]) ** 2).mean()


def check(loss, params, **settings):
    """Candidates train at once, and the higher their rate is, up to 0.1, the better."""
    trainable = OptaxTrainable(loss, params, BATCHES, optax.sgd, **settings)
    trainable.prepare(30)
    scores = trainable.scores([[rate] * 30 for rate in (1e-5, 0.001, 0.01, 0.1)], seed=0)
    assert trainable.valid_for["engine"] == "all at once"
    assert trainable.valid_for["examples_per_update"] == 12
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.5 * scores[0]


def test_linen_with_dropout_and_batch_norm() -> None:
    linen = pytest.importorskip("flax.linen")

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x, train):
            x = linen.BatchNorm(use_running_average=not train, momentum=0.8)(x)
            return linen.Dense(1)(linen.Dropout(0.1, deterministic=not train)(x))

    model = Model()
    variables = model.init(jax.random.key(0), INPUTS, train=False)

    def loss(params, statistics, batch, key):
        outputs, changed = model.apply(
            {"params": params, "batch_stats": statistics}, batch["x"], train=True, rngs={"dropout": key},
            mutable=["batch_stats"],
        )  # fmt: skip
        return squares(outputs, batch), changed["batch_stats"]

    def evaluate(params, statistics, batch):
        return squares(model.apply({"params": params, "batch_stats": statistics}, batch["x"], train=False), batch)

    params, statistics = variables["params"], variables["batch_stats"]
    check(loss, params, state=statistics, key=jax.random.key(1), evaluate=evaluate)


def test_nnx_with_dropout_and_batch_norm() -> None:
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(6, momentum=0.8, rngs=rngs)
            self.dropout = nnx.Dropout(0.1, rngs=rngs)
            self.out = nnx.Linear(6, 1, rngs=rngs)

        def __call__(self, x):
            return self.out(self.dropout(self.norm(x)))

    model = Model(nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    before = [np.asarray(x) for x in jax.tree.leaves(params)]

    def loss(params, rest, batch):
        model = nnx.merge(graph, params, rest, copy=True)
        return squares(model(batch["x"]), batch), nnx.split(model, nnx.Param, ...)[2]

    def evaluate(params, rest, batch):
        model = nnx.merge(graph, params, rest, copy=True)
        model.eval()
        return squares(model(batch["x"]), batch)

    check(loss, params, state=rest, evaluate=evaluate)
    after = nnx.split(model, nnx.Param, ...)[1]
    assert all(np.array_equal(a, b) for a, b in zip(before, jax.tree.leaves(after), strict=True))


def test_equinox_with_its_arrays_taken_out() -> None:
    eqx = pytest.importorskip("equinox")

    model = eqx.nn.MLP(6, 1, 8, 0, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def loss(params, batch):
        return squares(jax.vmap(eqx.combine(params, static))(batch["x"]), batch)

    check(loss, params)
    with pytest.raises(FinderError, match=r"activation is a .*, not an array\. Give the arrays alone, of Equinox"):
        find_lr(loss, model, BATCHES)
