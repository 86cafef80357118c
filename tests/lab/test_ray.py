"""A comparison on a real Ray cluster of several nodes: the same numbers, also when a node dies in mid-study."""

import threading
import time

import pytest

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402

from ratewise.errors import LabError, TaskError  # noqa: E402
from ratewise.lab.compare import compare  # noqa: E402
from ratewise.lab.plan import Budget  # noqa: E402
from ratewise.lab.store import Store  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

BUDGET = Budget(steps=200, rates=3, tuning_seeds=3, fresh_seeds=7, slides=1)
MEASURED = ("seconds", "started", "host")

TASK = """
import numpy as np, torch
from ratewise import Task

rng = np.random.default_rng(0)
inputs = rng.normal(size=(120, 5)).astype("float32")
targets = (inputs.sum(1) > 0).astype("int64")
task = Task("signs", data=(inputs, targets), model=lambda: torch.nn.Linear(5, 2))
"""


BREAKS = """
def breaks(output, target):
    if len(output) > 8:  # the first look at a task takes eight examples
        raise ArithmeticError("no such number")
    return output.mean()


"""


def stable(value):
    if isinstance(value, dict):
        return {key: stable(item) for key, item in value.items() if key not in MEASURED}
    return [stable(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def cluster():
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(TASK)
    return f"{path}:task"


def test_a_cluster_finds_what_one_machine_finds_even_when_a_node_dies(tmp_path, cluster, task):
    alone = compare(task, ["cosine", "fixed"], BUDGET, tmp_path / "alone", workers=1, cohort=3)
    victim = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    store, killed = tmp_path / "spread", []

    def kill_a_node_when_some_runs_are_there():
        while not store.exists() or store.read_text().count('"key"') < 3:
            time.sleep(0.02)
        cluster.remove_node(victim, allow_graceful=False)
        killed.append(store.read_text().count('"key"'))

    killer = threading.Thread(target=kill_a_node_when_some_runs_are_there, daemon=True)
    killer.start()
    spread = compare(task, ["cosine", "fixed"], BUDGET, store, ray=cluster.address, cohort=3)
    killer.join(60)
    total = sum(row["runs"] for row in spread["strategies"])
    assert 3 <= killed[0] < total  # it died in the middle
    assert stable(spread) == stable(alone)
    with Store(store) as kept:
        kept.open_study("signs")
        keys = [run.key for run, _ in kept.runs()]
    assert len(keys) == len(set(keys)) == total


def test_what_a_task_raises_on_a_node_is_one_sentence_here(tmp_path, cluster):
    path = tmp_path / "bad.py"
    path.write_text(TASK.replace("model=lambda", "loss=breaks, model=lambda").replace("rng =", BREAKS + "rng ="))
    with pytest.raises(TaskError, match="no such number"):
        compare(f"{path}:task", ["cosine", "fixed"], BUDGET, tmp_path / "bad", ray=cluster.address)


def test_an_address_without_a_cluster_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(LabError, match="ray 'localhost:1': cannot connect"):
        compare("wine", ["cosine", "fixed"], BUDGET, tmp_path / "a", ray="localhost:1")
