"""Ratewise: define a learning-rate strategy once, use it natively in every framework, compare it honestly.

``import ratewise`` loads the standard library alone. The adapters are ``ratewise.torch`` and ``ratewise.keras``;
strategies and comparison are ``ratewise.lab`` (``Strategy``, ``strategy``, ``Task`` and ``compare`` are also
reachable from here, as are ``export``, ``load`` and ``dump`` of ``ratewise.interop``).
"""

from typing import TYPE_CHECKING, Any

from ratewise.core.change import extend as extend
from ratewise.core.formula import Formula as Formula
from ratewise.core.horizon import (
    Horizon as Horizon,
    Length as Length,
    epochs as epochs,
    fraction as fraction,
    samples as samples,
    tokens as tokens,
)
from ratewise.core.parse import from_dict as from_dict, parse as parse
from ratewise.core.recipes import (
    cosine as cosine,
    cyclical as cyclical,
    exponential_decay as exponential_decay,
    fixed as fixed,
    flat_cosine as flat_cosine,
    inverse_sqrt as inverse_sqrt,
    linear_decay as linear_decay,
    multi_step as multi_step,
    noam as noam,
    one_cycle as one_cycle,
    one_cycle_momentum as one_cycle_momentum,
    polynomial_decay as polynomial_decay,
    power_decay as power_decay,
    range_test as range_test,
    rex as rex,
    sgdr as sgdr,
    slanted_triangular as slanted_triangular,
    step_decay as step_decay,
    time_based as time_based,
    trapezoidal as trapezoidal,
    tri_stage as tri_stage,
    warmup_cosine as warmup_cosine,
    wsd as wsd,
    wsd_s as wsd_s,
)
from ratewise.core.ruled import Ruled as Ruled
from ratewise.core.rules import Greedy as Greedy, NewBob as NewBob, Plateau as Plateau
from ratewise.core.schedule import Ramp as Ramp, Schedule as Schedule, sequence as sequence
from ratewise.core.shapes import (
    Constant as Constant,
    Cosine as Cosine,
    Custom as Custom,
    Exponential as Exponential,
    InverseTime as InverseTime,
    Linear as Linear,
    Piecewise as Piecewise,
    Polynomial as Polynomial,
    register as register,
)
from ratewise.errors import ScheduleError as ScheduleError

if TYPE_CHECKING:
    from ratewise.interop.exporters import export as export
    from ratewise.interop.files import dump as dump, load as load
    from ratewise.lab.catalogue import strategy as strategy
    from ratewise.lab.compare import compare as compare
    from ratewise.lab.plan import Budget as Budget
    from ratewise.lab.strategy import Strategy as Strategy
    from ratewise.lab.task import Task as Task

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "Constant",
    "Cosine",
    "Custom",
    "Exponential",
    "Formula",
    "Greedy",
    "Horizon",
    "InverseTime",
    "Length",
    "Linear",
    "NewBob",
    "Piecewise",
    "Plateau",
    "Polynomial",
    "Ramp",
    "Ruled",
    "Schedule",
    "ScheduleError",
    "Strategy",
    "Task",
    "compare",
    "cosine",
    "cyclical",
    "dump",
    "epochs",
    "exponential_decay",
    "export",
    "extend",
    "fixed",
    "flat_cosine",
    "fraction",
    "from_dict",
    "inverse_sqrt",
    "linear_decay",
    "load",
    "multi_step",
    "noam",
    "one_cycle",
    "one_cycle_momentum",
    "parse",
    "polynomial_decay",
    "power_decay",
    "range_test",
    "register",
    "rex",
    "samples",
    "sequence",
    "sgdr",
    "slanted_triangular",
    "step_decay",
    "strategy",
    "time_based",
    "tokens",
    "trapezoidal",
    "tri_stage",
    "warmup_cosine",
    "wsd",
    "wsd_s",
]

_LATER = {
    "Strategy": "ratewise.lab.strategy",
    "strategy": "ratewise.lab.catalogue",
    "Task": "ratewise.lab.task",
    "compare": "ratewise.lab.compare",
    "Budget": "ratewise.lab.plan",
    "export": "ratewise.interop.exporters",
    "load": "ratewise.interop.files",
    "dump": "ratewise.interop.files",
}


def __getattr__(name: str) -> Any:
    """Load the lab, and what reads and writes other formats, when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module 'ratewise' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
