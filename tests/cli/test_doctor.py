"""``ratewise doctor`` as a person types it."""

import json
import subprocess
import sys

import pytest

from ratewise import Constant, Cosine, Linear, Plateau
from ratewise.cli.main import run

BAD = """\
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

print("this program is read, not run")
raise SystemExit(9)
EPOCHS = 10
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scheduler = CosineAnnealingLR(optimizer, T_max=EPOCHS)
for epoch in range(EPOCHS):
    for batch in loader:
        optimizer.step()
        scheduler.step()
"""
GOOD = BAD.replace("        scheduler.step()", "    scheduler.step()")


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def typed(capsys):
    def typed(*arguments):
        status = run(["doctor", *arguments])
        found = capsys.readouterr()
        return status, found.out, found.err

    return typed


def test_a_program_with_a_fault(typed, tmp_path):
    (tmp_path / "train.py").write_text(BAD)
    status, out, err = typed("train.py")
    assert status == 1
    assert out == (
        "train.py:12: warning stepped-per-update: scheduler is built for 10 epochs but stepped with every batch\n"
        "    why:     The schedule is over within the first epochs.\n"
        "    instead: scheduler.step() once per epoch, or a length in updates\n"
    )
    assert err == "1 warning, 1 note (--notes shows what is true of every use)\n"


def test_a_program_without_a_fault_and_its_notes(typed, tmp_path):
    (tmp_path / "train.py").write_text(GOOD)
    assert typed("train.py") == (0, "", "1 note (--notes shows what is true of every use)\n")
    status, out, err = typed("train.py", "--notes")
    assert status == 0
    assert out.startswith("train.py:8: note T12: after update 10 the rate rises again")
    assert err == "1 note\n"


def test_json(typed, tmp_path):
    (tmp_path / "train.py").write_text(BAD)
    status, out, _ = typed("train.py", "--json")
    found = json.loads(out)
    assert status == 1
    assert found["target"] == "train.py"
    assert [(f["code"], f["level"], f["where"]) for f in found["findings"]] == [
        ("stepped-per-update", "warning", "train.py:12"),
        ("T12", "note", "train.py:8"),
    ]
    assert set(found["findings"][0]) == {"code", "what", "where", "why", "instead", "level"}


def test_an_expression(typed):
    assert typed("Cosine(0.1, 0.0).warmup(50)", "--steps", "1000") == (0, "", "nothing found\n")
    status, out, err = typed("Cosine(0.1, 0.0, 90)", "--steps", "35000")
    assert status == 1
    assert "steps-look-like-epochs" in out
    assert "instead: Cosine(0.1, 0.0, epochs(90))" in out
    assert err == "1 warning\n"


def test_a_schedule_with_rules(typed):
    assert typed("Constant(0.1) * Plateau(0.5, 3)", "--steps", "1000")[0] == 0


def test_saved_schedules(typed, tmp_path, capsys):
    (tmp_path / "plan.json").write_text(json.dumps(Cosine(0.1, 0.0, 800).to_dict()))
    assert typed("plan.json")[0] == 0
    status, out, _ = typed("plan.json", "--steps", "1000")
    assert status == 1
    assert "pieces-fall-short" in out
    assert run(["show", "Linear(0.1, -0.1, 50)", "--json"]) == 0
    (tmp_path / "shown.json").write_text(capsys.readouterr().out)
    assert "rate-negative" in typed("shown.json")[1]


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("ds_config.json", '{"scheduler": {"type": "WarmupCosineLR", "params": {"total_num_steps": 100}}}', "D2"),
        ("train.yaml", "lr_scheduler_type: constant\nwarmup_steps: 500\n", "warmup-ignored"),
        ("titan.toml", "[lr_scheduler]\ntotal_steps = 8\n[training]\nsteps = 10\n", "L7b"),
    ],
)
def test_configurations_name_the_key(typed, tmp_path, name, text, code):
    (tmp_path / name).write_text(text)
    status, out, _ = typed(name)
    assert status == 1
    assert out.startswith(name)
    assert f" {code}: " in out


def half_way(updates=2):
    """A Scheduler whose plan was changed at update 1, after some updates; and its optimizer."""
    torch = pytest.importorskip("torch")
    from ratewise.torch import Scheduler

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scheduler = Scheduler(optimizer, Linear(0.4, 0.0, 8))
    for t in range(updates):
        if t == 1:
            scheduler.change(Constant(0.7), "switch")
        weight.grad = torch.ones(1)
        optimizer.step()
    return scheduler, optimizer


CHANGED = """\
    follows: lr = Linear(0.4, 0.0, 8).until(1) >> Constant(0.7).after(1)
    used:    7.000000e-01 by update 1
    next:    7.000000e-01 for update 2
    end:     none
    changed: before update 1: change(..., 'switch')
             0: 3.500000e-01 -> 7.000000e-01, ratio 2
             end: none
             before:  lr = Linear(0.4, 0.0, 8)
"""


@pytest.mark.parametrize("name", ["state.json", "last.pt", "last.pth", "epoch=1.ckpt", "scheduler.bin"])
def test_a_checkpoint_tells_its_history(typed, tmp_path, name):
    torch = pytest.importorskip("torch")
    scheduler, optimizer = half_way()
    follows = f"    follows: lr = {scheduler.schedules()['0']!r}\n"
    if name.endswith(".json"):
        (tmp_path / name).write_text(json.dumps({"epoch": 1, "scheduler": scheduler.state_dict()}))
    else:
        torch.save({"scheduler": scheduler.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / name)
    status, out, err = typed(name)
    assert (status, err) == (0, "")
    assert out == f"{name}: scheduler: 2 updates made\n{follows}" + CHANGED.partition("\n")[2]


def test_each_scheduler_of_a_checkpoint_is_a_block(typed, tmp_path):
    states = [half_way(n)[0].state_dict() for n in (0, 1)]
    (tmp_path / "gan.json").write_text(json.dumps(states))
    assert typed("gan.json")[1] == (
        "gan.json: [0]: 0 updates made\n    follows: lr = Linear(0.4, 0.0, 8)\n"
        "    next:    4.000000e-01 for update 0\n    end:     after 8 updates\n\n"
        "gan.json: [1]: 1 update made\n    follows: lr = Linear(0.4, 0.0, 8)\n    used:    4.000000e-01 by update 0\n"
        "    next:    3.500000e-01 for update 1\n    end:     after 8 updates\n"
    )


def test_what_a_rule_did(typed, tmp_path):
    torch = pytest.importorskip("torch")
    from ratewise.torch import Scheduler

    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "name": "body"}], lr=0.1)
    scheduler = Scheduler(optimizer, Constant(0.5) * Plateau(0.5, patience=2))
    scheduler.observe(1.0)
    scheduler.observe(1.1)
    with pytest.warns(UserWarning, match="nan"):
        scheduler.observe(float("nan"))
    (tmp_path / "state.json").write_text(json.dumps(scheduler.state_dict()))
    assert typed("state.json")[1] == (
        "state.json: 0 updates made\n    follows: lr = Constant(0.5) * Plateau(factor=0.5, patience=2)\n"
        "    next:    2.500000e-01 for update 0\n    end:     none\n    rules:   x 0.5, 1 metric not finite\n"
        "    changed: before update 0: Plateau(factor=0.5, patience=2) after the metric nan\n"
        "             body: 5.000000e-01 -> 2.500000e-01, ratio 0.5\n             end: none\n"
    )


def test_the_history_as_json(typed, tmp_path):
    (tmp_path / "state.json").write_text(json.dumps(half_way()[0].state_dict()))
    status, out, _ = typed("state.json", "--json")
    found = json.loads(out)
    assert status == 0
    assert set(found) == {"target", "schedulers", "findings"}
    (state,) = found["schedulers"]
    assert (state["position"], state["next"], state["end"]) == (2, {"0": 0.7}, None)
    (change,) = state["changes"]
    assert (change["at"], change["old"], change["new"]) == (1, {"0": Linear(0.4, 0.0, 8)(1)}, {"0": 0.7})


def test_an_optimizer_without_its_scheduler_is_a_warning(typed, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"model": {}, "optimizer": half_way()[1].state_dict()}, tmp_path / "last.pt")
    status, out, err = typed("last.pt")
    assert (status, err) == (1, "1 warning\n")
    assert out.startswith("last.pt: optimizer: warning scheduler-state-missing: the optimizer followed a schedule")
    assert json.loads(typed("last.pt", "--json")[1])["findings"][0]["code"] == "scheduler-state-missing"


def test_a_state_of_a_newer_version_says_so(typed, tmp_path):
    (tmp_path / "state.json").write_text(json.dumps({**half_way()[0].state_dict(), "format": 99}))
    status, out, err = typed("state.json")
    assert (status, out) == (1, "")
    assert err.startswith("ratewise: doctor: state.json: the state is in format 99 of a newer Ratewise")
    assert err.count("\n") == 1


def test_a_name_in_a_checkpoint_cannot_fake_a_line(typed, tmp_path):
    scheduler = half_way()[0]
    entry = {**scheduler.history[0], "what": "x\n    end:     after 3 updates"}
    state = {**scheduler.state_dict(), "history": json.dumps([entry])}
    (tmp_path / "state.json").write_text(json.dumps({"a\nb": state}))
    out = typed("state.json")[1]
    assert "before update 1: x     end:     after 3 updates\n" in out
    assert out.startswith("state.json: ['a\\nb']: 2 updates made\n")


MISUSE = [
    ("missing.py", None, "missing.py: No such file or directory"),
    (".", None, "must end in .py"),
    ("not an expression", None, "is not an expression"),
    ("Cosin(0.1, 0.0)", None, "Did you mean 'Cosine'?"),
    ("Cosine(0.1, 0.0, epochs(3))", None, ""),
    ("broken.py", b"def f(:\n", "broken.py:1 is not Python"),
    ("null.py", b"x = 1\0", ""),
    ("latin.py", b"# \xe9\n", "is not UTF-8 text"),
    ("broken.json", b"{", "is not JSON"),
    ("broken.yaml", b"a: [", "is not YAML"),
    ("tag.yaml", b"a: !!python/object/apply:os.system ['echo hacked']", "is not YAML"),
    ("broken.toml", b"a =", "is not TOML"),
    ("other.txt", b"a", "must end in .py, .json, .yaml, .yml or .toml"),
    ("big.json", b"1" * 1_000_001, "is larger than 1 MB"),
    ("deep.json", b"[" * 100_000, "is not JSON"),
    ("deep.py", b"(" * 100_000, ""),
    ("missing.pt", None, "missing.pt: No such file or directory"),
    ("cut.ckpt", b"PK\x03\x04", "cut.ckpt: is not a file of torch.save, or is cut off."),
    ("foreign.bin", b"hello", "foreign.bin: is not a file of torch.save, or is cut off."),
    ("empty.pth", b"", "empty.pth: is not a file of torch.save, or is cut off."),
    ("wrong.json", b'{"version": 1, "type": "Cosin"}', "unknown type 'Cosin'"),
]


@pytest.mark.parametrize(("target", "data", "says"), MISUSE, ids=[row[0] for row in MISUSE])
def test_a_mistake_is_one_line(typed, tmp_path, target, data, says):
    if data is not None:
        (tmp_path / target).write_bytes(data)
    found, out, err = typed(target, *(["--steps", "10"] if target.startswith("Cosine") else []))
    assert (found, out) == (2, "")
    assert err.startswith("ratewise: ")
    assert err.count("\n") == 1
    assert says in err
    assert len(err) < 300


def test_a_checkpoint_of_others_holds_no_state(typed, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"scheduler": {"last_epoch": 3, "base_lrs": [0.1]}}, tmp_path / "last.pt")
    assert typed("last.pt") == (2, "", "ratewise: doctor: last.pt holds no state of a ratewise.torch.Scheduler.\n")


def test_wrong_steps_are_misuse(typed):
    status, out, err = typed("Constant(0.1)", "--steps", "0")
    assert (status, out) == (2, "")
    assert "--steps" in err


def test_no_framework_is_loaded(tmp_path):
    (tmp_path / "train.py").write_text(BAD)
    code = (
        "import sys; from ratewise.cli.main import run; status = run(['doctor', 'train.py']); "
        "assert not {'torch', 'keras', 'jax', 'numpy'} & set(sys.modules), sorted(sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "this program" not in done.stdout
