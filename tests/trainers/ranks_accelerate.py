"""What one process under Accelerate does; ``test_accelerate.py`` starts one or two and looks at what they found.

With two processes the gradients are 0.5 and 1.5: their mean is 1, so a process that did not hear of the other shows.
"""

import sys
from contextlib import suppress
from types import ModuleType

sys.modules["deepspeed"] = None  # Accelerate imports it where it is installed; here it is not to run
sys.modules["tensorboard.compat.notf"] = ModuleType("notf")  # TensorBoard without TensorFlow: seconds less

import accelerate  # noqa: E402
import torch  # noqa: E402
from accelerate.state import AcceleratorState, GradientState, PartialState  # noqa: E402
from accelerate.tracking import GeneralTracker  # noqa: E402
from torch.optim.lr_scheduler import LambdaLR  # noqa: E402
from trainers.launch import run, write  # noqa: E402
from trainers.probe import LR, METRICS, RULED, Probe, scalars, sgd  # noqa: E402

from ratewise.torch import Scheduler  # noqa: E402


def accelerator(**settings):
    """A new Accelerator; the settings of the last one are forgotten."""
    AcceleratorState._reset_state()
    GradientState._reset_state()
    return accelerate.Accelerator(cpu=True, **settings)


def probe(**settings):
    """The probe of this process."""
    state = PartialState(cpu=True)
    return Probe(gradient=0.5 + state.process_index if state.num_processes > 1 else 1.0, **settings)


def loader(batches):
    """Batches of one row for every process, shared out by Accelerate."""
    return torch.utils.data.DataLoader(range(batches * PartialState(cpu=True).num_processes))


def trained(accelerate, model, optimizer, scheduler, data, before=None):
    """The loop as Accelerate's documentation writes it."""
    for i, batch in enumerate(data):
        if before:
            before(i)
        with accelerate.accumulate(model):
            accelerate.backward(model(batch))
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()


def every_update(folder, accumulated=1, prepared=True, **settings):
    """The rates used, and the position."""
    a = accelerator(gradient_accumulation_steps=accumulated, **settings)
    model = probe(micro=accumulated)
    optimizer = sgd(model)
    scheduler = Scheduler(optimizer, LR)
    wrapped, driven, data = a.prepare(model, optimizer, loader(8 * accumulated))
    trained(a, wrapped, driven, a.prepare(scheduler) if prepared else scheduler, data)
    return model.used, scheduler.position


def made_after_prepare(folder):
    """The Scheduler is given what prepare returned."""
    a = accelerator()
    model = probe()
    wrapped, driven, data = a.prepare(model, sgd(model), loader(8))
    scheduler = Scheduler(driven, LR)
    trained(a, wrapped, driven, scheduler, data)
    return model.used, scheduler.position


def split_batches(folder, clock="hooks"):
    """One loader of whole batches, split among the processes."""
    a = accelerator(dataloader_config=accelerate.DataLoaderConfiguration(split_batches=True))
    model = probe()
    optimizer = sgd(model)
    scheduler = Scheduler(optimizer, LR, clock=clock)
    data = torch.utils.data.DataLoader(range(8 * a.num_processes), batch_size=a.num_processes)
    trained(a, *a.prepare(model, optimizer, scheduler, data))
    return model.used, scheduler.position


def their_scheduler(folder):
    """The same curve as a scheduler of torch, prepared."""
    a = accelerator()
    model = probe()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    trained(a, *a.prepare(model, optimizer, LambdaLR(optimizer, LR), loader(8)))
    return model.used


def counted_calls(folder, prepared):
    """clock="step", prepared or not."""
    a = accelerator()
    model = probe()
    optimizer = sgd(model)
    scheduler = Scheduler(optimizer, LR, clock="step", on_overrun="hold")
    wrapped, driven, data = a.prepare(model, optimizer, loader(8))
    trained(a, wrapped, driven, a.prepare(scheduler) if prepared else scheduler, data)
    return model.used, scheduler.position


class Power(RuntimeError):
    """It went out."""


def killed_and_resumed(folder, stop, prepared=True, then=LR):
    """Killed before update ``stop`` after save_state, and gone on from there by new objects."""

    def made(lr):
        a = accelerator()
        model = probe()
        optimizer = sgd(model)
        scheduler = Scheduler(optimizer, lr)
        if prepared:
            return a, model, scheduler, a.prepare(model, optimizer, scheduler, loader(8))
        a.register_for_checkpointing(scheduler)
        wrapped, driven, data = a.prepare(model, optimizer, loader(8))
        return a, model, scheduler, (wrapped, driven, scheduler, data)

    def before(i):
        if i == stop:
            a.save_state(state)
            raise Power

    state = f"{folder}/state-{stop}-{prepared}-{len(repr(then))}"
    a, model, scheduler, objects = made(LR)
    with suppress(Power):
        trained(a, *objects, before=before)
    a, model, scheduler, (wrapped, driven, stepped, data) = made(then)
    a.load_state(state)
    trained(a, wrapped, driven, stepped, a.skip_first_batches(data, stop))
    return model.used, scheduler.position


class Notes(GeneralTracker):
    """A tracker of one's own."""

    name, requires_logging_directory = "notes", False

    def __init__(self):
        super().__init__()
        self.rows = []

    @property
    def tracker(self):
        return self.rows

    def store_init_configuration(self, values):
        pass

    def log(self, values, step=None, **_):
        self.rows.append((step, values["lr"]))


def trackers(folder):
    """get_last_lr of the prepared scheduler, logged at the index of the update."""
    notes = Notes()
    a = accelerator(log_with=["tensorboard", notes], project_dir=f"{folder}/board")
    a.init_trackers("run")
    model = probe()
    optimizer = sgd(model)
    model, optimizer, scheduler, data = a.prepare(model, optimizer, Scheduler(optimizer, LR), loader(8))
    for t, batch in enumerate(data):
        a.backward(model(batch))
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        a.log({"lr": scheduler.get_last_lr()[0]}, step=t)
    a.end_training()
    return notes.rows, scalars(f"{folder}/board/run", "lr") if a.is_main_process else None


def overflowing(folder):
    """A GradScaler that overflows in updates 0 and 3 of 6."""
    a = accelerator()
    a.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    model = probe()
    optimizer = sgd(model)
    scheduler = Scheduler(optimizer, LR, scaler=a.scaler)
    wrapped, driven, stepped = a.prepare(model, optimizer, scheduler)
    for i in range(6):
        loss = wrapped()
        a.backward(loss * (float("inf") if i in (0, 3) else 1.0))
        driven.step()
        stepped.step()
        driven.zero_grad()
    return model.used[:6], scheduler.position, scheduler.skipped


def ruled(folder, wrapped_too=False):
    """Each process has a metric of its own; the rule gets their mean, from the Scheduler itself or its wrapper."""
    a = accelerator()
    model = probe()
    optimizer = sgd(model)
    scheduler = Scheduler(optimizer, RULED)
    wrapped, driven, prepared, data = a.prepare(model, optimizer, scheduler, loader(8))
    feed = prepared.step if wrapped_too else scheduler.observe
    for batch, metric in zip(data, METRICS, strict=True):
        a.backward(wrapped(batch))
        driven.step()
        driven.zero_grad()
        mine = torch.tensor(metric + a.process_index - (a.num_processes - 1) / 2)
        feed(a.reduce(mine, "mean").item())
    return model.used, scheduler.position


CHECKS = {
    "prepared": every_update,
    "not prepared": lambda folder: every_update(folder, prepared=False),
    "accumulated": lambda folder: every_update(folder, accumulated=2),
    "accumulated 4, not prepared": lambda folder: every_update(folder, accumulated=4, prepared=False),
    "made after prepare": made_after_prepare,
    "bfloat16": lambda folder: every_update(folder, mixed_precision="bf16"),
    "split batches": split_batches,
    "their scheduler": their_scheduler,
    "calls counted, prepared": lambda folder: counted_calls(folder, True),
    "calls counted, not prepared": lambda folder: counted_calls(folder, False),
    "calls counted, split batches": lambda folder: split_batches(folder, "step"),
    **{f"killed {stop}": lambda folder, stop=stop: killed_and_resumed(folder, stop) for stop in range(1, 8, 3)},
    "ruled": ruled,
    "ruled through the wrapper": lambda folder: ruled(folder, True),
    "overflowing": overflowing,
    "killed 5, registered": lambda folder: killed_and_resumed(folder, 5, prepared=False),
    "another schedule": lambda folder: killed_and_resumed(folder, 3, then=0.5 * LR),
    "trackers": trackers,  # the last: end_training ends the process group
}


if __name__ == "__main__":
    write(sys.argv[1], run(CHECKS, sys.argv[1]))
