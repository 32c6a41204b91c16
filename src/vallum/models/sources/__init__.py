"""One file for each place that models come from; importing this package registers them all."""

from vallum.models.sources import builtin, folder, hf, net, onnx, python, smp, timm, torchvision

__all__ = ["builtin", "folder", "hf", "net", "onnx", "python", "smp", "timm", "torchvision"]
