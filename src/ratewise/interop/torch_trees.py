"""SequentialLR and ChainedScheduler of torch as schedules of ours.

In torch each scheduler of such a tree turns the rate that it finds in the optimizer into the next one, so a tree is a
recursion rather than a function of the position. Where it comes to pieces or to a product it is said so. Otherwise a
``Custom`` goes through the recursion: exact, but the rate of update t costs t steps the first time.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import islice, pairwise
from operator import mul
from typing import Any, TypeAlias

from ratewise.core import checks
from ratewise.core.numeric import namespace
from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Cosine, Custom
from ratewise.errors import ScheduleError
from ratewise.interop.peer import chain, levels, wave

Node: TypeAlias = "Leaf | Sequential | Chained"

MOST = 10_000_000
"""How far a recursion is followed."""

LONGEST = 10_000
"""Updates that are written down one by one."""


@dataclass(frozen=True)
class Leaf:
    """A scheduler that is no tree.

    Args:
        name: Its class in torch.
        build: From ``lr`` and the settings to the schedule.
        settings: Names and values.
        base: Its base rate.
        last: The last update that torch gives a rate for; after that it raises.
    """

    name: str
    build: Callable[..., Schedule]
    settings: tuple[tuple[str, Any], ...]
    base: float
    last: float = math.inf

    def at(self, lr: float) -> Schedule:
        """The schedule from the rate ``lr``."""
        return self.build(lr=lr, **dict(self.settings))

    @cached_property
    def own(self) -> Schedule:
        """The schedule from its base rate."""
        return self.at(self.base)

    def __getitem__(self, name: str) -> Any:
        return dict(self.settings)[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return Leaf, (self.name, self.build, self.settings, self.base, self.last)


@dataclass(frozen=True)
class Sequential:
    """One child after the other; a milestone is the first update of the next."""

    children: tuple[Node, ...]
    milestones: tuple[float, ...]

    def __post_init__(self) -> None:
        if any(a > b for a, b in pairwise(self.milestones)):
            shown = checks.shown(list(self.milestones))
            raise ScheduleError(f"from_torch: SequentialLR: milestones must rise, got {shown} (T16).")


@dataclass(frozen=True)
class Chained:
    """All children at every update, in this order, each on what the one before has left."""

    children: tuple[Node, ...]


def curve(tree: Node, initial: float) -> Schedule:
    """The schedule of a tree whose group started with the rate ``initial``."""
    if isinstance(tree, Leaf):
        return tree.own
    found = _pieces(tree, initial) if isinstance(tree, Sequential) else _product(tree, initial)
    return found or Custom(Stepped(tree, initial))


# -- where it comes to pieces or to a product ------------------------------------------------------------------


def _pieces(tree: Sequential, initial: float) -> Schedule | None:
    """Each scheduler up to its milestone, if there are no trees after the first."""
    pieces: list[Schedule] = []
    starts = [0, *(max(m, 0) for m in tree.milestones)]
    rate = initial
    for child, start, stop in zip(tree.children, starts, [*starts[1:], math.inf], strict=True):
        if start == stop:
            continue
        if start != int(start):
            return None
        piece = _first(child, initial) if start == 0 else _later(child, rate)
        if piece is None:
            return None
        last = child.last if isinstance(child, Leaf) else math.inf
        if stop == math.inf or last < stop - start - 1:
            return chain(*pieces, piece)
        n = math.ceil(stop - start)
        pieces.append(piece if piece.steps == n else piece.until(n))
        rate = piece(n - 1)
    return None


def _first(child: Node, initial: float) -> Schedule | None:
    """What runs from update 0, on the group's initial rate."""
    if isinstance(child, Chained):
        return _product(child, initial, inside=True)
    if isinstance(child, Sequential) or (child.name == "CosineAnnealingLR" and child.base != initial):
        return None
    return child.at(initial) if child.name not in CLOSED else child.own


def _later(child: Node, rate: float) -> Schedule | None:
    """What begins at a milestone: from its base rate, or (SWALR) from the ``rate`` before."""
    if not isinstance(child, Leaf) or child.name == "MultiplicativeLR" or _at_once(child):
        return None
    return child.at(rate) if child.name == "SWALR" else child.own


def _at_once(leaf: Leaf) -> bool:
    """Whether it is over before it begins; torch's two formulas then disagree (T10)."""
    return leaf.name in ("ConstantLR", "LinearLR", "PolynomialLR") and leaf["total_iters"] == 0


def _product(tree: Chained, initial: float, inside: bool = False) -> Schedule | None:
    """The product of the factors, if all are factors but for one cosine at most.

    ``inside`` a SequentialLR torch applies the factor of update 0 where it otherwise leaves it out.
    """
    leaves = list(_flat(tree))
    factors = [leaf for leaf in leaves if isinstance(leaf, Leaf) and leaf.name in RATIOS]
    waves = [leaf for leaf in leaves if isinstance(leaf, Leaf) and leaf.name == "CosineAnnealingLR"]
    if len(factors) + len(waves) < len(leaves) or not factors or len(waves) > (0 if inside else 1):
        return None
    if inside:
        initial *= math.prod(_ratio(leaf, 0) for leaf in factors if leaf.name in SILENT)
    first, *others = factors
    product = reduce(mul, [leaf.at(1.0) for leaf in others], first.at(initial))
    return _waved(tree, product, factors, waves[0], initial) if waves else product


def _flat(tree: Chained) -> Iterator[Node]:
    for child in tree.children:
        yield from _flat(child) if isinstance(child, Chained) else (child,)


def _waved(
    tree: Chained, product: Schedule, factors: Sequence[Leaf], cosine: Leaf, initial: float
) -> Schedule | None:  # fmt: skip
    """Factors that come to rest before a cosine is down; from there on it is alone, and at its full height.

    A cosine with a floor holds that of what it finds, so its product with a factor is no product (T19).
    """
    half, low = cosine["T_max"], cosine["eta_min"]
    rest = max(map(_rest, factors))
    if half != int(half) or rest >= half or rest > LONGEST:
        return None
    if low == 0:
        head = product * Cosine(1.0, 0.0, half)
    else:
        values = list(islice(_rates(tree, initial), int(rest) + 1))
        share = (1 + math.cos(math.pi * rest / half)) / 2
        alone = Cosine(low + (values[-1] - low) / share, low, half)
        head = alone
        if rest > 0:
            head = levels(lambda t: values[int(t)], range(1, int(rest))).until(rest) >> alone.after(rest)
    return head.until(int(half)) >> wave(low, cosine.base, half)


def _rest(leaf: Leaf) -> float:
    """The update from which on a factor no longer changes."""
    if leaf.name == "MultiStepLR":
        return max(leaf["milestones"], default=0)
    if leaf.name in ("ConstantLR", "LinearLR", "PolynomialLR"):
        return math.floor(leaf["total_iters"]) if leaf.last == math.inf else math.inf
    return math.inf


# -- the recursion ---------------------------------------------------------------------------------------------


def _line(t: int, start_factor: float, end_factor: float, total_iters: float) -> float:
    return start_factor + (end_factor - start_factor) * t / total_iters


RATIOS: dict[str, Callable[..., float]] = {
    "StepLR": lambda t, step_size, gamma: gamma if t != 0 and t % step_size == 0 else 1.0,
    "MultiStepLR": lambda t, milestones, gamma: gamma ** milestones.count(t),
    "ConstantLR": lambda t, factor, total_iters: factor if t == 0 else 1 / factor if t == total_iters else 1.0,
    "LinearLR": lambda t, start_factor, end_factor, total_iters: (
        start_factor if t == 0
        else 1.0 if t > total_iters
        else _line(t, start_factor, end_factor, total_iters) / _line(t - 1, start_factor, end_factor, total_iters)
    ),
    "ExponentialLR": lambda t, gamma: gamma,
    "PolynomialLR": lambda t, total_iters, power: (
        1.0 if t > total_iters else ((1 - t / total_iters) / (1 - (t - 1) / total_iters)) ** power
    ),
    "MultiplicativeLR": lambda t, lr_lambda: lr_lambda(t),
}  # fmt: skip
"""What update t multiplies the rate by, where that is all that a scheduler does."""

SILENT = ("ExponentialLR", "PolynomialLR", "MultiplicativeLR", "CosineAnnealingLR")
"""Schedulers that leave the rate as it is when they are made."""

CLOSED = ("LambdaLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR")
"""Schedulers that give the rate of update t whatever the rate was."""


class _Stop(Exception):
    """Here torch raises."""


def _ratio(leaf: Leaf, t: int) -> float:
    return float(RATIOS[leaf.name](t, **dict(leaf.settings)))


class _Group:
    """A parameter group: the rate that schedulers find and leave."""

    def __init__(self, initial: float) -> None:
        self.initial = self.lr = initial

    def scheduler(self, node: Node) -> "_Single | _Several":
        """What torch makes of a node, its parts first."""
        return _Single(node, self) if isinstance(node, Leaf) else _Several(node, self)


class _Single:
    """A leaf at work: when it was made, it has made its first step."""

    def __init__(self, leaf: Leaf, group: _Group) -> None:
        self.leaf, self.group, self.t = leaf, group, -1
        self.begin()
        if leaf.name == "CyclicLR":  # it learns of its own base rate only after its first step
            group.lr = group.initial

    def begin(self) -> None:
        self.steps = -1
        self.step(silent=self.leaf.name in SILENT)

    def step(self, silent: bool = False) -> None:
        restarts = self.leaf.name == "CosineAnnealingWarmRestarts"
        self.t = max(self.t, -1) + 1 if restarts else self.t + 1
        self.steps += 1
        if not silent:
            self.group.lr = self._rate(self.group.lr)

    def reset(self) -> None:
        """Start at a milestone: by the closed form, if there is one."""
        self.t = 0
        if self.leaf.name in (*CLOSED, "MultiplicativeLR", "SWALR"):
            self.group.lr = self._rate(self.group.lr)
        elif not _at_once(self.leaf):
            self.group.lr = self.leaf.own(0)
        elif self.leaf.name == "ConstantLR":
            self.group.lr = self.leaf.base
        else:
            raise _Stop

    def undo(self) -> None:
        self.t -= 1

    def _rate(self, lr: float) -> float:
        leaf, t = self.leaf, self.t
        if t > leaf.last:
            raise _Stop
        if leaf.name in RATIOS:
            return lr * _ratio(leaf, t)
        if leaf.name == "CosineAnnealingLR":
            return _waving(lr, t, leaf.base, leaf["T_max"], leaf["eta_min"])
        if leaf.name == "SWALR":
            return _averaging(lr, self.steps, **dict(leaf.settings))
        return float(leaf.own(t))


def _waving(lr: float, t: int, base: float, half: float, low: float) -> float:
    if (t - 1 - half) % (2 * half) == 0:  # it was down: up again, on the base rate
        return lr + (base - low) * (1 - math.cos(math.pi / half)) / 2
    before, now = (1 + math.cos(math.pi * s / half) for s in (t - 1, t))
    return low + (lr - low) * (now / before)


def _averaging(lr: float, steps: int, swa_lr: float, anneal_epochs: int, anneal_strategy: str) -> float:
    def share(n: int) -> float:
        p = min(max(n / max(anneal_epochs, 1), 0.0), 1.0)
        return p if anneal_strategy == "linear" else (1 - math.cos(math.pi * p)) / 2

    n = steps if anneal_epochs else max(steps, 1)
    before, now = share(n - 1), share(n)
    start = swa_lr if before == 1 else (lr - before * swa_lr) / (1 - before)
    return swa_lr * now + start * (1 - now)


class _Several:
    """A tree at work."""

    def __init__(self, tree: Sequential | Chained, group: _Group) -> None:
        self.children = [group.scheduler(child) for child in tree.children]
        self.milestones = tree.milestones if isinstance(tree, Sequential) else None
        self.t = 0
        if self.milestones is not None:
            group.lr = group.initial
            self.undo()
            self.children[bisect_right(self.milestones, 0)].begin()

    def begin(self) -> None:
        self.step()

    def step(self) -> None:
        self.t += 1
        if self.milestones is None:
            for child in self.children:
                child.step()
            return
        i = bisect_right(self.milestones, self.t)
        if i > 0 and self.milestones[i - 1] == self.t:
            self.children[i].reset()
        else:
            self.children[i].step()

    def reset(self) -> None:
        raise _Stop  # T13

    def undo(self) -> None:
        for child in self.children:
            child.undo()


def _rates(tree: Node, initial: float) -> Iterator[float]:
    """The rates of all updates; where torch raises, the last one for ever."""
    group = _Group(initial)
    scheduler = group.scheduler(tree)
    rate = group.lr
    while True:
        yield rate
        try:
            scheduler.step()
        except (_Stop, ZeroDivisionError):
            break
        rate = group.lr
    while True:
        yield rate


@dataclass(frozen=True)
class Stepped:
    """The rates of a tree as a function of the position, for ``Custom``.

    It cannot be read back from its text, since the text does not say the tree; it can be pickled if the functions in
    the tree can.
    """

    tree: Node
    initial: float

    @cached_property
    def _source(self) -> Iterator[float]:
        return _rates(self.tree, self.initial)

    @cached_property
    def _known(self) -> list[float]:
        return []

    def __reduce__(self) -> tuple[Any, ...]:
        return Stepped, (self.tree, self.initial)

    def _until(self, t: float) -> list[float]:
        if t > MOST:
            raise ScheduleError(
                f"from_torch: this rate is known only by stepping through every update, so not beyond {MOST:,}."
            )
        self._known.extend(islice(self._source, max(int(t) + 1 - len(self._known), 0)))
        return self._known

    def __call__(self, t: Any) -> Any:
        """The rate of update ``t``: a number, or an array of numpy, torch or JAX that is not traced."""
        if isinstance(t, (int, float)):
            return self._until(t)[int(t)]
        values = self._until(float(t.max())) if math.prod(t.shape) else self._until(0)
        return namespace(t).lookup(t, range(1, len(values)), values)
