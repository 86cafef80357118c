"""The PyTorch adapter: ``Scheduler`` makes an optimizer follow a schedule, ``build`` makes both at once.

The one design decision behind it: position is the number of updates that happened, seen through the optimizer's
own step hooks, so wrapping, skipping and counting of ``step()`` calls cannot move it.
"""

from ratewise.errors import MissingDependency

try:
    import torch as _torch  # noqa: F401  (asked first, so that a missing PyTorch is named as such)
except ImportError as error:
    raise MissingDependency("PyTorch", "torch", "torch adapter") from error

from ratewise.torch.ceiling import ceiling as ceiling
from ratewise.torch.find import find_lr as find_lr
from ratewise.torch.optimizers import OPTIMIZERS as OPTIMIZERS, build as build
from ratewise.torch.scheduler import Scheduler as Scheduler
from ratewise.torch.snapshot import snapshot as snapshot
