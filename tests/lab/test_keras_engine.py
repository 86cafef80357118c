"""The Keras engine: the same runs as ordinary Keras, and as PyTorch from the same initial values."""

import math

import numpy as np
import pytest

keras = pytest.importorskip("keras")

import tensorflow as tf  # noqa: E402
import torch  # noqa: E402

from ratewise.cli.main import run  # noqa: E402
from ratewise.core.horizon import Horizon  # noqa: E402
from ratewise.keras.engine import Engine  # noqa: E402
from ratewise.lab.catalogue import strategy  # noqa: E402
from ratewise.lab.compare import compare  # noqa: E402
from ratewise.lab.loading import load  # noqa: E402
from ratewise.lab.plan import Budget  # noqa: E402
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
    return Engine(task.splits, task.keras_model, task.loss, task.metric)


@pytest.mark.parametrize("name", ["cosine", "one_cycle", "adam", "adamw", "adagrad", "rmsprop"])
def test_a_run_is_what_an_ordinary_keras_loop_gives(task, engine, name):
    settled = strategy(name).with_peak(0.05, STEPS)
    losses, loss, _ = engine.run(settled, 3, task.order(3, STEPS), "valid")

    keras.utils.set_random_seed(3)
    model = task.keras_model()
    optimizer = settled.keras(STEPS)
    error = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    x, y = (tf.constant(part) for part in task.splits["train"])
    expected = []
    for batch in task.order(3, STEPS):
        with tf.GradientTape() as tape:
            value = error(tf.gather(y, batch), model(tf.gather(x, batch), training=True))
        expected.append(float(value))
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
    assert losses == pytest.approx(expected, rel=2e-5)
    x, y = (tf.constant(part) for part in task.splits["valid"])
    assert loss == pytest.approx(float(error(y, model(x))), rel=2e-5)


def test_a_run_does_not_depend_on_the_runs_before_it(task, engine):
    settled = strategy("one_cycle").with_peak(0.1, STEPS)
    first = engine.run(settled, 0, task.order(0, STEPS), "valid")
    engine.run(strategy("one_cycle").with_peak(0.4, STEPS), 1, task.order(1, STEPS), "valid")
    engine.run(strategy("adam").with_peak(0.4, STEPS), 1, task.order(1, STEPS), "valid")
    assert engine.run(settled, 0, task.order(0, STEPS), "valid") == first


@pytest.mark.parametrize("name", ["fixed", "adam", "adamw", "adagrad", "rmsprop"])
def test_both_engines_agree_from_the_same_initial_values(task, name):
    """Without momentum under a changing rate: Keras multiplies the rate into the velocity, torch into the step."""
    settled = strategy(name).with_peak(0.01, STEPS)
    engine = Engine(task.splits, task.keras_model, task.loss, task.metric)
    torch.manual_seed(0)
    values = [p.detach().numpy() for p in task.model().parameters()]
    engine._initial[0] = [v.T if v.ndim == 2 else v for v in values]
    ours, _, _ = engine.run(settled, 0, task.order(0, STEPS), "valid")
    theirs, _, _ = TorchEngine(task.splits, task.model, task.loss, task.metric).run(
        settled, 0, task.order(0, STEPS), "valid"
    )
    assert ours == pytest.approx(theirs, rel=1e-2)


def test_divergence_is_noticed(task, engine):
    losses, loss, metric = engine.run(strategy("fixed").with_peak(1e9, STEPS), 0, task.order(0, STEPS), "valid")
    assert (loss, metric) == (None, None)
    assert not np.isfinite(losses[-1])
    assert np.isfinite(losses[:-1]).all()


def test_a_rate_is_sought_for_a_schedule_and_leaves_no_trace_in_later_runs(task, engine):
    settled = strategy("cosine").with_peak(0.1, STEPS)
    before = engine.run(settled, 0, task.order(0, STEPS), "valid")
    found = engine.find(strategy("linear").over(150), Horizon(150, dataset_size=90, batch_size=16), 16, seeds=1)
    assert found.suggestion is None or found.low <= found.suggestion <= found.high  # one seed of few examples
    assert found.valid_for["horizon"] == 150
    assert found.valid_for["schedule"].startswith("Linear(")
    assert engine.run(settled, 0, task.order(0, STEPS), "valid") == before
    scored = dict(zip(found.curve.rates, found.curve.scores, strict=True))
    rate = min(scored, key=lambda rate: abs(math.log(rate / 0.1)))
    losses = [engine.run(strategy("linear").with_peak(r, 50), 0, task.order(0, 50), "valid")[1] for r in (rate, 3e-4)]
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
    verdicts = {}
    for engine in ("torch", "keras"):
        result = compare("digits", names, budget, tmp_path / engine, engine=engine, workers=2)
        verdicts[engine] = {row["name"]: row["verdict"] for row in result["strategies"]}
        assert result["reference"] in ("linear", "cosine")
    for name in ("fixed", "warmup"):
        assert verdicts["torch"][name] == verdicts["keras"][name] == "worse"
