"""Strategies beyond schedules in a real comparison: rules that are fed, optimizers that train one by one."""

import pytest
import torch

from ratewise import Budget, Constant, Plateau, Strategy, Task, compare
from ratewise.errors import UnknownName
from ratewise.lab.runs import Member, engine_of

schedulefree = pytest.importorskip("schedulefree")
pytest.importorskip("prodigyopt")

RNG = torch.Generator().manual_seed(0)
X = torch.randn(200, 4, generator=RNG)
Y = (X[:, 0] + 0.3 * X[:, 1] > 0).long()
TASK = Task("signs", data=(X, Y), model=lambda: torch.nn.Linear(4, 2), steps=30, batch_size=10)
QUICK = Budget(rates=3, tuning_seeds=1, fresh_seeds=9, slides=1)


def trained(strategy, steps=30):
    (outcome,) = engine_of(TASK, "one-by-one").cohort([Member(strategy.over(steps), 0, steps, "tune")])
    return outcome


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    names = ["schedule_free_sgd", "schedule_free_adamw", "prodigy", "plateau", "greedy", "cosine"]
    return compare(TASK, names, QUICK, tmp_path_factory.mktemp("store") / "runs.log", workers=1)


def test_every_one_of_them_is_compared_with_the_control(found):
    rows = {row["name"]: row for row in found["strategies"]}
    assert rows.keys() == {
        *("schedule_free_sgd", "schedule_free_adamw", "prodigy", "plateau", "greedy", "cosine", "adamw")
    }
    assert [name for name, row in rows.items() if row["control"]] == ["adamw"]
    for row in rows.values():
        assert row["test"]["n"] == 9
        assert row["test"]["loss"]["mean"] < 0.6  # ln 2 = 0.69 is chance


def test_the_table_says_what_trained_one_by_one(found):
    how = {row["name"]: row["trained"] for row in found["strategies"]}
    assert how["cosine"] == how["adamw"] == "population"
    for name in ("schedule_free_sgd", "schedule_free_adamw", "prodigy", "plateau", "greedy"):
        assert how[name].startswith("one by one"), name


def test_a_rule_sees_the_validation_loss_at_every_mark():
    slow = trained(Strategy("fixed", "sgd", Constant(1e-3)))
    cut = trained(Strategy("cut", "sgd", Constant(1e-3) * Plateau(1e-9, patience=1, atol=9.0)))  # never good enough
    assert cut.held["valid"][:2] == slow.held["valid"][:2]  # the first measurement is the first to improve on
    assert cut.held["valid"][2:] == pytest.approx([cut.held["valid"][1]] * 8, rel=1e-6)
    assert slow.held["valid"][2] < slow.held["valid"][1]


def test_schedule_free_is_measured_at_its_average():
    strategy = Strategy("mine", "schedule_free_sgd", Constant(0.5), momentum=0.9)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 2)
    optimizer = schedulefree.SGDScheduleFree(model.parameters(), lr=0.5, momentum=0.9)
    optimizer.train()
    for inputs, targets in TASK.stream(0, 30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.tensor(inputs)), torch.tensor(targets)).backward()
        optimizer.step()
    inputs, targets = map(torch.tensor, TASK.splits["valid"])
    at_y = torch.nn.functional.cross_entropy(model(inputs), targets).item()
    optimizer.eval()
    at_x = torch.nn.functional.cross_entropy(model(inputs), targets).item()
    assert trained(strategy).loss == pytest.approx(at_x, rel=1e-5)
    assert abs(at_y - at_x) > 1e-3 * at_x


@pytest.mark.parametrize("optimizer", ["lbfgs", "adafactor", "torch.optim:ASGD"])
def test_other_optimizers_learn_too(optimizer):
    settings = (("line_search_fn", "strong_wolfe"), ("max_iter", 2)) if optimizer == "lbfgs" else ()
    outcome = trained(Strategy("mine", optimizer, Constant(0.1), settings=settings), steps=10)
    assert (outcome.updates, outcome.trained) == (10, "one by one")
    assert outcome.held["valid"][-1] < 0.95 * outcome.held["valid"][0]


def test_an_optimizer_that_does_not_exist_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(UnknownName, match="unknown optimizer 'prodgy'"):
        compare(TASK, [Strategy("mine", "prodgy", Constant(1.0))], QUICK, tmp_path / "runs.log", workers=1)
    assert not (tmp_path / "runs.log").exists()
