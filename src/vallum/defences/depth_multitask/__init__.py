"""Segmentation made robust by self-supervised depth on unlabelled video, which is learnt beside it and then dropped."""

from vallum.defences.depth_multitask.recipe import DepthMultitask
from vallum.defences.depth_multitask.seeing import Depth, load_depth

__all__ = ["Depth", "DepthMultitask", "load_depth"]
