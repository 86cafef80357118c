"""Reading schedules back: from plain dictionaries, and from expressions, without ever running code.

``parse`` knows the names, calls, numbers and operators of this algebra and nothing else. ``from_dict`` knows the
classes below. Neither imports anything on behalf of the text it reads.
"""

import ast
import warnings
from dataclasses import fields
from functools import reduce
from inspect import Parameter, signature
from itertools import groupby
from operator import mul, truediv
from typing import Any

from ratewise.core import change, checks, formula, horizon, recipes, rules, schedule, shapes
from ratewise.core.horizon import Length
from ratewise.core.ruled import Rule, Ruled
from ratewise.core.schedule import Product, Schedule, Sequence, Sum
from ratewise.errors import ScheduleError, nearest

MAX_TEXT = 1_000_000
MAX_NODES = 1_000_000

KINDS: dict[str, type[Schedule]] = {
    kind.__name__: kind
    for kind in (
        *(schedule.Ramp, schedule.Sequence, schedule.Product, schedule.Sum, schedule.Clip, schedule.Stairs),
        *(schedule.Stretch, schedule.Until, schedule.After, schedule.Along, schedule.Repeat, schedule.Cooldown),
        *(shapes.Constant, shapes.Exponential, shapes.InverseTime, shapes.Piecewise, shapes.Custom, formula.Formula),
    )
}
"""Every class of the algebra by name."""

FUNCTIONS: dict[str, Any] = {
    **{name: KINDS[name] for name in ("Ramp", "Constant", "Exponential", "InverseTime", "Piecewise", "Formula")},
    **{f.__name__: f for f in (shapes.Linear, shapes.Cosine, shapes.Polynomial, schedule.sequence)},
    **{f.__name__: f for f in (horizon.epochs, horizon.samples, horizon.tokens, horizon.fraction)},
    **recipes.RECIPES,
    **rules.RULES,
    "extend": change.extend,
    "Custom": lambda function, steps=None: shapes.Custom(shapes.registered(function), steps),
}
"""What ``parse`` may call."""

METHODS = (
    *("then", "warmup", "cooldown", "until", "after", "repeat", "stretch", "stairs", "clip", "along"),
    *("decay_from", "scaled_from", "over"),
)
"""Which methods ``parse`` may call."""

DESCRIBED: dict[str, type[Schedule | Ruled | Rule]] = {**KINDS, **rules.RULES, "Ruled": Ruled}
"""Every class that ``from_dict`` may make."""


def parse(text: str) -> Any:
    """Read an expression such as ``"Cosine(0.1, 0.0).warmup(500)"`` or ``"one_cycle(peak=0.1)"``.

    Args:
        text: At most 1 MB of names, numbers, calls and operators of this algebra.

    Returns:
        The ``Schedule``, or the ``Ruled`` where rules multiply it.

    Raises:
        ScheduleError: The text is not such an expression, or a value in it is not allowed.

    Example:
        >>> parse("0.5 * Linear(0.1, 0.0, 4) >> Constant(0.0)")
        0.5 * Linear(0.1, 0.0, 4) >> Constant(0.0)
    """
    if not isinstance(text, str):
        raise ScheduleError(f"parse: needs text, got {checks.shown(text)}.")
    if len(text) > MAX_TEXT:
        raise ScheduleError(f"parse: at most {MAX_TEXT} characters, got {len(text)}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "2else" and the like: said below, or fine
            tree = ast.parse(text.strip(), mode="eval").body
        if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
            raise ScheduleError(f"parse: the expression has more than {MAX_NODES} parts.")
        value = _value(tree)
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        if isinstance(error, ScheduleError):
            raise
        reason = getattr(error, "msg", None) or str(error) or "nested too deeply"
        reason = reason.removeprefix("invalid syntax. ").rstrip("?.")
        raise ScheduleError(f"parse: {checks.shown(text.strip(), 60)} is not an expression ({reason:.100}).") from None
    if not isinstance(value, (Schedule, Ruled)):
        raise ScheduleError(
            f"parse: the text must describe a schedule such as 'Cosine(0.1, 0.0, 1000)', got {checks.shown(value, 60)}."
        )
    return value


def _value(node: Any) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, str, type(None)):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _value(node.operand)
        if type(inner) in (int, float):
            return -inner
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.BinOp):
        return _operation(node)
    if isinstance(node, ast.Call):
        return _call(node)
    if isinstance(node, ast.Name):
        hint = f" Write {node.id}(...)." if node.id in FUNCTIONS else nearest(node.id, FUNCTIONS)
        raise ScheduleError(f"parse: {node.id[:60]!r} is not a value.{hint}")
    what = checks.shown(node.value, 40) if isinstance(node, ast.Constant) else f"a Python {type(node).__name__}"
    raise ScheduleError(
        f"parse: {what} is not part of a schedule expression; those are names, calls, numbers, >>, * and +."
    )


def _operation(node: Any) -> Any:
    """A chain of >>, * and +, read with a loop: long chains are not deep."""
    chain = []
    while isinstance(node, ast.BinOp):
        chain.append((node.op, node.right))
        node = node.left
    result = _value(node)
    for kind, run in groupby(reversed(chain), key=lambda pair: type(pair[0])):
        operands = [result, *(_value(right) for _, right in run)]
        if kind is ast.RShift:
            result = Sequence(tuple(operands))
        elif kind is ast.Mult and any(isinstance(x, (Rule, Ruled)) for x in operands):
            result = reduce(mul, operands)
        elif kind in (ast.Mult, ast.Add) and any(isinstance(x, Schedule) for x in operands[:2]):
            result = (Product if kind is ast.Mult else Sum)(operands)
        elif kind is ast.Div and {type(x) for x in operands} <= {int, float} and 0 not in operands[1:]:
            result = reduce(truediv, operands)
        else:
            raise ScheduleError(
                "parse: operators are a >> b, a * b and a + b between schedules (or a number with * and +), "
                "and 1/3 between numbers."
            )
    return result


def _call(node: Any) -> Any:
    if isinstance(node.func, ast.Attribute):
        owner = _value(node.func.value)
        name = node.func.attr
        if not isinstance(owner, (Schedule, Ruled)):
            raise ScheduleError(f"parse: .{name[:60]} needs a schedule before it, got {checks.shown(owner, 40)}.")
        checks.choice("parse", "method", name, [method for method in METHODS if hasattr(type(owner), method)])
        function = getattr(owner, name)
    elif isinstance(node.func, ast.Name):
        name = node.func.id
        function = FUNCTIONS[checks.choice("parse", "name", name, FUNCTIONS)]
    else:
        raise ScheduleError("parse: only names of this algebra can be called.")
    if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
        raise ScheduleError(f"parse: {name}: write the arguments out, without * or **.")
    args = [_value(a) for a in node.args]
    named = {k.arg: _value(k.value) for k in node.keywords}
    return called("parse", name, function, args, named)


def called(where: str, name: str, function: Any, args: list[Any], named: dict[str, Any]) -> Any:
    """Call a constructor, turning wrong arguments into a ScheduleError that shows the right ones."""
    expected = signature(function)
    try:
        expected.bind(*args, **named)
    except TypeError as error:
        takes = ", ".join(map(_parameter, expected.parameters.values()))
        raise ScheduleError(f"{where}: {name}: {error!s:.100}; it takes ({takes}).") from None
    try:
        return function(*args, **named)
    except (TypeError, AttributeError, OverflowError, ZeroDivisionError) as error:
        raise ScheduleError(f"{where}: {name}: an argument has the wrong type ({error!s:.100}).") from None


def _parameter(parameter: Parameter) -> str:
    """A parameter without its annotation: its name, and its default if it has one."""
    star = "*" if parameter.kind is Parameter.VAR_POSITIONAL else ""
    return star + parameter.name + ("" if parameter.default is Parameter.empty else f"={parameter.default!r}")


def from_dict(data: Any) -> Any:
    """Return the ``Schedule`` or ``Ruled`` that ``to_dict`` described.

    Raises:
        ScheduleError: The data does not describe a schedule, or is of a newer version.
    """
    if not isinstance(data, dict):
        raise ScheduleError(f"from_dict: needs a dictionary made by to_dict, got {type(data).__name__}.")
    version = data.get("version", 1)
    if version != 1:
        raise ScheduleError(f"from_dict: version must be 1, the one this Ratewise reads, got {checks.shown(version)}.")
    value = _decoded({key: item for key, item in data.items() if key != "version"}, 0)
    if not isinstance(value, (Schedule, Ruled)):
        raise ScheduleError("from_dict: the data does not describe a schedule.")
    return value


def _decoded(data: Any, depth: int) -> Any:
    checks.shallow("from_dict", depth // 2)
    if isinstance(data, (list, tuple)):
        return tuple(_decoded(item, depth + 1) for item in data)
    if not isinstance(data, dict):
        return data
    if "type" not in data:
        if len(data) == 1:
            ((unit, amount),) = data.items()
            return Length(amount, unit)
        raise ScheduleError("from_dict: a schedule needs 'type', a length one unit such as {'epochs': 3}.")
    name = checks.choice("from_dict", "type", data["type"], DESCRIBED)
    kind: Any = DESCRIBED[name]
    known = {field.name for field in fields(kind)}
    given: dict[Any, Any] = {}
    for key, item in data.items():
        if key not in known and key != "type":
            raise ScheduleError(f"from_dict: {name} has no {checks.shown(key, 60)}.{nearest(key, known)}")
        if key != "type":
            given[key] = _decoded(item, depth + 1)
    if kind is shapes.Custom:
        given["function"] = shapes.registered(given.get("function"))
    if kind is shapes.Piecewise:
        given["values"] = given.pop("levels", ())
    return called("from_dict", name, kind, [], given)
