"""`vallum tune`: what a saved defence does by default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def tune(
    folder: Annotated[Path, typer.Argument(help="A defended model that vallum saved.", metavar="FOLDER")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="KNOB=VALUE, one or several. None: show them.", metavar="KNOB=VALUE")
    ] = None,
    trust: Annotated[bool, typer.Option(help="The folder may name code of yours that builds it.")] = False,
) -> None:
    """Set the knobs of a saved defence, or show how they stand.

    ```
    vallum tune runs/hardened
    vallum tune runs/hardened sigma=0.2 draws=8
    ```
    """
    from vallum.defences.base import Defence, knobs_of
    from vallum.errors import UserError
    from vallum.models import load_model, save_model, saved_facts
    from vallum.models.request import guess_value

    model = load_model(folder, trust=trust)
    if not isinstance(model, Defence):
        raise UserError(f"{folder} holds no defence", remedy="harden the model first")
    given: dict[str, object] = {}
    for text in settings or []:
        knob, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{text!r} sets nothing", remedy="write KNOB=VALUE, as sigma=0.2")
        given[knob] = guess_value(value)
    tuned = model.tuned(**given)
    if given:
        save_model(tuned, folder, **saved_facts(folder).get("extra", {}))
    for knob, what in knobs_of(tuned).items():
        part: object = tuned
        while knob not in part.knobs:  # type: ignore[attr-defined]
            part = part.model  # type: ignore[attr-defined]
        typer.echo(f"{knob}={getattr(part, knob)}  {what}")
