"""A strategy: an optimizer and schedules for its hyperparameters. The thing that people compare.

A strategy is a frozen value and knows no framework; ``torch`` and ``keras`` hand it to that framework's adapter.
"""

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from ratewise.core.horizon import Horizon
from ratewise.core.parse import FUNCTIONS, from_dict
from ratewise.core.ruled import Ruled, ruled_like, unruled
from ratewise.core.schedule import Clip, Product, Ramp, Schedule, Sequence, Sum
from ratewise.core.shapes import Constant, Exponential, InverseTime, Piecewise
from ratewise.errors import ScheduleError

if TYPE_CHECKING:
    import keras
    import torch

    from ratewise.optax import Injected

Setting: TypeAlias = float | Schedule


@dataclass(frozen=True)
class Card:
    """What a person should know about a strategy before using it."""

    what: str
    formula: str
    pros: tuple[str, ...]
    cons: tuple[str, ...]
    use_case: str
    defaults: str
    paper: str


@dataclass(frozen=True)
class Strategy:
    """An optimizer with a learning-rate schedule, and perhaps schedules for other hyperparameters.

    Args:
        name: What it is called in tables.
        optimizer: ``"sgd"``, ``"adagrad"``, ``"rmsprop"``, ``"adam"`` or ``"adamw"``, what else the adapters know by
            name, or for PyTorch any other optimizer: its class, or ``"module:Class"``.
        lr: The absolute rate used by update t; open and typed lengths are settled by the run's horizon. With rules,
            ``schedule * Plateau(...)``, which see the validation loss each time it is measured.
        momentum: Momentum, or the first beta of the Adam family: a number or a schedule. None: the default of
            the framework's own class.
        weight_decay: Weight decay, a number or a schedule.
        settings: Further arguments of the optimizer's class, as pairs of a name and a plain value: None, a bool, a
            number, text, or a tuple of these.
        card: What a person should know about it.

    Raises:
        ScheduleError: The name cannot stand in a table, ``lr`` is no schedule, or a setting is no plain value.

    Example:
        >>> from ratewise import Cosine
        >>> mine = Strategy("mine", "sgd", Cosine(0.1, 0.0).warmup(50), momentum=0.9)
        >>> mine.peak(300)
        0.1
        >>> mine.with_peak(0.2, 300).lr
        Linear(0.0, 0.2, 50, ends="(]") >> Cosine(0.2, 0.0, 250)
    """

    name: str
    optimizer: str
    lr: Schedule | Ruled
    momentum: Setting | None = None
    weight_decay: Setting | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    card: Card | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in "=\n"):
            raise ScheduleError(f"Strategy: name must be a word without '=', got {self.name!r:.60}.")
        object.__setattr__(self, "settings", tuple((str(name), _frozen(value)) for name, value in self.settings))
        for name, value in self.settings:
            if not _plain(value):
                raise ScheduleError(
                    f"Strategy {self.name!r}: setting {name!r} must be None, a bool, a number, text, or a tuple of "
                    f"these, got {value!r:.60}."
                )
        if isinstance(self.optimizer, type):
            object.__setattr__(self, "optimizer", f"{self.optimizer.__module__}:{self.optimizer.__qualname__}")
        if not isinstance(self.lr, (Schedule, Ruled)):
            raise ScheduleError(
                f"Strategy {self.name!r}: lr must be a Schedule, got {self.lr!r:.60}. "
                "For a constant rate write Constant(0.1)."
            )

    def over(self, horizon: Horizon | int) -> "Strategy":
        """Settle the length of every schedule for a run."""
        schedules: dict[str, Any] = {
            name: value.over(horizon)
            for name in ("lr", "momentum", "weight_decay")
            if isinstance(value := getattr(self, name), (Schedule, Ruled))
        }
        return replace(self, **schedules)

    def peak(self, horizon: Horizon | int) -> float:
        """The highest rate that a run uses, as far as no rule changes it."""
        run = Horizon.of(horizon)
        return max(self.lr.over(run).values(0, run.total_steps))

    def with_peak(self, rate: float, horizon: Horizon | int) -> "Strategy":
        """The same strategy, settled for a run, with every rate scaled so that the highest is ``rate``.

        Raises:
            ScheduleError: ``rate`` is not above 0, or the schedule's own rates are all 0.
        """
        peak = self.peak(horizon)
        if not (rate > 0 and peak > 0):
            raise ScheduleError(
                f"Strategy {self.name!r}: cannot scale a peak rate of {peak!r} to {rate!r}. Give it a rate above 0."
            )
        settled = self.over(horizon)
        if rate == peak:
            return settled
        return replace(settled, lr=ruled_like(scaled(unruled(settled.lr), rate / peak), settled.lr))

    def torch(self, params: Any, horizon: Horizon | int) -> "tuple[torch.optim.Optimizer, Any]":
        """Return ``(optimizer, scheduler)``: the real ``torch.optim`` object and the ``ratewise.torch.Scheduler``.

        Args:
            params: What a torch optimizer takes: parameters or groups.
            horizon: The run, or its number of optimizer updates.
        """
        from ratewise.torch import build

        return build(self.optimizer, params, self.lr, horizon=horizon, **self.settings_given())

    def keras(self, horizon: Horizon | int) -> "keras.optimizers.Optimizer":
        """Return the real Keras optimizer, following its schedules by itself: no callback is needed.

        Args:
            horizon: The run, or its number of optimizer updates.

        Raises:
            ScheduleError: The rate follows a rule, which takes a callback.
        """
        from ratewise.keras import build

        return build(self.optimizer, self._without_rules(), horizon=horizon, **self.settings_given())

    def optax(self, horizon: Horizon | int) -> "Injected":
        """Return the transformation of optax that follows the schedules; its ``observe`` feeds the rules.

        Args:
            horizon: The run, or its number of optimizer updates.
        """
        from ratewise.optax import build

        return build(self.optimizer, self.lr, horizon=horizon, **self.settings_given())

    def _without_rules(self) -> Schedule:
        if isinstance(self.lr, Ruled):
            raise ScheduleError(
                f"Strategy {self.name!r}: an optimizer for Keras cannot follow a rule by itself. Train with "
                "ratewise.keras.Follow(lr) among the callbacks of fit."
            )
        return self.lr

    def settings_given(self) -> dict[str, Any]:
        """Momentum, weight decay and further settings, as far as they were given, by name."""
        named = {"momentum": self.momentum, "weight_decay": self.weight_decay}
        return {name: value for name, value in named.items() if value is not None} | dict(self.settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the strategy as plain JSON values (without its card)."""
        schedules = {name: _encoded(getattr(self, name)) for name in ("lr", "momentum", "weight_decay")}
        return {"name": self.name, "optimizer": self.optimizer, **schedules, "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Strategy":
        """Return the strategy that ``to_dict`` described."""
        schedules = {name: _decoded(data[name]) for name in ("lr", "momentum", "weight_decay")}
        return cls(data["name"], data["optimizer"], **schedules, settings=tuple(data["settings"].items()))

    def code(self, framework: str, steps: int) -> str:
        """Return the lines that a person pastes to use the strategy as it stands.

        Args:
            framework: ``"torch"``, ``"keras"`` or ``"optax"``.
            steps: Updates of the run.

        Raises:
            ScheduleError: For Keras, if the rate follows a rule.
        """
        schedules = [x for x in (self.lr, self.momentum, self.weight_decay) if isinstance(x, (Schedule, Ruled))]
        names = sorted(set(re.findall(r"(\w+)\(", " ".join(map(repr, schedules)))) & set(FUNCTIONS))
        settings = "".join(f", {name}={value!r}" for name, value in self.settings_given().items())
        lines = [f"import ratewise.{framework}", f"from ratewise import {', '.join(names)}", "", f"lr = {self.lr!r}"]
        if framework == "keras":
            self._without_rules()
            lines += [
                f'optimizer = ratewise.keras.build("{self.optimizer}", lr, horizon={steps}{settings})',
                "model.compile(optimizer, loss=...)  # the optimizer follows the schedule by itself",
            ]
        elif framework == "optax":
            lines += [
                f'optimizer = ratewise.optax.build("{self.optimizer}", lr, horizon={steps}{settings})',
                "state = optimizer.init(params)  # train as usual: optimizer.update follows the schedule by itself",
            ]
            if isinstance(self.lr, Ruled):
                lines += ["# after each evaluation: state = optimizer.observe(state, validation_loss)"]
        else:
            lines += [
                f'optimizer, scheduler = ratewise.torch.build("{self.optimizer}", model.parameters(), lr, '
                f"horizon={steps}{settings})",
                "# train as usual: optimizer.step() moves the schedule",
            ]
            if isinstance(self.lr, Ruled):
                lines += ["# after each evaluation: scheduler.observe(validation_loss)"]
            if self.optimizer.startswith("schedule_free"):
                lines += ["# beside model.train() and model.eval(): optimizer.train() and optimizer.eval()"]
        return "\n".join(lines)


def _frozen(value: Any) -> Any:
    """A setting as it stays through JSON: lists become tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> bool:
    """Whether a setting can be hashed, and stays what it is through JSON."""
    return all(map(_plain, value)) if isinstance(value, tuple) else isinstance(value, (int, float, str, type(None)))


def _encoded(setting: Setting | Ruled | None) -> Any:
    return setting.to_dict() if isinstance(setting, (Schedule, Ruled)) else setting


def _decoded(value: Any) -> Any:
    return from_dict(value) if isinstance(value, dict) else value


def scaled(schedule: Schedule, factor: float) -> Schedule:
    """Return ``factor * schedule`` with the factor worked into its numbers, as a person would write it."""
    match schedule:
        case Ramp():
            return replace(schedule, start=schedule.start * factor, end=schedule.end * factor)
        case Constant():
            return replace(schedule, value=schedule.value * factor)
        case Exponential() | InverseTime():
            return replace(schedule, start=schedule.start * factor)
        case Piecewise():
            return Piecewise([value * factor for value in schedule.levels], schedule.milestones)
        case Sequence():
            return Sequence(tuple(scaled(piece, factor) for piece in schedule.pieces))
        case Sum():
            return Sum([_scaled(term, factor) for term in schedule.operands])
        case Product():
            return Product([_scaled(schedule.operands[0], factor), *schedule.operands[1:]])
        case Clip():
            bounds = {
                name: _scaled(bound, factor)
                for name in ("low", "high")
                if (bound := getattr(schedule, name)) is not None
            }
            return replace(schedule, base=scaled(schedule.base, factor), **bounds)
        case _ if hasattr(schedule, "base"):
            return replace(schedule, base=scaled(schedule.base, factor))  # type: ignore[type-var]
        case _:
            return factor * schedule


def _scaled(operand: Any, factor: float) -> Any:
    return scaled(operand, factor) if isinstance(operand, Schedule) else operand * factor
