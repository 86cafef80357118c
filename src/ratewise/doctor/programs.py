"""Programs, read as text: which schedulers they build, and where they step them. Nothing is executed.

A reader walks through the program as Python would, once, and remembers what the names stand for as far as that is
plain to see: numbers, lists, optimizers and schedulers. What depends on anything else is ``Unseen``.
"""

import ast
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import add, floordiv, mod, mul, sub, truediv
from typing import Any

from ratewise.doctor import configs
from ratewise.doctor.setting import Setting, Unseen, meant, named, signature
from ratewise.errors import ScheduleError

MOST = 1_000
"""Events that are looked at: what they say is found by comparing each with each."""

_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: add, ast.Sub: sub, ast.Mult: mul, ast.Div: truediv, ast.FloorDiv: floordiv, ast.Mod: mod,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "round": round,
    "min": min,
    "max": max,
    "len": len,
    "abs": abs,
}
_FUNCTIONS |= {"math.ceil": math.ceil, "math.floor": math.floor}


@dataclass(eq=False)
class Loop:
    """A loop: how often it runs, and how that is written."""

    count: int | None
    text: str
    ends_early: bool = False


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happens to a scheduler or optimizer: ``build``, ``step``, ``load``, ``replace`` or ``fit``.

    Args:
        kind: What happens.
        thing: The setting it happens to, or how that is written.
        text: How it is written.
        line: Where.
        loops: The loops around it, within its function.
        since: Those of them that the thing was built before.
        maybe: Whether it stands in a branch.
        function: The function it stands in.
        all: Whether the thing was built in that function, so that nothing is seen of it elsewhere.
        arguments: What it is called with.
    """

    kind: str
    thing: Any
    text: str
    line: int
    loops: tuple[Loop, ...]
    since: tuple[Loop, ...]
    maybe: bool
    function: int
    all: bool
    arguments: tuple[Any, ...] = ()


@dataclass
class Program:
    """What was found: settings in the order in which they are built, and events in the order of the text."""

    settings: list[Setting] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    used: set[str] = field(default_factory=set)


def read(text: str, file: str) -> Program:
    """Read a program.

    Raises:
        ScheduleError: It is not Python.
    """
    try:
        tree = ast.parse(text)
        reader = _Reader(file)
        reader.block(tree.body)
        for function, names in reader.later:
            reader.function(function, names)
    except SyntaxError as error:
        raise ScheduleError(f"doctor: {file}:{error.lineno} is not Python ({error.msg}).") from None
    except (ValueError, RecursionError, MemoryError):
        raise ScheduleError(f"doctor: {file} cannot be read as Python: it is nested too deeply or not text.") from None
    loads = (n for n in ast.walk(tree) if isinstance(n, (ast.Name, ast.Attribute)) and isinstance(n.ctx, ast.Load))
    reader.program.used = {ast.unparse(name) for name in loads}
    return reader.program


class _Reader(ast.NodeVisitor):
    def __init__(self, file: str) -> None:
        self.file = file
        self.program = Program()
        self.paths: dict[str, str] = {}  # names that are imported, with their full paths
        self.stars: list[str] = []
        self.names: dict[str, Any] = {}
        self.later: list[tuple[ast.FunctionDef | ast.AsyncFunctionDef, dict[str, Any]]] = []
        self.loops: tuple[Loop, ...] = ()
        self.maybe = False
        self.scope = 0
        self.built: dict[int, tuple[int, tuple[Loop, ...]]] = {}  # where each setting was built

    # -- statements --------------------------------------------------------------------------------------------------

    def block(self, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            self.visit(statement)

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            root = name.name.partition(".")[0]
            self.paths[name.asname or root] = name.name if name.asname else root

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for name in node.names:
            self.paths[name.asname or name.name] = f"{node.module}.{name.name}"
        self.stars += [str(node.module)] * (node.names[0].name == "*")

    def visit_Assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        self.configured(value, node)
        self.assign(node.targets, value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.assign([node.target], self.value(node.value))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        _ = self.value(node.value)
        self.forget([node.target])

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.names[node.name] = node
        self.later.append((node, self.names))

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_If(self, node: ast.If) -> None:
        _ = self.value(node.test)
        if ast.unparse(node.test) == "__name__ == '__main__'":
            self.block(node.body)
        else:
            self.branches(node.body, node.orelse)

    def visit_Try(self, node: ast.Try) -> None:
        self.block(node.body)
        self.branches([], *(handler.body for handler in node.handlers), node.orelse)
        self.block(node.finalbody)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            _ = self.value(item.context_expr)
        self.block(node.body)

    visit_AsyncWith = visit_With  # noqa: N815

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        _ = self.value(node.iter)
        self.forget([node.target])
        self.loop(self.counted(node.iter), node)

    visit_AsyncFor = visit_For  # noqa: N815

    def visit_While(self, node: ast.While) -> None:
        _ = self.value(node.test)
        self.loop(Loop(None, ast.unparse(node.test)), node)

    def visit_Return(self, node: ast.Return | ast.Break) -> None:
        if self.loops:
            self.loops[-1].ends_early = True
        self.generic_visit(node)

    visit_Break = visit_Return  # noqa: N815

    def generic_visit(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                _ = self.value(child)

    def assign(self, targets: list[ast.expr], value: Any) -> None:
        for target in targets:
            if isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, list) and len(value) == len(target.elts):
                for part, item in zip(target.elts, value, strict=True):
                    self.assign([part], item)
            elif isinstance(target, (ast.Name, ast.Attribute)):
                name = ast.unparse(target)
                before = self.names.get(name)
                if isinstance(before, Setting) and isinstance(value, Setting) and before is not value:
                    self.note("replace", before, target)
                self.names[name] = value
                if isinstance(value, Setting):
                    value.arguments.setdefault("variable", name)
            else:
                self.forget([target])

    def forget(self, targets: Iterable[ast.AST]) -> None:
        """From here on these names stand for something unknown."""
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, (ast.Name, ast.Attribute)):
                    self.names[ast.unparse(node)] = Unseen(ast.unparse(node))

    def branches(self, *blocks: list[ast.stmt]) -> None:
        """Either of several blocks happens: what they leave differently is unknown."""
        before, maybe, ends = self.names, self.maybe, []
        self.maybe = True
        for block in blocks:
            self.names = dict(before)
            self.block(block)
            ends.append(self.names)
        self.maybe = maybe
        first, *others = ends
        for name in {name for end in ends for name in end}:
            value = first.get(name, Unseen(name))
            before[name] = value if all(_same(value, end.get(name, Unseen(name))) for end in others) else Unseen(name)
        self.names = before

    def loop(self, loop: Loop, node: ast.For | ast.AsyncFor | ast.While) -> None:
        for part in (inner for child in node.body for inner in ast.walk(child)):
            if isinstance(part, ast.AugAssign):
                self.forget([part.target])
            elif isinstance(part, ast.Assign) and any(isinstance(x, ast.Name) for x in part.targets):
                self.forget(part.targets if ast.unparse(part.targets[0]) in ast.unparse(part.value) else [])
        before, self.loops = self.loops, (*self.loops, loop)
        self.block(node.body)
        self.loops = before
        self.block(node.orelse)

    def counted(self, iterated: ast.expr) -> Loop:
        """A loop over ``range(n)``, also inside tqdm(...) and the like, or over a list."""
        match iterated:
            case ast.Call(func=ast.Name("range" | "trange"), args=[stop]):
                n = self.value(stop)
                return Loop(n if type(n) is int else None, _text(n, stop))
            case ast.Call(func=ast.Name("range"), args=[start, stop]):
                first, n = self.value(start), self.value(stop)
                return Loop(n - first if type(n) is type(first) is int else None, _text(n, stop) if first == 0 else "")
            case ast.Call(args=[inner, *_]) if isinstance(inner, ast.Call):
                return self.counted(inner)
        items = self.value(iterated)
        return Loop(len(items) if isinstance(items, list) else None, ast.unparse(iterated))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Methods share what is written to ``self``."""
        outside, self.names = self.names, dict(self.names)
        self.block(part for part in node.body if not isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)))
        shared = self.names
        for method in node.body:
            if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.function(method, shared)
                shared.update({name: value for name, value in self.names.items() if "." in name})
        self.names = outside

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, names: dict[str, Any]) -> None:
        """Read the body of a function that is called with who knows what."""
        saved = self.loops, self.maybe, self.scope, self.later
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        self.names = {**names, **{argument.arg: Unseen(argument.arg) for argument in arguments}}
        self.loops, self.maybe, self.scope, self.later = (), False, node.lineno, []
        self.block(node.body)
        inner, left = self.later, self.names
        for function, outer in inner:
            self.function(function, outer)
        self.names = left
        self.loops, self.maybe, self.scope, self.later = saved

    # -- expressions -------------------------------------------------------------------------------------------------

    def value(self, node: ast.expr) -> Any:
        """What an expression stands for."""
        match node:
            case ast.Constant():
                return node.value
            case ast.List() | ast.Tuple() if not any(isinstance(item, ast.Starred) for item in node.elts):
                return [self.value(item) for item in node.elts]
            case ast.Dict() if None not in node.keys:
                return {str(self.value(k)): self.value(v) for k, v in zip(node.keys, node.values, strict=True) if k}
            case ast.UnaryOp(op=ast.USub()):
                inner = self.value(node.operand)
                return -inner if isinstance(inner, (int, float)) else Unseen(ast.unparse(node))
            case ast.BinOp():
                return self.operation(node)
            case ast.Call():
                return self.call(node)
            case ast.Name() | ast.Attribute():
                return self.name(node)
            case ast.Lambda():
                return node
            case _:
                self.generic_visit(node)
                return Unseen(ast.unparse(node))

    def name(self, node: ast.Name | ast.Attribute) -> Any:
        text = ast.unparse(node)
        if text in self.names:
            return self.names[text]
        if "SchedulerType." in text:  # an enumeration of transformers
            return text.rpartition(".")[2].lower()
        if isinstance(node, ast.Attribute):
            self.generic_visit(node)
        return Unseen(text)

    def operation(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        numbers = all(isinstance(x, (int, float)) and abs(x) < 1e18 for x in (left, right))
        try:
            if numbers and type(node.op) in _ARITHMETIC:
                return _ARITHMETIC[type(node.op)](left, right)
            if numbers and isinstance(node.op, ast.Pow) and abs(right) <= 64:
                return float(left) ** right if isinstance(left, float) or right < 0 or abs(left) > 99 else left**right
        except (ArithmeticError, TypeError):
            pass
        return Unseen(ast.unparse(node))

    def call(self, node: ast.Call) -> Any:
        """A scheduler or optimizer that is built, stepped or loaded; or a function of numbers."""
        args = [Unseen("*") if isinstance(a, ast.Starred) else self.value(a) for a in node.args]
        given = {k.arg or "**": self.value(k.value) for k in node.keywords}
        path = self.path(node.func) or ""
        name = named(path) or next((found for star in self.stars if (found := named(f"{star}.{path}"))), None)
        if name:
            return self.build(name, args, given, node)
        if path == "dict" and not args and "**" not in given:
            return given
        if path in _FUNCTIONS and not given:
            return self.computed(path, args, node)
        for value in (*args, *given.values()):
            self.configured(value, node)
        if isinstance(node.func, ast.Attribute):
            self.method(node.func, [*args, *given.values()], node)
        elif not isinstance(node.func, ast.Name):
            _ = self.value(node.func)
        return Unseen(ast.unparse(node))

    def configured(self, value: Any, node: ast.stmt | ast.expr) -> None:
        """A dictionary that is written out may be a configuration."""
        if isinstance(value, (dict, list)):
            self.program.settings += configs.settings(value, self.at(node))

    def computed(self, path: str, args: list[Any], node: ast.Call) -> Any:
        try:
            return _FUNCTIONS[path](*args)
        except (TypeError, ValueError, ArithmeticError):
            return Unseen(ast.unparse(node))

    def method(self, function: ast.Attribute, args: list[Any], node: ast.Call) -> None:
        owner = self.value(function.value)
        if function.attr in ("step", "load_state_dict"):
            self.note(function.attr.partition("_")[0], owner, node, ast.unparse(function.value), tuple(args))
            if args and function.attr == "step" and "optimizer" not in getattr(owner, "arguments", ()):
                self.note("step", args[0], node)  # GradScaler.step(optimizer)
        elif function.attr == "fit":
            epochs = [self.value(k.value) for k in node.keywords if k.arg == "epochs"]
            self.note("fit", epochs[0] if epochs else None, node)
        elif function.attr == "prepare" and any(path.startswith("accelerate") for path in self.paths.values()):
            for setting in args:
                if isinstance(setting, Setting) and "optimizer" in setting.arguments:
                    self.program.settings.append(Setting("accelerate.AcceleratedScheduler", {}, self.at(node)))

    def build(self, name: str, args: list[Any], given: dict[str, Any], node: ast.Call) -> Setting:
        known = signature(name)
        if any(value == Unseen("*") for value in args) or "**" in given:
            known = dict.fromkeys(known, Unseen())
        args = args[: next((i for i, value in enumerate(args) if value == Unseen("*")), len(args))]
        arguments = {**known, **dict(zip(known, args, strict=False)), **given}
        setting = Setting(name, arguments, self.at(node))
        if name.partition(".")[0] in ("hf", "timm", "torch"):
            setting = meant(setting)
        if name.startswith("keras.") and isinstance(arguments.get("schedule"), ast.FunctionDef | ast.Lambda):
            arguments["optional_rate"] = _optional_second(arguments["schedule"].args)
        self.program.settings.append(setting)
        self.built[id(setting)] = self.scope, self.loops
        self.note("build", setting, node)
        return setting

    def note(
        self, kind: str, thing: Any, node: ast.expr, text: str = "", arguments: tuple[Any, ...] = ()
    ) -> None:  # fmt: skip
        scope, loops = self.built.get(id(thing), (None, ()))
        same = scope == self.scope and self.loops[: len(loops)] == loops
        since = self.loops[len(loops) :] if same else self.loops
        event = Event(kind, thing, text, node.lineno, self.loops, since, self.maybe, self.scope, same, arguments)
        if len(self.program.events) < MOST:
            self.program.events.append(event)

    def path(self, node: ast.expr) -> str | None:
        """The full path of what is called, as far as the imports say it."""
        if isinstance(node, ast.Name):
            return None if node.id in self.names else self.paths.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            owner = self.path(node.value)
            return owner and f"{owner}.{node.attr}"
        return None

    def at(self, node: ast.stmt | ast.expr) -> str:
        return f"{self.file}:{node.lineno}"


def _same(a: Any, b: Any) -> bool:
    """Whether two values are surely the same."""
    if a is b:
        return True
    plain = (int, float, str, bool, type(None), list, Unseen)
    return isinstance(a, plain) and type(a) is type(b) and bool(a == b)


def _text(value: Any, node: ast.expr) -> str:
    return repr(value) if isinstance(value, (int, Unseen)) else ast.unparse(node)


def _optional_second(arguments: ast.arguments) -> bool:
    return len(arguments.args) == 2 and len(arguments.defaults) == 1
