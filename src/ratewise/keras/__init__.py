"""Ratewise for Keras 3, on TensorFlow, JAX and torch.

    Schedule             a learning rate: hand it to any Keras optimizer
    SGD, Adam, AdamW     Keras' optimizers whose momentum and weight decay may be schedules too
    Follow               a callback that brings the same to a model that is already compiled
    build                an optimizer by its name, meaning what ``ratewise.torch.build`` means by it
    find_lr              a learning rate for a compiled model, found without a trace

A saved model loads in a fresh process after ``import ratewise.keras``: Keras itself imports nobody when it loads.
Without that import, ``keras.models.load_model(path, compile=False)`` still loads it for inference.
"""

from ratewise.errors import MissingDependency

try:
    import keras
except ModuleNotFoundError as error:
    if error.name != "keras":  # Keras is there, its backend is not: its own message is the right one
        raise
    raise MissingDependency("Keras 3", "keras", "keras adapter") from error
if int(keras.__version__.partition(".")[0]) < 3:
    raise MissingDependency("Keras 3", "keras", "keras adapter")

from ratewise.keras.find import find_lr as find_lr
from ratewise.keras.follow import Follow as Follow
from ratewise.keras.named import OPTIMIZERS as OPTIMIZERS, build as build
from ratewise.keras.optimizers import SGD as SGD, Adam as Adam, AdamW as AdamW
from ratewise.keras.schedule import Schedule as Schedule

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "Follow", "Schedule", "build", "find_lr"]
