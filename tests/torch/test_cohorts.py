"""Runs in lockstep end where each would have ended alone, whatever their strategies, rates, seeds and model."""

from dataclasses import replace
from itertools import pairwise
from time import sleep

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from toys import TOKENS, Toy, X, mlp

from ratewise import Constant, Linear, Piecewise, Schedule, Strategy, cosine, one_cycle, one_cycle_momentum
from ratewise.lab.catalogue import CATALOGUE
from ratewise.lab.loading import load
from ratewise.lab.runs import Cohort, Member, Run, execute
from ratewise.outcome import marks
from ratewise.torch import cohorts, engine
from ratewise.torch.optimizers import optimizer_class
from ratewise.torch.population import PROPORTIONAL


def members(*strategies, seeds=(0, 1), steps=100, phase="tune", factors=(0.5, 1.0)):
    return [
        Member(s.with_peak(s.peak(steps) * factor, steps), seed, steps, phase)
        for s in strategies
        for factor in factors
        for seed in seeds
    ]


def assert_equal(found, expected, tolerance):
    """Compare outcomes one by one: losses, what was held out, metrics; relative tolerance."""
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=tolerance, nan_ok=True)
        assert one.held.keys() == other.held.keys()
        for split, values in one.held.items():
            assert values == pytest.approx(other.held[split], rel=tolerance, nan_ok=True)
        assert one.loss == (None if other.loss is None else pytest.approx(other.loss, rel=tolerance))
        assert one.metric == (None if other.metric is None else pytest.approx(other.metric, rel=tolerance))


def both(task, runs, tolerance=1e-8):
    """Train in lockstep and one by one, compare, and return the outcomes in lockstep."""
    found, expected = cohorts.Engine(task).cohort(runs), engine.Engine(task).cohort(runs)
    assert {outcome.trained for outcome in found} == {"population"}
    assert_equal(found, expected, tolerance)
    return found


SETTINGS = {
    "sgd": [{"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, {"momentum": 0.8, "dampening": 0.3}, {}],
    "adadelta": [{"weight_decay": 0.01}],
    "adagrad": [{"lr_decay": 0.01, "weight_decay": 0.01}],
    "adam": [{"amsgrad": True, "weight_decay": 0.01}],
    "adamax": [{}],
    "adamw": [{"weight_decay": Linear(0.1, 0.0)}],
    "nadam": [{"weight_decay": 0.1, "decoupled_weight_decay": True}, {"weight_decay": 0.1}],
    "radam": [{"weight_decay": 0.01}],
    "rmsprop": [{"centered": True, "momentum": 0.9}, {}],
}
FIELDS = ("momentum", "weight_decay")


def strategy(optimizer, lr, **settings):
    fields = {name: settings.pop(name) for name in FIELDS if name in settings}
    return Strategy(
        f"{optimizer} {lr!r}"[:40].replace("=", " "), optimizer, lr, settings=tuple(settings.items()), **fields
    )


def test_every_optimizer_of_the_list_is_tested():
    assert {optimizer_class(name) for name in SETTINGS} == set(PROPORTIONAL)


def test_every_optimizer_of_the_list_ends_where_it_would_alone_in_one_cohort_of_all():
    kinds = [strategy(name, cosine(0.02), **settings) for name, rows in SETTINGS.items() for settings in rows]
    both(Toy(mlp), [run for i, kind in enumerate(kinds) for run in members(kind, seeds=(i % 3,), factors=(1.0,))])


def test_the_weights_end_where_they_would_alone(monkeypatch):
    ends = []
    measure, measured = engine.Engine._measure, cohorts.Engine._measured

    def alone(self, model, split):
        ends[-1].append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
        return measure(self, model, split)

    def together(self, lockstep, rows, last):
        ends[-1].append(torch.cat([x.reshape(len(x), -1) for x in lockstep.parameters.values()], dim=1))
        return measured(self, lockstep, rows, last)

    monkeypatch.setattr(engine.Engine, "_measure", alone)
    monkeypatch.setattr(cohorts.Engine, "_measured", together)
    runs = members(strategy("adam", cosine(0.02)), strategy("sgd", cosine(0.1), momentum=0.9), seeds=(0,))
    for kind in (cohorts, engine):
        ends.append([])
        kind.Engine(Toy(mlp)).cohort(runs)
    rows, expected = ends[0][-1], torch.stack(ends[1][9::10])
    assert float((rows - expected).abs().max()) < 1e-6 * float(expected.abs().max())


def test_momentum_schedules_and_the_phase_of_fresh_seeds():
    cycling = replace(CATALOGUE["one_cycle"], momentum=one_cycle_momentum())
    adam = strategy("adam", one_cycle(0.02), momentum=one_cycle_momentum())
    found = both(Toy(mlp), members(cycling, adam, CATALOGUE["fixed"], factors=(1.0,), phase="test"))
    assert all(set(outcome.held) == {"valid", "test"} for outcome in found)
    assert all(outcome.loss == outcome.held["test"][-1] for outcome in found)
    assert all(len(values) == len(marks(100)) for outcome in found for values in outcome.held.values())


class Tied(nn.Module):
    """Tokens in, tokens out, by the same matrix; a frozen layer between."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.frozen = nn.Embedding(12, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.embed.weight
        self.frozen.requires_grad_(False)

    def forward(self, tokens):
        return self.head(self.norm(self.frozen(self.embed(tokens)).mean(1)))


class Convolutions(nn.Module):
    """Two convolutions over pictures, running statistics, and dropout of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 2), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout2d(0.3), nn.Linear(4, 12)

    def forward(self, tokens):
        pictures = tokens.double()[:, None, None, :6].expand(-1, 1, 6, 6) / 12
        return self.head(self.drop(self.norm(self.two(self.one(pictures).relu()))).mean((2, 3)))


class Recurrent(nn.Module):
    """A layer with memory; mapped with gradients only, so it is measured row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.memory, self.head = nn.Embedding(12, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 12)

    def forward(self, tokens):
        return self.head(self.memory(self.embed(tokens))[0][:, -1])


class Reader(nn.Module):
    """A transformer block with dropout everywhere but in attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(12, 8), nn.Linear(8, 12)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.block.self_attn.dropout = 0.0

    def forward(self, tokens):
        return self.head(self.block(self.embed(tokens)).mean(1))


@pytest.mark.parametrize("make", [Tied, Convolutions, Recurrent, Reader])
def test_models_of_many_kinds(make):
    task = Toy(lambda: make().double(), TOKENS[:, :-1], TOKENS[:, -1])
    both(task, members(strategy("adam", cosine(0.01)), strategy("sgd", cosine(0.05), momentum=0.9), steps=20))


class Twice(nn.Module):
    """One dropout module, called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.drop = nn.Linear(6, 6), nn.Linear(6, 3), nn.Dropout(0.3)

    def forward(self, x):
        return self.two(self.drop(self.one(self.drop(x)).tanh() + self.drop(x)))


def test_a_dropout_module_called_several_times_in_a_pass_ends_where_it_would_alone():
    runs = members(CATALOGUE["cosine"], CATALOGUE["adam"], steps=30)
    both(Toy(lambda: Twice().double()), runs, 1e-10)


def test_normalization_dropout_and_clipping():
    task = Toy(lambda: mlp(torch.float64, nn.BatchNorm1d(8), nn.Dropout(0.3)), clip_norm=0.3)
    both(task, members(CATALOGUE["cosine"], CATALOGUE["adamw"], factors=(1.0,)))


CLASSICAL = [s for s in CATALOGUE.values() if isinstance(s.lr, Schedule) and s.optimizer in SETTINGS]


def test_in_single_precision_the_early_losses_agree():
    task = Toy(lambda: mlp(torch.float32, nn.BatchNorm1d(8)), X.astype(np.float32))
    runs = members(*CLASSICAL, seeds=(0,), steps=24, factors=(1.0,))
    found, expected = cohorts.Engine(task).cohort(runs), engine.Engine(task).cohort(runs)
    assert {outcome.trained for outcome in found} == {"population"}
    assert [o.losses[20] for o in found] == pytest.approx([o.losses[20] for o in expected], rel=1e-3)


def test_the_whole_catalogue_in_one_cohort_on_digits():
    task = load("digits")
    runs = members(*CATALOGUE.values(), seeds=(0,), steps=30, factors=(1.0,))
    found, expected = cohorts.Engine(task).cohort(runs), engine.Engine(task).cohort(runs)
    together = {s.name for s, o in zip(CATALOGUE.values(), found, strict=True) if o.trained == "population"}
    assert together == {s.name for s in CLASSICAL}
    assert_equal(found, expected, 1e-3)


def test_order_number_and_place_of_runs_do_not_change_their_bits():
    runs = members(CATALOGUE["cosine"], CATALOGUE["adam"], CATALOGUE["fixed"], seeds=(0, 1, 2), steps=30)
    task = load("digits")
    whole = cohorts.Engine(task).cohort(runs)
    turned = cohorts.Engine(task).cohort(runs[::-1])[::-1]
    few = cohorts.Engine(task).cohort(runs[4:7])
    assert [(o.losses, o.held) for o in turned] == [(o.losses, o.held) for o in whole]
    assert [(o.losses, o.held) for o in few] == [(o.losses, o.held) for o in whole[4:7]]


def test_a_run_that_diverges_leaves_the_others_alone_and_ends_as_it_would_alone():
    calm, wild = strategy("sgd", Constant(0.1)), strategy("sgd", Piecewise([0.1, 1e200], [13]))
    task = Toy(lambda: mlp().double(), clip_norm=1.0, loss="mse", metric="mse", targets=X[:, :3])
    with_it, alone = members(calm, wild, factors=(1.0,), steps=40), members(calm, factors=(1.0,), steps=40)
    found = both(task, with_it)
    assert [o.losses for o in found[:2]] == [o.losses for o in cohorts.Engine(task).cohort(alone)]
    assert all(o.loss is None and len(o.losses) < 40 and not np.isfinite(o.losses[-1]) for o in found[2:])
    assert all(np.isfinite(o.losses[:-1]).all() for o in found)


def test_runs_that_begin_alike_are_trained_once_until_they_part():
    levels = [Piecewise([0.1, level], [at]) for at, level in ((12, 0.01), (12, 0.02), (22, 0.01), (33, 0.01))]
    alike = [Strategy(f"s{i}", "sgd", lr, momentum=0.9) for i, lr in enumerate((Constant(0.1), *levels))]
    alike += [Strategy(f"a{i}", "adam", lr * 0.1) for i, lr in enumerate(levels)]
    task = Toy(lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.1), mlp()).double())
    runs = [Member(s, seed, 40, "test") for s in alike for seed in (0, 1)]
    found = both(task, runs)
    apart = [cohorts.Engine(task).cohort([run])[0] for run in runs[::2]]
    assert_equal(found[::2], apart, 1e-12)
    assert [o.updates for o in found[::2]] == [40, 28, 28, 18, 7, 40, 28, 28, 18]
    assert [o.updates for o in found[1::2]] == [o.updates for o in found[::2]]
    assert [o.updates for o in apart] == [40] * len(apart)


def test_a_run_that_diverges_before_it_parts_counts_once():
    levels = [Piecewise([0.1, 1e300, level], [10, 60]) for level in (0.1, 0.2)]
    runs = [Member(Strategy(f"s{i}", "sgd", lr), 0, 80, "tune") for i, lr in enumerate(levels)]
    one, other = both(Toy(mlp, loss="mse", metric="mse", targets=X[:, :3]), runs)
    assert one.losses == pytest.approx(other.losses, nan_ok=True)
    assert (one.updates, other.updates) == (len(one.losses), 0)


def test_batches_of_a_stream_are_shared_by_all_runs_of_a_seed():
    runs = members(CATALOGUE["cosine"], CATALOGUE["adam"], steps=30)
    streamed = both(Toy(mlp, streamed=True), runs)
    assert_equal(streamed, cohorts.Engine(Toy(mlp)).cohort(runs), 1e-12)


def test_rates_far_too_low_and_too_high_are_trained_in_lockstep_too():
    task = Toy(lambda: mlp(torch.float32), X.astype(np.float32))
    runs = [
        run
        for kind in (CATALOGUE["cosine"], CATALOGUE["adam"])
        for run in members(kind, seeds=(0,), steps=10, factors=(1e-12, 1e-7, 1e30))
    ]
    found, expected = cohorts.Engine(task).cohort(runs), engine.Engine(task).cohort(runs)
    assert {outcome.trained for outcome in found} == {"population"}
    assert [o.loss is None for o in found] == [o.loss is None for o in expected]
    low = [i for i, o in enumerate(expected) if o.loss is not None and o.loss < 10]  # above that, rounding is all
    assert len(low) == 4
    assert_equal([found[i] for i in low], [expected[i] for i in low], 1e-3)


# -- what cannot be trained in lockstep ----------------------------------------------------------------------


class Branch(nn.Linear):
    """It decides by a tensor."""

    def forward(self, x):
        y = super().forward(x)
        return y if y.sum() > 0 else -y


class Masked(nn.Linear):
    """It picks elements by a mask."""

    def forward(self, x):
        y = super().forward(x)
        return y * y[y > 0].mean()


class Drawing(nn.Linear):
    """It draws by a function rather than by a module."""

    def forward(self, x):
        return super().forward(functional.dropout(x, 0.2, self.training))


class Attention(nn.Module):
    """Dropout inside of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.attend, self.head = nn.MultiheadAttention(6, 2, dropout=0.2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        x = x[:, None, :].expand(-1, 4, -1)
        return self.head(self.attend(x, x, x, need_weights=False)[0].mean(1))


class Memory(nn.Module):
    """Dropout inside of a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.head = nn.LSTM(6, 4, num_layers=2, dropout=0.3, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.memory(x[:, None, :].expand(-1, 3, -1))[0][:, -1])


class Counting(nn.Linear):
    """Its output depends on how often it was called, which lockstep hides."""

    calls = 0

    def forward(self, x):
        Counting.calls += 1
        return super().forward(x) * (1 + Counting.calls % 7)


class Own(nn.Linear):
    """A number of its own that is no parameter: runs of different seeds would get that of one seed."""

    def __init__(self, *sizes) -> None:
        super().__init__(*sizes)
        self.scale = float(torch.rand(())) + 0.5

    def forward(self, x):
        return super().forward(x) * self.scale


class Unused(nn.Linear):
    """One of its parameters gets no gradient, and weight decay passes it over."""

    def __init__(self, *sizes) -> None:
        super().__init__(*sizes)
        self.late = nn.Parameter(torch.ones(3))

    def forward(self, x):
        y = super().forward(x)
        return y if self.training else y * self.late


class Running(nn.Linear):
    """A scalar mean beside a large table: written anew rather than into, from some pass on; in training or without."""

    def __init__(self, since=0, training=True, into=False) -> None:
        super().__init__(6, 3)
        self.since, self.when, self.into = since, training, into
        self.register_buffer("mean", torch.tensor(1.0))
        self.register_buffer("passes", torch.tensor(0))
        self.register_buffer("table", torch.ones(1000, 64))
        self.count = 0

    def forward(self, x):
        if self.training == self.when:
            self.count += 1
            new = 0.9 * self.mean + 0.1 * x.detach().square().mean()
            if self.into:
                self.mean += new - self.mean
            elif self.count > self.since:
                self.mean = new
        return super().forward(x) * self.mean


class Astray(nn.Linear):
    """Its scalar mean is written into, but otherwise at each call of the module."""

    calls = 0

    def __init__(self) -> None:
        super().__init__(6, 3)
        self.register_buffer("mean", torch.tensor(1.0))
        self.register_buffer("table", torch.ones(1000, 64))

    def forward(self, x):
        Astray.calls += 1
        self.mean.mul_(1 + Astray.calls % 3 / 30)
        return super().forward(x)


class Sampling(nn.Module):
    """It draws in evaluation only, with or without a layer that cannot be mapped there."""

    def __init__(self, recurrent=False) -> None:
        super().__init__()
        self.memory = nn.GRU(6, 6, batch_first=True) if recurrent else None
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        if self.memory is not None:
            x = self.memory(x[:, None])[0][:, -1]
        return self.head(functional.dropout(x, 0.5, not self.training))


def hooked():
    layer = nn.Linear(6, 3)
    layer.weight.register_hook(lambda g: g.clamp(-0.01, 0.01))
    return layer


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Branch(6, 3), "the model decides by the value of a tensor"),
        (lambda: Masked(6, 3), "RuntimeError"),
        (lambda: Drawing(6, 3), "the model draws random numbers other than by dropout modules"),
        (Attention, "the model draws random numbers"),
        (Memory, "the model draws random numbers"),
        (lambda: nn.Sequential(nn.BatchNorm1d(6, momentum=None), nn.Linear(6, 3)), "the model decides by the value"),
        (lambda: Counting(6, 3), "a loss of the first update differs by"),
        (lambda: Own(6, 3), "a loss of the first update differs by"),
        (lambda: Unused(6, 3), "a parameter gets no gradient"),
        (hooked, "a parameter has hooks of its own"),
        (Running, "the model puts another tensor in place of 'mean'"),
        (lambda: Running(since=8), "the model puts another tensor in place of 'mean'"),
        (lambda: Running(training=False), "the model puts another tensor in place of 'mean'"),
        (Astray, "a buffer of the first update differs by"),
        (Sampling, "the model draws random numbers"),
        (lambda: Sampling(recurrent=True), "the model draws random numbers"),
    ],
    ids=[
        "branch", "mask", "function", "attention", "recurrent", "cumulative", "counts", "own", "unused", "hooks",
        "reassigns", "reassigns late", "reassigns in evaluation", "a small buffer", "in evaluation",
        "in evaluation, row by row",
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_trained_in_lockstep_is_trained_one_by_one_and_says_so(make, reason):
    task = Toy(lambda: make().double())
    runs = members(strategy("adamw", cosine(0.01), weight_decay=0.5), steps=10)
    found = cohorts.Engine(task).cohort(runs)
    assert all(outcome.trained.startswith(f"one by one: {reason}") for outcome in found), found[0].trained
    if make is not Counting and "differs" not in reason:
        assert all(outcome.seconds > 0 for outcome in found)
        assert_equal(found, engine.Engine(task).cohort(runs), 1e-12)


def test_a_buffer_that_is_written_into_is_trained_in_lockstep():
    both(Toy(lambda: Running(into=True).double()), members(CATALOGUE["cosine"], CATALOGUE["adam"], steps=20))


def test_a_gradient_that_is_small_beside_the_others_is_compared_with_itself():
    class Scaled(nn.Linear):
        """A weight of little influence, used otherwise at each call."""

        calls = 0

        def __init__(self) -> None:
            super().__init__(6, 3)
            self.small = nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            Scaled.calls += 1
            return super().forward(x) + 1e-7 * (1 + Scaled.calls % 3) * (self.small * x[:, :3])

    (found,) = cohorts.Engine(Toy(lambda: Scaled().double())).cohort(members(CATALOGUE["adam"], steps=5)[:1])
    assert found.trained.startswith("one by one: a gradient of the first update differs by"), found.trained


class Idle(torch.optim.Rprop):
    """Slow, and not on the list."""

    def step(self, closure=None):
        sleep(0.05)
        return super().step(closure)


def test_what_falls_back_tells_its_own_time_and_what_is_in_lockstep_shares_the_rest():
    slow, quick = Strategy("slow", Idle, Constant(0.01)), CATALOGUE["cosine"]
    task = replace(load("digits"), name="timed")
    runs = members(slow, quick, seeds=(0, 1, 2), steps=5, factors=(1.0,))
    found = cohorts.Engine(task).cohort(runs)
    assert all(outcome.seconds > 0.25 for outcome in found[:3])
    assert [outcome.seconds for outcome in found[3:]] == [None] * 3
    keys = [Run(task.fingerprint, m.strategy.name, "", 0.1, m.seed, "tune", 5, "population") for m in runs]
    results = execute(Cohort(task, tuple(keys), tuple(runs)))
    seconds = [result["seconds"] for result in results]
    assert min(seconds[:3]) > 0.25
    assert seconds[3] == seconds[4] == seconds[5] > 0
    assert sum(seconds[3:]) < sum(seconds[:3])


def test_an_optimizer_that_is_not_on_the_list_goes_one_by_one_and_the_rest_stays_together():
    runs = members(strategy("rprop", Constant(0.01)), CATALOGUE["cosine"], CATALOGUE["adam"], steps=20)
    found = cohorts.Engine(Toy(mlp)).cohort(
        [run for pair in zip(runs[:4], runs[4:8], runs[8:], strict=True) for run in pair]
    )
    said = [outcome.trained for outcome in found]
    reason = "one by one: Rprop is not known to be element-wise and proportional to the rate"
    assert said == [reason, "population", "population"] * 4
    expected = engine.Engine(Toy(mlp)).cohort(runs)
    assert_equal(found[::3], expected[:4], 1e-12)
    assert_equal(found[1::3] + found[2::3], expected[4:], 1e-8)


def test_an_error_of_the_loss_is_raised_as_one_by_one_raises_it():
    def loss(output, target):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        cohorts.Engine(Toy(mlp, loss=loss, metric="loss")).cohort(members(CATALOGUE["cosine"], steps=5))


# -- memory --------------------------------------------------------------------------------------------------


def test_a_cohort_larger_than_the_room_is_split_and_its_numbers_stay(monkeypatch):
    runs = members(CATALOGUE["cosine"], CATALOGUE["adam"], seeds=(0, 1, 2), steps=20)
    task = Toy(mlp)
    whole = cohorts.Engine(task).cohort(runs)
    small = cohorts.Engine(task)
    monkeypatch.setattr(cohorts, "ROOM", 5 * (cohorts.ROOM // small.room() + 1))
    assert cohorts.Engine(task).room() == 5
    sizes = []
    together = cohorts.Engine._together
    monkeypatch.setattr(cohorts.Engine, "_together", lambda self, m, k: sizes.append(len(m)) or together(self, m, k))
    assert_equal(cohorts.Engine(task).cohort(runs), whole, 1e-12)
    assert sizes == [5, 5, 2]


def test_a_split_too_large_to_measure_many_rows_on_is_measured_row_by_row(monkeypatch):
    runs = members(CATALOGUE["cosine"], CATALOGUE["adam"], steps=20, phase="test")
    task = Toy(lambda: mlp(torch.float64, nn.BatchNorm1d(8)))
    found = []
    for cache in (2**23, 3 * 30 * cohorts.Engine(task)._footprint[1], 1):
        monkeypatch.setattr(cohorts, "CACHE", cache)
        found.append(cohorts.Engine(task).cohort(runs))
    for other in found[1:]:
        assert_equal(other, found[0], 1e-12)


def test_the_room_shrinks_with_the_model_and_the_batch_and_is_never_0(monkeypatch):
    rooms = [
        cohorts.Engine(
            Toy(lambda w=width: nn.Sequential(nn.Linear(6, w), nn.Linear(w, 3)).double(), batch_size=size)
        ).room()
        for width, size in ((8, 16), (80, 16), (80, 160), (800, 160))
    ]
    assert all(a > b for a, b in pairwise(rooms))
    monkeypatch.setattr(cohorts, "ROOM", 1)
    assert cohorts.Engine(Toy(mlp)).room() == 1
