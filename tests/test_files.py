"""Schedules in files: what is written is read back, and hostile files are refused in a sentence, quickly."""

import io
import json
import sys
import time
import tracemalloc

import hypothesis
import pytest
from hypothesis import HealthCheck, settings, strategies as st
from properties import test_laws as laws

import ratewise as rw
from ratewise.errors import MissingDependency, ScheduleError
from ratewise.interop import files

yaml = pytest.importorskip("yaml")
quiet = settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

RULED = (rw.Constant(0.1) * rw.Plateau(0.5, 3, like="torch")).warmup(5)


def read(text):
    return rw.load(io.StringIO(text) if isinstance(text, str) else io.BytesIO(text))


@quiet
@hypothesis.given(st.one_of(laws.schedules, laws.unresolved), st.sampled_from(["yaml", "json"]))
def test_exported_text_is_read_back_to_an_equal_schedule(schedule, to):
    assert read(rw.export(schedule, to)) == schedule


@quiet
@hypothesis.given(st.one_of(laws.schedules, laws.unresolved))
def test_exported_python_makes_an_equal_schedule(schedule):
    namespace = {}
    exec(rw.export(schedule, "python"), namespace)
    assert namespace["schedule"] == schedule


@pytest.mark.parametrize("name", ["plan.yaml", "plan.yml", "plan.json", "plan"])
@pytest.mark.parametrize("schedule", [rw.warmup_cosine(0.1), RULED, rw.Formula("1 / (1 + t)")], ids=repr)
def test_files_are_read_back(tmp_path, name, schedule):
    rw.dump(schedule, tmp_path / name)
    assert rw.load(tmp_path / name) == rw.load(str(tmp_path / name)) == schedule
    with open(tmp_path / name) as file:
        assert rw.load(file) == schedule


def test_a_file_with_a_name_in_json_is_json(tmp_path):
    rw.dump(rw.Constant(0.1), tmp_path / "plan.json")
    assert json.loads((tmp_path / "plan.json").read_text())["type"] == "Constant"


def test_yaml_is_as_a_person_would_write_it():
    assert rw.export(rw.Linear(0.1, 0.0, rw.epochs(3)), "yaml") == (
        "version: 1\ntype: Ramp\nstart: 0.1\nend: 0.0\nsteps:\n  epochs: 3\nease: linear\nends: '[)'"
    )


def test_a_file_may_hold_an_expression():
    assert read("# the plan\nCosine(0.1, 0.0, 1000).warmup(50)\n") == rw.Cosine(0.1, 0.0, 1000).warmup(50)


def test_numbers_are_read_as_yaml_1_2_has_them():
    assert read("{type: Ramp, start: 1e-3, end: .5, steps: 10}") == rw.Linear(1e-3, 0.5, 10)


def test_json_needs_no_yaml(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert read('{"type": "Constant", "value": 0.1}') == rw.Constant(0.1)
    with pytest.raises(MissingDependency, match="PyYAML is not installed"):
        read("type: Constant")
    with pytest.raises(MissingDependency, match=r"ratewise\[yaml\]"):
        rw.export(rw.Constant(0.1), "yaml")


def test_without_the_c_library_long_yaml_is_refused(monkeypatch):
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert read("type: Constant\nvalue: 0.1") == rw.Constant(0.1)
    with pytest.raises(ScheduleError, match="has no C library"):
        read("a: " * 20_000)


BOMB = "a: &a [x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "bomb": (BOMB, "references"),
    "self reference": ("&a [*a]", "references"),
    "merge": ("base: &b {type: Constant}\n<<: *b", "references"),
    "object": ("!!python/object/apply:os.system ['true']", "tags are not allowed"),
    "name": ("type: !!python/name:os.system", "tags are not allowed"),
    "binary": ("type: !!binary aGk=", "tags are not allowed"),
    "deep list": ("[" * 500_000, "nested more than|nesting depth"),
    "deep mapping": ("{a: " * 200_000, "nested more than"),
    "deep block": ("\n".join(" " * i + "a:" for i in range(1000)), "nested more than"),
    "deep json": ('{"a": ' * 100_000, "nested more than"),
    "closed deep json": ('{"a": ' * 5_000 + "1" + "}" * 5_000, "nested more than"),
    "huge integer": ("{type: Constant, value: " + "9" * 900_000 + "}", "not YAML|finite"),
    "huge json integer": ('{"type": "Constant", "value": ' + "9" * 900_000 + "}", "not YAML|finite"),
    "huge float": ("{type: Constant, value: 1e999999}", "finite"),
    "nan": ('{"type": "Constant", "value": NaN}', "value must be"),
    "too long": ("a" * 1_000_001, "at most 1000000 characters"),
    "long list": ("- 1\n" * 250_000, "more than 200000 parts"),
    "long flow list": ("[" + "1," * 499_000 + "]", "more than 200000 parts"),
    "long mapping": ("\n".join(f"k{i}: 1" for i in range(90_000)), "needs 'type'"),
    "long word": ("a" * 1_000_000, "not a value"),
    "twice": ("type: Constant\ntype: Ramp", "given twice"),
    "key": ("{[a]: 1}", "keys must be names"),
    "key of number": ("1: 2", "keys must be names"),
    "documents": ("type: Constant\n---\ntype: Ramp", "several documents"),
    "nothing": ("", "needs a dictionary"),
    "number": ("3", "needs a dictionary"),
    "unknown": ("{type: Constnt, value: 1}", "Did you mean"),
    "no yaml": ("a: [", "this is not YAML in line"),
    "tabs": ("a:\n\t- b", "this is not YAML in line"),
    "control": ("a: \x00", "this is not YAML"),
    "bytes": (b"\xff\xfe\x00\x01", "not text in UTF-8"),
    "code": ("__import__('os').system('true')", "parse"),
    "custom": ("{type: Custom, function: 'os:getcwd'}", "not registered"),
    "colons": ("? " * 300_000, "nested more than|not YAML"),
    "quotes": ('"' + "\\x41" * 240_000 + '"', "parse"),
    "comments": ("# " + "x" * 900_000, "needs a dictionary"),
    "anchors": ("&a " * 300_000, "not YAML|references"),
    "dashes": ("- " * 400_000, "nested more than|not YAML"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_a_sentence(name):
    text, message = HOSTILE[name]
    start = time.process_time()
    with pytest.raises(ScheduleError, match=message) as error:
        read(text)
    assert time.process_time() - start < 1.0
    assert len(str(error.value)) < 800
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize("name", ["bomb", "deep list", "long flow list", "quotes"])
def test_a_hostile_file_takes_little_memory(name):
    tracemalloc.start()
    with pytest.raises(ScheduleError):
        read(HOSTILE[name][0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


parts = st.sampled_from(
    [
        *"[]{},:-?&*!|>%@`#'\"~ \n\t0",
        "type",
        ": ",
        "- ",
        "Constant",
        "Ramp",
        "value",
        "pieces",
        "1e3",
        "null",
        "---",
        "<<",
    ]
)


@settings(quiet, max_examples=400)
@hypothesis.given(st.one_of(st.text(max_size=80), st.binary(max_size=80), st.lists(parts, max_size=25).map("".join)))
def test_any_text_is_a_schedule_or_a_schedule_error(text):
    try:
        found = read(text)
    except ScheduleError as error:
        found = str(error)
    assert isinstance(found, (rw.Schedule, rw.Ruled)) or 1 <= len(found.splitlines()) <= 2


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ScheduleError, match="load: needs a path or an open file, got 3"):
        rw.load(3)
    with pytest.raises(ScheduleError, match=r"dump: needs a schedule, got 0\.1"):
        rw.dump(0.1, tmp_path / "x.yaml")
    with pytest.raises(OSError, match="No such file"):
        rw.load(tmp_path / "missing.yaml")
    assert files.MAX_DEPTH > 2 * 64


def test_the_deepest_and_the_longest_schedules_go_through_yaml():
    deep = rw.Linear(1.0, 0.0, 10)
    for _ in range(60):
        deep = deep.clip(0.0, 1.0)
    assert read(rw.export(deep, "yaml")) == deep
    long = rw.sequence(*(rw.Constant(0.1, i) for i in range(1, 5001)))
    assert read(rw.export(long, "yaml")) == long
