"""The index against brute force in float64: any finite vectors of any size and precision."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch

from pfedmoap.errors import PFedMoAPError
from pfedmoap.server import neighbours
from pfedmoap.server.neighbours import Neighbours

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def exact(vectors, query, k, without=()):
    """Rows by squared distance in rational numbers, ties by row."""
    point = [Fraction(x) for x in query.double().tolist()]
    apart = {
        row: sum((Fraction(x) - y) ** 2 for x, y in zip(vector, point, strict=True))
        for row, vector in enumerate(vectors.double().tolist())
        if row not in without
    }
    return sorted(apart, key=lambda row: (apart[row], row))[:k]


def brute_force(vectors, query, k, without=()):
    """Rows by distance in float64, whose range float32 squared does not leave; ties by row."""
    gaps = (vectors.double() - query.double()).numpy()
    apart = np.sqrt(np.square(gaps).sum(axis=1)).tolist()
    rows = [row for row in range(len(apart)) if row not in without]
    return sorted(rows, key=lambda row: (apart[row], row))[:k]


def random(count, width, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


SETS = {
    "usual": lambda: random(30, 5),
    "huge": lambda: random(30, 5) * 1e30,
    "largest": lambda: random(30, 5).sign() * 3.4e38,
    "tiny": lambda: random(30, 5) * 1e-30,
    "denormal": lambda: (random(30, 5) * 20).round() * 1e-44,
    "equal": lambda: random(1, 5).expand(30, -1),
    "zero": lambda: torch.zeros(30, 5),
    "one far": lambda: torch.cat([random(29, 5) * 1e-3, torch.full((1, 5), 1e30)]),
    "all scales": lambda: random(30, 5) * 10.0 ** torch.arange(-30, 30, 2)[:, None],
    "tight and away": lambda: 1000 + random(30, 5) * 1e-4,
    "grid": lambda: torch.tensor(list(product((0.0, 1.0, 2.0), repeat=3))),
}


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("k", [1, 4, 29, 100])
def test_neighbours_are_those_of_brute_force(kind, k):
    vectors = SETS[kind]().float()
    index = Neighbours(vectors)
    for row in (0, 7, len(vectors) - 1):
        rows, distances = index.nearest(vectors[row], k, {row})
        assert rows == brute_force(vectors, vectors[row], k, {row})
        assert distances == sorted(distances)
        assert len(rows) == min(k, len(vectors) - 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_precision_is_searched_in_its_own_values(dtype):
    vectors = random(40, 6).to(dtype)
    rows, distances = Neighbours(vectors).nearest(vectors[3], 9, {3})
    assert rows == exact(vectors, vectors[3], 9, {3})
    true = (vectors[rows].double() - vectors[3].double()).norm(dim=1)
    torch.testing.assert_close(torch.tensor(distances, dtype=torch.float64), true)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
def test_float64_beyond_the_range_of_its_squares(scale):
    vectors = random(20, 4).double() * scale
    rows, distances = Neighbours(vectors).nearest(vectors[2], 6, {2})
    assert rows == exact(vectors, vectors[2], 6, {2})
    unit = torch.tensor(distances, dtype=torch.float64) / scale
    torch.testing.assert_close(unit, ((vectors[rows] - vectors[2]) / scale).norm(dim=1))


def test_a_distance_beyond_float64_is_an_error():
    vectors = torch.tensor([[1.7e308], [-1.7e308], [0.0]], dtype=torch.float64)
    with pytest.raises(PFedMoAPError, match="exceeds float64"):
        Neighbours(vectors).nearest(vectors[0], 2, {0})


@pytest.mark.parametrize("query", [0.0, 1e-40, 1.0, 1e20, 3e38])
def test_queries_from_outside_of_any_size(query):
    vectors = random(25, 4)
    point = torch.tensor([query, -query, query / 3, 0.0])
    assert Neighbours(vectors).nearest(point, 5)[0] == brute_force(vectors, point, 5)


def test_a_narrow_cut_widens_until_float64_has_decided():
    """Differences that float32 cannot see: all entries tie there, and the last is the nearest."""
    vectors = torch.ones(300, 2, dtype=torch.float64)
    vectors[:, 1] += torch.arange(300, 0, -1) * 1e-12
    vectors[0] = torch.tensor([-1e6, 0])
    rows, _ = Neighbours(vectors).nearest(torch.ones(2, dtype=torch.float64), 3)
    assert rows == [299, 298, 297]


def test_one_entry_and_nothing_to_find():
    index = Neighbours(torch.ones(1, 3))
    assert index.nearest(torch.zeros(3), 4)[0] == [0]
    assert index.nearest(torch.zeros(3), 4, {0}) == ([], [])
    assert index.nearest(torch.zeros(3), 0) == ([], [])


def test_keys_that_are_made_for_each_search_find_the_same(monkeypatch):
    vectors = torch.randn(200, 6, generator=torch.Generator().manual_seed(3))
    queries, without = vectors[::20] + 0.1, [{row} for row in range(0, 200, 20)]
    kept = Neighbours(vectors).nearest_all(queries, 7, without)
    monkeypatch.setattr(neighbours, "KEYS_BYTES", 0)
    monkeypatch.setattr(neighbours, "STREAMED_NUMBERS", 6 * 33)
    made = Neighbours(vectors)
    assert made.nearest_all(queries, 7, without) == kept
    assert "_keys" not in made.__dict__
    vectors[5] = queries[1]
    later = made.followed(vectors, [5], np.arange(200))
    assert later.nearest_all(queries, 7, without) == Neighbours(vectors).nearest_all(
        queries, 7, without
    )
    assert later.nearest(queries[1], 1)[0] == [5]
