"""A schedule given by an arithmetic expression in ``t``: what no shape says, still printable and portable.

The text is read by Python's own parser into a tree, of which only arithmetic is accepted; the tree becomes a
function (t, xp) made of closures. Nothing in the text is ever run as code.
"""

import ast
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from operator import add, floordiv, ge, gt, le, lt, mod, mul, neg, sub, truediv
from typing import Any, TypeAlias

from ratewise.core import checks
from ratewise.core.horizon import Updates
from ratewise.core.numeric import SCALAR
from ratewise.core.shapes import Decay
from ratewise.errors import ScheduleError

Term: TypeAlias = Callable[[Any, Any], Any]

MAX_TEXT, MAX_NODES = 10_000, 2_000

NAMES = {"pi": math.pi}
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: add,
    ast.Sub: sub,
    ast.Mult: mul,
    ast.Div: truediv,
    ast.FloorDiv: floordiv,
    ast.Mod: mod,
    ast.Lt: lt,
    ast.LtE: le,
    ast.Gt: gt,
    ast.GtE: ge,
}
FUNCTIONS = {
    **{name: (name, 1) for name in ("sqrt", "exp", "log", "sin", "cos", "tanh", "floor", "abs")},
    "ceil": ("floor", 1),
    "min": ("minimum", 2),
    "max": ("maximum", 2),
    "where": ("where", 3),
}
"""What a formula may call, with the number of arguments (``min`` and ``max``: at least)."""


@dataclass(frozen=True, repr=False)
class Formula(Decay):
    """A value computed from the position by an expression, e.g. ``"0.1 * (1 + (t/5000)**2)**-0.25"``.

    The expression knows ``t`` (the update, at least 0 and at most ``steps``), numbers, ``pi``, ``+ - * / // % **``,
    ``sqrt exp log sin cos tanh floor ceil abs min max`` and ``where(t < 10, a, b)``. It is evaluated in floating
    point: in a framework without float64, positions above 2**24 lose digits, which shapes do not.

    Args:
        text: The expression, at most 10,000 characters.
        steps: Length; None is endless, and the value must then stay finite for every position.

    Raises:
        ScheduleError: The text is not such an expression, or its value at 0 or at the end is not a finite number.

    Example:
        >>> Formula("1 / (1 + floor(t / 10))").values(0, 31)[::10]
        [1.0, 0.5, 0.3333333333333333, 0.25]
    """

    text: str
    steps: Updates | None = None

    def __post_init__(self) -> None:
        text, term = _read(self.text)
        self.__dict__.update(text=text, _term=term)
        self._lengths()
        ends = (0, checks.FAR if self.steps is None else self.steps)
        for t in () if any(self._missing()) else ends:
            self._checked(t)

    def at(self, t: Any, xp: Any) -> Any:
        if xp is SCALAR:
            return self._checked(self._local(t, xp))
        with xp.quiet():
            value = self.__dict__["_term"](xp.real(self._local(t, xp)), xp)
        return xp.full(t, value) if isinstance(value, float) else value

    def _checked(self, t: Any) -> float:
        try:
            value = self.__dict__["_term"](float(t), SCALAR)
        except (OverflowError, ZeroDivisionError, ValueError):
            value = math.nan
        if type(value) is not float or not math.isfinite(value):
            raise ScheduleError(
                f"Formula: the value of {checks.shown(self.text, 60)} at update {t} is not a finite number. "
                "Use where(...), max(...) or steps=... to keep away from there."
            )
        return value


def _read(text: Any) -> tuple[str, Term]:
    """Return the expression in canonical form, and as a function."""
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise ScheduleError(f"Formula: needs text of at most {MAX_TEXT} characters, got {checks.shown(text, 60)}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text.strip(), mode="eval").body
        if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
            raise ScheduleError(f"Formula: the expression has more than {MAX_NODES} parts.")
        term = _term(tree)
        return ast.unparse(tree), term if callable(term) else lambda t, xp: term
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        if isinstance(error, ScheduleError):
            raise
        reason = getattr(error, "msg", None) or "nested too deeply"
        raise ScheduleError(f"Formula: {checks.shown(text, 60)} is not an expression ({reason:.80}).") from None


def _term(node: Any) -> Any:
    """The function (t, xp) that a node stands for, or its value if it does not depend on t."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return checks.number("Formula", "a number", node.value)
    if isinstance(node, ast.Name):
        if node.id == "t":
            return lambda t, xp: t
        return NAMES[checks.choice("Formula", "name", node.id, (*NAMES, "t"))]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _applied(lambda xp, x: neg(x), _term(node.operand))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _applied(lambda xp, x, y: xp.power(x, y), _term(node.left), _term(node.right))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        binary = OPERATORS[type(node.op)]
        return _applied(lambda xp, x, y: binary(x, y), _term(node.left), _term(node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _call(node.func.id, node.args)
    raise ScheduleError(
        f"Formula: {checks.shown(ast.unparse(node), 40)} is not arithmetic in t. Known: + - * / // % **, "
        f"{', '.join(FUNCTIONS)}, pi."
    )


def _call(name: str, args: list[Any]) -> Any:
    function, arity = FUNCTIONS[checks.choice("Formula", "function", name, FUNCTIONS)]
    if len(args) < arity or (len(args) > arity and name not in ("min", "max")):
        raise ScheduleError(f"Formula: {name} takes {arity} arguments, got {len(args)}.")
    if name == "where":
        return _where(*args)
    terms = [_term(arg) for arg in args]
    if name == "ceil":
        return _applied(lambda xp, x: -xp.floor(-x), *terms)
    if arity == 1:
        return _applied(lambda xp, x: getattr(xp, function)(x), *terms)
    result = terms[0]
    for term in terms[1:]:
        result = _applied(lambda xp, x, y: getattr(xp, function)(x, y), result, term)
    return result


def _where(condition: Any, chosen: Any, other: Any) -> Any:
    """Both branches are evaluated for arrays, only the one needed for a number."""
    if not isinstance(condition, ast.Compare) or len(condition.ops) != 1 or type(condition.ops[0]) not in OPERATORS:
        raise ScheduleError("Formula: where needs one comparison first: where(t < 10, a, b), with < <= > or >=.")
    compare = OPERATORS[type(condition.ops[0])]
    left, right, a, b = map(_term, (condition.left, condition.comparators[0], chosen, other))

    def term(t: Any, xp: Any) -> Any:
        holds = compare(_valued(left, t, xp), _valued(right, t, xp))
        if xp is SCALAR:
            return _valued(a if holds else b, t, xp)
        return xp.where(holds, *(_wide(_valued(x, t, xp), t, xp) for x in (a, b)))

    return term


def _applied(function: Callable[..., Any], *terms: Any) -> Any:
    """A function of terms: a constant if they all are."""
    if not any(map(callable, terms)):
        try:
            return float(function(SCALAR, *terms))
        except (OverflowError, ZeroDivisionError, ValueError, TypeError):
            raise ScheduleError("Formula: a part of the expression has no finite value.") from None
    if len(terms) == 1:
        (inner,) = terms
        return lambda t, xp: function(xp, inner(t, xp))
    left, right = terms
    if not callable(left):
        return lambda t, xp: function(xp, left, right(t, xp))
    if not callable(right):
        return lambda t, xp: function(xp, left(t, xp), right)
    return lambda t, xp: function(xp, left(t, xp), right(t, xp))


def _valued(term: Any, t: Any, xp: Any) -> Any:
    return term(t, xp) if callable(term) else term


def _wide(value: Any, t: Any, xp: Any) -> Any:
    return xp.full(t, value) if isinstance(value, float) else value
