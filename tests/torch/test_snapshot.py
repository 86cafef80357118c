"""``snapshot``: the same objects, at the same addresses, with the same bytes, whatever happened inside."""

import copy
import os
import pickle
import random
import signal
import threading

import numpy as np
import pytest
import torch
from torch import nn

from ratewise import linear_decay
from ratewise.errors import AdapterError
from ratewise.torch import Scheduler, snapshot
from ratewise.torch.snapshot import Memory


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def trained(net, optimizer, updates=2, scaler=None):
    for _ in range(updates):

        def closure():
            optimizer.zero_grad()
            loss = net(torch.randn(8, 3)).square().mean()
            (loss if scaler is None else scaler.scale(loss)).backward()
            return loss

        if scaler is None:
            optimizer.step(closure)
        else:
            closure()
            scaler.step(optimizer)
            scaler.update()


def bytes_of(value):
    """A value to compare by: tensors as identity, address and bytes, containers by identity and content."""
    if isinstance(value, torch.Tensor):
        if value.is_sparse:
            return id(value), value.to_dense().numpy().tobytes()
        own = value.detach()
        return id(value), own.data_ptr(), own.stride(), own.numpy().tobytes(), value.requires_grad, bytes_of(value.grad)
    if isinstance(value, dict):
        return id(value), [(id(k) if isinstance(k, torch.Tensor) else k, bytes_of(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [bytes_of(v) for v in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else id(value)


def module_state(net):
    return [
        (id(m), m.training, bytes_of([item for item in vars(m).items() if item[0] != "training"]))
        for m in net.modules()
    ]


def optimizer_state(optimizer):
    return bytes_of(vars(optimizer))


DEEDS = {
    "writes into parameters": lambda m: [p.data.fill_(float("nan")) for p in m.parameters()],
    "gives parameters other memory": lambda m: [setattr(p, "data", torch.ones(7)) for p in m.parameters()],
    "freezes": lambda m: m.requires_grad_(False),
    "drops gradients": lambda m: m.zero_grad(set_to_none=True),
    "zeroes gradients": lambda m: m.zero_grad(set_to_none=False),
    "replaces gradients": lambda m: [setattr(p, "grad", torch.ones_like(p)) for p in m.parameters()],
    "evaluates": lambda m: m.eval(),
    "goes forward": lambda m: m(torch.randn(8, 3)),
    "replaces buffers": lambda m: setattr(m[1], "running_mean", torch.full((4,), 9.0)),
    "deletes a buffer": lambda m: m[1]._buffers.pop("running_var"),
    "adds a buffer": lambda m: m.register_buffer("more", torch.ones(1)),
    "adds a parameter": lambda m: m.register_parameter("more", nn.Parameter(torch.ones(1))),
    "replaces a layer": lambda m: m.__setitem__(3, nn.Linear(4, 9)),
    "hooks a layer": lambda m: m[0].register_forward_hook(lambda *_: None),
    "sets attributes": lambda m: [setattr(m, "count", 5), setattr(m[2], "p", 0.9), delattr(m, "note")],
    "writes into an attribute": lambda m: [m.cache["x"].zero_(), m.cache.update(y=1), m.seen.append(3), m.ids.add(1)],
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_module_is_as_it_was(deed: str) -> None:
    net = model()
    net.note, net.cache, net.seen, net.ids = "kept", {"x": torch.rand(3)}, [1, 2], {7}
    net(torch.randn(8, 3)).sum().backward()
    before, ids = module_state(net), set(net.ids)
    with snapshot(net):
        DEEDS[deed](net)
        assert module_state(net) != before
    assert module_state(net) == before
    assert net.ids == ids


def test_arrays_of_numpy_are_as_they_were() -> None:
    net = model()
    net.seen, net.table, net.mixed = np.arange(6.0), [np.eye(3).T[::2]], np.array([[1, 2], None], dtype=object)
    net.fixed = np.frombuffer(b"read-only", np.uint8)
    held, inner, address = net.seen, net.mixed[0], net.seen.ctypes.data
    with snapshot(net):
        net.seen[:] = 9.0
        net.seen.shape = (2, 3)
        net.table[0][0] = np.nan
        net.mixed[0].append(3)
        net.mixed[1] = "new"
    assert net.seen is held
    assert (net.seen.tolist(), net.seen.ctypes.data) == ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], address)
    assert net.table[0].tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert net.mixed.tolist() == [[1, 2], None]
    assert net.mixed[0] is inner


def test_shared_and_expanded_and_nan_memory_is_as_it_was() -> None:
    net = nn.Module()
    net.one = nn.Linear(3, 3)
    net.two = nn.Linear(3, 3)
    net.two.weight = net.one.weight
    flat = torch.rand(6)
    net.front, net.back = nn.Parameter(flat[:4].view(2, 2)), nn.Parameter(flat[2:])  # overlapping views
    net.register_buffer("wide", torch.rand(1).expand(5), persistent=False)
    payload = torch.tensor([0x7FC01234, -1], dtype=torch.int32).view(torch.float32)  # two nans that differ
    net.register_buffer("nan", payload)
    net.register_buffer("turned", torch.rand(2, 3).t())
    net.register_buffer("none", None)
    net.register_buffer("nowhere", torch.empty(3, device="meta"))
    net.register_buffer("empty", torch.empty(0))
    before = [bytes_of(t) for t in (*net.parameters(), net.wide, net.nan, net.turned)]
    with snapshot(net):
        for t in (*net.parameters(), net.nan, net.turned, net._buffers["wide"][:1]):
            t.data.zero_()
    assert [bytes_of(t) for t in (*net.parameters(), net.wide, net.nan, net.turned)] == before
    assert net.two.weight is net.one.weight
    assert net.front[1, 1] == net.back[1]


def test_memory_that_did_not_change_is_not_written() -> None:
    fixed = np.arange(4.0)
    net = nn.Module()
    net.register_buffer("fixed", torch.from_numpy(fixed))
    version = net.fixed._version
    with snapshot(net):
        pass
    assert net.fixed._version == version


def test_sparse_gradients_are_as_they_were() -> None:
    net = nn.Embedding(10, 2, sparse=True)
    net(torch.tensor([1, 5])).sum().backward()
    before = bytes_of(net.weight)[-1]
    with snapshot(net):
        net(torch.tensor([2, 2, 3])).sum().backward()
    assert bytes_of(net.weight)[-1] == before


OPTIMIZERS = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in ("Optimizer", "SparseAdam")
)


@pytest.mark.parametrize("fresh", [True, False], ids=["before its first update", "in training"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_as_it_was(name: str, fresh: bool) -> None:
    net = model() if name != "Muon" else nn.Linear(3, 4, bias=False)
    optimizer = getattr(torch.optim, name)(net.parameters(), lr=0.01)
    if not fresh:
        trained(net, optimizer)
    before = optimizer_state(optimizer), module_state(net)
    with snapshot(net, optimizer):
        trained(net, optimizer)
        optimizer.param_groups[0]["lr"] = 7.0
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))]})
        assert optimizer_state(optimizer) != before[0]
    assert (optimizer_state(optimizer), module_state(net)) == before
    if name == "LBFGS":
        return  # its copies cannot train
    net_2, optimizer_2 = copy.deepcopy((net, optimizer))
    for pair in ((net, optimizer), (net_2, optimizer_2)):  # it still trains, as its copy does
        torch.manual_seed(3)
        trained(*pair)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), net_2.parameters(), strict=True))


def test_a_rate_held_as_a_tensor_keeps_its_place() -> None:
    net = model()
    optimizer = torch.optim.Adam(net.parameters(), lr=torch.tensor(0.1), capturable=False, foreach=False)
    rate = optimizer.param_groups[0]["lr"]
    address = rate.data_ptr()
    with snapshot(optimizer):
        rate.fill_(3.0)
        optimizer.param_groups[0]["lr"] = 0.5
    assert optimizer.param_groups[0]["lr"] is rate
    assert (rate.item(), rate.data_ptr()) == (torch.tensor(0.1).item(), address)


@pytest.mark.parametrize("used", [False, True])
def test_a_scaler_is_as_it_was(used: bool) -> None:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    if used:
        trained(net, optimizer, 1, scaler)
    before = bytes_of(vars(scaler)), scaler.state_dict()
    with snapshot(net, optimizer, scaler):
        trained(net, optimizer, 5, scaler)
        assert scaler.state_dict() != before[1]
    assert scaler.state_dict() == before[1]
    assert bytes_of(vars(scaler)) == before[0]


def test_torch_schedulers_are_as_they_were() -> None:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    inner = [torch.optim.lr_scheduler.LinearLR(optimizer), torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, inner, [2])
    before = pickle.dumps(scheduler.state_dict()), optimizer_state(optimizer)
    with snapshot(scheduler):
        for _ in range(4):
            trained(net, optimizer, 1)
            scheduler.step()
    assert (pickle.dumps(scheduler.state_dict()), optimizer_state(optimizer)) == before


@pytest.mark.parametrize("settings", [{}, {"clock": "step"}])
def test_the_scheduler_of_an_optimizer_is_as_it_was_without_being_named(sgd, applied, settings) -> None:
    optimizer = sgd(lr=1.0)
    scheduler = Scheduler(optimizer, linear_decay(1.0), horizon=8, **settings)

    def update():
        optimizer.step()
        scheduler.step()

    applied(optimizer, 2, update)
    before = scheduler.state_dict(), scheduler._step_count
    with snapshot(optimizer):
        applied(optimizer, 3, update)
        scheduler.decay_now(2)
        assert scheduler.position == 5
    assert (scheduler.state_dict(), scheduler._step_count) == before
    assert applied(optimizer, 3, update) == [6 / 8, 5 / 8, 4 / 8]


def test_every_global_generator_is_as_it_was() -> None:
    def drawn():
        return random.random(), np.random.rand(), torch.rand(1).item(), random.gauss(0, 1), np.random.randn()

    random.gauss(0, 1)  # half a pair is kept for the next call
    np.random.randn()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = drawn()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    with snapshot():
        for _ in range(5):
            drawn()
    assert drawn() == expected


class Own:
    """What a user may keep beside the model."""

    def __init__(self) -> None:
        self.random, self.numpy, self.torch = random.Random(1), np.random.default_rng(2), torch.Generator()
        self.legacy = np.random.RandomState(3)
        self.count, self.average, self.nested = 0, torch.zeros(2), {"seen": [1]}

    def use(self) -> list[float]:
        self.count += 1
        self.average += 1
        self.nested["seen"].append(2)
        draws = (
            self.random.random(),
            self.numpy.random(),
            self.legacy.rand(),
            torch.rand(1, generator=self.torch).item(),
        )
        return [self.count, self.average.sum().item(), len(self.nested["seen"]), *draws]


def test_an_object_of_ones_own_is_as_it_was_if_it_is_given() -> None:
    own, twin = Own(), Own()
    with snapshot(own):
        for _ in range(3):
            own.use()
    assert own.use() == twin.use()


def test_a_loader_is_as_it_was_and_its_data_is_not_copied() -> None:
    class Noisy(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.draw, self.big = np.random.default_rng(1), torch.zeros(10**6)

        def __len__(self) -> int:
            return 10

        def __getitem__(self, i: int) -> float:
            return i + self.draw.random()

    def loader():
        return torch.utils.data.DataLoader(Noisy(), 2, shuffle=True, generator=torch.Generator().manual_seed(3))

    feeding, twin = loader(), loader()
    with snapshot(feeding):
        feeding.dataset.big[0] = 1.0  # data is the user's
        list(feeding)
    assert feeding.dataset.big[0] == 1.0
    torch.manual_seed(0)
    drawn = [batch.tolist() for batch in feeding]
    torch.manual_seed(0)
    assert drawn == [batch.tolist() for batch in twin]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_after_an_exception_too(error: type[BaseException]) -> None:
    net = model()
    before = module_state(net)
    with pytest.raises(error), snapshot(net):  # noqa: PT012
        net.eval()[0].weight.data.zero_()
        raise error
    assert module_state(net) == before


def test_it_can_be_nested() -> None:
    net = model()
    before = module_state(net)
    with snapshot(net):
        net[0].weight.data.fill_(1.0)
        between = module_state(net)
        with snapshot(net):
            net[0].weight.data.fill_(2.0)
        assert module_state(net) == between
    assert module_state(net) == before


class Interrupting(dict):
    """Sends Ctrl-C when it is put back."""

    def clear(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        super().clear()


def test_ctrl_c_while_it_puts_back_waits_until_everything_is_back() -> None:
    net = model()
    net.trap = Interrupting(a=1)
    before = module_state(net)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), snapshot(net):  # noqa: PT012
        net.trap["a"] = 2
        [p.data.zero_() for p in net.parameters()]
    assert module_state(net) == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_it_works_in_a_thread() -> None:
    net = model()
    before = module_state(net)

    def work() -> None:
        with snapshot(net):
            net[0].weight.data.zero_()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert module_state(net) == before


class Stubborn(dict):
    def clear(self) -> None:
        raise ValueError("no")


def test_what_cannot_be_put_back_is_said_and_the_rest_is_put_back() -> None:
    net = model()
    net.trap = Stubborn()
    weight = bytes_of(net[0].weight)
    message = r"1 of .* things could not be put back, the first for ValueError: no"
    with pytest.raises(AdapterError, match=message), snapshot(net):
        net.trap["a"] = net[0].weight.data.zero_()
    assert bytes_of(net[0].weight) == weight


def test_what_has_no_attributes_is_refused() -> None:
    with pytest.raises(AdapterError, match="needs objects with attributes, got int"), snapshot(5):
        pass


def test_nothing_given_may_be_none() -> None:
    with snapshot(model(), None):
        pass


class Drawing:
    """Something of one's own that draws: a transform, a sampler, what makes batches."""

    def __init__(self) -> None:
        self.rng, self.epoch = random.Random(5), 0

    def __call__(self, items):
        return [x + self.rng.random() for x in items]

    def __len__(self) -> int:
        return 4

    def __iter__(self):
        self.epoch += 1
        return iter(self.rng.sample(range(4), 4))


class Noised(torch.utils.data.Dataset):
    """Draws through an object that it holds."""

    def __init__(self) -> None:
        self.transform, self.seen, self.big = Drawing(), [], torch.zeros(4)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> float:
        self.seen.append(i)
        return self.transform([i])[0] + len(self.seen)


class Several:
    """Loaders in a list."""

    def __init__(self) -> None:
        drawn = torch.Generator().manual_seed(1)
        self.all = [torch.utils.data.DataLoader(range(4), 2, shuffle=True, generator=drawn)]

    def __iter__(self):
        return (batch for loader in self.all for batch in loader)


def closing():
    rng = random.Random(3)
    return torch.utils.data.DataLoader(range(4), 2, collate_fn=lambda items: [x + rng.random() for x in items])


def batched():
    sampler = torch.utils.data.BatchSampler(Drawing(), 2, drop_last=False)
    return torch.utils.data.DataLoader(range(4), batch_sampler=sampler)


def loading(data, **settings):
    return torch.utils.data.DataLoader(data, 2, collate_fn=settings.pop("collate_fn", list), **settings)


FEEDERS = {
    "a subset": lambda: loading(torch.utils.data.Subset(Noised(), range(4))),
    "datasets in a row": lambda: loading(torch.utils.data.ConcatDataset([Noised()])),
    "a plain sampler": lambda: loading(range(4), sampler=Drawing()),
    "batches of a plain sampler": batched,
    "what makes batches": lambda: loading(range(4), collate_fn=Drawing()),
    "a function around a generator": closing,
    "loaders in a list": Several,
}


@pytest.mark.parametrize("kind", FEEDERS)
def test_whatever_feeds_goes_on_as_if_nothing_had_been(kind: str) -> None:
    feeding, twin = FEEDERS[kind](), FEEDERS[kind]()
    if kind == "a subset":
        assert list(feeding) != list(feeding)  # it does draw
        list(twin), list(twin)
    memory = Memory([], [feeding])
    list(feeding)
    memory.restore()
    assert repr(list(feeding)) == repr(list(twin))


def test_plain_objects_that_a_module_holds_get_their_attributes_back() -> None:
    net = model()
    net.tracker = Drawing()
    net.tracker.counts = {"all": 1}
    expected = random.Random(5).random()
    with snapshot(net):
        net.tracker.epoch, net.tracker.counts["all"] = 7, 9
        net.tracker.rng.random()
        net.tracker.more = 1
    assert (net.tracker.epoch, net.tracker.counts, net.tracker.rng.random()) == (0, {"all": 1}, expected)
    assert not hasattr(net.tracker, "more")
