"""Segmenters from segmentation-models-pytorch."""

from __future__ import annotations

import inspect

from vallum.errors import UserError, did_you_mean
from vallum.images import Task
from vallum.models.making import making, need
from vallum.models.model import Model
from vallum.models.request import IMAGENET_MEAN, IMAGENET_STD, MODEL_SOURCES, Request, guess_values
from vallum.models.state import load_weights_option
from vallum.specs import Source


@MODEL_SOURCES.register("smp")
def load_smp(source: Source, request: Request) -> Model:
    """A segmenter from segmentation-models-pytorch: smp:Unet?encoder=resnet18&classes=11.

    encoder_weights=imagenet fetches a trained encoder, weights=FILE.safetensors loads all; other options pass on.
    """
    smp = need("segmentation_models_pytorch")
    known = {make.__name__: make for make in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    make = {name.lower(): make for name, make in known.items()}.get(source.rest.lower())
    if make is None:
        raise UserError(f"segmentation-models-pytorch has no {source.rest!r}", remedy=did_you_mean(source.rest, known))
    parameters = set(inspect.signature(make).parameters) - {"self", "kwargs", "encoder_name"}
    source.refuse_unknown("encoder", "weights", *sorted(parameters))
    if "classes" not in source.options:
        if request.classes is None:
            raise UserError(f"{source} lacks the number of classes", remedy=f"write smp:{source.rest}?classes=11")
        source = source.but(classes=str(len(request.classes)))
    options = guess_values(source.options, "weights", "encoder")
    options.setdefault("encoder_weights", None)  # the package's own default downloads them
    if "encoder" in source.options:
        options["encoder_name"] = source.options["encoder"]
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if "weights" in source.options else (None, None)
    with making(str(source)):
        network = make(**options).eval()
        if options["encoder_weights"]:
            usual = smp.encoders.get_preprocessing_params(options["encoder_name"], options["encoder_weights"])
            mean, std = usual["mean"], usual["std"]
    load_weights_option(network, source.options.get("weights"))
    return request.wrap(
        network, task=Task.SEGMENT, mean=mean, std=std, build=source.but(weights=None, encoder_weights=None)
    )
