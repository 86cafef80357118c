"""What a race saves, and what it costs: on ten settings, against the search that tunes everything at full length.

    python benchmarks/race.py [--settings wine-150 digits-300 ...] [--engine jax]

Both choose a strategy and a rate by validation loss; both winners are then trained on twelve fresh seeds and compared
by the lab's own verdict (delta 5%). Updates are those of tuning, planned and really made (beginnings that several runs
share are trained once).
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from ratewise.lab import stats
from ratewise.lab.centres import centred
from ratewise.lab.compare import carry_out, planned
from ratewise.lab.loading import load
from ratewise.lab.plan import Budget, Plan
from ratewise.lab.pools import pool
from ratewise.lab.store import Store

SETTINGS = (
    ("wine", 150), ("iris", 150), ("breast-cancer", 200), ("diabetes", 200), ("digits", 300), ("digits", 900),
    ("digits-clean", 600), ("digits-softmax", 300), ("noisy-regression", 1000), ("stdlib-chars", 400),
)  # fmt: skip


def searched(name: str, steps: int, race: bool, engine: str, store: Store) -> dict:
    """Carry out one search with its fresh seeds; return its winner's fresh losses and what tuning cost."""
    task = load(name)
    plan = planned(task, None, Budget(steps=steps, race=race), engine)
    plan = replace(plan, **centred(plan, task, "transfer", None))
    with pool(2) as processes:
        carry_out(plan, task, store, processes)
    results = store.results()
    choices = plan.choices(results)
    ranked = [(c.score, n) for n, c in choices.items() if c.best is not None and not c.dropped]
    winner = min(ranked)[1]
    strategy = next(s for s in plan.strategies if s.name == winner)
    fresh = [results[run.key]["loss"] for run in plan.fresh(strategy, choices[winner].best)]
    return {"winner": winner, "rate": choices[winner].best, "losses": fresh, **cost(plan, results)}


def cost(plan: Plan, results: dict) -> dict:
    """Updates of tuning: as planned, and as really made."""
    spent = [run for runs in plan.spent(results).values() for run in runs if run.phase == "tune"]
    return {"planned": sum(run.steps for run in spent), "made": sum(results[run.key]["updates"] for run in spent)}


def main() -> None:
    """Measure and print a line for each setting."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", nargs="*", default=[f"{name}-{steps}" for name, steps in SETTINGS])
    parser.add_argument("--engine", default="population")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    lines = []
    print(
        f"{'setting':24} {'exhaustive':18} {'race':18} {'updates':>8} {'difference':>11}  verdict on the race's winner"
    )
    for setting in arguments.settings:
        name, _, steps = setting.rpartition("-")
        found = {}
        for race in (False, True):
            with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "runs.journal", write=True) as store:
                store.open_study(name)
                found[race] = searched(name, int(steps), race, arguments.engine, store)
        whole, raced = found[False], found[True]
        worst = max(x for r in (whole, raced) for x in r["losses"] if x is not None)
        base, rival = ([worst if x is None else x for x in r["losses"]] for r in (whole, raced))
        mean = sum(base) / len(base)
        difference = stats.compared(base, [rival], 0.05 * mean)[0]
        share, gap = raced["planned"] / whole["planned"], difference.mean / mean
        print(
            f"{setting:24} {whole['winner']:10} {whole['rate']:<7.3g} {raced['winner']:10} {raced['rate']:<7.3g} "
            f"{share:8.1%} {gap:+11.1%}  {difference.verdict}", flush=True,
        )  # fmt: skip
        lines.append({"setting": setting, "share": share, "gap": gap, "verdict": difference.verdict,
                      "exhaustive": whole, "race": raced})  # fmt: skip
    good = sum(line["verdict"] != "worse" for line in lines)
    print(f"not worse on {good} of {len(lines)}; at most {max(line['share'] for line in lines):.1%} of the updates")
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=1) + "\n")
    sys.exit(0)


if __name__ == "__main__":
    main()
