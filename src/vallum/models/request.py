"""Where models come from: the registry of sources, and what is asked of each."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from vallum.errors import UserError, a
from vallum.images import Task
from vallum.models.model import PER_CHANNEL, Model, Wrapped, class_names
from vallum.specs import Registry, Source, read_numbers

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODEL_SOURCES: Registry[Model] = Registry("model source")  # functions (Source, Request) -> Model


@dataclass(frozen=True)
class Request:
    """What the caller said of the model; None leaves it to the source, which may know."""

    classes: tuple[str, ...] | None = None
    task: Task | None = None
    mean: PER_CHANNEL | None = None
    std: PER_CHANNEL | None = None
    otherwise: tuple[PER_CHANNEL | None, PER_CHANNEL | None] = (None, None)  # mean and std where nobody knows any
    outputs: str = "logits"
    trust: bool = False  # a saved folder may name the user's own code
    saved: bool = False  # the source was read from a saved folder, not given by the user

    @classmethod
    def of(cls, classes: Sequence[str] | int | None = None, task: Task | str | None = None, **rest: Any) -> Request:
        if task is not None and task not in list(Task):
            raise UserError(f"task={str(task)!r}", f"one of {', '.join(map(repr, map(str, Task)))}")
        return cls(class_names(classes), None if task is None else Task(task), **rest)

    def wrap(
        self,
        network: nn.Module,
        *,
        task: Task | None = None,
        classes: Sequence[str] | int | None = None,
        mean: PER_CHANNEL | None = None,
        std: PER_CHANNEL | None = None,
        size: tuple[int, int] | None = None,
        build: Source | None = None,
    ) -> Model:
        """`network` as a Model, with what the source knows of it; what the caller said has precedence."""
        if mean is std is self.mean is self.std is None:
            mean, std = self.otherwise
        mean = mean if self.mean is None else self.mean
        std = std if self.std is None else self.std
        return Wrapped(
            network,
            task=self.task or task,
            classes=self.classes or classes,
            mean=0.0 if mean is None else mean,
            std=1.0 if std is None else std,
            outputs=self.outputs,
            size=size,
            build="" if build is None else str(build),
        )

    def reading(self, source: Source, *its_own: str) -> tuple[Source, Request]:
        """With what ?mean=0.5&std=0.25 says, and the source without it, unless these are options of its own."""
        texts = {name: source.options.get(name) for name in ("mean", "std") if name not in its_own}
        said = {name: read_numbers(text, f"{name} in {source}") for name, text in texts.items() if text is not None}
        return source.but(**dict.fromkeys(said)), replace(self, **said)  # type: ignore[arg-type]

    def keep(self, model: Model) -> Model:
        """A network that is a Model already: it knows its settings, and only classes that it lacks are added."""
        said = {name: getattr(self, name) for name in ("mean", "std", "task", "classes")}
        if self.task is not None and not model.task_known:
            model.settle_task(self.task)
        said["outputs"] = None if self.outputs == "logits" else self.outputs
        known = {"task": model.task, "classes": model.classes or self.classes}
        for name, value in said.items():
            if value is not None and value != known.get(name):
                raise UserError(
                    f"{name}={value!r} is given for {a(model)} that has its own",
                    "what is a vallum Model already is taken as it is",
                    f"leave {name} out, or set it where the model is made",
                )
        model.classes = model.classes or self.classes
        return model


def make_model(text: str, request: Request) -> Model:
    """The model that a source's text names; the forms without a scheme are code, a folder or an ONNX file."""
    source = Source.parse(text)
    if source.scheme and source.scheme not in MODEL_SOURCES:
        importlib.import_module("vallum.defences")  # which registers sources of its own: of models with a defence
    if source.scheme not in MODEL_SOURCES:
        path = f"{source.scheme}:{source.rest}" if source.scheme else source.rest  # a path may hold a colon
        kind = "onnx" if path.endswith(".onnx") else "python" if source.scheme else "folder"
        source = Source("folder" if os.path.isdir(os.path.expanduser(path)) else kind, path, source.options)
    if source.scheme != "python":  # whose function may have parameters of these names
        source, request = request.reading(source)
    model = MODEL_SOURCES[source.scheme](source, request)
    model.spec = text
    return model


def guess_value(text: str) -> int | float | bool | str | None:
    """The plainest value that an option's text can mean.

    >>> [guess_value(text) for text in ("43", "0.5", "true", "none", "gelu")]
    [43, 0.5, True, None, 'gelu']
    """
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def guess_values(options: dict[str, str], *but: str) -> dict[str, Any]:
    """The values of all options, except those named in `but`."""
    return {name: guess_value(text) for name, text in options.items() if name not in but}
