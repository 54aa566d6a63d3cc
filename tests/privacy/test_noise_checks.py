"""Noise that is predictable, repeats, is too weak or depends on data is told from sound noise."""

import pytest
import torch

from pfedmoap.wire.messages import ClientId
from privacy.auditing.noise_rows import NoiseRows, span
from privacy.auditing.seed_search import (
    SeedSearch,
    ciphered_gaussian,
    plain_gaussian,
    summed_gaussian,
)
from privacy.mechanisms.randomness import SecureStream

SIZE, CLIENTS, STEPS = 400, 10, 6
SEARCH = SeedSearch(seeds=64)


def collect(noise, search=SEARCH, signal=1.0):
    """Noisy vectors of some clients: a known part, an unknown direction, and noise."""
    draws = torch.Generator().manual_seed(1)
    unknown = torch.linalg.qr(torch.randn(SIZE, 3, generator=draws)).Q.mT.contiguous()
    rows = NoiseRows(search)
    for step in range(STEPS):
        for client in range(CLIENTS):
            known = torch.randn(5, SIZE, generator=draws)
            noisy = signal * (known.sum(0) + unknown.sum(0)) + noise(client, step, draws)
            rows.add(ClientId(client), noisy, known, unknown)
    return rows


def sound(client, step, draws):
    return torch.randn(SIZE, generator=draws)


def test_sound_noise_is_not_accused():
    found = collect(sound).findings(1.0)
    assert found.flaws == ()
    assert found.vectors == CLIENTS * STEPS
    assert found.strength == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("source", [plain_gaussian, summed_gaussian, ciphered_gaussian])
def test_noise_of_a_small_seed_is_found_and_subtracted(source):
    rows = collect(lambda client, step, _: source((7 * client + step) % 64, SIZE), signal=0.1)
    assert rows.predicted == CLIENTS * STEPS
    assert "its seed was found" in rows.findings(1.0).flaws
    noisy = source(5, SIZE) + 0.1 * torch.ones(SIZE)
    left = NoiseRows(SEARCH).add(ClientId(0), noisy, torch.zeros(0, SIZE), torch.eye(SIZE)[:1])
    assert torch.cosine_similarity(left, torch.ones(SIZE), dim=0) > 0.95


def test_a_seed_outside_of_the_search_is_not_found():
    assert SEARCH.find(plain_gaussian(64, SIZE)) is None
    stream = SecureStream(bytes(31) + b"\x01")  # a key of which only high bits are set
    assert SEARCH.find(stream.normal(SIZE).float()) is None


def test_repeated_noise_is_seen_between_steps_and_between_clients():
    draws = torch.Generator().manual_seed(1000)  # not searched
    once = torch.randn(SIZE, generator=draws)
    per_client = torch.randn(CLIENTS, SIZE, generator=draws)
    for noise in (lambda c, s, d: once, lambda c, s, d: per_client[c]):
        found = collect(noise).findings(1.0)
        assert found.flaws[0] == "it repeats"
        assert not found.too_weak  # one draw that comes again says little about its strength
        assert found.similarity > 0.9


def test_weak_noise_is_seen_and_strong_noise_is_not_accused():
    assert collect(lambda c, s, d: 0.9 * sound(c, s, d)).findings(1.0).too_weak
    assert collect(lambda c, s, d: 1.5 * sound(c, s, d)).findings(1.0).flaws == ()


def test_noise_whose_strength_follows_the_data_is_seen():
    sizes = [48, 55, 50, 45, 52, 58, 47, 51, 49, 53]
    found = collect(lambda c, s, d: sound(c, s, d) * 50 / sizes[c]).findings(1.0)
    assert found.flaws == ("its strength depends on the data",)


def test_a_span_of_dependent_vectors():
    vectors = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    basis = span(vectors)
    assert basis.shape == (3, 2)
    assert torch.allclose(basis @ basis.mT, torch.diag(torch.tensor([1.0, 0.0, 1.0])), atol=1e-6)
    assert span(vectors[:0]).shape == (3, 0)
