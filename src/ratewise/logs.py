"""Logs of the rate that each update used.

A log is any callable ``log(t, rates)``: ``t`` is the index of an update, ``rates`` the rate that this update used, by
name. The adapters call it, or the training loop does; so a list, Weights & Biases or MLflow need no class:

    scheduler.log_to(lambda t, rates: rows.append((t, rates)))
    scheduler.log_to(lambda t, rates: wandb.log({f"lr/{name}": rate for name, rate in rates.items()}, step=t))
    scheduler.log_to(lambda t, rates: mlflow.log_metrics(rates, step=t))

What has to be decided here is what a log does when training is resumed: the updates from there on happen again, so
what an earlier attempt wrote about them is replaced.
"""

import csv
import math
import operator
import os
import string
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from ratewise.core import checks
from ratewise.errors import AdapterError, ScheduleError


class CSVLog:
    """Write the rates to a CSV file: columns ``update`` and one for each name, a row for each update.

    Every row is handed to the operating system at once, in full precision. At the first row, and whenever the
    updates go back, the rows of that update and of later ones are dropped, as is a last line that was cut off when a
    process was killed; rows before stay. A name that comes later gets a new column, empty in earlier rows; a name
    that is gone leaves its cells empty. These rewrites are atomic. With several processes, let one write.

    Args:
        path: The file; its folder must exist. A file of an earlier attempt is continued.
        every: Log the updates 0, every, 2 * every, ...

    Raises:
        ScheduleError: ``every`` is no integer of at least 1; later, an update or a rate is no number.
        AdapterError: The folder is missing, or the file was not written by a CSVLog; nothing is overwritten.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, CSVLog(Path(folder, "lr.csv")) as log:
        ...     for t, rate in enumerate([0.1, 0.05, 0.025]):
        ...         log(t, {"body": rate})
        ...     log(1, {"body": 0.07})
        ...     print(log.path.read_text(), end="")
        update,body
        0,0.1
        1,0.07
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        self.path = Path(path).resolve()
        self.every = checks.whole("CSVLog", "every", every)
        self._names: list[str] = []
        self._next: float = math.inf  # above any update: the first one makes the file anew from what it holds
        self._file: TextIO | None = None
        if not self.path.parent.is_dir():
            raise AdapterError(f"CSVLog: the folder of {str(path)!r} does not exist. Make it first.")
        next(self._rows(), None)  # a foreign file is refused before the training starts, not in it

    def __call__(self, t: int, rates: Mapping[str, float]) -> None:
        """Write the rates that update ``t`` used."""
        t, rates = _update("CSVLog", t, rates)
        if t < self._next or not set(rates) <= set(self._names):
            self._rewrite(t, rates)
        self._next = math.inf  # as long as it is not sure that the row is whole
        if t % self.every == 0:
            self._append(t, rates)
        self._next = t + 1

    def _append(self, t: int, rates: dict[str, float]) -> None:
        if self._file is None:
            self._file = self.path.open("a", newline="", encoding="utf-8")
        _writer(self._file).writerow([t, *(rates.get(name, "") for name in self._names)])
        self._file.flush()

    def _rewrite(self, t: int, rates: Mapping[str, float]) -> None:
        """Keep what was written about updates before ``t``, with a column for each of ``rates``."""
        self.close()
        rows = self._rows()
        names = next(rows, ["update"])[1:]
        if "update" in rates:
            raise ScheduleError(
                "CSVLog: a rate cannot be called 'update', which is the first column. Rename the group."
            )
        self._names = names + [name for name in rates if name not in names]
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            with new.open("w", newline="", encoding="utf-8") as file:
                write = _writer(file).writerow
                write(["update", *self._names])
                for row in rows:
                    if int(row[0]) < t:
                        write(row + [""] * (1 + len(self._names) - len(row)))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        finally:
            new.unlink(missing_ok=True)

    def _rows(self) -> Iterator[list[str]]:
        """The header and the rows of the file, if there is one, without a last line that was cut off."""
        with suppress(FileNotFoundError), self.path.open(newline="", encoding="utf-8") as file:
            width, last = 0, -1
            try:
                for row in csv.reader((line for line in file if line.endswith("\n")), strict=True):
                    last = _checked(row, width, last)
                    width = width or len(row)
                    yield row
                if not width and self.path.stat().st_size:
                    raise ValueError
            except (ValueError, csv.Error):
                raise AdapterError(
                    f"CSVLog: {self.path} is not a file of CSVLog, at the latest from row {last + 2} on. It is left as "
                    "it is; give another path."
                ) from None

    def close(self) -> None:
        """Close the file; the next row opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "CSVLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(AttributeError):  # the constructor raised
            self.close()


class TensorBoardLog:
    """Write the rates to TensorBoard, each under its own tag, at the index of the update.

    TensorBoard keeps values in float32 unless its writer is told otherwise. What an earlier attempt wrote about
    updates that happen again is hidden by ``SummaryWriter(folder, purge_step=scheduler.position)``.

    Args:
        writer: Anything with ``add_scalar(tag, value, step)``: a ``SummaryWriter`` of torch or tensorboardX, or
            ``logger.experiment`` of Lightning's TensorBoardLogger. For TensorFlow's writers, which have no such
            method, a lambda is enough: ``lambda t, rates: [tf.summary.scalar(f"lr/{k}", v, t) for k, v in
            rates.items()]`` inside ``with writer.as_default():``.
        every: Log the updates 0, every, 2 * every, ...
        tag: What the curves are called; ``{name}`` stands for the name of the rate.

    Raises:
        ScheduleError: ``every`` or ``tag`` is not as above; later, an update or a rate is no number.
        AdapterError: The writer has no ``add_scalar``.
    """

    def __init__(self, writer: Any, every: int = 1, tag: str = "lr/{name}") -> None:
        if not callable(getattr(writer, "add_scalar", None)):
            raise AdapterError(
                f"TensorBoardLog: writer must have add_scalar(tag, value, step), got {checks.shown(writer)}. For "
                "tf.summary use a function: lambda t, rates: [tf.summary.scalar(k, v, t) for k, v in rates.items()]."
            )
        self.writer, self.tag = writer, tag
        self.every = checks.whole("TensorBoardLog", "every", every)
        if _fields(tag) != {"name"}:
            raise ScheduleError(f"TensorBoardLog: tag must contain {{name}}, as in 'lr/{{name}}', got {tag!r:.80}.")

    def __call__(self, t: int, rates: Mapping[str, float]) -> None:
        """Write the rates that update ``t`` used."""
        t, rates = _update("TensorBoardLog", t, rates)
        if t % self.every == 0:
            for name, rate in rates.items():
                self.writer.add_scalar(self.tag.format(name=name), rate, t)


def _update(where: str, t: Any, rates: Mapping[str, Any]) -> tuple[int, dict[str, float]]:
    """The update and its rates as plain numbers, once they can be nothing else."""
    index = -1
    with suppress(TypeError):  # a float, a word
        index = -1 if isinstance(t, bool) else operator.index(t)
    if index < 0:
        raise ScheduleError(f"{where}: t must be the index of an update, an integer of at least 0, got {t!r:.80}.")
    if not isinstance(rates, Mapping) or not rates:
        raise ScheduleError(f"{where}: rates must be like {{'body': 0.1}}, got {rates!r:.80}.")
    plain = {str(name): _rate(where, name, rate) for name, rate in rates.items()}
    return index, plain


def _rate(where: str, name: Any, rate: Any) -> float:
    with suppress(TypeError, ValueError):
        if math.isfinite(value := float(rate)):
            return value
    raise ScheduleError(f"{where}: the rate of {name!r:.80} must be a finite number, got {checks.shown(rate)}.")


def _checked(row: list[str], width: int, last: int) -> int:
    """The update of a row (-1 for the header, where ``width`` is 0) of a file that is ours; else ValueError."""
    if not width:
        if row[:1] != ["update"] or len(set(row)) < max(2, len(row)):
            raise ValueError
        return -1
    update, *rates = row
    if not (update.isascii() and update.isdigit() and int(update) > last and len(row) == width):
        raise ValueError
    for rate in rates:
        float(rate or 0.0)
    return int(update)


def _fields(tag: Any) -> set[str | None]:
    with suppress(TypeError, ValueError):
        return {field for _, field, _, _ in string.Formatter().parse(tag) if field is not None}
    return set()


def _writer(file: TextIO) -> Any:
    return csv.writer(file, lineterminator="\n")
