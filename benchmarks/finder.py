"""How far from the best rate every finder and rule is, in octaves and in final loss, and what it costs.

    python benchmarks/finder.py                 # everything (about an hour on two cores), then docs/finder.md
    python benchmarks/finder.py --probes        # every probe again, the truth from benchmarks/finder.json
    python benchmarks/finder.py --again         # only the table and the picture

For every pair of a task and an optimizer, and for two horizons:

- the truth is the held-out loss at the end of full-length runs with the schedule that is used (linear to zero), over
  twelve octaves of rates and many seeds;
- each finder starts from fresh initial values of its own, ``REPEATS`` times, and its suggestion is looked up in that
  curve: the error in octaves, and the regret, by how much the final loss is above the lowest;
- fastai's rules are those of ``ratewise.finder`` on our range test (tests hold that they equal fastai's);
  torch-lr-finder and Lightning are the installed libraries, at their own defaults.

The two constants of the horizon correction are fitted leave-one-pair-out: no pair, at either horizon, has a part in the
correction that it is scored with. Errors and regrets are medians over the repeats.
"""

import argparse
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finder_truth import SCHEDULE, Search, Truth
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from ratewise.finder.finding import BASE, PER_DOUBLING, exponent
from ratewise.finder.trials import located
from ratewise.torch import find_lr
from ratewise.torch.engine import LOSSES

PAIRS = [
    ("digits", "sgd"), ("digits", "adamw"), ("digits-clean", "sgd"), ("digits-clean", "adam"), ("wine", "sgd"),
    ("wine", "adam"), ("breast-cancer", "sgd"), ("breast-cancer", "rmsprop"), ("diabetes", "sgd"), ("diabetes", "adam"),
    ("stdlib-chars", "adam"), ("stdlib-chars", "rmsprop"), ("digits-cnn", "sgd"), ("digits-cnn", "adamw"),
    ("stdlib-transformer", "adamw"), ("stdlib-transformer", "adam"),
]  # fmt: skip
HORIZONS = (400, 1600)
REPEATS = 5
LARGE = ("stdlib-chars", "digits-cnn", "stdlib-transformer")

HERE = Path(__file__).parent
RESULTS, PAGE, PICTURE = HERE / "finder.json", HERE.parent / "docs" / "finder.md", HERE.parent / "docs" / "finder.svg"
RULES = {
    "valley": "fastai's default, valley",
    "slide": "fastai, slide",
    "minimum": "fastai, minimum / 10",
    "steep": "fastai, steep",
    "torch-lr-finder": "torch-lr-finder 0.2.2",
    "lightning": "Lightning 2.6",
}


class Setting:
    """A pair with fresh initial values."""

    def __init__(self, search: Search, seed: int) -> None:
        task = search.task
        torch.manual_seed(seed)
        self.model = task.model()
        self.optimizer = search.make(self.model.parameters())
        self.loss: Callable[..., Any] = LOSSES[str(task.loss)]
        train, valid = (tuple(torch.as_tensor(part) for part in task.splits[name]) for name in ("train", "valid"))
        data = TensorDataset(*train)
        order = BatchSampler(RandomSampler(data), task.batch_size, drop_last=True)
        self.loader = DataLoader(data, sampler=order, batch_size=None)
        self.held_out = [valid]


def probes(search: Search, horizon: int) -> list[dict[str, Any]]:
    """What the probe finds: the best rate of the short runs, the epochs of the horizon, cost, and the known rules."""
    found = []
    for repeat in range(REPEATS):
        s = Setting(search, 1000 + repeat)
        settings = {"held_out": s.held_out, "schedule": SCHEDULE, "horizon": horizon}
        finding = find_lr(s.model, s.optimizer, s.loss, s.loader, **settings)
        best = located(finding.curve)
        found.append({
            "rate": best.rate if best is not None else None,
            "suggestion": finding.suggestion, "reason": finding.reason, "stable": finding.stable,
            "limited": finding.stable != finding.curve.rates[-1],
            "ceiling": finding.ceiling, "part": finding.curve.updates / horizon, "epochs": finding.curve.epochs,
            "updates": finding.cost["updates"], "rules": dict(finding.rules),
        })  # fmt: skip
    return found


def torch_lr_finder(search: Search) -> list[float | None]:
    import matplotlib.pyplot as plt
    from torch_lr_finder import LRFinder, TrainDataLoaderIter

    class Batches(TrainDataLoaderIter):
        def inputs_labels_from_batch(self, batch: Any) -> Any:
            return batch[0], batch[1]

    found: list[float | None] = []
    for repeat in range(REPEATS):
        s = Setting(search, 1000 + repeat)
        finder = LRFinder(s.model, s.optimizer, s.loss, device="cpu")
        finder.optimizer.param_groups[0]["lr"] = 1e-7
        finder.range_test(Batches(s.loader), start_lr=1e-7, end_lr=10, num_iter=100)
        figure, axes = plt.subplots()
        shown = finder.plot(ax=axes, suggest_lr=True)
        plt.close(figure)
        found.append(float(shown[1]) if isinstance(shown, tuple) else None)
    return found


def lightning(search: Search) -> list[float | None]:
    from lightning import LightningModule, Trainer
    from lightning.pytorch.tuner import Tuner

    class Module(LightningModule):
        def __init__(self, s: Setting) -> None:
            super().__init__()
            self.lr, self.model, self.kept, self.criterion = 1e-3, s.model, s, s.loss

        def training_step(self, batch: Any, _: int) -> Any:
            return self.criterion(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            self.kept.optimizer.param_groups[0]["lr"] = self.lr
            return self.kept.optimizer

    found: list[float | None] = []
    for repeat in range(REPEATS):
        s = Setting(search, 1000 + repeat)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(max_epochs=100, accelerator="cpu", enable_model_summary=False, **quiet)
        finder = Tuner(trainer).lr_find(Module(s), train_dataloaders=s.loader)
        rate = finder.suggestion() if finder is not None else None
        found.append(None if rate is None else float(rate))
    return found


def measure(again: bool) -> None:
    """Measure what is not in the file yet, pair by pair; with ``again`` every probe anew."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for task, optimizer in PAIRS:
        started, key = time.perf_counter(), f"{task} {optimizer}"
        search = Search(task, optimizer)
        if key not in results:
            horizons = {str(horizon): truth(search, horizon) for horizon in HORIZONS}
            peers = {"torch-lr-finder": torch_lr_finder(search), "lightning": lightning(search)}
            results[key] = {"horizons": horizons, **peers}
        for horizon, measured in results[key]["horizons"].items():
            if again or "probes" not in measured:
                measured["probes"] = probes(search, int(horizon))
        RESULTS.write_text(json.dumps(results))
        print(f"{key}: {time.perf_counter() - started:.0f} s", flush=True)


def truth(search: Search, horizon: int) -> dict[str, Any]:
    """The exhaustive search, as plain JSON, with its difference to PyTorch at the shorter horizon."""
    found = search.truth(horizon, *((8, 12, 1) if search.task.name in LARGE else (12, 12, 2)))
    best = int(np.nanargmin(np.asarray(found.losses, float).mean(0)))
    difference = search.worst_difference(horizon, found, [(0, best)]) if horizon == HORIZONS[0] else None
    losses = [[float(f"{x:.6g}") if math.isfinite(x) else None for x in row] for row in found.losses]
    return {"rates": found.rates, "losses": losses, "difference": difference}


# -- scores ------------------------------------------------------------------------------------------------------------


def cases(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One for each pair and horizon: the truth and every probe."""
    found = []
    for key, entry in results.items():
        for horizon, measured in entry["horizons"].items():
            losses = [[math.nan if x is None else x for x in row] for row in measured["losses"]]
            found.append({"pair": key, "horizon": int(horizon), "truth": Truth(measured["rates"], losses), **measured})
    return found


def fitted(known: list[dict[str, Any]]) -> tuple[float, float]:
    """The two constants of the exponent: least absolute error over all probes of ``known``."""
    rows = [
        (math.log2(p["rate"]) - case["truth"].best, -math.log2(p["part"]), p["epochs"])
        for case in known
        for p in case["probes"]
        if p["rate"] is not None
    ]
    high, octaves, epochs = map(np.array, zip(*rows, strict=True))
    grid = [(a, b) for a in np.arange(-0.5, 1.001, 0.02) for b in np.arange(0.0, 0.401, 0.01)]
    passes = np.log2(np.maximum(epochs, 1.0))
    return min(grid, key=lambda ab: np.abs(high - octaves * np.clip(ab[0] + ab[1] * passes, 0.0, 1.0)).sum())


def corrected(probe: dict[str, Any], constants: tuple[float, float]) -> float | None:
    """The suggestion that a probe would have made with other constants."""
    if probe["suggestion"] is None:
        return None
    rate = probe["rate"] * probe["part"] ** exponent(probe["epochs"], *constants)
    return float(min(rate, 0.9 * probe["stable"])) if probe["limited"] else float(rate)


def scored(results: dict[str, Any]) -> list[dict[str, Any]]:
    """For each pair and horizon the error and regret of every finder."""
    everything = cases(results)
    rows = []
    for case in everything:
        constants = fitted([other for other in everything if other["pair"] != case["pair"]])
        entry = results[case["pair"]]
        suggestions: dict[str, list[float | None]] = {
            "probe": [corrected(p, constants) for p in case["probes"]],
            "probe, not corrected": [p["rate"] for p in case["probes"]],
            "probe, as shipped": [corrected(p, (BASE, PER_DOUBLING)) for p in case["probes"]],
            **{name: [p["rules"][name] for p in case["probes"]] for name in ("valley", "slide", "minimum", "steep")},
            "torch-lr-finder": entry["torch-lr-finder"],
            "lightning": entry["lightning"],
        }
        row = {"pair": case["pair"], "horizon": case["horizon"], "best": 2.0 ** case["truth"].best}
        row |= {"error": case["truth"].error, "constants": constants, "truth": case["truth"], "finders": {}}
        row["updates"] = statistics.median(p["updates"] for p in case["probes"])
        for name, rates in suggestions.items():
            octaves = [math.log2(rate) for rate in rates if rate]
            regrets = [case["truth"].regret(x) for x in octaves]
            row["finders"][name] = {
                "off": statistics.median(x - case["truth"].best for x in octaves) if octaves else None,
                "regret": statistics.median(regrets) if regrets else math.inf,
                "spread": statistics.stdev(octaves) if len(octaves) > 1 else 0.0,
                "declined": len(rates) - len(octaves),
            }
        rows.append(row)
    return rows


# -- the page ----------------------------------------------------------------------------------------------------------

PEERS = ("valley", "slide", "minimum", "steep", "torch-lr-finder", "lightning")


def table(rows: list[dict[str, Any]]) -> str:
    """What is said in docs/finder.md."""
    names = [RULES[name].replace("fastai, ", "").replace("fastai's default, ", "") for name in PEERS]
    head = "| task, optimizer | updates | best rate | 1 se | probe | regret | cost | " + " | ".join(names) + " |"
    lines = [head, "|" + "---|" * head.count(" | ") + "---|"]
    for row in rows:
        found = row["finders"]
        lines.append(
            f"| {row['pair'].replace(' ', ', ')} | {row['horizon']} | {row['best']:.2g} | {row['error']:.1%} | "
            f"{_off(found['probe'])} | {_part(found['probe']['regret'])} | {row['updates']:g} | "
            + " | ".join(f"{_off(found[name])} ({_part(found[name]['regret'])})" for name in PEERS)
            + " |"
        )
    head = (
        "| over all pairs and horizons | median error | within 1 octave | median regret | regret in reach | declined |"
    )
    summary = ["", head, "|---|---|---|---|---|---|"]
    for name in ("probe", "probe, as shipped", "probe, not corrected", *PEERS):
        found = [row["finders"][name] for row in rows]
        errors = [abs(f["off"]) if f["off"] is not None else math.inf for f in found]
        within = sum(f["regret"] <= max(0.02, row["error"]) for f, row in zip(found, rows, strict=True))
        summary.append(
            f"| {RULES.get(name, name)} | {statistics.median(errors):.2f} | "
            f"{sum(e <= 1 for e in errors)} of {len(rows)} | "
            f"{_part(statistics.median(f['regret'] for f in found))} | {within} of {len(rows)} | "
            f"{sum(f['declined'] for f in found)} of {REPEATS * len(rows)} |"
        )
    return "\n".join([*lines, *summary, "", *beaten(rows)])


def beaten(rows: list[dict[str, Any]]) -> list[str]:
    """Against each peer: on how many pairs the probe is nearer to the best rate, and loses less, over both horizons."""
    lines = []
    for name in PEERS:
        pairs = {row["pair"] for row in rows}
        nearer = closer = 0
        for pair in pairs:
            mine = [row for row in rows if row["pair"] == pair]
            off = [statistics.fmean(_far(r["finders"][n]["off"]) for r in mine) for n in ("probe", name)]
            lost = [statistics.fmean(min(r["finders"][n]["regret"], 99) for r in mine) for n in ("probe", name)]
            nearer, closer = nearer + (off[0] < off[1]), closer + (lost[0] < lost[1])
        lines.append(
            f"- Against {RULES[name]}: nearer to the best rate on {nearer} of {len(pairs)} pairs, less lost on {closer}"
        )
    pairs = sorted({row["pair"] for row in rows})
    all_at_once = 0
    for pair in pairs:
        mine = [row for row in rows if row["pair"] == pair]
        lost = [statistics.fmean(min(r["finders"][n]["regret"], 99) for r in mine) for n in ("probe", *PEERS)]
        all_at_once += lost[0] < min(lost[1:])
    return [*lines, f"- Against the best of the six on each pair, chosen afterwards: less lost on {all_at_once}"]


def _far(off: float | None) -> float:
    return 99.0 if off is None else abs(off)


def _off(found: dict[str, Any]) -> str:
    return "declined" if found["off"] is None else f"{found['off']:+.1f}"


def _part(part: float) -> str:
    return "diverges" if part == math.inf else f"{part:.1%}" if part < 10 else f"{part:.0f}x"


def picture(rows: list[dict[str, Any]]) -> None:
    """The error of every finder on every pair and horizon."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "ratewise"
    names = ("probe", *PEERS)
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for y, name in enumerate(reversed(names)):
        off = [row["finders"][name]["off"] for row in rows if row["finders"][name]["off"] is not None]
        nudged = [y + 0.25 * (i / max(len(off) - 1, 1) - 0.5) for i in range(len(off))]
        axes.scatter(off, nudged, s=14, alpha=0.6, color="C0" if name == "probe" else "C7")
        axes.plot([statistics.median(off)] * 2, [y - 0.3, y + 0.3], color="C3")
    axes.axvspan(-1, 1, color="C2", alpha=0.15, lw=0)
    axes.set_yticks(range(len(names)), [RULES.get(name, name) for name in reversed(names)])
    axes.set_xlabel("octaves above the best rate of full-length runs; medians in red, one octave shaded")
    figure.savefig(PICTURE, metadata={"Date": None})
    plt.close(figure)


def write(results: dict[str, Any]) -> None:
    """Put table and picture into the docs."""
    rows = scored(results)
    text = PAGE.read_text()
    begin, end = "<!-- measured: begin -->", "<!-- measured: end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    worst = max(e["horizons"][str(HORIZONS[0])]["difference"] for e in results.values())
    a, b = fitted(cases(results))
    facts = (
        f"Correction fitted on all pairs: base {a:.2f}, {b:.2f} per doubling of the epochs. Leaving out one pair it is "
        f"{_range(row['constants'][0] for row in rows)} and {_range(row['constants'][1] for row in rows)}. The losses "
        f"of the search differ from the same runs in PyTorch by at most {worst:.1e}. A probe took "
        + " and ".join(
            f"{_range(row['updates'] for row in rows if row['horizon'] == h)} updates at {h}" for h in HORIZONS
        )
        + "."
    )
    PAGE.write_text(f"{before}{begin}\n{table(rows)}\n\n{facts}\n{end}{after}")
    picture(rows)
    print(table(rows), facts, sep="\n")


def _range(values: Any) -> str:
    found = sorted(values)
    return f"{found[0]:g} to {found[-1]:g}"


def main() -> None:
    """Measure what is missing, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="measure nothing")
    parser.add_argument("--probes", action="store_true", help="measure the probes again, but not the truth")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    given = parser.parse_args()
    if not given.again:
        measure(given.probes)
    write(json.loads(RESULTS.read_text()))


if __name__ == "__main__":
    main()
