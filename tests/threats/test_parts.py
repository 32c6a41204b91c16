"""Threats that hold others: what a part declares, the whole declares too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from test_invariants import SPECS, some_images, threat
from threat_oracles import EasyPixels

from vallum.defences.defensive_patches.only import Within
from vallum.errors import UserError
from vallum.images import IGNORE
from vallum.threats import Compose, EqualEnergy, Threat
from vallum.threats.clean import Clean

FREE = torch.ones(16, 16)
FREE[:, 8:] = 0


def whole(kind: str, spec: str) -> Threat:
    if kind == "energy":
        name, _, rest = spec.partition(":")
        kept = [part for part in rest.split(",") if not part.startswith(("eps=", "std=", "width=", "amount=", "snr="))]
        return EqualEnergy(f"({name}:{','.join(kept)})", rms=0.05)
    one = threat(spec)
    return Compose((Clean(), one)) if kind == "chain" else Within(one, FREE, "object")


def parts_of(one: Threat) -> list[Threat]:
    return [*getattr(one, "parts", ()), *filter(None, (getattr(one, "attack", None), getattr(one, "inner", None)))]


CASES = [
    (kind, spec)
    for kind in ("chain", "within", "energy")
    for spec in SPECS
    if not (kind == "energy" and ("norm=0" in spec or spec.startswith(("universal", "equal_energy", "own", "pert"))))
]


def refuses(one: Threat) -> bool:
    try:
        one.check_for_masks()
    except UserError:
        return True
    return False


@pytest.mark.parametrize(("kind", "spec"), CASES, ids=lambda text: text.rpartition("/")[2][:60])
def test_what_a_part_declares_the_whole_declares(kind: str, spec: str) -> None:
    one = whole(kind, spec)
    part = parts_of(one)[-1]
    assert not isinstance(part, Clean) or spec == "clean"
    for name in ("moves_labels", "needs_gradient", "targeted", "passes"):
        assert getattr(one, name) == getattr(part, name), name
    assert [one.passes_for(segments) for segments in (False, True)] == [part.passes_for(s) for s in (False, True)]
    assert part.fingerprint in one.fingerprint
    assert refuses(one) == refuses(part)


def all_threats(kind: type = Threat) -> Iterator[type]:
    for one in kind.__subclasses__():
        yield one
        yield from all_threats(one)


def test_whatever_holds_a_threat_hands_on_what_it_declares() -> None:
    holders = {
        one
        for one in all_threats()
        if one.__module__.startswith("vallum.")
        and (
            hasattr(one, "inner")
            or any("Threat" in str(f.type) for f in getattr(one, "__dataclass_fields__", {}).values())
        )
    }
    assert holders >= {Compose, EqualEnergy, Within}
    for holder in holders:
        for name in ("moves_labels", "with_labels", "check_for_masks", "passes_for", "fingerprint"):
            assert name in vars(holder), f"{holder.__name__} does not hand on {name}"


def test_a_mask_meets_what_its_image_meets() -> None:
    images, model = some_images(), EasyPixels()
    masks = model(images).argmax(1)
    spatial = threat("spatial:queries=13,early_stop=false")
    found, moved = spatial.with_labels(model, images, masks, range(6))
    assert not torch.equal(moved, masks)
    chained = Compose((Clean(), spatial)).with_labels(model, images, masks, range(6))
    assert torch.equal(chained[0], found)
    assert torch.equal(chained[1], moved)
    images_within, within = Within(spatial, FREE, "object").with_labels(model, images, masks, range(6))
    assert torch.equal(images_within[..., 8:], images[..., 8:])
    assert torch.equal(within[..., 8:], masks[..., 8:])
    assert not torch.equal(within, masks)
    equal, blended = EqualEnergy("(spatial:queries=13,early_stop=false)", rms=0.05).with_labels(
        model, images, masks, range(6)
    )
    assert torch.equal(blended, torch.where(moved == masks, masks, IGNORE))
    assert torch.equal(EqualEnergy("(spatial:queries=13,early_stop=false)", rms=0.05)(model, images, masks), equal)


def test_what_is_fitted_is_no_part_until_it_is() -> None:
    for spec in ("clean+universal:eps=0.1,steps=1", "equal_energy:of=(universal),rms=0.1"):
        with pytest.raises(UserError, match="is fitted on many images"):
            threat(spec)
    ready = threat("universal:eps=16/255,steps=2,images=8,targets=1")
    images = some_images(3)
    both = Compose((Clean(), ready))(None, images, torch.zeros(3, dtype=torch.long))
    assert torch.equal(both, ready(None, images, torch.zeros(3, dtype=torch.long)))
