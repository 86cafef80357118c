"""Where finished runs are kept: an Optuna storage, one study per comparison, one COMPLETE trial per run.

By default an Optuna journal file; SQLite and PostgreSQL by URL. Runs are committed a cohort at a time, all of it or
nothing. Several programs may work on one study: each claims a cohort before it trains it, and a run that the store
already has is not added again.

What is damaged is passed over and named; its run counts as not done.
"""

import json
import logging
import math
import os
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import optuna
from optuna.distributions import FloatDistribution, IntDistribution

from ratewise.errors import StoreError, nearest
from ratewise.lab import DEFAULT_STORE
from ratewise.lab.claims import FileClaims, Guard, ServerClaims
from ratewise.lab.journal import BEGINNING, Journal
from ratewise.lab.runs import Run

Result: TypeAlias = dict[str, Any]

_log = logging.getLogger("ratewise")

_SQLITE = b"SQLite format 3"
_SUFFIXES = (".db", ".sqlite", ".sqlite3")
_HEAD = 1 << 16


class Store:
    """Finished runs by key; a context manager.

    Args:
        location: A file (made if missing; an SQLite database is recognised), ``sqlite:///FILE``, or
            ``postgresql://USER:PASSWORD@HOST/DATABASE``.
        write: Whether runs will be added. Without it nothing is made or changed.

    Raises:
        StoreError: It is not a store, or cannot be read or written.
    """

    def __init__(self, location: str | Path = DEFAULT_STORE, *, write: bool = False) -> None:
        self.location = str(location)
        self._shown = _without_password(self.location)
        self._write = write
        self._kept: Any = None
        self._claims: FileClaims | ServerClaims | None = None
        self._study = ""
        self._found: dict[str, Result] = {}
        self._runs: dict[str, dict[str, Any]] = {}
        self._damaged: list[tuple[str, str]] = []  # where, and what is left of it
        self._told: set[str] = set()

    def __enter__(self) -> "Store":
        try:
            with self._explained("open"):
                self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for part in (self._claims, self._kept):
            with suppress(Exception):  # whatever stays held is freed when the program ends
                if part is not None:
                    part.close()

    def _open(self) -> None:
        if self.location.startswith(("postgresql", "postgres:")):
            self._open_server()
        elif "://" in self.location.removeprefix("sqlite:///"):
            raise StoreError(
                f"store {self._shown}: is not supported. Give a file, sqlite:///FILE, or "
                "postgresql://USER:PASSWORD@HOST/DATABASE."
            )
        else:
            self._open_file(Path(self.location.removeprefix("sqlite:///")))

    def _open_server(self) -> None:
        try:
            import psycopg  # noqa: F401
        except ImportError as error:
            raise StoreError(
                f'store {self._shown}: PostgreSQL needs psycopg 3. Run: pip install "ratewise[postgres]".'
            ) from error
        from ratewise.lab import database

        url = "postgresql+psycopg://" + self.location.partition("://")[2]
        if not self._write:
            self._kept = database.Database(url, self._shown, write=False)
            return
        self._claims = claims = ServerClaims(partial(database.server, url))
        self._kept = database.Database(url, self._shown, write=True, opening=database.making_tables(claims.connection))

    def _open_file(self, path: Path) -> None:
        if path.is_dir():
            raise StoreError(f"store {self._shown}: is a folder. Give a file, for example {path / 'runs.journal'}.")
        if not path.exists() and not self._write:
            raise StoreError(f"store {self._shown}: there is no such file. Run `ratewise compare` first.")
        head = _head(path)
        database = head.startswith(_SQLITE) or (not head and _wants_sqlite(self.location))
        if not (database or BEGINNING in head or BEGINNING.startswith(head)):  # it may be cut off that early
            raise StoreError(f"store {self._shown}: is not a store of Ratewise. It is untouched; give another file.")
        if head and database and not _is_optunas(path):
            raise StoreError(f"store {self._shown}: is another program's database. It is untouched.")
        guard = Guard(path, self._shown)
        if self._write:
            path.parent.mkdir(parents=True, exist_ok=True)
            open(path, "ab").close()  # it is there, and can be written
            self._claims = FileClaims(guard)
        if database:
            from ratewise.lab.database import Database, sqlite

            url = sqlite(path, "rw" if os.access(path, os.W_OK) else "ro")  # rw: to undo what a killed program left
            self._kept = Database(url, self._shown, write=self._write, opening=guard() if self._write else None)
        else:
            self._kept = Journal(path, guard)

    def studies(self) -> list[str]:
        """Return the names of the studies in the store."""
        with self._explained("read"):
            return sorted(self._kept.studies())

    def open_study(self, name: str) -> None:
        """Choose the study to read; when writing, make it if it is new.

        Raises:
            StoreError: There is no such study.
        """
        known = self.studies()
        if name not in known:
            if not self._write:
                raise StoreError(f"store {self._shown}: has no study {name!r}.{nearest(name, known)}")
            another_was_quicker = optuna.exceptions.DuplicatedStudyError
            with self._explained("write to"), _quiet(), suppress(another_was_quicker):
                self._kept.storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], name)
        self._study, self._found, self._runs, self._damaged = name, {}, {}, []
        self._kept.rewind()

    def results(self) -> dict[str, Result]:
        """Return the result of every committed run by its key; only what is new is read."""
        with self._explained("read"):
            for where, attributes, text in self._kept.rows(self._study):
                key, run, result = (attributes.get(name) for name in ("key", "run", "result"))
                if not isinstance(result, dict) or attributes.get("check") != _checksum(key, run, result):
                    self._damaged.append((where, text))
                elif key not in self._found:
                    self._found[key], self._runs[key] = result, run
        for sentence in self.damage():
            if sentence not in self._told:
                self._told.add(sentence)
                _log.warning(sentence)
        return dict(self._found)

    def runs(self) -> list[tuple[Run, Result]]:
        """Return every committed run with its result, in the order in which they were committed."""
        return [(Run(**self._runs[key]), result) for key, result in self.results().items()]

    def damage(self) -> list[str]:
        """Return a sentence for each damaged part of what was read whose run has not been executed again.

        Each is logged too, as a warning, when ``results`` meets it: on stderr, unless a program says otherwise.
        """
        return [
            f"store {self._shown}: {where} is damaged{_named(text)}. What it held counts as not done."
            for where, text in self._kept.damaged + self._damaged
            if not ((key := _KEY.search(text)) and key[1] in self._found)
        ]

    def add(self, pairs: Iterable[tuple[Run, Result]]) -> None:
        """Commit finished runs together: all of them, or none. Those that the store already has are left out.

        Raises:
            StoreError: They cannot be written; everything committed before stays.
        """
        with self._explained("write to"), self._kept.together(self._study):
            found = self.results()
            new: dict[str, tuple[Run, Result]] = {}
            for run, result in pairs:
                if run.key not in found:
                    new.setdefault(run.key, (run, result))
            if new:
                self._kept.add(self._study, [_trial(run, result) for run, result in new.values()])

    def claim(self, key: str) -> bool:
        """Claim a cohort of the study, so that no other program trains it; False if another has it.

        A claim ends with ``release``, with the store, or with the program, however that ends. Whoever claims a
        cohort reads ``results`` again before it trains: another may have finished it just before.
        """
        assert self._claims is not None
        with self._explained("write to"):
            return self._claims.claim(f"{self._study} {key}")

    def release(self, key: str) -> None:
        """Give a claimed cohort back."""
        assert self._claims is not None
        with self._explained("write to"):
            self._claims.release(f"{self._study} {key}")

    def plan(self) -> dict[str, Any] | None:
        """Return the plan that was last carried out in the study, or None."""
        with self._explained("read"):
            plan = self._kept.plan(self._study)
        return plan if isinstance(plan, dict) else None

    def set_plan(self, plan: dict[str, Any]) -> None:
        """Keep the plan, so that ``report`` knows what belongs together."""
        if self.plan() != plan:
            with self._explained("write to"):
                storage = self._kept.storage
                storage.set_study_user_attr(storage.get_study_id_from_name(self._study), "plan", plan)

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        """Turn whatever the storage raises into one line."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(
                f"store {self._shown}: cannot {verb} it ({_reason(error)}). Runs committed before are kept."
            ) from error


def _trial(run: Run, result: Result) -> optuna.trial.FrozenTrial:
    result = json.loads(json.dumps(result))  # as it will be read
    loss = result["loss"]
    return optuna.trial.create_trial(
        value=math.inf if loss is None else loss,
        params={"rate": run.rate, "seed": run.seed},
        distributions={
            "rate": FloatDistribution(run.rate, run.rate),
            "seed": IntDistribution(run.seed, run.seed),
        },
        user_attrs={
            "key": run.key,
            "run": asdict(run),
            "result": result,
            "check": _checksum(run.key, asdict(run), result),
        },
    )


def _checksum(*parts: Any) -> int:
    return zlib.crc32(json.dumps(parts, sort_keys=True).encode())


_KEY = re.compile(r'"key": ?"+([0-9a-f]{64})"')
_WORD = re.compile(r'"(strategy|rate|seed|phase|steps)": ?("[^"]*"|[-+.\w]+)')


def _named(text: str) -> str:
    """Say which run a damaged piece of a store held, as far as that can be read."""
    known = [f"{name} {value}" for name, value in _WORD.findall(text.partition('"run":')[2])]
    return f" ({', '.join(known)})" if known else ""


def _reason(error: BaseException) -> str:
    """The first line of what is at the bottom of an error."""
    while (below := getattr(error, "orig", None) or error.__cause__) is not None:
        error = below
    if "database is locked" in str(error):
        return "the database is locked by another program"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def _without_password(location: str) -> str:
    location = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", location)
    return re.sub(r"(password=)[^&]*", r"\1***", location)


def _wants_sqlite(location: str) -> bool:
    return location.startswith("sqlite:///") or location.endswith(_SUFFIXES)


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with open(path, "rb") as file:
        return file.read(_HEAD)


def _is_optunas(path: Path) -> bool:
    """Whether an SQLite file is empty or has Optuna's tables."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        names = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    return not names or "trial_user_attributes" in names


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing each study on stderr."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
