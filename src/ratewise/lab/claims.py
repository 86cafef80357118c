"""Who trains what: a claim keeps two programs from training the same cohort at the same time.

A claim is a lock that somebody else frees when its owner dies: the kernel for files, the server for PostgreSQL. So
there are no leases and no clocks. A claim saves work, it does not guard the results: a store never keeps a run twice.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ratewise.errors import StoreError

_log = logging.getLogger("ratewise")

PATIENCE = 60.0
"""Seconds to wait for another program's commit, which takes milliseconds."""


class Guard:
    """The short lock of a store that is a file: held while something is committed or claimed, never while training.

    Args:
        path: The store. The locks are kept beside it, in ``<path>.locks``.
        shown: How errors name the store.
    """

    def __init__(self, path: Path, shown: str) -> None:
        self.folder = Path(f"{path}.locks")
        self._shown = shown
        self._lock = FileLock(self.folder / "store.lock", thread_local=False)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the lock for a block.

        Raises:
            StoreError: Another program does not let go of it.
        """
        try:
            self._lock.acquire(timeout=PATIENCE)
        except Timeout as error:
            raise StoreError(
                f"store {self._shown}: is in use by another program, which has held its lock for {PATIENCE:g} s. "
                "Is that one stopped? End it, and start again."
            ) from error
        try:
            yield
        finally:
            self._lock.release()


class FileClaims:
    """Claims as locked files beside the store.

    Files are made, locked and removed under the guard, so nobody can lock a file that is no longer there.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._held: dict[str, FileLock] = {}

    def claim(self, key: str) -> bool:
        """Claim ``key``; False if another program has it."""
        if key not in self._held:
            lock = FileLock(self._guard.folder / f"{_hash(key).hex()}.claim", thread_local=False)
            with self._guard():
                if not _taken(lock):
                    return False
            self._held[key] = lock
        return True

    def release(self, key: str) -> None:
        """Give ``key`` back; nothing happens if it is not held."""
        if lock := self._held.pop(key, None):
            with self._guard():
                _drop(lock)

    def close(self) -> None:
        """Give everything back, and remove the files that killed programs left."""
        with self._guard():
            while self._held:
                _drop(self._held.popitem()[1])
            for path in self._guard.folder.glob("*.claim"):
                lock = FileLock(path, thread_local=False)
                if _taken(lock):
                    _drop(lock)


def _taken(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _drop(lock: FileLock) -> None:
    lock.release()
    Path(lock.lock_file).unlink(missing_ok=True)


class ServerClaims:
    """Claims as session locks of a PostgreSQL server.

    A connection that is cut while it waits takes the claims with it; then what is held is claimed again on a new one.

    Args:
        connect: Returns a connection of SQLAlchemy that commits at once.

    Attributes:
        connection: The one that holds the claims.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self.connection = connect()
        self._held: set[str] = set()

    def claim(self, key: str) -> bool:
        """Claim ``key``; False if another program has it.

        Raises:
            Exception: The server cannot be reached any more.
        """
        if key in self._held:
            return True
        try:
            got = self._asked("pg_try_advisory_lock", key)
        except Exception:
            if not self.connection.invalidated:
                raise
            self._reconnect()
            got = self._asked("pg_try_advisory_lock", key)
        if got:
            self._held.add(key)
        return got

    def release(self, key: str) -> None:
        """Give ``key`` back; nothing happens if it is not held."""
        if key in self._held:
            self._held.discard(key)
            with suppress(Exception):  # if the connection is gone, so is the claim
                self._asked("pg_advisory_unlock", key)

    def close(self) -> None:
        """Give everything back."""
        self.connection.close()

    def _reconnect(self) -> None:
        new = self._connect()
        self.connection.close()
        self.connection = new
        lost = [key for key in sorted(self._held) if not self._asked("pg_try_advisory_lock", key)]
        self._held.difference_update(lost)
        if lost:  # nothing is wrong with their results: a store keeps each run once
            _log.warning(
                "the connection of the claims was cut: cohorts in training (%d) may be trained twice", len(lost)
            )

    def _asked(self, function: str, key: str) -> bool:
        number = int.from_bytes(_hash(key)[:8], "big", signed=True)
        return bool(self.connection.exec_driver_sql(f"select {function}({number})").scalar())


def _hash(key: str) -> bytes:
    return hashlib.sha256(f"ratewise {key}".encode()).digest()
