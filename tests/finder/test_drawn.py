"""The drawing of a finding: marks at their columns, losses at their heights, and everything named below."""

import math

import pytest
from hypothesis import given, settings, strategies as st

from ratewise.errors import ScheduleError
from ratewise.finder import Curve, Finding, Trials, judged, ramp, weighed
from ratewise.finder.drawn import MARKS, Axis, compared, picture
from ratewise.finder.trials import located

nan = math.nan
COST = {"updates": 700, "batches": 700}


def bowl(rate: float, best: float = 0.03) -> float:
    return 0.2 + 0.1 * math.log2(rate / best) ** 2


def probed(
    best: float = 0.03, wall: float = 0.1, ceiling: float | None = 1.0, horizon: int = 400, start: float = 9.0,
    epochs: float | None = None,
) -> Finding:  # fmt: skip
    """A probe whose scores are lowest at ``best``, and diverge from ``wall`` on."""
    rates = [0.02 * 2.0**k for k in (-6, -3, -2, -1, 0, 1, 2, 3, 6)]
    scores = [tuple(bowl(rate, best) + noise if rate < wall else nan for noise in (0.0, 0.01, -0.01)) for rate in rates]
    trials = Trials(tuple(rates), tuple(scores), (start,) * 3, 50, horizon, epochs=epochs)
    return weighed(trials, {"minimum": 0.01, "valley": None}, COST, {"horizon": horizon}, ceiling)


def swept(stopped: str = "diverged", end: float = 20.0) -> Finding:
    rates = ramp(1e-6, 10, 80)
    losses = [2.3 / (1 + 300 * rate) + min((rate / 0.1) ** 4, 1e6) for rate in rates]
    n = next((i + 1 for i, loss in enumerate(losses) if loss > end), len(rates))
    losses = losses[:n] if stopped != "not finite" else [*losses[: n - 1], nan]
    return judged(Curve(tuple(rates[:n]), tuple(losses), 80, stopped), COST, {}, None)


def line_of_marks(finding: Finding, width: int) -> tuple[str, Axis]:
    """The line below the numbers of the axis, without its margin, and the axis it stands on."""
    lines = finding.plot(width, 6).splitlines()
    corner = next(i for i, line in enumerate(lines) if "└" in line)
    margin = lines[corner].index("└") + 1
    rates = picture(finding).rates
    return lines[corner + 2][margin:].ljust(width), Axis(rates[0], rates[-1], width)


rates_ = st.floats(1e-12, 1e6)


@given(low=rates_, octaves=st.floats(0.01, 60), part=st.floats(0, 1), width=st.integers(16, 300))
def test_a_column_maps_back_to_its_rate_within_half_a_column(low, octaves, part, width):
    axis = Axis(low, low * 2.0**octaves, width)
    rate = low * 2.0 ** (octaves * part)
    column = axis.column(rate)
    assert 0 <= column < width
    assert abs(math.log2(axis.middle(column) / rate)) <= 0.5 * octaves / width * (1 + 1e-6) + 1e-9


@settings(max_examples=40)
@given(
    best=st.floats(0.008, 0.06), ceiling=st.none() | st.floats(1e-3, 100), width=st.integers(16, 120),
    horizon=st.integers(50, 10**6),
)  # fmt: skip
def test_every_mark_stands_at_the_column_of_its_rate(best, ceiling, width, horizon):
    finding = probed(best, ceiling=ceiling, horizon=horizon)
    line, axis = line_of_marks(finding, width)
    marks = picture(finding).marks
    assert {name: rate for name, rate in marks.items() if name != "best"} == {
        name: getattr(finding, name) for name in MARKS if getattr(finding, name, None) is not None
    }
    at = {name: axis.column(marks[name]) for name in MARKS if name in marks}
    for i, (name, column) in enumerate(at.items()):
        if column not in list(at.values())[i + 1 :]:  # a later mark hides an earlier one
            assert line[column] == MARKS[name]
    assert "".join(sorted(set(line) - set(" ─"))) == "".join(sorted({line[column] for column in at.values()}))
    assert set(line[at["low"] : at["high"] + 1]) <= {"─", *MARKS.values()}


@given(low=rates_, octaves=st.floats(0.01, 60), width=st.integers(16, 200))
def test_numbers_below_the_axis_stand_at_their_ticks(low, octaves, width):
    axis = Axis(low, low * 2.0**octaves, width)
    for column, rate in axis.ticks().items():
        assert abs(math.log2(axis.middle(column) / rate)) <= 0.5 * octaves / width * (1 + 1e-6) + 1e-9


def test_each_candidate_is_a_dot_at_its_rate_and_loss():
    finding, width, height = probed(), 60, 10
    lines = finding.plot(width, height).splitlines()[:height]
    margin = lines[0].index("┤") + 1
    rows = [line[margin:].ljust(width) for line in lines]
    shown = picture(finding)
    axis = Axis(shown.rates[0], shown.rates[-1], width)
    assert shown.logarithmic
    dots = {(i, j) for i, row in enumerate(rows) for j, cell in enumerate(row) if cell == "●"}
    assert len(dots) == len(shown.points) == 7
    for rate, loss in shown.points:
        (row,) = (i for i, j in dots if j == axis.column(rate))
        part = math.log(loss / shown.low) / math.log(shown.top / shown.low)
        assert abs((height - 1 - row) / (height - 1) - part) <= 1 / (height - 1)


def test_losses_below_0_are_drawn_as_they_are():
    rates, losses = (0.01, 0.02, 0.04), (1.0, -1.0, 0.0)
    trials = Trials(rates, tuple((loss,) for loss in losses), (1.0,), 50, 400)
    lines = weighed(trials, {}, COST, {}).plot(30, 5).splitlines()[:5]
    assert [line.partition("┤")[0].strip() for line in lines] == ["1", "", "0", "", "-1"]
    assert [line.count("●") for line in lines] == [1, 0, 1, 0, 1]


def test_the_loss_in_the_middle_is_named():
    shown = picture(probed())
    line = probed().plot(60, 5).splitlines()[2]
    assert float(line.partition("┤")[0]) == pytest.approx((shown.low * shown.top) ** 0.5, rel=0.01)


def test_diverged_rates_are_crosses_at_the_top_and_the_curve_ends_before_them():
    finding = probed()
    lines = finding.plot(60, 8).splitlines()
    assert lines[0].count("×") == 2
    assert not any("×" in line for line in lines[1:8])
    first = lines[0].index("×")
    for line in lines[:8]:
        assert set(line[first - 2 :]) <= set(" ×┊")
    assert "×   diverged   0.16, 1.28\n" in finding.plot(60, 8)


def test_the_names_below_have_the_numbers_of_the_finding():
    finding = probed()
    text = finding.plot()
    best = located(finding.curve).rate
    factor = finding.suggestion / best
    assert f"▲   suggestion {finding.suggestion:.3g} = {best:.3g} × {factor:.2g}, for the longer run\n" in text
    assert f"▽   best       {best:.3g}, of the short runs\n" in text
    assert f"├─┤ range      {finding.low:.3g} to {finding.high:.3g}\n" in text
    assert f"◆   stable     {finding.stable:.3g}, the largest rate that was seen to train\n" in text
    assert "┃   ceiling    1, above it curvature makes the first updates unstable\n" in text
    assert "●   candidate  7 rates, by held-out loss after 50 updates\n" in text
    assert " ".join(text.split()).endswith(finding.reason)


def test_the_best_of_the_short_runs_stands_at_the_bottom_of_the_curve():
    finding, width = probed(horizon=6400, epochs=8), 60
    line, axis = line_of_marks(finding, width)
    assert line.index("▲") < line.index("▽")
    assert abs(line.index("▽") - axis.column(0.03)) <= 1


def test_where_the_whole_run_is_a_short_run_the_suggestion_is_the_best():
    text = probed(horizon=50).plot()
    assert "▽" not in text
    assert "×" not in next(line for line in text.splitlines() if line.startswith("▲"))


def test_a_suggestion_that_is_held_below_what_trained_says_so():
    finding = probed(best=0.3, wall=0.3, horizon=50)
    assert finding.suggestion == 0.9 * finding.stable
    assert f"▲   suggestion {finding.suggestion:.3g} = {finding.stable:.3g} × 0.9, below what trained" in finding.plot()


@pytest.mark.parametrize("width", [16, 24, 40])
def test_names_and_reason_are_filled_to_the_width_of_the_drawing(width):
    lines = probed(horizon=6400, epochs=8).plot(width).splitlines()
    margin = lines[0].index("┤") + 1
    assert all(len(line) <= max(margin + width, 28) for line in lines)
    assert any(line.startswith("▽") for line in lines)


def test_what_is_not_known_is_neither_marked_nor_named():
    finding = probed(ceiling=None)
    assert "┃" not in finding.plot()
    assert "ceiling" not in finding.plot()


def test_losses_far_above_the_start_are_cut_off_and_the_label_says_so():
    finding = probed(start=1.0)
    top = picture(finding).top
    assert max(finding.curve.losses[:7]) > top > finding.curve.start
    assert finding.plot(60, 8).lstrip().startswith(f"≥{top:.3g} ┤")
    assert "≥" not in probed(start=9.0).plot(60, 8)


@pytest.mark.parametrize("stopped", ["diverged", "not finite"])
def test_a_sweep_is_a_curve_with_a_cross_where_it_stopped(stopped):
    finding = swept(stopped)
    shown = picture(finding)
    assert shown.loss == "smoothed loss"
    assert shown.diverged == (finding.curve.rates[-1],)
    text = finding.plot(60, 8)
    assert "●" not in text
    assert f"×   diverged   {finding.curve.rates[-1]:.3g}, where the sweep stopped" in text


def test_a_sweep_that_did_not_stop_has_no_cross():
    assert "×" not in swept("", end=math.inf).plot()


def test_where_every_candidate_diverged_the_crosses_are_all_there_is():
    trials = Trials((0.1, 0.8, 6.4), ((nan,), (nan,), (nan,)), (2.3,), 50, 400)
    text = weighed(trials, {}, COST, {}).plot(40, 4)
    assert text.splitlines()[0].count("×") == 3
    assert "suggestion" not in text
    assert " ".join(text.split()).endswith("check the data and the loss.")


@pytest.mark.parametrize(
    "finding",
    [
        weighed(Trials((), (), (nan,) * 3, 50, 400), {}, COST, {}),
        judged(Curve((1e-7,), (nan,), 100, "not finite"), COST, {}),
    ],
)
def test_where_nothing_was_measured_only_the_reason_is_shown(finding):
    assert " ".join(finding.plot().split()) == finding.reason


LOSSES = st.sampled_from([nan, math.inf, 0.0, 5e-324, 1e300, -1e300]) | st.floats(-9, 9)


@given(
    losses=st.lists(LOSSES, min_size=1, max_size=9), start=LOSSES, rates=st.lists(rates_, min_size=5, max_size=5),
    width=st.integers(1, 100), height=st.integers(1, 20), stopped=st.sampled_from(["", "diverged", "not finite"]),
)  # fmt: skip
def test_whatever_was_measured_can_be_drawn(losses, start, rates, width, height, stopped):
    tried = tuple(1e-3 * 2.0**k for k in range(len(losses)))
    trials = Trials(tried, tuple((loss,) for loss in losses), (start,), 50, 400)
    low, suggestion, high, stable, ceiling = sorted(rates)
    for curve in (trials, Curve(tried, tuple(losses), 20, stopped)):
        finding = Finding(low, high, suggestion, ceiling, "Because.", curve, {}, COST, {}, stable)
        assert finding.plot(width, height).endswith("Because.")


@pytest.mark.parametrize(("width", "height"), [(16, 2), (20, 3), (200, 40)])
def test_no_line_is_wider_than_asked_for_but_for_the_names(width, height):
    for finding in (probed(), swept()):
        lines = finding.plot(width, height).splitlines()
        corner = next(i for i, line in enumerate(lines) if "└" in line)
        assert corner == height
        margin = lines[corner].index("└") + 1
        assert all(len(line) <= margin + width for line in lines[: corner + 3])
        assert len(lines[corner]) == margin + width


@pytest.mark.parametrize("size", [{"width": 0}, {"height": -1}, {"width": "wide"}])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ScheduleError, match=r"plot: (width|height) must be an integer of at least 1"):
        probed().plot(**size)


def test_rules_are_compared_in_octaves_of_the_suggestion():
    finding = probed()
    minimum, valley = compared(finding)
    assert (minimum.rule, minimum.source, minimum.rate) == ("minimum", "fastai", 0.01)
    assert 2.0**minimum.octaves * finding.suggestion == pytest.approx(0.01)
    assert (valley.source, valley.rate, valley.octaves) == ("fastai's default", None, None)


def test_every_known_rule_has_a_source():
    assert all(row.source for row in compared(swept()))
    assert len(compared(swept())) == 7
