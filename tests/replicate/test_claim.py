"""What a gate sees, and what gates say together."""

import math

import numpy as np
import pytest

from ratewise.replicate.claim import (
    Evidence,
    Figure,
    Gate,
    estimated,
    higher,
    lies,
    lower,
    not_higher,
    resampled,
    share,
    verdict,
)

SEEDS = np.random.default_rng(0).normal(1.0, 0.05, 10)
HALF, SAME, NOISE = 0.5 * SEEDS, SEEDS + 0.001, SEEDS + np.array([0.3, -0.3] * 5) + 0.05


def seen(gates: list[Gate]) -> bool | None:
    (gate,) = gates
    return gate.seen


def test_a_lower_loss_is_seen_and_a_higher_or_tied_one_is_not() -> None:
    assert seen(lower({"a": HALF}, SEEDS, "b")) is True
    assert seen(lower({"a": SEEDS}, HALF, "b")) is False
    assert seen(lower({"a": SAME}, SEEDS, "b")) is False
    assert seen(lower({"a": NOISE}, SEEDS, "b")) is None


def test_the_other_comparisons_want_what_they_say() -> None:
    assert [seen(not_higher({"a": x}, SEEDS, "b")) for x in (HALF, SAME, 2 * SEEDS, NOISE)] == [True, True, False, None]
    assert [seen(higher({"a": x}, SEEDS, "b")) for x in (2 * SEEDS, SAME, HALF, NOISE)] == [True, False, False, None]


def test_five_seeds_cannot_show_a_lower_loss() -> None:
    assert seen(lower({"a": HALF[:5]}, SEEDS[:5], "b")) is None


def test_a_difference_on_all_seeds_that_is_smaller_than_the_band_is_a_tie_and_says_so() -> None:
    (gate,) = not_higher({"a": 1.02 * SEEDS}, SEEDS, "b")
    assert gate.seen is True
    assert gate.band == 0.05
    assert gate.measured.endswith("tie (higher by less than 5%, but on all seeds)")
    (same,) = not_higher({"a": SEEDS + np.array([0.001, -0.001] * 5)}, SEEDS, "b")
    assert same.measured.endswith("tie")


def test_rivals_are_corrected_for_their_number() -> None:
    alone = lower({"a": HALF[:6]}, SEEDS[:6], "b")
    together = lower(dict.fromkeys("acd", HALF[:6]), SEEDS[:6], "b")
    assert seen(alone) is True
    assert [gate.seen for gate in together] == [None] * 3


@pytest.mark.parametrize(("limits", "expected"), [((0.96, 1.05), True), ((1.2, 1.3), False), ((0.9, 1.0), None)])
def test_an_interval_must_lie_inside_to_be_seen_and_outside_to_be_refuted(
    limits: tuple[float, float], expected: bool | None
) -> None:
    assert lies("", sum(limits) / 2, 0.95, 1.1, limits=limits).seen is expected


def test_a_number_that_is_not_finite_is_open() -> None:
    assert lies("", math.nan, 0, 1, limits=(math.nan, math.nan)).seen is None


def test_shares_of_runs_need_enough_runs() -> None:
    assert share("", 8, 8).seen is True
    assert share("", 3, 3).seen is None
    assert share("", 0, 8).seen is False


def test_the_bootstrap_covers_a_mean_about_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(1), 0
    for _ in range(100):
        values = rng.normal(0.0, 1.0, 20)
        low, high = resampled(lambda of, v=values: float(v[of].mean()), 20, 200)
        hits += low <= 0.0 <= high
    assert 82 <= hits <= 100


def test_an_estimate_is_judged_by_its_bootstrap_interval() -> None:
    gates = [estimated("", lambda of: float(SEEDS[of].mean()), 10, low, high) for low, high in ((0, 2), (2, 3), (1, 3))]
    assert [gate.seen for gate in gates] == [True, False, None]


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ([True, True], "holds"),
        ([True, None], "unresolved"),
        ([True, None, False], "does not hold here"),
        ([], "unresolved"),
    ],
)
def test_one_gate_against_it_is_enough(gates: list[bool | None], expected: str) -> None:
    assert verdict([Gate("", "", one) for one in gates]) == expected


def test_points_that_are_not_finite_leave_a_figure() -> None:
    figure = Figure("x", "y", {"a": ([1.0, 2.0, 3.0], [1.0, math.inf, 1 / 3])})
    assert figure.to_dict()["lines"] == {"a": [[1.0, 1.0], [3.0, 0.33333]]}
    assert Evidence([], figure=figure).note == ""
