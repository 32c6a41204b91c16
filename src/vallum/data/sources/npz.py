"""Arrays on disk."""

from __future__ import annotations

from vallum.data.arrays import Arrays
from vallum.data.data import Data
from vallum.data.request import DATA_SOURCES, Request, refuse_unknown
from vallum.data.storage import existing_path
from vallum.data.stored import stored_arrays
from vallum.errors import UserError
from vallum.images import Task
from vallum.specs import Source


@DATA_SOURCES.register("npz")
def npz(source: Source, request: Request) -> Data:
    """Arrays `images` with `labels` (N,) or `masks` (N, H, W), and perhaps `classes`: npz:photos.npz

    Images are uint8, or floats in [0, 1]: (N, H, W, C), (N, C, H, W) or (N, H, W). They are mapped, not read.
    """
    refuse_unknown(source)
    path = existing_path(source.rest, "an .npz file with the arrays images and labels")
    order = ("masks", "labels") if request.task is Task.SEGMENT else ("labels", "masks")
    arrays = stored_arrays(path, ("images", "classes", *order))
    labels = next((arrays[name] for name in order if name in arrays), None)
    if "images" not in arrays or labels is None:
        raise UserError(
            f"{path} has no {'images' if labels is not None else 'labels'}",
            "an array images, with labels (N,) or masks (N, H, W)",
            "numpy.savez(FILE, images=..., labels=...)",
        )
    classes = request.classes
    if classes is None and "classes" in arrays:
        names = arrays["classes"].array.tolist()
        classes = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    return Arrays(arrays["images"], labels, classes, request, str(path))
