"""Finding a learning rate: the range test, the known suggestion rules, and an honest result.

Nothing here knows a framework: curves and rules are numbers, and training is a ``Trainable``. Frameworks' own
``find_lr`` are in their adapters, for example ``ratewise.torch.find_lr``.
"""

from ratewise.finder.batches import Lookahead as Lookahead
from ratewise.finder.find import find as find
from ratewise.finder.finding import Finding as Finding, judged as judged, weighed as weighed
from ratewise.finder.rules import (
    PRESETS as PRESETS,
    debiased as debiased,
    lightning_as_shipped as lightning_as_shipped,
    minimum as minimum,
    running as running,
    slide as slide,
    steep as steep,
    steepest as steepest,
    suggestions as suggestions,
    valley as valley,
)
from ratewise.finder.sweep import (
    Curve as Curve,
    Trainable as Trainable,
    one_by_one as one_by_one,
    ramp as ramp,
    sweep as sweep,
)
from ratewise.finder.trials import Trials as Trials, compressed as compressed, probe as probe
