"""Every run of a study as a table, for whatever people analyse tables with."""

import csv
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from ratewise.errors import LabError, MissingDependency
from ratewise.lab.store import Store

Row = dict[str, Any]

_WHOLE = ("seed", "steps", "updates", "diverged")


def export_runs(study: str, store: str | Path, path: str | Path) -> int:
    """Write one row per committed run, in the order of their commits, and return how many there are.

    The columns are those of a ``Run`` (task, strategy, spec, rate, seed, phase, steps, engine, dtype), then what the
    run gave (loss, metric, first, diverged, trained, updates, started, seconds). Lists (curve, marks, valid, test) are
    JSON text in ``.csv`` and ``.parquet``; in ``.json`` everything is as it is. What a run does not have is empty
    (``null``), such as the loss of one that diverged. A file that exists is replaced, when the new one is complete.

    Args:
        study: Name of the study.
        store: File or database URL.
        path: Where to write, ending in ``.csv``, ``.parquet`` or ``.json``.

    Raises:
        LabError: The ending is not known.
        StoreError: The store cannot be read, or has no such study.
        MissingDependency: pyarrow is not installed, and the ending is ``.parquet``.
    """
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise LabError(f"export: the file must end in {', '.join(_WRITERS)}, got {path.name!r}.")
    with Store(store) as kept:
        kept.open_study(study)
        rows = [asdict(run) | result for run, result in kept.runs()]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        _WRITERS[path.suffix](rows, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return len(rows)


def _flat(rows: list[Row]) -> dict[str, list[Any]]:
    """The table by columns, lists and tables as JSON text."""

    def cell(value: Any) -> Any:
        return json.dumps(value) if isinstance(value, (list, dict)) else value

    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [cell(row.get(name)) for row in rows] for name in names}


def _write_csv(rows: list[Row], path: Path) -> None:
    columns = _flat(rows)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_parquet(rows: list[Row], path: Path) -> None:
    try:
        pa, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingDependency("pyarrow", "parquet", "export to .parquet") from error
    arrays = {}
    for name, values in _flat(rows).items():
        numbers = all(value is None or isinstance(value, (int, float)) for value in values)
        arrays[name] = pa.array(values, (pa.int64() if name in _WHOLE else pa.float64()) if numbers else pa.string())
    parquet.write_table(pa.table(arrays), path)


def _write_json(rows: list[Row], path: Path) -> None:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


_WRITERS: dict[str, Callable[[list[Row], Path], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".json": _write_json,
}
