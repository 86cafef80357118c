"""Hold your own schedule, rule or adapter to everything that holds for those of Ratewise.

``check_schedule``, ``check_rule`` and ``check_adapter`` raise at the first sentence that is not true of it.
``examine(schedule_checks(), ...)`` collects them instead, and each of ``schedule_checks()``, ``rule_checks()`` and
``adapter_checks()`` can be a test of its own, under any test runner. Standard library only; the array libraries and
frameworks tried are those that the caller has imported.
"""

from ratewise.testing.adapters import adapter_checks as adapter_checks, check_adapter as check_adapter
from ratewise.testing.checks import (
    Check as Check,
    LawBroken as LawBroken,
    NotOffered as NotOffered,
    Report as Report,
    examine as examine,
)
from ratewise.testing.examples import examples as examples
from ratewise.testing.harness import Harness as Harness, Run as Run
from ratewise.testing.rules import check_rule as check_rule, rule_checks as rule_checks
from ratewise.testing.schedules import check_schedule as check_schedule, schedule_checks as schedule_checks

__all__ = [
    "Check",
    "Harness",
    "LawBroken",
    "NotOffered",
    "Report",
    "Run",
    "adapter_checks",
    "check_adapter",
    "check_rule",
    "check_schedule",
    "examine",
    "examples",
    "rule_checks",
    "schedule_checks",
]
