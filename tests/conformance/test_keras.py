from conformance.drive import CLASSES, cases, hold
from conformance.on_keras import HARNESSES, VARIANTS


@cases(HARNESSES, VARIANTS, CLASSES)
def test_the_adapter_holds(harness, check):
    hold(harness, check)
