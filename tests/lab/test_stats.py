"""The statistics against brute force, textbook cases and the numbers that decide a plan."""

import itertools
import math
import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, strategies as st

from ratewise.errors import LabError
from ratewise.lab import stats


def brute_force(differences):
    """All sign patterns, one by one, in exact-enough arithmetic."""
    observed = abs(math.fsum(differences)) - 1e-12 * math.fsum(map(abs, differences))
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    extreme = sum(
        abs(math.fsum(s * d for s, d in zip(signs, differences, strict=True))) >= observed for signs in patterns
    )
    return extreme / len(patterns)


@given(st.lists(st.floats(-5, 5).filter(lambda x: abs(x) > 1e-6), min_size=1, max_size=7))
def test_sign_flip_equals_brute_force_enumeration(differences):
    assert stats.sign_flip(differences) == pytest.approx(brute_force(differences))


def test_twelve_differences_of_one_sign_give_two_in_4096():
    assert stats.sign_flip([0.1 * (i + 1) for i in range(12)]) == pytest.approx(2 / 4096)


def test_identical_runs_have_p_one():
    assert stats.sign_flip([0.0] * 12) == 1.0


def test_holm_matches_a_case_worked_by_hand():
    # sorted .01 .02 .03 .04 -> 4*.01, 3*.02, 2*.03, 1*.04, made monotone
    assert stats.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p_values):
    adjusted = stats.holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert all(adjusted[a] <= adjusted[b] for a, b in itertools.pairwise(order))


@pytest.mark.parametrize(("rivals", "seeds"), [(1, 6), (3, 7), (12, 9), (18, 10)])
def test_seeds_for_is_the_least_number_that_can_decide(rivals, seeds):
    assert stats.seeds_for(rivals) == seeds


def test_a_plan_that_can_decide_nothing_is_refused_with_the_seeds_needed():
    with pytest.raises(LabError, match=r"8 fresh seeds and 12 rivals .* Use at least 9 fresh seeds"):
        stats.require_seeds(8, 12)
    stats.require_seeds(9, 12)


def test_interval_is_the_t_interval_of_a_textbook():
    # Student's sleep data, extra hours of the second drug: mean 2.33, 95% interval 0.90 to 3.76
    sleep = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = stats.interval(sleep)
    assert (found.n, round(found.mean, 2), round(found.low, 2), round(found.high, 2)) == (10, 2.33, 0.9, 3.76)


def test_interval_of_nothing_is_none():
    assert stats.interval([]) == stats.Interval(None, None, None, 0)
    assert stats.interval([2.0]) == stats.Interval(2.0, None, None, 1)


BASE = [1.0 + 0.01 * i for i in range(12)]


def shifted(by, wobble=0.0):
    return [x + by + wobble * (-1) ** i for i, x in enumerate(BASE)]


@pytest.mark.parametrize(
    ("rival", "verdict"),
    [
        (shifted(0.5, 0.1), "worse"),
        (shifted(-0.5, 0.1), "better"),
        (shifted(0.01, 0.01), "tie"),
        (shifted(0.0, 0.5), "unresolved"),
        (BASE, "tie"),
    ],
)
def test_verdicts(rival, verdict):
    (found,) = stats.compared(BASE, [rival], delta=0.05)
    assert found.verdict == verdict


def test_a_small_but_certain_difference_inside_delta_is_a_tie_not_worse():
    (found,) = stats.compared(BASE, [shifted(0.02)], delta=0.05)
    assert (found.verdict, found.p < 0.001) == ("tie", True)


def test_unresolved_says_how_many_seeds_it_would_take():
    (found,) = stats.compared(BASE, [shifted(0.0, 0.5)], delta=0.1)
    sd = np.std(np.subtract(shifted(0.0, 0.5), BASE), ddof=1)
    assert found.seeds_needed == math.ceil(((1.959964 + 1.281552) * sd / 0.1) ** 2) + 2


@pytest.mark.parametrize(("mean", "rivals"), [(0.6, 1), (0.9, 6), (0.1, 1), (0.02, 6)])
def test_the_seeds_that_unresolved_asks_for_settle_it_in_about_80_percent(mean, rivals):
    """Simulated: the first study is unresolved by construction, then studies of the size it asks for are judged."""
    rng = np.random.default_rng(0)
    pattern = np.array([1.0, -1.0] * 6) * math.sqrt(11 / 12)  # twelve differences with deviation 1
    d = pattern + mean
    wanted = stats._seeds_needed(d, 0.5, rivals)
    settled = 0
    for _ in range(200):
        sample = rng.normal(mean, 1.0, wanted)
        p = float(scipy.stats.ttest_1samp(sample, 0).pvalue)
        settled += stats._judged(sample, p, min(1.0, p * rivals), 0.5).verdict != "unresolved"
    assert settled / 200 > 0.68


def test_losses_below_zero_and_no_difference_at_all_have_verdicts():
    (found,) = stats.compared([-2.0] * 12, [[-2.0] * 12], delta=0.0)
    assert found.verdict == "tie"
    (found,) = stats.compared([-2.0] * 12, [[-2.0 + 0.1 * (-1) ** i for i in range(12)]], delta=0.0)
    assert (found.verdict, found.seeds_needed) == ("unresolved", None)


def test_a_resolved_verdict_asks_for_no_more_seeds():
    (found,) = stats.compared(BASE, [shifted(0.5)], delta=0.05)
    assert found.seeds_needed is None


@pytest.mark.parametrize("seeds", [1, 2, 7, 10])
def test_many_sign_flips_at_once_give_the_same_p_values(seeds):
    differences = np.random.default_rng(seeds).normal(0.3, 1.0, (20, seeds))
    differences[:5] = np.round(differences[:5])  # many patterns as far from 0 as what was seen, and zeros
    assert stats.sign_flips(differences) == pytest.approx([brute_force(d) for d in differences], abs=1e-12)


def test_so_many_rows_that_they_need_several_turns_give_the_same_p_values():
    differences = np.random.default_rng(0).normal(0.3, 1.0, (9, 20))
    assert stats.sign_flips(differences).tolist() == [stats.sign_flip(d) for d in differences]
    assert stats.sign_flips(differences[:0]).tolist() == []


def test_twelve_rivals_with_twenty_seeds_are_compared_within_seconds():
    rng = np.random.default_rng(4)
    base = rng.normal(1.0, 0.1, 20)
    began = time.process_time()
    found = stats.compared(base, list(base + rng.normal(0.05, 0.1, (12, 20))), delta=0.01)
    assert time.process_time() - began < 8.0  # one pattern after the other took 68 s
    assert len({d.p for d in found}) == 12


@pytest.mark.parametrize("seeds", [1, 19, 20])
def test_exact_p_values_are_near_those_of_random_patterns(seeds):
    differences = np.random.default_rng(seeds).normal(0.2, 1.0, seeds)
    patterns = np.random.default_rng(0).choice((-1.0, 1.0), (20_000, seeds))
    share = (np.abs(patterns @ differences) >= abs(differences.sum()) - 1e-9).mean()
    assert stats.sign_flip(differences) == pytest.approx(share, abs=0.02)


def test_beyond_twenty_seeds_patterns_are_sampled_and_no_p_value_is_zero():
    assert stats.sign_flip([0.1 + 0.01 * i for i in range(30)]) == pytest.approx(1e-5, rel=1e-3)
    differences = np.random.default_rng(1).normal(0.2, 1.0, 21)
    t = scipy.stats.ttest_1samp(differences, 0).pvalue
    assert stats.sign_flip(differences) == pytest.approx(t, abs=0.03)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closure_of_bonferroni(p_values):
    """Its definition: a hypothesis falls when Bonferroni's test rejects every set of hypotheses that contains it."""
    indices = range(len(p_values))
    sets = [s for size in range(1, len(p_values) + 1) for s in itertools.combinations(indices, size)]
    expected = [max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets if i in s) for i in indices]
    assert stats.holm(p_values) == pytest.approx(expected)


def test_the_bca_interval_is_scipys_and_starts_at_ten_seeds():
    skewed = np.random.default_rng(3).lognormal(0, 0.5, 40)
    low, high = stats.bca(skewed)
    assert low < skewed.mean() < high
    assert high - skewed.mean() > skewed.mean() - low  # it leans to the side of the long tail, a t interval cannot
    assert stats.bca(skewed[:9]) is None
    assert stats.bca([0.25] * 10) == (0.25, 0.25)
    assert stats.bca([0.3 - 0.1, 0.2] * 6) == pytest.approx((0.2, 0.2))  # the same but for rounding


def test_the_t_interval_decides_and_is_shown_since_it_covers_what_it_promises():
    """At 12 seeds, with differences of skewed losses, t covers the true mean in 95% of 400 simulations."""
    rng = np.random.default_rng(0)
    samples = rng.lognormal(0, 0.7, (400, 12)) - rng.lognormal(0, 0.7, (400, 12))
    t = [stats.interval(sample) for sample in samples]
    assert np.mean([i.low <= 0 <= i.high for i in t]) > 0.93
    (found,) = stats.compared(BASE, [shifted(0.5, 0.1)], delta=0.05)
    shown = stats.interval(np.subtract(shifted(0.5, 0.1), BASE))
    assert (found.interval, found.low, found.high) == ("t", shown.low, shown.high)
    assert found.bca is not None
    assert found.bca != (found.low, found.high)
