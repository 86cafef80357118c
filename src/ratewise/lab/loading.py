"""Finding a task by what a person types: a built-in name, or ``path/to/file.py:name``."""

import hashlib
import importlib.util
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ratewise.errors import TaskError, UnknownName, nearest
from ratewise.lab.task import Task
from ratewise.lab.tasks import TASKS


@lru_cache(maxsize=16)
def load(reference: str) -> Task:
    """Return the built-in task of that name, or the one that ``path/to/file.py:name`` defines.

    Raises:
        UnknownName: There is no such built-in task; the message suggests the nearest.
        TaskError: The file cannot be read, raises, or does not define such a task.
    """
    if reference in TASKS:
        return replace(TASKS[reference](), reference=reference)
    path, _, name = reference.rpartition(":")
    if not path.endswith(".py"):
        raise UnknownName(f"unknown task {reference!r}.{nearest(reference, TASKS)} Your own: path/to/file.py:name.")
    return _from_file(Path(path), name)


def _from_file(path: Path, name: str) -> Task:
    if not path.is_file():
        raise TaskError(f"{path}: there is no such file.")
    spec = importlib.util.spec_from_file_location(f"ratewise_task_{_hash(path)}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))  # so that the file can import its neighbours
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        found = getattr(module, name, None)
        task = found() if callable(found) else found
    except (Exception, SystemExit) as error:
        where = _line(error, path)
        raise TaskError(f"{path}: {where}{type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    if not isinstance(task, Task):
        known = [key for key, value in vars(module).items() if isinstance(value, Task)]
        hint = f" It defines {', '.join(known)}." if known else " Write task = Task(...) in it."
        raise TaskError(f"{path}: {name!r} is not a ratewise Task.{hint}")
    return replace(task, reference=f"{path.resolve()}:{name}")


def _hash(path: Path) -> str:
    """Two files of one name are two modules."""
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]


def _line(error: BaseException, path: Path) -> str:
    """Where in the user's file an exception came from."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path.resolve() or trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f"line {lines[-1]}: " if lines else ""
