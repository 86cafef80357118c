"""The stability ceiling: formulas against the recursions they are about, eigenvalues against numpy's."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ratewise.errors import FinderError
from ratewise.finder.curvature import MOST, ROUNDING, Ceiling, ceiling, gain, largest

MOMENTA = [
    {},
    {"momentum": 0.5},
    {"momentum": 0.9},
    {"momentum": 0.99},
    {"momentum": 0.9, "dampening": 0.5},
    {"momentum": 0.9, "dampening": 0.9},  # Adam's average
    {"momentum": 0.5, "nesterov": True},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "dampening": 0.9, "nesterov": True},
]


def dot(a, b):
    return float(a @ b)


def rotated(spectrum, seed=0):
    """A symmetric matrix with these eigenvalues."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(spectrum), len(spectrum))))
    return turn * np.asarray(spectrum) @ turn.T


def found(matrix, seed=1, **options):
    start = np.random.default_rng(seed).normal(size=len(matrix)).astype(matrix.dtype)
    return largest(lambda v: matrix @ v, start, dot, **options)


def growth(matrix, rate, momentum=0.0, dampening=0.0, nesterov=False, updates=1500):
    """By what an optimizer multiplies a deviation over the second half of its updates on a quadratic."""
    x, m, sizes = np.ones(len(matrix)), np.zeros(len(matrix)), []
    for _ in range(updates):
        g = matrix @ x
        m = momentum * m + (1 - dampening) * g
        x = x - rate * (momentum * m + (1 - dampening) * g if nesterov else m)
        sizes.append(np.linalg.norm(x) + np.linalg.norm(m))
        if not sizes[-1] < 1e100:
            return math.inf
    return sizes[-1] / sizes[len(sizes) // 2]


# -- formulas ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", MOMENTA, ids=str)
@pytest.mark.parametrize("spectrum", [[3.0], [0.1, 1.0, 7.0]], ids=["one direction", "three"])
def test_training_a_quadratic_becomes_unstable_within_half_a_percent_of_the_limit(how, spectrum):
    edge = 2 / (gain(**how) * max(spectrum))
    matrix = rotated(spectrum)
    assert growth(matrix, 0.995 * edge, **how) < 1 < growth(matrix, 1.005 * edge, **how)


@given(st.floats(0, 0.98), st.floats(0, 0.98), st.booleans(), st.floats(0.01, 100))
@settings(max_examples=100, deadline=None)
def test_the_largest_root_of_the_recursion_reaches_1_exactly_at_the_limit(momentum, dampening, nesterov, curvature):
    b, c = momentum, 1 - dampening

    def radius(rate):
        a = rate * curvature
        seen, kept = (c * (1 + b), b * b) if nesterov else (c, b)  # x' = x - a seen x - rate kept m, m' = b m + c h x
        return max(abs(np.linalg.eigvals([[1 - a * seen, -kept], [a * c, b]])))

    edge = 2 / (gain(b, dampening=dampening, nesterov=nesterov) * curvature)
    assert radius(edge) == pytest.approx(1, abs=1e-6)
    assert radius(0.99 * edge) < 1 < radius(1.01 * edge)


@pytest.mark.parametrize(
    ("how", "limit"),
    [
        ({}, 2),
        ({"momentum": 0.9}, 2 * 1.9),
        ({"momentum": 0.9, "dampening": 0.9}, 38),
        ({"momentum": 0.9, "nesterov": True}, 2 * 1.9 / 2.8),
    ],
)
def test_known_limits_of_the_rate_times_the_curvature(how, limit):
    assert 2 / gain(**how) == pytest.approx(limit, rel=1e-12)


# -- the largest eigenvalue --------------------------------------------------------------------------------------


SPECTRA = {
    "one": [2.0],
    "two": [3.0, 1.0],
    "the largest in size is negative": [4.0, 1.0, -9.0],
    "small beside negative ones": [1e-3, -5.0, -6.0, -7.0],
    "the same many times": [0.5] * 4 + [0.0] * 100,
    "dense": np.linspace(0, 1, 200),
    "hardly apart": [100.0, *np.linspace(0, 98, 150)],
    "decades": np.logspace(-6, 2, 150),
    "one above many alike": [2.0] + [1.0] * 400,
    "tiny": [1e-12, 2e-12, 3e-12],
    "huge": [1e20, 1e19, -3e20],
}


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_the_largest_eigenvalue_is_found_to_a_percent(spectrum):
    value, products, converged = found(rotated(spectrum))
    assert converged
    assert products < MOST
    assert value == pytest.approx(max(spectrum), rel=0.01)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_as_many_products_as_dimensions_find_it_exactly(spectrum, seed):
    matrix = rotated(spectrum, seed)
    value, _, converged = found(matrix, seed + 1, tolerance=1e-9)
    extent = max(map(abs, spectrum))
    assert converged or max(spectrum) < 1e-3 * extent
    assert value == pytest.approx(max(spectrum), rel=1e-5, abs=10 * ROUNDING * extent)


def test_single_precision_is_enough():
    value, _, converged = found(np.diag(np.linspace(0, 1, 200) ** 4).astype(np.float32))
    assert converged
    assert value == pytest.approx(1, rel=0.015)


def test_what_did_not_converge_says_so_and_is_never_too_high():
    value, products, converged = found(rotated(np.linspace(0, 1, 200)), tolerance=1e-6, most=5)
    assert (products, converged) == (5, False)
    assert 0.8 < value < 1


def test_it_takes_fewer_products_than_power_iteration():
    matrix = rotated([100.0, *np.linspace(0, 95, 150)])
    _, products, _ = found(matrix)
    vector, values = np.random.default_rng(1).normal(size=len(matrix)), []
    while not values or values[-1] < 0.99 * 100:
        vector = matrix @ vector
        vector /= np.linalg.norm(vector)
        values.append(dot(vector, matrix @ vector))
    assert products < len(values)


# -- the ceiling -------------------------------------------------------------------------------------------------


def of(matrix, **options):
    return ceiling(lambda v: matrix @ v, np.random.default_rng(0).normal(size=len(matrix)), dot, **options)


def test_the_ceiling_is_two_over_curvature_and_gain():
    result = of(rotated([4.0, 1.0, -9.0]), gain=0.5, preconditioned=True)
    assert result.rate == pytest.approx(1.0, rel=0.01)
    assert result.sharpness == pytest.approx(4.0, rel=0.01)
    assert (result.gain, result.preconditioned, result.converged) == (0.5, True, True)


@pytest.mark.parametrize("spectrum", [[0.0, 0.0], [-1.0, -2.0], [0.0, -1.0, -3.0]], ids=str)
def test_where_nothing_curves_upwards_no_rate_is_too_high(spectrum):
    result = of(rotated(spectrum))
    assert (result.rate, result.sharpness) == (math.inf, 0.0)
    assert result.utilisation(1000.0) == 0.0


def test_utilisation_is_the_part_of_the_stable_range():
    edge = of(rotated([4.0, 1.0]))
    assert edge.utilisation(0.25) == pytest.approx(0.5, rel=0.01)  # rate * lambda / 2
    assert edge.utilisation(edge.rate) == 1.0


def test_curvature_that_is_not_finite_is_refused():
    with pytest.raises(FinderError, match="curvature of the loss is not finite"):
        of(np.full((2, 2), math.nan))
    with pytest.raises(FinderError, match="curvature of the loss is not finite"):
        of(np.diag([math.inf, 1.0]))


def test_a_matrix_that_is_not_symmetric_is_refused():
    matrix = rotated(np.linspace(-1, 1, 20))
    matrix[:, 5] = 0  # what is cut off from one side only
    with pytest.raises(FinderError, match="Some function in it cannot be differentiated twice"):
        of(matrix)


def test_a_ceiling_is_a_value():
    one, other = (Ceiling(0.5, 4.0, 1.0, False, 12, True) for _ in range(2))
    assert one == other == eval(repr(one))
    assert hash(one) == hash(other)
