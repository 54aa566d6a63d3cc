"""A limit on how many clients one expert serves."""

import torch

from pfedmoap.server.expert import Expert
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.server.serving import serve_at_most
from pfedmoap.wire.messages import ClientId


def choice(*pairs):
    return [Expert(ClientId(client), torch.zeros(1), distance) for client, distance in pairs]


def names(served):
    return {client: [expert.client for expert in experts] for client, experts in served.items()}


def test_the_nearest_of_those_that_ask_are_served_and_the_others_get_their_next():
    wishes = {
        ClientId(0): choice((9, 3.0), (8, 4.0)),
        ClientId(1): choice((9, 1.0), (7, 5.0)),
        ClientId(2): choice((9, 2.0), (8, 9.0)),
    }
    assert names(serve_at_most(1, 1, wishes)) == {0: [8], 1: [9], 2: []}
    assert names(serve_at_most(2, 1, wishes)) == {0: [8], 1: [9], 2: [9]}
    assert names(serve_at_most(1, 2, wishes)) == {0: [8], 1: [9, 7], 2: []}
    assert names(serve_at_most(9, 2, wishes)) == {0: [9, 8], 1: [9, 7], 2: [9, 8]}
    assert names(serve_at_most(3, 0, wishes)) == {0: [], 1: [], 2: []}


def test_order_of_clients_does_not_matter_and_ties_go_to_lower_ids():
    wishes = {ClientId(c): choice((5, 1.0), (6, 1.0)) for c in (3, 1, 2)}
    backwards = dict(reversed(wishes.items()))
    found = names(serve_at_most(1, 1, wishes))
    assert found == {1: [5], 2: [6], 3: []}
    assert names(serve_at_most(1, 1, backwards)) == found


def test_nobody_serves_more_than_the_limit_and_nobody_gets_an_expert_twice():
    stream = torch.Generator().manual_seed(2)
    pool = ExpertPool({ClientId(i): torch.randn(2, 3, generator=stream) for i in range(15)})
    wishes = {client: pool.nearest(client, 15) for client in pool.clients}
    for most in (1, 2, 4):
        served = names(serve_at_most(most, 4, wishes))
        given = [expert for experts in served.values() for expert in experts]
        assert max(map(given.count, given)) <= most
        assert all(len(set(experts)) == len(experts) <= 4 for experts in served.values())
        assert all(client not in experts for client, experts in served.items())
    free = names(serve_at_most(15, 4, wishes))
    assert free == {c: [e.client for e in pool.nearest(c, 4)] for c in pool.clients}
