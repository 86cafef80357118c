"""Files that nobody meant well: one line of complaint, or findings; never another error, never for long."""

import json
import time

import pytest
from doctor.examples import EXAMPLES
from hypothesis import HealthCheck, given, settings, strategies as st

from ratewise.doctor import examine_file
from ratewise.doctor.examining import SUFFIXES
from ratewise.errors import ScheduleError

quick = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def examined(folder, name, data):
    """Examine a file, within two seconds; findings and complaints are short."""
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    start = time.process_time()
    try:
        said = [finding.what + finding.why + finding.instead for finding in examine_file(path)]
    except ScheduleError as error:
        said = [str(error)]
    assert time.process_time() - start < 2
    assert all(len(text) < 1000 and "\n" not in text for text in said)
    return said


@quick
@given(st.sampled_from(SUFFIXES), st.one_of(st.text().map(lambda x: x.encode("utf-8", "replace")), st.binary()))
def test_random_text_and_bytes(tmp_path_factory, suffix, data):
    examined(tmp_path_factory.mktemp("any"), f"file{suffix}", data)


LINES = """\
import torch
from torch.optim.lr_scheduler import *
from x import *
opt = torch.optim.SGD(p, lr=0.1)
s = OneCycleLR(opt, 1.0, 9)
s = OneCycleLR(*a)
s = CyclicLR(s, s, s, s)
s = SequentialLR(s, s, s)
s.step()
s.step(*a, **k)
for i in range(9):
    s.step()
    opt.step()
if x:
    s = StepLR(opt, 2)
else:
def f(a, b=1):
    return s
class A:
opt = s
s = [opt, s]
a, b = s, opt
opt.x.y = s
del s
s: int
s += 1
while s: break
try:
finally:
with a as b:
async def g():
lambda: (yield)
match s:
    case 1:
        pass
global s
x = {**a, 'type': 'LinearLR', 'begin': 0}
x = 2 ** 10 ** 10
x = 9 ** 9 ** 9
x = -'a'
x = int('9' * 9)
x = 1 / 0
x = min()""".splitlines()


@quick
@given(st.lists(st.sampled_from(LINES), max_size=25))
def test_random_programs(tmp_path_factory, lines):
    examined(tmp_path_factory.mktemp("any"), "train.py", "\n".join(lines))


WORDS = """\
type scheduler params name _name _target_ class_path init_args sched lr_scheduler lr_scheduler_type learning_rate
max_steps warmup_steps warmup_ratio param_scheduler begin end epochs warmup_epochs decay_rate train_iters
lr_decay_style warmup training steps total_steps learning_rate_scheduler version spec"""
KEYS = WORDS.split()
NAMES = [
    "OneCycle",
    "WarmupLR",
    "LinearLR",
    "cosine",
    "tri_stage",
    "torch.optim.lr_scheduler.OneCycleLR",
    "Ramp",
    "1e-4",
]
values = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.sampled_from(NAMES))
)
configurations = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
)


@quick
@given(configurations)
def test_random_configurations(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    examined(folder, "config.json", json.dumps(data))
    examined(folder, "config.yaml", json.dumps(data))


@pytest.mark.parametrize("example", EXAMPLES[::12], ids=lambda e: f"{e.code}-{e.says}")
def test_every_beginning_of_an_example(example, tmp_path):
    for n in range(0, len(example.bad), 7):
        examined(tmp_path, example.file, example.bad[:n])


HOSTILE = {
    "aliases.yaml": "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{f'*a{i}, ' * 9}]\n" for i in range(20)),
    "itself.yaml": "a: &a\n  scheduler: *a\n  type: WarmupLR\n",
    "deep.yaml": "[" * 3000,
    "wide.json": "[" + ",".join(['{"scheduler": {"type": "OneCycle"}}'] * 20_000) + "]",
    "deep.json": '{"a":' * 200 + "1" + "}" * 200,
    "numbers.json": '{"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 1e999}}}',
    "huge.json": f'{{"lr_scheduler_type": "cosine", "max_steps": {"9" * 4000}, "warmup_ratio": 0.5}}',
    "many.py": "from torch.optim.lr_scheduler import *\n" + "s = OneCycleLR(o, 1, 9)\ns.step()\n" * 3_000,
    "long.py": f"import optax\noptax.join_schedules([a], {list(range(50_000))[::-1]})",
    "nested.py": "x = " + "(" * 90 + "1" + ")" * 90,
    "chain.py": "x = 1" + " + 1" * 50_000,
    "power.py": "x = 9 ** 9 ** 9 ** 9\ny = 'a' * 10 ** 9\nz = [0] * 10 ** 9\n",
    "loops.py": "\n".join("    " * i + f"for a{i} in range(9):" for i in range(18)) + "\n" + "    " * 18 + "pass",
    "ifs.py": "\n".join("    " * i + f"if a{i}:" for i in range(90)) + "\n" + "    " * 90 + "pass",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, tmp_path):
    examined(tmp_path, name, HOSTILE[name])


def test_code_in_a_file_is_never_run(tmp_path):
    mark = tmp_path / "ran"
    shell = f"__import__('os').system('touch {mark}')"
    examined(tmp_path, "train.py", f"open({str(mark)!r}, 'w')\n{shell}\n")
    for name, text in (
        ("a.yaml", f"a: !!python/object/apply:os.system ['touch {mark}']\n"),
        ("a.json", json.dumps({"version": 1, "type": "Custom", "function": "os:getcwd"})),
        ("b.json", json.dumps({"spec": shell, "steps": 9})),
    ):
        (said,) = examined(tmp_path, name, text)
        assert "parse: " in said or "from_dict: " in said or "is not YAML" in said or "not registered" in said
    assert not mark.exists()
