"""Sums of many clients: mapped at once, as on a GPU, they are those of one after the other."""

import pytest
import torch
from torch.func import vmap

from privacy.mechanisms import cohort_sum
from privacy.mechanisms.adaptive_clipping import AdaptiveClipping
from privacy.mechanisms.clipping import FixedClipping
from privacy.mechanisms.cohort_sum import CohortSum, mapped

CLIENTS, COUNT = 3, 5
PARAMS = {"prompt": torch.zeros(CLIENTS, 4, 2), "gate": torch.zeros(CLIENTS, 3)}
ADAPTIVE = AdaptiveClipping(0.5, 0.3, 0.8, 4.0)


def finished(clipping, norm):
    draws = torch.Generator().manual_seed(3)
    norms = torch.full((CLIENTS,), norm) + torch.arange(CLIENTS) / 10
    total = CohortSum(clipping, PARAMS, norms, 1.0)
    for _ in range(2):
        vectors = {
            name: torch.randn(CLIENTS, COUNT, *value.shape[1:], generator=draws)
            for name, value in PARAMS.items()
        }
        present = torch.rand(CLIENTS, COUNT, generator=draws) < 0.7
        there = {
            n: v * present.view(CLIENTS, COUNT, *[1] * (v.dim() - 2)) for n, v in vectors.items()
        }
        total.add(there, present)
    size = 11 + (clipping is ADAPTIVE)
    noise = torch.randn(CLIENTS, size, generator=draws, dtype=torch.float64)
    sums, following = total.finish(0.8, noise)
    return {**sums, "norm": following, "longer": total.longer, "every": total.every}


@pytest.mark.parametrize("clipping", [FixedClipping(0.8, 4.0), ADAPTIVE])
def test_all_at_once_is_one_after_the_other(clipping, monkeypatch):
    alone = finished(clipping, 1.0)
    monkeypatch.setattr(cohort_sum, "mapped", lambda one, device: vmap(one))
    together = finished(clipping, 1.0)
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        assert value.dtype == together[name].dtype
        torch.testing.assert_close(together[name], value, rtol=1e-6, atol=2**-10)
    assert int(alone["every"].sum()) < 2 * CLIENTS * COUNT
    assert torch.equal(alone["longer"], together["longer"])


def test_devices_but_the_cpu_map_all_clients_at_once():
    calls = 0

    def doubled(arrays, more):
        nonlocal calls
        calls += 1
        return {name: 2 * value for name, value in arrays.items()}, more

    for device, expected in (("cpu", 2), ("meta", 1)):
        calls = 0
        on = torch.ones(2, 3, device=device)
        found, more = mapped(doubled, torch.device(device))({"a": on}, on[:, 0])
        assert (found["a"].shape, more.shape) == ((2, 3), (2,))
        assert calls == expected
