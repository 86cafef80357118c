"""Where finished runs are kept: an Optuna storage, one study per comparison, one COMPLETE trial per run.

By default an Optuna journal file, which takes under a millisecond per run (SQLite: several). The program that
compares is the only writer, and holds a lock beside the file that the operating system releases when it dies;
workers return their results to it. So no run is committed twice, and a killed program leaves at most one torn last
line, which the next one removes.
"""

import hashlib
import math
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages.journal import JournalFileBackend

from ratewise.errors import StoreError, nearest
from ratewise.lab import DEFAULT_STORE
from ratewise.lab.runs import Run

_SQLITE = b"SQLite format 3"
_JOURNAL = b'{"op_code":'


class _Held:
    """The journal's lock: nothing to do, because the store holds the whole file."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Store:
    """Finished runs by key; a context manager.

    Args:
        location: A file (made if missing; an SQLite database is recognised), or a database URL such as
            ``postgresql://...``.
        write: Whether runs will be added; to a file only one program at a time may.

    Raises:
        StoreError: It is not a store, is in use, or cannot be read or written.
    """

    def __init__(self, location: str | Path = DEFAULT_STORE, *, write: bool = False) -> None:
        self.location = str(location)
        self._shown = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", self.location)  # a URL without its password
        self._write = write
        self._lock: FileLock | None = None
        self._journal: Path | None = None
        self._study: optuna.Study | None = None

    def __enter__(self) -> "Store":
        try:
            with self._explained("open"):
                self._storage = self._opened()
        except StoreError:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self._storage, optuna.storages.RDBStorage):
            self._storage.engine.dispose()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _opened(self) -> Any:
        location = self.location.removeprefix("sqlite:///")
        if "://" in location:
            if self._write:  # programs on one machine; several machines need a claim in the database
                name = hashlib.sha256(location.encode()).hexdigest()[:16]
                self._claim(Path(tempfile.gettempdir()) / f"ratewise-{name}")
            return optuna.storages.RDBStorage(location)
        path = Path(location)
        if path.is_dir():
            raise StoreError(f"store {self._shown}: is a folder. Give a file, for example {path / 'runs.journal'}.")
        if not path.exists() and not self._write:
            raise StoreError(f"store {self._shown}: there is no such file. Run `ratewise compare` first.")
        head = _head(path)
        if not (_JOURNAL.startswith(head) or head.startswith((_JOURNAL, _SQLITE))):  # it may be cut off that early
            raise StoreError(f"store {self._shown}: is not a store of Ratewise. It is untouched; give another file.")
        if self._write:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._claim(path)
        if head.startswith(_SQLITE) and not _is_optunas(path):
            raise StoreError(f"store {self._shown}: is another program's database. It is untouched.")
        if head.startswith(_SQLITE) or path.suffix in (".db", ".sqlite", ".sqlite3"):
            return optuna.storages.RDBStorage(f"sqlite:///{path}")
        if self._write:
            self._journal = path
            _drop_torn_line(path)
        journal = JournalFileBackend(str(path), lock_obj=_Held())  # type: ignore[arg-type]
        return optuna.storages.JournalStorage(journal)

    def _claim(self, path: Path) -> None:
        self._lock = FileLock(f"{path}.lock", blocking=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise StoreError(
                f"store {self._shown}: is in use by another ratewise. Wait for it, or give another --store."
            ) from error

    def studies(self) -> list[str]:
        """Return the names of the studies in the store."""
        with self._explained("read"):
            return sorted(study.study_name for study in self._storage.get_all_studies())

    def open_study(self, name: str) -> None:
        """Choose the study to read; when writing, make it if it is new.

        Raises:
            StoreError: There is no such study.
        """
        with self._explained("read"):
            known = self.studies()
            if name in known:
                self._study = optuna.load_study(study_name=name, storage=self._storage)
            elif self._write:
                with _quiet():
                    self._study = optuna.create_study(study_name=name, storage=self._storage)
            else:
                raise StoreError(f"store {self._shown}: has no study {name!r}.{nearest(name, known)}")

    def results(self) -> dict[str, dict[str, Any]]:
        """Return the result of every committed run by its key; the first committed one wins."""
        assert self._study is not None
        found: dict[str, dict[str, Any]] = {}
        with self._explained("read"):
            for trial in self._study.get_trials(deepcopy=False):
                if "key" in trial.user_attrs:
                    found.setdefault(trial.user_attrs["key"], trial.user_attrs["result"])
        return found

    def add(self, run: Run, result: dict[str, Any]) -> None:
        """Commit a finished run, complete, in one call.

        Raises:
            StoreError: It cannot be written; everything committed before stays.
        """
        assert self._study is not None
        loss = result["loss"]
        trial = optuna.trial.create_trial(
            values=[math.inf if loss is None else loss],
            params={"rate": run.rate, "seed": run.seed},
            distributions={
                "rate": optuna.distributions.FloatDistribution(run.rate, run.rate),
                "seed": optuna.distributions.IntDistribution(run.seed, run.seed),
            },
            user_attrs={"key": run.key, "run": asdict(run), "result": result},
        )
        size = self._size()
        try:
            with self._explained("write to"):
                self._study.add_trial(trial)
        except StoreError:
            if self._journal is not None and self._size() != size:
                os.truncate(self._journal, size)  # half a line would spoil the next one
            raise

    def plan(self) -> dict[str, Any] | None:
        """Return the plan that was last carried out in the study, or None."""
        assert self._study is not None
        with self._explained("read"):
            return self._study.user_attrs.get("plan")

    def set_plan(self, plan: dict[str, Any]) -> None:
        """Keep the plan, so that ``report`` knows what belongs together."""
        assert self._study is not None
        if self.plan() != plan:
            with self._explained("write to"):
                self._study.set_user_attr("plan", plan)

    def _size(self) -> int:
        return os.path.getsize(self._journal) if self._journal is not None else 0

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        """Turn whatever the storage raises into one line."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            if "database is locked" in str(error):
                reason = "the database is locked by another program"
            elif isinstance(error, OSError) and error.strerror:
                reason = error.strerror
            else:
                reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
            raise StoreError(
                f"store {self._shown}: cannot {verb} it ({reason}). Runs committed before are kept."
            ) from error


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with open(path, "rb") as file:
        return file.read(16)


def _is_optunas(path: Path) -> bool:
    """Whether an SQLite file is empty or has Optuna's tables."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        names = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    return not names or "trial_user_attributes" in names


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line without its end: a run whose commit was interrupted, so it was never acknowledged."""
    with open(path, "ab+") as file:
        file.seek(0)
        data = file.read()
        keep = data.rfind(b"\n") + 1
        if keep != len(data):
            file.truncate(keep)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing each study on stderr."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
