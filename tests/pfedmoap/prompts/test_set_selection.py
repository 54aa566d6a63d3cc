"""Choosing prompts: nearest by image, elected by batch, ties to the lower index."""

import pytest
import torch

from pfedmoap.errors import ConfigError
from pfedmoap.prompts.set_selection import Selection, cosine


def test_nearest_equals_sorting_by_hand():
    similarity = torch.randn(2, 7, 9, generator=torch.Generator().manual_seed(1))
    chosen = Selection("sample", 4).nearest(similarity)
    for client in range(2):
        for image in range(7):
            row = similarity[client, image].tolist()
            best = sorted(range(9), key=lambda i: (-row[i], i))[:4]
            assert chosen[client, image].tolist() == sorted(best)


def test_ties_go_to_the_lower_index():
    assert Selection("sample", 2).nearest(torch.zeros(5)).tolist() == [0, 1]


def test_a_batch_elects_what_most_of_its_images_have_among_their_nearest():
    similarity = torch.tensor([[[9.0, 8, 0, 0], [0, 9, 8, 0], [0, 8, 0, 9]]])
    present = torch.ones(1, 3, dtype=torch.bool)
    assert Selection("batch", 2).elected(similarity, present).tolist() == [[0, 1]]
    assert Selection("batch", 1).elected(similarity, present).tolist() == [[0]]


def test_padding_has_no_vote():
    similarity = torch.tensor([[[9.0, 0, 0], [0, 0, 9.0], [0, 0, 9.0]]])
    present = torch.tensor([[True, False, False]])
    assert Selection("batch", 1).elected(similarity, present).tolist() == [[0]]


def test_a_pool_smaller_than_k_is_used_whole():
    """Pitfall of PFPT: the pool shrinks, and top-k of fewer than k fails."""
    similarity = torch.randn(1, 2, 3)
    for rule in ("batch", "sample", "all"):
        assert Selection(rule, 10).nearest(similarity).tolist() == [[[0, 1, 2]] * 2]
    elected = Selection("batch", 10).elected(similarity, torch.ones(1, 2, dtype=torch.bool))
    assert elected.tolist() == [[0, 1, 2]]


def test_cosine_with_a_zero_key_is_zero():
    assert cosine(torch.randn(2, 3), torch.zeros(1, 3)).tolist() == [[0.0], [0.0]]


def test_choosing_none_is_an_error():
    with pytest.raises(ConfigError, match="at least 1"):
        Selection("batch", 0)
