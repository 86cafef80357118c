"""What checkpoints say about their schedules: real Scheduler states, in real trainers' layouts, whole and broken."""

import io
import json
import sys
import time

import pytest

import ratewise as rw
from ratewise.doctor.histories import forgotten, histories, read_json
from ratewise.errors import AdapterError

torch = pytest.importorskip("torch")

from ratewise.torch import Scheduler  # noqa: E402  (needs torch)
from ratewise.torch.states import read  # noqa: E402

LR = rw.Linear(0.4, 0.0, 8)


def trained(updates=3, lr=LR, **settings):
    """A Scheduler after some updates of an optimizer with two groups."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "name": name} for name in ("body", "head")]
    scheduler = Scheduler(torch.optim.SGD(groups, lr=0.1), lr, **settings)
    for _ in range(updates):
        for group in groups:
            group["params"][0].grad = torch.ones(1)
        scheduler.optimizer.step()
    return scheduler


@pytest.fixture(scope="module")
def state():
    scheduler = trained()
    scheduler.change(rw.Linear(0.8, 0.0, 16), "switch")
    scheduler.scaled_from(0.5)
    return scheduler.state_dict()


def test_a_state_says_where_it_stands_and_what_was_changed(state):
    (found,) = histories({"epoch": 1, "nested": [{"lr_schedulers": [state]}]})
    assert found["where"] == "nested[0].lr_schedulers[0]"
    assert (found["position"], found["skipped"]) == (3, None)
    assert found["used"] == {"body": LR(2), "head": LR(2)}
    assert found["next"] == {"body": 0.325, "head": 0.325}
    assert found["end"] == 16
    first, second = found["changes"]
    assert (first["at"], first["what"], first["end"]) == (3, "change(..., 'switch')", 16)
    assert first["old"] == {"body": 0.25, "head": 0.25}
    assert first["new"] == {"body": 0.65, "head": 0.65}
    assert first["ratio"] == {"body": 2.6, "head": 2.6}
    assert first["before"] == {"lr": {"*": "Linear(0.4, 0.0, 8)"}}
    assert (second["what"], second["ratio"]["body"]) == ("scaled_from(0.5)", 0.5)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_every_state_of_a_checkpoint_is_found_once_in_its_order():
    one, two = trained(1).state_dict(), trained(2).state_dict()
    found = histories({"gan": {"d": one, "g": (two,)}, "again": one, 5: {"x-y": trained(0).state_dict()}})
    assert [(entry["where"], entry["position"]) for entry in found] == [
        ("gan.d", 1),
        ("gan.g[0]", 2),
        ("[5]['x-y']", 0),
    ]
    assert found[2]["used"] is None


def test_a_schedule_for_each_group_and_other_hyperparameters():
    lr = {"body": rw.Constant(0.1), "head": LR}
    (found,) = histories(trained(1, lr, weight_decay=rw.Constant(0.5)).state_dict())
    assert found["where"] == ""
    assert found["schedules"] == {
        "lr": {"body": "Constant(0.1)", "head": "Linear(0.4, 0.0, 8)"},
        "weight_decay": {"*": "Constant(0.5)"},
    }
    assert found["end"] is None


def test_an_earlier_format_is_read_too(state):
    texts = {key: json.loads(part) for key, part in state.items() if isinstance(part, str) and part[0] in "{[n"}
    first = {key: part for key, part in {**state, **texts, "format": 1}.items() if key != "rules"}
    (now,), (then,) = histories(state), histories(first)
    assert {**then, "format": now["format"]} == now


def test_a_function_of_the_users_own_is_not_looked_for(state):
    custom = {"type": "Custom", "function": "os:getcwd", "steps": None}
    (found,) = histories({**state, "spec": {"lr": {"*": custom}}})
    assert found["schedules"]["lr"]["*"].startswith("(cannot be read here: ")
    assert found["end"] is None


def test_a_newer_format_says_so(state):
    with pytest.raises(
        AdapterError, match=r"^a is in format 99 of a newer Ratewise; this one .* Install the newer one"
    ):
        histories({"a": {**state, "format": 99}})


DAMAGE = {
    "position": [-1, 1.5, None, "3", True],
    "format": [0, None, "1", [], {}],
    "history": [None, 3, "{", "3", "[" * 100_000, [3], [{}], [{"at": 1}], {"a": 1}],
    "next_lr": [None, [], {"a": None}, {"a": float("nan")}, {"a": "x"}],
    "last_lr": [3, {"a": []}],
    "skipped": ["x", [1], float("inf")],
    "spec": [None, [], {"lr": 3}, 7],
    "base": [None, 0.1, "null", "["],
    "rules": [3, {"*": 3}, {"*": [3]}, {"*": [[]]}, {"*": [["x"]]}, "{"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in DAMAGE.items() for value in values])
def test_a_damaged_state_is_one_sentence(state, key, value):
    with pytest.raises(AdapterError, match=r"^s looks like a Scheduler's, but is damaged") as error:
        histories({"s": {**state, key: value}})
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("key", ["skipped", "last_lr", "next_lr", "history"])
def test_a_state_with_a_part_missing_is_damaged(state, key):
    with pytest.raises(AdapterError, match="is damaged"):
        histories({name: value for name, value in state.items() if name != key})


def test_data_that_contains_itself_ends(state):
    loop = [state]
    loop.append(loop)
    deep = inner = []
    for _ in range(20_000):
        inner.append([])
        inner = inner[0]
    assert len(histories([loop, deep])) == 1


def test_an_optimizer_whose_scheduler_was_not_saved():
    optimizer = trained().optimizer
    (finding,) = forgotten({"model": {}, "optimizer": optimizer.state_dict()}, "last.pt")
    assert finding.code == "scheduler-state-missing"
    assert finding.where == "last.pt: optimizer"
    assert "ratewise_base=0.1" in finding.what
    both = {"optimizer": optimizer.state_dict(), "scheduler": trained().state_dict()}
    assert forgotten(both, "last.pt") == ()
    assert forgotten(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]).state_dict(), "last.pt") == ()


def test_json_that_is_none_is_left_to_others(tmp_path):
    (tmp_path / "a.json").write_text("{")
    assert read_json(tmp_path / "a.json") is None
    (tmp_path / "a.json").write_text("[" * 100_000)
    assert read_json(tmp_path / "a.json") is None


# -- files of torch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_new_and_old_are_read(tmp_path, state, zipped):
    data = {"model": {"w": torch.zeros(1000)}, "scheduler": state}
    torch.save(data, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert read(tmp_path / "a.pt")["scheduler"] == state


def test_reading_does_not_load_tensors(tmp_path, state):
    torch.save({"w": torch.zeros(50_000_000, dtype=torch.int8), "s": state}, tmp_path / "a.pt")
    before = _resident()
    found = read(tmp_path / "a.pt")
    assert _resident() - before < 25_000_000
    assert histories(found)[0]["position"] == 3


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_a_file_that_is_cut_off_anywhere_is_refused_quickly(tmp_path, state):
    file = io.BytesIO()
    torch.save({"s": state, "w": torch.zeros(10)}, file)
    whole, start = file.getvalue(), time.process_time()
    for size in range(0, len(whole) - 1, 97):
        (tmp_path / "cut.pt").write_bytes(whole[:size])
        with pytest.raises(AdapterError, match=r"^cut.pt: is not a file of torch.save, or is cut off.$"):
            read(tmp_path / "cut.pt")
    assert time.process_time() - start < 10


def test_objects_are_not_loaded(tmp_path):
    torch.save({"scheduler": trained()}, tmp_path / "whole.pt")
    with pytest.raises(AdapterError, match=r"holds a Python object \(ratewise.torch.scheduler.Scheduler\).*Save plain"):
        read(tmp_path / "whole.pt")


@pytest.mark.parametrize(
    "content", [b"", b"hello world\n" * 9, b"\x80\x02.", b"PK\x03\x04", b"cos\nsystem\n(S'false'\ntR."]
)
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(AdapterError, match=r"^a.bin: "):
        read(tmp_path / "a.bin")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "a.pt")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the trainers themselves
def test_what_accelerate_and_lightning_save_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)  # Accelerate imports it where it is there; it is not to run
    accelerate = pytest.importorskip("accelerate")
    lightning = pytest.importorskip("lightning")

    scheduler = trained(0)
    accelerator = accelerate.Accelerator(cpu=True)
    optimizer, prepared = accelerator.prepare(scheduler.optimizer, scheduler)
    for _ in range(3):
        for group in optimizer.param_groups:
            group["params"][0].grad = torch.ones(1)
        optimizer.step()
        prepared.step()
    accelerator.save_state(tmp_path / "accelerate")
    (found,) = histories(read(tmp_path / "accelerate" / "scheduler.bin"))
    assert (found["position"], found["next"]["body"]) == (3, LR(3))
    (finding,) = forgotten(read(tmp_path / "accelerate" / "optimizer.bin"), "optimizer.bin")
    assert finding.code == "scheduler-state-missing"

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, index):
            return self.layer(batch[0]).sum()

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [{"scheduler": Scheduler(optimizer, LR), "interval": "step"}]

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(5, 1)))
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(Model(), data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    (found,) = histories(read(tmp_path / "last.ckpt"))
    assert (found["where"], found["position"], found["next"]) == ("lr_schedulers[0]", 5, {"0": LR(5)})
