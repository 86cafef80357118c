"""A study through the real command line, killed again and again at any moment, against an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ratewise.lab.store import Store

RUNS = 500
KILLS = 20
STUDY = ["noisy-regression", *["-s", "fixed", "-s", "linear", "-s", "cosine", "--steps", "30", "--rates", "7"]]
SIZE = ["--tuning-seeds", "16", "--fresh-seeds", "13", "--cohort", "8"]  # (3 + the control) x (7 x 16 + 13) = 500 runs
MEASURED = {"seconds", "started", "host"}


def program(store, page, *size):
    """Start ``ratewise compare``."""
    command = [sys.executable, "-c", "from ratewise.cli.main import main; main()", "compare", *STUDY, *size]
    command += ["--store", str(store), "--html", str(page), "--json"]
    settings = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "text": True}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)


def table(output):
    """The JSON that the program printed, without what is measured time and where it is kept."""

    def cleaned(value):
        if isinstance(value, dict):
            return {key: cleaned(item) for key, item in value.items() if key not in MEASURED}
        return [cleaned(item) for item in value] if isinstance(value, list) else value

    found = cleaned(json.loads(output))
    found.get("provenance", {}).pop("command", None)  # it names the store
    return found


def workers(parent):
    """The worker processes of a program."""
    found = []
    try:
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            if b"popen_loky" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    except OSError:  # something has just ended
        return []
    return found


def committed(journal):
    """The keys in the file, as often as they are there."""
    if not journal.exists():
        return []
    lines = journal.read_bytes().split(b"\n")[:-1]
    return [json.loads(line)["user_attrs"]["key"] for line in lines if b'"user_attrs"' in line]


class Killer:
    """Kills a program or one of its workers, wherever they happen to be."""

    def __init__(self, journal, seed):
        self.journal, self.rng = journal, random.Random(seed)
        self.victims = ["program", "worker"] * (KILLS // 2)
        self.rng.shuffle(self.victims)

    def work_on(self, running):
        """Kill until the program is dead or done, or all kills are spent."""
        while self.victims and running.poll() is None:
            self._wait(running)
            found = [running.pid]
            if self.victims[-1] == "worker":
                while running.poll() is None and not (found := workers(running.pid)):
                    time.sleep(0.02)
            time.sleep(self.rng.uniform(0.0, 0.3))
            if running.poll() is not None:
                return
            try:
                os.kill(self.rng.choice(found), signal.SIGKILL)
            except ProcessLookupError:
                continue  # a worker that is gone by itself
            if self.victims.pop() == "program":
                return

    def _wait(self, running):
        """Wait for a few commits, as long as the study will outlast the kills, or for any moment."""
        done = len(committed(self.journal))
        enough = RUNS - done > 20 * len(self.victims)
        wanted = done + (self.rng.choice([0, 1, 8]) if enough else 0)
        patience = time.monotonic() + self.rng.uniform(0.2, 2.0) * (10 if wanted > done else 1)
        while running.poll() is None and time.monotonic() < patience:
            if done < wanted <= len(committed(self.journal)):
                return
            time.sleep(0.02)


@pytest.mark.slow
def test_a_study_of_500_runs_survives_20_kills_and_equals_an_undisturbed_one(tmp_path):
    undisturbed = program(tmp_path / "undisturbed.journal", tmp_path / "page.html", *SIZE)
    output, error = undisturbed.communicate(timeout=600)
    assert undisturbed.returncode == 0, error
    assert len(committed(tmp_path / "undisturbed.journal")) >= RUNS

    journal = tmp_path / "runs.journal"
    killer = Killer(journal, seed=5)
    for _ in range(KILLS + 2):
        running = program(journal, tmp_path / "page.html", *SIZE)
        killer.work_on(running)
        disturbed, error = running.communicate(timeout=600)
        if running.returncode == 0:
            break
        assert running.returncode == -signal.SIGKILL or len(error.strip().splitlines()) == 1, error
    assert running.returncode == 0
    assert killer.victims == []

    keys = committed(journal)
    assert len(keys) == len(set(keys))
    assert set(keys) == set(committed(tmp_path / "undisturbed.journal"))
    assert table(disturbed) == table(output)
    with Store(journal) as store:
        store.open_study("noisy-regression")
        store.results()
        assert store.damage() == []
    assert not list(journal.parent.glob("runs.journal.locks/*.claim"))


@pytest.mark.slow
def test_two_programs_share_a_study_on_a_server_and_the_death_of_one_changes_nothing(url, tmp_path):
    size = ["--tuning-seeds", "2", "--fresh-seeds", "8", "--cohort", "8", "--workers", "1"]
    alone = program(tmp_path / "runs.journal", tmp_path / "alone.html", *size)
    output, error = alone.communicate(timeout=300)
    assert alone.returncode == 0, error

    programs = [program(url, tmp_path / f"{i}.html", *size) for i in range(2)]
    with Store(url, write=True) as store:
        store.open_study("noisy-regression")
        while len(store.results()) < 16 and programs[0].poll() is None:
            time.sleep(0.02)
        programs[0].kill()
        programs[0].communicate()
        shared, error = programs[1].communicate(timeout=300)
        assert programs[1].returncode == 0, error
        assert table(shared) == table(output)
        assert set(store.results()) == set(committed(tmp_path / "runs.journal"))
        assert len(store._kept.storage.get_all_trials(1)) == len(store.results())
