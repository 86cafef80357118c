"""``find_lr`` for PyTorch, on the very model and optimizer that are in training.

It trains the originals and puts them back, rather than a copy: a user's own step, regularizers and hooks refer to the
originals, and a copied optimizer would be another one to them. The hooks are off the optimizer while it lasts, so an
attached ``Scheduler`` neither counts nor checks nor writes. Candidates that can be mapped train as a ``Population``.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from ratewise.errors import AdapterError, FinderError, ScheduleDetached
from ratewise.finder.batches import counted, endless, parted, shuffled
from ratewise.finder.curvature import Ceiling
from ratewise.finder.find import find
from ratewise.finder.finding import Finding
from ratewise.finder.sweep import one_by_one
from ratewise.torch.batches import examples, fresh, source
from ratewise.torch.curvature import BATCHES, measured
from ratewise.torch.groups import names, unwrapped
from ratewise.torch.population import Population, unfit
from ratewise.torch.snapshot import Memory, is_plain, seed_all
from ratewise.torch.watch import WATCH

_SPREAD = ("DistributedDataParallel", "FullyShardedDataParallel", "DTensor")

_ALONE = RLock()
"""Random generators are common to all threads, so one search waits for the other."""


def find_lr(
    model: nn.Module, optimizer: Any, loss: Callable[[Any, Any], Any] | None = None, batches: Any = None, *,
    step: Callable[[Any], Any] | None = None, held_out: Any = None, schedule: Any = None, horizon: Any = None,
    method: str = "probe", low: float = 1e-7, high: float = 10.0, steps: int | None = None, seeds: int = 3,
    seed: int = 0, spacing: str = "geometric", stop: float = 4.0, scaler: Any = None, accumulation: int = 1,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext, also: Sequence[Any] = (),
) -> Finding:  # fmt: skip
    """Find a learning rate for the schedule and horizon that will be used, and leave everything as it was, bit for bit.

    The paired probe tries rates from the present state of model and optimizer: each runs a complete copy of the
    schedule, compressed to an eighth of the horizon, on the same batches, and is scored by its loss on the same
    held-out batches; first three octaves apart, then one octave apart with several seeds. The best rate of the short
    runs is corrected for the horizon. Where model and optimizer can be mapped, candidates train all at once.

    The optimizer may be in the middle of training and follow a ``Scheduler``. Everything that ``snapshot`` names is put
    back, also after an exception or Ctrl-C.

    With several parameter groups, the rate is that of the group whose rate is highest now; the others keep their
    present ratios to it (of base rates where all present ones are 0), which ``valid_for["ratios"]`` of the result
    shows. Other scheduled hyperparameters stay at their present values.

    Args:
        model: What is trained; put into train mode if it is in eval mode as a whole.
        optimizer: A torch optimizer of its parameters, also wrapped by Accelerate or Lightning; or a list of several,
            whose rates then keep their ratios too.
        loss: ``loss(output, target)``, the mean over a batch. A batch that is a tuple or list is ``(*inputs, target)``;
            a mapping goes as ``model(**batch)`` and ``loss(output, batch)``; anything else as ``model(batch)`` and
            ``loss(output, batch)``. Tensors are moved to the model's device.
        batches: A loader, list or other iterable that begins anew each time; it is gone through from its start, as
            often as needed. For a probe one pass, up to the number that a candidate needs, is kept in memory, and
            seeds shuffle it. Not an iterator, which would be used up: wrap that in ``ratewise.finder.Lookahead``.
        step: Your own update: ``step(batch)`` does forward, backward and ``optimizer.step()`` and returns the loss
            before it. With ``loss`` beside it, that scores; without, ``step`` itself does, at the rate 0.
        held_out: Batches that score the candidates, in eval mode; by default a tenth of ``batches`` is kept aside.
        schedule: What the training will follow, in any scale: its shape is what counts. By default what an attached
            ``Scheduler`` still has before it; else a constant rate.
        horizon: Updates of the training, or a ``Horizon``; by default the schedule's, or 400 if it has none.
        method: ``"probe"``; or ``"range"``, Smith's range test: one run whose rate rises from ``low`` to ``high``.
        low: Lowest rate that may be tried, above 0.
        high: Highest.
        steps: Updates of a candidate: an eighth of the horizon by default, at least 50. Of a range test: 100.
        seeds: How many orders of the batches the best rates are tried on, at least 1.
        seed: The first of them; also fixes dropout. The same seed gives the same answer.
        spacing: Of the rates in a range test: ``"geometric"`` or ``"linear"``.
        stop: A range test stops once the smoothed loss is this many times its lowest value.
        scaler: The ``GradScaler`` in use.
        accumulation: Batches per update.
        autocast: Makes the context of model and loss, for example ``lambda: torch.autocast("cuda")``.
        also: Further objects that ``step`` changes: other models, optimizers, schedulers of torch that it steps.

    Returns:
        A ``Finding``; its ``suggestion`` is None, with a ``reason``, where nothing supports one.

    Raises:
        FinderError: The search cannot be made, or an update raised.

    Example:
        >>> from ratewise import linear_decay
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> x = torch.randn(256, 4)
        >>> data = list(zip(x.split(32), (x @ torch.ones(4, 1) + torch.randn(256, 1)).split(32)))
        >>> finding = find_lr(
        ...     model, optimizer, torch.nn.functional.mse_loss, data, schedule=linear_decay(0.1), horizon=400
        ... )
        >>> finding.low <= finding.suggestion <= finding.high < finding.stable
        True

    References:
        Smith, 2015, Cyclical Learning Rates for Training Neural Networks, section 3.3.
        https://arxiv.org/abs/1506.01186
    """
    with _ALONE:
        trainable = TorchTrainable(
            model, optimizer, loss, batches, step=step, held_out=held_out, scaler=scaler, accumulation=accumulation,
            autocast=autocast, also=also,
        )  # fmt: skip
        return find(
            trainable, method=method, schedule=schedule, horizon=horizon, low=low, high=high, steps=steps,
            spacing=spacing, stop=stop, seeds=seeds, seed=seed,
        )  # fmt: skip


class TorchTrainable:
    """A ``Trainable`` over a torch model and its optimizers; arguments as for ``find_lr``."""

    def __init__(
        self, model: nn.Module, optimizer: Any, loss: Callable[[Any, Any], Any] | None, batches: Any, *,
        step: Callable[[Any], Any] | None = None, held_out: Any = None, scaler: Any = None, accumulation: int = 1,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext, also: Sequence[Any] = (),
    ) -> None:  # fmt: skip
        if loss is None and step is None:
            raise FinderError("find_lr: needs loss=, a function of (output, target), or step=, your own update.")
        if type(accumulation) is not int or accumulation < 1 or (step is not None and accumulation != 1):
            raise FinderError(
                f"find_lr: accumulation must be an integer of at least 1, got {accumulation!r:.40}"
                f"{'; step= accumulates by itself, so leave it out' if step else ''}."
            )
        if scaler is not None and (isinstance(scaler, type) or not hasattr(scaler, "unscale_")):
            raise FinderError(f"find_lr: scaler must be the GradScaler in use, got {scaler!r:.40}.")
        if not isinstance(also, (list, tuple)):
            raise FinderError(f"find_lr: also must be a list of objects, got {type(also).__name__}. Write also=[...].")
        if torch.is_inference_mode_enabled():
            raise FinderError("find_lr: nothing can be trained under torch.inference_mode. Call it outside.")
        given = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
        self._model, self._optimizers = model, [unwrapped(one) for one in given]
        self._loss, self._step, self._scaler = loss, step, scaler
        self._accumulation, self._autocast = accumulation, autocast
        for one in self._optimizers:
            _check_trainable(model, one)
        if not given:
            raise FinderError("find_lr: optimizer is an empty list. Give the optimizer that trains the model.")
        self._begin, self._per_epoch = source(batches), counted(batches)
        self._stored = isinstance(batches, (list, tuple))
        self._score_on = None if held_out is None else source(held_out, "held_out")
        self._pool: list[Any] | None = None
        self._groups = [group for one in self._optimizers for group in one.param_groups]
        self._ratios = _ratios(self._optimizers)
        self._device = next(p.device for group in self._groups for p in group["params"])
        self._spent = {"updates": 0, "batches": 0, "products": 0}
        self._circumstances: dict[str, Any] = self._found()
        self._one_by_one: str | None = self._unmapped()
        self._checked = False
        in_use = [getattr(loader, "gradient_state", None) for loader in (batches, held_out)]  # Accelerate's own account
        behind = [x for x in (getattr(f, "__self__", f) for f in (loss, step)) if is_plain(x)]
        things = [model, *given, *self._optimizers, scaler, *in_use, *also, *_tensors(behind)]
        try:
            self._memory = Memory(things, feeders=[batches, held_out, *behind])
        except AdapterError as error:
            raise FinderError(f"find_lr: {str(error).removeprefix('snapshot: ')} Look at also=.") from error
        self._stream: Iterator[Any] = iter(())

    @property
    def planned(self) -> tuple[Any, int, int] | None:
        """What the attached ``Scheduler`` of the group with the highest rate follows."""
        leading = self._ratios.index(max(self._ratios))
        for optimizer in self._optimizers:
            scheduler = WATCH.scheduler_of(optimizer)
            if leading < len(optimizer.param_groups):
                if scheduler is None or math.isinf(scheduler._end):
                    return None
                return list(scheduler.schedules().values())[leading], math.ceil(scheduler._end), scheduler.position
            leading -= len(optimizer.param_groups)
        return None

    @property
    def epoch(self) -> float | None:
        """Updates in one pass over the batches, where their number is known."""
        return None if self._per_epoch is None else self._per_epoch / self._accumulation

    @property
    def cost(self) -> dict[str, int]:
        """``updates`` and ``batches`` so far, of candidates that train together each, and Hessian ``products``."""
        return dict(self._spent)

    @property
    def valid_for(self) -> dict[str, Any]:
        """Optimizer, ratios of groups, weight decay, examples per update, and how candidates were trained."""
        return dict(self._circumstances)

    def prepare(self, updates: int) -> None:
        """Take batches for so many updates into memory, and a tenth more to score on, if none were given for that."""
        self._memory.restore()
        seed_all(0)
        needed = updates * self._accumulation
        copying = self._begin if self._stored else lambda: map(fresh, self._begin())  # a source may reuse its memory
        with self._said("batches="):
            self._pool, kept = parted(copying, needed)
        if self._per_epoch is None and len(self._pool) < needed:  # the end was seen
            self._per_epoch = len(self._pool) + len(kept)
        if self._score_on is None:
            self._score_on = source(kept)
        else:
            self._pool += kept

    def start(self, seed: int) -> None:
        """Begin at the state that was found; the optimizer's hooks are off from here on."""
        self._memory.restore()
        self._memory.silence()
        if not self._model.training:
            self._model.train()
        _switch(self._optimizers, "train")
        seed_all(seed)
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        self._stream = endless(self._begin) if self._pool is None else shuffled(self._pool, seed)

    def step(self, rate: float) -> float:
        """Make one update."""
        self._write(rate)
        batches = self._batches()
        with self._said(f"update {self._spent['updates']}, at the rate {rate:.3g},"), torch.enable_grad():
            loss = self._usual(batches) if self._step is None else _number(self._step(batches[0]), "step=")
        self._spent["updates"] += 1
        return loss

    def score(self) -> float:
        """Return the mean loss per example over the held-out batches, in eval mode."""
        if self._loss is None:
            assert self._step is not None
            for optimizer in self._memory.optimizers:
                for group in optimizer.param_groups:
                    _write(group, 0.0)
            own, weights = self._step, [p for group in self._groups for p in group["params"]]
            kept = [p.detach().clone() for p in weights]

            def scored(batch: Any) -> float:
                loss = _number(own(batch), "step=")
                with torch.no_grad():  # some optimizers move at the rate 0 too
                    for p, value in zip(weights, kept, strict=True):
                        p.copy_(value)
                return loss

            with self._said("scoring"), torch.enable_grad():
                return float(self._mean(scored))
        with self._said("scoring"), _evaluating(self._model, self._optimizers), torch.no_grad():
            return float(self._mean(lambda batch: _number(self._evaluated(self._model, batch), "loss=")))

    def scores(self, rows: Sequence[Sequence[float]], seed: int) -> list[float]:
        """Train a candidate per row, all at once where that is possible."""
        if self._one_by_one is None and len(rows) > 1:
            try:
                scores, losses = self._together(rows, seed)
                if not self._checked:
                    self._checked = self._confirmed(rows, scores, losses, seed)
                return scores
            except FinderError:
                raise
            except Exception as error:
                self._one_by_one = f"{type(error).__name__}: {error}".split("\n")[0][:200]
                self._circumstances["engine"] = f"one by one ({self._one_by_one})"
        return one_by_one(self, rows, seed)

    def ceiling(self, seed: int) -> float | None:
        """Return the rate at which curvature makes training unstable; None if it cannot be told or there is none."""
        try:
            found = self.curvature(seed)
        except RuntimeError:  # FinderError, or no memory for it
            return None
        self._spent["products"] = found.iterations
        return found.rate if math.isfinite(found.rate) else None

    def curvature(self, seed: int) -> Ceiling:
        """Return the ceiling at the state that was found.

        Raises:
            FinderError: It cannot be told.
        """
        if self._loss is None:
            raise FinderError("ceiling: needs loss=; an update of your own cannot be differentiated twice.")
        self.start(seed)
        with self._said("batches="):
            batches = list(islice(self._begin() if self._pool is None else self._pool, BATCHES))
        if not batches:
            raise FinderError("ceiling: batches is empty. Give at least one batch.")
        return measured(
            partial(self._evaluated, self._model), self._model, self._optimizers, self._ratios, batches, seed
        )  # fmt: skip

    def restore(self) -> None:
        """Put everything back."""
        self._stream = iter(())  # worker processes end with it
        self._memory.restore()

    # -- one candidate -------------------------------------------------------------------------------------------

    def _write(self, rate: float) -> None:
        for group, ratio in zip(self._groups, self._ratios, strict=True):
            _write(group, rate * ratio)

    def _batches(self) -> list[Any]:
        """The batches of the coming update, on the model's device."""
        with self._said("batches="):
            found = [fresh(next(self._stream), self._device) for _ in range(self._accumulation)]
        self._spent["batches"] += len(found)
        largest = max(self._circumstances.get("examples_per_update", 0), sum(map(examples, found)))
        self._circumstances["examples_per_update"] = largest
        return found

    def _usual(self, batches: list[Any]) -> float:
        """Forward, backward and update; the loss is the mean over the batches."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for batch in batches:
            loss = self._evaluated(self._model, batch)
            total += _number(loss, "loss=")
            if not isinstance(loss, Tensor) or not loss.requires_grad:
                raise FinderError("find_lr: loss= must return a tensor that depends on the model's parameters.")
            part = loss / len(batches)
            (part if self._scaler is None else self._scaler.scale(part)).backward()
        for optimizer in self._optimizers:
            if self._scaler is None:
                optimizer.step()
            else:
                self._scaler.step(optimizer)
        if self._scaler is not None:
            self._scaler.update()
        return total / len(batches)

    def _evaluated(self, model: Callable[..., Any], batch: Any) -> Any:
        assert self._loss is not None
        with self._autocast():
            if isinstance(batch, Mapping):
                return self._loss(model(**batch), batch)
            if isinstance(batch, (tuple, list)):
                return self._loss(model(*batch[:-1]), batch[-1])
            return self._loss(model(batch), batch)

    def _mean(self, loss: Callable[[Any], Any]) -> Any:
        """The mean of ``loss(batch)`` per example over the held-out batches."""
        total, count = 0.0, 0
        assert self._score_on is not None
        for held_out in self._score_on():
            batch = fresh(held_out, self._device)
            n = examples(batch) or 1
            total, count = total + n * loss(batch), count + n
        if not count:
            raise FinderError("find_lr: held_out is empty. Give it at least one batch, or leave it out.")
        return total / count

    @contextmanager
    def _said(self, where: str) -> Iterator[None]:
        """Say of an exception where it came from."""
        try:
            yield
        except FinderError:
            raise
        except ScheduleDetached as error:
            what = (
                "another Scheduler drives some of these parameters. Let it go with its detach() first"
                if self._step is None
                else "step= called the Scheduler, which sees another rate than its own. Leave scheduler.step() out of "
                "the step that is given here"
            )
            raise FinderError(f"find_lr: {what}; everything is as it was before.") from error
        except Exception as error:
            closure = self._step is None and "closure" in str(error)
            hint = " This optimizer needs a closure: give step=, your own update, instead of loss." if closure else ""
            raise FinderError(
                f"find_lr: {where} raised {type(error).__name__}: {error}.{hint} Everything is as it was before."
            ) from error

    # -- all candidates at once ----------------------------------------------------------------------------------

    def _unmapped(self) -> str | None:
        """Why candidates must train one by one; None if nothing is seen that forbids more."""
        if self._step is not None:
            return "step= is a function of its own"
        if self._scaler is not None or self._autocast is not nullcontext:
            return "mixed precision"
        return unfit(self._model, self._optimizers)

    def _together(self, rows: Sequence[Sequence[float]], seed: int) -> tuple[list[float], list[float]]:
        """Each candidate's score and mean training loss."""
        self.start(seed)
        population = self._population(len(rows))
        total = torch.zeros(len(rows), dtype=torch.float64, device=self._device)
        for rates in zip(*rows, strict=True):
            batches = self._batches()
            total += population.step(batches, torch.tensor(rates, dtype=torch.float64, device=self._device))
            self._spent["updates"] += len(rows)
        with _evaluating(self._model, self._optimizers):
            scores = self._mean(lambda batch: population.losses(batch).double())
        losses = [loss / len(rows[0]) for loss in total.tolist()]
        return [float(s) if math.isfinite(loss) else math.nan for s, loss in zip(scores, losses, strict=True)], losses

    def _population(self, count: int) -> Population:
        return Population(self._model, self._optimizers, self._ratios, self._evaluated, count)

    def _confirmed(
        self, rows: Sequence[Sequence[float]], scores: Sequence[float], losses: Sequence[float], seed: int
    ) -> bool:
        """Train the best of the candidates alone too, and return whether it did train.

        Its score may differ by half: before a normalization, rounding alone decides where Adam takes a bias, which
        the training loss does not see and running statistics follow late.

        Raises:
            ArithmeticError: Its losses are others, or some parameter gets no gradient in some update: an optimizer
                passes over that, whereas in a population it is 0, and momentum and weight decay go on.
        """
        best = min(range(len(rows)), key=lambda i: scores[i] if math.isfinite(scores[i]) else math.inf)
        trained = [p for group in self._groups for p in group["params"] if p.requires_grad]
        self.start(seed)
        total = 0.0
        for rate in rows[best]:
            total += self.step(rate)
            if any(p.grad is None for p in trained):
                raise ArithmeticError("a parameter gets no gradient in some updates")
            if not math.isfinite(total):
                break
        loss, score = total / len(rows[best]), self.score() if math.isfinite(total) else math.nan
        if not math.isfinite(scores[best]) and not math.isfinite(score):
            return False
        for one, other, allowed in ((losses[best], loss, 0.01), (scores[best], score, 0.5)):
            if not math.isclose(one, other, rel_tol=allowed, abs_tol=1e-6):
                raise ArithmeticError(f"all at once, a candidate reached a loss of {one:.6g}, alone {other:.6g}")
        return True

    def _found(self) -> dict[str, Any]:
        """The circumstances, as far as they are known before the first batch."""
        kinds = [type(optimizer).__name__ for optimizer in self._optimizers]
        labels = names(self._groups) if len(kinds) == 1 else list(map(str, range(len(self._groups))))
        found: dict[str, Any] = {
            "optimizer": kinds[0] if len(kinds) == 1 else kinds,
            "ratios": dict(zip(labels, self._ratios, strict=True)),
            "weight_decay": sorted({float(group["weight_decay"]) for group in self._groups if "weight_decay" in group}),
        }
        leading = self._groups[self._ratios.index(max(self._ratios))]
        if "betas" in leading:
            found["betas"] = [float(beta) for beta in leading["betas"]]
        elif "momentum" in leading:
            found["momentum"] = float(leading["momentum"])
        positions = [s.position for o in self._optimizers if (s := WATCH.scheduler_of(o)) is not None]
        if positions:
            found["at_update"] = positions[0]
        reason = self._unmapped()
        found["engine"] = "all at once" if reason is None else f"one by one ({reason})"
        return found


@contextmanager
def _evaluating(model: nn.Module, optimizers: Sequence[Any]) -> Iterator[None]:
    """Put every module into eval mode, and back into its own; optimizers that have modes too."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    _switch(optimizers, "eval")
    try:
        yield
    finally:
        _switch(optimizers, "train")
        for module, training in modes:
            module.training = training


def _switch(optimizers: Sequence[Any], mode: str) -> None:
    """Tell optimizers that train other weights than they evaluate, such as the schedule-free ones."""
    for optimizer in optimizers:
        if callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):
            getattr(optimizer, mode)()


def _tensors(objects: Sequence[Any]) -> list[Any]:
    """The modules, optimizers and tensors among these objects and their attributes."""
    kinds = (Tensor, nn.Module, Optimizer)
    members = [x for thing in objects if not isinstance(thing, nn.Module) for x in vars(thing).values()]
    return [x for x in (*objects, *members) if isinstance(x, kinds)]


def _check_trainable(model: Any, optimizer: Any) -> None:
    if not isinstance(model, nn.Module):
        raise FinderError(f"find_lr: model must be a torch.nn.Module, got {type(model).__name__}.")
    if not isinstance(optimizer, Optimizer):
        raise FinderError(f"find_lr: optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}.")
    inside = list(model.parameters())
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    if any(map(is_lazy, inside)):
        raise FinderError("find_lr: the model has parameters without a shape. Run one batch through it first.")
    if not inside:
        raise FinderError("find_lr: the model has no parameters, so there is nothing to train.")
    if {id(p) for p in inside}.isdisjoint(map(id, stepped)):
        raise FinderError(
            "find_lr: the optimizer has none of the model's parameters. Make it from this model: "
            f"{type(optimizer).__name__}(model.parameters(), ...)."
        )
    if _spread(model, inside):
        raise FinderError(
            "find_lr: the model is spread over several processes, and one that stops its sweep earlier would leave the "
            "others waiting. Find the rate in one process before wrapping the model; for the same batch size give "
            "accumulation= the number of processes."
        )
    if not any(p.requires_grad for p in stepped):
        raise FinderError(
            "find_lr: every parameter of the optimizer is frozen, so there is nothing to train. Set requires_grad."
        )


def _spread(model: nn.Module, parameters: list[Any]) -> bool:
    """Whether an update of this model waits for other processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    kinds = {type(x).__name__ for x in (*model.modules(), *parameters)}
    return torch.distributed.get_world_size() > 1 and not kinds.isdisjoint(_SPREAD)


def _ratios(optimizers: Sequence[Any]) -> list[float]:
    """Each group's rate over the highest, of the present rates or, if all are 0, of the base rates."""
    present: list[float] = []
    base: list[float] = []
    for optimizer in optimizers:
        groups, scheduler = optimizer.param_groups, WATCH.scheduler_of(optimizer)
        present.extend(float(group["lr"]) for group in groups)
        if scheduler is None:
            base.extend(float(group.get("initial_lr", 0.0)) for group in groups)
        else:
            pairs = zip(scheduler.base_lrs, groups, strict=False)
            base.extend(float(rate) * float(group.get("lr_scale", 1.0)) for rate, group in pairs)
    for rates in (present, base):
        if len(rates) == len(present) and 0 < max(rates) < math.inf and min(rates) >= 0:
            return [rate / max(rates) for rate in rates]
    for rate in present:
        if not 0 <= rate < math.inf:
            raise FinderError(f"find_lr: a group has the rate {rate:g}. Give every group a finite one of at least 0.")
    raise FinderError(
        "find_lr: every group's rate is 0, so their ratios are not known. Give the optimizer the rates that it is to "
        "have relative to each other, for example 1 for all."
    )


def _write(group: dict[str, Any], rate: float) -> None:
    """Give the group its rate, in place where it holds a tensor."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _number(loss: Any, where: str) -> float:
    try:
        return float(loss.detach() if isinstance(loss, Tensor) else loss)
    except (TypeError, ValueError, RuntimeError):
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise FinderError(
            f"find_lr: {where} must return one number, the mean over the batch, it returned {shape}. Add .mean()."
        ) from None
