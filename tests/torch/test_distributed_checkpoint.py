"""States through torch.distributed.checkpoint, in one process and on the file system."""

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.stateful import Stateful

import ratewise as rw
from ratewise.errors import ScheduleChanged
from ratewise.torch import Scheduler

LR = rw.warmup_cosine(0.4, warmup=3, steps=9)

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning"),
]


class Run(Stateful):
    """A model of two groups, its optimizer and its Scheduler."""

    def __init__(self, kind=torch.optim.Adam, lr=LR, tensor=False):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)).double()
        rates = [torch.tensor(rate, dtype=torch.float64) if tensor else rate for rate in (0.1, 0.3)]
        groups = [{"params": part.parameters(), "lr": r} for part, r in zip(self.model, rates, strict=True)]
        self.optimizer = kind(groups)
        self.scheduler = Scheduler(self.optimizer, factor=lr)

    def train(self, updates):
        """Returns the weights after each update."""
        trace = []
        for _ in range(updates):
            self.optimizer.zero_grad()
            (self.model(torch.eye(3, dtype=torch.float64)) - 1).pow(2).sum().backward()
            self.optimizer.step()
            trace.append(torch.cat([p.detach().flatten() for p in self.model.parameters()]))
        return torch.stack(trace)

    def state_dict(self):
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer, "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state):
        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("tensor", [False, True], ids=["float", "tensor"])
def test_a_stateful_run_goes_on_as_if_it_had_not_stopped(kind, tensor, tmp_path):
    run = Run(kind, tensor=tensor)
    run.train(5)
    dcp.save({"run": run}, checkpoint_id=tmp_path)
    expected = run.train(6)
    other = Run(kind, tensor=tensor)
    dcp.load({"run": other}, checkpoint_id=tmp_path)
    assert other.scheduler.position == 5
    assert other.scheduler.last_lr == {"0": 0.1 * LR(4), "1": 0.3 * LR(4)}
    assert torch.equal(other.train(6), expected)


def test_a_scheduler_is_stateful_itself(tmp_path):
    run = Run()
    run.train(4)
    assert isinstance(run.scheduler, Stateful)
    saved = run.scheduler.state_dict()
    dcp.save({"scheduler": run.scheduler}, checkpoint_id=tmp_path)
    other = Run()
    dcp.load({"scheduler": other.scheduler}, checkpoint_id=tmp_path)
    assert other.scheduler.state_dict() == saved


def test_its_state_loads_in_place_of_a_fresh_one(tmp_path):
    run = Run()
    run.train(4)
    run.scheduler.scaled_from(0.5)
    saved = run.scheduler.state_dict()
    dcp.save({"scheduler": saved}, checkpoint_id=tmp_path)
    other = Run()
    state = {"scheduler": other.scheduler.state_dict()}
    dcp.load(state, checkpoint_id=tmp_path)
    other.scheduler.load_state_dict(state["scheduler"])
    assert other.scheduler.position == 4
    assert other.scheduler.next_lr == {"0": 0.1 * 0.5 * LR(4), "1": 0.3 * 0.5 * LR(4)}


def test_another_schedule_is_noticed_there_too(tmp_path):
    run = Run()
    run.train(4)
    dcp.save({"scheduler": run.scheduler}, checkpoint_id=tmp_path)
    other = Run(lr=rw.Constant(1.0))
    with pytest.raises(ScheduleChanged, match="position 4"):
        dcp.load({"scheduler": other.scheduler}, checkpoint_id=tmp_path)
    assert other.scheduler.position == 0
