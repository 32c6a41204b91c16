"""Models that the user's own code makes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import nn

from vallum.errors import UntrustedCodeError, UserError, a
from vallum.models.model import Model
from vallum.models.request import MODEL_SOURCES, Request, guess_value
from vallum.models.state import refuse_pickle
from vallum.own_code import find
from vallum.specs import Source


@MODEL_SOURCES.register("python")
def load_python(source: Source, request: Request) -> Model:
    """What your own function returns: pkg.module:function or FILE.py:function, with ?name=value as its arguments.

    mean and std that it does not take normalise images, as the arguments of `load_model`.
    """
    where, _, name = source.rest.rpartition(":")
    if not where or not name:
        raise UserError(
            f"{source.rest!r} names no function", "a module and a function in it", "write pkg.module:function"
        )
    if request.saved and not request.trust:
        raise UntrustedCodeError(f"this saved model is built by running code: {source.rest}")
    refuse_pickle(Path(where).expanduser())
    function = find(where, name, "model source", MODEL_SOURCES)
    source, request = request.reading(source, *_parameters(function, source))
    made = function
    if not isinstance(function, nn.Module):
        made = function(**_arguments(function, source))
    if not isinstance(made, nn.Module):
        raise UserError(
            f"{source.rest} returns {a(made)}",
            "a function that takes no images and returns the model, a torch.nn.Module, is needed",
            "return the model from it; in Python, load_model also takes a callable from images to logits",
        )
    made.eval()
    path = Path(where).expanduser()
    stays = Source("python", f"{path.absolute() if path.suffix == '.py' else where}:{name}", source.options)
    if isinstance(made, Model):
        made.build = made.build or str(stays)
        return request.keep(made)
    return request.wrap(made, build=stays)


def _parameters(function: Any, source: Source) -> list[str]:
    """The options that are for the function."""
    if isinstance(function, nn.Module):
        return []
    taken = inspect.signature(function).parameters
    takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken.values())
    return list(source.options) if takes_all else list(taken)


def _arguments(function: Any, source: Source) -> dict[str, Any]:
    """The source's options as keyword arguments; a parameter annotated as str gets its text as it stands."""
    signature = inspect.signature(function)
    texts = {name for name, parameter in signature.parameters.items() if parameter.annotation in (str, "str")}
    values = {name: text if name in texts else guess_value(text) for name, text in source.options.items()}
    try:
        signature.bind(**values)
    except TypeError as error:
        raise UserError(
            f"{source.rest} cannot be called like this", str(error), f"its parameters are {signature}"
        ) from None
    return values
