"""The command ``ratewise replicate``."""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer


def replicate(
    claims: Annotated[list[str] | None, typer.Argument(help="Names of claims, e.g. too-high; all by default.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A part of the claims, at small sizes.")] = False,
    write: Annotated[
        Path | None,
        typer.Option(help="Write a Markdown page, its numbers (.json) and pictures beside it.", dir_okay=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure again what people say about learning rates: each claim holds, does not hold here, or is unresolved.

    All of them take minutes. With --write, claims that are not named keep what the page's numbers say.

    Example: ratewise replicate decay-under-noise

    Example: ratewise replicate --write docs/claims.md
    """
    from ratewise.replicate import page, replicate as measure
    from ratewise.replicate.run import merged

    data = write.with_suffix(".json") if write is not None else None
    old = json.loads(data.read_text(encoding="utf-8")) if data is not None and data.exists() else None

    def each(result: dict[str, Any]) -> None:  # written as it goes: an interrupted suite keeps what it has
        if data is not None and write is not None:
            known = merged(old, result)
            data.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            page.write(known, write)

    with redirect_stdout(sys.stderr):
        found = measure(claims or (), quick=quick, progress=lambda line: print(line, file=sys.stderr), each=each)
    print(json.dumps(found, indent=2, allow_nan=False) if as_json else page.text(found, 100))
