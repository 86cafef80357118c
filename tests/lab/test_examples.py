"""The files in examples/ are complete: each is compared as it stands, with a tiny budget."""

import ast
from pathlib import Path

import pytest

from ratewise import Budget, compare
from ratewise.lab.loading import load

EXAMPLES = Path(__file__).parents[2] / "examples"
ENGINES = {"keras_task": "keras", "jax_task": "jax"}
QUICK = Budget(steps=3, rates=3, tuning_seeds=1, fresh_seeds=6, slides=0)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*_task.py")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3 under numpy 2
def test_the_task_can_be_compared_as_it_stands(path, tmp_path, capsys):
    engine = ENGINES.get(path.stem, "population")
    pytest.importorskip({"keras": "keras", "jax": "flax"}.get(engine, "torch"))
    found = compare(f"{path}:task", ["linear"], QUICK, tmp_path / "runs.log", engine=engine, workers=1)
    rows = {row["name"]: row for row in found["strategies"]}
    assert rows.keys() == {"linear", "adamw"}
    for row in rows.values():
        assert row["test"]["n"] == 6
        assert 0 < row["test"]["loss"]["low"] < 10
    assert capsys.readouterr().out == ""  # what goes there would stand in --json


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*_task.py")), ids=lambda path: path.stem)
def test_the_task_itself_is_a_few_lines_and_says_how_to_run_it(path):
    text = path.read_text()
    assert f"``ratewise compare examples/{path.name}:task" in (ast.get_docstring(ast.parse(text)) or "")
    tree = ast.parse(text)
    made = next(node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "task")
    assert made.end_lineno - made.lineno < 15


def test_the_language_model_shares_no_text_between_its_parts():
    splits = load(f"{EXAMPLES / 'language_model_task.py'}:task").splits
    seen = {name: {row.tobytes() for row in inputs} for name, (inputs, _) in splits.items()}
    assert len(seen["train"] & (seen["valid"] | seen["test"])) < 0.1 * len(seen["valid"])  # spaces repeat


def test_a_loader_trains_the_same_in_both_engines_and_for_every_strategy(tmp_path):
    from ratewise.lab.catalogue import strategy
    from ratewise.lab.runs import Member, engine_of

    task = load(f"{EXAMPLES / 'dataloader_task.py'}:task")
    members = [Member(strategy(name).over(20), seed, 20, "tune") for name in ("cosine", "linear") for seed in (0, 1)]
    together, alone = (engine_of(task, name).cohort(members) for name in ("population", "one-by-one"))
    assert [outcome.trained for outcome in together] == ["population"] * 4
    for one, other in zip(together, alone, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-3)
    assert together[0].losses[0] == pytest.approx(together[2].losses[0], rel=1e-6)  # same seed: same first batch
    assert together[0].losses[0] != pytest.approx(together[1].losses[0], rel=1e-6)
