"""``ceiling``: the rate at which curvature makes training unstable, for the very model and optimizer in training."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ratewise.errors import FinderError
from ratewise.finder.curvature import Ceiling
from ratewise.torch.find import TorchTrainable


def ceiling(
    model: Any, optimizer: Any, loss: Callable[[Any, Any], Any], batches: Any, *, seed: int = 0,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext, also: Sequence[Any] = (),
) -> Ceiling:  # fmt: skip
    """Return the rate above which the present curvature makes training unstable, and leave everything as it was.

    It is 2 / lambda for gradient descent, 2 (1 + b) / lambda with momentum b, and so on for each optimizer, with lambda
    the largest curvature of the mean loss over the first batches, at most 8. Of an optimizer that divides by second
    moments, lambda is that of the preconditioned Hessian, with the moments of its state; where there are none yet,
    with settled ones: the mean squares of the gradients. Weight decay and the ratios of groups count exactly.

    It is about the present state, and no suggestion. Noise of small batches lowers the edge; and curvature falls where
    rates are high, in the first updates of many networks quickly, so that higher rates than this may train.

    Args:
        model: In train mode unless it is in eval mode in part; dropout is the same in all evaluations.
        optimizer: SGD, Adam, AdamW, NAdam, RMSprop or Adagrad of ``torch.optim``, at any point of its training; or a
            list of several. The rate is that of the group whose rate is highest, as in ``find_lr``.
        loss: ``loss(output, target)``, as for ``find_lr``; twice differentiable.
        batches: As for ``find_lr``. One batch is enough: ``[(x, y)]`` is the loss over the whole data.
        seed: Fixes dropout, the order of a shuffled loader, and the first vector.
        autocast: Makes the context of model and loss. Half precision blurs curvature; leave it out where memory allows.
        also: Further objects to put back.

    Returns:
        A ``Ceiling``; its ``rate`` is infinite where no direction curves upwards.

    Raises:
        FinderError: No formula is known for the optimizer, the loss cannot be differentiated twice, or it is not
            finite.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> x, y = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1)  # curvatures 4 and 1
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> found = ceiling(model, optimizer, torch.nn.functional.mse_loss, [(x, y)])
        >>> round(found.sharpness, 4), round(found.rate, 4), round(found.utilisation(0.1), 4)
        (4.0, 0.95, 0.1053)
    """
    try:
        trainable = TorchTrainable(model, optimizer, loss, batches, autocast=autocast, also=also)
        try:
            return trainable.curvature(seed)
        finally:
            trainable.restore()
    except FinderError as error:  # what both check, says find_lr
        raise FinderError(str(error).replace("find_lr:", "ceiling:", 1)) from error.__cause__
