"""The command ``ratewise replicate``."""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from ratewise.errors import LabError


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

    All 25 took 84 minutes on two busy cores, single ones from 2 seconds to 17 minutes. With --write, claims that are
    not named keep what the page's numbers say.

    Example: ratewise replicate decay-under-noise

    Example: ratewise replicate --write docs/claims.md
    """
    from ratewise.replicate import page, replicate as measure
    from ratewise.replicate.run import merged

    if write is not None and write.suffix == ".json":
        raise typer.BadParameter(
            f"{write} is where the numbers go. Write {write.with_suffix('.md')}.", param_hint="--write"
        )
    data = write.with_suffix(".json") if write is not None else None
    old = _known(data) if data is not None and data.exists() else None

    def each(result: dict[str, Any]) -> None:  # written as it goes: an interrupted suite keeps what it has
        if data is not None and write is not None:
            _keep(merged(old, result), data, write)

    with redirect_stdout(sys.stderr):
        found = measure(claims or (), quick=quick, progress=lambda line: print(line, file=sys.stderr), each=each)
    print(json.dumps(found, indent=2, allow_nan=False) if as_json else page.text(found, 100))


def _known(data: Path) -> dict[str, Any]:
    """What an earlier call has written.

    Raises:
        LabError: It is not that.
    """
    try:
        found = json.loads(data.read_text(encoding="utf-8"))
        if not {"name", "quick", "versions", "updates", "seconds"} <= set.intersection(*map(set, found["claims"])):
            raise KeyError
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(
            f"{data} does not hold what an earlier --write has measured: it is damaged, or of another version. "
            "Move it away, or write to another place."
        ) from error
    return found  # type: ignore[no-any-return]


def _keep(known: dict[str, Any], data: Path, write: Path) -> None:
    """Write each file whole or not at all, the numbers first: the rest follows from them."""
    from ratewise.cli.screens import write_text
    from ratewise.replicate import page

    write_text(data, json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    folder = write.with_suffix("")
    for name, drawing in page.pictures(known).items():
        write_text(folder / f"{name}.svg", drawing)
    write_text(write, page.markdown(known, folder.name))
