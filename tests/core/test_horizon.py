"""Lengths with units, and how a run settles them."""

from fractions import Fraction
from typing import Any

import pytest

import ratewise as rw
from ratewise.errors import ScheduleError

RUN = rw.Horizon(epochs=3, dataset_size=1000, batch_size=32, accumulation=2, tokens_per_sample=50)


def test_an_epoch_is_rounded_up_to_whole_updates_and_flushed() -> None:
    assert RUN.total_steps == 48  # 32 batches, two to an update
    assert rw.Horizon(epochs=3, dataset_size=1000, batch_size=32, drop_last=True, accumulation=2).total_steps == 48
    assert rw.Horizon(epochs=3, dataset_size=992, batch_size=32).total_steps == 93
    assert rw.Horizon(epochs=3, dataset_size=993, batch_size=32).total_steps == 96
    assert rw.Horizon(epochs=3, dataset_size=993, batch_size=32, drop_last=True).total_steps == 93
    assert rw.Horizon(epochs=3, dataset_size=992, batch_size=32, accumulation=2).total_steps == 48
    assert rw.Horizon(epochs=3, dataset_size=992, batch_size=32, accumulation=2, carry=True).total_steps == 47
    assert rw.Horizon(epochs=3, dataset_size=1000, batch_size=8, world_size=4, accumulation=2).total_steps == 48
    assert rw.Horizon(epochs=0.5, dataset_size=1000, batch_size=100).total_steps == 5
    assert rw.Horizon(epochs=0.25, dataset_size=1000, batch_size=100).total_steps == 3  # half up


@pytest.mark.parametrize(
    ("length", "updates"),
    [
        (rw.epochs(1), 16),
        (rw.epochs(0.1), Fraction(8, 5)),
        (rw.samples(640), 10),
        (rw.tokens(3200), 1),
        (rw.fraction(0.29), Fraction(48 * 29, 100)),
        (rw.fraction(1), 48),
        (7, 7),
        (2.5, Fraction(5, 2)),
    ],
    ids=repr,
)
def test_lengths_are_exact_fractions_of_updates(length: Any, updates: Fraction) -> None:
    assert RUN.updates(length) == updates


@pytest.mark.parametrize(("amount", "steps"), [(0.29, 29), (0.57, 57), (0.07, 7), (0.145, 15), (0.001, 1), (1, 100)])
def test_decimals_count_as_written_and_halves_go_up(amount: float, steps: int) -> None:
    assert rw.Linear(0.1, 0.0, rw.fraction(amount)).over(100).steps == steps


def test_joints_are_rounded_as_sums() -> None:
    third = rw.Constant(1.0, rw.fraction(0.125))
    a = rw.sequence(*[third] * 4, rw.Constant(0.0)).over(20)  # 2.5, 5, 7.5, 10
    assert [piece.steps for piece in a.pieces] == [3, 2, 3, 2, 10]  # type: ignore[attr-defined]


def test_open_pieces_take_what_is_left() -> None:
    a = rw.Linear(0.0, 1.0, 10) >> rw.Constant(1.0) >> rw.Linear(1.0, 0.0, rw.epochs(1))
    assert [piece.steps for piece in a.over(RUN).pieces] == [10, 22, 16]  # type: ignore[attr-defined]
    assert rw.Cosine(0.1, 0.0).warmup(rw.fraction(0.25)).over(RUN).steps == 48
    assert rw.fixed(0.1).over(7) == rw.Constant(0.1, 7)
    assert rw.Cosine(0.1, 0.0, 10).over(100).steps == 10
    assert (rw.Cosine(1.0, 0.0) * rw.Exponential(1.0, 0.5, rw.epochs(1))).over(RUN).steps == 48


def test_a_fraction_is_of_the_whole_run_wherever_it_stands() -> None:
    a = (rw.Linear(0.0, 1.0, 50) >> rw.Linear(1.0, 0.0, rw.fraction(0.5))).over(100)
    assert a.steps == 100


def test_typed_lengths_are_accepted_wherever_a_length_is() -> None:
    e = rw.epochs(1)  # 16 updates
    assert rw.Exponential(1.0, 0.5, every=e).over(RUN)(32) == 0.25
    assert rw.InverseTime(1.0, 1.0, every=e).over(RUN)(48) == 0.25
    assert rw.Piecewise([3.0, 2.0, 1.0], [e, 20]).over(RUN).values(15, 21) == [3.0, 2.0, 2.0, 2.0, 2.0, 1.0]
    assert rw.Linear(1.0, 0.0, 48).stairs(e).over(RUN)(31) == pytest.approx(2 / 3)
    assert rw.Linear(1.0, 0.0).until(e).over(RUN)(16) == pytest.approx(2 / 3)
    assert rw.Linear(1.0, 0.0).after(e).over(RUN)(0) == pytest.approx(0.75)  # 16 of 64: it then fills the run
    assert rw.InverseTime(1.0, 0.1).warmup(e).cooldown(e).over(RUN).steps == 48
    assert rw.cyclical(0.0, 1.0, rw.fraction(0.25)).over(RUN)(12) == 1.0
    assert rw.inverse_sqrt(1.0, timescale=e).over(RUN)(48) == 0.5
    assert rw.sgdr(1.0, e).over(RUN)(16) == 1.0


def test_a_cooldown_after_an_open_decay_takes_the_last_updates_of_the_run() -> None:
    a = rw.InverseTime(1.0, 0.1).cooldown(5, end=0.25, shape="linear").over(20)
    assert a(15) == rw.InverseTime(1.0, 0.1)(15)
    assert a(20) == 0.25
    assert rw.Exponential(1.0, 0.5).cooldown(rw.fraction(0.25)).over(10).pieces[1].steps == 2  # type: ignore[attr-defined]


def test_a_cooldown_after_a_typed_length_is_appended() -> None:
    a = rw.Linear(1.0, 0.5, rw.epochs(1)).stairs(rw.samples(64)).cooldown(5).over(RUN)
    assert a.steps == 21
    assert rw.Linear(1.0, 0.5, rw.epochs(1)).cooldown(5).over(RUN).steps == 21


def test_a_warmup_before_an_unresolved_schedule_knows_its_first_value() -> None:
    for a in (rw.step_decay(0.1), rw.cosine(0.1), 0.5 * rw.cosine(0.2), rw.cosine(0.2).clip(0.0, 0.1), rw.wsd(0.1, 0)):
        assert a.warmup(4).over(100)(3) == 0.1
    assert rw.one_cycle(1.0).warmup(4).over(100)(3) == 0.04


def test_rounding_inside_an_operator_does_not_overrun() -> None:
    half = rw.Linear(1.0, 0.0, rw.fraction(0.125))  # 2.5 of 20
    for inner in ((half >> half).clip(0.0, 1.0), half * half, half.repeat(2), (half >> half).stretch(1.5)):
        assert (half >> inner >> rw.Constant(0.1)).over(20).steps == 20


def test_a_run_prints_what_it_resolved() -> None:
    assert str(RUN) == (
        "updates in the run  48\n"
        "epochs in the run   3\n"
        "updates per epoch   16  (1000 samples are 32 batches of 32, 2 to an update)\n"
        "samples per update  64  (32 x 2)\n"
        "samples in the run  3072  (every batch counted as full)\n"
        "tokens per update   3200  (32 x 2 x 50)\n"
        "tokens in the run   153600  (every batch counted as full)"
    )
    assert eval(repr(RUN), {"Horizon": rw.Horizon}) == RUN


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (rw.Horizon, "needs total_steps of at least 1, or epochs with dataset_size and batch_size"),
        (lambda: rw.Horizon(total_steps=None), "needs total_steps of at least 1, or epochs"),
        (lambda: rw.Horizon(epochs=3), "epochs need dataset_size and batch_size"),
        (lambda: rw.Horizon(epochs=3, dataset_size=10, batch_size=0), "batch_size must be an integer of at least 1"),
        (
            lambda: rw.Horizon(epochs=3, dataset_size=1000, batch_size=10, total_steps=5),
            r"disagree: 3 epochs .* are 300",
        ),
        (lambda: rw.Horizon(epochs=3, dataset_size=5, batch_size=10, drop_last=True), "has no batch of 10"),
        (lambda: rw.Horizon(total_steps=10, drop_last=1), "drop_last must be True or False, got 1"),
        (lambda: rw.Constant(0.1, rw.samples(5)).over(10), r"needs batch_size. Write Horizon\(..., batch_size"),
        (lambda: rw.Constant(0.1, rw.epochs(5)).over(10), "needs batch_size"),
        (lambda: rw.Constant(0.1, rw.tokens(1e300)).over(RUN), "needs [0-9]+... updates|needs [0-9.]+"),
        (lambda: rw.Constant(0.1, rw.epochs(4)).over(RUN), "needs 64 updates, the run has 48"),
    ],
)
def test_a_run_that_cannot_be_is_refused(make: Any, match: str) -> None:
    with pytest.raises(ScheduleError, match=match) as caught:
        make()
    assert len(str(caught.value)) < 400


def test_total_steps_with_epochs_gives_the_length_of_an_epoch() -> None:
    run = rw.Horizon(total_steps=100, epochs=4)
    assert rw.Constant(0.1, rw.epochs(1)).over(run).steps == 25
