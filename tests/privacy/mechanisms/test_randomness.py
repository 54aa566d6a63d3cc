"""The stream cipher behind noise and sampling: its keys, its numbers, and who could repeat them."""

import ast
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

import privacy
from pfedmoap.errors import PrivacyError
from privacy.mechanisms.randomness import KEY_BYTES, Randomness, SecureStream, normal_from

DRAWS = 10_000_000
LIMIT = 5.0  # standard errors; keys are fixed, so that a test that passes once always does


@pytest.fixture(scope="module")
def normals():
    return SecureStream(bytes(range(32))).normal(DRAWS)


def test_the_keystream_is_aes_256_in_counter_mode():
    """The first blocks of AES-256 under a zero key, as McGrew and Viega's GCM paper prints them.

    Its test case 13 has the block of counter 0 as H and, since its hash is zero, that of counter 1
    as the tag; case 14 has that of counter 2 as the ciphertext of zeros.
    """
    blocks = (
        "dc95c078a2408989ad48a21492842087"
        "530f8afbc74536b9a963b4f1c4cb738b"
        "cea7403d4d606b6e074ec5d3baf39d18"
    )
    words = SecureStream(bytes(32)).words(6)
    assert words.numpy().astype("<i8").tobytes().hex() == blocks


def test_a_fixed_key_draws_the_same_numbers_everywhere():
    """Computed by hand from the blocks above: the upper 53 bits of each little-endian word."""
    first = int.from_bytes(bytes.fromhex("dc95c078a2408989"), "little")
    second = int.from_bytes(bytes.fromhex("ad48a21492842087"), "little")
    uniform = SecureStream(bytes(32)).uniform(2)
    assert uniform.tolist() == [(first >> 11) / 2**53, (second >> 11) / 2**53]
    stream, whole = SecureStream(bytes(32)), SecureStream(bytes(32))
    parts = torch.cat([stream.uniform(3), stream.uniform(2, 4).flatten(), stream.uniform(1)])
    assert torch.equal(parts, whole.uniform(12))
    high, low, turn = (words >> 11 for words in _little_endian_words(6)[::2])
    radius = math.sqrt(-2 * math.log((high + (low + 1) / 2**53) / 2**53))
    expected = [radius * math.cos(2 * math.pi * turn / 2**53)]
    assert SecureStream(bytes(32)).normal(4)[:1].tolist() == pytest.approx(expected, abs=1e-13)


def _little_endian_words(count):
    return [word % 2**64 for word in SecureStream(bytes(32)).words(count).tolist()]


def test_a_key_of_another_length_is_refused():
    with pytest.raises(PrivacyError, match="32 bytes, got 8"):
        SecureStream(bytes(8))


def test_the_number_of_streams_is_that_of_256_bit_keys():
    """Asserted on the state: each of a key's bits decides what is drawn."""
    assert len(Randomness().key()) == len(Randomness(0).key("noise")) == KEY_BYTES == 32
    seen = {tuple(SecureStream(bytes(32)).words(2).tolist())}
    for bit in range(8 * KEY_BYTES):
        key = (1 << bit).to_bytes(KEY_BYTES, "little")
        seen.add(tuple(SecureStream(key).words(2).tolist()))
    assert len(seen) == 257


@pytest.mark.parametrize("bit", [31, 32, 33, 62, 63, 64, 127, 200])
def test_seeds_that_differ_in_a_high_bit_draw_something_else(bit):
    low, high = (Randomness(seed).stream("noise", 3, 1).normal(8) for seed in (5, 5 + 2**bit))
    assert bool((low != high).all())


def test_names_decide_a_seeds_stream_whatever_type_of_integer_they_are():
    assert Randomness(1).key("noise", 3) == Randomness(np.int64(1)).key("noise", np.int64(3))
    assert Randomness(1).key("noise", 3) != Randomness(1).key("noise", "3")
    assert Randomness(1).key("noise", 3, 1) != Randomness(1).key("noise", 31)


def test_no_two_of_a_million_keys_collide():
    fresh, seeded = Randomness(), Randomness(7)
    # Eight bytes suffice to tell them apart; the names of the fresh ones are always the same.
    keys = {fresh.key("noise", 0, 1)[:8] for _ in range(500_000)}
    keys |= {seeded.key("noise", index % 1000, index // 1000)[:8] for index in range(500_000)}
    assert len(keys) == 1_000_000


def test_without_a_seed_the_same_names_never_draw_twice():
    one = Randomness()
    assert not torch.equal(one.stream("noise", 0, 1).words(4), one.stream("noise", 0, 1).words(4))


def test_ten_million_draws_have_the_moments_of_a_normal_distribution(normals):
    square = normals.square()
    for moment, expected, variance in (
        (normals, 0, 1),
        (square, 1, 2),
        (square * normals, 0, 15),
        (square.square(), 3, 96),
    ):
        assert abs(float(moment.mean()) - expected) < LIMIT * (variance / DRAWS) ** 0.5


def test_ten_million_draws_are_normal_up_to_their_tails(normals):
    bins = 1000
    counts = torch.bincount((torch.special.ndtr(normals) * bins).long(), minlength=bins).double()
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    gap = counts.cumsum(0) / DRAWS - torch.arange(1, bins + 1) / bins
    assert stats.kstwobign.sf(float(gap.abs().max()) * DRAWS**0.5) > 1e-3  # Kolmogorov, Smirnov
    for bound in (2.0, 3.0, 4.0, 5.0):
        expected = 2 * DRAWS * stats.norm.sf(bound)
        assert abs(float((normals.abs() > bound).sum()) - expected) < LIMIT * expected**0.5 + 1
    assert float(normals.max()) > 5.0


def test_draws_are_independent_of_each_other_and_of_other_streams(normals):
    other = SecureStream(bytes(range(1, 33))).normal(DRAWS)
    for one, two in ((normals, other), (normals.square() - 1, other.square() - 1)):
        variance = float(one.square().mean())
        for lag in (1, 2, 7, DRAWS // 2):  # the last pairs cosines with their sines
            own = float(one[lag:] @ one[:-lag]) / variance
            assert abs(own) < LIMIT * (DRAWS - lag) ** 0.5
        assert abs(float(one @ two)) / variance < LIMIT * DRAWS**0.5


def test_normal_numbers_are_those_of_exact_arithmetic():
    extremes = torch.tensor([0, -1, 2**63 - 1, -(2**63), 2**11, 2**11 - 1])
    words = torch.cartesian_prod(extremes, extremes, extremes).T
    words = torch.cat([words, SecureStream(bytes(32)).words(3, 300)], dim=1)  # (3, n)
    found = normal_from(words)
    assert bool(found.isfinite().all())
    assert 12.1 < float(found.abs().max()) < 12.2  # the end of the tail
    unit = mpmath.mpf(2) ** -53
    with mpmath.workdps(60):
        for column, words_of_pair in enumerate(words.T.tolist()):
            high, low, turn = (mpmath.mpf((word % 2**64) >> 11) for word in words_of_pair)
            radius = mpmath.sqrt(-2 * mpmath.log((high + (low + 1) * unit) * unit))
            turns = 2 * mpmath.pi * turn * unit
            for half, part in enumerate((mpmath.cos(turns), mpmath.sin(turns))):
                exact = radius * part
                error = abs(mpmath.mpf(float(found[column + half * words.shape[1]])) - exact)
                assert error < mpmath.mpf(2) ** -46


def test_uniforms_and_integers_fill_their_range_evenly():
    stream = SecureStream(bytes(32))
    uniform = stream.uniform(1_000_000)
    assert 0 <= float(uniform.min()) < 1e-5
    assert 1 - 1e-5 < float(uniform.max()) < 1
    counts = torch.bincount((uniform * 1000).long(), minlength=1000)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    counts = torch.bincount(stream.integers(7, 700_000), minlength=7)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("high", [1, 3, 5, 2**20 + 1, 2**40 - 1, 2**52 + 1])
def test_the_largest_uniform_stays_below_every_range(high):
    assert math.floor((1 - 2.0**-53) * high) == high - 1


def test_a_permutation_holds_everything_once_and_all_orders_are_alike():
    stream = SecureStream(bytes(32))
    assert sorted(stream.permutation(50).tolist()) == list(range(50))
    counts = np.unique(
        [stream.permutation(3).tolist() for _ in range(6000)], axis=0, return_counts=True
    )
    assert len(counts[1]) == 6
    assert stats.chisquare(counts[1]).pvalue > 1e-3


def test_no_other_generator_is_left_in_the_package():
    """Neither torch's generators nor seeds of non-private streams may serve noise or sampling.

    The auditor's search for seeds imitates such generators, and only the auditor may import it.
    """
    attack = "privacy.auditing.seed_search"
    banned = {"Generator", "manual_seed", "rand", "randn", "randint", "randperm", "bernoulli"}
    root = Path(privacy.__file__).parent
    for path in sorted(root.glob("**/*.py")):
        if path == root / "auditing" / "seed_search.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", name) for name in banned}, path
            if isinstance(node, ast.ImportFrom):
                assert node.module != "pfedmoap.seeding", path
                assert node.module != attack or path.parent == root / "auditing", path
