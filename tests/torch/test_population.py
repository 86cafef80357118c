"""Copies that train at once end where each would have ended alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from ratewise.errors import AdapterError
from ratewise.torch.find import TorchTrainable
from ratewise.torch.population import PROPORTIONAL, Population, unfit

torch.manual_seed(0)
X, Y = torch.randn(160, 6, dtype=torch.float64), torch.randint(0, 3, (160,))
BATCHES = list(zip(X.split(16), Y.split(16), strict=True))
LOSS = functional.cross_entropy

KINDS = {
    "SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "SGD dampened": {"momentum": 0.8, "dampening": 0.3},
    "Adadelta": {"weight_decay": 0.01},
    "Adagrad": {"lr_decay": 0.01, "weight_decay": 0.01},
    "Adam": {"weight_decay": 0.01},
    "Adam amsgrad": {"amsgrad": True},
    "Adamax": {},
    "AdamW": {"weight_decay": 0.1},
    "NAdam": {"weight_decay": 0.1, "decoupled_weight_decay": True},
    "RAdam": {"weight_decay": 0.01},
    "RMSprop": {"centered": True, "momentum": 0.9},
}


def net():
    torch.manual_seed(1)
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.LayerNorm(8), nn.Linear(8, 3)]
    return nn.Sequential(*layers).double()


def trained(name, model, updates=20, **settings):
    """An optimizer in mid-training, with two groups."""
    groups = [{"params": model[:3].parameters()}, {"params": model[3:].parameters(), "lr": 0.002}]
    optimizer = getattr(torch.optim, name.split()[0])(groups, lr=0.01, **settings)
    for x, y in (BATCHES * 2)[:updates]:
        optimizer.zero_grad()
        LOSS(model(x), y).backward()
        optimizer.step()
    return optimizer


def test_the_list_is_tested_whole() -> None:
    assert {kind.__name__ for kind in PROPORTIONAL} == {name.split()[0] for name in KINDS}


@pytest.mark.parametrize("name", KINDS)
def test_100_updates_at_once_equal_those_alone(name: str) -> None:
    model = net()
    optimizer = trained(name, model, **KINDS[name])
    trainable = TorchTrainable(model, optimizer, LOSS, BATCHES, held_out=[(X, Y)])
    assert trainable.valid_for["engine"] == "all at once"
    rows = [[top * (1 - i / 100) for i in range(100)] for top in (0.0, 0.003, 0.03)]
    together = trainable.scores(rows, 3)
    assert trainable.valid_for["engine"] == "all at once"
    alone = [trainable.scores([row], 3)[0] for row in rows]
    trainable.restore()
    assert together == pytest.approx(alone, rel=1e-8)
    assert len(set(alone)) == len(alone)


def test_accumulated_gradients_are_means() -> None:
    model = net()
    trainable = TorchTrainable(model, trained("SGD", model), LOSS, BATCHES, held_out=[(X, Y)], accumulation=3)
    rows = [[0.01] * 10, [0.05] * 10]
    together, alone = trainable.scores(rows, 0), [trainable.scores([row], 0)[0] for row in rows]
    trainable.restore()
    assert together == pytest.approx(alone, rel=1e-9)


class Reader(nn.Module):
    """A small attention over tokens, with tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens, scale=1.0):
        return self.head(self.block(self.embed(tokens)).mean(1)) * scale


class Recurrent(nn.Module):
    """A layer with memory, and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.memory, self.head = nn.Embedding(12, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 12)
        self.embed.requires_grad_(False)

    def forward(self, tokens, scale=1.0):
        return self.head(self.memory(self.embed(tokens))[0][:, -1]) * scale


class Convolutions(nn.Module):
    """Two convolutions over pictures made of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 2), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 12)

    def forward(self, tokens, scale=1.0):
        pictures = tokens.double()[:, None, :6].unflatten(-1, (1, 6)).expand(-1, 1, 6, 6) / 12
        return self.head(self.norm(self.two(self.one(pictures).relu())).mean((2, 3))) * scale


@pytest.mark.parametrize("make", [Reader, Recurrent, Convolutions])
@pytest.mark.parametrize("mapping", [False, True], ids=["tuples", "dictionaries"])
def test_models_of_many_kinds_can_be_mapped(make, mapping: bool) -> None:
    torch.manual_seed(2)
    model = make().double()
    tokens = torch.randint(0, 12, (8, 5, 6))
    batches = [{"tokens": t, "scale": 2.0} if mapping else (t, t[:, 0]) for t in tokens]
    loss = (lambda out, batch: LOSS(out, batch["tokens"][:, 0])) if mapping else LOSS
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    trainable = TorchTrainable(model, optimizer, loss, batches, held_out=batches[:3])
    rows = [[0.0003] * 12, [0.003] * 12, [0.03] * 12]
    together, alone = trainable.scores(rows, 0), [trainable.scores([row], 0)[0] for row in rows]
    trainable.restore()
    assert trainable.valid_for["engine"] == "all at once"
    assert together == pytest.approx(alone, rel=1e-8)


def test_a_copy_that_diverges_leaves_the_others_alone() -> None:
    model = net()
    trainable = TorchTrainable(model, trained("SGD", model), LOSS, BATCHES, held_out=[(X, Y)])
    with_it = trainable.scores([[0.01] * 30, [1e200] * 30], 0)
    without = trainable.scores([[0.01] * 30], 0)
    trainable.restore()
    assert with_it[0] == pytest.approx(without[0], rel=1e-9)
    assert with_it[1] != with_it[1]


def test_the_model_and_its_optimizer_are_not_touched() -> None:
    model = net()
    optimizer = trained("Adam", model)
    before = [t.clone() for t in (*model.state_dict().values(), *(s["exp_avg"] for s in optimizer.state.values()))]
    population = Population(model, [optimizer], [1.0, 0.2], lambda call, batch: LOSS(call(batch[0]), batch[1]), 3)
    losses = population.step(BATCHES[:1], torch.tensor([0.0, 0.1, 0.2]))
    after = (*model.state_dict().values(), *(s["exp_avg"] for s in optimizer.state.values()))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert losses.shape == (3,)
    moved = [float((p - p[0]).abs().max(0).values.max()) for p in population.parameters.values()]
    assert min(moved) > 0


class Counting(nn.Linear):
    """A model that decides by a tensor, which cannot be mapped."""

    def forward(self, x):
        y = super().forward(x)
        return y if y.sum() > 0 else -y


class Sly(torch.optim.SGD):
    """A subclass, of which nothing is known."""


def linear(kind=torch.optim.SGD, **settings):
    torch.manual_seed(0)
    model = nn.Linear(6, 3).double()
    return model, kind(model.parameters(), lr=0.1, **settings)


def counting():
    torch.manual_seed(0)
    model = Counting(6, 3).double()
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def hooked():
    model, optimizer = linear()
    model.weight.register_hook(lambda g: g.clamp(-0.01, 0.01))
    return model, optimizer


def listening():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3)).double()
    model[1].register_full_backward_pre_hook(lambda *_: None)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def beside():
    model, optimizer = linear()
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.1})
    return model, optimizer


def test_a_large_model_is_not_stacked() -> None:
    model = nn.Embedding(2**21 + 1, 4).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert unfit(model, [optimizer]) == "the model has more than 64 MiB of parameters"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: linear(torch.optim.Rprop), "Rprop is not known to be element-wise and proportional to the rate"),
        (lambda: linear(Sly), "Sly is not known"),
        (lambda: linear(torch.optim.Adam, fused=True), "Adam is fused or differentiable"),
        (hooked, "a parameter has hooks of its own"),
        (listening, "Linear has backward hooks"),
        (beside, "the optimizer has parameters that are not the model's"),
        (counting, "RuntimeError: "),
    ],
    ids=["not proportional", "a subclass", "fused", "hooks", "backward hooks", "other parameters", "branches"],
)
def test_what_cannot_be_mapped_trains_one_by_one_and_says_so(make, reason: str) -> None:
    found = []
    for rows in ([[0.01] * 5, [0.02] * 5], [[0.01] * 5]):
        model, optimizer = make()
        trainable = TorchTrainable(model, optimizer, LOSS, BATCHES, held_out=[(X, Y)])
        found.append(trainable.scores(rows, 0)[0])
        trainable.restore()
        if len(rows) == 2:
            assert trainable.valid_for["engine"].startswith(f"one by one ({reason}")
    assert found[0] == found[1]
    if not reason.startswith("RuntimeError"):
        model, optimizer = make()
        assert unfit(model, [optimizer]).startswith(reason)
        with pytest.raises(AdapterError, match="population: "):
            Population(model, [optimizer], [1.0], LOSS, 2)


def test_what_is_mapped_wrongly_is_noticed_and_trains_one_by_one() -> None:
    class Moody(nn.Linear):
        """Its output depends on how often it was called."""

        calls = 0

        def forward(self, x):
            Moody.calls += 1
            return super().forward(x) * Moody.calls

    torch.manual_seed(0)
    model = Moody(6, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainable = TorchTrainable(model, optimizer, LOSS, BATCHES, held_out=[(X, Y)])
    trainable.scores([[0.01] * 5, [0.02] * 5], 0)
    trainable.restore()
    assert "all at once, " in trainable.valid_for["engine"]
    assert trainable.valid_for["engine"].startswith("one by one (")


class Heads(nn.Module):
    """A head for every task, and a weight that only evaluation uses."""

    def __init__(self, draws=False) -> None:
        super().__init__()
        self.body, self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 3)
        self.draws = draws

    def forward(self, x, task):
        if self.draws and self.training:
            task = int(torch.rand(()) < 0.5)
        return (self.two if task else self.one)(self.body(x).tanh())


class Evaluated(nn.Module):
    """A weight that only evaluation uses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.late = nn.Linear(6, 3), nn.Parameter(torch.ones(3))

    def forward(self, x, task):
        return self.layer(x) * (1.0 if self.training else self.late)


@pytest.mark.parametrize(
    "make", [Heads, lambda: Heads(draws=True), Evaluated], ids=["several tasks", "left out by chance", "in evaluation"]
)
def test_where_a_parameter_gets_no_gradient_candidates_train_one_by_one(make) -> None:
    torch.manual_seed(0)
    model = make().double()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1.0)
    batches = [(x, int(i % 5 == 0), y) for i, (x, y) in enumerate(BATCHES)]
    trainable = TorchTrainable(model, optimizer, LOSS, batches, held_out=batches)
    rows = [[0.003] * 12, [0.03] * 12]
    found = trainable.scores(rows, 0)
    alone = [trainable.scores([row], 0)[0] for row in rows]
    trainable.restore()
    assert found == alone
    assert "a parameter gets no gradient in some updates" in trainable.valid_for["engine"]


def test_a_loss_that_reads_the_parameters_by_itself_trains_one_by_one() -> None:
    model, optimizer = linear(torch.optim.Adam)

    def loss(output, target):
        return LOSS(output, target) + 1e-6 * sum(p.square().sum() for p in model.parameters())

    trainable = TorchTrainable(model, optimizer, loss, BATCHES, held_out=[(X, Y)])
    with torch.no_grad():
        trainable.scores([[0.01] * 3, [0.02] * 3], 0)
    trainable.restore()
    assert "the loss reads the model's parameters by itself" in trainable.valid_for["engine"]


def test_a_buffer_that_is_written_anew_trains_one_by_one() -> None:
    class Running(nn.Linear):
        """It puts a new mean in place of the old one."""

        def __init__(self) -> None:
            super().__init__(6, 3)
            self.register_buffer("mean", torch.tensor(1.0))

        def forward(self, x):
            if self.training:
                self.mean = 0.9 * self.mean + 0.1 * x.square().mean()
            return super().forward(x) / self.mean

    torch.manual_seed(0)
    model = Running().double()
    trainable = TorchTrainable(model, torch.optim.Adam(model.parameters()), LOSS, BATCHES, held_out=[(X, Y)])
    trainable.scores([[0.01] * 3, [0.02] * 3], 0)
    trainable.restore()
    assert "the model puts another tensor in place of 'mean'" in trainable.valid_for["engine"]


def test_parameters_that_no_optimizer_trains_do_not_count_as_read() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3)).double()
    optimizer = torch.optim.Adam(model[1].parameters())
    trainable = TorchTrainable(model, optimizer, LOSS, BATCHES, held_out=[(X, Y)])
    trainable.scores([[0.01] * 3, [0.02] * 3], 0)
    trainable.restore()
    assert trainable.valid_for["engine"] == "all at once"


def test_a_difference_that_comes_late_is_noticed_and_the_check_is_counted() -> None:
    class Late(nn.Linear):
        """It changes after its twentieth call, which no update at the start shows."""

        calls = 0

        def forward(self, x):
            Late.calls += 1
            return super().forward(x) * (1.0 if Late.calls <= 20 else 0.1)

    torch.manual_seed(0)
    model = Late(6, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainable = TorchTrainable(model, optimizer, LOSS, BATCHES, held_out=[(X, Y)])
    trainable.scores([[0.01] * 15, [0.02] * 15], 0)
    trainable.restore()
    assert trainable.valid_for["engine"].startswith("one by one (ArithmeticError: all at once, ")
    assert trainable.cost["updates"] == 30 + 15 + 30


def test_rounding_before_a_normalization_is_no_difference() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.AdamW(model.parameters())
    batches = [(x.float(), y) for x, y in BATCHES]
    trainable = TorchTrainable(model, optimizer, LOSS, batches, held_out=[(X.float(), Y)])
    trainable.scores([[0.01] * 30, [0.1] * 30], 0)
    trainable.restore()
    assert trainable.valid_for["engine"] == "all at once"
