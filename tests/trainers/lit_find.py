"""Lightning modules in which a rate is to be found; imported by fixtures only, as Lightning takes seconds."""

import lightning
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from ratewise.torch import Scheduler

torch.manual_seed(0)
X = torch.randn(256, 8)
Y = (X[:, :4] + 0.2 * torch.randn(256, 4)).argmax(1)


class Module(lightning.LightningModule):
    """A classifier with everything that may leave a trace: dropout, running means, a list, logged values.

    Args:
        schedule: What a Scheduler follows; None for a constant rate.
        dropout: Its part.
        log: Whether values are logged.
    """

    def __init__(self, schedule=None, dropout=0.2, log=True):
        super().__init__()
        self.schedule, self.logs, self.lr = schedule, log, 0.001
        body = [torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(dropout), torch.nn.ReLU()]
        self.net = torch.nn.Sequential(*body, torch.nn.Linear(16, 4))
        self.losses, self.rates = [], []

    def training_step(self, batch, index):
        x, y = batch
        loss = cross_entropy(self.net(x), y)
        self.losses.append(loss.item())
        if self.logs:
            self.log("loss", loss, on_step=True, on_epoch=True)
            self.log_dict({"index": index})
            self.logger.log_metrics({"twice": 2 * loss.item()}, step=self.global_step)
        return loss

    def validation_step(self, batch, index):
        pass

    def on_before_optimizer_step(self, optimizer):
        self.rates.append([group["lr"] for group in optimizer.param_groups])

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        if self.schedule is None:
            return optimizer
        scheduler = Scheduler(optimizer, self.schedule, horizon=int(self.trainer.estimated_stepping_batches))
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def loader(shuffle=True, rows=256):
    """Batches of 16."""
    return DataLoader(TensorDataset(X[:rows], Y[:rows]), 16, shuffle=shuffle)


def trainer(folder, *callbacks, **settings):
    """A quiet trainer of two epochs."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    run = {"max_epochs": 2, "enable_checkpointing": False, "num_sanity_val_steps": 0}
    settings = {**quiet, **run, **settings}
    return lightning.Trainer(accelerator="cpu", default_root_dir=folder, callbacks=list(callbacks), **settings)


def fit(folder, module, *callbacks, data=None, val=None, ckpt_path=None, **settings):
    """Fit ``module``; returns the trainer."""
    torch.manual_seed(1)
    made = trainer(folder, *callbacks, **settings)
    made.fit(module, loader() if data is None else data, val, ckpt_path=ckpt_path)
    return made
