"""A peer's scheduler as the doctor sees it: a name, and its arguments as far as they are known.

Living objects, calls in programs and entries of configurations all become a ``Setting``, so that one table of defects
serves them all.
"""

import ast
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ratewise.doctor.signatures import SIGNATURES


class UnknownArgument(Exception):
    """An argument whose value cannot be seen."""


@dataclass(frozen=True)
class Unseen:
    """A value that cannot be seen, and how it is written."""

    text: str = ""

    def __repr__(self) -> str:
        return self.text or "?"


@dataclass(frozen=True, eq=False)
class Setting:
    """One scheduler or optimizer of a peer.

    Args:
        name: ``"peer.Name"``, e.g. ``"torch.OneCycleLR"``.
        arguments: Its arguments by the peer's own names, and what else became known of it; what cannot be seen is
            ``Unseen`` or left out.
        where: Where it stands.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    where: str = ""

    def __getitem__(self, name: str) -> Any:
        value = self.arguments.get(name, Unseen())
        if isinstance(value, Unseen):
            raise UnknownArgument(name)
        return value

    @property
    def kind(self) -> str:
        """Its name without the peer's."""
        return self.name.partition(".")[2]

    def get(self, name: str, default: Any = None) -> Any:
        """The argument if it is known, else ``default``."""
        value = self.arguments.get(name, default)
        return default if isinstance(value, Unseen) else value


def named(path: str) -> str | None:
    """``"peer.Name"`` for the full path of a class or function, or None if the doctor does not know it.

    Example:
        >>> named("torch.optim.lr_scheduler.OneCycleLR")
        'torch.OneCycleLR'
    """
    root, _, rest = path.partition(".")
    name = f"{_ROOTS.get(root, root)}.{rest.rpartition('.')[2]}"
    return name if name in SIGNATURES else None


@cache
def signature(name: str) -> dict[str, Any]:
    """The arguments of a peer's scheduler in order, with their defaults; ``Unseen`` where there is none.

    Example:
        >>> signature("torch.StepLR")
        {'optimizer': ?, 'step_size': ?, 'gamma': 0.1, 'last_epoch': -1}
    """
    lambda_ = ast.parse(f"lambda {SIGNATURES[name]}: 0", mode="eval").body
    assert isinstance(lambda_, ast.Lambda)
    names = [argument.arg for argument in lambda_.args.args]
    defaults = [ast.literal_eval(default) for default in lambda_.args.defaults]
    return dict(zip(names, [Unseen()] * (len(names) - len(defaults)) + defaults, strict=True))


def meant(setting: Setting) -> Setting:
    """The setting as the table names it: Hugging Face's and timm's factories give the scheduler that they make.

    The rate of a torch scheduler, ``lr``, is that of its optimizer.
    """
    peer, _, kind = setting.name.partition(".")
    arguments = setting.arguments
    optimizer = arguments.get("optimizer")
    if isinstance(optimizer, Setting) and "lr" not in arguments:
        arguments["lr"] = optimizer.arguments.get("lr", Unseen())
    if peer == "hf":
        return _hugging_face(kind, arguments, setting.where)
    if setting.name == "timm.create_scheduler_v2":
        return _timm(arguments, setting.where)
    return setting


def _hugging_face(kind: str, arguments: dict[str, Any], where: str) -> Setting:
    if kind in HF_FUNCTIONS:
        return Setting(f"hf.{HF_FUNCTIONS[kind]}", {"via_name": False, **arguments}, where)
    if kind == "get_scheduler":
        name, special = arguments["name"], arguments.get("scheduler_specific_kwargs")
    else:  # TrainingArguments
        name, special = arguments["lr_scheduler_type"], arguments.get("lr_scheduler_kwargs")
        arguments = {**arguments, "lr": arguments["learning_rate"], **_warmup(arguments)}
    if isinstance(name, Unseen):
        return Setting("hf.unseen", {}, where)
    special = special if isinstance(special, dict) else {}
    function = next((function for function, its in HF_FUNCTIONS.items() if its == name and function[0] == "g"), None)
    if function is None:
        return Setting("hf.unknown", {"scheduler_name": name, "nearest": _nearest(str(name))}, where)
    arguments = {**signature(f"hf.{function}"), "via_name": True, **arguments, **special}
    return Setting(f"hf.{name}", arguments, where)


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    return " or ".join(get_close_matches(name, HF_FUNCTIONS.values(), n=1, cutoff=0.4)) or "linear"


def _warmup(arguments: dict[str, Any]) -> dict[str, Any]:
    """The lengths that TrainingArguments stand for, as far as they say them."""
    total, steps, ratio = (arguments.get(name) for name in ("max_steps", "warmup_steps", "warmup_ratio"))
    total = total if isinstance(total, (int, float)) and total > 0 else Unseen("the length of the run")
    if isinstance(steps, float) and 0 < steps < 1:
        steps, ratio = 0, steps
    if not steps and isinstance(ratio, (int, float)):
        steps = -int(-total * ratio // 1) if isinstance(total, (int, float)) else Unseen(f"{ratio} of the run")
    return {"num_warmup_steps": steps or 0, "num_training_steps": total}


def _timm(arguments: dict[str, Any], where: str) -> Setting:
    """The scheduler that timm's factory makes; its cycle_decay is 0.1 where the classes have 1.0."""
    kinds = {"cosine": "Cosine", "poly": "Poly", "tanh": "Tanh", "step": "Step", "multistep": "MultiStep"}
    kind = (
        f"timm.{kinds.get(arguments['sched'], 'Other') if isinstance(arguments['sched'], str) else 'Other'}LRScheduler"
    )
    own = {"cycle_limit": 1, "cycle_mul": 1.0, "lb": -7.0, "ub": 3.0, "power": arguments["decay_rate"]}
    names = {"t_initial": "num_epochs", "lr_min": "min_lr", "warmup_t": "warmup_epochs"}
    return Setting(kind, {**own, **arguments, **{ours: arguments[theirs] for ours, theirs in names.items()}}, where)


HF_FUNCTIONS = {
    "get_constant_schedule": "constant",
    "get_constant_schedule_with_warmup": "constant_with_warmup",
    "get_linear_schedule_with_warmup": "linear",
    "get_cosine_schedule_with_warmup": "cosine",
    "get_cosine_with_hard_restarts_schedule_with_warmup": "cosine_with_restarts",
    "get_polynomial_decay_schedule_with_warmup": "polynomial",
    "get_inverse_sqrt_schedule": "inverse_sqrt",
    "get_reduce_on_plateau_schedule": "reduce_lr_on_plateau",
    "get_cosine_with_min_lr_schedule_with_warmup": "cosine_with_min_lr",
    "get_cosine_with_min_lr_schedule_with_warmup_lr_rate": "cosine_warmup_with_min_lr",
    "get_wsd_schedule": "warmup_stable_decay",
    "get_greedy_schedule": "greedy",
    "GreedyLR": "greedy",
}
"""What the functions of transformers are called in get_scheduler and TrainingArguments."""

_ROOTS = {
    "tensorflow": "keras",
    "tf_keras": "keras",
    "transformers": "hf",
    "pytorch_optimizer": "kozistr",
    "pl_bolts": "bolts",
}
"""What a peer is called here, where that differs from its package."""
