"""What is said about curves whose answer is known."""

import json
import math
import random
import re

import pytest

from ratewise.finder import Curve, Finding, judged, ramp
from ratewise.finder.finding import BROKEN, diverged_at

N = 100
RATES = ramp(1e-7, 10, N)


def made(loss, noise: float = 0.0, seed: int = 0, stopped: str = "", n: int = N) -> Curve:
    """A curve of ``loss(rate)`` with noise, cut after ``n`` points."""
    draw = random.Random(seed)
    losses = [loss(rate) + (draw.gauss(0, noise) if noise else 0.0) for rate in RATES[:n]]
    return Curve(tuple(RATES[:n]), tuple(losses), N, stopped)


def found(curve: Curve) -> Finding:
    return judged(curve, {"updates": len(curve.losses), "batches": len(curve.losses)}, {"optimizer": "SGD"})


def bowl(centre: float):
    """Falls from 2.3 around ``centre`` / 30 and shoots up behind ``centre``."""
    return lambda rate: 2.3 / (1 + 30 * rate / centre) + min((rate / centre) ** 4, 1e6)


@pytest.mark.parametrize("centre", [1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
def test_a_clear_curve_gives_a_rate_below_its_bottom(centre: float, noise: float) -> None:
    curve = made(bowl(centre), noise)
    finding = found(curve)
    assert finding.suggestion is not None, finding.reason
    assert centre / 30 < finding.suggestion <= centre
    assert finding.low <= finding.suggestion <= finding.high < finding.stable < 3 * centre
    assert finding.range == (finding.low, finding.high)
    assert f"{finding.spread:.1f} octaves" in finding.reason


@pytest.mark.parametrize("centre", [1e-3, 0.1])
@pytest.mark.parametrize("factor", [0.1, 10.0, 100.0])
@pytest.mark.parametrize("shift", [0.0, -50.0])
def test_the_unit_and_the_zero_of_the_loss_do_not_matter(centre: float, factor: float, shift: float) -> None:
    one, other = found(made(bowl(centre), 0.02)), found(made(lambda r: factor * bowl(centre)(r), 0.02 * factor))
    shifted = found(made(lambda r: bowl(centre)(r) + shift, 0.02))
    for finding in (other, shifted):
        assert finding.suggestion == one.suggestion
        assert finding.range == one.range


@pytest.mark.parametrize("seed", range(20))
def test_never_in_the_last_tenth_before_divergence(seed: int) -> None:
    """A wall directly behind the bottom: without the limit the rule of the minimum would go right up to it."""
    draw = random.Random(seed)
    wall = draw.randrange(20, 90)
    width = draw.choice([3, 12, 40])
    losses = [
        2.3 - 2.0 / (1 + math.exp(-(i - wall + width) / (width / 4))) if i < wall else 50.0 for i in range(wall + 3)
    ]
    for tail in ([], [math.nan]):
        values = (*losses, *tail)
        finding = found(Curve(tuple(RATES[: len(values)]), values, N, "not finite" if tail else "diverged"))
        assert diverged_at(finding.curve) == wall
        assert finding.stable == RATES[wall - 1]
        if finding.suggestion is not None:
            assert finding.suggestion <= RATES[wall - 1 - math.ceil(wall / 10)] * (1 + 1e-12)


def test_the_limit_is_what_decides_where_the_grid_is_coarse() -> None:
    """Over 20 decades a tenth of a rate is only half a point of the grid away."""
    rates = ramp(1e-16, 1e4, N)
    losses = [2.3 - 0.02 * i for i in range(80)] + [60.0] * 5
    finding = found(Curve(tuple(rates[:85]), tuple(losses), N, "diverged"))
    assert finding.suggestion == rates[80 - 1 - 8]
    assert "the highest rate that is not in the last tenth" in finding.reason


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        (made(lambda r: 2.3), "The loss is flat: from 1e-07 to 10 it stayed near 2.3"),
        (made(lambda r: 2.3, 0.001), "The loss is flat"),
        (made(lambda r: 0.0), "The loss is flat"),
        (made(lambda r: 2.3 - 1e-9 * r), "The loss is flat"),
        (made(lambda r: 2.3, 0.5), "The loss is too noisy: it fell by .* at most, single batches differ by"),
        (made(lambda r: 2.3 - 0.1 * min(r, 1), 0.8), "The loss is too noisy"),
        (made(lambda r: 2.3 / (1 + 10 * r)), r"still falling at the highest rate \(10\).*high=10000"),
        (made(lambda r: 2.3, n=1), "The loss"),
        (Curve((1e-7,), (math.nan,), N, "not finite"), r"already nan at the first rate \(1e-07\)"),
        (Curve((1e-7,), (math.inf,), N, "not finite"), "already inf at the first rate"),
        (Curve(tuple(RATES[:5]), (2.3, 2.2, 9.0, 99.0, math.nan), N, "not finite"), "diverged after 2 updates"),
        (
            made(lambda r: 2.3 + 1e9 * r, n=30, stopped="diverged"),
            "diverged after [0-9] updates.*Begin lower.*low=1e-10",
        ),
    ],
)
def test_a_curve_that_says_nothing_is_declined_with_the_reason(curve: Curve, reason: str) -> None:
    finding = found(curve)
    assert (finding.low, finding.high, finding.suggestion, finding.range) == (None, None, None, None)
    assert re.search(reason, finding.reason), finding.reason
    assert str(finding) == f"no suggestion: {finding.reason}"


@pytest.mark.parametrize("noise", [0.01, 0.3, 3.0])
def test_pure_noise_is_declined_nearly_always(noise: float) -> None:
    taken = sum(found(made(lambda r: 2.3, noise, seed)).suggestion is not None for seed in range(200))
    assert taken <= 4


def test_a_spike_early_on_does_not_decide() -> None:
    clean = made(bowl(0.1), 0.02)
    losses = list(clean.losses)
    losses[25] = 12.0
    spiked = found(Curve(clean.rates, tuple(losses), N))
    assert spiked.suggestion == pytest.approx(found(clean).suggestion, rel=0.5)


def test_agreement_leaves_out_the_rule_that_is_known_to_be_wrong() -> None:
    finding = found(made(bowl(0.01), 0.02))
    rates = [rate for name, rate in finding.rules.items() if name != BROKEN]
    assert finding.spread == math.log2(max(rates) / min(rates)) < math.log2(max(rates) / finding.rules[BROKEN])


@pytest.mark.parametrize("curve", [made(bowl(0.1), 0.02), Curve((1e-7, 1e-6), (2.3, math.nan), N, "not finite")])
def test_it_is_json_without_nan(curve: Curve) -> None:
    finding = found(curve)
    back = json.loads(json.dumps(finding.to_dict(), allow_nan=False))
    assert back == finding.to_dict()
    assert list(back)[:6] == ["low", "high", "suggestion", "ceiling", "stable", "reason"]
    assert list(back)[6:] == ["curve", "rules", "cost", "valid_for"]
    assert back["curve"]["losses"][:1] == [curve.losses[0]]
    assert (back["curve"]["losses"][-1] is None) == (curve.stopped == "not finite")


def test_it_cannot_be_changed_and_equals_its_twin() -> None:
    finding = found(made(bowl(0.1)))
    with pytest.raises(AttributeError):
        finding.suggestion = 1.0
    assert finding == found(made(bowl(0.1)))


def test_it_reads_as_one_line() -> None:
    finding = found(made(bowl(0.1)))
    assert str(finding).startswith(f"{finding.suggestion:.3g} ({finding.low:.3g} to {finding.high:.3g}): The loss fell")
