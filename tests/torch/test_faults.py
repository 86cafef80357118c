"""Wrong arguments, foreign states and damaged ones: a clear error before anything has changed, or no harm at all."""

import copy
import json
import math
import warnings
from decimal import Decimal
from fractions import Fraction

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings, strategies as st

import ratewise as rw
from ratewise.errors import AdapterError, ScheduleChanged, ScheduleError
from ratewise.torch import Scheduler

LR = rw.linear_decay(0.4, steps=8)


# -- arguments -----------------------------------------------------------------------------------------------

WRONG = {
    "bool": ({"lr": True}, "lr must be a Schedule, a number"),
    "numpy bool": ({"lr": np.bool_(True)}, "lr must be a Schedule, a number"),
    "text": ({"lr": "0.1"}, "lr must be a Schedule, a number"),
    "list": ({"lr": [0.1]}, "lr must be a Schedule, a number"),
    "array": ({"lr": np.array([0.1, 0.2])}, "lr must be a Schedule, a number"),
    "complex": ({"lr": 1j}, "lr must be a Schedule, a number"),
    "lambda": ({"lr": lambda t: 0.1}, "lr must be a Schedule, a number"),
    "class": ({"lr": rw.Constant}, "lr must be a Schedule, a number"),
    "recipe that was not called": ({"lr": rw.warmup_cosine}, "lr must be a Schedule, a number"),
    "scheduler class of torch": ({"lr": torch.optim.lr_scheduler.StepLR}, "lr must be a Schedule, a number"),
    "nothing": ({}, r"needs lr= .* or factor="),
    "both": ({"lr": LR, "factor": LR}, "got both"),
    "both as numbers": ({"lr": 0.1, "factor": 1.0}, "got both"),
    "nan": ({"lr": math.nan}, "must be a finite number, got nan"),
    "numpy nan": ({"lr": np.float64("nan")}, "must be a finite number, got .*nan"),
    "infinity": ({"lr": math.inf}, "must be a finite number, got inf"),
    "huge integer": ({"lr": 10**400}, "must be a finite number"),
    "negative": ({"lr": -0.1}, "lr must be at least 0"),
    "negative later": ({"lr": rw.Linear(0.1, -0.1, 100)}, "lr must be at least 0 and finite"),
    "momentum of 1": ({"lr": LR, "momentum": 1.0}, "momentum must be at least 0 and below 1"),
    "momentum in words": ({"lr": LR, "momentum": "high"}, "momentum must be a Schedule, a number"),
    "hyperparameter of others": ({"lr": LR, "eps": 1e-8}, "eps= needs parameter groups with 'eps'"),
    "beta of others": ({"lr": LR, "beta2": 0.9}, "beta2= needs parameter groups with 'betas'"),
    "negative weight decay": ({"lr": LR, "weight_decay": -1}, "weight_decay must be at least 0"),
    "no groups": ({"lr": {}}, "lr= is an empty dictionary"),
    "unknown group": ({"lr": {"0": LR, "head": LR}}, "names an unknown group 'head'"),
    "group of none": ({"lr": {"0": None}}, r"lr\['0'\] must be a Schedule"),
    "horizon of 0": ({"lr": LR, "horizon": 0}, "total_steps must be an integer of at least 1, got 0"),
    "negative horizon": ({"lr": LR, "horizon": -5}, "total_steps must be an integer of at least 1, got -5"),
    "horizon between": ({"lr": LR, "horizon": 1.5}, "total_steps must be an integer of at least 1, got 1.5"),
    "nan horizon": ({"lr": LR, "horizon": math.nan}, "total_steps must be an integer of at least 1, got nan"),
    "horizon in words": ({"lr": LR, "horizon": "100"}, "total_steps must be an integer of at least 1, got '100'"),
    "horizon class": ({"lr": LR, "horizon": rw.Horizon}, "total_steps must be an integer of at least 1"),
    "clock": ({"lr": LR, "clock": "hook"}, "clock must be 'hooks' or 'step', got 'hook'. Did you mean 'hooks'"),
    "no clock": ({"lr": LR, "clock": None}, "clock must be 'hooks' or 'step', got None"),
    "overrun": ({"lr": LR, "on_overrun": "raise"}, "on_overrun must be 'hold' or 'error', got 'raise'"),
    "policy": ({"lr": LR, "on_change": "swich"}, "on_change must be .*Did you mean 'switch'"),
    "scaler": ({"lr": LR, "scaler": 3}, "scaler must be a torch.amp.GradScaler, got 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_a_clear_error_and_touches_nothing(name, sgd, applied):
    arguments, message = WRONG[name]
    optimizer = sgd()
    with pytest.raises((AdapterError, ScheduleError), match=message) as error:
        Scheduler(optimizer, **arguments)
    assert len(str(error.value)) < 500
    assert set(optimizer.param_groups[0]) == set(sgd().param_groups[0])
    assert applied(optimizer, 2) == [0.1, 0.1]


NUMBERS = [
    1,
    0.25,
    np.float64(0.25),
    np.float32(0.25),
    np.int64(1),
    np.array(0.25),
    torch.tensor(0.25),
    torch.tensor(1),
]


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_what_behaves_as_a_number_is_one(number, sgd, applied):
    optimizer = sgd({"name": "body"}, momentum=0.5)
    scheduler = Scheduler(optimizer, lr={"body": number}, weight_decay=number, horizon=np.int64(8))
    assert applied(optimizer) == [float(number)]
    assert type(optimizer.param_groups[0]["lr"]) is float
    assert json.loads(json.dumps(scheduler.state_dict())) == scheduler.state_dict()
    scheduler.change(number, "switch")
    assert scheduler.next_lr == {"body": float(number)}


@pytest.mark.parametrize("number", [Decimal("0.25"), Fraction(1, 4), np.array([0.25]), torch.tensor([0.25])])
def test_what_is_not_quite_a_number_is_refused(number, sgd):
    with pytest.raises(AdapterError, match="lr must be a Schedule, a number"):
        Scheduler(sgd(), number)


@pytest.mark.parametrize("optimizer", [None, "sgd", torch.optim.SGD, torch.nn.Linear(1, 1), [], LR])
def test_what_is_no_optimizer_is_refused(optimizer):
    with pytest.raises(AdapterError, match="needs a torch optimizer, got"):
        Scheduler(optimizer, LR)


def test_a_scheduler_made_before_the_groups_exist_is_told_to_wait(weight):
    class Early(torch.optim.SGD):
        def __init__(self, params):
            self.scheduler = Scheduler(self, LR)
            super().__init__(params, lr=0.1)

    with pytest.raises(AdapterError, match="Early has no parameter groups yet"):
        Early([weight()])
    emptied = torch.optim.SGD([weight()], lr=0.1)
    emptied.param_groups.clear()
    with pytest.raises(AdapterError, match="SGD has no parameter groups yet"):
        Scheduler(emptied, LR)


CALLS = {
    "change to text": (lambda s: s.change("cosine", "switch"), "lr must be a Schedule"),
    "change to nothing": (lambda s: s.change(None, "switch"), "lr must be a Schedule"),
    "change to a class": (lambda s: s.change(rw.Constant, "switch"), "lr must be a Schedule"),
    "change without a policy": (lambda s: s.change(LR, None), "policy must be"),
    "change to the negative": (lambda s: s.change(rw.Linear(0.1, -0.1, 9), "switch"), "lr must be at least 0"),
    "decay in no time": (lambda s: s.decay_now(0), "steps must be an integer of at least 1"),
    "decay in words": (lambda s: s.decay_now("3"), "steps must be an integer of at least 1"),
    "decay to nan": (lambda s: s.decay_now(3, end=math.nan), "end must be a finite number"),
    "decay below 0": (lambda s: s.decay_now(3, end=-1.0), "must be at least 0"),
    "decay in epochs": (lambda s: s.decay_now(rw.epochs(1)), "length is not known"),
    "unknown ease": (lambda s: s.decay_now(3, shape="sq"), "unknown ease 'sq'"),
    "negative factor": (lambda s: s.scaled_from(-1.0), "lr must be at least 0"),
    "nan factor": (lambda s: s.scaled_from(math.nan), "factor must be a finite number"),
    "factor in words": (lambda s: s.scaled_from("half"), "factor must be a finite number"),
    "policy of loading": (lambda s: s.load_state_dict(s.state_dict(), on_change=3), "on_change must be"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_cannot_be_followed_changes_nothing(name, sgd, applied):
    call, message = CALLS[name]
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    applied(optimizer, 2)
    before = scheduler.state_dict()
    with pytest.raises((AdapterError, ScheduleError), match=message):
        call(scheduler)
    assert scheduler.state_dict() == before
    assert applied(optimizer, 3) == LR.values(2, 5)


# -- states of others ----------------------------------------------------------------------------------------


def foreign():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedulers = torch.optim.lr_scheduler
    made = {
        "LambdaLR": schedulers.LambdaLR(optimizer, lambda t: 1.0),
        "StepLR": schedulers.StepLR(optimizer, 3),
        "CosineAnnealingLR": schedulers.CosineAnnealingLR(optimizer, 9),
        "OneCycleLR": schedulers.OneCycleLR(optimizer, 0.1, 9),
        "SequentialLR": schedulers.SequentialLR(
            optimizer, [schedulers.LinearLR(optimizer), schedulers.ConstantLR(optimizer)], milestones=[3]
        ),
        "ReduceLROnPlateau": schedulers.ReduceLROnPlateau(optimizer),
        "Adam": optimizer,
        "Linear": torch.nn.Linear(1, 1),
        "GradScaler": torch.amp.GradScaler("cpu"),
    }
    states = {name: thing.state_dict() for name, thing in made.items()}
    return states | {"empty": {}, "list": [], "none": None, "text": "state", "number": 3, "spec": LR.to_dict()}


FOREIGN = foreign()


@pytest.mark.parametrize("name", FOREIGN)
def test_the_state_of_another_object_is_refused(name, sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    applied(optimizer, 2)
    before = scheduler.state_dict()
    for policy in (None, "switch"):
        with pytest.raises(AdapterError, match=r"load_state_dict: needs a state_dict\(\) of ratewise.torch.Scheduler"):
            scheduler.load_state_dict(FOREIGN[name], on_change=policy)
    assert scheduler.state_dict() == before
    assert applied(optimizer) == [LR(2)]


@pytest.mark.slow
def test_the_state_of_a_hugging_face_schedule_is_refused(sgd):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.get_cosine_schedule_with_warmup(sgd(), 3, 9)
    with pytest.raises(AdapterError, match=r"needs a state_dict\(\) of ratewise.torch.Scheduler"):
        Scheduler(sgd(), LR).load_state_dict(theirs.state_dict())


def test_the_state_of_a_newer_version_says_to_update(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    state = scheduler.state_dict()
    newer = {**state, "format": state["format"] + 1, "spec": "something else by then", "more": 1}
    with pytest.raises(AdapterError, match=r"newer Ratewise.*Update"):
        scheduler.load_state_dict(newer)
    assert applied(optimizer) == [LR(0)]


@pytest.mark.parametrize("version", [0, -1, 1.5, "2", None, True, math.nan, [2]])
def test_a_format_that_never_was_is_refused(version, sgd):
    scheduler = Scheduler(sgd(), LR)
    with pytest.raises(AdapterError, match="load_state_dict: "):
        scheduler.load_state_dict({**scheduler.state_dict(), "format": version})


def test_the_state_of_a_scheduler_is_no_state_of_its_optimizer(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    with pytest.raises(KeyError):  # torch's own
        optimizer.load_state_dict(scheduler.state_dict())
    assert applied(optimizer, 2) == LR.values(0, 2)


# -- damaged states ------------------------------------------------------------------------------------------

quiet = settings(
    max_examples=250, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
PLANNED = rw.warmup_cosine(0.4, warmup=3, steps=12)


def start():
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], "name": name, "lr": rate}
        for name, rate in {"body": 0.1, "head": 0.3}.items()
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    return optimizer, Scheduler(optimizer, factor=PLANNED, momentum=rw.Linear(0.9, 0.5, 15))


def train(optimizer, updates):
    """Make updates; returns what each used."""
    used = []
    for _ in range(updates):
        for group in optimizer.param_groups:
            group["params"][0].grad = torch.ones_like(group["params"][0])
        used.append([(group["lr"], group["momentum"]) for group in optimizer.param_groups])
        optimizer.step()
    return used


def example():
    """A state in mid-run, after a change of plan, and what follows it."""
    optimizer, scheduler = start()
    train(optimizer, 4)
    scheduler.scaled_from(0.5)
    train(optimizer, 1)
    state = scheduler.state_dict()
    return state, train(optimizer, 6)


STATE, TAIL = example()


def opened(state):
    """The state with its parts that are JSON texts read, and their names."""
    texts = [key for key, value in state.items() if isinstance(value, str) and value[:1] in ("{", "[")]
    return {key: json.loads(value) if key in texts else value for key, value in state.items()}, texts


def closed(state, texts):
    return {key: json.dumps(value) if key in texts else value for key, value in state.items()}


def places(value, path=()):
    """Every place in a state, from the whole to the single number."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


OPENED, TEXTS = opened(STATE)
PLACES = [place for place in places(OPENED) if place]
KEYS = st.sampled_from(["body", "head", "*", "type", "version", "lr", "0"]) | st.text(max_size=3)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.sampled_from([2**70, 10**400, -1, 0.5, -0.0, 1e308, math.nan, math.inf, -math.inf])
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["body", "head", "*", "nan", "{}", "[1", "x" * 10_000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
    max_leaves=5,
)
OBJECTS = st.sampled_from([b"x", (1,), {1}, object(), torch.tensor(1.0), torch.ones(2), np.float64(1.0), np.ones(2)])
REMOVED = object()


@st.composite
def damaged(draw):
    """A valid state with one or two places that hold junk, or lack what was there; and these places."""
    state, texts = copy.deepcopy(OPENED), set(TEXTS)
    changed = draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=2, unique=True))
    for *path, last in sorted(changed, key=lambda place: (len(place), repr(place)), reverse=True):
        holder = state
        for key in path:
            holder = holder[key]
        inside = path and path[0] in texts
        junk = draw(PLAIN | st.just(REMOVED) if inside else PLAIN | OBJECTS | st.just(REMOVED))
        if not path and (junk is REMOVED or draw(st.booleans()) or not isinstance(junk, (dict, list))):
            texts.discard(last)  # the text itself is replaced, not what it says
        if junk is REMOVED:
            del holder[last]
        else:
            holder[last] = junk
    return closed(state, texts), changed


def held_by(optimizer):
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


@pytest.mark.slow
@quiet
@hypothesis.given(damaged(), st.sampled_from([None, "keep", "switch"]))
def test_a_damaged_state_is_refused_or_followed_exactly(case, policy):
    state, changed = case
    optimizer, scheduler = start()
    train(optimizer, 2)
    before, held, error = scheduler.state_dict(), held_by(optimizer), None
    try:
        scheduler.load_state_dict(state, on_change=policy)
    except (AdapterError, ScheduleError) as caught:
        error = str(caught)
    if error is not None:
        assert len(error) < 3000
        assert (scheduler.state_dict(), held_by(optimizer)) == (before, held)
        assert train(optimizer, 3) == train(start()[0], 5)[2:]
        return
    assert json.loads(json.dumps(scheduler.state_dict(), allow_nan=False)) == scheduler.state_dict()
    assert scheduler.last_lr.keys() == scheduler.next_lr.keys() == {"body", "head"}
    assert repr(scheduler)
    if all(path[0] != "position" for path in changed):
        assert scheduler.position == 5
        used = train(optimizer, 6)
        assert used == TAIL or (policy == "switch" and used == train(start()[0], 11)[5:])


def test_every_single_part_of_a_state_can_be_missing_or_null():
    for path in PLACES:
        for junk in (None, REMOVED):
            state = copy.deepcopy(OPENED)
            holder = state
            for key in path[:-1]:
                holder = holder[key]
            if junk is REMOVED:
                del holder[path[-1]]
            else:
                holder[path[-1]] = None
            optimizer, scheduler = start()
            try:
                scheduler.load_state_dict(closed(state, [key for key in TEXTS if key in state]))
            except (AdapterError, ScheduleError):
                continue
            assert train(optimizer, 6) == TAIL, path


def test_an_edited_number_in_the_schedule_is_noticed():
    for old, new in [("0.4", "0.8"), ("12", "24"), ("0.5", "0.25")]:
        state, texts = opened(STATE)
        text = json.dumps(state["spec"])
        assert old in text
        state["spec"] = json.loads(text.replace(old, new))
        optimizer, scheduler = start()
        with pytest.raises(AdapterError) as error:
            scheduler.load_state_dict(closed(state, texts), on_change="keep")
        assert not isinstance(error.value, ScheduleChanged)
        assert scheduler.position == 0
        assert train(optimizer, 2) == train(start()[0], 2)


def test_states_of_the_first_format_still_load():
    state, _ = opened(STATE)
    first = {key: value for key, value in state.items() if key in FIRST_FORMAT}
    assert set(first) == FIRST_FORMAT
    optimizer, scheduler = start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.load_state_dict({**first, "format": 1})
    assert scheduler.position == 5
    assert train(optimizer, 6) == TAIL


FIRST_FORMAT = {
    *("format", "position", "spec", "base", "lr_scale", "hash", "planned"),
    *("history", "skipped", "last_lr", "next_lr"),
}


UNFIT = {
    "integer": lambda: torch.tensor(1),
    "differentiated": lambda: torch.tensor(0.1, requires_grad=True),
    "inference": torch.inference_mode()(lambda: torch.tensor(0.1)),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_rate_tensor_that_cannot_be_filled_is_refused(name, weight):
    optimizer = torch.optim.SGD([weight()], lr=UNFIT[name]())
    with pytest.raises(AdapterError, match=r"is a tensor that .*, so no rate can be written into it"):
        Scheduler(optimizer, LR)
    assert "ratewise_base" not in optimizer.param_groups[0]


def test_a_scale_that_is_no_number_is_refused(sgd):
    with pytest.raises(AdapterError, match="lr_scale of group '0' must be at least 0 and finite, got 'x'"):
        Scheduler(sgd({"lr_scale": "x"}), LR)
