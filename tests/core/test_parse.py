"""Reading text and dictionaries: only this algebra, only ScheduleError, quickly, and no code is run."""

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import ratewise as rw
from ratewise.core.parse import FUNCTIONS, KINDS, METHODS
from ratewise.errors import ScheduleError

fuzz = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@rw.register
def halving(t: Any) -> Any:
    """A registered function, for Custom."""
    return 0.5 / (1.0 + t)


def unregistered(t: Any) -> Any:
    """A function that files may not name."""
    return t


def refused(text: Any) -> str:
    start = time.perf_counter()
    with pytest.raises(ScheduleError) as caught:
        rw.parse(text)
    assert time.perf_counter() - start < 1.0
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    return message


HOSTILE = [
    "", " ", "#", "1", "'x'", "None", "True", "...", "1j", "b'x'", "f'{1}'", "[]", "()", "{}", "a", "Constant",
    "__import__('os').system('true')", "().__class__.__bases__", "Constant.__init__(1)", "Constant(0.1).__class__",
    "Constant(0.1).__reduce__()", "Constant(0.1)._number(1)", "Constant(0.1).at(1, 2)", "Constant(0.1).to_dict()",
    "Constant(0.1)(3)", "Constant(0.1).values(0, 10**9)", "Constant(0.1).value", "Constant(0.1).plot()",
    "(lambda: 1)()", "[x for x in ()]", "x := 1", "Constant(0.1) if 1 else 2", "Constant(0.1)[0]", "not 1", "1 < 2",
    "import os", "x = 1", "Constant(0.1); 2", "Constant(*[0.1])", "Constant(**{'value': 0.1})", "print('x')",
    "open('x')",
    "Custom('os:getcwd')", "Custom('test_parse:unregistered')", "Custom('builtins:eval')", "Custom(1)", "Custom([])",
    "Constant(10**5000)", "Constant(" + "9" * 4000 + ")", "Constant(" + "9" * 5000 + ")", "Constant(1e999)",
    "Constant(-1e999)", "Linear(1.0, 0.0, 1e300)", "Linear(1.0, 0.0, " + "9" * 4000 + ")", "Constant(1/3/0)",
    "Constant(9" + "9" * 400 + "/3)",
    "Linear(1, 0, 4).repeat(" + "9" * 4000 + ")", "Linear(1, 0, 4).repeat(stretch=1.0000000000000002)",
    "Linear(1, 0, 4).repeat(10000, stretch=1.0000000000000002, gamma=1.1)", "epochs(3)", "Constant(epochs(3))",
    "Constant(0.1, fraction(9))", "Constant(1/0)", "Constant(0.1) - Constant(0.1)", "-Constant(0.1)",
    "Constant(0.1) / 2",
    "2 >> Constant(0.1)", "Constant(0.1) >> 2", "2 * 3 * Constant(0.1)", "Constant(0.1) ** 2", "~1", "Constant()",
    "Constant(0.1, 0.2, 0.3, 0.4)", "Constant(valu=0.1)", "Constant(0.1, steps=[])", "Piecewise(0.1, 3)",
    "Piecewise([0.1, 'x'], [3])", "Ramp(0.1, 0.0, 3, 'cosine')", "one_cycle(peek=0.1)", "(" * 300, "(" * 10_000,
    "-" * 100_000 + "1", "[" * 300 + "]" * 300, "Constant(" * 150 + "1" + ")" * 150,
    "Constant(0.1)" + ".clip(0)" * 5000,
    "a" + ".b" * 10_000, "a" + "()" * 10_000, "1" + "+1" * 50_000, "Constant(0.1)" + "*2" * 20_000, "1" * 2_000_000,
    "Constant(0.1)\x00", "\ud800", "\\", "Constant(0.1)\\d", "1if 2else 3", "Constant('\\d')", "Constant(0.1) >>",
    "Constant(0.1).over(10**9)", "Constant(0.1).then", "Constant(0.1).then()", "0x", "0777", "1__0", "\t\n", "é(1)",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda x: f"{x!r:.40}")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
def test_what_is_no_schedule_is_refused_in_one_line(text: str) -> None:
    refused(text)


@pytest.mark.parametrize("text", [None, 3, b"Constant(0.1)", rw.Constant(0.1), ["x"]], ids=repr)
def test_only_text_is_parsed(text: Any) -> None:
    assert "parse: needs text" in refused(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Cosin(0.1, 0.0)", "unknown name 'Cosin'. Did you mean 'Cosine'?"),
        ("LINEAR(0.1, 0.0)", "unknown name 'LINEAR'. Did you mean 'Linear'?"),
        ("Cosine(0.1, 0.0).warmpu(5)", "unknown method 'warmpu'. Did you mean 'warmup'?"),
        ("Cosine", "'Cosine' is not a value. Write Cosine(...)."),
        ("Cosine(0.1, 0.0, peak)", "'peak' is not a value."),
        ("Cosine(0.1)", "missing a required argument: 'end'; it takes (start, end, steps=None, ends='[)')."),
        (
            "one_cycle(peek=1)",
            "it takes (peak, warmup=fraction(0.3), start_ratio=0.04, end_ratio=4e-06, shape='cosine'",
        ),
        ("Constant(True)", "True is not part of a schedule expression"),
        ("one_cycle('x')", "one_cycle: peak must be a finite number, got 'x'."),
        ("0.1.warmup(3)", ".warmup needs a schedule before it, got 0.1."),
        ("epochs(3)", "the text must describe a schedule such as 'Cosine(0.1, 0.0, 1000)', got epochs(3)."),
    ],
)
def test_messages_are_short_and_helpful(text: str, message: str) -> None:
    assert message in refused(text)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("one_cycle(peak=0.1)", rw.one_cycle(peak=0.1)),
        ("Cosine(0.1, 0).warmup(5)", rw.Cosine(0.1, 0.0).warmup(5)),
        ("  Constant(1/4)\n", rw.Constant(0.25)),
        ("Constant(-1)", rw.Constant(-1.0)),
        ("2 * (3 * Constant(0.1))", 2 * (3 * rw.Constant(0.1))),
        ("Constant(0.1, 5) >> Constant(0.2) * 2", rw.Constant(0.1, 5) >> rw.Constant(0.2) * 2),
        ("Piecewise((0.1, 0.2), [epochs(3)])", rw.Piecewise([0.1, 0.2], [rw.epochs(3)])),
        ("step_decay(0.1).over(100)", rw.step_decay(0.1).over(100)),
        ("Linear(1, 0, 9).scaled_from(3, 0.5)", rw.Linear(1, 0, 9).scaled_from(3, 0.5)),
    ],
)
def test_expressions_mean_what_python_makes_of_them(text: str, schedule: rw.Schedule) -> None:
    assert rw.parse(text) == schedule


def test_custom_functions_must_be_registered() -> None:
    name = f"{halving.__module__}:halving"
    a = rw.Custom(halving, 10)
    assert rw.parse(f'Custom("{name}", steps=10)') == a == rw.from_dict(a.to_dict()) == rw.Custom(name, 10)
    assert a.values(0, 2) == [0.5, 0.25]
    assert a(99) == 0.5 / 11
    assert repr(a) == f'Custom("{name}", steps=10)'
    with pytest.raises(ScheduleError, match=r"not registered in this process.*@ratewise\.register"):
        rw.from_dict(rw.Custom(unregistered).to_dict())


def test_long_chains_are_read_quickly() -> None:
    a = rw.sequence(*(rw.Linear(1.0, 0.0, n) for n in range(1, 10_001)))
    start = time.perf_counter()
    assert rw.parse(repr(a)) == a
    assert rw.from_dict(json.loads(json.dumps(a.to_dict()))) == a
    assert eval(repr(a), vars(rw)) == a
    assert time.perf_counter() - start < 5.0
    arrows = " >> ".join(["fixed(1)" + ".until(3)"] * 500)
    assert rw.parse(arrows).steps == 1500


@fuzz
@given(st.text(max_size=60))
def test_any_text_is_a_schedule_or_a_schedule_error(text: str) -> None:
    with contextlib.suppress(ScheduleError):
        rw.parse(text)


words = st.sampled_from(
    [
        *FUNCTIONS,
        *METHODS,
        *"()[],.=",
        " >> ",
        " * ",
        " + ",
        "/",
        "-",
        "0.1",
        "1e999",
        "3",
        "'cosine'",
        "steps=",
        "None",
    ]
)


@fuzz
@given(st.lists(words, max_size=25))
def test_any_words_of_the_algebra_are_a_schedule_or_a_schedule_error(parts: list[str]) -> None:
    with contextlib.suppress(ScheduleError):
        rw.parse("".join(parts))


arguments = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.builds(lambda: 10**5000),
    st.sampled_from(["cosine", "(]", "[]", "math:sqrt"]), st.integers(1, 20), st.floats(0.01, 1.0), st.builds(object),
    st.builds(dict, epochs=st.integers(1, 3)), st.sets(st.integers(), max_size=2), st.complex_numbers(), st.binary(),
)  # fmt: skip
fields = st.sampled_from(
    ["start", "end", "steps", "value", "gamma", "every", "base", "pieces", "operands", "low", "times", "function",
     "levels", "milestones", "skip", "factor", "length", "shape", "ease", "ends", "decay", "power", "version",
     "x", 3, None]
)  # fmt: skip
objects = st.recursive(
    st.one_of(arguments, st.builds(lambda v: {"type": "Constant", "value": v}, arguments)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.builds(lambda kind, data: {"type": kind, **data}, st.sampled_from([*KINDS, "X", 3]),
                  st.dictionaries(fields, inner, max_size=4)),
    ),
    max_leaves=8,
)  # fmt: skip


@fuzz
@given(objects)
def test_any_object_is_a_schedule_or_a_schedule_error(data: Any) -> None:
    result: Any
    try:
        result = rw.from_dict(data)
    except ScheduleError as error:
        result = str(error)
    if isinstance(result, str):
        assert len(result.splitlines()) == 1
        assert len(result) < 1000
    else:
        assert rw.from_dict(result.to_dict()) == result


def nested(n: int) -> Any:
    data: Any = {"type": "Constant", "value": 0.1}
    for _ in range(n):
        data = {"type": "Clip", "base": data, "low": 0.0}
    return data


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (nested(500), "nested 64 deep"),
        ({"type": "Sequence", "pieces": [[[[]]]]}, "needs a Schedule"),
        ({"type": "Konstant", "value": 0.1}, "unknown type 'Konstant'. Did you mean 'Constant'"),
        ({"type": ["Constant"]}, "unknown type"),
        ({"type": "Constant", "valu": 0.1}, "Constant has no 'valu'. Did you mean 'value'"),
        ({"type": "Constant"}, r"missing a required argument: 'value'; it takes \(value, steps=None\)"),
        ({"version": 2, "type": "Constant", "value": 0.1}, "version must be 1"),
        ({"version": {}, "type": "Constant"}, "version must be 1"),
        ({"epochs": 3}, "does not describe a schedule"),
        ({"type": "Constant", "value": 0.1, "steps": {"parsecs": 3}}, "unknown unit 'parsecs'"),
        ({"type": "Constant", "value": 0.1, "steps": {"a": 1, "b": 2}}, "one unit such as"),
        ({"type": "Custom", "function": ["x"]}, "not registered"),
        ({"type": "Custom", "function": "os:getcwd"}, "not registered"),
        ([], "needs a dictionary"),
        (None, "needs a dictionary"),
    ],
)
def test_wrong_dictionaries_are_refused(data: Any, match: str) -> None:
    with pytest.raises(ScheduleError, match=match):
        rw.from_dict(data)
