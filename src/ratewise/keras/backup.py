"""What ``Follow`` knows beyond the weights, in a file beside them.

Keras' ``BackupAndRestore`` and weights files keep variables, the optimizer's counter among them, and no schedule.
The file holds the schedule as it stood after each epoch; weights that were saved at update t find theirs by t.
"""

import json
import os
from pathlib import Path
from typing import Any

from ratewise.errors import AdapterError
from ratewise.keras.schedule import Schedule

FORMAT, KEPT = 1, 100


class Backup:
    """A file that holds the last 100 schedules of a run.

    Args:
        path: Where it is written; its folder is made when it is.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._entries: list[dict[str, Any]] = []

    def start(self) -> None:
        """Forget an earlier run; its file is replaced by the first ``save``."""
        self._entries = []

    def save(self, t: int, schedule: Schedule) -> None:
        """Write what is followed from update ``t`` on; a file half written is never seen."""
        before = [entry for entry in self._entries if entry["at"] < t]
        self._entries = [*before, {"at": t, "schedule": schedule.get_config()}][-KEPT:]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".tmp")
        beside.write_text(json.dumps({"format": FORMAT, "schedules": self._entries}))
        os.replace(beside, self.path)

    def at(self, t: int) -> Schedule | None:
        """Return what was followed at update ``t``, None if the file knows nothing of it.

        Raises:
            AdapterError: The file is not one of ours, or of a newer version.
        """
        if not self.path.exists():
            return None
        try:
            read = json.loads(self.path.read_text())
            entries = [entry for entry in read["schedules"] if entry["at"] <= t]
            if read["format"] != FORMAT:
                raise ValueError(f"its format is {read['format']!r}, this Ratewise reads {FORMAT}")
            schedule = Schedule.from_config(entries[-1]["schedule"]) if entries else None
        except (ValueError, KeyError, TypeError) as error:
            raise AdapterError(
                f"keras adapter: backup {str(self.path)!r} must be a file that Follow wrote; it cannot be read "
                f"({type(error).__name__}: {error}). Delete it to go on without what it knew."
            ) from error
        self._entries = entries
        return schedule
