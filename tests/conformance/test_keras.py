from conformance.drive import WITHOUT_EASES, cases, hold
from conformance.on_keras import HARNESSES, VARIANTS


@cases(HARNESSES, VARIANTS, WITHOUT_EASES)
def test_the_adapter_holds(harness, check):
    hold(harness, check)
