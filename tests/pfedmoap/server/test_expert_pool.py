"""The pool against brute force, and FAISS's silent failures."""

import numpy as np
import pytest
import torch

from pfedmoap.config.server import PoolOptions
from pfedmoap.contract.server_rows import joined
from pfedmoap.errors import PFedMoAPError, ShapeError
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.server.pool_arrays import prompt_of
from pfedmoap.server.row_store import Packed
from pfedmoap.wire.messages import ClientId


def pool_of(clients: int, seed: int = 0) -> ExpertPool:
    stream = torch.Generator().manual_seed(seed)
    ids = torch.randperm(1000, generator=stream)[:clients].tolist()  # ids are not rows
    return ExpertPool({ClientId(i): torch.randn(2, 3, generator=stream) for i in ids})


def brute_force(pool: ExpertPool, client: ClientId, k: int) -> list[int]:
    gaps = {i: float((pool[i] - pool[client]).double().norm()) for i in pool.clients if i != client}
    return sorted(gaps, key=lambda i: (gaps[i], i))[:k]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 3, 9, 50])
def test_expert_ids_are_the_true_neighbours_and_never_the_client_itself(seed, k):
    pool = pool_of(20, seed)
    for client in pool.clients:
        served = [expert.client for expert in pool.nearest(client, k)]
        assert served == brute_force(pool, client, k)
        assert client not in served


def test_equal_prompts_are_served_in_the_order_of_ids():
    contexts = {ClientId(i): torch.ones(2, 3) for i in (9, 4, 7, 1, 30, 22)}
    pool = ExpertPool(contexts)
    assert [e.client for e in pool.nearest(ClientId(7), 3)] == [1, 4, 9]
    assert [e.client for e in pool.nearest(ClientId(1), 2)] == [4, 7]


def test_many_ties_at_the_cut_still_go_to_the_lowest_ids():
    contexts = {ClientId(i): torch.ones(2, 3) for i in range(200, 0, -1)}
    assert [e.client for e in ExpertPool(contexts).nearest(ClientId(100), 4)] == [1, 2, 3, 4]


def test_served_contexts_belong_to_the_served_ids():
    pool = pool_of(10)
    for expert in pool.nearest(pool.clients[3], 5):
        assert torch.equal(expert.context, pool[expert.client])
        gap = (pool[expert.client] - pool[pool.clients[3]]).norm()
        assert expert.distance == pytest.approx(float(gap), rel=1e-5)


def test_put_leaves_the_old_pool_as_it_was():
    pool = pool_of(5)
    before = {i: pool[i].clone() for i in pool.clients}
    changed = pool.put({pool.clients[0]: torch.zeros(2, 3), ClientId(5000): torch.zeros(2, 3)})
    assert len(changed) == 6
    assert len(pool) == 5
    assert all(torch.equal(pool[i], before[i]) for i in before)
    assert changed.nearest(ClientId(5000), 1)[0].client == pool.clients[0]


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_prompt_that_is_not_finite_never_enters(poison):
    pool = pool_of(3)
    with pytest.raises(PFedMoAPError, match="not finite"):
        pool.put({ClientId(2000): torch.full((2, 3), poison)})


def test_edges_empty_single_unknown_and_shapes():
    assert len(ExpertPool()) == 0
    one = ExpertPool({ClientId(4): torch.zeros(2, 3)})
    assert one.nearest(ClientId(4), 5) == []
    with pytest.raises(PFedMoAPError, match="no entry"):
        one.nearest(ClientId(1), 1)
    with pytest.raises(ShapeError, match="one shape"):
        one.put({ClientId(1): torch.zeros(3, 2)})


def test_random_selection_is_uniform_and_never_serves_the_client_itself():
    pool = pool_of(6)
    counts = dict.fromkeys(pool.clients, 0)
    rng = np.random.default_rng(0)
    for _ in range(600):
        for expert in pool.random(pool.clients[2], 2, rng):
            counts[expert.client] += 1
    assert counts.pop(pool.clients[2]) == 0
    assert min(counts.values()) > 190
    assert max(counts.values()) < 290


def test_arrays_round_trip():
    pool = pool_of(7)
    again = ExpertPool.from_arrays(pool.to_arrays())
    assert again.clients == pool.clients
    assert all(torch.equal(again[i], pool[i]) for i in pool.clients)
    assert len(ExpertPool.from_arrays(ExpertPool().to_arrays())) == 0


def test_near_serves_the_nearest_to_any_prompt():
    pool = pool_of(12)
    query = torch.randn(2, 3)
    gaps = {i: float((pool[i] - query).double().norm()) for i in pool.clients}
    expected = sorted(gaps, key=lambda i: (gaps[i], i))[:4]
    assert [expert.client for expert in pool.near(query, 4)] == expected
    assert ExpertPool().near(query, 4) == []
    with pytest.raises(PFedMoAPError, match="not finite"):
        pool.near(query * float("nan"), 4)


def test_what_is_hidden_is_not_served_and_the_next_ones_are():
    pool = pool_of(9)
    me = pool.clients[4]
    first, second, *others = pool.nearest(me, 8)
    assert pool.nearest(me, 6, {second.client}) == [first, *others[:5]]
    assert pool.near(pool[me], 3, {me, first.client, ClientId(1)})[0] == second
    drawn = pool.random(me, 8, np.random.default_rng(0), {first.client})
    assert {expert.client for expert in drawn} == set(pool.clients) - {me, first.client}


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e-42, 3e38 / 4])
def test_prompts_of_any_size_have_their_true_neighbours(scale):
    """Squares of 1e30 overflow float32: all were infinitely far, and the first ids were served."""
    pool = ExpertPool({client: pool_of(12)[client] * scale for client in pool_of(12).clients})
    for client in pool.clients:
        gaps = {i: float((pool[i].double() - pool[client].double()).norm()) for i in pool.clients}
        expected = sorted(set(gaps) - {client}, key=lambda i: (gaps[i], i))
        assert [expert.client for expert in pool.nearest(client, 99)] == expected
        assert [expert.client for expert in pool.nearest(client, 3)] == expected[:3]


def test_half_precision_prompts_are_searched_and_served_as_they_are():
    pool = ExpertPool({c: pool_of(8)[c].to(torch.bfloat16) for c in pool_of(8).clients})
    [expert] = pool.nearest(pool.clients[0], 1)
    assert expert.context.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda pool: pool.nearest(pool.clients[0], -1), PFedMoAPError, "k must be at least 0"),
        (lambda pool: pool.near(torch.zeros(3, 2), 1), ShapeError, "expected \\(2, 3\\)"),
        (
            lambda pool: pool.put({ClientId(1): torch.zeros(2, 3).half()}),
            ShapeError,
            "one floating",
        ),
        (lambda pool: ExpertPool({ClientId(1): torch.zeros(2, 3).int()}), ShapeError, "int32"),
        (
            lambda pool: ExpertPool({ClientId(1): torch.full((2, 3), torch.nan)}),
            PFedMoAPError,
            "client 1 is not finite",
        ),
        (
            lambda pool: pool.random(ClientId(5), 1, np.random.default_rng(0)),
            PFedMoAPError,
            "client 5 has no entry",
        ),
    ],
)
def test_what_cannot_be_answered_is_a_clear_error(ask, error, message):
    with pytest.raises(error, match=message):
        ask(pool_of(4))


def test_a_plan_for_a_cohort_is_that_for_each_of_its_clients():
    pool = pool_of(30)
    hidden = {pool.clients[3]: {pool.clients[5], ClientId(10**6)}}
    together = pool.nearest_all(pool.clients[:12], 4, hidden)
    assert together == {
        client: pool.nearest(client, 4, hidden.get(client, ())) for client in pool.clients[:12]
    }
    assert pool.nearest_all([], 4) == {}


@pytest.mark.parametrize("options", [None, PoolOptions(exact_below=60)])
def test_pools_that_follow_each_other_are_searched_like_pools_of_their_own(options):
    """The newest one searches in place; the earlier ones stay what they were."""
    draw, stream = np.random.default_rng(0), torch.Generator().manual_seed(0)
    truth = {ClientId(int(i)): torch.randn(2, 3, generator=stream) for i in draw.permutation(50)}
    pools = [(ExpertPool(truth, options), truth)]
    for _ in range(6):
        pool, truth = pools[-1]
        pool.nearest(pool.clients[0], 2)  # the search is there, and goes on to the next pool
        cohort = draw.choice(80, 9, replace=False).tolist()
        changes = {ClientId(i): torch.randn(2, 3, generator=stream) for i in cohort}
        pools.append((pool.put(changes), {**truth, **changes}))
    for pool, truth in pools:
        alone = ExpertPool(truth, PoolOptions(exact_below=10**6))
        assert pool.nearest_all(pool.clients, 5) == alone.nearest_all(pool.clients, 5)
        again = ExpertPool.from_arrays(pool.to_arrays(), options)
        assert again.nearest_all(pool.clients, 5) == alone.nearest_all(pool.clients, 5)
    newest = pools[-1][0]
    expected = {} if options is None else {"recall": 1.0, "approximate": 1.0}
    assert again.searched == newest.searched == expected


def test_what_was_served_stays_when_the_pool_moves_on():
    pool = pool_of(8)
    me = pool.clients[0]
    served = pool.nearest(me, 2)
    before, own = [expert.context.clone() for expert in served], pool[me]
    pool.put({client: torch.zeros(2, 3) for client in pool.clients})
    assert all(map(torch.equal, before, [expert.context for expert in served]))
    assert torch.equal(pool[me], own)
    assert bool(own.any())


def test_a_pool_without_a_client_is_one_that_never_had_it():
    pool = pool_of(5)
    gone, *others = pool.clients
    left = pool.without(gone)
    assert left.clients == tuple(others)
    assert left.nearest(others[0], 4) == pool.nearest(others[0], 4, {gone})
    assert pool.without(ClientId(10**6)) is pool
    for client in others:
        left = left.without(client)
    assert (len(left), left.to_arrays()) == (0, {})


HALF = PoolOptions(precision="float16")


@pytest.mark.parametrize(
    "options", [HALF, PoolOptions(precision="float16", rows="mapped"), PoolOptions(rows="mapped")]
)
def test_a_pool_in_less_memory_is_the_same_pool_of_rounded_prompts(options):
    """Every version stays; what is found, served and stored is the rounded prompt."""
    half = options.precision == "float16"

    def rounded(prompts):
        packed = {c: Packed.of(p.view(1, -1), half=half) for c, p in prompts.items()}
        return {c: p.unpacked(torch.float32).view(2, 3) for c, p in packed.items()}

    prompts = {c: 0.02 * pool_of(30)[c] for c in pool_of(30).clients}
    changes = {c: 0.02 * p for c, p in zip(list(prompts)[::3], torch.randn(10, 2, 3), strict=True)}
    first = ExpertPool(prompts, options)
    second = first.put(changes)
    branch = first.put({ClientId(2000): torch.ones(2, 3)})
    resumed = ExpertPool.from_arrays(second.to_arrays(), options)
    for pool, truth in (
        (first, prompts),
        (second, {**prompts, **changes}),
        (resumed, {**prompts, **changes}),
        (branch, {**prompts, ClientId(2000): torch.ones(2, 3)}),
    ):
        whole = ExpertPool(rounded(truth))
        assert pool.clients == whole.clients
        for client in pool.clients:
            assert torch.equal(pool[client], whole[client])
            assert pool.nearest(client, 5) == whole.nearest(client, 5)
    for name, array in second.to_arrays().items():
        assert torch.equal(array, resumed.to_arrays()[name])


def test_sixteen_bits_move_a_distance_by_no_more_than_is_said():
    exact = pool_of(40)
    half = ExpertPool({client: exact[client] for client in exact.clients}, HALF)
    for client in exact.clients:
        for expert in half.nearest(client, 39):
            true = float((exact[client].double() - exact[expert.client].double()).norm())
            lengths = float(exact[client].norm() + exact[expert.client].norm())
            assert abs(expert.distance - true) <= 2**-11 * lengths * 1.01
            assert expert.context.dtype == torch.float32


def test_a_pool_is_read_in_the_other_precision():
    exact = pool_of(12)
    half = ExpertPool({client: exact[client] for client in exact.clients}, HALF)
    again = ExpertPool.from_arrays(half.to_arrays())
    assert all(torch.equal(again[client], half[client]) for client in half.clients)
    again = ExpertPool.from_arrays(exact.to_arrays(), HALF)
    assert all(torch.equal(again[client], half[client]) for client in half.clients)


@pytest.mark.parametrize("options", [None, HALF])
def test_both_parts_of_a_pool_make_its_arrays_and_stay_what_they_were(options):
    prompts = {client: pool_of(9)[client] for client in pool_of(9).clients}
    pool = ExpertPool(prompts, options)
    whole = pool.to_arrays()
    shared, rows = pool.divided()
    first = pool.clients[0]
    pool.put({first: torch.zeros(2, 3)})
    again = joined(shared, rows)
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], array) for name, array in whole.items())
    assert first in rows.of
    assert ClientId(5000) not in rows.of
    own = prompt_of(whole, first)
    assert torch.equal(own, pool[first])
    assert prompt_of(whole, ClientId(5000)) is None
    left = pool.without(first)
    assert left.clients == pool.clients[1:]
    assert all(torch.equal(left[client], pool[client]) for client in left.clients)


def test_a_pool_that_comes_in_parts_is_the_same():
    prompts = {client: pool_of(25)[client] for client in pool_of(25).clients}
    parts = [dict(list(prompts.items())[begin : begin + 7]) for begin in range(0, 25, 7)]
    options = PoolOptions(exact_below=20)
    made = ExpertPool.gathered(
        [{}, *parts, {made: prompts[made] for made in [*prompts][:2]}], options
    )
    assert made.searched["approximate"] in (0, 1)
    assert made.clients == ExpertPool(prompts).clients
    assert all(torch.equal(made[client], prompts[client]) for client in prompts)
    with pytest.raises(ShapeError, match="one shape"):
        ExpertPool.gathered([prompts, {ClientId(1): torch.zeros(3, 2)}])
