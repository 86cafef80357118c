"""Values worked out by hand or in exact fractions: at 0, at each joint and beside it, at the end and far past it."""

import math
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

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
    "Piecewise([1.0, 0.5], [100]).stretch(0.07)": {6: 1, 7: 0.5, 8: 0.5},
    "Linear(1.0, 0.0, 4).stretch(2)": {-1: 1, 0: 1, 1: 0.875, 7: 0.125, 8: 0, 9: 0},
    "Linear(0.0, 0.2, 2, ends='(]').stretch(2)": {0: 0.1, 1: 0.15, 2: 0.2, 3: 0.2},
    "Linear(1.0, 0.0, 4).stretch(2) >> Constant(5.0)": {7: 0.125, 8: 5, 9: 5},
    "(Linear(1.0, 0.0, fraction(0.25)) >> Constant(5.0)).over(10)": {0: 1, 1: F("2/3"), 2: F("1/3"), 3: 5, 10: 5},
    "Linear(1.0, 0.0, 4).clip(0.2, 0.8)": {0: 0.8, 1: 0.75, 3: 0.25, 4: 0.2, 5: 0.2},
    "Linear(1.0, 0.0, 4) * Linear(1.0, 0.0, 2)": {0: 1, 1: 0.375, 2: 0, 4: 0},
    "Constant(2.0, 2) + Linear(0.0, 1.0, 4)": {0: 2, 2: 2.5, 3: 2.75, 4: 3, 5: 3},
    "0.5 * Linear(1.0, 0.0, 4) + 1.0": {0: 1.5, 2: 1.25, 4: 1, FAR: 1},
    "Exponential(1.0, 0.5).cooldown(fraction(0.25), shape='linear').over(10)": {
        7: 2.0**-7,
        8: 2.0**-8,
        9: 2.0**-9,
        10: 0,
    },
    "InverseTime(1.0, 1.0).cooldown(fraction(0.01), shape='linear').over(10)": {8: F("1/9"), 9: 0.1, 10: 0},
    "extend(Linear(1.0, 0.0, 4), Cosine(0.0, 1.0, 2) >> Linear(1.0, 0.0, 4) >> Constant(0.0, 2), 2, 'replan')": {
        2: 0.5,
        4: F("1/3"),
        5: 0.25,
        8: 0,
    },
    "Linear(1.0, 0.5, fraction(0.5)).stairs(5).cooldown(2, 0.0, 'linear').over(10)": {
        0: 1,
        4: 1,
        5: 0.5,
        6: 0.25,
        7: 0,
    },
    "Linear(1.0, 0.0, fraction(0.5)).until(fraction(0.25)).over(16)": {0: 1, 2: 0.75, 4: 0.5, 5: 0.5},
    "Linear(1.0, 0.0).until(fraction(0.5)).over(8)": {2: 0.75, 4: 0.5, 5: 0.5},
    "(Exponential(1.0, 0.5).until(fraction(0.25)) >> Constant(3.0)).over(8)": {1: 0.5, 2: 3, 7: 3},
    "extend(Linear(1.0, 0.0, 4), Linear(0.0, 1.0, 2) >> Cosine(1.0, 0.0, 6), 2, 'replan')": {
        2: 0.5,
        4: 0.375,
        5: 0.25,
        8: 0,
    },
    # recipes
    "fixed(0.25)": {0: 0.25, 9: 0.25},
    "polynomial_decay(1.0, 0.5, 4, power=2.0)": {0: 1, 2: 0.625, 4: 0.5},
    "linear_decay(1.0, 0.5, 4)": {0: 1, 2: 0.75, 4: 0.5},
    "cosine(1.0, 0.0, 4)": {0: 1, 1: HIGH, 2: 0.5, 3: LOW, 4: 0},
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
    "trapezoidal(1.0, 2, 4).over(10)": {0: 0.5, 1: 1, 2: 1, 5: 1, 6: 1, 7: 0.75, 9: 0.25, 10: 0, 11: 0},
    "wsd_s(1.0, 2, 4, end=0.5)": {0: 1, 2: 1, 3: 0.75, 5: 0.56698729810778067662, 6: 1, 8: 1, 9: 0.75, 12: 1},
    "wsd_s(1.0, 1, 2, warmup=2, shape='linear')": {0: 0.5, 1: 1, 2: 1, 3: 1, 4: 0.5, 5: 1, 6: 1, 7: 0.5},
    "flat_cosine(1.0, 2).over(6)": {0: 1, 2: 1, 3: HIGH, 4: 0.5, 5: LOW, 6: 0},
    "tri_stage(1.0, 2, 3, 0.5, 0.25, steps=2)": {0: 0.5, 1: 0.75, 2: 1, 4: 1, 5: 1, 6: 0.5, 7: 0.25, 8: 0.25},
    "slanted_triangular(1.0, 2, 4.0, steps=3)": {0: 0.25, 1: 0.625, 2: 1, 3: 0.75, 4: 0.5, 5: 0.25, 6: 0.25},
    "power_decay(1.0, 4, 0.5)": {0: 1, 3: 1, 4: 1, 16: 0.5, 36: F("1/3"), 100: 0.2},
    "power_decay(1.0, 4, 0.5, warmup=2)": {0: 0.5, 1: 1, 3: 1, 4: 1, 16: 0.5, 36: F("1/3")},
    "range_test(1.0, 16.0, 4)": {0: 1, 1: 2, 2: 4, 3: 8, 4: 16, 5: 16},
    # further eases
    "Ramp(1.0, 0.0, 4, ease='cosine(2.0)')": {0: 1, 1: HIGH * HIGH, 2: 0.25, 3: LOW * LOW, 4: 0},
    "Ramp(0.0, 1.0, 2, ease='cosine(2.0)')": {0: 0, 1: 0.75, 2: 1},
    "Ramp(0.0, 1.0, 3, ease='sine')": {0: 0, 1: 0.5, 2: 0.86602540378443864676, 3: 1, 4: 1},
    "Ramp(1.0, 0.0, 3, ease='sine')": {0: 1, 1: 0.5, 2: 0.13397459621556135324, 3: 0},
    "Ramp(0.0, 1.0, 3, ease='half-cosine')": {0: 0, 1: 0.13397459621556135324, 2: 0.5, 3: 1},
    "Ramp(1.0, 0.0, 3, ease='half-cosine')": {0: 1, 1: 0.86602540378443864676, 2: 0.5, 3: 0},
    "Ramp(1.0, 0.0, 4, ease='power(2.0)')": {0: 1, 1: 0.9375, 2: 0.75, 3: 0.4375, 4: 0},
    "Ramp(0.0, 1.0, 4, ease='power(2.0)')": {0: 0, 1: 0.0625, 2: 0.25, 3: 0.5625, 4: 1},
    "Ramp(1.0, 0.0, 2, ease='exponential(0.25)')": {0: 1, 1: F("1/3"), 2: 0},
    "Ramp(0.0, 1.0, 2, ease='exponential(0.25)')": {0: 0, 1: F("2/3"), 2: 1},
    "Ramp(0.0, 1.0, 2, ease='exponential(4.0)')": {0: 0, 1: F("1/3"), 2: 1},
    "Ramp(1.0, 0.0, 5, ease='circle')": {0: 1, 3: 0.8, 4: 0.6, 5: 0},
    "Ramp(0.0, 1.0, 5, ease='circle')": {0: 0, 3: 0.2, 4: 0.4, 5: 1},
    "Ramp(1.0, 0.0, 2, ease='circle(2.0)')": {0: 1, 1: 0.75, 2: 0},
    "Ramp(0.0, 1.0, 3, ease='log')": {0: 0, 1: 0.5, 2: 0.79248125036057809073, 3: 1},
    "Ramp(1.0, 0.0, 3, ease='log')": {0: 1, 1: 0.5, 2: 0.20751874963942190927, 3: 0},
    "Ramp(0.0, 1.0, 2, ease='tanh(-1.0, 1.0)')": {0: 0, 1: 0.5, 2: 1},
    "Ramp(1.0, 0.0, 2, ease='tanh(0.0, 2.0)')": {0: 1, 1: 0.20998717080701303470, 2: 0},
    # formulas, clocks, changes
    "Formula('1 / (1 + floor(t / 10))')": {-3: 1, 0: 1, 9: 1, 10: 0.5, 25: F("1/3")},
    "Formula('where(t < 2, 3, max(t - 2, 1)) ** 2 % 7', steps=6)": {0: 2, 1: 2, 2: 1, 4: 4, 5: 2, 6: 2, 7: 2},
    "Formula('-abs(t - 2) + ceil(t / 4)', steps=4)": {0: -2, 1: 0, 2: 1, 3: 0, 4: -1, 5: -1},
    "Linear(1.0, 0.0, 480).along(Formula('8 * t', steps=20) >> Formula('160 + 16 * t', steps=20))": {
        -1: 1,
        0: 1,
        15: 0.75,
        20: F("2/3"),
        25: 0.5,
        40: 0,
        41: 0,
    },
    "Linear(1.0, 0.0, 4).decay_from(2, 4, shape='1-sqrt')": {0: 1, 1: 0.75, 2: 0.5, 3: 0.25, 6: 0, 7: 0},
    "Linear(1.0, 0.0, 4).scaled_from(2, 0.5)": {0: 1, 1: 0.75, 2: 0.25, 3: 0.125, 4: 0},
    "(Linear(1.0, 0.0, 4) >> Constant(2.0)).scaled_from(6, 0.5)": {3: 0.25, 4: 2, 5: 2, 6: 1, 7: 1},
    "extend(Linear(1.0, 0.0, 4), Linear(1.0, 0.0, 8), 2, 'stretch')": {1: 0.75, 2: 0.5, 5: 0.25, 8: 0},
    "extend(Linear(1.0, 0.0, 4), Constant(0.25, 8), 2, 'rewarm(2)')": {1: 0.75, 2: 0.375, 3: 0.25, 4: 0.25},
    "Linear(1.0, 0.0, 4).repeat(2) >> Constant(5.0)": {7: 0.25, 8: 5, 9: 5},
    "Linear(1.0, 0.0, 4).repeat(2, stretch=2) >> Constant(5.0)": {4: 1, 11: 0.125, 12: 5},
    "Linear(1.0, 0.0, 1).repeat(3, stretch=1.5) >> Constant(5.0)": {4: F("1/3"), 5: 5},
    "extend(Linear(1.0, 0.0, 4), Constant(0.25, 8), 2, 'keep') >> Constant(5.0)": {1: 0.75, 3: 0.25, 4: 0, 7: 0, 8: 5},
    "extend(Linear(1.0, 0.0, 9), Linear(1.0, 0.0, 8), 2, 'stretch') >> Constant(5.0)": {
        2: F("7/9"),
        5: F("7/18"),
        8: 5,
    },
    "(Linear(1.0, 0.0, fraction(0.5)) >> Constant(2.0) >> Linear(1.0, 0.0, fraction(0.25))).over(10)": {
        4: 0.2,
        5: 2,
        7: 2,
        8: 1,
        9: 0.5,
        10: 0,
    },
    "extend(Linear(1.0, 0.0, 4), Linear(2.0, 0.0, 8), 2, 'switch')": {1: 0.75, 2: 1.5, 4: 1, 8: 0, 9: 0},
    "extend(Linear(1.0, 0.0, 4), Linear(2.0, 0.25, 8), 2, 'replan')": {1: 0.75, 2: 0.5, 5: 0.375, 8: 0.25, 9: 0.25},
    "Polynomial(0.0, 1.0, 4, power=0.5)": {0: 0, 1: 0.13397459621556135324, 3: 0.5, 4: 1},
    "Ramp(0.0, 1.0, 2, ease='exponential(2.0)')": {0: 0, 1: 0.41421356237309504880, 2: 1},
    "Ramp(0.0, 1.0, 4, ease='exponential(1.0)')": {0: 0, 1: 0.25, 4: 1},
    "Linear(1.0, 0.0, 4).stairs(1)": {-1: 1, 0: 1, 1: 0.75, 4: 0},
    "Linear(1.0, 0.0, 4).after(1) >> Constant(5.0)": {0: 0.75, 2: 0.25, 3: 5},
    "Linear(1.0, 0.0, 4).after(4) >> Constant(5.0)": {0: 0, 1: 5},
    "Linear(1.0, 0.0, 4).clip(high=0.5)": {0: 0.5, 1: 0.5, 3: 0.25, 4: 0},
    "Linear(1.0, 0.0, 4).clip(low=0.5)": {0: 1, 1: 0.75, 3: 0.5, 4: 0.5},
    "InverseTime(1.0, 1.0, power=2.0)": {0: 1, 1: 0.25, 3: 0.0625},
    "(Linear(1.0, 0.0, fraction(0.5)) >> Constant(2.0) >> Linear(1.0, 0.0, fraction(0.25))).over(9)": {
        4: 0.2,
        5: 2,
        6: 2,
        7: 1,
        8: 0.5,
        9: 0,
    },
    "(Linear(1.0, 0.0, fraction(0.01)) >> Constant(2.0)).over(10)": {0: 1, 1: 2},
    "sequence(*[Linear(0.0, 1.0, 4, ends='(]'), Linear(1.0, 0.5, 2)] * 6)": {
        0: 0.25,
        3: 1,
        4: 1,
        5: 0.75,
        6: 0.25,
        36: 0.5,
    },
    "sequence(*[Ramp(1.0, 0.0, 4, ease='rex'), Cosine(1.0, 0.0, 4)] * 5)": {
        1: F("6/7"),
        3: 0.4,
        4: 1,
        5: HIGH,
        9: F("6/7"),
    },
    "sequence(*[Ramp(0.0, 1.0, 4, ease='rex'), Constant(0.5, 4)] * 5)": {
        1: F("1/7"),
        3: 0.6,
        4: 0.5,
        7: 0.5,
        8: 0,
        10: F("1/3"),
    },
    "extend(Linear(1.0, 0.0, 4), Linear(2.0, 0.0, 8), 2, 'rewarm(2)')": {1: 0.75, 2: 0.75, 3: 1, 4: 1, 5: 0.75, 8: 0},
    "Polynomial(1.0, 0.0, 2, power=900.0)": {0: 1, 1: 2.0**-900, 2: 0},
    "Polynomial(1.0, 0.0, 1024, power=200.0)": {0: 1, 512: 2.0**-200, 1024: 0},
    "Ramp(0.0, 1.0, 4, ease='tanh(-1.0, 2.0)')": {0: 0, 1: 0.29941410841303851699, 4: 1},
    "Ramp(1.0, 0.0, 4, ease='tanh(-1.0, 2.0)')": {0: 1, 1: 0.70058589158696148301, 4: 0},
    "sequence(*[Linear(1.0, 0.0, 4)] * 9, Constant(3.0))": {0: 1, 3: 0.25, 4: 1, 34: 0.5, 35: 0.25, 36: 3, 99: 3},
}


def wrong(text: str, table: dict[float, float]) -> list[Any]:
    """What a schedule does not reproduce: within 4 ulp as numbers and arrays, within 8 in the float32 of JAX."""
    schedule = eval(text, NAMES)
    positions = [float(t) for t in table]
    whole = [t for t in table if t == int(t) and abs(t) < 2**31]
    given = {
        "number": (table, [schedule(t) for t in table]),
        "numpy": (table, schedule(np.array(positions)).tolist()),
        "torch": (table, schedule(torch.tensor(positions, dtype=torch.float64)).tolist()),
        "jax": (whole, schedule(jnp.array((whole * 16)[:16])).tolist()),  # of one size, so that it compiles once
    }
    return [
        (kind, t, got, table[t])
        for kind, (at, values) in given.items()
        for t, got in zip(at, values, strict=False)
        if not abs(got - table[t])
        <= (8 * float(np.spacing(np.float32(abs(table[t])))) if kind == "jax" else 4 * math.ulp(table[t]))
    ]


@pytest.mark.parametrize("text", TABLES)
def test_values_are_those_worked_out_by_hand(text: str) -> None:
    assert wrong(text, TABLES[text]) == []


@pytest.mark.parametrize("text", TABLES)
def test_parse_and_dict_give_the_same_schedule_as_python(text: str) -> None:
    schedule = eval(text, NAMES)
    assert rw.parse(repr(schedule) if "*[" in text else text) == schedule
    assert rw.from_dict(schedule.to_dict()) == schedule
    assert eval(repr(schedule), NAMES) == schedule
