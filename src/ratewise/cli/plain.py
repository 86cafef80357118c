"""Output that cannot take every character, or is closed: each character becomes a plain one as wide, or nothing."""

import codecs
import os
import sys
from io import TextIOWrapper

_ASCII = {
    "▲": "^", "▽": "v", "▼": "v", "◆": "#", "┃": "!", "│": "|", "┊": ":", "├": "|", "└": "+", "┤": "|", "┬": "+",
    "─": "-", "●": "o", "×": "x", "✕": "x", "≥": ">", "±": "~", "²": "2", "…": ".",
    "–": "-", "−": "-", "→": ">", "←": "<", "·": ".",
}  # fmt: skip


def prepare() -> None:
    """Make stdout and stderr take every character, in the encoding that they have."""
    codecs.register_error("plain", _plainly)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the program
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="plain")


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """What the encoding of a stream cannot say, in ASCII: a codec's error handler."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(character: str) -> str:
    dots = ord(character) - 0x2800
    if not 0 <= dots < 256:
        return _ASCII.get(character, "?")
    return "'" if dots & 0x09 else "-" if dots & 0x36 else "." if dots else " "  # by its highest dot
