"""Rows in segments, in 16 bits and in a file, against plain tensors."""

import errno
import os

import pytest
import torch

from pfedmoap.errors import PFedMoAPError
from pfedmoap.server import row_store
from pfedmoap.server.row_store import Packed, RowStore, StoredRows, blocks, largest_of

WIDTH = 7


def vectors(count, seed=0, dtype=torch.float32):
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_rows_are_what_was_written_wherever_segments_end(monkeypatch, half, mapped):
    monkeypatch.setattr(row_store, "SEGMENT_BYTES", 20 * WIDTH * (2 if half else 4))
    store, truth = RowStore(WIDTH, torch.float32, half=half, mapped=mapped), vectors(70)
    for end in (3, 18, 19, 20, 41, 70):
        store.reserve(end)
        assert store.capacity >= end
        rows = torch.arange(end - 3, end)
        store.write(rows, Packed.of(truth[rows], half=half))
        store.write(torch.arange(end), Packed.of(truth[:end], half=half))
    shuffled = torch.randperm(70, generator=torch.Generator().manual_seed(1))
    store.write(shuffled[:30], Packed.of(vectors(30, 2), half=half))
    truth[shuffled[:30]] = vectors(30, 2)
    expected = Packed.of(truth, half=half).unpacked(torch.float32)
    seen = StoredRows(store, 66)
    assert torch.equal(seen[:], expected[:66])
    for rows in (slice(19, 45), slice(5, 5), slice(2, 60, 7), slice(64, 99)):
        assert torch.equal(seen[rows], expected[:66][rows])
    chosen = torch.tensor([65, 0, 19, 20, 20, 41])
    assert torch.equal(seen[chosen], expected[chosen])
    assert (len(seen), tuple(seen.shape), seen.dtype) == (66, (66, WIDTH), torch.float32)
    assert largest_of(seen) == float(expected[:66].abs().max())
    if not half:
        assert torch.equal(expected, truth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1.0, 0.02, 3e37, 1e-36, 1e-43])
def test_sixteen_bits_lose_no_more_than_they_say_whatever_the_size(dtype, size):
    rows = vectors(50, 3, torch.float64) * size
    rows[:, 0] *= 1e-6  # far smaller than the others
    rows[4] = 0
    rows = rows.to(dtype)
    again = Packed.of(rows, half=True).unpacked(dtype)
    assert again.dtype == dtype
    largest = rows.double().abs().amax(1, keepdim=True)
    allowed = 2**-11 * rows.double().abs() + 2**-39 * largest
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps  # of the result's own
    assert ((again.double() - rows.double()).abs() <= allowed + smallest).all()
    packed = Packed.of(again, half=True)
    assert torch.equal(packed.unpacked(dtype), again) or size < 1e-30


def test_a_small_dtype_is_kept_as_it_is():
    store = RowStore(WIDTH, torch.bfloat16, half=True)
    assert not store.half
    store.reserve(2)
    store.write(torch.arange(2), Packed.of(vectors(2, dtype=torch.bfloat16), half=store.half))
    assert torch.equal(StoredRows(store, 2)[:], vectors(2, dtype=torch.bfloat16))


def test_a_growing_store_copies_no_full_segment(monkeypatch):
    monkeypatch.setattr(row_store, "SEGMENT_BYTES", 20 * WIDTH * 4)
    store = RowStore(WIDTH, torch.float32)
    store.reserve(20)
    before = store.between(0, 20).values.data_ptr()
    store.reserve(200)
    assert store.between(0, 20).values.data_ptr() == before


def test_rows_in_a_file_have_their_room_or_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = RowStore(WIDTH, torch.float32, mapped=True)
    store.reserve(5)
    assert list(tmp_path.iterdir()) == []  # it has no name: nothing is left after a kill

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(row_store, "reserve_room", full)
    with pytest.raises(PFedMoAPError, match=r"No space left.*TMPDIR"):
        store.reserve(50)


def test_blocks_cover_all_rows_once():
    for count, numbers in ((10, 21), (10, 1), (0, 5), (3, 10**6)):
        rows = [row for part in blocks(vectors(count), numbers) for row in range(count)[part]]
        assert rows == list(range(count))
