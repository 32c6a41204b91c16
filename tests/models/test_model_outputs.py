"""Whatever shape a network's output has, the same logits come out of it."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Task
from vallum.models.outputs import KEYS, as_logits, find_tensor

LOGITS = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
Pair = namedtuple("Pair", ["logits", "aux_logits"])
SIZE = torch.Size((6, 8))


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (LOGITS, LOGITS + 1),
        [LOGITS],
        Pair(LOGITS, LOGITS + 1),
        SimpleNamespace(logits=LOGITS, loss=torch.zeros(())),
        OrderedDict(loss=torch.zeros(()), logits=LOGITS),
        OrderedDict(out=LOGITS, aux=LOGITS + 1),
        {"anything": LOGITS},
        {"output": (LOGITS, LOGITS + 1)},
        LOGITS.numpy(),
        *({key: LOGITS, "aux": LOGITS + 1} for key in KEYS),
    ],
    ids=lambda output: type(output).__name__,
)
def test_the_logits_are_found_in_every_container(output: Any) -> None:
    assert torch.equal(find_tensor(output), LOGITS)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ({"a": LOGITS, "b": LOGITS}, "a dict with a, b"),
        ({}, "nothing in it"),
        (None, "a NoneType"),
        ("cat", "a str"),
        ((), "a tuple"),
    ],
)
def test_an_output_without_logits_is_explained(output: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        find_tensor(output)


def classify(output: Tensor, outputs: str = "logits") -> Tensor:
    return as_logits(output, Task.CLASSIFY, outputs, SIZE)


def segment(output: Tensor, outputs: str = "logits") -> Tensor:
    return as_logits(output, Task.SEGMENT, outputs, SIZE)


def test_spatial_axes_of_length_one_are_dropped() -> None:
    assert torch.equal(classify(LOGITS[:, :, None, None]), LOGITS)


@pytest.mark.parametrize("shape", [(7,), (7, 1), (7, 1, 1, 1)])
def test_a_single_logit_becomes_two_whose_softmax_is_its_sigmoid(shape: tuple[int, ...]) -> None:
    single = torch.linspace(-3, 3, 7)
    found = classify(single.reshape(shape))
    assert found.shape == (7, 2)
    torch.testing.assert_close(found.softmax(1)[:, 1], single.sigmoid())


@pytest.mark.parametrize("axis", [True, False])
def test_a_single_logit_per_pixel_too(axis: bool) -> None:
    single = torch.randn(2, 1, *SIZE)
    found = segment(single if axis else single[:, 0])
    torch.testing.assert_close(found.softmax(1)[:, 1], single[:, 0].sigmoid())


@given(st.integers(1, 9), st.integers(0, 99))
def test_probabilities_and_logits_of_one_network_agree(count: int, seed: int) -> None:
    logits = torch.randn(3, count, generator=torch.Generator().manual_seed(seed))
    if count == 1:
        probabilities, expected = logits.sigmoid(), classify(logits)
    else:
        probabilities, expected = logits.softmax(1), logits
    found = classify(probabilities, "probabilities")
    torch.testing.assert_close(found.softmax(1), expected.softmax(1))


def test_a_probability_of_zero_stays_finite() -> None:
    assert bool(classify(torch.tensor([[0.0, 1.0]]), "probabilities").isfinite().all())


def test_segmentation_at_low_resolution_is_brought_to_the_images_size() -> None:
    coarse = torch.randn(2, 3, 3, 4)
    expected = F.interpolate(coarse, SIZE, mode="bilinear", align_corners=False)
    assert torch.equal(segment(coarse), expected)
    probabilities = segment(coarse.softmax(1), "probabilities").exp()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, *SIZE))  # interpolated before the logarithm


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_comes_back_as_float32(kind: torch.dtype) -> None:
    found = classify(LOGITS.to(kind))
    assert found.dtype == torch.float32
    assert torch.equal(found, LOGITS.to(kind).float())


@pytest.mark.parametrize(
    ("output", "task"),
    [(torch.zeros(2, 3, 4, 4), Task.CLASSIFY), (torch.zeros(2, 3), Task.SEGMENT), (torch.zeros(()), Task.CLASSIFY)],
)
def test_a_shape_of_the_other_task_names_the_remedy(output: Tensor, task: Task) -> None:
    with pytest.raises(UserError, match="task='classify' or task='segment'"):
        as_logits(output, task, "logits", SIZE)


def test_predicted_labels_are_no_logits() -> None:
    with pytest.raises(UserError, match="before the argmax"):
        classify(LOGITS.argmax(1))
    with pytest.raises(UserError, match="before the argmax"):
        classify(find_tensor(np.array([1, 2])))
