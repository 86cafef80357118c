"""The known rules against their authors' formulas, written here with numpy, and Lightning itself."""

import math
import random

import pytest

from ratewise.errors import FinderError
from ratewise.finder import PRESETS, debiased, lightning_as_shipped, minimum, ramp, rules, running, suggestions, valley
from ratewise.finder.rules import Preset

np = pytest.importorskip("numpy")


def curve(seed: int, n: int = 100, noise: float = 0.05) -> tuple[list[float], list[float]]:
    """A loss that is flat, falls, and rises steeply, with noise."""
    draw = random.Random(seed)
    rates = ramp(1e-7, 10, n)
    peak = 10 ** draw.uniform(-2, 0)
    return rates, [
        2.3 / (1 + (30 * rate / peak) ** 0.7) + (rate / peak) ** 2 / 50 + draw.gauss(0, noise) for rate in rates
    ]


CURVES = [curve(seed, noise=0.02 * (seed % 4)) for seed in range(12)]


def fastai_valley(rates, losses):
    """Longest decreasing subsequence, as fastai writes it."""
    n = len(losses)
    start, end, lengths = 0, 0, [1] * n
    for i in range(1, n):
        for j in range(i):
            if losses[i] < losses[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
            if lengths[end] < lengths[i]:
                end, start = i, i - lengths[i]
    section = (end - start) / 3
    return rates[start + int(section) + int(section / 2)]


def fastai_slide(rates, losses):
    slopes = np.gradient(losses)
    right, left = -1, -16
    found = rates[left]
    while left >= -len(losses) and abs(slopes[right] - slopes[left]) > 0.005:
        found = rates[left]
        right, left = right - 1, left - 1
    return found


def fastai_steep(rates, losses):
    return rates[int(np.argmin(np.diff(losses) / np.diff(np.log(rates))))]


def numpy_steepest(rates, losses):
    return rates[int(np.gradient(losses).argmin())]


def numpy_steepest_per_rate(rates, losses):
    return rates[int(np.gradient(losses, rates).argmin())]


PEERS = {
    "valley": (fastai_valley, "fastai"),
    "slide": (fastai_slide, "fastai"),
    "minimum": (lambda rates, losses: rates[int(np.argmin(losses))] / 10, "fastai"),
    "steep": (fastai_steep, "fastai"),
    "torch-lr-finder": (numpy_steepest, "torch-lr-finder"),
    "lightning": (numpy_steepest, "lightning"),
    "lightning-as-shipped": (numpy_steepest_per_rate, "lightning"),
}


def prepared(losses, library):
    """What each library hands to its rule: smoothed losses, and which points."""
    mean, smoothed = 0.0, []
    for i, loss in enumerate(losses):
        if library == "torch-lr-finder":
            mean = loss if i == 0 else 0.05 * loss + 0.95 * mean
            smoothed.append(mean)
        else:
            mean = 0.98 * mean + (1 - 0.98) * loss
            smoothed.append(mean / (1 - 0.98 ** (i + 1)))
    kept = {"fastai": slice(len(losses) // 10, -5), "torch-lr-finder": slice(10, -5), "lightning": slice(10, -1)}
    return smoothed, kept[library]


def test_every_rule_has_a_peer() -> None:
    assert set(PEERS) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("i", range(len(CURVES)))
def test_a_rule_gives_what_its_library_gives(name: str, i: int) -> None:
    rates, losses = CURVES[i]
    formula, library = PEERS[name]
    smoothed, kept = prepared(losses, library)
    expected = formula(rates[kept], smoothed[kept])
    assert suggestions(rates, losses)[name] == pytest.approx(expected, rel=1e-12)


def test_the_rules_differ_from_each_other() -> None:
    assert all(len(set(suggestions(*CURVES[i]).values())) >= 4 for i in range(len(CURVES)))


@pytest.mark.parametrize("i", range(4))
def test_lightning_as_shipped_gives_what_the_installed_one_gives(i: int) -> None:
    finder = pytest.importorskip("lightning.pytorch.tuner.lr_finder")
    rates, losses = CURVES[i]
    living = finder._LRFinder("exponential", 1e-7, 10, 100)
    living.results = {"lr": rates, "loss": debiased(losses)}
    assert suggestions(rates, losses)["lightning-as-shipped"] == living.suggestion()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("i", range(4))
def test_torch_lr_finder_as_installed_suggests_the_same(i: int) -> None:
    """Its range test keeps the smoothed losses; its plot leaves points out and suggests."""
    peer, pyplot = pytest.importorskip("torch_lr_finder"), pytest.importorskip("matplotlib.pyplot")
    rates, losses = CURVES[i]
    living = object.__new__(peer.LRFinder)
    living.history = {"lr": rates, "loss": running(losses)}
    figure, axes = pyplot.subplots()
    _, rate = living.plot(ax=axes, suggest_lr=True)
    pyplot.close(figure)
    assert suggestions(rates, losses)["torch-lr-finder"] == rate


def test_lightning_as_shipped_is_many_octaves_too_low_and_the_correct_axis_is_not() -> None:
    for rates, losses in CURVES[1::4]:
        found = suggestions(rates, losses)
        assert found["lightning-as-shipped"] < 1e-5 < found["lightning"] / 100


@pytest.mark.parametrize("name", PRESETS)
def test_losses_from_the_first_nan_on_are_not_looked_at(name: str) -> None:
    rates, losses = CURVES[2]
    for bad in (math.nan, math.inf):
        torn = [*losses[:80], bad, 5.0, *losses[82:]]
        assert suggestions(rates, torn)[name] == suggestions(rates[:80], losses[:80])[name] is not None


@pytest.mark.parametrize("rule", [rules.valley, rules.slide, rules.minimum, rules.steep, rules.steepest])
def test_a_rule_alone_takes_a_tail_of_nan(rule) -> None:
    rates, losses = CURVES[2]
    smoothed = debiased(losses)
    assert rule(rates, [*smoothed[:70], *[math.nan] * 30]) == rule(rates[:70], smoothed[:70])


@pytest.mark.parametrize("rule", [*(preset.rule for preset in PRESETS.values()), *PRESETS.values()])
def test_without_points_a_rule_gives_none(rule) -> None:
    assert rule([], []) is None
    assert rule([0.1], [math.nan]) is None


def test_one_point_has_no_slope_but_a_minimum() -> None:
    assert minimum([0.1], [2.0]) == 0.01
    assert lightning_as_shipped([0.1], [2.0]) is None


def test_a_loss_that_never_falls_has_no_valley() -> None:
    assert valley([1.0, 2.0, 3.0], [1.0, 1.0, 2.0]) is None


@pytest.mark.parametrize("spacing", ["geometric", "linear"])
def test_slopes_are_those_of_numpy_on_uneven_points(spacing: str) -> None:
    rates = ramp(1e-3, 1.0, 40, spacing)
    losses = CURVES[1][1][:40]
    x = [math.log(rate) for rate in rates]
    assert rules.slope(x, losses) == pytest.approx(np.gradient(losses, x), rel=1e-10)


def test_the_steepest_fall_is_sought_per_log_rate_on_a_linear_ramp_too() -> None:
    rates = ramp(1e-3, 1.0, 400, "linear")
    losses = [-math.tanh(3 * (math.log10(rate) + 1)) for rate in rates]  # steepest at 0.1 on a log axis
    assert rules.steepest(rates, losses) == pytest.approx(0.1, rel=0.03)
    assert rules.steep(rates, losses) == pytest.approx(0.1, rel=0.03)
    assert lightning_as_shipped(rates, losses) < 0.08


def test_smoothing_begins_at_the_first_loss() -> None:
    assert debiased([3.0, 3.0, 3.0]) == pytest.approx([3.0, 3.0, 3.0], rel=1e-14)
    assert running([1.0, 3.0], weight=0.5) == [1.0, 2.0]
    assert debiased([1.0, 3.0], beta=0.5) == pytest.approx([1.0, (0.25 + 1.5) / 0.75])


def test_a_preset_leaves_out_a_part_of_the_points_that_were_planned() -> None:
    first = Preset(lambda rates, losses: rates[0], begin=0.1, end=0)
    assert first(list(range(1, 31)), [1.0] * 30) == 4
    assert first(list(range(1, 31)), [1.0] * 30, planned=100) == 11


@pytest.mark.parametrize(
    ("rates", "losses", "message"),
    [
        ([0.1, 0.2], [1.0], "every rate needs one loss, got 2 rates and 1 losses"),
        ([0.2, 0.1], [1.0, 1.0], "rates must be above 0, finite and increasing"),
        ([0.0, 0.1], [1.0, 1.0], "rates must be above 0"),
        ([0.1, math.nan], [1.0, 1.0], "rates must be above 0"),
    ],
)
def test_a_curve_that_is_none_is_refused(rates, losses, message: str) -> None:
    with pytest.raises(FinderError, match=message):
        suggestions(rates, losses)
