"""Optuna's journal file, written one cohort at a time and read however damaged it is.

The file holds one JSON object per line, as Optuna's own backend writes it, and Optuna's tools read it. Three fields
are added to each line, which Optuna ignores:

    study    the study's name, so that a damaged line that made the study does not take its runs with it
    cohort   [i, n]: line i of the n that were committed together
    check    CRC-32 of the line without this field

A cohort goes to the file in one write and one flush. Whoever is killed in between leaves the beginning of a cohort:
readers stop before it, and the next writer cuts it off. A line that is damaged is left where it is and passed over,
and so are the trials of other programs, which may keep their studies in the same file.
"""

import io
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import BaseJournalBackend

from ratewise.errors import StoreError
from ratewise.lab.claims import Guard

BEGINNING = b'{"op_code":'
_CREATE_STUDY, _DELETE_STUDY = 0, 1  # Optuna's numbers for what a line does
_END = re.compile(rb',"cohort":\[(\d+),(\d+)\],"check":"([0-9a-f]{8})"\}\n\Z')


class Journal(BaseJournalBackend):
    """A journal file.

    Args:
        path: The file; it exists.
        guard: Held around each write.

    Attributes:
        damaged: What could not be read: where, and what is left of it.
    """

    def __init__(self, path: Path, guard: Guard) -> None:
        self._path, self._guard = path, guard
        self._held: list[str] | None = None  # lines of the cohort that is being gathered
        self._seen = 0
        self._replay()

    def _replay(self) -> None:
        """Read the file from its beginning."""
        self._offset = self._line = self._given = self._shown = self._studies = 0
        self._ids: dict[str, int] = {}
        self.damaged: list[tuple[str, str]] = []
        self._optuna: optuna.storages.JournalStorage | None = None

    @property
    def storage(self) -> optuna.storages.JournalStorage:
        """Optuna's view of the file."""
        if self._optuna is None:
            self._optuna = optuna.storages.JournalStorage(self)
        return self._optuna

    def studies(self) -> list[str]:
        """Return the names of the studies."""
        return [study.study_name for study in self.storage.get_all_studies()]

    def rewind(self) -> None:
        """Let ``rows`` begin again."""
        self._seen = 0

    def rows(self, study: str) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Yield the trials that were not yielded before: where, attributes, and the text that these were made of."""
        trials = self.storage.get_all_trials(self.storage.get_study_id_from_name(study), deepcopy=False)
        new, self._seen = trials[self._seen :], len(trials)
        for trial in new:
            yield f"trial {trial.number}", trial.user_attrs, ""  # a line that is damaged makes no trial

    def add(self, study: str, trials: list[optuna.trial.FrozenTrial]) -> None:
        """Add finished trials."""
        number = self.storage.get_study_id_from_name(study)
        for trial in trials:
            self.storage.create_new_trial(number, template_trial=trial)

    def plan(self, study: str) -> Any:
        """Return the study's plan, or None."""
        return self.storage.get_study_user_attrs(self.storage.get_study_id_from_name(study)).get("plan")

    def close(self) -> None:
        """Nothing is kept open."""

    # What Optuna asks of a backend.

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield what the file holds beyond the logs that were read before, and then what is being gathered."""
        assert log_number_from == self._given
        for line in self._new_lines():
            for log in self._logs(line):
                self._given += 1
                yield log
        while self._held is not None and self._shown < len(self._held):
            self._shown += 1
            self._given += 1
            yield json.loads(self._held[self._shown - 1])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Gather the logs for the end of ``together``, or write them now."""
        if self._held is None:
            with self.together():
                self.append_logs(logs)
            return
        names = {number: name for name, number in self._ids.items()}
        for log in logs:
            study = {"study": names[log["study_id"]]} if log.get("study_id") in names else {}
            self._held.append(json.dumps(log | study, separators=(",", ":")))

    @contextmanager
    def together(self, _study: str = "") -> Iterator[None]:
        """Nobody else writes during the block, and what is added in it is kept as a whole or not at all."""
        with self._guard():
            self._cut()
            self._held, self._shown = [], 0
            try:
                yield
                self._write(self._held)
            except BaseException:
                self._held = None
                self._replay()  # Optuna has seen lines that are not in the file
                raise
            self._held = None

    def _cut(self) -> None:
        """Remove what a killed program left behind the last whole cohort: it was never acknowledged."""
        keep = self._offset + _whole(self._unread())
        if keep != self._path.stat().st_size:
            os.truncate(self._path, keep)

    def _write(self, held: list[str]) -> None:
        lines = []
        for i, text in enumerate(held, 1):
            line = f'{text[:-1]},"cohort":[{i},{len(held)}]}}'.encode()
            lines.append(line[:-1] + b',"check":"%08x"}\n' % zlib.crc32(line))
        block = b"".join(lines)
        with open(self._path, "ab", buffering=0) as file:
            size = file.tell()
            try:
                rest = memoryview(block)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(size)
                raise
        if self._shown:  # Optuna has these lines already
            self._offset += len(block)
            self._line += len(lines)

    def _unread(self) -> bytes:
        with open(self._path, "rb") as file:
            if os.fstat(file.fileno()).st_size < self._offset:
                raise StoreError(f"store {self._path}: was shortened by another program while it was in use.")
            file.seek(self._offset)
            return file.read()

    def _new_lines(self) -> Iterator[bytes]:
        data = self._unread()
        for line in io.BytesIO(data[: _whole(data)]):
            self._offset += len(line)
            self._line += 1
            yield line

    def _logs(self, line: bytes) -> Iterator[dict[str, Any]]:
        """Yield what Optuna is to know of a line."""
        log, ours = _parsed(line)
        code, name = log.get("op_code"), log.get("study_name", log.get("study"))
        theirs = isinstance(code, int) and isinstance(log.get("worker_id"), str) and "check" not in log
        if not ours and not theirs:
            self.damaged.append((f"line {self._line}", line.decode(errors="replace")))
        elif code == _CREATE_STUDY and isinstance(name, str):
            yield from self._created(log)
        elif ours and isinstance(name, str):
            if name not in self._ids:
                yield from self._created({"op_code": 0, "worker_id": "", "study_name": name, "directions": [1]})
            yield {**log, "study_id": self._ids[name]}
        elif code == _DELETE_STUDY and log.get("study_id") in self._ids.values() and not self.damaged:
            self._ids = {name: number for name, number in self._ids.items() if number != log["study_id"]}
            yield log

    def _created(self, log: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Number a study as Optuna does; a second line that makes the same one does nothing."""
        if log["study_name"] not in self._ids:
            self._ids[log["study_name"]] = self._studies
            self._studies += 1
        yield log


def _parsed(line: bytes) -> tuple[dict[str, Any], bool]:
    """Return the JSON object of a line, {} if it is none, and whether it is ours and whole."""
    end = _END.search(line)
    ours = end is not None and zlib.crc32(line[: end.start(3) - len(',"check":"')] + b"}") == int(end[3], 16)
    try:
        log = json.loads(line)
    except ValueError:
        return {}, False
    return (log, ours) if isinstance(log, dict) else ({}, False)


def _whole(data: bytes) -> int:
    """Return the length of the part of ``data`` that ends with a whole line, and with the last line of its cohort."""
    whole = end = data.rfind(b"\n") + 1
    before = None
    while end:
        start = data.rfind(b"\n", 0, end - 1) + 1
        mark = _END.search(data, start, end)
        here = (int(mark[1]), int(mark[2])) if mark else None
        if here is None or here != (before or here) or (before is None and here[0] == here[1]):
            return whole  # it is damaged, or belongs to a cohort before, or was whole to begin with
        whole = end = start
        if here[0] == 1:
            return whole
        before = (here[0] - 1, here[1])
    return whole
