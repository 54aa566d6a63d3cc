"""Versions of an array that is overwritten in place, against plain copies."""

import random

import torch

from pfedmoap.server.prompt_rows import PromptRows
from pfedmoap.wire.messages import ClientId


def check(version, truth):
    assert version.ids.tolist() == list(truth)
    rows = [version.row(client) for client in truth]
    assert torch.equal(version.take(rows), torch.stack(list(truth.values())))
    assert torch.equal(version.all()[:], torch.stack(list(truth.values())))
    assert version.row(ClientId(10**6)) is None


def test_every_version_stays_as_it_was_made_whatever_comes_after():
    draw, stream = random.Random(0), torch.Generator().manual_seed(0)
    first = {ClientId(7): torch.zeros(3)}
    versions = [(PromptRows(first), first)]
    for _ in range(60):
        version, truth = draw.choice(versions[-4:])  # mostly the newest; a branch now and then
        changes = {
            ClientId(client): torch.randn(3, generator=stream)
            for client in draw.sample(range(40), draw.randrange(5))
        }
        versions.append((version.put(changes), {**truth, **changes}))
    for version, truth in versions:
        check(version, truth)


def test_an_update_of_the_newest_version_copies_nothing_else():
    rows = PromptRows({ClientId(i): torch.full((4,), float(i)) for i in range(20)})
    before = rows.all()[:].data_ptr()
    after = rows.put({ClientId(3): torch.ones(4)})
    assert after.all()[:].data_ptr() == before
    assert (rows.newest, after.newest) == (False, True)
    assert rows.take([3, 4]).tolist() == [[3] * 4, [4] * 4]


def test_what_was_taken_is_a_copy():
    rows = PromptRows({ClientId(0): torch.zeros(2)})
    taken = rows.take([0])
    rows.put({ClientId(0): torch.ones(2)})
    assert taken.tolist() == [[0, 0]]
