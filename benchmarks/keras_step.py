"""A Keras train step with ``ratewise.keras.Schedule``, as a ratio to the same step with Keras' own CosineDecay.

Run with: KERAS_BACKEND=tensorflow python benchmarks/keras_step.py      (or jax, or torch)
Target: no measurable slowdown, that is a ratio within the spread of the rounds.

The step is Keras' own, compiled as ``fit`` compiles it, of a model so small that a schedule would show. Long chains
of pieces and ``Follow`` with momentum are measured too, against the same peer.
"""

import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

import ratewise.keras
from ratewise import Cosine, Linear, cosine, multi_step

BATCHES, ROUNDS, TOTAL = 200, 12, 100_000
X, Y = np.ones((8, 16), "float32"), np.zeros((8, 1), "float32")


class Forever(keras.utils.PyDataset):
    """The same batch again and again, so that nothing but the step takes time."""

    def __len__(self) -> int:
        return BATCHES

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return X, Y


def step(rate: object, *callbacks: keras.callbacks.Callback) -> Callable[[], None]:
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss="mse")
    data = Forever()

    def run() -> None:
        model.fit(data, verbose=0, shuffle=False, callbacks=list(callbacks))

    run()  # builds and compiles
    return run


def microseconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) / BATCHES * 1e6


def main() -> None:
    warmed = Cosine(0.1, 0.0).warmup(1000).over(TOTAL)
    kinds = {
        "Keras CosineDecay": step(keras.optimizers.schedules.CosineDecay(0.1, TOTAL)),
        "the same again": step(keras.optimizers.schedules.CosineDecay(0.1, TOTAL)),
        "ours, cosine": step(ratewise.keras.Schedule(cosine(0.1), horizon=TOTAL)),
        "ours, warm-up and cosine": step(ratewise.keras.Schedule(warmed)),
        "ours, 50 pieces": step(ratewise.keras.Schedule(multi_step(0.1, range(1000, 50_000, 1000)))),
        "Follow, cosine": step(0.1, ratewise.keras.Follow(cosine(0.1), horizon=TOTAL)),
        "Follow, with momentum": step(0.1, ratewise.keras.Follow(warmed, momentum=Linear(0.8, 0.9, TOTAL))),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):  # in turn, so that a busy machine is busy for all of them
        for name, run in kinds.items():
            times[name].append(microseconds(run))
    peer = times["Keras CosineDecay"]
    print(f"keras {keras.__version__} on {keras.backend.backend()}; microseconds a batch, {ROUNDS} rounds of {BATCHES}")
    print(f"{'schedule':<26} {'best':>8} {'median':>8} {'ratio of best':>14} {'median ratio':>13}")
    for name, taken in times.items():
        best, median = min(taken), statistics.median(taken)
        paired = statistics.median(a / b for a, b in zip(taken, peer, strict=True))
        print(f"{name:<26} {best:>8.1f} {median:>8.1f} {best / min(peer):>14.3f} {paired:>13.3f}")


if __name__ == "__main__":
    main()
