"""How the best peak rate moves from one schedule to another, before anything is trained."""

import math
from collections.abc import Sequence
from itertools import accumulate


def best_peak(rates: Sequence[float]) -> float:
    """Return the peak rate that minimises a bound on the loss after the last update, up to a factor of the problem.

    The bound holds for convex problems with gradients of norm G and a start at distance D: with the schedule's shape
    ``h`` (peak 1), ``S_k`` the sum of what is left of it and ``Q_k`` the sum of its squares,

        D**2 / (2 g S_1) + g G**2 (Q_1 / (2 S_1) + 1/2 sum over k < T of (h_k / S_{k+1}) (Q_k / S_k)).

    Its minimum over g is at ``D / G`` times what is returned. Only ratios between schedules are meant to be used: on
    small networks they lay between 1 and 8 where the bound says 3.

    Args:
        rates: The rate of each update, at any scale; at least one above 0.

    Returns:
        The best peak rate in units of ``D / G``.

    References:
        Schaipp et al., 2025, The Surprising Agreement Between Convex Optimization Theory and Learning-Rate Scheduling,
        https://arxiv.org/abs/2501.18965. Defazio et al., 2023, https://arxiv.org/abs/2310.07831.

    Example:
        >>> linear = [1 - t / 4000 for t in range(4000)]
        >>> round(best_peak(linear) / best_peak([1.0] * 4000), 1)
        3.1
    """
    peak = max(rates)
    shape = [rate / peak for rate in rates]
    while shape[-1] == 0:  # updates at the rate 0 change nothing
        shape.pop()
    left = list(accumulate(reversed(shape)))[::-1]
    squares = list(accumulate(h * h for h in reversed(shape)))[::-1]
    drift = math.fsum(shape[k] / left[k + 1] * squares[k] / left[k] for k in range(len(shape) - 1))
    return 1 / math.sqrt(squares[0] + left[0] * drift)


def octaves(schedule: Sequence[float], other: Sequence[float]) -> int:
    """Return by how many factors of two the best peak of ``schedule`` lies above that of ``other``, rounded."""
    return round(math.log2(best_peak(schedule) / best_peak(other)))
