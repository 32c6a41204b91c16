"""Networks from torchvision."""

from __future__ import annotations

from vallum.errors import UserError, did_you_mean
from vallum.images import Task
from vallum.models.making import making, need
from vallum.models.model import Model
from vallum.models.request import IMAGENET_MEAN, IMAGENET_STD, MODEL_SOURCES, Request, guess_values
from vallum.models.state import PICKLES, load_weights_option
from vallum.specs import Source

# What torchvision's named weights switch on behind the caller's back, and a build without them must repeat.
_SWITCHED = ("aux_logits", "transform_input", "image_size")


@MODEL_SOURCES.register("torchvision")
def load_torchvision(source: Source, request: Request) -> Model:
    """A classifier or segmenter from torchvision: torchvision:resnet50?weights=DEFAULT.

    weights=FILE.safetensors loads yours; num_classes and the like pass on.
    """
    models = need("torchvision.models")
    segmenters = models.list_models(module=models.segmentation)
    known = models.list_models(module=models) + segmenters
    if source.rest not in known:
        raise UserError(
            f"torchvision has no classifier or segmenter {source.rest!r}", remedy=did_you_mean(source.rest, known)
        )
    weights = source.options.get("weights", "")
    file = weights if weights.lower().endswith((".safetensors", *PICKLES)) else None
    named = weights if weights and file is None else None
    if request.classes and named is None and "num_classes" not in source.options:
        source = source.but(num_classes=str(len(request.classes)))
    options = guess_values(source.options, "weights")
    if source.rest in segmenters:
        options.setdefault("weights_backbone", None)  # torchvision's own default downloads them
    with making(str(source)):
        entry = models.get_model_weights(source.rest)[named] if named else None
        network = models.get_model(source.rest, weights=entry, **options).eval()
    load_weights_option(network, file)
    build = source.but(weights=None, weights_backbone=None)
    for name in (name for name in _SWITCHED if hasattr(network, name)):
        build = build.but(**{name: str(getattr(network, name)).lower()})
    if getattr(network, "aux_classifier", None) is not None:
        build = build.but(aux_loss="true")
    classes = size = None
    if entry is not None:
        classes = entry.meta["categories"]
        build = build.but(num_classes=str(len(classes)))
        crop = getattr(entry.transforms(), "crop_size", None)  # a segmenter's preset has none: it takes any size
        size = (crop[0], crop[0]) if crop else None
    return request.wrap(
        network,
        task=Task.SEGMENT if source.rest in segmenters else Task.CLASSIFY,
        classes=classes,
        mean=IMAGENET_MEAN if weights else None,
        std=IMAGENET_STD if weights else None,
        size=size,
        build=build,
    )
