"""The command ``ratewise find``."""

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

MOST = 1_000_000
"""Updates of a run or a range test; more is a mistake, as the tasks of a command line are small."""


def find(
    task: Annotated[str, typer.Argument(help="A built-in task (see: ratewise list) or path/to/file.py:name.")],
    optimizer: Annotated[str, typer.Option(help="sgd (with momentum 0.9), adam, adamw, rmsprop, adagrad, ...")] = "sgd",
    schedule: Annotated[
        str | None, typer.Option(metavar="EXPR", help="What the run will follow; linear decay by default.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Updates of the run, the task's own by default. Of a range test: 100.", min=1, max=MOST),
    ] = None,
    method: Annotated[str, typer.Option(help="probe (short copies of the run) or range (one rising rate).")] = "probe",
    low: Annotated[float, typer.Option(help="Lowest rate that may be tried.")] = 1e-7,
    high: Annotated[float, typer.Option(help="Highest.")] = 10.0,
    seeds: Annotated[
        int, typer.Option(help="Orders of the batches that the best rates are tried on.", min=1, max=100)
    ] = 3,
    seed: Annotated[int, typer.Option(help="Initial values, and the first order.", min=0)] = 0,
    engine: Annotated[str, typer.Option(help="torch or keras.")] = "torch",
    png: Annotated[Path | None, typer.Option(help="Write the drawing as a picture.", dir_okay=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find a learning rate for a task: draw what was measured, and say why this rate, or why none.

    Candidates run short copies of the whole schedule and are scored on the validation split. Exit status 1 if no
    rate can be suggested.

    Example: ratewise find digits --optimizer adam

    Example: ratewise find my_task.py:task --schedule "wsd(1)" --png a.png
    """
    from ratewise.cli import screens
    from ratewise.core.parse import parse
    from ratewise.core.recipes import linear_decay
    from ratewise.core.schedule import Schedule
    from ratewise.core.shapes import Constant
    from ratewise.errors import FinderError, ScheduleError
    from ratewise.lab.find import find as find_on
    from ratewise.lab.strategy import Strategy

    if schedule is not None and method == "range":
        raise FinderError("find: a range test knows no schedule. Leave out --schedule, or use --method probe.")
    default = Constant(1.0) if method == "range" else linear_decay(1.0)
    lr = default if schedule is None else parse(schedule)
    if not isinstance(lr, Schedule):
        raise ScheduleError(f"find: --schedule must have no rules, which wait for a metric, got {lr!r:.80}.")
    if png is not None:
        screens.check_picture(png)  # before the work
    strategy = Strategy("found", optimizer, lr, momentum=0.9 if optimizer == "sgd" else None)
    if engine == "keras":
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is loaded
    settings = {"low": low, "high": high, "seeds": seeds, "seed": seed}
    screens.announce(f"trying rates on {task}, which takes a few runs' time ...")
    with redirect_stdout(sys.stderr):  # what a task file prints is not data
        finding = find_on(task, strategy, steps, engine=engine, method=method, **settings)
    if as_json:
        print(json.dumps(finding.to_dict(), indent=2, allow_nan=False))
    else:
        screens.show_finding(screens.told(finding, method), strategy, engine)
    if png is not None:
        sys.stdout.flush()
        screens.write_finding(screens.told(finding, method), png)
        print(f"picture: {png}", file=sys.stderr)
    raise typer.Exit(1 if finding.suggestion is None else 0)
