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
        "thresholds": {"alpha": 0.05, "delta": 0.05, "wins": 0.75},
        "target": {"loss": 0.2205, "rule": "5% above the reference's final loss"},
        "race": None,
        "changes": [
            "14 seeds may settle time_based and cyclical.",
            "A longer run: the losses of cosine and linear were still falling at the end.",
            "Best checkpoints: by them fixed would rank before warmup.",
        ],
        "provenance": {
            "fingerprint": "9f2c51d0", "seeds": {"tune": [0, 1, 2, 3, 4], "test": list(range(1000, 1012))},
            "command": "ratewise compare digits", "versions": {"ratewise": "0.1.0", "torch": "2.13.0"},
        },
        "cost": {"runs": 716, "updates": 214800, "seconds": 41.03},
    }  # fmt: skip


def old() -> dict[str, Any]:
    """Return the same comparison as the first version stored it."""
    found = result()
    for key in ("thresholds", "target", "race", "changes", "provenance", "cost"):
        del found[key]
    for entry in found["strategies"]:
        for key in ("trained", "control", "best", "area", "target", "sensitivity", "median", "cost", "ceiling"):
            del entry[key]
        if entry["difference"]:
            del entry["difference"]["interval"], entry["difference"]["bca"]
    return found


def unfinished(found: dict[str, Any]) -> dict[str, Any]:
    """Return a comparison of which one strategy has not begun, and nothing is decided."""
    for entry in found["strategies"]:
        entry.update(verdict=None, difference=None)
    found["strategies"][0].update(test=None, fan=[], curve=None, schedule=None, best=None, area=None, target=None)
    return found | {"reference": None, "recommended": None, "verdict": None, "changes": [], "code": None}


def diverged(found: dict[str, Any]) -> dict[str, Any]:
    """Return a comparison in which every run diverged."""
    for entry in found["strategies"]:
        entry.update(
            verdict="diverged", difference=None, curve={"updates": [], "loss": []}, diverged=12, best=None, area=None,
            target={"updates": [], "reached": None, "median": None}, median=None, sensitivity=None, ceiling=None,
            test={"metric": "accuracy", "mean": None, "low": None, "high": None, "n": 0, "loss": {"mean": None}},
            fan=[{"rate": row["rate"], "loss": None, "diverged": 5, "n": 5} for row in entry["fan"]],
        )  # fmt: skip
    return found | {
        "reference": None, "recommended": None, "verdict": "Every run diverged.", "target": None, "changes": [],
        "code": None,
    }  # fmt: skip


def many(count: int) -> dict[str, Any]:
    """Return a comparison of so many strategies."""
    found = result()
    for i in range(count - len(ENTRIES)):
        name, optimizer, schedule, loss, accuracy, verdict = ENTRIES[i % len(ENTRIES)]
        verdict = "worse" if verdict == "reference" else verdict
        worse = 1.03 ** (1 + i // len(ENTRIES))
        found["strategies"].append(strategy(f"{name}_{i}", optimizer, schedule, loss * worse, accuracy, verdict))
    return found


def raced() -> dict[str, Any]:
    """Return a comparison that was a race: whoever was dropped has no fresh seeds."""
    found = result()
    found["race"] = race(found["strategies"])
    promoted = {entry["name"]: entry["promoted"] for rung in found["race"] for entry in rung["entries"]}
    for entry in found["strategies"]:
        if not promoted[entry["name"]]:
            entry |= {
                "verdict": "dropped", "difference": None, "curve": {"updates": [], "loss": []}, "best": None,
                "test": {"metric": "accuracy", "mean": None, "low": None, "high": None, "n": 0, "loss": {"mean": None}},
                "area": None, "target": None, "median": None,
            }  # fmt: skip
    return found


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
        "trained": "population",
        "control": name == "adamw",
        "best": {"mean": loss * 0.97, "low": loss * 0.92, "high": loss * 1.03, "n": 12},
        "area": {"mean": loss * 1.8, "low": loss * 1.7, "high": loss * 1.9, "n": 12},
        "target": target(loss, random),
        "sensitivity": 0.05 + 0.2 * random.random(),
        "median": loss * 0.99,
        "cost": {"runs": 92 if name == "adamw" else 52, "updates": 27600 if name == "adamw" else 15600, "seconds": 3.1},
        "ceiling": 8 * rate if optimizer == "sgd" else None,
    }  # fmt: skip


def target(loss: float, random: Random) -> dict[str, Any]:
    """Return when 12 seeds reached the target; a high final loss means late, or never."""
    wanted = [30 * round(5 + 90 * (loss - 0.2) + 3 * random.random()) for _ in range(12)]
    updates = [t if t <= STEPS else None for t in wanted]
    arrived = sorted(t for t in updates if t is not None)
    median = (sorted(wanted)[5] + sorted(wanted)[6]) / 2
    return {"updates": updates, "reached": len(arrived) / 12, "median": median if median <= STEPS else None}


def race(strategies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a race of two rungs that kept all the strategies that are not worse."""

    def entry(row: dict[str, Any], rung: int) -> dict[str, Any]:
        random = Random(f"{row['name']}{rung}")
        promoted = row["verdict"] != "worse" or (rung == 0 and row["test"]["loss"]["mean"] < 0.26)
        why = "the control" if row["control"] else f"{'' if promoted else 'not '}among the best third"
        loss = row["test"]["loss"]["mean"] * (1.7 - 0.4 * rung) * (0.95 + 0.1 * random.random())
        gone = row["name"] == "rmsprop" and rung == 0
        return {
            "name": row["name"], "rate": row["peak_lr"], "loss": None if gone else loss,
            "promoted": not gone and (promoted or row["control"]), "why": "every run diverged" if gone else why,
        }  # fmt: skip

    rungs: list[dict[str, Any]] = []
    left = strategies
    for i, steps in enumerate((STEPS // 9, STEPS // 3)):
        entries = [entry(row, i) for row in left]
        rungs.append({"steps": steps, "updates": len(entries) * steps * 5, "entries": entries})
        kept = {found["name"] for found in entries if found["promoted"]}
        left = [row for row in left if row["name"] in kept]
    return rungs


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
        "interval": "t", "bca": [mean - 0.9 * half, mean + 0.95 * half],
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
