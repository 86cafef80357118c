"""What one rank of Lightning's "ddp" does; ``test_lightning.py`` starts two and looks at what they found.

The ranks have the gradients 0.5 and 1.5 everywhere: the mean is 1, so a rank that did not hear of the other would show.
"""

import os
import sys

from trainers import lit
from trainers.launch import run, write
from trainers.probe import METRICS

RANK = int(os.environ["RANK"])


def every_update(folder, accumulated):
    """The rates used, and the position."""
    module = lit.Module(micro=accumulated, gradient=0.5 + RANK)
    settings = {"strategy": "ddp", "devices": 2, "accumulate_grad_batches": accumulated}
    trainer = lit.fit(folder, module, batches=8 * accumulated, **settings)
    return module.probe.used, trainer.lr_scheduler_configs[0].scheduler.position


class Reduced(lit.Monitored):
    """Each rank has a metric of its own; Lightning passes on their mean."""

    def on_train_epoch_end(self):
        self.log("loss", METRICS[self.current_epoch] + RANK - 0.5, sync_dist=True)


def ruled(folder):
    """The rates under a rule."""
    module = Reduced(gradient=0.5 + RANK)
    trainer = lit.fit(folder, module, batches=2, epochs=8, strategy="ddp", devices=2)
    return module.probe.used, trainer.lr_scheduler_configs[0].scheduler.position


CHECKS = {
    "ruled": ruled,
    **{str(accumulated): lambda folder, n=accumulated: every_update(folder, n) for accumulated in (1, 2)},
}


if __name__ == "__main__":
    write(sys.argv[1], run(CHECKS, sys.argv[1]))
