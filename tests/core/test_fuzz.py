"""Whatever is given: a value, or a ScheduleError of a line or two; never another exception, never for long."""

import inspect
import math
import time
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings, strategies as st

import ratewise as rw
from ratewise.core.parse import FUNCTIONS
from ratewise.core.schedule import Schedule
from ratewise.errors import ScheduleError

fuzzed = settings(max_examples=1000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

ODD: list[Any] = [
    *(True, False, None, "", "x", "0.1", b"1", math.nan, math.inf, -math.inf, 1j, -1, 0, -0.0, 1e-320, 1e308, 10**400),
    *(
        2**53,
        2**53 + 1,
        [],
        [1],
        (1, 2),
        {},
        {"a": 1},
        {1},
        object,
        len,
        Fraction(1, 3),
        rw.Constant(0.1),
        rw.Cosine(1, 0),
    ),
    *(rw.epochs(3), rw.fraction(0.1), rw.tokens(10), rw.Plateau(0.5, 2), np.float64(0.5), np.int64(3), np.array([1.0])),
    *(np.array(2.0), np.float32("nan"), np.bool_(True), rw.Horizon(10), range(3), "cosine", "keep", "(]", "rewarm(3)"),
]
sensible = st.one_of(st.floats(0.001, 2.0), st.integers(1, 50), st.just("cosine"), st.just("1 / (1 + t)"))
anything = st.one_of(st.sampled_from(ODD), sensible, st.lists(st.one_of(sensible, st.sampled_from(ODD)), max_size=3))

MAKERS: dict[str, Any] = {name: f for name, f in FUNCTIONS.items() if name != "Custom"} | {
    "Custom": rw.Custom, "Horizon": rw.Horizon, "Length": rw.Length, "parse": rw.parse, "from_dict": rw.from_dict,
    "register": rw.register,
}  # fmt: skip
METHODS = (
    *("then", "warmup", "cooldown", "until", "after", "repeat", "stretch", "stairs", "clip", "along", "decay_from"),
    *("scaled_from", "over", "values", "table", "plot", "__call__", "__rshift__", "__mul__", "__add__", "__radd__"),
)
BASES = [rw.Cosine(1.0, 0.1, 30).warmup(5), rw.Constant(0.1), rw.Cosine(1.0, 0.0), rw.Linear(1.0, 0.0, rw.epochs(2))]


def tried(call: Any) -> Any:
    """The value, None if it was refused as it should be."""
    start, made, refused, arity = time.process_time(), None, None, ""
    try:
        made = call()
    except ScheduleError as error:
        refused = str(error)
    except TypeError as error:  # Python's own word on how many arguments there are
        arity = str(error)
    assert time.process_time() - start < 1.0
    assert refused is None or (0 < len(refused) < 700 and len(refused.splitlines()) <= 2)
    assert not arity or "argument" in arity
    return made


def arguments(data: Any, function: Any) -> tuple[list[Any], dict[str, Any]]:
    names = [p.name for p in inspect.signature(function).parameters.values() if p.name != "self"]
    named = data.draw(st.dictionaries(st.sampled_from(names), anything, max_size=3)) if names else {}
    taken = [name for name in names if name not in named]
    return data.draw(st.lists(anything, max_size=min(4, len(taken)))), named


@fuzzed
@given(st.sampled_from(sorted(MAKERS)), st.data())
def test_makers_take_or_refuse_whatever_they_are_given(name: str, data: Any) -> None:
    positional, named = arguments(data, MAKERS[name])
    made = tried(lambda: MAKERS[name](*positional, **named))
    if name != "Custom" and isinstance(made, Schedule) and not any(made._missing()):
        assert all(math.isfinite(x) for x in (made(0), made(7), made(10**9)))
        assert repr(made)


@fuzzed
@given(st.sampled_from(BASES), st.sampled_from(METHODS), st.data())
def test_operators_take_or_refuse_whatever_they_are_given(a: Schedule, name: str, data: Any) -> None:
    positional, named = arguments(data, getattr(rw.Schedule, name))
    if name in ("values", "table", "plot"):  # as long as one asks for: only what is no number is of interest
        positional = [x for x in positional if not isinstance(x, (int, float)) or isinstance(x, bool)]
        named = {key: x for key, x in named.items() if not isinstance(x, (int, float)) or isinstance(x, bool)}
    made = tried(lambda: getattr(a, name)(*positional, **named))
    if isinstance(made, Schedule) and not any(made._missing()):
        assert all(math.isfinite(x) for x in (made(0), made(7), made(10**9)))
