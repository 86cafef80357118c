"""The store: what was committed is never lost, and whatever is wrong with the file is one line."""

import json
import subprocess
import sys

import pytest

from ratewise.errors import StoreError
from ratewise.lab.runs import Run
from ratewise.lab.store import Store

RESULT = {"loss": 0.5, "metric": 0.9, "first": 2.3, "diverged": None, "seconds": 0.1, "started": 1.7e9, "curve": {}}


def run_of(seed):
    return Run("0" * 16, "fixed", "sgd(lr=Constant(0.1))", 0.1, seed, "tune", 50, "torch")


def written(path, seeds):
    with Store(path, write=True) as store:
        store.open_study("study")
        for seed in seeds:
            store.add(run_of(seed), RESULT)


def read(path):
    with Store(path) as store:
        store.open_study("study")
        return store.results()


@pytest.fixture(params=["runs.journal", "runs.db"])
def path(request, tmp_path):
    return tmp_path / request.param


def test_runs_come_back_by_their_keys(path):
    written(path, [0, 1])
    assert read(path) == {run_of(0).key: RESULT, run_of(1).key: RESULT}


def test_a_second_program_adds_to_what_is_there(path):
    written(path, [0])
    written(path, [1])
    assert set(read(path)) == {run_of(0).key, run_of(1).key}


def test_the_first_committed_result_of_a_run_wins(path):
    with Store(path, write=True) as store:
        store.open_study("study")
        store.add(run_of(0), RESULT)
        store.add(run_of(0), {**RESULT, "loss": 0.7})
        assert store.results()[run_of(0).key]["loss"] == 0.5


def test_a_diverged_run_is_kept_as_data(path):
    with Store(path, write=True) as store:
        store.open_study("study")
        store.add(run_of(0), {**RESULT, "loss": None, "diverged": 7})
    assert read(path)[run_of(0).key]["diverged"] == 7


def test_a_plan_comes_back(path):
    with Store(path, write=True) as store:
        store.open_study("study")
        assert store.plan() is None
        store.set_plan({"task": "digits", "steps": 3})
    with Store(path) as store:
        store.open_study("study")
        assert store.plan() == {"task": "digits", "steps": 3}


def test_a_torn_last_line_is_dropped_and_the_rest_kept(tmp_path):
    path = tmp_path / "runs.journal"
    written(path, [0, 1])
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])  # the program was killed while it wrote the second run
    assert set(read(path)) == {run_of(0).key}
    written(path, [2])
    assert set(read(path)) == {run_of(0).key, run_of(2).key}


def test_a_journal_cut_off_in_its_first_line_starts_again(tmp_path):
    path = tmp_path / "runs.journal"
    path.write_bytes(b'{"op_c')
    written(path, [0])
    assert set(read(path)) == {run_of(0).key}


def test_two_programs_cannot_write_at_once(path):
    with (
        Store(path, write=True),
        pytest.raises(StoreError, match="is in use by another ratewise"),
        Store(path, write=True),
    ):
        pass


def test_two_programs_cannot_write_to_one_database_url(tmp_path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    with Store(url, write=True), pytest.raises(StoreError, match="is in use"), Store(tmp_path / "runs.db", write=True):
        pass


def test_reading_while_another_writes_is_fine(tmp_path):
    path = tmp_path / "runs.journal"
    with Store(path, write=True) as store:
        store.open_study("study")
        store.add(run_of(0), RESULT)
        assert set(read(path)) == {run_of(0).key}


def test_the_lock_is_gone_when_the_program_that_held_it_is_killed(tmp_path):
    path = tmp_path / "runs.journal"
    code = (
        "import os; from ratewise.lab.store import Store; "
        f"Store({str(path)!r}, write=True).__enter__(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    written(path, [0])
    assert set(read(path)) == {run_of(0).key}


@pytest.mark.parametrize("content", [b"hello\nworld\n", b"\x00\x01\x02\x03", json.dumps({"a": 1}).encode() + b"\n"])
def test_a_file_that_is_no_store_is_left_untouched(tmp_path, content):
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is not a store of Ratewise"), Store(path, write=True):
        pass
    assert path.read_bytes() == content


def test_a_store_that_could_not_be_opened_is_not_held(tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text("hello\n")
    held = []
    for _ in range(2):
        with pytest.raises(StoreError, match="is not a store of Ratewise") as caught:
            Store(path, write=True).__enter__()
        held.append(caught)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["letter.txt"]


def test_a_password_is_not_shown():
    with pytest.raises(StoreError) as caught, Store("nosuchdb://me:secret@host/x", write=True):
        pass
    assert "nosuchdb://me:***@host/x" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_damaged_line_in_the_middle_is_one_error_line(tmp_path):
    path = tmp_path / "runs.journal"
    written(path, [0, 1])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], b'{"op_code": 4, "stud\n', lines[-1]]))
    with pytest.raises(StoreError, match="cannot open it") as caught, Store(path):
        pass
    assert "\n" not in str(caught.value)


def test_a_database_of_another_program_is_left_untouched(tmp_path):
    import sqlite3

    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("create table studies (nonsense text)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is another program's database"), Store(path, write=True):
        pass
    assert path.read_bytes() == before


def test_a_locked_database_says_so(tmp_path):
    import sqlite3

    path = tmp_path / "runs.db"
    written(path, [0])
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("begin exclusive")
    with pytest.raises(StoreError, match="locked by another program"):
        written(path, [1])
    blocker.execute("rollback")
    blocker.close()
    assert set(read(path)) == {run_of(0).key}


def test_a_folder_a_missing_file_and_an_unknown_study_are_told_apart(tmp_path):
    with pytest.raises(StoreError, match="is a folder"), Store(tmp_path, write=True):
        pass
    with pytest.raises(StoreError, match=r"no such file\. Run `ratewise compare` first"), Store(tmp_path / "none"):
        pass
    written(tmp_path / "runs.journal", [0])
    with (
        Store(tmp_path / "runs.journal") as store,
        pytest.raises(StoreError, match=r"no study 'stduy'\. Did you mean 'study'"),
    ):
        store.open_study("stduy")


def test_a_bad_database_url_is_one_error_line():
    with pytest.raises(StoreError, match="cannot open it") as caught, Store("nosuchdb://host/x", write=True):
        pass
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    """A write that fails half way is undone, so that the next commit starts on a line of its own."""
    path = tmp_path / "runs.journal"
    written(path, [0])
    before = path.read_bytes()
    with Store(path, write=True) as store:
        store.open_study("study")
        backend = type(store._storage._backend)
        real = backend.append_logs

        def half(self, logs):
            with open(self._file_path, "ab") as file:
                file.write(b'{"op_code": 4, "half')
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(backend, "append_logs", half)
        with pytest.raises(StoreError, match=r"cannot write to it \(No space left on device\)"):
            store.add(run_of(1), RESULT)
        monkeypatch.setattr(backend, "append_logs", real)
    assert path.read_bytes() == before
    written(path, [1])
    assert set(read(path)) == {run_of(0).key, run_of(1).key}
