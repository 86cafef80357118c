"""Counting updates, samples, tokens and epochs, against loops that draw every batch."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

import ratewise as rw
from ratewise.errors import ScheduleError

units = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

sizes = st.integers(1, 9)
ramped = st.one_of(
    sizes,
    st.lists(st.tuples(st.integers(1, 30), sizes), min_size=1, max_size=3, unique_by=lambda x: x[0]).map(
        lambda later: [(0, 4), *sorted(later)]
    ),
)
loaders = st.fixed_dictionaries(
    {"dataset_size": st.integers(1, 60), "drop_last": st.booleans(), "carry": st.booleans()},
)


def now(size: Any, t: int) -> int:
    """The size that update ``t`` has."""
    return size if isinstance(size, int) else [value for start, value in size if start <= t][-1]


def drawn(epochs: int, batch: Any, accumulation: Any, workers: Any, loader: dict[str, Any]) -> list[int]:
    """How many updates have happened when each epoch is over, drawing one batch after the other."""
    done, micro, ends = 0, 0, []
    for _ in range(epochs):
        left, empty = loader["dataset_size"], True
        while left > 0:
            size = now(batch, done) * now(workers, done)
            if left < size and loader["drop_last"]:
                break
            left, micro, empty = left - size, micro + 1, False
            if micro == now(accumulation, done):
                done, micro = done + 1, 0
        if empty:
            return []
        if micro and not loader["carry"]:
            done, micro = done + 1, 0
        ends.append(done)
    return ends


@units
@given(st.integers(1, 12), sizes, sizes, sizes, loaders)
def test_epochs_are_the_updates_that_a_loop_makes(
    epochs: int, batch: int, accumulation: int, workers: int, loader: dict[str, Any]
) -> None:
    ends = drawn(epochs, batch, accumulation, workers, loader)
    given_: dict[str, Any] = {"batch_size": batch, "accumulation": accumulation, "world_size": workers, **loader}
    if not ends:
        with pytest.raises(ScheduleError, match="has no batch of"):
            rw.Horizon(epochs=epochs, **given_)
        return
    run = rw.Horizon(epochs=epochs, **given_)
    if loader["carry"]:  # the loop leaves what remains for later; half an update or more is one
        assert run.total_steps in (max(ends[-1], 1), ends[-1] + 1)
        batches = math.ceil(loader["dataset_size"] / (batch * workers)) if not loader["drop_last"] else (
            loader["dataset_size"] // (batch * workers)
        )  # fmt: skip
        assert run.updates(rw.epochs(epochs)) == Fraction(epochs * batches, accumulation)
    else:
        assert run.total_steps == ends[-1]
        assert [run.updates(rw.epochs(i + 1)) for i in range(epochs)] == ends
    assert run.position(7).samples == 7 * batch * accumulation * workers


@units
@given(st.integers(1, 12), ramped, ramped, ramped, loaders)
def test_epochs_of_a_batch_ramp_are_the_updates_that_a_loop_makes(
    epochs: int, batch: Any, accumulation: Any, workers: Any, loader: dict[str, Any]
) -> None:
    loader = {**loader, "carry": False}
    ends = drawn(epochs, batch, accumulation, workers, loader)
    last = max(size[-1][0] for size in (batch, accumulation, workers, [(0, 1)]) if not isinstance(size, int))
    assume(ends and last < ends[-1])  # the rest is refused, see below
    run = rw.Horizon(
        epochs=epochs, batch_size=batch, accumulation=accumulation, world_size=workers, tokens_per_sample=3, **loader
    )
    assert run.total_steps == ends[-1]
    used = 0
    for t in range(run.total_steps):
        assert run.position(t).samples == used
        assert run.position(t).tokens == 3 * used
        assert run.update_at(rw.samples(used) if used else 0) == t
        used += now(batch, t) * now(accumulation, t) * now(workers, t)
    for epoch, end in enumerate(ends, 1):
        assert run.position(end).epochs == epoch


# -- a batch ramp leaves the rate as a function of tokens as it was ------------------------------------------------

WSD = rw.wsd(1.0, warmup=rw.fraction(0.1), cooldown=rw.fraction(0.2))
RAMPED = rw.Horizon(rw.samples(480), batch_size=[(0, 8), (20, 16)], tokens_per_sample=10)
PLAIN = rw.Horizon(rw.samples(480), batch_size=8, tokens_per_sample=10)


def test_a_batch_that_doubles_after_160_samples_decays_to_the_last_token() -> None:
    assert (RAMPED.total_steps, PLAIN.total_steps) == (40, 60)
    assert RAMPED.position(20).samples == 160
    a, b = WSD.over(RAMPED), WSD.over(PLAIN)
    assert a.steps == 40
    assert a(40) == b(60) == 0.0 < a(39)
    by_tokens = {PLAIN.position(t).tokens: b(t) for t in range(61)}
    for t in range(41):
        assert a(t) == by_tokens[RAMPED.position(t).tokens]


@units
@given(
    st.lists(
        st.tuples(st.integers(1, 8).map(lambda i: 12 * i), st.sampled_from([1, 2, 3, 4, 6])),
        min_size=1, max_size=4, unique_by=lambda x: x[0],
    )
)  # fmt: skip
def test_the_rate_of_a_token_does_not_depend_on_the_batch(later: list[tuple[int, int]]) -> None:
    ramp = [(0, 4), *((start, 4 * factor) for start, factor in sorted(later))]
    ramped_, plain = (rw.Horizon(rw.samples(2400), batch_size=size) for size in (ramp, 4))
    assume(ramped_.position(ramped_.total_steps).samples == 2400)  # both runs end with the same sample
    schedule = rw.Cosine(1.0, 0.1).warmup(rw.samples(240)) >> rw.Constant(0.1, rw.fraction(0.25))
    a, b = schedule.over(ramped_), schedule.over(plain)
    for t in range(ramped_.total_steps):
        used = ramped_.position(t).samples
        assert used is not None
        assert a(t) == b(used // 4)


def test_resuming_on_fewer_workers_leaves_the_rate_of_a_token_as_it_was() -> None:
    schedule = rw.Cosine(1.0, 0.0).warmup(rw.tokens(640))
    eight = rw.Horizon(rw.tokens(64_000), batch_size=4, world_size=8, tokens_per_sample=10)
    fewer = rw.Horizon(rw.tokens(64_000), batch_size=4, world_size=[(0, 8), (50, 4)], tokens_per_sample=10)
    a, b = schedule.over(eight), schedule.over(fewer)
    assert (eight.total_steps, fewer.total_steps) == (200, 350)
    assert b.values(0, 50) == a.values(0, 50)
    assert b.values(50, 350)[::2] == a.values(50, 200)


def test_a_schedule_in_plain_updates_counts_the_real_ones() -> None:
    a = rw.Linear(1.0, 0.0).warmup(10).over(RAMPED)
    assert a == rw.Linear(1.0, 0.0, 30).warmup(10)


def test_plain_and_typed_lengths_do_not_mix_where_the_batch_changes() -> None:
    with pytest.raises(ScheduleError, match=r"Write all lengths typed \(samples\(80\) for steps=10\), or all plain"):
        rw.Linear(1.0, 0.0, rw.tokens(100)).warmup(10).over(RAMPED)


def test_a_run_tells_what_it_resolved() -> None:
    assert str(RAMPED) == (
        "updates in the run  40\n"
        "samples per update  8, 16 from update 20 on\n"
        "samples in the run  480\n"
        "tokens per update   80, 160 from update 20 on\n"
        "tokens in the run   4800"
    )
    run = rw.Horizon(epochs=3, dataset_size=1000, batch_size=32, accumulation=2)
    lines = run.table(rw.Cosine(1.0, 0.0).warmup(rw.fraction(0.1))).splitlines()
    assert [line.split() for line in lines] == [
        ["piece", "length", "exact", "updates", "from", "to", "first", "last"],
        ["Linear(0.0,", "1.0,", "fraction(0.1),", 'ends="(]")', "fraction(0.1)", "4.8", "5", "0", "4", "0.2", "1"],
        ["Cosine(1.0,", "0.0)", "the", "rest", "43.2", "43", "5", "47", "1", "0.00133386"],
        ["the", "run", "48", "0", "47", "0.2", "0.00133386"],
    ]


def test_errors_show_the_arithmetic() -> None:
    run = rw.Horizon(epochs=3, dataset_size=1000, batch_size=32, accumulation=2)
    with pytest.raises(ScheduleError, match=r"samples\(6400\) / \(32 x 2\) are 100 updates"):
        rw.Linear(1.0, 0.0, rw.samples(6400)).over(run)
    with pytest.raises(ScheduleError, match=r"epochs\(2\) of 1000 samples / \(32 x 2\) are 32 updates"):
        (rw.Linear(1.0, 0.0, rw.epochs(2)) >> rw.Linear(1.0, 0.0, rw.epochs(2))).over(run)
    with pytest.raises(ScheduleError, match="total_steps \\(10\\) and epochs disagree"):
        rw.Horizon(total_steps=10, epochs=3, dataset_size=1000, batch_size=32)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"batch_size": [(0, 8), (20, 16)], "total_steps": 20}, "the batch changes at update 20, but the run has 20"),
        ({"batch_size": [(1, 8)], "total_steps": 20}, "the updates must start at 0 and rise strictly"),
        ({"batch_size": [(0, 8), (5, 9), (5, 10)], "total_steps": 20}, "rise strictly"),
        ({"batch_size": [], "total_steps": 20}, r"a ramp of \(update, value\) pairs such as"),
        ({"batch_size": [(0, 0)], "total_steps": 20}, "batch_size from update 0 on must be an integer of at least 1"),
        ({"batch_size": [(0, 8, 1)], "total_steps": 20}, r"got \(0, 8, 1\) in"),
        ({"batch_size": [8, 16], "total_steps": 20}, "got 8 in"),
        ({"batch_size": [(0, True)], "total_steps": 20}, "must be an integer of at least 1"),
        ({"batch_size": "8", "total_steps": 20}, "batch_size must be an integer of at least 1"),
        ({"batch_size": [(-1, 8)], "total_steps": 20}, "an update must be an integer from 0"),
        ({"total_steps": rw.fraction(0.5)}, "a part of it"),
        ({"total_steps": rw.epochs(3), "epochs": 3}, "say the same"),
        ({"total_steps": rw.tokens(1e18), "batch_size": 1, "tokens_per_sample": 1}, r"more than 2\*\*53"),
        ({"total_steps": math.nan}, "total_steps must be an integer"),
        ({"epochs": math.inf, "dataset_size": 3, "batch_size": 1}, "epochs"),
    ],
)
def test_a_run_that_cannot_be_is_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ScheduleError, match=match):
        rw.Horizon(**arguments)
