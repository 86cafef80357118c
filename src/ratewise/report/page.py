"""One HTML page for a comparison: everything inside, nothing loaded, readable for years.

The page opens offline, follows the reader's light or dark theme, and says everything without JavaScript, which only
highlights one strategy everywhere, copies the code and saves the data. The one decision behind it: the same result
gives the same page, byte for byte, so a report can be kept beside the result and compared.
"""

import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from ratewise.report import figures, pictures, tables
from ratewise.report.figures import Curves, Fan, Result, part, real
from ratewise.report.markup import Content, Markup, tag
from ratewise.report.pictures import Axes, Keys

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"  # the browser loads nothing
_GLYPHS = {
    "reference": "◆", "better": "▲", "tie": "=", "unresolved": "?", "worse": "▼", "diverged": "✕", figures.PENDING: "…",
}  # fmt: skip
_MEANINGS = {
    "reference": "the strategy with the best tuning score, chosen before any fresh seed ran",
    "better": "better than the reference beyond chance",
    "tie": "the 95% interval lies inside the band of differences too small to matter",
    "unresolved": "these seeds cannot tell",
    "worse": "worse than the reference beyond chance",
    "diverged": "runs did not survive",
    figures.PENDING: "not decided yet",
}
_BUDGET = {
    "steps": "updates per run", "batch_size": "batch size", "rates": "rates per strategy",
    "tuning_seeds": "tuning seeds",
    "fresh_seeds": "fresh seeds", "engine": "engine", "dtype": "number type", "runs": "runs in all",
    "updates": "updates in all", "delta": "delta",
}  # fmt: skip


class _Data(NamedTuple):
    """What several sections share."""

    result: Result
    keys: Keys
    curves: Curves
    fan: Fan
    axes: Axes


def page(result: Result) -> str:
    """Return the comparison as one self-contained HTML page.

    Args:
        result: The object that ``ratewise compare --json`` prints. Missing optional keys leave gaps.
    """
    curves, fan = figures.curves(result), figures.fan(result)
    keys = {figures.name(s): i for i, s in enumerate(figures.strategies(result), 1)}
    data = _Data(result, keys, curves, fan, pictures.axes(curves, fan))
    sections = {
        "Results": ("results", _results(data)),
        "Differences": ("differences", _differences(data)),
        "Curves": ("curves", _overlay(data)),
        "Rates": ("rates", _rates(data)),
        "Every strategy": ("strategies", _cards(data)),
        "Code": ("code", _code(data)),
        "Provenance": ("provenance", _provenance(data)),
    }
    present = {title: (anchor, body) for title, (anchor, body) in sections.items() if body}
    body = tag(
        "main",
        _header(data, tag("nav", [tag("a", title, href=f"#{anchor}") for title, (anchor, _) in present.items()],
                          aria_label="Contents")),
        _picker(data),
        [tag("section", tag("h2", title), body, id=anchor) for title, (anchor, body) in present.items()],
    )  # fmt: skip
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


# -- sections ----------------------------------------------------------------------------------------------------


def _header(data: _Data, contents: Markup) -> Markup:
    verdict, *rest = tables.headline(data.result)
    unfinished = rest.pop() if figures.unfinished(data.result) else None
    kind = "report on one strategy" if len(data.keys) == 1 else f"comparison of {len(data.keys)} strategies"
    task, description = (str(data.result.get(key) or "") for key in ("task", "description"))
    return tag(
        "header",
        tag("div", tag("p", tag("b", "Ratewise"), " ", kind), contents, class_="top"),
        tag("h1", verdict),
        [tag("p", _led(sentence), class_="valid") for sentence in rest],
        tag("p", tag("b", task), " · " if task and description else "", description, class_="task"),
        tag("p", "This study is ", unfinished, ". What follows may still change.", class_="banner", role="status")
        if unfinished else None,
        _facts(data),
    )  # fmt: skip


def _led(sentence: str) -> Content:
    """The words that lead a sentence, in bold."""
    lead = tables.VALID
    return [tag("b", lead), sentence.removeprefix(lead)] if sentence.startswith(lead) else sentence


def _facts(data: _Data) -> Markup | None:
    """The recommended strategy in numbers."""
    row = next((r for r in tables.rows(data.result) if r.strategy == data.result.get("recommended")), None)
    if row is None:
        return None
    facts = [("Recommended", row.strategy), ("Peak rate", row.peak), ("Test loss", row.loss),
             (f"Test {tables.metric(data.result)}", row.metric), ("Optimizer", row.optimizer)]  # fmt: skip
    return tag("dl", [tag("div", tag("dt", k), tag("dd", _soft(v))) for k, v in facts if v], class_="facts")


def _soft(value: str) -> Content:
    """A number and, in softer ink, its interval."""
    mean, bracket, rest = value.partition(" [")
    return [mean, tag("small", f"[{rest}")] if bracket else mean


def _picker(data: _Data) -> Markup | None:
    """Buttons that highlight a strategy in every drawing; shown by the script that makes them work."""
    if len(data.keys) < 2:
        return None
    buttons = [
        tag("button", strategy, type="button", data_s=i, aria_pressed="false", class_=_kind(data, strategy))
        for strategy, i in data.keys.items()
    ]
    about = {"class_": "picker", "role": "group", "aria_label": "Highlight a strategy", "hidden": True}
    return tag("div", tag("span", "Highlight"), buttons, **about)


def _kind(data: _Data, strategy: str) -> str:
    found = (figures.verdict(s) for s in figures.strategies(data.result) if figures.name(s) == strategy)
    return pictures.kind(next(found, figures.PENDING))


def _results(data: _Data) -> Content:
    titles, rows, kept = tables.grid(data.result)
    if not rows:
        return tag("p", "No strategy yet.")
    table = tag(
        "table",
        tag("thead", tag("tr", [tag("th", getattr(titles, c), scope="col", class_=f"c-{c}") for c in kept])),
        tag("tbody", [_row(row, kept, data) for row in rows]),
    )
    notes = [tag("p", note, class_="note") for note in tables.notes(data.result)]
    return [tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Results"), _legend(data), notes]


def _row(row: tables.Row, kept: list[str], data: _Data) -> Markup:
    cells = [_cell(column, getattr(row, column), data) for column in kept]
    return tag("tr", cells, data_s=data.keys.get(row.strategy), class_=pictures.kind(row.verdict))


def _cell(column: str, value: str, data: _Data) -> Markup:
    if column == "strategy":
        chosen = value == data.result.get("recommended")
        return tag("th", value, tag("span", "recommended", class_="chosen") if chosen else None, scope="row")
    if column == "verdict":
        return tag("td", _badge(value), class_="c-verdict")
    return tag("td", _soft(value) if value else tables.NONE, class_=f"c-{column}{'' if value else ' none'}")


def _badge(verdict: str) -> Markup:
    glyph = tag("span", _GLYPHS.get(verdict, "…"), class_="glyph", aria_hidden="true")
    return tag("span", glyph, verdict, class_=f"badge {pictures.kind(verdict)}")


def _legend(data: _Data) -> Markup:
    """What the verdicts on this page mean."""
    seen = {figures.verdict(s) for s in figures.strategies(data.result)}
    entries = [(verdict, meaning) for verdict, meaning in _MEANINGS.items() if verdict in seen]
    return tag("dl", [tag("div", tag("dt", _badge(v)), tag("dd", words)) for v, words in entries], class_="legend")


def _differences(data: _Data) -> Content:
    forest = figures.forest(data.result)
    if forest is None:
        return None
    band = tables.margin(data.result)
    words = [
        f"Each strategy ran the same fresh seeds as {forest.reference}: the mean paired difference in "
        f"{figures.decides_on(data.result)}, in {forest.unit}, with its 95% interval.",
        f" The shaded band is {band}: an interval inside it is a tie." if band else "",
    ]
    missing = f"Without a difference: {', '.join(forest.absent)}." if forest.absent else None
    return [tag("p", words), pictures.forest(forest, data.keys), tag("p", missing, class_="note") if missing else None]


def _overlay(data: _Data) -> Content:
    if not (data.curves.schedules or data.curves.losses):
        return None
    words = (
        "Above, the rate used by each update, as a share of the strategy's own peak; below, the mean training loss of "
        "the fresh runs at the chosen rate. Both over the same updates."
    )
    return [tag("p", words), pictures.overlay(data.curves, data.keys)]


def _rates(data: _Data) -> Content:
    if not any(sweep.losses for sweep in data.fan.sweeps):
        return tag("p", "Runs diverged at every rate tried.") if data.fan.sweeps else None
    words = (
        "Mean validation loss of the tuning seeds at every peak rate tried. A dot marks the chosen rate, a cross a "
        "rate at which runs diverged. A wide, flat valley forgives a badly chosen rate."
    )
    return [tag("p", words), pictures.fan(data.fan, data.keys)]


def _cards(data: _Data) -> Content:
    found = figures.strategies(data.result)
    if not found:
        return None
    words = (
        "Each strategy by itself: its schedule, its training loss (the reference behind it in grey) and its validation "
        "loss by peak rate. Losses share one axis across the cards."
    )
    return [tag("p", words), tag("div", [_card(s, data) for s in found], class_="cards")]


def _card(strategy: Result, data: _Data) -> Markup:
    name = figures.name(strategy)
    shape, loss, reference, sweep = (
        _named(lines, who)
        for lines, who in (
            (data.curves.schedules, name), (data.curves.losses, name),
            (data.curves.losses, data.result.get("reference")), (data.fan.sweeps, name),
        )
    )  # fmt: skip
    rate = real(strategy.get("peak_lr"))
    about = [strategy.get("optimizer"), None if rate is None else f"peak {tables.number(rate)}"]
    drawn = [
        _panel("rate", pictures.shape(shape, data.axes)) if shape else None,
        _panel("training loss", pictures.loss(loss, reference if reference != loss else None, data.axes),
               f"ends at {tables.number(loss.y[-1])}")
        if loss else None,
        _panel("validation loss by rate", pictures.sweep(sweep, data.axes),
               sweep.best and f"best {tables.number(sweep.best[1])}") if sweep else None,
    ]  # fmt: skip
    return tag(
        "article",
        tag("header", tag("h3", name), _badge(figures.verdict(strategy))),
        tag("p", " · ".join(str(word) for word in about if word), class_="about"),
        drawn if any(drawn) else tag("p", "Nothing to draw yet.", class_="note"),
        tag("details", tag("summary", "Settings"), _settings(strategy)),
        class_=f"card {_kind(data, name)}", data_s=data.keys.get(name),
    )  # fmt: skip


def _named(lines: tuple[Any, ...], name: Any) -> Any:
    return next((line for line in lines if line.name == name), None)


def _panel(words: str, drawing: Markup, value: str | None = None) -> Markup:
    return tag("figure", tag("figcaption", tag("span", words), tag("span", value) if value else None), drawing)


def _settings(strategy: Result) -> Markup:
    seconds = real(strategy.get("seconds"))
    found = {
        "schedule": strategy.get("spec"), "momentum": strategy.get("momentum"),
        "weight decay": strategy.get("weight_decay") or None, "runs": strategy.get("runs"),
        "time": None if seconds is None else _duration(seconds),
    }  # fmt: skip
    return _list(found)


def _code(data: _Data) -> Content:
    code = str(data.result.get("code") or "").strip("\n")
    if not code:
        return None
    copy = tag("button", "Copy", type="button", class_="copy", data_copy="code-text", hidden=True)
    return tag("div", copy, tag("pre", tag("code", code, id="code-text"), tabindex="0"), class_="paste")


def _provenance(data: _Data) -> Content:
    result, budget = data.result, part(data.result, "budget")
    seconds = real(result.get("seconds"))
    run = {
        "command": result.get("command"), "started": result.get("started"), "host": result.get("host"),
        "time": None if seconds is None else _duration(seconds),
        "decides on": result.get("decides_on"), "reference": result.get("reference"),
    }  # fmt: skip
    columns = [
        ("Run", run),
        ("Budget", {_BUDGET.get(key, key): _grouped(value) for key, value in budget.items()}),
        ("Versions", dict(part(result, "versions"))),
    ]
    lists = [tag("div", tag("h3", title), _list(found)) for title, found in columns if any(map(_shown, found.values()))]
    save = tag("button", "Save the data as JSON", type="button", class_="save", hidden=True,
               data_name=f"ratewise-{result.get('task') or 'result'}.json")  # fmt: skip
    return [tag("div", lists, class_="provenance"), save]


# -- parts -------------------------------------------------------------------------------------------------------


def _list(found: Mapping[str, Any]) -> Markup:
    entries = [tag("div", tag("dt", key), tag("dd", str(value))) for key, value in found.items() if _shown(value)]
    return tag("dl", entries, class_="list")


def _shown(value: Any) -> bool:
    return value is not None and value != ""


def _grouped(value: Any) -> Any:
    """Large counts in groups of three."""
    return f"{value:,}".replace(",", " ") if isinstance(value, int) and abs(value) >= 10_000 else value


def _duration(seconds: float) -> str:
    """Return seconds as people say them.

    Example:
        >>> [_duration(s) for s in (3.21, 41.0, 200, 3900)]
        ['3.2 s', '41 s', '3 min 20 s', '1 h 5 min']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


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
