"""Measuring the rates that a trainer really used.

Update i has gradient 1 in weight i and 0 in every other, starting from 0 in float64: under plain SGD weight i is
therefore minus the rate of update i, exactly, whatever the trainer does with the batches. Which update it is the
model counts itself, by its own forward passes; the count is a buffer, so it travels in the trainer's checkpoints.
"""

import torch

import ratewise as rw

LR = rw.Linear(1.0, 0.0, 8)
"""1, .875, .75, .625, .5, .375, .25, .125: all exact in binary."""

RATES = LR.values(0, 8)

RULED = LR * rw.Plateau(0.5, patience=2)

METRICS = [3.0, 1.0, 2.0, 1.5, 1.0, 0.5, 0.25, 0.125]
"""One after every update: the one cut is at the second evaluation in a row without improvement, after update 3."""

CUT = [1.0, 0.875, 0.75, 0.625, 0.25, 0.1875, 0.125, 0.0625]
"""The rates under RULED and METRICS, by hand: halved from update 4 on."""


class Probe(torch.nn.Module):
    """As many weights as updates.

    Args:
        updates: How many updates to measure.
        micro: How many forward passes make one update.
        gradient: What the loss of every forward pass is multiplied by.
    """

    def __init__(self, updates=8, micro=1, gradient=1.0):
        super().__init__()
        self.micro, self.gradient = micro, gradient
        self.weight = torch.nn.Parameter(torch.zeros(updates, dtype=torch.float64))
        self.register_buffer("passes", torch.tensor(0))

    def forward(self, batch=None):
        """The loss."""
        update = int(self.passes) // self.micro
        self.passes += 1
        return self.weight[update] * self.gradient

    @property
    def used(self):
        """The rate of each update."""
        return [-w for w in self.weight.tolist()]


def sgd(model, **settings):
    """Plain SGD over a model, at a rate that no schedule of these tests gives."""
    return torch.optim.SGD(model.parameters(), lr=0.7, **settings)


def scalars(folder, tag):
    """What the TensorBoard files in ``folder`` say of ``tag``: (index, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return [(event.step, event.value) for event in EventAccumulator(str(folder)).Reload().Scalars(tag)]
