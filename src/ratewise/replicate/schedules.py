"""The schedules that claims compare, all with SGD and momentum 0.9 and the same centre of the search."""

from ratewise.core import recipes
from ratewise.core.horizon import fraction
from ratewise.core.schedule import Schedule
from ratewise.lab.catalogue import CATALOGUE
from ratewise.lab.strategy import Strategy

_PEAK = 0.1


def sgd(name: str, lr: Schedule) -> Strategy:
    """SGD with momentum 0.9."""
    return Strategy(name, "sgd", lr, momentum=0.9)


def adam(name: str, lr: Schedule) -> Strategy:
    """Adam at the usual betas."""
    return Strategy(name, "adam", lr)


def catalogue(*names: str) -> dict[str, Strategy]:
    """Strategies of the catalogue by name."""
    return {name: CATALOGUE[name] for name in names}


NINETEEN: dict[str, Strategy] = catalogue(
    "fixed", "linear", "cosine", "step_decay", "exponential_decay", "time_based", "cyclical", "one_cycle"
) | {
    name: sgd(name, lr)
    for name, lr in {
        "cosine_to_a_tenth": recipes.cosine(_PEAK, _PEAK / 10),
        "quadratic": recipes.polynomial_decay(_PEAK, power=2.0),
        "rex": recipes.rex(_PEAK),
        "wsd_10": recipes.trapezoidal(_PEAK, 0, fraction(0.1)),
        "wsd_20": recipes.trapezoidal(_PEAK, 0, fraction(0.2)),
        "wsd_50": recipes.trapezoidal(_PEAK, 0, fraction(0.5)),
        "halves": recipes.step_decay(_PEAK, 0.5, fraction(0.25)),
        "exponential_to_a_tenth": recipes.exponential_decay(_PEAK, 0.1),
        "inverse_root": recipes.inverse_sqrt(_PEAK, fraction(0.02)),
        "triangular": recipes.cyclical(_PEAK / 10, _PEAK, fraction(0.125)),
        "restarts": recipes.sgdr(_PEAK, fraction(0.25), 1.0),
    }.items()
}
"""The field of the claims about many schedules at once."""
