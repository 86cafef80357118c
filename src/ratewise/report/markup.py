"""HTML and SVG as nested calls, escaped by construction.

Everything that is put into a tag is escaped unless a tag made it, so no name out of a result can become markup.
"""

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

_VOID = {"meta"}


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


Content: TypeAlias = "str | int | float | Iterable[Content] | None"
"""Markup as it is, text to be escaped, None for nothing, or several of them."""


def tag(name: str, /, *content: Content, **attributes: object) -> Markup:
    """Return ``<name attributes>content</name>``.

    Args:
        name: The element.
        content: What it holds; text is escaped, markup is not.
        attributes: ``class_`` gives class, ``data_s`` data-s; None and False are left out, True stands alone.

    Example:
        >>> tag("p", "a < b, ", tag("em", "c"), class_="note")
        '<p class="note">a &lt; b, <em>c</em></p>'
    """
    opened = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Markup(opened if name in _VOID else f"{opened}{join(content)}</{name}>")


def join(content: Content) -> Markup:
    """Return the content as one piece of markup."""
    if content is None:
        return Markup("")
    if isinstance(content, Markup):
        return content
    if isinstance(content, (str, int, float)):
        return Markup(escape(str(content)))
    return Markup("".join(map(join, content)))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{escape(str(value))}"'
