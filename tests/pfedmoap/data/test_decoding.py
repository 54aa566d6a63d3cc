"""Decoding ahead in threads: order, buffers that are still read, errors, and giving up early."""

import threading
import time

import pytest
import torch

from pfedmoap.data.decoding import BUFFERS, cores, decoded_batches


def number(position):
    return torch.full((2, 3), float(position))


@pytest.mark.parametrize(("total", "size"), [(1, 4), (4, 4), (41, 4), (23, 7), (5, 64), (0, 3)])
def test_every_image_is_there_once_and_in_order(total, size):
    found = []
    for positions, batch in decoded_batches(number, total, size, (2, 3)):
        assert batch.shape == (len(positions), 2, 3)
        assert (batch == torch.tensor(list(positions))[:, None, None]).all()
        found += list(positions)
    assert found == list(range(total))


def test_a_batch_may_be_read_until_the_next_but_one_is_asked_for():
    """The encoder reads a batch while the next one is handed out; more would be a copy for each."""
    before = None
    for positions, batch in decoded_batches(number, 60, 3, (2, 3)):
        time.sleep(0.002)  # let the threads go as far ahead as they may
        if before is not None:
            assert (before[1] == torch.tensor(list(before[0]))[:, None, None]).all()
        before = positions, batch


def test_memory_is_that_of_a_few_batches_and_work_is_ahead_by_two():
    asked = set()
    done = threading.Event()

    def decode(position):
        asked.add(position)
        if position == 11:
            done.set()
        return number(position)

    batches = decoded_batches(decode, 1000, 4, (2, 3))
    places = {next(batches)[1].data_ptr()}
    assert done.wait(10)  # two batches beyond the one that was handed out
    assert max(asked) == 11
    places |= {batch.data_ptr() for _, batch in batches}
    assert len(places) == BUFFERS


def test_an_error_in_a_thread_is_raised_and_nothing_runs_on():
    started = []

    def decode(position):
        started.append(position)
        if position == 5:
            raise ValueError("image 5")
        return number(position)

    with pytest.raises(ValueError, match="image 5"):
        list(decoded_batches(decode, 10_000, 4, (2, 3)))
    assert max(started) < 20


def test_an_encoder_that_gives_up_leaves_no_thread_behind():
    batches = decoded_batches(number, 10_000, 4, (2, 3))
    next(batches)
    batches.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("decoder")]


def test_all_cores_that_the_process_may_use_decode(monkeypatch):
    monkeypatch.setattr("pfedmoap.data.decoding.cores", lambda: 5)
    together = threading.Barrier(5)
    names = set()

    def decode(position):
        if not position % 2:  # the first of each task
            together.wait(10)
        names.add(threading.current_thread().name)
        return number(position)

    list(decoded_batches(decode, 10, 10, (2, 3)))
    assert len(names) == 5
    assert cores() >= 1
