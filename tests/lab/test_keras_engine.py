"""The Keras engine: the same runs as ordinary Keras, and as PyTorch from the same initial values."""

import math
from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras")

import tensorflow as tf  # noqa: E402
import torch  # noqa: E402

from ratewise import Constant, Plateau  # noqa: E402
from ratewise.cli.main import run  # noqa: E402
from ratewise.core.horizon import Horizon  # noqa: E402
from ratewise.errors import TaskError  # noqa: E402
from ratewise.keras.engine import Engine  # noqa: E402
from ratewise.lab.catalogue import strategy  # noqa: E402
from ratewise.lab.compare import compare  # noqa: E402
from ratewise.lab.loading import load  # noqa: E402
from ratewise.lab.plan import Budget  # noqa: E402
from ratewise.lab.runs import Member  # noqa: E402
from ratewise.lab.strategy import Strategy  # noqa: E402
from ratewise.outcome import marks  # noqa: E402
from ratewise.torch.engine import Engine as TorchEngine  # noqa: E402

STEPS = 30

pytestmark = pytest.mark.filterwarnings(  # Keras 3.15 hands numpy 2 tensors of an older protocol
    "ignore:__array__ implementation:DeprecationWarning"
)


@pytest.fixture(scope="module")
def task():
    return load("wine")


@pytest.fixture(scope="module")
def engine(task):
    return Engine(task)


def trained(engine, settled, seed=0, steps=STEPS, phase="tune"):
    (outcome,) = engine.cohort([Member(settled, seed, steps, phase)])
    return outcome


@pytest.mark.parametrize(
    "name", ["one_cycle", "adam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("adagrad", "rmsprop"))]
)
def test_a_run_is_what_an_ordinary_keras_loop_gives(task, engine, name):
    settled = strategy(name).with_peak(0.05, STEPS)
    found = trained(engine, settled, seed=3, phase="test")

    keras.utils.set_random_seed(3)
    model = task.keras_model()
    optimizer = settled.keras(STEPS)
    error = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    x, y = (tf.constant(part) for part in task.splits["train"])
    splits = {name: tuple(tf.constant(part) for part in task.splits[name]) for name in ("valid", "test")}
    losses, held = [], {"valid": [], "test": []}
    for t, batch in enumerate(task.order(3, STEPS)):
        with tf.GradientTape() as tape:
            value = error(tf.gather(y, batch), model(tf.gather(x, batch), training=True))
        losses.append(float(value))
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
        if t + 1 in marks(STEPS):
            for split, (inputs, targets) in splits.items():
                held[split].append(float(error(targets, model(inputs))))
    assert found.losses == pytest.approx(losses, rel=2e-5)
    assert {split: pytest.approx(values, rel=2e-5) for split, values in held.items()} == found.held
    assert found.loss == found.held["test"][-1]
    inputs, targets = task.splits["test"]
    assert found.metric == pytest.approx((np.argmax(model(inputs), -1) == targets).mean())
    assert (found.trained, found.updates) == ("keras", STEPS)


def test_a_run_does_not_depend_on_the_runs_before_it(engine):
    settled = strategy("one_cycle").with_peak(0.1, STEPS)
    first = trained(engine, settled)
    others = [strategy("one_cycle").with_peak(0.4, STEPS), strategy("adam").with_peak(0.4, STEPS)]
    assert engine.cohort([Member(s, 0, STEPS, "tune") for s in (*others, settled)])[-1] == first


def test_a_gradient_is_clipped_as_in_torch_and_both_engines_agree_from_the_same_initial_values(task):
    """Without momentum under a changing rate: Keras multiplies the rate into the velocity, torch into the step."""
    clipped = replace(task, clip_norm=0.05)
    engine = Engine(clipped)
    torch.manual_seed(0)
    values = [p.detach().numpy() for p in task.model().parameters()]
    engine._initial[0] = [v.T if v.ndim == 2 else v for v in values]
    settled = strategy("fixed").with_peak(0.5, STEPS)
    ours, theirs = trained(engine, settled), trained(TorchEngine(clipped), settled)
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-3)
    assert ours.held["valid"] == pytest.approx(theirs.held["valid"], rel=1e-3)
    free = trained(TorchEngine(task), settled)
    assert free.losses[-1] < 0.9 * theirs.losses[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fixed", "adam", "adamw", "adagrad", "rmsprop"])
def test_both_engines_agree_from_the_same_initial_values(task, name):
    settled = strategy(name).with_peak(0.01, STEPS)
    engine = Engine(task)
    torch.manual_seed(0)
    values = [p.detach().numpy() for p in task.model().parameters()]
    engine._initial[0] = [v.T if v.ndim == 2 else v for v in values]
    ours, theirs = trained(engine, settled), trained(TorchEngine(task), settled)
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-2)


class Active(keras.layers.Layer):
    """It adds to the loss what depends on the batch."""

    def call(self, x):
        self.add_loss(0.05 * keras.ops.mean(keras.ops.square(x)))
        return x


def penalized():
    """Wine's model with a penalty on weights and one on activities."""
    return keras.Sequential(
        [
            keras.Input((13,)),
            keras.layers.Dense(8, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.1)),
            Active(),
            keras.layers.Dense(3),
        ]
    )


def test_what_a_model_adds_to_the_loss_is_trained_on_and_not_held_against_it(task):
    settled = strategy("fixed").with_peak(0.1, STEPS)
    found = trained(Engine(replace(task, keras_model=penalized)), settled, seed=3)
    keras.utils.set_random_seed(3)
    model, (x, y) = penalized(), task.splits["train"]
    model.compile(settled.keras(STEPS), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = [float(model.train_on_batch(x[batch], y[batch])) for batch in task.order(3, STEPS)]
    assert found.losses[0] == pytest.approx(losses[0], rel=1e-4)
    x, y = task.splits["valid"]
    error = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert found.loss == pytest.approx(float(error(y, model(x))), rel=1e-4)
    assert found.seconds > 0


def test_a_rule_sees_the_validation_loss_at_each_mark(engine):
    free = Strategy("free", "sgd", Constant(4.0))
    cut = replace(free, lr=Constant(4.0) * Plateau(1e-6, patience=1, min_scale=0.0))
    ours, theirs = (trained(engine, s).held["valid"] for s in (cut, free))
    worse = next(i for i in range(1, 9) if theirs[i] >= min(theirs[:i]))
    assert ours[: worse + 1] == theirs[: worse + 1]
    assert ours[worse + 1 :] == pytest.approx([ours[worse]] * (9 - worse), rel=1e-3)
    assert theirs[worse + 1] != pytest.approx(theirs[worse], rel=1e-3)


def test_divergence_is_noticed(engine):
    found = trained(engine, strategy("fixed").with_peak(1e9, STEPS))
    assert (found.loss, found.metric) == (None, None)
    assert not np.isfinite(found.losses[-1])
    assert np.isfinite(found.losses[:-1]).all()
    assert len(found.held["valid"]) == sum(mark < len(found.losses) for mark in marks(STEPS))


def test_batches_from_a_loader_are_refused(task):
    x, y = task.splits["train"]
    data = {**task.splits, "train": [(x[:30], y[:30]), (x[30:60], y[30:60]), (x[60:], y[60:])]}
    with pytest.raises(TaskError, match=r"engine 'keras': it takes training batches from arrays.*or use engine"):
        Engine(replace(task, data=data, batch_size=30))


def test_a_rate_is_sought_for_a_schedule_and_leaves_no_trace_in_later_runs(engine):
    settled = strategy("cosine").with_peak(0.1, STEPS)
    before = trained(engine, settled)
    found = engine.find(strategy("linear").over(150), Horizon(150, dataset_size=90, batch_size=16), 16, seeds=1)
    assert found.suggestion is None or found.low <= found.suggestion <= found.high  # one seed of few examples
    assert found.valid_for["horizon"] == 150
    assert found.valid_for["schedule"].startswith("Linear(")
    assert trained(engine, settled) == before
    scored = dict(zip(found.curve.rates, found.curve.scores, strict=True))
    rate = min(scored, key=lambda rate: abs(math.log(rate / 0.1)))
    losses = [trained(engine, strategy("linear").with_peak(r, 50), steps=50).loss for r in (rate, 3e-4)]
    assert losses[0] == pytest.approx(scored[rate][0], rel=0.3)  # the same runs, but for the order of the batches
    assert losses[1] > 5 * losses[0]


def test_find_prints_code_for_keras(capsys):
    assert run(["find", "wine", "--engine", "keras", "--optimizer", "adam", "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    suggestion = out.split("suggestion ")[1].split()[0]
    assert 'optimizer = ratewise.keras.build("adam", lr, horizon=150)' in out
    assert f"lr = Linear({suggestion}, 0.0, 150)" in out


@pytest.mark.slow
def test_a_comparison_runs_on_keras_in_two_processes(tmp_path):
    budget = Budget(steps=40, rates=3, tuning_seeds=2, fresh_seeds=7)
    result = compare("wine", ["cosine", "one_cycle", "adam"], budget, tmp_path / "runs", engine="keras", workers=2)
    assert result["budget"]["engine"] == "keras"
    assert "ratewise.keras.build" in result["code"]
    assert all(row["test"]["mean"] > 0.7 for row in result["strategies"])


@pytest.mark.slow
def test_both_engines_find_the_same_clear_losers_on_noisy_digits(tmp_path):
    """A constant rate keeps learning the noise, in either framework."""
    budget = Budget(rates=3, tuning_seeds=2, fresh_seeds=8)
    names = ["linear", "cosine", "fixed", "warmup"]
    for engine in ("population", "keras"):
        result = compare("digits", names, budget, tmp_path / engine, engine=engine, workers=2)
        losses = {row["name"]: row["test"]["loss"]["mean"] for row in result["strategies"]}
        assert min(losses["fixed"], losses["warmup"]) > 1.05 * max(losses["linear"], losses["cosine"])
