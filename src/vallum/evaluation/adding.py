"""A run that is called again with other threats or models: what it has measured before stays, where it may."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vallum.evaluation.plan import Cell, Plan, PlannedModel, PlannedThreat
from vallum.evaluation.store import Store

_WHO = ("name", "spec", "fingerprint", "surfaces", "ignorant", "diagnostic", "draws")  # two models alike in it are one

KEPT = "measured by an earlier call and kept"


@dataclass(frozen=True)
class Joined:
    """A plan that begins with the models and threats of this call, and what of an earlier one is beside them or not."""

    plan: Plan
    threats: tuple[str, ...] = ()  # kept: every model of this call has met them
    models: tuple[str, ...] = ()  # kept: they have met every threat that is in the plan
    changed: tuple[str, ...] = ()  # models of this call that had another's weights, settings or surfaces then
    left_out: tuple[str, ...] = ()  # what is finished and in no table, for then not all models would have met the same

    def notes(self, earlier: dict[str, Any]) -> list[str]:
        """What a reader must know of it, from what the earlier call noted."""
        said = [
            note
            for note in earlier.get("notes", [])
            if any(spec in note for spec in self.threats) or note.startswith(tuple(f"{one}: " for one in self.models))
        ]
        known = [note for note in said if note.startswith(KEPT)]  # by a call before that one
        kept = [one for one in (*self.threats, *self.models) if not any(one in note for note in known)]
        if kept and earlier.get("command"):
            said.append(f"{KEPT}: {', '.join(kept)} ({earlier['command']})")
        if self.left_out:
            why = "not every model here has met it, or not all of it"
            if self.changed:
                why = f"{', '.join(self.changed)}: no more the model, or attacked as it was"
            said.append(
                f"measured by an earlier call and not in this table: {', '.join(self.left_out)}; {why}. Name all "
                "models and threats in one command to have them side by side"
            )
        return said


def join(plan: Plan, earlier: Plan | None, store: Store) -> Joined:
    """Keep what makes the grid no less complete: of these images, with this seed, of the very same models.

    First the earlier threats that each model of this call has met, then the earlier models that have met all of those
    and of this call's.
    """
    if earlier is None:
        return Joined(plan)
    plan.refuse_mixing(earlier, str(store.folder))
    mine = replace(plan, models=tuple(_knowing(model, earlier.models) for model in plan.models))
    specs, names = {one.spec for one in plan.threats}, {one.name for one in plan.models}
    before = [one for one in earlier.threats if one.spec not in specs]
    others = [one for one in earlier.models if one.name not in names]

    # Through other surfaces the same attack is another: with fewer of them it would look weaker, and nothing said why.
    pairs = [(model, one) for model in plan.models for one in earlier.models if one.name == model.name]
    changed = [model.name for model, one in pairs if not _like(model, one)]
    threats = [one for one in before if not changed and _met(replace(mine, threats=(one,)), store)]
    mine = replace(mine, threats=(*mine.threats, *threats))
    models = [one for one in others if _met(replace(mine, models=(one,)), store)]
    past: list[PlannedModel | PlannedThreat] = [*before, *others]
    left = [one for one in past if one not in threats and one not in models]
    return Joined(
        replace(mine, models=(*mine.models, *models)),
        tuple(one.spec for one in threats),
        tuple(one.name for one in models),
        tuple(changed),
        tuple(_called(one) for one in left if _begun(one, earlier, store)),
    )


def of_this_call(joined: Joined, cells: Iterable[Cell]) -> list[Cell]:
    """Those of the cells whose model and threat are at hand."""
    models = len(joined.plan.models) - len(joined.models)
    threats = len(joined.plan.threats) - len(joined.threats)
    return [cell for cell in cells if cell.model < models and cell.threat < threats]


def _knowing(model: PlannedModel, before: Sequence[PlannedModel]) -> PlannedModel:
    """The model with what was found then of surfaces that have no use for a threat."""
    for one in before:
        if _like(one, model):
            left_out = dict.fromkeys((*model.left_out, *one.left_out))
            return replace(model, left_out=tuple(left_out), unfitted=tuple({*model.unfitted, *one.unfitted}))
    return model


def _like(one: PlannedModel, other: PlannedModel) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in _WHO)


def _met(part: Plan, store: Store) -> bool:
    """Whether all of it is finished."""
    return all(store.has(cell) for cell in (*part.fits(), *part.cells()))


def _begun(one: PlannedModel | PlannedThreat, earlier: Plan, store: Store) -> bool:
    part = replace(earlier, models=(one,)) if isinstance(one, PlannedModel) else replace(earlier, threats=(one,))
    return any(store.has(cell) for cell in part.cells())


def _called(one: PlannedModel | PlannedThreat) -> str:
    return one.name if isinstance(one, PlannedModel) else one.spec
