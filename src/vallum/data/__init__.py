"""Where images come from: folders, arrays, torchvision, Hugging Face, Python objects, and the built-in worlds."""

from vallum.data import sources  # noqa: F401 - registers them
from vallum.data.clips import CLIP_SOURCES, Clip, ClipBatch, Clips, load_clips
from vallum.data.data import BrokenImageError, Data
from vallum.data.loading import load_data
from vallum.data.request import DATA_SOURCES, Request

__all__ = [
    "load_data",
    "Data",
    "BrokenImageError",
    "DATA_SOURCES",
    "Request",
    "load_clips",
    "Clips",
    "Clip",
    "ClipBatch",
    "CLIP_SOURCES",
]
