"""Networks in the format of Hugging Face transformers."""

from __future__ import annotations

import json
from typing import Any

from vallum.images import Task
from vallum.models.making import making, need
from vallum.models.model import PER_CHANNEL, Model
from vallum.models.request import MODEL_SOURCES, Request
from vallum.specs import Source

_FETCH = (
    "check the name and the network, and that the weights are there as safetensors; "
    "without a network, write hf:FOLDER for a model downloaded before"
)
_SAFE: dict[str, Any] = {"trust_remote_code": False}  # never the code that may lie beside the weights


@MODEL_SOURCES.register("hf")
def load_hf(source: Source, request: Request) -> Model:
    """A classifier or segmenter from the Hugging Face hub, or a folder in its format: hf:org/name?revision=main."""
    transformers = need("transformers", extra="hf")
    source.refuse_unknown("revision", "config")
    where = {name: source.options[name] for name in ("revision",) if name in source.options}
    text = source.options.get("config")  # a saved folder holds the configuration itself: no network is needed
    with making(str(source.but(config=None)), _FETCH):
        if text is None:
            config = transformers.AutoConfig.from_pretrained(source.rest, **where, **_SAFE)
        else:
            config = transformers.AutoConfig.for_model(**json.loads(text))
        segments = any("SemanticSegmentation" in name for name in config.architectures or ())
        task = request.task or (Task.SEGMENT if segments else Task.CLASSIFY)
        kind = "AutoModelForSemanticSegmentation" if task is Task.SEGMENT else "AutoModelForImageClassification"
        make = getattr(transformers, kind)
        if text is None:
            network = make.from_pretrained(source.rest, use_safetensors=True, **where, **_SAFE)
            settings = _processor(transformers, source.rest, where)
        else:
            network, settings = make.from_config(config, **_SAFE), {}
    mean, std = _normalisation(settings)
    names = [config.id2label[place] for place in sorted(config.id2label)]
    kept = {name: value for name, value in config.to_dict().items() if name != "_name_or_path"}
    model = request.wrap(
        network.eval(),
        task=task,
        classes=names if len(names) > 1 else None,
        mean=mean,
        std=std,
        size=_size(settings),
        build=Source("hf", config.model_type, {"config": json.dumps(kept, default=str)}),
    )
    if text is None and not settings and request.mean is None and request.otherwise == (None, None):
        model.remarks = (
            f"{source.rest} has no image processor, so its normalisation is unknown: images go in as they are, "
            "in [0, 1]; give mean= and std= if it was trained otherwise",
        )
    return model


def _processor(transformers: Any, name: str, where: dict[str, str]) -> dict[str, Any]:
    """The settings of the model's image processor, empty where it has none."""
    try:
        return transformers.AutoImageProcessor.from_pretrained(name, **where, **_SAFE).to_dict()
    except OSError:
        return {}


def _normalisation(settings: dict[str, Any]) -> tuple[PER_CHANNEL, PER_CHANNEL]:
    """Mean and std for images in [0, 1] that do what the processor does to pixels in 0..255.

    >>> _normalisation({"do_rescale": True, "rescale_factor": 1 / 127.5, "rescale_offset": True})
    ([0.5], [0.5])
    """
    scale = 255 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255.0
    offset = 1.0 if settings.get("rescale_offset") else 0.0
    normalises = settings.get("do_normalize", False)
    mean = settings.get("image_mean") if normalises else None
    std = settings.get("image_std") if normalises else None
    # The processor makes ((pixel * scale - offset) - mean) / std of a pixel in [0, 1].
    return [(offset + m) / scale for m in mean or [0.0]], [s / scale for s in std or [1.0]]


def _size(settings: dict[str, Any]) -> tuple[int, int] | None:
    size = settings.get("crop_size") if settings.get("do_center_crop") else settings.get("size")
    if not isinstance(size, dict):
        return (size, size) if isinstance(size, int) else None
    if size.get("height") and size.get("width"):
        return size["height"], size["width"]
    edge = size.get("shortest_edge")
    return (edge, edge) if edge else None
