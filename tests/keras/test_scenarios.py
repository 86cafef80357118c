"""The real-world scenarios, as far as they concern Keras, measured from the change of a parameter."""

import os

import keras
import numpy as np
import pytest

import ratewise as rw
import ratewise.keras as rk
from ratewise.errors import ScheduleChanged

EAGER = {"run_eagerly": True}

once = pytest.mark.skipif("RATEWISE_INNER" in os.environ, reason="no backend has a part in it")

# 1. Resume at 60,000 of a cosine of 100,000 updates, and extend the run to 150,000


def planned(total):
    return rw.Cosine(3e-4, 3e-5).warmup(2000).over(total)


def resumed(probe, train, policy):
    model = probe(1, keras.optimizers.SGD(rk.Schedule(planned(100_000))), **EAGER)
    model.optimizer.iterations.assign(60_000)
    follow = rk.Follow(planned(150_000), on_change=policy)
    train(model, 1, callbacks=[follow])
    return model, follow


def test_scenario_1_another_length_is_refused_and_both_curves_are_shown(probe, train, applied_at):
    model = probe(1, keras.optimizers.SGD(rk.Schedule(planned(100_000))), **EAGER)
    model.optimizer.iterations.assign(60_000)
    before = model.get_weights()[0].tolist()
    with pytest.raises(ScheduleChanged) as refusal:
        train(model, 1, callbacks=[rk.Follow(planned(150_000))])
    for shown in ("60000", "1.265888e-04", "2.099739e-04", "1.6587", "100000 updates", "150000 updates"):
        assert shown in str(refusal.value)
    assert model.get_weights()[0].tolist() == before
    assert applied_at(model, [60_000]) == pytest.approx([1.265888e-4], rel=1e-6)


@once
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("keep", {60_000: 1.265888e-4, 99_999: planned(100_000)(99_999), 100_000: 3e-5, 149_999: 3e-5}),
        ("switch", {60_000: 2.099739e-4, 149_999: planned(150_000)(149_999), 150_000: 3e-5}),
        ("replan", {60_000: 1.265888e-4, 82_500: 1.124437e-4, 105_000: 7.829439e-5, 150_000: 3e-5, 151_000: 3e-5}),
        ("stretch", {60_000: 1.265888e-4, 105_000: 5.680916e-5, 150_000: 3e-5, 151_000: 3e-5}),
        ("rewarm(1000)", {60_000: 1.266695e-4, 61_000: planned(150_000)(61_000), 150_000: 3e-5}),
    ],
)
def test_scenario_1_every_policy_goes_on_as_it_says(probe, train, applied_at, policy, expected):
    model, follow = resumed(probe, train, policy)
    assert applied_at(model, expected) == pytest.approx(list(expected.values()), rel=2e-6)
    (entry,) = follow.history
    assert (entry["at"], entry["what"]) == (60_000, f"Follow(..., on_change='{policy}')")
    assert entry["end"] == 150_000


# 2. Resume with a lower peak


@pytest.mark.parametrize("policy", [None, "switch"])
def test_scenario_2_a_lower_peak(probe, train, near, tmp_path, policy):
    old, new = rw.cosine(1.0, steps=10), rw.cosine(0.1, steps=10)
    model = probe(10, keras.optimizers.SGD(rk.Schedule(old)))
    train(model, 5)
    model.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    if policy is None:
        with pytest.raises(ScheduleChanged, match="another lr schedule than the one given"):
            train(loaded, 5, start=5, callbacks=[rk.Follow(new)])
        return
    weights, _ = train(loaded, 5, start=5, callbacks=[rk.Follow(new, on_change=policy)])
    assert near(old.values(0, 5) + new.values(5, 10)) == [-w for w in weights]
    assert weights[5] == pytest.approx(-0.05)


def test_scenario_2_leaves_the_moments_as_they_are(probe, train, tmp_path):
    old, new = rw.cosine(1.0, steps=10), rw.cosine(0.1, steps=10)
    model = probe(10, keras.optimizers.Adam(rk.Schedule(old)), **EAGER)
    train(model, 5)
    before = [keras.ops.convert_to_numpy(v).tolist() for v in model.optimizer.variables]
    follow = rk.Follow(new, on_change="switch")
    follow.set_model(model)
    follow.on_train_begin()
    assert [keras.ops.convert_to_numpy(v).tolist() for v in model.optimizer.variables] == before


# 3. The same run with accumulation

EIGHTHS = [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]


def test_scenario_3_accumulation_of_four(probe, train, near):
    lr = rw.Linear(1.0, 0.0, 8)
    for optimizer, callbacks in [
        (keras.optimizers.SGD(rk.Schedule(lr, accumulation=4), gradient_accumulation_steps=4), []),
        (keras.optimizers.SGD(0.3, gradient_accumulation_steps=4), [rk.Follow(lr)]),
    ]:
        weights, _ = train(probe(32, optimizer), 32, callbacks=callbacks)
        assert near([rate / 4 for rate in EIGHTHS for _ in range(4)]) == [-w for w in weights]


# 4. More batches than were planned


@once
def test_scenario_4_past_the_end_the_rate_is_held_and_it_is_said_once(probe, train, applied_at, recwarn):
    lr = rw.cosine(0.1, steps=56_250)
    model = probe(4, keras.optimizers.SGD(0.3), **EAGER)
    model.optimizer.iterations.assign(56_249)
    train(model, 2, epochs=2, callbacks=[rk.Follow(lr)])
    (warning,) = [w for w in recwarn if "keras adapter" in str(w.message)]
    assert "the run is at update 56251, the schedule ended at 56250 and holds 0.0" in str(warning.message)
    assert applied_at(model, [56_250, 57_599, 90_000]) == [0.0, 0.0, 0.0]


# 5. The length is not known: decay when it is time


def test_scenario_5_decay_now_and_a_second_branch(probe, train, applied_at, tmp_path):
    lr = rw.Constant(1.0).warmup(100)
    model, follow = probe(1, keras.optimizers.SGD(0.3), **EAGER), rk.Follow(lr)
    assert "endless" in lr.table() or lr.steps is None
    model.optimizer.iterations.assign(4_999)
    train(model, 1, callbacks=[follow])
    model.save(tmp_path / "at-5000.keras")
    follow.decay_now(1000, shape="1-sqrt")
    expected = {4_999: 1.0, 5_000: 1.0, 5_500: 0.292893, 6_000: 0.0, 7_000: 0.0}
    assert applied_at(model, expected) == pytest.approx(list(expected.values()), rel=1e-5)
    model.save(tmp_path / "decaying.keras")
    assert applied_at(keras.models.load_model(tmp_path / "decaying.keras"), expected) == applied_at(model, expected)

    branch, second = keras.models.load_model(tmp_path / "at-5000.keras"), rk.Follow(lr)
    second.set_model(branch)
    branch.optimizer.iterations.assign(5_000)
    second.decay_now(2000)
    assert applied_at(branch, [5_000, 6_000, 7_000]) == pytest.approx([1.0, 0.292893, 0.0], rel=1e-5)
    assert applied_at(model, [5_500]) == pytest.approx([0.292893], rel=1e-5)


# 7. One schedule in every framework

LOOKED_AT = (0, 1, 9, 10, 11, 55, 98, 99, 100, 199)


@pytest.mark.parametrize("jit", [False, True])
def test_scenario_7_the_rate_is_that_of_every_framework(probe, train, jit):
    if jit and keras.backend.backend() == "torch":
        pytest.skip("torch compiles for seconds, and has compiled test_fit_applies_every_rate")
    lr = rw.Cosine(1.0, 0.0).warmup(10).over(100)
    weights, _ = train(probe(200, keras.optimizers.SGD(rk.Schedule(lr)), jit_compile=jit), 200)
    for t in LOOKED_AT:
        assert -weights[t] == pytest.approx(reference(t), rel=1e-6, abs=1e-9), t
    assert weights[99] != 0.0 == weights[100]


def reference(t):
    """Ten updates up, ninety down, in float64."""
    if t < 10:
        return (t + 1) / 10
    return 0.5 * (1 + np.cos(np.pi * min(t - 10, 90) / 90))


# 13. The cell that makes the schedule is run again


def test_scenario_13_the_same_cell_again_goes_on_and_a_new_compile_begins_anew(probe, train, near):
    lr = rw.linear_decay(1.0, steps=10)
    model = probe(10, keras.optimizers.SGD(0.3))
    train(model, 8, callbacks=[rk.Follow(lr)])
    weights, _ = train(model, 2, start=8, callbacks=[rk.Follow(lr)])
    assert near(lr.values(0, 10)) == [-w for w in weights]
    fresh = probe(2, keras.optimizers.SGD(0.3))
    weights, _ = train(fresh, 2, callbacks=[rk.Follow(lr)])
    assert near([1.0, 0.9]) == [-w for w in weights]
