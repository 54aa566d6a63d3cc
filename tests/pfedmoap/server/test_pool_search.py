"""The approximate search beside the exact one: what it finds, says, and where it gives way."""

import numpy as np
import pytest
import torch

from pfedmoap.server import pool_search, sketch_index
from pfedmoap.server.neighbours import Neighbours
from pfedmoap.server.pool_search import DEPTH, PoolSearch
from pfedmoap.server.sketch_index import Directions, Effort, SketchIndex

WIDTH = 160


def low_rank(count, seed=0, rank=4):
    """Prompts that differ along a few directions, as trained ones do."""
    stream = torch.Generator().manual_seed(seed)
    shape = torch.randn(rank, WIDTH, generator=torch.Generator().manual_seed(99))
    noise = 1e-3 * torch.randn(count, WIDTH, generator=stream)
    return 3 + torch.randn(count, rank, generator=stream) @ shape + noise


def noise(count, seed=0):
    return torch.randn(count, 8 * WIDTH, generator=torch.Generator().manual_seed(seed))


def search_over(vectors, below=100, recall=0.95):
    made = PoolSearch(vectors, np.arange(len(vectors)), below, recall)
    made.settle()
    return made


def recall_of(search, vectors, rows=range(50)):
    alone = [{row} for row in rows]
    queries = vectors[list(rows)]
    truth = Neighbours(vectors).nearest_all(queries, DEPTH, alone)
    found = search.nearest_all(queries, DEPTH, alone)
    assert all(row not in seen for row, (seen, _) in zip(rows, found, strict=True))
    return np.mean([len({*a} & {*b}) / DEPTH for (a, _), (b, _) in zip(truth, found, strict=True)])


def test_sketches_are_never_further_apart_than_their_vectors():
    vectors = low_rank(300) + 0.1 * noise(300)[:, :WIDTH]
    sketches = torch.from_numpy(
        Directions.learn(vectors, np.arange(len(vectors))).sketch(vectors)
    ).double()
    apart = torch.cdist(vectors.double(), vectors.double())
    assert (torch.cdist(sketches, sketches) <= apart + 1e-4).all()


def test_directions_are_those_of_differences_not_of_where_prompts_lie(monkeypatch):
    """As many as the differences have: none is spent on the way from zero to the prompts."""
    monkeypatch.setattr(sketch_index, "DIRECTIONS", 4)
    vectors = low_rank(500)
    sketches = Directions.learn(vectors, np.arange(500)).sketch(vectors)
    assert sketches.shape == (500, 5)
    rest, along = sketches[:, -1], np.linalg.norm(sketches[:, :-1], axis=1)
    assert rest.max() < 0.01 * along.mean()


@pytest.mark.parametrize("away", [1.0, 1e4])
def test_rounding_hides_no_neighbour_however_far_vectors_are_from_their_centre(away):
    """In float32, the sketches' own distances are off by far more than the neighbours are apart."""
    side = away * torch.nn.functional.normalize(torch.ones(1, WIDTH), dim=1)
    near = 1e-4 * low_rank(60, rank=2)
    vectors = torch.cat([side + near[:30], near[30:] - side]).double()
    before = vectors.clone()
    index = SketchIndex(Directions.learn(vectors, np.arange(60)))
    index.fill(vectors)
    assert torch.equal(vectors, before), "sketching leaves what it reads"
    for row, vector in enumerate(vectors):
        apart = (vectors - vector).norm(dim=1)
        rows, bounds = index.candidates(vector[None], Effort(1, 60))
        assert (bounds[0] <= apart[rows[0]].numpy()).all()
        for distance in apart.sort().values[1:30:7]:
            there = (apart <= distance).nonzero().flatten().tolist()
            assert set(there) <= set(index.within(vector, float(distance)).tolist()), row


def test_a_sketch_does_not_depend_on_its_company():
    vectors = low_rank(200)
    made = Directions.learn(vectors, np.arange(len(vectors)))
    alone = np.concatenate([made.sketch(vectors[i : i + 1]) for i in range(200)])
    np.testing.assert_allclose(made.sketch(vectors), alone, rtol=1e-6, atol=1e-7)


def test_an_index_that_was_changed_finds_what_a_new_one_does():
    vectors = low_rank(600)
    index = SketchIndex(Directions.learn(vectors[:500], np.arange(500)))
    index.replace(range(500), vectors[:500])
    vectors[40:60] = low_rank(20, 5)
    index.replace([*range(40, 60), *range(500, 600)], vectors[[*range(40, 60), *range(500, 600)]])
    again = SketchIndex.from_arrays(index.to_arrays(), vectors)
    assert len(index) == len(again) == 600
    effort = Effort(2, 30)
    found, other = (one.candidates(vectors[:30], effort)[0] for one in (index, again))
    assert [set(row) for row in found.tolist()] == [set(row) for row in other.tolist()]


def test_trained_prompts_are_searched_approximately_and_stay_so_while_the_pool_moves(monkeypatch):
    monkeypatch.setattr(pool_search, "CHECK_EVERY", 3)
    vectors = low_rank(2500)
    search = search_over(vectors)
    assert search.approximate
    assert search.quality.recall >= 0.95
    assert recall_of(search, vectors) >= 0.9
    for step in range(1, 8):
        rows = list(range(20 * step, 20 * step + 20))
        vectors = vectors.clone()
        vectors[rows] = low_rank(20, step)
        vectors = torch.cat([vectors, low_rank(10, 50 + step)])
        rows += list(range(len(vectors) - 10, len(vectors)))
        search = search.followed(vectors, rows, np.arange(len(vectors)))
        assert search.quality.updates == step % 3
    assert recall_of(search, vectors) >= 0.9


def test_prompts_without_structure_fall_back_to_the_exact_search_and_say_why():
    vectors = noise(1500)
    search = search_over(vectors)
    assert not search.approximate
    assert search.quality.recall < 0.95
    assert search.quality.failed_at == 1500
    assert recall_of(search, vectors) == 1
    more = torch.cat([vectors, noise(1499, 1)])
    search = search.followed(more, range(1500, 2999), np.arange(2999))
    assert search.quality.failed_at == 1500
    more = torch.cat([more, noise(1, 2)])
    search = search.followed(more, [2999], np.arange(3000))
    assert search.quality.failed_at == 3000, "tried again when the pool had doubled"


def test_a_small_pool_is_searched_exactly():
    search = search_over(low_rank(99))
    assert (search.approximate, search.quality, search.to_arrays()) == (False, None, {})


@pytest.mark.parametrize("make", [low_rank, noise])
def test_a_resumed_search_is_the_same(make):
    vectors = make(1200)
    search = search_over(vectors)
    again = PoolSearch(vectors, np.arange(1200), 100, 0.95)
    again.restore({"context": torch.zeros(1), **search.to_arrays()})
    assert (again.quality, again.approximate) == (search.quality, search.approximate)
    queries = make(40, 7)
    nobody = [()] * 40
    assert again.nearest_all(queries, 5, nobody) == search.nearest_all(queries, 5, nobody)


def test_more_than_the_candidates_hold_is_looked_for_among_all():
    vectors = low_rank(1000)
    search = search_over(vectors)
    hidden = set(search.exact.nearest(vectors[0], 900)[0])
    found = search.nearest_all(vectors[:1], 5, [hidden])
    assert found == Neighbours(vectors).nearest_all(vectors[:1], 5, [hidden])


def test_an_early_end_of_the_ranking_changes_nothing():
    """What is not read is proved to be further: the same as ranking all candidates."""
    for vectors in (low_rank(1500), low_rank(1500) + 0.3 * noise(1500)[:, :WIDTH]):
        search = search_over(vectors, recall=0.0)
        effort = search.quality.effort
        near, least = search.sketches.candidates(vectors[:40], effort)
        apart = torch.cdist(vectors[:40].double(), vectors.double()).numpy()
        assert (least <= np.take_along_axis(apart, near, axis=1) + 1e-12).all()
        found = search.nearest_all(vectors[:40], 7, [{row} for row in range(40)])
        for row, seen in enumerate(found):
            others = [other for other in near[row].tolist() if other not in (-1, row)]
            assert seen == search.exact.among(vectors[row], others, 7)


def test_the_ranking_reads_few_of_the_candidates_of_trained_prompts(monkeypatch):
    search, read = search_over(vectors := low_rank(2500)), []
    among = Neighbours.among

    def counted(self, query, rows, k=None):
        read.append(len(rows := list(rows)))
        return among(self, query, rows, k)

    monkeypatch.setattr(Neighbours, "among", counted)
    search.nearest_all(vectors[:50], 9, [()] * 50)
    assert sum(read) / 50 < 64 < search.quality.effort.candidates


def test_the_truth_of_a_check_is_that_of_a_scan(monkeypatch):
    vectors = low_rank(1500)
    search = search_over(vectors)
    queries, alone = vectors[:20], [{row} for row in range(20)]
    scanned = [{*rows} for rows, _ in search.exact.scan(queries, DEPTH, alone)]
    poor = [search.exact.among(queries[row], range(30, 60), DEPTH) for row in range(20)]
    assert search.truth(queries, alone, poor) == scanned, "sketches alone"
    monkeypatch.setattr(pool_search, "COMPARED", 0)
    assert search.truth(queries, alone, poor) == scanned


def test_a_pool_that_outgrew_its_lists_gets_new_ones(monkeypatch):
    monkeypatch.setattr(pool_search, "CHECK_EVERY", 1)
    monkeypatch.setattr(sketch_index, "PER_LIST", 50)
    vectors = low_rank(300)
    search = search_over(vectors)
    assert search.sketches.lists == 6
    for before, end in ((300, 900), (900, 1199), (1199, 1200)):
        more = low_rank(1200)[:end]
        more[:300] = vectors
        search = search.followed(more, range(before, end), np.arange(end))
        assert search.sketches.lists == (24 if end == 1200 else 6)
        assert len(search.sketches) == end
    assert recall_of(search, more) >= 0.9
