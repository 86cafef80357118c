"""``build`` gives what torch's optimizers of the same name do."""

import os

import keras
import pytest

import ratewise as rw
import ratewise.keras as rk
from ratewise.errors import AdapterError, ScheduleError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif("RATEWISE_INNER" in os.environ, reason="no backend has a part in it")
T = 20
LR = rw.Cosine(0.05, 0.0).warmup(4).over(T)
START = [1.0, -0.3, 0.01, 2.0]
CURVATURE = [1.0, 3.0, 50.0, 0.1]
CLASSES = {"sgd": "SGD", "adagrad": "Adagrad", "rmsprop": "RMSprop", "adam": "Adam", "adamw": "AdamW"}


def keras_path(optimizer):
    weight = keras.Variable(START)
    for _ in range(T):
        optimizer.apply([weight * keras.ops.convert_to_tensor(CURVATURE)], [weight])
    return keras.ops.convert_to_numpy(weight).tolist()


def torch_path(name, lr, **settings):
    weight = torch.tensor(START, requires_grad=True)
    optimizer = getattr(torch.optim, CLASSES[name])([weight], lr=lr(0), **settings)
    for t in range(T):
        optimizer.param_groups[0]["lr"] = lr(t)
        weight.grad = weight.detach() * torch.tensor(CURVATURE)
        optimizer.step()
    return weight.tolist()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sgd", {}),
        ("sgd", {"weight_decay": 0.1}),
        ("adagrad", {}),
        ("adagrad", {"initial_accumulator_value": 0.1, "eps": 1e-3}),
        ("rmsprop", {}),
        ("rmsprop", {"alpha": 0.9, "centered": True}),
        ("adam", {}),
        ("adam", {"betas": (0.8, 0.99), "amsgrad": True}),
        ("adamw", {}),
        ("adamw", {"weight_decay": 0.3, "betas": (0.8, 0.99)}),
    ],
)
def test_a_schedule_takes_the_same_path_as_in_torch(name, settings):
    # Keras computes 1 - beta_2**t in float32, hence abs
    rel = 5e-3 if settings.get("eps") == 1e-3 else 2e-5  # where eps counts, it is inside the root in Keras
    mine = keras_path(rk.build(name, LR, horizon=T, **settings))
    assert pytest.approx(torch_path(name, LR, **settings), rel=rel, abs=1e-5) == mine


@pytest.mark.parametrize(
    ("name", "settings", "torchs"),
    [
        ("sgd", {"momentum": 0.9}, {"momentum": 0.9}),
        ("sgd", {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "nesterov": True}),
        ("rmsprop", {"momentum": 0.5}, {"momentum": 0.5}),
        ("adam", {"momentum": 0.7, "beta2": 0.9}, {"betas": (0.7, 0.9)}),
    ],
)
def test_momentum_takes_the_same_path_as_in_torch_while_the_rate_is_constant(name, settings, torchs):
    mine = keras_path(rk.build(name, 0.01, horizon=T, **settings))
    assert pytest.approx(torch_path(name, rw.Constant(0.01), **torchs), rel=2e-5, abs=2e-6) == mine


def test_a_momentum_schedule_takes_our_class():
    optimizer = rk.build("sgd", rw.one_cycle(0.1), momentum=rw.one_cycle_momentum(), horizon=100)
    assert isinstance(optimizer, rk.SGD)
    assert rw.one_cycle_momentum().over(100) == optimizer.schedules["momentum"]


def test_numbers_take_kerass_own_class():
    optimizer = rk.build("adamw", 1, momentum=0.5, horizon=None)
    assert type(optimizer).__module__.partition(".")[0] == "keras"
    assert (
        float(optimizer.learning_rate),
        optimizer.beta_1,
        optimizer.weight_decay,
        optimizer.epsilon,
    ) == (1.0, 0.5, 0.01, 1e-8)


def test_a_weight_decay_schedule_is_settled_by_the_horizon():
    optimizer = rk.build("adamw", rw.Cosine(0.1, 0.0), weight_decay=rw.Linear(0.1, 0.0), horizon=100)
    assert {"weight_decay": rw.Linear(0.1, 0.0, 100)} == dict(optimizer.schedules)


def test_accumulation_reaches_the_schedule():
    optimizer = rk.build("sgd", rw.Linear(1.0, 0.0), horizon=4, gradient_accumulation_steps=2)
    optimizer.build([keras.Variable(0.0)])
    for _ in range(3):
        optimizer.apply([keras.ops.ones(())])
    assert float(optimizer.learning_rate) == 0.75


def test_kerass_own_names_are_taken_as_they_are():
    optimizer = rk.build("rmsprop", 0.1, horizon=None, rho=0.5, epsilon=1e-3, clipnorm=1.0)
    assert (optimizer.rho, optimizer.epsilon, optimizer.clipnorm) == (0.5, 1e-3, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("adamm", 0.1), "unknown optimizer 'adamm'. Did you mean 'adam'"),
        ((None, 0.1), "unknown optimizer None"),
        (("adagrad", 0.1, {"momentum": 0.5}), "Adagrad cannot have a momentum. Leave it out"),
        (("rmsprop", 0.1, {"momentum": rw.Constant(0.5)}), "RMSprop cannot have a momentum schedule. Give a number"),
        (("adam", 0.1, {"weight_decay": 0.1}), r"added to the gradient in torch.*regularizers\.L2\("),
        (("sgd", 0.1, {"weight_decay": 0.1, "momentum": 0.9}), "weight_decay of 'sgd' is added to the gradient"),
        (("sgd", 0.1, {"nestorov": True}), "sgd has no setting 'nestorov'. Did you mean 'nesterov'"),
        (("rmsprop", 0.1, {"beta2": 0.9}), "rmsprop has no setting 'beta2'"),
        (("adam", 0.1, {"alpha": 0.9}), "adam has no setting 'alpha'"),
        (("adam", 0.1, {"beta_2": rw.Constant(0.9)}), "beta_2 of adam must be a number. Schedules may be given for lr"),
    ],
)
def test_what_keras_cannot_do_is_refused(arguments, message):
    name, lr, *settings = arguments
    with pytest.raises(AdapterError, match=message):
        rk.build(name, lr, horizon=None, **(settings[0] if settings else {}))


def test_zero_weight_decay_is_no_weight_decay():
    assert rk.build("adam", 0.1, horizon=None, weight_decay=0).weight_decay is None


@pytest.mark.parametrize(
    ("lr", "message"), [(-0.1, "lr must be at least 0"), (rw.Cosine(0.1, 0.0, 200), "200 updates")]
)
def test_impossible_rates_are_refused(lr, message):
    with pytest.raises(ScheduleError, match=message):
        rk.build("sgd", lr, horizon=100)
