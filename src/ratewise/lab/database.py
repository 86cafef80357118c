"""Optuna's database storage, SQLite or PostgreSQL, written one cohort per transaction.

Optuna makes the tables and watches over their version, and its tools show what is in them. Trials are written and read
here: Optuna commits each trial on its own, which is not a cohort and takes ten times as long, and reads all of them
or none, so that one damaged row would hide the others.
"""

import json
import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import sqlalchemy
from sqlalchemy import event, text

from ratewise.errors import StoreError
from ratewise.lab import claims

_CONNECT = 10
"""Seconds to wait for a server."""

_ROWS = text("""
    select t.trial_id, t.number, a.key, a.value_json
    from trials t left join trial_user_attributes a on a.trial_id = t.trial_id
    where t.study_id = :study and t.trial_id > :last and t.state = 'COMPLETE' order by t.trial_id
""")
_PLAN = text("select value_json from study_user_attributes where study_id = :study and key = 'plan'")


def _values(trial: optuna.trial.FrozenTrial) -> Iterator[dict[str, Any]]:
    assert trial.value is not None
    finite = math.isfinite(trial.value)
    kind = "FINITE" if finite else "INF_POS"
    yield {"objective": 0, "value": trial.value if finite else None, "value_type": kind}


def _params(trial: optuna.trial.FrozenTrial) -> Iterator[dict[str, Any]]:
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        yield {
            "param_name": name,
            "param_value": distribution.to_internal_repr(value),
            "distribution_json": optuna.distributions.distribution_to_json(distribution),
        }


def _attributes(trial: optuna.trial.FrozenTrial) -> Iterator[dict[str, Any]]:
    for key, value in trial.user_attrs.items():
        yield {"key": key, "value_json": json.dumps(value)}


_PARTS = {"trial_values": _values, "trial_params": _params, "trial_user_attributes": _attributes}
"""Optuna's tables that hold the parts of a finished trial, and the rows that each gets."""


class Database:
    """A database.

    Args:
        url: For SQLAlchemy, with its driver.
        shown: How errors name the store.
        write: Whether to make the tables if they are missing.
        opening: Held while they are made; other programs may want to make them too.

    Attributes:
        damaged: What could not be read: where, and what is left of it.
    """

    def __init__(
        self, url: str, shown: str, *, write: bool, opening: AbstractContextManager[None] | None = None
    ) -> None:
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # a lost connection is said once, by us
        self._sqlite = url.startswith("sqlite")
        settings = {"timeout": claims.PATIENCE} if self._sqlite else {"connect_timeout": _CONNECT}
        kwargs = {"connect_args": settings, "pool_pre_ping": True}
        with opening or nullcontext():
            if not write and not _has_tables(url, kwargs):
                raise StoreError(f"store {shown}: holds nothing yet. Run `ratewise compare` first.")
            self.storage = optuna.storages.RDBStorage(url, kwargs, skip_table_creation=not write)
        if self._sqlite:
            event.listen(self.storage.engine, "connect", _forgiving)
            self.storage.engine.dispose()  # what is connected already did not hear it
        self._transaction: sqlalchemy.Connection | None = None
        self._tables = sqlalchemy.MetaData()
        self._last = -1
        self.damaged: list[tuple[str, str]] = []

    def studies(self) -> list[str]:
        """Return the names of the studies."""
        with self._reading() as connection:
            return [name for (name,) in connection.exec_driver_sql("select study_name from studies")]

    def rewind(self) -> None:
        """Let ``rows`` begin again."""
        self._last = -1

    def rows(self, study: str) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Yield the trials that were not yielded before: where, attributes that could be read, and all as text."""
        values = {"study": self.storage.get_study_id_from_name(study), "last": self._last}
        with self._reading() as connection:
            found = connection.execute(_ROWS, values).all()
        for trial, group in groupby(found, itemgetter(0)):
            rows = list(group)
            attributes = {key: _parsed(value) for _, _, key, value in rows if key is not None}
            yield f"trial {rows[0][1]}", attributes, ", ".join(f'"{key}": {value}' for _, _, key, value in rows)
            self._last = trial

    def plan(self, study: str) -> Any:
        """Return the study's plan, or None."""
        with self._reading() as connection:
            found = connection.execute(_PLAN, {"study": self.storage.get_study_id_from_name(study)}).scalar()
        plan = _parsed(found)
        if found is not None and plan is None:
            self.damaged.append(("the plan", ""))
        return plan

    @contextmanager
    def together(self, study: str) -> Iterator[None]:
        """Nobody else writes to the study during the block; what is added is kept as a whole or not at all."""
        number = self.storage.get_study_id_from_name(study)
        lock = f"select study_id from studies where study_id = {number} for update"
        try:
            with self.storage.engine.begin() as self._transaction:
                self._transaction.exec_driver_sql("begin immediate" if self._sqlite else lock)
                yield
        finally:
            self._transaction = None

    def add(self, study: str, trials: list[optuna.trial.FrozenTrial]) -> None:
        """Add finished trials, in a block of ``together``: the rows that Optuna would write, but all at once."""
        assert self._transaction is not None
        number = self.storage.get_study_id_from_name(study)
        if not self._tables.tables:
            self._tables.reflect(self._transaction, only=["trials", *_PARTS])
        of_trials = self._tables.tables["trials"]
        count = sqlalchemy.select(sqlalchemy.func.count()).where(of_trials.c.study_id == number)
        first = self._transaction.execute(count).scalar_one()
        rows = [
            {
                "number": i,
                "study_id": number,
                "state": trial.state.name,
                "datetime_start": _utc(trial.datetime_start),
                "datetime_complete": _utc(trial.datetime_complete),
            }
            for i, trial in enumerate(trials, first)
        ]
        inserted = sqlalchemy.insert(of_trials).returning(of_trials.c.trial_id, sort_by_parameter_order=True)
        ids = self._transaction.execute(inserted, rows).scalars().all()
        for name, part in _PARTS.items():
            parts = [{"trial_id": i, **row} for i, trial in zip(ids, trials, strict=True) for row in part(trial)]
            self._transaction.execute(sqlalchemy.insert(self._tables.tables[name]), parts)

    def close(self) -> None:
        """Close the connections."""
        self.storage.engine.dispose()

    def _reading(self) -> AbstractContextManager[sqlalchemy.Connection]:
        return nullcontext(self._transaction) if self._transaction is not None else self.storage.engine.connect()


def sqlite(path: Path, mode: str) -> str:
    """Return the URL of an SQLite file that exists, opened ``"ro"`` or ``"rw"``."""
    query = {"mode": mode, "uri": "true"}
    return sqlalchemy.URL.create("sqlite", database=f"file:{quote(str(path))}", query=query).render_as_string()


def server(url: str) -> sqlalchemy.Connection:
    """Return a connection for the locks of a PostgreSQL session, which the server frees when the connection dies."""
    engine = sqlalchemy.create_engine(
        url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": _CONNECT}
    )
    connection = engine.connect()
    connection.exec_driver_sql("set tcp_keepalives_idle = 60")  # so that it hears of a machine that lost its power
    connection.exec_driver_sql("set tcp_keepalives_interval = 10")
    connection.exec_driver_sql("set tcp_keepalives_count = 6")
    return connection


@contextmanager
def making_tables(connection: sqlalchemy.Connection) -> Iterator[None]:
    """Nobody else makes Optuna's tables during the block."""
    connection.exec_driver_sql("select pg_advisory_lock(7241)")
    try:
        yield
    finally:
        connection.exec_driver_sql("select pg_advisory_unlock(7241)")


def _has_tables(url: str, kwargs: dict[str, Any]) -> bool:
    engine = sqlalchemy.create_engine(url, **kwargs)
    try:
        return sqlalchemy.inspect(engine).has_table("studies")
    finally:
        engine.dispose()


def _forgiving(connection: Any, _: Any) -> None:
    """Read text that is not valid UTF-8 all the same: one damaged row must not hide the others."""
    connection.text_factory = lambda data: data.decode(errors="replace")


def _utc(time: datetime | None) -> datetime | None:
    return time.astimezone(UTC).replace(tzinfo=None) if time is not None else None


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return None
