"""How long the main job takes, and what a run costs in it, beside the usual way of doing the same with Optuna.

    python benchmarks/main_job.py

Optuna's way: one trial per (strategy, rate, seed), a plain training loop in the objective, its default sampler for
grids, an SQLite file. Both train the same model on the same batches; the ratio is of wall time per run.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna

from ratewise.lab.catalogue import CATALOGUE
from ratewise.lab.loading import load
from ratewise.lab.runs import Cohort, Member, Run, execute

STEPS, TRIALS = 300, 60


def ours(folder: Path) -> tuple[float, int]:
    """Seconds of `ratewise compare digits` as a whole process, and the runs that it made."""
    store = folder / "runs.journal"
    command = [sys.executable, "-c", "from ratewise.cli.main import main; main()", "compare", "digits"]
    started = time.perf_counter()
    subprocess.run([*command, "--store", str(store)], check=True, capture_output=True)
    return time.perf_counter() - started, store.read_text().count('"key"')


def optunas(folder: Path) -> float:
    """Seconds per trial of a plain Optuna study on part of the same grid."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    task = load("digits")
    grid = {"strategy": list(CATALOGUE), "octave": list(range(-3, 4)), "seed": list(range(5))}
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'optuna.db'}", sampler=optuna.samplers.GridSampler(grid, seed=0)
    )

    def objective(trial: optuna.Trial) -> float:
        name = trial.suggest_categorical("strategy", grid["strategy"])
        octave, seed = trial.suggest_int("octave", -3, 3), trial.suggest_int("seed", 0, 4)
        rate = CATALOGUE[name].peak(STEPS) * 2.0**octave
        run = Run(task.fingerprint, name, "", rate, seed, "tune", STEPS, "one-by-one")
        member = Member(CATALOGUE[name].with_peak(rate, STEPS), seed, STEPS, "tune")
        (result,) = execute(Cohort("digits", (run,), (member,)))
        return 10.0 if result["loss"] is None else float(result["loss"])

    study.optimize(objective, n_trials=3)  # imports and first use are not counted
    started = time.perf_counter()
    study.optimize(objective, n_trials=TRIALS)
    return (time.perf_counter() - started) / TRIALS


def main() -> None:
    """Measure both and print them."""
    with tempfile.TemporaryDirectory() as name:
        seconds, runs = ours(Path(name))
        per_trial = optunas(Path(name))
    print(f"ratewise compare digits   {seconds:6.1f} s for {runs} runs: {1000 * seconds / runs:.1f} ms")
    print(f"a plain Optuna study      {per_trial * runs:6.1f} s for as many (from {TRIALS}): {1000 * per_trial:.1f} ms")
    print(f"ratio                     {seconds / (per_trial * runs):6.2f}")


if __name__ == "__main__":
    main()
