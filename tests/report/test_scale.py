import pytest

from ratewise.report.scale import Scale


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (Scale(0.0, 300.0), [0, 100, 200, 300]),
        (Scale(-8.0, 40.0), [0, 10, 20, 30, 40]),
        (Scale(0.0, 1.0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Scale(0.0001, 2.0, log=True), [0.0001, 0.001, 0.01, 0.1, 1.0]),
        (Scale(0.2, 1.3, log=True), [0.2, 0.3, 0.5, 0.7, 1.0]),
        (Scale(1e-9, 1e6, log=True), [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6]),
    ],
)
def test_ticks_are_round(scale, expected):
    assert scale.ticks() == pytest.approx(expected)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [[], [0.21], [1.0], [1.0, 1.0001], [0.0], [1e-12, 1e12], [3, 3, 3]])
def test_any_values_give_an_axis_with_ticks(values, log):
    scale = Scale.around(values, log=log)
    assert scale.low < scale.high
    assert 1 <= len(scale.ticks()) <= 6
    for value in values:
        assert (log and value <= 0) or 0 <= scale(value) <= 1


def test_zero_lies_far_below_a_logarithmic_axis():
    assert Scale(0.1, 1.0, log=True)(0.0) < -1
