"""Sums with noise: exact on a public grid, of bounded sensitivity, and not to be replayed."""

import secrets
from fractions import Fraction

import pytest
import torch
from opacus.optimizers import DPOptimizer
from scipy import stats

from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import ClientId, Download, Update
from privacy.ledgers.ledger import Budget, Ledgers
from privacy.mechanisms.noisy_sum import NoisySum, add_noise, draw_noise, draw_noises, spacing
from privacy.mechanisms.randomness import KEY_BYTES, Randomness, SecureStream, normal_from
from privacy.mechanisms.upload import UploadPrivacy

KEY = bytes(range(32))


def summed(vectors, *, noise=0.0, max_norm=1.0, normaliser=1.0, key=KEY):
    total = NoisySum(
        {"a": vectors.new_zeros(vectors.shape[1:], dtype=torch.float64)},
        noise_multiplier=noise,
        max_norm=max_norm,
        normaliser=normaliser,
        stream=SecureStream(key),
    )
    total.add({"a": vectors})
    return total.finish()["a"]


def test_a_sum_is_finished_once():
    total = NoisySum(
        {"a": torch.zeros(2)},
        noise_multiplier=1.0,
        max_norm=1.0,
        normaliser=1.0,
        stream=SecureStream(KEY),
    )
    total.add({"a": torch.ones(1, 2)})
    assert total.finish()["a"].dtype == torch.float32
    with pytest.raises(PrivacyError, match="finished before"):
        total.finish()


def test_noise_of_many_parts_is_one_stream_whatever_they_are_called():
    sums = {"a": torch.zeros(3, 5).double(), "b": torch.zeros(7).double()}
    apart = add_noise(sums, 2.0, SecureStream(KEY))
    together = add_noise({"c": torch.zeros(22).double()}, 2.0, SecureStream(KEY))["c"]
    assert torch.equal(torch.cat([apart["a"].flatten(), apart["b"]]), together)


def test_noise_is_normal_with_the_promised_deviation():
    noise = summed(torch.zeros(1, 1_000_000), noise=3.0, max_norm=0.5)
    scaled = noise / (3.0 * 0.5)
    assert abs(float(scaled.mean())) < 5e-3
    assert float(scaled.std()) == pytest.approx(1.0, abs=3.5e-3)
    assert stats.kstest(scaled[:100_000].numpy(), "norm").pvalue > 1e-3


def test_noise_is_the_same_on_every_device_to_the_last_bit(device):
    """It is drawn on the CPU in float64, and sums stay on the public grid wherever they are."""
    vectors = torch.randn(9, 40).double()
    there = summed(vectors.clone().to(device), noise=1.3, max_norm=100.0)
    assert there.device.type == device.type
    assert torch.equal(there.cpu(), summed(vectors, noise=1.3, max_norm=100.0))
    sums = {"a": vectors.to(device), "b": vectors[0].to(device)}
    noisy = add_noise(sums, 0.7, SecureStream(KEY))
    expected = add_noise({n: v.cpu() for n, v in sums.items()}, 0.7, SecureStream(KEY))
    assert all(torch.equal(noisy[name].cpu(), expected[name]) for name in sums)


@pytest.mark.parametrize("std", [1e-6, 0.37, 1.0, 250.0])
def test_what_comes_out_is_the_rounded_exact_sum(std):
    """With rational numbers, which know no rounding error, for sums of very different sizes."""
    fine, coarse = (Fraction(spacing(std, 2.0**-k)) for k in (32, 10))
    assert std / 2 < fine * 2**32 <= std
    sums = torch.tensor([0.0, 1e-9, 0.3, -1.0, 77.7, 4096.123]).double() * std
    found = add_noise({"a": sums}, std, SecureStream(KEY))["a"]
    draws = SecureStream(KEY).normal(4, len(sums)).sum(0) * (std / 2)
    for value, draw, out in zip(sums.tolist(), draws.tolist(), found.tolist(), strict=True):
        exact = (round(Fraction(value) / fine) + round(Fraction(draw) / fine)) * fine
        assert Fraction(out) == round(exact / coarse) * coarse


def test_low_bits_do_not_tell_one_sum_from_another():
    """Mironov's attack in small: it tells the sums apart in float32, and here it does not."""

    def multiples(values, step):  # how many are multiples of the spacing below 1024
        return float(((values.double() / step).frac() == 0).double().mean())

    step = 2.0**-14
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert multiples(0.0 + noise, step) < 0.01 < 0.99 < multiples(1024.0 + noise, step)
    for start in (0.0, 1024.0):
        sums = {"a": torch.full((1000,), start).double()}
        assert multiples(add_noise(sums, 1.0, SecureStream(KEY))["a"], step) == 1.0


def test_rounding_does_not_exceed_the_clipping_norm():
    """Strictly, with as many large vectors as it takes for float32 to lose the bound."""
    draws = torch.Generator().manual_seed(0)
    vectors = 1e3 * torch.randn(3000, 50, generator=draws) + 1e3  # all in about one direction
    for max_norm in (0.1, 1.0, 3.0):
        moves = []
        for noise in (0.0, 1e-3):
            whole = summed(vectors, max_norm=max_norm, noise=noise)
            less = summed(vectors[1:], max_norm=max_norm, noise=noise)
            moves.append(float((whole - less).norm()))
        assert max_norm * (1 - 1e-5) < moves[0] <= max_norm
        assert moves[1] <= max_norm + spacing(1e-3 * max_norm, 2.0**-10) * 50**0.5


# The attack of one who knows the code, all options and what the client was sent, and tries every
# state that a weak source of randomness can start from. In full it took a minute and 2^32 states.

SPACE = 2**16
NOISE, RADIUS = 3.0, 0.5
STD = 2 * NOISE * RADIUS
SENT = Download(1, ClientId(1), {"context": torch.ones(4, 4)})
NAMES = ("noise", ClientId(1), 1)


def upload(randomness):
    """A client's upload under `release`, and the clipped move that the noise hides in it."""
    privacy = UploadPrivacy(
        Ledgers(Budget(1.0, {}, lambda units: units / 100, 1), None),
        NOISE,
        RADIUS,
        "withheld",
        randomness,
        statement={},
    )
    move = torch.linspace(-1, 2, 16).view(4, 4)
    privacy.authorise([ClientId(1)], 1, set())
    update = Update(1, ClientId(1), {"context": 1 + move}, num_examples=1, metrics={})
    return privacy.release(update, SENT).arrays["context"] - 1, move * (RADIUS / move.norm())


def recovered(uploaded, noises):
    """Moves that are possible: the true one, if one of the noises is, and else none."""
    rest = uploaded.flatten() - noises
    return rest[rest.norm(dim=1) <= RADIUS * 1.01].view(-1, 4, 4)


def noises_of(keys):
    """What noise each of n keys makes, (n, 16)."""
    words = torch.stack([SecureStream(key).words(3, 32) for key in keys], dim=1)  # (3, n, 32)
    return normal_from(words).view(-1, 4, 16).sum(1).float() * (STD / 2)


def short_keys():
    """All keys of which only sixteen bits are unknown."""
    return [state.to_bytes(KEY_BYTES, "little") for state in range(SPACE)]


def seeded_keys():
    return [Randomness(seed).key(*NAMES) for seed in range(SPACE)]


class Truncated(Randomness):
    """Broken on purpose: keeps the low sixteen bits of its key, as torch keeps 32 of a seed's."""

    def key(self, *names):
        return super().key(*names)[:2] + bytes(KEY_BYTES - 2)


@pytest.mark.parametrize(
    ("broken", "keys"), [(Truncated(), short_keys), (Randomness(SPACE - 7), seeded_keys)]
)
def test_trying_all_states_finds_the_noise_of_a_broken_source_and_not_ours(broken, keys):
    noises = noises_of(keys())
    uploaded, move = upload(broken)
    found = recovered(uploaded, noises)
    assert len(found) == 1
    assert float(torch.cosine_similarity(found.flatten(), move.flatten(), dim=0)) > 0.999
    assert len(recovered(upload(Randomness())[0], noises)) == 0


def torch_noise(seed):
    """The noise that Opacus' secure mode draws from torch's generator, (16,)."""
    value = torch.nn.Parameter(torch.zeros(4, 4))
    optimiser = DPOptimizer(
        torch.optim.SGD([value], lr=0.0),
        noise_multiplier=2 * NOISE,
        max_grad_norm=RADIUS,
        expected_batch_size=1,
        generator=torch.Generator().manual_seed(seed),
        secure_mode=True,
    )
    value.grad_sample = torch.zeros(1, 4, 4)
    optimiser.clip_and_accumulate()
    optimiser.add_noise()
    return value.grad.flatten()


def test_trying_torchs_states_finds_torchs_noise_and_not_ours():
    """Of 64 secret bits the upper 32 do not matter to torch: an eighth of a 16-bit space."""
    noises = torch.stack([torch_noise(seed) for seed in range(SPACE // 8)])
    uploaded, move = upload(Randomness())
    assert len(recovered(uploaded, noises)) == 0
    secret = secrets.randbits(32) << 32 | secrets.randbelow(SPACE // 8)
    assert len(recovered(torch_noise(secret) + move.flatten(), noises)) == 1


@pytest.mark.parametrize("size", [0, 1, 2**14 - 1, 2**14 + 3])
def test_noise_for_a_gpu_is_that_of_one_client_after_the_other(size):
    """On threads, and part by part."""

    def streams():
        return [SecureStream(bytes([client]) * KEY_BYTES) for client in range(3)]

    aside = draw_noises(0.3, size, streams(), torch.device("meta"))
    assert torch.equal(aside, draw_noises(0.3, size, streams(), torch.device("cpu")))
    assert torch.equal(aside, torch.stack([draw_noise(0.3, size, each) for each in streams()]))
    drawn = normal_from(streams()[1].words(3, 2 * size))[: 4 * size].view(4, size)
    fine = spacing(0.3, 2.0**-32)
    assert torch.equal(aside[1], (drawn.sum(0) * 0.15 / fine).round() * fine)
