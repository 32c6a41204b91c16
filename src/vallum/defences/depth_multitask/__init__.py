"""Segmentation made robust by self-supervised depth on unlabelled video, which is learnt beside it and then dropped."""

from vallum.defences.depth_multitask.recipe import DepthMultitask

__all__ = ["DepthMultitask"]
