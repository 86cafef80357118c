"""``ratewise doctor`` as a person types it."""

import json
import subprocess
import sys

import pytest

from ratewise import Cosine
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
