"""How long the main job takes, and what a run costs in it, beside the usual ways of doing the same.

    python benchmarks/main_job.py [--trials 60] [--skip-ray]

The usual way is a trial per (strategy, rate, seed) with a plain training loop inside: an Optuna study (two processes on
one SQLite file), and Ray Tune (two workers). All train the same model on the same batches of the same grid; theirs run
a part of the grid, and their time for all of it is what a trial cost times the number of runs. Starting up and imports
count for us and not for them.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from ratewise.lab.catalogue import CATALOGUE, DEFAULT
from ratewise.lab.loading import load
from ratewise.lab.runs import Cohort, Member, Run, execute

STEPS = 300
GRID = {"strategy": list(DEFAULT), "octave": list(range(-3, 4)), "seed": list(range(5))}


def ours(folder: Path) -> tuple[float, int]:
    """Seconds of `ratewise compare digits` as a whole process, and the runs that it made."""
    store = folder / "runs.journal"
    command = [sys.executable, "-c", "from ratewise.cli.main import main; main()", "compare", "digits"]
    started = time.perf_counter()
    subprocess.run([*command, "--store", str(store)], check=True, capture_output=True)
    return time.perf_counter() - started, store.read_text().count('"key"')


def trained(name: str, octave: int, seed: int) -> float:
    """One run of the grid as an ordinary loop; its validation loss."""
    rate = CATALOGUE[name].peak(STEPS) * 2.0**octave
    run = Run(load("digits").fingerprint, name, "", rate, seed, "tune", STEPS, "one-by-one")
    member = Member(CATALOGUE[name].with_peak(rate, STEPS), seed, STEPS, "tune")
    (result,) = execute(Cohort("digits", (run,), (member,)))
    return 10.0 if result["loss"] is None else float(result["loss"])


def one_study(location: str, trials: int) -> float:
    """A worker of an Optuna study: seconds of so many trials, after three that are not counted."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.GridSampler(GRID, seed=0)
    study = optuna.load_study(study_name="grid", storage=location, sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        name = trial.suggest_categorical("strategy", GRID["strategy"])
        return trained(name, trial.suggest_int("octave", -3, 3), trial.suggest_int("seed", 0, 4))

    study.optimize(objective, n_trials=3)
    started = time.perf_counter()
    study.optimize(objective, n_trials=trials)
    return time.perf_counter() - started


def optunas(folder: Path, trials: int) -> float:
    """Seconds per trial of an Optuna study with two processes."""
    import optuna

    location = f"sqlite:///{folder / 'optuna.db'}"
    optuna.create_study(study_name="grid", storage=location, sampler=optuna.samplers.GridSampler(GRID, seed=0))
    with ProcessPoolExecutor(2) as pool:
        seconds = list(pool.map(one_study, [location] * 2, [trials // 2] * 2))
    return max(seconds) / trials


def rays(folder: Path, trials: int) -> float:
    """Seconds per trial of Ray Tune with two workers: the difference of two lengths, so starting is not counted."""
    import ray
    from ray import tune

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    def objective(config: dict[str, Any]) -> None:
        tune.report({"loss": trained(config["strategy"], config["octave"], config["seed"])})

    def fitted(count: int) -> float:
        space = {key: tune.choice(values) for key, values in GRID.items()}
        tuner = tune.Tuner(
            tune.with_resources(objective, {"cpu": 1}), param_space=space,
            tune_config=tune.TuneConfig(num_samples=count, metric="loss", mode="min", reuse_actors=True),
            run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
        )  # fmt: skip
        started = time.perf_counter()
        tuner.fit()
        return time.perf_counter() - started

    few = fitted(6)
    return (fitted(6 + trials) - few) / trials


def main() -> None:
    """Measure all and print them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--skip-ray", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds, runs = ours(folder)
        print(
            f"ratewise compare digits  {seconds:6.1f} s for {runs} runs: {1000 * seconds / runs:.1f} ms each",
            flush=True,
        )
        peers = {"Optuna": optunas} if arguments.skip_ray else {"Optuna": optunas, "Ray Tune": rays}
        for peer, measure in peers.items():
            per_trial = measure(folder, arguments.trials)
            print(
                f"{peer:23} {per_trial * runs:6.1f} s for as many (from {arguments.trials}): {1000 * per_trial:.1f} ms "
                f"each; {per_trial * runs / seconds:.1f} times ours", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
