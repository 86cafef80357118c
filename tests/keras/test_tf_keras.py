"""Code in the style that TensorFlow users write works unchanged."""

import json
import subprocess
import sys

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("tf.keras is Keras on TensorFlow", allow_module_level=True)

import tensorflow as tf

import ratewise as rw
import ratewise.keras as rk

LR = rw.Cosine(1.0, 0.0).warmup(2).over(8)
RATES = LR.values(0, 8)


def pulses(n=8):
    """Batch i gives weight i a gradient of 1."""
    return tf.data.Dataset.from_tensor_slices((tf.eye(n), tf.zeros((n, 1)))).batch(1).prefetch(1)


class Summing(tf.keras.Model):
    """A subclassed model with a train step of its own."""

    def __init__(self, n=8):
        super().__init__()
        self.dense = tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, _ = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


def applied(model):
    return [-float(w) for w in model.get_weights()[0][:, 0]]


def close(expected):
    return pytest.approx(list(expected), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("follow", [False, True])
def test_a_subclassed_model_with_its_own_train_step(follow):
    model = Summing()
    model.compile(optimizer=tf.keras.optimizers.SGD(learning_rate=0.1 if follow else rk.Schedule(LR)))
    model.fit(pulses(), verbose=0, shuffle=False, callbacks=[rk.Follow(LR)] if follow else [])
    assert applied(model) == close(RATES)


def test_a_loop_of_ones_own_with_gradient_tape_and_tf_function():
    optimizer = tf.keras.optimizers.SGD(rk.Schedule(LR))
    dense = tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    dense.build((None, 8))

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(dense(x))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, dense.trainable_variables), dense.trainable_variables, strict=True)
        )

    for x, _ in pulses():
        step(x)
    assert [-float(w) for w in dense.kernel[:, 0]] == close(RATES)
    assert step.experimental_get_tracing_count() == 1


def test_a_rule_in_a_loop_of_ones_own():
    lr = LR * rw.Plateau(0.5, patience=1)
    state = lr.init()
    optimizer = tf.keras.optimizers.SGD(rk.Schedule(lr, state=state))
    weight = tf.Variable(0.0)
    optimizer.build([weight])
    found = []
    for t, loss in enumerate([1.0, 1.0, 1.0, 0.5]):
        weight.assign(0.0)
        optimizer.apply_gradients([(tf.constant(1.0), weight)])
        found.append(-float(weight))
        state = lr.observe(state, loss, t + 1)
        optimizer.learning_rate = rk.Schedule(lr, state=state)
    assert found == close([RATES[0], RATES[1], RATES[2] / 2, RATES[3] / 4])


def test_a_saved_model_and_its_weights_go_on(tmp_path):
    def make():
        model = tf.keras.Sequential(
            [tf.keras.Input((8,)), tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
        )
        model.compile(tf.keras.optimizers.SGD(rk.Schedule(LR)), loss=total)
        return model

    model = make()
    model.fit(pulses().take(4), verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    loaded.fit(pulses().skip(4), verbose=0, shuffle=False)
    assert applied(loaded) == close(RATES)
    fresh = make()
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(tmp_path / "model.weights.h5")
    fresh.fit(pulses().skip(4), verbose=0, shuffle=False)
    assert applied(fresh) == close(RATES)


@keras.saving.register_keras_serializable(package="tests")
def total(y_true, y_pred):
    return tf.reduce_sum(y_pred, axis=-1)


def test_a_tf_checkpoint_goes_on(tmp_path):
    def make():
        return tf.Variable(tf.zeros(8)), tf.keras.optimizers.SGD(rk.Schedule(LR))

    def run(weight, optimizer, updates):
        for t in updates:
            optimizer.apply_gradients([(tf.one_hot(t, 8), weight)])

    weight, optimizer = make()
    run(weight, optimizer, range(4))
    path = tf.train.Checkpoint(weight=weight, optimizer=optimizer).save(str(tmp_path / "checkpoint"))
    weight, optimizer = make()
    optimizer.build([weight])
    tf.train.Checkpoint(weight=weight, optimizer=optimizer).restore(path)
    run(weight, optimizer, range(4, 8))
    assert [-float(w) for w in weight] == close(RATES)


SETTINGS = [
    {"clipnorm": 10.0},
    {"global_clipnorm": 10.0},
    {"clipvalue": 10.0},
    {"use_ema": True, "ema_momentum": 0.5},
    {"gradient_accumulation_steps": 2},
    {"loss_scale_factor": 1.0},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: next(iter(setting)))
@pytest.mark.parametrize("follow", [False, True])
def test_settings_of_the_optimizer_change_no_rate(setting, follow):
    k = setting.get("gradient_accumulation_steps", 1)
    optimizer = tf.keras.optimizers.SGD(0.1 if follow else rk.Schedule(LR, accumulation=k), **setting)
    model = Summing()
    model.compile(optimizer=optimizer)
    seen = Weights()
    model.fit(pulses(), verbose=0, shuffle=False, callbacks=[rk.Follow(LR), seen] if follow else [seen])
    assert seen.applied == close([RATES[i // k] / k for i in range(8)])


class Weights(tf.keras.callbacks.Callback):
    """Reads the weights before Keras replaces them by their average at the end of the fit."""

    def on_epoch_end(self, epoch, logs=None):
        self.applied = applied(self.model)


def test_mixed_precision_skips_an_overflow_and_the_rate_does_not_move():
    inner = tf.keras.optimizers.SGD(rk.Schedule(LR))
    optimizer = tf.keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=4.0)
    weight, found = tf.Variable(0.0), []
    optimizer.build([weight])
    for gradient in (1.0, float("inf"), 1.0, float("nan"), 1.0):
        weight.assign(0.0)
        scale = float(optimizer.scale_loss(tf.constant(1.0)))
        optimizer.apply_gradients([(tf.constant(gradient * scale), weight)])
        found.append(-float(weight))
    assert found == close([RATES[0], 0.0, RATES[1], 0.0, RATES[2]])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_policy_mixed_float16_follows():
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = tf.keras.Sequential(
            [tf.keras.Input((8,)), tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
        )
        model.compile(tf.keras.optimizers.SGD(0.1), loss=total, run_eagerly=True)
        assert type(model.optimizer).__name__ == "LossScaleOptimizer"
        model.optimizer.initial_scale = 1.0
        history = model.fit(pulses(), verbose=0, shuffle=False, callbacks=[rk.Follow(LR)]).history
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    made = int(model.optimizer.inner_optimizer.iterations)  # the first updates overflow until the scale has come down
    assert 0 < made <= 8
    assert history["learning_rate"] == [LR(made - 1)]
    assert [w for w in applied(model) if w] == pytest.approx([r for r in RATES[:made] if r], rel=1e-3)


DISTRIBUTED = """
import json, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import ratewise as rw, ratewise.keras as rk

LR = rw.Linear(1.0, 0.0, 8) * rw.Plateau(0.5, patience=1)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rows = []
with strategy.scope():
    dense = tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = tf.keras.Sequential([tf.keras.Input((8,)), dense])
    model.compile(tf.keras.optimizers.SGD(0.1), loss=lambda y, p: tf.reduce_sum(p, -1))
data = tf.data.Dataset.from_tensor_slices((tf.repeat(tf.eye(8), 2, 0), tf.zeros((16, 1)))).batch(2)
follow = rk.Follow(LR, momentum=0.0, monitor="metric", log=lambda t, values: rows.append(values["learning_rate"]))

class Fed(tf.keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["metric"] = 1.0

model.fit(data.take(4), verbose=0, shuffle=False, callbacks=[Fed(), follow])
model.fit(data.skip(4), verbose=0, shuffle=False, callbacks=[Fed(), follow])
print(json.dumps([(-model.get_weights()[0][:, 0]).tolist(), rows, strategy.num_replicas_in_sync]))
"""


@pytest.mark.slow
def test_a_mirrored_strategy_applies_every_rate_on_each_replica():
    result = subprocess.run([sys.executable, "-c", DISTRIBUTED], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    weights, rows, replicas = json.loads(result.stdout.splitlines()[-1])
    expected = rw.Linear(1.0, 0.0, 8).values(0, 8)
    assert replicas == 2
    assert rows == expected
    assert weights == close(expected)
