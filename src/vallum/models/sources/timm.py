"""Backbones from timm."""

from __future__ import annotations

from vallum.errors import UserError, did_you_mean
from vallum.images import Task
from vallum.models.making import making, need
from vallum.models.model import Model
from vallum.models.request import MODEL_SOURCES, Request, guess_values
from vallum.models.state import load_weights_option
from vallum.specs import Source


@MODEL_SOURCES.register("timm")
def load_timm(source: Source, request: Request) -> Model:
    """A classifier from timm: timm:resnet18?pretrained=true.

    num_classes, img_size and the like pass on; weights=FILE.safetensors loads yours.
    """
    timm = need("timm")
    if ":" not in source.rest and not timm.is_model(source.rest):  # hf-hub:org/name has a colon of its own
        raise UserError(f"timm has no model {source.rest!r}", remedy=did_you_mean(source.rest, timm.list_models()))
    if "checkpoint_path" in source.options:
        raise UserError("checkpoint_path may name a pickle", remedy="write weights=FILE.safetensors")
    if request.classes and "num_classes" not in source.options:
        source = source.but(num_classes=str(len(request.classes)))
    options = guess_values(source.options, "weights")
    with making(str(source)):
        network = timm.create_model(source.rest, **options).eval()
    load_weights_option(network, source.options.get("weights"))
    config = network.pretrained_cfg
    size = None
    if options.get("pretrained") or config.get("fixed_input_size"):
        size = _pair(options.get("img_size", config["input_size"][1:]))
    return request.wrap(
        network,
        task=Task.CLASSIFY,
        mean=config.get("mean"),
        std=config.get("std"),
        size=size,
        # Named, because the number may come from the tag of the pretrained weights.
        build=source.but(weights=None, pretrained=None, num_classes=str(network.num_classes)),
    )


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
