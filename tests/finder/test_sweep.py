"""The sweep, driven by arithmetic; it restores whatever happens."""

import math
from itertools import pairwise

import pytest

from ratewise.errors import FinderError
from ratewise.finder import Lookahead, debiased, ramp, sweep


class Written:
    """A Trainable whose losses are written down."""

    def __init__(self, losses) -> None:
        self.losses, self.calls, self.rates = iter(losses), [], []

    def start(self, seed: int) -> None:
        self.calls.append(f"start {seed}")

    def step(self, rate: float) -> float:
        self.rates.append(rate)
        loss = next(self.losses)
        if isinstance(loss, BaseException):
            raise loss
        return loss

    def restore(self) -> None:
        self.calls.append("restore")


RATES = ramp(1e-3, 1.0, 30)


def test_a_geometric_ramp_has_equal_ratios_and_both_ends() -> None:
    rates = ramp(1e-7, 10, 101)
    assert (rates[0], rates[-1], len(rates)) == (1e-7, 10.0, 101)
    assert all(b / a == pytest.approx(10 ** (8 / 100)) for a, b in pairwise(rates))


def test_a_linear_ramp_has_equal_steps() -> None:
    assert ramp(1.0, 20.0, 20, "linear") == pytest.approx(list(range(1, 21)))


def test_a_ramp_may_span_all_of_float64() -> None:
    rates = ramp(1e-300, 1e300, 50)
    assert all(a < b < math.inf for a, b in pairwise(rates))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 0.1, 100), "low must be above 0 and below high, both finite, got low=1.0, high=0.1"),
        ((0.1, 0.1, 100), "low must be above 0 and below high"),
        ((0.0, 1.0, 100), "low must be above 0"),
        ((-1.0, 1.0, 100), "low must be above 0"),
        ((0.1, math.inf, 100), "both finite"),
        ((math.nan, 1.0, 100), "both finite"),
        (("a", 1.0, 100), "got low='a'"),
        ((0.1, 1.0, 19), "steps must be an integer of at least 20, got 19"),
        ((0.1, 1.0, 50.0), "steps must be an integer"),
        ((0.1, 1.0, True), "steps must be an integer"),
        ((0.1, 1.0, 50, "log"), "spacing must be 'geometric' or 'linear', got 'log'"),
        ((0.1, 1.0, 50, "geometrical"), "Did you mean 'geometric'"),
    ],
)
def test_a_range_that_cannot_be_swept_is_refused(arguments, message: str) -> None:
    with pytest.raises(FinderError, match=message):
        ramp(*arguments)


def test_every_rate_is_used_once_and_in_order() -> None:
    written = Written([1.0] * 30)
    curve = sweep(written, RATES, seed=7)
    assert written.rates == RATES == list(curve.rates)
    assert written.calls == ["start 7", "restore"]
    assert (curve.planned, curve.stopped, curve.losses) == (30, "", (1.0,) * 30)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_it_stops_at_a_loss_that_is_not_finite(bad: float) -> None:
    written = Written([1.0, 0.9, bad, 1.0])
    curve = sweep(written, RATES)
    assert (len(written.rates), curve.stopped, curve.planned) == (3, "not finite", 30)
    assert curve.finite == [1.0, 0.9]
    assert written.calls[-1] == "restore"


def test_it_stops_where_the_smoothed_loss_is_four_times_its_lowest() -> None:
    losses = [1.0] * 10 + [30.0] * 20
    smoothed = debiased(losses)
    stop = next(i for i, s in enumerate(smoothed) if s > 4 * min(smoothed[: i + 1]))
    curve = sweep(Written(losses), RATES)
    assert 10 <= stop < 20
    assert (len(curve.losses), curve.stopped) == (stop + 1, "diverged")
    assert sweep(Written(losses), RATES, stop=100.0).stopped == ""


@pytest.mark.parametrize("level", [-5.0, -1.0, 0.0])
def test_losses_below_zero_do_not_count_as_diverged(level: float) -> None:
    falling = [level + 2 * 0.9**i for i in range(30)]
    assert sweep(Written(falling), RATES).stopped == ""
    assert sweep(Written([*falling[:15], *[1e6] * 15]), RATES).stopped == "diverged"


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit()])
def test_it_restores_whatever_is_raised(error: BaseException) -> None:
    written = Written([1.0, error])
    with pytest.raises(type(error)):
        sweep(written, RATES)
    assert written.calls == ["start 0", "restore"]


def test_it_restores_if_it_cannot_start() -> None:
    class Broken(Written):
        def start(self, seed: int) -> None:
            raise ValueError

    broken = Broken([])
    with pytest.raises(ValueError):  # noqa: PT011
        sweep(broken, RATES)
    assert broken.calls == ["restore"]


@pytest.mark.parametrize("stop", [1.0, 0.0, -4.0, math.nan])
def test_a_threshold_that_stops_at_once_is_refused(stop: float) -> None:
    written = Written([1.0] * 30)
    with pytest.raises(FinderError, match="stop must be above 1"):
        sweep(written, RATES, stop=stop)
    assert written.calls == []


def test_looking_ahead_takes_nothing() -> None:
    stream = Lookahead(i * i for i in range(5))
    assert next(stream) == 0
    for _ in range(2):
        ahead = stream.coming()
        assert [next(ahead), next(ahead)] == [1, 4]
    assert next(stream) == 1
    assert list(stream.coming()) == [4, 9, 16]
    assert list(stream) == [4, 9, 16]
    assert list(stream) == list(stream.coming()) == []
