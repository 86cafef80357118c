"""Strategies as words of a command line: ``NAME``, ``NAME=EXPR`` or ``NAME=OPTIMIZER:EXPR``."""

from ratewise.core.parse import parse
from ratewise.errors import RatewiseError
from ratewise.lab.catalogue import strategy
from ratewise.lab.strategy import Strategy


def read(text: str) -> Strategy:
    """Read a strategy; SGD, which is meant where no optimizer is named, has momentum 0.9.

    The optimizer ends at the last colon before the first parenthesis, so it may be ``module:Class``.

    Raises:
        UnknownName: There is no strategy of that name in the catalogue.
        ScheduleError: The expression is none.

    Example:
        >>> read("mine=torch.optim:NAdam:Constant(0.01)")
        Strategy(name='mine', optimizer='torch.optim:NAdam', lr=Constant(0.01), momentum=None, weight_decay=None, \
settings=())
    """
    name, equals, rest = text.partition("=")
    if not equals or "(" in name:
        return strategy(text)
    optimizer, colon, _ = rest.partition("(")[0].rpartition(":")
    momentum = 0.9 if not colon or optimizer.strip() == "sgd" else None
    expression = rest[len(optimizer) + len(colon) :]
    return Strategy(name.strip(), optimizer.strip() if colon else "sgd", parse(expression), momentum=momentum)


def spelled(found: Strategy) -> str | None:
    """Return the text that reads as this strategy; None if no text does."""
    for text in (found.name, f"{found.name}={found.optimizer}:{found.lr!r}"):
        try:
            if read(text) == found:
                return text
        except RatewiseError:
            continue
    return None
