"""A rate found as a Lightning fit begins: the trainer's own updates, and no trace of them."""

import doctest
import importlib.util
import math
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from docs.blocks import check

import ratewise as rw
from ratewise.errors import FinderError

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),  # torch 2.13
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
]

SHORT = {"steps": 12, "seeds": 1}


@pytest.fixture(scope="module")
def lit():
    """The modules to fit."""
    from trainers import lit_find

    return lit_find


@pytest.fixture(scope="module")
def FindLR():
    from ratewise.torch.lightning import FindLR

    return FindLR


@pytest.fixture
def fit(lit, tmp_path):
    """Fits a module in the test's own folder."""
    return partial(lit.fit, tmp_path)


SETTINGS = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1, "precision": "bf16-mixed"}


def test_a_fit_in_which_a_rate_was_found_goes_bit_for_bit_as_one_without(lit, FindLR, tmp_path):
    from lightning.pytorch import callbacks, loggers

    ends = []
    for name, found in (("with", [FindLR(set_rate=False, **SHORT)]), ("without", [])):
        torch.manual_seed(2)
        folder, module = tmp_path / name, lit.Module(rw.linear_decay(0.01).warmup(3))
        heard = [callbacks.LearningRateMonitor("step"), *found]
        logger = loggers.CSVLogger(folder, "csv", flush_logs_every_n_steps=1)
        saved = callbacks.ModelCheckpoint(folder, "{step}", save_top_k=-1)
        trainer = lit.fit(
            folder, module, *heard, saved, logger=logger, log_every_n_steps=1, enable_checkpointing=True,
            val=lit.loader(shuffle=False, rows=32), max_epochs=4, **SETTINGS,
        )  # fmt: skip
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
        written = (folder / "csv/version_0/metrics.csv").read_text()
        state = {**trainer.optimizers[0].state_dict(), "module": module.state_dict(), "draw": torch.rand(1)}
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        ends.append((module.losses, module.rates, files, written, metrics, trainer.global_step, state))
        if found:
            assert found[0].finding.suggestion is not None
            assert not {"log", "log_dict"} & vars(module).keys()
    for one, other in zip(*(end[:-1] for end in ends), strict=True):
        assert one == other
    torch.testing.assert_close(ends[0][-1], ends[1][-1], rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:FindLR. no rate was found")  # here it need not be
def test_an_update_of_the_search_is_an_update_of_the_fit(fit, lit, FindLR):
    """A range test makes the very losses of a fit at rising rates."""

    class Rising(lit.Module):
        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=1.0)
            rising = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: rates[min(t, 31)])
            return [optimizer], [{"scheduler": rising, "interval": "step"}]

    rates = rw.finder.ramp(1e-4, 0.1, 32)
    size = SETTINGS["accumulate_grad_batches"]
    torch.manual_seed(2)
    module = Rising(dropout=0.0, log=False)
    find = FindLR(method="range", set_rate=False, low=1e-4, high=0.1, steps=32)
    fit(module, find, data=lit.loader(shuffle=False), max_epochs=2 * size, **SETTINGS)
    groups = zip(*(module.losses[i::size] for i in range(size)), strict=True)
    assert list(find.finding.curve.losses) == pytest.approx([sum(group) / size for group in groups], rel=1e-6)
    assert find.finding.valid_for["examples_per_update"] == 16 * size
    assert find.finding.ceiling > 0


def test_the_scheduler_of_the_module_follows_its_schedule_at_the_rate_found(fit, lit, FindLR):
    schedule, find = rw.linear_decay(0.001).warmup(4), FindLR(held_out="val", **SHORT)
    module = lit.Module(schedule, log=False)
    trainer = fit(module, find, val=lit.loader(shuffle=False, rows=64))
    rate = find.finding.suggestion
    assert find.finding.low <= rate <= find.finding.high
    assert max(module.rates) == [pytest.approx(rate)]
    usual = schedule.over(32)
    assert [used for (used,) in module.rates] == pytest.approx([1000 * rate * usual(t) for t in range(32)])
    (turned,) = trainer.lr_scheduler_configs[0].scheduler.history
    assert turned["what"] == f"scaled_from({1000 * rate!r})"
    assert find.finding.valid_for["horizon"] == 32
    assert find.finding.valid_for["epochs"] == 2.0


def test_without_a_scheduler_the_groups_keep_their_ratio_and_the_module_its_lr(fit, lit, FindLR):
    class Grouped(lit.Module):
        def configure_optimizers(self):
            body, head = self.net[:4].parameters(), self.net[4].parameters()
            return torch.optim.SGD([{"params": body, "lr": torch.tensor(0.0005)}, {"params": head}], lr=self.lr)

    module, find = Grouped(log=False), FindLR(**SHORT)
    fit(module, find)
    rate = find.finding.suggestion
    assert module.lr == rate != 0.001
    assert module.rates == [[pytest.approx(rate / 2), rate]] * 32
    assert find.finding.valid_for["ratios"] == {"0": pytest.approx(0.5), "1": 1.0}


@pytest.mark.parametrize("scheduled", [True, False])
def test_a_fit_that_goes_on_from_a_checkpoint_keeps_its_rate_and_searches_nothing(
    scheduled, fit, lit, FindLR, tmp_path
):
    from lightning.pytorch.callbacks import ModelCheckpoint

    schedule = rw.linear_decay(0.001) if scheduled else None
    whole, rest, again = lit.Module(schedule, log=False), lit.Module(schedule, log=False), FindLR(**SHORT)
    saving = {"enable_checkpointing": True}
    fit(whole, FindLR(**SHORT), ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1), **saving)
    fit(rest, again, ModelCheckpoint(tmp_path, "again"), ckpt_path=tmp_path / "epoch=0.ckpt", **saving)
    assert again.finding is None
    assert rest.rates == whole.rates[16:]
    assert rest.rates[0] > [0.001]


def test_where_nothing_is_found_the_rate_stays_and_a_warning_says_why(fit, lit, FindLR):
    class Flat(lit.Module):
        def training_step(self, batch):
            return {"loss": 0.0 * self.net(batch[0]).sum()}

    module, find = Flat(log=False), FindLR(**SHORT)
    with pytest.warns(UserWarning, match="FindLR: no rate was found, so the present one stays. No signal"):
        fit(module, find)
    assert find.finding.suggestion is None
    assert module.rates == [[0.001]] * 32


def test_a_stream_without_length_and_several_loaders_go_on_too(fit, lit, FindLR):
    class Stream(torch.utils.data.IterableDataset):
        passes = 0

        def __iter__(self):
            self.passes += 1
            yield from zip(lit.X[: 128 + 4 * self.passes], lit.Y, strict=False)

    class Double(lit.Module):
        def training_step(self, batch, index):
            return sum(super(Double, self).training_step(one, index) for one in batch.values())

    ends, find = [], FindLR(held_out=[{"a": (lit.X, lit.Y), "b": (lit.X, lit.Y)}], set_rate=False, horizon=32, **SHORT)
    for callbacks in ([find], []):
        torch.manual_seed(2)
        module = Double(log=False)
        stream = torch.utils.data.DataLoader(Stream(), 16)
        fit(module, *callbacks, data={"a": stream, "b": lit.loader(rows=64)}, max_epochs=2)
        ends.append(module.losses)
    assert ends[0] == ends[1]
    assert find.finding.curve.start == pytest.approx(2 * math.log(4), rel=0.3)


def bad(lit):
    """Modules and settings that cannot be searched, and what is said."""

    class Manual(lit.Module):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

    class Lambda(lit.Module):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1.0)]

    class Silent(lit.Module):
        def training_step(self, batch, index):
            return None

    class Failing(lit.Module):
        def training_step(self, batch, index):
            raise RuntimeError("no more")

    class Skipping(lit.Module):
        def optimizer_step(self, *_):
            pass

    decay = rw.linear_decay(0.1)
    return {
        "manual": (Manual(), {}, {}, "optimizes manually, .* with step="),
        "foreign": (Lambda(), {}, {}, "follows LambdaLR, so no rate can be set"),
        "unfollowed": (lit.Module(), {"schedule": decay}, {}, "nothing follows schedule="),
        "two schedules": (lit.Module(decay), {"schedule": decay}, {}, "Leave schedule= and horizon= out"),
        "two lengths": (lit.Module(decay), {"horizon": 5}, {}, "Leave schedule= and horizon= out"),
        "no validation": (lit.Module(), {"held_out": "val"}, {}, "needs validation batches"),
        "typo": (lit.Module(), {"held_out": "test"}, {}, "must be 'val' or batches, got 'test'"),
        "endless": (lit.Module(), {}, {"max_epochs": -1}, "the trainer has no end"),
        "no loss": (Silent(), {}, {}, "training_step must return the loss, it returned NoneType"),
        "failing": (Failing(), {}, {}, "raised RuntimeError: no more. Everything is as it was before"),
        "no update": (Skipping(), {}, {}, "did not call its closure"),
        "one batch": (lit.Module(log=False), {}, {"limit_train_batches": 1, "max_epochs": 20}, "one batch only"),
    }


CASES = (
    *("manual", "foreign", "unfollowed", "two schedules", "two lengths", "no validation", "typo", "endless"),
    *("no loss", "failing", "no update", "one batch"),
)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:.max_epochs. was not set")
def test_what_cannot_be_searched_is_said_before_the_first_update(case, fit, lit, FindLR):
    module, settings, trainer, said = bad(lit)[case]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(FinderError, match=said):
        fit(module, FindLR(**SHORT, **settings), **trainer)
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    assert not {"log", "log_dict"} & vars(module).keys()
    assert module.rates == []


def test_several_processes_are_refused(lit, FindLR, tmp_path):
    trainer = lit.trainer(tmp_path, devices=2, strategy="ddp_spawn")
    with pytest.raises(FinderError, match="runs in 2 processes, and a rate is found in one"):
        FindLR().on_train_epoch_start(trainer, lit.Module())


def test_a_development_run_searches_nothing(fit, lit, FindLR):
    find = FindLR()
    with pytest.warns(UserWarning, match="fast_dev_run is on, so no rate is searched"):
        fit(lit.Module(log=False), find, fast_dev_run=True)
    assert find.finding is None


def test_without_lightning_one_sentence_says_what_to_install(FindLR, monkeypatch):
    spec = importlib.util.find_spec(FindLR.__module__)
    for name in ("lightning", "lightning.pytorch"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ImportError, match=r"^FindLR: Lightning is not installed\. Run: pip install lightning\.$"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_the_block_of_the_page_runs_and_prints_what_its_comments_say(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "finder.md").read_text()
    (block,) = (
        b for b in re.findall(r"```python trainer\n(.*?)```", page, re.DOTALL) if b.startswith("import lightning")
    )
    monkeypatch.chdir(tmp_path)
    check(block, "finder.md")


def test_its_example_runs(FindLR):
    assert doctest.testmod(sys.modules[FindLR.__module__]) == (0, 2)
