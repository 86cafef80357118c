"""Running the Python blocks of a page."""

import contextlib
import io
import re


def printed(code: str, page: str) -> list[str]:
    """The lines that a block prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, page, "exec"), {"__name__": "page"})
    return out.getvalue().splitlines()


def check(code: str, page: str) -> None:
    """Run a block, and hold that its prints give what the comments behind them say.

    What other libraries print in between is passed over.
    """
    found = iter(printed(code, page))
    for line in code.splitlines():
        promised = re.match(r"print\(.*\)\s+# (.*)", line)
        if promised and promised[1] != "the curve, in the terminal":
            said = []
            while promised[1] not in said:
                said.append(next(found, None))
                assert said[-1] is not None, f"{promised[1]!r} was promised, and {said[:-1]} printed"
