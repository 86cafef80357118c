import io
import sys

import pytest

import ratewise as rw
from ratewise.errors import MissingDependency, ScheduleError
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
