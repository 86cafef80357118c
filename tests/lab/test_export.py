"""A study's runs as a table: every run, every figure, in files that others read."""

import csv
import json
import sys

import pytest

from ratewise.errors import LabError, MissingDependency, StoreError
from ratewise.lab.export import export_runs
from ratewise.lab.runs import Run
from ratewise.lab.store import Store

CURVE = {"updates": [0.0, 1.0], "loss": [2.3, 0.1 + 0.2]}
RESULT = {"loss": 0.1 + 0.2, "metric": 0.9, "first": 2.3, "diverged": None, "curve": CURVE, "marks": [25, 50]}
DIVERGED = {"loss": None, "metric": None, "first": 2.3, "diverged": 7, "curve": CURVE, "marks": [], "test": [0.5]}


def run_of(seed):
    return Run("0" * 16, 'co"si,ne', "sgd(lr=Cosine(0.1, 0.0))", 0.1, seed, "tune", 50, "population")


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "runs.journal"
    with Store(path, write=True) as kept:
        kept.open_study("study")
        kept.add([(run_of(3), RESULT), (run_of(1), DIVERGED)])
    return path


def test_csv_has_a_row_per_run_and_numbers_that_come_back_exactly(store, tmp_path):
    assert export_runs("study", store, tmp_path / "runs.csv") == 2
    with open(tmp_path / "runs.csv", newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert list(first)[:9] == ["task", "strategy", "spec", "rate", "seed", "phase", "steps", "engine", "dtype"]
    assert [first["strategy"], first["seed"], first["diverged"], first["test"]] == ['co"si,ne', "3", "", ""]
    assert float(first["loss"]) == 0.1 + 0.2
    assert json.loads(first["curve"]) == CURVE
    assert [second["loss"], second["diverged"], second["test"]] == ["", "7", "[0.5]"]


def test_parquet_has_the_same_columns_whatever_the_study_holds(store, tmp_path):
    from pyarrow import parquet

    export_runs("study", store, tmp_path / "runs.parquet")
    table = parquet.read_table(tmp_path / "runs.parquet")
    types = {name: str(table.schema.field(name).type) for name in ("seed", "rate", "loss", "diverged", "curve")}
    assert types == {"seed": "int64", "rate": "double", "loss": "double", "diverged": "int64", "curve": "string"}
    assert table.column("loss").to_pylist() == [0.1 + 0.2, None]
    assert table.column("diverged").to_pylist() == [None, 7]


def test_json_keeps_curves_as_they_are(store, tmp_path):
    export_runs("study", store, tmp_path / "a" / "runs.json")
    first, second = json.loads((tmp_path / "a" / "runs.json").read_text())
    assert first["curve"] == CURVE
    assert (second["loss"], second["seed"]) == (None, 1)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["runs.json"]


def test_an_export_that_cannot_be_made_says_why_and_leaves_the_old_file(store, tmp_path, monkeypatch):
    with pytest.raises(LabError, match=r"the file must end in \.csv, \.parquet, \.json, got 'runs\.xlsx'"):
        export_runs("study", store, tmp_path / "runs.xlsx")
    old = tmp_path / "runs.parquet"
    old.write_text("old")
    with pytest.raises(StoreError, match="no study 'stduy'"):
        export_runs("stduy", store, old)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"export to \.parquet: pyarrow is not installed"):
        export_runs("study", store, old)
    assert old.read_text() == "old"
