from conformance.drive import cases, hold
from conformance.on_torch import HARNESSES, VARIANTS


@cases(HARNESSES, VARIANTS)
def test_the_adapter_holds(harness, check):
    hold(harness, check)
