"""The store: what was committed is never lost, nothing is there twice, and whatever is wrong with it is one line."""

import datetime
import json
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from lab.stored import RESULT, keys, pairs, read, run_of, started, written

from ratewise.errors import StoreError
from ratewise.lab import claims
from ratewise.lab.store import Store


def looked(path):
    """What is in the store, and what is said to be damaged."""
    with Store(path) as store:
        store.open_study("study")
        return set(store.results()), store.damage()


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An SQLite store with one empty study; a copy of it costs less than a new one."""
    path = tmp_path_factory.mktemp("stores") / "runs.db"
    written(path)
    return path


@pytest.fixture(params=["runs.journal", "runs.db"])
def path(request, tmp_path):
    return request.getfixturevalue("db") if request.param == "runs.db" else tmp_path / request.param


@pytest.fixture
def stores(db, tmp_path):
    """One of each kind."""
    return [tmp_path / "runs.journal", db]


@pytest.fixture
def db(database, tmp_path):
    return Path(shutil.copy(database, tmp_path))


def test_runs_come_back_by_their_keys(path):
    written(path, [0, 1], [2])
    assert read(path) == {run.key: result for run, result in pairs([0, 1, 2])}


def test_runs_come_back_with_what_identifies_them_in_the_order_of_their_commits(path):
    written(path, [3, 1], [2])
    with Store(path) as store:
        store.open_study("study")
        assert store.runs() == pairs([3, 1, 2])


def test_an_sqlite_url_and_its_file_are_the_same_store(tmp_path):
    path = tmp_path / "a folder, 50% ü #1?" / "my runs"
    written(f"sqlite:///{path}", [0])
    assert path.read_bytes().startswith(b"SQLite")
    assert set(read(path)) == keys([0])


def test_optunas_own_tools_show_every_run_as_a_complete_trial(path):
    written(path, [0, 1], [2])
    if path.suffix == ".db":
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    else:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    trials = optuna.load_study(study_name="study", storage=storage).trials
    assert [(trial.params["seed"], trial.value) for trial in trials] == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert {optuna.trial.TrialState.COMPLETE} == {trial.state for trial in trials}
    if path.suffix == ".db":
        storage.engine.dispose()


def test_two_studies_in_one_store_do_not_mix(path):
    with Store(path, write=True) as store:
        for name, seeds in (("a", [0, 1]), ("b", [2])):
            store.open_study(name)
            store.add(pairs(seeds))
        assert [name for name in store.studies() if name != "study"] == ["a", "b"]
        store.open_study("a")
        assert set(store.results()) == keys([0, 1])
        store.open_study("b")
        assert set(store.results()) == keys([2])


def test_the_first_committed_result_of_a_run_wins_and_is_there_once(path):
    with Store(path, write=True) as store, Store(path, write=True) as other:
        for each in (store, other):
            each.open_study("study")
            assert each.results() == {}
        store.add([(run_of(0), RESULT)])
        other.add([(run_of(0), {**RESULT, "loss": 0.7}), (run_of(1), RESULT)])
        store.add([(run_of(2), RESULT), (run_of(2), {**RESULT, "loss": 0.7})])
        assert [result["loss"] for result in store.results().values()] == [0.5, 0.5, 0.5]
    assert trials_of(path) == [0, 1, 2]


def trials_of(path):
    """The seeds of all trials that are really in the store."""
    if path.suffix == ".db":
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("select param_value from trial_params where param_name = 'seed' order by 1")
            return [int(seed) for (seed,) in rows]
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return sorted(int(line["params"]["seed"]) for line in lines if "params" in line)


def test_a_diverged_run_is_kept_as_data(path):
    with Store(path, write=True) as store:
        store.open_study("study")
        store.add([(run_of(0), {**RESULT, "loss": None, "diverged": 7})])
    assert read(path)[run_of(0).key]["diverged"] == 7


def test_a_plan_comes_back(path):
    with Store(path, write=True) as store:
        store.open_study("study")
        assert store.plan() is None
        store.set_plan({"task": "digits", "steps": 3})
    with Store(path) as store:
        store.open_study("study")
        assert store.plan() == {"task": "digits", "steps": 3}


def test_what_was_read_is_not_read_again(path):
    """The file is spoilt behind the reader's back: what it knows stays, and only what is new is looked at."""
    written(path, [0, 1])
    with Store(path) as store:
        store.open_study("study")
        store.results()
        if path.suffix == ".db":
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("update trial_user_attributes set value_json = 'x'")
                connection.commit()
        else:
            path.write_bytes(b"x" * path.stat().st_size)
        assert set(store.results()) == keys([0, 1])
        assert store.damage() == []


# Several programs at once.


def test_a_reader_sees_what_a_writer_adds_while_both_are_open(path):
    with Store(path, write=True) as store:
        store.open_study("study")
        with Store(path) as reader:
            reader.open_study("study")
            for seed in range(3):
                store.add(pairs([seed]))
                assert set(reader.results()) == keys(range(seed + 1))


def test_programs_that_add_the_same_runs_at_once_keep_each_once(stores):
    code = "for path in sys.argv[1:]: [written(path, range(i, i + 8)) for i in range(0, 24, 4)]"
    programs = [started(code, *stores) for _ in range(2)]
    for program in programs:
        error = program.communicate(timeout=60)[1]
        assert program.returncode == 0, error
    for path in stores:
        assert trials_of(path) == list(range(28))
        assert set(read(path)) == keys(range(28))


def test_a_cohort_is_claimed_by_one_program_at_a_time(path):
    with Store(path, write=True) as store, Store(path, write=True) as other:
        store.open_study("study")
        other.open_study("study")
        assert store.claim("a")
        assert store.claim("a")
        assert not other.claim("a")
        assert other.claim("b")
        store.release("a")
        assert other.claim("a")
        store.release("a")  # not its own any more
        assert not store.claim("a")
        assert list(path.parent.glob("*.locks/*.claim"))
    assert not list(path.parent.glob("*.locks/*.claim"))


def test_a_claim_is_of_one_study(path):
    with Store(path, write=True) as store, Store(path, write=True) as other:
        store.open_study("study")
        other.open_study("other")
        assert store.claim("a")
        assert other.claim("a")


def test_a_claim_is_free_when_its_owner_is_killed(stores, tmp_path):
    code = """
        held = [Store(path, write=True).__enter__() for path in sys.argv[1:]]
        for store in held:
            store.open_study("study")
            print(store.claim("a"), flush=True)
        time.sleep(600)
    """
    owner = started(code, *stores)
    assert [owner.stdout.readline() for _ in stores] == ["True\n"] * len(stores)
    for path in stores:
        with Store(path, write=True) as store:
            store.open_study("study")
            assert not store.claim("a")
    owner.kill()
    owner.communicate()
    assert len(list(tmp_path.glob("*.locks/*.claim"))) == len(stores)
    for path in stores:
        with Store(path, write=True) as store:
            store.open_study("study")
            assert store.claim("a")
    assert not list(tmp_path.glob("*.locks/*.claim"))


def test_a_program_that_never_lets_go_is_named_after_a_while(tmp_path, monkeypatch):
    path = tmp_path / "runs.journal"
    written(path, [0])
    monkeypatch.setattr(claims, "PATIENCE", 0.1)
    with Store(path, write=True) as store, Store(path, write=True) as other:
        store.open_study("study")
        other.open_study("study")
        with store._kept.together(), pytest.raises(StoreError, match="is in use by another program, which has held"):
            other.add(pairs([1]))
    assert set(read(path)) == keys([0])


def test_a_locked_database_says_so(db, monkeypatch):
    written(db, [0])
    monkeypatch.setattr(claims, "PATIENCE", 0.1)
    with closing(sqlite3.connect(db, isolation_level=None)) as blocker, Store(db, write=True) as store:
        store.open_study("study")
        blocker.execute("begin exclusive")
        with pytest.raises(StoreError, match="locked by another program"):
            store.add(pairs([1]))
        blocker.execute("rollback")
        store.add(pairs([2]))
    assert set(read(db)) == keys([0, 2])


# What a killed program leaves.


def test_wherever_a_journal_is_cut_off_whole_cohorts_are_left(tmp_path):
    path = tmp_path / "runs.journal"
    written(path, [0, 1], [2, 3, 4])
    whole = path.read_bytes()
    first = whole.index(b'"seed":2') - 100
    begin = whole.rindex(b"\n", 0, first + 100) + 1
    ends = [i + 1 for i, c in enumerate(whole) if c == ord("\n") and i >= begin]
    for cut in {begin, begin + 1, *ends[:-1], *(e + d for e in ends for d in (-1, 1)), len(whole) - 40} - {
        len(whole) + 1
    }:
        path.write_bytes(whole[:cut])
        assert keys([0, 1]) == set(read(path)), cut
        written(path, [5])
        assert keys([0, 1, 5]) == set(read(path)), cut
        assert path.read_bytes().startswith(whole[:begin])
        assert trials_of(path) == [0, 1, 5]
    assert looked(path)[1] == []


def test_a_reader_does_not_touch_a_torn_end(tmp_path):
    path = tmp_path / "runs.journal"
    written(path, [0], [1, 2])
    path.write_bytes(path.read_bytes()[:-40])
    before = path.read_bytes()
    assert set(read(path)) == keys([0])
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs.journal", "runs.journal.locks"]


@pytest.mark.parametrize("beginning", [b"", b'{"op_c'])
def test_a_journal_cut_off_in_its_first_line_starts_again(tmp_path, beginning):
    path = tmp_path / "runs.journal"
    path.write_bytes(beginning)
    written(path, [0])
    assert set(read(path)) == keys([0])


# Damage.

BAD_LINES = {
    "not JSON": lambda line: line[:30] + b"!" + line[31:],
    "zeros": lambda line: b"\0" * (len(line) - 1) + b"\n",
    "not UTF-8": lambda line: line.replace(b'"strategy"', b'"str\xff\xfetegy"'),
    "another number": lambda line: line.replace(b'"loss":0.5', b'"loss":0.4'),
    "missing keys": lambda line: b'{"op_code":4}\n',
    "a missing result": lambda line: _without(line, "result"),
    "wrong types": lambda line: b'{"op_code":"four","study_id":[]}\n',
    "not an object": lambda line: b"[1,2]\n",
    "broken in two": lambda line: line[:200] + b"\n" + line[200:],
    "joined to the next": lambda line: line[:-1] + b" ",
}


def _without(line, key):
    log = json.loads(line)
    del log["user_attrs"][key]
    return json.dumps(log).encode() + b"\n"


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_damaged_line_is_named_and_its_run_counts_as_not_done(tmp_path, kind):
    path = tmp_path / "runs.journal"
    written(path, [0, 1], [2, 3], [4])
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if b'"seed":2' in line)
    lines[at] = BAD_LINES[kind](lines[at])
    path.write_bytes(b"".join(lines))
    lost = {2, 3} if kind == "joined to the next" else {2}
    found, told = looked(path)
    assert found == keys({0, 1, 2, 3, 4} - lost)
    assert told
    assert all("runs.journal: line 4" in sentence or "line 5" in sentence for sentence in told)
    assert all("\n" not in sentence for sentence in told)
    if kind in ("not JSON", "another number", "a missing result"):
        assert '(strategy "fixed", rate 0.1, seed 2, phase "tune", steps 50)' in told[0]
    written(path, [0, 1, 2, 3, 4])  # what a program does that goes on
    assert keys([0, 1, 2, 3, 4]) == set(read(path))


def test_wherever_a_journal_is_spoilt_nothing_wrong_is_read_and_the_rest_can_be_done_again(tmp_path):
    path = tmp_path / "runs.journal"
    written(path, [0], [1, 2, 3], [4, 5])
    whole, kept = path.read_bytes(), read(path)
    for seed in range(40):
        draw = random.Random(seed)
        at, long = draw.randrange(len(whole)), draw.randrange(1, 40)
        new = draw.choice([bytes([whole[at] ^ 1 << draw.randrange(8)]), b"", b"\n", bytes(long), draw.randbytes(long)])
        path.write_bytes(whole[:at] + new + whole[at + draw.choice([1, long]) :])
        found = read(path)
        assert found.items() <= kept.items(), seed
        assert len(found) >= 3, seed  # a cohort at most, if it is the last
        written(path, range(6))
        assert read(path) == kept, seed


@pytest.mark.parametrize("line", [0, 1])
def test_the_lines_that_made_the_study_and_its_plan_do_not_take_its_runs_with_them(tmp_path, line):
    path = tmp_path / "runs.journal"
    with Store(path, write=True) as store:
        for name in ("other", "study"):
            store.open_study(name)
            store.set_plan({"name": name})
            store.add(pairs([0, 1] if name == "study" else [7]))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = b"x" * (len(lines[line]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    for name, seeds in (("study", [0, 1]), ("other", [7])):
        with Store(path) as store:
            store.open_study(name)
            assert set(store.results()) == keys(seeds)
            assert store.plan() == (None if name == "other" and line == 1 else {"name": name})
            assert len(store.damage()) == 1
    written(path, [2])
    assert set(read(path)) == keys([0, 1, 2])


BAD_ROWS = {
    "not JSON": "update # set value_json = '{\"loss\": 0.' where key = 'result'",
    "not UTF-8": "update # set value_json = cast(x'ff7b7d' as text) where key = 'result'",
    "wrong types": "update # set value_json = '[1]' where key = 'result'",
    "null": "update # set value_json = null where key = 'key'",
    "another number": "update # set value_json = replace(value_json, '0.5', '0.4') where key = 'result'",
    "missing keys": "delete from # where key = 'check'",
    "nothing left": "delete from # where true",
}


def test_a_damaged_row_is_named_and_its_run_counts_as_not_done(db):
    with Store(db, write=True) as store, closing(sqlite3.connect(db)) as connection:
        for kind, command in BAD_ROWS.items():
            store.open_study(kind)
            store.add(pairs([0, 1]))
            store.add(pairs([2, 3]))
            (last,) = connection.execute("select max(trial_id) from trials").fetchone()
            connection.execute(command.replace("#", "trial_user_attributes") + f" and trial_id = {last - 1}")
            connection.commit()
    with Store(db, write=True) as store:
        for kind in BAD_ROWS:
            store.open_study(kind)
            assert set(store.results()) == keys([0, 1, 3]), kind
            (told,) = store.damage()
            assert "runs.db: trial 2 is damaged" in told, kind
            assert ('(strategy "fixed", rate 0.1, seed 2, phase "tune"' in told) == (kind != "nothing left"), told
            store.add(pairs([0, 1, 2, 3]))
            assert set(store.results()) == keys([0, 1, 2, 3]), kind
            assert (store.damage() == []) == (
                kind not in ("null", "nothing left")
            )  # done again: no longer worth a word


def test_a_damaged_plan_in_a_database_is_no_plan(db):
    written(db, [0])
    with Store(db, write=True) as store:
        store.open_study("study")
        store.set_plan({"task": "digits"})
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("update study_user_attributes set value_json = '{'")
        connection.commit()
    with Store(db) as store:
        store.open_study("study")
        assert store.plan() is None
        assert "the plan is damaged" in store.damage()[0]
        assert set(store.results()) == keys([0])


# Another program's file, and other programs in ours.


@pytest.mark.parametrize("content", [b"hello\nworld\n", b"\x00\x01\x02\x03", json.dumps({"a": 1}).encode() + b"\n"])
def test_a_file_that_is_no_store_is_left_untouched(tmp_path, content):
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(StoreError, match="is not a store of Ratewise"), Store(path, write=True):
            pass
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_a_database_of_another_program_is_left_untouched(tmp_path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table studies (nonsense text)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is another program's database"), Store(path, write=True):
        pass
    assert path.read_bytes() == before


def test_another_programs_study_in_the_same_journal_does_not_disturb(tmp_path):
    path = tmp_path / "runs.journal"
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    theirs = optuna.create_study(study_name="theirs", storage=storage)
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    written(path, [0, 1])
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    written(path, [2])
    assert set(read(path)) == keys([0, 1, 2])
    assert len(optuna.load_study(study_name="theirs", storage=storage).trials) == 4
    optuna.delete_study(study_name="study", storage=storage)
    with Store(path) as store:
        assert store.studies() == ["theirs"]


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


@pytest.mark.parametrize(
    "location", ["mysql://me:secret@host/x", "nosuchdb://me:s@crt@host/x?password=secret", "sqlite://"]
)
def test_another_kind_of_database_is_refused_without_showing_the_password(location):
    with pytest.raises(StoreError, match=r"is not supported\. Give a file") as caught, Store(location, write=True):
        pass
    assert "secret" not in str(caught.value)
    assert "crt" not in str(caught.value)
    assert "\n" not in str(caught.value)


# Disks and clocks.

FILL = """
    import resource
    limit, *paths = sys.argv[1:]
    if int(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    for path in paths:
        with Store(path, write=True) as store:
            store.open_study("study")
            try:
                for i in range(0, 4000, 50):
                    store.add(pairs(range(i, i + 50)))
            except StoreError as error:
                print(i, error, flush=True)
"""


def filled(limit, stores):
    """Write until the disk is full; return the number of runs that were acknowledged, and the complaint, of each."""
    program = started(FILL, limit, *stores)
    output, error = program.communicate(timeout=60)
    assert program.returncode == 0, error
    lines = [line.split(" ", 1) for line in output.splitlines()]
    return [(path, int(done), complaint) for path, (done, complaint) in zip(stores, lines, strict=True)]


def test_a_file_that_may_not_grow_keeps_what_was_committed(stores):
    for path, done, complaint in filled(400_000, stores):
        assert "cannot write to it" in complaint
        assert "Runs committed before are kept." in complaint
        assert set(read(path)) == keys(range(done))
        written(path, [9000])
        assert set(read(path)) == keys([*range(done), 9000])


def test_a_full_disk_keeps_what_was_committed(stores, tmp_path):
    disks = [tmp_path / path.suffix for path in stores]
    mounted = []
    try:
        for disk, path in zip(disks, stores, strict=True):
            disk.mkdir()
            mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "none", disk]
            if subprocess.run(mount, check=False, capture_output=True).returncode:
                pytest.skip("may not mount a small disk here; the test above fills a file instead")
            mounted.append(disk)
            if path.exists():
                shutil.copy(path, disk)
        for path, done, complaint in filled(0, [disk / path.name for disk, path in zip(disks, stores, strict=True)]):
            assert "cannot write to it" in complaint
            assert "full" in complaint or "No space left on device" in complaint
            assert set(read(path)) == keys(range(done))
            subprocess.run(["mount", "-o", "remount,size=900k", path.parent], check=True)
            written(path, [9000])
            assert set(read(path)) == keys([*range(done), 9000])
    finally:
        for disk in mounted:
            subprocess.run(["umount", disk], check=True)


def test_a_clock_that_jumps_back_and_forth_between_starts_changes_nothing(path, monkeypatch):
    real, now = datetime.datetime, time.time
    for seed, years in enumerate((0, -20, 30, -5)):
        shift = datetime.timedelta(days=365 * years)

        class Shifted(real):
            @classmethod
            def now(cls, tz=None, shift=shift):
                return real.now(tz) + shift

        monkeypatch.setattr(datetime, "datetime", Shifted)
        monkeypatch.setattr(time, "time", lambda shift=shift: now() + shift.total_seconds())
        assert abs(optuna.trial.create_trial(value=1.0).datetime_start.year - real.now().year - years) <= 1
        written(path, [seed])
    assert looked(path) == (keys(range(4)), [])
    assert trials_of(path) == [0, 1, 2, 3]


def test_a_store_that_may_only_be_read_can_be_read_and_says_why_it_cannot_be_written(database):
    with tempfile.TemporaryDirectory() as folder:
        for name in ("runs.journal", shutil.copy(database, folder)):
            written(os.path.join(folder, name), [0])
        os.chmod(folder, 0o555)
        code = """
            read(os.path.join(sys.argv[1], "runs.db"))  # what is needed is loaded while it may be
            if os.getuid() == 0:
                os.setgid(65534), os.setuid(65534)
            for name in ("runs.journal", "runs.db"):
                path = os.path.join(sys.argv[1], name)
                assert set(read(path)) == keys([0])
                try:
                    written(path, [1])
                except StoreError as error:
                    print(error)
        """
        for part in os.listdir(folder):
            if "." in part and not part.endswith("locks"):
                os.chmod(os.path.join(folder, part), 0o444)
        program = started(code, folder)
        output, error = program.communicate(timeout=60)
        os.chmod(folder, 0o755)
    assert program.returncode == 0, error
    lines = output.splitlines()
    assert len(lines) == 2
    assert all("cannot open it (Permission denied)" in line for line in lines)
