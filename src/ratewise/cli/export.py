"""The command ``ratewise export``."""

import json
from typing import Annotated

import typer

TARGETS = "torch, keras, optax, hf, yaml, json or python."


def export(
    expression: Annotated[str, typer.Argument(metavar="EXPR", help="A schedule, e.g. 'Cosine(0.1, 0.0).warmup(50)'.")],
    to: Annotated[str, typer.Option("--to", metavar="F", help=TARGETS)],
    steps: Annotated[int | None, typer.Option(help="Updates of the run.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a schedule as code of a framework, which needs no Ratewise, or as text.

    Example: ratewise export "Cosine(0.1, 0.0).warmup(50)" --steps 1000 --to torch
    """
    from ratewise.core.parse import parse
    from ratewise.errors import ScheduleError
    from ratewise.interop.exporters import export as exported

    schedule = parse(expression)
    schedule = schedule if steps is None else schedule.over(steps)
    try:
        text = exported(schedule, to)
    except ScheduleError as error:
        if ".over(" not in str(error):
            raise
        raise ScheduleError(f"{str(error).partition(' Give the length')[0]} Add --steps 1000, or what it is.") from None
    print(json.dumps({"spec": repr(schedule), "to": to, "code": text}, indent=2) if as_json else text)
