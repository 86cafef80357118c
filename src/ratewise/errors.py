"""Every error that Ratewise raises on purpose.

    RatewiseError
    ├── ScheduleError (ValueError)       a schedule, length or horizon that cannot mean what it says
    ├── AdapterError (RuntimeError)      a framework object that cannot follow the schedule
    │   ├── ScheduleDetached             the optimizer no longer uses the scheduled rate
    │   └── ScheduleChanged              a saved position belongs to another schedule
    ├── FinderError (RuntimeError)       a search for a rate that cannot be made
    ├── LabError (RuntimeError)          a comparison that cannot be planned or run
    │   ├── UnknownName (LookupError)    a strategy, task or engine that does not exist
    │   ├── TaskError                    the task's model or data
    │   └── StoreError                   the place where finished runs are kept
    └── MissingDependency (ImportError)  an optional package that is not installed

A message reads: *where: what is required, what was given, what to write instead*.
"""

from collections.abc import Iterable


class RatewiseError(Exception):
    """Base of every error that Ratewise raises on purpose."""


class ScheduleError(RatewiseError, ValueError):
    """A schedule, length or horizon that cannot mean what it says."""


class AdapterError(RatewiseError, RuntimeError):
    """A framework object that cannot follow the schedule."""


class ScheduleDetached(AdapterError):
    """The optimizer is about to use another rate than the scheduled one.

    Args:
        intended: The rate that the schedule gives for the coming update.
        found: The rate that the optimizer holds instead.
        group: Name of the parameter group.
        hint: What probably happened and what to do about it.
    """

    def __init__(self, intended: float, found: float, group: str, hint: str) -> None:
        self.intended, self.found, self.group, self.hint = intended, found, group, hint
        super().__init__(f"group {group!r}: the schedule intended {intended!r}, the optimizer holds {found!r}. {hint}")

    def __reduce__(self) -> tuple[type, tuple[float, float, str, str]]:
        return type(self), (self.intended, self.found, self.group, self.hint)


class ScheduleChanged(AdapterError):
    """A saved position was made under another schedule, and no policy says how to go on."""


class FinderError(RatewiseError, RuntimeError):
    """A search for a learning rate that cannot be made; everything is as it was before."""


class LabError(RatewiseError, RuntimeError):
    """A comparison that cannot be planned or run."""


class UnknownName(LabError, LookupError):
    """A strategy, task or engine that does not exist; the message names the nearest one that does."""


class TaskError(LabError):
    """A task whose model or data cannot be trained on."""


class StoreError(LabError):
    """The place where finished runs are kept cannot be read or written."""


class MissingDependency(RatewiseError, ImportError):
    """An optional package that is not installed.

    Args:
        package: The package as people know it, e.g. ``"Keras 3"``.
        extra: The extra of Ratewise that brings it.
        where: Who needs it.
    """

    def __init__(self, package: str, extra: str, where: str) -> None:
        self.package, self.extra, self.where = package, extra, where
        super().__init__(f'{where}: {package} is not installed. Run: pip install "ratewise[{extra}]".')

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.package, self.extra, self.where)


def nearest(name: object, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name closest to ``name``, else the list of names."""
    from difflib import get_close_matches

    names = sorted(known)
    given = name[:60] if isinstance(name, str) else ""
    folded = {known.lower(): known for known in names}
    close = get_close_matches(given, names, n=1, cutoff=0.5)
    if not close:
        close = [folded[known] for known in get_close_matches(given.lower(), folded, n=1, cutoff=0.5)]
    if not close:  # "lineer_decay" and "decay" share little by ratio, but one contains the other
        close = [known for known in names if given and (given in known or known in given)][:1]
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(names)}."
