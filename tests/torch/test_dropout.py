"""Dropout that a seed fixes: as random as it must be, and the same in every engine."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.utils.checkpoint import checkpoint

from ratewise.errors import TaskError
from ratewise.torch.dropout import Keyed, called, keep, keyed, keys, write_keys

N = 1 << 16


def mask(seed=0, update=0, module=0, p=0.5, n=N):
    """1.0 where an element is kept."""
    key = torch.from_numpy(keys([seed], update, module + 1)[module, 0])
    return keep(key, (n,), p).double()


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_elements_are_dropped_as_often_as_they_should(p):
    shares = [float(1 - mask(seed, update, p=p).mean()) for seed in range(8) for update in range(8)]
    deviation = (p * (1 - p) / N) ** 0.5
    assert max(abs(share - p) for share in shares) < 5 * deviation
    assert 0.6 * deviation < np.std(shares) < 1.5 * deviation  # neither more nor less regular than chance


@pytest.mark.parametrize(
    "others",
    [
        [{"seed": seed} for seed in (1, 2, 1000, 2**31, -1)],
        [{"update": update} for update in (1, 2, 255, 100_000)],
        [{"module": module} for module in (1, 2, 30)],
        [{"seed": 1, "update": 1}, {"seed": 5, "module": 7}],
    ],
    ids=["seeds", "updates", "modules", "both"],
)
def test_masks_of_other_seeds_updates_and_modules_are_independent(others):
    one = mask() - 0.5
    for other in others:
        two = mask(**other) - 0.5
        spectrum = torch.fft.irfft(torch.fft.rfft(one).conj() * torch.fft.rfft(two)) / (N * 0.25)  # at every shift
        assert float(spectrum.abs().max()) < 6 / N**0.5


def test_masks_of_other_calls_are_independent_and_dropped_as_often():
    key = torch.from_numpy(keys([0], 0, 1)[0, 0])
    masks = [keep(called(key, call), (N,), 0.5).double() - 0.5 for call in (0, 1, 2, 3, 1000, 2**31)]
    assert torch.equal(masks[0] + 0.5, mask())
    for one, two in combinations(masks, 2):
        spectrum = torch.fft.irfft(torch.fft.rfft(one).conj() * torch.fft.rfft(two)) / (N * 0.25)
        assert float(spectrum.abs().max()) < 6 / N**0.5
    assert max(abs(float(x.mean())) for x in masks) < 5 * 0.5 / N**0.5


class Twice(nn.Module):
    """One dropout module, called twice: apart, or under checkpoints that compute it again in the backward pass."""

    def __init__(self, calls=2, recomputed=False) -> None:
        super().__init__()
        self.drop, self.calls, self.recomputed = nn.Dropout(0.5), calls, recomputed

    def forward(self, x):
        call = partial(checkpoint, self.drop, use_reentrant=False) if self.recomputed else self.drop
        return torch.stack([call(x * x) for _ in range(self.calls)])


def test_a_module_called_twice_in_a_pass_drops_others_and_the_same_in_the_next_pass_and_under_vmap():
    model = Twice()
    names = keyed(model)
    x = torch.ones(4, 64)
    stacked = {names[0]: torch.from_numpy(keys([7, 8], 11, 1)[0])}
    together = vmap(lambda k: functional_call(model, k, (x,)))(stacked)
    for i, seed in enumerate((7, 8)):
        write_keys(model, names, seed, 11)
        one = model(x)
        assert torch.equal(one, together[i])
        assert torch.equal(one, model(x))
        assert 0.3 < float((one[0] == one[1]).double().mean()) < 0.7


def test_a_compiled_model_drops_what_it_would_drop_otherwise():
    drop = nn.Dropout(0.5)
    plain = nn.Sequential(drop, nn.Tanh(), drop)
    compiled = torch.compile(plain, backend="eager", fullgraph=True)
    names, x = keyed(compiled), torch.ones(64)
    write_keys(compiled, names, 0, 5)
    first = keep(compiled.get_buffer(names[0]), (64,), 0.5)
    for found in (compiled(x), compiled(x)):
        assert not found[~first].any()
        assert 0.2 < float((found[first] == 0).double().mean()) < 0.8


def test_a_mask_that_is_computed_again_is_the_same_or_refused():
    model = Twice(calls=1, recomputed=True)
    write_keys(model, keyed(model), 3, 0)
    x = torch.ones(64, requires_grad=True)
    y = model(x)
    y.sum().backward()
    assert torch.equal(x.grad, 2 * y[0].detach())
    model = Twice(recomputed=True)
    write_keys(model, keyed(model), 3, 0)
    with pytest.raises(TaskError, match="Use one for each call"):
        model(x).sum().backward()


def test_elements_of_a_mask_are_independent_at_every_distance():
    for seed in range(4):
        one = mask(seed) - 0.5
        found = torch.fft.irfft(torch.fft.rfft(one).abs() ** 2)[1:] / (N * 0.25)
        assert float(found.abs().max()) < 6 / N**0.5


def test_a_mask_is_the_same_under_vmap_as_alone():
    model = nn.Sequential(nn.Dropout(0.3), nn.Dropout2d(0.5))
    names = keyed(model)
    x = torch.randn(3, 4, 5, 6, 6)
    stacked = dict(zip(names, map(torch.from_numpy, keys([7, 8, 9], 11, 2)), strict=True))
    together = vmap(lambda k, x: functional_call(model, k, (x,)))(stacked, x)
    for i, seed in enumerate((7, 8, 9)):
        write_keys(model, names, seed, 11)
        assert torch.equal(model(x[i]), together[i])
    assert not torch.equal(together[0] == 0, together[1] == 0)


def test_the_mean_is_kept_and_evaluation_changes_nothing():
    model = nn.Sequential(nn.Dropout(0.25))
    write_keys(model, keyed(model), 3, 0)
    x = torch.ones(N, dtype=torch.float64)
    assert float(model(x).mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.unique(model(x)).tolist() == pytest.approx([0.0, 1 / 0.75])
    assert torch.equal(model.eval()(x), x)


@pytest.mark.filterwarnings("ignore:dropout2d. Received a 3D input")
@pytest.mark.parametrize(
    ("kind", "shape", "channels"),
    [
        (nn.Dropout1d, (8, 16, 9), 2), (nn.Dropout1d, (16, 9), 1), (nn.Dropout2d, (8, 16, 9, 9), 2),
        (nn.Dropout2d, (8, 16, 9), 2), (nn.Dropout3d, (8, 16, 3, 3, 3), 2), (nn.Dropout3d, (16, 3, 3, 3), 1),
    ],
)  # fmt: skip
def test_channels_are_dropped_whole_as_torch_drops_them(kind, shape, channels):
    model = nn.Sequential(kind(0.5))
    theirs = model(torch.ones(shape)).flatten(channels)
    write_keys(model, keyed(model), 0, 0)
    ours = model(torch.ones(shape)).flatten(channels)
    for found in (ours, theirs):
        assert torch.equal(found, found[..., :1].expand_as(found))
        assert set(torch.unique(found).tolist()) == {0.0, 2.0}


def test_the_ends_drop_nothing_and_everything():
    x = torch.randn(50)
    for p, expected in ((0.0, x), (1.0, torch.zeros(50))):
        model = nn.Sequential(nn.Dropout(p))
        write_keys(model, keyed(model), 0, 0)
        assert torch.equal(model(x), expected)


class Own(nn.Dropout):
    """A subclass, of which nothing is known."""


def test_modules_are_replaced_once_wherever_they_stand_and_nothing_else_is():
    shared = nn.Dropout(0.5, inplace=True)
    model = nn.Sequential(shared, nn.Sequential(nn.Linear(2, 2), shared), Own(0.5), nn.AlphaDropout(0.5), shared)
    names = keyed(model)
    assert names == ["0.key"]
    assert model[0] is model[1][1] is model[4]
    assert [type(model[i]) for i in (0, 2, 3)] == [Keyed, Own, nn.AlphaDropout]
    assert "0.key" not in model.state_dict()
    write_keys(model, names, 0, 0)
    x = torch.ones(64)
    y = model[0](x)
    assert y is x
    assert set(x.tolist()) == {0.0, 2.0}
