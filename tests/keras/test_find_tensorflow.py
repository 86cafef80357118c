"""``find_lr`` and what only TensorFlow has: datasets that shuffle, train steps in its style, checkpoints."""

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("datasets, train steps and checkpoints of TensorFlow", allow_module_level=True)

import tensorflow as tf

import ratewise as rw
import ratewise.keras as rk
from ratewise.errors import FinderError
from ratewise.keras.batches import feed


def numbers(**shuffle):
    """Two epochs of 0 to 39 in batches of 4, through a cache and two stages that keep a state."""
    rows = tf.data.Dataset.range(40).cache()
    return rows.shuffle(40, **shuffle).map(lambda i: tf.cast([i, i], tf.float32)).batch(4).prefetch(2)


def order(batches, count=10):
    return [int(row[0]) for batch, _ in zip(batches, range(count), strict=False) for row in batch]


def test_a_dataset_that_shuffles_goes_on_as_if_nobody_had_looked():
    plain, looked_at = numbers(seed=3), numbers(seed=3)
    assert order(plain) == order(looked_at)
    data = feed(looked_at)
    held_out, kept = data.keep_aside(100), data.epochs(0)
    assert sorted([*order(held_out, 1), *order(kept, 9)]) == list(range(40))
    assert [order(plain), order(plain)] == [order(looked_at), order(looked_at)]


def test_an_order_without_a_seed_is_the_same_for_every_search():
    dataset = numbers()
    assert order(feed(dataset).every()) == order(feed(dataset).every())


class Own(keras.Model):
    """Takes its batches apart in two, as fit allows, and has a generator and a native variable of its own."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.rng, self.seen = tf.random.Generator.from_seed(1), tf.Variable(0)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y = data
        self.seen.assign_add(1)
        with tf.GradientTape() as tape:
            noise = self.rng.normal(tf.shape(x), stddev=0.01)
            loss = tf.reduce_mean((self(x + noise, training=True) - y) ** 2)
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def pairs():
    x = tf.random.stateless_normal((80, 3), [0, 1])
    return tf.data.Dataset.from_tensor_slices((x, tf.reduce_sum(x, 1, keepdims=True))).batch(8)


def test_a_train_step_of_the_users_own_runs_as_in_fit(tmp_path):
    model = Own()
    model.compile(keras.optimizers.Adam(rk.Schedule(rw.Linear(0.1, 0.0, 40))), "mse")
    model.fit(pairs(), verbose=0, shuffle=False)
    checkpoint = tf.train.Checkpoint(optimizer=model.optimizer)
    names = [name for name, _ in tf.train.list_variables(checkpoint.save(tmp_path / "before"))]
    draws = model.rng.state.numpy().tolist()
    finding = rk.find_lr(model, pairs(), steps=5, seeds=1)
    assert finding.valid_for["horizon"] == 30
    assert finding.ceiling is None
    assert (model.seen.numpy(), model.rng.state.numpy().tolist()) == (10, draws)
    assert [name for name, _ in tf.train.list_variables(checkpoint.save(tmp_path / "after"))] == names


def test_a_train_step_that_leaves_the_optimizer_out_is_refused():
    class Adversaries(Own):
        def train_step(self, data):
            x, _ = data
            return {"loss": tf.reduce_mean(self(x) ** 2)}

    model = Adversaries()
    model.compile("sgd", "mse")
    with pytest.raises(FinderError, match=r"train_step has not used model.optimizer"):
        rk.find_lr(model, pairs())


def test_a_train_step_without_a_loss_is_refused():
    class Silent(Own):
        def train_step(self, data):
            super().train_step(data)
            return {"d_loss": 1.0}

    model = Silent()
    model.compile("sgd", "mse")
    with pytest.raises(FinderError, match=r"must return a dict with \"loss\", it returned 'd_loss'"):
        rk.find_lr(model, pairs())


def test_a_dataset_without_end_is_no_held_out_data(monkeypatch):
    monkeypatch.setattr("ratewise.keras.find._MOST", 100)
    model = Own()
    model.compile("sgd", "mse")
    with pytest.raises(FinderError, match="more than 100 batches, or no end"):
        rk.find_lr(model, pairs(), held_out=tf.data.Dataset.range(4).batch(2).repeat())
