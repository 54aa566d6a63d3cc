"""The one place where uploads are averaged: names, weights, dtypes, order, and no updates."""

from typing import get_args

import pytest
import torch

from pfedmoap.config.server import Rule, ServerOptions
from pfedmoap.errors import ConfigError, MethodError
from pfedmoap.server.aggregation import average, combine
from pfedmoap.wire.messages import ClientId, Update

RULES = get_args(Rule)


def updates_of(count, dtype=torch.float32, sizes=None):
    stream = torch.Generator().manual_seed(count)
    return [
        Update(
            1,
            ClientId(3 * i),
            {
                "a": torch.randn(2, 3, generator=stream).to(dtype),
                "b": torch.randn(4, generator=stream).to(dtype),
            },
            sizes[i] if sizes else 1 + i,
        )
        for i in range(count)
    ]


def state_of(dtype=torch.float32):
    return {"b": torch.zeros(4, dtype=dtype), "a": torch.zeros(2, 3, dtype=dtype)}


def test_the_default_is_the_weighted_mean_to_the_last_bit():
    updates = updates_of(5)
    for options in (None, ServerOptions()):
        found = combine(state_of(), updates, "examples", options)
        assert list(found) == ["b", "a"]
        for name, value in found.items():
            assert torch.equal(value, average(updates, name))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_shapes_dtypes_and_order_of_arrival(rule, dtype):
    updates, options = updates_of(7, dtype), ServerOptions(aggregation=rule)
    found = combine(state_of(dtype), updates, "examples", options)
    again = combine(state_of(dtype), updates[::-1], "examples", options)
    exact = [
        Update(u.round, u.client, {n: v.double() for n, v in u.arrays.items()}, u.num_examples)
        for u in updates
    ]
    true = combine(state_of(torch.float64), exact, "examples", options)
    for name, value in found.items():
        assert (value.dtype, value.shape) == (dtype, state_of()[name].shape)
        assert torch.equal(value, again[name])
        assert torch.equal(value, true[name].to(dtype)), "sums are in float64 whatever arrives"


@pytest.mark.parametrize("rule", RULES)
def test_one_client_is_its_own_average_and_none_keeps_the_state(rule):
    options, state = ServerOptions(aggregation=rule), state_of()
    [alone] = updates_of(1)
    found = combine(state, [alone], "examples", options)
    for name, value in found.items():
        torch.testing.assert_close(value, alone.arrays[name])
    kept = combine(state, [], "examples", options)
    assert kept.keys() == state.keys()
    assert all(kept[name] is state[name] for name in state)
    assert combine({}, updates_of(3), "examples", options) == {}


@pytest.mark.parametrize("rule", RULES)
def test_which_rules_read_claimed_sizes(rule):
    options = ServerOptions(aggregation=rule)
    plain = combine(state_of(), updates_of(7, sizes=[4] * 7), "examples", options)
    skewed = combine(state_of(), updates_of(7, sizes=[10**6] + [4] * 6), "examples", options)
    reads = rule in ("mean", "clipped_mean", "geometric_median")
    assert torch.equal(plain["a"], skewed["a"]) == (not reads)
    uniform = combine(state_of(), updates_of(7, sizes=[10**6] + [4] * 6), "uniform", options)
    torch.testing.assert_close(uniform["a"], plain["a"])
    withheld = combine(state_of(), updates_of(7, sizes=[None] * 7), "examples", options)
    torch.testing.assert_close(withheld["a"], plain["a"])


def test_a_client_is_judged_by_all_its_arrays_together():
    updates = updates_of(7, sizes=[1] * 7)
    updates[2].arrays["b"].add_(50)
    found = combine(state_of(), updates, "uniform", ServerOptions(aggregation="multi_krum"))
    # 0.2 of 7 is 2: the far one goes, and one more; whatever goes is gone from both arrays.
    kept = [
        (one, two)
        for one in range(7)
        for two in range(one)
        if 2 in (one, two)
        and all(
            torch.allclose(
                found[name],
                sum(u.arrays[name] for i, u in enumerate(updates) if i not in (one, two)) / 5,
                atol=1e-5,
            )
            for name in found
        )
    ]
    assert len(kept) == 1


def test_some_withheld_sizes_are_an_error_under_every_rule():
    for rule in RULES:
        with pytest.raises(MethodError, match="withhold"):
            combine(
                state_of(),
                updates_of(3, sizes=[1, None, 2]),
                "examples",
                ServerOptions(aggregation=rule),
            )


def test_a_share_that_no_rule_would_read_is_refused():
    with pytest.raises(ConfigError, match=r"byzantine is read by trimmed_mean and multi_krum"):
        ServerOptions(aggregation="median", byzantine=0.1)
    with pytest.raises(ConfigError, match=r"below 0\.5"):
        ServerOptions(aggregation="multi_krum", byzantine=0.5)
    assert ServerOptions(aggregation="multi_krum", byzantine=0.3).hostile_share == 0.3
