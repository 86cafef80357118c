"""The logs: what they write, what they keep when training is resumed, and that all of them say the same."""

import csv
import signal
import subprocess
import sys
import time

import pytest

import ratewise as rw
from ratewise.errors import AdapterError, ScheduleError
from ratewise.logs import CSVLog, TensorBoardLog

LR = rw.sgdr(0.3, 4, stretch=1.5).over(20)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lr.csv"


def write(path, updates, rates=None, **settings):
    with CSVLog(path, **settings) as log:
        for t in updates:
            log(t, rates or {"body": LR(t)})


def test_a_row_for_each_update_in_full_precision(path):
    write(path, range(20))
    header, *found = rows(path)
    assert header == ["update", "body"]
    assert [(int(t), float(rate)) for t, rate in found] == [(t, LR(t)) for t in range(20)]


def test_rows_are_on_disk_as_soon_as_they_are_written(path):
    with CSVLog(path) as log:
        log(0, {"a": 0.1})
        log(1, {"a": 0.05})
        assert rows(path) == [["update", "a"], ["0", "0.1"], ["1", "0.05"]]


def test_every_writes_only_multiples(path):
    write(path, range(10), every=4)
    assert [row[0] for row in rows(path)[1:]] == ["0", "4", "8"]


@pytest.mark.parametrize("k", [0, 1, 7, 12, 15])
def test_a_resumed_run_leaves_each_update_once_with_its_last_rate(path, k):
    write(path, range(12), {"a": 0.1})
    write(path, range(k, 18), {"a": 0.2})
    expected = [(t, 0.1 if t < k else 0.2) for t in range(18) if t < 12 or t >= k]
    assert [(int(t), float(a)) for t, a in rows(path)[1:]] == expected


def test_a_resumed_run_drops_later_rows_even_if_its_own_update_is_not_written(path):
    write(path, range(20), every=5)
    write(path, [7], every=5)
    assert [row[0] for row in rows(path)[1:]] == ["0", "5"]


def test_going_back_within_a_process_replaces_the_rows(path):
    with CSVLog(path) as log:
        for t in (0, 1, 2, 3):
            log(t, {"a": 0.1})
        for t in (1, 2):
            log(t, {"a": 0.2})
    assert rows(path)[1:] == [["0", "0.1"], ["1", "0.2"], ["2", "0.2"]]


def test_a_group_that_is_added_later_gets_a_column_and_loses_no_row(path):
    with CSVLog(path) as log:
        log(0, {"a": 0.1})
        log(1, {"a": 0.1, "new, group": 0.2})
        log(2, {"new, group": 0.3})
    write(path, [3], {"third": 0.5, "a": 0.4})
    assert rows(path) == [
        ["update", "a", "new, group", "third"],
        ["0", "0.1", "", ""],
        ["1", "0.1", "0.2", ""],
        ["2", "", "0.3", ""],
        ["3", "0.4", "", "0.5"],
    ]


@pytest.mark.parametrize("torn", ["1", "12,", "12,0.0123", "\x00\x00\x00", "12,0.1,"])
def test_a_last_line_that_was_cut_off_is_dropped(path, torn):
    write(path, range(12), {"a": 0.1})
    with path.open("a") as file:
        file.write(torn)
    write(path, [12, 13], {"a": 0.2})
    assert [row[0] for row in rows(path)[1:]] == [str(t) for t in range(14)]
    assert rows(path)[-2:] == [["12", "0.2"], ["13", "0.2"]]


def test_a_killed_process_loses_nothing_and_its_successor_goes_on(path):
    code = (
        "from itertools import count; from ratewise.logs import CSVLog\n"
        f"log = CSVLog({str(path)!r})\n"
        "for t in count():\n    log(t, {'a': 0.1 / (t + 1)})\n    print(t, flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    reached = next(int(line) for line in process.stdout if int(line) >= 500)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [row[0] for row in rows(path)[1 : reached + 2]] == [str(t) for t in range(reached + 1)]
    write(path, [reached - 100, reached - 99], {"a": 7.0})
    found = [(int(t), float(a)) for t, a in rows(path)[1:]]
    assert found[:-2] == [(t, 0.1 / (t + 1)) for t in range(reached - 100)]
    assert found[-2:] == [(reached - 100, 7.0), (reached - 99, 7.0)]
    assert [file.name for file in path.parent.iterdir()] == ["lr.csv"]


def test_a_relative_path_means_the_folder_of_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = CSVLog("lr.csv")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    log(0, {"a": 0.1})
    assert (tmp_path / "lr.csv").exists()


FOREIGN = {
    "another table": "epoch,loss\n1,0.5\n",
    "text": "hello",
    "no rates": "update\n1\n",
    "twice the same name": "update,a,a\n0,1,1\n",
    "words": "update,a\n0,high\n",
    "too short": "update,a\n0\n",
    "not rising": "update,a\n1,0.1\n1,0.1\n",
    "negative": "update,a\n-1,0.1\n",
    "binary": b"PK\x03\x04\xff\xfe\n",
    "an open quote": 'update,"a\n0,1\n',
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_never_overwritten(path, content):
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(data)
    with pytest.raises(AdapterError, match=r"CSVLog: .*lr\.csv is not a file of CSVLog.*give another path"):
        write(path, [0], {"a": 0.1})
    assert path.read_bytes() == data
    assert [file.name for file in path.parent.iterdir()] == ["lr.csv"]


def test_a_table_of_something_else_is_refused_before_training_starts(path):
    path.write_text("epoch,loss\n1,0.5\n")
    with pytest.raises(AdapterError, match="is not a file of CSVLog, at the latest from row 1 on"):
        CSVLog(path)


def test_an_empty_file_is_taken(path):
    path.touch()
    write(path, [0], {"a": 0.1})
    assert rows(path) == [["update", "a"], ["0", "0.1"]]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(AdapterError, match=r"the folder of '.*missing/lr.csv' does not exist. Make it first"):
        CSVLog(tmp_path / "missing" / "lr.csv")


WRONG = [
    (-1, {"a": 0.1}, "t must be the index of an update"),
    (1.5, {"a": 0.1}, "t must be the index of an update"),
    (True, {"a": 0.1}, "t must be the index of an update"),
    (0, {}, "rates must be like"),
    (0, 0.1, "rates must be like"),
    (0, {"a": float("nan")}, "rate of 'a' must be a finite number, got nan"),
    (0, {"a": float("inf")}, "rate of 'a' must be a finite number, got inf"),
    (0, {"a": None}, "rate of 'a' must be a finite number, got None"),
]


@pytest.mark.parametrize(("t", "rates", "message"), WRONG)
def test_what_is_no_update_or_no_rate_is_refused_and_not_written(path, t, rates, message):
    log = CSVLog(path)
    board = TensorBoardLog(Board())
    for refuse in (log, board):
        with pytest.raises(ScheduleError, match=message):
            refuse(t, rates)
    assert not path.exists()
    assert board.writer.seen == []


def test_settings_are_checked(path):
    with pytest.raises(ScheduleError, match="CSVLog: every must be an integer of at least 1, got 0"):
        CSVLog(path, every=0)
    with pytest.raises(ScheduleError, match="a rate cannot be called 'update'"):
        CSVLog(path)(0, {"update": 0.1})
    with pytest.raises(AdapterError, match=r"must have add_scalar\(tag, value, step\), got 3.* use a function: lambda"):
        TensorBoardLog(3)
    for tag in ("lr", "{}", "lr/{group}", "{name", 3):
        with pytest.raises(ScheduleError, match=r"tag must contain \{name\}"):
            TensorBoardLog(Board(), tag=tag)


class Board:
    """A writer of one's own."""

    def __init__(self):
        self.seen = []

    def add_scalar(self, tag, value, step):
        self.seen.append((tag, value, step))


def test_any_writer_with_add_scalar_is_enough():
    log = TensorBoardLog(board := Board(), every=2, tag="train/{name}-lr")
    for t in range(4):
        log(t, {"a": 0.1 * t, "b": 0.5})
    assert board.seen == [
        ("train/a-lr", 0.0, 0),
        ("train/b-lr", 0.5, 0),
        ("train/a-lr", 0.2, 2),
        ("train/b-lr", 0.5, 2),
    ]


def test_numbers_of_numpy_are_numbers(path):
    np = pytest.importorskip("numpy")
    write(path, np.arange(2), {"a": np.float32(0.5)})
    assert rows(path)[1:] == [["0", "0.5"], ["1", "0.5"]]


def events(folder):
    """What TensorBoard reads back: tag to (step, value)."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulator.EventAccumulator(str(folder))
    reader.Reload()
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of protobuf and tensorboard
def test_tensorboard_reads_back_the_rates_that_the_parameters_moved_by(path, tmp_path):
    torch = pytest.importorskip("torch")
    np = pytest.importorskip("numpy")
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    from ratewise.torch import Scheduler

    weights = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
    groups = [{"params": [w], "name": name, "lr": lr} for w, name, lr in zip(weights, "ab", (1.0, 0.1), strict=True)]
    optimizer = torch.optim.SGD(groups)
    scheduler = Scheduler(optimizer, factor=LR)
    writer, kept, moved = tensorboard.SummaryWriter(tmp_path / "board"), [], []
    with CSVLog(path) as table:
        for log in (table, TensorBoardLog(writer), lambda t, rates: kept.append((t, rates))):
            scheduler.log_to(log)
        for _ in range(20):
            for w in weights:
                w.data.zero_()
                w.grad = torch.ones_like(w)
            optimizer.step()
            moved.append([-w.item() for w in weights])
    writer.close()
    assert moved == [[LR(t), LR(t) * 0.1] for t in range(20)]
    assert kept == [(t, {"a": a, "b": b}) for t, (a, b) in enumerate(moved)]
    assert [list(map(float, row[1:])) for row in rows(path)[1:]] == moved
    found = events(tmp_path / "board")
    for i, name in enumerate("ab"):
        assert found[f"lr/{name}"] == [(t, float(np.float32(row[i]))) for t, row in enumerate(moved)]


def written(path):
    """The rates in a file with one column, after checking that there is one row for each of 20 updates."""
    _, *found = rows(path)
    assert [int(t) for t, _ in found] == list(range(20))
    return [float(rate) for _, rate in found]


def test_optax_writes_what_the_parameters_moved_by(path):
    optax = pytest.importorskip("optax")
    import jax

    from ratewise.optax import inject, rates

    transform = inject(optax.sgd, learning_rate=LR)
    state, moved = transform.init(jax.numpy.zeros(())), []
    with CSVLog(path) as log:
        for t in range(20):
            change, state = transform.update(jax.numpy.ones(()), state)
            moved.append(-float(change))
            log(t, rates(state))
    assert rows(path)[0] == ["update", *rates(state)]
    assert written(path) == moved == pytest.approx(LR.values(0, 20), rel=1e-6)  # float32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15 under numpy 2
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_keras_writes_what_the_parameters_moved_by_also_when_it_is_resumed(path):
    keras = pytest.importorskip("keras")
    import numpy as np

    from ratewise.keras import Follow

    def fitted(epochs, model=None):
        if model is None:
            layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
            model = keras.Sequential([keras.Input((20,)), layer])
            model.compile(keras.optimizers.SGD(0.7), loss=lambda y, out: keras.ops.sum(out, axis=-1))
        eye = np.eye(20, dtype="float32")  # update t has gradient 1 in weight t alone
        with CSVLog(path) as log:
            for epoch in epochs:
                part = eye[5 * epoch : 5 * epoch + 5]
                model.fit(part, part[:, :1], batch_size=1, shuffle=False, verbose=0, callbacks=[Follow(LR, log=log)])
        return model

    model = fitted([0, 1, 2])
    model = fitted([3], model)
    moved = [-float(w) for w in model.get_weights()[0][:, 0]]
    assert moved == pytest.approx(written(path), rel=1e-6)
    assert written(path) == LR.values(0, 20)  # what torch's log says to the last digit


def test_writing_a_row_takes_little_time(path):
    with CSVLog(path) as log:
        log(0, {"a": 0.1})
        start = time.process_time()
        for t in range(1, 2001):
            log(t, {"a": 0.1})
        assert time.process_time() - start < 1.0  # measured: 0.01 s
