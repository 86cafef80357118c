"""One HTML page for a comparison: everything inside, nothing loaded, readable for years.

The page opens offline, follows the reader's light or dark theme, and says everything without JavaScript, which only
highlights one strategy everywhere, copies the code and saves the data. The one decision behind it: the same result
gives the same page, byte for byte, so a report can be kept beside the result and compared.
"""

import json
import math
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from ratewise.report import sections
from ratewise.report.figures import Result
from ratewise.report.markup import Content, Markup, tag
from ratewise.report.sections import Data

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"  # the browser loads nothing

SECTIONS: dict[str, Callable[[Data], Content]] = {
    "Verdict": sections.verdict,
    "Differences": sections.differences,
    "Rates": sections.rates,
    "Curves": sections.curves,
    "Time to target": sections.target,
    "Results": sections.results,
    "Race": sections.history,
    "What would change it": sections.changes,
    "Code": sections.code,
    "Provenance": sections.provenance,
}
"""The ten sections in their order. Each is there in every page: one with nothing to show says so."""


def page(result: Result) -> str:
    """Return the comparison as one self-contained HTML page.

    Args:
        result: The object that ``ratewise compare --json`` prints. Missing optional keys leave gaps.
    """
    data = Data.of(result)
    first, *others = SECTIONS.items()
    body = tag("main", _top(data), _section(data, *first), _picker(data), [_section(data, *rest) for rest in others])
    return (
        "<!doctype html>\n" + tag("html", _head(result), tag("body", body, _data(result), _script()), lang="en") + "\n"
    )


def _head(result: Result) -> Markup:
    named = [result.get("task"), result.get("recommended") and f"use {result['recommended']}", "Ratewise"]
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", " · ".join(str(word) for word in named if word)),
        tag("style", Markup(_asset("page.css"))),
    )


def _top(data: Data) -> Markup:
    kind = "report on one strategy" if len(data.keys) == 1 else f"comparison of {len(data.keys)} strategies"
    contents = tag("nav", [tag("a", title, href=f"#{_anchor(title)}") for title in SECTIONS], aria_label="Contents")
    return tag("div", tag("p", tag("b", "Ratewise"), " ", kind), contents, class_="top")


def _section(data: Data, title: str, content: Callable[[Data], Content]) -> Markup:
    heading = None if content is sections.verdict else tag("h2", title)  # the verdict is the heading of the page
    return tag("section", heading, content(data), id=_anchor(title))


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _picker(data: Data) -> Markup | None:
    """Buttons that highlight a strategy in every drawing; shown by the script that makes them work."""
    if len(data.keys) < 2:
        return None
    buttons = [
        tag("button", strategy, type="button", data_s=i, aria_pressed="false", class_=data.kind(strategy))
        for strategy, i in data.keys.items()
    ]
    about = {"class_": "picker", "role": "group", "aria_label": "Highlight a strategy", "hidden": True}
    return tag("div", tag("span", "Highlight"), buttons, **about)


def _data(result: Result) -> Markup:
    """The result itself, so that the page is its own record; no ``<`` in it can end the element."""
    text = json.dumps(_plain(result), ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return tag("script", Markup(text), type="application/json", id="result")


def _plain(value: Any) -> Any:
    """JSON values only: a number that is none becomes null, anything unknown its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _script() -> Markup:
    return tag("script", Markup(_asset("page.js")))


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
