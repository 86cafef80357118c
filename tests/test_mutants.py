"""The tests are tested by machine: every operator, number and name in the formulas is changed, and must be noticed.

One change at a time is made to the compiled functions that compute values, and the golden tables are run. A change
that no table notices is either listed here with the reason why it changes nothing, or a test is missing.
"""

import ast
import copy
import inspect
import runpy
import signal
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest

from ratewise.core import chain, change, cycles, ease, recipes, rounding, schedule, shapes

GOLDEN = runpy.run_path(str(Path(__file__).parent / "golden" / "test_golden.py"))

SWAPPED: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Mod: ast.FloorDiv,
}
RENAMED = {
    "sin": "cos",
    "sqrt": "exp",
    "log1p": "expm1",
    "expm1": "log1p",
    "log": "exp",
    "minimum": "maximum",
    "maximum": "minimum",
    "start": "end",
    "end": "start",
    "low": "high",
    "high": "low",
}

EASES = [f for name, f in vars(ease).items() if inspect.isfunction(f) and f.__module__ == ease.__name__]
FORMULAS: list[Any] = [
    *(f for f in EASES if f not in (ease.read, ease.write)),
    *(
        schedule.Ramp._number,
        schedule.Ramp._row,
        schedule.Ramp.at,
        schedule.Sequence._number,
        schedule.Sequence._starts,
    ),
    *(schedule.Stairs.at, schedule.Stretch.at, schedule.Stretch._longer, schedule.Until.at, schedule.After.at),
    *(schedule.After.steps, schedule.Along.at, schedule.Repeat.at, schedule.Clip._clipped, schedule._Pointwise.at),
    *(shapes.Decay._local, shapes.Exponential.at, shapes.InverseTime.at, shapes.Piecewise.at),
    *(cycles.Cycles.of, cycles.Cycles.split, cycles.Cycles._starts, rounding.half_up, rounding.shares),
    *(inspect.unwrap(recipe) for recipe in recipes.RECIPES.values()),
    *(schedule.Cooldown._fit, schedule.Until._fit, schedule.Stairs._fit, change._last_ease),
    *(
        chain.Table.at,
        chain.Table._weights,
        change._keep,
        change._switch,
        change._stretch,
        change._replan,
        change._rewarm,
    ),
]

ROUNDING, SAME, BOUND = "the same value but for rounding", "the same value", "only a limit on what is accepted"
UNNOTICED = {
    "_part: mantissa * 2 ** 22 -> mantissa / 2 ** 22": ROUNDING,
    "_part: 22 -> 23": ROUNDING,
    "_part_of: k * head + k * tail if xp.double else k / m * whole -> "
    "k / m * whole if xp.double else k * head + k * tail": ROUNDING,
    "_sine_squared: k * head + k * tail if xp.double else xp.real(k) / m * whole -> "
    "xp.real(k) / m * whole if xp.double else k * head + k * tail": ROUNDING,
    "_power: xp.power(k, power) / whole if xp.double else xp.power(k / m, power) -> "
    "xp.power(k / m, power) if xp.double else xp.power(k, power) / whole": ROUNDING,
    "polynomial: _power_lost if power >= 1 else _root_lost -> _root_lost if power >= 1 else _power_lost": ROUNDING,
    "polynomial: power >= 1 -> power > 1": ROUNDING,
    "polynomial: 1 -> 2": ROUNDING,
    "polynomial: power * max(abs(math.log2(m)), 1.0) > 1000 -> power * max(abs(math.log2(m)), 1.0) >= 1000": ROUNDING,
    "polynomial: 1000 -> 1001": ROUNDING,
    "polynomial: 1.0 -> 2.0": ROUNDING,
    "_grown: 40 -> 41": ROUNDING,
    "Ramp._number: value < high -> value <= high": SAME,
    "Ramp._number: t < 0 -> t <= 0": SAME,
    "Ramp._number: t > top -> t >= top": SAME,
    "Ramp._number: t > 0 -> t >= 0": ROUNDING,
    "Ramp._number: t < top -> t <= top": ROUNDING,
    "Ramp._row: 1.0 -> 2.0": SAME,
    "Ramp._row: 0 -> 1": SAME,
    "Ramp.at: value if full and xp.double else xp.where(k < m, value, high) -> "
    "xp.where(k < m, value, high) if full and xp.double else value": ROUNDING,
    "Ramp._row: self.start > self.end -> self.start >= self.end": SAME,
    "Ramp.at: k < m -> k <= m": ROUNDING,
    "Table.at: k < m -> k <= m": ROUNDING,
    "Table.at: value if full else xp.where(k < m, value, high) -> "
    "xp.where(k < m, value, high) if full else value": ROUNDING,
    "Table._weights: -1 -> +1": SAME,
    "Table._weights: 1 -> 2": SAME,
    "cyclical: low > high -> low >= high": BOUND,
    "power_decay: warmup > knee -> warmup >= knee": BOUND,
    "Cooldown._fit: joint < 1 -> joint <= 1": BOUND,
    "Cooldown._fit: 1 -> 2": BOUND,
    "Cooldown._fit: body if body.steps == joint else body.until(joint) -> "
    "body.until(joint) if body.steps == joint else body": SAME,
    "Repeat.at: 1 -> 2": SAME,
    "Cycles.of: (times or 0) > MOST -> (times or 0) >= MOST": BOUND,
    "Cycles.of: 0 -> 1": BOUND,
    "Cycles.of: joint < FAR * _UNIT -> joint <= FAR * _UNIT": BOUND,
    "_stretch: at >= old.steps -> at > old.steps": BOUND,
    "_stretch: left / factor < remaining -> left / factor <= remaining": ROUNDING,
    "_stretch: 0.0 -> 1.0": ROUNDING,
    "_stretch: slowed if slowed.steps == left else slowed.until(left) -> "
    "slowed.until(left) if slowed.steps == left else slowed": SAME,
}
"""Changes that no table can notice, each with the reason."""


def plain(f: Any) -> Any:
    """The function behind a property, a class method or a decorator."""
    if isinstance(f, property):
        return f.fget
    return f.func if isinstance(f, cached_property) else getattr(f, "__func__", f)


def changes(node: ast.AST) -> Iterator[Callable[[Any], None]]:
    """What can be changed about a node, each as a function that does it."""
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
        yield lambda n: setattr(n, "op", SWAPPED[type(n.op)]())
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
        yield lambda n: n.ops.__setitem__(0, SWAPPED[type(n.ops[0])]())
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield lambda n: setattr(n, "value", n.value + 1)
    if isinstance(node, ast.Attribute) and node.attr in RENAMED:
        yield lambda n: setattr(n, "attr", RENAMED[n.attr])
    if isinstance(node, ast.IfExp):
        yield lambda n: n.__dict__.update(body=n.orelse, orelse=n.body)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda n: setattr(n, "op", ast.UAdd())


def mutants(function: Any) -> Iterator[tuple[str, types.CodeType]]:
    """Each change to a function, as text and as the code that it makes."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(tree, ast.FunctionDef)
    tree.decorator_list = []
    for argument in ast.walk(tree.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    for i, node in enumerate(_nodes(tree)):
        for k, _ in enumerate(changes(node)):
            changed = copy.deepcopy(tree)
            target = _nodes(changed)[i]
            list(changes(target))[k](target)
            module = compile(ast.fix_missing_locations(ast.Module([changed], [])), "<mutant>", "exec")
            code = next(c for c in module.co_consts if isinstance(c, types.CodeType) and c.co_name == tree.name)
            yield f"{function.__qualname__}: {ast.unparse(node)} -> {ast.unparse(target)}", code


def _nodes(tree: ast.FunctionDef) -> list[ast.AST]:
    """The nodes of the body that compute something: what raises, and annotations, are left as they are."""
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Raise, ast.AnnAssign)):
            left_out.update(map(id, ast.walk(node if isinstance(node, ast.Raise) else node.annotation)))
    return [node for statement in tree.body for node in ast.walk(statement) if id(node) not in left_out]


def noticed(texts: Iterable[str]) -> list[str]:
    """The first golden table that is not reproduced, if there is one."""
    for text in texts:
        try:
            if GOLDEN["wrong"](text, GOLDEN["TABLES"][text]):
                return [text]
        except Exception:
            return [text]
    return []


@cache
def calls() -> dict[str, set[types.CodeType]]:
    """What each golden table calls."""
    found: dict[str, set[types.CodeType]] = {text: set() for text in GOLDEN["TABLES"]}
    for text, called in found.items():
        sys.setprofile(lambda frame, event, _, called=called: called.add(frame.f_code))
        try:
            assert not noticed([text])
        finally:
            sys.setprofile(None)
    return found


PATIENCE = 1.5
"""Seconds of processor time that a change may take; all tables together take less than one."""


class Endless(BaseException):
    """A change has made an endless loop."""


def _stop(*_: Any) -> None:
    raise Endless


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("function", [plain(f) for f in FORMULAS], ids=lambda f: f.__qualname__)
def test_every_change_to_a_formula_is_noticed(function: Any) -> None:
    tables = [text for text, called in calls().items() if function.__code__ in called]
    assert tables
    original, before, survivors = function.__code__, signal.signal(signal.SIGVTALRM, _stop), []
    try:
        for change_, code in mutants(function):
            function.__code__ = code
            signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
            try:
                found = noticed(tables)
            except Endless:
                found = ["an endless loop"]
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            if not found:
                survivors.append(change_)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGALRM, before)
        function.__code__ = original

    assert [x for x in survivors if x not in UNNOTICED] == []
