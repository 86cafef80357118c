"""The store on a real PostgreSQL server, which these tests start, kill and start again."""

import subprocess
import sys
import time

import optuna
import pytest
from lab.servers import program
from lab.stored import RESULT, keys, pairs, read, run_of, started, written

from ratewise.errors import StoreError
from ratewise.lab.store import Store


def test_an_empty_database_holds_nothing_yet_and_is_left_empty(server, url):
    with pytest.raises(StoreError, match=r"me:\*\*\*@.*holds nothing yet\. Run `ratewise compare` first") as caught:
        read(url)
    assert "secret" not in str(caught.value)
    arguments = ["-h", server.folder, "-U", "me", "-d", "runs", "-Atc", "select count(*) from pg_stat_user_tables"]
    tables = subprocess.run([program("psql"), *arguments], check=True, capture_output=True, cwd=server.folder).stdout
    assert tables == b"0\n"


def test_cohorts_and_plans_come_back_and_optunas_tools_show_them(url):
    written(url, [0, 1], [2])
    with Store(url, write=True) as store:
        store.open_study("study")
        store.set_plan({"task": "digits"})
        store.add([(run_of(3), {**RESULT, "loss": None, "diverged": 4})])
        assert store.plan() == {"task": "digits"}
        assert store.runs()[:3] == pairs([0, 1, 2])
        assert store.damage() == []
    storage = optuna.storages.RDBStorage(url.replace("postgresql:", "postgresql+psycopg:"))
    trials = optuna.load_study(study_name="study", storage=storage).trials
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert [trial.params["seed"] for trial in trials] == [0, 1, 2, 3]
    assert [trial.value for trial in trials] == [0.5, 0.5, 0.5, float("inf")]
    storage.engine.dispose()


def test_two_programs_make_and_fill_one_database_at_once_and_keep_each_run_once(url):
    programs = [started("[written(sys.argv[1], range(i, i + 8)) for i in range(0, 24, 4)]", url) for _ in range(2)]
    for each in programs:
        error = each.communicate(timeout=60)[1]
        assert each.returncode == 0, error
    with Store(url) as store:
        store.open_study("study")
        assert sorted(run.seed for run, _ in store.runs()) == list(range(28))
        assert len(store._kept.storage.get_all_trials(1)) == 28


def test_a_program_that_is_killed_while_it_commits_leaves_whole_cohorts_and_no_claim(url):
    code = """
        store = Store(sys.argv[1], write=True).__enter__()
        store.open_study("study")
        print(store.claim("a"), flush=True)
        for i in range(0, 10000, 20):
            store.add(pairs(range(i, i + 20)))
            print(i, flush=True)
    """
    writer = started(code, url)
    with Store(url, write=True) as store:
        store.open_study("study")
        assert writer.stdout.readline() == "True\n"
        assert not store.claim("a")
        assert store.claim("b")
        for _ in range(4):
            last = int(writer.stdout.readline())
        writer.kill()
        writer.communicate()
        for _ in range(200):  # the server notices at once, but on its own time
            if store.claim("a"):
                break
            time.sleep(0.05)
        assert store.claim("a")
        found = store.results()
        assert len(found) % 20 == 0
        assert set(found) >= keys(range(last + 20))
        store.release("a")
        with Store(url, write=True) as other:
            other.open_study("study")
            assert other.claim("a")
            assert not other.claim("b")
            other.add(pairs(range(9990, 10010)))
        assert set(store.results()) == set(found) | keys(range(9990, 10010))


BAD_ROWS = {
    "not JSON": "update # set value_json = '{\"loss\": 0.' where key = 'result'",
    "wrong types": "update # set value_json = '[1]' where key = 'result'",
    "null": "update # set value_json = null where key = 'run'",
    "missing keys": "delete from # where key = 'result'",
    "nothing left": "delete from # where true",
}


def test_a_damaged_row_is_named_and_its_run_counts_as_not_done(url):
    with Store(url, write=True) as store:
        for kind, command in BAD_ROWS.items():
            store.open_study(kind)
            store.add(pairs([0, 1]))
            store.add(pairs([2, 3]))
            with store._kept.storage.engine.begin() as connection:
                last = connection.exec_driver_sql("select max(trial_id) from trials").scalar()
                changed = command.replace("#", "trial_user_attributes") + f" and trial_id = {last - 1}"
                connection.exec_driver_sql(changed)
    with Store(url, write=True) as store:
        for kind in BAD_ROWS:
            store.open_study(kind)
            assert set(store.results()) == keys([0, 1, 3]), kind
            (told,) = store.damage()
            assert "trial 2 is damaged" in told, kind
            store.add(pairs([2]))
            assert set(store.results()) == keys([0, 1, 2, 3]), kind


def test_a_server_that_is_killed_in_mid_study_is_one_line_and_loses_nothing(server, url):
    with Store(url, write=True) as store:
        store.open_study("study")
        assert store.claim("a")
        store.add(pairs([0, 1]))
        server.kill()
        with pytest.raises(StoreError, match=r"cannot write to it .* Runs committed before are kept") as caught:
            store.add(pairs([2]))
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)
        with pytest.raises(StoreError, match="cannot write to it"):
            store.claim("b")
        store.release("a")
    with pytest.raises(StoreError, match="cannot open it"):
        written(url, [2])
    server.start()
    assert set(read(url)) == keys([0, 1])
    with Store(url, write=True) as store:
        store.open_study("study")
        assert store.claim("a")
        store.add(pairs([2]))
    assert set(read(url)) == keys([0, 1, 2])


def cut(server):
    """End every connection to the database, as a firewall does to those that have been idle."""
    command = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'runs'"
    arguments = ["-q", "-h", server.folder, "-U", "me", "-d", "postgres", "-c", command]
    subprocess.run([program("psql"), *arguments], check=True, stdout=subprocess.DEVNULL, cwd=server.folder)


def test_claims_whose_connection_was_cut_are_claimed_again_on_a_new_one(server, url, caplog):
    with Store(url, write=True) as store, Store(url, write=True) as other:
        store.open_study("study")
        other.open_study("study")
        assert store.claim("a")
        cut(server)
        assert store.claim("b")
        assert not other.claim("a")
        assert not other.claim("b")
        assert caplog.messages == []
        cut(server)
        assert other.claim("a")  # it was quicker
        assert store.claim("c")
        assert any("cohorts in training (1) may be trained twice" in message for message in caplog.messages)
        store.release("a")
        assert not store.claim("a")
        cut(server)
        store.release("b")
        assert other.claim("b")


def test_a_missing_driver_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r'needs psycopg 3\. Run: pip install "ratewise\[postgres\]"'):
        Store("postgresql://me@nowhere/runs", write=True).__enter__()


def test_a_server_that_is_not_there_is_one_line():
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    with pytest.raises(StoreError, match="cannot open it") as caught:
        Store("postgresql://me:secret@127.0.0.1:1/runs", write=True).__enter__()
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
