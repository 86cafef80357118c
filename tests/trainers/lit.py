"""Lightning modules as users write them, around probes; imported by fixtures only, as Lightning takes seconds."""

import csv

import lightning
import torch
from lightning.pytorch import callbacks, loggers
from torch.utils.data import DataLoader
from trainers.probe import LR, METRICS, RULED, Probe, sgd

import ratewise as rw
from ratewise.torch import Scheduler


class Module(lightning.LightningModule):
    """One probe, one scheduler."""

    def __init__(self, lr=LR, interval="step", **probe):
        super().__init__()
        self.probe, self.lr, self.interval = Probe(**probe), lr, interval

    def training_step(self, batch, index):
        return self.probe(batch)

    def configure_optimizers(self):
        optimizer = sgd(self)
        scheduler = Scheduler(optimizer, self.lr)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.interval}}


class Power(RuntimeError):
    """It went out."""


class Killed(Module):
    """Dies in the forward pass of update ``stop``."""

    def __init__(self, stop, **settings):
        super().__init__(**settings)
        self.stop = stop

    def training_step(self, batch, index):
        if self.global_step == self.stop:
            raise Power
        return super().training_step(batch, index)


class Monitored(Module):
    """Lightning gives the rule a metric at every epoch's end, an epoch being one update."""

    stop = None

    def on_train_epoch_end(self):
        self.log("loss", METRICS[self.current_epoch])

    def on_train_epoch_start(self):
        if self.current_epoch == self.stop:
            raise Power

    def configure_optimizers(self):
        optimizer = sgd(self)
        config = {"scheduler": Scheduler(optimizer, RULED), "monitor": "loss", "reduce_on_plateau": True}
        return {"optimizer": optimizer, "lr_scheduler": config}


class Observed(Monitored):
    """The module gives the rule its metric itself."""

    def on_train_epoch_end(self):
        self.lr_schedulers().observe(METRICS[self.current_epoch])

    def configure_optimizers(self):
        optimizer = sgd(self)
        return [optimizer], [Scheduler(optimizer, RULED)]


class Grouped(Module):
    """Two named groups, body and head."""

    def __init__(self):
        super().__init__()
        self.head = Probe()

    def training_step(self, batch, index):
        return self.probe(batch) + self.head(batch)

    def configure_optimizers(self):
        groups = [{"params": m.parameters(), "name": n} for m, n in ((self.probe, "body"), (self.head, "head"))]
        optimizer = torch.optim.SGD(groups, lr=0.7)
        scheduler = Scheduler(optimizer, {"body": LR, "head": rw.Constant(0.25)})
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Adversaries(lightning.LightningModule):
    """Manual optimization: a critic that makes two updates for every one of the generator."""

    automatic_optimization = False

    def __init__(self):
        super().__init__()
        self.critic, self.generator = Probe(), Probe(updates=4)

    def training_step(self, batch, index):
        critic, generator = self.optimizers()
        for model, optimizer, due in ((self.critic, critic, True), (self.generator, generator, index % 2)):
            if due:
                optimizer.zero_grad()
                self.manual_backward(model(batch))
                optimizer.step()

    def configure_optimizers(self):
        optimizers = [sgd(self.critic), sgd(self.generator)]
        return optimizers, [Scheduler(optimizers[0], LR), Scheduler(optimizers[1], rw.Linear(1.0, 0.0, 4))]


def saving(folder, **settings):
    """Settings that save a checkpoint after every update."""
    settings = {"save_top_k": -1, **(settings or {"every_n_train_steps": 1, "save_on_train_epoch_end": False})}
    return {"enable_checkpointing": True, "callbacks": [callbacks.ModelCheckpoint(folder, "{step}", **settings)]}


def monitored(folder):
    """Settings that log the rate, to a CSV file and to TensorBoard, both in ``folder``."""
    logger = [loggers.CSVLogger(folder, "csv"), loggers.TensorBoardLogger(folder, "board")]
    return {"logger": logger, "log_every_n_steps": 1, "callbacks": [callbacks.LearningRateMonitor()]}


def logged(folder, name):
    """What the CSV file says of ``name``: (index, rate)."""
    with open(folder / "csv/version_0/metrics.csv", newline="") as file:
        return [(int(row["step"]), float(row[name])) for row in csv.DictReader(file)]


def fit(folder, module, batches=4, epochs=2, ckpt_path=None, **settings):
    """Fit ``module`` quietly; returns the trainer."""
    settings = {"logger": False, "enable_checkpointing": False, **settings}
    trainer = lightning.Trainer(
        accelerator="cpu", default_root_dir=folder, max_epochs=epochs, enable_progress_bar=False,
        enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.fit(module, DataLoader(range(batches)), ckpt_path=ckpt_path)
    return trainer
