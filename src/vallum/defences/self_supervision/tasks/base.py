"""What a self-supervised task is: something that an image can be asked about itself, with a loss for each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from vallum.defences.self_supervision.backbone import Features, Layout
from vallum.errors import UntrustedCodeError, UserError
from vallum.images import Draws
from vallum.own_code import find
from vallum.specs import Registry, build, parameters, split_arguments, write_value

Seen = Mapping[str, Features]  # what the backbone made of each look, by the look's name
IMAGE = "image"  # the look that is the image itself: tasks that show it share one pass


class SelfTask:
    """Subclasses are frozen dataclasses of hyper-parameters; what they learn is in their `head`.

    A task draws what is random, shows the backbone some looks, and says of each image how badly it does. It is named by
    where it is, as mine.py:Darker, or by the name under which it is registered in TASKS:

        @dataclass(frozen=True)
        class Darker(SelfTask):
            by: float = parameter("share of the light that is taken away", 0.3)

            def head(self, layout): return nn.Linear(layout.pooled, 1)
            def looks(self, images, drawn): return {"image": images, "darker": images * (1 - self.by)}
            def losses(self, head, seen, images, drawn):
                return F.softplus(head(seen["darker"].pooled) - head(seen["image"].pooled))[:, 0]

    Nothing in it may look from one image at another, and batch norm in a head is in eval mode when images are repaired:
    `losses` of an image must not depend on its batch. `learning` may, as it is for training alone. Gradients of
    gradients must exist if the unrolled attack is to see through it.
    """

    dense: ClassVar[bool] = False  # whether a segmenter has use for it
    map_alone: ClassVar[bool] = False  # whether it reads nothing but the map, so that the pass may end there
    paper_weight: ClassVar[float] = 1.0  # beside the contrastive loss, in the published code

    @property
    def name(self) -> str:
        return type(self).__name__ if type(self) in _OWN else TASKS.name_of(self)

    def head(self, layout: Layout) -> nn.Module:
        """What learns to do it, from the backbone's features."""
        raise NotImplementedError

    def draw(self, draws: Draws, layout: Layout) -> Any:
        """Whatever is random in one step, with a row for each of `draws`; there may be one row for all images."""
        return None

    def looks(self, images: Tensor, drawn: Any) -> dict[str, Tensor]:
        """What the backbone is shown, by name, each (N, C, H, W); looks of one name are the same to all tasks."""
        raise NotImplementedError

    def losses(self, head: Any, seen: Seen, images: Tensor, drawn: Any) -> Tensor:
        """(N,), each from its own image."""
        raise NotImplementedError

    def learning(self, head: Any, seen: Seen, images: Tensor, drawn: Any) -> Tensor:
        """(N,), what the head learns from, with batch norm in training mode."""
        return self.losses(head, seen, images, drawn)

    def settle(self, head: Any, seen: Seen, images: Tensor, drawn: Any) -> None:
        """Called once after training with looks at clean images, for what must be remembered of them."""


TASKS: Registry[SelfTask] = Registry("self-supervised task")
_OWN: dict[type, str] = {}  # classes that were read from users' files, and where


def read_tasks(text: str, trust: bool = True) -> tuple[SelfTask, ...]:
    """Tasks joined by +, their parameters in brackets; FILE.py:Class is one of your own, which runs that file.

    >>> [task.name for task in read_tasks("contrastive(views=4)+rotation")]
    ['contrastive', 'rotation']
    """
    made = tuple(_read(part, trust) for part in _split(text))
    names = [task.name for task in made]
    twice = next((name for name in names if names.count(name) > 1), None)
    if not made or twice:
        raise UserError(
            f"tasks={text!r} names {f'{twice} twice' if twice else 'no task'}",
            f"some of {', '.join(TASKS)}, joined by +",
            "write tasks=contrastive+rotation",
        )
    return made


def write_tasks(tasks: tuple[SelfTask, ...]) -> str:
    """What `read_tasks` reads back to these tasks.

    >>> write_tasks(read_tasks("rotation(count=1)+jigsaw()"))
    'rotation(count=1)+jigsaw'
    """
    said = []
    for task in tasks:
        taken = [
            f"{one.name}={write_value(getattr(task, one.name))}"
            for one in parameters(type(task))
            if one.required or getattr(task, one.name) != one.default
        ]
        name = _OWN.get(type(task)) or TASKS.name_of(task)
        said.append(f"{name}({','.join(taken)})" if taken else name)
    return "+".join(said)


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "+" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in (one.strip() for one in parts) if part]


def _read(text: str, trust: bool) -> SelfTask:
    name, bracket, inside = text.partition("(")
    if bracket and not inside.endswith(")"):
        raise UserError(f"the brackets in {text!r} do not match", remedy="write contrastive(views=4)")
    made = _own(name, trust) if ":" in name else TASKS[name]
    return build(made, split_arguments(inside.removesuffix(")"), text), text)


def _own(name: str, trust: bool) -> type[SelfTask]:
    if not trust:
        raise UntrustedCodeError(f"this saved model has a task that is made by running code: {name}")
    where, _, attribute = name.rpartition(":")
    found: Any = find(where, attribute, "self-supervised task", TASKS)
    if not (isinstance(found, type) and issubclass(found, SelfTask) and hasattr(found, "__dataclass_fields__")):
        raise UserError(f"{name} is no task", "a frozen dataclass that derives from SelfTask", "see its documentation")
    path = Path(where).expanduser()
    _OWN[found] = f"{path.absolute() if path.suffix == '.py' else where}:{attribute}"
    return found


@dataclass(frozen=True)
class Perceptron:
    """The head that most tasks have: two layers with batch norm between them."""

    hidden: int = 256

    def __call__(self, inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(inputs, self.hidden, bias=False),
            nn.BatchNorm1d(self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, outputs),
        )
