"""The ten sections of the page, each a function of the same data; a section with nothing to show says so in words."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ratewise.report import figures, pictures, reached, rowed, svg, tables, words
from ratewise.report.figures import Curves, Fan, Result, part, real
from ratewise.report.markup import Content, Markup, tag
from ratewise.report.pictures import Axes
from ratewise.report.race import Race, race

_GLYPHS = {
    "reference": "◆", "better": "▲", "tie": "=", "unresolved": "?", "worse": "▼", "diverged": "✕",
    "dropped": "↓", figures.PENDING: "…",
}  # fmt: skip
_BUDGET = {
    "steps": "updates per run", "batch_size": "batch size", "rates": "rates per strategy",
    "tuning_seeds": "tuning seeds", "fresh_seeds": "fresh seeds", "engine": "engine", "dtype": "number type",
    "runs": "runs in all", "updates": "updates in all", "delta": "delta", "slides": "slides of a window at most",
}  # fmt: skip


class Data(NamedTuple):
    """What several sections share."""

    result: Result
    keys: svg.Keys
    curves: Curves
    fan: Fan
    axes: Axes
    race: Race | None

    @classmethod
    def of(cls, result: Result) -> "Data":
        """Return what the sections of one result share."""
        curves, fan = figures.curves(result), figures.fan(result)
        keys = {figures.name(s): i for i, s in enumerate(figures.strategies(result), 1)}
        return cls(result, keys, curves, fan, pictures.axes(curves, fan), race(result))

    def kind(self, strategy: str) -> str:
        """Return the class that colours a strategy."""
        found = (figures.verdict(s) for s in figures.strategies(self.result) if figures.name(s) == strategy)
        return svg.kind(next(found, figures.PENDING))


def verdict(data: Data) -> Content:
    """What to do, how sure that is, and where it holds."""
    told, *rest = words.headline(data.result)
    unfinished = rest.pop() if figures.unfinished(data.result) else None
    task, description = (str(data.result.get(key) or "") for key in ("task", "description"))
    return [
        tag("h1", told),
        [tag("p", _led(sentence), class_="valid") for sentence in (words.confidence(data.result), *rest) if sentence],
        tag("p", tag("b", task), " · " if task and description else "", description, class_="task"),
        tag("p", "This study is ", unfinished, ". What follows may still change.", class_="banner", role="status")
        if unfinished else None,
        _facts(data),
    ]  # fmt: skip


def differences(data: Data) -> Content:
    """The paired differences from the reference."""
    forest = figures.forest(data.result)
    if forest is None:
        return tag("p", words.uncompared(data.result))
    band = tables.margin(data.result)
    told = [
        f"Each strategy ran the same fresh seeds as {forest.reference}: the mean paired difference in "
        f"{figures.decides_on(data.result)}, in {forest.unit}, with its 95% interval.",
        f" The shaded band is {band}: an interval inside it is a tie." if band else "",
    ]
    missing = f"Without a difference: {', '.join(forest.absent)}." if forest.absent else ""
    return [
        tag("p", told), rowed.forest(forest, data.keys), _table(data, tables.DIFFERENCES, "Differences"), _legend(data),
        _notes(missing, *words.compared(data.result)),
    ]  # fmt: skip


def rates(data: Data) -> Content:
    """The loss over the rates tried."""
    if not any(sweep.losses for sweep in data.fan.sweeps):
        return tag("p", "Runs diverged at every rate tried." if data.fan.sweeps else "No rate has been tried yet.")
    told = (
        "Mean validation loss of the tuning seeds at every peak rate tried. A dot marks the chosen rate, a cross a "
        "rate at which runs diverged. A wide, flat valley forgives a badly chosen rate."
    )
    named = [str(data.result[key]) for key in ("reference", "recommended") if data.result.get(key)]
    edge = "An arrow at a dot: the chosen rate lies at the edge of those tried; a better one may lie beyond."
    ceiling = (
        "A short upright at the floor marks the ceiling: the lowest rate above the chosen one at which a run diverged "
        "or ended no better than it began."
    )
    return [
        tag("p", told), pictures.fan(data.fan, data.keys, named),
        _notes(edge if any(s.edge for s in data.fan.sweeps) else "",
               ceiling if any(s.ceiling for s in data.fan.sweeps) else "", words.shorter(data.result)),
        _folded("The rates in numbers", _grid(data, tables.swept(data.fan), "Rates tried")),
    ]  # fmt: skip


def curves(data: Data) -> Content:
    """Schedules above training losses, and every strategy by itself."""
    if not (data.curves.schedules or data.curves.losses):
        return tag("p", "No curve yet.")
    told = (
        "Above, the rate used by each update, as a share of the strategy's own peak; below, the mean training loss of "
        "the fresh runs at the chosen rate. Both over the same updates."
    )
    alone = (
        "Its schedule, its training loss (the reference behind it in grey) and its validation loss by peak rate. "
        "Losses share one axis across the cards."
    )
    cards = tag("div", [_card(s, data) for s in figures.strategies(data.result)], class_="cards")
    return [
        tag("p", told), pictures.overlay(data.curves, data.keys),
        _folded("Every strategy by itself", [tag("p", alone), cards]),
    ]  # fmt: skip


def target(data: Data) -> Content:
    """How soon every strategy reached the target."""
    found = reached.targets(data.result)
    if found is None:
        return tag("p", "No time to a target was measured.")
    loss = "the target" if found.loss is None else f"a held-out loss of {tables.number(found.loss)}"
    rule = f" ({words.line(found.rule)})" if found.rule else ""
    told = (
        f"After how many updates each fresh seed first reached {loss}{rule}: a dot for each time it was measured, "
        "larger for more seeds, and an upright at the median."
    )
    scored = any(row.score is not None for row in found.rows)
    return [
        tag("p", told), rowed.ways(found, data.keys), _notes(words.SCORE if scored else ""),
        _folded("The times in numbers", _grid(data, tables.arrivals(found), "Time to target")),
    ]  # fmt: skip


def results(data: Data) -> Content:
    """What came out, and what it took."""
    if not data.keys:
        return tag("p", "No strategy yet.")
    return [
        _table(data, tables.RESULTS, "Results"), _notes(*words.results(data.result)),
        tag("h3", "What it took"), _table(data, tables.EFFORT, "What it took"), _notes(*words.effort(data.result)),
    ]  # fmt: skip


def history(data: Data) -> Content:
    """Who was dropped from the race, when and why, and whether the rungs foresaw the end."""
    found = data.race
    if found is None:
        return tag("p", words.NO_RACE)
    kinds = {who: data.kind(who) for who in found.names()}
    return [
        tag("p", words.raced(found)), rowed.places(found, data.keys, kinds),
        _grid(data, tables.history(found), "Race"), _notes(words.predicted(found)),
    ]  # fmt: skip


def changes(data: Data) -> Content:
    """What would change the verdict."""
    found = words.changes(data.result)
    return tag("ul", [tag("li", sentence) for sentence in found]) if found else tag("p", words.UNCHANGED)


def code(data: Data) -> Content:
    """The recommended strategy, ready to paste."""
    found = str(data.result.get("code") or "").strip("\n")
    if not found:
        return tag("p", words.NO_CODE)
    copy = tag("button", "Copy", type="button", class_="copy", data_copy="code-text", hidden=True)
    return tag("div", copy, tag("pre", tag("code", found, id="code-text"), tabindex="0"), class_="paste")


def provenance(data: Data) -> Content:
    """Everything needed to run it again."""
    lists = [tag("div", tag("h3", title), _list(found)) for title, found in recorded(data.result) if found]
    save = tag("button", "Save the data as JSON", type="button", class_="save", hidden=True,
               data_name=f"ratewise-{data.result.get('task') or 'result'}.json")  # fmt: skip
    return [tag("div", lists, class_="provenance") if lists else tag("p", "Nothing is recorded."), save]


def recorded(result: Result) -> list[tuple[str, dict[str, str]]]:
    """Return what is known of the run, its budget and its versions, as titles of lists of words."""
    kept, budget = part(result, "provenance"), part(result, "budget")
    seeds, spent = part(kept, "seeds"), dict(words.spent(result))
    run = {
        "command": kept.get("command") or result.get("command"), "started": words.moment(result.get("started")),
        "host": result.get("host"), "time": tables.duration(spent["seconds"]),
        "fingerprint": kept.get("fingerprint"), "seeds for tuning": seeds.get("tune"), "fresh seeds": seeds.get("test"),
        "decides on": result.get("decides_on"), "reference": result.get("reference"),
    }  # fmt: skip
    counts = {"runs": tables.grouped(spent["runs"]), "updates": tables.grouped(spent["updates"])}
    bought = {_BUDGET.get(key, key): counts.get(key, value) for key, value in {**budget, **counts}.items()}
    columns = [("Run", run), ("Budget", bought), ("Versions", part(kept, "versions") or part(result, "versions"))]
    return [
        (
            title,
            {str(key): "yes" if value is True else words.seeds(value) for key, value in found.items() if _known(value)},
        )
        for title, found in columns
    ]


def _known(value: object) -> bool:
    return value is not None and value is not False and value != ""


# -- parts -------------------------------------------------------------------------------------------------------


def _led(sentence: str) -> Content:
    """The words that lead a sentence, in bold."""
    lead = next((lead for lead in (words.VALID, words.SURE) if sentence.startswith(lead)), "")
    return [tag("b", lead), sentence.removeprefix(lead)] if lead else sentence


def _facts(data: Data) -> Markup | None:
    """The recommended strategy in numbers."""
    row = next((r for r in tables.rows(data.result) if r.name == data.result.get("recommended")), None)
    if row is None:
        return None
    facts = [("Recommended", row.name), ("Peak rate", row.peak), ("Test loss", row.loss),
             (f"Test {tables.metric(data.result)}", row.metric), ("Optimizer", row.optimizer)]  # fmt: skip
    return tag("dl", [tag("div", tag("dt", k), tag("dd", _soft(v))) for k, v in facts if v], class_="facts")


def _soft(value: str) -> Content:
    """A number and, in softer ink, its interval."""
    mean, bracket, rest = value.partition(" [")
    return [mean, tag("small", f"[{rest}")] if bracket else mean


def _table(data: Data, columns: tuple[str, ...], label: str) -> Markup | None:
    """The strategies, with those of the columns that say something."""
    titles, rows, kept = tables.grid(data.result, columns)
    if len(kept) < 3:  # only names and verdicts
        return None
    head = tag("tr", [tag("th", getattr(titles, c), scope="col", class_=_column(c)) for c in kept])
    body = [
        tag("tr", [_cell(c, row, data) for c in kept], data_s=data.keys.get(row.name), class_=svg.kind(row.verdict))
        for row in rows
    ]
    return _scrolled(tag("table", tag("thead", head), tag("tbody", body)), label)


def _cell(column: str, row: tables.Row, data: Data) -> Markup:
    value = getattr(row, column)
    if column == "strategy":
        chosen = row.name == data.result.get("recommended")
        return tag("th", value, tag("span", "recommended", class_="chosen") if chosen else None, scope="row")
    if column == "verdict":
        return tag("td", _badge(value), class_="c-verdict")
    return tag("td", _soft(value) if value else tables.NONE, class_=_column(column, "" if value else "none"))


def _column(column: str, *classes: str) -> str:
    return " ".join(filter(None, (f"c-{column}", "right" if column in tables.RIGHT else "", *classes)))


def _grid(data: Data, found: tables.Grid, label: str) -> Markup:
    """A table in words, each row led by a strategy."""
    head = tag("tr", [tag("th", title, scope="col") for title in found.titles])
    keys = {words.line(name): key for name, key in data.keys.items()}
    body = [
        tag("tr", tag("th", row[0], scope="row"), [tag("td", cell or tables.NONE, class_="" if cell else "none")
                                                   for cell in row[1:]], data_s=keys.get(row[0]))
        for row in found.rows
    ]  # fmt: skip
    return _scrolled(tag("table", tag("thead", head), tag("tbody", body)), label)


def _scrolled(table: Markup, label: str) -> Markup:
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=label)


def _folded(title: str, *content: Content) -> Markup:
    return tag("details", tag("summary", title), content, class_="more")


def _notes(*sentences: str) -> list[Markup]:
    return [tag("p", sentence, class_="note") for sentence in sentences if sentence]


def _badge(verdict: str) -> Markup:
    glyph = tag("span", _GLYPHS.get(verdict, "…"), class_="glyph", aria_hidden="true")
    return tag("span", glyph, verdict, class_=f"badge {svg.kind(verdict)}")


def _legend(data: Data) -> Markup:
    """What the verdicts on this page mean."""
    seen = {figures.verdict(s) for s in figures.strategies(data.result)}
    entries = [(verdict, meaning) for verdict, meaning in words.MEANINGS.items() if verdict in seen]
    return tag("dl", [tag("div", tag("dt", _badge(v)), tag("dd", told)) for v, told in entries], class_="legend")


def _card(strategy: Result, data: Data) -> Markup:
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
        class_=f"card {data.kind(name)}", data_s=data.keys.get(name),
    )  # fmt: skip


def _named(lines: Iterable[Any], name: Any) -> Any:
    return next((line for line in lines if line.name == name), None)


def _panel(words: str, drawing: Markup, value: str | None = None) -> Markup:
    return tag("figure", tag("figcaption", tag("span", words), tag("span", value) if value else None), drawing)


def _settings(strategy: Result) -> Markup:
    found = {
        "schedule": strategy.get("spec"), "momentum": strategy.get("momentum"),
        "weight decay": strategy.get("weight_decay"), "runs": strategy.get("runs"),
        "time": tables.duration(real(strategy.get("seconds"))),
    }  # fmt: skip
    return _list({key: str(value) for key, value in found.items() if value})


def _list(found: Mapping[str, str]) -> Markup:
    return tag("dl", [tag("div", tag("dt", key), tag("dd", value)) for key, value in found.items()], class_="list")
