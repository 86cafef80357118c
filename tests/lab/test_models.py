"""The models of the built-in tasks: each PyTorch model and its Keras twin are one function of the same values."""

import numpy as np
import pytest
import torch

from ratewise.lab.loading import load
from ratewise.lab.tasks import TASKS

keras = pytest.importorskip("keras")


def values_of(model):
    """The values of a Keras model, layer by layer, in the shapes that PyTorch gives them."""
    for layer in model.layers:
        values = [v.value.numpy() for v in layer.variables]
        if isinstance(layer, keras.layers.Conv2D):
            side = model.layers[model.layers.index(layer) + 1].output.shape[1]  # behind its pooling
            yield values[0].transpose(3, 2, 0, 1)
            yield values[1]
        elif isinstance(layer, keras.layers.Dense) and isinstance(model.layers[-2:][0], keras.layers.Flatten):
            units = values[0].shape[1]
            yield values[0].reshape(side, side, -1, units).transpose(3, 2, 0, 1).reshape(units, -1)
            yield values[1]
        elif isinstance(layer, keras.layers.Dense):
            yield values[0].T
            yield values[1]
        else:
            yield from values


def give(twin, model):
    """Copy the values of a Keras model into its PyTorch twin."""
    if not hasattr(twin, "heads"):
        for parameter, value in zip(twin.parameters(), values_of(model), strict=True):
            parameter.data = torch.tensor(value)
        return

    def of(kind):
        return [[v.value.numpy() for v in x.variables] for x in model.layers if type(x).__name__ == kind]

    ((q, q_bias, k, k_bias, v, v_bias, out, out_bias),) = of("MultiHeadAttention")
    width = len(out_bias)
    parts = dict(zip(("before", "after", "last"), of("LayerNormalization"), strict=True))
    parts |= {name: (w.T, b) for name, (w, b) in zip(("wide", "back", "head"), of("Dense"), strict=True)}
    parts["into"] = np.concatenate([x.reshape(width, width).T for x in (q, k, v)]), np.ravel([q_bias, k_bias, v_bias])
    parts["out"] = out.reshape(width, width).T, out_bias
    state = {"place": of("_Places")[0][0], "embed.weight": of("Embedding")[0][0]}
    for name, (weight, bias) in parts.items():
        state |= {f"{name}.weight": weight, f"{name}.bias": bias}
    twin.load_state_dict({name: torch.tensor(np.ascontiguousarray(value)) for name, value in state.items()})


@pytest.mark.parametrize("name", TASKS)
def test_both_frameworks_compute_the_same_from_the_same_values(name):
    task = load(name)
    model, twin = task.keras_model(), task.model()
    rng = np.random.default_rng(0)
    for variable in model.variables:  # also what starts at 0 or 1
        variable.assign(variable.value.numpy() + 0.1 * rng.normal(size=variable.shape))
    give(twin, model)
    inputs = task.splits["valid"][0][:9]
    expected = np.asarray(model(inputs))
    assert twin(torch.as_tensor(inputs)).detach().numpy() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_both_frameworks_begin_with_values_of_the_same_size(name):
    task = load(name)
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
    twin = task.model()
    sizes = [float(p.detach().abs().mean()) for p in twin.parameters() if p.numel() > 60]
    give(twin, task.keras_model())
    again = [float(p.detach().abs().mean()) for p in twin.parameters() if p.numel() > 60]
    assert again == pytest.approx(sizes, rel=0.2)


def test_a_decoder_sees_no_later_character():
    task = load("stdlib-transformer")
    torch.manual_seed(0)
    model, inputs = task.model(), torch.as_tensor(task.splits["valid"][0][:4])
    changed = inputs.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 96
    one, other = model(inputs), model(changed)
    assert torch.equal(one[:, :7], other[:, :7])
    assert (one[:, 7:] != other[:, 7:]).any(-1).all()
