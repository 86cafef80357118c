"""Claims that people repeat about learning rates, measured again: ``ratewise replicate``."""

from ratewise.replicate.run import claims as claims, merged as merged, replicate as replicate

__all__ = ["claims", "merged", "replicate"]
