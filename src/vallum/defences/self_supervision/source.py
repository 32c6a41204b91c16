"""From the text in a saved folder to the defence, without its weights."""

from __future__ import annotations

from typing import Any

from vallum.defences.self_supervision.defence import KNOBS, SelfSupervised
from vallum.defences.self_supervision.presets import PRESETS
from vallum.errors import UserError
from vallum.models.model import Model
from vallum.models.request import MODEL_SOURCES, Request, make_model
from vallum.specs import Source, read_value


@MODEL_SOURCES.register("self_supervision")
def load_self_supervision(source: Source, request: Request) -> Model:
    """A model behind a repair, untrained: self_supervision:?model=SOURCE&tasks=contrastive+rotation&size=32x32."""
    source.refuse_unknown("model", "tasks", "size", "channels", "pooled", "map", "guess", *KNOBS)
    said = source.options
    if "model" not in said:
        raise UserError(f"{source} lacks model=", remedy="write self_supervision:?model=SOURCE&size=32x32")
    edges = said.get("size", "32x32").split("x")
    if len(edges) > 2 or not all(edge.isdigit() for edge in (*edges, said.get("channels", "3"))):
        raise UserError(f"size={said['size']}, channels={said.get('channels', '3')}", "whole numbers, as size=32x32")
    shape = int(said.get("channels", "3")), int(edges[0]), int(edges[-1])
    settings: dict[str, Any] = {name: said[name] for name in KNOBS if name in said}
    tasks = said.get("tasks", PRESETS["fast"].tasks)
    model = make_model(said["model"], request)
    where: dict[str, Any] = {name: said.get(name, "") for name in ("pooled", "map")}
    guess = read_value(said.get("guess", "0"), int, "guess")
    trust = request.trust or not request.saved
    return SelfSupervised(model, tasks, shape, **where, guess=guess, trust=trust, source=source, **settings).eval()
