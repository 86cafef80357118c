"""One thing that is wrong with a schedule, a scheduler, a program or a configuration."""

from collections.abc import Iterable
from dataclasses import dataclass

LEVELS = ("error", "warning", "note")
"""``error``: it raises, or cannot train as meant. ``warning``: the curve is not the one that the settings seem to ask
for. ``note``: true of every use, worth knowing."""


@dataclass(frozen=True)
class Finding:
    """What, where, why it matters, and what to write instead.

    Args:
        code: A stable name: a word such as ``"first-update-at-zero"``, or the ID of a peer's defect such as ``"T12"``.
        what: What is the matter, with its numbers.
        where: The updates concerned; in a file, its name and the line or key.
        why: Why it matters.
        instead: What to write instead, an expression of the algebra where there is one.
        level: ``"error"``, ``"warning"`` or ``"note"``.
    """

    code: str
    what: str
    where: str
    why: str
    instead: str
    level: str = "warning"


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, the worst first."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: LEVELS.index(finding.level)))
