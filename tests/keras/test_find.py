"""``find_lr`` on a compiled model: what it answers, what it trains, and that nothing of it stays."""

import math
import random

import keras
import numpy as np
import pytest

import ratewise as rw
import ratewise.keras as rk
from ratewise.errors import FinderError
from ratewise.finder import Lookahead
from ratewise.keras.batches import examples, feed, tensors
from ratewise.keras.curvature import measured
from ratewise.keras.find import KerasTrainable, _held_out

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6)).astype("float32")
Y = (X[:, :3] + 0.2 * RNG.normal(size=(200, 3))).argmax(1)
BRIEF = {"horizon": 30, "steps": 6, "seeds": 1}

everywhere = pytest.mark.every_backend  # the others would only compile for long


def classifier(optimizer, **compile_arguments):
    """Adam's usual company: batch normalization, dropout, a metric; not built."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Dense(16, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **compile_arguments)
    return model


def line(optimizer, x=X, **compile_arguments):
    """One weight for each input, no bias, starting at 0."""
    model = keras.Sequential(
        [keras.Input(x.shape[1:]), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(optimizer, "mse", **compile_arguments)
    return model


def state(model):
    """Everything that a next epoch depends on, as bytes and objects."""
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return (
        [(id(v), v.trainable, np.asarray(keras.ops.convert_to_numpy(v)).tobytes()) for v in variables],
        {name: id(value) for name, value in vars(model).items()},
        {name: id(value) for name, value in vars(model.optimizer).items()},
        random.getstate(),
        repr(np.random.get_state()),
    )


# -- without a trace -------------------------------------------------------------------------------------------


def trained(before, between):
    """Two epochs, something in between, two epochs more; rules, schedule, dropout, batch normalization, shuffling."""
    model = classifier(keras.optimizers.Adam(0.01))
    before(model)
    follow = rk.Follow(rw.Linear(0.02, 0.0, 40) * rw.Plateau(0.5, patience=1), monitor="loss")
    data, fit = (X[:192], Y[:192]), {"epochs": 2, "verbose": 0, "callbacks": [follow]}
    model.fit(*data, **fit)
    between(model)
    after = model.fit(*data, **fit).history
    return after, [values for _, _, values in state(model)[0]]


@everywhere
def test_a_fit_after_it_is_the_same_as_without_it():
    found = []

    def before(model):
        assert not model.built
        found.append(rk.find_lr(model, X, Y, **BRIEF))
        assert model.built
        assert not model.optimizer.built

    def between(model):
        expected = state(model)
        found.append(rk.find_lr(model, X, Y, steps=4, seeds=1))
        assert state(model) == expected

    assert trained(lambda model: None, lambda model: None) == trained(before, between)
    assert [finding.cost["updates"] > 100 for finding in found] == [True, True]
    assert found[1].valid_for["horizon"] == 40 - 12
    assert [finding.valid_for.get("at_update") for finding in found] == [None, 12]


@keras.saving.register_keras_serializable(package="tests")
class Counting(keras.layers.Layer):
    """Raises at one of its calls."""

    calls = 0
    error, at = ValueError("the layer's own words"), -1

    def call(self, x):
        self.calls = self.calls + 1
        if self.calls == self.at:
            raise self.error
        return x


@pytest.mark.parametrize("error", [ValueError("the layer's own words"), KeyboardInterrupt()])
def test_an_exception_or_ctrl_c_leaves_no_trace(error):
    counting = Counting()
    model = keras.Sequential([keras.Input((6,)), counting, keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(rk.Schedule(rw.Linear(0.1, 0.0, 30))), "mse", run_eagerly=True)
    model.fit(X, Y, epochs=1, verbose=0)
    counting.error, counting.at = error, counting.calls + 20
    before = state(model), counting.calls
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else FinderError
    message = None if expected is KeyboardInterrupt else "update 19, at the rate .* raised .*ValueError.*own words"
    with pytest.raises(expected, match=message):
        rk.find_lr(model, X, Y)
    assert (state(model), counting.calls) == before


def test_a_train_step_that_freezes_layers_does_so_for_its_own_time():
    class Freezing(Counting):
        def call(self, x):
            self.trainable = False
            return x

    model = keras.Sequential([keras.Input((6,)), Freezing(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    model.train_on_batch(X, Y)
    model.layers[0].trainable = True
    rk.find_lr(model, X, Y, method="range", steps=20)
    assert model.layers[0].trainable


# -- what is trained -------------------------------------------------------------------------------------------

ONES = np.ones((64, 1), "float32")
RATES = [0.5, 0.25, 0.125]


@keras.saving.register_keras_serializable(package="tests")
def descent(y_true, y_pred):
    """Gradient 1 for each weight of a line over ones."""
    return keras.ops.mean(y_pred, axis=-1)


@pytest.mark.parametrize(
    ("rate", "settings"),
    [
        pytest.param(0.3, {}, marks=everywhere),
        (rk.Schedule(rw.Linear(0.3, 0.0, 9)), {}),
        (keras.optimizers.schedules.CosineDecay(0.3, 9), {}),
        (lambda: 0.3, {}),
        pytest.param(
            rk.Schedule(rw.Linear(0.3, 0.0, 9), accumulation=2), {"gradient_accumulation_steps": 2}, marks=everywhere
        ),
        (0.3, {"gradient_accumulation_steps": 2}),
    ],
    ids=["number", "schedule", "Keras schedule", "function", "schedule, accumulation", "accumulation"],
)
@pytest.mark.parametrize("scaled", [False, True])
def test_each_update_uses_the_rate_that_was_sought(rate, settings, scaled):
    optimizer = keras.optimizers.SGD(rate, **settings)
    outer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
    model = line(outer, ONES, run_eagerly=scaled)
    model.compile(outer, descent, run_eagerly=scaled)
    trainable = KerasTrainable(model, feed(ONES, ONES))
    variables = [id(v) for v in model.optimizer.variables]
    trainable.start(0)
    weights = [0.0]
    for rate_of_update in RATES:
        trainable.step(rate_of_update)
        weights.append(float(model.get_weights()[0][0, 0]))
    trainable.restore()
    assert np.diff(weights).tolist() == [-r for r in RATES]
    assert model.get_weights()[0][0, 0] == 0
    assert [id(v) for v in model.optimizer.variables] == variables
    assert trainable.cost == {"updates": 3, "batches": 3 * (2 if settings else 1), "products": 0}


def test_a_following_momentum_stays_at_its_present_value():
    optimizer = rk.SGD(0.0, momentum=rw.Linear(0.5, 0.0, 4))
    model = line(optimizer, ONES)
    model.compile(optimizer, descent)
    model.fit(ONES, ONES, epochs=1, verbose=0)  # two updates: the momentum is at 0.25
    trainable = KerasTrainable(model, feed(ONES, ONES))
    trainable.start(0)
    for rate in (1.0, 0.0, 0.0):
        trainable.step(rate)
    assert model.get_weights()[0][0, 0] == -(1 + 0.25 + 0.25**2)
    trainable.restore()
    assert optimizer.schedules == {"momentum": rw.Linear(0.5, 0.0, 4)}


@everywhere
def test_the_suggestion_trains():
    model = line(keras.optimizers.SGD(momentum=0.5))
    y = X.sum(1) + RNG.normal(size=200).astype("float32")
    finding = rk.find_lr(model, X, y, schedule=rw.linear_decay(1.0), horizon=70, steps=20)
    assert finding.low <= finding.suggestion <= finding.high < finding.stable
    assert finding.suggestion < finding.ceiling
    assert finding.valid_for["examples_per_update"] == 32
    model.fit(X, y, epochs=10, verbose=0, callbacks=[rk.Follow(rw.linear_decay(finding.suggestion), horizon=70)])
    assert model.evaluate(X, y, verbose=0) < 0.25 * finding.curve.start


def test_a_range_test_through_xla_over_dicts_and_weights(capsys):
    inputs = {name: keras.Input((3,), name=name) for name in "ab"}
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()(list(inputs.values())))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", jit_compile=keras.backend.backend() != "torch")
    x = {"a": X[:, :3], "b": X[:, 3:]}
    given = {"sample_weight": np.full(200, 0.5, "float32"), "method": "range", "high": 100.0}
    finding, again, other = (rk.find_lr(model, x, X.sum(1), seed=seed, **given) for seed in (0, 0, 1))
    assert finding == again != other
    assert finding.suggestion is not None
    assert finding.curve.stopped
    assert set(finding.rules) >= {"valley", "steep"}
    assert capsys.readouterr().out == ""


def test_weights_of_examples_and_classes_reach_the_loss():
    weights = np.where(Y == 1, 3.0, 1.0).astype("float32")
    model = line("sgd")

    def first(**given):
        trainable = KerasTrainable(model, feed(X, Y, **given))
        trainable.start(0)
        loss = trainable.step(0.0)
        trainable.restore()
        return loss

    plain, by_class, by_example = first(), first(class_weight={1: 3.0}), first(sample_weight=weights)
    assert by_class == by_example != plain


def test_the_score_is_what_evaluate_says_and_leaves_metrics_alone():
    model = line("sgd", metrics=["mae"])
    model.fit(X, Y, verbose=0)
    expected = model.evaluate(X[:50], Y[:50], verbose=0)[0]
    metrics = model.get_metrics_result()
    trainable = KerasTrainable(model, feed(X, Y), feed(X[:50], Y[:50]))
    trainable.prepare(10)
    trainable.start(0)
    assert trainable.score() == pytest.approx(expected, rel=1e-6)
    trainable.restore()
    assert model.get_metrics_result() == metrics


# -- curvature -------------------------------------------------------------------------------------------------

SIDES = np.array([[2.0, 0.0], [0.0, 1.0]], "float32")  # of a line over it, the mean squared error curves by 4 and 1


@everywhere
@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (keras.optimizers.SGD, 2 / 4),
        (lambda: keras.optimizers.SGD(momentum=0.9), 3.8 / 4),
        (lambda: keras.optimizers.Adam(epsilon=0.0), 38 / 2),  # gradients 4 and 1 from the targets below
        (lambda: keras.optimizers.RMSprop(epsilon=0.0), 2 / 2),
    ],
)
def test_the_ceiling_of_a_quadratic(optimizer, expected):
    model = line(optimizer(), SIDES)
    batch = tuple(map(keras.ops.convert_to_tensor, (SIDES, np.array([[1.0], [0.5]], "float32"))))
    gradients = np.array([2.0, 0.5])  # of the mean of (2 w - 1)^2 and (w - 0.5)^2 at 0
    if "SGD" in type(model.optimizer).__name__:
        assert measured(model, [batch]).rate == pytest.approx(expected, rel=1e-4)
    else:
        preconditioned = max(np.array([4.0, 1.0]) / gradients)
        gain = {"Adam": 1 / 19, "RMSprop": 1.0}[type(model.optimizer).__name__]
        assert measured(model, [batch]).rate == pytest.approx(2 / (gain * preconditioned), rel=1e-3)


@everywhere
def test_there_is_no_ceiling_where_a_backend_differentiates_wrongly():
    model = classifier("sgd")
    batch = tuple(map(keras.ops.convert_to_tensor, (X, Y)))
    model(batch[0])
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(FinderError, match="second derivatives of normalizations"):
            measured(model, [batch])
        model.layers[1].trainable = False
    assert 0 < measured(model, [batch]).rate < math.inf


# -- batches ---------------------------------------------------------------------------------------------------


class Rows(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
        self.rng, self.asked = np.random.default_rng(3), []

    def __len__(self):
        return 10

    def __getitem__(self, i):
        self.asked.append(i)
        return X[i * 20 : i * 20 + 20] + self.rng.normal(), Y[i * 20 : i * 20 + 20]


def halves():
    return ((X[i * 20 : i * 20 + 20], Y[i * 20 : i * 20 + 20]) for i in range(10))


@pytest.mark.parametrize(
    "make", [Rows, lambda: halves, lambda: Lookahead(halves())], ids=["PyDataset", "function", "Lookahead"]
)
def test_batches_of_other_kinds(make):
    data = make()
    model = line("sgd")
    finding = rk.find_lr(model, data, **BRIEF)
    assert finding.valid_for["examples_per_update"] == 20
    if isinstance(data, Rows):
        assert data.asked == []
        assert data.rng.normal() == np.random.default_rng(3).normal()
    if isinstance(data, Lookahead):
        assert len(list(data)) == 10


def test_a_tenth_is_kept_aside_and_epochs_are_shuffled_by_the_seed():
    for data in (feed(np.arange(400), batch_size=4), feed(lambda: iter(np.arange(400).reshape(100, 4)))):
        held_out = np.concatenate(data.keep_aside(1000))
        assert len(held_out) == 40
        epochs = [data.epochs(seed) for seed in (0, 0, 1)]
        one, same, other = (np.concatenate([next(epoch) for _ in range(90)]) for epoch in epochs)
        assert sorted([*one, *held_out]) == list(range(400))
        assert one.tolist() == same.tolist() != other.tolist()
        again = np.concatenate([next(epochs[0]) for _ in range(90)])
        assert sorted(again) == sorted(one)
        assert again.tolist() != one.tolist()
        assert len(next(epochs[0])) == 4


def test_batches_of_a_stream_are_kept_aside_from_all_over():
    held_out = feed([(np.full(4, i), np.zeros(4)) for i in range(30)]).keep_aside(100)
    assert [int(x[0]) for x, _ in held_out] == [5, 15, 25]


def test_how_many_batches_there_are_is_known_once_the_end_was_seen():
    for held_out in (None, feed(halves)):
        trainable = KerasTrainable(line("sgd"), feed(halves), held_out)
        assert trainable.epoch is None
        trainable.prepare(20)
        trainable.start(0)
        for _ in range(11):
            trainable.step(0.1)
        trainable.restore()
        assert trainable.epoch == 10


@pytest.mark.parametrize(
    "held_out",
    [
        [X[:40], Y[:40]],
        (X[:40], Y[:40]),
        [(X[:20], Y[:20]), (X[20:40], Y[20:40])],
        lambda: iter([(X[:40], Y[:40])]),
    ],
    ids=["list of arrays", "tuple", "list of batches", "function"],
)
def test_held_out_batches_come_in_each_form(held_out):
    inputs, targets = (np.concatenate(parts) for parts in zip(*_held_out(held_out, 16).every(), strict=True))
    assert np.array_equal(inputs, X[:40])
    assert np.array_equal(targets, Y[:40])


def test_examples_per_update_are_those_of_most_updates():
    batches = [(X[:8], Y[:8]), *((X[i : i + 20], Y[i : i + 20]) for i in range(0, 100, 20))]
    trainable = KerasTrainable(line("sgd"), feed(batches))
    trainable.start(0)
    for _ in range(4):
        trainable.step(0.1)
    trainable.restore()
    assert examples(batches[0]) == 8
    assert trainable.valid_for["examples_per_update"] == 20


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (lambda: keras.optimizers.SGD(momentum=0.9), {"optimizer": "SGD", "weight_decay": [0.0], "momentum": 0.9}),
        (
            lambda: keras.optimizers.AdamW(weight_decay=0.1, beta_1=0.8),
            {"optimizer": "AdamW", "weight_decay": [0.1], "betas": [0.8, 0.999]},
        ),
    ],
)
def test_what_it_is_valid_for_is_said(optimizer, expected):
    found = KerasTrainable(line(optimizer()), feed(X, Y)).valid_for
    assert found == {**expected, "ratios": {"learning_rate": 1.0}, "engine": "one by one"}


@everywhere
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="other backends cannot write into a tensor")
def test_a_model_that_writes_into_its_input_does_not_reach_the_batches():
    batch = np.zeros(3, "float32")
    tensors(batch).add_(1.0)
    assert batch.tolist() == [0.0] * 3


def test_of_long_data_only_what_is_needed_is_kept_and_held_out():
    asked = []
    stream = feed(lambda: (asked.append(i) or np.full(4, i) for i in range(10_000)))
    assert len(stream.keep_aside(50)) == 6
    assert len(asked) == 56
    assert len(feed(np.arange(100_000), batch_size=10).keep_aside(50)) == 6


# -- bad input -------------------------------------------------------------------------------------------------


def frozen():
    model = line("sgd")
    model.trainable = False
    return model


def unbuildable():
    class Odd(keras.Model):
        def call(self, x):
            raise TypeError("cannot be called")

    model = Odd()
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (lambda: keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)]), (X, Y), "is not compiled"),
        (lambda: "model", (X, Y), "must be a keras.Model, got str"),
        (frozen, (X, Y), "every weight of the model is frozen"),
        pytest.param(
            unbuildable,
            (X, Y),
            "to call it on the first batch raised TypeError: .*cannot be called. Call it",
            marks=everywhere,
        ),
        (lambda: line("sgd"), (X[:0], Y[:0]), "x is empty. Give at least two batches"),
        (lambda: line("sgd"), (X[:20], Y[:20]), "x has one batch only, as batches hold 32 examples"),
        (lambda: line("sgd"), (X, Y[:-1]), "the same number of examples, got 199, 200"),
        (lambda: line("sgd"), (lambda: iter(()),), "x is empty"),
        (lambda: line("sgd"), (lambda: iter([(X, Y)]),), "x has one batch only"),
        (lambda: line("sgd"), (halves(),), "x is an iterator"),
        (lambda: line("sgd"), (halves, Y), "y belongs to arrays"),
        (lambda: line("sgd"), (3.0, Y), "x must be arrays, a dataset"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(model, arguments, message):
    with pytest.raises(FinderError, match=message):
        rk.find_lr(model(), *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 1.0, "high": 0.1}, "low must be above 0 and below high"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"class_weight": {0: 1}, "sample_weight": Y}, "exclude each other"),
        ({"held_out": (X[:0], Y[:0])}, "held_out is empty"),
        ({"held_out": (X, Y, Y, Y)}, "held_out must be"),
        ({"method": "prob"}, "method must be"),
        ({"schedule": 0.0}, "schedule must be a ratewise schedule"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(arguments, message):
    model = line("sgd")
    before = state(model)
    with pytest.raises(FinderError, match=message):
        rk.find_lr(model, X, Y, **arguments)
    assert state(model) == before


def test_a_loss_that_is_not_a_number_declines():
    model = line("sgd", run_eagerly=True)
    finding = rk.find_lr(model, X * np.float32(math.nan), Y, steps=5, horizon=20)
    assert finding.suggestion is None
    assert "before any training" in finding.reason
