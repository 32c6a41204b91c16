"""Models from anywhere, in one shape."""

from vallum.models.checks import check_model
from vallum.models.load import load_model
from vallum.models.model import Model, Wrapped
from vallum.models.request import MODEL_SOURCES, Request, make_model
from vallum.models.saving import save_model, saved_facts
from vallum.models.sources.builtin import builtin_names
from vallum.models.state import model_fingerprint, weights_fingerprint

__all__ = [
    "load_model",
    "Model",
    "Wrapped",
    "save_model",
    "saved_facts",
    "check_model",
    "model_fingerprint",
    "weights_fingerprint",
    "MODEL_SOURCES",
    "Request",
    "make_model",
    "builtin_names",
]
