"""The small networks of vallum itself, untrained."""

from __future__ import annotations

import inspect

from vallum.errors import UserError, did_you_mean
from vallum.images import Task
from vallum.models.model import Model
from vallum.models.nets import MEAN, NETS, STD
from vallum.models.request import MODEL_SOURCES, Request, guess_values
from vallum.models.state import load_weights_option
from vallum.specs import Source


@MODEL_SOURCES.register("net")
def load_net(source: Source, request: Request) -> Model:
    """A small network to train on small images: net:resnet?classes=43, net:vit?classes=43&size=32, net:segmenter."""
    if source.rest not in NETS:
        raise UserError(f"no net is called {source.rest!r}", remedy=did_you_mean(source.rest, NETS))
    make = NETS[source.rest]
    source.refuse_unknown(*inspect.signature(make).parameters, "weights")
    if "classes" not in source.options:
        if request.classes is None:
            raise UserError(f"{source} lacks the number of classes", remedy=f"write net:{source.rest}?classes=43")
        source = source.but(classes=str(len(request.classes)))
    options = guess_values(source.options, "weights")
    for name, value in options.items():
        if type(value) is not int or value < 1:
            raise UserError(f"{name} in {source} is {value!r}", "a positive whole number")
    network = make(**options).eval()
    load_weights_option(network, source.options.get("weights"))
    size = (options.get("size", 32),) * 2 if source.rest == "vit" else None
    task = Task.SEGMENT if source.rest == "segmenter" else Task.CLASSIFY
    return request.wrap(network, task=task, mean=MEAN, std=STD, size=size, build=source.but(weights=None))
