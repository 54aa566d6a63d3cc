"""Noise on the upload alone: bounded moves, the promised noise, one charge for each upload."""

import pytest
import torch

from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import ClientId, Download, Update
from privacy.ledgers.ledger import Budget, Ledgers
from privacy.mechanisms.randomness import Randomness
from privacy.mechanisms.upload import UploadPrivacy

ONE = ClientId(1)


def privatizer(noise=0.0, radius=0.5, counts="withheld", seed=0):
    budget = Budget(1.0, {}, lambda units: units / 100, 1)
    return UploadPrivacy(
        Ledgers(budget, None), noise, radius, counts, Randomness(seed), statement={}
    )


def down(round=1, **arrays):
    return Download(round, ONE, arrays or {"context": torch.ones(4, 8), "gate": torch.zeros(3)})


def up(round=1, **arrays):
    return Update(round, ONE, arrays, num_examples=12, metrics={"train_loss": 0.5})


def released(privacy, update, download):
    privacy.authorise([ONE], update.round, {})
    return privacy.release(update, download)


def test_a_small_move_passes_and_a_large_one_is_clipped_over_all_arrays_together():
    sent = down()
    small = up(context=sent.arrays["context"] + 0.01, gate=torch.full((3,), 0.02))
    found = released(privatizer(), small, sent)
    assert torch.allclose(found.arrays["context"], small.arrays["context"])
    large = up(context=torch.full((4, 8), 70.0), gate=torch.full((3,), -900.0))
    found = released(privatizer(), large, sent)
    moves = [found.arrays[name] - sent.arrays[name] for name in found.arrays]
    assert float(torch.cat([m.flatten() for m in moves]).norm()) == pytest.approx(0.5, rel=1e-4)
    assert float(moves[1].sign().sum()) == -3


def test_whether_a_move_was_clipped_is_counted_at_home():
    sent, privacy = down(context=torch.zeros(4, 8)), privatizer(noise=1.0)
    assert privacy.clipped() == {}
    released(privacy, up(context=torch.full((4, 8), 0.01)), sent)
    assert privacy.clipped() == {ONE: 0.0}
    released(privacy, up(round=2, context=torch.full((4, 8), 9.0)), sent)
    assert privacy.clipped() == {ONE: 1.0}
    assert privacy.clipped() == {}


def test_any_two_data_sets_are_at_most_the_diameter_apart():
    sent = down(context=torch.zeros(4, 8))
    for trial in range(20):
        draws = torch.Generator().manual_seed(trial)
        pair = [
            released(privatizer(), up(context=10 * torch.randn(4, 8, generator=draws)), sent)
            for _ in range(2)
        ]
        gap = pair[0].arrays["context"] - pair[1].arrays["context"]
        assert float(gap.norm()) <= 1.0 + 1e-5


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_cannot_pass(poison):
    sent = down(context=torch.zeros(4, 8))
    found = released(privatizer(), up(context=torch.full((4, 8), poison)), sent)
    assert float(found.arrays["context"].norm()) <= 0.5 + 1e-5


def test_the_noise_is_calibrated_to_the_diameter():
    sent = down(context=torch.zeros(100, 100))
    found = released(privatizer(noise=3.0), up(context=torch.zeros(100, 100)), sent)
    assert float(found.arrays["context"].std()) == pytest.approx(3.0 * 2 * 0.5, rel=0.05)


def test_counts_and_metrics_are_withheld():
    sent = down(context=torch.zeros(4, 8))
    found = released(privatizer(), up(context=torch.zeros(4, 8)), sent)
    assert found.num_examples is None
    assert found.metrics == {}
    public = released(privatizer(counts="public"), up(context=torch.zeros(4, 8)), sent)
    assert public.num_examples == 12
    assert public.metrics == {}


def test_one_charge_pays_for_one_upload():
    privacy = privatizer()
    sent = down(context=torch.zeros(4, 8))
    with pytest.raises(PrivacyError, match="without a charge"):
        privacy.release(up(context=torch.zeros(4, 8)), sent)
    privacy.authorise([ONE], 1, {})
    privacy.release(up(context=torch.zeros(4, 8)), sent)
    with pytest.raises(PrivacyError, match="without a charge"):
        privacy.release(up(context=torch.zeros(4, 8)), sent)


def test_an_upload_without_a_public_start_is_refused():
    with pytest.raises(PrivacyError, match="no public starting point"):
        released(privatizer(), up(extra=torch.zeros(2)), down(context=torch.zeros(4, 8)))
