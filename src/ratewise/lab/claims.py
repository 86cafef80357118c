"""Who trains what: a claim keeps two programs from training the same cohort at the same time.

A claim is a lock that somebody else frees when its owner dies: the kernel for files, the server for PostgreSQL. So
there are no leases and no clocks. A claim saves work, it does not guard the results: a store never keeps a run twice.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ratewise.errors import StoreError

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

    Args:
        connection: One that is used for nothing else, commits at once, and stays open.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._held: set[str] = set()

    def claim(self, key: str) -> bool:
        """Claim ``key``; False if another program has it."""
        if key not in self._held and self._asked("pg_try_advisory_lock", key):
            self._held.add(key)
        return key in self._held

    def release(self, key: str) -> None:
        """Give ``key`` back; nothing happens if it is not held."""
        if key in self._held:
            self._held.discard(key)
            with suppress(Exception):  # if the connection is gone, so is the claim
                self._asked("pg_advisory_unlock", key)

    def close(self) -> None:
        """Give everything back."""
        self._connection.close()

    def _asked(self, function: str, key: str) -> bool:
        number = int.from_bytes(_hash(key)[:8], "big", signed=True)
        return bool(self._connection.exec_driver_sql(f"select {function}({number})").scalar())


def _hash(key: str) -> bytes:
    return hashlib.sha256(f"ratewise {key}".encode()).digest()
