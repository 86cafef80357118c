"""A rate found for Hugging Face's Trainer and under Accelerate, as docs/finder.md writes it."""

import re
from pathlib import Path

import pytest
import torch
from docs.blocks import check

from ratewise.torch import find_lr

PAGE = (Path(__file__).parents[2] / "docs" / "finder.md").read_text()
BLOCKS = re.findall(r"```python trainer\n(.*?)```", PAGE, re.DOTALL)

pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found")


@pytest.fixture(autouse=True)
def _anew():
    """One process has one accelerator, whose precision cannot be changed."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def test_the_page_has_a_block_for_each_trainer():
    assert [re.findall(r"^(?:import|from) (lightning|transformers|accelerate)", b, re.M)[0] for b in BLOCKS] == [
        "lightning",
        "transformers",
        "accelerate",
    ]


@pytest.mark.parametrize("i", [1, 2], ids=["Hugging Face", "Accelerate"])
def test_the_block_runs_and_prints_what_its_comments_say(i, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(BLOCKS[i], "finder.md")


def test_in_the_middle_of_an_epoch_accelerate_goes_on_as_if_nothing_had_been_searched():
    """The last update of an epoch accumulates fewer batches, and only the loader in use tells."""
    assert trained(searched=True) == trained(searched=False)


def trained(searched):
    """Losses and parameters of two epochs of five batches, two to an update."""
    from accelerate import Accelerator

    torch.manual_seed(0)
    x, y = torch.randn(80, 4), torch.randint(0, 3, (80,))
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16, shuffle=True)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    loss, losses, updates = torch.nn.functional.cross_entropy, [], []
    for _ in range(2):
        for i, (inputs, targets) in enumerate(loader):
            with accelerator.accumulate(model):
                losses.append(loss(model(inputs), targets))
                accelerator.backward(losses[-1])
                if searched and i == 2:  # gradients are waiting
                    find_lr(model, optimizer, loss, loader, horizon=20, steps=4, seeds=1, accumulation=2)
                updates.append(accelerator.sync_gradients)
                optimizer.step()
                optimizer.zero_grad()
    assert updates == [False, True, False, True, True] * 2
    return [value.item() for value in losses], [p.tolist() for p in model.parameters()]
