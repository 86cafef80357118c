"""The population engine for PyTorch: many runs of a task in lockstep, whatever their strategies.

Runs that begin alike are trained once until they part. What cannot be trained in lockstep, or comes out otherwise than
one by one in a first update, is trained one by one, says so, and tells its own time.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ratewise.core.schedule import Schedule
from ratewise.core.shapes import Constant
from ratewise.errors import AdapterError
from ratewise.outcome import Outcome, marks
from ratewise.torch import engine
from ratewise.torch.dropout import keys, write_keys
from ratewise.torch.engine import SPLITS, one_thread
from ratewise.torch.lockstep import Lockstep
from ratewise.torch.population import mapped, unfit

ROOM = 2**30
"""Bytes for a cohort on a CPU; on a GPU it is a quarter of its memory."""

CACHE = 2**23
"""Bytes of activations that a CPU handles best at once."""

_TRIED = 0.5
"""The rate of the update that is checked: neither lost in rounding nor 1, at which nothing has to be scaled."""

_COPIES = 6
"""A parameter's value, gradient, copy from before the update, and up to three moments."""


@dataclass
class _Run:
    """What is known of a run so far."""

    losses: list[float] = field(default_factory=list)
    held: dict[str, list[float]] = field(default_factory=dict)
    loss: float | None = None
    metric: float | None = None
    updates: int = 0

    def outcome(self) -> Outcome:
        whole = self.loss is not None and np.isfinite([self.loss, self.losses[-1]]).all()
        loss, metric = (self.loss, self.metric) if whole else (None, None)
        return Outcome(self.losses, self.held, loss, metric, "population", self.updates)


class Engine(engine.Engine):
    """Trains a task's PyTorch model, many runs at once. Arguments are those of the one-by-one engine."""

    def room(self) -> int:
        """How many runs of this task fit into the memory that a cohort may use; at least 1."""
        kept, example = self._footprint
        batch: int = self._task.batch_size
        return max(1, self._memory // (kept + example * batch))

    def cohort(self, members: Sequence[Any]) -> list[Outcome]:
        """Train every member and measure it; arguments and result are those of the one-by-one engine.

        Raises:
            Exception: Whatever the task's own code raises.
        """
        with torch.random.fork_rng(devices=[]), one_thread():
            kinds = [_kind(member.strategy) for member in members]
            alone = self._unfit(members, kinds)
            seat = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
            place = {seed: i for i, seed in enumerate(dict.fromkeys(member.seed for member in members))}
            order = sorted(
                (i for i in range(len(members)) if i not in alone),
                key=lambda i: (seat[kinds[i]], place[members[i].seed], i),
            )
            found: dict[int, Outcome] = {}
            tried = dict.fromkeys(range(len(members)), 0.0)  # seconds lost in lockstep
            room = self.room() if order else 1
            for part in (order[i : i + room] for i in range(0, len(order), room)):
                started = time.perf_counter()
                try:
                    with mapped():
                        outcomes = self._together([members[i] for i in part], [kinds[i] for i in part])
                    found.update(zip(part, outcomes, strict=True))
                except Exception as error:
                    alone.update(dict.fromkeys(part, _why(error)))
                    tried.update(dict.fromkeys(part, (time.perf_counter() - started) / len(part)))
            for i, reason in alone.items():
                one = self._one(members[i])
                took = tried[i] + (one.seconds or 0.0)
                found[i] = replace(one, trained=f"one by one: {reason}", seconds=took)
        return [found[i] for i in range(len(members))]

    def _unfit(self, members: Sequence[Any], kinds: Sequence[Any]) -> dict[int, str]:
        """Which members cannot be trained in lockstep, and why."""
        model, _ = self._start(members[0].seed)
        reasons: dict[Any, str | None] = {}
        for kind in dict.fromkeys(kinds):
            optimizer, _ = kind.torch(model.parameters(), members[0].steps)
            reasons[kind] = unfit(model, [optimizer])
        found = {}
        for i, (member, kind) in enumerate(zip(members, kinds, strict=True)):
            reason = reasons[kind] if isinstance(member.strategy.lr, Schedule) else "its rate follows a metric"
            if reason is not None:
                found[i] = reason
        return found

    def _together(self, members: Sequence[Any], kinds: Sequence[Any]) -> list[Outcome]:
        """Train members in lockstep; those of one kind, and in it those of one seed, stand side by side.

        Raises:
            Exception: They cannot be trained so.
        """
        steps, seeds = members[0].steps, list(dict.fromkeys(member.seed for member in members))
        models = {seed: self._start(seed) for seed in seeds}
        for model, _ in models.values():
            model.to(self._device)
        base, names = models[seeds[0]]
        table = np.array([member.strategy.lr.values(0, steps) for member in members])
        self._check(members, kinds)
        rows = _alike(range(len(members)), [*zip(kinds, (m.seed for m in members), table[:, 0], strict=True)])
        lockstep = Lockstep(
            base, self._loss, [models[members[row[0]].seed][0] for row in rows], [kinds[row[0]] for row in rows],
            steps, self._task.clip_norm,
        )  # fmt: skip
        runs = [_Run(held={split: [] for split in SPLITS[member.phase]}) for member in members]
        batches = self._lockstep_batches(seeds, steps)
        due = set(marks(steps))
        for start, stop in pairwise(_ends(table, rows, due)):
            seats = torch.tensor([seeds.index(members[row[0]].seed) for row in rows], device=self._device)
            rates = torch.tensor(table[[row[0] for row in rows], start:stop].T, device=self._device)
            found = []
            for t in range(start, stop):
                for name, key in zip(names, keys(seeds, t, len(names)), strict=True):
                    lockstep.rest[name] = torch.from_numpy(key).to(self._device)[seats]
                gradients, losses = lockstep.gradients(*(part[seats] for part in next(batches)))
                lockstep.move(gradients, rates[t - start])
                found.append(losses)
            alive = _note(runs, rows, torch.stack(found).cpu().double().numpy())
            if stop in due:
                self._measured(lockstep, [[runs[i] for i in row] for row in rows], stop == steps)
            after = [(k, part) for k in alive for part in _alike(rows[k], table[:, min(stop, steps - 1)].tolist())]
            if not after:
                break
            if len(after) != len(rows):
                lockstep.select([k for k, _ in after])
                rows = [part for _, part in after]
        return [run.outcome() for run in runs]

    def _lockstep_batches(self, seeds: Sequence[int], steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of each update, of shape ``(seeds, batch, ...)``."""
        if self._task.streamed:
            for found in zip(*(self._batches(seed, steps) for seed in seeds), strict=True):
                inputs, targets = (torch.stack(part).to(self._device) for part in zip(*found, strict=True))
                yield inputs, targets
            return
        inputs, targets = (part.to(self._device) for part in self._data["train"])
        orders = torch.as_tensor(np.stack([self._task.order(seed, steps) for seed in seeds], axis=1))
        for batch in orders.to(self._device):
            yield inputs[batch], targets[batch]

    def _measured(self, lockstep: Lockstep, rows: Sequence[Sequence[_Run]], last: bool) -> None:
        """Measure all rows and note it for those of their runs that have not diverged."""
        _, example = self._footprint
        for split in rows[0][0].held:
            inputs, targets = (part.to(self._device) for part in self._data[split])
            at_once = self._at_once // (example * len(inputs))
            losses, metrics = lockstep.measure(inputs, targets, self._metric == "accuracy", at_once)
            for row, loss, metric in zip(rows, losses.tolist(), metrics.tolist(), strict=True):
                for run in row:
                    if np.isfinite(run.losses[-1]):
                        run.held[split].append(loss)
                        run.loss, run.metric = (loss, metric) if last else (None, None)

    # -- is it the same? -------------------------------------------------------------------------------------

    def _check(self, members: Sequence[Any], kinds: Sequence[Any]) -> None:
        """Make one update of a member of every kind at a middling rate, in lockstep and one by one.

        Raises:
            ArithmeticError: They differ.
        """
        chosen = list({kind: i for i, kind in enumerate(kinds)}.values())  # the last of each, often of another seed
        models = [self._start(members[i].seed) for i in chosen]
        for model, _ in models:
            model.to(self._device).train()
        base, names = self._start(members[0].seed)
        lockstep = Lockstep(
            base.to(self._device), self._loss, [model for model, _ in models], [kinds[i] for i in chosen],
            members[0].steps, self._task.clip_norm,
        )  # fmt: skip
        seeds = [members[i].seed for i in chosen]
        for name, key in zip(names, keys(seeds, 0, len(names)), strict=True):
            lockstep.rest[name] = torch.from_numpy(key).to(self._device)
        batch = next(self._lockstep_batches(seeds, members[0].steps))
        gradients, losses = lockstep.gradients(*batch)
        lockstep.move(gradients, torch.full((len(chosen),), _TRIED, dtype=torch.float64, device=self._device))
        for k, (i, (model, _)) in enumerate(zip(chosen, models, strict=True)):
            before = {name: p.detach().clone() for name, p in model.named_parameters()}
            strategy = replace(members[i].strategy, lr=Constant(_TRIED))
            optimizer, _ = strategy.torch(model.parameters(), members[i].steps)
            write_keys(model, names, seeds[k], 0)
            loss = self._backward(model, optimizer, *(part[k] for part in batch)).detach()
            optimizer.step()
            if loss.isfinite():
                mine = {name: g[k] for name, g in gradients.items()}
                _compare(loss, losses[k], before, model, mine, lockstep.row(k))

    # -- what it needs ---------------------------------------------------------------------------------------

    @cached_property
    def _device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _memory(self) -> int:
        """Bytes that a cohort may use."""
        if self._device.type == "cpu":
            return ROOM
        total: int = torch.cuda.get_device_properties(0).total_memory
        return total // 4

    @property
    def _at_once(self) -> int:
        """Bytes of activations while measuring: more than stay in a CPU's cache make it slower."""
        return CACHE if self._device.type == "cpu" else self._memory // 4

    @cached_property
    def _footprint(self) -> tuple[int, int]:
        """Bytes that a run keeps, and that one example's activations need."""
        with torch.random.fork_rng(devices=[]), one_thread():
            model, _ = self._start(0)
            inputs, targets = next(self._batches(0, 1))
            own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
            saved: dict[int, int] = {}

            def pack(x: Tensor) -> Tensor:
                storage = x.untyped_storage()
                if storage.data_ptr() not in own:
                    saved[storage.data_ptr()] = storage.nbytes()
                kept.append(x)  # alive, so that no address is used twice
                return x

            kept: list[Tensor] = []
            with saved_tensors_hooks(pack, lambda x: x):
                self._loss(model(inputs), targets)
        parameters = sum(p.numel() * p.element_size() for p in model.parameters())
        buffers = sum(b.numel() * b.element_size() for b in model.buffers())
        batch = inputs.numel() * inputs.element_size() + targets.numel() * targets.element_size()
        return _COPIES * parameters + buffers, (sum(saved.values()) + batch) // len(inputs) + 1


def _kind(strategy: Any) -> Any:
    """What makes runs share an optimizer: the strategy but for its name and its rate."""
    return replace(strategy, name="any", lr=Constant(1.0))


def _alike(members: Sequence[int], keys: Sequence[Any]) -> list[list[int]]:
    """The members with equal keys together, in the order of the first of each."""
    groups: dict[Any, list[int]] = {}
    for i in members:
        groups.setdefault(keys[i], []).append(i)
    return list(groups.values())


def _ends(table: NDArray[np.float64], rows: Sequence[Sequence[int]], due: set[int]) -> list[int]:
    """The updates between which nothing but training happens: marks, and wherever members of a row part.

    Args:
        table: Rates, ``(members, steps)``.
        rows: Members that begin alike.
        due: The marks; the last is the end.
    """
    ends = {0, *due}
    for row in rows:
        groups = [list(row)]
        while groups:
            group = groups.pop()
            differ = (table[group] != table[group[0]]).any(axis=0)
            if differ.any():
                ends.add(t := int(differ.argmax()))
                groups += _alike(group, table[:, t].tolist())
    return sorted(ends)


def _note(runs: Sequence[_Run], rows: Sequence[Sequence[int]], losses: NDArray[np.float64]) -> list[int]:
    """Note the losses of some updates, ``(updates, rows)``; return the rows that have not diverged."""
    alive = []
    for k, row in enumerate(rows):
        wrong = np.flatnonzero(~np.isfinite(losses[:, k]))
        found = losses[: wrong[0] + 1 if len(wrong) else None, k].tolist()
        runs[min(row)].updates += len(found)
        for i in row:
            runs[i].losses += found
        if not len(wrong):
            alive.append(k)
    return alive


def _compare(
    loss: Tensor, mine: Tensor, before: dict[str, Tensor], model: nn.Module, gradients: dict[str, Tensor],
    row: tuple[dict[str, Tensor], dict[str, Tensor]],
) -> None:  # fmt: skip
    """Compare the first update of a run in lockstep with that of the same run alone.

    Each tensor is compared with itself, but for rounding: that of all gradients, of all weights, and in a buffer of
    numbers near 1. Where a gradient is nothing but rounding (a bias before a normalization), an adaptive optimizer
    moves by its sign: such elements are left out of the comparison of moves.

    Raises:
        ArithmeticError: They differ, or the optimizer alone passes over a parameter that has no gradient.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    alone = {name: p.grad for name, p in trained.items() if p.grad is not None}
    if len(alone) < len(trained):
        raise ArithmeticError("a parameter gets no gradient")
    moved = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    largest = max(float(g.abs().max()) for g in gradients.values())
    told = {name: g.abs() > 1e-4 * largest for name, g in gradients.items()}
    buffers = dict(model.named_buffers())
    eps = max(torch.finfo(x.dtype).eps for x in (loss, *before.values()) if x.is_floating_point())
    ulps = 8 * eps
    close = max(1e-4, 4 * eps)
    weights = 4 * eps * _norm(before.values())
    for what, pairs, allowed, floors in (
        ("a loss", [(mine, loss)], close, [0.0]),
        ("a gradient", [(gradients[n], alone[n]) for n in alone], close, [ulps * _norm(alone.values())] * len(alone)),
        (
            "a move",
            [((row[0][n] - before[n])[told[n]], moved[n][told[n]]) for n in alone],
            10 * close,
            [weights + ulps * _norm(moved.values())] * len(alone),
        ),
        (
            "a buffer",
            [(row[1][n], b) for n, b in buffers.items()],
            10 * close,
            [ulps * math.sqrt(b.numel()) for b in buffers.values()],
        ),
    ):
        for (a, b), floor in zip(pairs, floors, strict=True):
            off, size = _norm([_wide(a) - _wide(b)]), _norm([b])
            if not (torch.equal(a, b) or off <= allowed * size + floor + 1e-12):  # infinities may be equal
                share = off / max(size, 1e-300)
                raise ArithmeticError(f"{what} of the first update differs by {share:.2g} of its size")


def _norm(tensors: Iterable[Tensor]) -> float:
    """The Euclidean norm of all of them together."""
    return math.hypot(*(float(_wide(x).norm()) for x in tensors))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float64))


def _why(error: Exception) -> str:
    """The reason for training one by one, in a line."""
    text = str(error).split("\n")[0]
    if "randomness" in text:
        return "the model draws random numbers other than by dropout modules"
    if "data-dependent control flow" in text or ".item()" in text:
        return "the model decides by the value of a tensor"
    return text if isinstance(error, (AdapterError, ArithmeticError)) else f"{type(error).__name__}: {text:.150}"
