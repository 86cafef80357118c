"""Tasks: splits, paired batch orders, and every way in which a user's data or file can be wrong."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from ratewise import Linear, fraction
from ratewise.errors import TaskError, UnknownName
from ratewise.lab.catalogue import strategy
from ratewise.lab.loading import load
from ratewise.lab.strategy import Strategy
from ratewise.lab.task import Task
from ratewise.lab.tasks import TASKS

X = np.random.default_rng(0).normal(size=(50, 3))
Y = np.arange(50) % 2


def task_of(**changes):
    return Task(**{"name": "toy", "data": (X, Y), "model": None, **changes})


@pytest.mark.parametrize("name", TASKS)
def test_built_in_tasks_have_three_splits_that_share_no_example(name):
    splits = load(name).splits
    assert set(splits) == {"train", "valid", "test"}
    seen = [{x.tobytes() for x in inputs} for inputs, _ in splits.values()]
    if not name.startswith("stdlib"):  # short windows of text repeat by themselves
        twins = int(name == "iris")  # two of the flowers have the same measurements
        assert sum(map(len, seen)) - twins == len(set.union(*seen))


def test_digits_is_noisy_in_training_labels_alone():
    noisy, clean = load("digits").splits, load("digits-clean").splits
    assert np.mean(noisy["train"][1] != clean["train"][1]) == pytest.approx(0.2)
    for split in ("valid", "test"):
        assert (noisy[split][1] == clean[split][1]).all()
    assert {name: len(y) for name, (_, y) in noisy.items()} == {"train": 800, "valid": 397, "test": 600}


def test_stdlib_chars_predicts_the_next_character_of_this_very_library():
    inputs, targets = load("stdlib-chars").splits["train"]
    assert (inputs.shape[1], inputs.max() < 96, targets.max() < 96) == (12, True, True)


def test_the_order_of_batches_depends_on_the_seed_alone_and_covers_each_epoch():
    task = task_of(batch_size=10)
    order = task.order(3, 12)
    assert order.shape == (12, 10)
    assert (order == task.order(3, 12)).all()
    assert (order != task.order(4, 12)).any()
    for epoch in range(4):
        assert sorted(order[3 * epoch : 3 * epoch + 3].ravel()) == list(range(30))


def test_a_longer_run_starts_with_the_batches_of_a_shorter_one():
    task = task_of(batch_size=7)
    assert (task.order(1, 20)[:5] == task.order(1, 5)).all()


def test_fingerprints_follow_the_data():
    assert task_of().fingerprint == task_of().fingerprint
    changed = X.copy()
    changed[0, 0] += 1
    others = [
        task_of(data=(changed, Y)),
        task_of(batch_size=8),
        task_of(loss="mse"),
        task_of(version=2),
        task_of(name="b"),
    ]
    assert len({task_of().fingerprint, *(other.fingerprint for other in others)}) == 6


def test_fingerprints_follow_the_model_and_are_the_same_in_every_process(tmp_path):
    text = (
        "import numpy as np\nfrom ratewise import Task\ndef model(): return {width}\n"
        "def loss(output, target): return output.sum()\n"
        "task = Task('t', data=(np.zeros((9, 2)), np.zeros(9, int)), model=model, loss=loss)\nprint(task.fingerprint)\n"
    )
    found = []
    for width in (2, 2, 3):
        (tmp_path / "script.py").write_text(text.format(width=width))
        command = [sys.executable, str(tmp_path / "script.py")]
        found.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found[0] == found[1] != found[2]


def test_tensors_lists_and_ready_made_splits_are_accepted():
    import torch

    assert task_of(data=(torch.tensor(X), torch.tensor(Y))).splits["train"][0].dtype == np.float32
    assert task_of(data=(X.tolist(), Y.tolist())).splits["train"][1].dtype == np.int64
    ready = {"train": (X, Y), "valid": (X[:5], Y[:5]), "test": (X[5:9], Y[5:9])}
    assert len(task_of(data=lambda: ready).splits["test"][0]) == 4


def large():
    return np.arange(90_000.0).reshape(900, 100), np.arange(900) % 2


UNSEEDED = np.random.default_rng(0)


def drawn_anew():
    return UNSEEDED.normal(size=(50, 3)), Y


def test_a_task_that_is_sent_elsewhere_carries_its_data_once_and_of_a_function_not_at_all():
    for data, most in ((large, 4_000), (large(), 90_000 * 8 + 20_000)):
        task = task_of(data=data)
        assert task.splits["train"][0].shape == (540, 100)
        sent = pickle.dumps(task)
        assert len(sent) < most
        again = pickle.loads(sent)
        assert all((again.splits[s][0] == task.splits[s][0]).all() for s in task.splits)
        assert again.fingerprint == task.fingerprint


def test_data_that_another_process_would_read_differently_is_refused():
    task = task_of(data=drawn_anew)
    assert len(task.splits["train"][0]) == 30
    with pytest.raises(TaskError, match=r"not the same in every process.*a generator with a fixed seed"):
        _ = pickle.loads(pickle.dumps(task)).splits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": (X[:0], Y[:0])}, "data is empty"),
        ({"data": (X, Y[:-1])}, "as many inputs as targets"),
        ({"data": (X[:3], Y[:3])}, "3 examples cannot be split"),
        ({"data": X}, "must be a pair"),
        ({"data": {"train": (X, Y), "valid": (X, Y)}}, "'test' is missing"),
        ({"data": (X, Y + 0.5)}, "cross_entropy needs whole numbers"),
        ({"data": (np.where(X > 2, np.nan, X), Y)}, "contain nan or infinity"),
        ({"data": (np.array(["a"] * 50), Y)}, "cannot be made into arrays"),
        ({"data": ([[1, 2], [3]], [0, 1])}, "cannot be made into arrays"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(changes, message):
    with pytest.raises(TaskError, match=message):
        _ = task_of(**changes).splits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be an integer of at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be an integer of at least 1"),
        ({"loss": "cross_entrpy"}, "Did you mean 'cross_entropy'"),
        ({"name": "a/b"}, "without slashes"),
        ({"clip_norm": 0.0}, r"clip_norm must be a number above 0 or None, got 0\.0"),
        ({"clip_norm": "1"}, "clip_norm must be a number above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(TaskError, match=message):
        task_of(**changes)


def test_a_task_file_is_loaded_with_its_neighbours(tmp_path):
    (tmp_path / "neighbour_of_the_task.py").write_text("SIZE = 40")
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom neighbour_of_the_task import SIZE\nfrom ratewise import Task\n"
        "task = Task('mine', data=(np.zeros((SIZE, 2)), np.zeros(SIZE, int)), model=None)\n"
    )
    task = load(f"{tmp_path / 'mine.py'}:task")
    assert (task.name, len(task.splits["train"][0]), task.reference) == ("mine", 24, f"{tmp_path / 'mine.py'}:task")


def test_changing_a_task_file_changes_the_fingerprint(tmp_path):
    path = tmp_path / "mine.py"
    text = (
        "import numpy as np\nfrom ratewise import Task\n"
        "task = Task('mine', data=(np.zeros((9, 2)), np.zeros(9, int)), model=None)\n"
    )
    path.write_text(text)
    first = load(f"{path}:task").fingerprint
    path.write_text(text + "# another model\n")
    load.cache_clear()
    assert load(f"{path}:task").fingerprint != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", r"broken\.py: line 1: ModuleNotFoundError: No module named"),
        ("x = 1\ny = 1 / 0", r"broken\.py: line 2: ZeroDivisionError"),
        ("def f(:", r"broken\.py: .*SyntaxError"),
        ("task = 3", r"'task' is not a ratewise Task\. Write task = Task"),
        ("import sys\nsys.exit(3)", r"broken\.py: line 2: SystemExit"),
    ],
)
def test_a_task_file_that_fails_says_where(tmp_path, text, message):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(TaskError, match=message):
        load(f"{tmp_path / 'broken.py'}:task")


def test_unknown_tasks_suggest_the_nearest_and_the_form_of_a_file():
    with pytest.raises(
        UnknownName, match=r"unknown task 'digit'\. Did you mean 'digits'\? Your own: path/to/file\.py:name"
    ):
        load("digit")
    with pytest.raises(TaskError, match="no such file"):
        load("nowhere/at_all.py:task")


def test_a_file_without_that_name_lists_its_tasks(tmp_path):
    (tmp_path / "two.py").write_text("from ratewise import Task\nmine = Task('m', data=lambda: 0, model=None)\n")
    with pytest.raises(TaskError, match=r"'task' is not a ratewise Task\. It defines mine"):
        load(f"{tmp_path / 'two.py'}:task")


def losses(name, arms, seeds, steps=None):
    """Outcomes on a built-in task: of each arm, a strategy at a rate, for every seed."""
    from ratewise.lab.runs import Member, engine_of

    task = load(name)
    steps = steps or task.steps
    members = [Member(s.with_peak(rate, steps), seed, steps, "tune") for s, rate in arms for seed in range(seeds)]
    found = engine_of(task, "population").cohort(members)
    return [found[i * seeds : (i + 1) * seeds] for i in range(len(arms))]


def mean(outcomes):
    return np.mean([np.inf if outcome.loss is None else outcome.loss for outcome in outcomes])


def test_digits_sharp_needs_a_warm_up():
    plain = Strategy("plain", "sgd", Linear(1.0, 0.0), momentum=0.9)
    warmed = Strategy("warmed", "sgd", Linear(1.0, 0.0).warmup(fraction(0.4)), momentum=0.9)
    best, higher, with_warmup = losses("digits-sharp", [(plain, 0.00625), (plain, 0.025), (warmed, 0.025)], 4)
    assert mean(with_warmup) < 0.7 * mean(best)  # the best rate without; measured: 0.25 against 0.48
    assert mean(higher) > 2 * mean(best)


def test_breast_cancer_overfits_at_a_constant_rate():
    (found,) = losses("breast-cancer", [(strategy("fixed"), 0.1)], 3)
    assert all(outcome.held["valid"][-1] > 1.3 * min(outcome.held["valid"]) for outcome in found)


def test_noise_rewards_a_rate_that_falls_and_ill_conditioning_keeps_every_rate_slow():
    arms = [(strategy("fixed"), 0.003125), (strategy("fixed"), 0.0125), (strategy("linear"), 0.05)]
    low, high, falling = losses("noisy-regression", arms, 2, steps=1000)
    assert mean(falling) < 0.6 * min(mean(low), mean(high))
    spectrum = np.linalg.svd(load("noisy-regression").splits["train"][0], compute_uv=False) ** 2
    assert spectrum[0] / spectrum[-1] > 500


@pytest.mark.parametrize("name", TASKS)
def test_every_built_in_task_names_its_character_and_describes_itself(name):
    task = TASKS[name]()
    assert task.character
    assert task.description
