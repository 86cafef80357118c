"""``ratewise.torch.ceiling``: the edge at which real optimizers become unstable, on quadratics and on networks."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from ratewise import linear_decay
from ratewise.errors import FinderError
from ratewise.finder.curvature import largest
from ratewise.torch import Scheduler, ceiling, find_lr

SETTLED = 10**9
"""Updates after which a second moment, started there, no longer moves within a test."""


@pytest.fixture(autouse=True)
def one_thread():
    """Everything here is tiny: more threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Bowl(nn.Module):
    """Parameters x and y whose loss is 1/2 (x, y) H (x, y)."""

    def __init__(self, matrix, split=None):
        super().__init__()
        self.matrix = torch.as_tensor(matrix, dtype=torch.float64)
        n = len(self.matrix)
        values = 1e-9 * (1 + torch.arange(n, dtype=torch.float64))
        self.x, self.y = (nn.Parameter(part) for part in values.split([n - 1, 1]))

    def forward(self, _):
        z = torch.cat([self.x, self.y])
        return z @ self.matrix @ z / 2


def value(output, _):
    return output


ONE = [(torch.zeros(1), torch.zeros(1))]
SHARP = [[3.0, 1.0, 0.2], [1.0, 2.0, 0.1], [0.2, 0.1, 5.0]]


def groups(model, second=1.0, **settings):
    return [{"params": [model.x], "lr": 1.0}, {"params": [model.y], "lr": second, **settings}]


def settle(optimizer, size=4.0):
    """Put second moments where they stay, different for every parameter."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            moment = size * (1 + torch.arange(p.numel(), dtype=torch.float64)).view(p.shape)
            names = {"Adagrad": ["sum"], "RMSprop": ["square_avg"]}.get(type(optimizer).__name__, ["exp_avg_sq"])
            state = {"step": torch.tensor(float(SETTLED)), **{name: moment.clone() for name in names}}
            if "betas" in group:
                state["exp_avg"] = torch.zeros_like(p.detach())
                if group.get("amsgrad"):
                    state["max_exp_avg_sq"] = moment.clone()
                if "momentum_decay" in group:
                    state["mu_product"] = torch.tensor(0.0)
            elif "alpha" in group:
                state["grad_avg"] = torch.full_like(p.detach(), 0.5)
                state["momentum_buffer"] = torch.zeros_like(p.detach())
            optimizer.state[p] = state
    return optimizer


def growth(make, rate, settled, updates=100):
    """By what real updates multiply a deviation over their second half."""
    model = Bowl(SHARP)
    optimizer = make(model)
    if settled:
        settle(optimizer)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr"]
    sizes = []
    for _ in range(updates):
        optimizer.zero_grad()
        model(None).backward()
        optimizer.step()
        sizes.append(sum(float(p.detach().square().sum()) for p in model.parameters()))
    return sizes[-1] / sizes[len(sizes) // 2]


FROZEN = {"betas": (0.9, 1 - 1e-13), "eps": 0.1}
STEEP = {
    "descent": (lambda m: torch.optim.SGD(groups(m)), False),
    "heavy ball": (lambda m: torch.optim.SGD(groups(m), momentum=0.9), False),
    "dampening": (lambda m: torch.optim.SGD(groups(m), momentum=0.9, dampening=0.5), False),
    "dampening without momentum": (lambda m: torch.optim.SGD(groups(m), dampening=0.5), False),
    "nesterov": (lambda m: torch.optim.SGD(groups(m), momentum=0.9, nesterov=True), False),
    "weight decay": (lambda m: torch.optim.SGD(groups(m), momentum=0.9, weight_decay=2.0), False),
    "groups": (lambda m: torch.optim.SGD(groups(m, 0.1), momentum=0.9), False),
    "momenta": (lambda m: torch.optim.SGD(groups(m, 0.7, momentum=0.5, weight_decay=1.0), momentum=0.9), False),
    "rmsprop": (lambda m: torch.optim.RMSprop(groups(m), alpha=1 - 1e-13), True),
    "rmsprop with momentum": (lambda m: torch.optim.RMSprop(groups(m), alpha=1 - 1e-13, momentum=0.9, eps=0.3), True),
    "rmsprop centered": (lambda m: torch.optim.RMSprop(groups(m, 0.5), alpha=1 - 1e-13, centered=True), True),
    "adagrad": (lambda m: torch.optim.Adagrad(groups(m), eps=0.5), True),
    "adagrad with decay": (lambda m: torch.optim.Adagrad(groups(m), lr_decay=1e-9), True),
    "adam": (lambda m: torch.optim.Adam(groups(m), **FROZEN), True),
    "amsgrad": (lambda m: torch.optim.Adam(groups(m), amsgrad=True, **FROZEN), True),
    "adam with decay": (lambda m: torch.optim.Adam(groups(m, 0.2), weight_decay=3.0, **FROZEN), True),
    "adamw": (lambda m: torch.optim.AdamW(groups(m, 0.3, weight_decay=0.2), weight_decay=0.01, **FROZEN), True),
    "nadam": (lambda m: torch.optim.NAdam(groups(m), **FROZEN), True),
    "nadamw": (
        lambda m: torch.optim.NAdam(groups(m), weight_decay=0.2, decoupled_weight_decay=True, **FROZEN),
        True,
    ),
    "betas": (lambda m: torch.optim.Adam(groups(m, 0.5, betas=(0.5, 1 - 1e-13)), **FROZEN), True),
}


@pytest.mark.parametrize(("make", "settled"), STEEP.values(), ids=STEEP)
def test_real_updates_become_unstable_within_a_percent_of_the_ceiling(make, settled):
    model = Bowl(SHARP)
    optimizer = make(model)
    if settled:
        settle(optimizer)
    found = ceiling(model, optimizer, value, ONE)
    assert found.converged
    assert found.preconditioned == settled
    assert growth(make, 0.99 * found.rate, settled) < 1 < growth(make, 1.01 * found.rate, settled)


def test_where_nothing_curves_upwards_no_rate_is_too_high():
    model = Bowl([[-1.0, 0.0], [0.0, -3.0]])
    found = ceiling(model, torch.optim.SGD(model.parameters(), lr=0.1), value, ONE)
    assert (found.rate, found.sharpness, found.utilisation(9.0)) == (math.inf, 0.0, 0.0)


def test_a_negative_curvature_larger_in_size_is_not_taken_for_the_sharpest():
    model = Bowl([[4.0, 0.0, 0.0], [0.0, -9.0, 0.0], [0.0, 0.0, 1.0]])
    found = ceiling(model, torch.optim.SGD(model.parameters(), lr=0.1), value, ONE)
    assert found.rate == pytest.approx(0.5, rel=1e-6)


def test_a_linear_loss_has_no_curvature():
    model = nn.Linear(3, 1)
    found = ceiling(
        model, torch.optim.Adam(model.parameters()), lambda output, _: output.mean(), [(torch.ones(2, 3), 0)]
    )
    assert found.rate == math.inf


# -- networks ----------------------------------------------------------------------------------------------------

torch.manual_seed(0)
INPUTS, TARGETS = torch.randn(32, 3, dtype=torch.float64), torch.randint(0, 3, (32,))
BATCHES = list(zip(INPUTS.split(8), TARGETS.split(8), strict=True))


def network(*between):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 5), *between, nn.Tanh(), nn.Linear(5, 3)).double()


def dense(model, weigh):
    """The largest eigenvalue of what ``weigh`` makes of the Hessian and the gradients of each batch, from autograd."""
    names, parameters = zip(*[(n, p.detach()) for n, p in model.named_parameters() if p.requires_grad], strict=True)
    sizes = [p.numel() for p in parameters]
    rest = {n: p for n, p in model.named_parameters() if not p.requires_grad}

    def loss(flat, batches):
        own = {n: v.view(p.shape) for n, v, p in zip(names, flat.split(sizes), parameters, strict=True)}
        outputs = (torch.func.functional_call(model, {**rest, **own}, (x,)) for x, _ in batches)
        pairs = zip(outputs, batches, strict=True)
        return sum(functional.cross_entropy(output, y) for output, (_, y) in pairs) / len(batches)

    flat = torch.cat([p.reshape(-1) for p in parameters])
    hessian = torch.autograd.functional.hessian(lambda z: loss(z, BATCHES), flat)
    gradients = torch.stack([torch.autograd.functional.jacobian(lambda z, b=b: loss(z, [b]), flat) for b in BATCHES])
    return float(torch.linalg.eigvalsh(weigh(hessian, gradients, flat))[-1])


def spread(model, *values):
    """A number for each parameter tensor, as one for each of its elements."""
    tensors = [p for p in model.parameters() if p.requires_grad]
    return torch.cat([torch.full((p.numel(),), v, dtype=p.dtype) for p, v in zip(tensors, values, strict=True)])


def test_sharpness_is_the_largest_eigenvalue_of_the_hessian_of_the_mean_loss():
    model = network(nn.BatchNorm1d(5))  # in train mode: statistics of the batch
    found = ceiling(model, torch.optim.SGD(model.parameters(), lr=0.1), functional.cross_entropy, BATCHES)
    assert found.sharpness == pytest.approx(dense(model, lambda h, g, z: h), rel=0.01)


def test_groups_frozen_parameters_and_both_decays_count_exactly():
    model = network()
    model[0].bias.requires_grad_(False)
    ratios, decays = spread(model, 1.0, 0.2, 0.2), spread(model, 0.5, 0.0, 0.0)
    layers = [{"params": model[0].parameters(), "weight_decay": 0.5}, {"params": model[2].parameters(), "lr": 0.02}]
    sgd = ceiling(model, torch.optim.SGD(layers, lr=0.1, momentum=0.5), functional.cross_entropy, BATCHES)
    root = ratios.sqrt()
    expected = dense(model, lambda h, g, z: torch.diag(root) @ (h + torch.diag(decays)) @ torch.diag(root))
    assert sgd.sharpness == pytest.approx(expected, rel=0.01)
    assert sgd.rate == pytest.approx(2 * 1.5 / expected, rel=0.01)

    adamw = ceiling(model, torch.optim.AdamW(layers, lr=0.1), functional.cross_entropy, BATCHES)
    apart = torch.where(decays > 0, decays, 0.01) * ratios * 19  # 1 / gain
    small = lambda g: (ratios / (g.square().mean(0).sqrt() + 1e-8)).sqrt()  # noqa: E731
    assert adamw.sharpness == pytest.approx(
        dense(model, lambda h, g, z: torch.diag(small(g)) @ h @ torch.diag(small(g)) + torch.diag(apart)), rel=0.01
    )


def test_an_optimizer_without_moments_takes_settled_ones_and_later_its_own():
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1)
    fresh = ceiling(model, optimizer, functional.cross_entropy, BATCHES)

    def settled(h, g, z):
        root = ((g + 0.1 * z).square().mean(0).sqrt() + 1e-8).rsqrt()
        return torch.diag(root) @ (h + 0.1 * torch.eye(len(z))) @ torch.diag(root)

    assert fresh.sharpness == pytest.approx(dense(model, settled), rel=0.01)
    for x, y in BATCHES * 5:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    moments = torch.cat([optimizer.state[p]["exp_avg_sq"].reshape(-1) / (1 - 0.999**20) for p in model.parameters()])

    def own(h, g, z):
        root = (moments.sqrt() + 1e-8).rsqrt()
        return torch.diag(root) @ (h + 0.1 * torch.eye(len(z))) @ torch.diag(root)

    optimizer.zero_grad()
    assert ceiling(model, optimizer, functional.cross_entropy, BATCHES).sharpness == pytest.approx(
        dense(model, own), rel=0.01
    )


def test_inputs_that_are_always_0_do_not_lower_the_ceiling_of_an_adaptive_optimizer():
    found = []
    for decay in (0.0, 1e-4):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        with torch.no_grad():
            model[0].weight[:, 3:] = 1e-6
        data = [(torch.cat([x, torch.zeros_like(x)], 1), y) for x, y in BATCHES]
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=decay)
        found.append(ceiling(model, optimizer, functional.cross_entropy, data).rate)
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_dropout_is_the_same_in_all_evaluations():
    model = network(nn.Dropout(0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    one, again, other = (ceiling(model, optimizer, functional.cross_entropy, BATCHES, seed=seed) for seed in (3, 3, 4))
    assert one == again
    assert one.converged
    assert one.rate != other.rate


class Tokens(nn.Module):
    """Tokens through an embedding, attention or a recurrence, to their classes."""

    def __init__(self, inside):
        super().__init__()
        self.embed, self.inside, self.head = nn.Embedding(20, 8), inside, nn.Linear(8, 5)

    def forward(self, x):
        x = self.inside(self.embed(x))
        return self.head((x[0] if isinstance(x, tuple) else x).mean(1))


def attention(x):
    return functional.scaled_dot_product_attention(x, x, x, is_causal=True)


@pytest.mark.parametrize(
    "inside",
    [
        attention,
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0),
        nn.LSTM(8, 8, batch_first=True),
        nn.MultiheadAttention(8, 2, batch_first=True),
    ],
    ids=["attention", "transformer", "lstm", "multihead"],
)
def test_sequence_models_are_differentiated_twice(inside):
    torch.manual_seed(2)
    wrapped = (lambda x: inside(x, x, x)) if isinstance(inside, nn.MultiheadAttention) else inside
    model = Tokens(wrapped).double()
    if isinstance(inside, nn.Module):
        model.own = inside.double()
    data = [(torch.randint(0, 20, (6, 4)), torch.randint(0, 5, (6,))) for _ in range(2)]
    found = ceiling(model, torch.optim.SGD(model.parameters(), lr=0.1), functional.cross_entropy, data)
    parameters, before = list(model.parameters()), nn.utils.parameters_to_vector(model.parameters()).detach().clone()

    def gradient(at):
        nn.utils.vector_to_parameters(at, parameters)
        loss = sum(functional.cross_entropy(model(x), y) for x, y in data) / 2
        found = torch.autograd.grad(loss, parameters, materialize_grads=True, allow_unused=True)
        return nn.utils.parameters_to_vector(found)

    def product(v):
        return (gradient(before + 1e-5 * v) - gradient(before - 1e-5 * v)) / 2e-5

    differences = largest(product, torch.randn_like(before), lambda a, b: float(a @ b))
    assert found.sharpness == pytest.approx(differences[0], rel=0.01)


def test_compiled_models_are_measured_as_they_are_uncompiled():
    model = network()
    plain = ceiling(model, torch.optim.SGD(model.parameters(), lr=0.1), functional.cross_entropy, BATCHES)
    fast = torch.compile(model, backend="aot_eager")
    fast(INPUTS)
    optimizer = torch.optim.SGD(fast.parameters(), lr=0.1)
    assert ceiling(fast, optimizer, functional.cross_entropy, BATCHES) == plain


def test_half_precision_gives_about_the_same():
    model = network().float()
    data = [(x.float(), y) for x, y in BATCHES]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    single = ceiling(model, optimizer, functional.cross_entropy, data)
    mixed = ceiling(
        model, optimizer, functional.cross_entropy, data, autocast=lambda: torch.autocast("cpu", torch.bfloat16)
    )
    assert mixed.rate == pytest.approx(single.rate, rel=0.1)
    model.bfloat16()
    half = ceiling(model, optimizer, functional.cross_entropy, [(x.bfloat16(), y) for x, y in data])
    assert half.rate == pytest.approx(single.rate, rel=0.1)


def test_mappings_loaders_and_several_optimizers_are_taken_as_by_find_lr():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x, y):
            return self.body(x)

    model = Named()
    data = [{"x": x, "y": y} for x, y in BATCHES]
    halves = [torch.optim.SGD(model.body[i].parameters(), lr=rate) for i, rate in ((0, 0.1), (2, 0.05))]
    loss = lambda output, batch: functional.cross_entropy(output, batch["y"])  # noqa: E731
    layers = [{"params": model.body[0].parameters()}, {"params": model.body[2].parameters(), "lr": 0.05}]
    assert ceiling(model, halves, loss, data) == ceiling(model, torch.optim.SGD(layers, lr=0.1), loss, data)
    pairs = torch.utils.data.TensorDataset(INPUTS, TARGETS)
    assert ceiling(model.body, halves, functional.cross_entropy, torch.utils.data.DataLoader(pairs, 8)) == ceiling(
        model.body, halves, functional.cross_entropy, BATCHES
    )


def test_find_lr_reports_the_ceiling():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    finding = find_lr(model, optimizer, functional.cross_entropy, BATCHES, method="range", steps=20)
    assert finding.ceiling == pytest.approx(ceiling(model, optimizer, functional.cross_entropy, BATCHES).rate, rel=1e-6)
    optimizer = torch.optim.Adamax(model.parameters(), lr=0.1)
    finding = find_lr(model, optimizer, functional.cross_entropy, BATCHES, method="range", steps=20)
    assert finding.ceiling is None


# -- no trace ----------------------------------------------------------------------------------------------------


def content(model, optimizer, scheduler):
    state = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    kept = [scheduler.position, optimizer.param_groups[0]["lr"], [m.training for m in model.modules()]]
    return repr((state, grads, kept)), torch.get_rng_state().tolist()


def training():
    torch.set_printoptions(precision=17, threshold=10**6)
    model = network(nn.BatchNorm1d(5), nn.Dropout(0.3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = Scheduler(optimizer, lr=linear_decay(0.05), horizon=20)
    for x, y in BATCHES:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        scheduler.step()
    model[1].eval()  # in part
    return model, optimizer, scheduler


def test_nothing_is_left_of_it_in_the_middle_of_a_training():
    model, optimizer, scheduler = training()
    before, objects = content(model, optimizer, scheduler), [(id(p), p.data_ptr()) for p in model.parameters()]
    assert ceiling(model, optimizer, functional.cross_entropy, BATCHES).converged
    assert content(model, optimizer, scheduler) == before
    assert [(id(p), p.data_ptr()) for p in model.parameters()] == objects


def test_nothing_is_left_of_it_after_an_exception_or_an_interrupt():
    model, optimizer, scheduler = training()
    before = content(model, optimizer, scheduler)
    for error, raised in ((ZeroDivisionError, FinderError), (KeyboardInterrupt, KeyboardInterrupt)):
        calls = []

        def loss(output, target, error=error, calls=calls):
            calls.append(1)
            if len(calls) == 11:
                raise error("in the middle")
            return functional.cross_entropy(output, target)

        with pytest.raises(raised, match="in the middle"):
            ceiling(model, optimizer, loss, BATCHES)
        assert content(model, optimizer, scheduler) == before


# -- bad input ---------------------------------------------------------------------------------------------------


class Once(torch.autograd.Function):
    """Has a gradient, and no second one."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


def refusal(match, model=None, make=torch.optim.SGD, loss=functional.cross_entropy, batches=BATCHES, **settings):
    model = network() if model is None else model
    with pytest.raises(FinderError, match=match) as caught:
        ceiling(model, make(model.parameters(), lr=0.1, **settings), loss, batches)
    assert "find_lr" not in str(caught.value)


def test_what_cannot_be_told_is_refused_in_words():
    refusal("how Adamax weighs curvature is not known. Known are Adagrad, Adam,", make=torch.optim.Adamax)
    refusal("how Own weighs", make=type("Own", (torch.optim.SGD,), {}))
    refusal("maximize=True climbs", maximize=True)
    refusal("function in it is once_differentiable", loss=lambda o, y: functional.cross_entropy(Once.apply(o), y))
    refusal("function in it is once_differentiable", loss=lambda o, y: Once.apply(o).mean())
    calls = itertools.count(1)
    refusal("another at every evaluation", loss=lambda o, y: functional.cross_entropy(o * next(calls), y))
    refusal("but this raised RuntimeError: The size of tensor", loss=lambda o, y: (o - torch.zeros(7, 7)).mean())
    refusal("loss= must return one number", loss=lambda o, y: o)
    refusal("loss= must return one number", loss=lambda o, y: 1.0)
    refusal("loss= must return one number", loss=lambda o, y: o.mean().detach())
    refusal("not finite at this state", loss=lambda o, y: o.mean() * math.nan)
    refusal("batches is empty", batches=[])
    refusal("batches is an iterator", batches=iter(BATCHES))
    refusal("needs loss=", loss=None)


def test_parameters_without_a_curvature_here_are_refused_in_words():
    sparse = Tokens(attention)
    sparse.embed = nn.Embedding(20, 8, sparse=True)
    data = [(torch.randint(0, 20, (6, 4)), torch.randint(0, 5, (6,)))]
    refusal("sparse gradients cannot be differentiated again", sparse, batches=data)
    turned = nn.Linear(2, 2, dtype=torch.complex64)
    loss = lambda output, _: output.abs().square().mean()  # noqa: E731
    refusal(
        "complex parameters is not computed", turned, loss=loss, batches=[(torch.ones(1, 2, dtype=torch.complex64), 0)]
    )
    frozen = network().requires_grad_(False)
    refusal("every parameter of the optimizer is frozen", frozen)
