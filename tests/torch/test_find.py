"""``find_lr`` in trainings of every kind: what it does during the sweep, and that nothing is left of it."""

import copy
import math
import random
import sys
import threading
from collections import OrderedDict, UserDict, namedtuple
from types import MappingProxyType

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, TensorDataset

from ratewise import Constant, Linear, Plateau, linear_decay
from ratewise.errors import FinderError, ScheduleError
from ratewise.finder import Lookahead, ramp
from ratewise.finder.find import find as search
from ratewise.torch import Scheduler, find as find_module, find_lr
from ratewise.torch.find import TorchTrainable

torch.manual_seed(0)
INPUTS = torch.randn(256, 8)
TARGETS = (INPUTS[:, :4] + 0.2 * torch.randn(256, 4)).argmax(1)
BATCHES = list(zip(INPUTS.split(16), TARGETS.split(16), strict=True))
LOADER = DataLoader(TensorDataset(INPUTS, TARGETS), 16, shuffle=True)
SHORT = {"method": "range", "steps": 30, "low": 1e-4}


def training(make=torch.optim.Adam, **settings):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 4))
    return model, make(model.parameters(), **{"lr": 0.01, **settings})


def content(model, optimizer):
    state = copy.deepcopy((model.state_dict(), optimizer.state_dict(), [m.training for m in model.modules()]))
    return [*state[0].values()], repr(state[1:]), torch.get_rng_state()


def same(one, other) -> bool:
    tensors = zip([*one[0], one[2]], [*other[0], other[2]], strict=True)
    return one[1] == other[1] and all(torch.equal(a, b) for a, b in tensors)


def unity(weight):
    """A step with gradient 1, whose change of a weight under SGD is the rate."""

    def step(optimizer, seen):
        def update(batch):
            weights = [p for group in optimizer.param_groups for p in group["params"]]
            for p in weights:
                p.data.zero_()
                p.grad = torch.ones_like(p)
            optimizer.step()
            seen.append([-p.item() for p in weights])
            return torch.tensor(1.0)

        return update

    return step


class Weights(nn.Module):
    """Some weights, and no more."""

    def __init__(self, optimizer) -> None:
        super().__init__()
        self.all = nn.ParameterList(p for group in optimizer.param_groups for p in group["params"])


# -- the sweep -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduled", [{}, {"clock": "hooks"}, {"clock": "step"}])
def test_every_update_uses_its_rate_and_the_schedule_goes_on_behind_it(sgd, weight, applied, scheduled) -> None:
    optimizer, seen = sgd(lr=1.0), []
    scheduler = Scheduler(optimizer, linear_decay(1.0), horizon=8, **scheduled) if scheduled else None

    def update():
        optimizer.step()
        if scheduler:
            scheduler.step()

    assert applied(optimizer, 2, update) == ([1.0, 7 / 8] if scheduled else [1.0, 1.0])
    find_lr(Weights(optimizer), optimizer, batches=BATCHES, step=unity(weight)(optimizer, seen), **SHORT)
    assert [rate for (rate,) in seen] == ramp(1e-4, 10.0, 30)
    assert applied(optimizer, 2, update) == ([6 / 8, 5 / 8] if scheduled else [1.0, 1.0])
    assert scheduler is None or (scheduler.position, scheduler.history) == (4, [])


def test_a_rate_held_as_a_tensor_is_filled_and_given_back(weight) -> None:
    rate = torch.tensor(0.5, dtype=torch.float64)
    optimizer, seen = torch.optim.SGD([weight()], lr=rate), []
    scheduler = Scheduler(optimizer, linear_decay(0.5), horizon=8)
    held = optimizer.param_groups[0]["lr"]
    find_lr(Weights(optimizer), optimizer, batches=BATCHES, step=unity(weight)(optimizer, seen), **SHORT)
    assert [used for (used,) in seen] == ramp(1e-4, 10.0, 30)
    assert optimizer.param_groups[0]["lr"] is held
    after = []
    for _ in range(2):
        unity(weight)(optimizer, after)(None)
    assert after == [[0.5], [0.4375]]
    assert scheduler.position == 2


@pytest.mark.parametrize(
    ("make", "ratios"),
    [
        (lambda o: None, [0.01, 1.0, 0.1]),
        (lambda o: Scheduler(o, factor=linear_decay(1.0), horizon=9), [0.01, 1.0, 0.1]),
        (
            lambda o: Scheduler(o, {"a": linear_decay(0.5), "b": linear_decay(0.25), "c": 1.0}, horizon=9),
            [0.5, 0.25, 1],
        ),
        (lambda o: Scheduler(o, factor=linear_decay(1.0).warmup(3, start=0.0), horizon=9), [0.01, 1.0, 0.1]),
        (lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 0.0), [0.01, 1.0, 0.1]),
    ],
    ids=["plain", "factor", "a schedule for each", "at a rate of 0", "torch's scheduler at 0"],
)
def test_groups_keep_their_ratios(sgd, weight, make, ratios) -> None:
    optimizer, seen = sgd({"name": "a", "lr": 0.01}, {"name": "b", "lr": 1.0}, {"name": "c", "lr": 0.1}), []
    scheduler = make(optimizer)
    finding = find_lr(Weights(optimizer), optimizer, batches=BATCHES, step=unity(weight)(optimizer, seen), **SHORT)
    assert list(finding.valid_for["ratios"].values()) == pytest.approx(ratios, rel=1e-15)
    for rate, used in zip(ramp(1e-4, 10.0, 30), seen, strict=True):
        assert used == pytest.approx([rate * ratio for ratio in ratios], rel=1e-14)
    del scheduler


def test_hooks_of_others_do_not_see_the_sweep_and_are_there_again() -> None:
    model, optimizer = training()
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(model))
    find_lr(model, optimizer, functional.cross_entropy, BATCHES, **SHORT)
    assert calls == []
    assert average.n_averaged == 0
    optimizer.step()
    assert calls == ["before", "after"]
    assert average.n_averaged == 1


def test_schedulers_of_torch_go_on_as_if_nothing_had_been() -> None:
    runs = []
    for sought in (False, True):
        model, optimizer = training()
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20)
        for i in range(12):
            if sought and i == 5:
                find_lr(model, optimizer, functional.cross_entropy, BATCHES, **SHORT)
            functional.cross_entropy(model(BATCHES[i][0]), BATCHES[i][1]).backward()
            optimizer.step()
            scheduler.step()
        runs.append((content(model, optimizer), optimizer.param_groups[0]["betas"], scheduler.get_last_lr()))
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1:] == runs[1][1:]


def test_accumulation_is_one_update_of_the_large_batch() -> None:
    large = [
        (torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]])) for a, b in zip(BATCHES[::2], BATCHES[1::2], strict=True)
    ]
    findings = []
    for batches, accumulation in ((BATCHES, 2), (large, 1)):
        torch.manual_seed(1)
        model = nn.Linear(8, 4).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        doubled = [(x.double(), y) for x, y in batches]
        settings = {"method": "range", "accumulation": accumulation, "high": 1e5}
        findings.append(find_lr(model, optimizer, functional.cross_entropy, doubled, **settings))
    assert findings[0].curve.losses == pytest.approx(findings[1].curve.losses, rel=1e-9)
    assert findings[0].valid_for["examples_per_update"] == findings[1].valid_for["examples_per_update"] == 32
    assert findings[0].cost["batches"] == 2 * findings[0].cost["updates"] == 2 * findings[1].cost["batches"]


def test_a_scaler_overflows_in_the_sweep_and_not_after_it() -> None:
    model, optimizer = training(torch.optim.SGD)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=5)
    before = content(model, optimizer)
    finding = find_lr(model, optimizer, functional.cross_entropy, BATCHES, scaler=scaler, **SHORT)
    assert finding.curve.losses[0] != finding.curve.losses[-1]
    assert scaler.get_scale() == 2.0**127
    assert same(before, content(model, optimizer))


def test_autocast_is_around_model_and_loss() -> None:
    model, optimizer = training(torch.optim.SGD)
    kinds = set()

    def loss(output, target):
        kinds.add(output.dtype)
        return functional.cross_entropy(output.float(), target)

    autocast = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
    find_lr(model, optimizer, loss, BATCHES, autocast=autocast, **SHORT)
    assert kinds == {torch.bfloat16}


def test_a_model_in_eval_mode_is_swept_in_train_mode_and_a_frozen_part_stays_frozen() -> None:
    modes = []
    for frozen in (False, True):
        model, optimizer = training()
        model[1].eval() if frozen else model.eval()

        def loss(output, target, model=model):
            modes.append([m.training for m in model])
            return functional.cross_entropy(output, target)

        before = [m.training for m in model.modules()]
        find_lr(model, optimizer, loss, BATCHES, **SHORT)
        assert [m.training for m in model.modules()] == before
    assert modes[0] == [True] * 5
    assert modes[-1] == [True, False, True, True, True]


def test_it_can_be_called_where_gradients_are_off() -> None:
    model, optimizer = training()
    with torch.no_grad():
        finding = find_lr(model, optimizer, functional.cross_entropy, BATCHES, method="range")
    assert finding.suggestion is not None


def test_where_inference_is_all_that_is_allowed_it_says_so() -> None:
    model, optimizer = training()
    with torch.inference_mode(), pytest.raises(FinderError, match=r"under torch.inference_mode. Call it outside"):
        find_lr(model, optimizer, functional.cross_entropy, BATCHES)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_a_fresh_model_gets_a_rate_that_trains(make) -> None:
    model, optimizer = training(make)
    before = content(model, optimizer)
    finding = find_lr(model, optimizer, functional.cross_entropy, LOADER, method="range", high=1e4)
    assert same(before, content(model, optimizer))
    assert finding.suggestion is not None, finding.reason
    for group in optimizer.param_groups:
        group["lr"] = finding.suggestion
    losses = []
    for _ in range(5):
        for x, y in BATCHES:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert sum(losses[-16:]) < 0.7 * sum(losses[:16])


# -- the same seed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True], ids=["torch's generator", "its own generator"])
def test_the_same_seed_gives_the_same_answer(own: bool) -> None:
    model, optimizer = training()
    generator = torch.Generator().manual_seed(5) if own else None
    loader = DataLoader(TensorDataset(INPUTS, TARGETS), 16, shuffle=True, generator=generator)
    findings = []
    for seed in (0, 0, 1):
        torch.rand(3)  # wherever the global generator happens to be
        findings.append(find_lr(model, optimizer, functional.cross_entropy, loader, seed=seed, **SHORT))
    assert findings[0] == findings[1] != findings[2]


# -- batches -------------------------------------------------------------------------------------------------


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x, y=None, scale=None):
        return self.layer(x if scale is None else x * scale)


Pair = namedtuple("Pair", "x y")

SHAPES = {
    "tuples": (lambda x, y: (x, y), functional.cross_entropy),
    "lists": (lambda x, y: [x, y], functional.cross_entropy),
    "namedtuples": (Pair, functional.cross_entropy),
    "two inputs": (lambda x, y: (x, None, torch.ones(8), y), functional.cross_entropy),
    "dictionaries": (lambda x, y: {"x": x, "y": y}, lambda o, batch: functional.cross_entropy(o, batch["y"])),
    "ordered": (lambda x, y: OrderedDict(x=x, y=y), lambda o, batch: functional.cross_entropy(o, batch["y"])),
    "mappings": (lambda x, y: UserDict(x=x, y=y), lambda o, batch: functional.cross_entropy(o, batch["y"])),
    "read-only": (
        lambda x, y: MappingProxyType({"x": x, "y": y}),
        lambda o, batch: functional.cross_entropy(o, batch["y"]),
    ),
    "inputs alone": (lambda x, y: x, lambda o, batch: (o.sum(1) - batch.sum(1)).square().mean()),
    "nested": (lambda x, y: (x, {"labels": [y]}), lambda o, t: functional.cross_entropy(o, t["labels"][0])),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_may_be(shape: str) -> None:
    form, loss = SHAPES[shape]
    torch.manual_seed(1)
    model = Named()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    finding = find_lr(model, optimizer, loss, [form(x, y) for x, y in BATCHES], method="range", steps=20)
    assert len(set(finding.curve.losses)) >= 19
    assert finding.valid_for["examples_per_update"] == 16


def test_a_model_that_writes_into_its_input_does_not_spoil_the_batches() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 4))
    kept = [x.clone() for x, _ in BATCHES]
    find_lr(
        model, torch.optim.SGD(model.parameters(), lr=0.1), functional.cross_entropy, BATCHES, method="range", steps=20
    )
    assert all(torch.equal(a, x) for a, (x, _) in zip(kept, BATCHES, strict=True))


class Endless:
    """Begins anew each time, and has no length."""

    def __iter__(self):
        while True:
            yield BATCHES[random.randrange(16)]


def test_an_iterable_without_length_is_begun_anew_and_global_randomness_is_put_back() -> None:
    model, optimizer = training()
    state = random.getstate()
    findings = [find_lr(model, optimizer, functional.cross_entropy, Endless(), **SHORT) for _ in range(2)]
    assert findings[0] == findings[1]
    assert random.getstate() == state


def test_few_batches_are_gone_through_again() -> None:
    model, optimizer = training()
    finding = find_lr(model, optimizer, functional.cross_entropy, BATCHES[:3], **SHORT)
    assert (finding.cost["updates"], finding.cost["batches"]) == (30, 30)


def test_the_batches_of_a_stream_still_come() -> None:
    model, optimizer = training()
    stream = Lookahead(iter(BATCHES))
    assert next(stream) is BATCHES[0]
    finding = find_lr(model, optimizer, functional.cross_entropy, stream, **SHORT)
    assert finding.cost["batches"] == 30  # the 15 that are left, twice
    rest = list(stream)
    assert len(rest) == 15
    assert all(a is b for a, b in zip(rest, BATCHES[1:], strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_worker_processes_go_on_with_the_epoch_in_progress() -> None:
    orders = []
    workers = {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "forkserver"}
    for sought in (False, True):
        generator = torch.Generator().manual_seed(5)
        loader = DataLoader(TensorDataset(INPUTS, TARGETS), 32, shuffle=True, generator=generator, **workers)
        order = []
        for epoch in range(2):
            for i, (x, _) in enumerate(loader):
                order.append(x[0].tolist())
                if sought and (epoch, i) == (0, 2):
                    # one pass over the loader
                    find_lr(*training(), functional.cross_entropy, loader, horizon=8, steps=2, seeds=1)
        orders.append(order)
    assert len(orders[0]) == 16
    assert orders[0] == orders[1]


# -- wrapped optimizers --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_under_accelerate() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer, loader = accelerator.prepare(*training(), LOADER)
    scheduler = Scheduler(optimizer, linear_decay(0.01), horizon=100)
    before = content(model, optimizer)
    finding = find_lr(model, optimizer, functional.cross_entropy, loader, method="range", high=1e3)
    assert finding.suggestion is not None
    assert same(before, content(model, optimizer))
    assert scheduler.position == 0


def test_a_step_of_ones_own_with_two_models_and_two_optimizers() -> None:
    model, optimizer = training()
    other, second = training(torch.optim.SGD, momentum=0.9)
    scheduler = Scheduler(second, linear_decay(0.01), horizon=100)

    def step(batch):
        for o in (optimizer, second):
            o.zero_grad()
        loss = functional.cross_entropy(model(batch[0]) + other(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        second.step()
        return loss

    step(BATCHES[0])
    before = content(model, optimizer), content(other, second), scheduler.state_dict()
    finding = find_lr(model, optimizer, batches=BATCHES, step=step, also=[other, second], **SHORT)
    assert len(finding.curve.losses) >= 20
    assert same(before[0], content(model, optimizer))
    assert same(before[1], content(other, second))
    assert scheduler.state_dict() == before[2]


# -- bad input -----------------------------------------------------------------------------------------------


def frozen():
    model, optimizer = training()
    model.requires_grad_(False)
    return model, optimizer


def foreign():
    return training()[0], training()[1]


def still():
    model, optimizer = training()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    return model, optimizer


def lazy():
    model = nn.LazyLinear(3)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def none_at_all():
    return nn.ReLU(), training()[1]


def broken(output, target):
    raise ValueError("shapes differ")


def unbounded():
    model, optimizer = training()
    optimizer.param_groups[0]["lr"] = math.inf
    return model, optimizer


class Failing:
    """A loader whose disk fails."""

    def __iter__(self):
        yield BATCHES[0]
        raise OSError("disk")


LOSS = functional.cross_entropy

BAD = [
    (training, LOSS, Failing(), {}, "batches= raised OSError: disk. Everything is as it was"),
    (training, LOSS, Failing(), {"method": "range"}, "batches= raised OSError: disk. Everything is as it was"),
    (training, LOSS, (INPUTS, TARGETS), {}, r"batches is a tuple of tensors, .* Give a list of batches: \[\(x, y\)"),
    (training, LOSS, BATCHES, {"held_out": (INPUTS, TARGETS)}, "held_out is a tuple of tensors"),
    (training, LOSS, BATCHES, {"also": training()[0]}, r"also must be a list of objects, got Sequential. Write also="),
    (training, LOSS, BATCHES, {"also": ["x"]}, "needs objects with attributes, got str. Look at also="),
    (training, LOSS, BATCHES, {"scaler": "x"}, "scaler must be the GradScaler in use, got 'x'"),
    (training, LOSS, BATCHES, {"scaler": torch.amp.GradScaler}, "scaler must be the GradScaler in use"),
    (unbounded, LOSS, BATCHES, {}, "a group has the rate inf. Give every group a finite one of at least 0"),
    (training, LOSS, [], {}, "batches is empty"),
    (training, LOSS, BATCHES[:1], {}, "batches has one batch only, so every update would see the same examples"),
    (training, LOSS, iter(BATCHES), {}, "batches is an iterator, and what the finder takes would be missing"),
    (training, LOSS, (b for b in BATCHES), {}, r"stream = ratewise.finder.Lookahead\(iterator\)"),
    (training, LOSS, None, {}, "batches must be a loader, .* got NoneType"),
    (training, LOSS, INPUTS, {}, "batches must be a loader, .* got Tensor"),
    (training, LOSS, {"x": 1}, {}, "got dict"),
    (training, LOSS, BATCHES, {"low": 1.0, "high": 0.1}, "low must be above 0 and below high"),
    (training, LOSS, BATCHES, {"method": "range", "steps": 3}, "steps must be an integer of at least 20, got 3"),
    (training, LOSS, BATCHES, {"seed": -1}, "seed must be an integer of at least 0"),
    (training, LOSS, BATCHES, {"steps": 401}, "steps must be a whole number from 1 to the 400 updates of the horizon"),
    (training, LOSS, BATCHES, {"seeds": 0}, "seeds must be an integer of at least 1, got 0"),
    (training, LOSS, BATCHES, {"schedule": 3 * [0.1]}, r"schedule must be a ratewise schedule, .* got \[0.1"),
    (training, LOSS, BATCHES, {"schedule": Linear(0.1, -0.1)}, "must be finite, at least 0 and somewhere above 0, but"),
    (training, LOSS, BATCHES, {"schedule": Constant(0.0)}, "somewhere above 0, but over 400 updates .* from 0 to 0"),
    (training, LOSS, BATCHES, {"horizon": 0}, "total_steps must be an integer of at least 1, got 0"),
    (training, LOSS, BATCHES, {"held_out": iter(BATCHES)}, "held_out is an iterator"),
    (training, LOSS, BATCHES, {"held_out": []}, "held_out is empty. Give it at least one batch, or leave it out"),
    (
        training,
        LOSS,
        BATCHES,
        {"method": "rnage"},
        "method must be 'probe' or 'range', got 'rnage'. Did you mean 'range'",
    ),
    (training, LOSS, BATCHES, {"method": "range", "horizon": 9}, "a range test knows neither schedule= nor horizon="),
    (training, LOSS, BATCHES, {"accumulation": 0}, "accumulation must be an integer of at least 1"),
    (training, None, BATCHES, {}, "needs loss=, .* or step="),
    (training, None, BATCHES, {"step": lambda b: 1.0, "accumulation": 2}, "step= accumulates by itself"),
    (training, lambda o, t: o, BATCHES, {}, r"loss= must return one number, .* it returned \(16, 4\). Add .mean"),
    (training, lambda o, t: None, BATCHES, {}, "it returned NoneType"),
    (training, lambda o, t: 1.0, BATCHES, {}, "must return a tensor that depends on the model's parameters"),
    (training, lambda o, t: LOSS(o, t).detach(), BATCHES, {}, "must return a tensor that depends"),
    (training, broken, BATCHES, {}, r"update 0, at the rate 1e-07, raised ValueError: shapes differ"),
    (frozen, LOSS, BATCHES, {}, "every parameter of the optimizer is frozen"),
    (foreign, LOSS, BATCHES, {}, r"none of the model's parameters. Make it from this model: Adam\(model"),
    (still, LOSS, BATCHES, {}, "every group's rate is 0, so their ratios are not known"),
    (lazy, LOSS, BATCHES, {}, "parameters without a shape. Run one batch through it first"),
    (none_at_all, LOSS, BATCHES, {}, "the model has no parameters, so there is nothing to train"),
    (lambda: (5, training()[1]), LOSS, BATCHES, {}, "model must be a torch.nn.Module, got int"),
    (lambda: (training()[0], []), LOSS, BATCHES, {}, "optimizer is an empty list"),
    (lambda: (training()[0], 5), LOSS, BATCHES, {}, "optimizer must be a torch.optim.Optimizer, got int"),
]


@pytest.mark.parametrize(("make", "loss", "batches", "settings", "message"), BAD, ids=[case[-1][:40] for case in BAD])
def test_what_cannot_be_swept_is_one_sentence_and_changes_nothing(make, loss, batches, settings, message) -> None:
    model, optimizer = make()
    real = isinstance(model, nn.Module) and isinstance(optimizer, torch.optim.Optimizer) and make is not lazy
    before = content(model, optimizer) if real else None
    with pytest.raises((FinderError, ScheduleError), match=message):
        find_lr(model, optimizer, loss, batches, **settings)
    assert before is None or same(before, content(model, optimizer))


def test_a_loss_that_is_nan_at_once_is_declined() -> None:
    model, optimizer = training()
    before = content(model, optimizer)
    finding = find_lr(model, optimizer, lambda o, t: LOSS(o, t) * math.nan, BATCHES, method="range")
    assert finding.suggestion is None
    assert finding.reason.startswith("The loss was already nan at the first rate (1e-07)")
    assert (finding.cost["updates"], finding.cost["batches"]) == (1, 1)
    assert same(before, content(model, optimizer))


def test_a_step_that_does_not_train_is_declined_as_flat() -> None:
    model, optimizer = training()
    finding = find_lr(model, optimizer, batches=BATCHES, step=lambda batch: 2.5, method="range")
    assert finding.suggestion is None
    assert finding.reason.startswith("The loss is flat")


def test_a_step_that_calls_a_scheduler_which_counts_calls_is_told_so(sgd, weight, applied) -> None:
    optimizer, seen = sgd(lr=1.0), []
    scheduler = Scheduler(optimizer, linear_decay(1.0), horizon=8, clock="step")
    inner = unity(weight)(optimizer, seen)

    def step(batch):
        loss = inner(batch)
        scheduler.step()
        return loss

    with pytest.raises(FinderError, match=r"step= called the Scheduler.*Leave scheduler.step\(\) out"):
        find_lr(Weights(optimizer), optimizer, batches=BATCHES, step=step)
    assert scheduler.position == 0
    assert scheduler._step_count == 1


def test_another_scheduler_of_the_same_parameters_is_named() -> None:
    model, optimizer = training()
    other = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = Scheduler(other, linear_decay(0.1), horizon=50)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    other.step()
    with pytest.raises(FinderError, match=r"another Scheduler drives some of these parameters. Let it go with its"):
        find_lr(model, optimizer, functional.cross_entropy, BATCHES, **SHORT)
    assert scheduler.position == 1


def test_an_optimizer_that_needs_a_closure_is_named() -> None:
    model, optimizer = training(torch.optim.LBFGS)
    with pytest.raises(FinderError, match=r"update 0, .*raised TypeError: LBFGS.*: give step=, your own"):
        find_lr(model, optimizer, functional.cross_entropy, BATCHES)
    finding = find_lr(model, optimizer, batches=BATCHES, step=closing(model, optimizer), **SHORT)
    assert len(finding.curve.losses) >= 10


def closing(model, optimizer):
    def step(batch):
        def closure():
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            return loss

        return optimizer.step(closure)

    return step


def test_a_model_spread_over_processes_is_refused() -> None:
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")  # torch's own, for one of two processes
    torch.distributed.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=2)
    try:
        model, _ = training()
        spread = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.SGD(spread.parameters(), lr=0.1)
        with pytest.raises(FinderError, match=r"spread over several processes.*Find the rate in one process"):
            find_lr(spread, optimizer, LOSS, BATCHES)
        assert find_lr(*training(), LOSS, BATCHES, **SHORT).suggestion is not None
    finally:
        torch.distributed.destroy_process_group()


def test_what_cannot_be_remembered_is_refused_before_anything_is_done() -> None:
    model, optimizer = training()
    with pytest.raises(FinderError, match=r"needs objects with attributes, got int. Look at also="):
        find_lr(model, optimizer, LOSS, BATCHES, also=[3])


def test_rules_and_logs_of_a_scheduler_do_not_notice() -> None:
    model, optimizer = training()
    scheduler = Scheduler(optimizer, linear_decay(0.01) * Plateau(patience=2), horizon=100)
    logged = []
    scheduler.log_to(lambda t, rates: logged.append((t, rates)))

    def train(updates):
        for x, y in BATCHES[:updates]:
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            scheduler.observe(1.0)

    train(4)
    before = scheduler.state_dict(), content(model, optimizer)
    find_lr(model, optimizer, functional.cross_entropy, BATCHES, **SHORT)
    assert scheduler.state_dict() == before[0]
    assert same(content(model, optimizer), before[1])
    train(2)
    assert [t for t, _ in logged] == list(range(6))


# -- what is put back, and who does not notice ---------------------------------------------------------------


class Moving(nn.Module):
    """A loss with a buffer that each call moves."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.calls = 0

    def forward(self, output, target):
        self.calls += 1
        self.mean.mul_(0.9).add_(0.1 * output.detach().mean())
        return functional.cross_entropy(output, target) + self.mean.mean() * 1e-3


def test_a_loss_with_a_memory_of_its_own_is_as_it_was() -> None:
    loss = Moving()
    find_lr(*training(), loss, BATCHES, **SHORT)
    assert (loss.calls, loss.mean.item()) == (0, 0.0)


class Own:
    """A trainer of one's own, whose method is the step."""

    def __init__(self) -> None:
        self.model, self.optimizer = training()
        self.second, self.average, self.count, self.seen = nn.Linear(1, 1), torch.zeros(1), 0, []

    def update(self, batch):
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.model(batch[0]), batch[1])
        loss.backward()
        self.optimizer.step()
        self.count += 1
        self.average.add_(loss.detach())
        self.second.weight.data.add_(1.0)
        self.seen.append(self.count)
        return loss


def test_the_object_of_a_step_that_is_a_method_is_as_it_was() -> None:
    own = Own()
    weight = own.second.weight.item()
    find_lr(own.model, own.optimizer, batches=BATCHES, step=own.update, **SHORT)
    assert (own.count, own.average.item(), own.second.weight.item(), own.seen) == (0, 0.0, weight, [])


def test_inputs_that_take_gradients_keep_none() -> None:
    batches = [(x.clone().requires_grad_(), y) for x, y in BATCHES]
    seen = set()

    def loss(output, target):
        seen.add(output.requires_grad)
        return functional.cross_entropy(output, target)

    find_lr(*training(), loss, batches, **SHORT)
    assert all(x.grad is None for x, _ in batches)


class Record:
    """A batch of one's own kind."""

    def __init__(self, x, y) -> None:
        self.x, self.y = x, y


class Movable(Record):
    """One that moves in place, as some do."""

    def to(self, device):
        self.x, self.y = self.x.to(device), self.y.to(device)
        return self


@pytest.mark.parametrize("kind", [Record, Movable])
def test_a_batch_of_ones_own_kind_is_copied_too(kind) -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, batch):
            return self.layer(batch.x.relu_())

    torch.manual_seed(1)
    model, batches = Writing(), [kind(x.clone(), y) for x, y in BATCHES]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    finding = find_lr(model, optimizer, lambda o, batch: functional.cross_entropy(o, batch.y), batches, **SHORT)
    assert all(torch.equal(batch.x, x) for batch, (x, _) in zip(batches, BATCHES, strict=True))
    assert finding.valid_for["examples_per_update"] == 16


def test_hooks_of_all_optimizers_do_not_see_the_sweep_and_are_there_again() -> None:
    register = register_optimizer_step_post_hook
    calls = []
    handles = [register(lambda *_: calls.append("first")), register(lambda *_: calls.append("second"))]
    model, optimizer = training()
    find_lr(model, optimizer, functional.cross_entropy, BATCHES, **SHORT)
    assert calls == []
    optimizer.step()
    for handle in handles:
        handle.remove()
    assert calls == ["first", "second"]


def test_an_optimizer_with_modes_trains_and_is_scored_in_the_right_one() -> None:
    schedulefree = pytest.importorskip("schedulefree")
    model, optimizer = training(schedulefree.AdamWScheduleFree)
    optimizer.eval()
    modes = set()

    def loss(output, target):
        modes.add((torch.is_grad_enabled(), optimizer.param_groups[0]["train_mode"]))
        return functional.cross_entropy(output, target)

    find_lr(model, optimizer, loss, BATCHES, horizon=8, steps=3, seeds=1)
    assert modes == {(True, True), (False, False)}
    assert not optimizer.param_groups[0]["train_mode"]


def test_a_step_alone_does_not_train_on_what_it_is_scored_on() -> None:
    model, optimizer = training(torch.optim.Rprop)  # moves at the rate 0 too

    def step(batch):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    trainable = TorchTrainable(model, optimizer, None, BATCHES[:8], step=step, held_out=BATCHES[8:])
    trainable.start(0)
    for _ in range(3):
        trainable.step(0.01)
    before = [p.clone() for p in model.parameters()]
    score = trainable.score()
    same_weights = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    trainable.restore()
    assert same_weights
    assert math.isfinite(score)


class Reusing:
    """Fills one piece of memory for every batch, in an order that is sorted by class."""

    def __iter__(self):
        x, y = torch.empty(16, 8), torch.empty(16, dtype=torch.long)
        order = TARGETS.argsort()
        for rows in order.split(16):
            x.copy_(INPUTS[rows])
            y.copy_(TARGETS[rows])
            yield x, y


def test_batches_that_share_memory_are_kept_apart_and_sorted_ones_are_held_out_evenly() -> None:
    model, optimizer = training()
    trainable = TorchTrainable(model, optimizer, functional.cross_entropy, Reusing())
    trainable.prepare(100)
    kept = {int(y[0]) for _, y in trainable._score_on()}
    trained = {float(x[0, 0]) for x, _ in trainable._pool}
    trainable.restore()
    assert len(trained) == len(trainable._pool) == 14
    assert len(kept) == 2


def test_two_searches_in_two_threads_wait_for_each_other() -> None:
    alone = find_lr(*training(), functional.cross_entropy, BATCHES, **SHORT)
    found, pairs = [], [training(), training()]
    threads = [
        threading.Thread(target=lambda p=p: found.append(find_lr(*p, functional.cross_entropy, BATCHES, **SHORT)))
        for p in pairs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone, alone]


def test_ctrl_c_just_before_restoring_begins_leaves_nothing() -> None:
    model, optimizer = training()
    before = content(model, optimizer)

    def interrupt(frame, event, arg):
        if frame.f_code.co_name == "restore" and frame.f_code.co_filename == find_module.__file__ and calls:
            sys.settrace(None)
            raise KeyboardInterrupt
        return

    calls = []

    def loss(output, target):
        calls.append(1)
        return functional.cross_entropy(output, target)

    tracing = sys.gettrace()
    trainable = TorchTrainable(model, optimizer, loss, BATCHES)

    def step(rate, plain=trainable.step):
        if len(calls) == 3:
            sys.settrace(interrupt)
            raise ValueError("the last update")
        return plain(rate)

    trainable.step = step
    try:
        with pytest.raises(KeyboardInterrupt):
            search(trainable, horizon=8)
    finally:
        sys.settrace(tracing)
    assert same(before, content(model, optimizer))
