"""Near vectors, by a tree and by products of matrices: those of comparing all pairs."""

import numpy as np
import pytest

from pfedmoap.server.near_tree import FEW, NearTree, meeting


def made(kind, count):
    draws = np.random.default_rng(0)
    rows = draws.normal(size=(count, 12)).astype(np.float32)
    if kind == "flat":
        rows *= 0.5 ** np.arange(12, dtype=np.float32)
    if kind == "pairs":
        rows[count // 2 :] = rows[: count - count // 2] + np.float32(1e-3)
    if kind == "equal":
        rows[10:] = rows[0]
    if kind == "heads":
        rows[::2, :8] = rows[0, :8]
    if kind == "far":
        rows[::7] *= np.float32(1e6)
    return rows


@pytest.mark.parametrize("count", [50, FEW + 900])
@pytest.mark.parametrize("kind", ["noise", "flat", "pairs", "equal", "heads", "far"])
def test_all_that_is_near_is_found(kind, count):
    rows = made(kind, count)
    tree = NearTree(rows)
    for distance in (0.0, 0.02, 1.0):
        asked = np.arange(0, count, count // 16)
        gaps = np.linalg.norm(rows[asked, None].astype(np.float64) - rows, axis=2)
        near = gaps <= distance
        found = tree.accompanied(distance)
        assert not (near.sum(1)[:, None] > 1)[~found[asked]].any()
        room = distance + 1e-5 * np.linalg.norm(rows[asked], axis=1)
        for place, row in enumerate(asked):
            seen = np.isin(np.arange(count), tree.of(rows[row], distance))
            assert not (near[place] & ~seen).any()
            assert not (seen & (gaps[place] > room[place])).any()


def test_a_row_keeps_itself_no_company():
    rows = made("noise", 40)
    rows[31] = rows[3]
    one, two = meeting(rows, np.arange(20), np.arange(40), 0.01)
    assert (np.flatnonzero(one).tolist(), np.flatnonzero(two).tolist()) == ([3], [31])
