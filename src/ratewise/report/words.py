"""The sentences of a comparison: verdict, confidence, notes, and what would change the verdict."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from ratewise.report import figures
from ratewise.report.figures import Result, part, real
from ratewise.report.race import Race

VALID = "Valid for"
"""What leads the sentence that says where a verdict holds."""

SURE = "Confidence"
"""What leads the sentence that says how sure it is."""

MEANINGS = {
    "reference": "the strategy with the best tuning score, chosen before any fresh seed ran",
    "better": "better than the reference beyond chance",
    "tie": "the 95% interval lies inside the band of differences too small to matter",
    "unresolved": "these seeds cannot tell",
    "worse": "worse than the reference beyond chance",
    "diverged": "runs did not survive",
    "dropped": "left the race before full length",
    figures.PENDING: "not decided yet",
}
"""What every verdict means."""


def headline(result: Result) -> list[str]:
    """Return what to read first: the verdict, where it is valid, and whether anything is unfinished."""
    valid = line(result.get("valid_for") or "")
    if valid and not valid.casefold().startswith("valid"):
        valid = f"{VALID}: {valid}"
    sentences = [line(result.get("verdict") or "No verdict yet."), valid, figures.unfinished(result)]
    return [sentence for sentence in sentences if sentence]


def confidence(result: Result) -> str:
    """Return how sure the verdict is; empty while nothing has been compared."""
    found = figures.strategies(result)
    rivals = [s for s in found if part(s, "difference")]
    if not rivals or result.get("reference") is None:
        return ""
    counts = {v: sum(figures.verdict(s) == v for s in rivals) for v in _COUNTED}
    told = [f"{n} {'tie' if v == 'tie' and n == 1 else 'ties' if v == 'tie' else v}" for v, n in counts.items() if n]
    seeds = max((int(real(part(s, "test").get("n")) or 0) for s in found), default=0)
    kinds = sorted({str(part(s, "difference").get("interval") or "t") for s in rivals})
    how = [
        f"{seeds} fresh seeds paired with those of {line(result['reference'])}" if seeds else "",
        f"95% intervals ({' and '.join({'bca': 'BCa'}.get(kind, kind) for kind in kinds)})",
        f"p values corrected for {len(rivals)} comparison{'s' * (len(rivals) != 1)} (Holm)",
    ]
    sentences = [f"Of {len(rivals)} rival{'s' * (len(rivals) != 1)}: {', '.join(told)}"] if told else []
    sentences += _chosen(result, rivals)
    return f"{SURE}: {', '.join(part for part in how if part)}. {'. '.join(sentences)}."


_COUNTED = ("better", "tie", "unresolved", "worse", "diverged")


def uncompared(result: Result) -> str:
    """Return why there is no difference to show."""
    found = figures.strategies(result)
    if len(found) == 1:
        return "There is but one strategy, so there is nothing to compare it with."
    if not found or figures.unfinished(result) or result.get("verdict") is None:
        return "Nothing has been compared on fresh seeds yet."
    if result.get("reference") is None:
        return "There is nothing to compare: no strategy has a rate at which every tuning run survived."
    return f"There is nothing to compare {line(result['reference'])} with: no other strategy ran on fresh seeds."


def _chosen(result: Result, rivals: list[Result]) -> list[str]:
    """The evidence for what is recommended, if that is not the reference itself."""
    chosen = next((s for s in rivals if figures.name(s) == result.get("recommended")), None)
    if chosen is None:
        return []
    difference = part(chosen, "difference")
    p, wins = real(difference.get("adjusted")), real(difference.get("wins"))
    won = "" if wins is None else f" on {100 * wins:.0f}% of the seeds"
    sure = "" if p is None else f" (corrected p {p:.2g})"
    return [f"{line(figures.name(chosen))} beats {line(result['reference'])}{won}{sure}"]


def notes(result: Result) -> list[str]:
    """Return what the cells of one table of everything need explained."""
    return list(filter(None, (control(result), _survived(result), _edge(result), _needed(result), _trained(result))))


def compared(result: Result) -> list[str]:
    """Return what the cells of the table of differences need explained."""
    return list(filter(None, (control(result), _needed(result), _won(result))))


def effort(result: Result) -> list[str]:
    """Return what the cells of the table of effort need explained."""
    return list(filter(None, (control(result), _edge(result), _sensitivity(result), _trained(result))))


def control(result: Result) -> str:
    """Return what the mark of the control means, empty without one."""
    if not any(map(figures.control, figures.strategies(result))):
        return ""
    return "† The control: AdamW with warm-up and linear decay, calibrated like all others."


def _edge(result: Result) -> str:
    found = figures.strategies(result)
    if not any(strategy.get("edge") and real(strategy.get("peak_lr")) is not None for strategy in found):
        return ""
    return "* The best rate lies at the edge of the rates tried: a better one may lie beyond."


def _sensitivity(result: Result) -> str:
    if not _known(result, "sensitivity"):
        return ""
    return (
        "Sensitivity: how much loss a badly chosen rate costs, as the mean over the rates of the window of the loss "
        "(at most that of the untrained model) less the lowest (Wortsman et al., 2023)."
    )


def _known(result: Result, key: str) -> bool:
    found = (strategy.get(key) for strategy in figures.strategies(result))
    return any(real(value.get("mean") if isinstance(value, Mapping) else value) is not None for value in found)


def _needed(result: Result) -> str:
    if not any(figures.verdict(strategy) == "unresolved" for strategy in figures.strategies(result)):
        return ""
    return "Seeds needed: an estimate of how many paired seeds would settle an unresolved verdict."


def _trained(result: Result) -> str:
    """How all of them were trained; if that differs it is a column."""
    how = {line(strategy.get("trained") or "") for strategy in figures.strategies(result)}
    return f"Trained: {found}." if len(how) == 1 and (found := how.pop()) else ""


def _won(result: Result) -> str:
    if not any(real(part(s, "difference").get("wins")) is not None for s in figures.strategies(result)):
        return ""
    clear = real(part(result, "thresholds").get("wins")) or 0.75
    return (
        f"Seeds won: the share of paired seeds on which the strategy beat the reference; from {clear:.0%} on a "
        "difference is often called meaningful (Bouthillier et al., 2021)."
    )


def results(result: Result) -> list[str]:
    """Return what the cells of the table of results need explained."""
    found = []
    if _known(result, "best"):
        found.append(
            "Best checkpoint: the test loss where the validation loss was lowest. If its order differs from that of "
            "the final loss, keep checkpoints, or decay to the end."
        )
    if _known(result, "area"):
        found.append("Mean on the way: the mean held-out loss over the whole run, for whoever may have to stop early.")
    return list(filter(None, (_survived(result), *found)))


def _survived(result: Result) -> str:
    if not any(figures.diverged(strategy)[0] for strategy in figures.strategies(result)):
        return ""
    return (
        "Runs that diverged are not in the mean: how many survived stands beside it. In the median they are the worst, "
        "and strategies are ranked by the share of runs that diverged, then by the median."
    )


def shorter(result: Result) -> str:
    """Return why some strategies have no rate, empty if all have."""
    if not any(figures.verdict(strategy) == "dropped" for strategy in figures.strategies(result)):
        return ""
    return "Strategies that the race dropped are not here: their runs were shorter, and their best rates are of those."


SCORE = (
    "Score: the area under the performance profile over the paired seeds, 1 for the fastest on every seed, 0 for "
    "never within four times the updates of the fastest (the rule of AlgoPerf)."
)
NO_RACE = "There was no race: every strategy ran to full length at every rate it tried."
NO_CODE = "There is no code yet, because nothing is recommended."
UNCHANGED = "Nothing is recorded that would change the verdict."


def changes(result: Result) -> list[str]:
    """Return what would change the verdict."""
    given = result.get("changes")
    return [line(sentence) for sentence in given] if isinstance(given, (list, tuple)) else []


def fate(found: Race, who: str) -> str:
    """Return what became of a strategy in a race."""
    out = found.dropped(who)
    if out is not None:
        rung, stand = out
        why = line(stand.why)
        return f"dropped after {rung.steps} updates" + (f": {why}" if why not in ("", "dropped") else "")
    if found.place(who) is None:
        return "not decided yet"
    ran = [one for rung in found.rungs if (one := rung.of(who))]
    reasons = [line(one.why) for one in ran if one.promoted and one.why]
    return "fresh seeds" + (f" ({reasons[-1]})" if reasons else "")


def predicted(found: Race) -> str:
    """Return how well every rung foresaw the final order; empty while there is nothing to compare."""
    told = [f"{rung.kept} of {rung.pairs} pairs at {rung.steps} updates" for rung in found.rungs if rung.pairs]
    if not told:
        return ""
    return f"Predicted against actual: the order of the strategies on fresh seeds was foreseen for {', '.join(told)}."


def raced(found: Race) -> str:
    """Return what the race was, and what it cost."""
    *most, last = (str(rung.steps) for rung in found.rungs)
    lengths = f"{', '.join(most)} and {last}" if most else last
    costs = [rung.updates for rung in found.rungs if rung.updates is not None]
    cost = f" That took {sum(costs):,} updates.".replace(",", " ") if costs else ""
    return (
        f"Strategies ran complete schedules, scaled to {lengths} updates. Each was judged at its best rate there, and "
        f"the best went on.{cost}"
    )


def spent(result: Result) -> list[tuple[str, float | None]]:
    """Return what the study cost: runs, updates and seconds."""
    cost, budget = part(result, "cost"), part(result, "budget")
    return [
        ("runs", real(cost.get("runs", budget.get("runs")))),
        ("updates", real(cost.get("updates", budget.get("updates")))),
        ("seconds", real(cost.get("seconds", result.get("seconds")))),
    ]


def moment(started: object) -> str:
    """Return when something began; a number is seconds since 1970.

    Example:
        >>> moment(1795874837.07)
        '2026-11-28 14:07 UTC'
        >>> moment("2026-11-24T02:20:00")
        '2026-11-24T02:20:00'
    """
    seconds = real(started)
    if seconds is None or not 0 <= seconds < 1e11:
        return line(started or "")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def seeds(values: object) -> str:
    """Return seeds as spans.

    Example:
        >>> seeds([0, 1, 2, 7, 1000, 1001])
        '0–2, 7, 1000, 1001'
        >>> seeds(5)
        '5'
    """
    if not isinstance(values, (list, tuple)):
        return line(values)
    if not all(type(value) is int for value in values):
        return ", ".join(map(line, values))
    spans: list[list[int]] = []
    for value in values:
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(f"{a}–{b}" if b > a + 1 else ", ".join(map(str, range(a, b + 1))) for a, b in spans)


def line(sentence: object) -> str:
    """Return one line without control characters, whatever a file or a person put into it."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(sentence)).split())


def code(result: Result) -> str:
    """Return the code to paste, as it was written but without what would steer a terminal."""
    found = str(result.get("code") or "").strip("\n")
    return "".join(c for c in found if c.isprintable() or c == "\n")


def paragraphs(*found: str) -> str:
    """Return what is not empty, a blank line between each."""
    return "\n\n".join(paragraph for paragraph in found if paragraph) + "\n"


def sparkline(values: list[float], width: int = 24) -> str:
    """Return a curve as ``width`` small blocks from its lowest to its highest value.

    Example:
        >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8)
        '▁▂▃▄▅▆▇█'
        >>> sparkline([1.0, 1.0], 4)
        '████'
    """
    blocks = "▁▂▃▄▅▆▇█"
    finite = [y for y in values if math.isfinite(y)]
    if not finite:
        return ""
    picked = [finite[round(i * (len(finite) - 1) / max(width - 1, 1))] for i in range(width)]
    low, high = min(picked), max(picked)
    if high <= low:
        return blocks[-1] * width
    return "".join(blocks[round((y - low) / (high - low) * (len(blocks) - 1))] for y in picked)
