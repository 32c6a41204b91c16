"""Networks in ONNX files."""

from __future__ import annotations

import os
from pathlib import Path

from vallum.errors import UserError
from vallum.images import Task
from vallum.models.making import first_line, need
from vallum.models.model import Model
from vallum.models.onnx_network import Framed, Layout, Session, convert
from vallum.models.request import MODEL_SOURCES, Request, guess_value
from vallum.specs import Source


@MODEL_SOURCES.register("onnx")
def load_onnx(source: Source, request: Request) -> Model:
    """An ONNX file, converted to torch so that it has gradients: onnx:net.onnx; with ?gradients=false run as it is."""
    source.refuse_unknown("gradients")
    path = Path(source.rest).expanduser()
    if not os.path.isfile(path):
        raise UserError(f"there is no file {path}", "an ONNX file", "check the path")
    onnx = need("onnx", extra="onnx")
    try:
        graph = onnx.load(str(path))
    except Exception as error:  # protobuf's exceptions share no base
        raise UserError(f"{path} cannot be read as ONNX", first_line(error), "export it again") from error
    layout = Layout.of(graph)
    session = Framed(Session(path, layout), layout)
    network, reason = session, "gradients=false asks for it"
    if guess_value(source.options.get("gradients", "true")):
        converted, reason = convert(graph, layout, session)
        network = converted or session
    model = request.wrap(
        network.eval(),
        task=Task.SEGMENT if layout.segments else Task.CLASSIFY,
        size=layout.size,
        build=Source("onnx", str(path.absolute()), source.options),
    )
    if network is session:
        model.differentiable = False
        model.remarks = (f"the network runs in onnxruntime, which gives no gradients, because {reason}",)
    return model
