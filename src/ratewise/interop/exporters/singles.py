"""When the schedules of a library that computes in float32 keep the digits that float32 has."""

import math
from struct import pack, unpack
from typing import Any

from ratewise.core import ease, schedule as core

FAR = 2**24
"""Up to here float32 counts every update."""


def rational(ramp: Any, name: str) -> bool:
    """Whether it is a ramp of this ease that starts at its start, and is not too long to be counted."""
    plain = isinstance(ramp, core.Ramp) and isinstance(ramp.steps, int) and ramp.steps < FAR
    return plain and ramp.ease == name and ramp.ends == "[)" and ramp.start != ramp.end


def power_of(ramp: core.Ramp) -> float | None:
    """The power of a polynomial ramp whose values survive rounding: none below 1, where the end is steep."""
    name, parameters = ease.read("export", ramp.ease)
    power = parameters[0] if name == "polynomial" else 1.0
    return power if name in ("linear", "polynomial") and rational(ramp, ramp.ease) and 1 <= power <= 2 else None


def kept(gamma: float) -> bool:
    """Whether powers of ``gamma``, rounded to float32, stay right: at worst ``gamma**t`` is off by error * t."""
    if gamma >= 1:
        return False
    error = abs(float(unpack("f", pack("f", gamma))[0]) - gamma) / gamma
    return error / -math.log(gamma) / math.e < 3e-8
