"""The program ``ratewise``: its commands, and how a mistake becomes one line.

Data goes to stdout, everything else to stderr. Exit status: 0 good, 1 failed, 2 misuse. Every command imports what
it needs when it runs, so that ``--help`` is quick.
"""

import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from rich.console import Console
except ImportError:  # the program is installed with the core, its libraries with the extra "cli"
    sys.exit('ratewise: the command line is not installed. Run: pip install "ratewise[cli]".')

from ratewise.cli import plain
from ratewise.cli.calibrate import calibrate
from ratewise.cli.compare import compare, report
from ratewise.cli.doctor import doctor
from ratewise.cli.export import export
from ratewise.cli.find import find
from ratewise.cli.replicate import replicate
from ratewise.errors import FinderError, LabError, MissingDependency, RatewiseError, ScheduleError, UnknownName, nearest

_INTERRUPTED = 130  # what typer returns when Ctrl-C ended a command
UsageError: Any = typer.BadParameter.__bases__[0]

_EXTRAS = dict.fromkeys(
    ("filelock", "loky", "numpy", "optuna", "scipy", "sklearn", "sqlalchemy", "threadpoolctl"), "lab"
) | {
    "torch": "torch",
    "keras": "keras",
    "tensorflow": "keras",
    "jax": "jax",
    "optax": "jax",
    "matplotlib": "plot",
}
"""Which extra brings a package."""

app = typer.Typer(
    help="Define learning-rate strategies, look at them, and compare them on a task.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
err = Console(stderr=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the program; a user's mistake is one line on stderr, never a traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends as Ctrl-C does
    plain.prepare()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status."""
    try:
        status = app(arguments or ["--help"], prog_name="ratewise", standalone_mode=False)
        sys.stdout.flush()
        if status == _INTERRUPTED:
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except UsageError as error:
        return _complain(_usage(error), 2)
    except RatewiseError as error:
        misuse = isinstance(error, (FinderError, ScheduleError, UnknownName)) or type(error) is LabError
        return _complain(str(error), 2 if misuse else 1)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        return _complain(str(MissingDependency(missing, _EXTRAS[missing], f"this command needs {missing}")), 1)
    except (KeyboardInterrupt, typer.Abort):
        kept = arguments[:1] in (["compare"], ["calibrate"])
        more = " Finished runs are kept: the same command goes on where it stood." if kept else ""
        return _complain(f"interrupted.{more}", 1)
    except BrokenPipeError:  # `ratewise list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _complain(f"{error.filename or 'output'}: {error.strerror or error}.", 1)


def _complain(message: str, status: int) -> int:
    print(f"ratewise: {' '.join(message.split())}", file=sys.stderr)
    return status


def _usage(error: Any) -> str:
    """The complaint of the option parser, with the nearest known command or option."""
    message, context = error.format_message().split("\n")[0], error.ctx
    option = getattr(error, "option_name", None)
    if option and context is not None:
        return f"no such option: {option}.{nearest(option, (n for p in context.command.params for n in p.opts))}"
    if message.startswith("No such command") and context is not None:
        command = message.split("'")[1]
        return f"no such command: {command}.{nearest(command, context.command.commands)}"
    command = context.info_name if context is not None and context.parent else ""
    return " ".join(f"{message.rstrip('.')}. See: ratewise {command} --help".split())


def _version(wanted: bool) -> None:
    if wanted:
        from ratewise import __version__

        print(f"ratewise {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Define learning-rate strategies, look at them, and compare them on a task."""


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))


for command in (doctor, export, find, compare, report, calibrate, replicate):
    app.command()(command)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List strategies, built-in tasks and recipes.

    Example: ratewise list
    """
    from ratewise.cli import screens

    inventory = screens.inventory()
    _print_json(inventory) if as_json else screens.show_inventory(inventory)


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="A strategy, e.g. one_cycle.")],
    steps: Annotated[int, typer.Option(help="Updates of the run that is drawn.", min=1)] = 300,
    as_json: Json = False,
) -> None:
    """Explain a strategy: what it does, its formula, when to use it, and its curve.

    Example: ratewise explain one_cycle
    """
    from ratewise.cli import screens
    from ratewise.lab.catalogue import strategy

    found = strategy(name)
    _print_json(screens.card(found, steps)) if as_json else screens.show_card(found, steps)


@app.command()
def show(
    expression: Annotated[str, typer.Argument(metavar="EXPR", help="A schedule, e.g. 'Cosine(0.1, 0.0).warmup(50)'.")],
    steps: Annotated[int | None, typer.Option(help="Updates of the run.", min=1)] = None,
    png: Annotated[Path | None, typer.Option(help="Write the curve as a picture.", dir_okay=False)] = None,
    as_json: Json = False,
) -> None:
    """Draw a schedule in the terminal, as a picture, or as numbers.

    Example: ratewise show "Cosine(0.1, 0.0).warmup(50)" --steps 1000
    """
    from ratewise.cli import screens
    from ratewise.core.parse import parse

    if png is not None:
        screens.check_picture(png)
    schedule = screens.settled(parse(expression), steps, err)
    steps = steps or math.ceil(schedule.steps)
    if png is not None:
        screens.write_png(schedule, steps, png)
        err.print(f"picture: {png}")
    if as_json:
        _print_json(screens.numbers(schedule, steps))
    elif png is None:
        screens.show_curve(schedule, steps)
