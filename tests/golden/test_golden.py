"""Values worked out by hand or in exact fractions: at 0, at each joint and beside it, at the end and far past it."""

import math
from fractions import Fraction
from typing import Any

import pytest

import ratewise as rw

FAR = 10**12
HALF_ROOT = 0.70710678118654752440  # sqrt(1/2)
HIGH, LOW = 0.85355339059327376220, 0.14644660940672623780  # (2 +- sqrt(2)) / 4: a cosine at a quarter and three

NAMES = {name: getattr(rw, name) for name in dir(rw) if name[0] != "_" and name not in ("compare", "strategy")}


def F(text: str) -> float:
    """A fraction as a float."""
    return float(Fraction(text))


TABLES: dict[str, dict[float, float]] = {
    # ramps and their ends
    "Linear(1.0, 0.0, 4)": {-5: 1, -1: 1, 0: 1, 0.5: 0.875, 1: 0.75, 2: 0.5, 3: 0.25, 4: 0, 5: 0, FAR: 0},
    "Linear(0.0, 1.0, 4)": {-1: 0, 0: 0, 1: 0.25, 3: 0.75, 3.5: 0.875, 4: 1, 5: 1, FAR: 1},
    "Linear(0.0, 1.0, 4, ends='(]')": {-1: 0.25, 0: 0.25, 1: 0.5, 2: 0.75, 3: 1, 4: 1, 5: 1, FAR: 1},
    "Linear(1.0, 0.0, 4, ends='()')": {-1: 0.8, 0: 0.8, 1: 0.6, 2: 0.4, 3: 0.2, 4: 0, 5: 0, FAR: 0},
    "Linear(0.0, 1.0, 4, ends='[]')": {-1: 0, 0: 0, 1: F("1/3"), 2: F("2/3"), 3: 1, 4: 1, 5: 1, FAR: 1},
    "Linear(1.0, 0.0, 1)": {-1: 1, 0: 1, 1: 0, 2: 0, FAR: 0},
    "Linear(0.0, 1.0, 1, ends='(]')": {-1: 1, 0: 1, 1: 1},
    "Linear(0.0, 1.0, 1, ends='()')": {-1: 0.5, 0: 0.5, 1: 1, 2: 1},
    "Linear(0.0, 1.0, 1, ends='[]')": {-1: 1, 0: 1, 1: 1},
    "Linear(1.0, 0.0, 2.5)": {0: 1, 1: 0.6, 2: 0.2, 2.5: 0, 3: 0},
    "Linear(0.0, 1.0, 0.5, ends='(]')": {-1: 1, 0: 1, 1: 1},
    "Linear(0.3, 0.3, 7)": {-1: 0.3, 0: 0.3, 3: 0.3, 7: 0.3, FAR: 0.3},
    "Linear(-1.0, 1.0, 4)": {0: -1, 1: -0.5, 2: 0, 3: 0.5, 4: 1},
    "Cosine(1.0, 0.0, 4)": {-1: 1, 0: 1, 1: HIGH, 2: 0.5, 3: LOW, 4: 0, 5: 0, 8: 0, FAR: 0},
    "Cosine(0.0, 1.0, 4)": {-1: 0, 0: 0, 1: LOW, 2: 0.5, 3: HIGH, 4: 1, 5: 1, FAR: 1},
    "Cosine(1.0, 0.0, 6)": {2: 0.75, 3: 0.5, 4: 0.25},
    "Cosine(1.0, 0.5, 2)": {0: 1, 1: 0.75, 2: 0.5, 3: 0.5},
    "Cosine(0.0, 1.0, 3, ends='(]')": {0: 0.25, 1: 0.75, 2: 1, 3: 1},
    "Polynomial(1.0, 0.0, 4, power=2.0)": {-1: 1, 0: 1, 1: 0.5625, 2: 0.25, 3: 0.0625, 4: 0, 5: 0},
    "Polynomial(0.0, 1.0, 4, power=2.0)": {-1: 0, 0: 0, 1: 0.4375, 2: 0.75, 3: 0.9375, 4: 1, 5: 1},
    "Polynomial(1.0, 0.0, 4, power=0.5)": {0: 1, 2: HALF_ROOT, 3: 0.5, 4: 0},
    "Polynomial(1.0, 0.5, 4)": {0: 1, 2: 0.75, 4: 0.5},
    "Ramp(1.0, 0.0, 4, ease='1-sqrt')": {-1: 1, 0: 1, 1: 0.5, 2: 0.29289321881345247560, 4: 0, 5: 0},
    "Ramp(1.0, 0.0, 9, ease='1-sqrt')": {1: F("2/3"), 4: F("1/3"), 8: 0.0571909584179366341322, 9: 0},
    "Ramp(0.0, 1.0, 4, ease='1-sqrt')": {0: 0, 1: 0.5, 2: HALF_ROOT, 4: 1, 5: 1},
    "Ramp(1.0, 0.0, 4, ease='rex')": {-1: 1, 0: 1, 1: F("6/7"), 2: F("2/3"), 3: 0.4, 4: 0, 5: 0},
    "Ramp(0.0, 1.0, 4, ease='rex')": {0: 0, 1: F("1/7"), 2: F("1/3"), 3: 0.6, 4: 1, 5: 1},
    "Ramp(1.0, 0.0, 4, ease='rex(0.75)')": {1: F("12/13"), 2: 0.8, 3: F("4/7")},
    "Ramp(1.0, 0.0625, 4, ease='geometric')": {-1: 1, 0: 1, 1: 0.5, 2: 0.25, 3: 0.125, 4: 0.0625, 5: 0.0625},
    "Ramp(1.0, 16.0, 4, ease='geometric')": {0: 1, 1: 2, 2: 4, 3: 8, 4: 16, 5: 16},
    "Ramp(-16.0, -1.0, 4, ease='geometric')": {0: -16, 1: -8, 2: -4, 3: -2, 4: -1, 5: -1},
    # shapes without an end of their own
    "Constant(0.1)": {-1: 0.1, 0: 0.1, 1: 0.1, FAR: 0.1},
    "Exponential(1.0, 0.5, every=2)": {-3: 1, 0: 1, 1: HALF_ROOT, 2: 0.5, 4: 0.25, 5: 0.25 * HALF_ROOT, FAR: 0},
    "Exponential(1.0, 0.5, steps=3)": {-1: 1, 0: 1, 2: 0.25, 3: 0.125, 4: 0.125, FAR: 0.125},
    "Exponential(1.0, 2.0, steps=3)": {0: 1, 1: 2, 3: 8, 4: 8, FAR: 8},
    "InverseTime(1.0, 0.5)": {-1: 1, 0: 1, 1: F("2/3"), 2: 0.5, 8: 0.2},
    "InverseTime(1.0, 1.0, every=10)": {5: F("2/3"), 10: 0.5, 30: 0.25},
    "InverseTime(1.0, 1.0, power=0.5)": {0: 1, 3: 0.5, 8: F("1/3"), 99: 0.1},
    "InverseTime(1.0, 1.0, power=-1.0, steps=4)": {0: 1, 1: 2, 4: 5, 5: 5, FAR: 5},
    "Piecewise([3.0, 2.0, 1.0], [2, 4])": {-1: 3, 0: 3, 1: 3, 2: 2, 3: 2, 4: 1, 5: 1, FAR: 1},
    "Piecewise([3.0], [])": {-1: 3, 0: 3, FAR: 3},
    # joining
    "Cosine(1.0, 0.0, 4).warmup(4)": {-1: 0.25, 0: 0.25, 1: 0.5, 2: 0.75, 3: 1, 4: 1, 5: HIGH, 7: LOW, 8: 0, 9: 0},
    "Constant(1.0).warmup(4, start=0.0)": {-1: 0, 0: 0, 1: 0.25, 3: 0.75, 4: 1, 5: 1, FAR: 1},
    "Constant(1.0).warmup(4, start=0.2)": {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8, 4: 1},
    "Constant(1.0).warmup(4, end=2.0, ends='[]')": {0: 0, 1: F("2/3"), 3: 2, 4: 1},
    "Constant(1.0).warmup(1)": {-1: 1, 0: 1, 1: 1},
    "Constant(1.0).warmup(2, shape='cosine')": {0: 0.5, 1: 1, 2: 1},
    "Constant(1.0, 4).cooldown(4)": {0: 1, 3: 1, 4: 1, 5: 0.5, 6: 0.29289321881345247560, 8: 0, 9: 0, FAR: 0},
    "Constant(1.0, 1).cooldown(2, 0.5, 'linear')": {0: 1, 1: 1, 2: 0.75, 3: 0.5, 4: 0.5},
    "Constant(1.0).cooldown(4).over(10)": {0: 1, 5: 1, 6: 1, 7: 0.5, 10: 0, 11: 0},
    "Exponential(1.0, 0.5).cooldown(2, shape='linear').over(4)": {0: 1, 1: 0.5, 2: 0.25, 3: 0.125, 4: 0, 5: 0},
    "Constant(1.0, 1) >> Constant(2.0, 1) >> Constant(3.0, 1)": {-1: 1, 0: 1, 0.5: 1, 1: 2, 2: 3, 3: 3, FAR: 3},
    "Linear(0.0, 1.0, 2) >> Linear(1.0, 0.0, 4)": {0: 0, 1: 0.5, 2: 1, 3: 0.75, 5: 0.25, 6: 0, 7: 0},
    "Linear(0.0, 1.0, 2.5) >> Linear(1.0, 0.0, 2.5)": {2: 0.8, 3: 0.8, 4: 0.4, 5: 0},
    # cutting
    "Linear(1.0, 0.0, 4).until(2)": {-1: 1, 0: 1, 1: 0.75, 2: 0.5, 3: 0.5, FAR: 0.5},
    "Linear(1.0, 0.0, 4).until(6)": {3: 0.25, 4: 0, 5: 0, 6: 0, 7: 0},
    "Linear(1.0, 0.0, 4).after(1)": {-1: 0.75, 0: 0.75, 1: 0.5, 2: 0.25, 3: 0, 4: 0, FAR: 0},
    "Constant(1.0).until(2) >> Constant(2.0)": {1: 1, 2: 2, 3: 2},
    # repeating
    "Linear(1.0, 0.0, 4).repeat()": {-1: 1, 0: 1, 3: 0.25, 4: 1, 5: 0.75, 7: 0.25, 8: 1, 4 * 10**9: 1},
    "Linear(1.0, 0.0, 4).repeat(2)": {3: 0.25, 4: 1, 7: 0.25, 8: 0, 9: 0, FAR: 0},
    "Linear(1.0, 0.0, 4).repeat(2, gamma=0.5)": {3: 0.25, 4: 0.5, 6: 0.25, 8: 0},
    "Linear(1.0, 0.0, 4).repeat(2, stretch=2)": {3: 0.25, 4: 1, 6: 0.75, 11: 0.125, 12: 0, 13: 0},
    "Linear(1.0, 0.0, 1).repeat(3, stretch=1.5)": {0: 1, 1: 1, 2: F("1/3"), 3: F("7/9"), 4: F("1/3"), 5: 0, 6: 0},
    "Linear(1.0, 0.0, 4).repeat(3, stretch=0.5)": {4: 1, 5: 0.5, 6: 1, 7: 0, 8: 0},
    "Linear(1.0, 0.0, 10).repeat(2, stretch=1.1)": {9: 0.1, 10: 1, 15: F("6/11"), 21: 0},
    "Linear(1.0, 0.0).repeat(2).over(9)": {0: 1, 3: 0.25, 4: 1, 7: 0.25, 8: 0, 9: 0},
    # stairs, stretch, clip, pointwise
    "Linear(1.0, 0.0, 4).stairs(2)": {-1: 1, 0: 1, 1: 1, 2: 0.5, 3: 0.5, 4: 0, 5: 0},
    "Linear(1.0, 0.0, 4).stairs(3)": {2: 1, 3: 0.25, 4: 0.25, 5: 0.25, 6: 0.25, FAR: 0.25},
    "Linear(1.0, 0.0, 4).stretch(2)": {-1: 1, 0: 1, 1: 0.875, 7: 0.125, 8: 0, 9: 0},
    "Linear(0.0, 0.2, 2, ends='(]').stretch(2)": {0: 0.1, 1: 0.15, 2: 0.2, 3: 0.2},
    "Linear(1.0, 0.0, 4).stretch(2) >> Constant(5.0)": {7: 0.125, 8: 5, 9: 5},
    "(Linear(1.0, 0.0, fraction(0.25)) >> Constant(5.0)).over(10)": {0: 1, 1: F("2/3"), 2: F("1/3"), 3: 5, 10: 5},
    "Linear(1.0, 0.0, 4).clip(0.2, 0.8)": {0: 0.8, 1: 0.75, 3: 0.25, 4: 0.2, 5: 0.2},
    "Linear(1.0, 0.0, 4) * Linear(1.0, 0.0, 2)": {0: 1, 1: 0.375, 2: 0, 4: 0},
    "Constant(2.0, 2) + Linear(0.0, 1.0, 4)": {0: 2, 2: 2.5, 3: 2.75, 4: 3, 5: 3},
    "0.5 * Linear(1.0, 0.0, 4) + 1.0": {0: 1.5, 2: 1.25, 4: 1, FAR: 1},
    # recipes
    "time_based(0.1, decay=0.01)": {0: 0.1, 100: 0.05, 300: 0.025},
    "step_decay(1.0, gamma=0.5, every=10)": {0: 1, 9: 1, 10: 0.5, 19: 0.5, 20: 0.25},
    "step_decay(1.0, gamma=0.5).over(8)": {0: 1, 1: 1, 2: 0.5, 3: 0.5, 4: 0.25, 6: 0.125, 7: 0.125},
    "multi_step(1.0, [2, 4], gamma=0.5)": {1: 1, 2: 0.5, 3: 0.5, 4: 0.25, FAR: 0.25},
    "exponential_decay(1.0, gamma=0.25).over(4)": {0: 1, 2: 0.5, 4: 0.25, 5: 0.25},
    "warmup_cosine(1.0, warmup=2).over(6)": {0: 0.5, 1: 1, 2: 1, 3: HIGH, 5: LOW, 6: 0, 7: 0},
    "cyclical(1.0, 3.0, half_cycle=2)": {0: 1, 1: 2, 2: 3, 3: 2, 4: 1, 5: 2},
    "cyclical(1.0, 3.0, 2, mode='triangular2')": {0: 1, 2: 3, 4: 1, 5: 1.5, 6: 2, 8: 1, 10: 1.5},
    "cyclical(1.0, 3.0, 2, mode='exp_range', gamma=0.5)": {0: 1, 1: 1.5, 2: 1.5, 3: 1.125, 4: 1, 6: 1.03125},
    "one_cycle(1.0, 2, 0.04, 0.2, shape='linear', steps=2)": {0: 0.04, 1: 0.52, 2: 1, 3: 0.6, 4: 0.2, 5: 0.2},
    "one_cycle_momentum(0.95, 0.85, 2, shape='linear', steps=2)": {0: 0.95, 1: 0.9, 2: 0.85, 3: 0.9, 4: 0.95},
    "sgdr(1.0, 2)": {0: 1, 1: 0.5, 2: 1, 3: HIGH, 4: 0.5, 5: LOW, 6: 1, 10: 0.5},
    "wsd(1.0, 2, 2).over(8)": {0: 0.5, 1: 1, 2: 1, 5: 1, 6: 1, 7: 0.29289321881345247560, 8: 0, 9: 0},
    "noam(1.0, 4)": {0: 0.25, 1: 0.5, 3: 1, 4: math.sqrt(0.8), 15: 0.5, 35: F("1/3")},
    "inverse_sqrt(1.0, 4)": {0: 1, 12: 0.5, 32: F("1/3")},
    "inverse_sqrt(1.0, 4, warmup=2)": {0: 0.5, 1: 1, 2: 1, 14: 0.5},
    "rex(1.0, steps=4)": {0: 1, 2: F("2/3"), 4: 0},
}


def wrong(text: str, table: dict[float, float]) -> list[Any]:
    """The entries of a table that the schedule does not reproduce within 4 ulp (zeros and ends exactly)."""
    schedule = eval(text, NAMES)
    got = {t: schedule(t) for t in table}
    return [(t, got[t], value) for t, value in table.items() if not abs(got[t] - value) <= 4 * math.ulp(value)]


@pytest.mark.parametrize("text", TABLES)
def test_values_are_those_worked_out_by_hand(text: str) -> None:
    assert wrong(text, TABLES[text]) == []


@pytest.mark.parametrize("text", TABLES)
def test_parse_and_dict_give_the_same_schedule_as_python(text: str) -> None:
    schedule = eval(text, NAMES)
    assert rw.parse(text) == schedule
    assert rw.from_dict(schedule.to_dict()) == schedule
    assert eval(repr(schedule), NAMES) == schedule
