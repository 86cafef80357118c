"""The history of a race, as plain data: who stood where at every rung, who was dropped, and what came of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from ratewise.report.figures import Result, loss, name, rank, real, strategies


@dataclass(frozen=True)
class Stand:
    """A strategy at a rung: its best rate there, the loss of that rate (None if it diverged), its place from 1."""

    name: str
    rate: float | None
    loss: float | None
    place: int
    promoted: bool
    why: str


@dataclass(frozen=True)
class Rung:
    """Complete runs of one length, the best strategy first; ``kept`` pairs of ``pairs`` have their final order.

    A rung from which nobody was promoted is not decided yet.
    """

    steps: int
    updates: int | None
    stands: tuple[Stand, ...]
    kept: int
    pairs: int

    def of(self, strategy: str) -> Stand | None:
        """Return where a strategy stood, None if it was dropped before."""
        return next((stand for stand in self.stands if stand.name == strategy), None)

    @property
    def decided(self) -> bool:
        """Whether anybody went on."""
        return any(stand.promoted for stand in self.stands)


@dataclass(frozen=True)
class Race:
    """All rungs, shortest first, and the mean losses on fresh seeds of those who came so far, by ``figures.rank``."""

    rungs: tuple[Rung, ...]
    finals: tuple[tuple[str, float], ...]

    def names(self) -> list[str]:
        """Return everyone who raced: who came furthest first, then by place at the last rung they ran."""
        final = {who: i for i, (who, _) in enumerate(self.finals)}
        last = {stand.name: (-i, stand.place) for i, rung in enumerate(self.rungs) for stand in rung.stands}
        return sorted(last, key=lambda who: (who not in final, final.get(who, 0), last[who], who))

    def place(self, strategy: str) -> int | None:
        """Return the final place of a strategy, None if it did not get to the fresh seeds."""
        return next((i for i, (who, _) in enumerate(self.finals, 1) if who == strategy), None)

    def dropped(self, strategy: str) -> tuple[Rung, Stand] | None:
        """Return the rung after which a strategy was dropped, and where it stood there."""
        last = next(((r, s) for r in reversed(self.rungs) if (s := r.of(strategy))), None)
        return last if last and last[0].decided and not last[1].promoted else None


def race(result: Result) -> Race | None:
    """Return the history of a race; None if every strategy ran to full length from the start."""
    given = result.get("race")
    rungs = [rung for rung in given if isinstance(rung, Mapping)] if isinstance(given, (list, tuple)) else []
    if not rungs:
        return None
    rungs.sort(key=lambda rung: real(rung.get("steps")) or 0.0)
    begun = Race(tuple(_rung(rung, {}) for rung in rungs), ())
    finals = [
        (name(s), mean)
        for s in sorted(strategies(result), key=rank)
        if (mean := real(loss(s).get("mean"))) is not None and name(s) in begun.names() and not begun.dropped(name(s))
    ]
    places = {who: place for place, (who, _) in enumerate(finals)}
    return Race(tuple(_rung(rung, places) for rung in rungs), tuple(finals))


def _rung(rung: Result, finals: Mapping[str, int]) -> Rung:
    stands = _stands(rung)
    together = [stand for stand in stands if stand.name in finals]  # in the order of the rung
    pairs = list(combinations(together, 2))
    kept = sum(finals[first.name] <= finals[second.name] for first, second in pairs)
    updates = real(rung.get("updates"))
    return Rung(
        int(real(rung.get("steps")) or 0), None if updates is None else int(updates), tuple(stands), kept, len(pairs)
    )


def _stands(rung: Result) -> list[Stand]:
    """Every strategy once, at its best rate; promoted if any of its rates was."""
    by_name: dict[str, list[Result]] = {}
    for entry in rung.get("entries") or ():
        if isinstance(entry, Mapping):
            by_name.setdefault(name(entry), []).append(entry)

    def key(entry: Result) -> float:
        found = real(entry.get("loss"))
        return math.inf if found is None else found

    best = sorted((min(entries, key=key) for entries in by_name.values()), key=key)
    stands = []
    for place, entry in enumerate(best, 1):
        promoted = [other for other in by_name[name(entry)] if other.get("promoted")]
        why = str((promoted[0] if promoted else entry).get("why") or "")
        stands.append(Stand(name(entry), real(entry.get("rate")), real(entry.get("loss")), place, bool(promoted), why))
    return stands
