"""Small pieces of text that all exporters write."""

import textwrap
from typing import Any

WIDTH = 96
"""Characters of a call that still fit on a line."""


def call(function: str, *args: str, **named: Any) -> str:
    """Return ``function(first, name=value)``, on several lines if it is long."""
    given = [*args, *(f"{name}={value!r}" for name, value in named.items())]
    text = f"{function}({', '.join(given)})"
    return text if len(text) <= WIDTH else f"{function}(\n" + "".join(f"    {x},\n" for x in given) + ")"


def joined(*lines: str) -> str:
    """Lines of text."""
    return "\n".join(lines)


def about(sentence: str, schedule: Any) -> str:
    """A docstring's text: the sentence, and the schedule as we write it."""
    text = repr(schedule).replace("\\", "/")
    text = text if len(text) <= 600 else text[:600] + " ..."
    if len(sentence) + len(text) <= 90:
        return f"{sentence} {text}"
    lines = textwrap.wrap(text, 96, break_long_words=False, break_on_hyphens=False)
    return "\n".join([sentence, "", *(f"    {line}" for line in lines)]) + "\n    "
