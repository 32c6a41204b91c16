"""An ONNX graph as a torch module: converted, or run by onnxruntime."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.models.making import first_line, need
from vallum.models.outputs import find_tensor

_FLOATS = {1: torch.float32, 10: torch.float16, 11: torch.float64}  # ONNX's numbers for its types
_CLOSE = 1e-3  # how far a converted network may be from the file, relative to its largest output


@dataclass(frozen=True)
class Layout:
    """What a graph wants its images to look like; None where it takes any number."""

    name: str
    dtype: torch.dtype
    channels_last: bool
    batch: int | None
    channels: int
    size: tuple[int, int] | None
    segments: bool

    @classmethod
    def of(cls, graph: Any) -> Layout:
        """Read it from an onnx.ModelProto."""
        weights = {tensor.name for tensor in graph.graph.initializer}  # old files list them as inputs too
        inputs = [value for value in graph.graph.input if value.name not in weights]
        kind = inputs[0].type.tensor_type if len(inputs) == 1 else None
        if kind is None or kind.elem_type not in _FLOATS or len(kind.shape.dim) != 4:
            raise UserError(
                f"the ONNX network takes {', '.join(value.name for value in inputs) or 'nothing'}",
                "one input of floats is needed: a batch of images with four axes",
                "export the network without its pre- and post-processing",
            )
        batch, *rest = _dimensions(kind)
        channels_last = rest[0] not in (1, 3, 4) and rest[2] in (1, 3, 4)
        height, width = rest[:2] if channels_last else rest[1:]
        output = _dimensions(graph.graph.output[0].type.tensor_type)
        return cls(
            name=inputs[0].name,
            dtype=_FLOATS[kind.elem_type],
            channels_last=channels_last,
            batch=batch,
            channels=(rest[2] if channels_last else rest[0]) or 3,
            size=(height, width) if height and width else None,
            segments=len(output) == 4 and output[2:] != [1, 1],
        )


class Framed(nn.Module):
    """A graph behind the layout of its input, so that any number of NCHW images goes in."""

    def __init__(self, network: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.network, self.layout = network, layout

    def forward(self, images: Tensor) -> Tensor:
        inputs = images.to(self.layout.dtype)  # (N, C, H, W)
        if self.layout.channels_last:
            inputs = inputs.permute(0, 2, 3, 1)
        if self.layout.batch is None:
            return find_tensor(self.network(inputs))
        missing = -len(inputs) % self.layout.batch
        inputs = torch.cat([inputs, inputs[-1:].expand(missing, -1, -1, -1)])  # the last image fills the last batch
        outputs = [find_tensor(self.network(part)) for part in inputs.split(self.layout.batch)]
        return torch.cat(outputs)[: len(images)]


class Session(nn.Module):
    """A graph run by onnxruntime: exact, and without gradients."""

    def __init__(self, path: Path, layout: Layout) -> None:
        super().__init__()
        runtime = need("onnxruntime", extra="onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in runtime.get_available_providers()]
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions share no base
            raise UserError(f"onnxruntime cannot load {path}", first_line(error), "export it again") from error
        self.name = layout.name
        self.fingerprint = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()

    def forward(self, inputs: Tensor) -> Tensor:
        try:
            output = self.session.run(None, {self.name: inputs.detach().cpu().contiguous().numpy()})[0]
        except Exception as error:
            raise UserError(
                "onnxruntime cannot run the network", first_line(error), "check the images' size"
            ) from error
        return torch.from_numpy(output).to(inputs.device)


def convert(graph: Any, layout: Layout, truth: nn.Module) -> tuple[Framed | None, str]:
    """The graph as torch operations, or None and why: it must give what onnxruntime gives on an image of noise."""
    onnx2torch = need("onnx2torch", extra="onnx")
    try:
        network = Framed(onnx2torch.convert(graph), layout).eval()
    except Exception as error:  # whatever stops it, the graph still runs
        return None, f"onnx2torch cannot convert it: {first_line(error)}"
    height, width = layout.size or (64, 64)
    noise = torch.rand(2, layout.channels, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:
            expected = truth(noise)
        except UserError:  # it takes no images of this size: nothing to compare with
            return network, ""
        try:
            found = network(noise)
        except Exception as error:
            return None, f"what onnx2torch makes of it does not run: {first_line(error)}"
    if found.shape != expected.shape or bool((found - expected).abs().max() > _CLOSE * expected.abs().max()):
        return None, "what onnx2torch makes of it gives other outputs"
    return network, ""


def _dimensions(kind: Any) -> list[int | None]:
    """The axes of an ONNX tensor type; None for one that is open."""
    return [axis.dim_value or None for axis in kind.shape.dim]
