"""The command ``ratewise calibrate``."""

import json
import os
import sys
from contextlib import redirect_stdout
from textwrap import fill
from typing import Annotated, Any

import typer
from rich.console import Console

from ratewise.lab import DEFAULT_STORE


def calibrate(
    task: Annotated[str, typer.Argument(help="A built-in task (see: ratewise list) or path/to/file.py:name.")],
    strategy: Annotated[
        str, typer.Option("--strategy", "-s", help="What every entry is: NAME, NAME=EXPR, or NAME=OPTIMIZER:EXPR.")
    ] = "cosine",
    entries: Annotated[
        list[int] | None, typer.Option(help="Equal entries in a study; repeat. 2 and 13 by default.", min=2)
    ] = None,
    studies: Annotated[int, typer.Option(help="Studies of each kind.", min=1)] = 2000,
    runs: Annotated[int, typer.Option(help="Runs trained at each rate, from which studies are drawn.", min=1)] = 400,
    seed: Annotated[int, typer.Option(help="Of the drawing.", min=0)] = 0,
    steps: Annotated[int | None, typer.Option(help="Updates of every run; the task's own by default.")] = None,
    engine: Annotated[str, typer.Option(help="population (or torch), one-by-one, jax or keras.")] = "population",
    workers: Annotated[int, typer.Option(help="Processes, of one thread each.", min=1)] = 2,
    store: Annotated[str, typer.Option("--store", help="File or database URL for finished runs.")] = DEFAULT_STORE,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 if a limit of false winners or of power is missed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how often a comparison of equals names a winner, and how often a real gap is found.

    One strategy is trained many times at each rate. Studies are drawn from these runs: every entry is that same
    strategy with seeds of its own, and goes through the whole comparison. Any better or worse is a false winner.

    Example: ratewise calibrate digits

    Example: ratewise calibrate wine --entries 2 --studies 5000 --check
    """
    from ratewise.cli import screens
    from ratewise.lab.calibrate import calibrated, missed
    from ratewise.lab.plan import Budget
    from ratewise.lab.spelled import read

    if engine == "keras":
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is loaded, here or in a worker
    with (
        screens.progress(Console(stderr=True)) as tick,
        redirect_stdout(sys.stderr),
    ):  # a task file's prints are no data
        found = calibrated(
            task, read(strategy), Budget(steps=steps), store, entries=entries or (2, 13),
            studies=studies, runs=runs, seed=seed, engine=engine, workers=workers, progress=tick,
        )  # fmt: skip
    print(json.dumps(found, indent=2, allow_nan=False) if as_json else text(found))
    failures = missed(found)
    for failure in failures if check else ():
        print(failure, file=sys.stderr)
    raise typer.Exit(1 if check and failures else 0)


def text(found: dict[str, Any]) -> str:
    """A calibration as lines of at most 80 characters."""
    lines = [f"{found['strategy']} on {found['task']}, {found['steps']} updates: equals compared with equals", ""]
    lines += ["entries  seeds  false winners (95% interval)   at one rate   by best fresh mean"]
    for row in found["false_winners"]:
        wrong = row["if_the_best_fresh_mean_were_the_reference"]["share"]
        head = f"{row['entries']:7}  {row['fresh_seeds']:5}  {_share(row):27}"
        lines += [f"{head}  {row['at_one_rate']['share']:12.1%}  {wrong:19.1%}"]
    lines += ["", "rivals   seeds  gap, in deviations           found (95% interval)"]
    for row in found["power"]:
        gap = f"{row['deviations']:.1f}, {row['kind']}"
        lines += [f"{row['rivals']:6}  {row['fresh_seeds']:6}  {gap:27}  {_share(row)}"]
    rates = ", ".join(f"{row['rate']:.3g} ({row['chosen']:.0%})" for row in found["false_winners"][-1]["rates"])
    notes = (
        found["drawn"],
        f"Rates chosen: {rates}. Between entries that chose different rates the difference is real; 'at one rate' is "
        "what remains if all have the rate that most of them chose.",
        "'By best fresh mean' is what would come of taking the entry with the best fresh mean as the reference: the "
        "reason why the reference is chosen by tuning score, before any fresh seed is run.",
    )
    return "\n".join([*lines, *(f"\n{fill(note, 80)}" for note in notes)])


def _share(row: dict[str, Any]) -> str:
    return f"{row['share']:6.1%} ({row['low']:.1%} to {row['high']:.1%})"
