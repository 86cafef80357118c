"""The rate at which curvature makes training unstable: the formulas, and the largest curvature from products alone.

Below it a deviation along the sharpest direction shrinks, above it every update overshoots by more than it came. It is
about one state, and no suggestion. The one idea behind all formulas is that the first thing to become unstable swings
from side to side, one update each. For gradients g, -g, g, ... an optimizer's update is g times its ``gain``; so with
curvature lambda

    rate * gain * lambda = 2

is the edge, for every optimizer whose update is linear in the gradients, preconditioned or not. Frameworks give the
products of their Hessian with a vector; nothing here knows any of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ratewise.errors import FinderError

LEAST, MOST = 10, 60
"""Products with the Hessian, unless fewer leave nothing over: before, a bulk of like curvatures may hide the top."""

TOLERANCE = 0.01
"""How exactly the largest curvature is sought, as a part of it."""

ROUNDING = 1e-5
"""What is smaller than this part of the largest curvature in size, counts as 0: products are in float32, as a rule."""

ASYMMETRY = 0.05
"""By how much products may differ that should be the same, as a part of the largest curvature: half precision does."""


@dataclass(frozen=True)
class Ceiling:
    """The largest rate that curvature allows, at one state of a model and an optimizer.

    The loss is taken for a quadratic and the gradients for exact. Noise of small batches lowers the limit; that
    curvature changes while training goes on may lower or lift it.

    Args:
        rate: The rate at the edge of stability; infinite where no direction curves upwards, so that no rate overshoots.
        sharpness: The largest curvature, at least 0, of what the optimizer sees: preconditioned, weight decay included.
        gain: What of an alternating gradient reaches the parameters, of ``gain``; 1 for plain gradient descent.
        preconditioned: Whether the optimizer divides by second moments.
        iterations: Products with the Hessian that it took.
        converged: Whether the curvature is known to about 1%. If not, it is larger than shown, and the rate lower.
    """

    rate: float
    sharpness: float
    gain: float
    preconditioned: bool
    iterations: int
    converged: bool

    def utilisation(self, rate: float) -> float:
        """Return how much of the stable range ``rate`` uses: 1 is the edge of stability, 0 no use of it.

        For plain gradient descent it is rate * lambda / 2.

        >>> Ceiling(0.5, 4.0, 1.0, False, 12, True).utilisation(0.1)
        0.2
        """
        return rate / self.rate


def gain(momentum: float = 0.0, *, dampening: float = 0.0, nesterov: bool = False) -> float:
    """Return what reaches the parameters of a gradient that changes its sign at every update, as a part of it.

    With b the momentum and c = 1 - dampening, the update u of

        m[t+1] = b m[t] + c g[t],    u[t] = m[t+1]              or, with nesterov,    u[t] = b m[t+1] + c g[t]

    answers g[t] = (-1)^t with (-1)^t times

        c / (1 + b)                                             or                    c (1 + 2 b) / (1 + b)

    Args:
        momentum: b, at least 0 and below 1.
        dampening: 0 for momentum that adds up (SGD, RMSprop); the momentum itself for one that averages (Adam).
        nesterov: Whether the update looks ahead.

    Example:
        >>> 2 / gain()  # the limit of rate * lambda: gradient descent,
        2.0
        >>> round(2 / gain(0.9), 6)  # heavy ball, 2 (1 + b),
        3.8
        >>> round(2 / gain(0.9, nesterov=True), 6)  # Nesterov, 2 (1 + b) / (1 + 2 b),
        1.357143
        >>> round(2 / gain(0.9, dampening=0.9), 6)  # Adam, 2 (1 + b) / (1 - b)
        38.0

    References:
        Cohen et al., 2021, Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability, appendix B,
        https://arxiv.org/abs/2103.00065; and 2022, Adaptive Gradient Methods at the Edge of Stability, eq. 4,
        https://arxiv.org/abs/2207.14484
    """
    return (1 - dampening) * (1 + 2 * momentum * nesterov) / (1 + momentum)


def ceiling(
    product: Callable[[Any], Any], start: Any, dot: Callable[[Any, Any], float], *, gain: float = 1.0,
    preconditioned: bool = False,
) -> Ceiling:  # fmt: skip
    """Return the ceiling from products with the curvature that an optimizer sees.

    For a Hessian H, second moments' square roots P, rates D as parts of the highest, coupled decay w and decoupled
    decay W, that is the symmetric

        D^1/2 (P^-1/2 (H + w) P^-1/2 + W / gain) D^1/2

    Where gains differ between parameters, ``gain`` is the largest and D takes the ratios to it (but not of W).

    Args:
        product: Multiplies a vector by that matrix.
        start: The first vector, random: one without any part along the sharpest direction does not find it.
        dot: The inner product of two vectors as a Python float. Vectors need ``-``, and ``*`` by a float.
        gain: Of the optimizer.
        preconditioned: Whether there is a P.

    Raises:
        FinderError: A product is not finite.

    Example:
        >>> class Pair(tuple):
        ...     __mul__ = lambda a, x: Pair(i * x for i in a)
        ...     __sub__ = lambda a, b: Pair(i - j for i, j in zip(a, b))
        >>> found = ceiling(
        ...     lambda v: Pair((4 * v[0], -9 * v[1])), Pair((1.0, 1.0)), lambda a, b: sum(i * j for i, j in zip(a, b))
        ... )
        >>> round(found.rate, 9), round(found.sharpness, 9), found.iterations
        (0.5, 4.0, 2)
    """
    sharpness, iterations, converged = largest(product, start, dot)
    sharpness = max(sharpness, 0.0)
    rate = 2 / (gain * sharpness) if gain * sharpness else math.inf
    return Ceiling(rate, sharpness, gain, preconditioned, iterations, converged)


def largest(
    product: Callable[[Any], Any], start: Any, dot: Callable[[Any, Any], float], *, tolerance: float = TOLERANCE,
    most: int = MOST,
) -> tuple[float, int, bool]:  # fmt: skip
    """Return the largest eigenvalue of a symmetric matrix, the products that it took, and whether it converged.

    Not the largest in size: a negative one, however large, is not returned while another is above it. Lanczos'
    iteration uses all products so far, where power iteration uses the last, at the same price: three vectors. It stops
    once an eigenvalue is known to lie within ``tolerance`` of the value returned, as a part of it.

    Args:
        product: Multiplies a vector by the matrix.
        start: The first vector, of any length but 0.
        dot: The inner product.
        tolerance: Relative, above 0.
        most: Products, at most.

    Raises:
        FinderError: A product is not finite, or two products show that the matrix is not symmetric.

    References:
        Golub and Van Loan, 2013, Matrix Computations, section 10.1.
    """
    diagonal: list[float] = []
    beside: list[float] = []
    before, vector = None, start * (1 / math.sqrt(dot(start, start)))
    while True:
        image = product(vector)
        diagonal.append(float(dot(vector, image)))
        if not math.isfinite(diagonal[-1]):
            raise _not_finite()
        rest = image - vector * diagonal[-1]
        if before is not None:
            _check_symmetric(float(dot(before, image)), beside[-1], max(map(abs, (*diagonal, *beside))))
            rest = rest - before * beside[-1]
        size = math.sqrt(float(dot(rest, rest)))
        if not math.isfinite(size):
            raise _not_finite()
        value, last = _top(diagonal, beside)
        extent = max(map(abs, diagonal)) + max(beside, default=0.0)
        known = (size * last <= tolerance * abs(value) and len(diagonal) >= LEAST) or size <= ROUNDING * extent
        if known or len(diagonal) == most:
            return (value if abs(value) > ROUNDING * extent > 0 else 0.0), len(diagonal), known
        before, vector = vector, rest * (1 / size)
        beside.append(size)


def _check_symmetric(one: float, other: float, extent: float) -> None:
    """Refuse products that differ with the side from which the same two vectors are multiplied.

    Some frameworks differentiate what has no second derivative as if it were constant, without a word.
    """
    if abs(one - other) > ASYMMETRY * extent:
        raise FinderError(
            "ceiling: the Hessian of the loss is not symmetric. Some function in it cannot be differentiated twice, or "
            "its value is another at every evaluation."
        )


def _not_finite() -> FinderError:
    return FinderError(
        "ceiling: the curvature of the loss is not finite at this state. Check that loss and gradients are."
    )


def _top(diagonal: list[float], beside: list[float]) -> tuple[float, float]:
    """The largest eigenvalue of a symmetric tridiagonal matrix, and the last entry of its vector of length 1.

    By bisection: x lies above every eigenvalue exactly if all pivots of x - T are above 0. The vector is worked out
    from both ends towards the place where they meet best, each in the direction that loses no digits.
    """
    low, reach = max(diagonal), 2 * max(beside, default=0.0)
    margin = 1e-12 * (max(map(abs, diagonal)) + reach) + 1e-300  # so that rounding does not make a pivot negative
    high = low + reach + margin
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _pivots(diagonal, beside, middle) else (middle, high)
    high += margin
    down = _pivots(diagonal, beside, high) or []
    up = (_pivots(diagonal[::-1], beside[::-1], high) or [])[::-1]
    gaps = [a + b - (high - entry) for a, b, entry in zip(down, up, diagonal, strict=True)]
    meet = gaps.index(min(gaps))
    total, last = 1.0, 1.0
    for i in range(meet - 1, -1, -1):
        last *= beside[i] / down[i]
        total += last * last
    last = 1.0
    for i in range(meet + 1, len(diagonal)):
        last *= beside[i - 1] / up[i]
        total += last * last
    return low, last / math.sqrt(total)


def _pivots(diagonal: list[float], beside: list[float], x: float) -> list[float] | None:
    """The pivots of x - T; None if one is not above 0."""
    pivots: list[float] = []
    for i, entry in enumerate(diagonal):
        pivot = x - entry - (beside[i - 1] ** 2 / pivots[-1] if i else 0.0)
        if not pivot > 0:
            return None
        pivots.append(pivot)
    return pivots
