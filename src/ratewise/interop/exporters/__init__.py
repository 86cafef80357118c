"""Exporters: a schedule as code of a framework, or as text, for a person to paste.

Code stands alone: it imports its framework and nothing of ours. Where the framework has a schedule with the same
curve, also past its end, that is what is written; else one small function, read off the tree. The formulas are the
ones in the books: right to rounding relative to the peak of each shape, where ours are right in every value.
"""

import ast
import json
from typing import Any

from ratewise.core import checks
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Schedule
from ratewise.errors import ScheduleError
from ratewise.interop import files
from ratewise.interop.exporters import hf_code, keras_code, optax_code, rules_code, torch_code

_FRAMEWORKS = {
    "torch": torch_code.write,
    "keras": keras_code.write,
    "optax": optax_code.write,
    "hf": hf_code.write,
}


def export(schedule: Schedule | Ruled, to: str) -> str:
    """Return the schedule as text to paste.

    ``"torch"`` and ``"hf"`` make ``scheduler`` for a ``model`` (the optimizer's rate is the base that it multiplies),
    ``"keras"`` makes ``learning_rate`` and ``"optax"`` makes ``schedule``, all by code that needs no Ratewise.
    ``"yaml"`` and ``"json"`` are read back by ``ratewise.load``, ``"python"`` is what was written with Ratewise.

    Args:
        schedule: What to write. For a framework its lengths must be known; rules must be ones that it has itself.
        to: ``"torch"``, ``"keras"``, ``"optax"``, ``"hf"``, ``"yaml"``, ``"json"`` or ``"python"``.

    Raises:
        ScheduleError: A length is not known, the framework has no such rule, or ``to`` is unknown.

    Example:
        >>> from ratewise import Cosine, step_decay
        >>> print(export(step_decay(0.1, gamma=0.5, every=30), to="torch"))
        import torch
        from torch.optim.lr_scheduler import StepLR
        <BLANKLINE>
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # or another one, with this lr
        scheduler = StepLR(optimizer, step_size=30, gamma=0.5)
        # after every optimizer.step(): scheduler.step()
        >>> print(export(Cosine(0.1, 0.0, 1000).warmup(50), to="optax"))
        import optax
        <BLANKLINE>
        schedule = optax.join_schedules(
            [
                optax.linear_schedule(0.002, 0.1, transition_steps=49),
                optax.cosine_decay_schedule(0.1, decay_steps=1000),
            ],
            boundaries=[50],
        )
        optimizer = optax.sgd(schedule)
    """
    checks.choice("export", "to", to, (*_FRAMEWORKS, *_TEXTS))
    if not isinstance(schedule, (Schedule, Ruled)):
        raise ScheduleError(f"export: needs a schedule, got {checks.shown(schedule)}.")
    if to in _TEXTS:
        return _TEXTS[to](schedule).rstrip("\n")
    return _framework(schedule, to).rstrip("\n")


def _framework(schedule: Any, to: str) -> str:
    plain = schedule.schedule if isinstance(schedule, Ruled) else schedule
    missing = list(plain._missing())
    if missing:
        raise ScheduleError(
            f"export: {plain!r:.80}: its length is not known yet ({'; '.join(missing[:3])}), and {to} needs it. "
            "Give the length of the run, for example export(schedule.over(1000), ...)."
        )
    return rules_code.write(schedule, to) if isinstance(schedule, Ruled) else _FRAMEWORKS[to](schedule)


def _json(schedule: Schedule | Ruled) -> str:
    return json.dumps(schedule.to_dict(), indent=2, allow_nan=False)


def _python(schedule: Schedule | Ruled) -> str:
    text = repr(schedule)
    tree = ast.walk(ast.parse(text))
    names = sorted({node.id for node in tree if isinstance(node, ast.Name)}, key=lambda name: (name.islower(), name))
    return f"from ratewise import {', '.join(names)}\n\nschedule = {text}"


_TEXTS = {"yaml": files.written, "json": _json, "python": _python}
