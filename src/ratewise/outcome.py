"""What one training run gave: the common language of every engine that trains many of them."""

from dataclasses import dataclass, field

MARKS = 10
"""How often a run is measured on held-out examples."""


@dataclass(frozen=True)
class Outcome:
    """One finished run.

    Args:
        losses: Training loss before each update, up to and including the first that is not finite.
        held: Mean loss on held-out examples at each of ``marks(steps)``, by split: ``"valid"``, and ``"test"`` too
            where the run is judged on it. Shorter if the run diverged.
        loss: Held-out loss at the end, on the split that decides; None if the run diverged.
        metric: The task's metric there.
        trained: How: ``"population"``, ``"jax"``, ``"keras"``, ``"one by one"``, or ``"one by one: REASON"`` where an
            engine had to fall back.
        updates: Updates really made for it: a beginning shared by several runs counts for the first of them.
        seconds: What it took, compilation included, or its share of what those trained beside it took; None if it
            shares in what is left of the cohort's. Equal outcomes may differ in it.
    """

    losses: list[float]
    held: dict[str, list[float]]
    loss: float | None
    metric: float | None
    trained: str
    updates: int
    seconds: float | None = field(default=None, compare=False)


def marks(steps: int) -> list[int]:
    """Return the numbers of updates done at which a run is measured: at most ten, equally spaced, the last is the end.

    Example:
        >>> marks(300)
        [30, 60, 90, 120, 150, 180, 210, 240, 270, 300]
        >>> marks(3)
        [1, 2, 3]
    """
    return sorted({max(1, round(steps * (i + 1) / MARKS)) for i in range(MARKS)})
