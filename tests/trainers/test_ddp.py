"""DistributedDataParallel, sharded optimizers and sharded models on two real processes."""

import pytest
from trainers.launch import launch
from trainers.probe import CUT, RATES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What both ranks found."""
    return launch("ranks_ddp.py", 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("check", ["plain", "accumulated"])
def test_every_update_uses_its_rate_on_both_ranks(check, found):
    assert [rank[check] for rank in found] == [[RATES, 8]] * 2


def test_an_optimizer_sharded_over_the_ranks_follows_on_both(found):
    assert [rank["sharded optimizer"] for rank in found] == [[[RATES, RATES], 8]] * 2


def test_rules_that_get_the_mean_metric_cut_at_the_same_update(found):
    assert [rank["mean metric"] for rank in found] == [[[4], 0.0, CUT]] * 2


def test_rules_that_get_the_metric_of_their_own_rank_cut_apart_and_so_do_the_weights(found):
    """Nothing can notice it on one rank: reduce the metric first."""
    first, second = (rank["own metrics"] for rank in found)
    assert first[0] == []
    assert second[0] != []
    assert first[2] == RATES != second[2]


@pytest.mark.parametrize("check", ["optimizer first", "scheduler first", "fully sharded"])
def test_a_distributed_checkpoint_goes_on_where_it_was_saved(check, found):
    assert [rank[check] for rank in found] == [[RATES, 8]] * 2
