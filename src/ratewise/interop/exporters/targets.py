"""What differs between the languages that code is written in: names of functions, and how much a number holds."""

from dataclasses import dataclass

from ratewise.core.checks import FAR


@dataclass(frozen=True)
class Language:
    """One way of writing formulas.

    Args:
        prefix: What stands before the name of a function.
        scalar: Plain numbers, with ``if``; otherwise arrays, where both branches are evaluated.
        single: Whether it may compute in float32, so that formulas must not lose digits.
        far: The largest position.
        names: Functions that are called otherwise than in ``math``.
        helpers: Source of small functions that the code brings along where it needs them.
    """

    prefix: str
    scalar: bool
    single: bool
    far: int
    names: dict[str, str]
    helpers: dict[str, str]

    def name(self, function: str) -> str:
        """How a function is called here."""
        return function if function in self.helpers else self.names.get(function, self.prefix + function)


_RESTARTS = '''def restarts(first, up, down, times, far):
    """Where cycles start, each up/down times as long as the one before, and how long they are beside the first."""
    one = 2**256  # parts of an update, so that nothing is lost
    starts, paces, start, span = [0], [1.0], 0, int(first * one)
    while len(starts) != times and starts[-1] < far:
        start, span = start + span, span * up // down
        starts.append(start // one if start % one == 0 else start / one)
        paces.append(span / int(first * one))
    return [int(x) if x == int(x) else x for x in starts], paces'''

PYTHON = Language(
    prefix="math.",
    scalar=True,
    single=False,
    far=FAR,
    names={"min": "min", "max": "max", "abs": "abs", "reached": "bisect_right"},
    helpers={
        "restarts": _RESTARTS,
        "log": "def log(x):\n    return math.log(x) if x > 0 else -math.inf",
    },
)

JAX = Language(
    prefix="jnp.",
    scalar=False,
    single=True,
    far=2**31 - 1,
    names={"min": "jnp.minimum", "max": "jnp.maximum"},
    helpers={
        "restarts": _RESTARTS,
        "reached": (
            "def reached(joints, t):\n"
            '    """How many of the joints lie at or before t."""\n'
            '    return jnp.searchsorted(jnp.array(joints), t, side="right")'
        ),
        "lookup": "def lookup(values, i):\n    return jnp.array(values)[i]",
    },
)

_KERAS_LOOKUP = """def lookup(values, i):
    return ops.take(ops.convert_to_tensor(values, REAL), ops.cast(i, "int32"))"""

KERAS = Language(
    prefix="ops.",
    scalar=False,
    single=True,
    far=FAR,
    names={"min": "ops.minimum", "max": "ops.maximum"},
    helpers={
        "restarts": _RESTARTS,
        "reached": (
            "def reached(joints, t):\n"
            '    """How many of the joints lie at or before t."""\n'
            "    behind = ops.expand_dims(t, -1) >= ops.convert_to_tensor(joints, REAL)\n"
            "    return ops.sum(ops.cast(behind, REAL), axis=-1)"
        ),
        "lookup": _KERAS_LOOKUP,
    },
)
