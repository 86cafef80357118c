"""The tests are tested: each formula is perturbed a little, and the golden tables must notice."""

import math
import runpy
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ratewise.core import cycles, ease, numeric, rounding, schedule, shapes
from ratewise.core.schedule import ENDS, After, Clip, Cooldown, Ramp, Repeat, Stairs, Stretch, Until

GOLDEN = runpy.run_path(str(Path(__file__).parent / "golden" / "test_golden.py"))


def failures() -> Iterator[str]:
    """The golden tables that the code as it is now does not reproduce, one after the other."""
    for text, table in GOLDEN["TABLES"].items():
        try:
            if GOLDEN["wrong"](text, table):
                yield text
        except Exception:
            yield text


def later(method: Callable[..., Any]) -> Callable[..., Any]:
    """An ``at`` that is off by one update."""
    return lambda self, t, xp: method(self, xp.maximum(t, 0) + 1, xp)


def eased(weight: Callable[[float], float]) -> Callable[..., Any]:
    """An ease whose weight is another function of the part k / m that remains to the low end."""
    return lambda span: (lambda k, q, constants, xp: weight(k / span.m), ())


def _more(span: ease.Span, extra: float = 1.0) -> ease.Span:
    return replace(span, parameters=(span.parameters[0] + extra,))


def _equal(kind: Any, n: float, times: int | None) -> Any:
    return kind(n, times, steps=None if times is None else n * times)


_ROW = Ramp._row.func


def _swapped(ramp: Ramp) -> Any:
    row = _ROW(ramp)
    return row._replace(falling=not row.falling)


SWAPPED_ENDS = {"[)": (1, 0), "(]": (0, 0), "()": (1, 1), "[]": (0, -1)}

PERTURBATIONS: dict[str, tuple[Any, Any, Any]] = {
    **{f"{kind.__name__} one late": (kind, "at", later(kind.at)) for kind in (Ramp, Until, After, Repeat, Stairs)},
    **{f"{kind.__name__} one late": (kind, "at", later(kind.at)) for kind in (Clip, Stretch, shapes.Exponential)},
    **{f"{kind.__name__} one late": (kind, "at", later(kind.at)) for kind in (shapes.InverseTime, shapes.Piecewise)},
    "a joint belongs to the piece before": (schedule, "bisect_right", bisect_left),
    "a milestone counts one update later": (numeric, "bisect_right", bisect_left),
    "the default ends are swapped": (ENDS, "[)", SWAPPED_ENDS["[)"]),
    "the warm-up starts at zero": (ENDS, "(]", SWAPPED_ENDS["(]"]),
    "open ends lose a part": (ENDS, "()", (1, 0)),
    "closed ends keep a part": (ENDS, "[]", (0, 0)),
    "start and end are swapped": (Ramp, "_row", property(_swapped)),
    "cosine is a sine": (ease.EASES, "cosine", eased(lambda x: math.sin(math.pi * x / 2))),
    "cosine is a line": (ease.EASES, "cosine", eased(lambda x: x)),
    "linear is bent": (ease.EASES, "linear", eased(lambda x: x**1.000001)),
    "a power is one higher": (ease.EASES, "polynomial", lambda span: ease.polynomial(_more(span))),
    "1-sqrt is sqrt": (ease.EASES, "1-sqrt", eased(math.sqrt)),
    "rex has another alpha": (ease.EASES, "rex", lambda span: ease.rex(_more(span, 0.1))),
    "geometric is a line": (ease.EASES, "geometric", ease.linear),
    "Stretch divides where it should multiply": (Stretch, "_longer", lambda self, n: n and n / self.factor),
    "a cooldown takes one update more": (Cooldown, "_exact", lambda self, h: h and rounding.rounded(self.length) + 1),
    "halves are rounded down": (rounding, "half_up", lambda x: math.ceil(x - rounding.Fraction(1, 2))),
    "cycles are of equal length": (cycles.Cycles, "of", classmethod(lambda cls, n, times, _: _equal(cls, n, times))),
    "a factor is applied twice": (schedule.Product, "_combine", staticmethod(lambda x, y: x * y * y)),
    "terms are multiplied": (schedule.Sum, "_combine", staticmethod(lambda x, y: x * y)),
}


def test_the_code_as_it_is_passes() -> None:
    assert list(failures()) == []


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_golden_tables_notice_that(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, key, replacement = PERTURBATIONS[name]
    if owner is ease.EASES:
        monkeypatch.setitem(owner, key, replace(owner[key], prepare=replacement))
    elif isinstance(owner, dict):
        monkeypatch.setitem(owner, key, replacement)
    else:
        monkeypatch.setattr(owner, key, replacement)
    assert next(failures(), None)
