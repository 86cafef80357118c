"""The commands ``ratewise compare`` and ``ratewise report``."""

import json
import os
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ratewise.lab import DEFAULT_STORE

if TYPE_CHECKING:
    from ratewise.lab.plan import Plan

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Store = Annotated[str, typer.Option("--store", help="File or database URL where finished runs are kept.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Html = Annotated[Path | None, typer.Option("--html", help="Where to write the report page.", dir_okay=False)]
Markdown = Annotated[Path | None, typer.Option("--markdown", help="Write the report as Markdown too.", dir_okay=False)]


def seconds(text: str) -> float:
    """Return the seconds that ``90``, ``90s``, ``5m``, ``1.5h`` or ``2d`` stand for."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip().lower())
    value = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < value < 1e9:
        raise typer.BadParameter(f"{text!r} is no length of time above 0. Write for example 90s, 5m or 2h.")
    return value


def compare(
    task: Annotated[str, typer.Argument(help="A built-in task (see: ratewise list) or path/to/file.py:name.")],
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", "-s", help="NAME, or NAME=EXPR, or NAME=OPTIMIZER:EXPR; repeat. All by default."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates of every run; the task's own by default.")] = None,
    rates: Annotated[int, typer.Option(help="Peak rates in each strategy's window, a factor of 2 apart.")] = 7,
    tuning_seeds: Annotated[int, typer.Option(help="Runs per rate.")] = 5,
    slides: Annotated[int, typer.Option(help="How often a window may move while the best lies at its edge.")] = 8,
    fresh_seeds: Annotated[int, typer.Option(help="Runs at the chosen rate, on the test split.")] = 12,
    delta: Annotated[float, typer.Option(help="Smallest difference worth having, as a part of the loss.")] = 0.05,
    race: Annotated[
        bool, typer.Option("--race", help="Let complete short runs decide who is tuned at full length.")
    ] = False,
    centre: Annotated[
        str, typer.Option(help="Where windows start: transfer (catalogue and a bound), finder, or card.")
    ] = "transfer",
    control: Annotated[bool, typer.Option(help="Add a tuned AdamW with warm-up and decay.")] = True,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Most time for all of it: 90s, 5m, 2h. The plan is made to fit.")
    ] = None,
    updates: Annotated[int | None, typer.Option(help="Most optimizer updates for all of it.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Say what it would cost, and train nothing.")] = False,
    engine: Annotated[str, typer.Option(help="population (or torch), one-by-one, jax or keras.")] = "population",
    workers: Annotated[int, typer.Option(help="Processes, of one thread each.", min=1)] = 2,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Train on a Ray cluster: auto, or host:port of its head.")
    ] = None,
    cohort: Annotated[int, typer.Option(help="Runs that are trained together, at most.", min=1)] = 128,
    store: Store = DEFAULT_STORE,
    study: Annotated[str | None, typer.Option(help="Name of the study in the store; the task's by default.")] = None,
    html: Html = None,
    markdown: Markdown = None,
    as_json: Json = False,
) -> None:
    """Compare strategies on a task: each at its own best rate, on equal budgets and paired seeds.

    An interrupted comparison goes on where it stood when the same command is given again; given twice at the same
    time, both share the work.

    Example: ratewise compare digits

    Example: ratewise compare my_task.py:task --race --budget 5m
    """
    from ratewise.cli import screens
    from ratewise.lab.compare import compare as run_comparison, planned
    from ratewise.lab.loading import load
    from ratewise.lab.plan import Budget, fitted
    from ratewise.lab.spelled import read

    if engine == "keras":
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is loaded, here or in a worker
    limit = seconds(budget) if budget is not None else None
    chosen = [read(text) for text in strategy] if strategy else None
    given = Budget(
        steps=steps, rates=rates, tuning_seeds=tuning_seeds, fresh_seeds=fresh_seeds, slides=slides, delta=delta,
        race=race, updates=updates,
    )  # fmt: skip
    if preview and limit is not None:
        raise typer.BadParameter(
            "--preview trains nothing, so it cannot know what fits into --budget. Give one of them."
        )
    if preview:
        with redirect_stdout(sys.stderr):
            plan = fitted(planned(load(task), chosen, given, engine, cohort, control=control))
        _show_preview(plan, as_json)
        return
    err = Console(stderr=True, highlight=False)
    with screens.progress(err) as tick, redirect_stdout(sys.stderr):  # what a task file prints is not data
        result = run_comparison(
            task, chosen, given, store, engine=engine, centre=centre, control=control, seconds=limit, workers=workers,
            ray=ray, cohort=cohort, study=study, progress=tick, announce=lambda plan: screens.announce(_cost(plan)),
        )  # fmt: skip
    _finish(result, study or result["task"], store, html, markdown, as_json)


def report(
    study: Annotated[str, typer.Argument(help="Name of a study, as a rule the task's.")],
    store: Store = DEFAULT_STORE,
    html: Html = None,
    markdown: Markdown = None,
    export: Annotated[
        Path | None, typer.Option(help="Write every run to a .csv, .parquet or .json file.", dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a study again, finished or not, write its report page, and export its runs.

    Example: ratewise report digits

    Example: ratewise report digits --export runs.parquet
    """
    from ratewise.lab.compare import reported

    if export is not None:
        from ratewise.lab.export import export_runs

        export_runs(study, store, export)
        print(f"runs: {export}", file=sys.stderr)
    _finish(reported(study, store), study, store, html, markdown, as_json)


def _cost(plan: "Plan") -> str:
    """What a plan costs, in one line."""
    parts = " + ".join(f"{runs} {name}" for name, runs, _ in plan.preview())
    return f"{len(plan.strategies)} strategies: {parts} = {plan.least():,} runs, {plan.least_updates():,} updates" + (
        f" (at most {plan.budget.updates:,})" if plan.budget.updates else ", more where a window slides"
    )


def _show_preview(plan: "Plan", as_json: bool) -> None:
    stages = [{"stage": name, "runs": runs, "updates": updates} for name, runs, updates in plan.preview()]
    if as_json:
        total = {"runs": plan.least(), "updates": plan.least_updates(), "limit": plan.budget.updates}
        print(json.dumps({"strategies": [s.name for s in plan.strategies], "stages": stages, **total}, indent=2))
        return
    print(_cost(plan))
    for stage in stages:
        print(f"  {stage['stage']:<12} {stage['runs']:>7,} runs {stage['updates']:>12,} updates")


def _finish(
    result: dict[str, Any], study: str, store: str, html: Path | None, markdown: Path | None, as_json: bool
) -> None:
    """Print a comparison's result and write its pages."""
    from ratewise.cli import screens

    if html is None:
        folder = Path(store).parent if "://" not in store else Path(DEFAULT_STORE).parent
        html = folder / f"{study}.html"
    print(json.dumps(result, indent=2, allow_nan=False)) if as_json else screens.show_result(result)
    sys.stdout.flush()
    screens.write_page(result, html)
    print(f"report: {html}", file=sys.stderr)
    if markdown is not None:
        screens.write_markdown(result, markdown)
        print(f"report: {markdown}", file=sys.stderr)
