"""Keras, the living peer, in float32 and (on TensorFlow) in float64; older relatives from TensorFlow or transcribed."""

import math
import os
from collections.abc import Callable
from fractions import Fraction
from inspect import signature
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from parity.cases import DOUBLE, SINGLE, Case, Watched, check, covers, lengths, rates

from ratewise import Cosine, Linear
from ratewise.errors import ScheduleError
from ratewise.interop import from_keras, keras as interop

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]

ROWS = [*interop.PEER.entries, *interop.REFUSED]
REFUSED = interop.REFUSED

PRECISE = DOUBLE if keras.backend.backend() == "tensorflow" else SINGLE


def as_type(real: Callable[[float], Any], value: Any) -> Any:
    if isinstance(value, list):
        return [as_type(real, x) for x in value]
    return real(value) if type(value) is float else value


def made(name: str, settings: dict[str, Any], real: Callable[[float], Any] = float) -> Any:
    """The peer's own schedule; it computes in the type of the numbers it is given."""
    return getattr(keras.optimizers.schedules, name)(**{key: as_type(real, x) for key, x in settings.items()})


def evaluated(schedule: Any, n: int) -> Any:
    """All at once where that makes no difference: a warm-up takes one position, and JAX compiles what takes many."""
    if keras.backend.backend() != "tensorflow" or getattr(schedule, "warmup_target", None) is not None:
        return np.asarray([float(schedule(keras.ops.array(t, dtype="int32"))) for t in range(n)])
    return keras.ops.convert_to_numpy(schedule(keras.ops.arange(n, dtype="int32")))


def restarts(s: dict[str, Any], n: int) -> list[tuple[int, int]]:
    """Which cycles start exactly on an update, and on which."""
    start, size, found, i = Fraction(0), Fraction(s["first_decay_steps"]), [], 0
    while start + size < n:
        start, size, i = start + size, size * Fraction(str(s["t_mul"])), i + 1
        if start.denominator == 1:
            found.append((i, int(start)))
    return found


def punctual(s: dict[str, Any], values: Any) -> Any:
    """The peer's curve with its late restarts (K6) taken out: there it still stands at the end of the last cycle."""
    values = np.array(values, dtype=float)
    initial, alpha = s["initial_learning_rate"], s["alpha"]
    for i, t in restarts(s, len(values)):
        if abs(values[t] - alpha * initial) < 1e-6 * initial:
            values[t] = initial * ((1 - alpha) * s["m_mul"] ** i + alpha)
    return values


def cases(name: str, says: str, arguments: dict[str, Any], note: str = "", single: Any = None) -> list[Case]:
    """The row in float64 and in float32 (there perhaps with other ``arguments``)."""

    def case(variant: str, real: Callable[[float], Any], drawn: dict[str, Any], tolerance: float) -> Case:
        def theirs(s: dict[str, Any], n: int) -> Any:
            values = evaluated(made(name, s, real), n)
            return punctual(s, values) if name == "CosineDecayRestarts" else values

        return Case(
            "Keras", name + variant, st.fixed_dictionaries(drawn), lambda s: from_keras(made(name, s)), theirs,
            says=says, tolerance=tolerance, note=note, length=length,
        )  # fmt: skip

    return [
        case("", np.float64, arguments, PRECISE),
        case(" (float32)", float, {**arguments, **(single or {})}, SINGLE),
    ]


def length(s: Any) -> int:
    return int(s.get("decay_steps", 40)) + s.get("warmup_steps", 0)


def older(
    function: str, name: str, says: str, arguments: dict[str, Any], real: Callable[[float], Any], tolerance: float
) -> Case:  # fmt: skip
    """What tf.compat.v1.train still has."""

    def theirs(s: dict[str, Any], n: int) -> Any:
        given = {key: as_type(real, x) for key, x in s.items()}
        lr = given.pop("initial_learning_rate" if "initial_learning_rate" in given else "learning_rate")
        return getattr(tf.compat.v1.train, function)(lr, tf.range(n), **given)().numpy()

    return Case(
        "Keras", name, st.fixed_dictionaries(arguments), lambda s: from_keras(name, **s), theirs, says=says,
        length=length, note="from tf.compat.v1.train", tolerance=tolerance,
    )  # fmt: skip


def linear_cosine(s: dict[str, Any], n: int) -> list[float]:
    """The formula of LinearCosineDecay in float64."""
    values = []
    for t in range(n):
        left = 1 - min(t, s["decay_steps"]) / s["decay_steps"]
        wave = (1 + math.cos(2 * math.pi * s["num_periods"] * (1 - left))) / 2
        values.append(s["initial_learning_rate"] * ((s["alpha"] + left) * wave + s["beta"]))
    return values


def cyclical(name: str, says: str, scale: Callable[[dict[str, Any], int, float], float], **arguments: Any) -> Case:
    """TensorFlow Addons, no longer installable: its formula."""

    def theirs(s: dict[str, Any], n: int) -> list[float]:
        rates, half = [], s["step_size"]
        low, high = s["initial_learning_rate"], s["maximal_learning_rate"]
        for t in range(n):
            cycle = math.floor(1 + t / (2 * half))
            x = abs(t / half - 2 * cycle + 1)
            rates.append(low + (high - low) * max(0.0, 1 - x) * scale(s, t, cycle))
        return rates

    drawn = {"initial_learning_rate": rates(), "maximal_learning_rate": rates(), "step_size": lengths(), **arguments}
    return Case(
        "TensorFlow Addons", name, st.fixed_dictionaries(drawn), lambda s: from_keras(name, **s), theirs, says=says,
        living=False, length=lambda s: 4 * s["step_size"],
    )  # fmt: skip


# -- callbacks, on a living model ------------------------------------------------------------------------------


def halved(epoch: int) -> float:
    return 0.1 * 0.5 ** (epoch // 4)


def as_documented(epoch: int, lr: float) -> float:
    return lr if epoch < 10 else lr * math.exp(-0.1)


def attached(callback: Any, lr: float) -> Any:
    """The optimizer of a model that the callback drives."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(lr), loss="mse")
    callback.set_model(model)
    callback.on_train_begin()
    return model.optimizer


def asked(s: dict[str, Any], n: int) -> list[float]:
    callback = keras.callbacks.LearningRateScheduler(s["function"])
    optimizer, values = attached(callback, s["lr"]), []
    for epoch in range(s.get("epochs", n)):
        callback.on_epoch_begin(epoch)
        values.append(float(optimizer.learning_rate))
    return values


def plateau(s: dict[str, Any]) -> Any:
    return keras.callbacks.ReduceLROnPlateau(**{key: s[key] for key in s if key not in ("lr", "metrics")})


def watched(s: dict[str, Any], n: int) -> list[float]:
    callback = plateau(s)
    optimizer, values = attached(callback, s["lr"]), []
    for epoch in range(n):
        values.append(float(optimizer.learning_rate))
        callback.on_epoch_end(epoch, {"val_loss": s["metrics"][epoch % len(s["metrics"])]})
    return values


def scheduler(function: Any) -> Any:
    return keras.callbacks.LearningRateScheduler(function)


GRID = st.integers(0, 128).map(lambda i: i / 64)  # metrics and margins that float32 adds without rounding
INITIAL = {"initial_learning_rate": rates()}
STAIRS = {"decay_steps": lengths(), "staircase": st.booleans()}
ALPHA = {"alpha": st.floats(0.0, 1.2)}
POWER = st.sampled_from([1.0, 1, 2.0]) | st.floats(1.0, 3.0)
ORDERED = st.lists(st.integers(-3, 60), min_size=1, max_size=5, unique=True).map(sorted)
SHUFFLED = st.lists(st.integers(-3, 60) | st.floats(0.0, 60.0), min_size=1, max_size=5)
RESTARTS = {**INITIAL, "first_decay_steps": lengths(2, 40), "m_mul": st.floats(0.3, 1.2) | st.just(0.0), **ALPHA}
BENT = {**INITIAL, **ALPHA, "decay_steps": lengths(), "beta": st.floats(0.0, 0.1)}
LINEAR_COSINE = "Linear((1 + alpha) * lr, alpha * lr, n) * (Cosine(1, 0, m) >> Cosine(0, 1, m)).repeat() + beta * lr"

CASES = [
    *cases(
        "ExponentialDecay", "Exponential(lr, r, every=n).stairs(n)",
        {**INITIAL, **STAIRS, "decay_rate": st.floats(0.0625, 1.0625, width=32) | st.just(0.0)},
    ),
    Case(
        "Keras", "PiecewiseConstantDecay",
        ORDERED.flatmap(lambda bounds: st.fixed_dictionaries({
            "boundaries": st.just(bounds),
            "values": st.lists(rates(), min_size=len(bounds) + 1, max_size=len(bounds) + 1),
        })),
        lambda s: from_keras(made("PiecewiseConstantDecay", s)),
        lambda s, n: evaluated(made("PiecewiseConstantDecay", s, np.float64), n),
        says="Piecewise(values, [b + 1, ...])", tolerance=PRECISE, note="changes one update after its boundary (K1)",
    ),
    Case(
        "Keras", "PiecewiseConstantDecay (float32, boundaries out of order)",
        SHUFFLED.flatmap(lambda bounds: st.fixed_dictionaries({
            "boundaries": st.just(bounds),
            "values": st.lists(rates(), min_size=len(bounds) + 1, max_size=len(bounds) + 1),
        })),
        lambda s: from_keras(made("PiecewiseConstantDecay", s)),
        lambda s, n: evaluated(made("PiecewiseConstantDecay", s), n),
        says="Piecewise([...], [...])", tolerance=SINGLE, note="the values of out-of-order boundaries add up (K1)",
    ),
    *cases(
        "PolynomialDecay", "Polynomial(lr, end, n, power=p)",
        {**INITIAL, "decay_steps": lengths(), "end_learning_rate": rates(), "power": POWER | st.floats(0.2, 1.0)},
        single={"power": POWER},
    ),
    *[
        Case(
            "Keras", f"PolynomialDecay ({variant})",
            st.fixed_dictionaries(
                {**INITIAL, "decay_steps": lengths(1, 30), "end_learning_rate": rates(), "power": POWER}
            ),
            lambda s: from_keras(made("PolynomialDecay", {**s, "cycle": True})),
            lambda s, n, real=real: evaluated(made("PolynomialDecay", {**s, "cycle": True}, real), n),
            says='Formula("end + ... * (1 - t / (n * ceil(t / n)))**p")', tolerance=tolerance,
            note="teeth that start lower and lower (K7)", length=lambda s: 3 * s["decay_steps"],
        )
        for variant, real, tolerance in [("cycle", np.float64, PRECISE), ("cycle, float32", float, SINGLE)]
    ],
    *cases(
        "InverseTimeDecay", "InverseTime(lr, r, every=n).stairs(n)",
        {**INITIAL, **STAIRS, "decay_rate": st.floats(0.0, 3.0)},
    ),
    *cases("CosineDecay", "Cosine(lr, alpha * lr, n)", {**INITIAL, "decay_steps": lengths(), **ALPHA}),
    *[
        Case(
            "Keras", f"CosineDecay ({variant})",
            st.fixed_dictionaries({
                **INITIAL, **ALPHA, "decay_steps": lengths(1, 15), "warmup_target": rates(),
                "warmup_steps": lengths(0, 10),
            }),
            lambda s: from_keras(made("CosineDecay", s)),
            lambda s, n, real=real: evaluated(made("CosineDecay", s, real), n),
            says="Linear(lr, peak, w) >> Cosine(peak, alpha * peak, n)", tolerance=tolerance,
            note="decay_steps come on top of the warm-up (K5)", length=length,
        )
        for variant, real, tolerance in [
            ("warmup_target", np.float64, PRECISE), ("warmup_target, float32", float, SINGLE),
        ]
    ],
    *cases(
        "CosineDecayRestarts", "alpha * lr + Cosine((1 - alpha) * lr, 0, n).repeat(stretch=t, gamma=m)",
        {**RESTARTS, "t_mul": st.sampled_from([1.0, 1.5, 2.0, 3.0]) | st.floats(1.05, 3.0)},
        "some restarts of the peer are one update late (K6); ours are exact",
        single={"t_mul": st.sampled_from([1.0, 2.0, 3.0])},
    ),
    Case(
        "Keras", "LearningRateScheduler",
        st.fixed_dictionaries({"function": st.sampled_from([halved, lambda e: 1.0 / (1 + e)]), "lr": rates()}),
        lambda s: from_keras(scheduler(s["function"])), asked,
        says="Custom(f)", tolerance=SINGLE, length=lambda s: 10, note="in epochs",
    ),
    Case(
        "Keras", "LearningRateScheduler (of the rate)",
        st.fixed_dictionaries({
            "function": st.sampled_from([as_documented, lambda e, lr=0.0: 0.9 * lr]), "lr": rates(),
            "epochs": lengths(1, 40),
        }),
        lambda s: from_keras(scheduler(s["function"]), lr=s["lr"], epochs=s["epochs"]), asked,
        says="Piecewise([...], [1, 2, ...])", tolerance=SINGLE, length=lambda s: 10, note="in epochs",
    ),
    Case(
        "Keras", "ReduceLROnPlateau",
        st.fixed_dictionaries({
            "lr": rates(), "factor": st.floats(0.1, 0.9), "patience": st.integers(0, 3), "cooldown": st.integers(0, 3),
            "mode": st.sampled_from(["min", "max", "auto"]), "min_delta": GRID.map(lambda x: x / 8),
            "min_lr": st.just(0.0) | rates(1e-4, 0.1),
            "metrics": st.lists(GRID | st.sampled_from([1.0, 1.0, float("nan")]), min_size=1, max_size=20),
        }),
        lambda s: Watched(from_keras(plateau(s), lr=s["lr"]), s["metrics"]), watched,
        says='Constant(lr) * Plateau(f, p, like="keras")', tolerance=SINGLE, length=lambda s: 10, note="in epochs",
    ),
    Case(
        "Keras", "legacy_decay", st.fixed_dictionaries({"lr": rates(), "decay": st.floats(0.0, 2.0)}),
        lambda s: from_keras("legacy_decay", **s),
        lambda s, n: [s["lr"] / (1 + s["decay"] * t) for t in range(n)],
        says="InverseTime(lr, decay)", living=False, note="Keras 3 ignores decay= with a warning",
    ),
    older(
        "linear_cosine_decay", "LinearCosineDecay", LINEAR_COSINE,
        {**BENT, "num_periods": st.sampled_from([0.0, 0.5, 1.0])}, float, SINGLE,
    ),
    Case(
        "Keras", "LinearCosineDecay (float64)",
        st.fixed_dictionaries({**BENT, "num_periods": st.sampled_from([0.0, 0.5]) | st.floats(0.1, 5.0)}),
        lambda s: from_keras("LinearCosineDecay", **s), linear_cosine,
        says=LINEAR_COSINE, living=False, length=length,
    ),
    older(
        "natural_exp_decay", "natural_exp_decay", "Exponential(lr, exp(-r), every=n).stairs(n)",
        {"learning_rate": rates(), **STAIRS, "decay_rate": st.floats(0.0, 3.0)}, np.float64, DOUBLE,
    ),
    cyclical(
        "CyclicalLearningRate", "low + (Linear(0, rise, n) >> Linear(rise, 0, n)).repeat() * Custom(f).along(cycle)",
        lambda s, t, cycle: s["scale_fn"](cycle if s["scale_mode"] == "cycle" else t),
        scale_fn=st.sampled_from([lambda x: 1 / (1 + x), lambda x: 0.9**x]),
        scale_mode=st.sampled_from(["cycle", "iterations"]),
    ),
    cyclical(
        "TriangularCyclicalLearningRate", "(Linear(low, high, n) >> Linear(high, low, n)).repeat()",
        lambda s, t, cycle: 1.0,
    ),
    cyclical(
        "Triangular2CyclicalLearningRate", "low + (Linear(0, rise, n) >> Linear(rise, 0, n)).repeat(gamma=0.5)",
        lambda s, t, cycle: 1 / 2 ** (cycle - 1),
    ),
    cyclical(
        "ExponentialCyclicalLearningRate", "low + (...).repeat() * Exponential(1, gamma)",
        lambda s, t, cycle: s["gamma"] ** t, gamma=st.floats(0.9, 1.0),
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)
    schedules = set(dir(keras.optimizers.schedules)) - {"LearningRateSchedule", "serialize", "deserialize"}
    assert {name for name in schedules if not name.startswith("_")} <= set(ROWS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case, examples=8 if "warmup_target" in case.row else 25)


@pytest.mark.parametrize("name", ["ExponentialDecay", "PolynomialDecay", "CosineDecay", "CosineDecayRestarts"])
def test_object_configuration_and_name_say_the_same(name: str) -> None:
    given = {"initial_learning_rate": 0.5, "decay_steps": 7, "first_decay_steps": 7, "decay_rate": 0.9, "alpha": 0.1}
    known = signature(getattr(keras.optimizers.schedules, name)).parameters
    arguments = {key: value for key, value in given.items() if key in known}
    schedule = getattr(keras.optimizers.schedules, name)(**arguments)
    assert from_keras(schedule) == from_keras(name, **arguments)
    assert from_keras(keras.optimizers.schedules.serialize(schedule)) == from_keras(name, **arguments)


def test_a_schedule_of_ours_comes_back_as_it_was() -> None:
    from ratewise.keras import Schedule

    lr = Cosine(0.1, 0.0, 10)
    assert from_keras(Schedule(lr)) is lr
    assert from_keras(keras.callbacks.LearningRateScheduler(lr)) is lr


def test_legacy_decay_multiplies_a_schedule() -> None:
    assert from_keras("legacy_decay", lr=Linear(1.0, 0.0, 4), decay=1.0).values(0, 3) == [1.0, 0.375, 0.5 / 3]


def test_restarts_are_on_time_where_the_peer_is_late() -> None:
    peer = keras.optimizers.schedules.CosineDecayRestarts(1.0, 10)
    at = 10 * (2**13 - 1)  # the logarithm falls short of 13 here on most machines
    assert from_keras(peer)(at) == 1.0
    assert float(peer(at)) == pytest.approx(0.0, abs=1e-6) or float(peer(at)) == pytest.approx(1.0)
    assert float(peer(at - 1)) == pytest.approx(from_keras(peer)(at - 1), abs=1e-3)


def test_growing_and_barely_stretched_restarts_stay_finite() -> None:
    grown = from_keras("CosineDecayRestarts", initial_learning_rate=0.1, first_decay_steps=1, m_mul=2.0, t_mul=1.0)
    assert grown(3) == pytest.approx(0.8)
    assert math.isfinite(grown(10**9))
    assert from_keras("CosineDecayRestarts", initial_learning_rate=0.1, first_decay_steps=5, t_mul=1.001)(5) == 0.1


class Mine(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step: Any) -> Any:
        return 0.1


RATE, WHOLE = {"initial_learning_rate": 0.1}, {"initial_learning_rate": 1}


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        (
            "ExponentialDecay",
            {**WHOLE, "decay_steps": 5, "decay_rate": 0.5},
            "in integers .K2",
        ),
        ("ExponentialDecay", RATE, "missing a required argument: 'decay_steps'"),
        ("ExponentialDecy", {}, "unknown schedule 'ExponentialDecy'.*ExponentialDecay"),
        ("NoisyLinearCosineDecay", {}, "random generator"),
        ({"config": {}}, {}, "unknown schedule None"),
        (Mine(), {}, "cannot read .* Custom"),
        (3, {}, "cannot read 3"),
        ("PiecewiseConstantDecay", {"boundaries": [], "values": [0.1]}, "needs boundaries and one value more"),
        (
            "PolynomialDecay",
            {**RATE, "decay_steps": 5, "power": -1.0},
            "power must be at least 0",
        ),
        ("PolynomialDecay", {**RATE, "decay_steps": 0}, "decay_steps must be above 0"),
        ("CosineDecayRestarts", {**RATE, "first_decay_steps": 5, "t_mul": 0.5}, "t_mul must be"),
        (
            "CosineDecay",
            {**RATE, "decay_steps": 5, "warmup_target": 0.1, "warmup_steps": -1},
            "at least 0",
        ),
        (scheduler(as_documented), {}, "takes the rate before"),
        (keras.callbacks.ReduceLROnPlateau("val_accuracy"), {"lr": 0.1}, "finds out from the model"),
        (keras.callbacks.ReduceLROnPlateau(), {}, "missing a required argument: 'lr'"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(schedule: Any, arguments: Any, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        from_keras(schedule, **arguments)
