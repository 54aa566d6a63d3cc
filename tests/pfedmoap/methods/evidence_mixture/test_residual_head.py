"""The residual head against the gradient of its objective, and at its two ends."""

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.methods.evidence_mixture.residual_head import fit_head


def problem(images=12, width=6, classes=4):
    stream = torch.Generator().manual_seed(images)
    image = F.normalize(torch.randn(images, width, generator=stream), dim=-1)
    labels = torch.randint(classes, (images,), generator=stream)
    return image, labels, torch.randn(images, classes, generator=stream)


@pytest.mark.parametrize("images", [1, 12, 300])
@pytest.mark.parametrize("spread", [0.5, 4.0, 20.0])
def test_the_head_is_the_minimum_of_its_objective(images, spread):
    image, labels, offset = problem(images)
    head = fit_head(image, labels, offset, spread).double().requires_grad_()
    logits = offset.double() + image.double() @ head.T
    fit = F.cross_entropy(logits, labels, reduction="sum")
    (fit + head.pow(2).sum() / (2 * spread**2)).backward()
    assert head.grad is not None
    assert float(head.grad.norm()) < 1e-4 * images


def test_it_turns_wrong_answers_right_and_needs_room_to_do_so():
    image, labels, _ = problem()
    wrong = F.one_hot((labels + 1) % 4, 4).float() * 3

    def right(spread):
        head = fit_head(image, labels, wrong, spread)
        return float(((wrong + image @ head.T).argmax(1) == labels).float().mean())

    assert right(0.01) == 0.0
    assert right(20.0) == 1.0


def test_no_image_and_no_room_correct_nothing():
    image, labels, offset = problem()
    assert not fit_head(image, labels, offset, 0.0).any()
    none = fit_head(image[:0], labels[:0], offset[:0], 4.0)
    assert none.shape == (4, 6)
    assert not none.any()
