"""The dialects of the rules against the libraries themselves, driven with the same metrics.

Comparisons are exact: metrics are free floats where the peer computes in float64, else multiples of 1/8.
"""

import math
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

import ratewise as rw

exact = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
fewer = settings(exact, max_examples=40)

NAN, INF = math.nan, math.inf
ODD = [NAN, INF, -INF]
grid = st.one_of(st.integers(-24, 24).map(lambda k: k / 8), st.sampled_from([1.0, 1.0, *ODD]))
free = st.one_of(grid, st.floats(-1e3, 1e3), st.floats(0.9, 1.1))
constant = st.tuples(grid, st.integers(1, 20)).map(lambda x: [x[0]] * x[1])
worse = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=16).map(sorted)


def sequences(metric: Any) -> Any:
    return st.one_of(st.lists(metric, min_size=1, max_size=24), constant, *([worse] if metric is free else []))


patience, cooldown = st.integers(0, 3), st.integers(0, 3)
modes = st.sampled_from(["min", "max"])
factors = st.sampled_from([0.1, 0.5, 0.9])
floors = st.sampled_from([0.0, 0.2, 0.25, 1.0])
margins = st.one_of(
    st.sampled_from([0.0, 1e-4, 0.1, 0.25]).map(lambda x: {"rtol": x}),
    st.sampled_from([0.0, 1e-4, 0.1, 0.25]).map(lambda x: {"atol": x}),
)


def torchs(margin: dict[str, float]) -> dict[str, Any]:
    """``threshold`` and ``threshold_mode``, which torch, paddle and transformers have in common."""
    return {"threshold": next(iter(margin.values())), "threshold_mode": "rel" if "rtol" in margin else "abs"}


def optimizer(lr: float) -> Any:
    import torch

    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def stepped(scheduler: Any, metrics: list[float]) -> list[float]:
    rates = []
    for metric in metrics:
        scheduler.step(metric)
        rates.append(float(scheduler.optimizer.param_groups[0]["lr"]))
    return rates


@exact
@given(sequences(free), factors, patience, modes, margins, cooldown, floors, st.sampled_from([0.0, 1e-8, 0.2]))
@example([-1.0] * 9, 0.5, 0, "min", {"rtol": 0.1}, 0, 0.0, 1e-8)
def test_torch(
    metrics: list[float], factor: float, n: int, mode: str, margin: dict[str, float], c: int, low: float, eps: float
) -> None:
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    peer = ReduceLROnPlateau(
        optimizer(1.0), mode=mode, factor=factor, patience=n, **torchs(margin), cooldown=c, min_lr=low, eps=eps
    )
    ours = rw.Plateau(factor, n, mode=mode, **margin, cooldown=c, min_scale=low, eps=eps, like="torch")
    assert ours.scales(metrics) == stepped(peer, metrics)


@fewer
@given(sequences(free), st.floats(1e-6, 1.0), st.floats(0.0, 1e-3))
def test_torchs_rates_are_the_base_rate_times_the_scale(metrics: list[float], lr: float, low: float) -> None:
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    peer = ReduceLROnPlateau(optimizer(lr), patience=1, min_lr=low)
    ours = rw.Plateau(patience=1, min_scale=min(low / lr, 1.0), eps=1e-8 / lr, like="torch")
    assert [lr * scale for scale in ours.scales(metrics)] == pytest.approx(stepped(peer, metrics), rel=1e-12)


@cache
def keras_model() -> Any:
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), loss="mse")
    return model


def keras_rates(metrics: list[float], **given: Any) -> list[float]:
    """What the callback makes of the metrics, as floats (a Keras rate is a float32)."""
    import keras

    model = keras_model()
    model.optimizer.learning_rate = 1.0
    callback = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", **given)
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, metric in enumerate(metrics):
        callback.on_epoch_end(epoch, {"val_loss": metric})
        rates.append(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
    return rates


older = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15 with numpy 2


@older
@fewer
@given(sequences(grid), patience, modes, st.sampled_from([0.0, 0.25]), cooldown, st.sampled_from([0.0, 0.25]))
@example([NAN, 4.0, 3.0, 2.0, 1.0], 1, "min", 0.0, 0, 0.0)  # K10
@example([1.0] * 6, 0, "min", 0.0, 1, 0.0)  # K8 and K9
def test_keras(metrics: list[float], n: int, mode: str, delta: float, c: int, low: float) -> None:
    peer = keras_rates(metrics, factor=0.5, patience=n, mode=mode, min_delta=delta, cooldown=c, min_lr=low)
    ours = rw.Plateau(0.5, n, mode=mode, atol=delta, cooldown=c, min_scale=low, like="keras")
    assert ours.scales(metrics) == peer


@older
def test_keras_in_a_real_fit_ends_at_the_same_rate() -> None:
    import keras
    import numpy as np

    model = keras_model()
    model.optimizer.learning_rate = 2.0**-20
    callback = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=2, min_delta=1.0)
    history = model.fit(np.zeros((4, 1)), np.zeros((4, 1)), epochs=7, verbose=0, callbacks=[callback])
    ours = rw.Plateau(0.5, 2, atol=1.0, like="keras").scales(history.history["loss"])
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    assert rate == 2.0**-20 * ours[-1] == 2.0**-20 / 8


LONGEST = 24


@cache
def optax_run(factor: float, rtol: float, atol: float) -> Any:
    import jax
    from optax.contrib import reduce_on_plateau

    def run(patience: Any, cooldown: Any, size: Any, low: Any, metrics: Any) -> Any:
        peer = reduce_on_plateau(factor, patience, rtol, atol, cooldown, size, low)

        def step(state: Any, value: Any) -> Any:
            updates, state = peer.update(jax.numpy.ones(()), state, value=value)
            return state, updates  # a gradient of 1 comes out as the scale

        return jax.lax.scan(step, peer.init(jax.numpy.ones(())), metrics)[1]

    return jax.jit(run)


@exact
@given(sequences(grid), st.sampled_from([(0.25, 0.0), (0.0, 0.25), (0.5, 0.125)]), patience, cooldown,
       st.integers(1, 4), st.sampled_from([0.0, 0.25]))  # fmt: skip
@example([1.0, 0.5, 0.25, 0.25, 0.25, 0.25], (0.25, 0.0), 0, 0, 1, 0.0)  # O8
@example([-1.0] * 8, (0.25, 0.0), 1, 0, 1, 0.0)  # O9
def test_optax(
    metrics: list[float], margin: tuple[float, float], n: int, c: int, size: int, low: float
) -> None:  # fmt: skip
    import jax

    metrics = [12.0 * metric for metric in metrics]  # means of up to four are exact, too
    with jax.enable_x64(True):
        padded = jax.numpy.array(metrics + [0.0] * (LONGEST - len(metrics)))
        peer = optax_run(0.5, *margin)(n, c, size, low, padded)[: len(metrics)].tolist()
    rtol, atol = margin
    ours = rw.Plateau(0.5, n, rtol=rtol, atol=atol, cooldown=c, window=size, min_scale=low, like="optax")
    assert ours.scales(metrics) == peer


@exact
@given(sequences(free), factors, patience, modes, margins, cooldown, cooldown,
       st.sampled_from([0.0, 0.2, 0.5]), st.sampled_from([1.0, 2.0, 9.0]), st.sampled_from([0.0, 1e-8, 0.2]),
       st.integers(1, 3))  # fmt: skip
def test_transformers_greedy(
    metrics: list[float], factor: float, n: int, mode: str, margin: dict[str, float], c: int, w: int,
    low: float, high: float, eps: float, reset: int,
) -> None:  # fmt: skip
    from transformers.optimization import GreedyLR

    peer = GreedyLR(
        optimizer(1.0), mode=mode, factor=factor, patience=n, **torchs(margin), cooldown=c, warmup=w, min_lr=low,
        max_lr=high, eps=eps, reset_start=reset,
    )  # fmt: skip
    ours = rw.Greedy(
        factor, n, mode=mode, **margin, cooldown=c, warmup=w, min_scale=low, max_scale=high, eps=eps, reset=reset,
        like="hf",
    )  # fmt: skip
    assert ours.scales(metrics) == stepped(peer, metrics)


@exact
@given(sequences(grid), st.integers(0, 1), st.integers(2, 4), st.integers(1, 2), modes)
def test_transformers_greedy_with_its_running_mean(
    metrics: list[float], n: int, window: int, reset: int, mode: str
) -> None:
    from transformers.optimization import GreedyLR

    metrics = [12.0 * metric for metric in metrics]
    peer = GreedyLR(
        optimizer(1.0), mode=mode, factor=0.5, patience=n, threshold=0.25, min_lr=0.25, max_lr=4.0, smooth=True,
        window_size=window, reset_start=reset,
    )  # fmt: skip
    ours = rw.Greedy(
        0.5, n, mode=mode, atol=0.25, min_scale=0.25, max_scale=4.0, eps=1e-8, window=window, reset=reset, like="hf"
    )
    assert ours.scales(metrics) == stepped(peer, metrics)


def test_transformers_defaults_cannot_lower_a_fine_tuning_rate() -> None:  # H5
    from transformers.optimization import GreedyLR

    lr, metrics = 5e-5, [1.0] * 40 + [0.5] * 12
    peer = stepped(GreedyLR(optimizer(lr), patience=0), metrics)
    ours = rw.Greedy(patience=0, min_scale=1e-3 / lr, max_scale=1.0 / lr, eps=1e-8 / lr, like="hf").scales(metrics)
    assert [lr * scale for scale in ours] == pytest.approx(peer, rel=1e-12)
    assert min(peer) == peer[0] == lr / 0.95  # it even went up, at the first metric


class Paddle:
    """paddle's ReduceOnPlateau, written down from its documented behaviour and source: not a copy of either."""

    def __init__(
        self, factor: float, patience: int, mode: str, *, threshold: float, threshold_mode: str, cooldown: int,
        floor: float,
    ) -> None:  # fmt: skip
        self.given = factor, patience, cooldown, floor
        self.sign = 1.0 if mode == "min" else -1.0
        self.margin = (lambda best: best * threshold) if threshold_mode == "rel" else (lambda best: threshold)
        self.best: float | None = None
        self.lr, self.bad, self.left = 1.0, 0, 0

    def step(self, metric: float) -> float:
        factor, patience, cooldown, floor = self.given
        if self.left:
            self.left -= 1
            return self.lr
        limit = math.nan if self.best is None else self.best - self.sign * self.margin(self.best)
        if self.best is None or (metric < limit if self.sign > 0 else metric > limit):
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.bad > patience:
            lower = max(self.lr * factor, floor)
            self.lr = lower if self.lr - lower > 1e-8 else self.lr
            self.left, self.bad = cooldown, 0
        return self.lr


@exact
@given(sequences(free), factors, patience, modes, margins, cooldown, floors)
def test_paddle(
    metrics: list[float], factor: float, n: int, mode: str, margin: dict[str, float], c: int, low: float
) -> None:
    peer = Paddle(factor, n, mode, **torchs(margin), cooldown=c, floor=low)
    ours = rw.Plateau(factor, n, mode=mode, **margin, cooldown=c, min_scale=low, eps=1e-8, like="paddle")
    assert ours.scales(metrics) == [peer.step(metric) for metric in metrics]


def newbob(metrics: list[float], factor: float, threshold: float, patient: int) -> list[float]:
    """speechbrain's NewBobScheduler: patience is used up by any small improvement and refilled by a cut alone."""
    left, rates = patient, [1.0]
    for before, now in pairwise(metrics):
        small = (before != 0 and (before - now) / before < threshold) or (before == 0 and threshold > 0)
        cut = small and left == 0
        left = patient if cut else left - small
        rates.append(rates[-1] * factor if cut else rates[-1])
    return rates


@exact
@given(sequences(free), factors, patience, st.sampled_from([0.0, 0.0025, 0.25]))
def test_speechbrain(metrics: list[float], factor: float, patient: int, threshold: float) -> None:
    ours = rw.NewBob(factor, patient, rtol=threshold, like="speechbrain")
    assert ours.scales(metrics) == newbob(metrics, factor, threshold, patient)


def test_speechbrains_documented_example() -> None:
    assert rw.NewBob(like="speechbrain").scales([10.0, 2.0, 2.5]) == [1.0, 1.0, 0.5]
