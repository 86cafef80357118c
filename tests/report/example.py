"""A realistic comparison of thirteen strategies, made from formulas: the shape of ``ratewise compare --json``."""

import math
from random import Random
from typing import Any

import ratewise as rw

STEPS = 300

# name, optimizer, schedule at its peak, test loss, test accuracy, verdict
ENTRIES: list[tuple[str, str, rw.Schedule, float, float, str]] = [
    ("fixed", "sgd", rw.fixed(0.025), 0.262, 0.938, "worse"),
    ("time_based", "sgd", rw.time_based(0.1, 0.02), 0.228, 0.949, "unresolved"),
    ("step_decay", "sgd", rw.step_decay(0.1), 0.216, 0.952, "tie"),
    ("exponential_decay", "sgd", rw.exponential_decay(0.1), 0.2165, 0.951, "tie"),
    ("adagrad", "adagrad", rw.fixed(0.02), 0.245, 0.943, "worse"),
    ("rmsprop", "rmsprop", rw.fixed(0.001), 0.331, 0.921, "worse"),
    ("adam", "adam", rw.fixed(0.002), 0.289, 0.933, "worse"),
    ("warmup", "sgd", rw.fixed(0.05).warmup(30), 0.255, 0.941, "worse"),
    ("cyclical", "sgd", rw.cyclical(0.01, 0.1, 40), 0.241, 0.945, "unresolved"),
    ("one_cycle", "sgd", rw.one_cycle(0.2), 0.208, 0.957, "tie"),
    ("cosine", "sgd", rw.cosine(0.1), 0.210, 0.956, "reference"),
    ("linear", "sgd", rw.linear_decay(0.1), 0.211, 0.955, "tie"),
    ("adamw", "adamw", rw.cosine(0.004), 0.404, 0.918, "worse"),
]


def result() -> dict[str, Any]:
    """Return the finished comparison."""
    return {
        "task": "digits",
        "description": "scikit-learn's handwritten digits, 20% of the training labels wrong",
        "decides_on": "loss",
        "metric": "accuracy",
        "budget": {
            "steps": STEPS, "batch_size": 16, "rates": 7, "tuning_seeds": 5, "fresh_seeds": 12,
            "engine": "torch", "dtype": "float32", "runs": 640, "updates": 192000, "delta": 0.05,
        },
        "strategies": [strategy(*entry) for entry in ENTRIES],
        "reference": "cosine",
        "recommended": "cosine",
        "verdict": "Use cosine at a peak rate of 0.1; one_cycle, linear, step_decay and exponential_decay are tied "
        "with it, cyclical and time_based are unresolved.",
        "valid_for": "digits, 300 updates of 16 samples, batch order and initial weights of 12 fresh seeds; another "
        "length or batch size may change the order.",
        "code": "import ratewise as rw\nfrom ratewise.torch import Scheduler\n\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)\n"
        "scheduler = Scheduler(optimizer, rw.cosine(0.1).over(300))\n",
        "seconds": 41.03,
        "started": "2026-11-24T02:20:00",
        "host": "laptop",
        "versions": {"ratewise": "0.1.0", "torch": "2.13.0", "numpy": "2.3.5", "python": "3.11.7"},
        "command": "ratewise compare digits",
    }  # fmt: skip


def strategy(
    name: str, optimizer: str, schedule: rw.Schedule, loss: float, accuracy: float, verdict: str
) -> dict[str, Any]:
    """Return one strategy's entry."""
    lr = schedule.over(STEPS)
    values = lr.values(0, STEPS)
    random = Random(name)
    rate = max(values)
    return {
        "name": name,
        "optimizer": optimizer,
        "peak_lr": rate,
        "spec": repr(lr),
        "momentum": repr(rw.one_cycle_momentum().over(STEPS)) if name == "one_cycle" else "0.9",
        "weight_decay": 0.01 if name == "adamw" else 0.0,
        "test": {
            "metric": "accuracy", "mean": accuracy, "low": accuracy - 0.006, "high": accuracy + 0.005, "n": 12,
            "loss": {"mean": loss, "low": loss * 0.95, "high": loss * 1.06},
        },
        "diverged": 2 if name == "rmsprop" else 0,
        "runs": 52 if name != "adamw" else 92,
        "edge": name == "adamw",
        "verdict": verdict,
        "difference": None if verdict == "reference" else difference(loss - 0.21, verdict),
        "fan": fan(rate, loss, optimizer, random),
        "curve": curve(values, loss, random),
        "schedule": {"updates": list(range(STEPS)), "values": values},
        "seconds": round(2.5 + random.random(), 1),
    }  # fmt: skip


def difference(mean: float, verdict: str) -> dict[str, Any]:
    """Return a paired difference whose interval fits the verdict."""
    half = 0.004 if verdict == "tie" else 0.016 + abs(mean) / 8
    if verdict == "worse":
        half = min(half, 0.85 * mean)
    unresolved = verdict == "unresolved"
    if unresolved:
        half = 1.15 * mean
    return {
        "mean": mean, "low": mean - half, "high": mean + half, "p": 0.07 if unresolved else 0.002,
        "adjusted": 0.21 if unresolved else 0.02, "wins": 0.25, "seeds_needed": 14 if unresolved else None,
    }  # fmt: skip


def fan(peak: float, loss: float, optimizer: str, random: Random) -> list[dict[str, Any]]:
    """Return a valley around the peak with a cliff on its right."""
    rows: list[dict[str, Any]] = []
    for octave in range(-4 if optimizer == "sgd" else -3, 4):
        height = loss * 1.04 * math.exp(0.045 * octave**2 + 0.03 * random.random() * (octave != 0))
        gone = 5 if octave == 3 and optimizer == "sgd" else 1 if octave == 3 and optimizer == "rmsprop" else 0
        rows.append({"rate": peak * 2.0**octave, "loss": None if gone == 5 else height, "diverged": gone, "n": 5})
    return rows


def curve(values: list[float], loss: float, random: Random) -> dict[str, Any]:
    """Return a training loss that falls with the rate spent and settles where the test loss says."""
    total, spent, losses = sum(values), 0.0, []
    for t, value in enumerate(values):
        spent += value / total
        noise = 0.03 * (random.random() - 0.5) * (0.4 + value / max(values))
        losses.append((0.8 + loss) + (1.5 - loss) * math.exp(-14 * spent) + 0.12 * value / max(values) + noise)
        if t == 0:
            losses[0] = 2.32
    updates = [*range(0, STEPS, 5), STEPS - 1]
    return {"updates": updates, "loss": [losses[t] for t in updates]}
