"""The paired probe through ``find_lr``: what candidates do, and trainings of every kind."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from ratewise import Horizon, Plateau, linear_decay, one_cycle
from ratewise.errors import FinderError
from ratewise.finder import Lookahead, Trials, compressed
from ratewise.torch import Scheduler, find_lr
from ratewise.torch.find import TorchTrainable

torch.manual_seed(0)
INPUTS = torch.randn(320, 8)
TARGETS = (INPUTS[:, :4] + 0.5 * torch.randn(320, 4)).argmax(1)
BATCHES = list(zip(INPUTS.split(16), TARGETS.split(16), strict=True))
LOSS = functional.cross_entropy
SHORT = {"steps": 10, "seeds": 2, "horizon": 80}


def training(make=torch.optim.Adam, **settings):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 4))
    return model, make(model.parameters(), **{"lr": 0.01, **settings})


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
def test_the_suggestion_trains_nearly_as_well_as_the_best_rate(make) -> None:
    settings = {"held_out": BATCHES[-4:], "schedule": linear_decay(1.0), "horizon": 200, "steps": 25}
    finding = find_lr(*training(make), LOSS, BATCHES[:-4], **settings)
    assert finding.suggestion is not None, finding.reason

    def final(rate: float) -> float:
        model, optimizer = training(make)
        scheduler = Scheduler(optimizer, linear_decay(rate), horizon=200)
        for i in range(200):
            x, y = BATCHES[i % 16]
            optimizer.zero_grad()
            LOSS(model(x), y).backward()
            optimizer.step()
        assert scheduler.position == 200
        model.eval()
        return LOSS(model(INPUTS[-64:]), TARGETS[-64:]).item()

    best = min(final(finding.suggestion * 4.0**k) for k in (-2, -1, 1, 2))
    assert final(finding.suggestion) < best + 0.1
    assert finding.valid_for["epochs"] == 12.5
    assert finding.ceiling is None or finding.ceiling > 0


def test_candidates_run_the_compressed_schedule_from_the_same_start_on_the_same_batches(weight) -> None:
    """The weight moves by the rate, as the gradient is 1."""
    p = weight()
    model = nn.ParameterList([p])
    optimizer = torch.optim.SGD([p], lr=1.0)
    runs, batches = [[]], []

    def step(batch):
        before = p.item()
        optimizer.zero_grad()
        loss = (p * 1.0).sum()
        loss.backward()
        optimizer.step()
        runs[-1].append(before - p.item())
        batches[-1].append(batch)
        return 2.0

    trainable = TorchTrainable(model, optimizer, None, list(range(20)), step=step)
    trainable.prepare(10)
    shape = compressed(one_cycle(1.0), 80, 10)
    rows = [[rate * part for part in shape] for rate in (0.01, 0.3)]
    for row in rows:
        runs.append([])
        batches.append([])
        trainable.scores([row], 7)
    trainable.restore()
    for run, row in zip(runs[1:], rows, strict=True):
        assert run[:10] == pytest.approx(row, rel=1e-12)
        assert run[10:] == [0.0]  # the held-out batch, at the rate 0
    assert batches[0] == batches[1]
    assert len(set(batches[0])) == 11
    assert p.item() == weight().item()


def test_held_out_batches_are_never_trained_on() -> None:
    model, optimizer = training()
    trainable = TorchTrainable(model, optimizer, LOSS, BATCHES)
    trainable.prepare(100)
    kept = [float(x[0, 0]) for x, _ in trainable._score_on()]
    assert len(kept) == 2
    trained = set()
    for seed in range(3):
        trainable.start(seed)
        trained |= {float(x[0, 0]) for x, _ in (trainable._batches()[0] for _ in range(60))}
    trainable.restore()
    assert trained.isdisjoint(kept)
    assert len(trained) == 18


def test_several_optimizers_keep_their_ratios_and_all_train() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    muon = torch.optim.Muon([model[0].weight, model[2].weight], lr=0.02)
    adam = torch.optim.AdamW([model[0].bias, model[2].bias], lr=0.002)
    before = [p.clone() for p in model.parameters()]
    finding = find_lr(model, [muon, adam], LOSS, BATCHES, schedule=linear_decay(1.0), **SHORT)
    assert finding.suggestion is not None, finding.reason
    assert finding.valid_for["optimizer"] == ["Muon", "AdamW"]
    assert list(finding.valid_for["ratios"].values()) == pytest.approx([1.0, 0.1])
    assert finding.valid_for["engine"].startswith("one by one (Muon is not known")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not muon.state


def test_a_step_with_a_loss_is_scored_by_the_loss_in_eval_mode() -> None:
    model, optimizer = training()
    modes = set()

    def step(batch):
        optimizer.zero_grad()
        loss = LOSS(model(batch[0]), batch[1])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    def loss(output, target):
        if not torch.is_grad_enabled():  # the ceiling is computed in train mode
            modes.add(model.training)
        return LOSS(output, target)

    finding = find_lr(model, optimizer, loss, BATCHES, step=step, **SHORT)
    assert finding.suggestion is not None, finding.reason
    assert modes == {False}
    assert model.training


def test_rules_and_an_attached_scheduler_go_on_as_if_nothing_had_been() -> None:
    runs = []
    for sought in (False, True):
        model, optimizer = training()
        scheduler = Scheduler(optimizer, linear_decay(0.01) * Plateau(), horizon=60)
        losses = []
        for i in range(30):
            if sought and i == 12:
                finding = find_lr(model, optimizer, LOSS, BATCHES, steps=10, seeds=2)
                assert finding.curve.horizon == 48
                assert "Plateau" in finding.valid_for["schedule"]
                assert finding.valid_for["at_update"] == 12
            x, y = BATCHES[i % 20]
            optimizer.zero_grad()
            loss = LOSS(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        runs.append((losses, scheduler.get_last_lr(), scheduler.position))
    assert runs[0] == runs[1]


def test_a_horizon_alone_stretches_what_the_attached_schedule_has_before_it() -> None:
    model, optimizer = training()
    scheduler = Scheduler(optimizer, linear_decay(0.01), horizon=60)
    finding = find_lr(model, optimizer, LOSS, BATCHES, **SHORT)
    assert finding.valid_for["schedule"] == repr(scheduler.schedules()["0"])
    assert (finding.curve.horizon, finding.valid_for["horizon"]) == (80, 80)


@pytest.mark.parametrize("held_out", [None, BATCHES[-3:]], ids=["kept aside", "given"])
def test_seeds_are_other_orders_of_the_batches_also_of_a_list(held_out) -> None:
    finding = find_lr(*training(torch.optim.SGD), LOSS, BATCHES, held_out=held_out, **SHORT)
    full = [scores for scores in finding.curve.scores if len(scores) == 2]
    assert all(one != other for one, other in full)


def test_at_the_end_of_its_schedule_it_asks_for_the_next() -> None:
    model, optimizer = training()
    scheduler = Scheduler(optimizer, linear_decay(0.01), horizon=3)
    for _ in range(3):
        LOSS(model(INPUTS), TARGETS).backward()
        optimizer.step()
    assert scheduler.position == 3
    with pytest.raises(
        FinderError, match=r"stands at update 3, at the end of its horizon of 3. Give the schedule= and"
    ):
        find_lr(model, optimizer, LOSS, BATCHES)
    assert find_lr(model, optimizer, LOSS, BATCHES, schedule=linear_decay(1.0), **SHORT).curve.horizon == 80


class Stream(IterableDataset):
    """Examples without length."""

    def __iter__(self):
        return iter(list(zip(INPUTS, TARGETS, strict=True)) * 8)


@pytest.mark.parametrize(
    ("make", "epochs"),
    [
        (lambda: BATCHES, 80 / 20),
        (lambda: DataLoader(TensorDataset(INPUTS, TARGETS), 16, shuffle=True), 80 / 20),
        (lambda: DataLoader(Stream(), 16), None),
        (lambda: DataLoader(Stream(), 64), 80 / 40),
        (lambda: Lookahead(iter(BATCHES * 8)), None),
    ],
    ids=["list", "loader", "stream longer than a candidate", "short stream", "iterator"],
)
def test_how_often_the_examples_come_is_counted_where_it_can_be(make, epochs: float) -> None:
    finding = find_lr(*training(), LOSS, make(), **SHORT)
    assert finding.curve.epochs == epochs
    known = Horizon(80, dataset_size=640, batch_size=16)
    assert find_lr(*training(), LOSS, make(), **{**SHORT, "horizon": known}).curve.epochs == 2


def test_an_iterator_without_length_or_end_still_gives_training_everything() -> None:
    def forever():
        while True:
            yield from BATCHES

    stream = Lookahead(forever())
    next(stream)
    finding = find_lr(*training(), LOSS, stream, **SHORT)
    assert finding.cost["updates"] > 100
    assert torch.equal(next(stream)[0], BATCHES[1][0])


def test_mixed_precision_and_accumulation() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    settings = {"scaler": scaler, "autocast": lambda: torch.autocast("cpu", torch.bfloat16), "accumulation": 2}
    finding = find_lr(*training(), LOSS, BATCHES, **settings, **SHORT)
    assert finding.suggestion is not None, finding.reason
    assert finding.valid_for["engine"] == "one by one (mixed precision)"
    assert finding.valid_for["examples_per_update"] == 32
    assert scaler.get_scale() == 2.0**10


def test_the_cost_is_what_was_really_done() -> None:
    calls = 0
    model, optimizer = training()

    def step(batch):
        nonlocal calls
        calls += torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = LOSS(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    finding = find_lr(model, optimizer, LOSS, BATCHES, step=step, **SHORT)
    assert isinstance(finding.curve, Trials)
    assert finding.cost["updates"] == calls
    runs = sum(map(len, finding.curve.scores)) + len(finding.curve.untrained)
    assert calls <= 100 + 10 * runs


def test_a_trained_model_gives_no_signal() -> None:
    model, optimizer = training(lr=0.0)
    optimizer.param_groups[0]["lr"] = 0.01
    target = torch.full((320,), 2)
    for _ in range(300):
        optimizer.zero_grad()
        LOSS(model(INPUTS), target).backward()
        optimizer.step()
    batches = list(zip(INPUTS.split(16), torch.randint(0, 4, (320,)).split(16), strict=True))
    model.requires_grad_(True)
    finding = find_lr(
        model, torch.optim.SGD(model.parameters(), lr=1.0), lambda o, t: o.sum() * 0 + 1.0, batches, **SHORT
    )
    assert finding.suggestion is None
    assert finding.reason.startswith("No signal")


def test_a_loss_that_is_nan_at_once_is_declined_with_everything_restored() -> None:
    model, optimizer = training()
    before = [p.clone() for p in model.parameters()]
    finding = find_lr(model, optimizer, lambda o, t: LOSS(o, t) * math.nan, BATCHES, **SHORT)
    assert finding.suggestion is None
    assert "The held-out loss is nan before any training" in finding.reason
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
