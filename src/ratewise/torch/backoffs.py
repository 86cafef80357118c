"""Counting the updates that a GradScaler skipped.

A scaler does not call the optimizer when gradients overflow, so no hook sees it. Its scale tells: it is multiplied
by the backoff factor once per skipped update, and by the growth factor after enough good ones.
"""

import math
from typing import Any

from ratewise.core import checks
from ratewise.errors import AdapterError


class Backoffs:
    """How often a ``torch.amp.GradScaler`` backed off, from its public scale and growth tracker.

    Args:
        scaler: The scaler. One that serves several optimizers backs off for all of them, and where its scale also
            grew in that update the count may be too high by that.

    Raises:
        AdapterError: It is no scaler.
    """

    def __init__(self, scaler: Any) -> None:
        if isinstance(scaler, type) or not hasattr(scaler, "get_growth_interval"):
            raise AdapterError(f"Scheduler: scaler must be a torch.amp.GradScaler, got {checks.shown(scaler)}.")
        self.scaler = scaler
        self._counted = 0
        self._seen: tuple[float, int] | None = self._read()
        self._expected = self._read()
        self._blind = False

    def start_again(self, scale: float | None) -> None:
        """Count from 0 what is skipped after ``scale``, the scale of a checkpoint: the scaler's may be loaded later.

        Without one, count from the next update on.
        """
        self._counted, self._blind = 0, scale is None
        self._expected, self._seen = (scale or 0.0, 0), None

    @property
    def scale(self) -> float:
        """The scaler's scale now."""
        return self._read()[0]

    def before_update(self) -> None:
        """The scaler is about to let an update happen: count what it skipped since the last one."""
        if not self.scaler.is_enabled():
            return
        scale, tracker = self._seen = self._read()
        self._counted += 0 if self._blind else self._fallen(scale)
        self._blind = False
        grows = tracker + 1 >= self.scaler.get_growth_interval()
        self._expected = (scale * self.scaler.get_growth_factor(), 0) if grows else (scale, tracker + 1)

    @property
    def count(self) -> int:
        """Updates skipped so far."""
        now = self._read()
        unchanged = now == self._seen  # scaler.update() has not been called since the last update
        return self._counted + (0 if unchanged or self._blind else self._fallen(now[0]))

    def _fallen(self, scale: float) -> int:
        expected = self._expected[0]
        if not scale < expected:
            return 0
        scale = max(scale, 2.0**-149)  # where float32 ends: a scale of 0 says no more
        return round(math.log(scale / expected) / math.log(self.scaler.get_backoff_factor()))

    def _read(self) -> tuple[float, int]:
        state = self.scaler.state_dict()  # empty when the scaler is disabled
        return float(state.get("scale", 1.0)), int(state.get("_growth_tracker", 0))
