"""The paired probe on losses that are written down: what it tries, what it says, and when it declines."""

import json
import math
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ratewise import (
    Custom,
    Horizon,
    Linear,
    Plateau,
    cyclical,
    epochs,
    linear_decay,
    noam,
    one_cycle,
    sgdr,
    step_decay,
    warmup_cosine,
    wsd,
)
from ratewise.errors import FinderError, ScheduleError
from ratewise.finder import Trials, compressed, probe, weighed
from ratewise.finder.finding import exponent
from ratewise.finder.trials import _positions, length, located, vertex

START = 2.0


def bowl(best, *, edge=math.inf, noise=0.0, width=4.0, floor=0.5, calls=None):
    """Scores with the lowest at ``best`` (octaves), shifted by the seed: far below it the start, nan above ``edge``."""

    def scores(rows, seed):
        found = []
        for row in rows:
            if calls is not None:
                calls.append((tuple(row), seed))
            if not any(row):
                found.append(START)
                continue
            octave = math.log2(max(row))
            away = octave - best - noise * random.Random(f"{seed} {octave:.3f}").gauss(0, 1)
            part = (away / width) ** 2
            rise = part if away > 0 else 1 - math.exp(-part)
            found.append(math.nan if octave > edge else floor + (START - floor) * rise)
        return found

    return scores


def finding(scores, **changes):
    settings = {"shape": compressed(linear_decay(1.0), 400, 50), "horizon": 400, "low": 1e-7, "high": 10.0, **changes}
    return weighed(probe(scores, settings.pop("shape"), **settings), {}, {}, {})


# -- the compressed schedule -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [linear_decay, one_cycle, warmup_cosine, lambda p: wsd(p, 40, 80), lambda p: step_decay(p, every=100)],
    ids=["linear", "one_cycle", "warmup_cosine", "wsd", "step"],
)
@pytest.mark.parametrize("updates", [50, 37, 400])
def test_a_copy_has_the_mean_of_the_updates_that_each_stands_for(make, updates: int) -> None:
    settled = make(0.3).over(400)
    values = [settled(t) for t in range(400)]
    found = compressed(make(0.3), 400, updates)
    for i, part in enumerate(found):
        stretch = [t for t in range(400) if i * 400 / updates <= t < (i + 1) * 400 / updates]
        assert part == pytest.approx(np.mean([values[t] for t in stretch]) / max(values), rel=1e-12)
    assert np.mean(found) == pytest.approx(np.mean(values) / max(values), rel=0.02)


@given(updates=st.integers(1, 60), more=st.integers(0, 2000))
@settings(max_examples=50, deadline=None)
def test_every_update_of_the_run_is_in_one_stretch(updates: int, more: int) -> None:
    total = updates + more
    stretches = [_positions(0, total, i, updates) for i in range(updates)]
    assert all(len(stretch) for stretch in stretches)
    assert [stretch[0] for stretch in stretches] == [s.start for s in stretches]
    assert [s.stop for s in stretches[:-1]] == [s.start for s in stretches[1:]]
    assert (stretches[0].start, stretches[-1].stop) == (0, total)


def test_cycles_shorter_than_an_update_of_the_copy_are_their_mean() -> None:
    assert compressed(cyclical(0.0, 1.0, 4), 400, 50) == pytest.approx([0.5] * 50)


def test_a_peak_between_two_updates_of_the_copy_is_the_peak() -> None:
    whole = compressed(noam(1.0, 100), 4000, 4000)
    copy = compressed(noam(1.0, 100), 4000, 50)
    assert max(whole) == 1.0 > max(copy) > 0.85
    assert np.mean(copy) == pytest.approx(np.mean(whole), rel=0.01)


def test_warm_up_cycles_and_steps_keep_their_share() -> None:
    warm = compressed(linear_decay(0.1).warmup(100, start=0.0), 1000, 50)
    assert warm.index(max(warm)) == 5
    cycles = compressed(sgdr(0.1, 100, stretch=1.0), 400, 80)
    assert [i for i in range(1, 80) if cycles[i] > cycles[i - 1]] == [20, 40, 60]
    steps = compressed(step_decay(0.1, every=200), 400, 40)
    assert [i for i in range(1, 40) if steps[i] != steps[i - 1]] == [20]


def test_typed_lengths_are_settled_by_the_horizon() -> None:
    run = Horizon(epochs=4, dataset_size=800, batch_size=16)
    warm = compressed(linear_decay(0.1).warmup(epochs(1), start=0.0), run, 40)
    assert warm == compressed(linear_decay(0.1).warmup(50, start=0.0), 200, 40)
    assert warm.index(max(warm)) == 10


def test_from_mid_training_on_only_the_rest_is_copied() -> None:
    assert compressed(Linear(1.0, 0.0, 8), 8, 2, begin=4) == pytest.approx([0.4375 / 0.5, 0.1875 / 0.5])


def test_without_a_schedule_the_rate_is_constant_and_rules_are_left_out() -> None:
    assert compressed(None, 400, 3) == compressed(0.3, 400, 3) == [1.0, 1.0, 1.0]
    assert compressed(linear_decay(0.1) * Plateau(), 400, 4) == compressed(linear_decay(0.1), 400, 4)


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        ("cosine", FinderError, "schedule must be a ratewise schedule, for example linear_decay"),
        (-0.1, FinderError, "schedule must be a ratewise schedule"),
        (math.nan, FinderError, "schedule must be a ratewise schedule"),
        (True, FinderError, "schedule must be a ratewise schedule"),
        (Linear(0.1, -0.1), FinderError, "over 400 updates they go from -0.0"),
        (Custom(lambda t: math.inf), (FinderError, ScheduleError), "inf"),
        (linear_decay(0.1).warmup(500), ScheduleError, "500"),
    ],
)
def test_what_is_no_schedule_for_this_run_is_refused(schedule, error, message: str) -> None:
    with pytest.raises(error, match=message):
        compressed(schedule, 400, 50)


def test_a_candidate_takes_an_eighth_at_least_fifty_and_at_most_all() -> None:
    assert [length(t) for t in (1, 49, 50, 399, 400, 401, 8000)] == [1, 49, 50, 50, 50, 50, 1000]
    assert length(8000, 200) == 200
    assert all(length(t) <= 0.15 * t for t in range(400, 5000))


# -- what is tried ---------------------------------------------------------------------------------------------


@given(best=st.floats(-18, 0), centre=st.floats(-20, 2), seeds=st.integers(1, 4), width=st.floats(1.5, 9))
@settings(max_examples=60, deadline=None)
def test_the_best_rate_is_found_wherever_the_search_begins(best, centre, seeds, width) -> None:
    found = probe(bowl(best, width=width), [1.0] * 50, 400, 1e-7, 10.0, centre=2.0**centre, seeds=seeds)
    assert found.stopped == ""
    assert abs(math.log2(located(found).rate) - best) < 0.5  # the loss is no parabola, and flat far away


def test_candidates_run_the_whole_shape_at_their_rate_and_no_candidate_twice() -> None:
    calls = []
    shape = compressed(one_cycle(1.0), 400, 50)
    found = probe(bowl(-3.0, calls=calls), shape, 400, 1e-7, 10.0, seeds=3, seed=5)
    assert calls[:3] == [((0.0,) * 50, seed) for seed in (5, 6, 7)]
    assert len(set(calls)) == len(calls)
    assert len(calls) - 3 == sum(map(len, found.scores))
    for row, seed in calls[3:]:
        assert seed in (5, 6, 7)
        assert row == pytest.approx([max(row) * part / max(shape) for part in shape], rel=1e-12)
    assert {len(row) for row, _ in calls} == {50}


def test_rates_are_increasing_an_octave_apart_near_the_best_with_every_seed() -> None:
    found = probe(bowl(-3.3), [1.0] * 50, 400, 1e-7, 10.0, centre=0.05)
    assert list(found.rates) == sorted(found.rates)
    i = min(range(len(found.rates)), key=lambda i: found.losses[i])
    assert np.diff(np.log2(found.rates[i - 1 : i + 2])) == pytest.approx(1.0)
    assert {len(scores) for scores in found.scores[i - 1 : i + 2]} == {3}
    assert {len(scores) for scores in found.scores} == {1, 3}


@given(best=st.floats(-30, 10), low=st.floats(-12, -6), span=st.floats(0.1, 8))
@settings(max_examples=60, deadline=None)
def test_no_rate_outside_the_range_is_tried(best, low, span) -> None:
    found = probe(bowl(best), [1.0] * 50, 400, 2.0**low, 2.0 ** (low + span), centre=1.0)
    assert all(2.0**low * (1 - 1e-9) <= rate <= 2.0 ** (low + span) * (1 + 1e-9) for rate in found.rates)
    assert found.rates


@pytest.mark.parametrize("y", [[5.0, 4.0, 4.5], [1.0, -1.0, 0.5], [0.3, 0.1, 20.0]])
def test_the_parabola_is_that_of_numpy_on_uneven_points(y) -> None:
    x = [0.0, 1.0, 2.5]
    a, b, _ = np.polyfit(x, np.log(y) if min(y) > 0 else y, 2)
    assert vertex(x, y) == pytest.approx(-b / 2 / a)


def test_without_a_bottom_the_lowest_point_is_taken() -> None:
    assert vertex([0.0, 1.0], [2.0, 1.0]) == 1.0
    assert vertex([0.0, 1.0, 2.0], [1.0, 1.0, 1.0]) == 0.0


# -- what is said ----------------------------------------------------------------------------------------------


def test_the_suggestion_is_the_vertex_corrected_for_the_horizon() -> None:
    for passes in (0.3, 1, 8, 300, 1e6):
        found = finding(bowl(-3.0), epochs=passes)
        assert math.log2(found.suggestion) == pytest.approx(-3.0 + exponent(passes) * math.log2(50 / 400), abs=0.1)
        assert f"{passes:.3g} epochs" in found.reason
    whole = finding(bowl(-3.0), shape=[1.0] * 50, horizon=50, epochs=100)
    assert math.log2(whole.suggestion) == pytest.approx(-3.0, abs=0.1)


@given(few=st.floats(0.01, 1e6), more=st.floats(1, 1e3))
def test_more_passes_over_the_same_examples_never_allow_a_higher_rate(few: float, more: float) -> None:
    assert 0 <= exponent(few) <= exponent(few * more) <= 1


@given(best=st.floats(-16, -2), noise=st.floats(0, 0.6), above=st.floats(0.2, 6))
@settings(max_examples=80, deadline=None)
def test_a_suggestion_lies_in_its_interval_and_well_below_what_diverges(best, noise, above) -> None:
    found = finding(bowl(best, noise=noise, edge=best + above))
    if found.suggestion is None:
        assert found.reason
        return
    assert found.low <= found.suggestion <= found.high
    assert found.suggestion <= 0.9 * found.stable
    assert found.stable in found.curve.rates


def test_the_interval_is_what_one_standard_error_does_not_tell_from_the_best() -> None:
    narrow, wide = finding(bowl(-3.0, noise=0.02, width=2.0)), finding(bowl(-3.0, noise=0.5, width=2.0))
    assert wide.high / wide.low > narrow.high / narrow.low
    trials = Trials((0.25, 0.5, 1.0, 2.0), ((3.0, 3.0), (1.5, 1.7), (1.0, 1.2), (0.9, 3.0)), (4.0,) * 2, 50, 50)
    best = located(trials)
    assert best.high == 2.0  # differences -0.1 and 1.8: mean 0.85, standard error 0.95
    alone = Trials((0.25, 0.5, 1.0, 2.0), ((3.0, 3.0), (1.5, 1.5), (1.0, 1.0), (1.5, 1.5)), (4.0,) * 2, 50, 50)
    assert located(alone).low == located(alone).rate == located(alone).high == 1.0  # the seeds say all the same


def trials(*scores, start=2.0, first=0.1):
    rates = tuple(first * 2.0**i for i in range(len(scores)))
    return Trials(rates, scores, (start,) * max(map(len, scores)), 50, 50)


def test_stable_is_the_largest_rate_from_the_best_upwards_before_one_diverged() -> None:
    nan = math.nan
    assert (
        trials((1.0,), (0.9, nan), (0.8, 0.7), (1.9, 1.8), (nan,)).stable == 0.8
    )  # what is below the best is no matter
    assert trials((1.0,), (3.1,)).stable == 0.1  # finite, but worse than no training
    assert trials((1.0,), (2.9,)).stable == 0.2
    assert trials((3.0,), (1.0, 1.1), (nan, 1.0)).stable == 0.2
    assert trials((nan,)).stable is None
    assert trials((2.1,), (5.0,)).stable is None


def test_one_low_rate_by_chance_above_the_start_does_not_matter() -> None:
    rows = [
        (2.302,) * 3,
        (2.32,) * 3,
        (2.31,) * 3,
        (2.2, 2.21, 2.19),
        (1.9, 1.91, 1.89),
        (2.2, 2.21, 2.19),
        (math.nan,) * 3,
    ]
    found = weighed(trials(*rows, start=2.302), {}, {}, {})
    assert found.stable == pytest.approx(3.2)
    assert found.suggestion == pytest.approx(1.6, rel=0.2)


DECLINED = [
    (lambda rows, seed: [math.nan] * len(rows), "held-out loss is nan before any training"),
    (lambda rows, seed: [1.0 if any(row) else math.inf for row in rows], "held-out loss is inf before any training"),
    (
        lambda rows, seed: [math.nan if any(row) else 1.0 for row in rows],
        "Every rate from .* diverged within 50 updates",
    ),
    (lambda rows, seed: [5.0 + max(row) if any(row) else 1.0 for row in rows], "left the held-out loss above the 1 of"),
    (lambda rows, seed: [1.0] * len(rows), "No signal: of the rates from"),
    (lambda rows, seed: [1.0 - 1e-7 * any(row) for row in rows], "No signal"),
    (
        lambda rows, seed: [9.0 - math.log2(1e-9 + max(row, default=0.0)) for row in rows],
        r"lowest at the highest rate .* Give high=",
    ),
    (
        lambda rows, seed: [9.0 + math.log2(max(row) or 1e9) for row in rows],
        r"lowest at the lowest rate .* Give low=",
    ),
]


@pytest.mark.parametrize(("scores", "reason"), DECLINED, ids=[reason[:30] for _, reason in DECLINED])
def test_it_declines_with_the_reason(scores, reason: str) -> None:
    found = finding(scores)
    assert (found.suggestion, found.low, found.high) == (None, None, None)
    assert re.search(reason, found.reason)
    assert str(found).startswith("no suggestion: ")


def test_seeds_that_disagree_by_octaves_are_declined_as_noise() -> None:
    scores = tuple(tuple(0.5 if k == 4 * s else 0.8 + 0.01 * k for s in range(3)) for k in range(9))
    assert "the seeds disagree on the best rate by" in weighed(trials(*scores, first=2.0**-9), {}, {}, {}).reason


@pytest.mark.parametrize("of_the_start", [0.0, 1.0], ids=["scores", "scores and start"])
def test_pure_noise_is_declined_nearly_always(of_the_start: float) -> None:
    def noise(study):
        def scores(rows, seed):
            size = [1.0 if any(row) else of_the_start for row in rows]
            return [
                1.0 + 0.1 * s * random.Random(f"{study} {row[:1]} {seed}").gauss(0, 1)
                for s, row in zip(size, rows, strict=True)
            ]

        return scores

    accepted = sum(finding(noise(study)).suggestion is not None for study in range(300))
    assert accepted <= 0.1 * 300


def test_a_real_signal_in_noise_is_accepted_nearly_always() -> None:
    accepted = [finding(bowl(-4.0, noise=0.3), seed=10 * study).suggestion for study in range(100)]
    assert sum(rate is not None for rate in accepted) >= 95


def test_a_search_that_begins_far_too_low_is_not_lost_in_noise() -> None:
    def noisy(rows, seed):
        draw = [random.Random(f"{row[:1]} {seed}").gauss(0, 0.002) for row in rows]
        return [x + e for x, e in zip(bowl(-6.0, width=2.0)(rows, seed), draw, strict=True)]

    for study in range(20):
        found = finding(noisy, centre=1e-6, seed=10 * study)
        assert found.suggestion == pytest.approx(2.0**-6, rel=0.5), found.reason


def test_a_rate_that_almost_diverges_is_no_measure_of_the_noise() -> None:
    calm = [(0.5, 0.51, 0.49), (0.1, 0.11, 0.12), (0.2, 0.2, 0.21)]
    assert located(trials(*calm, (795.0, 7.8, 0.02))).error == located(trials(*calm, (1e6, 7.8, 0.02))).error < 0.01


def test_with_one_seed_the_range_is_an_octave_to_either_side() -> None:
    found = finding(bowl(-3.0), seeds=1)
    assert (found.low, found.high) == pytest.approx((found.suggestion / 2, found.suggestion * 2))


@given(factor=st.floats(1e-3, 1e3), best=st.floats(-12, -3))
@settings(max_examples=40, deadline=None)
def test_the_unit_of_the_loss_does_not_matter(factor, best) -> None:
    scores = bowl(best, noise=0.2)
    one, other = finding(scores), finding(lambda rows, seed: [factor * x for x in scores(rows, seed)])
    assert (one.suggestion is None) == (other.suggestion is None)
    assert one.suggestion is None or one.suggestion == pytest.approx(other.suggestion, rel=1e-6)


def test_it_is_json_without_nan() -> None:
    found = finding(bowl(-3.0, edge=-1.0))
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["curve"]["updates"] == 50
    assert any(None in row for row in found.to_dict()["curve"]["scores"])
