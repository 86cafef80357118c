"""The batch is 8 for the first 160 samples and 16 then; warm-up for 10% and decay over the last 20% of the tokens.

480 samples of 32 tokens each: 20 updates of 8 and 20 of 16. The rate belongs to the tokens, not to the updates: it
must be that of a run without the ramp, and the decay must end with the last token. The same when a run goes on with
half the workers.
"""

import pytest

import ratewise as rw
from ratewise.torch import Scheduler

TOKENS = 32
PLAN = rw.wsd(1.0, warmup=rw.fraction(0.1), cooldown=rw.fraction(0.2), shape="linear")
RAMPED = rw.Horizon(rw.samples(480), batch_size=[(0, 8), (20, 16)], tokens_per_sample=TOKENS)
CONSTANT = rw.Horizon(rw.samples(480), batch_size=8, tokens_per_sample=TOKENS)


def tokens_before(horizon):
    """How many tokens were used before each update, counted by hand."""
    sizes = [8] * 20 + [16] * 20 if horizon is RAMPED else [8] * 60
    return [TOKENS * sum(sizes[:t]) for t in range(len(sizes))]


def test_the_rate_of_a_token_is_that_of_the_run_without_the_ramp(sgd, applied):
    rates = {}
    for horizon in (RAMPED, CONSTANT):
        scheduler = Scheduler(sgd(), PLAN, horizon=horizon)
        used = applied(scheduler.optimizer, horizon.total_steps)
        rates[horizon.total_steps] = dict(zip(tokens_before(horizon), used, strict=True))
    ramped, constant = rates[40], rates[60]
    assert ramped == {token: constant[token] for token in ramped}
    assert max(ramped.values()) == 1.0


def test_warmup_and_decay_lie_where_the_tokens_put_them(sgd, applied):
    scheduler = Scheduler(sgd(), PLAN, horizon=RAMPED)
    used = dict(zip(tokens_before(RAMPED), applied(scheduler.optimizer, 40), strict=True))
    total = 480 * TOKENS
    assert used[0] == pytest.approx(1 / 6)  # 10% are 6 updates of 8 samples
    for token, rate in used.items():
        if 0.1 * total <= token <= 0.8 * total:
            assert rate == 1.0
        elif token > 0.8 * total:
            assert rate == pytest.approx((total - token) / (0.2 * total), rel=1e-12)


@pytest.mark.filterwarnings("ignore:.*the schedule ends after 40 updates")
def test_the_decay_ends_with_the_last_token(sgd, applied):
    scheduler = Scheduler(sgd(), PLAN, horizon=RAMPED)
    *_, last, past = applied(scheduler.optimizer, 41)
    assert last == pytest.approx(16 / (0.2 * 480), rel=1e-12)  # the last update begins 16 samples before the end
    assert past == 0.0
    assert scheduler.overrun == 1


def test_half_the_workers_from_update_20_on_leave_the_rate_of_a_token_as_it_was(sgd, applied, on_disk):
    eight = rw.Horizon(rw.samples(1920), batch_size=4, world_size=8, tokens_per_sample=TOKENS)
    four = rw.Horizon(rw.samples(1920), batch_size=4, world_size=[(0, 8), (20, 4)], tokens_per_sample=TOKENS)
    assert (eight.total_steps, four.total_steps) == (60, 100)
    scheduler = Scheduler(sgd(), PLAN, horizon=eight)
    applied(scheduler.optimizer, 20)
    state = on_disk(scheduler.state_dict())
    expected = applied(scheduler.optimizer, 40)
    resumed = Scheduler(sgd(), PLAN, horizon=four, on_change="switch")
    resumed.load_state_dict(state)
    rates = applied(resumed.optimizer, 80)
    assert rates[::2] == pytest.approx(expected, rel=1e-12)  # every second update begins at a token of the old run
    assert resumed.history[0]["new"] == resumed.history[0]["old"]  # nothing jumped
