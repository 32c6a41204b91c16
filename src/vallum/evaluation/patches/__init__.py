"""What defensive patches are worth, measured without self-deception."""

from vallum.evaluation.patches.judging import Judged, evaluate_patches

__all__ = ["Judged", "evaluate_patches"]
