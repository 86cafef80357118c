import io
import math
import sys

import pytest

import ratewise as rw
from ratewise.errors import MissingDependency, ScheduleError
from ratewise.finder import Curve, Trials, judged, ramp, weighed
from ratewise.report import draw, figures

from . import example

pytest.importorskip("matplotlib")


def png(figure):
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


@pytest.mark.parametrize("name", ["forest", "curves", "fan"])
def test_plot_data_becomes_a_figure(name):
    data = getattr(figures, name)(example.result())
    assert png(getattr(draw, name)(data)).startswith(b"\x89PNG")


def test_data_without_a_single_line_becomes_an_empty_figure():
    assert png(draw.curves(figures.curves({}))).startswith(b"\x89PNG")
    assert png(draw.fan(figures.fan({}))).startswith(b"\x89PNG")


def test_a_curve_shows_every_update_under_the_expression():
    lr = rw.cosine(0.1).over(100)
    (axes,) = draw.curve(lr).axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == list(range(100))
    assert list(line.get_ydata()) == lr.values(0, 100)
    assert axes.get_title(loc="left") == repr(lr)


def test_a_curve_shows_as_many_updates_as_asked_for():
    (line,) = draw.curve(rw.fixed(0.1), steps=7).axes[0].lines
    assert list(line.get_xdata()) == list(range(7))
    assert len(draw.curve(rw.fixed(0.1)).axes[0].lines[0].get_xdata()) == 1000


def test_a_long_curve_is_thinned_and_keeps_its_last_update():
    (line,) = draw.curve(rw.linear_decay(0.1).over(10**9)).axes[0].lines
    assert len(line.get_xdata()) <= 2001
    assert line.get_xdata()[-1] == 10**9 - 1


def test_a_curve_of_unknown_length_says_what_is_missing():
    with pytest.raises(ScheduleError, match="its length is not known yet"):
        draw.curve(rw.cosine(0.1))
    with pytest.raises(ScheduleError, match="steps must be an integer of at least 1, got 0"):
        draw.curve(rw.fixed(0.1), steps=0)


def test_names_are_drawn_as_they_are():
    result = example.result()
    result["strategies"][0]["name"] = "_$x^$"
    for name in ("forest", "curves", "fan"):
        assert png(getattr(draw, name)(getattr(figures, name)(result)))


def test_drawing_leaves_pyplot_and_its_settings_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    loaded = "matplotlib.pyplot" in sys.modules
    png(draw.fan(figures.fan(example.result())))
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_a_missing_matplotlib_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        MissingDependency, match=r'report: matplotlib is not installed. Run: pip install "ratewise\[plot\]"'
    ):
        draw.curve(rw.fixed(0.1))


def probe(top=math.nan, ceiling=1.0):
    rates = tuple(0.01 * 2.0**k for k in range(7))
    scores = tuple((0.2 + 0.1 * (k - 3) ** 2,) * 2 if k < 6 else (top, top) for k in range(7))
    return weighed(Trials(rates, scores, (2.0,) * 2, 50, 400), {}, {"updates": 600}, {}, ceiling)


def test_a_finding_shows_its_candidates_its_range_and_its_marks():
    found = probe()
    (axes,) = draw.finding(found).axes
    names = axes.get_legend_handles_labels()[1]
    assert names == [
        f"range {found.low:.3g} to {found.high:.3g}", f"suggestion {found.suggestion:.3g}",
        f"stable {found.stable:.3g}", "ceiling 1", "best of the short runs 0.08", "diverged",
    ]  # fmt: skip
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines[f"suggestion {found.suggestion:.3g}"].get_xdata()) == [found.suggestion] * 2
    (measured,) = (line for line in axes.lines if len(line.get_xdata()) == 6)
    assert list(measured.get_xdata()) == list(found.curve.rates[:6])
    assert list(measured.get_ydata()) == list(found.curve.losses[:6])
    assert list(lines["diverged"].get_xdata()) == [found.curve.rates[6]]
    assert axes.get_xscale() == "log"
    assert "held-out loss after 50 updates" in axes.get_ylabel()


def test_a_finding_of_a_range_test_is_one_curve():
    rates = ramp(1e-6, 10, 50)
    found = judged(Curve(tuple(rates), tuple(2 / (1 + 40 * r) + r * r for r in rates), 50), {"updates": 50}, {})
    (axes,) = draw.finding(found).axes
    assert axes.get_ylabel() == "smoothed loss"
    assert "diverged" not in axes.get_legend_handles_labels()[1]
    (curve,) = (line for line in axes.lines if len(line.get_xdata()) == 50)
    assert list(curve.get_ydata()) == found.curve.smoothed


def test_a_finding_that_declines_is_drawn_with_its_reason():
    nothing = weighed(Trials((), (), (math.nan,) * 2, 50, 400), {}, {"updates": 0}, {})
    figure = draw.finding(nothing)
    assert figure.axes[0].get_title(loc="left").replace("\n", " ") == nothing.reason
    assert not figure.axes[0].axison  # no axis that nothing was measured on
    assert png(figure).startswith(b"\x89PNG")
    flat = weighed(Trials((0.1, 0.2), ((1.0,), (1.0,)), (1.0,), 50, 400), {}, {"updates": 0}, {})
    assert png(draw.finding(flat)).startswith(b"\x89PNG")
    assert png(draw.finding(probe(top=9.0, ceiling=None))) != png(draw.finding(probe()))
