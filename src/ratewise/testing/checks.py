"""What a check is: one sentence that must be true of somebody's code, and what is said when it is not.

A check is called with what it examines. It returns if the sentence holds, raises ``LawBroken`` if it does not, and
``NotOffered`` if the code under test has no such feature. The latter is a ``unittest.SkipTest``, which every test
runner shows as skipped; so nothing here has to know which one is used.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from unittest import SkipTest


class LawBroken(AssertionError):
    """Something that must hold does not.

    Args:
        complaint: What is wrong, in one sentence.
        at: The position (updates that happened) where it was seen, if there is one.
        expected: What should have been found there.
        found: What was found instead.
        law: The name of the check.
    """

    def __init__(
        self, complaint: str, *, at: Any = None, expected: Any = None, found: Any = None, law: str = ""
    ) -> None:  # fmt: skip
        self.complaint, self.at, self.expected, self.found, self.law = complaint, at, expected, found, law
        super().__init__(f"{law}: {complaint}" if law else complaint)

    def under(self, law: str) -> "LawBroken":
        """Return the same complaint under the name of its check."""
        return LawBroken(self.complaint, at=self.at, expected=self.expected, found=self.found, law=law)


class NotOffered(SkipTest):
    """The code under test does not have what the check is about."""


@dataclass(frozen=True)
class Check:
    """A sentence, and the function that finds out whether it is true; ``str(check)`` is the sentence."""

    name: str
    run: Callable[[Any], None] = field(repr=False)

    def __str__(self) -> str:
        return self.name

    def __call__(self, subject: Any) -> None:
        """Examine ``subject``.

        Raises:
            LawBroken: The sentence is not true of it; also if it raised an error of its own.
            NotOffered: It has no such feature.
        """
        try:
            self.run(subject)
        except LawBroken as broken:
            raise broken.under(self.name) from None
        except NotOffered:
            raise
        except Exception as error:
            raise LawBroken(
                f"{type(error).__name__} was raised: {str(error) or _place(error)}", law=self.name
            ) from error


@dataclass(frozen=True)
class Report:
    """What came of several checks; printed it is one line for each.

    Args:
        held: The checks whose sentence is true.
        broken: The others, each with what is wrong.
        not_offered: Those that could not be made, each with the reason.
    """

    held: tuple[str, ...]
    broken: dict[str, str]
    not_offered: dict[str, str]

    @property
    def good(self) -> bool:
        """Whether nothing is broken."""
        return not self.broken

    def __str__(self) -> str:
        lines = [f"holds        {name}" for name in self.held]
        lines += [f"not offered  {name}: {why}" for name, why in self.not_offered.items()]
        lines += [f"BROKEN       {name}: {what}" for name, what in self.broken.items()]
        counts = f"{len(self.held)} hold, {len(self.broken)} broken, {len(self.not_offered)} not offered"
        return "\n".join([*lines, counts])


def examine(checks: Iterable[Check], subject: Any) -> Report:
    """Make every check and collect what came of it; nothing is raised.

    Args:
        checks: What ``schedule_checks``, ``rule_checks`` or ``adapter_checks`` returned.
        subject: The schedule, the rule or the harness.

    Example:
        >>> from ratewise import Cosine
        >>> from ratewise.testing import schedule_checks
        >>> examine(schedule_checks(libraries=()), Cosine(0.1, 0.0, 10)).good
        True
    """
    held: list[str] = []
    broken: dict[str, str] = {}
    missing: dict[str, str] = {}
    for check in checks:
        try:
            check(subject)
        except LawBroken as error:
            broken[check.name] = error.complaint
        except NotOffered as error:
            missing[check.name] = str(error)
        else:
            held.append(check.name)
    return Report(tuple(held), broken, missing)


def require(checks: Iterable[Check], subject: Any) -> Report:
    """Make every check up to the first that is broken, which is raised."""
    held: list[str] = []
    missing: dict[str, str] = {}
    for check in checks:
        try:
            check(subject)
        except NotOffered as error:
            missing[check.name] = str(error)
        else:
            held.append(check.name)
    return Report(tuple(held), {}, missing)


def same(a: Any, b: Any) -> bool:
    """Whether two numbers are the same; nan is nan."""
    return bool(a == b or (a != a and b != b))


def must_agree(
    what: str, at: Any, found: Any, other: str, expected: Any, relative: float = 0.0, absolute: float = 0.0
) -> None:  # fmt: skip
    """Raise a LawBroken that names both values unless they agree within the tolerances (by default exactly)."""
    if same(found, expected) or abs(found - expected) <= max(relative * abs(expected), absolute):
        return
    raise LawBroken(
        f"at update {at} {what} {found!r}, {other} {expected!r}.", at=at, expected=expected, found=found
    )  # fmt: skip


def _place(error: BaseException) -> str:
    """The function that raised an error without a message."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"in {trace.tb_frame.f_code.co_qualname}" if trace else ""
