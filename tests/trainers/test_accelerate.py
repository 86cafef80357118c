"""Accelerate, in one and in two real processes: accumulation, its wrappers, its checkpoints, its trackers."""

import pytest
from trainers.launch import launch
from trainers.probe import CUT, RATES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[1, 2], ids=["1 process", "2 processes"])
def found(request, tmp_path_factory):
    """What every process found, in order of ranks."""
    return launch("ranks_accelerate.py", request.param, tmp_path_factory.mktemp("ranks"))


EXACT = {
    "prepared": "a scheduler that was prepared",
    "not prepared": "one that was not",
    "accumulated": "two micro batches to an update",
    "accumulated 4, not prepared": "four",
    "made after prepare": "a scheduler made from what prepare returned",
    "bfloat16": "mixed precision",
    "split batches": "one loader whose batches are split",
    "calls counted, not prepared": 'clock="step", called by the loop itself',
    "calls counted, split batches": 'clock="step", under the wrapper, which then calls once',
    "killed 1": "saved by save_state, killed, loaded by load_state",
    "killed 4": "the same",
    "killed 7": "the same",
    "killed 5, registered": "the same without prepare, by register_for_checkpointing",
}


@pytest.mark.parametrize("check", EXACT)
def test_every_update_uses_its_rate_on_every_rank(check, found):
    assert [rank[check] for rank in found] == [[RATES, 8]] * len(found)


def test_another_schedule_than_the_saved_one_is_an_error(found):
    assert all(
        rank["another schedule"].startswith("ScheduleChanged: load_state_dict: the saved position 3 ") for rank in found
    )


def test_schedulers_of_torch_run_ahead_by_the_number_of_processes(found):
    ahead = [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0]
    assert [rank["their scheduler"] for rank in found] == [ahead if len(found) == 2 else RATES] * len(found)


def test_below_the_wrapper_calls_are_counted_once_for_every_process(found):
    """The limit of clock="step": give the loop the scheduler that was not prepared."""
    expected = [[1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0], 16] if len(found) == 2 else [RATES, 8]
    assert [rank["calls counted, prepared"] for rank in found] == [expected] * len(found)


def test_a_rule_that_gets_the_mean_metric_cuts_at_the_same_update_on_every_rank(found):
    assert [rank["ruled"] for rank in found] == [[CUT, 8]] * len(found)


def test_the_wrapper_gives_a_metric_once_for_every_process(found):
    """So the patience is over too early: call observe of the Scheduler itself."""
    assert [rank["ruled through the wrapper"] == [CUT, 8] for rank in found] == [len(found) == 1] * len(found)


def test_updates_that_a_scaler_skips_do_not_count(found):
    used = [0.0, 1.0, 0.875, 0.0, 0.75, 0.625]
    assert [rank["overflowing"] for rank in found] == [[used, 4, 2]] * len(found)


def test_trackers_get_the_rate_of_update_t_at_index_t(found):
    rows = [[t, rate] for t, rate in enumerate(RATES)]
    assert found[0]["trackers"] == [rows, rows]
    assert all(rank["trackers"] == [[], None] for rank in found[1:])
