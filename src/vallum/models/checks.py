"""Mistakes in how a model is handed over, caught on its first batch, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import IGNORE, Draws, Task
from vallum.models.making import first_line
from vallum.models.model import Model, class_names

_PROBE = 8  # how many images the checks beyond the plain forward pass take


def check_model(
    model: Model,
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str] | int | None = None,
    ways: Mapping[str, Model] | None = None,
) -> list[str]:
    """Raise a UserError for what would make every number wrong; return warnings for what is merely suspicious.

    `classes` are those of the data. A model that does not know its classes learns them here, and one whose outputs
    hang on no graph at all is marked as not differentiable. `ways` are stand-ins with which attackers replace it, by
    name: what one of them has a gradient for does not look more robust than it is.
    """
    names = class_names(classes)
    _check_mode(model)
    logits = _logits(model, images)
    _check_shape(model, images, logits)
    _check_classes(model, logits.shape[1], names)
    _check_labels(model, images, labels, logits.shape[1])
    probe = images[:_PROBE]
    shape = probe.shape[1:]
    noise = _logits(model, Draws(0, range(len(probe))).uniform(*shape, purpose="check").to(images))
    warnings = [*model.remarks, *_range_warnings(model, logits, noise)]
    different = bool((images != images[:1]).any())
    rows = logits if different else torch.cat([logits, noise])
    if bool((rows == rows[:1]).all()):
        warnings.append(
            "the model gives exactly the same output for different images; check that its weights are loaded, and "
            "that mean and std are those it was trained with"
        )
    if model.differentiable:
        warnings += _gradient_warnings(model, probe, ways or {})
    return warnings


def _check_mode(model: Model) -> None:
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        more = f" and {len(training) - 1} more" if len(training) > 1 else ""
        raise UserError(
            f"the model is in training mode: {training[-1]}{more}",
            "dropout and batch statistics would make its outputs depend on chance and on the rest of the batch",
            "call model.eval()",
        )


def _logits(model: Model, images: Tensor) -> Tensor:
    """The model's output for `images`, with the likely cause where it fails."""
    if images.device != model.device:
        raise UserError(
            f"the images are on {images.device}, the model on {model.device}",
            "both must be on one device",
            "use load_model(..., device=) or batch.to(model.device)",
        )
    with torch.no_grad(), taking(model, images):
        return model(images)


@contextmanager
def taking(model: Model, images: Tensor) -> Iterator[None]:
    """Within, an error of a network that was given images says what images it does not take, and the likely cause."""
    try:
        yield
    except UserError:
        raise
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        height, width = images.shape[-2:]
        if model.size is not None and model.size != (height, width):
            wanted = f"it wants {model.size[0]}x{model.size[1]}"
            edge = f"size={model.size[0]}" if model.size[0] == model.size[1] else f"size={model.size}"
        else:
            wanted = first_line(error)
            edge = "the size and the channels that it was trained with, as size=224 or channels=1"
        raise UserError(
            f"the model does not take images of {images.shape[1]}x{height}x{width}",
            wanted,
            f"load the data with {edge}",
        ) from error


def _check_shape(model: Model, images: Tensor, logits: Tensor) -> None:
    spatial = images.shape[-2:] if model.task is Task.SEGMENT else ()
    if logits.ndim != 2 + len(spatial) or logits.shape[2:] != torch.Size(spatial):
        raise UserError(
            f"the model's output has shape {tuple(logits.shape)}",
            f"(N, K{', H, W' if spatial else ''}) is needed from a model with task={str(model.task)!r}",
            "give the right task=, or wrap the network with load_model",
        )
    if len(logits) != len(images):
        raise UserError(
            f"the model gives {len(logits)} outputs for {len(images)} images",
            "one for each image, in their order",
            "keep the batch axis first, and squeeze no axis that may have length 1",
        )
    if not bool(logits.isfinite().all()):
        raise UserError(
            "the model's logits hold NaN or infinity",
            "finite logits for images in [0, 1]",
            "check its weights, its mean and std, and whether half precision overflows",
        )


def _check_classes(model: Model, count: int, names: tuple[str, ...] | None) -> None:
    if model.classes is not None and len(model.classes) != count:
        raise UserError(
            f"the model has {count} outputs, and its classes name {len(model.classes)}",
            remedy="give as many classes as the network has outputs",
        )
    if names is not None and len(names) != count:
        few = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        numbered = names == class_names(len(names))
        lacking = f"classes={count}" if numbered else "classes=NAME,NAME,... with all names, in the model's order"
        raise UserError(
            f"the model tells {count} classes apart, the data have {len(names)} ({few})",
            "both must mean the same classes in the same order",
            "load the model that was trained on these data, or data with its classes"
            + (
                f"; where the data lack some of its classes, say so: ?{lacking} after their source, or load_data(..., "
                f"classes={count if numbered else '[...]'})"
                if len(names) < count
                else ""
            ),
        )
    if names is not None and model.classes is not None and names != model.classes and set(names) == set(model.classes):
        place = next(i for i in range(count) if names[i] != model.classes[i])
        raise UserError(
            f"class {place} is {model.classes[place]!r} to the model and {names[place]!r} in the data",
            "both must have the same classes in the same order",
            "give the data the model's order of classes",
        )
    model.classes = model.classes or names or class_names(count)


def _check_labels(model: Model, images: Tensor, labels: Tensor, count: int) -> None:
    wanted = (len(images), *(images.shape[-2:] if model.task is Task.SEGMENT else ()))
    if tuple(labels.shape) != wanted or labels.is_floating_point():
        raise UserError(
            f"the labels are {labels.dtype} of shape {tuple(labels.shape)}",
            f"a model with task={str(model.task)!r} needs integers of shape {wanted}",
            "check task= and the labels",
        )
    known = labels[labels != IGNORE] if model.task is Task.SEGMENT else labels
    if known.numel() and (int(known.min()) < 0 or int(known.max()) >= count):
        ignored = f", and {IGNORE} for pixels to ignore" if model.task is Task.SEGMENT else ""
        raise UserError(
            f"the labels reach from {int(known.min())} to {int(known.max())}",
            f"0 to {count - 1} for a model with {count} classes{ignored}",
            "number the classes from 0, as the model does",
        )


def _range_warnings(model: Model, logits: Tensor, noise: Tensor) -> list[str]:
    """Probabilities are an error where they are certain, a warning where a single sigmoid or several are likely."""
    if getattr(model, "outputs", "logits") == "probabilities":  # what is here is their logarithm
        probabilities = torch.cat([logits, noise]).exp()
        if float(probabilities.max()) > 1 + 1e-3:
            raise UserError(
                "the model does not return probabilities",
                "it was loaded with outputs='probabilities', and some outputs exceed 1",
                "leave outputs= out: these are logits",
            )
        if bool(((probabilities.sum(1) - 1).abs() > 1e-2).any()):
            return ["the outputs, said to be probabilities, do not add up to 1; if they are logits, leave outputs= out"]
        return []
    if not all(bool(((part >= 0) & (part <= 1)).all()) for part in (logits, noise)):
        return []
    if all(bool(((part.sum(1) - 1).abs() < 1e-3).all()) for part in (logits, noise)):
        raise UserError(
            "the model returns probabilities",
            "logits are needed: after a softmax, gradients vanish and attacks look weaker than they are",
            "remove the softmax, or load the model with outputs='probabilities'",
        )
    if bool((logits == 0).all()):
        return []  # a network that says nothing: the check for a constant output speaks of it
    return [
        "every output lies in [0, 1], as after a sigmoid; if it is one, remove it or load the model with "
        "outputs='probabilities'"
    ]


def _gradient_warnings(model: Model, images: Tensor, ways: Mapping[str, Model]) -> list[str]:
    """Whether the logits depend on the images in a way that a gradient can see."""
    blind = "let it be attacked through a surface that it declares, or straight through what blocks the gradient"
    gradient, reason = _gradient(model, images)
    if gradient is None:
        model.differentiable = False
        return [
            f"the model gives no gradient with respect to its images{reason}; only attacks without gradients will run, "
            f"which say less; remove no_grad, detach or numpy from its forward pass, or {blind}"
        ]
    if not bool(gradient.isfinite().all()):
        return [
            "the gradient with respect to the images holds NaN or infinity, as of a root or a gamma curve at black "
            "pixels; attacks put a finite slope there, which need not be the best: compare with random_search"
        ]
    zero = _nowhere(gradient)  # (N,)
    count, by = int(zero.sum()), []
    for name, stand_in in ways.items():
        its = _gradient(stand_in, images)[0] if bool(zero.any()) else None
        if its is not None and bool(its.isfinite().all()) and bool((zero & ~_nowhere(its)).any()):
            by.append(name)
            zero &= _nowhere(its)
    covered = f"attacked directly, its gradient is exactly zero for {count} of {len(images)} images; covered by "
    if by and not bool(zero.any()):
        return [covered + f"{' and '.join(by)}, where it is not, and which attacks go through as well"]
    if count:
        where = f"for {int(zero.sum())} of {len(images)} images"
        return [
            f"the gradient is exactly zero everywhere {where}: attacks that follow it stand still and the model looks "
            f"more robust than it is; remove rounding or saturation, or {blind}"
        ]
    return []


def _gradient(model: Model, images: Tensor) -> tuple[Tensor | None, str]:
    """Of a weighted sum of the logits with respect to the images; none, and a reason if one is known, without any."""
    inputs = images.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            logits = model(inputs)
            if not logits.requires_grad:
                return None, ""
            # Different weights for the classes, because a log-softmax keeps their plain sum nearly constant.
            weights = torch.linspace(-1, 1, logits.shape[1], device=logits.device).view(
                1, -1, *(1,) * (logits.ndim - 2)
            )
            return torch.autograd.grad((logits * weights).sum(), inputs, allow_unused=True)[0], ""
    except (RuntimeError, TypeError) as error:
        return None, f": {first_line(error)}"


def _nowhere(gradient: Tensor) -> Tensor:
    """(N,) for which images it is exactly zero everywhere."""
    return (gradient == 0).flatten(1).all(1)
