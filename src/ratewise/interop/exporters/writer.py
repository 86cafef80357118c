"""From a schedule to source code: one walk through the tree, for every language.

Each node becomes an expression in the position; a chain of pieces becomes a function of its own, with ``if`` where
numbers are plain, with ``where`` for arrays. Positions that are whole stay whole as long as they can, so that float32
divides only small numbers.
"""

import ast
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from struct import pack, unpack
from typing import Any

from ratewise.core import formula, rounding, schedule as core, shapes, text as names_of
from ratewise.core.schedule import ENDS, Schedule
from ratewise.errors import ScheduleError
from ratewise.interop.exporters import eases
from ratewise.interop.exporters.expressions import (
    CONDITION,
    Term,
    add,
    compared,
    computed,
    divide,
    multiply,
    number,
    power,
    remainder,
    subtract,
    tidy,
    whole_parts,
)  # fmt: skip
from ratewise.interop.exporters.targets import Language

LONG = 12
"""Chains of more pieces are written as tables."""
WIDE = 64
"""Expressions of more characters get a name."""


@dataclass(frozen=True)
class Position:
    """Where a schedule is read.

    Args:
        term: The expression.
        whole: Whether it is a whole number.
        limit: The most that it can be, None if there is no such number.
        origin: Where it is counted from: ``term`` is ``origin - shift``.
        shift: A whole number.
    """

    term: Term
    whole: bool = True
    limit: float | None = None
    origin: Term | None = None
    shift: int = 0

    def plus(self, d: float) -> Term:
        """``term + d``."""
        return add(self.term, number(d)) if self.origin is None else subtract(self.origin, number(self.shift - d))

    def before(self, end: float) -> Term:
        """``end - term``."""
        if self.origin is None:
            return subtract(number(end), self.term)
        return subtract(number(end + self.shift), self.origin)

    def named(self, block: "Block") -> "Position":
        """The same, fit to be used more than once."""
        return replace(self, term=block.let("u", self.term), origin=None)


@dataclass
class Block:
    """The statements of a function, or of a branch in it."""

    writer: "Writer"
    lines: list[str] = field(default_factory=list)

    def let(self, hint: str, term: Term) -> Term:
        """Give the expression a name; names and numbers are left as they are."""
        if term.value is not None or term.text.isidentifier():
            return term
        name = self.writer.fresh(hint)
        self.lines.append(f"{name} = {term.text}")
        return Term(name)


@dataclass
class _Way:
    """A ramp being written: see ``eases.Way``."""

    writer: "Writer"
    ramp: core.Ramp
    position: Position
    block: Block

    def __post_init__(self) -> None:
        self.d, e = ENDS[self.ramp.ends]
        self.m: float = self.ramp.steps + e  # type: ignore[operator]

    def call(self, function: str, *terms: Term) -> Term:
        return self.writer.call(function, *terms)

    def p(self, named: bool = False) -> Term:
        done = divide(self.position.plus(self.d), number(self.m))
        return self._kept(done, named, "p")

    def r(self, named: bool = False) -> Term:
        left = self.position.before(self.m - self.d)
        if self.writer.language.scalar and not self._inside:
            left = self.call("max", left, number(0))
            return self._named(divide(left, number(self.m)), named, "r")
        return self._kept(divide(left, number(self.m)), named, "r")

    @property
    def _inside(self) -> bool:
        limit = self.position.limit
        return limit is not None and limit + self.d <= self.m

    def _kept(self, part: Term, named: bool, hint: str) -> Term:
        """The part, between 0 and 1."""
        if not self.writer.language.scalar:
            part = self.call("clip", part, number(0), number(1))
        elif not self._inside:
            part = self.call("min", part, number(1))
        return self._named(part, named, hint)

    def _named(self, part: Term, named: bool, hint: str) -> Term:
        return self.block.let(hint, part) if named else part


class Writer:
    """Writes functions of the position in one language.

    Args:
        language: Which.
    """

    def __init__(self, language: Language) -> None:
        self.language = language
        self.chunks: list[str] = []  # definitions, each before it is used
        self.imports: set[str] = set()
        self._used: Counter[str] = Counter(("t", "i", "rate"))
        self._helpers: list[str] = []

    # -- what the caller uses --------------------------------------------------------------------------------

    def define(self, name: str, schedule: Schedule, about: str, unit: float = 1.0, argument: str = "t") -> None:
        """Write the function ``name`` that returns the schedule's value, divided by ``unit``.

        Args:
            name: Its name.
            schedule: What it returns.
            about: Its docstring.
            unit: The base rate.
            argument: What it calls the position.
        """
        self._used[name] += 1
        lines = [f'"""{about}"""']
        if argument != "t":
            lines.append(f"t = {self._array(argument)}")
        self._function(name, argument, lines + self._body(schedule, Position(Term("t")), unit))

    def source(self) -> str:
        """Everything that was written, helpers first."""
        helpers = [self.language.helpers[name] for name in self._helpers if name in self.language.helpers]
        return "\n\n\n".join([*helpers, *self.chunks])

    # -- small things ----------------------------------------------------------------------------------------

    def fresh(self, hint: str) -> str:
        """A name that is not in use."""
        self._used[hint] += 1
        return hint if self._used[hint] == 1 else f"{hint}{self._used[hint]}"

    def call(self, function: str, *terms: Term) -> Term:
        """A function call, or its value where it is of numbers."""
        known = (
            None
            if function in ("clip", "where", "full_like", "reached", "lookup", "restarts")
            else computed(function, terms)
        )
        if known is not None:
            return known
        if function in self.language.helpers and function not in self._helpers:
            self._helpers.append(function)
        return Term(f"{self.language.name(function)}({', '.join(term.text for term in terms)})")

    def lookup(self, values: str, index: Term) -> Term:
        """``values[index]``."""
        if self.language.scalar:
            return Term(f"{values}[{index.text}]")
        return self.call("lookup", Term(values), index)

    def count(self, joints: str, position: Term) -> Term:
        """How many of the joints lie at or before the position."""
        if self.language.scalar:
            self.imports.add("from bisect import bisect_right")
        return self.call("reached", Term(joints), position)

    def where(self, condition: Term, a: Term, b: Term) -> Term:
        """``a`` where the condition holds, else ``b``."""
        if self.language.scalar:
            return Term(f"{a.inside(1)} if {condition.text} else {b.text}", CONDITION)
        return self.call("where", condition, a, b)

    def constant(self, name: str, lines: list[str]) -> None:
        """Write a constant of the module."""
        self.chunks.append("\n".join(lines))

    def _array(self, argument: str) -> str:
        return f"jnp.asarray({argument})"

    def _function(self, name: str, argument: str, lines: list[str]) -> None:
        body = "\n".join(f"    {line}" for line in lines)
        self.chunks.append(f"def {name}({argument}):\n{body}")

    def _part(self, hint: str, schedule: Schedule, position: Position, unit: float) -> Term:
        """Write a function of its own for the schedule, and call it."""
        name = self.fresh(hint)
        inner = Position(Term("t"), position.whole, position.limit)
        self._function(name, "t", self._body(schedule, inner, unit))
        return Term(f"{name}({position.term.text})")

    def _least(self, position: Position, most: float) -> Position:
        """The position, at most ``most``."""
        if most > self.language.far or (position.limit is not None and position.limit <= most):
            return position
        whole = position.whole and isinstance(most, int)
        return Position(self.call("min", position.term, number(most)), whole, most)

    def _from(self, position: Position, start: float, limit: float | None) -> Position:
        """The position counted from ``start``."""
        if position.whole and self.language.single and isinstance(start, float):
            left = subtract(position.term, number(math.floor(start)))  # exact; only the rest is less than an update
            return Position(subtract(left, number(start - math.floor(start))), False, limit)
        if not position.whole or not isinstance(start, int):
            return Position(subtract(position.term, number(start)), False, limit)
        origin, shift = position.origin or position.term, position.shift + start
        return Position(subtract(origin, number(shift)), True, limit, origin, shift)

    def _before(self, position: Position, joint: float) -> Term:
        return compared(position.term, "<", number(math.ceil(joint) if position.whole else joint))

    def _narrow(self, block: Block, hint: str, term: Term) -> Term:
        return block.let(hint, term) if len(term.text) > WIDE else term

    # -- chains ----------------------------------------------------------------------------------------------

    def _body(self, schedule: Schedule, position: Position, unit: float) -> list[str]:
        """The statements of a function, the last of which returns."""
        if isinstance(schedule, core.Sequence) and len(schedule.pieces) > 1:
            pieces = [
                p for p, start in zip(schedule.pieces, schedule._starts, strict=True) if start <= self.language.far
            ]
            if len(pieces) > LONG:
                return self._table(pieces, schedule._starts, position, unit)
            return self._chain(pieces, schedule._starts, position, unit)
        block = Block(self)
        value = self.walk(schedule, position, block, unit)
        return [*block.lines, f"return {value.text}"]

    def _local(self, pieces: list[Schedule], starts: Any, i: int, position: Position) -> Position:
        limit: float | None = pieces[i].steps if i + 1 < len(pieces) else None
        if limit is not None and position.whole and isinstance(limit, int) and isinstance(starts[i], int):
            limit -= 1
        if limit is None and position.limit is not None:
            limit = max(position.limit - starts[i], 0)
        return self._from(position, starts[i], limit)

    def _chain(self, pieces: list[Schedule], starts: Any, position: Position, unit: float) -> list[str]:
        scalar, lines = self.language.scalar, []
        order = range(len(pieces)) if scalar else reversed(range(len(pieces)))
        for i in order:
            block = Block(self)
            value = self.walk(pieces[i], self._local(pieces, starts, i, position), block, unit)
            last = i == len(pieces) - 1
            if scalar and not last:
                lines.append(f"if {self._before(position, starts[i + 1]).text}:")
                lines += [f"    {line}" for line in [*block.lines, f"return {value.text}"]]
            elif scalar:
                lines += [*block.lines, f"return {value.text}"]
            elif last:
                full = value if value.value is None else self.call("full_like", *self._like(position, value))
                lines += [*block.lines, f"rate = {full.text}"]
            else:
                value = self._narrow(block, "value", value)
                choice = self.where(self._before(position, starts[i + 1]), value, Term("rate"))
                lines += [*block.lines, f"rate = {choice.text}"]
        return lines if scalar else [*lines, "return rate"]

    def _like(self, position: Position, value: Term) -> tuple[Term, ...]:
        """The arguments that make an array of a number: as many as there are positions, and not of integers."""
        kind = (Term("dtype=float"),) if self.language.prefix == "jnp." else ()
        return (position.term, value, *kind)

    def _table(self, pieces: list[Schedule], starts: Any, position: Position, unit: float) -> list[str]:
        """A long chain: numbers in lists if all are ramps of one ease, else functions in a list."""
        kinds = {piece.ease for piece in pieces if isinstance(piece, core.Ramp)}
        plain = all(isinstance(piece, (core.Ramp, shapes.Constant)) for piece in pieces)
        whole = all(isinstance(start, int) for start in starts[: len(pieces)])
        steep = kinds - {"linear", "cosine", "1-sqrt", "rex"}  # near their end float32 needs what remains, not 1 - p
        if (
            not plain
            or len(kinds) > 1
            or kinds & {"geometric", "log"}
            or (self.language.single and (steep or not whole))
        ):
            return self._functions(pieces, starts, position, unit)
        return self._rows(pieces, starts[: len(pieces)], kinds.pop() if kinds else "linear", position, unit)

    def _functions(self, pieces: list[Schedule], starts: Any, position: Position, unit: float) -> list[str]:
        if not self.language.scalar:
            return self._chain(pieces, starts, position, unit)
        table, entries = self.fresh("PIECES"), []
        for piece in pieces:
            block, inner = Block(self), Position(Term("t"), position.whole)
            value = self.walk(piece, inner, block, unit)
            name = self._part("piece", piece, inner, unit).text[:-3] if block.lines else f"lambda t: {value.text}"
            entries.append(f"    {name},")
        joints = self.fresh("JOINTS")
        self.constant(joints, [f"{joints} = {list(starts[1 : len(pieces)])!r}", f"{table} = [", *entries, "]"])
        index = self.count(joints, position.term).text
        return [f"i = {index}", f"return {table}[i](t - ([0] + {joints})[i])"]

    def _rows(self, pieces: list[Any], starts: Any, kind: str, position: Position, unit: float) -> list[str]:
        rows = []
        for piece in pieces:
            held = isinstance(piece, shapes.Constant)
            d, e = (0, 0) if held else ENDS[piece.ends]
            m = 1 if held else piece.steps + e
            if held or m <= max(d, 0):
                end = piece.value if held else piece.end
                rows.append((end, end, 1, 0))
            else:
                rows.append((piece.start, piece.end, m, d))
        names = [self.fresh(name) for name in ("STARTS", "FROM", "TO", "STEPS", "SHIFT")]
        columns = [list(starts), *(list(column) for column in zip(*rows, strict=True))]
        columns[1:3] = [[tidy(x / unit) if unit != 1 else x for x in column] for column in columns[1:3]]
        shifted = any(columns[4])
        shown = list(zip(names, columns, strict=True))[: 5 if shifted else 4]
        self.constant("", [f"{name} = {column!r}" for name, column in shown])
        index = subtract(self.count(names[0], position.term), number(1))
        block = Block(self, [])
        i = block.let("i", index)
        start, low, high, size, shift = (self.lookup(name, i) for name in names)
        done = subtract(position.term, start)
        done = divide(add(done, shift) if shifted else done, size)
        p = self.call("min", done, number(1)) if self.language.scalar else self.call("clip", done, number(0), number(1))
        way = _Row(self, block.let("p", p))
        value = eases.value(kind, block.let("a", low), block.let("b", high), way)
        return [*block.lines, f"return {value.text}"]

    # -- nodes -----------------------------------------------------------------------------------------------

    def walk(self, schedule: Schedule, position: Position, block: Block, unit: float = 1.0) -> Term:
        """The value of the schedule at the position, divided by ``unit``."""
        return _NODES[type(schedule)](self, schedule, position, block, unit)

    def _inner(self, schedule: Schedule, position: Position, block: Block, unit: float = 1.0) -> Term:
        """The same, short enough to stand inside another expression."""
        return self._narrow(block, "value", self.walk(schedule, position, block, unit))

    def _level(self, x: float, unit: float) -> Term:
        return number(x if unit == 1 else tidy(x / unit))

    def _scaled(self, term: Term, unit: float) -> Term:
        return term if unit == 1 else divide(term, number(unit))

    def ramp(self, ramp: core.Ramp, position: Position, block: Block, unit: float) -> Term:
        start, end, way = self._level(ramp.start, unit), self._level(ramp.end, unit), _Way(self, ramp, position, block)
        if way.m <= max(way.d, 0) or ramp.start == ramp.end:
            return end
        return eases.value(ramp.ease, start, end, way)

    def constant_(self, given: shapes.Constant, position: Position, block: Block, unit: float) -> Term:
        return self._level(given.value, unit)

    def exponential(self, given: shapes.Exponential, position: Position, block: Block, unit: float) -> Term:
        start, every = self._level(given.start, unit), given.every
        if given.steps is not None:
            position = self._least(position, given.steps)  # type: ignore[arg-type]
        if self._exact(given.gamma):
            return multiply(start, self._grown(given.gamma, divide(position.term, number(every))))  # type: ignore[arg-type]
        rate = math.log(given.gamma) / every  # type: ignore[operator]
        if rate > 0 and given.steps is not None:
            top = start.value * math.exp(rate * given.steps)  # type: ignore[operator]
            left = position.before(given.steps)  # type: ignore[arg-type]
            return multiply(number(top), self.call("exp", multiply(number(-rate), left)))
        return multiply(start, self.call("exp", multiply(number(rate), position.term)))

    def _exact(self, gamma: float) -> bool:
        """Whether powers of ``gamma`` keep their digits in this language."""
        return not self.language.single or (unpack("f", pack("f", gamma))[0] == gamma and gamma <= 1)

    def _grown(self, gamma: float, exponent: Term) -> Term:
        return number(1.0) if gamma == 1 else power(number(gamma), exponent)

    def inverse_time(self, given: shapes.InverseTime, position: Position, block: Block, unit: float) -> Term:
        start = self._level(given.start, unit)
        if given.steps is not None:
            position = self._least(position, given.steps)  # type: ignore[arg-type]
        rate = given.decay / given.every  # type: ignore[operator]
        base = add(number(1), multiply(number(tidy(rate)), position.term))
        if given.power == 0.5:
            return divide(start, self.call("sqrt", base))
        if given.power < 0:
            return multiply(start, power(base, number(-given.power)))
        return divide(start, power(base, number(given.power)))

    def piecewise(self, given: shapes.Piecewise, position: Position, block: Block, unit: float) -> Term:
        levels = [self._level(level, unit) for level in given.levels]
        joints: list[Any] = [joint for joint in given.milestones if joint <= self.language.far]  # type: ignore[operator]
        if position.whole:
            joints = [math.ceil(joint) for joint in joints]
        if len(joints) < 4:
            position = position.named(block)
            value = levels[len(joints)]
            if not self.language.scalar and joints:
                value = self.call("full_like", *self._like(position, value))
            for joint, level in zip(reversed(joints), reversed(levels[: len(joints)]), strict=True):
                value = self.where(self._before(position, joint), level, value)
            return block.let("level", value) if joints else value
        milestones, values = self.fresh("MILESTONES"), self.fresh("VALUES")
        shown = [level.value for level in levels[: len(joints) + 1]]
        self.constant("", [f"{milestones} = {joints!r}", f"{values} = {shown!r}"])
        return self.lookup(values, self.count(milestones, position.term))

    def formula(self, given: formula.Formula, position: Position, block: Block, unit: float) -> Term:
        if given.steps is not None:
            position = self._least(position, given.steps)  # type: ignore[arg-type]
        t = position.term if self.language.prefix != "jnp." else multiply(Term("1.0"), position.term)
        value = _Arithmetic(self, block.let("x", t)).term(ast.parse(given.text, mode="eval").body)
        return self._scaled(value, unit)

    def custom(self, given: shapes.Custom, position: Position, block: Block, unit: float) -> Term:
        module, _, name = names_of.function_name(given.function).partition(":")
        if module == "__main__" or not name.isidentifier():
            raise ScheduleError(
                f"export: {given!r:.80} calls a function that no other program can import. Put it at the top of a "
                "module of its own."
            )
        self.imports.add(f"from {module} import {name}")
        if given.steps is not None:
            position = self._least(position, given.steps)  # type: ignore[arg-type]
        return self._scaled(Term(f"{name}({position.term.text})"), unit)

    def sequence(self, given: core.Sequence, position: Position, block: Block, unit: float) -> Term:
        if len(given.pieces) == 1:
            return self.walk(given.pieces[0], position, block, unit)
        return self._part("part", given, position, unit)

    def product(self, given: core.Product, position: Position, block: Block, unit: float) -> Term:
        position = position.named(block)
        first, *rest = given.operands
        result = self._operand(first, position, block, unit)
        for operand in rest:
            result = multiply(result, self._operand(operand, position, block, 1.0))
        return result

    def sum(self, given: core.Sum, position: Position, block: Block, unit: float) -> Term:
        position = position.named(block)
        result = number(0)
        for operand in given.operands:
            result = add(result, self._operand(operand, position, block, unit))
        return result

    def _operand(self, operand: Any, position: Position, block: Block, unit: float) -> Term:
        if isinstance(operand, Schedule):
            return self._inner(operand, position, block, unit)
        return self._level(operand, unit)

    def clip(self, given: core.Clip, position: Position, block: Block, unit: float) -> Term:
        value = self._inner(given.base, position, block, unit)
        if given.low is not None:
            value = self.call("max", value, self._level(given.low, unit))
        return value if given.high is None else self.call("min", value, self._level(given.high, unit))

    def _told_apart(self, where: str, length: Any) -> None:
        """Refuse joints between updates that float32 may put at another update."""
        if self.language.single and (length * 1024) % 1:
            raise ScheduleError(
                f"export: {where}({length!r}) has joints between updates that float32 cannot tell from whole ones. "
                "Use whole updates, or export to torch or python."
            )

    def stairs(self, given: core.Stairs, position: Position, block: Block, unit: float) -> Term:
        base, every = given.base, given.every
        self._told_apart("stairs", every)
        if base.steps is not None:
            position = self._least(position, base.steps)
        stair = whole_parts(position.term, number(every))  # type: ignore[arg-type]
        if isinstance(base, shapes.Exponential) and base.every == every and isinstance(every, int):
            once = replace(base, every=1, steps=None) if base.gamma <= 1 else None
            if once is not None:
                return self.walk(once, Position(stair, position.whole), block, unit)
        whole = position.whole and isinstance(every, int)
        held = Position(multiply(stair, number(every)), whole, position.limit)  # type: ignore[arg-type]
        return self.walk(base, held, block, unit)

    def stretch(self, given: core.Stretch, position: Position, block: Block, unit: float) -> Term:
        limit = None if position.limit is None else position.limit / given.factor
        quick = 1 / given.factor
        if quick == int(quick):
            inner = Position(multiply(number(int(quick)), position.term), position.whole, limit)
        else:
            up, down = (1.0, given.factor) if self.language.single else given.written
            inner = Position(
                divide(multiply(position.term, number(rounding.tidy(up))), number(rounding.tidy(down))), False, limit
            )
        return self.walk(given.base, inner, block, unit)

    def until(self, given: core.Until, position: Position, block: Block, unit: float) -> Term:
        return self.walk(given.base, self._least(position, given.steps), block, unit)  # type: ignore[arg-type]

    def after(self, given: core.After, position: Position, block: Block, unit: float) -> Term:
        limit = None if position.limit is None else position.limit + given.skip  # type: ignore[operator]
        whole = position.whole and isinstance(given.skip, int)
        later = Position(position.plus(given.skip), whole, limit)  # type: ignore[arg-type]
        return self.walk(given.base, later, block, unit)

    def along(self, given: core.Along, position: Position, block: Block, unit: float) -> Term:
        clock = self.call("max", self._inner(given.clock, position, block), number(0.0))
        if clock.value is not None:
            return self._level(given.base(clock.value), unit)
        return self.walk(given.base, Position(block.let("x", clock), False), block, unit)

    def repeat(self, given: core.Repeat, position: Position, block: Block, unit: float) -> Term:
        cycles = given._cycles
        position = position.named(block)
        t = position.term
        if cycles.scales:
            cycle, local = self._stretched(given, position, block)
        else:
            self._told_apart("repeat", cycles.size)
            size = number(cycles.size)
            whole = position.whole and isinstance(cycles.size, int)
            if given.times is None and given.gamma == 1 and whole:
                return self.walk(given.base, Position(remainder(t, size), True, cycles.size), block, unit)
            up, down = (cycles.size, 1) if self.language.single or not cycles.written else cycles.written
            cycle = whole_parts(multiply(t, number(down)), number(up))
            if given.times is not None:
                cycle = self.call("min", cycle, number(given.times - 1))
            cycle = block.let("cycle", cycle)
            local = Position(subtract(t, multiply(cycle, size)), whole, cycles.size if given.times is None else None)
        local = replace(local, term=block.let("s", local.term))
        if given.gamma == 1:
            return self.walk(given.base, local, block, unit)
        return multiply(self._height(given, cycle), self._inner(given.base, local, block, unit))

    def _height(self, given: core.Repeat, cycle: Term) -> Term:
        if self._exact(given.gamma):
            return self._grown(given.gamma, cycle)
        rate = math.log(given.gamma)
        if rate > 0 and given.times is not None:
            top, left = given.gamma ** (given.times - 1), subtract(number(given.times - 1), cycle)
            return multiply(number(top), self.call("exp", multiply(number(-rate), left)))
        return self.call("exp", multiply(number(rate), cycle))

    def _stretched(self, given: core.Repeat, position: Position, block: Block) -> tuple[Term, Position]:
        """Cycles of different lengths: where they start is computed once, when the code is loaded."""
        size, ratio = Fraction(given._cycles.size), Fraction(str(given.factor))
        starts, paces, joints = (self.fresh(name) for name in ("STARTS", "PACES", "JOINTS"))
        first = int(size) if size == int(size) else float(size)
        far = "2**31" if self.language.far < 2**31 else "2**53"
        made = self.call("restarts", *map(Term, map(str, (first, *ratio.as_integer_ratio(), given.times, far))))
        lines = [f"{starts}, {paces} = {made.text}"]
        if position.whole:
            lines.append(f"{joints} = [math.ceil(start) for start in {starts}[1:]]")
        else:
            lines.append(f"{joints} = {starts}[1:]")
        between = any(isinstance(start, float) for start in given._cycles.joints)
        if between and self.language.single:  # whole updates first, which are exact
            rests = self.fresh("RESTS")
            lines.append(f"{rests} = [start - math.floor(start) for start in {starts}]")
            lines.append(f"{starts} = [math.floor(start) for start in {starts}]")
        if self.language.far < 2**31:  # the last one is out of reach, and does not fit
            lines.append(f"{joints} = [joint for joint in {joints} if joint < 2**31]")
            lines.append(f"{starts} = {starts}[: len({joints}) + 1]")
        self.constant("", lines)
        cycle = block.let("cycle", self.count(joints, position.term))
        local = subtract(position.term, self.lookup(starts, cycle))
        if between and self.language.single:
            local = subtract(local, self.lookup(rests, cycle))
        return cycle, Position(divide(local, self.lookup(paces, cycle)), False)


@dataclass
class _Row:
    """A ramp out of a table: see ``eases.Way``."""

    writer: Writer
    done: Term
    m: float = 1.0

    def call(self, function: str, *terms: Term) -> Term:
        return self.writer.call(function, *terms)

    def p(self, named: bool = False) -> Term:
        return self.done

    def r(self, named: bool = False) -> Term:
        return subtract(number(1), self.done)


@dataclass
class _Arithmetic:
    """A ``Formula`` in another language."""

    writer: Writer
    t: Term

    def term(self, node: Any) -> Term:
        if isinstance(node, ast.Constant):
            return number(float(node.value))  # type: ignore[arg-type]
        if isinstance(node, ast.Name):
            return self.t if node.id == "t" else Term("math.pi", value=math.pi)
        if isinstance(node, ast.UnaryOp):
            return multiply(number(-1.0), self.term(node.operand))
        if isinstance(node, ast.BinOp):
            return _BINARY[type(node.op)](self.term(node.left), self.term(node.right))
        name, args = node.func.id, node.args
        if name == "where":
            left, right = self.term(args[0].left), self.term(args[0].comparators[0])
            condition = compared(left, _COMPARISONS[type(args[0].ops[0])], right)
            return self.writer.where(condition, *map(self.term, args[1:]))
        terms = [self.term(arg) for arg in args]
        if name == "ceil":
            return multiply(number(-1.0), self.writer.call("floor", multiply(number(-1.0), terms[0])))
        if len(terms) == 1:
            return self.writer.call(name, *terms)
        result = terms[0]
        for term in terms[1:]:
            result = self.writer.call(name, result, term)
        return result


def _plain(operator: Callable[[Term, Term], Term], fold: Callable[[float, float], float]) -> Any:
    return lambda a, b: operator(a, b) if a.value is None or b.value is None else number(float(fold(a.value, b.value)))


_BINARY: dict[type, Callable[[Term, Term], Term]] = {
    ast.Add: add,
    ast.Sub: subtract,
    ast.Mult: multiply,
    ast.Div: divide,
    ast.FloorDiv: _plain(whole_parts, lambda x, y: x // y),
    ast.Mod: _plain(remainder, lambda x, y: x % y),
    ast.Pow: power,
}
_COMPARISONS: dict[type, str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}

_NODES: dict[type, Callable[..., Term]] = {
    core.Ramp: Writer.ramp,
    core.Sequence: Writer.sequence,
    core.Product: Writer.product,
    core.Sum: Writer.sum,
    core.Clip: Writer.clip,
    core.Stairs: Writer.stairs,
    core.Stretch: Writer.stretch,
    core.Until: Writer.until,
    core.After: Writer.after,
    core.Along: Writer.along,
    core.Repeat: Writer.repeat,
    shapes.Constant: Writer.constant_,
    shapes.Exponential: Writer.exponential,
    shapes.InverseTime: Writer.inverse_time,
    shapes.Piecewise: Writer.piecewise,
    shapes.Custom: Writer.custom,
    formula.Formula: Writer.formula,
}
