"""Claims are measured with real training; here those that take seconds."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from ratewise.cli.replicate import replicate as command
from ratewise.core import recipes
from ratewise.errors import LabError, UnknownName
from ratewise.lab.runs import engine_of
from ratewise.replicate import claims, replicate
from ratewise.replicate.bench import Bench
from ratewise.replicate.decay import _alike
from ratewise.replicate.rates import lowest
from ratewise.replicate.regression import GRID, SPECTRUM
from ratewise.replicate.schedules import NINETEEN, sgd

PEOPLE_SAY = {
    "too-high", "too-low", "decay-under-noise", "one-cycle-sooner", "cyclical-bounds", "adagrad-stops",
    "warmup-stability", "exponential-aggressive", "adaptive-tuning",
}  # fmt: skip
PAPERS_SAY = {
    "edge-of-stability", "quadratic-limit", "schedule-free-convex", "linear-scaling", "decay-to-zero",
    "rate-falls-with-horizon", "linear-to-zero", "races-mislead", "label-noise", "best-checkpoint", "finder-rules",
    "vmap-speed", "one-cycle-regularises",
}  # fmt: skip
PILOTS_DENIED = {"warmup-deep-adam", "budget-aware", "linear-beats-wsd"}


def test_the_suite_has_the_claims_of_the_cards_of_the_papers_and_the_nulls() -> None:
    assert set(claims()) == PEOPLE_SAY | PAPERS_SAY | PILOTS_DENIED
    assert all(one.source and one.setting.endswith(".") for one in claims().values())


def test_nineteen_schedules_are_nineteen_and_share_the_centre_of_their_search() -> None:
    assert len(NINETEEN) == 19
    assert {round(strategy.peak(600), 6) for strategy in NINETEEN.values()} == {0.1}


def test_quadratics_diverge_at_the_limit() -> None:
    (found,) = replicate(["quadratic-limit"], quick=True)["claims"]
    assert found["verdict"] == "holds"
    for _, _, least, most in found["rows"]:
        assert 0.99 <= float(least) <= float(most) <= 1.01


def test_decay_beats_a_constant_rate_on_a_noisy_stream() -> None:
    found = replicate(["decay-to-zero"], quick=True)
    assert found["claims"][0]["verdict"] == "holds"
    assert found["cost"]["updates"] == found["claims"][0]["updates"] > 0


def test_too_high_rates_lose_and_too_low_rates_crawl() -> None:
    found = replicate(["too-high", "too-low"], quick=True)
    assert [entry["verdict"] for entry in found["claims"]] == ["holds", "holds"]
    assert found["claims"][1]["updates"] == 0  # the same runs
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_window_far_from_the_best_rate_moves_until_the_best_is_inside() -> None:
    bench = Bench()
    task = bench.task("wine")
    near, far = (sgd("linear", recipes.linear_decay(peak)) for peak in (0.1, 0.1 * 2.0**-6))
    rates = [bench.tuned(task, {"linear": s}, steps=40, seeds=2)["linear"] for s in (near, far)]
    assert not rates[1].edge
    assert math.log2(rates[1].rate / rates[0].rate) == pytest.approx(0.0, abs=1e-9)
    spent = bench.updates
    bench.tuned(task, {"linear": near}, steps=40, seeds=2)
    assert bench.updates == spent  # remembered


def test_runs_that_diverge_count_as_having_learned_nothing() -> None:
    bench = Bench()
    wanted = {"fixed": (NINETEEN["fixed"], [0.01, 1e6])}
    runs = bench.runs(bench.task("diabetes"), wanted, range(3), steps=40)["fixed"]
    assert np.isinf(runs.loss[1]).all()
    assert (runs.capped[1] == runs.first[1]).all()
    assert (runs.learned[0] < runs.first[0]).all()
    assert runs.valid.shape == runs.test.shape == (2, 3, 10)


def test_schedules_are_alike_only_if_they_tie() -> None:
    ties, unclear, worse = ["tie"], ["unresolved"], ["worse"]
    assert _alike(3 * ties + unclear).seen is True
    assert _alike(2 * ties + 2 * unclear).seen is None
    assert _alike(2 * ties + 2 * worse).seen is False
    assert _alike(4 * unclear).seen is None


def test_a_run_alone_can_be_trained_alone() -> None:
    bench = Bench()
    task = bench.task("wine")
    jax = engine_of(task, "jax")
    single = type(jax)(task, lanes=1)
    assert [engine._lanes(1) for engine in (jax, single)] == [8, 1]


def test_the_place_of_a_parabola_is_found() -> None:
    places = np.arange(-6.0, 1.0)
    assert lowest(places, np.exp((places + 2.3) ** 2)) == pytest.approx(-2.3)


def test_the_grid_of_the_stream_reaches_beyond_stability() -> None:
    assert GRID[-1] * SPECTRUM[0] > 2


def test_unknown_claims_and_claims_without_a_small_size_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"unknown claim 'too-hihg'.*too-high"):
        replicate(["too-hihg"])
    with pytest.raises(LabError, match="'adaptive-tuning' cannot be told at small sizes"):
        replicate(["adaptive-tuning"], quick=True)


def test_the_command_prints_json_and_writes_a_page_that_keeps_other_claims(tmp_path: pytest.TempPathFactory) -> None:
    app = typer.Typer()
    app.command()(command)
    path = f"{tmp_path}/found.md"
    for name in ("quadratic-limit", "decay-to-zero"):
        done = CliRunner().invoke(app, [name, "--quick", "--json", "--write", path])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["claims"][0]["name"] == name
    with open(path, encoding="utf-8") as file:
        page = file.read()
    assert page.count("**Holds**") == 2
    assert "small sizes" in page


@pytest.mark.parametrize("damaged", ["", '{"claims": [', "[]", '{"claims": [{"name": "too-high"}]}'])
def test_numbers_that_are_damaged_are_refused_in_a_sentence_and_stay_as_they_are(tmp_path: Path, damaged: str) -> None:
    app = typer.Typer()
    app.command()(command)
    data = tmp_path / "found.json"
    data.write_text(damaged, encoding="utf-8")
    done = CliRunner().invoke(app, ["quadratic-limit", "--quick", "--write", str(tmp_path / "found.md")])
    assert isinstance(done.exception, LabError)
    assert "found.json does not hold what an earlier --write has measured" in str(done.exception)
    assert data.read_text(encoding="utf-8") == damaged
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_a_page_cannot_have_the_name_of_its_numbers(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, ["quadratic-limit", "--quick", "--write", str(tmp_path / "found.json")])
    assert done.exit_code == 2
    assert not list(tmp_path.iterdir())
